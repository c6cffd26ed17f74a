"""Plans: counted without being made, and refused where they are too large to be of use."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_study.errors import StudyError
from scaling_study.study.component import Component
from scaling_study.study.conditions import Condition, expand, group
from scaling_study.study.plan import MOST_CHUNKS, check_size, plan
from scaling_study.study.study import parse, presets, read_study

SECONDS = 3.0


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """Return what a call returns, within so many seconds of a core's time."""
    begun = time.process_time()
    found = call()
    assert time.process_time() - begun < seconds
    return found


# Counts --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", presets())
def test_a_plan_counts_the_chunks_that_it_has(name):
    planned = plan(read_study(name))
    counts = {own.index: 0 for own in planned.groups}
    for chunk in planned.chunks:
        counts[chunk.group] += 1
    for own in planned.groups:
        assert own.chunk_count(planned.study.seeds) == counts[own.index]


@settings(max_examples=50, deadline=None)
@given(first=st.integers(0, 2**20), count=st.integers(1, 5000), size=st.integers(1, 2000))
def test_chunks_are_counted_as_they_are_cut(first, count, size):
    study = parse({"name": "a", "learning_rate": [1e-3, 1e-2, 1e-1]})
    for own in group(expand(study), size):
        seeds = (first, first + count)
        assert own.chunk_count(seeds) == len(list(own.chunks(seeds)))


def test_the_summary_of_a_plan_adds_up():
    planned = plan(read_study("smoke"))
    padded = sum(
        len(planned.groups[chunk.group].members(chunk)) * planned.groups[chunk.group].shape.seeds
        for chunk in planned.chunks
    )
    assert planned._padded_runs() == padded


# Bounds --------------------------------------------------------------------------------------


def test_a_hundred_thousand_conditions_are_planned_in_five_seconds():
    rates = [1e-3 * (1 + place / 1000) for place in range(1000)]
    factors = [1.0 + place for place in range(50)]
    raw = {"name": "a", "learning_rate": rates, "scale_factor": factors}
    study = parse({**raw, "scaler": ["none", "standard"]})
    planned = within(5, lambda: plan(study))
    assert len(planned.conditions) == 100_000
    within(0.5, planned.summary)


HUGE: dict[str, dict[str, Any]] = {
    "2147483648 seeds": {"seeds": "0:2147483648"},
    "a billion conditions": {
        "learning_rate": [1e-3 * (1 + place / 1000) for place in range(1000)],
        "scale_factor": [1.0 + place for place in range(1000)],
        "offset": [1.0 + place for place in range(1000)],
    },
    "a billion optimizers": {
        "optimizer": {
            "name": "adam",
            "b1": [place / 1000 for place in range(1000)],
            "b2": [place / 1000 for place in range(1000)],
            "eps": [1.0 + place for place in range(1000)],
        }
    },
    "a billion conditions in blocks": {
        "blocks": {
            f"b{block}": {"epochs": list(range(1, 1001)), "batch_size": list(range(1, 1001))}
            for block in range(1000)
        }
    },
    "many fits": {
        "seeds": "0:100000000",
        "estimators": {"a": {"dataset": "wine", "estimator": "knn"}},
    },
}


@pytest.mark.parametrize("what", HUGE)
def test_what_is_too_large_is_refused_in_one_line_and_in_time(what):
    def call() -> str:
        with pytest.raises(StudyError) as caught:
            plan(parse({"name": "huge", **HUGE[what]}))
        return str(caught.value)

    message = within(SECONDS, call)
    assert len(message.splitlines()) == 1
    assert "at most" in message


def test_the_bound_is_on_chunks_and_a_larger_chunk_lifts_it():
    study = parse({"name": "a", "seeds": (0, 2**31)})
    with pytest.raises(StudyError, match="8,388,608 chunks"):
        plan(study)
    groups = group(expand(study), 2**20)
    check_size(groups, study.seeds)
    assert groups[0].chunk_count(study.seeds) <= MOST_CHUNKS


COMMANDS = {
    "plan": ["plan", "huge.toml"],
    "run": ["run", "huge.toml"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_refuse_what_is_too_large_in_time(name, tmp_path: Path):
    (tmp_path / "huge.toml").write_text('seeds = "0:2147483648"\n', encoding="utf-8")
    arguments = [sys.executable, "-m", "scaling_study", *COMMANDS[name]]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "chunks" in line
    assert not (tmp_path / "results").exists()


# Names ---------------------------------------------------------------------------------------

NUMBERS = st.floats(1e-300, 1e300) | st.integers(1, 10).map(float)
PARAMETERS = st.dictionaries(
    st.sampled_from(["eps", "b1", "hidden", "é"]),
    st.one_of(NUMBERS, st.integers(), st.booleans(), st.text(max_size=3), st.tuples(st.integers())),
    max_size=2,
).map(lambda own: tuple(sorted(own.items())))
COMPONENTS = st.builds(Component, st.text(min_size=1, max_size=5), PARAMETERS, st.booleans())
CONDITIONS = st.builds(
    Condition,
    block=st.text(max_size=5),
    problem=COMPONENTS,
    design=st.sampled_from("FU"),
    scale_factor=NUMBERS,
    offset=NUMBERS,
    scaler=COMPONENTS,
    target_scaler=COMPONENTS,
    model=COMPONENTS,
    framework=st.just("keras"),
    optimizer=COMPONENTS,
    learning_rate=NUMBERS,
    l1_penalty=NUMBERS,
    l2_penalty=NUMBERS,
    batch_size=st.integers(1, 99),
    sampling=st.just("full"),
    updates=st.integers(1, 99),
    dtype=st.just("float32"),
    objective=st.just("auto"),
    data_seed=st.integers(0, 9) | st.just("vary"),
    init_seed=st.integers(0, 9) | st.just("vary"),
    order_seed=st.integers(0, 9) | st.just("vary"),
    tolerance=NUMBERS,
    target_loss=NUMBERS | st.just("none"),
    start=st.sampled_from(["parameters", "function"]),
)


@settings(max_examples=200, deadline=None)
@given(CONDITIONS)
def test_a_conditions_name_is_the_digest_of_its_canonical_json(condition):
    import hashlib

    named = {
        key: replace(value, allowed=True)
        for key, value in vars(condition).items()
        if isinstance(value, Component)
    }
    plain = asdict(replace(condition, **named))
    for name in named:
        del plain[name]["source"]  # where a table lies is no part of what it holds
    if plain["start"] == "parameters":  # conditions of before have no such axis
        del plain["start"]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    assert condition.id == hashlib.sha256(text.encode()).hexdigest()[:12]
