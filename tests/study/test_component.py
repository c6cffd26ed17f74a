"""Components: how they are read, written, named in errors, and built."""

import math
import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from scaling_study.study.component import Component
from scaling_study.study.problems import PROBLEMS, article
from scaling_study.study.scalers import AFFINE, SCALERS, TRANSFORMERS

REGISTRIES = {"problem": PROBLEMS, "scaler": SCALERS}
ENTRIES = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
SCALARS = st.one_of(st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), NAMES)
FROZEN = st.recursive(
    SCALARS, lambda inner: st.lists(inner, min_size=1, max_size=3).map(tuple), max_leaves=5
)
PARAMETERS = st.dictionaries(NAMES.filter(lambda key: key != "name"), FROZEN, max_size=3)
COMPONENTS = st.builds(
    lambda name, parameters: Component(name, tuple(sorted(parameters.items()))),
    NAMES,
    PARAMETERS,
)


@given(COMPONENTS)
def test_plain_is_read_back_by_expand(component):
    assert Component.expand(component.plain()) == [component]


@given(COMPONENTS)
def test_plain_survives_toml(component):
    text = tomli_w.dumps({"value": component.plain()})
    assert Component.expand(tomllib.loads(text)["value"]) == [component]


@given(
    st.dictionaries(
        NAMES.filter("name".__ne__), st.lists(SCALARS, min_size=1, max_size=3), max_size=4
    )
)
def test_lists_expand_to_their_product(axes):
    cells = Component.expand({"name": "adam", **axes})
    assert len(cells) == math.prod(len(values) for values in axes.values())
    for cell in cells:
        assert list(dict(cell.parameters)) == sorted(axes)
        assert all(value in axes[key] for key, value in cell.parameters)


def test_a_scalar_is_a_list_of_one():
    assert Component.expand({"name": "adam", "eps": 1e-7}) == Component.expand(
        {"name": "adam", "eps": [1e-7]}
    )


def test_a_list_of_lists_is_an_axis_of_lists():
    cells = Component.expand({"name": "mlp", "hidden": [[16, 16], [8]]})
    assert [cell.parameters for cell in cells] == [(("hidden", (16, 16)),), (("hidden", (8,)),)]


def test_the_order_of_the_keys_does_not_matter():
    one = Component.expand({"name": "adam", "b1": [0.8, 0.9], "eps": [1e-7, 1e-8]})
    other = Component.expand({"eps": [1e-7, 1e-8], "b1": [0.8, 0.9], "name": "adam"})
    assert one == other


def test_text_shows_the_parameters():
    assert str(Component("adam")) == "adam"
    assert str(Component("adam", (("b1", 0.9), ("eps", 1e-7)))) == "adam(b1=0.9, eps=1e-07)"


@pytest.mark.parametrize(
    "value", ["", 3, 0.5, None, True, [], {}, {"eps": 1}, {"name": 3}, {"name": ""}, b"adam"]
)
def test_what_is_neither_a_name_nor_a_table_is_refused(value, refused):
    refused(lambda: Component.expand(value), repr(value))


def test_a_parameter_without_values_is_refused(refused):
    refused(lambda: Component.expand({"name": "adam", "eps": []}), "eps")


def test_a_table_as_a_parameter_is_refused(refused):
    refused(lambda: Component.expand({"name": "adam", "eps": {"value": 1}}), "eps")


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_an_unknown_name_suggests_the_nearest(kind, name, refused):
    wrong = name[:-1]
    refused(lambda: Component(wrong).build(kind, REGISTRIES[kind]), kind, repr(wrong), repr(name))


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("mine.clip_adam", "mine:clip_adam"),
        ("my.package.clip_adam", "my.package:clip_adam"),
        ("mine.py:clip_adam", "mine:clip_adam"),
        ("./mine.py:clip_adam", "mine:clip_adam"),
        ("my/package.py:clip_adam", "my.package:clip_adam"),
    ],
)
@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_mistyped_reference_is_told_the_form_to_write(kind, name, right, refused):
    message = refused(lambda: Component(name).build(kind, REGISTRIES[kind]), kind, repr(name))
    assert message.endswith(f"package.module:name, here {right}")


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_name_near_none_lists_them_all(kind, refused):
    refused(lambda: Component("@@@@").build(kind, REGISTRIES[kind]), *REGISTRIES[kind])


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_wrong_parameter_suggests_the_nearest(name, refused):
    wrong = Component(name, (("smaples", 10),))
    refused(lambda: wrong.build("problem", PROBLEMS), repr(name), "'smaples'", "'samples'")


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_wrong_parameter_of_a_transformer_is_refused(name, refused):
    wrong = Component(name, (("no_such_parameter", 10),))
    refused(lambda: wrong.build("scaler", SCALERS), name, "no_such_parameter")


def test_a_components_parameters_win_over_the_callers():
    component = Component("dictionary", (("a", 1),))
    assert component.build("thing", {"dictionary": lambda **more: more}, a=2, b=3) == {
        "a": 1,
        "b": 3,
    }


@pytest.mark.parametrize("name", AFFINE)
def test_resolve_returns_the_registrys_own_entry(name):
    assert Component(name).resolve("scaler", SCALERS) is AFFINE[name]


def test_a_reference_is_imported():
    reference = Component("scaling_study.study.problems:article", (("samples", 7),))
    assert reference.resolve("problem", {}) is article
    assert reference.build("problem", {}).draw(0)[0].shape == (7, 2)


def test_a_reference_without_a_signature_is_called():
    assert Component("builtins:dict", (("a", 1),)).build("thing", {}) == {"a": 1}


@pytest.mark.parametrize(
    "name",
    [
        "no_such_module_at_all:thing",
        "scaling_study.study.problems:articel",
        "scaling_study.no_such_module:thing",
        ":thing",
        "math:",
        ":",
        ".relative:thing",
        "math:pi",
    ],
)
def test_a_reference_that_leads_nowhere_is_refused(name, refused):
    refused(lambda: Component(name).build("problem", PROBLEMS), "problem", repr(name))
