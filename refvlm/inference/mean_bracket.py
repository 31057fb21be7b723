"""Bounds on the mean of log p(x) over rows that are narrower than the mean of the rows' bounds: errors average out.

Capitals multiply. Let l_n(t_n) be the logarithm of what bets of one size win of row n's draws against the claim that
log E[r_n] = t_n. Where the claims are true for all rows at once, the product of the rows' capitals is a non-negative
supermartingale, and so is a mixture of it over the 26 sizes in `capital.py`, the same size for all rows. So with
probability 1 - delta / 4 the truth is in the set where sum of l_n(t_n) <= A = log(4 / delta) + log 26 for every size,
for either direction. With probability 1 - delta / 2 it is within the rows' own bounds, too; these cut off the corners
of the set, into which it would reach where rows that were drawn less would make up for others.

A size is a part of the mean: bets upwards win log(1 + c (X e^-t - 1)), and bets downwards, which may not lose more than
everything, log(1 + d (e^t - X) / (1 - e^t)), d = c (1 - m) / m, with m the mean of the row's first draws, which are not
bet on. Both are convex in t. So for any s > 0 and any size

    sum of t_n  >=  sum of min over t of (t + l_n(t) / s)  -  A / s,        t within the row's bounds,

by Lagrange's duality, with the best s attaining the least sum in the set; and likewise above. The minima are approached
by tangents on either side, whose intersection lies below the convex function: it is a bound wherever that ends.
"""

from __future__ import annotations

import math

import numpy as np

from ..enumeration.draws import EDGES, Histogram
from ..types import Floats
from .capital import BETS, ROUNDING, Capital

_MERGED = 4
"""Neighbouring cells of the histograms that become one, which keeps the means and costs next to nothing in width."""
_COARSE = EDGES[np.r_[0, np.arange(len(EDGES) - 1, 0, -_MERGED)[::-1]]]
_TRIED = 2
"""Sizes on either side of the one that would be best for small bets, itself included."""
_CUTS = 10
"""Tangents for a minimum; where the function is smooth each halves where it may be."""
_FARTHEST = 600.0
"""Beyond -t of it what is won stays as it is there, which is less, and the tangents stay below."""
_LARGEST = -1e-12
"""Beyond it, up to 0, a function is no less than its tangent there."""


