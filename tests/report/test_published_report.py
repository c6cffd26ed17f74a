"""The report on published results: from stored runs alone, whole, and honest about a lack."""

import copy
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from changed import replace_table
from processes import command, python

import scaling_study
from scaling_study.analysis.replication import BACKPROP, HOLDS, REPRODUCED
from scaling_study.report.page import write_report
from scaling_study.storage.results import Results
from scaling_study.storage.schema import FIT_COLUMNS

CENTRING: dict[str, Any] = {
    "problem": "gaussian",
    "design": "U",
    "offset": [0.0, 3.0],
    "scaler": ["none", "minmax", "center", "standard"],
    "optimizer": "sgd",
    "sampling": "full",
    "learning_rate": [0.02, 0.05, 0.1, 0.3, 0.5],
    "updates": 3000,
    "dtype": "float64",
}
STUDY: dict[str, Any] = {
    "name": "checked",
    "seeds": "39:45",
    "report": "published",
    "blocks": {"full-batch": CENTRING},
    "estimators": {
        "wine-knn": {"dataset": "wine", "estimator": "knn"},
        "wine-svm-stopped": {
            "dataset": "wine",
            "estimator": {"name": "linear-svm", "max_iter": 1000},
        },
    },
}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    folder = tmp_path_factory.mktemp("published") / "checked"
    return scaling_study.run(STUDY, output_dir=folder, devices=1)


@pytest.fixture(scope="module")
def report(results: Results, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(results, tmp_path_factory.mktemp("reports") / "checked").parent


def test_every_fit_is_kept(results: Results) -> None:
    fits = results.estimators
    assert set(fits) == set(FIT_COLUMNS)
    assert len(fits) == 2 * 2 * 6
    assert set(fits["seed"]) == set(range(39, 45))
    assert results.manifest["estimator_seconds"] > 0


def test_running_again_fits_what_is_missing_alone(results: Results, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(results.folder, tmp_path / "copy"))
    before = pd.read_parquet(folder / "estimators.parquet")
    marked = before.assign(accuracy=before["accuracy"] - 1)  # to see which rows are kept
    replace_table(folder / "estimators.parquet", marked.to_parquet())
    more = scaling_study.run(STUDY, seeds="38:45", output_dir=folder, devices=1)
    kept, new = (more.estimators["seed"] != 38, more.estimators["seed"] == 38)
    assert new.sum() == 4
    assert (more.estimators.loc[kept, "accuracy"] <= 0).all()
    assert (more.estimators.loc[new, "accuracy"] > 0).all()


def test_another_estimator_is_another_study(results: Results) -> None:
    tables = {**STUDY["estimators"], "wine-svm": {"dataset": "wine", "estimator": "linear-svm"}}
    with pytest.raises(scaling_study.StudyError, match=r"holds another study \(estimators"):
        scaling_study.run({**STUDY, "estimators": tables}, output_dir=results.folder, devices=1)


def test_the_table_has_what_was_printed_and_ours(report: Path) -> None:
    table = pd.read_csv(report / "published.csv", dtype={"published": str})
    assert list(table)[:6] == [
        *("source", "quantity", "published", "ours", "interval", "verdict"),
    ]
    assert table["verdict"].notna().all()
    rows = table[table["measured"] == "the published split"]
    assert list(rows["published"]) == ["0.593", "0.981", "0.741", "0.963"]
    assert set(rows["verdict"]) == {REPRODUCED}
    assert set(table["comparison"]) - {"full-batch"} == {"wine-knn", "wine-svm-stopped"}


def test_centring_holds_and_is_what_theory_says(report: Path) -> None:
    table = pd.read_csv(report / "published.csv")
    ratios = table[table["source"] == BACKPROP].set_index("quantity")
    assert len(ratios) == 4
    assert set(ratios["verdict"]) == {HOLDS}
    (drawn,) = (report / "tables" / "figures").glob("*-centring.csv")
    times = pd.read_csv(drawn).set_index(["scaler", "offset"])
    np.testing.assert_allclose(times["value"], times["predicted"], rtol=1e-3)
    over = times.loc[("none", 3.0), "value"] / times.loc[("none", 0.0), "value"]
    assert ratios["value"].iloc[0] == pytest.approx(over)
    assert over > 5


def test_page_and_text_say_the_same_and_name_what_is_there(report: Path) -> None:
    html, text = ((report / name).read_text() for name in ("index.html", "report.md"))
    assert "4 of 4 accuracies are reproduced to the digits printed" in html
    assert "4 of 4 accuracies are reproduced to the digits printed" in text
    for figure in (report / "figures").glob("*.svg"):
        assert figure.stem in html
        assert figure.stem in text
    for number in ("54 rows", "solver had converged", "Nadeau and Bengio"):
        assert number in text
    assert not re.search(r"\b(nan|None|inf)\b", text)


def test_a_study_without_estimators_speaks_of_centring_alone(
    results: Results, tmp_path: Path
) -> None:
    other = copy.copy(results)
    other.study = replace(results.study, estimators={})
    text = (write_report(other, tmp_path / "r").parent / "report.md").read_text()
    assert "Efficient BackProp" in text
    assert "Pinheiro" not in text
    assert "Nadeau" not in text


def test_the_command_line_runs_it_and_reports_without_jax(results: Results, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] in ('jax', 'jaxlib', 'flax', 'optax'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from scaling_study.cli.app import main\n"
        f"main(['report', {str(results.folder)!r}, '-o', {str(tmp_path / 'r')!r}])\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "r" / "published.csv").exists()


def test_a_wrong_estimator_is_one_line_on_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('[estimators.a]\ndataset = "wine"\nestimator = "knm"\n')
    done = command("run", str(file), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "unknown estimator 'knm'; did you mean 'knn'?" in done.stderr
