"""The diagnosis of a table, end to end: what it says, its page, its files, its object.

Two small diagnoses are trained once, because the words follow from trained networks.
"""

import json

import pytest
from houses import houses
from refusals import refused
from typer.testing import CliRunner

import scaling_study
from scaling_study.cli.app import app
from scaling_study.cli.diagnosis import _lines
from scaling_study.report.diagnosis import data, figures, rows
from scaling_study.report.diagnosis.report import report_of
from scaling_study.report.page import write_report

SMALL = {"optimizers": ["adam"], "scalers": ["standard", "maxabs"], "splits": 4, "updates": 600}


@pytest.fixture(scope="module")
def diagnosis(tmp_path_factory):
    """Return the diagnosis of a table with every kind of trouble."""
    folder = tmp_path_factory.mktemp("diagnosis") / "houses"
    return scaling_study.diagnose(houses(), target="price", output_dir=folder, **SMALL)


@pytest.fixture(scope="module")
def standardised():
    """Return the diagnosis of columns that are standardised already."""
    frame = houses(standardised=True)
    options = {**SMALL, "scalers": ["standard"]}
    return scaling_study.diagnose(frame.drop(columns="price"), frame["price"], **options)


def test_scaling_is_advised_with_what_helps(diagnosis):
    assert (diagnosis.verdict, diagnosis.scaler) == ("scale", "standard")
    assert len(diagnosis.answer) == 3
    assert diagnosis.answer[0].startswith("Scale the columns, with standard: ")


@pytest.mark.slow  # another minute of training
def test_nothing_changes_where_columns_are_standardised_already(standardised):
    assert standardised.verdict == "nothing"
    assert standardised.answer[0].startswith("Scaling changes nothing here")


def test_millions_and_offsets_are_named(diagnosis):
    remarks = diagnosis.columns.set_index("feature")["remarks"]
    assert "0,000 times those of a standardised column" in remarks["income"]
    assert "offset of" in remarks["year"]
    assert remarks["area"] == ""
    text = report_of(diagnosis).sections[1].text
    assert "income (" in text
    assert "year (" in text


def test_junk_is_said_to_be_junk(diagnosis):
    junk = data.facts(diagnosis)["junk"]
    assert "junk" in junk
    assert not {"area", "income", "year"} & set(junk)


def test_features_have_their_names_everywhere(diagnosis):
    names = ["area", "income", "year", "junk", diagnosis.control]
    names += [f"heating={kind}" for kind in ("gas", "oil", "wood")]
    assert diagnosis.results.features["feature"].cat.categories.tolist() == names
    assert set(diagnosis.shares["feature"]) == set(names)
    assert diagnosis.control.startswith("shuffled ")


def test_the_page_is_whole_and_shows_names(diagnosis, tmp_path):
    page = write_report(diagnosis.results, tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    for word in ("Should the columns of the table be scaled?", "heating=gas", "maxabs"):
        assert word in text
    files = {path.name for path in (tmp_path / "report" / "tables").glob("*.csv")}
    assert {"columns.csv", "scores.csv", "differences.csv", "shares.csv"} <= files
    assert "\n\n\n" not in (tmp_path / "report" / "report.md").read_text(encoding="utf-8")


def test_the_object_is_short_in_a_terminal_and_a_page_in_a_notebook(diagnosis):
    assert len(repr(diagnosis)) < 80
    assert "<table" in diagnosis._repr_html_()
    assert json.loads(json.dumps(diagnosis.to_dict()))["scaler"] == "standard"


def test_no_answer_is_given_where_nothing_trains(diagnosis, monkeypatch):
    untrained = data.Diagnosis(diagnosis.results)
    runs = diagnosis.run_scores.assign(value=0.0)
    monkeypatch.setattr(data.Diagnosis, "run_scores", property(lambda self: runs))
    assert untrained.verdict == "untrained"
    assert untrained.answer[0].startswith("No answer")
    assert "with standard" not in " ".join(untrained.answer)
    report_of(untrained)


def test_where_one_scaler_was_tried_no_other_is_spoken_of(diagnosis, monkeypatch):
    assert "No other scaler was tried" not in diagnosis.answer[1]
    alone = data.Diagnosis(diagnosis.results)
    rows = diagnosis.run_scores[diagnosis.run_scores["scaler"] != "maxabs"]
    monkeypatch.setattr(data.Diagnosis, "run_scores", property(lambda self: rows))
    assert alone.scaler == "standard"
    assert alone.answer[1].startswith("No other scaler was tried; ")


def test_the_gain_that_is_quoted_is_one_of_those_counted(diagnosis, monkeypatch):
    frame = diagnosis.differences.copy()
    row = frame.index[frame["scaler"] == "standard"][0]
    frame.loc[row, ["value", "low", "high", "outcome"]] = 1.5, -0.1, 3.1, "unclear"
    monkeypatch.setattr(data.Diagnosis, "differences", property(lambda self: frame))
    found = data.facts(data.Diagnosis(diagnosis.results))
    assert found["top"]["outcome"] == "better"
    assert found["top"]["value"] < 1.5


def untrained_rates(diagnosis, *keys):
    """Return a diagnosis where no rate of the grid trains one model on raw columns."""
    found, frame = data.Diagnosis(diagnosis.results), diagnosis.tuned.copy()
    frame["edge"] = False
    frame.loc[(frame["model"] == "linear") & (frame["scaler"] == "none"), "trains"] = False
    frame.loc[(frame["model"] == "mlp") & frame["scaler"].isin(keys), ["edge", "trains"]] = True
    found.__dict__["tuned"] = frame
    return found


def test_a_rate_that_trains_nothing_is_not_called_tuned(diagnosis):
    words = "no rate of the grid trains"
    found = untrained_rates(diagnosis)
    assert f"{words} linear with adam on raw columns, which is counted" in found.answer[0]
    shown = rows.score_rows(found.scores, found.differences)
    said = shown[shown["learning rate"].str.contains(words)]
    assert said[["training", "scaler"]].to_numpy().tolist() == [
        ["linear, adam, tuned learning rate", "none"]
    ]


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ([], "; this tuned rate"),
        (["none"], "this tuned rate is an end of its grid, so that a longer grid could score"),
        (["none", "standard"], "these tuned rates are ends of their grids, so that a longer"),
    ],
)
def test_rates_at_the_end_of_their_grid_are_named(diagnosis, keys, words):
    text = report_of(untrained_rates(diagnosis, *keys)).sections[-1].text
    assert (words in text) == bool(keys)
    for name in keys:
        columns = "raw columns" if name == "none" else "columns scaled by standard"
        assert f"mlp with adam on {columns} (" in text


