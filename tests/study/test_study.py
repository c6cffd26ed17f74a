"""The study file: what is accepted, what is refused, and in which words."""

import subprocess
import sys
import tomllib
from dataclasses import MISSING, fields

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from scaling_study.errors import StudyError
from scaling_study.study import tables
from scaling_study.study.axes import LATER_AXES
from scaling_study.study.component import Component
from scaling_study.study.conditions import Condition, expand, group
from scaling_study.study.problems import PROBLEMS
from scaling_study.study.scalers import AFFINE, SCALERS
from scaling_study.study.study import AXES, parse, presets, read_seeds, read_study

COMPONENT_AXES = [
    key for key, axis in AXES.items() if axis.read in (Component.expand, tables.expand)
]
POSITIVE_AXES = ["scale_factor", "learning_rate", "tolerance", "target_loss"]
PENALTY_AXES = ["l1_penalty", "l2_penalty"]
COUNT_AXES = ["batch_size", "epochs", "updates"]
CHOICE_AXES = ["design", "framework", "sampling", "dtype", "objective", "start"]
STREAM_AXES = ["data_seed", "init_seed", "order_seed"]


def component(names, **parameters):
    """Names alone, and tables of a name and parameters that may be lists."""
    tables = st.fixed_dictionaries({"name": st.sampled_from(sorted(names))}, optional=parameters)
    return st.sampled_from(sorted(names)) | tables


def one_or_more(values):
    return values | st.lists(values, min_size=1, max_size=3, unique=True)


POSITIVE = st.floats(1e-300, 1e300) | st.integers(1, 10**6)
COUNT = st.integers(1, 10**6)
STREAM = st.just("vary") | st.integers(0, 2**31 - 1)
RATE = st.floats(1e-12, 1)
VALID = {
    "problem": component(PROBLEMS, samples=one_or_more(COUNT), noise=one_or_more(RATE)),
    "design": st.sampled_from("FU"),
    "scale_factor": POSITIVE,
    "offset": st.floats(-1e300, 1e300) | st.integers(-(10**9), 10**9),
    "scaler": component(SCALERS),
    "target_scaler": component(AFFINE),
    "model": component(["linear", "mlp"], hidden=st.just([[8, 8], [4]]) | one_or_more(COUNT)),
    "framework": st.sampled_from(["keras", "torch", "optax"]),
    "optimizer": component(["adam", "sgd", "my.own:thing"], eps=one_or_more(RATE), b1=RATE),
    "learning_rate": POSITIVE,
    "l1_penalty": st.just(0) | POSITIVE,
    "l2_penalty": st.just(0) | POSITIVE,
    "batch_size": COUNT,
    "sampling": st.sampled_from(["reshuffled", "replacement", "full"]),
    "epochs": COUNT,
    "updates": st.just("none") | COUNT,
    "dtype": st.sampled_from(["float32", "float64"]),
    "objective": st.sampled_from(["auto", "moments", "samples"]),
    "data_seed": STREAM,
    "init_seed": STREAM,
    "order_seed": STREAM,
    "tolerance": POSITIVE,
    "target_loss": st.just("none") | POSITIVE,
    "start": st.just("parameters"),  # function depends on model and scaler
}
GRIDS = st.fixed_dictionaries(
    {},
    optional={
        key: values | st.lists(values, min_size=1, max_size=3) for key, values in VALID.items()
    },
)
BLOCKS = st.dictionaries(st.from_regex(r"[a-z0-9_. -]{1,8}", fullmatch=True), GRIDS, min_size=1)
STUDIES = st.fixed_dictionaries(
    {"blocks": BLOCKS},
    optional={
        "name": st.from_regex(r"[A-Za-z0-9_-]*[A-Za-z0-9]", fullmatch=True),
        "title": st.text(st.characters(codec="utf-8")),
        "description": st.text(st.characters(codec="utf-8")),
        "record": st.sampled_from(["standard", "curves"]),
        "seeds": st.integers(1, 2**31) | st.sampled_from(["0:16", "7:1000", [3, 5]]),
    },
)


