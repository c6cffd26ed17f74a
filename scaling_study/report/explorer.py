"""The explorer: one HTML file that opens offline, whose controls choose what it plots.

Needs Vega-Altair and vl-convert, ``pip install 'scaling-study[explore]'``. A click into the map
of learning rates and scale factors, or the controls, choose the cell that the other plots show.
"""

from html import escape
from typing import Any

import numpy as np
import pandas as pd

from scaling_study.errors import StudyError
from scaling_study.report import explorer_claims, style
from scaling_study.report.explorer_data import CONTROLS, SETTING, ExplorerData, explorer_data
from scaling_study.storage.results import Results

EXPLORER = "explore.html"
MOST_BYTES = 5_000_000
WIDTH, HEIGHT = 330, 220
NARROW = 760  # pixels of a window below which plots stand in one column
AXES = (*CONTROLS, SETTING)
MAPPED = ("learning_rate", "scale_factor")
OUTCOMES = {
    "reached": "reached the target (% of runs)",
    "diverged": "diverged (% of runs)",
    "loss": "median final loss (log10)",
}


def explorer(results: Results, cells: pd.DataFrame | None = None) -> str:
    """Return the explorer of a study's results as HTML.

    Parameters
    ----------
    results : Results
        With stored runs; curves are of the seeds whose traces are kept.
    cells : DataFrame, optional
        Of the study's claims, see `Report.cells`.

    Returns
    -------
    str
        A page of less than `MOST_BYTES` that needs no network; conditions that do not fit are left
        out, which it says.

    Raises
    ------
    StudyError
        If Vega-Altair is not installed, or no runs are stored.
    """
    try:
        import altair  # noqa: F401
        import vl_convert  # noqa: F401
    except ImportError as error:
        raise StudyError(
            f"--explore needs {error.name}: pip install 'scaling-study[explore]'"
        ) from None
    data = explorer_data(results)
    page = _page(results, data, cells)
    while (size := len(page.encode())) >= MOST_BYTES and len(data.conditions) > 1:
        data = data.first(max(1, int(0.98 * len(data.conditions) * MOST_BYTES / size)))
        page = _page(results, data, cells)
    return page


def _page(results: Results, data: ExplorerData, cells: pd.DataFrame | None) -> str:
    import altair as alt

    with alt.data_transformers.enable("default", max_rows=None):
        body = _chart(data, cells).to_html(
            inline=True,
            fullhtml=False,
            embed_options={"renderer": "svg", "actions": False},
            json_kwds={"separators": (",", ":")},
        )
    columns = '"columns":2'
    body = body.replace(columns, f'"columns": window.innerWidth < {NARROW} ? 1 : 2', 1)
    return _PAGE.format(
        title=escape(results.study.title or results.study.name), text=_text(data), body=body
    )


def _text(data: ExplorerData) -> str:
    curves = f"{data.traced:,} of {data.seeds:,} seeds" if data.traced else "no seeds"
    left_out = f" {data.left_out:,} further conditions are not shown." if data.left_out else ""
    return (
        "Choose with the controls, or click a cell of the map; where plots stay empty, the study"
        " has no such condition. Loss and gradient norms are medians"
        f" over the {curves} whose traces are kept, the band is their range; map and importance"
        f" are of all {data.seeds:,} seeds, importance without the runs that diverged. Points are"
        f" thinned and rounded to three digits.{left_out}"
    )


# Controls -------------------------------------------------------------------------------------


class _Controls:
    """The parameters of the page: one for each axis that varies, and the outcome of the map."""

    def __init__(self, conditions: pd.DataFrame) -> None:
        import altair as alt

        first = _start(conditions)
        self.values = {name: conditions[name].drop_duplicates().tolist() for name in AXES}
        self.values |= {name: sorted(self.values[name]) for name in MAPPED}
        varying = [name for name in AXES if len(self.values[name]) > 1]
        self.mapped = [name for name in MAPPED if name in varying]
        self.params = {
            name: alt.param(name=name, value=first[name], bind=self._select(name))
            for name in varying
            if name not in MAPPED
        }
        known = [name for name in OUTCOMES if conditions[name].notna().any()]
        self.outcome = alt.param(
            name="outcome",
            value=known[0],
            bind=alt.binding_select(
                options=known, labels=[OUTCOMES[name] for name in known], name="map shows "
            ),
        )
        start: Any = [{name: first[name] for name in self.mapped}]
        bind: Any = {name: self._select(name) for name in self.mapped}
        self.cell = alt.selection_point(
            name="cell",
            fields=self.mapped,
            value=start,
            bind=bind,
            on="click",
            clear=False,
            toggle=False,
            empty=False,
        )

    def _select(self, name: str) -> Any:
        import altair as alt

        return alt.binding_select(options=self.values[name], name=f"{name.replace('_', ' ')} ")

    def filter(self, *, but: str = "") -> str:
        """Return the expression of the conditions that are chosen, by all controls but one."""
        tests = [f"datum.{name} === {name}" for name in self.params if name != but]
        return " && ".join(tests) or "true"


