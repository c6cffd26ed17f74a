"""Bad data: each kind is refused in one line, with the column and the count of rows."""

import itertools
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from scaling_study.errors import DataError, StudyError
from scaling_study.study import checks, draws
from scaling_study.study.component import Component
from scaling_study.study.conditions import expand, problem_of, shape_of, split
from scaling_study.study.datasets import DATASETS, EVERY_PROBLEM, load
from scaling_study.study.problems import Problem
from scaling_study.study.study import parse

ROWS, NAMES = 100, ("age", "dose", "weight")
X = np.random.default_rng(0).normal(size=(ROWS, 3))
Y = np.random.default_rng(1).normal(size=ROWS)
LABELS = np.arange(ROWS) % 2
ATTEMPTS = itertools.count()  # what is checked is cached by the name of a problem


def made(x=X, y=Y, **more) -> Problem:
    """A table as a user's own problem, all noise on a signal of zero."""
    return Problem(
        **{
            "draw": lambda seed: (x, y),
            "coefficients": np.full(3, np.nan),
            "reference_scale": np.ones(3),
            "scaled_feature": 0,
            "signal": lambda u: np.zeros(u.shape[:-1]),
            **more,
        }
    )


@pytest.fixture
def expanded(monkeypatch):
    """Return a function that expands a study of a problem."""

    def expanded(problem: Problem, **axes):
        monkeypatch.setitem(EVERY_PROBLEM, "mine", lambda **_: problem)
        own = {"name": "mine", "attempt": next(ATTEMPTS)}
        raw = {"seeds": "0:8", "design": "U", "problem": own, **axes}
        return expand(parse(raw))

    return expanded


def put(table, rows, column, value):
    changed = np.array(table, dtype=object if isinstance(value, str) else table.dtype)
    changed[rows, column] = value
    return changed


def text_column():
    frame = pd.DataFrame(X, columns=NAMES)
    return frame.assign(dose=["Oslo"] * 60 + ["Rome"] * 40)


def with_dates():
    return pd.DataFrame(X, columns=NAMES).assign(age=pd.Timestamp("2024-01-01"))


