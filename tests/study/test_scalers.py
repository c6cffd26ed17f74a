"""Scalers: held to scikit-learn's own transformers, on columns that are hard to scale."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    Normalizer,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)

from scaling_study.study import scalers
from scaling_study.study.component import Component
from scaling_study.study.scalers import AFFINE, SCALERS, TRANSFORMERS

AFFINE_PEERS = {
    "none": FunctionTransformer,
    "minmax": MinMaxScaler,
    "standard": StandardScaler,
    "center": lambda: StandardScaler(with_std=False),
    "robust": RobustScaler,
    "maxabs": MaxAbsScaler,
}
TRANSFORMER_PEERS = {
    "quantile": lambda: QuantileTransformer(n_quantiles=100),
    "power": PowerTransformer,
    "normalizer": Normalizer,
}
PARAMETERS = {
    "quantile": {"n_quantiles": 10, "output_distribution": "normal"},
    "power": {"standardize": False},
    "normalizer": {"norm": "l1"},
}


def hard_columns() -> dict[str, np.ndarray]:
    """Columns of 100 numbers that break careless scalers."""
    rng = np.random.default_rng(0)
    normal, uniform = rng.standard_normal(100), rng.random(100)
    outlier = normal.copy()
    outlier[7] = 1000
    almost = np.full(100, 3.0)
    almost[0] = np.nextafter(3.0, 4.0)
    return {
        "normal": normal,
        "uniform": uniform,
        "integer": rng.integers(0, 3, 100).astype(float),
        "zero": np.zeros(100),
        "constant": np.full(100, 0.1),
        "large constant": np.full(100, 1e8 / 3),
        "one last bit": almost,
        "near-constant": 1 + 1e-9 * normal,
        "offset 1e4": uniform + 1e4,
        "offset 1e8": uniform + 1e8,
        "offset -1e8, range 1000": 1000 * uniform - 1e8,
        "outlier": outlier,
        "heavy-tailed": rng.standard_cauchy(100),
        "tiny": 1e-12 * normal,
        "tiny and offset": 1e-12 * normal + 1e-9,
        "huge": 1e12 * normal,
        "mostly equal": np.where(uniform < 0.1, normal, 2.0),
    }


COLUMNS = hard_columns()
ROWS = np.linspace(1, 2, 40).reshape(20, 2)


def peer(name: str, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and divisor as scikit-learn fits them to one data set."""
    zeros, ones = np.zeros(x.shape[1]), np.ones(x.shape[1])
    fitted = AFFINE_PEERS[name]().fit(x)
    return {
        "none": lambda: (zeros, ones),
        "minmax": lambda: (fitted.data_min_, 1 / fitted.scale_),
        "standard": lambda: (fitted.mean_, fitted.scale_),
        "center": lambda: (fitted.mean_, ones),
        "robust": lambda: (fitted.center_, fitted.scale_),
        "maxabs": lambda: (zeros, fitted.scale_),
    }[name]()


def assert_same(ours, theirs, x: np.ndarray) -> None:
    """Compare to rounding at the column's own magnitude, which is what scikit-learn's loses."""
    rounding = 1e-13 * np.abs(x).max(axis=0)
    assert (np.abs(ours[0] - theirs[0]) <= rounding).all(), (ours[0], theirs[0])
    assert (np.abs(ours[1] - theirs[1]) <= 1e-6 * theirs[1] + rounding).all(), (ours[1], theirs[1])


def test_every_scaler_has_a_peer():
    assert AFFINE_PEERS.keys() == AFFINE.keys()
    assert TRANSFORMER_PEERS.keys() == PARAMETERS.keys() == TRANSFORMERS.keys()
    assert AFFINE.keys() | TRANSFORMERS.keys() == SCALERS.keys()
    assert not AFFINE.keys() & TRANSFORMERS.keys()


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("column", COLUMNS)
def test_affine_scalers_fit_as_scikit_learn(name, column):
    x = COLUMNS[column][:, None]
    assert_same(scalers.affine(name, x), peer(name, x), x)


@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("column", COLUMNS)
def test_affine_scalers_transform_as_scikit_learn(name, column):
    x = COLUMNS[column][:, None]
    shift, divisor = scalers.affine(name, x)
    theirs = AFFINE_PEERS[name]().fit_transform(x)
    rounding = 1e-15 * np.abs(x).max() / divisor[0]
    np.testing.assert_allclose((x - shift) / divisor, theirs, rtol=1e-6, atol=8 * rounding)


@pytest.mark.parametrize("name", AFFINE)
@given(
    x=arrays(
        np.float64,
        st.tuples(st.integers(2, 12), st.integers(1, 3)),
        elements=st.floats(-1e6, 1e6).map(lambda value: round(value, 6)),
    ),
    exponent=st.integers(-12, 8),
    offset=st.sampled_from([0.0, 1.0, -1e4, 1e8]),
)
def test_affine_scalers_fit_anything_as_scikit_learn(name, x, exponent, offset):
    x = x * 10.0**exponent + offset
    assert_same(scalers.affine(name, x), peer(name, x), x)