def accepted(raw):
    """Parse; a list may name one value twice, which is refused and not what is tested."""
    try:
        return parse(raw)
    except StudyError as error:
        assert "more than once" in str(error)  # noqa: PT017
        return None


def short(value: object) -> str:
    """Name a test by its value, were it a number of 400 digits."""
    return repr(value)[:30]


def grid(raw=None, settings=()):
    return read_study(raw or {}, list(settings)).blocks["main"]


# Reading and writing ------------------------------------------------------------------------


def test_every_axis_has_a_strategy():
    assert VALID.keys() == AXES.keys()


@given(STUDIES)
def test_a_study_is_what_its_text_says(raw):
    study = accepted(raw)
    if study is not None:
        text = study.to_toml()
        assert parse(tomllib.loads(text)) == study
        assert parse(tomllib.loads(text)).to_toml() == text
        assert read_study(study) == study


@given(GRIDS)
def test_top_level_axes_hold_for_every_block(axes):
    study, spelt = (
        accepted({"name": "x", **axes, "blocks": {"a": {}, "b": {}}}),
        accepted({"name": "x", "blocks": {"a": axes, "b": axes}}),
    )
    assert study == spelt


@given(GRIDS, GRIDS)
def test_a_blocks_own_axes_win(everywhere, own):
    study = accepted({"name": "x", **everywhere, "blocks": {"a": own}})
    budget = {"epochs", "updates"}
    if budget & own.keys():
        everywhere = {key: value for key, value in everywhere.items() if key not in budget}
    assert study == accepted({"name": "x", "blocks": {"a": {**everywhere, **own}}})


def test_a_study_is_not_changed_by_reading():
    raw = {"scaler": ["none", "standard"], "blocks": {"a": {"epochs": 3}}}
    before = repr(raw)
    read_study(raw, ["epochs=5", "blocks.a.learning_rate=1"])
    assert repr(raw) == before


# Defaults -----------------------------------------------------------------------------------


def test_a_study_without_blocks_has_one_of_every_default():
    blocks = parse({}).blocks
    assert list(blocks) == ["main"]
    assert list(blocks["main"]) == list(AXES)
    assert all(len(values) == 1 for values in blocks["main"].values())


@pytest.mark.parametrize("key", AXES)
def test_a_default_is_what_its_axis_reads(key):
    assert parse({}).blocks == parse({key: AXES[key].default}).blocks


OTHER = {
    "problem": "uniform",
    "design": "U",
    "scale_factor": 7.0,
    "offset": -3.0,
    "scaler": "robust",
    "target_scaler": "standard",
    "model": "mlp",
    "framework": "torch",
    "optimizer": "sgd",
    "learning_rate": 0.5,
    "l1_penalty": 0.25,
    "l2_penalty": 0.125,
    "batch_size": 7,
    "sampling": "full",
    "epochs": 11,
    "updates": 44,
    "dtype": "float64",
    "objective": "samples",
    "data_seed": 42,
    "init_seed": 43,
    "order_seed": 44,
    "tolerance": 0.25,
    "target_loss": 5.0,
    "start": "function",
}


@pytest.mark.parametrize("key", AXES)
def test_a_default_stands_in_axes_and_nowhere_else(key, monkeypatch):
    expected = expand(parse({key: OTHER[key]}))
    monkeypatch.setitem(AXES, key, AXES[key]._replace(default=OTHER[key]))
    assert expand(parse({})) == expected


def test_later_axes_are_left_out_at_their_defaults():
    assert all(AXES[key].default == value for key, value in LATER_AXES.items())


def test_a_condition_has_no_defaults_of_its_own():
    assert all(field.default is MISSING for field in fields(Condition))


# Keys ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", AXES)
@pytest.mark.parametrize("in_block", [False, True])
def test_an_unknown_key_suggests_the_nearest(key, in_block, refused):
    wrong = {key[:-1]: 1}
    raw = {"blocks": {"first": wrong}} if in_block else {**wrong, "blocks": {"first": {}}}
    words = ["some.toml", repr(key[:-1]), f"mean {key!r}"]
    refused(lambda: parse(raw, "some.toml"), *words, *(["blocks.first"] if in_block else []))


