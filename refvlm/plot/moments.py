"""Gradient estimators by bias and variance, and the bounds that M draws give."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_count, describe
from ..inference.gradient_estimators import Comparison
from .canvas import BLUE, GREEN, LOG_PX, VERMILLION, VLB, axes_or_new, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = {"vlb": BLUE, "iwae": GREEN, "inclusive": VERMILLION}
_OBJECTIVES = {"vlb": "gradient of the VLB", "iwae": "of IWAE-M", "inclusive": "of −KL(p(z | x) || q)"}


def estimators(comparison: Comparison, *, ax: Axes | None = None) -> Axes:
    """The variance of one evaluation's worth of draws, and the squared bias, which no draws reduce; both logarithmic.

    comparison: what `refvlm.gradient_estimators.compare` returned. A dot is the mean over the rows of variance times
    evaluations of log p(x, z), the line through it what is between the least and the largest of a row; a diamond the
    mean squared bias. Raises ValueError without estimators, or without rows.
    """
    if not isinstance(comparison, Comparison):
        raise TypeError(f"comparison: got {describe(comparison)}, wanted what gradient_estimators.compare returns")
    if not comparison or len(comparison[0].bias) == 0:
        raise ValueError("comparison: got no estimators or no rows, wanted at least one of each")
    ax = axes_or_new(ax, 8.6, 1.6 + 0.3 * len(comparison))
    named, biased = set[str](), False
    for n, each in enumerate(comparison):
        color, whole, costs = _COLORS[each.estimator.objective], each.overall(), each.variance_times_cost
        noisy = costs[costs > 0]
        if len(noisy):
            label = None if each.estimator.objective in named else _OBJECTIVES[each.estimator.objective]
            named.add(each.estimator.objective)
            ax.plot([noisy.min(), noisy.max()], [n, n], color=color, linewidth=1.2, alpha=0.6)
            ax.plot(whole.variance_times_cost, [n], "o", color=color, markersize=6, label=label)
        if whole.bias[0] > 0:
            label = None if biased else "its squared bias"
            ax.plot(whole.bias**2, [n], "D", color=color, markerfacecolor="none", markersize=6, label=label)
            biased = True
    names = [f"{each.estimator.name}, {each.estimator.samples}" for each in comparison]
    ax.set_yticks(range(len(names)), names, fontsize="small")
    ax.invert_yaxis()
    ax.set_xscale("log")
    ax.grid(axis="x", color="0.9", linewidth=0.8)
    ax.set_xlabel("variance × evaluations of log p(x, z), and bias², nats²")
    rows = len(comparison[0].bias)
    how = "one row" if rows == 1 else f"means and ranges over {rows} rows"
    tidy(ax, f"exact moments of gradient estimators and their samples: {how}")
    return ax


def many_samples(samples: Sequence[int], bounds: ArrayLike, log_px: ArrayLike, *, ax: Axes | None = None) -> Axes:
    """IWAE-M against M, on a logarithmic axis, and log p(x), the line that it approaches; means over the rows, exact.

    samples: M, one or more. bounds: what `refvlm.iwae` returned for each, (len(samples), N) nats. log_px: (N,). Raises
    ValueError for other shapes.
    """
    counts = [check_count("samples", count, 1) for count in samples]
    values, line = np.asarray(bounds, dtype=np.float64), np.asarray(log_px, dtype=np.float64)
    if line.ndim != 1:
        raise ValueError(f"log_px: got shape {line.shape}, wanted (rows,)")
    if values.ndim != 2 or values.shape != (len(counts), len(line)) or values.size == 0:
        raise ValueError(f"bounds: got shape {values.shape}, wanted ({len(counts)}, {line.shape[0]}), (samples, rows)")
    ax = axes_or_new(ax)
    ax.axhline(line.mean(), color=LOG_PX, linewidth=1.4, label="log p(x), exact")
    ax.plot(counts, values.mean(axis=1), "o-", color=VLB, markersize=5, linewidth=1.4, label="IWAE-M, exact")
    ax.set_xscale("log")
    ax.set(xlabel="draws M", ylabel="nats")
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    tidy(ax, f"the bound of M weighted draws: {'one row' if len(line) == 1 else f'means over {len(line)} rows'}")
    return ax