SEVEN = [3, 5, 8, 13, 21, 34, 55]
BAD = {
    "NaN": (made(put(X, SEVEN, 1, np.nan)), ["column 1: NaN in 7 of 100 rows"]),
    "NaN, named": (
        made(put(X, SEVEN, 1, np.nan), columns=NAMES),
        ["column 'dose': NaN in 7 of 100 rows of draw(0)"],
    ),
    "infinity": (made(put(X, [4], 2, -np.inf)), ["column 2: infinity in 1 of 100 rows"]),
    "both": (
        made(put(put(X, [4], 2, np.inf), [5, 6], 2, np.nan)),
        ["column 2: NaN in 2 and infinity in 1 of 100 rows"],
    ),
    "two columns": (
        made(put(put(X, [4], 2, np.nan), [5, 6], 0, np.nan)),
        ["column 0: NaN in 2 of 100 rows", "1 more column)"],
    ),
    "NaN in the target": (made(y=np.where(Y > 1, np.nan, Y)), ["target: NaN in", "of 100 rows"]),
    "text": (made(put(X, [1, 2], 1, "high")), ["column 1: text in 2 of 100 rows", "'high'"]),
    "digits as text": (made(X.astype(str)), ["column 0: text in 100 of 100 rows"]),
    "text, in lists": (
        made([[1.5, 2, "low"], [2, 3, "high"]] * 50),
        ["column 2: text in 100 of 100 rows of draw(0), such as 'low'"],
    ),
    "text, in a frame": (made(text_column()), ["column 'dose': text in 100 of 100", "'Oslo'"]),
    "dates, in a frame": (made(with_dates()), ["column 'age': Timestamp in 100 of 100 rows"]),
    "complex": (made(X + 1j), ["column 0: complex128 in 100 of 100 rows"]),
    "dates": (made(y=np.datetime64("2024-01-01") + np.arange(ROWS)), ["target: datetime64 in 100"]),
    "missing, in a frame": (
        made(pd.DataFrame(X, columns=NAMES).astype("Float64").mask(X > 2)),
        ["column 'age': NaN in", "of 100 rows"],
    ),
    "None": (made(y=[None, *Y[1:]]), ["target: NaN in 1 of 100 rows"]),
    "masked": (made(np.ma.masked_where(X > 2.5, X)), ["NaN in", "of 100 rows"]),
    "too large": (made(put(X.astype(object), [0], 1, 10**400)), ["column 1: infinity in 1 of"]),
    "labels 1 and 2": (made(y=LABELS + 1, classes=2), ["target", "label from 0 to 1 in 50 of 100"]),
    "labels -1 and 1": (made(y=2 * LABELS - 1, classes=2), ["in 50 of 100 rows", "such as -1"]),
    "labels 0.5": (made(y=LABELS / 2, classes=2), ["in 50 of 100 rows", "such as 0.5"]),
    "labels in text": (made(y=np.where(LABELS, "M", "B"), classes=2), ["target: text in 100 of"]),
    "a quantity as classes": (made(classes=3), ["target", "label from 0 to 2", "of 100 rows"]),
    "one class": (made(y=0 * LABELS, classes=2), ["target: class 0 in 100 of 100 rows"]),
    "constant": (made(y=np.full(ROWS, 1.5)), ["target: the same value, 1.5, in 100 of 100 rows"]),
    "constant but for rounding": (
        made(y=np.where(LABELS, 0.1 + 0.2, 0.3)),
        ["target: the same value, 0.3, in 100 of 100 rows"],
    ),
    "constant law": (
        made(y=np.zeros(ROWS), coefficients=np.zeros(3), signal=None),
        ["target: the same value, 0, in 100 of 100 rows"],
    ),
    "one row": (made(X[:1], Y[:1]), ["in 1 of 1 rows"]),
    "no rows": (made(X[:0], Y[:0]), ["no rows are left"]),
    "no columns": (made(X[:, :0]), ["no columns are left"]),
    "other rows": (made(y=Y[:99]), ["u has 100 rows and noise has 99"]),
    "a column as target": (made(y=Y[:, None]), ["noise has shape (100, 1), not (100,)"]),
    "one axis": (made(x=X[:, 0]), ["u has shape (100,)"]),
    "ragged": (made(x=[[1.0, 2.0], [3.0]]), ["u is not an array of numbers"]),
    "no pair": (made(draw=lambda seed: X), ["draw(0) returns ndarray, not the pair u, noise"]),
    "three": (made(draw=lambda seed: (X, Y, Y)), ["returns 3 values, not the pair"]),
    "raises": (made(draw=lambda seed: {}["x"]), ["draw(0) raises KeyError: 'x'"]),
    "not callable": (made(draw=(X, Y)), ["draw(0) raises TypeError"]),
    "law of NaN": (made(signal=lambda u: np.sqrt(-9 - u[..., 0] ** 2)), ["signal(u) + noise: NaN"]),
    "no function of the seed": (
        made(draw=lambda seed: (X, np.random.default_rng().normal(size=ROWS))),
        ["draw(0) returns other rows each time"],
    ),
    "names": (made(columns=NAMES[:2]), ["columns has 2 names, for 3 features"]),
    "names twice": (made(columns=("a", "b", "a")), ["columns has the name 'a' more than once"]),
    "names as one text": (made(columns="abc"), ["columns must be a tuple of text"]),
    "coefficients": (
        made(coefficients=np.array([1, np.nan, 1]), signal=None),
        ["coefficients", "finite", "nan"],
    ),
    "scale 0": (made(reference_scale=np.array([1.0, 0, 1])), ["reference_scale", "above 0"]),
    "scale NaN": (made(reference_scale=np.array([1, np.nan, 1])), ["reference_scale", "nan"]),
    "scale in text": (made(reference_scale=np.array(["a"] * 3)), ["reference_scale"]),
    "place": (made(scaled_feature=3), ["scaled_feature is 3"]),
    "place before": (made(scaled_feature=-1), ["scaled_feature is -1"]),
    "place 1.0": (made(scaled_feature=1.0), ["scaled_feature is 1.0"]),
    "place by name": (made(scaled_feature="dos", columns=NAMES), ["did you mean 'dose'"]),
    "classes 1": (made(y=LABELS, classes=1), ["classes is 1"]),
    "classes -2": (made(y=LABELS, classes=-2), ["classes is -2"]),
    "classes 2.0": (made(y=LABELS, classes=2.0), ["classes is 2.0"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_data_are_refused_when_a_study_is_expanded(name, expanded, refused):
    problem, words = BAD[name]
    message = refused(lambda: expanded(problem), "study: blocks.main: problem 'mine': ", *words)
    assert message.count("problem 'mine'") == 1


OF_VALUES = ["NaN", "NaN, named", "infinity", "both", "labels 1 and 2", "labels 0.5", "text"]


@pytest.mark.parametrize("name", OF_VALUES)
def test_held_out_rows_are_looked_at_too(name, expanded, refused):
    bad, words = BAD[name]
    good = made(y=LABELS, classes=2) if bad.classes else made()
    problem = good._replace(held_out=bad.draw, columns=bad.columns)
    words = [word.replace("draw(0)", "held_out(0)") for word in words]
    refused(lambda: expanded(problem), *words)


def test_held_out_rows_have_the_same_columns_and_any_number_of_rows(expanded, refused):
    few = made(held_out=lambda seed: (X[:7], Y[:7]))
    assert expanded(few)
    refused(lambda: expanded(made(held_out=lambda seed: (X[:7, :2], Y[:7]))), "2 columns", "has 3")
    refused(lambda: expanded(made(held_out=lambda seed: (X[:1], Y[:1]))), "in 1 of 1 rows")
    of_classes = made(y=LABELS, classes=2)
    assert expanded(of_classes._replace(held_out=lambda seed: (X[:1], LABELS[:1])))


@pytest.mark.parametrize("rows", ["draw", "held_out"])
@pytest.mark.parametrize("seed", [0, 20, 21, 29])
def test_the_first_two_seeds_and_the_last_are_looked_at(seed, rows, expanded, refused):
    def some(own):
        return (put(X, SEVEN, 1, np.nan), Y) if own == seed else (X, Y)

    problem = made(**{"held_out": made().draw, rows: some})
    refused(lambda: expanded(problem, seeds="20:30"), f"7 of 100 rows of {rows}({seed})")
    refused(
        lambda: expanded(problem, data_seed=seed, seeds="50:60"), f"7 of 100 rows of {rows}({seed})"
    )


@pytest.mark.parametrize("rows", ["draw", "held_out"])
@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ((put(X, SEVEN, 2, np.nan), Y), "column 2: NaN in 7 of 100 rows of {}(5)"),
        ((X[:90], Y[:90]), "{}(5) has 90 rows of 3 columns, not 100 of 3"),
        ((X, np.full(ROWS, 2.0)), "the same value, 2, in 100 of 100 rows of {}(5)"),
        ((X.astype(str), Y), "column 0: text in 100 of 100 rows"),
    ],
    ids=["NaN", "shape", "constant", "text"],
)
def test_a_seed_that_is_not_looked_at_before_is_when_it_is_drawn(rows, bad, words, expanded):
    def some(own):
        return bad if own == 5 else (X, Y)

    (condition,) = expanded(made(**{"held_out": made().draw, rows: some}))
    static = split(condition)
    assert getattr(draws, rows)(static, range(5)).u.shape == (5, ROWS, 3)
    with pytest.raises(DataError) as caught:
        getattr(draws, rows)(static, range(8))
    assert "problem 'mine': " in str(caught.value)
    assert words.format(rows) in str(caught.value)


def test_rows_that_are_no_fresh_ones_are_refused_where_importances_need_them(expanded, refused):
    fixed = made()
    assert expanded(fixed)
    refused(lambda: expanded(fixed, record="importances"), "held_out")
    assert expanded(fixed._replace(held_out=lambda seed: (X[:9], Y[:9])), record="importances")


# What is accepted ----------------------------------------------------------------------------

COUNTS = np.random.default_rng(2).integers(0, 3, size=(ROWS, 3))
TYPES = {
    "float32": COUNTS.astype(np.float32),
    "float16": COUNTS.astype(np.float16),
    "int8": COUNTS.astype(np.int8),
    "uint64": COUNTS.astype(np.uint64),
    "big-endian": COUNTS.astype(">f8"),
    "bool": COUNTS > 0,
    "objects": np.array([[int(a), float(b), bool(c)] for a, b, c in COUNTS], dtype=object),
    "fractions": np.array([[Fraction(int(x)), Decimal(int(x)), x] for x, *_ in COUNTS], object),
    "lists": COUNTS.tolist(),
    "frame": pd.DataFrame(COUNTS).astype({0: bool, 1: "Int64", 2: np.float32}),
    "sparse": csr_array(COUNTS),
    "masked": np.ma.array(COUNTS, mask=False),
    "column-major": np.asfortranarray(COUNTS, dtype=np.float64),
}


@pytest.mark.parametrize("name", TYPES)
def test_numbers_of_other_types_are_float64(name, expanded):
    (condition,) = expanded(made(TYPES[name], pd.Series(Y)))
    drawn = draws.draw(split(condition), range(2))
    assert drawn.u.dtype == drawn.noise.dtype == np.float64
    array = TYPES[name].toarray() if name == "sparse" else np.asarray(TYPES[name])
    np.testing.assert_array_equal(drawn.u, [array.astype(np.float64)] * 2)
    np.testing.assert_array_equal(drawn.noise, [Y] * 2)


@pytest.mark.parametrize("name", EVERY_PROBLEM)
def test_every_problem_of_ours_is_accepted(name):
    problem = problem_of(Component(name))
    assert shape_of(Component(name))[1] == len(problem.reference_scale)
    checks.check_seeds(problem, range(5), importances=True)


@pytest.mark.parametrize("name", ["diabetes", "wine", "breast_cancer", "digits"])
def test_a_data_sets_columns_have_their_names(name):
    assert DATASETS[name]().columns == load(name)[2]


def test_a_held_data_seed_is_the_same_rows_for_every_seed(expanded):
    problem = made(draw=lambda seed: (X + seed, Y))
    (condition,) = expanded(problem, data_seed=3)
    drawn = draws.draw(split(condition), range(4))
    np.testing.assert_array_equal(drawn.u, [X + 3] * 4)
    np.testing.assert_array_equal(drawn.noise, [Y] * 4)


@given(
    rows=st.sets(st.integers(0, ROWS - 1), min_size=1),
    column=st.integers(0, 2),
    bad=st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_any_number_that_is_not_finite_is_found_and_counted(rows, column, bad):
    problem = made(put(X, [*rows], column, bad))
    with pytest.raises(StudyError) as caught:
        checks.stack(checks.with_numbers(problem), problem.draw, [0, 1])
    what = "NaN" if np.isnan(bad) else "infinity"
    assert f"column {column}: {what} in {len(rows)} of {ROWS} rows" in str(caught.value)


@given(
    labels=st.lists(st.integers(-2, 5), min_size=2, max_size=30),
    classes=st.integers(2, 5),
    trained=st.booleans(),
)
def test_labels_are_accepted_only_where_they_are_numbers_of_classes(labels, classes, trained):
    y, x = np.array(labels, np.float64), np.ones((len(labels), 3))
    problem = made(x, y, classes=classes)
    wrong = sum(not 0 <= label < classes for label in labels)
    several = len(set(labels)) > 1 or not trained
    if not wrong and several:
        assert checks.stack(problem, problem.draw, [0], trained=trained)
        return
    with pytest.raises(DataError, match=f"in {wrong or len(labels)} of {len(labels)} rows"):
        checks.stack(problem, problem.draw, [0], trained=trained)


@given(mean=st.floats(-1e9, 1e9), scale=st.sampled_from([1e-25, 1e-3, 1.0, 1e12]))
def test_a_target_that_varies_is_no_constant_whatever_its_unit_and_mean(mean, scale):
    problem = made(y=(Y + mean) * scale)
    assert checks.stack(problem, problem.draw, [0])
