"""Verdicts: the rule on samples made for it, and the whole on a small paper."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_study.analysis import claims, metrics, samples
from scaling_study.analysis.claims import Claim, Versus, read_claims
from scaling_study.analysis.confidence import part_of
from scaling_study.analysis.verdicts import VERDICTS, _holm, changed_claims, judge, judge_all
from scaling_study.errors import StudyError

CLAIM = Claim("T1", "a sentence", measure=("made",), blocks=("b",), by=("optimizer",), smallest=1.0)


class Made:
    """A table whose runs have the values that a test gives them."""

    def __init__(self, runs: pd.DataFrame) -> None:
        self.runs = runs

    def __len__(self) -> int:
        return len(self.runs)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.runs[name].to_numpy(float)

    @property
    def seeds(self) -> np.ndarray:
        return self.runs["seed"].to_numpy()

    @property
    def diverged(self) -> np.ndarray:
        return np.isinf(self["value"])

    @property
    def condition_codes(self) -> tuple[np.ndarray, list[str]]:
        code, ids = pd.factorize(self.runs["condition"])
        return code, list(ids)

    def take(self, rows) -> "Made":
        return Made(self.runs[rows].reset_index(drop=True))


@pytest.fixture(autouse=True)
def _measure(monkeypatch):
    monkeypatch.setitem(metrics.MEASURES, "made", lambda table: table["value"])


def table_of(centres, n=40, spread=0.5, axis="optimizer", seed=0):
    """Runs around a centre for each value of an axis; a list of a pair has two axes."""
    random = np.random.default_rng(seed)
    parts = [
        pd.DataFrame({"seed": np.arange(n), axis: str(name), "scaler": scaler,
                      "value": centre + spread * random.standard_normal(n)})
        for (name, scaler), centre in centres.items()
    ]  # fmt: skip
    return made(pd.concat(parts, ignore_index=True))


def made(runs):
    axes = [name for name in runs if name not in ("seed", "value")]
    condition = runs[axes].astype(str).agg("-".join, axis=1)
    runs = runs.assign(condition=condition, block="b")
    return Made(runs.astype(dict.fromkeys([*axes, "block"], "category")))


def cells(**centres):
    return {(name, "none"): centre for name, centre in centres.items()}


@pytest.mark.parametrize(
    ("centre", "wanted"),
    [(3, "beyond"), (-3, "opposite"), (0, "equivalent"), (1, "inconclusive"), (-1, "inconclusive")],
)  # fmt: skip
def test_where_an_effect_lies(centre, wanted):
    (found,) = judge(CLAIM, table_of(cells(a=centre))).cells["outcome"]
    assert found == wanted
    turned = {"beyond": "opposite", "opposite": "beyond"}.get(wanted, wanted)
    (found,) = judge(replace(CLAIM, sign=-1), table_of(cells(a=centre))).cells["outcome"]
    assert found == turned
    (found,) = judge(replace(CLAIM, null=7.0), table_of(cells(a=centre + 7))).cells["outcome"]
    assert found == wanted


@pytest.mark.parametrize(
    ("quantifier", "centres", "verdict"),
    [("always", cells(a=3, b=3), "supported"), ("always", cells(a=0, b=-3), "refuted"),
     ("always", cells(a=3, b=0), "refuted"), ("always", cells(a=3, b=1), "inconclusive"),
     ("always", cells(a=0, b=1), "refuted"), ("sometimes", cells(a=3, b=-3), "supported"),
     ("sometimes", cells(a=0, b=-3), "refuted"), ("sometimes", cells(a=0, b=1), "inconclusive"),
     ("usually", cells(a=3, b=3, c=0), "supported"), ("usually", cells(a=3, b=0, c=0), "refuted"),
     ("usually", cells(a=3, b=1, c=0), "inconclusive")],
)  # fmt: skip
def test_the_rule_of_verdicts(quantifier, centres, verdict):
    found = judge(replace(CLAIM, quantifier=quantifier), table_of(centres))
    assert found.verdict == verdict
    assert found.estimate.n == 40
    assert len(found.cells) == len(centres) == sum(found.counts.values())


def test_what_surely_falls_short_is_a_counterexample_without_being_equivalent():
    table = table_of(cells(a=3, b=-1), n=40)
    found = judge(CLAIM, table)
    assert found.cells["outcome"].tolist() == ["beyond", "inconclusive"]
    assert found.cells["fails"].tolist() == [False, True]
    assert found.verdict == "refuted"


@settings(deadline=None, max_examples=25, derandomize=True, database=None)
@given(
    st.lists(st.floats(-4, 4), min_size=1, max_size=4),
    st.sampled_from(["always", "usually", "sometimes"]),
)
def test_a_claim_and_its_opposite_are_not_both_supported(centres, quantifier):
    metrics.MEASURES["made"] = lambda table: table["value"]
    table = table_of({(place, "none"): centre for place, centre in enumerate(centres)})
    claim = replace(CLAIM, quantifier=quantifier)
    verdicts = [judge(replace(claim, sign=sign), table).verdict for sign in (1, -1)]
    if quantifier != "sometimes":
        assert verdicts != ["supported", "supported"]
    if verdicts[0] == "supported" and quantifier != "sometimes":
        assert verdicts[1] == "refuted"


def test_cells_are_corrected_for_their_number():
    random = np.random.default_rng(5)
    # None has an effect: of 400 cells by themselves, ten would lie beyond at 2.5 %.
    runs = [
        pd.DataFrame({"seed": np.arange(20), "optimizer": f"o{i}", "scaler": "none",
                      "value": random.standard_normal(20)})
        for i in range(400)
    ]  # fmt: skip
    claim = replace(CLAIM, smallest=0.0, quantifier="sometimes")
    found = judge(claim, made(pd.concat(runs, ignore_index=True)))
    assert (found.cells["low"] > 0).sum() >= 4
    assert found.counts["beyond"] == 0
    assert found.verdict != "supported"


def test_the_number_shown_is_the_median_with_the_range():
    found = judge(CLAIM, table_of(cells(a=0, b=1, c=9)))
    value, low, high, _ = found.estimate
    assert (value, low, high) == pytest.approx((1, 0, 9), abs=0.3)
    (alone,) = judge(CLAIM, table_of(cells(a=2))).cells[["low", "high"]].to_numpy()
    assert judge(CLAIM, table_of(cells(a=2))).estimate[1:3] == pytest.approx(alone)


def test_verdicts_at_half_and_twice_the_threshold():
    found = judge(CLAIM, table_of(cells(a=1.5)))
    assert (found.verdict, found.at_thresholds) == ("supported", ("supported", "refuted"))


def test_the_factor_is_named_only_where_it_clearly_leads():
    both = [(o, s) for o in ("adam", "sgd", "rmsprop") for s in ("none", "minmax")]
    table = table_of({(o, s): 3.0 if s == "minmax" else 0.0 for o, s in both})
    claim = replace(CLAIM, by=("optimizer", "scaler"))
    found = judge(claim, table)
    assert next(iter(found.factors)) == "scaler"
    assert "by scaler: none: 0 of 3, minmax: 3 of 3" in found.reason
    table = table_of({(o, s): 3.0 if (o, s) == ("adam", "none") else 0.0 for o, s in both})
    found = judge(claim, table)
    assert set(found.factors) == {"optimizer", "scaler"}
    assert "no single factor" in found.reason


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "supported"), (0.1, "refuted"),
                                                (0.5, "inconclusive")])  # fmt: skip
def test_usually_is_held_against_one_half(share, verdict, monkeypatch):
    monkeypatch.setattr(metrics, "SHARES", metrics.SHARES | {"made"})
    monkeypatch.setattr(claims, "SHARES", metrics.SHARES)
    table = table_of(cells(a=0), n=60)
    table.runs["value"] = (np.arange(60) < share * 60).astype(float)
    claim = replace(CLAIM, quantifier="usually", null=0.5, smallest=0.0)
    found = judge(claim, table)
    assert found.verdict == verdict
    assert found.estimate.value == pytest.approx(share)
    assert judge(replace(claim, smallest=0.45), table).verdict != "supported"
    turned = {"supported": "refuted", "refuted": "supported"}.get(verdict, verdict)
    assert judge(replace(claim, sign=-1), table).verdict == turned


def test_a_cell_without_values_is_inconclusive_and_is_not_left_out():
    table = table_of(cells(a=3, b=3), n=40)
    table.runs.loc[:2, "value"] = np.nan
    few = judge(CLAIM, table)
    assert few.verdict == "supported"
    assert few.cells["n"].tolist() == [37, 40]
    assert few.cells["missing"].tolist() == pytest.approx([3 / 40, 0])
    table.runs.loc[:39, "value"] = np.nan
    none = judge(CLAIM, table)
    assert none.cells["outcome"].tolist() == ["inconclusive", "beyond"]
    assert none.verdict == "inconclusive"


def test_divergence_is_an_outcome_of_a_comparison():
    """Where every raw run diverges, scaling is better: the cell is not left out."""
    table = table_of({("a", "none"): 0.0, ("a", "minmax"): 0.0})
    raw = (table.runs["scaler"] == "none").to_numpy()
    table.runs["value"] = np.where(raw, np.inf, 1.0)
    claim = replace(CLAIM, versus=Versus("scaler", "none", ("minmax",), "improvement"),
                    null=0.5, smallest=0.1)  # fmt: skip
    found = judge(claim, table)
    assert (found.verdict, found.estimate.value) == ("supported", 1)
    assert found.cells["diverged"].tolist() == [0.5]
    table.runs["value"] = np.inf  # both diverge: a tie
    assert judge(claim, table).cells["outcome"].tolist() == ["inconclusive"]
    assert judge(claim, table).estimate.value == 0.5


def test_seeds_are_paired_and_a_shuffled_label_is_no_effect():
    random = np.random.default_rng(0)
    own = 100 * random.standard_normal(60)
    table = table_of({("a", "none"): 0.0, ("a", "minmax"): 0.0}, n=60)
    table.runs["value"] = np.concatenate([own + 3, own]) + 0.1 * random.standard_normal(120)
    claim = replace(CLAIM, versus=Versus("scaler", "none", ("minmax",), "difference"))
    assert judge(claim, table).estimate.value == pytest.approx(3, abs=0.1)
    assert judge(claim, table).verdict == "supported"
    assert judge(replace(claim, sign=-1), table).verdict == "refuted"
    control = judge(replace(claim, shuffled=True), table)
    assert control.verdict == "refuted"
    assert control.cells["outcome"].tolist() == ["equivalent"]


@pytest.mark.parametrize(
    ("how", "values", "wanted"),
    [("improvement", ([np.inf, 2, 2, np.inf], [1, 1, 2, np.inf]), (1 + 1 + 0.5 + 0.5) / 4),
     ("equal", ([1, 2, 3, 4], [1, 2, 3, 5]), 0.75), ("difference", ([3] * 4, [1, 1, 2, 2]), 1.5),
     ("increase", ([3] * 4, [1, 1, 2, 2]), -1.5)],
)  # fmt: skip
def test_comparisons_within_a_seed(how, values, wanted):
    table = table_of({("a", "none"): 0.0, ("a", "minmax"): 0.0}, n=4)
    table.runs["value"] = np.concatenate(values).astype(float)
    claim = replace(CLAIM, versus=Versus("scaler", "none", ("minmax",), how))
    assert judge(claim, table).estimate.value == wanted


def test_one_scaled_cell_is_compared_with_raw_ones_of_every_factor():
    parts = [("none", "10.0", 3.0), ("none", "100.0", 5.0), ("minmax", "100.0", 1.0)]
    runs = [
        pd.DataFrame({"seed": np.arange(20), "scaler": scaler, "scale_factor": factor,
                      "value": centre + 0.1 * np.random.default_rng(i).standard_normal(20)})
        for i, (scaler, factor, centre) in enumerate(parts)
    ]  # fmt: skip
    versus = Versus("scaler", "none", ("minmax",), "difference")
    claim = replace(CLAIM, by=("scale_factor",), versus=versus)
    found = judge(claim, made(pd.concat(runs, ignore_index=True)))
    assert found.cells["scale_factor"].tolist() == ["10.0", "100.0"]
    assert found.cells["value"].to_numpy() == pytest.approx([2, 4], abs=0.1)


def test_values_are_compared_whichever_way_a_number_is_written():
    parts = [table_of({("a", "none"): centre}, n=20).runs.assign(updates=updates)
             for updates, centre in ((8, 3.0), (16, 0.0))]  # fmt: skip
    table = made(pd.concat(parts, ignore_index=True).drop(columns="condition"))
    for baseline, other in ((8, 16), (8.0, "16"), ("8", 16.0)):
        versus = claims._versus(
            {"axis": "updates", "baseline": baseline, "others": other, "how": "difference"}
        )
        claim = replace(CLAIM, versus=versus, where={"updates": ("8.0", "16.0")})
        assert judge(claim, table).estimate.value == pytest.approx(3, abs=0.3)


@pytest.mark.parametrize(
    "changes",
    [{"where": {"scaler": ("none", "standrad")}},
     {"versus": Versus("scaler", "standrad", ("none",), "difference")},
     {"versus": Versus("scaler", "none", ("minmax", "standrad"), "difference")}],
)  # fmt: skip
def test_a_claim_of_what_was_never_run_is_not_judged_on_the_rest(changes):
    table = table_of({("a", "minmax"): 0.0, ("a", "none"): 3.0})
    found = judge(replace(CLAIM, **changes), table)
    assert found.verdict == "not testable"
    assert found.reason == "no run of its blocks has scaler standrad; they have minmax, none"


def test_equivalence_can_be_what_is_claimed():
    claim = replace(CLAIM, expect="equivalent")
    assert judge(claim, table_of(cells(a=0, b=0))).verdict == "supported"
    assert judge(claim, table_of(cells(a=3, b=-3))).verdict == "refuted"
    assert judge(claim, table_of(cells(a=0, b=1))).verdict == "inconclusive"


def test_what_stands_beside_a_claim_decides_nothing(monkeypatch):
    monkeypatch.setitem(metrics.MEASURES, "other", lambda table: -table["value"])
    table = table_of(cells(a=3, b=3))
    found = judge(replace(CLAIM, beside=("other",)), table)
    assert found.verdict == judge(CLAIM, table).verdict == "supported"
    assert "beside it, other: median -3" in found.reason
    assert len(found.cells) == 2


def test_recorded_kernels_differ_between_processes_of_keras():
    claim = Claim("C12", "seeded", recorded="keras_seeding", smallest=0.95)
    found = judge(claim, None)
    values = found.cells.set_index("recorded")["value"]
    assert values.to_dict() == {"data": 1.0, "initial weights": 0.0}
    assert found.verdict == "refuted"


# On real runs -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verdicts(paper):
    return {v.claim.name: v for v in judge_all(paper, read_claims(paper.study))}


def test_every_claim_has_a_verdict_with_numbers(verdicts):
    for found in verdicts.values():
        assert found.verdict in VERDICTS
        entry = found.entry()
        keys = {"id", "models", "quote", "verdict", "median", "range", "n", "reason", "factors"}
        assert keys <= entry.keys()
        assert json.dumps(entry, allow_nan=False)
    for name in ("C3", "C4", "C5", "C12", "C13", "C24-networks", "C4-networks"):
        assert np.isfinite(verdicts[name].estimate.value), name


def test_what_is_certain_is_found(verdicts):
    assert verdicts["C5"].verdict == "supported"  # curvature grows with s²
    assert verdicts["C5"].cells["value"].max() == pytest.approx(6, abs=0.1)  # s = 1000
    assert verdicts["C12"].verdict == "refuted"
    held = verdicts["C20"].cells.set_index(["measure", "scaler"])["value"]
    assert (held["in_place_train"] == 1).all()
    assert held["in_place_held_out", "minmax"] < 0.5
    assert held["in_place_held_out", "standard"] > 0.9


def test_the_controls_find_no_effect(verdicts):
    for name in ("N1", "N2", "N3", "N2-networks"):
        assert not verdicts[name].has_effect, name


def test_the_turned_claim_is_not_supported(paper, verdicts):
    own = [v.claim for v in verdicts.values() if v.verdict == "supported"]
    one_sided = [
        c for c in own if c.expect == "beyond" and c.quantifier == "always" and not c.recorded
    ]
    assert one_sided
    for found in judge_all(paper, [replace(c, sign=-c.sign) for c in one_sided]):
        assert found.verdict != "supported", found.claim.name


def test_shuffled_labels_are_not_supported(paper, verdicts):
    compared = [v.claim for v in verdicts.values() if v.claim.versus and v.claim.null == 0.5]
    assert len(compared) > 5
    for found in judge_all(paper, [replace(c, shuffled=True) for c in compared]):
        assert found.verdict != "supported", found.claim.name


RAW = Versus("scale_factor", "1.0", ("1000.0",), "difference")
DEFECTS = {
    "N1": {"blocks": ("units-long",), "versus": RAW},  # no scaler undoes the factor
    "N2": {"shuffled": False},
    "N3": {"where": {"scale_factor": ("1000.0",)}},  # the ranges differ
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_control_fails_when_its_defect_is_put_in(name, paper, verdicts):
    changed = replace(verdicts[name].claim, **DEFECTS[name])
    (found,) = judge_all(paper, [changed])
    assert found.has_effect


def test_the_factors_control_does_not_train_the_same_runs_twice(verdicts):
    width = verdicts["N1"].cells["high"] - verdicts["N1"].cells["low"]
    assert (width > 1e-6).all()


def test_p_values_are_adjusted_as_statsmodels_does():
    from statsmodels.stats.multitest import multipletests

    values = np.random.default_rng(0).random(50) ** 3
    np.testing.assert_allclose(_holm(values), multipletests(values, method="holm")[1])


def test_a_tuned_cell_covers_the_choice_of_its_rate(paper):
    """Its interval is at least about as wide as that at the chosen rate alone."""
    claim = next(c for c in read_claims(paper.study) if c.name == "C6")
    table = metrics.Table(paper, claim.blocks)
    found, _ = samples.samples(replace(claim, rates=("tuned",)), table)
    for sample in found:
        if not sample.confidence.parts:
            continue
        assert sum(sample.confidence.weights) == pytest.approx(1)
        known = sample.values[np.isfinite(sample.values)]
        part = part_of(known, share=claim.of_shares, bounds=(0, 1))
        assert part in sample.confidence.parts


# The gate -----------------------------------------------------------------------------------


def test_equal_ledgers_do_not_differ_and_changed_ones_do(verdicts):
    ledger = [v.entry() for v in verdicts.values()]
    stored = json.loads(json.dumps(ledger))
    assert changed_claims(stored, ledger) == []
    near = json.loads(json.dumps(ledger))
    near[0]["median"] = (near[0]["median"] or 0.0) * 1.001
    assert changed_claims(near, ledger) == []
    changes = {"verdict": "nonsense", "quantifier": "seldom", "median": 1e9}
    for key, value in changes.items():
        changed = json.loads(json.dumps(ledger))
        changed[3][key] = value
        (line,) = changed_claims(changed, ledger)
        assert ledger[3]["id"] in line
        assert key in line
    assert len(changed_claims(stored[1:], ledger)) == 1
    assert len(changed_claims(stored, ledger[1:])) == 1
    with pytest.raises(StudyError, match=r"claims\.json"):
        changed_claims({"a": 1}, ledger)
