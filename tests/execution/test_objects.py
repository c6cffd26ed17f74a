"""Python objects in place of names: what is trained with them, and what others can do with it."""

import json
import subprocess
import sys

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest
from flax import nnx
from sklearn.preprocessing import RobustScaler

import scaling_study
from scaling_study.errors import StudyError
from scaling_study.report.page import write_report
from scaling_study.storage.reader import status

random = np.random.default_rng(0)
X = random.normal(size=(40, 3)) * [1, 10, 100]
Y = X @ [3.0, 0.2, 0.01] + 0.1 * random.normal(size=40)
SHORT = {"problem": (X, Y), "epochs": 2, "target_scaler": "standard"}


def momentum(learning_rate):
    return optax.sgd(learning_rate, momentum=0.9)


class Linen(nn.Module):
    width: int = 3

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))[..., 0]


class Nnx(nnx.Module):
    def __init__(self, features, *, rngs, width=3):
        self.first = nnx.Linear(features, width, rngs=rngs)
        self.last = nnx.Linear(width, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))[..., 0]


class Dropped(nnx.Module):
    def __init__(self, features, *, rngs):
        self.last, self.drop = nnx.Linear(features, 1, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, x):
        return self.last(self.drop(x))[..., 0]


def run(folder, **changes):
    return scaling_study.run({**SHORT, **changes}, seeds=range(2), output_dir=folder)


def test_an_object_trains_as_what_it_names(tmp_path):
    axes = {
        "optimizer": [momentum, {"name": "sgd", "momentum": 0.9}],
        "scaler": [RobustScaler(), "robust"],
    }
    runs = run(tmp_path, **axes).runs
    losses = runs.pivot_table("final_loss", "seed", ["optimizer", "scaler"], observed=True)
    assert losses.shape == (2, 4)
    assert np.ptp(losses.to_numpy(), axis=1) == pytest.approx(0, abs=1e-4)


# How a module was given is nothing to its importances: those of one of either kind are enough.
@pytest.mark.sweep(2)
@pytest.mark.parametrize(
    ("model", "record"),
    [
        (Linen(width=4), "importances"),
        (Nnx, "importances"),
        ({"name": Nnx, "width": 4}, "standard"),
        (lambda n, rngs: Nnx(n, rngs=rngs), "standard"),
    ],
)
def test_a_flax_module_of_either_kind_is_trained(model, record, tmp_path):
    results = run(tmp_path, model=model, record=record, learning_rate=0.01)
    assert not results.failures()
    losses = results.runs["final_loss"]
    assert losses.nunique() == 2  # seeds start apart
    assert (losses < results.runs["initial_loss"]).all()
    if record == "importances":
        assert results.features["share_permutation"].notna().all()


def test_nnx_computes_what_its_module_does():
    from scaling_study.engine.split_module import SplitModule

    module, key = Nnx(3, rngs=nnx.Rngs(7)), nnx.Rngs(7)
    split, x = SplitModule(Nnx), jnp.asarray(X, jnp.float32)
    parameters = {"params": nnx.to_pure_dict(nnx.state(module, nnx.Param))}
    assert split.apply(parameters, x) == pytest.approx(module(x))
    drawn = split.init(key(), x)["params"]["first"]["kernel"]
    assert drawn.shape == (3, 3)


@pytest.mark.parametrize(
    ("model", "words"),
    [(Nnx(3, rngs=nnx.Rngs(0)), "give its class"), (Dropped, "state beside its parameters")],
)
def test_a_module_that_is_no_pure_function_is_one_line(model, words, tmp_path):
    with pytest.raises(StudyError, match=words) as caught:
        run(tmp_path, model=model)
    assert "\n" not in str(caught.value)


SCRIPT = """
import sys, optax, pandas as pd, scaling_study

def mine(learning_rate):
    return optax.sgd(learning_rate)

frame = pd.DataFrame({"a": [k * k for k in range(40)], "b": [k % 7 for k in range(40)]})
frame["y"] = frame["a"] + frame["b"]
study = {
    "problem": {"table": frame, "target": "y"},
    "optimizer": [mine, lambda rate: optax.adam(rate)],
    "scaler": ["none", "standard"],
    "epochs": 2,
}
scaling_study.run(study, seeds=2, output_dir=sys.argv[1])
"""


@pytest.mark.slow
def test_another_process_reads_what_objects_of_a_script_made(tmp_path):
    folder, file = tmp_path / "results", tmp_path / "script.py"
    file.write_text(SCRIPT)
    for _ in range(2):  # the second finds all of it there
        subprocess.run([sys.executable, str(file), str(folder)], check=True, timeout=300)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["summary"]["runs_trained"] == 0
    assert status(folder).complete
    results = scaling_study.load(folder)
    assert len(results.runs) == 8
    assert set(results.features["feature"]) == {"a", "b"}
    assert write_report(results, tmp_path / "report").exists()
    with pytest.raises(StudyError, match=r"data frame of another process"):
        scaling_study.run(results.study, seeds=4, output_dir=folder)


@pytest.mark.slow  # two studies of eight programs
def test_a_diagnosis_takes_objects(tmp_path):
    frame = pd.DataFrame(X, columns=list("abc")).assign(y=Y)
    found = scaling_study.diagnose(
        frame,
        target="y",
        optimizers=[momentum],
        scalers=[RobustScaler()],
        model=Linen(),
        splits=4,
        updates=20,
        output_dir=tmp_path / "own",
    )
    assert set(found.scores["model"]) == {"linear", "test_objects:Linen"}
    assert len(found.scores) == 8  # models, scalers and rates
    assert len(found.answer) == 3


def test_a_ranking_takes_objects(tmp_path):
    ranked = scaling_study.rank(momentum, problems=["linear-2"], output_dir=tmp_path / "rank")
    assert any("test_objects" in str(name) for name in ranked["optimizer"])
    assert "adam" in set(ranked["optimizer"])


def test_words_are_short_and_pages_are_whole(tmp_path):
    results = run(tmp_path, scaler=["none", "standard"])
    for shown in (results, results.study):
        assert len(repr(shown)) < 200
        assert "<table" in shown._repr_html_()
