"""Sphinx configuration: ``make docs`` writes the site to build/docs."""

import re
import shutil
from importlib.metadata import version as version_of
from pathlib import Path, PurePosixPath

HERE = Path(__file__).parent
REPORTS = HERE.parent / "reports"

project = "scaling_study"
author = "scaling_study contributors"
copyright = author
version = release = version_of("scaling-study")
# MathJax is copied into the site, so that formulas are shown without a network.
extensions = ["sphinx.ext.autodoc", "sphinx-mathjax-offline", "numpydoc", "myst_nb"]
exclude_patterns = ["_build"]
root_doc = "index"

html_theme = "pydata_sphinx_theme"
html_title = "scaling_study"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {name: [] for name in ("index", "quickstart", "science", "gallery")}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_context = {"default_mode": "auto"}  # the theme's own setting in the absence of a choice

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
# Reports and files outside of docs/ are links of their own scheme, see `_outside`.
myst_url_schemes = {"http": None, "https": None, "site": "{{path}}"}

nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_merge_streams = True

numpydoc_show_class_members = False
numpydoc_xref_param_type = False
autodoc_typehints = "none"
autodoc_member_order = "bysource"

# Pages of the site in place of files that GitHub shows.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "bench/NOTES.md": "benchmarks.md",
}


def _page(report):
    """Return the page of a report, or its text where it has none."""
    page = report.replace("report.md", "index.html")
    return page if (REPORTS.parent / page).exists() else report


def _outside(app, docname, source):
    """Turn links to files outside of docs/ into links to the site's pages and reports."""
    up = "../" * docname.count("/")
    here = PurePosixPath("docs", docname).parent

    def to_site(found: re.Match[str]) -> str:
        parts: list[str] = []
        for part in (*here.parts, *PurePosixPath(found[1]).parts):
            parts = parts[:-1] if part == ".." else [*parts, part]
        target = "/".join(parts)
        if target in PAGES:
            return f"]({up}{PAGES[target]})"
        if target.startswith("reports/"):
            return f"](site:{up}{_page(target)})"
        return found[0]

    source[0] = re.sub(r"\]\(((?:\.\./)+[^)#]+)\)", to_site, source[0])


def _included(app, relative_path, parent, source):
    """Do the same in files that a page includes from the root of the repository."""
    text = re.sub(r"\]\(docs/([^)]+)\)", r"](\1)", source[0])
    text = re.sub(
        r"\]\((?:\.\./)?(reports/[^)]+)\)",
        lambda found: f"](site:{_page(found[1])})",
        text,
    )
    for file, page in PAGES.items():
        text = text.replace(f"]({file})", f"]({page})")
    source[0] = text


def _copy_reports(app, error):
    """Copy the reports beside the pages that link to them."""
    if error is None and app.builder.name == "html":
        shutil.copytree(REPORTS, Path(app.outdir) / "reports", dirs_exist_ok=True)


def setup(app):
    """Connect the functions above."""
    app.connect("source-read", _outside)
    app.connect("include-read", _included)
    app.connect("build-finished", _copy_reports)
