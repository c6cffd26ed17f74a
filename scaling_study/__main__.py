"""``python -m scaling_study`` is ``scaling-study``: the command line, in a process of its own."""

import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line; signals are noticed from here on."""
    from scaling_study import signals

    signals.install()
    from scaling_study.cli import main as command

    command()


if __name__ == "__main__":
    # Python searches the current directory for modules where it is started with -m. What lies
    # there is data: a study's reference to code is looked for when it is imported.
    if not sys.flags.safe_path:
        with suppress(OSError):
            if sys.path[0] in ("", os.getcwd()):
                del sys.path[0]
    main()
