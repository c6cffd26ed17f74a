"""Claims: what a study may declare, and what is told of a wrong one."""

import json

import pytest

from scaling_study.analysis.claims import digest, read_claims, unmeasured
from scaling_study.analysis.metrics import MEASURES
from scaling_study.analysis.verdicts import judge
from scaling_study.errors import StudyError
from scaling_study.study.conditions import expand
from scaling_study.study.study import AXES, parse, read_study

GOOD = {"quote": "so", "measure": "last_weight_larger", "blocks": "main", "smallest": 0.1}


def read(**changes):
    claim = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return read_claims(parse({"claims": {"X": claim}}, "my.toml"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"qoute": "so"}, ["qoute", "quote"]), ({"quote": None}, ["quote"]), ({"quote": 3}, ["quote"]),
     ({"measure": "largr"}, ["largr", "last_weight_larger"]), ({"measure": None}, ["measure"]),
     ({"blocks": "mian"}, ["mian", "main"]), ({"by": "optimiser"}, ["optimiser", "optimizer"]),
     ({"quantifier": "every"}, ["every", "always"]), ({"direction": 1}, ["direction"]),
     ({"smallest": -1}, ["smallest"]), ({"null": "x"}, ["null"]), ({"rates": "best"}, ["best"]),
     ({"expect": "opposite"}, ["expect", "beyond"]), ({"shuffled": 1}, ["shuffled"]),
     ({"versus": {"axis": "scaler"}}, ["versus", "baseline"]), ({"where": 3}, ["where"]),
     ({"versus": {"axis": "scaler", "baseline": "none", "others": "minmax", "how": "ratio"}},
      ["ratio", "difference"]),
     ({"where": {"scalr": "none"}}, ["scalr", "scaler"]), ({"slope_on": 2}, ["slope_on"]),
     ({"control": "yes"}, ["control", "true"]), ({"reason": 3}, ["reason"]),
     ({"recorded": "keras_seedings"}, ["keras_seedings", "keras_seeding"]),
     ({"networks": 3}, ["networks", "table"]),
     ({"networks": {"blocks": "mian"}}, ["networks", "mian", "main"]),
     ({"networks": {"by": "optimiser"}}, ["networks", "optimiser"])],
)  # fmt: skip
def test_a_wrong_claim_is_one_line_that_says_what_and_where(changes, words):
    with pytest.raises(StudyError) as error:
        read(**changes)
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in ["my.toml", "claims.X", *words]), text


def test_tuned_rates_need_seeds_to_tune_on():
    study = parse({"claims": {"X": {**GOOD, "rates": "tuned"}}, "seeds": 1})
    with pytest.raises(StudyError, match="needs two seeds"):
        read_claims(study)
    assert read_claims(study.with_seeds((3, 5)))


def test_usually_is_of_half_the_runs_unless_it_says_otherwise():
    assert read(quantifier="usually")[0].null == 0.5
    assert read(quantifier="usually", null=0.75)[0].null == 0.75
    assert read(quantifier="always")[0].null == 0


def test_a_sub_table_is_the_claim_about_other_models():
    linear, networks = read(networks={"smallest": 0.2, "not_testable": "why"}, reason="so")
    assert (linear.models, linear.name, linear.smallest) == ("linear", "X", 0.1)
    assert (networks.models, networks.name, networks.smallest) == ("networks", "X-networks", 0.2)
    assert networks.quote == linear.quote
    assert networks.reason == "so"


def test_a_sub_table_can_do_without_the_comparison():
    versus = {"axis": "scaler", "baseline": "none", "others": "standard", "how": "difference"}
    linear, networks = read(versus=versus, networks={"versus": {}})
    assert linear.versus is not None
    assert networks.versus is None


def test_the_digest_is_of_the_claims_and_nothing_else():
    study = parse({"claims": {"X": GOOD}})
    assert digest(study) == digest(study.with_seeds((3, 9)))
    assert digest(study) != digest(parse({"claims": {"X": {**GOOD, "smallest": 0.2}}}))


NETWORK = {"model": "mlp", "problem": "uniform"}


