"""Every figure draws a small frame, and says what it does not draw."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from scaling_study.report import charts, style
from scaling_study.report.standard import figures
from scaling_study.report.standard.data import over_seeds

PANELS = ["none (raw)", "standard", "adam"]


@pytest.fixture(autouse=True)
def no_figure_is_left_open() -> None:
    assert not plt.get_fignums()


def frame(**columns: object) -> pd.DataFrame:
    """Return five seeds in each panel, at three updates, of two features."""
    index = pd.MultiIndex.from_product(
        [PANELS, range(5), [0, 10, 20], [0, 1]], names=["panel", "seed", "update", "feature"]
    )
    return index.to_frame(index=False).assign(scaler="standard", **columns)


def texts(figure: Figure) -> list[str]:
    figure.draw_without_rendering()
    found = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    for axes in figure.axes:
        found += [text.get_text() for text in axes.texts]
    return found


def weights(lost: bool) -> pd.DataFrame:
    rows = frame(status="not_converged", training_unit=1.0, weight_true=2.0, weight_ols=5.0)
    rows = rows[rows["update"] == 0].assign(weight_init=-0.5, weight=0.5)
    if lost:
        rows.loc[rows["panel"] == "standard", ["status", "weight"]] = ["diverged", np.nan]
    return rows


def test_weights_have_a_panel_each_and_name_who_diverged() -> None:
    found = texts(figures.weights(weights(lost=True)))
    assert found[:3] == PANELS
    assert "all diverged" in found
    assert "all diverged" not in texts(figures.weights(weights(lost=False)))


def test_losses_draw_the_median_and_the_floor() -> None:
    curves = frame()
    curves["loss"] = 1000.0 / (1 + curves["update"]) + curves["seed"]
    median = over_seeds(curves, "loss", ["scaler"])
    figure = figures.losses(median, pd.Series({"adam": 98.0, "standard": np.nan}))
    for name, axes in zip(PANELS, figure.axes, strict=False):
        assert axes.get_yscale() == "log"
        middle = axes.lines[0].get_ydata()
        np.testing.assert_allclose(middle, [1002, 1000 / 11 + 2, 1000 / 21 + 2])
        assert len(axes.lines) == (2 if name == "adam" else 1)


def test_losses_say_which_scaler_diverged() -> None:
    curves = pd.concat([frame(loss=5.0), frame(loss=5.0).assign(scaler="none")])
    lost = (curves["scaler"] == "standard") & (curves["update"] > 0)
    curves.loc[lost, "loss"] = np.nan
    median = over_seeds(curves, "loss", ["scaler"])
    assert "diverged: standard" in texts(figures.losses(median, pd.Series(dtype=float)))


def test_gradients_draw_each_feature() -> None:
    curves = frame()
    curves["grad_norm"] = np.where(curves["feature"] == 0, 1.0, 1000.0)
    axes = figures.gradients(over_seeds(curves, "grad_norm", ["feature"])).axes[0]
    assert [set(line.get_ydata()) for line in axes.lines] == [{1.0}, {1000.0}]


def test_convergence_draws_steps_and_lists_who_stays_at_zero() -> None:
    rows = [
        {"panel": "adam", "scaler": scaler, "outcome": "reached", "update": update, "share": share}
        for scaler, end in (("none", 0.5), ("minmax", 0.0))
        for update, share in ((0.0, 0.0), (10.0, end), (40.0, end))
    ]
    figure = figures.incidence(pd.DataFrame(rows))
    assert "always 0: minmax" in texts(figure)
    assert [line.get_ydata().max() for line in figure.axes[0].lines] == [0.5]


def test_weight_errors_count_the_diverged_and_do_not_draw_them() -> None:
    rows = frame(status="not_converged", weight_error=0.5)
    rows.loc[rows["seed"] == 0, ["status", "weight_error"]] = ["diverged", 1e9]
    figure = figures.weight_errors(rows[(rows["update"] == 0) & (rows["feature"] == 0)])
    assert "1 diverged" in texts(figure)
    drawn = [np.asarray(line.get_ydata()) for line in figure.axes[0].lines]
    assert np.concatenate([y for y in drawn if len(y)]).max() <= 1.0  # the line at E = 1


# Style and charts -----------------------------------------------------------------------------


def test_each_name_has_one_look_whatever_else_is_drawn() -> None:
    for kind, names in (
        (style.scaler, style.SCALERS),
        (style.optimizer, style.OPTIMIZERS),
        (style.method, style.METHODS),
    ):
        looks = [kind(name) for name in names]
        assert len({(look["color"], look["marker"]) for look in looks}) == len(names)
        assert len({look["label"] for look in looks}) == len(names)
        assert kind("my_own:thing") == kind("my_own:thing") != kind("another")


def test_known_names_come_in_their_order_and_others_after() -> None:
    found = style.ordered(["mine", "robust", "none", "robust"], style.SCALERS)
    assert found == ["none", "robust", "mine"]


def test_a_legend_takes_the_place_of_an_empty_panel() -> None:
    for names, in_panel in (("abc", True), ("ab", False)):
        figure, panels = charts.facets(names)
        charts.legend(figure, [style.scaler("none")])
        assert bool(figure.legends) != in_panel
        assert list(panels) == list(names)


def test_dots_lie_in_the_row_of_their_name() -> None:
    figure, panels = charts.facets(["panel"])
    rows = pd.DataFrame({"name": ["b", "a"], "value": [2.0, 1.0], "low": 0.0, "high": 3.0})
    charts.rows_of_dots(panels["panel"], rows, ["a", "b", "c"], "name", color="k", marker="o")
    (dots,) = figure.axes[0].containers
    np.testing.assert_allclose(dots[0].get_xydata(), [[1, 0], [2, 1], [np.nan, 2]])


def test_a_map_of_numbers_marks_what_is_sure_and_what_is_missing() -> None:
    figure, panels = charts.facets(["panel"])
    table = pd.DataFrame([[0.5, np.nan], [-0.251, -0.001]], index=["a", "b"], columns=["x", "y"])
    charts.number_map(panels["panel"], table, table > 0.4, Normalize(-1, 1), "RdBu_r")
    shown = {text.get_text(): text.get_weight() for text in figure.axes[0].texts}
    assert shown == {".50": "bold", "few": "normal", "\N{MINUS SIGN}.25": "normal", ".00": "normal"}