def _start(conditions: pd.DataFrame) -> dict[str, Any]:
    """Return the axes of the condition that a page opens with.

    Of the optimizer, scaler, model and setting whose map has most cells: the condition with most
    runs at the target, and of these the one whose scale factor is nearest to 1.
    """
    others = [name for name in AXES if name not in MAPPED]
    cells = conditions.groupby(others, sort=False, observed=True)["scale_factor"].transform("size")
    largest = conditions[others].iloc[int(cells.to_numpy().argmax())]
    alike = conditions[(conditions[others] == largest).all(axis=1)]
    far = np.abs(np.log(alike["scale_factor"].abs().clip(lower=1e-30)))
    ranked = alike.assign(far=far, reached=alike["reached"].astype(float).fillna(0.0))
    best = ranked.sort_values(["reached", "far"], ascending=[False, True], kind="stable").iloc[0]
    return {name: best[name] if name not in MAPPED else float(best[name]) for name in AXES}


# Plots ----------------------------------------------------------------------------------------


def _chart(data: ExplorerData, cells: pd.DataFrame | None) -> Any:
    import altair as alt

    controls = _Controls(data.conditions)
    plots = [_map(data.conditions, controls)] if controls.mapped else []
    if len(data.curves):
        plots.append(_loss(data, controls))
    if len(data.gradients):
        plots.append(_gradients(data, controls))
    if len(data.importances):
        plots.append(_importances(data, controls))
    if cells is not None and len(cells):
        chosen = controls.params, controls.mapped
        plots.append(explorer_claims.chart(cells, *chosen, width=WIDTH, height=HEIGHT))
    if not plots:
        raise StudyError("nothing to explore: no axis varies, and no run is traced")
    chart = alt.concat(*plots, columns=2, spacing=24)
    chart = chart.add_params(*controls.params.values())
    chart = chart.resolve_scale(color="independent").properties(
        description="Loss, gradient norm and importance of the condition that the controls choose."
    )
    return chart.configure(
        background="transparent",
        font="system-ui, sans-serif",
        axis={"labelFontSize": 11, "titleFontSize": 12, "gridColor": "#e6e6e6"},
        title={"anchor": "start", "fontSize": 13},
        view={"stroke": "#cccccc"},
        legend={"labelFontSize": 11, "titleFontSize": 11},
    )


def _map(conditions: pd.DataFrame, controls: _Controls) -> Any:
    import altair as alt

    base = alt.Chart(conditions).transform_filter(controls.filter())
    logarithm = "outcome === 'loss' ? log(datum.loss) / LN10 : datum[outcome]"
    base = base.transform_calculate(shown=logarithm)
    colour = alt.Color(
        "shown:Q",
        title=None,
        scale=alt.Scale(scheme="cividis"),
        legend=alt.Legend(orient="bottom", gradientLength=WIDTH - 20, gradientThickness=10),
    )
    cells = base.mark_rect(cursor="pointer").encode(
        x=alt.X("learning_rate:O", title="learning rate", axis=alt.Axis(format="~g")),
        y=alt.Y("scale_factor:O", title="scale factor", sort="descending"),
        color=colour,
        stroke=alt.condition(controls.cell, alt.value(style.VERMILION), alt.value("#ffffff")),
        strokeWidth=alt.condition(controls.cell, alt.value(4), alt.value(0.5)),
        tooltip=[
            alt.Tooltip("learning_rate:Q", title="learning rate", format="~g"),
            alt.Tooltip("scale_factor:Q", title="scale factor", format="~g"),
            *(
                alt.Tooltip(f"{name}:Q", title=title.partition(" (log")[0])
                for name, title in OUTCOMES.items()
            ),
        ],
    )
    return cells.add_params(controls.cell, controls.outcome).properties(
        width=WIDTH,
        height=HEIGHT if "scale_factor" in controls.mapped else 40,
        title="Map: click a cell",
        description="Outcome by learning rate and scale factor; the chosen cell is outlined.",
    )


def _of_cell(rows: pd.DataFrame, data: ExplorerData, controls: _Controls, expression: str) -> Any:
    """Return rows of the chosen cell, with the axes of their condition."""
    import altair as alt

    source = alt.LookupData(data.conditions, key="c", fields=list(AXES))
    found = alt.Chart(rows).transform_lookup(lookup="c", from_=source)
    found = found.transform_filter(expression)
    return found.transform_filter(controls.cell) if controls.mapped else found


