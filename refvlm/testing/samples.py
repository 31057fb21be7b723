"""Asserts that a sampler of another implementation draws from the exact distribution over all codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import bits
from ..checks import as_binary, as_parameters
from ..conformance.mistakes.likelihood import ExchangedBits
from ..conformance.mistakes.sums import ReversedCodes
from ..progress import ProgressBar
from ..types import Floats
from .betting import InconclusiveError, Verdict

_MOST_BITS = 20
_BATCH = 1 << 18


def assert_samples_match(
    draw: Callable[[int], Any],
    probabilities: ArrayLike,
    *,
    delta: float = 0.1,
    alpha: float = 1e-6,
    most: int = 10_000_000,
) -> Verdict:
    """Raises AssertionError if draws of bits do not come from the distribution that they should come from.

    draw(n): (n, B) independent draws of B bits. probabilities (2**B,): of every code c, whose bits are (c >> b) & 1;
    for instance exp(refvlm.log_prior(model, refvlm.bits.table(K))), refvlm.posterior(model, x)[0], or
    exp(refvlm.log_marginal(model, refvlm.bits.table(L))).

    Every code has an exact binomial confidence interval (Clopper & Pearson 1934) at level alpha / 2**B: FAIL, with
    probability at most alpha where the sampler is right, if one misses its probability, and at once where a code of
    probability 0 is drawn. PASS if the intervals force the total variation distance below delta, which happens with
    probability at most alpha where it is not. Else InconclusiveError. As many draws as that takes are planned
    beforehand; more than `most` are refused.
    """
    p = as_parameters("probabilities", probabilities, 1)
    width = len(p).bit_length() - 1
    if len(p) != 1 << width or width < 1 or width > _MOST_BITS:
        raise ValueError(f"probabilities: got {len(p)} numbers, wanted 2**B of them, for B from 1 to {_MOST_BITS} bits")
    if (p < 0).any() or abs(p.sum() - 1) > 1e-9:
        raise ValueError(
            f"probabilities: got a sum of {p.sum():.9g} and a least of {p.min():.3g}, wanted probabilities"
        )
    planned = _plan(p, delta, alpha)
    if planned > most:
        raise ValueError(f"most: got {most}, and {planned} draws are planned; ask for a larger delta, or allow more")
    counts, done = np.zeros(len(p), dtype=np.int64), 0
    with ProgressBar("draws") as bar:
        while done < planned:
            count = min(_BATCH, planned - done)
            codes = bits.codes_of(as_binary("draw", draw(count), width, rows=count))
            counts += np.bincount(codes, minlength=len(p))
            done += count
            impossible = (counts > 0) & (p == 0)
            if impossible.any():
                code = int(impossible.argmax())
                raise AssertionError(f"samples: FAIL: {_words(code, width)} was drawn, whose probability is 0")
            bar(done, planned)
    low, high = _intervals(counts, done, alpha / len(p))
    missed = (p < low) | (p > high)
    if missed.any():
        code = int(np.argmax(np.where(missed, np.abs(counts / done - p), -1.0)))
        raise AssertionError(
            f"samples: FAIL after {done} draws: {_words(code, width)} came {counts[code]} times, a fraction of "
            f"{counts[code] / done:.6g} where {p[code]:.6g} is wanted; {int(missed.sum())} of {len(p)} codes are off "
            f"(wrong with probability at most {alpha:.1g}){_hint(counts / done, p, width)}"
        )
    distance = float(np.maximum(high - p, p - low).sum() / 2)
    if distance >= delta:
        raise InconclusiveError(
            f"samples: neither PASS nor FAIL after {done} draws: the total variation distance is below {distance:.3g}, "
            f"wanted below {delta:g}"
        )
    return Verdict("PASS", done, float("nan"))


def _plan(p: Floats, delta: float, alpha: float) -> int:
    """Returns after how many draws the intervals' far ends, with two standard deviations to spare, are within delta."""
    z = math.sqrt(2 * math.log(2 * len(p) / alpha))
    count = 1000
    while True:
        spread = np.sqrt(p * (1 - p) / count)
        if ((z + 2) * spread + np.where(p > 0, z * z, math.log(2 * len(p) / alpha)) / count).sum() / 2 < delta:
            return count
        count = count * 5 // 4


def _intervals(counts: NDArray[np.int64], total: int, alpha: float) -> tuple[Floats, Floats]:
    """Returns the Clopper-Pearson intervals, (low, high)."""
    from scipy.special import betaincinv  # on first use: SciPy takes a moment to load

    with np.errstate(invalid="ignore"):
        low = np.where(counts > 0, betaincinv(np.maximum(counts, 1), total - counts + 1, alpha / 2), 0.0)
        high = np.where(counts < total, betaincinv(counts + 1, np.maximum(total - counts, 1), 1 - alpha / 2), 1.0)
    return low, high


def _words(code: int, width: int) -> str:
    return f"the code {code}, bits {[(code >> b) & 1 for b in range(width)]},"


def _hint(fractions: Floats, p: Floats, width: int) -> str:
    """Names the mistake about bits that explains the draws, if one does."""
    table = bits.table(width)
    orders = {
        ReversedCodes: bits.codes_of(np.ascontiguousarray(table[:, ::-1])),
        ExchangedBits: bits.codes_of(1 - table),
    }
    off = float(np.abs(fractions - p).sum())
    for mistake, order in orders.items():
        if float(np.abs(fractions[order] - p).sum()) < off / 4:
            return f"\n  the draws fit with {mistake.advice()}"
    return ""