@pytest.mark.parametrize("name", AFFINE)
def test_a_stack_is_fitted_data_set_by_data_set(name):
    rng = np.random.default_rng(1)
    columns = np.stack(list(COLUMNS.values()), axis=-1)
    stack = np.stack([[columns[rng.permutation(100)] * k for k in (1, 2, 3)] for _ in range(4)])
    shifts, divisors = scalers.affine(name, stack)
    assert shifts.shape == divisors.shape == (4, 3, len(COLUMNS))
    for place in np.ndindex(4, 3):
        assert_same((shifts[place], divisors[place]), peer(name, stack[place]), stack[place])


@pytest.mark.parametrize("name", AFFINE)
def test_a_divisor_is_positive_and_finite(name):
    x = np.stack(list(COLUMNS.values()), axis=-1)
    shift, divisor = scalers.affine(name, x)
    assert np.isfinite(shift).all()
    assert np.isfinite(divisor).all()
    assert (divisor > 0).all()


@pytest.mark.parametrize("name", sorted(AFFINE.keys() - {"none", "center"}))  # which divide by 1
@given(exponent=st.integers(-30, 30), seed=st.integers(0, 1000))
def test_a_power_of_two_scales_shift_and_divisor_to_the_bit(name, exponent, seed):
    x = np.random.default_rng(seed).standard_normal((20, 2)) + 1
    factor = 2.0**exponent
    (shift, divisor), (scaled_shift, scaled_divisor) = (
        scalers.affine(name, x),
        scalers.affine(name, factor * x),
    )
    np.testing.assert_array_equal(scaled_shift, factor * shift)
    np.testing.assert_array_equal(scaled_divisor, factor * divisor)


@pytest.mark.parametrize("name", AFFINE)
def test_the_order_of_the_rows_does_not_matter(name):
    x = np.stack(list(COLUMNS.values()), axis=-1)
    shuffled = x[np.random.default_rng(2).permutation(100)]
    assert_same(scalers.affine(name, x), scalers.affine(name, shuffled), x)


@pytest.mark.parametrize("name", SCALERS)
def test_data_are_left_as_they_were(name):
    x = np.random.default_rng(3).random((2, 100, 2))
    before = x.copy()
    if name in AFFINE:
        scalers.affine(name, x)
    else:
        scalers.transform(Component(name), x)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_are_scikit_learns(name):
    x = np.random.default_rng(4).standard_normal((3, 100, 2)) * [1, 1000]
    ours = scalers.transform(Component(name), x)
    theirs = [TRANSFORMER_PEERS[name]().fit_transform(data) for data in x]
    np.testing.assert_array_equal(ours, theirs)
    assert ours.dtype == np.float64


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_take_scikit_learns_parameters(name):
    x = np.random.default_rng(5).standard_normal((2, 100, 2))
    component = Component(name, tuple(sorted(PARAMETERS[name].items())))
    scalers.check(component, ROWS)
    theirs = [type(TRANSFORMER_PEERS[name]())(**PARAMETERS[name]).fit_transform(d) for d in x]
    np.testing.assert_array_equal(scalers.transform(component, x), theirs)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers_take_any_number_of_rows_without_a_word(name):
    x = np.random.default_rng(6).standard_normal((1, 20, 2))
    assert scalers.transform(Component(name), x).shape == x.shape


def test_a_users_own_transformer_is_taken():
    own = Component("sklearn.preprocessing:StandardScaler")
    scalers.check(own, ROWS)
    assert not scalers.is_affine(own)
    x = np.random.default_rng(7).random((2, 3, 50, 2))
    shift, divisor = scalers.affine("standard", x)
    expected = (x - shift[..., None, :]) / divisor[..., None, :]
    np.testing.assert_allclose(scalers.transform(own, x), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCALERS)
def test_check_accepts_every_scaler(name):
    scalers.check(Component(name), ROWS)
    assert scalers.is_affine(Component(name)) == (name in AFFINE)


@pytest.mark.parametrize("name", AFFINE)
def test_an_affine_scaler_takes_no_parameters(name, refused):
    refused(lambda: scalers.check(Component(name, (("with_mean", False),)), ROWS), repr(name))


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_transformers_wrong_parameter_is_refused(name, refused):
    wrong = Component(name, (("no_such_parameter", 1),))
    refused(lambda: scalers.check(wrong, ROWS), name, "no_such_parameter")


@pytest.mark.parametrize(
    ("name", "key"), [("quantile", "n_quantiles"), ("power", "method"), ("normalizer", "norm")]
)
def test_a_transformers_wrong_value_is_refused(name, key, refused):
    refused(lambda: scalers.check(Component(name, ((key, "nonsense"),)), ROWS), name, key)


@pytest.mark.parametrize("name", SCALERS)
def test_a_misspelt_scaler_suggests_the_nearest(name, refused):
    refused(lambda: scalers.check(Component(name + "s"), ROWS), "scaler", repr(name))


@pytest.mark.parametrize("name", ["os:getcwd", "math:pi", "builtins:dict"])
def test_what_makes_no_transformer_is_refused(name, refused):
    refused(lambda: scalers.check(Component(name), ROWS), "scaler", repr(name))


