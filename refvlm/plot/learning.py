"""How a model was learnt: the records of `fit`, as curves over the epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .. import show
from ..learning.history import CONFIDENCE, Record
from ..types import Floats
from .canvas import HELD_OUT, KL, LOG_PX, VLB, axes_or_new, tidy, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ERRORS = 2
"""Standard errors on either side of an estimate."""


def learning_curve(history: Sequence[Record], *, ax: Axes | None = None) -> Axes:
    """log p(x) = VLB + KL, eq. (8), over the epochs: means over the rows in nats, KL the band between the two.

    history: that of a `Fit`, one record or more. Exact values are lines. Where log p(x) is estimated, the line is
    dashed, with a band of two standard errors on either side, and the band of KL is hatched, an estimate likewise.
    The last record's certified bracket is an interval. Held-out rows, where there are any: the same of their log p(x),
    their exact VLB as a dotted line, and the epoch whose model was kept. What is in one record only is a point. Raises
    ValueError for a history without records.
    """
    if len(history) == 0:
        raise ValueError("history: got no records, wanted one for every evaluated epoch, as `fit` returns them")
    ax = axes_or_new(ax, 8.6, 4.0)
    epochs = np.array([record.epoch for record in history], dtype=np.float64)
    vlb, log_px, estimate = (_column(history, name) for name in ("vlb", "log_px", "log_px_estimate"))
    _log_marginal(ax, epochs, history, "", LOG_PX, "log p(x)")
    _gap(ax, epochs, vlb, log_px, "KL(q || p(z | x)), exact")
    _gap(ax, epochs, vlb, estimate, "KL(q || p(z | x)), estimate", hatch="///")
    _line(ax, epochs, vlb, VLB, "-", "VLB, exact")
    _log_marginal(ax, epochs, history, "validation_", HELD_OUT, "held-out log p(x)")
    _line(ax, epochs, _column(history, "validation_vlb"), HELD_OUT, ":", "held-out VLB, exact")
    kept = max((record for record in history if record.score is not None), key=lambda r: r.score or 0.0, default=None)
    if kept is not None:
        ax.axvline(kept.epoch, color=HELD_OUT, linewidth=0.8, alpha=0.6, zorder=0, label=f"kept: epoch {kept.epoch}")
    ax.set(xlabel="epoch", ylabel="mean over the rows / nats")
    ax.ticklabel_format(axis="y", useOffset=False)
    whole_numbers(ax)
    tidy(ax, "log p(x) = VLB + KL while learning")
    return ax


def _column(history: Sequence[Record], name: str) -> Floats:
    """A number of every record, NaN where it is not there."""
    values = [getattr(record, name) for record in history]
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _log_marginal(ax: Axes, epochs: Floats, history: Sequence[Record], rows: str, color: str, name: str) -> None:
    """log p(x) of some rows in the three ways in which it may be known."""
    _line(ax, epochs, _column(history, f"{rows}log_px"), color, "-", f"{name}, exact")
    value, error = (_column(history, f"{rows}log_px_{what}") for what in ("estimate", "standard_error"))
    there = np.isfinite(value)
    if there.any():
        reach = ERRORS * np.where(np.isfinite(error), error, 0.0)[there]
        x, y, label = epochs[there], value[there], f"{name}, estimate ± {ERRORS} standard errors"
        if len(x) == 1:
            ax.errorbar(x, y, reach, fmt="o", color=color, markersize=4, capsize=3, label=label)
        else:
            ax.plot(x, y, color=color, linestyle="--", linewidth=1.4, label=label)
            ax.fill_between(x, y - reach, y + reach, color=color, alpha=0.2, linewidth=0)
    lower, upper = (_column(history, f"{rows}log_px_{side}") for side in ("lower", "upper"))
    there = np.isfinite(lower) & np.isfinite(upper)
    if there.any():
        middle = (lower[there] + upper[there]) / 2
        ax.errorbar(
            epochs[there], middle, [middle - lower[there], upper[there] - middle], fmt="none", ecolor=color,
            elinewidth=2, capsize=6, label=f"{name}, {show.certified(CONFIDENCE)}".replace("e-0", "e-"),
        )  # fmt: skip


def _line(ax: Axes, epochs: Floats, values: Floats, color: str, style: str, label: str) -> None:
    """A curve through the numbers that are there, or a point."""
    there = np.isfinite(values)
    if there.any():
        marker = "o" if there.sum() == 1 else None
        ax.plot(
            epochs[there], values[there], color=color, linestyle=style, marker=marker, markersize=4, linewidth=1.6,
            label=label,
        )  # fmt: skip


def _gap(ax: Axes, epochs: Floats, vlb: Floats, log_px: Floats, label: str, hatch: str | None = None) -> None:
    """The band between VLB and log p(x), or a bar where both are there only once."""
    there = np.isfinite(vlb) & np.isfinite(log_px)
    if there.sum() == 1:
        ax.vlines(epochs[there], vlb[there], log_px[there], color=KL, linewidth=5, alpha=0.7, zorder=1, label=label)
    elif there.any():
        band = ax.fill_between(epochs[there], vlb[there], log_px[there], linewidth=0, zorder=1, label=label)
        if hatch is None:
            band.set(color=KL, alpha=0.5)
        else:
            band.set(facecolor="none", edgecolor=KL, hatch=hatch)
