"""How rows and their summary look: a table for people, or JSON lines."""

from __future__ import annotations

import json
import math
from array import array
from typing import NamedTuple, Protocol

import numpy as np

from ..inference.bounds import Decomposition
from ..inference.worked import Worked
from ..model.latent_variable import BernoulliLVM

TOLERANCE = 1e-12
"""The identity holds where |residual| <= TOLERANCE (1 + |log p(x)| + |VLB|)."""


class Row(NamedTuple):
    """What is known about one row of data, in nats; what follows log_px_error is None without a posterior."""

    row: int
    log_px: float
    log_px_error: float
    vlb: float | None = None
    kl: float | None = None
    residual: float | None = None
    vlb_error: float | None = None
    kl_error: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the identity holds: NaN never does, and VLB = -inf goes with KL = +inf only."""
        if self.vlb is None or self.kl is None or self.residual is None:
            return True
        if math.isinf(self.vlb) or math.isinf(self.kl):
            return self.vlb == -math.inf and self.kl == math.inf and self.residual == 0
        return abs(self.residual) <= TOLERANCE * (1 + abs(self.log_px) + abs(self.vlb))


def rows_of(number: int, values: Decomposition | tuple[np.ndarray, np.ndarray]) -> list[Row]:
    """The rows of a decomposition, or of values and their error bounds, numbered from `number`."""
    if isinstance(values, Decomposition):
        columns = [
            values.log_px, values.log_px_error, values.vlb, values.kl, values.residual, values.vlb_error,
            values.kl_error,
        ]  # fmt: skip
    else:
        columns = list(values)
    lists = [column.tolist() for column in columns]
    return [Row(number + n, *row) for n, row in enumerate(zip(*lists, strict=True))]


class Summary:
    """Means and extremes over all rows; exactly rounded sums, so that chunks leave no trace."""

    def __init__(self) -> None:
        self.rows = 0
        self.largest_error = self.largest_residual = 0.0
        self.broken: list[int] = []
        self._columns = {name: array("d") for name in ("log_px", "vlb", "kl")}

    def add(self, row: Row) -> None:
        """Take one more row into account."""
        self.rows += 1
        for name, column in self._columns.items():
            value = getattr(row, name)
            if value is not None:
                column.append(value)
        self.largest_error = _larger(self.largest_error, row.log_px_error)
        if row.residual is not None:
            self.largest_residual = _larger(self.largest_residual, abs(row.residual))
        if not row.holds:
            self.broken.append(row.row)

    @property
    def has_bound(self) -> bool:
        """Whether there was a posterior, so that there is an identity to hold."""
        return len(self._columns["vlb"]) > 0

    def mean(self, name: str) -> float | None:
        """The mean of log_px, vlb or kl; None over no rows, or without a posterior."""
        column = self._columns[name]
        return math.fsum(column) / len(column) if column else None


def _larger(a: float, b: float) -> float:
    """The maximum; NaN wins."""
    return a if math.isnan(a) or a >= b else b


class Reporter(Protocol):
    """What a command reports, in this order."""

    def begin(self, name: str, model: BernoulliLVM, bounded: bool) -> None:
        """The model's name and sizes, and whether VLB and KL will be there."""

    def worked(self, row: int, table: Worked) -> None:
        """The table over z of one row."""

    def row(self, row: Row) -> None:
        """One row."""

    def end(self, summary: Summary, shown: int) -> None:
        """The summary, and how many rows were shown."""


class JSONLines:
    """One object a line. Keys are stable; VLB, KL, residual and what follows from them are null without a posterior."""

    def begin(self, name: str, model: BernoulliLVM, bounded: bool) -> None:
        """Nothing: every line describes itself."""

    def worked(self, row: int, table: Worked) -> None:
        """A line for every z, then the sums."""
        for line in table.lines:
            print_json({"row": row, **line._asdict()})
        print_json({"row": row, "sums": table.sums._asdict()})

    def row(self, row: Row) -> None:
        """row, log_px, log_px_error, vlb, kl, residual, vlb_error, kl_error."""
        print_json(row._asdict())

    def end(self, summary: Summary, shown: int) -> None:
        """The summary."""
        bounded = summary.has_bound
        print_json(
            {
                "summary": {
                    "rows": summary.rows,
                    "mean_log_px": summary.mean("log_px"),
                    "mean_vlb": summary.mean("vlb"),
                    "mean_kl": summary.mean("kl"),
                    "largest_log_px_error": summary.largest_error,
                    "largest_residual": summary.largest_residual if bounded else None,
                    "identity_holds": not summary.broken if bounded else None,
                }
            }
        )