@pytest.mark.parametrize("key", ["name", "title", "description", "seeds", "record", "blocks"])
def test_a_studys_own_key_in_a_block_is_told_to_belong_above(key, refused):
    message = refused(
        lambda: parse({"blocks": {"first": {key: "x"}}}, "some.toml"), "blocks.first", repr(key)
    )
    assert f"mean {key!r}" not in message


@pytest.mark.parametrize("blocks", [3, "main", [], {}, None, {"main": 3}, {"main": []}, [{}]])
@pytest.mark.parametrize("settings", [[], ["learning_rate=1"], ["blocks.main.epochs=1"]])
def test_blocks_must_be_tables(blocks, settings, refused):
    refused(lambda: read_study({"blocks": blocks}, settings), "block")


def test_a_blocks_name_cannot_break_the_line(refused):
    refused(lambda: parse({"blocks": {"a\nb": {"learning_rate": -1}}}), "learning_rate")


@pytest.mark.parametrize("key", ["name", "title", "description"])
def test_text_must_be_text(key, refused):
    refused(lambda: parse({key: 3}, "some.toml"), "some.toml", key)


@pytest.mark.parametrize("name", ["", "a b", "../up", "a/b", ".", "a\nb", "-"])
def test_a_name_must_be_fit_for_a_folder(name, refused):
    refused(lambda: parse({"name": name}, "some.toml"), "some.toml", "name", repr(name))


@pytest.mark.parametrize("value", ["standart", 3, None, ["standard"]])
def test_an_unknown_record_is_refused(value, refused):
    refused(lambda: parse({"record": value}, "some.toml"), "some.toml", "record", "standard")


# Values -------------------------------------------------------------------------------------

NAN, INF = float("nan"), float("inf")
NO_NUMBER = [True, "fast", None, {}, [[1.0]], NAN, INF, -INF, 10**400, []]
BAD = {
    **{key: [*NO_NUMBER, 0, -1, -0.5, [1.0, 1], [0.5, -0.5]] for key in POSITIVE_AXES},
    **{key: [*NO_NUMBER, -1, -0.5, [1.0, 1]] for key in PENALTY_AXES},
    **{key: [*NO_NUMBER, 0, -1, 2.0, 0.5, [3, 3]] for key in COUNT_AXES},
    **{key: ["", "nonsense", 3, None, True, {}, [], [["F"]]] for key in CHOICE_AXES},
    **{key: ["varies", -1, 1.0, True, None, NAN, [], [3, 3], ["vary", "vary"]]
       for key in STREAM_AXES},
    **{key: ["", 3, None, {}, {"eps": 1}, [], [[]], ["x", "x"], ["x\ny", "x\ny"]]
       for key in COMPONENT_AXES},
    "offset": [*NO_NUMBER, [1.0, 1]],
}  # fmt: skip


def test_every_axis_has_bad_values():
    assert BAD.keys() == AXES.keys()


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key in BAD for value in BAD[key]], ids=short
)
def test_a_bad_value_is_refused_with_file_block_and_key(key, value, refused):
    raw = {"blocks": {"first": {}, "second": {key: value}}}
    refused(lambda: parse(raw, "some.toml"), "some.toml", "blocks.second", key)


@pytest.mark.parametrize("key", CHOICE_AXES)
def test_a_misspelt_choice_suggests_the_nearest(key, refused):
    right = AXES[key].default
    refused(lambda: parse({key: right + "x"}), key, repr(right))


@pytest.mark.parametrize("key", STREAM_AXES)
def test_a_held_stream_is_a_seed_as_any_other(key, refused):
    refused(lambda: parse({key: 2**40}), key)


VALUES = st.recursive(
    st.booleans()
    | st.integers()
    | st.floats()
    | st.dates()
    | st.text(st.characters(codec="utf-8", exclude_characters=":"), max_size=8)
    | st.sampled_from(["none", "adam", "article", "vary", "F", "a\nb"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "eps"]), inner, max_size=2)
    ),
    max_leaves=6,
)


