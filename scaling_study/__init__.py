"""Does the input range affect a neural network feature's importance? Measured.

    >>> import scaling_study
    >>> results = scaling_study.run("smoke", output_dir="results/smoke")  # doctest: +SKIP
    >>> results.runs.groupby("scaler", observed=True)["weight_error"].median()  # doctest: +SKIP

Importing this package starts no accelerator and does not import JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scaling_study.errors import StudyError
    from scaling_study.execution.diagnose import diagnose
    from scaling_study.execution.rank import rank
    from scaling_study.execution.runner import run
    from scaling_study.storage.results import Results, load
    from scaling_study.study.problems import Problem
    from scaling_study.study.study import Study

    __version__: str

__all__ = ["Problem", "Results", "Study", "StudyError", "diagnose", "load", "rank", "run"]

_HOMES = {
    "Problem": "study.problems",
    "Results": "storage.results",
    "Study": "study.study",
    "StudyError": "errors",
    "diagnose": "execution.diagnose",
    "load": "storage.results",
    "rank": "execution.rank",
    "run": "execution.runner",
}


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("scaling-study")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
