"""What the sum over all codes costs, against the number of latent bits, on the machine at hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..bits import check_codes
from ..checks import check_count
from ..inference.cost import predict_seconds
from ..inference.exact import log_marginal
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..types import Bits
from .canvas import BLUE, GREEN, GREY, PURPLE, VERMILLION, axes_or_new, tidy, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAMOUS = 32
"""Latent bits whose sum has 4 294 967 296 terms."""

_UNITS = {
    "1 µs": 1e-6, "1 ms": 1e-3, "1 s": 1.0, "1 minute": 60.0, "1 hour": 3600.0, "1 day": 86400.0, "1 year": 31557600.0,
    "1000 years": 31557600e3,
}  # fmt: skip
_COLORS = (BLUE, VERMILLION, GREEN, PURPLE)


def cost(
    hidden: Sequence[int] = (),
    observed: int = 64,
    *,
    latents: Sequence[int] = range(8, 41),
    rows: int = 1,
    seconds: float = 0.5,
    ax: Axes | None = None,
    workers: int | None = None,
) -> Axes:
    """Seconds of log p(x), eq. (3), a sum of 2**K terms, against K, on this machine; the time is a logarithmic axis.

    A model with `hidden` layers (z first), L = `observed` and random weights, and `rows` rows of x. Points are measured
    (best of three), up to the first K that takes more than `seconds`. The line is predicted for all `latents`, from a
    smaller sum that is timed, times two for every bit: see `refvlm.inference.cost`. The sum of 2**32 terms is marked.
    Called again with the `ax` that it returned, it adds another model. Raises ValueError for more than 62 latents.
    """
    counts = sorted(check_count("latents", count, 1) for count in latents)
    if not counts:
        raise ValueError("latents: got none, wanted one or more numbers of latent bits")
    check_codes(counts[-1])
    check_count("rows", rows, 1)
    rng = np.random.default_rng(0)
    x = (rng.random((rows, check_count("observed", observed, 1))) < 0.5).astype(np.uint8)
    predicted_last = predict_seconds(_model(counts[-1], hidden, observed), None, x, rows, workers=workers)
    measured: list[tuple[int, float]] = []
    for count in counts:
        if measured and 2 * measured[-1][1] > seconds:
            break
        measured.append((count, _seconds(_model(count, hidden, observed), x, workers)))
    ax = axes_or_new(ax, 8.6, 4.0)
    former = [line for line in ax.get_lines() if str(line.get_label()).startswith("predicted")]
    color = _COLORS[len(former) % len(_COLORS)]
    what = f"{', '.join(map(str, hidden))} hidden units" if hidden else "no hidden layer"
    ks = np.array(counts, dtype=np.float64)
    ax.plot(ks, predicted_last * 2.0 ** (ks - ks[-1]), color=color, linewidth=1.4, label=f"predicted, {what}")
    ax.plot(*zip(*measured, strict=True), "o", color=color, markersize=5, label=f"measured, {what}")
    if not former:
        ax.set_yscale("log")
        ax.axvline(FAMOUS, color=GREY, linewidth=1.0, linestyle=":")
        ax.annotate(
            f"K = {FAMOUS}:\n{1 << FAMOUS:,} terms", (FAMOUS, 0.03), xycoords=("data", "axes fraction"),
            xytext=(5, 0), textcoords="offset points", fontsize="small", color="#4D4D4D",
        )  # fmt: skip
        ax.set(xlabel="latent bits K", ylabel="time of the sum over 2^K codes")
        whole_numbers(ax)
    low, high = ax.get_ylim()
    shown = {name: value for name, value in _UNITS.items() if low <= value <= high}
    ax.set_yticks(list(shown.values()), list(shown))
    ax.set_yticks([], minor=True)
    ax.grid(axis="y", color="0.9", linewidth=0.8)
    plural = "1 row" if rows == 1 else f"{rows} rows"
    tidy(ax, f"exact log p(x) of {plural}, L = {observed}, on this machine")
    return ax


def _model(latents: int, hidden: Sequence[int], observed: int) -> BernoulliLVM:
    rng = np.random.default_rng(latents)
    return BernoulliLVM(Bernoulli(np.zeros(latents)), MLP.random([latents, *hidden, observed], rng))


def _seconds(model: BernoulliLVM, x: Bits, workers: int | None) -> float:
    """The best of three calls, after one that does not count."""
    log_marginal(model, x, with_error=True, workers=workers)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        log_marginal(model, x, with_error=True, workers=workers)
        times.append(time.perf_counter() - start)
    return min(times)
