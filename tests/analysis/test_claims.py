"""Claims: what a study may declare, and what is told of a wrong one."""

import json

import pytest

from scaling_study.analysis.claims import read_claims
from scaling_study.analysis.verdicts import judge
from scaling_study.errors import StudyError
from scaling_study.experiment.study import AXES, parse, read_study

GOOD = {"quote": "so", "measure": "larger", "blocks": "main", "smallest": 0.1}


def read(**changes):
    claim = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    return read_claims(parse({"claims": {"X": claim}}, "my.toml"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"qoute": "so"}, ["qoute", "quote"]), ({"quote": None}, ["quote"]), ({"quote": 3}, ["quote"]),
     ({"measure": "largr"}, ["largr", "larger"]), ({"measure": None}, ["measure"]),
     ({"blocks": "mian"}, ["mian", "main"]), ({"by": "optimiser"}, ["optimiser", "optimizer"]),
     ({"quantifier": "every"}, ["every", "all"]), ({"direction": 1}, ["direction"]),
     ({"smallest": -1}, ["smallest"]), ({"null": "x"}, ["null"]), ({"rates": "best"}, ["best"]),
     ({"expect": "opposite"}, ["expect", "beyond"]), ({"shuffled": 1}, ["shuffled"]),
     ({"versus": {"axis": "scaler"}}, ["versus", "baseline"]), ({"where": 3}, ["where"]),
     ({"versus": {"axis": "scaler", "baseline": "none", "others": "minmax", "how": "ratio"}},
      ["ratio", "difference"]),
     ({"where": {"scalr": "none"}}, ["scalr", "scaler"]), ({"slope_on": 2}, ["slope_on"]),
     ({"control": "yes"}, ["control", "true"]),
     ({"measure": "log_steps", "quantifier": "most"}, ["most", "larger", "improvement"])],
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


def test_most_is_of_half_the_runs_unless_it_says_otherwise():
    assert read(quantifier="most")[0].null == 0.5
    assert read(quantifier="most", null=0.75)[0].null == 0.75
    assert read(quantifier="all")[0].null == 0


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


def test_the_papers_claims_are_all_24_and_two_controls():
    found = read_claims(read_study("paper"))
    wanted = [f"C{place}" for place in range(1, 25)] + ["N1", "N2"]
    assert [claim.id for claim in found] == wanted
    assert all(set(claim.by) <= {*AXES, "block"} for claim in found)


def test_a_study_keeps_its_claims():
    study = read_study("paper")
    again = parse(__import__("tomllib").loads(study.to_toml()))
    assert read_claims(again) == read_claims(study)
