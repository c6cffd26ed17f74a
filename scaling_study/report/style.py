"""How figures look: one colour, marker and label for each scaler, optimizer and method."""

from typing import Any
from zlib import crc32

Look = dict[str, Any]

INK, PALE, FAINT = "#222222", "#9a9a9a", "#dddddd"
# Okabe and Ito (2008), which readers with any colour vision can tell apart.
VERMILION, BLUE, GREEN, PURPLE = "#D55E00", "#0072B2", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
COLOURS = (VERMILION, BLUE, GREEN, PURPLE, ORANGE, SKY, BLACK, PALE)
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*", "<")
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

# Each name of a list takes the colour and the marker at its place.
SCALERS = (
    *("none", "minmax", "standard", "robust", "maxabs"),
    *("center", "quantile", "power", "normalizer"),
)
OPTIMIZERS = ("sgd", "momentum", "adam", "rmsprop", "adagrad", "lion")
METHODS = (
    *("weight", "garson", "olden", "gradient", "gradient_input"),
    *("integrated_gradients", "permutation", "linear_shap"),
)
_KNOWN = {"scaler": SCALERS, "optimizer": OPTIMIZERS, "method": METHODS}
_LABELS = {
    **{"none": "none (raw)", "weight": "weight magnitude", "garson": "Garson", "olden": "Olden"},
    **{"gradient_input": "gradient × input", "linear_shap": "linear SHAP"},
}
_DASHED = ("maxabs", "normalizer")  # maxabs lies on minmax where a minimum is 0
VERDICTS = {
    "supported": GREEN,
    "refuted": VERMILION,
    "inconclusive": PALE,
    "not testable": FAINT,
}


def scaler(name: str) -> Look:
    """Return how a scaler is drawn: ``color, marker, linestyle`` and ``label``."""
    return _look("scaler", name)


def optimizer(name: str) -> Look:
    """Return how an optimizer is drawn: ``color, marker, linestyle`` and ``label``."""
    return _look("optimizer", name)


def method(name: str) -> Look:
    """Return how an importance method is drawn: ``color, marker, linestyle`` and ``label``."""
    return _look("method", name)


def numbered(place: int, label: str) -> Look:
    """Return how the element at a place of any other list is drawn, such as a data set."""
    colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
    return {"color": colour, "marker": marker, "linestyle": "-", "label": label}


def looks(kind: str, names: Any) -> dict[str, Look]:
    """Return how each name is drawn, in order; `kind` is what they are, such as ``scaler``."""
    if kind not in _KNOWN:
        found = sorted(dict.fromkeys(names))
        return {str(n): numbered(i, f"{kind} {n}") for i, n in enumerate(found)}
    return {name: _look(kind, name) for name in ordered(names, _KNOWN[kind])}


def ordered(names: Any, known: tuple[str, ...]) -> list[str]:
    """Return each name once: those that are known in their order, then the others."""
    found = list(dict.fromkeys(str(name) for name in names))
    return [n for n in known if n in found] + [n for n in found if n not in known]


def _look(kind: str, name: str) -> Look:
    if name not in _KNOWN[kind]:  # always the same, whatever else is in the figure
        label = name if ":" in name else name.replace("_", " ")  # a reference to code stays
        return numbered(crc32(name.encode()), label)
    look = numbered(_KNOWN[kind].index(name), _LABELS.get(name, name.replace("_", " ")))
    return look | ({"linestyle": (0, (4, 3))} if name in _DASHED else {})
