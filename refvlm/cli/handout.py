"""The worked example on paper and on the screen: its tables, and those of the rows, as a page or as LaTeX.

The page is one file that asks for nothing else, in ASCII, whatever the terminal's encoding. The LaTeX needs no package:
it goes into the body of any document.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .. import show
from ..inference.worked import Line, Worked
from ..model.latent_variable import BernoulliLVM
from .report import Row, Summary, numbers_of, verdict

_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>
{style}</style>
</head>
<body>
<main>
<h1>The sum over z, written out</h1>
<p>{sizes}</p>
"""

_STYLE = (
    show.STYLE
    + """\
:root { color-scheme: light dark; --ground: #fff; --ink: #1a1a1a; --band: #f0f0f4 }
@media (prefers-color-scheme: dark) { :root { --ground: #16161a; --ink: #e8e8e8; --band: #24242b } }
body { background: var(--ground); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; margin: 0 }
main { margin: 0 auto; max-width: 64rem; padding: 1rem }
div { overflow-x: auto }
table.refvlm tbody tr:nth-child(even) { background: var(--band) }
table.refvlm td.words { font-family: ui-monospace, monospace }
table.refvlm caption { overflow-wrap: anywhere }
@media print { :root { color-scheme: light; --ground: #fff; --ink: #000; --band: #fff } }
"""
)


class Head(NamedTuple):
    """The head of a column, in MathML and LaTeX."""

    mathml: show.Markup
    latex: str


def _math(text: str) -> show.Markup:
    """A formula in MathML: names of one letter in italics, longer ones upright, _ before an index."""
    parts = []
    for token in re.findall(r"[^\W\d_]+(?:_\w)?|[\d.]+|∑_\w|\S", text):
        base, _, index = token.partition("_")
        if base == "∑":
            parts.append(f"<munder><mo>∑</mo><mi>{index}</mi></munder>")
        elif index:
            parts.append(f"<msub><mi>{base}</mi><mn>{index}</mn></msub>")
        elif base == "log":
            space = '<mspace width="0.17em"/>'
            parts.append(f"{space if parts and '>)<' in parts[-1] else ''}<mi>log</mi><mo>&#x2061;</mo>{space}")
        elif base in "()":
            parts.append(f'<mo stretchy="false" lspace="0" rspace="0">{base}</mo>')
        else:
            kind = "mi" if base.isalpha() else "mn" if base[0].isdigit() else "mo"
            parts.append(f"<{kind}>{html.escape(base)}</{kind}>")
    return show.Markup(f"<math>{''.join(parts)}</math>")


_CODE = Head(show.Markup("code"), "code")
_Z = Head(show.Markup(f"{_math('z')} ({_math('z_0')} first)"), "$z$")
_LOG_PX = Head(_math("log p(x)"), r"$\log p(x)$")
_COLUMNS = (
    Head(_math("log p(z)"), r"$\log p(z)$"),
    Head(_math("log p(x | z)"), r"$\log p(x \mid z)$"),
    Head(_math("log p(x, z)"), r"$\log p(x, z)$"),
    Head(_math("p(z | x)"), r"$p(z \mid x)$"),
)
_Q = Head(_math("q(z | x)"), r"$q(z \mid x)$")
_ROW, _ERROR = Head(show.Markup("row"), "row"), Head(show.Markup("error bound"), "error bound")
_BOUND = tuple(Head(show.Markup(name), name) for name in ("VLB", "KL", "residual"))
_VLB = Head(
    _math("VLB = ∑_z q(z | x) (log p(x, z) − log q(z | x)) ="),
    r"\mathrm{VLB} = \sum_z q(z \mid x)\,(\log p(x, z) - \log q(z \mid x)) =",
)
_KL = Head(
    _math("KL = ∑_z q(z | x) log(q(z | x) / p(z | x)) ="),
    r"\mathrm{KL} = \sum_z q(z \mid x) \log(q(z \mid x) / p(z \mid x)) =",
)


