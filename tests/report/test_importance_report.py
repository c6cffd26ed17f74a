"""The importances' page: fit first, and each number from the runs that fit."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import scaling_study
from scaling_study.analysis import attribution
from scaling_study.errors import StudyError
from scaling_study.report.importance import data
from scaling_study.report.importance.data import Count
from scaling_study.report.labels import values_of
from scaling_study.report.page import write_report
from scaling_study.storage.results import Results
from scaling_study.study.component import Component
from scaling_study.study.study import read_study

LAW = {"name": "uniform", "samples": 64, "noise": 0.01}
NETWORK = {"name": "mlp", "hidden": 4, "activation": "tanh"}
STUDY = {
    "name": "small",
    "report": "importance",
    "record": "importances",
    "design": "U",
    "problem": [LAW, {"name": "decoy", "samples": 64}],  # one that is fit soon, and one that is not
    "target_scaler": "standard",
    "model": "linear",
    "learning_rate": [1e-4, 0.1],
    "updates": 200,
    "seeds": 12,
    "blocks": {
        "scale": {"scale_factor": [0.1, 1.0, 10.0]},
        "offset": {"offset": 1e4},
        "scaler": {"scaler": ["minmax", "standard"]},
        "scaled": {"scaler": "standard", "scale_factor": 8.0},
        "networks-width": {"problem": LAW, "model": NETWORK, "scale_factor": 10.0},
        "networks-standard": {"problem": LAW, "model": NETWORK, "scaler": "standard"},
    },
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    return scaling_study.run(STUDY, output_dir=tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(results, tmp_path_factory.mktemp("reports") / "small").parent


def table(report: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(report / "tables" / f"{name}.csv", keep_default_na=True, na_values=[""])


def said(report: Path) -> str:
    return (report / "report.md").read_text().splitlines()[2]


def test_every_figure_is_shown_and_has_its_numbers(report: Path) -> None:
    page = (report / "index.html").read_text()
    drawn = {path.stem for path in (report / "figures").glob("*.svg")}
    assert drawn == set(re.findall(r"figures/([\w-]+)\.svg", page))
    assert drawn == {path.stem for path in (report / "tables" / "figures").glob("*.csv")}
    assert {stem[3:] for stem in drawn} == {"fit", "scales", "differences", "scalers", "networks"}


def test_the_tables_are_those_of_the_runs(report: Path, results: Results) -> None:
    kept = attribution.tuned_runs(results.runs)
    read, cells = attribution.per_run(results.features, kept), attribution.goodness_of_fit(kept)
    for name, found in (
        ("distortion", attribution.cell_means(read, cells, "distortion")),
        ("differences", attribution.mean_differences(read, cells)),
        ("fit", cells),
    ):
        stored = pd.read_csv(
            report / "tables" / f"{name}.csv", keep_default_na=False, na_values=[""]
        )
        assert len(stored) == len(found)
        keys = [*attribution.CELL, *(["method"] if "method" in found else [])]
        both = found.merge(stored, on=keys, suffixes=("", "_stored"), validate="1:1")
        assert len(both) == len(found)
        for column in ("value", "low", "high", "n"):
            np.testing.assert_allclose(both[column], both[f"{column}_stored"])


def test_what_is_said_first_is_what_was_fit(report: Path) -> None:
    fit = pd.read_csv(report / "tables" / "fit.csv", keep_default_na=False)
    raw = fit[(fit["part"] == "inputs") & (fit["scaler"] == "none")]
    changed = raw[(raw["scale_factor"] != 1) | (raw["offset"] != 0)]
    unread = int((changed["fitting"] < attribution.FEWEST).sum())
    assert 0 < unread < len(changed)
    assert f"For {unread} of {len(changed)} raw inputs with another unit" in said(report)
    # No linear model fits the sines; a column of ten thousand and a bit has no slope to be seen.
    assert (fit.loc[fit["problem"].str.startswith("decoy"), "fitting"] == 0).all()
    assert (fit.loc[fit["offset"] == 1e4, "fitting"] == 0).all()


@pytest.mark.slow
def test_the_answer_changes_with_the_runs(
    results: Results, report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = table(report, "distortion")
    off = results.features.copy()
    mine = (off["feature"] == 1) & (off["scaler"].astype(str) == "none")
    off.loc[mine, "share_permutation"] += 0.5  # as if a unit had changed what was learnt
    monkeypatch.setitem(results.__dict__, "features", off)
    again = write_report(results, tmp_path / "again").parent
    after = table(again, "distortion")
    moved = (before["scaler"] != after["scaler"]) | ~np.isclose(
        before["value"], after["value"], equal_nan=True
    )
    assert set(before.loc[moved, "method"]) == {"permutation"}
    assert said(again) != said(report)
    numbers = [re.findall(r"in (\d+) of (\d+)", said(path))[1] for path in (report, again)]
    assert numbers[0] != numbers[1]


@pytest.mark.slow
def test_the_same_runs_make_the_same_bytes(report: Path, results: Results, tmp_path: Path) -> None:
    again = write_report(results, tmp_path / "again").parent
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    assert all((report / f).read_bytes() == (again / f).read_bytes() for f in files)


def test_a_study_without_importances_has_no_such_report(tmp_path: Path) -> None:
    short = {"report": "importance", "updates": 4, "seeds": 1, "problem": LAW}
    with pytest.raises(StudyError, match="report = 'importance': needs record = 'importances'"):
        scaling_study.run(short, output_dir=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_study_in_which_nothing_fits_says_so(tmp_path: Path) -> None:
    short = {**STUDY, "problem": {"name": "decoy", "samples": 64}, "seeds": 4, "updates": 2}
    short["blocks"] = {name: STUDY["blocks"][name] for name in ("scale", "scaler")}
    results = scaling_study.run(short, output_dir=tmp_path / "runs")
    report = write_report(results, tmp_path / "report").parent
    assert "For 2 of 2 raw inputs" in said(report)
    assert "| runs that fit, standardised inputs | 0 % |" in (report / "report.md").read_text()
    assert [path.stem for path in (report / "figures").glob("*.svg")] == ["01-fit"]


@pytest.mark.parametrize(
    ("bound", "free", "expected"),
    [
        (Count(8, 1, 10), Count(0, 10, 10), "attributions only"),
        (Count(8, 1, 10), Count(6, 2, 10), "the function"),
        (Count(0, 9, 10), Count(0, 8, 10), "nothing"),
        (Count(8, 1, 10), Count(0, 5, 10), "some"),
        (Count(0, 5, 10), Count(0, 10, 10), "some"),
        (Count(0, 0, 0), Count(0, 10, 10), "unknown"),
    ],
)
def test_conclusions_go_no_further_than_the_counts(
    bound: Count, free: Count, expected: str
) -> None:
    assert data.conclude(bound, free) == expected


def test_only_intervals_beyond_or_within_the_relevant_difference_count() -> None:
    ends = [(0.06, 0.2), (0.04, 0.2), (-0.04, 0.04), (-0.06, 0.04), (-0.3, -0.1)]
    assert Count.of(pd.DataFrame(ends, columns=["low", "high"])) == Count(1, 1, 5)


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"name": "mlp", "hidden": 8, "activation": "tanh"}, "8 tanh"),
        ({"name": "mlp", "hidden": [[8, 4]], "kernel_init": "he_normal"}, "8-4 relu, he normal"),
        ("linear", "linear"),
    ],
)
def test_networks_are_named_by_their_parameters(parameters, name) -> None:
    (model,) = Component.expand(parameters)
    assert data.network_name(model) == name


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        (("none", 1.0, 0.0), "raw"),
        (("none", 0.01, 0.0), "raw × 0.01"),
        (("maxabs", 1.0, 100.0), "maxabs + 100"),
    ],
)
def test_inputs_are_named_by_their_changes(parameters, name) -> None:
    assert data.input_name(*parameters) == name


def test_limits_and_laws_are_those_of_the_study(report: Path) -> None:
    text = (report / "report.md").read_text()
    assert "Optimizer: adam; 200 updates. Learning rates: 0.0001 and 0.1" in text
    assert "target scaler: standard." in text
    assert "For decoy every sensible method has the same truth" in text
    assert "The features of uniform may differ in importance" in text
    for other in ("half a decade", "Friedman", "sines, products"):
        assert other not in text


def test_the_laws_of_the_preset_are_known() -> None:
    laws = dict.fromkeys(map(data.short, values_of(read_study("importance").blocks, "problem")))
    assert set(laws) - set(data.SYMMETRIC) == {"friedman1"}
