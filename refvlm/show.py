"""How values show themselves: as text in a console, as a table in a notebook or on a page.

A `Table` has words on the left and numbers on the right, and is written in both ways; arrays are in it by their mean,
min, max and count. What kind of number it is stands beside each: exact, a bound, certified or an estimate.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

EXACT, PROVED, ROUNDING = "exact", "bound, proved", "bound on the rounding"
ESTIMATE, STANDARD_ERROR, COUNT = "estimate", "standard error", "count"

STYLE = """\
table.refvlm { border-collapse: collapse; color: inherit; font-variant-numeric: tabular-nums; margin: 0.5em 0 }
table.refvlm caption { caption-side: top; color: inherit; font-weight: bold; padding: 0.3em 0; text-align: left }
table.refvlm th, table.refvlm td { padding: 0.2em 0.7em; text-align: right; white-space: nowrap }
table.refvlm .words { text-align: left }
table.refvlm thead tr { border-bottom: 1px solid }
table.refvlm tfoot tr { border-top: 1px solid }
"""
"""Of a table, with the colours of whatever is around it, so that light and dark are both read."""


class Markup(str):
    """HTML as it is; any other text of a table is escaped."""


class HasParameters(Protocol):
    """A model, a network or a posterior."""

    def parameters(self) -> Mapping[str, Any]:
        """Arrays by name."""


@dataclass(frozen=True)
class Table:
    """Heads above rows of cells, all of them text; the first cell of a row is its head.

    words: so many columns from the left are words, the others numbers. foot: rows below a line.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    foot: Sequence[Sequence[str]] = ()
    words: int = 2

    def __str__(self) -> str:
        lines = [self.heads, *self.rows, *self.foot]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        pairs = [list(enumerate(zip(line, widths, strict=True))) for line in lines]
        padded = [[f"{c:<{w}}" if n < self.words else f"{c:>{w}}" for n, (c, w) in line] for line in pairs]
        return "\n".join([self.caption, *("  " + "  ".join(line).rstrip() for line in padded)])

    def html(self) -> str:
        """The element <table>; `STYLE` goes with it."""
        heads = (_element("th", head, n < self.words, "col") for n, head in enumerate(self.heads))
        return "\n".join(
            [
                f'<table class="refvlm">\n<caption>{_escaped(self.caption)}</caption>',
                f"<thead>\n<tr>{''.join(heads)}</tr>\n</thead>\n<tbody>",
                *map(self._row, self.rows),
                "</tbody>",
                *(["<tfoot>", *map(self._row, self.foot), "</tfoot>"] if self.foot else []),
                "</table>",
            ]
        )

    def _row(self, cells: Sequence[str]) -> str:
        head, *others = cells
        row = [_element("th", head, self.words > 0, "row")]
        for n, cell in enumerate(others, 1):
            row.append(_element("td", cell if n < self.words else typeset(cell), n < self.words))
        return f"<tr>{''.join(row)}</tr>"


def _element(name: str, text: str, words: bool, scope: str = "") -> str:
    attributes = (f' scope="{scope}"' if scope else "") + (' class="words"' if words else "")
    return f"<{name}{attributes}>{_escaped(text)}</{name}>"


def _escaped(text: str) -> str:
    return text if isinstance(text, Markup) else html.escape(text)


def typeset(number: str) -> str:
    """A number as one prints it, with a minus sign, which is also read aloud where a hyphen is not."""
    if number == "0.0e+00":
        return "0"
    return number.replace("-", "\N{MINUS SIGN}").replace("inf", "\N{INFINITY}")


def notebook(*tables: Table) -> str:
    """What a notebook shows."""
    return "\n".join([f"<style>\n{STYLE}</style>", *(table.html() for table in tables)])


def number(value: float) -> str:
    """Rounded for people: six places, integers in full, what would lose its digits so with an exponent."""
    if isinstance(value, (int, np.integer)):
        return str(value)
    size = abs(float(value))
    return f"{value:.6f}" if size == 0.0 or 1e-3 <= size < 1e9 or not np.isfinite(size) else f"{value:.1e}"


def confidence(value: float) -> str:
    """As what is missing to 1, where that is little."""
    return f"1 - {1.0 - value:.2g}" if value > 0.99 else f"{value:g}"


def certified(value: float) -> str:
    """The kind of what holds with a stated confidence."""
    return f"certified at {confidence(value)}"


def statistics(caption: str, quantities: Mapping[str, tuple[str, Any]]) -> Table:
    """A line for each quantity, given as its kind and its value: an array, a number, or None, which has no line."""
    rows = [(name, kind, *_statistics(value)) for name, (kind, value) in quantities.items() if value is not None]
    return Table(caption, ("quantity", "kind", "mean", "min", "max", "count"), rows)


def parameters(value: HasParameters) -> Table:
    """The arrays of a model, a network or a posterior; its caption is their owner's repr."""
    arrays = {name: np.asarray(array) for name, array in value.parameters().items()}
    rows = [
        (name, " × ".join(map(str, array.shape)) or "number", *_statistics(array)) for name, array in arrays.items()
    ]
    foot = [("all", "", "", "", "", str(sum(array.size for array in arrays.values())))]
    return Table(repr(value), ("parameter", "shape", "mean", "min", "max", "count"), rows, foot)


def _statistics(value: Any) -> tuple[str, str, str, str]:
    """Mean, min, max and count; of a number only itself."""
    array = np.asarray(value)
    if array.dtype.kind not in "buif":
        return type(value).__name__, "", "", ""
    if array.ndim == 0:
        return number(array.item()), "", "", ""
    if array.size == 0:
        return "", "", "", "0"
    with np.errstate(invalid="ignore", over="ignore"):
        mean = f"{array.mean():.1f}" if array.dtype.kind in "bui" else number(array.mean())
        return mean, number(array.min()), number(array.max()), str(array.size)
