"""The one error: a line that says what is wrong and what would be right."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_study.analysis.claims import QUANTIFIERS
from scaling_study.analysis.metrics import MEASURES
from scaling_study.engine.models import ACTIVATIONS, INITIALIZERS, MODELS
from scaling_study.engine.optimizers import OPTIMIZERS
from scaling_study.errors import RENAMED, StudyError, unknown
from scaling_study.study.problems import PROBLEMS
from scaling_study.study.scalers import SCALERS
from scaling_study.study.study import AXES, presets

REGISTRIES = {
    "activation": ACTIVATIONS,
    "initializer": INITIALIZERS,
    "key": AXES,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "preset": presets(),
    "problem": PROBLEMS,
    "scaler": SCALERS,
}
NAMES = [(kind, name) for kind, known in REGISTRIES.items() for name in known]
few = settings(max_examples=10, deadline=None, derandomize=True, database=None)


@pytest.mark.parametrize(("kind", "name"), NAMES, ids="-".join)
@few
@given(data=st.data())
def test_a_name_with_a_letter_too_many_suggests_the_one_meant(kind, name, data):
    place = data.draw(st.integers(0, len(name)))
    wrong = name[:place] + data.draw(st.sampled_from("qxz")) + name[place:]
    assert f"did you mean {name!r}?" in str(unknown(kind, wrong, REGISTRIES[kind]))


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_name_like_none_of_them_lists_them_all_in_order(kind):
    message = str(unknown(kind, "0000", REGISTRIES[kind]))
    assert message.endswith("known: " + ", ".join(sorted(REGISTRIES[kind])))


@few
@given(name=st.one_of(st.text(), st.integers(), st.none(), st.lists(st.text())))
def test_the_error_is_one_line_that_quotes_what_was_given(name):
    error = unknown("scaler", name, SCALERS)
    assert isinstance(error, StudyError)
    assert isinstance(error, ValueError)
    assert len(str(error).splitlines()) == 1
    assert str(error).startswith(f"unknown scaler {name!r}; ")


def test_the_known_names_may_be_told_once():
    assert "known: a, b" in str(unknown("thing", "zzz", iter("ba")))


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_earlier_name_says_what_it_is_called_now(old, new):
    assert str(unknown("key", old, [new, "other"])).endswith(f"it is now called {new!r}")
    assert new in AXES or new in MEASURES or new in QUANTIFIERS
