"""The entry point of ``scaling-study`` and ``python -m scaling_study``."""

import os
import sys
from contextlib import suppress


def main() -> None:
    """Handle signals, and run the command line."""
    from scaling_study.execution import signals

    _open_streams()
    signals.install()
    from scaling_study.cli.app import main as command

    command()


def _open_streams() -> None:
    """Open the three standard descriptors, so that no file of results takes their place."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


if __name__ == "__main__":
    # With -m, Python searches the current directory for modules. No code must be imported from
    # there, except for a study's reference to it.
    if not sys.flags.safe_path:
        with suppress(OSError):
            if sys.path[0] in ("", os.getcwd()):
                del sys.path[0]
    main()