def test_the_rates_that_were_tried_are_listed(diagnosis):
    found = data.facts(diagnosis)["grids"]
    assert found[1] == "adam on columns scaled by standard: 0.0001, 0.001, 0.01 and 0.1"
    assert found[0].startswith("adam on raw columns: 1e-")
    assert found[1] in report_of(diagnosis).sections[-1].text


def test_the_sentence_on_importance_names_its_model_and_what_rests_on_few_splits(
    diagnosis, monkeypatch
):
    assert "mlp with adam" in diagnosis.answer[2]
    found = data.Diagnosis(diagnosis.results)
    long = diagnosis.long_shares
    first = long["seed"] == long["seed"].min()
    monkeypatch.setattr(
        data.Diagnosis, "long_shares", property(lambda self: long[first | (long.scaler != "none")])
    )
    assert found.few == {"none": 1}
    assert "(from only 1 of 4 splits on raw columns)" in found.answer[2]
    assert found.shares.loc[found.shares["scaler"] == "none", "few"].all()
    assert "rank correlation, raw (1 of 4 splits)" in rows.agreement_rows(found)
    labels = figures.shares(rows.shown_shares(found)).legends[0].get_texts()
    assert "1 split only" in labels[0].get_text()


def test_where_nothing_is_compared_the_page_says_so_and_links_no_empty_file(diagnosis, monkeypatch):
    assert "tables/changes.csv" in report_of(diagnosis).files
    found = data.Diagnosis(diagnosis.results)
    long = diagnosis.long_shares
    monkeypatch.setattr(
        data.Diagnosis, "long_shares", property(lambda self: long[long["scaler"] != "none"])
    )
    report = report_of(found)
    assert "tables/changes.csv" not in report.files
    assert "No share is compared between raw and scaled columns" in report.sections[2].text


def test_permutation_is_not_compared_with_itself(diagnosis):
    assert "permutation" not in rows.agreement_rows(diagnosis)["method"].tolist()


def test_the_terminal_names_columns_as_the_page_does(diagnosis):
    text = "\n".join(_lines(diagnosis, quiet=False))
    assert "columns worth naming: income (numbers about " in text
    assert "year (offset of about " in text
    assert _lines(diagnosis, quiet=True) == diagnosis.answer


@pytest.mark.slow
def test_a_study_of_a_table_names_its_features(tmp_path):
    path = tmp_path / "houses.csv"
    houses().to_csv(path, index=False)
    problem = {"table": str(path), "target": "price", "scaled_feature": "area"}
    study = {"problem": problem, "seeds": "0:1", "updates": 4, "scale_factor": [1.0, 10.0]}
    results = scaling_study.run({**study, "name": "named"}, output_dir=tmp_path / "named")
    assert results.features["feature"].cat.categories[0] == "area"
    text = (write_report(results, tmp_path / "r").parent / "tables" / "features.csv").read_text()
    assert "income" in text


# The command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.csv", "--target", "price"], "No such file"),
        (["houses.csv", "--target", "prise"], "did you mean 'price'"),
        (["houses.csv", "--target", "price", "--hidden", "x"], "--hidden x"),
        (["houses.csv", "--target", "price", "--drop", "heatng"], "did you mean 'heating'"),
        (["houses.csv", "--target", "price", "--scale", "x"], "unknown scale 'x'"),
    ],
)
def test_a_wrong_argument_is_one_line(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    houses().to_csv("houses.csv", index=False)

    def call():
        found = CliRunner().invoke(app, ["diagnose", *arguments])
        raise found.exception or AssertionError(found.output)

    refused(call, words)
    assert [path.name for path in tmp_path.iterdir()] == ["houses.csv"]


def test_a_target_is_given_once():
    frame = houses()
    refused(lambda: scaling_study.diagnose(frame), "give the target either")
    refused(lambda: scaling_study.diagnose("a.csv"), "name the column to predict")
    refused(lambda: scaling_study.diagnose(frame.to_numpy(), target="price"), "a data frame")


def test_public_names_are_listed():
    assert {"diagnose", "run", "load", "Problem"} <= set(dir(scaling_study))
