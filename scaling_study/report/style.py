"""How figures look: one colour, marker and label for each scaler, optimizer and method."""

from typing import Any
from zlib import crc32

Look = dict[str, Any]

INK, PALE, FAINT = "#222222", "#9a9a9a", "#dddddd"
# Okabe and Ito (2008), which readers with any colour vision can tell apart.
VERMILLION, BLUE, GREEN, PURPLE = "#D55E00", "#0072B2", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLOURS = (VERMILLION, BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK)
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
WIDTH = 6.2  # inches: two panels stay legible on a phone

RC: dict[Any, Any] = {
    "font.size": 11,
    "axes.titlesize": 11,
    "axes.labelsize": 11,
    "figure.labelsize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.5,
    "xtick.labelsize": 10,
    "ytick.labelsize": 10,
    "svg.hashsalt": "scaling-study",
    "savefig.dpi": 110,
}
REFERENCE: Look = {"color": INK, "linestyle": (0, (1, 2)), "linewidth": 1.1}

_DASHED = (0, (4, 3))
_SCALERS: dict[str, tuple[str, str, Any, str]] = {
    "none": (VERMILLION, "o", "-", "none (raw)"),
    "minmax": (BLUE, "s", "-", "minmax"),
    "standard": (GREEN, "D", "-", "standard"),
    "robust": (PURPLE, "^", "-", "robust"),
    "maxabs": (ORANGE, "v", _DASHED, "maxabs"),  # lies on min-max where a minimum is 0
    "center": (SKY, "P", "-", "center"),
    "quantile": (BLACK, "X", "-", "quantile"),
    "power": (PALE, "*", "-", "power"),
    "normalizer": (PALE, "<", _DASHED, "normalizer"),
}
_OPTIMIZERS: dict[str, tuple[str, str, Any, str]] = {
    "sgd": (VERMILLION, "o", "-", "sgd"),
    "momentum": (BLUE, "s", "-", "momentum"),
    "adam": (GREEN, "D", "-", "adam"),
    "rmsprop": (PURPLE, "^", "-", "rmsprop"),
    "adagrad": (ORANGE, "v", "-", "adagrad"),
    "lion": (SKY, "P", "-", "lion"),
}
_METHODS: dict[str, tuple[str, str, Any, str]] = {
    "weight": (VERMILLION, "o", "-", "weight magnitude"),
    "garson": (BLUE, "s", "-", "Garson"),
    "olden": (GREEN, "D", "-", "Olden"),
    "gradient": (PURPLE, "^", "-", "gradient"),
    "gradient_input": (ORANGE, "v", "-", "gradient × input"),
    "integrated_gradients": (SKY, "P", "-", "integrated gradients"),
    "permutation": (BLACK, "X", "-", "permutation"),
    "linear_shap": (PALE, "*", "-", "linear SHAP"),
}
SCALERS, OPTIMIZERS, METHODS = tuple(_SCALERS), tuple(_OPTIMIZERS), tuple(_METHODS)
VERDICTS = {
    "supported": GREEN,
    "refuted": VERMILLION,
    "depends": ORANGE,
    "inconclusive": PALE,
    "not testable": FAINT,
}


def scaler(name: str) -> Look:
    """Return how a scaler is drawn: ``color, marker, linestyle`` and ``label``."""
    return _look(_SCALERS, name)


def optimizer(name: str) -> Look:
    """Return how an optimizer is drawn: ``color, marker, linestyle`` and ``label``."""
    return _look(_OPTIMIZERS, name)


def method(name: str) -> Look:
    """Return how an importance method is drawn: ``color, marker, linestyle`` and ``label``."""
    return _look(_METHODS, name)


def numbered(place: int, label: str) -> Look:
    """Return how the element at a place of any other list is drawn, such as a data set."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": "-", "label": label}


def ordered(names: Any, known: tuple[str, ...]) -> list[str]:
    """Return each name once: those that are known in their order, then the others."""
    found = list(dict.fromkeys(str(name) for name in names))
    return [n for n in known if n in found] + [n for n in found if n not in known]


def _look(table: dict[str, tuple[str, str, Any, str]], name: str) -> Look:
    if name not in table:  # always the same, whatever else is in the figure
        label = name if ":" in name else name.replace("_", " ")  # a reference to code stays
        return numbered(crc32(name.encode()), label)
    return dict(zip(("color", "marker", "linestyle", "label"), table[name], strict=True))
