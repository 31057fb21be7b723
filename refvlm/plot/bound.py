"""The bound: its terms and what closes it up to log p(x), and log p(x) = VLB + KL row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..inference.bounds import Decomposition
from ..inference.brackets import DecompositionBracket
from ..inference.terms import VLBTerms
from ..types import Floats
from .canvas import GREEN, GREY, KL, LOG_PX, PURPLE, SKY, VLB, axes_or_new, tidy, whole_numbers
from .latents import how_known

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 60
"""Rows up to which each has a bar of its own."""


def vlb_terms(
    terms: VLBTerms, whole: Decomposition | DecompositionBracket | None = None, *, ax: Axes | None = None
) -> Axes:
    """VLB = prior + reconstruction + entropy, eq. (10), and KL, which closes it up to log p(x), eq. (8).

    terms: what `refvlm.vlb_terms` returned, (N,) nats each; shown are the means over the rows, of one row the row's own
    numbers. whole: what `refvlm.decompose` or `refvlm.decompose_bracket` returned for the same rows, for KL and
    log p(x); None: the terms alone. Every bar begins where the one before it ends; VLB and log p(x) begin at 0. Where
    log p(x) is known between bounds, what lies between them is hatched. Raises ValueError without rows, where the two
    are of different rows, and where the VLB is -inf.
    """
    rows = len(terms.prior)
    vlb = terms.prior + terms.reconstruction + terms.entropy
    if rows == 0:
        raise ValueError("terms: got no rows, wanted at least one")
    if not np.isfinite(vlb).all():
        raise ValueError(
            f"terms: got a VLB of {vlb[~np.isfinite(vlb)][0]} for row {int(np.argmin(np.isfinite(vlb)))}, where q puts "
            "mass on an impossible z; wanted finite ones"
        )
    if whole is not None and (len(whole.vlb) != rows or not np.allclose(whole.vlb, vlb, rtol=1e-6, atol=1e-6)):
        raise ValueError(f"whole: got the VLB of other rows than those of terms, wanted that of the same {rows} rows")
    ax = axes_or_new(ax, 8.2, 4.2)
    prior, reconstruction, entropy = (float(term.mean()) for term in terms)
    bound = float(vlb.mean())
    bars = [
        ("prior\nE_q[log p(z)]", 0.0, prior, SKY),
        ("reconstruction\nE_q[log p(x | z)]", prior, reconstruction, GREEN),
        ("entropy\nE_q[-log q(z)]", prior + reconstruction, entropy, PURPLE),
        ("VLB\nexact", 0.0, bound, VLB),
    ]
    spread = 0.0
    if whole is not None:
        lower, upper, how = _mean_log_px(whole)
        spread, known = upper - lower, "\n".join(how.split(" ", 1) if "at" in how else [how])
        bars += [(f"KL\n{known}", bound, lower - bound, KL), (f"log p(x)\n{known}", 0.0, lower, LOG_PX)]
    for n, (_, start, size, color) in enumerate(bars):
        ax.bar(n, size, 0.7, bottom=start, color=color)
        if spread and n >= 4:
            ax.bar(n, spread, 0.7, bottom=start + size, facecolor="none", edgecolor=color, hatch="////", linewidth=0.8)
        between = f"{size:.3f}" if not spread or n < 4 else f"{size:.3f}\nto {size + spread:.3f}"
        ends = sorted((start, start + size))
        ax.annotate(
            between, (n, ends[0]), xytext=(0, -3), textcoords="offset points", ha="center", va="top", fontsize="small"
        )
        if n + 1 < len(bars):  # where the next one begins or, at the sums, ends
            ax.plot([n + 0.35, n + 0.65], [start + size] * 2, color=GREY, linewidth=0.8)
    ax.axhline(0.0, color=BASE, linewidth=0.8)
    ax.set_xticks(range(len(bars)), [name for name, *_ in bars], fontsize="small")
    ax.use_sticky_edges = False
    ax.margins(y=0.1)
    ax.set_ylabel("nats")
    closed = "VLB = prior + reconstruction + entropy" + ("" if whole is None else ", log p(x) = VLB + KL")
    tidy(ax, f"{closed}: {'one row' if rows == 1 else f'means over {rows} rows'}", legend=False)
    return ax


BASE = "#4D4D4D"
"""Of the line at 0."""


def decomposition(whole: Decomposition | DecompositionBracket, *, first: int = 0, ax: Axes | None = None) -> Axes:
    """log p(x) = VLB + KL, eq. (8), of every row: KL is the bar from the VLB up to log p(x), in nats.

    whole: what `refvlm.decompose` or `refvlm.decompose_bracket` returned, (N,) each; first: the number of its first
    row. Where log p(x) is known between bounds it is an interval, and KL reaches up to the lower one. More than 60 rows
    are sorted by log p(x), with KL as a band. Of a row whose VLB is -inf there is log p(x) alone. Raises ValueError
    without rows.
    """
    rows = len(whole.vlb)
    if rows == 0:
        raise ValueError("whole: got no rows, wanted at least one")
    ax = axes_or_new(ax, 8.6, 4.0)
    lower, upper, how = log_px_bounds(whole)
    order = np.argsort(lower, kind="stable") if rows > MOST_BARS else np.arange(rows)
    numbers = np.arange(rows) if rows > MOST_BARS else first + np.arange(rows)
    lower, upper, vlb = lower[order], upper[order], whole.vlb[order]
    finite = np.isfinite(vlb)
    kl_label = f"KL(q || p(z | x)), {'exact' if how == 'exact' else 'at least'}"
    many = rows > MOST_BARS
    if many:
        ax.fill_between(numbers[finite], vlb[finite], lower[finite], color=KL, linewidth=0, zorder=3, label=kl_label)
    else:
        ax.bar(numbers[finite], (lower - vlb)[finite], 0.6, bottom=vlb[finite], color=KL, label=kl_label)
    if how == "exact" and many:
        ax.plot(numbers, lower, color=LOG_PX, linewidth=1.4, label="log p(x), exact")
    elif how == "exact":
        _dashes(ax, numbers, lower, LOG_PX, "log p(x), exact")
    else:
        ax.errorbar(
            numbers, (lower + upper) / 2, (upper - lower) / 2, fmt="none", ecolor=LOG_PX, elinewidth=1.5,
            capsize=0 if many else 5, label=f"log p(x), {how}",
        )  # fmt: skip
    if many:
        ax.plot(numbers[finite], vlb[finite], ".", color=VLB, markersize=2.5, label="VLB, exact")
    else:
        _dashes(ax, numbers[finite], vlb[finite], VLB, "VLB, exact")
    ax.use_sticky_edges = False
    if not many:
        room = max(0.8, 3.0 - rows / 2)
        ax.set_xlim(numbers[0] - room, numbers[-1] + room)
    ax.set(xlabel="rows, sorted by log p(x)" if many else "row", ylabel="nats")
    ax.ticklabel_format(axis="y", useOffset=False)
    whole_numbers(ax)
    if rows <= 15:
        ax.set_xticks(numbers)
    lost = "" if finite.all() else f"; {int((~finite).sum())} with VLB = -inf"
    tidy(ax, f"log p(x) = VLB + KL of {rows} row{'' if rows == 1 else 's'}{lost}")
    return ax


def _dashes(ax: Axes, numbers: NDArray[np.int64], values: Floats, color: str, label: str) -> None:
    """A short level line for each row."""
    ax.plot(
        numbers,
        values,
        "_",
        color=color,
        markersize=min(18.0, 260.0 / max(len(numbers), 1)),
        markeredgewidth=2,
        label=label,
    )


def log_px_bounds(whole: Decomposition | DecompositionBracket) -> tuple[Floats, Floats, str]:
    """log p(x) from below and from above, (N,), and how it is known."""
    if isinstance(whole, Decomposition):
        return whole.log_px, whole.log_px, "exact"
    between = whole.log_px
    how = how_known(between.kind, between.confidence)
    if how == "exact":
        middle = (between.lower + between.upper) / 2
        return middle, middle, how
    return between.lower, between.upper, how


def _mean_log_px(whole: Decomposition | DecompositionBracket) -> tuple[float, float, str]:
    """The same of the mean over the rows, which may be known more narrowly than the rows are."""
    lower, upper, how = log_px_bounds(whole)
    if how == "exact" or isinstance(whole, Decomposition):
        return float(lower.mean()), float(upper.mean()), how
    assert whole.log_px.mean_lower is not None
    assert whole.log_px.mean_upper is not None
    return whole.log_px.mean_lower, whole.log_px.mean_upper, how