# Transformers of a user's own ----------------------------------------------------------------

WIDE = np.random.default_rng(8).normal(3, [1, 10, 100, 1000] * 3, size=(2, 40, 12))[..., :11]


def numbers_and_flags():
    """The transformer that is written most: some columns are scaled, the others are left."""
    return ColumnTransformer(
        [("n", StandardScaler(), [*range(7)]), ("b", "passthrough", [*range(7, 11)])]
    )


def last_first():
    return ColumnTransformer(
        [("late", "passthrough", [10, 8, 2]), ("early", StandardScaler(), [1, 0])],
        remainder=MinMaxScaler(),
    )


def last_first_in_a_pipeline():
    return make_pipeline(last_first(), StandardScaler())


def by_mask():
    mask = np.arange(11) % 2 == 1
    return ColumnTransformer([("odd", StandardScaler(), mask), ("even", MaxAbsScaler(), ~mask)])


def in_a_frame():
    return last_first().set_output(transform="pandas")


OWN = {
    "numbers_and_flags": dict.fromkeys(range(7), StandardScaler) | dict.fromkeys(range(7, 11)),
    "last_first": dict.fromkeys([10, 8, 2]) | dict.fromkeys([1, 0], StandardScaler)
    | dict.fromkeys([3, 4, 5, 6, 7, 9], MinMaxScaler),
    "in_a_frame": dict.fromkeys([10, 8, 2]) | dict.fromkeys([1, 0], StandardScaler)
    | dict.fromkeys([3, 4, 5, 6, 7, 9], MinMaxScaler),
    "last_first_in_a_pipeline": dict.fromkeys(range(11), StandardScaler),
    "by_mask": {j: StandardScaler if j % 2 else MaxAbsScaler for j in range(11)},
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_columns_are_put_back_into_the_order_of_the_features(name):
    own = Component(f"{__name__}:{name}")
    scalers.check(own, WIDE[0], held_out=True)
    new = WIDE[:, ::-2] + 1
    scaled, held_out = scalers.transform(own, WIDE), scalers.transform(own, WIDE, new)
    for feature, peer in OWN[name].items():
        for seed in range(2):
            column, other = WIDE[seed, :, [feature]].T, new[seed, :, [feature]].T
            fitted = (peer or FunctionTransformer)().fit(column)
            for found, expected in ((scaled, column), (held_out, other)):
                np.testing.assert_allclose(
                    found[seed, :, feature], fitted.transform(expected)[:, 0], rtol=1e-9, atol=1e-9
                )


@given(order=st.permutations(range(5)), cut=st.integers(1, 4))
def test_any_order_of_columns_is_put_back(order, cut):
    x = np.random.default_rng(9).normal(size=(30, 5))
    parts = [("a", StandardScaler(), order[:cut]), ("b", StandardScaler(), order[cut:])]
    transformer = ColumnTransformer(parts)
    found = scalers._table(transformer, transformer.fit_transform(x), x.shape)
    np.testing.assert_allclose(found, StandardScaler().fit_transform(x), rtol=1e-12, atol=1e-12)


def drops_one():
    return ColumnTransformer([("n", StandardScaler(), [*range(10)])])


def one_twice():
    return ColumnTransformer([("n", "passthrough", [*range(10)]), ("again", "passthrough", [0])])


def without_names():
    plain = FunctionTransformer(np.negative)
    return ColumnTransformer([("a", plain, [*range(1, 11)]), ("b", StandardScaler(), [0])])


def beyond_the_columns():
    return ColumnTransformer([("n", StandardScaler(), [11])])


def every_other_row():
    return FunctionTransformer(lambda x: x[::2])


def logarithm():
    return FunctionTransformer(lambda x: np.where(x > 0, x, np.nan))


def one_number():
    return FunctionTransformer(np.ravel)


def other_when_new():
    class Odd(StandardScaler):
        def transform(self, X, copy=None):
            return super().transform(X)[:, :3]

        def fit_transform(self, X, y=None, **more):
            return self.fit(X).mean_ - X

    return Odd()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("drops_one", ["returns 10 columns for 11"]),
        ("one_twice", ["returns no column for feature 10"]),
        ("without_names", ["which of its columns is which feature", "one-to-one"]),
        ("beyond_the_columns", ["11"]),
        ("every_other_row", ["returns 20 rows for 40"]),
        ("logarithm", ["returns NaN or infinity in", "of 40 rows of column"]),
        ("one_number", ["shape (440,), not (40, 11)"]),
        ("other_when_new", ["returns 3 columns for 11"]),
    ],
)
def test_a_users_own_transformer_that_makes_no_table_is_refused(name, words, refused):
    own = Component(f"{__name__}:{name}")
    refused(lambda: scalers.check(own, WIDE[0], held_out=True), f"'{own.name}'", *words)


def test_a_sparse_matrix_is_taken():
    def sparse(x):
        from scipy.sparse import csr_array

        return csr_array(x)

    x = np.random.default_rng(10).normal(size=(20, 3))
    transformer = FunctionTransformer(sparse)
    found = scalers._table(transformer, transformer.fit_transform(x), x.shape)
    np.testing.assert_array_equal(found, x)
