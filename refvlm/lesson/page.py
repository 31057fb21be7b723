"""The page as one file: sections, formulas, code, numbers, style and script put together."""

from __future__ import annotations

import json
import re
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np

from ..enumeration.engine import Progress
from ..types import Bits
from ..version import __version__
from . import formulas
from .code import Beside, Code, answers, beside
from .numbers import LAYERS, RUN_LATENTS, Shown, numbers

_LETTERS = {
    "x": formulas.X,
    "z": formulas.Z,
    "beta": formulas.BETA_K,
    "theta": formulas.THETA,
    "phi": formulas.PHI_K,
    "sigma": formulas.of("σ", formulas.name("a")),
    "E": formulas.expectation(formulas.sign("…")),
    "KL": formulas.KL,
}


_SCRIPTS = (
    "model", "layers", "widgets", "drawing", "bound", "cost", "learning", "sleep", "helmholtz", "questions", "start",
)  # fmt: skip
"""In the order in which they need one another."""


def page(shown: Shown, data: str, rng: np.random.Generator, progress: Progress | None = None) -> str:
    """The whole page. data: what it was fitted to, in words."""
    computed = numbers(shown, rng, progress)
    cost = computed["cost"]
    words = {
        "data": escape(data),
        "large-latents": str(shown.large.latents),
        "run-latents": str(RUN_LATENTS),
        "deep-latents": str(LAYERS[0]),
        "deep-top": str(LAYERS[1]),
        "cost-latents": str(cost["latents"]),
        "cost-nanoseconds": f"{1e9 * cost['seconds']:.2f}",
    }
    sections = _filled(_static("sections.html"), words)
    scripts = "\n".join(f"<script>\n{_static(f'{name}.js')}</script>" for name in _SCRIPTS)
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title in _contents(sections))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Latent variable models: the bound, by hand</title>
<style>
{_static("style.css")}</style>
</head>
<body>
<a class="skip" href="#main">to the lesson</a>
<header>
<h1>Latent variable models: the bound, by hand</h1>
<p>Bits that nobody sees, pictures that everybody sees, and the one identity that ties a bound to the truth. Everything
here can be moved. All numbers were computed by refvlm {__version__}; what is moved, by the script in this page.</p>
<nav aria-label="contents"><ol>{links}</ol></nav>
</header>
<main id="main">
{sections}</main>
<script type="application/json" id="numbers">{_json(computed)}</script>
{scripts}
</body>
</html>
"""


def _static(name: str) -> str:
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def _json(value: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _contents(sections: str) -> list[tuple[str, str]]:
    """(name, title) of each section."""
    return re.findall(r'<section id="([a-z-]+)">\s*<h2>(.*?)</h2>', sections)


def _filled(text: str, words: dict[str, str]) -> str:
    """The text with {{eq:N}}, {{m:letter}}, {{f:steps}}, {{functions}} and {{word}} put in; each must be known."""
    tables, listed = beside(), set[str]()

    def put(match: re.Match[str]) -> str:
        kind, _, key = match[1].rpartition(":")
        if kind == "eq":
            return _equation(int(key), tables[int(key)], listed)
        if kind == "m":
            return formulas.inline(_LETTERS[key])
        if kind == "f":
            return f'<div class="formula" tabindex="0" role="group" aria-label="{key}">' + (
                formulas.display(formulas.STEPS[key]) + "</div>"
            )
        return _functions(listed) if key == "functions" else words[key]

    return re.sub(r"\{\{([a-zA-Z0-9:-]+)\}\}", put, text)


def _equation(number: int, code: Beside, listed: set[str]) -> str:
    """The formula with its number, and the code that computes it."""
    names = ", ".join(f"<code>{escape(each.name)}</code>" for each in code.functions)
    listings = [_listing("", each, listed) for each in code.functions] + [
        _listing("plain NumPy: ", each, listed) for each in code.twins
    ]
    return (
        f'<div class="equation" id="eq-{number}"><div class="formula" tabindex="0" role="group" aria-label="equation '
        f'{number}">{formulas.display(formulas.EQUATIONS[number])}</div><span>({number})</span></div>\n'
        f"<details><summary>({number}) is computed by {names}</summary>\n{''.join(listings)}</details>"
    )


def _listing(kind: str, code: Code, listed: set[str]) -> str:
    """Where a source is, and the source; where it is listed already, a link."""
    name, source = escape(code.name), escape(code.source)
    if code.name in listed:
        return f'<p class="place">{kind}<a href="#source-{name}"><code>{name}</code></a>, which is listed above</p>\n'
    listed.add(code.name)
    return (
        f'<p class="place" id="source-{name}">{kind}<code>{name}</code>, {escape(code.place)}</p>\n'
        f'<pre tabindex="0" role="group" aria-label="source of {name}"><code>{source}</code></pre>\n'
    )


def _functions(listed: set[str]) -> str:
    """The questions with links to the sources; those that stand beside no equation follow here."""
    rows, more = [], []
    for question, functions in answers():
        names = ", ".join(f'<a href="#source-{escape(c.name)}"><code>{escape(c.name)}</code></a>' for c in functions)
        rows.append(f'<tr><th scope="row">{escape(question)}</th><td>{names}</td></tr>')
        more += [
            f"<details><summary><code>{escape(c.name)}</code></summary>\n{_listing('', c, listed)}</details>"
            for c in functions
            if c.name not in listed
        ]
    head = '<thead><tr><th scope="col">question</th><th scope="col">function</th></tr></thead>'
    return f"<table>\n{head}\n<tbody>{''.join(rows)}</tbody></table>\n{''.join(more)}"


def shape_of(x: Bits) -> tuple[int, int]:
    """Rows and columns of pixels: a square where there is one, else one row."""
    side = int(np.sqrt(x.shape[1]) + 0.5)
    return (side, side) if side * side == x.shape[1] else (1, int(x.shape[1]))