def print_json(value: object) -> None:
    """One line."""
    print(json.dumps(_plain(value), allow_nan=False))


def _plain(value: object) -> object:
    """The same with numbers that JSON does not have as strings."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


class Human:
    """Columns for people, numbers rounded."""

    def begin(self, name: str, model: BernoulliLVM, bounded: bool) -> None:
        """What was loaded, and the heads of the columns."""
        print(f"model {name}: K = {model.latents} latent bits, L = {model.observed} observed bits; all numbers in nats")
        if not bounded:
            print("no posterior in this file, so no VLB and no KL")
        print()
        self._bounded = bounded
        self._headed = False

    def worked(self, row: int, table: Worked) -> None:
        """The table over z of one row, with the sums below."""
        width = max(len(table.lines[0].z), 13)
        q = [f"{'q(z|x)':>14}"] if table.sums.q is not None else []
        print(f"row {row}: x = {table.x}")
        print(f"{'code':>6}  {'z (z_0 first)':<{width}}", *_heads("log p(z)", "log p(x|z)", "log p(x,z)", "p(z|x)"), *q)
        for line in table.lines:
            bits = "".join(map(str, line.z))
            numbers = [line.log_prior, line.log_likelihood, line.log_joint, line.posterior]
            q = [f"{line.q:14.10f}"] if line.q is not None else []
            print(f"{line.code:6d}  {bits:<{width}}", *(f"{number:14.10f}" for number in numbers), *q)
        sums = table.sums
        q = [f"{sums.q:14.10f}"] if sums.q is not None else []
        gap = " " * 14
        print(f"{'sum':>6}  {'':<{width}}", gap, gap, f"{sums.log_joint:14.10f}", f"{sums.posterior:14.10f}", *q)
        print(f"sums: log sum exp of log p(x,z) is log p(x); p(z|x) adds up to 1; p(z) adds up to {sums.prior:.12g}")
        if sums.vlb is not None and sums.kl is not None:
            print(f"VLB = sum of q(z|x) (log p(x,z) - log q(z|x)) = {sums.vlb:.10f}")
            print(f"KL  = sum of q(z|x) log(q(z|x) / p(z|x))      = {sums.kl:.10f}")
        print()
        self._headed = False

    def row(self, row: Row) -> None:
        """One line of the table."""
        if not self._headed:
            print(self._line("row", "log p(x)", "error bound", "VLB", "KL", "residual"))
            self._headed = True
        print(self._line(str(row.row), *numbers_of(row.log_px, row.log_px_error, row.vlb, row.kl, row.residual)))

    def end(self, summary: Summary, shown: int) -> None:
        """The means and the verdict."""
        if summary.rows > shown:
            print(f"     ...  {summary.rows - shown} more rows (--rows all shows them)")
        if summary.rows == 0:
            print("no rows")
            return
        log_px, vlb, kl = (summary.mean(name) for name in ("log_px", "vlb", "kl"))
        print(self._line("mean", *numbers_of(log_px, summary.largest_error, vlb, kl, summary.largest_residual)))
        plural = "" if summary.rows == 1 else "s"
        print(f"\nlast line: means over {summary.rows} row{plural}; of error bound and |residual| the largest")
        if summary.has_bound:
            print(verdict(summary))

    def _line(self, row: str, log_px: str, error: str, *bound: str) -> str:
        vlb, kl, residual = bound
        line = f"{row:>8} {log_px:>19} {error:>12}"
        return f"{line} {vlb:>19} {kl:>17} {residual:>10}" if self._bounded else line


def _heads(*names: str) -> list[str]:
    return [f"{name:>14}" for name in names]


def numbers_of(
    log_px: float | None, error: float, vlb: float | None, kl: float | None, residual: float | None
) -> list[str]:
    """Values to 10 places, rounding errors to two digits."""
    values = ["" if value is None else f"{value:.10f}" for value in (log_px, vlb, kl)]
    return [values[0], f"{error:.1e}", *values[1:], "" if residual is None else f"{residual:.1e}"]


def verdict(summary: Summary) -> str:
    """Whether the identity holds, in a sentence without its full stop."""
    identity, within = "log p(x) = VLB + KL", f"within {TOLERANCE:g} (1 + |log p(x)| + |VLB|)"
    if not summary.broken:
        return f"{identity} holds for every row, {within}"
    broken = summary.broken
    return f"{identity} DOES NOT HOLD for {len(broken)} of {summary.rows} rows, first for row {broken[0]}, {within}"
