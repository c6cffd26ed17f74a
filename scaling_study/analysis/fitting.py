"""Which runs a measure fits, so that a claim about others is refused in place of judged.

unfit(measure, condition, record) -> reason, empty where it fits
"""

from collections.abc import Callable

from scaling_study.study.conditions import Condition, problem_of, shape_of

Need = Callable[[Condition, str], str]


def _linear(condition: Condition, record: str) -> str:
    classes = problem_of(condition.problem).classes
    if condition.model.name != "linear" or classes > 2:
        return f"needs the weights of a linear model, not {_described(condition)}"
    return ""


def _quadratic(condition: Condition, record: str) -> str:
    if condition.model.name != "linear" or problem_of(condition.problem).classes:
        return f"needs a linear model under squared error, not {_described(condition)}"
    return ""


def _least(condition: Condition, record: str) -> str:
    if condition.model.name != "linear":
        return (
            f"needs a least loss that is known, as of a linear model, not {_described(condition)};"
            " final_loss and scores on held-out rows fit any model"
        )
    return "needs a least loss that is known, which an L1 penalty hides" * (
        condition.l1_penalty > 0
    )


def _target(condition: Condition, record: str) -> str:
    if condition.target_loss != "none":
        return ""
    reason = _least(condition, record)
    return reason and f"needs a target: {reason.removeprefix('needs ')}; or set target_loss"


def _two(condition: Condition, record: str) -> str:
    features = shape_of(condition.problem)[1]
    return f"compares two features, not {features}" * (features != 2)


def _of_both(condition: Condition, record: str) -> str:
    return _quadratic(condition, record) or _two(condition, record)


def _of_weights(condition: Condition, record: str) -> str:
    return _linear(condition, record) or _two(condition, record)


def _held_out(condition: Condition, record: str) -> str:
    if problem_of(condition.problem).held_out is None:
        return f"needs held-out rows, which problem {condition.problem.name!r} does not have"
    return ""


def _of_quantities(condition: Condition, record: str) -> str:
    classes = problem_of(condition.problem).classes
    return _held_out(condition, record) or "needs a target that is a quantity" * (classes > 0)


def _of_classes(condition: Condition, record: str) -> str:
    classes = problem_of(condition.problem).classes
    return _held_out(condition, record) or "needs a target of classes" * (classes == 0)


def _of_two_classes(condition: Condition, record: str) -> str:
    classes = problem_of(condition.problem).classes
    return _held_out(condition, record) or "needs a target of two classes" * (classes != 2)


def _recorded(condition: Condition, record: str) -> str:
    return "needs record = 'importances'" * (record != "importances")


def _recorded_or_both(condition: Condition, record: str) -> str:
    reason = _of_weights(condition, record)
    return reason and _recorded(condition, record) and f"{reason}; or record = 'importances'"


NEEDS: dict[str, Need] = {
    **dict.fromkeys(("share_weight", "share_permutation"), _recorded_or_both),
    **dict.fromkeys(
        ("share_contribution", "distortion_weight", "distortion_contribution"), _of_both
    ),
    **dict.fromkeys(("distortion_permutation", "rank_agreement", "log_curvature_ratio"), _of_both),
    **dict.fromkeys(("size_of_distortion_weight", "size_of_distortion_contribution"), _of_both),
    "size_of_distortion_permutation": _of_both,
    **dict.fromkeys(("log_movement_ratio", "log_gradient_ratio_init"), _two),
    "log_gradient_ratio_mean": _two,
    **dict.fromkeys(("log_condition_number", "log_rate_over_limit"), _quadratic),
    "log_steps": _target,
    **dict.fromkeys(("log_steps_first", "first_later", "rank_agreement_init"), _of_weights),
    "log_steps_last": _linear,
    **dict.fromkeys(("excess_share", "unfinished"), _least),
    **dict.fromkeys(("log_weight_error", "log_weight_error_ols"), _linear),
    **dict.fromkeys(("larger", "larger_twice", "first_weight", "first_miss"), _of_weights),
    "first_miss_original": _of_weights,
    **dict.fromkeys(("weight_last", "log_weight_last"), _linear),
    "test_loss": _held_out,
    "test_r2": _of_quantities,
    **dict.fromkeys(("test_accuracy", "test_balanced_accuracy"), _of_classes),
    "test_auc": _of_two_classes,
    **dict.fromkeys(("share_garson", "share_olden", "share_gradient"), _recorded),
    **dict.fromkeys(("share_gradient_input", "share_integrated_gradients"), _recorded),
    **dict.fromkeys(("share_permutation_accuracy", "share_linear_shap"), _recorded),
}


def unfit(measure: str, condition: Condition, record: str) -> str:
    """Return why a measure does not fit the runs of a condition; empty where it does.

    Parameters
    ----------
    measure : str
        A key of `scaling_study.analysis.metrics.MEASURES`, perhaps with a minus sign.
    condition : Condition
    record : str
        What the study records.
    """
    need = NEEDS.get(measure.removeprefix("-"))
    return need(condition, record) if need else ""


def _described(condition: Condition) -> str:
    classes = problem_of(condition.problem).classes
    model = f"model {str(condition.model)!r}"
    return f"{model} of {classes} classes" if classes else model
