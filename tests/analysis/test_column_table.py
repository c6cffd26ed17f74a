"""What is said of columns: units, offsets, outliers, skew, collinearity, and conditioning."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler

from scaling_study.analysis import column_table as column_table_module
from scaling_study.analysis.column_table import column_table, conditioning, rank_agreement

NAMES = ("a", "b", "c")


def columns(unit: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Return three normal columns, the last in another unit with an offset in its deviations."""
    z = np.random.default_rng(0).standard_normal((200, 3))
    z[:, 2] = unit * (z[:, 2] + offset)
    return z


def remarks(x):
    return dict(column_table(x, NAMES)[["feature", "remarks"]].to_numpy())


def test_usual_columns_have_no_remarks():
    assert set(remarks(columns()).values()) == {""}


@given(st.floats(3, 9), st.sampled_from([-1, 1]))
def test_another_unit_is_named(decades, sign):
    found = remarks(columns(unit=10.0 ** (sign * decades)))
    assert ("times those" if sign > 0 else "times smaller than those") in found["c"]
    assert found["a"] == found["b"] == ""


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        (469.3, "470"),
        (12_345, "12,000"),
        (999_999, "1 million"),
        (2_962_417, "3 million"),
        (2.54e9, "2.5 billion"),
        (3e13, "10^13"),
    ],
)
def test_large_ratios_are_rounded_to_be_read(ratio, words):
    assert column_table_module._rounded(ratio) == words


@given(st.floats(3, 7))
def test_an_offset_is_named_with_the_digits_that_it_costs(decades):
    table = column_table(columns(offset=10.0**decades), NAMES)
    assert "offset of" in table["remarks"].iloc[2]
    assert table["digits_lost"].iloc[2] == pytest.approx(decades, abs=0.1)


def test_outliers_skew_and_copies_are_named():
    x = columns()
    x[:8, 0] = 50
    x[:, 1] = np.exp(2 * x[:, 1])
    x[:, 2] = x[:, 0] + 1e-3 * x[:, 2]
    found = remarks(x)
    assert "outliers" in found["a"]
    assert "skew" in found["b"]
    assert "nearly collinear with a" in found["c"]


def test_columns_of_zeros_and_ones_have_no_outliers():
    x = columns()
    x[:, 0] = np.arange(200) < 3
    assert remarks(x)["a"] == ""


@pytest.mark.parametrize(
    ("name", "scaler"),
    [("standard", StandardScaler), ("minmax", MinMaxScaler), ("maxabs", MaxAbsScaler)],
)
def test_condition_numbers_are_those_of_scaled_inputs(name, scaler):
    x = columns(unit=30.0, offset=2.0)
    z = np.column_stack([scaler().fit_transform(x), np.ones(len(x))])
    values = np.linalg.eigvalsh(2 * z.T @ z / len(z))
    row = conditioning(x, [name]).iloc[0]
    assert row["kappa"] == pytest.approx(values[-1] / values[0], rel=1e-9)
    assert row["largest"] == pytest.approx(values[-1], rel=1e-9)


def test_columns_that_are_not_scaled_keep_their_unit():
    x = columns(unit=1000.0)
    part = conditioning(x, ["none", "standard"], [True, True, False]).set_index("scaler")["kappa"]
    assert part["standard"] == pytest.approx(part["none"], rel=0.5)
    assert conditioning(x, ["standard"])["kappa"].iloc[0] < 3


def categories(unit: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Return a normal column and one-hot columns, which add up to 1."""
    random = np.random.default_rng(3)
    number = unit * (random.standard_normal((300, 1)) + offset)
    return np.column_stack([number, np.eye(4)[random.integers(4, size=300)]])


@pytest.mark.parametrize("name", ["none", "standard", "minmax"])
@pytest.mark.parametrize(("unit", "offset"), [(1.0, 0.0), (1e6, 0.0), (1e-6, 0.0), (3.0, 40.0)])
def test_the_condition_number_is_that_of_directions_in_which_the_data_vary(name, unit, offset):
    x = categories(unit, offset)
    mask = [True, *[False] * 4]
    scaler = {"standard": StandardScaler, "minmax": MinMaxScaler}.get(name)
    z = x if scaler is None else np.hstack([scaler().fit_transform(x[:, :1]), x[:, 1:]])
    z = np.column_stack([z, np.ones(len(z))])
    sizes = np.linalg.svd(z, compute_uv=False)  # the last one, of a direction they lack, is 0
    found = conditioning(x, [name], mask).iloc[0]
    assert found["kappa"] == pytest.approx((sizes[0] / sizes[-2]) ** 2, rel=1e-6)
    assert found["largest"] == pytest.approx(2 * sizes[0] ** 2 / len(z), rel=1e-9)


def test_neither_copies_nor_constants_nor_few_rows_make_a_condition_number_of_roundoff():
    x = columns(unit=1e6, offset=1e3)
    copied = np.column_stack([x, 5e5 * x[:, 0] + 2, np.full(len(x), 7.0)])
    names = ["none", "standard"]
    kappa = conditioning(copied, names)["kappa"]
    assert kappa.iloc[0] == pytest.approx(conditioning(x, ["none"])["kappa"].iloc[0], rel=1)
    assert kappa.iloc[1] < 5
    assert conditioning(copied[:3], names)["kappa"].max() < 1e20
    assert conditioning(np.ones((5, 2)), names)["kappa"].tolist() == pytest.approx([1, 1])


def test_a_condition_number_far_beyond_float64_keeps_its_digits():
    x = columns(unit=1e6, offset=1e4)[:, 2:]
    found = conditioning(np.hstack([x, 2 * x]), ["none"]).iloc[0]
    # The inputs and their copy act as one column, √5 times as large.
    sd, mean = 5**0.5 * x.std(), 5**0.5 * x.mean()
    assert found["kappa"] == pytest.approx(((sd**2 + mean**2 + 1) / sd) ** 2, rel=1e-6)
    assert found["kappa"] > 1e27


def test_methods_that_rank_alike_agree():
    import pandas as pd

    shares = pd.DataFrame({"p": [0.6, 0.3, 0.1], "same": [0.4, 0.35, 0.25], "other": [0, 1, 2]})
    found = rank_agreement(shares, "p")
    assert found["same"] == 1
    assert found["other"] == -1
