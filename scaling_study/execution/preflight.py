"""Checks before a run: a study that cannot be run is refused before anything is written."""

import os
import resource
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaling_study.errors import CodeError, StudyError
from scaling_study.storage.reader import read_manifest
from scaling_study.storage.schema import MANIFEST
from scaling_study.study.conditions import problem_of, shape_of
from scaling_study.study.plan import Plan, plan
from scaling_study.study.study import Study, read_study
from scaling_study.study.values import error_context

# Address space that JAX reserves: 2.9 GB, measured on two cores.
JAX_ADDRESSES, CORE_ADDRESSES = 2_400_000_000, 250_000_000
# Runs of a chunk on a GPU; bench/NOTES.md has throughput by width.
NARROWEST, WIDEST = 1024, 65_536


def read_plan(
    study: Study | str | Path | dict[str, Any],
    seeds: str | int | range | tuple[int, int] | None = None,
    settings: list[str] | None = None,
    chunk_size: int | None = None,
    *,
    allow_code: bool = False,
) -> Plan:
    """Return the plan of `scaling_study.run` with the same arguments.

    Raises
    ------
    StudyError
        If the study or the seeds are invalid.
    CodeError
        If a file names code that its user has not allowed.
    """
    resolved = read_study(study, settings or [], allow_code=allow_code).with_seeds(seeds)
    for component in resolved.components():
        if not component.allowed:
            raise CodeError(
                f"{resolved.origin}: {component.name!r} is code that the file names; use"
                " --allow-code (allow_code=True) if you trust it"
            )
    return plan(resolved, chunk_size)


def for_device(planned: Plan, memory: int | None, folder: Path | None = None) -> Plan:
    """Return a plan whose chunks fill a device with memory of its own.

    A plan with a chunk size, and one for a CPU, whose chunks fit a core's cache, stay as they
    are. A folder keeps the chunk size that it has, because the size changes bits.

    Parameters
    ----------
    planned : Plan
    memory : int or None
        Bytes of the device; None for a CPU.
    folder : Path, optional
        Results that the run continues.
    """
    if planned.chunk_runs is not None or memory is None:
        return planned
    if folder is not None and (folder / MANIFEST).exists():
        with suppress(StudyError):  # a damaged manifest is reported when the folder is opened
            recorded = read_manifest(folder)["identity"]["chunk_size"]
            return planned if recorded is None else plan(planned.study, recorded)
    largest = planned.study.n_seeds * max(len(group.conditions) for group in planned.groups)
    size = min(WIDEST, 2 ** (largest - 1).bit_length())
    wide = plan(planned.study, size)
    while size > NARROWEST and max(map(wide.memory_at_once, wide.groups)) > memory / 4:
        size //= 2
        wide = plan(planned.study, size)
    return wide


def check(planned: Plan, *, local: bool = False) -> None:
    """Refuse a study that cannot be run, or whose claims are invalid.

    Every model and optimizer is built once. Those that fail are stored as failed runs, unless
    all of them do.

    Parameters
    ----------
    planned : Plan
    local : bool
        Whether its chunks must fit this machine's memory.

    Raises
    ------
    StudyError
        If a claim, a model or an optimizer is invalid, or a chunk too large.
    """
    check_address_space()
    from scaling_study.engine.cache import without_unreadable
    from scaling_study.engine.environment import check_platform, pinned

    if planned.study.claims:
        from scaling_study.analysis.claims import read_claims

        read_claims(planned.study)
    check_platform()
    with pinned():
        without_unreadable(lambda: _check_engine(planned))
    if local:
        _check_memory(planned)


def _check_engine(planned: Plan) -> None:
    from scaling_study.engine import models, optimizers
    from scaling_study.engine.chunk import reason_of

    reasons = []
    for group in planned.groups:
        static = group.static
        with error_context(f"blocks.{group.conditions[0].block}"):
            classes = problem_of(static.problem).classes
            model = models.build(static.model, classes)
            factory = optimizers.build(static.optimizer, static.framework)
            try:
                models.check(model, shape_of(static.problem)[1], classes)
                optimizers.check(factory)
            except Exception as error:
                reasons.append(reason_of(group, error))
    if reasons and len(reasons) == len(planned.groups):
        raise StudyError(reasons[0])


def check_address_space() -> None:
    """Refuse to start JAX under a limit (``ulimit -v``) with which it would abort."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    need = JAX_ADDRESSES + (os.cpu_count() or 1) * CORE_ADDRESSES
    if limit != resource.RLIM_INFINITY and limit < need:
        raise StudyError(
            f"the address space of this process is limited to {limit / 1e9:.1f} GB (ulimit -v),"
            f" and JAX needs about {need / 1e9:.1f} GB on this machine; raise the limit"
        )


def _check_memory(planned: Plan) -> None:
    """Refuse a chunk that does not fit this machine's memory."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    memory = memory if limit == resource.RLIM_INFINITY else min(memory, limit)
    for group in planned.groups:
        need = planned.memory_of(group)
        if need > memory:
            raise StudyError(
                f"blocks.{group.conditions[0].block}: a chunk would need about"
                f" {need / 1e9:,.0f} GB, and this machine has {memory / 1e9:,.0f} GB; use a"
                " smaller batch_size, or try"
                f" --chunk-size {max(1, group.shape.conditions * group.shape.seeds // 2)}"
            )


def check_path(folder: Path) -> None:
    """Refuse a path that could not be printed."""
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError:
        raise StudyError(f"output_dir {str(folder)!r} is not in UTF-8") from None
