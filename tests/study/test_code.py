"""Objects of Python as components: their names, and what identifies them."""

import functools
import importlib
import itertools
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from scaling_study.errors import CodeError, StudyError
from scaling_study.storage.provenance import code_digests
from scaling_study.study import code
from scaling_study.study.component import Component
from scaling_study.study.problems import Problem, article
from scaling_study.study.scalers import SCALERS
from scaling_study.study.study import read_seeds, read_study

MODULE = """
import math
from functools import partial

RATE = 0.5
TABLE = {}
TABLE["a"] = 1


def helper(x):
    return x * RATE


def factory(learning_rate, scale=2.0):
    return helper(learning_rate) * scale + TABLE["a"]


def other(x):
    return math.sqrt(x)
"""
EDITS = {  # edits of what `factory` is and calls
    "its own body": ("* scale +", "* scale -"),
    "a function it calls": ("x * RATE", "x + RATE"),
    "a constant of that function": ("RATE = 0.5", "RATE = 0.25"),
    "a table it reads": ('TABLE["a"] = 1', 'TABLE["a"] = 2'),
    "its default": ("scale=2.0", "scale=3.0"),
}
ELSEWHERE = {
    "another function": ("math.sqrt(x)", "math.sqrt(x + 1)"),
    "an import": ("from functools import partial\n", ""),
    "a comment": ("def factory", "# a word\ndef factory"),
    "the layout": ("x * RATE", "(x  *  RATE)"),
    "a new function": ("RATE = 0.5", "RATE = 0.5\n\ndef more():\n    return 1\n"),
}
names = itertools.count()


def digest_of(text, folder, monkeypatch) -> str:
    name = f"own_module_{next(names)}"
    (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    importlib.invalidate_caches()
    return code_digests([Component(f"{name}:factory")])[f"{name}:factory"]


@pytest.mark.parametrize("what", [*EDITS, *ELSEWHERE])
def test_the_identity_of_code_is_of_what_it_is_and_calls(what, tmp_path, monkeypatch):
    old, new = (EDITS | ELSEWHERE)[what]
    assert MODULE.count(old) >= 1
    before = digest_of(MODULE, tmp_path, monkeypatch)
    after = digest_of(MODULE.replace(old, new), tmp_path, monkeypatch)
    assert (before != after) == (what in EDITS)


def made_here(scale):
    def factory(learning_rate):
        return learning_rate * scale

    return factory


def test_an_object_of_this_process_is_identified_by_its_source_and_what_it_holds():
    one, same, other = (Component.expand(made_here(scale))[0] for scale in (2.0, 2.0, 3.0))
    assert one == same != other
    assert one.resolve("optimizer", {})(1.0) == 2.0
    assert other.resolve("optimizer", {})(1.0) == 3.0
    assert Component.expand(one.plain()) == [one]


def test_two_lambdas_on_a_line_differ():
    one, other = (Component.expand(f)[0] for f in (lambda x: x + 1, lambda x: x + 2))
    assert one != other
    assert str(one).startswith("lambda@")


def test_an_object_of_another_process_is_said_to_be_one():
    with pytest.raises(CodeError, match=r"another process.*define it in a module"):
        Component("__main__:mine@000000000000").resolve("optimizer", {})


def test_what_nothing_identifies_is_refused():
    file = sys.stdout

    def factory(learning_rate):
        return file

    with pytest.raises(StudyError, match="whose content cannot be known"):
        Component.expand(factory)


@pytest.mark.parametrize(
    ("value", "component"),
    [
        (article, Component("scaling_study.study.problems:article")),
        (
            functools.partial(article, samples=7),
            Component("scaling_study.study.problems:article", (("samples", 7),)),
        ),
        (StandardScaler, Component("sklearn.preprocessing:StandardScaler")),
        (StandardScaler(), Component("sklearn.preprocessing:StandardScaler")),
        (
            QuantileTransformer(n_quantiles=20),
            Component("sklearn.preprocessing:QuantileTransformer", (("n_quantiles", 20),)),
        ),
        (
            {"name": article, "samples": 9},
            Component("scaling_study.study.problems:article", (("samples", 9),)),
        ),
    ],
)
def test_what_can_be_imported_is_named_by_where_from(value, component):
    assert Component.expand(value) == [component]


def test_parameters_of_an_object_are_axes():
    cells = Component.expand({"name": article, "samples": [7, 9]})
    assert [dict(cell.parameters)["samples"] for cell in cells] == [7, 9]


def test_a_transformer_of_several_parts_is_fitted_anew_each_time():
    component = Component.expand(make_pipeline(StandardScaler(), StandardScaler()))[0]
    one, other = (component.build("scaler", SCALERS) for _ in range(2))
    assert one is not other
    assert one.fit_transform([[1.0], [3.0]]).tolist() == [[-1.0], [1.0]]


class Optax:
    """What Optax returns has these two."""

    init = update = None


@pytest.mark.parametrize(
    ("value", "words"), [(Optax(), "learning rate already"), (3, "neither a name"), (None, "name")]
)
def test_what_is_no_component_is_one_line(value, words):
    with pytest.raises(StudyError, match=words):
        Component.expand(value)


X = np.arange(40.0).reshape(20, 2) ** 2
FRAME = pd.DataFrame(X, columns=["a", "b"]).assign(target=X[:, 0])


@pytest.mark.parametrize(
    "problem",
    [
        (X, X[:, 0]),
        {"table": (X, X[:, 0])},
        {"table": FRAME, "target": "target"},
        {"table": FRAME, "target": "target", "drop": ("b",)},
    ],
)
def test_data_are_a_problem_of_a_study(problem):
    study = read_study({"problem": problem})
    (grid,) = study.blocks.values()
    assert grid["design"] == ["U"]
    assert grid["problem"][0].is_table
    assert read_study(study).blocks == study.blocks


def test_a_frame_without_a_target_is_one_line():
    with pytest.raises(StudyError, match='"target"'):
        read_study({"problem": FRAME})


def test_a_problem_that_is_made_is_a_problem_of_a_study():
    ones = np.ones(2)
    problem = Problem(lambda seed: (X, X[:, 0]), ones, ones, scaled_feature=1)
    (grid,) = read_study({"problem": problem}).blocks.values()
    assert grid["problem"][0].build("problem", {}).draw(0)[0] is X


def test_seeds_in_any_form_are_the_same():
    assert {read_seeds(form) for form in (10, range(10), "0:10", (0, 10))} == {(0, 10)}


def test_identity_does_not_depend_on_the_process():
    first = code.digest(made_here(2.0))
    assert first == code.digest(made_here(2.0)) == code.digest(made_here(2.0))
