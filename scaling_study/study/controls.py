"""Blocks of controls of the benchmark: NAME-control has those of the problem NAME."""

from collections.abc import Collection

from scaling_study.errors import StudyError

CONTROL = "-control"  # ends the name of a block of controls, which is not ranked


def check_controls(blocks: Collection[str]) -> None:
    """Refuse a block of controls without its problem, which the benchmark would not show."""
    for name in blocks:
        problem = name.removesuffix(CONTROL)
        if problem != name and problem not in blocks:
            raise StudyError(
                f"blocks.{name} has controls of blocks.{problem}, which is not there; add it, or"
                " give the block another name"
            )