@pytest.mark.parametrize("measure", sorted(MEASURES))
def test_a_measure_that_fits_no_run_is_refused_where_the_claim_is_read(measure):
    """Of a network without target, held-out rows or record, most measures are."""
    claim = {"quote": "so", "measure": measure, "blocks": "main", "smallest": 0.1}
    study = parse({"name": "x", **NETWORK, "claims": {"X": claim}})
    fits_any = {"diverged", "final_loss", "in_place_train", "in_place_held_out", "remaining_excess"}
    of_two = {"log_movement_ratio", "log_gradient_ratio_init", "log_gradient_ratio_mean"}
    if measure in fits_any | of_two:
        assert read_claims(study)
        return
    with pytest.raises(StudyError, match=f"claims.X: measure {measure!r} ") as error:
        read_claims(study)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("measure", "axes"),
    [
        ("remaining_excess", {"model": "mlp"}),
        ("in_worse_minimum", {"model": "mlp", "sampling": "full"}),
        ("distortion_gradient", {**NETWORK, "record": "networks"}),
        ("log_curvature_ratio", {**NETWORK, "record": "networks", "sampling": "full"}),
        ("remaining_error", {**NETWORK, "record": "networks"}),
        ("remaining_error", {"problem": "uniform"}),
        ("excess_share", {"problem": "breast_cancer", "design": "U"}),
        ("log_steps", {**NETWORK, "target_loss": 0.1}),
        ("test_r2", {"problem": "diabetes", "design": "U", "model": "mlp"}),
        ("test_auc", {"problem": "breast_cancer", "design": "U", "model": "mlp"}),
        ("test_balanced_accuracy", {"problem": "wine", "design": "U", "model": "mlp"}),
        ("share_permutation", {**NETWORK, "record": "importances"}),
        ("share_integrated_gradients", {**NETWORK, "record": "importances"}),
        ("last_weight_larger", {"problem": "uniform"}),
    ],
)
def test_a_measure_that_fits_is_read(measure, axes):
    claim = {"quote": "so", "measure": measure, "blocks": "main", "smallest": 0.1}
    assert read_claims(parse({"name": "x", **axes, "claims": {"X": claim}}))


def test_runs_that_a_measure_does_not_fit_are_said():
    raw = {"name": "x", "problem": "uniform", "model": ["linear", "mlp"]}
    (claim,) = read_claims(
        parse({**raw, "claims": {"X": {**GOOD, "measure": "excess_share", "by": "model"}}})
    )
    some, none = unmeasured(claim, expand(parse(raw)), "standard")
    assert none == ""
    assert len(some) == 1
    assert "model 'mlp'" in some[0]


def test_claims_must_be_tables():
    for bad in ({"claims": 3}, {"claims": {"X": 3}}):
        with pytest.raises(StudyError, match="table"):
            read_claims(parse(bad))


@pytest.mark.parametrize("name", ["../x", "a/b", "", "C:1", ".."])
def test_a_claims_name_cannot_leave_the_reports_folder(name):
    raw = {"claims": {name: {"quote": "q", "not_testable": "why"}}}
    with pytest.raises(StudyError, match="its name may hold letters"):
        read_claims(parse(raw))


def test_what_cannot_be_tested_says_why():
    (claim,) = read(not_testable="nobody kept it", measure=None, blocks=None)
    found = judge(claim, None)
    assert (found.verdict, found.reason) == ("not testable", "nobody kept it")
    assert json.dumps(found.entry(), allow_nan=False)


def test_the_papers_claims_are_all_24_and_three_controls():
    found = read_claims(read_study("paper"))
    wanted = [f"C{place}" for place in range(1, 25)] + ["N1", "N2", "N3"]
    assert list(dict.fromkeys(claim.id for claim in found)) == wanted
    assert all(set(claim.by) <= {*AXES, "block"} for claim in found)
    of_networks = {claim.id for claim in found if claim.models == "networks"}
    assert set(wanted) - of_networks == {"C12", "C18", "C20", "N1"} - {"C18"}


def test_every_threshold_of_the_paper_has_a_reason():
    for claim in read_claims(read_study("paper")):
        assert claim.reason, claim.name


MODALS = {
    "sometimes": ("can ", "could ", "might ", "or even "),
    "usually": ("likely", "in most cases"),
}


def test_the_paper_reads_a_sentence_by_its_own_modal():
    for claim in read_claims(read_study("paper")):
        said = [kind for kind, modals in MODALS.items() if any(m in claim.quote for m in modals)]
        wanted = said[-1] if said else "always"
        assert claim.control or claim.quantifier == wanted, claim.id


def test_a_study_keeps_its_claims():
    study = read_study("paper")
    again = parse(__import__("tomllib").loads(study.to_toml()))
    assert read_claims(again) == read_claims(study)
