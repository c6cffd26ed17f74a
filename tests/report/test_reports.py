"""Every report that is found builds, is named nowhere else, and keeps one colour for a name."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from matplotlib.colors import to_hex
from matplotlib.legend import Legend
from tiny_study import LINEAR, Build

import scaling_study
from scaling_study import report as package
from scaling_study.report import discovery, style
from scaling_study.report.document import Figure, Report
from scaling_study.report.page import write_report
from scaling_study.report.paper import methods
from scaling_study.storage.results import Results
from scaling_study.study.conditions import Condition

FOLDER = Path(package.__path__[0])
# A diagnosis is of two studies, and is tested by itself.
NAMES = sorted(set(discovery.reports()) - {"diagnosis"})
OF_SEVERAL_RESULTS = {"comparison", "diagnosis"}
CLAIM = {"quote": "x", "measure": "last_weight_larger", "blocks": "linear", "smallest": 0.1}
TUNED = {"learning_rate": [1e-3, 1e-2, 0.1], "scale_factor": 1.0, "design": "U"}
DATA = {"epochs": 3, "scaler": ["none", "standard", "robust"], "optimizer": ["sgd", "adam"]}
REAL = {
    **{name: {"problem": "diabetes", **DATA} for name in ("regression", "trouble", "untroubled")},
    **{name: {"problem": "wine", **DATA} for name in ("classes", "trouble-classes")},
    "untroubled-classes": {"problem": "wine", **DATA},
    "digits": {"problem": "digits", **DATA},
    "factor": {"problem": "diabetes", **DATA, "scale_factor": 1000.0},
    "factor-classes": {"problem": "wine", **DATA, "scale_factor": 1000.0},
}
CENTRING = {"optimizer": "sgd", "offset": [0.0, 3.0], "scaler": ["none", "center", "standard"]}
LAW = {"name": "uniform", "samples": 32, "noise": 0.01}
# A small study for each report, whose runs are made up unless they must be trained.
STUDIES: dict[str, dict[str, Any]] = {
    "standard": {"blocks": {"linear": LINEAR}},
    "paper": {"blocks": {"linear": LINEAR}, "claims": {"C1": CLAIM}},
    "real-data": {"blocks": REAL, **TUNED},
    "sensitivity": {
        "blocks": {"main": {"optimizer": ["adam", "sgd", "adamw"], "scale_factor": [0.1, 1.0]}},
        "learning_rate": [1e-3, 1e-2, 0.1],
        "design": "U",
    },
    "published": {
        "blocks": {"full-batch": CENTRING, "minibatch": CENTRING},
        **{"problem": "gaussian", **TUNED},
    },
    "importance": {
        "blocks": {"scale": {"scale_factor": [1.0, 10.0]}, "offset": {"offset": 10.0}},
        **{"problem": LAW, "model": "linear", "learning_rate": 0.1, "updates": 50},
        **{"design": "U", "record": "importances"},
    },
    "benchmark": {
        "blocks": {
            "two": {"problem": {"name": "gaussian", "samples": 32}},
            "correlated": {"problem": {"name": "gaussian", "samples": 32, "correlation": 0.5}},
        },
        **{"model": {"name": "linear", "kernel_init": "zeros"}, "design": "U", "seeds": 16},
        **{"optimizer": ["sgd", "adam"], "scale_factor": [0.1, 1.0, 10.0], "sampling": "full"},
        **{"learning_rate": [1e-2, 0.1, 1.0], "updates": 200},
    },
}
TRAINED = ("importance", "benchmark")


def score(row: dict[str, Any], condition: Condition) -> None:
    """Give a made-up run held-out scores."""
    row["test_r2"] = 0.3 + 0.01 * row["seed"]
    row["test_accuracy"] = row["test_r2"] if condition.problem.name != "diabetes" else None


@pytest.fixture(scope="module", params=NAMES)
def results(request: pytest.FixtureRequest, build: Build, tmp_path_factory: Any) -> Results:
    name = request.param
    study = {"report": name, **STUDIES[name]} if name != "paper" else STUDIES[name]
    if name in TRAINED:
        study = {"name": "tiny", "seeds": 8, **study}
        return scaling_study.run(study, output_dir=tmp_path_factory.mktemp("runs") / "tiny")
    return build(seeds=(0, 8), change=score if name == "real-data" else None, **study)


@pytest.fixture(scope="module")
def report(results: Results) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "COVERAGE_STUDIES", 20)
        return discovery.report_of(results.study).build(results)


def figures_of(report: Report) -> list[Figure]:
    items = [item for section in report.sections for item in section.items]
    return [item for item in items if isinstance(item, Figure)]


def test_a_report_is_whole(report: Report) -> None:
    figures = figures_of(report)
    assert figures
    assert len(report.lead.split()) <= 75
    for figure in figures:
        assert figure.title
        assert figure.caption
        assert len(figure.data)
    items = [(type(item), item.name) for section in report.sections for item in section.items]
    assert len(items) == len(set(items))
    assert not re.search(r"\b(nan|inf)\b", report.lead)


def test_the_folder_lists_its_files(results: Results, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "COVERAGE_STUDIES", 20)
        folder = write_report(results, tmp_path / "report").parent
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert json.loads((folder / "files.json").read_text()) == files
    page = (folder / "index.html").read_text()
    for link in re.findall(r'(?:href|src)="([^":#]+)"', page):
        assert (folder / link).is_file(), link


def test_each_name_has_one_colour(report: Report) -> None:
    known = {
        look["label"]: to_hex(look["color"])
        for names, of in (
            (style.SCALERS, style.scaler),
            (style.OPTIMIZERS, style.optimizer),
            (style.METHODS, style.method),
        )
        for look in map(of, names)
    }
    for figure in figures_of(report):
        with matplotlib.rc_context(style.RC):
            drawing = figure.draw(figure.data)
        for legend in drawing.findobj(Legend):
            for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
                label = text.get_text()
                if label in known:
                    assert to_hex(handle.get_color()) == known[label], (figure.name, label)


def test_every_report_has_a_study_here_and_a_text_of_its_own() -> None:
    assert set(STUDIES) == set(NAMES)
    folders = {path.parent.name.replace("_", "-") for path in FOLDER.glob("*/report.md.jinja")}
    assert folders == set(NAMES) | OF_SEVERAL_RESULTS


@pytest.mark.parametrize("name", NAMES)
def test_nothing_outside_of_its_folder_registers_a_report(name: str) -> None:
    imported = f"{package.__name__}.{name.replace('-', '_')}"
    for path in FOLDER.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            names.append(getattr(node, "module", None) or "")
            assert not any(f"{found}.".startswith(f"{imported}.") for found in names), path


def test_looks_of_a_kind_differ() -> None:
    for kind, known in (
        ("scaler", style.SCALERS),
        ("optimizer", style.OPTIMIZERS),
        ("method", style.METHODS),
    ):
        looks = style.looks(kind, known)
        assert [*looks] == [*known]
        pairs = {(to_hex(look["color"]), look["marker"]) for look in looks.values()}
        assert len(pairs) == len(known)
        assert len({look["label"] for look in looks.values()}) == len(known)
