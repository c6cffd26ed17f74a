"""Pages in a real browser: nothing overflows, nothing fails, the controls change the plots."""

import pytest
from browser import OVERFLOW, chromium, needs_chromium, opened
from tiny_study import LINEAR

from scaling_study.analysis.compare import compare
from scaling_study.report.comparison.page import write_comparison
from scaling_study.report.page import write_report

pytestmark = [needs_chromium, pytest.mark.slow]
WIDTHS = (390, 1440)
CELL = "path[aria-roledescription='rect mark']"
GRID = {**LINEAR, "learning_rate": [1e-3, 1e-2], "scale_factor": [1.0, 10.0, 1000.0]}


@pytest.fixture(scope="module")
def folder(build, tmp_path_factory):
    results = build({"linear": GRID}, seeds=(0, 4))
    return write_report(results, tmp_path_factory.mktemp("reports") / "grid", explore=True).parent


@pytest.fixture(scope="module")
def comparison(build, tmp_path_factory):
    def shift(row, condition):
        row["final_loss"] = row["final_loss"] * (1.5 + 0.01 * row["seed"])

    one, other = build({"linear": LINEAR}), build({"linear": LINEAR}, change=shift)
    place = tmp_path_factory.mktemp("reports") / "comparison"
    return write_comparison(compare(one, other), one, other, place).parent


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["index.html", "explore.html"])
def test_a_page_fits_its_window_and_describes_its_figures(browser, folder, name, width):
    with opened(browser, folder / name, width) as page:
        first = page.locator("figure img, .vega-embed svg").first
        first.wait_for(state="attached")
        first.scroll_into_view_if_needed()  # images are loaded where they are seen
        first.wait_for()
        assert page.evaluate(OVERFLOW) <= 0
        assert page.locator("img:not([alt]), img[alt='']").count() == 0
        for picture in page.locator(".vega-embed svg").all():
            assert picture.get_attribute("aria-label") or page.locator("svg [aria-label]").count()


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_fits_its_window(browser, comparison, width):
    with opened(browser, comparison / "index.html", width) as page:
        assert page.evaluate(OVERFLOW) <= 0
        assert page.locator("img:not([alt]), img[alt='']").count() == 0
        assert page.locator("h1").inner_text().startswith("What differs")


def shown(page) -> str:
    return page.locator(".vega-embed svg").inner_html()


@pytest.mark.parametrize(
    "name", ["optimizer", "scaler", "learning rate", "scale factor", "map sho"]
)
def test_every_control_changes_the_plots(browser, folder, name):
    with opened(browser, folder / "explore.html", 1440) as page:
        page.wait_for_selector(".vega-embed svg")
        before = shown(page)
        control = page.locator(".vega-bind", has_text=name).locator("select")
        options = control.locator("option").all()
        now = control.input_value()
        other = next(o.get_attribute("value") for o in options if o.get_attribute("value") != now)
        control.select_option(other)
        page.wait_for_timeout(300)
        assert shown(page) != before


def test_a_click_into_the_map_chooses_a_cell(browser, folder):
    with opened(browser, folder / "explore.html", 1440) as page:
        page.wait_for_selector(CELL)
        cells = page.locator(CELL)
        assert cells.count() == 6
        controls = page.locator(".vega-bind select")
        before = [control.input_value() for control in controls.all()], shown(page)
        for cell in cells.all():
            cell.click()
            page.wait_for_timeout(200)
            if shown(page) != before[1]:
                break
        after = [control.input_value() for control in controls.all()]
        assert shown(page) != before[1]
        assert after != before[0]  # the controls say which cell is shown


def test_the_explorer_has_a_dark_look(browser, folder):
    backgrounds = set()
    for scheme in ("light", "dark"):
        with opened(browser, folder / "explore.html", 390, color_scheme=scheme) as page:
            page.wait_for_selector(".vega-embed svg")
            backgrounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(backgrounds) == 2