@pytest.mark.parametrize("key", AXES)
@given(value=VALUES)
@example(value={"name": "adam", "eps": {"name": 1}})
@example(value={"name": "adam", "eps": NAN})
def test_whatever_an_axis_holds_only_a_study_error_comes_of_it(key, value):
    try:
        groups = group(expand(parse({key: value})))
        assert all(len(c.id) == 12 for own in groups for c in own.conditions)
    except StudyError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


# Seeds --------------------------------------------------------------------------------------


@given(st.integers(0, 2**31 - 2), st.integers(1, 2**20))
def test_a_range_of_seeds_can_be_written_three_ways(first, count):
    last = min(first + count, 2**31)
    assert read_seeds(f"{first}:{last}") == read_seeds([first, last]) == (first, last)
    assert read_seeds(range(first, last)) == (first, last)
    assert read_seeds(count) == (0, count)
    assert parse({}).with_seeds(f"{first}:{last}").seeds == (first, last)


def test_no_seeds_leave_a_study_as_it_is():
    study = parse({"seeds": "3:5"})
    assert study.with_seeds(None) is study


BAD_SEEDS = [
    "", ":", "4", "4:4", "5:3", "-1:3", "a:b", "1:2:3", "0:4.5", "0:1e3", f"0:{2**31 + 1}",
    0, -3, 2.5, True, None, NAN, {}, [], [1], [1, 2, 3], [3, 1], [-1, 3],
    [0.5, 4.7], [0, INF], [NAN, 3], [False, True], "9" * 5000,
]  # fmt: skip


@pytest.mark.parametrize("value", BAD_SEEDS, ids=short)
def test_bad_seeds_are_refused(value, refused):
    refused(lambda: read_seeds(value), "seeds", "A:B")


@pytest.mark.parametrize("value", ["5:3", "a:b", 0])
def test_bad_seeds_of_a_file_are_refused_with_its_name(value, refused):
    refused(lambda: parse({"seeds": value}, "some.toml"), "some.toml", "seeds")


@given(st.text())
def test_random_seeds_are_a_range_or_refused(text):
    try:
        first, last = read_seeds(text)
        assert 0 <= first < last
    except StudyError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


# Settings -----------------------------------------------------------------------------------


def written(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)


@pytest.mark.parametrize("key", AXES)
@pytest.mark.parametrize("form", ["{}={}", "blocks.main.{}={}", " {} = {} "])
def test_any_axis_can_be_set(key, form):
    expected = parse({"blocks": {"main": {key: OTHER[key]}}})
    study = read_study({"blocks": {"main": {}}}, [form.format(key, written(OTHER[key]))])
    assert expand(study) == expand(expected)


@pytest.mark.parametrize("key", AXES)
def test_a_setting_wins_over_every_block(key):
    raw = {"blocks": {"a": {key: AXES[key].default}, "b": {}}}
    for values in read_study(raw, [f"{key}={written(OTHER[key])}"]).blocks.values():
        assert values == parse({key: OTHER[key]}).blocks["main"]


def test_a_blocks_setting_leaves_the_others_alone():
    raw = {"blocks": {"a": {}, "b.c": {}}}
    study = read_study(raw, ["blocks.b.c.learning_rate=0.5"])
    assert study.blocks["a"] == parse({}).blocks["main"]
    assert study.blocks["b.c"]["learning_rate"] == [0.5]


def test_the_implied_block_can_be_set_by_the_name_that_errors_give_it():
    assert grid({}, ["blocks.main.learning_rate=0.5"])["learning_rate"] == [0.5]


def test_the_last_setting_wins():
    assert grid({}, ["learning_rate=0.1", "learning_rate=0.2"])["learning_rate"] == [0.2]


@pytest.mark.parametrize(
    ("setting", "key", "values"),
    [
        ("learning_rate=[0.1, 0.2]", "learning_rate", [0.1, 0.2]),
        ("learning_rate=0.1,0.2", "learning_rate", [0.1, 0.2]),
        ("scaler=none,standard", "scaler", [Component("none"), Component("standard")]),
        ("scaler=standard", "scaler", [Component("standard")]),
        ('scaler="standard"', "scaler", [Component("standard")]),
        ('optimizer={name = "adam", eps = 1}', "optimizer", [Component("adam", (("eps", 1),))]),
        ("design=U", "design", ["U"]),
        ("data_seed=42", "data_seed", [42]),
    ],
)
def test_a_setting_is_toml_or_bare_words(setting, key, values):
    assert grid({}, [setting])[key] == values


