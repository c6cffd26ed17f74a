"""What a measure requires of a condition, so that a claim about other runs is refused.

A requirement is a function of a condition and of what the study records. It returns the reason
why the condition does not meet it, or an empty text.
"""

from collections.abc import Callable

from scaling_study.study.conditions import Condition, problem_of, shape_of

Requirement = Callable[[Condition, str], str]


def needs(met: Callable[[Condition], bool], reason: str) -> Requirement:
    """Return a requirement; the reason may name the ``{model}``, ``{features}``, ``{problem}``."""

    def requirement(condition: Condition, record: str) -> str:
        if met(condition):
            return ""
        model, number = f"model {str(condition.model)!r}", _classes(condition)
        return reason.format(
            model=f"{model} of {number} classes" if number else model,
            features=_features(condition),
            problem=condition.problem.name,
        )

    return requirement


def all_of(*requirements: Requirement) -> Requirement:
    """Return the requirement that all are met; its reason is the first one."""

    def requirement(condition: Condition, record: str) -> str:
        reasons = (one(condition, record) for one in requirements)
        return next(filter(None, reasons), "")

    return requirement


def _classes(condition: Condition) -> int:
    return problem_of(condition.problem).classes


def _features(condition: Condition) -> int:
    return shape_of(condition.problem)[1]


def _is_linear(condition: Condition) -> bool:
    return condition.model.name == "linear"


linear = needs(
    lambda c: _is_linear(c) and _classes(c) <= 2,
    "needs the weights of a linear model, not {model}",
)
quadratic = needs(
    lambda c: _is_linear(c) and not _classes(c),
    "needs a linear model under squared error, not {model}",
)
two_features = needs(lambda c: _features(c) == 2, "compares two features, not {features}")
linear_pair = all_of(linear, two_features)
quadratic_pair = all_of(quadratic, two_features)
known_minimum = all_of(
    needs(
        _is_linear,
        "needs a least loss that is known, as of a linear model, not {model};"
        " final_loss and scores on held-out rows fit any model",
    ),
    needs(
        lambda c: not c.l1_penalty > 0,
        "needs a least loss that is known, which an L1 penalty hides",
    ),
)
held_out = needs(
    lambda c: problem_of(c.problem).held_out is not None,
    "needs held-out rows, which problem {problem!r} does not have",
)
held_out_quantity = all_of(
    held_out, needs(lambda c: not _classes(c), "needs a target that is a quantity")
)
held_out_classes = all_of(held_out, needs(lambda c: _classes(c) > 0, "needs a target of classes"))
held_out_two_classes = all_of(
    held_out, needs(lambda c: _classes(c) == 2, "needs a target of two classes")
)


def target(condition: Condition, record: str) -> str:
    """Require a target loss, set by the study or from the known minimum."""
    reason = "" if condition.target_loss != "none" else known_minimum(condition, record)
    return reason and f"needs a target: {reason.removeprefix('needs ')}; or set target_loss"


full_batch = needs(
    lambda c: c.sampling == "full",
    "needs training on the full batch, sampling = 'full', without which no run comes to rest",
)


def any_held_out(condition: Condition, record: str) -> str:
    """Require held-out rows, recorded scores, or a linear model of two features."""
    reason = held_out(condition, record) and recorded(condition, record)
    return reason and quadratic_pair(condition, record) and held_out(condition, record)


def recorded(condition: Condition, record: str) -> str:
    """Require that the study records importances, of networks at least if it is one."""
    own_rows = problem_of(condition.problem).held_out is not None
    if record == "networks" and not _is_linear(condition) and not own_rows:
        return ""
    return "" if record == "importances" else "needs record = 'importances'"


def attributed_pair(condition: Condition, record: str) -> str:
    """Require two weights under squared error, or recorded importances of a network of two."""
    if _is_linear(condition):
        return quadratic_pair(condition, record)
    return recorded(condition, record) and quadratic_pair(condition, record)


def curvature_pair(condition: Condition, record: str) -> str:
    """Require two weights under squared error, or the recorded curvature of a network of two."""
    reason = quadratic_pair(condition, record)
    if _is_linear(condition) or record != "networks":
        return reason
    return reason and (two_features(condition, record) or full_batch(condition, record))


def recorded_or_linear_pair(condition: Condition, record: str) -> str:
    """Require recorded importances, or the two weights of a linear model."""
    reason = recorded(condition, record) and linear_pair(condition, record)
    return reason and f"{reason}; or record = 'importances'"
