"""A sequential test of a mean by betting, whose error rates are proved, not simulated.

Draws X_1, X_2, ... are independent, lie in [low, high], and have an unknown mean. A gambler who thinks that the mean is
above m starts with a capital of 1 and bets a fixed fraction b of it, 0 <= b < 1 / (m - low), at every draw:

    C_t(m) = prod over s <= t of (1 + b (X_s - m)).

If the mean is at most m, C_t(m) is a non-negative supermartingale that starts at 1, so by Ville's inequality (1939)

    P(C_t(m) >= 1 / alpha for any t) <= alpha:

however often one looks, a capital of 1 / alpha comes about with probability alpha at most. Betting downwards works the
same, and the means m that neither gambler has refuted at level alpha / 2 form a confidence sequence of level alpha
(Waudby-Smith & Ramdas 2024, Estimating means of bounded random variables by betting, section 4). With one bet for all
m <= mu - d, one for all m >= mu + d, and one in each direction for the means between, four capitals say all that is
asked of it:

    FAIL          it misses [mu - tolerance, mu + tolerance]
    PASS          it lies inside mu +- d, d = delta sigma
    INCONCLUSIVE  neither, after the planned number of draws.

So P(FAIL) <= alpha where the bias is at most the tolerance, and P(PASS) <= alpha where it is more than d; a bias
between may end in either. Validity rests on the range alone: sigma and the distribution only choose the bets, and
the number of draws. A draw outside the range is a FAIL at once, and says so.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..types import Floats

_BOLDEST = 0.99
"""The largest bet, as a fraction of what the range allows: no draw may take all of the capital."""

_QUANTILE = 3.3
"""Standard deviations of the capital's logarithm that the plan leaves room for, in each of its directions."""

_FEW = 100
"""Draws where there is nothing to bet on."""

_DETECTED = 2.0
"""The bias, in units of delta sigma, that is to end in FAIL within the planned draws."""


class InconclusiveError(AssertionError):
    """The planned draws were too few to decide: nothing is proved, and nothing is known to be wrong."""


class Verdict(NamedTuple):
    """outcome: "PASS", "FAIL" or "INCONCLUSIVE". draws: how many it took. mean: theirs. reason: in words, for FAIL."""

    outcome: str
    draws: int
    mean: float
    reason: str = ""


class Plan(NamedTuple):
    """A test before it begins: of a mean that should be `mean`, by draws within [low, high] and of deviation `sigma`.

    draws: after how many it is over. bets: fractions of the capital; up and down against the means within the
    tolerance, and against those below and above mean +- delta sigma.
    """

    mean: float
    sigma: float
    low: float
    high: float
    tolerance: float
    delta: float
    alpha: float
    draws: int
    bets: tuple[float, float, float, float]

    @property
    def deterministic(self) -> bool:
        """Whether delta sigma is below rounding, so that there is nothing to bet on.

        Then a few draws have to lie in the range of those values that are likely to come at all.
        """
        return self.tolerance >= self.delta * self.sigma

    @property
    def remark(self) -> str:
        """Why many draws are planned, or an empty string."""
        if self.deterministic or self.high - self.low <= 30 * self.sigma:
            return ""
        return (
            f"the range is {(self.high - self.low) / self.sigma:.0f} standard deviations wide, which takes many draws: "
            "rare values decide"
        )


def plan_test(
    values: Floats,
    probabilities: Floats,
    *,
    mean: float | None = None,
    averaged: int = 1,
    tolerance: float = 0.0,
    delta: float = 0.1,
    alpha: float = 1e-6,
) -> Plan:
    """Plans a test of draws that take `values` with these probabilities, each the mean of `averaged` of them.

    mean: where it is known better than as their weighted sum. The bets are the best for the exact distribution, that of
    an average being taken as the same shape narrowed, and, to detect a bias, for the nearest one that has it.
    """
    reached = probabilities > 0
    values, probabilities = values[reached], probabilities[reached] / probabilities[reached].sum()
    centre = float(probabilities @ values) if mean is None else mean
    sigma = math.sqrt(float(probabilities @ (values - centre) ** 2) / averaged)
    low, high = float(values.min()), float(values.max())
    plan = Plan(centre, sigma, low, high, tolerance, delta, alpha, _FEW, (0.0, 0.0, 0.0, 0.0))
    if plan.deterministic:
        likely = values[probabilities > alpha / (_FEW * averaged * len(values))]
        return plan._replace(low=float(likely.min()), high=float(likely.max()))
    narrowed = (values - centre) / math.sqrt(averaged)
    gap, needed = delta * sigma, math.log(2 / alpha)
    biased = _DETECTED * gap
    above, below = tolerance + tolerance + centre - low, tolerance + tolerance + high - centre
    plans = [
        _best(narrowed - tolerance, _tilted(narrowed, probabilities, biased), above, sigma, needed),
        _best(-narrowed - tolerance, _tilted(-narrowed, probabilities, biased), below, sigma, needed),
        _best(narrowed + gap, probabilities, above - tolerance - gap, sigma, needed),
        _best(-narrowed + gap, probabilities, below - tolerance - gap, sigma, needed),
    ]
    up, down, under, over = (bet for bet, _ in plans)
    return plan._replace(draws=max(draws for _, draws in plans), bets=(up, down, under, over))


