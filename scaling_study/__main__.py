"""``python -m scaling_study`` is ``scaling-study``: the command line, in a process of its own."""

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line; signals are noticed from here on."""
    from scaling_study.execution import signals

    _open_streams()
    signals.install()
    from scaling_study.cli.app import main as command

    command()


def _open_streams() -> None:
    """Have something under the three standard descriptors: a file of results must not be."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


if __name__ == "__main__":
    # Python searches the current directory for modules where it is started with -m. What lies
    # there is data: a study's reference to code is looked for when it is imported.
    if not sys.flags.safe_path:
        with suppress(OSError):
            if sys.path[0] in ("", os.getcwd()):
                del sys.path[0]
    main()
