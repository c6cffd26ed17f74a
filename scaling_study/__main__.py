"""``python -m scaling_study`` is ``scaling-study``."""

from scaling_study.cli import main

main()
