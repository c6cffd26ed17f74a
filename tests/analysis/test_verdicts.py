"""Verdicts: the rule on samples made for it, and the whole on a small paper."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling_study.analysis import claims, metrics
from scaling_study.analysis.claims import Claim, Versus, read_claims
from scaling_study.analysis.intervals import Estimate
from scaling_study.analysis.verdicts import VERDICTS, changed_claims, judge, judge_all, outcome
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
    runs = pd.concat(parts, ignore_index=True)
    return Made(runs.astype({axis: "category", "scaler": "category"}))


def cells(**centres):
    return {(name, "none"): centre for name, centre in centres.items()}


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [(1.1, 2, "beyond"), (-2, -1.1, "opposite"), (-0.9, 0.9, "equivalent"), (0, 0, "equivalent"),
     (0.9, 1.1, "inconclusive"), (-1.1, -0.9, "inconclusive"), (np.nan, 2, "inconclusive"),
     (-1, 1, "equivalent")],
)  # fmt: skip
def test_where_an_interval_lies(low, high, wanted):
    estimate = Estimate((low + high) / 2, low, high, 9)
    assert outcome(CLAIM, estimate) == wanted
    turned = {"beyond": "opposite", "opposite": "beyond"}.get(wanted, wanted)
    assert outcome(replace(CLAIM, sign=-1), estimate) == turned
    moved = Estimate(*(x + 7 for x in estimate[:3]), 9)
    assert outcome(replace(CLAIM, null=7.0), moved) == wanted


@pytest.mark.parametrize(
    ("quantifier", "centres", "verdict"),
    [("all", cells(a=3, b=3), "supported"), ("all", cells(a=0, b=-3), "refuted"),
     ("all", cells(a=3, b=0), "depends"), ("all", cells(a=3, b=1), "inconclusive"),
     ("all", cells(a=0, b=1), "inconclusive"), ("all", cells(a=3, b=0, c=1), "depends"),
     ("some", cells(a=3, b=-3), "supported"), ("some", cells(a=0, b=-3), "refuted"),
     ("some", cells(a=0, b=1), "inconclusive")],
)  # fmt: skip
def test_the_rule_of_verdicts(quantifier, centres, verdict):
    found = judge(replace(CLAIM, quantifier=quantifier), table_of(centres))
    assert found.verdict == verdict
    assert (found.depends_on == "optimizer") == (verdict == "depends")
    assert found.estimate.n == 40
    assert len(found.cells) == len(centres)


@given(st.lists(st.floats(-4, 4), min_size=1, max_size=4), st.sampled_from(["all", "some"]))
def test_a_claim_and_its_opposite_are_not_both_supported(centres, quantifier):
    metrics.MEASURES["made"] = lambda table: table["value"]
    table = table_of({(place, "none"): centre for place, centre in enumerate(centres)})
    claim = replace(CLAIM, quantifier=quantifier)
    verdicts = [judge(replace(claim, sign=sign), table).verdict for sign in (1, -1)]
    if quantifier == "all":
        assert verdicts != ["supported", "supported"]
    if verdicts[0] == "supported" and quantifier == "all":
        assert verdicts[1] == "refuted"


def test_the_factor_is_the_one_that_tells_the_cells_apart():
    centres = {(o, s): 3.0 if s == "minmax" else 0.0
               for o in ("adam", "sgd", "rmsprop") for s in ("none", "minmax")}  # fmt: skip
    found = judge(replace(CLAIM, by=("optimizer", "scaler")), table_of(centres))
    assert (found.verdict, found.depends_on) == ("depends", "scaler")
    assert "minmax: 3 of 3" in found.reason
    assert "none: 0 of 3" in found.reason


@pytest.mark.parametrize(("share", "verdict"), [(0.9, "supported"), (0.1, "refuted"),
                                                (0.5, "inconclusive")])  # fmt: skip
def test_most_is_held_against_one_half(share, verdict):
    table = table_of(cells(a=0), n=60)
    table.runs["value"] = (np.arange(60) < share * 60).astype(float)
    claim = replace(CLAIM, quantifier="most", null=0.5, smallest=0.0)
    found = judge(claim, table)
    assert found.verdict == verdict
    assert found.estimate.value == pytest.approx(share)
    assert judge(replace(claim, smallest=0.45), table).verdict != "supported"
    turned = {"supported": "refuted", "refuted": "supported"}.get(verdict, verdict)
    assert judge(replace(claim, sign=-1), table).verdict == turned
    assert judge(replace(claim, null=0.05), table).verdict in ("supported", "inconclusive")


def test_most_leaves_out_cells_that_are_not_measured():
    table = table_of(cells(a=0, b=0), n=60)
    table.runs["value"] = np.r_[np.full(20, np.nan), np.zeros(40), np.ones(60)]
    found = judge(replace(CLAIM, quantifier="most", null=0.5, smallest=0.0), table)
    assert found.verdict == "supported"
    assert found.estimate.value == 1
    assert "over 1 cell; 1 cell of 2 not measured" in found.reason


def test_seeds_are_paired_and_a_shuffled_label_is_no_effect():
    random = np.random.default_rng(0)
    own = 100 * random.standard_normal(60)
    table = table_of({("a", "none"): 0.0, ("a", "minmax"): 0.0}, n=60)
    table.runs["value"] = np.concatenate([own + 3, own]) + 0.1 * random.standard_normal(120)
    claim = replace(CLAIM, versus=Versus("scaler", "none", ("minmax",), "difference"))
    assert judge(claim, table).estimate.value == pytest.approx(3, abs=0.1)
    assert judge(claim, table).verdict == "supported"
    assert judge(replace(claim, sign=-1), table).verdict == "refuted"
    control = judge(replace(claim, shuffled=True, smallest=1.5), table)
    assert control.verdict == "refuted"
    assert control.cells["outcome"].tolist() == ["equivalent"]


@pytest.mark.parametrize(
    ("how", "values", "wanted"),
    [("improvement", ([np.inf, 2, 2, np.inf], [1, 1, 2, np.inf]), (1 + 1 + 0.5 + 0.5) / 4),
     ("equal", ([1, 2, 3, 4], [1, 2, 3, 5]), 0.75)],
)  # fmt: skip
def test_comparisons_within_a_seed(how, values, wanted):
    table = table_of({("a", "none"): 0.0, ("a", "minmax"): 0.0}, n=4)
    table.runs["value"] = np.concatenate(values).astype(float)
    claim = replace(CLAIM, versus=Versus("scaler", "none", ("minmax",), how))
    assert judge(claim, table).estimate.value == wanted


def test_values_are_compared_whichever_way_a_number_is_written():
    parts = [table_of({("a", "none"): centre}, n=20).runs.assign(updates=updates)
             for updates, centre in ((8, 3.0), (16, 0.0))]  # fmt: skip
    table = Made(pd.concat(parts, ignore_index=True).astype({"updates": "category"}))
    for baseline, other in ((8, 16), (8.0, "16"), ("8", 16.0)):
        versus = claims._versus(
            {"axis": "updates", "baseline": baseline, "others": other, "how": "difference"}
        )
        claim = replace(CLAIM, versus=versus, where={"updates": ("8.0", "16.0")})
        assert judge(claim, table).estimate.value == pytest.approx(3)


@pytest.mark.parametrize(
    "changes",
    [{"where": {"scaler": ("none", "standrad")}},
     {"versus": Versus("scaler", "standrad", ("none",), "difference")},
     {"versus": Versus("scaler", "none", ("minmax", "standrad"), "difference")}],
)  # fmt: skip
def test_a_claim_of_what_was_never_run_is_not_judged_on_the_rest(changes):
    table = table_of({("a", "none"): 3.0, ("a", "minmax"): 0.0})
    found = judge(replace(CLAIM, **changes), table)
    assert found.verdict == "not testable"
    assert found.reason == "no run of its blocks has scaler standrad; they have none, minmax"


def test_missing_values_are_counted_and_too_many_are_no_measurement():
    table = table_of(cells(a=3, b=3), n=40)
    table.runs.loc[:2, "value"] = np.nan
    few = judge(CLAIM, table)
    assert few.verdict == "supported"
    assert few.cells["n"].tolist() == [37, 40]
    table.runs.loc[:10, "value"] = np.inf  # a time beyond the budget is no number
    many = judge(CLAIM, table)
    assert many.cells["outcome"].tolist() == ["not measured", "beyond"]
    assert "1 cell of 2 not measured" in many.reason
    table.runs["value"] = np.nan
    assert judge(CLAIM, table).verdict == "not testable"


def test_equivalence_can_be_what_is_claimed():
    claim = replace(CLAIM, expect="equivalent")
    assert judge(claim, table_of(cells(a=0, b=0))).verdict == "supported"
    assert judge(claim, table_of(cells(a=3, b=-3))).verdict == "refuted"


# On real runs -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def verdicts(paper):
    return {v.claim.id: v for v in judge_all(paper, read_claims(paper.study))}


def test_every_claim_has_a_verdict_with_numbers(verdicts):
    for found in verdicts.values():
        assert found.verdict in VERDICTS
        entry = found.entry()
        keys = {"id", "quote", "verdict", "estimate", "interval", "n", "depends_on", "reason"}
        assert keys <= entry.keys()
        assert json.dumps(entry, allow_nan=False)
    for name in ("C3", "C4", "C5", "C12", "C13"):
        assert np.isfinite(verdicts[name].estimate.value)


def test_what_is_certain_is_found(verdicts):
    assert verdicts["C5"].verdict == "supported"  # curvature grows with s²
    assert verdicts["C5"].estimate.value == pytest.approx(4, abs=0.1)  # s = 100
    assert verdicts["C12"].cells["value"].eq(1).all()  # a seed names its result, to the bit
    held = verdicts["C20"].cells.set_index("measure")["value"]
    assert (held["in_place_train"] == 1).all()
    assert (held["in_place_held_out"] < 0.5).all()


def test_a_factor_that_does_nothing_is_equivalent(verdicts):
    assert verdicts["N1"].verdict == "refuted"
    assert (verdicts["N1"].cells["outcome"] == "equivalent").all()


def test_the_turned_claim_is_not_supported(paper, verdicts):
    own = [v.claim for v in verdicts.values() if v.verdict == "supported"]
    one_sided = [c for c in own if c.expect == "beyond" and c.quantifier == "all"]
    assert one_sided
    for found in judge_all(paper, [replace(c, sign=-c.sign) for c in one_sided]):
        assert found.verdict != "supported", found.claim.id


# The gate -----------------------------------------------------------------------------------


def test_equal_ledgers_do_not_differ_and_changed_ones_do(verdicts):
    ledger = [v.entry() for v in verdicts.values()]
    stored = json.loads(json.dumps(ledger))
    assert changed_claims(stored, ledger) == []
    near = json.loads(json.dumps(ledger))
    near[0]["estimate"] = (near[0]["estimate"] or 0.0) * 1.001
    assert changed_claims(near, ledger) == []
    changes = {"verdict": "nonsense", "depends_on": "the moon", "estimate": 1e9}
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
