"""What a measure requires of a condition, so that a claim about other runs is refused.

A requirement is a function of a condition and of what the study records. It returns the reason
why the condition does not meet it, or an empty text.
"""

from collections.abc import Callable

from scaling_study.study.conditions import Condition, problem_of, shape_of

Requirement = Callable[[Condition, str], str]


def all_of(*requirements: Requirement) -> Requirement:
    """Return the requirement that all are met; its reason is the first one."""

    def reason(condition: Condition, record: str) -> str:
        reasons = (requirement(condition, record) for requirement in requirements)
        return next(filter(None, reasons), "")

    return reason


def linear(condition: Condition, record: str) -> str:
    """Require a linear model of a quantity or of two classes."""
    if condition.model.name == "linear" and _classes(condition) <= 2:
        return ""
    return f"needs the weights of a linear model, not {_described(condition)}"


def quadratic(condition: Condition, record: str) -> str:
    """Require a linear model under squared error."""
    if condition.model.name == "linear" and not _classes(condition):
        return ""
    return f"needs a linear model under squared error, not {_described(condition)}"


def known_minimum(condition: Condition, record: str) -> str:
    """Require that the minimum of the loss is known."""
    if condition.model.name != "linear":
        return (
            f"needs a least loss that is known, as of a linear model, not {_described(condition)};"
            " final_loss and scores on held-out rows fit any model"
        )
    hidden = condition.l1_penalty > 0
    return "needs a least loss that is known, which an L1 penalty hides" if hidden else ""


def target(condition: Condition, record: str) -> str:
    """Require a target loss, given or known."""
    reason = "" if condition.target_loss != "none" else known_minimum(condition, record)
    return reason and f"needs a target: {reason.removeprefix('needs ')}; or set target_loss"


def two_features(condition: Condition, record: str) -> str:
    """Require a problem of two features."""
    features = shape_of(condition.problem)[1]
    return "" if features == 2 else f"compares two features, not {features}"


def held_out(condition: Condition, record: str) -> str:
    """Require held-out rows."""
    if problem_of(condition.problem).held_out is not None:
        return ""
    return f"needs held-out rows, which problem {condition.problem.name!r} does not have"


def quantity(condition: Condition, record: str) -> str:
    """Require regression."""
    return "needs a target that is a quantity" if _classes(condition) else ""


def classes(condition: Condition, record: str) -> str:
    """Require classification."""
    return "" if _classes(condition) else "needs a target of classes"


def two_classes(condition: Condition, record: str) -> str:
    """Require binary classification."""
    return "" if _classes(condition) == 2 else "needs a target of two classes"


def recorded(condition: Condition, record: str) -> str:
    """Require that the study records importances."""
    return "" if record == "importances" else "needs record = 'importances'"


linear_pair = all_of(linear, two_features)
quadratic_pair = all_of(quadratic, two_features)


def recorded_or_linear_pair(condition: Condition, record: str) -> str:
    """Require recorded importances, or the two weights of a linear model."""
    reason = recorded(condition, record) and linear_pair(condition, record)
    return reason and f"{reason}; or record = 'importances'"


def _classes(condition: Condition) -> int:
    return problem_of(condition.problem).classes


def _described(condition: Condition) -> str:
    model, number = f"model {str(condition.model)!r}", _classes(condition)
    return f"{model} of {number} classes" if number else model