@pytest.mark.parametrize(
    ("setting", "attribute", "value"),
    [
        ("seeds=3:9", "seeds", (3, 9)),
        ("seeds=9", "seeds", (0, 9)),
        ("name=other", "name", "other"),
        ("title=A title", "title", "A title"),
        ("record=curves", "record", "curves"),
    ],
)
def test_a_studys_own_keys_can_be_set(setting, attribute, value):
    assert getattr(read_study({"name": "x"}, [setting]), attribute) == value


@pytest.mark.parametrize(
    "raw",
    [
        {"updates": 8},
        {"updates": [8, 16], "epochs": 7},
        {"blocks": {"main": {"updates": 8}}},
        {"updates": 8, "blocks": {"main": {"updates": 16}}},
        {"epochs": [1, 2]},
    ],
)
@pytest.mark.parametrize("place", ["", "blocks.main."])
@pytest.mark.parametrize(("budget", "updates"), [("epochs=3", 12), ("updates=20", 20)])
def test_setting_a_budget_replaces_whichever_was_there(raw, place, budget, updates):
    raw = {"blocks": {"main": {}}, **raw}
    study = read_study(raw, [place + budget])
    assert [condition.updates for condition in expand(study)] == [updates]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("", ["key=value"]),
        ("learning_rate", ["key=value"]),
        ("=3", ["key=value"]),
        ("learningrate=1", ["'learning_rate'"]),
        ("blocks=3", ["blocks.NAME.key"]),
        ("blocks.frist.epochs=1", ["block", "'first'"]),
        ("frist.epochs=1", ["block", "'first'"]),
        ("blocks.first.epoch=1", ["blocks.first", "'epochs'"]),
        ("blocks.first.=1", ["blocks.first"]),
        (".=1", ["block"]),
        ("learning_rate=", ["learning_rate"]),
        ("learning_rate=fast", ["learning_rate", "'fast'"]),
        ("learning_rate=[]", ["learning_rate"]),
        ("blocks.first.batch_size=0", ["blocks.first", "batch_size"]),
        ("seeds=3:1", ["seeds"]),
        ("epochs=" + "9" * 5000, ["epochs"]),
        ("epochs=" + "[" * 100_000, ["epochs"]),
    ],
    ids=short,
)
def test_a_bad_setting_is_refused(setting, words, refused):
    refused(lambda: read_study({"blocks": {"first": {}}}, [setting]), *words)


@given(
    st.text()
    | st.builds(
        "{}={}".format,
        st.sampled_from([*AXES, "seeds", "blocks.main.epochs"]),
        st.text(st.characters(exclude_characters=":")),
    )
)
def test_a_random_setting_is_taken_or_refused(setting):
    try:
        expand(read_study({"blocks": {"main": {}}}, [setting]))
    except StudyError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


# Files and presets --------------------------------------------------------------------------


@pytest.fixture(scope="session")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("studies") / "scratch.toml"


def test_a_file_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes('title = "Größe"\nlearning_rate = [0.1, 0.2]\n'.encode())
    for source in (path, str(path)):
        study = read_study(source)
        assert (study.name, study.title) == ("mine", "Größe")
        assert study.blocks["main"]["learning_rate"] == [0.1, 0.2]


