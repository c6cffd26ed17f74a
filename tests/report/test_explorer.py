"""The explorer: what it holds is what is stored, thinned, in one file without the network."""

import builtins
import json
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_study import LINEAR

from scaling_study.errors import StudyError
from scaling_study.report import explorer_data as module
from scaling_study.report.explorer import EXPLORER, MOST_BYTES, _start, explorer
from scaling_study.report.explorer_data import explorer_data, significant
from scaling_study.report.page import write_report


@pytest.fixture(scope="module")
def data(results):
    return explorer_data(results)


def test_every_condition_has_its_axes_outcomes_and_curves(results, data):
    assert data.conditions["c"].tolist() == list(range(len(results.conditions)))
    assert data.conditions["optimizer"].tolist() == results.conditions["optimizer"].tolist()
    assert data.conditions["setting"].str.contains("block linear").any()
    assert (data.seeds, data.traced, data.left_out) == (6, 6, 0)
    lengths = data.curves[["update", "value", "low", "high"]].map(len)
    assert (lengths.nunique(axis=1) == 1).all()
    assert lengths.to_numpy().max() <= module.MOST_POINTS


def test_outcomes_are_shares_of_the_runs(results, data):
    first = data.conditions.iloc[0]
    runs = results.runs[results.runs["condition"] == results.conditions["condition"][0]]
    assert first["reached"] == pytest.approx(100 * (runs["status"] == "converged").mean(), rel=0.01)
    lost = data.conditions[data.conditions["diverged"] == 100]
    assert lost["loss"].isna().all()


def test_curves_are_medians_over_the_seeds(results, data):
    traces = results.traces
    of = traces[(traces["condition"] == results.conditions["condition"][0])]
    of = of[(of["feature"] == 0) & (of["update"] == of["update"].max())]
    curve = data.curves[data.curves["c"] == 0].iloc[0]
    assert curve["update"][-1] == of["update"].iloc[0]
    assert curve["value"][-1] == pytest.approx(of["loss"].median(), rel=0.01)


def test_shares_of_importance_sum_to_one(data):
    assert (data.importances["share"].map(np.abs).map(np.sum) - 1).abs().max() < 0.01


@given(st.integers(2, 300), st.integers(2, 50))
def test_thinned_curves_keep_their_ends(length, points):
    kept = module._spread(np.arange(length) * 7.0, points)
    assert (kept[0], kept[-1]) == (0, length - 1)
    assert len(kept) <= points
    assert (np.diff(kept) > 0).all()


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_numbers_are_rounded_and_json(value):
    found = significant(value)
    assert json.loads(json.dumps(found)) == found
    if found is None:
        assert not np.isfinite(value)
    else:
        assert found == pytest.approx(value, rel=6e-3)


@pytest.mark.slow
def test_many_conditions_are_cut_and_the_page_says_so(results, monkeypatch):
    monkeypatch.setattr(module, "MOST_CONDITIONS", 2)
    assert explorer_data(results).left_out == len(results.conditions) - 2
    assert "further conditions are not shown" in explorer(results)


def test_it_starts_where_runs_reach_the_target():
    rows = pd.DataFrame(
        {
            "learning_rate": [0.1, 0.2, 0.2, 0.2],
            "scale_factor": [1.0, 100.0, 2.0, 1.0],
            "reached": [0.0, 90.0, 90.0, 100.0],
            **dict.fromkeys(("optimizer", "scaler", "model"), "x"),
            "setting": ["", "", "", "another"],
        }
    )
    start = _start(rows)
    assert (start["learning_rate"], start["scale_factor"]) == (0.2, 2.0)


def test_it_starts_with_the_largest_map():
    rows = pd.DataFrame(
        {
            "learning_rate": [0.1, 0.1, 0.2],
            "scale_factor": [1.0, 3.0, 1.0],
            "reached": [100.0, 0.0, 0.0],
            **dict.fromkeys(("optimizer", "scaler", "model"), "x"),
            "setting": ["single", "map", "map"],
        },
        index=[5, 6, 7],
    )
    assert _start(rows)["setting"] == "map"


def test_the_page_is_small_and_names_its_plots(results):
    html = explorer(results)
    assert len(html.encode()) < MOST_BYTES
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="https?:', html)
    for words in ("Gradient norm by feature", "Importance by method", "prefers-color-scheme: dark"):
        assert words in html


def test_conditions_that_do_not_fit_are_left_out(results, monkeypatch):
    whole = explorer(results)
    monkeypatch.setattr("scaling_study.report.explorer.MOST_BYTES", len(whole.encode()))
    smaller = explorer(results)
    assert len(smaller.encode()) < len(whole.encode())
    assert "further conditions are not shown" in smaller
    assert "further conditions are not shown" not in whole


def test_it_stands_beside_the_report_on_request(results, undrawn, tmp_path):
    folder = write_report(results, tmp_path / "report", explore=True).parent
    assert (folder / EXPLORER).exists()
    assert f'href="{EXPLORER}"' in (folder / "index.html").read_text()
    assert EXPLORER in json.loads((folder / "files.json").read_text())
    write_report(results, folder)
    assert not (folder / EXPLORER).exists()


def test_without_altair_it_says_what_to_install(results, monkeypatch, tmp_path):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name == "altair":
            raise ImportError(name, name=name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(StudyError, match=r"needs altair: pip install 'scaling-study\[explore\]'"):
        write_report(results, tmp_path / "report", explore=True)
    assert not (tmp_path / "report").exists()


def test_a_study_without_runs_cannot_be_explored(build):
    results = build({"linear": LINEAR}, seeds=(0, 2))
    results.conditions = results.conditions.head(0)
    with pytest.raises(StudyError, match="nothing to explore"):
        explorer_data(results)