def _heads(table: Worked) -> list[Head]:
    return [_CODE, _Z, *_COLUMNS, *([_Q] if table.sums.q is not None else [])]


def _cells(line: Line) -> list[str]:
    """Code, bits and numbers of one z, as many places as in the text."""
    numbers = [line.log_prior, line.log_likelihood, line.log_joint, line.posterior]
    numbers += [line.q] if line.q is not None else []
    return [str(line.code), "".join(map(str, line.z)), *map(_places, numbers)]


def _foot(table: Worked) -> list[str]:
    sums = table.sums
    q = [_places(sums.q)] if sums.q is not None else []
    return ["sum", "", "", "", _places(sums.log_joint), _places(sums.posterior), *q]


def _places(value: float) -> str:
    return f"{value:.10f}"


def _row_heads(bounded: bool) -> list[Head]:
    return [_ROW, _LOG_PX, _ERROR, *(_BOUND if bounded else ())]


def _row_cells(row: Row, bounded: bool) -> list[str]:
    cells = numbers_of(row.log_px, row.log_px_error, row.vlb, row.kl, row.residual)
    return [str(row.row), *cells[: None if bounded else 2]]


def _mean_cells(summary: Summary, bounded: bool) -> list[str]:
    means = [summary.mean(name) for name in ("log_px", "vlb", "kl")]
    cells = numbers_of(means[0], summary.largest_error, means[1], means[2], summary.largest_residual)
    return ["mean", *cells[: None if bounded else 2]]


def _sizes(model: BernoulliLVM) -> str:
    return f"K = {model.latents} latent bits, L = {model.observed} observed bits"


class Page:
    """A whole HTML page."""

    def begin(self, name: str, model: BernoulliLVM, bounded: bool) -> None:
        """The head, and the model's name and sizes."""
        self._bounded, self._rows = bounded, list[Row]()
        sizes = f"{html.escape(name)}: {_sizes(model)}; all numbers in nats."
        if not bounded:
            sizes += " No posterior in this file, so no VLB and no KL."
        title = f"{html.escape(name)}: the sum over z, written out"
        self._print(_PAGE.format(title=title, style=_STYLE, sizes=sizes), end="")

    def worked(self, row: int, table: Worked) -> None:
        """The table of one row, and what its columns add up to."""
        self._print(f"<h2>Row {row}</h2>")
        heads = [head.mathml for head in _heads(table)]
        self._table(
            show.Table(f"every z beside x = {table.x}", heads, [_cells(z) for z in table.lines], [_foot(table)])
        )
        sums = table.sums
        self._print(
            f"<p>The sums: log sum exp of {_math('log p(x, z)')} is {_math('log p(x)')}; {_math('p(z | x)')} adds up "
            f"to 1; {_math('p(z)')} adds up to {sums.prior:.12g}.</p>"
        )
        for formula, value in ((_VLB, sums.vlb), (_KL, sums.kl)):
            if value is not None:
                self._print(f"<p>{formula.mathml} {show.typeset(_places(value))}</p>")

    def row(self, row: Row) -> None:
        """Kept for the table at the end."""
        self._rows.append(row)

    def end(self, summary: Summary, shown: int) -> None:
        """The table of the rows, the means and the verdict."""
        if summary.rows:
            rows = [_row_cells(row, self._bounded) for row in self._rows]
            heads = [head.mathml for head in _row_heads(self._bounded)]
            self._print("<h2>Row by row</h2>")
            foot = [_mean_cells(summary, self._bounded)]
            self._table(show.Table("log p(x) of each row, in nats", heads, rows, foot, words=1))
            self._print("<p>Means; but of error bound and |residual| the largest.</p>")
        if summary.has_bound:
            self._print(f"<p>{html.escape(verdict(summary))}.</p>")
        self._print("<p>No rows.</p>\n</main>" if not summary.rows else "</main>")
        self._print("</body>\n</html>")

    def _table(self, table: show.Table) -> None:
        label = html.escape(table.caption)
        self._print(f'<div role="region" tabindex="0" aria-label="{label}">\n{table.html()}\n</div>')

    def _print(self, text: str, end: str = "\n") -> None:
        print(text.encode("ascii", "xmlcharrefreplace").decode(), end=end)