class _Rows:
    """Histograms of the draws that are bet on, (N, edges), and what the first draws of each row say."""

    def __init__(self, first: list[Histogram], rest: list[Histogram], lower: Floats, upper: Floats) -> None:
        mass = np.array([_merge(seen.mass) for seen in rest])
        filled = mass.any(axis=0)
        self.edges, self.mass = _COARSE[filled], mass[:, filled]
        self.lower, self.upper = np.clip(lower, -1e300, _LARGEST), np.minimum(upper, _LARGEST)
        self.draws = self.mass.sum(axis=1)
        pairs = [(a.plus(b), a) for a, b in zip(first, rest, strict=True)]
        self.mean = np.array([min(max(a.total / max(a.draws, 1), 1e-300), 1.0 - 1e-6) for _, a in pairs])
        centre = np.log([max(t.total, 1e-300) / max(t.draws, 1) for t, _ in pairs])
        self.centre = np.clip(centre, self.lower, self.upper)
        self.variance = np.array([min(max(Capital(t).relative_variance, 1e-12), 1e12) for t, _ in pairs])

    def upwards(self, size: float, t: Floats) -> tuple[Floats, Floats]:
        """l and its slope at t (N,): bets against a mean that is claimed too small."""
        gain = size * self.edges * np.exp(np.minimum(-t, _FARTHEST))[:, None]
        value = (self.mass * np.log1p(gain - size)).sum(axis=1)
        return value, -(self.mass * (gain / (1.0 - size + gain))).sum(axis=1)

    def downwards(self, size: float, t: Floats) -> tuple[Floats, Floats]:
        """Likewise against one that is claimed too large."""
        part = np.minimum(size * (1.0 - self.mean) / self.mean, BETS[0])[:, None]
        claimed, rest = np.exp(t)[:, None], -np.expm1(t)[:, None]
        gain = part * ((1.0 - self.edges) / rest - 1.0)
        value = (self.mass * np.log1p(gain)).sum(axis=1)
        slope = part * (1.0 - self.edges) * claimed / rest**2 / (1.0 + gain)
        return value, (self.mass * slope).sum(axis=1)

    def least(self, size: float, s: float, sign: int) -> float:
        """No more than the sum over rows of the least sign t + l(t) / s, within its bounds."""

        def function(t: Floats) -> tuple[Floats, Floats]:
            value, slope = self.upwards(size, t) if sign > 0 else self.downwards(size, t)
            return sign * t + value / s, sign + slope / s

        reach = 4.0 * np.sqrt(self.variance / np.maximum(self.draws, 1.0)) + 1e-3
        a, b = np.maximum(self.centre - reach, self.lower), np.minimum(self.centre + reach, self.upper)
        (f_a, d_a), (f_b, d_b) = function(a), function(b)
        while (falls := (d_b < 0.0) & (b < self.upper)).any() or ((d_a > 0.0) & (a > self.lower)).any():
            reach, rises = 4.0 * reach, (d_a > 0.0) & (a > self.lower)
            further = np.minimum(self.centre + reach, self.upper), np.maximum(self.centre - reach, self.lower)
            a, b = (
                np.where(falls, b, np.where(rises, further[1], a)),
                np.where(rises, a, np.where(falls, further[0], b)),
            )
            (f_a, d_a), (f_b, d_b) = function(a), function(b)
        inside = (d_a < 0.0) & (d_b > 0.0)
        for cut in range(_CUTS + 1):
            with np.errstate(divide="ignore", invalid="ignore"):
                t = np.where(inside, np.clip((f_b - f_a + d_a * a - d_b * b) / (d_a - d_b), a, b), a)
            if cut == _CUTS:
                break
            if cut % 3 == 2:  # where one tangent is far steeper, they keep meeting beside it
                t = np.where(inside, 0.5 * (a + b), a)
            f, d = function(t)
            left = inside & (d < 0.0)
            right = inside & ~left
            a, f_a, d_a = np.where(left, t, a), np.where(left, f, f_a), np.where(left, d, d_a)
            b, f_b, d_b = np.where(right, t, b), np.where(right, f, f_b), np.where(right, d, d_b)
        meeting = np.minimum(f_a + d_a * (t - a), f_b + d_b * (t - b))
        ends = np.where(d_a >= 0.0, f_a, f_b + d_b * -_LARGEST)
        return float(np.where(inside, meeting, ends).sum())


def sum_bounds(
    first: list[Histogram], rest: list[Histogram], lower: Floats, upper: Floats, delta: float
) -> tuple[float, float]:
    """Bounds on the sum over rows of log E[r_n], which are ever wrong with probability delta at most.

    first, rest: of each row's draws, those that are not bet on and those that are. lower, upper: (N,), bounds on each
    term that are ever wrong with probability delta / 2 at most, all together.
    """
    from scipy.optimize import minimize_scalar  # 0.3 s, which `import refvlm` can do without

    rows = _Rows(first, rest, lower, upper)
    level = math.log(4.0 / delta) + math.log(len(BETS)) + ROUNDING * len(first)
    least, most = float(lower.sum()), float(upper.sum())
    if not rows.draws.any():
        return least, most
    best = math.sqrt(2.0 * level / float((rows.draws * rows.variance).sum()))  # where l is linear in t
    for size in BETS[np.argsort(np.abs(np.log(BETS / best)))[:_TRIED]].tolist():
        steep = math.log(size * float(np.median(rows.draws[rows.draws > 0.0])))
        for sign in (1, -1):

            def negative(log_s: float, size: float = size, sign: int = sign) -> float:
                return level / math.exp(log_s) - rows.least(size, math.exp(log_s), sign)

            found = minimize_scalar(
                negative, bounds=(steep - 8.0, steep + 2.0), method="bounded", options={"xatol": 0.02, "maxiter": 20}
            )
            if sign > 0:
                least = max(least, -float(found.fun))
            else:
                most = min(most, float(found.fun))
    return least, most


def _merge(mass: Floats) -> Floats:
    """The mass on every fourth edge, shared so that the mean stays."""
    place = np.searchsorted(_COARSE, EDGES, side="right") - 1
    place = np.minimum(place, len(_COARSE) - 2)
    upper = (EDGES - _COARSE[place]) / (_COARSE[place + 1] - _COARSE[place])
    below: Floats = np.bincount(place, mass * (1.0 - upper), len(_COARSE)).astype(np.float64)
    return below + np.bincount(place + 1, mass * upper, len(_COARSE))
