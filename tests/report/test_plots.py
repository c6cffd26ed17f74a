"""Figures of results, their comparison on the page, and what is said where nothing is stored."""

import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from scaling_study.errors import StudyError
from scaling_study.report.standard import report

RATES = {"scaler": ["none", "standard"], "learning_rate": [1e-3, 1e-2]}


def scored(row, condition):
    row["excess_share"] = 0.5 if condition.scaler.name == "none" else 0.01


@pytest.fixture(scope="module")
def several(build):
    return build({"linear": RATES}, change=scored)


@pytest.mark.parametrize("name", ["curves", "basin"])
def test_a_figure_is_drawn(several, name):
    figure = getattr(several.plot, name)()
    assert isinstance(figure, Figure)
    assert figure.axes[0].lines
    figure.canvas.draw()


@pytest.mark.parametrize(("name", "words"), [("importance", "importances"), ("basin", "several")])
def test_what_is_not_stored_is_one_line(results, name, words):
    with pytest.raises(StudyError, match=words):
        getattr(results.plot, name)()


def test_a_basin_has_a_line_for_each_scaler_over_the_rates(several):
    (axes, *others) = several.plot.basin().axes
    assert not others
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    assert lines["none (raw)"] == pytest.approx([0.5, 0.5])
    assert lines["standard"] == pytest.approx([0.01, 0.01])


def test_the_page_says_in_how_many_comparisons_scalers_differ(several):
    page = report.build(several)
    section = page.sections[0]
    assert "better than raw inputs in 2 of 2 comparisons (standard)" in section.text
    (table,) = section.items
    assert (table.frame.iloc[1::2]["differs by"] == "excess share").all()
    assert page.files["tables/scalers.csv"]["differs"].sum() == 2


def test_a_page_compares_nothing_that_was_not_measured(build):
    page = report.build(build({"network": {"scaler": "standard"}}))
    assert "tables/scalers.csv" not in page.files or not page.sections[0].heading.startswith(
        "Do the"
    )


def test_without_xarray_one_line_says_what_to_install(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    with pytest.raises(StudyError, match="pip install xarray"):
        results.to_xarray()


def test_runs_are_a_dataset_over_conditions_and_seeds(results):
    pytest.importorskip("xarray")
    found = results.to_xarray()
    row = results.runs.iloc[3]
    at = found["final_loss"].sel(condition=row["condition"], seed=row["seed"])
    assert np.isclose(at, row["final_loss"])
    assert found["scaler"].sel(condition=row["condition"]) == row["scaler"]
