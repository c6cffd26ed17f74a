"""The cells of a study's claims in the explorer: those that the controls choose are bold."""

from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.report import style
from scaling_study.report.explorer_data import significant

# What a cell says of its claim, see `report.paper.claims.STANDINGS`.
COLOURS = {"holds": style.GREEN, "contradicted": style.VERMILION, "undecided": style.PALE}
MATCHED = ("optimizer", "scaler", "model", "scale_factor")
NUMBERS = ("value", "low", "high", "null", "smallest", "scale_factor")
WRAPPED = 54  # characters of a line above the plot
OF_CLAIM = ("claim", "said", "unit", "null", "smallest")


def of_claims(cells: pd.DataFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the rows of cells and of claims, by the number ``k`` of their claim.

    They are without what is missing, and numbers are rounded.
    """
    frame = cells.assign(k=pd.factorize(cells["claim"])[0])
    of_claim = frame.drop_duplicates("k")[["k", *OF_CLAIM]]
    of_claim = of_claim.assign(said=["\n".join(wrap(text, WRAPPED)) for text in of_claim["said"]])
    return _rows(frame.drop(columns=[*OF_CLAIM])), _rows(of_claim)


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rounded = {name: frame[name].map(significant) for name in NUMBERS if name in frame}
    found = frame.assign(**{n: v.astype(object) for n, v in rounded.items()})
    return [
        {str(name): value for name, value in row.items() if not _missing(value)}
        for row in found.to_dict("records")
    ]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and np.isnan(value))


def chart(cells: pd.DataFrame, params: Any, mapped: Any, width: int, height: int) -> Any:
    """Return the plot of the chosen claim's cells, with a control that chooses the claim.

    `params` are the names of the controls, `mapped` those that the map chooses.
    """
    import altair as alt

    rows, of_claim = of_claims(cells)
    names = [row["claim"] for row in of_claim]
    select = alt.binding_select(options=[*range(len(names))], labels=names, name="claim ")
    claim = alt.param(name="claim", value=0, bind=select)
    chosen = "datum.k === claim"
    dots = alt.Chart(alt.InlineData(values=rows)).transform_filter(chosen)
    dots = dots.transform_calculate(chosen=_test(params, mapped))
    dots = dots.transform_window(place="row_number()", sort=[alt.SortField("value")])
    colour = alt.Color(
        "standing:N",
        title="the claim",
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=alt.Legend(orient="bottom"),
    )
    bold = alt.condition("datum.chosen", alt.value(1.0), alt.value(0.22))
    y = alt.Y("place:Q", title=None, axis=None)
    x = alt.X("value:Q", title="effect, with 95 % interval", scale=alt.Scale(zero=False))
    reach = dots.mark_rule().encode(x="low:Q", x2="high:Q", y=y, color=colour, opacity=bold)
    points = dots.mark_point(filled=True).encode(
        x=x,
        y=y,
        color=colour,
        opacity=bold,
        size=alt.condition("datum.chosen", alt.value(60), alt.value(25)),
        tooltip=[
            *(f"{name}:N" for name in (*MATCHED, "of")),
            alt.Tooltip("value:Q", title="effect"),
            *(f"{name}:Q" for name in ("low", "high")),
            alt.Tooltip("standing:N", title="the claim"),
        ],
    )
    base = alt.Chart(alt.InlineData(values=of_claim)).transform_filter(chosen)
    base = base.transform_calculate(
        least="datum.null - datum.smallest", most="datum.null + datum.smallest"
    )
    band = base.mark_rect(color="#e9e9e9").encode(x="least:Q", x2="most:Q")
    null = base.mark_rule(color=style.INK).encode(x="null:Q")
    told = base.mark_text(align="left", baseline="bottom", fontSize=12, lineBreak="\n")
    told = told.encode(x=alt.value(0), y=alt.value(-24), text="said:N")
    return (
        alt.layer(band, null, reach, points, told)
        .add_params(claim)
        .properties(
            width=width,
            height=height,
            title=alt.TitleParams("Cells of a claim", offset=34),
            description="Effect of each cell of the chosen claim with its interval; the grey band"
            " is too small to matter. Cells that the controls choose are bold.",
        )
    )


def _test(params: Any, mapped: Any) -> str:
    """Return the expression of whether the controls choose a cell; what it lacks, it has of all."""
    tests = [
        f"(!isValid(datum.{name}) || datum.{name} === {name})" for name in MATCHED if name in params
    ]
    if "scale_factor" in mapped:
        tests.append(
            "(!isValid(datum.scale_factor) || indexof(cell.scale_factor || [],"
            " datum.scale_factor) >= 0)"
        )
    return " && ".join(tests) or "true"
