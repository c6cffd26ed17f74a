"""Every figure draws a small frame, and says what it does not draw."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from scaling_study.report import figures
from scaling_study.report.gallery import drawings
from scaling_study.storage.results import Results

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
    figure = figures.losses(curves, pd.Series({"adam": 98.0, "standard": np.nan}))
    for name, axes in zip(PANELS, figure.axes, strict=False):
        assert axes.get_yscale() == "log"
        middle = axes.lines[0].get_ydata()
        np.testing.assert_allclose(middle, [1002, 1000 / 11 + 2, 1000 / 21 + 2])
        assert len(axes.lines) == (2 if name == "adam" else 1)


def test_losses_say_which_scaler_diverged() -> None:
    curves = frame(loss=5.0)
    curves["loss"] = curves["loss"].where(curves["update"] == 0)
    assert "diverged: standard" in texts(figures.losses(curves, pd.Series(dtype=float)))


def test_gradients_draw_each_feature() -> None:
    curves = frame()
    curves["grad_norm"] = np.where(curves["feature"] == 0, 1.0, 1000.0)
    axes = figures.gradients(curves).axes[0]
    assert [set(line.get_ydata()) for line in axes.lines] == [{1.0}, {1000.0}]


def test_convergence_draws_steps_and_lists_who_stays_at_zero() -> None:
    rows = [
        {"panel": "adam", "scaler": scaler, "outcome": "reached", "update": update, "share": share}
        for scaler, end in (("none", 0.5), ("minmax", 0.0))
        for update, share in ((0.0, 0.0), (10.0, end), (40.0, end))
    ]
    figure = figures.convergence(pd.DataFrame(rows))
    assert "always 0: minmax" in texts(figure)
    assert [line.get_ydata().max() for line in figure.axes[0].lines] == [0.5]


def test_weight_errors_count_the_diverged_and_do_not_draw_them() -> None:
    rows = frame(status="not_converged", weight_error=0.5)
    rows.loc[rows["seed"] == 0, ["status", "weight_error"]] = ["diverged", 1e9]
    figure = figures.weight_errors(rows[(rows["update"] == 0) & (rows["feature"] == 0)])
    assert "1 diverged" in texts(figure)
    offsets = np.asarray(figure.axes[0].collections[0].get_offsets())
    assert offsets[:, 1].tolist() == [0.5] * 4


def test_a_study_has_its_figures_with_captions(results: Results) -> None:
    found = {drawing.name: drawing for drawing in drawings(results)}
    linear = [name for name in found if name.startswith("weights-")]
    assert linear == ["weights-adam-linear", "weights-sgd-linear"]
    assert {"loss", "convergence", "weight-error", "gradients-adam-mlp-hidden-4"} <= set(found)
    assert "6 of 6 with none (raw)" in found["weights-sgd-linear"].caption
    assert "median of the 6 seeds" in found["loss"].caption
    assert [drawing.name for drawing in found.values() if drawing.main] == [
        "weights-adam-linear", "loss", "gradients-adam-linear", "convergence", "weight-error",
    ]  # fmt: skip
    for drawing in found.values():
        labels = drawing.figure.get_supxlabel(), drawing.figure.get_supylabel()
        assert all(labels), drawing.name
