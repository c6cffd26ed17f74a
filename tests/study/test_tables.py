"""A user's own table as a problem: how it is read, split, encoded, refused and identified."""

import numpy as np
import pandas as pd
import pytest
from refusals import refused
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OneHotEncoder

from scaling_study import Problem
from scaling_study.storage.provenance import asked, study_digest
from scaling_study.study import tables
from scaling_study.study.columns import read_columns
from scaling_study.study.conditions import expand, group
from scaling_study.study.datasets import overlap
from scaling_study.study.draws import draw, held_out
from scaling_study.study.encoding import encode
from scaling_study.study.plan import plan
from scaling_study.study.sources import problem_of
from scaling_study.study.study import read_study

ROWS = 80


def houses() -> pd.DataFrame:
    """Return a table with numbers, categories, missing values and columns without information."""
    random = np.random.default_rng(3)
    frame = pd.DataFrame(
        {
            "id": np.arange(1, ROWS + 1),
            "area": random.normal(120, 40, ROWS),
            "income": random.lognormal(10, 1, ROWS),
            "heating": random.choice(["gas", "oil", "wood"], ROWS),
            "garden": random.choice([True, False], ROWS),
            "country": "x",
        }
    )
    frame["price"] = 3 * frame["area"] + frame["income"] / 100 + random.normal(0, 5, ROWS)
    frame.loc[:9, "area"] = np.nan
    frame.loc[5:12, "heating"] = None
    return frame


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "houses.csv"
    houses().to_csv(path, index=False)
    return path


def study_of(path, **keys):
    return read_study({"problem": {"table": str(path), "target": "price", **keys}})


# Reading --------------------------------------------------------------------------------------


def test_columns_are_read_as_what_they_hold():
    found = read_columns(houses(), "price")
    assert [column.name for column in found.features] == ["area", "income", "heating", "garden"]
    assert [column.is_number for column in found.features] == [True, True, False, False]
    assert found.left_out.keys() == {"id", "country"}
    assert "identifier" in found.left_out["id"]
    assert "constant" in found.left_out["country"]
    assert found.target.labels == ()
    assert "regression" in found.notes()[0]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        (["no", "yes"] * 40, ("no", "yes")),
        ([True, False] * 40, (False, True)),
        ([3, 1, 2, 7] * 20, (1, 2, 3, 7)),
        (list(range(ROWS)), ()),
        (np.linspace(0, 1, ROWS), ()),
        (list(range(10)) * 2 + list(range(60)), ()),
    ],
)
def test_the_task_is_inferred_from_the_target(values, labels):
    frame = houses().assign(price=values)
    assert read_columns(frame, "price").target.labels == labels


def test_a_stated_task_is_taken():
    frame = houses().assign(price=[1, 2] * 40)
    assert read_columns(frame, "price", "regression").target.labels == ()
    assert "inferred" not in read_columns(frame, "price", "regression").notes()[0]


def bad(**columns):
    return houses().assign(**columns)