def _tilted(values: Floats, probabilities: Floats, mean: float) -> Floats:
    """Returns the distribution on the same values that has this mean and is nearest to `probabilities` in divergence.

    It is proportional to probabilities times exp(t value). Where no value is so large, all mass goes to the largest.
    """

    def tilt(t: float) -> Floats:
        weights = probabilities * np.exp(t * values - (t * values).max())
        normalised: Floats = weights / weights.sum()
        return normalised

    scale = float(np.abs(values).max())
    low, high = 0.0, 700 / scale
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if tilt(middle) @ values < mean else (low, middle)
    return tilt(high)


def _best(gains: Floats, probabilities: Floats, reach: float, sigma: float, needed: float) -> tuple[float, int]:
    """Returns the bet that gets the capital's logarithm to `needed` soonest, and how many draws that takes.

    gains: X - m, or m - X, with these probabilities; reach: the most that can be lost in one draw.
    """
    most = _BOLDEST / reach if reach * 10 > sigma else 10 / sigma
    bold = most * np.geomspace(1e-4, 1.0, 80)
    logs = np.log1p(np.maximum(bold[:, None] * gains, -_BOLDEST))
    growth = logs @ probabilities
    spread = np.sqrt(np.maximum((logs**2) @ probabilities - growth**2, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = (_QUANTILE * spread + np.sqrt((_QUANTILE * spread) ** 2 + 4 * growth * needed)) / (2 * growth)
        draws = np.where(growth > 0, roots**2, np.inf)
    best = int(np.argmin(draws))
    return float(bold[best]), math.ceil(min(float(draws[best]), 1e15))


class SequentialTest:
    """A test in progress: call `update(draws)` until it returns a verdict, or `conclude()` when there are no more."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._logs = np.zeros(4)
        self._refuted = np.zeros(4, dtype=bool)
        self._count, self._sum = 0, 0.0
        gap = plan.delta * plan.sigma
        self._against = np.array(
            [plan.mean + plan.tolerance, plan.mean - plan.tolerance, plan.mean - gap, plan.mean + gap]
        )
        self._bets = np.array(plan.bets) * np.array([1.0, -1.0, 1.0, -1.0])

    @property
    def mean(self) -> float:
        """The mean of the draws so far."""
        return self._sum / self._count if self._count else math.nan

    def update(self, draws: Floats) -> Verdict | None:
        """Takes draws in, one after the other; returns the verdict, if there is one."""
        plan = self.plan
        outside = ~((draws >= plan.low - plan.tolerance) & (draws <= plan.high + plan.tolerance))
        first_outside = int(outside.argmax()) if outside.any() else len(draws)
        inside = draws[:first_outside]
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = self._logs[:, None] + np.cumsum(
                np.log1p(self._bets[:, None] * (inside - self._against[:, None])), axis=1
            )
        reached = (logs >= math.log(2 / plan.alpha)) | self._refuted[:, None]
        reached = np.logical_or.accumulate(reached, axis=1)
        failed, passed = reached[0] | reached[1], reached[2] & reached[3]
        for end, outcome in sorted((int(r.argmax()), o) for r, o in ((failed, "FAIL"), (passed, "PASS")) if r.any()):
            self._take(inside[: end + 1])
            return Verdict(outcome, self._count, self.mean, self._why(reached[0, end]) if outcome == "FAIL" else "")
        if first_outside < len(draws):
            self._take(draws[: first_outside + 1])
            return Verdict("FAIL", self._count, self.mean, self._outside(float(draws[first_outside])))
        self._take(inside)
        if len(inside):
            self._logs, self._refuted = logs[:, -1], reached[:, -1]
        return None

    def conclude(self) -> Verdict:
        """Returns the verdict when there are no more draws."""
        if self.plan.deterministic and self._count:
            return Verdict("PASS", self._count, self.mean)
        return Verdict("INCONCLUSIVE", self._count, self.mean)

    def _take(self, draws: Floats) -> None:
        self._count += len(draws)
        self._sum += float(draws.sum())

    def _why(self, above: bool) -> str:
        return f"the mean of the draws is {'above' if above else 'below'} {self.plan.mean:.12g}, where it should be"

    def _outside(self, draw: float) -> str:
        plan = self.plan
        if plan.deterministic:
            return f"draw {self._count} is {draw:.12g}, where every draw should be {plan.mean:.12g}"
        return f"draw {self._count} is {draw:.12g}, outside [{plan.low:.12g}, {plan.high:.12g}], the range over all z"
