"""A confidence sequence for the mean of draws in [0, 1], by betting: right at every moment at once.

Somebody who holds that the mean is above m starts with a capital of 1 and bets c / m of it on every draw X, 0 <= c < 1:
it becomes prod of (1 + c (X / m - 1)). If the mean is at most m that is a non-negative supermartingale, so by Ville's
inequality it ever reaches 1 / delta with probability delta at most; the same holds for a mixture of bets, and for bets
downwards, 1 - c (X - m) / (1 - m). The means that neither side has refuted at delta / 2 are a confidence sequence of
level delta (Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting).

Draws are kept as a histogram over a geometric grid that leaves their mean as it is (`enumeration/draws.py`).
log(1 + bet) is concave, so its chord lies below it, and the capital that the histogram shows is never more than the
true one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..enumeration.draws import EDGES, Histogram

BETS = 0.999999 * 2.0 ** -np.arange(26.0)
"""Parts of the boldest bet; a capital is the mean over them."""
_TINY = 1e-150
"""A mean whose square is still a number."""
ROUNDING = 1e-6
"""More than what rounding can add to the logarithm of a capital, of up to 1e12 draws."""


@dataclass(frozen=True)
class Capital:
    """What is known of the mean of the draws that were seen."""

    seen: Histogram

    @property
    def mean(self) -> float:
        """Of the draws."""
        return self.seen.total / max(self.seen.draws, 1)

    @property
    def relative_variance(self) -> float:
        """The draws' variance over the square of their mean; inf where they are too small to tell."""
        seen = self.seen
        return max(seen.squares * seen.draws / seen.total**2 - 1.0, 0.0) if seen.total > _TINY else math.inf

    def against(self, mean: float, *, above: bool, bets: slice = slice(None)) -> float:
        """The logarithm of the capital of bets that the mean is above (or below) `mean`, 0 < mean < 1.

        bets: those that are counted; the others are taken to have lost everything, so that it is never too much.
        """
        filled = self.seen.mass > 0.0
        edges, mass = EDGES[filled], self.seen.mass[filled]
        gain = edges / mean - 1.0 if above else (mean - edges) / (1.0 - mean)
        logarithms = np.log1p(BETS[bets, None] * gain) @ mass
        most = float(logarithms.max())
        return most + math.log(float(np.exp(logarithms - most).sum()) / len(BETS)) - ROUNDING

    def bounds(self, delta: float) -> tuple[float, float]:
        """(lower, upper) for the mean, of which each is ever wrong with probability delta / 2 at most."""
        draws = self.seen.draws
        if draws == 0:
            return 0.0, 1.0
        needed, mean = math.log(2.0 / delta), min(max(self.mean, _TINY), 1.0 - 1e-12)
        variance = min(max(self.relative_variance, 1e-12), 1e30)
        guess = math.sqrt(2.0 * needed * variance / draws) + needed / (draws * mean)
        best = math.sqrt(2.0 * needed / (draws * variance))
        lower = self._refuted(mean, -guess, 1e-9 * mean, needed, _around(best)) if self.mean >= _TINY else None
        upper = self._refuted(mean, guess, 1.0 - 1e-12, needed, _around(best * (1.0 - mean) / mean))
        return lower or 0.0, upper or 1.0

    def lower(self, delta: float) -> float:
        """The lower of these bounds by itself, ever wrong with probability delta at most; 0 where nothing is known."""
        if self.mean < _TINY:
            return 0.0
        needed, variance = math.log(1.0 / delta), min(max(self.relative_variance, 1e-12), 1e30)
        draws = self.seen.draws
        guess = math.sqrt(2.0 * needed * variance / draws) + needed / (draws * self.mean)
        best = math.sqrt(2.0 * needed / (draws * variance))
        return self._refuted(self.mean, -guess, _TINY, needed, _around(best)) or 0.0

    def _refuted(self, mean: float, guess: float, last: float, needed: float, bets: slice) -> float | None:
        """The value nearest to `mean`, below it where guess < 0, else above, that is refuted; none beyond `last` is."""
        above = guess < 0.0
        standing, distance = 0.0, guess
        while True:
            value = mean * math.exp(max(min(distance, 700.0), -700.0))
            value = max(value, last) if above else min(value, last)
            if self.against(value, above=above, bets=bets) >= needed:
                break
            if value == last:
                return None
            standing, distance = distance, 2.0 * distance
        distance = math.log(value / mean)
        while abs(distance - standing) > 1e-3 * abs(distance):
            middle = 0.5 * (distance + standing)
            nearer = mean * math.exp(middle)
            if self.against(nearer, above=above, bets=bets) >= needed:
                distance, value = middle, nearer
            else:
                standing = middle
        return value


def _around(size: float) -> slice:
    """The bets from a sixteenth of this size to sixteen times it: the others win next to nothing, or lose."""
    middle = round(min(max(-math.log2(size), 0.0), len(BETS) - 1.0))
    return slice(max(middle - 4, 0), middle + 5)


def forecast(draws: float, gap: float, relative_variance: float, delta: float) -> float:
    """About how far apart the bounds of log mean are after so many draws, where the mean is e^-gap."""
    level = math.log(2.0 / delta)
    return 2.0 * math.sqrt(2.0 * level * relative_variance / draws) + math.log1p(
        level * math.exp(min(gap, 600.0)) / draws
    )


def draws_needed(width: float, gap: float, relative_variance: float, delta: float) -> float:
    """About how many draws make the bounds of log mean `width` apart, where the mean is e^-gap."""
    low, high = 1.0, 1e300
    for _ in range(100):
        n = math.sqrt(low) * math.sqrt(high)
        low, high = (low, n) if forecast(n, gap, relative_variance, delta) <= width else (n, high)
    return 1.15 * high