def _loss(data: ExplorerData, controls: _Controls) -> Any:
    import altair as alt

    lists = ["update", "value", "low", "high"]
    base = _of_cell(data.curves, data, controls, controls.filter(but="scaler"))
    base = base.transform_flatten(lists)
    names = style.ordered(controls.values["scaler"], style.SCALERS)
    looks = style.looks("scaler", names)
    colour = alt.Color(
        "scaler:N",
        scale=alt.Scale(domain=names, range=[looks[name]["color"] for name in names]),
        legend=alt.Legend(
            orient="bottom", title="scaler", columns=5, symbolOpacity=1, symbolType="stroke"
        ),
    )
    several = "scaler" in controls.params
    chosen = alt.condition("datum.scaler === scaler", alt.value(1.0), alt.value(0.25))
    x = alt.X("update:Q", title="updates", scale=alt.Scale(type="symlog"), axis=_updates())
    line = base.mark_line(strokeWidth=2).encode(
        x=x,
        y=alt.Y(
            "value:Q",
            title="loss",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(tickCount=5, format="~e"),
        ),
        color=colour,
        opacity=chosen if several else alt.value(1.0),
    )
    band = base.mark_area(opacity=0.15).encode(x=x, y="low:Q", y2="high:Q", color=colour)
    if several:
        band = band.transform_filter("datum.scaler === scaler")
    return alt.layer(band, line).properties(
        width=WIDTH,
        height=HEIGHT,
        title="Loss on the training rows, by scaler",
        description="Loss over updates by scaler, in the chosen cell; the chosen scaler is bold.",
    )


def _updates() -> Any:
    import altair as alt

    ticks = [0, *(10**power for power in range(9))]
    return alt.Axis(values=ticks, format=",d", labelOverlap=True)


def _features() -> Any:
    import altair as alt

    return alt.Color(
        "feature:N",
        title="feature",
        scale=alt.Scale(range=list(style.COLOURS)),
        legend=alt.Legend(orient="bottom", columns=8),
    )


def _gradients(data: ExplorerData, controls: _Controls) -> Any:
    import altair as alt

    base = _of_cell(data.gradients, data, controls, controls.filter())
    line = base.transform_flatten(["update", "value"]).mark_line(strokeWidth=2)
    return line.encode(
        x=alt.X("update:Q", title="updates", scale=alt.Scale(type="symlog"), axis=_updates()),
        y=alt.Y(
            "value:Q",
            title="gradient norm",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(tickCount=5, format="~e"),
        ),
        color=_features(),
    ).properties(
        width=WIDTH,
        height=HEIGHT,
        title="Gradient norm by feature, training units",
        description="Gradient norm of each feature over updates, in the chosen cell.",
    )


def _importances(data: ExplorerData, controls: _Controls) -> Any:
    import altair as alt

    base = _of_cell(data.importances, data, controls, controls.filter())
    bars = base.transform_flatten(["feature", "share"]).mark_bar()
    return bars.encode(
        y=alt.Y("method:N", title=None, sort=None),
        x=alt.X("share:Q", title="share of importance", axis=alt.Axis(tickCount=5)),
        yOffset="feature:N",
        color=_features(),
        tooltip=["method:N", "feature:N", alt.Tooltip("share:Q", format=".3f")],
    ).properties(
        width=WIDTH,
        height=HEIGHT,
        title="Importance by method, mean over runs",
        description="Share of importance of each feature by method, in the chosen cell.",
    )


# Page -----------------------------------------------------------------------------------------

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: explorer</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 68rem; background: #fff;
  color: #1d1d1f; font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.4rem; line-height: 1.25; margin: 0 0 .5rem; text-wrap: balance; }}
p {{ margin: 0 0 1rem; max-width: 46rem; }}
a {{ color: inherit; }}
.vega-embed {{ display: flex !important; flex-direction: column; width: 100%; }}
.vega-embed .vega-bindings {{ order: -1; display: flex; flex-wrap: wrap; gap: .6rem 1.2rem;
  margin: 0 0 1rem; }}
.vega-embed .vega-bind label {{ display: flex; flex-wrap: wrap; align-items: center; gap: .4rem; }}
.vega-embed .vega-bind-name {{ margin: 0; }}
.vega-embed select {{ font: inherit; padding: .2rem .3rem; min-height: 2.2rem;
  max-width: min(20rem, calc(100vw - 2rem)); }}
.vega-embed svg {{ width: 100%; height: auto; overflow: visible; }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #111; color: #eee; }}
  .vega-embed svg {{ filter: invert(1) hue-rotate(180deg); }}
}}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{text} <a href="index.html">Report</a>.</p>
{body}
</body>
</html>
"""