class LaTeX:
    """For the body of a LaTeX document: a tabular for each row's table, one for the rows."""

    def begin(self, name: str, model: BernoulliLVM, bounded: bool) -> None:
        """The model's name and sizes."""
        self._bounded, self._rows = bounded, list[Row]()
        print(f"% {' '.join(name.split())}: {_sizes(model)}")
        print("% needs no package; for the body of a document")
        sizes = (
            f"$K = {model.latents}$ latent bits, $z_0$ first, $L = {model.observed}$ observed bits; all numbers in nats"
        )
        print(f"\n\\noindent \\texttt{{{latex_text(name)}}}: {sizes}")

    def worked(self, row: int, table: Worked) -> None:
        """The table of one row, and what its columns add up to."""
        bits = r"\allowbreak ".join(table.x[n : n + 8] for n in range(0, len(table.x), 8))
        print(f"\n\\medskip\\noindent row {row}: $x =$ \\texttt{{{bits}}}")
        lines = [_latex_row(_cells(line), 2) for line in table.lines]
        _tabular(_heads(table), lines, _latex_row(_foot(table), 2), "rl")
        sums = table.sums
        print(f"\n\\noindent The sums: log sum exp of {_COLUMNS[2].latex} is {_LOG_PX.latex};", end=" ")
        print(f"{_COLUMNS[3].latex} adds up to 1; $p(z)$ adds up to ${latex_number(f'{sums.prior:.12g}')}$.")
        for formula, value in ((_VLB, sums.vlb), (_KL, sums.kl)):
            if value is not None:
                print(f"\\[ {formula.latex} {latex_number(_places(value))} \\]")

    def row(self, row: Row) -> None:
        """Kept for the table at the end."""
        self._rows.append(row)

    def end(self, summary: Summary, shown: int) -> None:
        """The table of the rows, the means and the verdict."""
        if not summary.rows:
            print("\n\\noindent No rows.")
            return
        rows = [_latex_row(_row_cells(row, self._bounded), 1) for row in self._rows]
        print(
            "\n\\medskip\\noindent $\\log p(x)$, row by row; means, but of error bound and $|$residual$|$ the largest:"
        )
        _tabular(_row_heads(self._bounded), rows, _latex_row(_mean_cells(summary, self._bounded), 1), "r")
        if summary.has_bound:
            print(f"\n\\noindent {latex_text(verdict(summary))}.")


def _tabular(heads: Sequence[Head], rows: Iterable[str], foot: str, words: str) -> None:
    print("\\begin{center}\\footnotesize\\setlength{\\tabcolsep}{3pt}")
    print(f"\\begin{{tabular}}{{{words}{'r' * (len(heads) - len(words))}}}\n\\hline")
    print(" & ".join(head.latex for head in heads) + " \\\\\n\\hline")
    print("\n".join(rows))
    print(f"\\hline\n{foot}\n\\hline\n\\end{{tabular}}\n\\end{{center}}")


def _latex_row(cells: Sequence[str], words: int) -> str:
    head, *others = cells
    numbers = [f"${latex_number(cell)}$" if cell else "" for cell in others[words - 1 :]]
    return " & ".join([head, *others[: words - 1], *numbers]) + " \\\\"


def latex_number(text: str) -> str:
    """A number as it is written in math mode."""
    mantissa, _, exponent = text.partition("e")
    if exponent and float(mantissa) == 0.0:
        return "0"
    if exponent:
        return rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
    return text.replace("inf", r"\infty").replace("nan", r"\mathrm{NaN}")


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"$|$", "<": r"$<$",
    ">": r"$>$", **{character: f"\\{character}" for character in "{}$&#_%"},
}  # fmt: skip


def latex_text(text: str) -> str:
    """Text in which nothing means anything to LaTeX."""
    return "".join(_SPECIAL.get(character, character) for character in " ".join(text.split()))
