"""The names that a study may use, with one line on each, for ``scaling-study list``."""

from typing import Any

from scaling_study.errors import unknown

KINDS = ("presets", "axes", "problems", "scalers", "models", "optimizers", "measures")


def catalogue(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Return the names of one kind, or of all kinds, with their descriptions."""
    if kind is not None and kind not in KINDS:
        raise unknown("list", kind, KINDS)
    return {name: _entries(name) for name in ([kind] if kind else KINDS)}


def _entries(kind: str) -> dict[str, str]:
    if kind == "presets":
        from scaling_study.study.study import presets

        return presets()
    if kind == "axes":
        from scaling_study.study.study import AXES

        return {name: f"{axis.meaning} (default {axis.default})" for name, axis in AXES.items()}
    if kind == "optimizers":
        from scaling_study.engine.optimizers import OPTIMIZERS, describe

        return {name: describe(name) for name in OPTIMIZERS}
    lines = {name: _first_line(entry) for name, entry in _registry(kind).items()}
    if kind == "problems":
        return {name: f"{line} {scaled_feature(name)}".strip() for name, line in lines.items()}
    return lines


def scaled_feature(name: str) -> str:
    """Return which feature of a registered problem ``scale_factor`` multiplies, by default."""
    problem = _registry("problems")[name]()
    place, count = problem.scaled_feature, len(problem.coefficients)
    column = f"{problem.columns[place]}, " if problem.columns else ""
    return f"Scaled: {column}feature {place + 1} of {count}."


def _registry(kind: str) -> Any:
    if kind == "measures":
        from scaling_study.analysis.metrics import MEASURES as REGISTRY
    elif kind == "scalers":
        from scaling_study.study.scalers import SCALERS as REGISTRY
    elif kind == "problems":
        from scaling_study.study.datasets import EVERY_PROBLEM as REGISTRY
    else:
        from scaling_study.engine.models import MODELS as REGISTRY
    return REGISTRY


def _first_line(entry: Any) -> str:
    # Python started with -OO keeps no docstrings.
    line = next(iter((entry.__doc__ or "").splitlines()), "")
    return line.removeprefix("Return ").replace("`", "")