def test_a_file_is_utf_8_wherever_it_is_read(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes('title = "Größe"\n'.encode())
    code = (
        "import sys; from scaling_study.study.study import presets, read_study;"
        "presets(); read_study('smoke'); read_study(sys.argv[1])"
    )
    warn = ["-X", "warn_default_encoding"]
    warn += ["-W", "error::EncodingWarning:scaling_study.study.study"]
    subprocess.run([sys.executable, *warn, "-c", code, str(path)], check=True)


def test_a_missing_file_is_refused(tmp_path, refused):
    path = tmp_path / "nowhere.toml"
    refused(lambda: read_study(path), str(path), "No such file")


def test_a_folder_is_no_study(tmp_path, refused):
    refused(lambda: read_study(f"{tmp_path}/"), str(tmp_path))


@pytest.mark.parametrize(
    "text",
    [
        "learning_rate = ",
        "[blocks",
        "a = 1\na = 2",
        "\x00",
        "learning_rate = 1e",
        "epochs = " + "9" * 5000,
        "epochs = " + "[" * 100_000,
    ],
    ids=short,
)
def test_malformed_toml_is_refused_with_the_file(text, scratch, refused):
    scratch.write_text(text, encoding="utf-8")
    refused(lambda: read_study(scratch), str(scratch))


def test_a_file_that_is_no_utf_8_is_refused(scratch, refused):
    scratch.write_bytes(b'title = "\xff\xfe"\n')
    refused(lambda: read_study(scratch), str(scratch))


@pytest.mark.parametrize("name", presets())
def test_a_preset_is_a_study_with_a_title(name):
    study = read_study(name)
    assert study.name == name
    assert study.title == presets()[name] != ""
    assert group(expand(study))
    assert parse(tomllib.loads(study.to_toml())) == study


@pytest.mark.parametrize("name", presets())
def test_an_unknown_preset_suggests_the_nearest(name, refused):
    refused(lambda: read_study(name[:-1]), "preset", repr(name[:-1]), repr(name))


@given(st.text() | st.text().map("{}.toml".format))
@example("a\0b.toml")
@example("\ud800.toml")
@example("a\nb")
@example("a\nb.toml")
def test_a_random_source_is_refused(text):
    assume(text not in presets())
    with pytest.raises(StudyError) as caught:
        read_study(text)
    assert len(str(caught.value).splitlines()) == 1


TOKENS = st.sampled_from(
    [*AXES, "blocks", "name", "seeds", "title", "=", "=", "=", "[", "]", "[[", "]]", "{", "}",
     "\n", "\n", "\n", ",", ".", '"', '"""', "'", "#", "-", "1", "0", "1e3", "inf", "nan", "true",
     '"adam"', '"none"', "1979-05-27", "main", " ", "\t", "\r\n", "é", "\0", "\x7f"]
)  # fmt: skip


@given(text=st.text(st.characters(codec="utf-8")) | st.lists(TOKENS, max_size=30).map("".join))
def test_random_text_is_a_study_or_refused(text, scratch):
    scratch.write_bytes(text.encode())
    try:
        expand(read_study(scratch))
    except StudyError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017


@pytest.mark.parametrize("count", [1, 2**31])
def test_a_count_of_seeds_is_a_range_from_0(count):
    assert parse({"seeds": count}).seeds == (0, count)


@pytest.mark.parametrize("seeds", [0, -1, 2**31 + 1, True, 1.0])
def test_no_other_count_is(seeds):
    with pytest.raises(StudyError, match="seeds"):
        parse({"seeds": seeds})


@pytest.mark.parametrize("report", ["sensitivity", "real-data", "published", "importance"])
def test_a_report_that_tunes_needs_four_seeds_before_anything_runs(report):
    name = f"report = '{report}': needs at least 4 seeds, half of which pick learning rates"
    with pytest.raises(StudyError, match=f"{name}; these are 3"):
        read_study(report, ["seeds=3"])
    whole = read_study(report)
    with pytest.raises(StudyError, match=f"^{report}: {name}; these are 1"):
        whole.with_seeds("7:8")
    assert whole.with_seeds("7:11").seeds == (7, 11)


def test_blocks_of_further_rates_may_be_left_out():
    preset = tomllib.loads(read_study("real-data").to_toml())
    kept = {name: own for name, own in preset["blocks"].items() if not name.endswith("-raw")}
    assert read_study({**preset, "blocks": kept}).report == "real-data"
    del kept["factor"]
    with pytest.raises(StudyError, match=r"no blocks\.factor"):
        read_study({**preset, "blocks": kept})