ONE = np.r_[np.nan, np.ones(ROWS - 1)]
REFUSED = {
    "no such column": (houses().drop(columns="price"), "unknown column 'price'"),
    "constant target": (bad(price=3), "target 'price' is 3 in every row"),
    "labels": (bad(price=[f"l{k}" for k in range(ROWS)]), "80 distinct labels in 80 rows"),
    "missing target": (bad(price=ONE), "missing in 1 of 80 rows"),
    "all missing": (houses()[["price"]].assign(a=np.nan), "no column is left"),
    "one row": (houses()[:1], "1 row; at least 8"),
    "dates": (bad(sold=[f"2020-01-{1 + k % 28:02d}" for k in range(ROWS)]), "'sold' holds dates"),
    "datetimes": (bad(sold=pd.date_range("2020", periods=ROWS)), "'sold' holds dates"),
    "free text": (bad(note=[f"the house {k}" for k in range(ROWS)]), "'note' holds free text"),
    "infinite": (bad(area=np.r_[np.inf, np.ones(ROWS - 1)]), "'area' is infinite in 1"),
    "columns": (
        pd.DataFrame(np.ones((20, 10_000)), columns=[*map(str, range(9_999)), "price"]),
        "10,000 columns; at most 1,000",
    ),
    "duplicate names": (houses().set_axis(["id", "a", "a", "b", "c", "d", "price"], axis=1), "'a'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_frame_is_refused_in_one_line(name):
    frame, words = REFUSED[name]
    refused(lambda: Problem.from_frame(frame, target="price"), words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,price\n\xe9,1\n".encode("latin-1"), "not in UTF-8 (byte 0xe9 in line 2)"),
        (b"a,a,price\n1,2,3\n", "column 'a' occurs more than once"),
        (b"", "not valid CSV"),
        (b"a,price\n1,2\n1,2,3\n", "not valid CSV"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(content, words, tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    refused(lambda: plan(study_of(path)), "t.csv", words)


def test_a_file_that_is_not_there_or_no_table_is_named(tmp_path):
    refused(lambda: study_of(tmp_path / "none.csv"), "none.csv", "No such file")
    refused(lambda: study_of(tmp_path / "none.xlsx"), ".csv or .parquet")
    refused(lambda: read_study({"problem": {"table": "a.csv"}}), "name the column to predict")
    refused(lambda: study_of("a.csv", tagret="x"), "did you mean 'target'")


def test_a_copy_of_the_target_is_warned_of():
    frame = houses()
    assert read_columns(frame, "price").warnings == ()
    (warning,) = read_columns(frame.assign(cents=100 * frame["price"] + 5), "price").warnings
    assert "'cents' is the target" in warning
    label = np.where(frame["price"] > 400, "high", "low")
    (warning,) = read_columns(frame.assign(price=label, code=label == "low"), "price").warnings
    assert "'code'" in warning


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_marks_of_other_programs_are_read(delimiter, tmp_path):
    path = tmp_path / "t.csv"
    houses().to_csv(path, index=False, sep=delimiter, encoding="utf-8-sig")
    frame = tables.read_table(path.read_bytes(), str(path))
    assert list(frame) == list(houses())


# Rows -----------------------------------------------------------------------------------------


def test_rows_are_those_of_scikit_learns_transformers_fitted_to_training_rows():
    frame = houses()
    problem = Problem.from_frame(frame, target="price", drop=["garden"])
    (u, y), (new, _) = problem.draw(4), problem.held_out(4)
    rows = [np.flatnonzero(frame["price"] == value)[0] for value in y]
    fill = frame["heating"].fillna("missing").to_frame().assign(area=frame["area"])
    known = ColumnTransformer(
        [("a", SimpleImputer(strategy="median"), ["area"]), ("h", OneHotEncoder(), ["heating"])]
    ).fit(fill.iloc[rows])
    names = list(problem.columns)
    assert names == [
        *("area", "income"),
        *("heating=gas", "heating=oil", "heating=wood", "heating=missing"),
        "area missing",
    ]
    expected = known.transform(fill.iloc[rows])
    order = [names.index("area"), *(names.index(f"heating={k}") for k in ("gas", "missing"))]
    assert np.array_equal(u[:, order], expected[:, [0, 1, 2]])
    assert np.array_equal(u[:, -1], frame["area"].isna()[rows])
    assert len(new) == 20


def test_a_category_without_training_rows_is_unknown():
    frame = houses()
    frame.loc[0, "heating"] = "sun"
    problem = Problem.from_frame(frame, target="price")
    place = problem.columns.index("heating=sun")
    seeds = [s for s in range(20) if not problem.draw(s)[0][:, place].any()]
    assert seeds
    assert not any(problem.held_out(s)[0][:, place].any() for s in seeds)


def test_classes_are_stratified_and_encoded():
    frame = houses().assign(price=np.where(np.arange(ROWS) < 8, "rare", "common"))
    problem = Problem.from_frame(frame, target="price")
    assert problem.classes == 2
    for seed in range(5):
        assert problem.held_out(seed)[1].sum() == 2
        assert problem.draw(seed)[1].sum() == 6


def test_no_group_is_on_both_sides():
    frame = houses().assign(street=np.repeat(np.arange(20), [2, 6] * 10), row=np.arange(ROWS) / 7)
    problem = Problem.from_frame(frame, target="price", groups="street")
    place, shapes = problem.columns.index("row"), set()
    for seed in range(10):
        train, test = problem.draw(seed)[0][:, place], problem.held_out(seed)[0][:, place]
        streets = [set(frame["street"].iloc[(7 * x).round().astype(int)]) for x in (train, test)]
        assert not streets[0] & streets[1]
        shapes.add((len(train), len(test)))
    assert len(shapes) == 1


def test_the_last_rows_by_time_are_held_out():
    frame = houses().assign(day=np.arange(ROWS)[::-1], row=np.arange(ROWS) / 7)
    problem = Problem.from_frame(frame, target="price", time="day")
    assert "day" not in problem.columns
    place = problem.columns.index("row")
    assert set((7 * problem.held_out(3)[0][:, place]).round()) == set(range(20))


def test_the_overlap_of_splits_is_known_in_spite_of_a_control():
    problem = Problem.from_frame(houses(), target="price", control="area")
    assert overlap(problem) == pytest.approx(20 / 60)
    assert "shuffled area" in problem.columns


def test_few_rows_may_be_asked_for():
    problem = Problem.from_frame(houses(), target="price", rows=30)
    assert len(problem.draw(0)[0]) == 30
    assert len(problem.held_out(0)[0]) == 10


@pytest.mark.parametrize("kind", [pd.DataFrame, np.asarray])
def test_arrays_are_a_table_without_names(kind):
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 3)), random.normal(size=40)
    problem = Problem.from_arrays(kind(x), y)
    assert len(problem.columns) == 3
    assert np.isin(problem.draw(0)[0], x).all()
    refused(lambda: Problem.from_arrays(x, y[:-1]), "y has shape (39,)")


# Scaling --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scaler", "scale"),
    [
        *[("standard", []), ("standard", ["area"]), ("standard", ["area", "heating"])],
        *[("quantile", []), ("quantile", ["area"])],
    ],
)
def test_only_chosen_columns_are_scaled(file, scaler, scale):
    keys = {"scale": scale} if scale else {}
    problem = {"table": str(file), "target": "price", **keys}
    study = read_study({"problem": problem, "scaler": ["none", scaler]})
    raw, scaled = expand(study)
    one, other = group([raw])[0], group([scaled])[0]
    drawn = draw(one.static, [0])
    names = problem_of(raw.problem).columns

    def inputs(of, condition):
        found = encode(of.static, drawn, [condition])
        u = found.u[0] if found.u.ndim == 3 else found.u[0, 0]
        return found.feature_scale[:, 0, 0] * u + found.feature_shift[:, 0, 0]

    moved = ~np.isclose(inputs(one, raw), inputs(other, scaled)).all(axis=0)
    columns = scale or ["area", "income"]
    assert list(moved) == [any(n == c or n.startswith(f"{c}=") for c in columns) for n in names]
    assert held_out(other.static, [0]).u.shape == (1, 20, len(names))


def test_a_feature_is_scaled_by_its_name(file):
    problem = problem_of(expand(study_of(file, scaled_feature="income"))[0].problem)
    assert problem.scaled_feature == problem.columns.index("income")
    refused(lambda: expand(study_of(file, scaled_feature="incme")), "did you mean 'income'")


# Identity -------------------------------------------------------------------------------------


def test_the_content_of_a_table_is_its_identity_and_the_path_is_not(file, tmp_path):
    other = tmp_path / "elsewhere" / "other.csv"
    other.parent.mkdir()
    other.write_bytes(file.read_bytes())
    first, second = study_of(file), study_of(other)
    assert expand(first)[0].id == expand(second)[0].id
    assert study_digest(first) == study_digest(second)
    assert str(tmp_path) not in str(asked(first))
    houses().assign(area=1.5 * houses()["area"]).to_csv(other, index=False)
    assert expand(study_of(other))[0].id != expand(first)[0].id
    assert study_digest(study_of(other)) != study_digest(first)


def test_a_study_is_read_back_with_its_table(file):
    study = study_of(file, scale=["area"], drop=["garden"])
    again = read_study(study)
    assert again == study
    assert again.to_toml() == study.to_toml()
    assert expand(again) == expand(study)


def test_a_path_is_relative_to_the_study_file(file):
    text = 'problem = { table = "houses.csv", target = "price" }\n[blocks.a]\nscaler = "none"\n'
    (file.parent / "study.toml").write_text(text, encoding="utf-8")
    assert expand(read_study(file.parent / "study.toml"))[0].design == "U"


def test_a_table_that_has_changed_since_is_refused(file):
    study = study_of(file)
    file.write_text("a,price\n1,2\n", encoding="utf-8")
    tables.problem.cache_clear()
    refused(lambda: expand(study), "has changed since")
