"""The documentation site: it builds without a warning, its links resolve, it fits any window."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest
from browser import OVERFLOW, chromium, needs_chromium, opened
from processes import ROOT, environment

pytestmark = pytest.mark.slow  # executes the notebooks
SHOWN = ("index", "quickstart", "science", "howto/compare", "notebooks/article", "gallery")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    for name in ("sphinx", "myst_nb", "numpydoc", "pydata_sphinx_theme"):
        pytest.importorskip(name, reason=f"{name} is not installed: pip install '.[docs]'")
    out = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    done = subprocess.run(
        [*words, str(ROOT / "docs"), str(out)],
        env=environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_local_link_resolves(site):
    others = {"reports", "_static"}  # copied, a template of the theme
    pages = [page for page in site.rglob("*.html") if not others & set(page.parts)]
    assert len(pages) > 30
    for page in pages:
        for link in re.findall(r'(?:href|src)="([^"#?]+)', page.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:|//", link):
                assert (page.parent / unquote(link)).exists(), (page, link)


def test_the_notebooks_have_results(site):
    assert "not_converged" in (site / "notebooks" / "article.html").read_text(encoding="utf-8")
    assert "scal" in (site / "notebooks" / "table.html").read_text(encoding="utf-8")
    assert "<th>sensitivity</th>" in (site / "notebooks" / "rank.html").read_text(encoding="utf-8")


@needs_chromium
@pytest.mark.parametrize("width", [390, 1440])
def test_pages_fit_their_window_without_an_error(site, width):
    with chromium() as browser:
        for name in SHOWN:
            with opened(browser, site / f"{name}.html", width) as page:
                assert page.evaluate(OVERFLOW) <= 0, name
                assert page.locator("img:not([alt])").count() == 0, name
