"""A study's file as a page: each line has an anchor, and so has each of its tables."""

import re
from html import escape
from typing import NamedTuple

LISTING = "study.html"
_HEADER = re.compile(r"\[+([^\[\]]+)\]+\s*$")


class Lines(NamedTuple):
    """The first and the last line of a table of a study's file, counted from 1."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first} to {self.last}" if self.last > self.first else str(self.first)


def outline(text: str) -> dict[str, Lines]:
    """Return the lines of each table of a TOML text by its name, such as ``blocks.article``.

    Examples
    --------
    >>> outline("seeds = 3\\n\\n[blocks.a]\\nscaler = 1\\n")
    {'blocks.a': Lines(first=3, last=4)}
    """
    lines = text.splitlines()
    found = [(n, match[1]) for n, line in enumerate(lines, 1) if (match := _HEADER.match(line))]
    ends = [*(first for first, _ in found[1:]), len(lines) + 1]
    tables = {}
    for (first, name), after in zip(found, ends, strict=True):
        while after - 1 > first and not lines[after - 2].strip():
            after -= 1
        tables[name.replace('"', "").strip()] = Lines(first, after - 1)
    return tables


def listing(text: str, title: str) -> str:
    """Return the page of a study's file, `LISTING`."""
    starts = {lines.first: (name, lines.last) for name, lines in outline(text).items()}
    ends = {last for _, last in starts.values()}
    parts = []
    for place, line in enumerate(text.splitlines(), 1):
        opened = f'<section id="{escape(starts[place][0])}">' if place in starts else ""
        closed = "</section>" if place in ends else ""
        parts.append(f'{opened}<span id="L{place}">{escape(line)}</span>{closed}')
    return _PAGE.format(title=escape(title), lines="".join(parts))


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}: the study</title>
<style>
body {{ margin: 0 auto; max-width: 60rem; padding: 1.5rem 1rem 4rem; color: #1d1d1f;
  font: 16px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.3rem; }}
pre {{ font-size: .85rem; line-height: 1.45; counter-reset: line; white-space: pre-wrap;
  overflow-wrap: anywhere; }}
pre span {{ display: block; counter-increment: line; padding-left: 4rem; min-height: 1.45em;
  position: relative; }}
pre span::before {{ content: counter(line); position: absolute; left: 0; width: 3rem;
  text-align: right; color: #6b6b6b; }}
section:target, span:target {{ background: #fff3c4; }}
section, span {{ scroll-margin-top: 1rem; }}
</style>
</head>
<body>
<h1>The study: {title}</h1>
<p>Every line has a number; a table that is linked to is set off by its colour.
<a href="study.toml">As a file</a>, <a href="index.html">report</a>.</p>
<pre>{lines}</pre>
</body>
</html>
"""
