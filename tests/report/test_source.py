"""A study's file as a page, and the cells that link to it."""

import re

import pandas as pd

from scaling_study.report.explorer_claims import of_claims
from scaling_study.report.source import Lines, listing, outline

TEXT = 'seeds = 3\n\n[blocks.a]\nscaler = [\n    "<none>",\n]\n\n[claims.C1."x y"]\nnull = 0\n'


def test_each_table_has_its_lines():
    assert outline(TEXT) == {"blocks.a": Lines(3, 6), "claims.C1.x y": Lines(8, 9)}
    assert [str(lines) for lines in outline(TEXT).values()] == ["3 to 6", "8 to 9"]


def test_each_line_has_an_anchor_and_its_text():
    page = listing(TEXT, "A & B")
    assert "A &amp; B" in page
    assert "&lt;none&gt;" in page
    assert re.findall(r'id="L(\d+)"', page) == [str(n) for n in range(1, 10)]
    assert page.count("<section id=") == page.count("</section>") == 2


def test_cells_of_the_explorer_keep_their_claim_and_drop_what_they_lack():
    frame = pd.DataFrame(
        {
            "claim": ["C1", "C1", "C2"],
            "said": "supported: " + "word " * 30,
            "unit": "share",
            "null": 0.0,
            "smallest": 0.05,
            "value": [0.123456, float("nan"), 1.0],
            "optimizer": ["adam", None, "sgd"],
        }
    )
    rows, claims = of_claims(frame)
    assert [row["k"] for row in rows] == [0, 0, 1]
    assert rows[0] == {"value": 0.123, "optimizer": "adam", "k": 0}
    assert rows[1] == {"k": 0}
    assert [claim["claim"] for claim in claims] == ["C1", "C2"]
    assert max(map(len, claims[0]["said"].split("\n"))) <= 54
