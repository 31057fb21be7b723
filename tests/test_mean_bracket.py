"""Bounds on the mean of log p(x): right as often as they say, narrower than the mean of the rows' bounds."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom

import refvlm
from refvlm.enumeration.draws import histogram, nothing
from refvlm.inference.capital import BETS, Capital
from refvlm.inference.mean_bracket import _Rows, sum_bounds


def drawn(rng, mean, shape, count):
    """Draws in [0, 1] of this mean; the larger the shape, the more alike."""
    return np.log(rng.beta(shape, shape * (1.0 - mean) / mean, count))


def halves(samples, opening=100):
    return [histogram(s[:opening]) for s in samples], [histogram(s[opening:]) for s in samples]


def whole_bounds(seen, delta, floor=-50.0):
    """With the rows' own bounds at half the error rate."""
    both = np.array([Capital(a.plus(b)).bounds(delta / 2 / len(seen[0])) for a, b in zip(*seen, strict=True)])
    lower, upper = np.log(np.maximum(both, math.exp(floor))).T
    return sum_bounds(*seen, lower, upper, delta)


@pytest.mark.parametrize("delta", [0.5, 0.1])
def test_neither_side_is_wrong_more_often_than_it_says(delta):
    """300 runs of 7 rows with means from 1e-3 to 0.9; a bound that held exactly would fail once in a million."""
    rng, runs = np.random.default_rng(0), 300
    means = np.geomspace(1e-3, 0.9, 7)
    truth, wrong = np.log(means).sum(), np.zeros(2)
    for _ in range(runs):
        lower, upper = whole_bounds(halves([drawn(rng, m, 1.0, 400) for m in means]), delta)
        wrong += [lower > truth, upper < truth]
    assert wrong.sum() <= binom.isf(1e-6, runs, delta)


def test_errors_of_rows_average_out():
    """60 rows: a fourth of the rows' bounds, close to what quadrature of their errors gives; the truth is inside."""
    rng = np.random.default_rng(1)
    means = rng.uniform(0.05, 0.8, 60)
    samples = [drawn(rng, m, 2.0, 20000) for m in means]
    lower, upper = whole_bounds(halves(samples, 4096), 1e-9)
    own = np.array([Capital(histogram(s)).bounds(1e-9 / 60) for s in samples])
    assert lower < np.log(means).sum() < upper
    assert upper - lower < np.log(own[:, 1] / own[:, 0]).sum() / 4.0
    variances = np.array([np.var(np.exp(s)) / np.mean(np.exp(s)) ** 2 / (len(s) - 4096) for s in samples])
    ideal = 2.0 * math.sqrt(2.0 * (math.log(4e9) + math.log(26)) * variances.sum())
    assert ideal < upper - lower < 1.2 * ideal


@pytest.mark.parametrize("sign", [1, -1])
def test_the_dual_value_is_the_least_sum_in_the_set(sign):
    """Three rows: against a general-purpose optimiser on the set itself, from the draws and not from histograms."""
    rng = np.random.default_rng(2)
    samples = [drawn(rng, m, 1.5, 3000) for m in (0.3, 0.05, 0.6)]
    first, rest = halves(samples)
    rows, size, level = _Rows(first, rest, np.full(3, -20.0), np.zeros(3)), float(BETS[6]), 12.0
    best = max(rows.least(size, s, sign) - level / s for s in np.geomspace(1.0, 3000.0, 400))

    def wins(t):
        total = 0.0
        for value, sample, mean in zip(t, samples, rows.mean, strict=True):
            x = np.exp(sample[100:])
            if sign > 0:
                total += np.log1p(size * (x * math.exp(-value) - 1.0)).sum()
            else:
                part = min(size * (1.0 - mean) / mean, BETS[0])
                total += np.log1p(part * (math.exp(value) - x) / -math.expm1(value)).sum()
        return total

    found = minimize(
        lambda t: sign * t.sum(), rows.centre, constraints={"type": "ineq", "fun": lambda t: level - wins(t)},
        bounds=[(-20.0, -1e-9)] * 3, method="SLSQP", options={"maxiter": 500, "ftol": 1e-10},
    )  # fmt: skip
    assert found.success
    assert best <= found.fun + 1e-6
    assert best > found.fun - 0.01 * abs(found.fun - sign * rows.centre.sum()) - 1e-3


def test_what_is_certain_limits_rows_without_draws():
    rng = np.random.default_rng(3)
    some = drawn(rng, 0.4, 2.0, 5000)
    first, rest = halves([some, some[:0], some[:0]])
    lower, upper = sum_bounds(first, rest, np.array([-9.0, -2.0, -0.5]), np.array([0.0, 0.0, -0.1]), 1e-6)
    assert math.log(0.4) - 2.5 - 0.3 < lower < math.log(0.4) - 2.5
    assert math.log(0.4) - 0.1 < upper < math.log(0.4) + 0.2
    nobody = [nothing()] * 2
    assert sum_bounds(nobody, nobody, np.array([-3.0, -4.0]), np.array([0.0, -1.0]), 0.1) == (-7.0, -1.0)


def test_draws_that_are_all_zero_or_all_one_leave_bounds():
    zeros, ones = np.full(2000, -np.inf), np.zeros(2000)
    lower, upper = whole_bounds(halves([zeros, ones]), 1e-3, floor=-30.0)
    assert -30.1 < lower <= -30.0
    assert -30.0 <= upper < -3.0


def test_rows_whose_log_probability_may_be_below_anything_leave_a_bound_that_holds():
    """exp(-t) overflows for t below -709; a row of the model's and an improbable one, K = 34, L = 9, weights of 100."""
    rng = np.random.default_rng(1)
    prior = refvlm.Bernoulli(rng.normal(size=34))
    model = refvlm.BernoulliLVM(prior, refvlm.MLP([rng.normal(size=(34, 9)) * 100], [rng.normal(size=9)]))
    x = (rng.random((2, 9)) < 0.5).astype(np.uint8)
    result = refvlm.bracket(model, x, samples=8192, boxes=1, rng=np.random.default_rng(1))
    assert type(result.mean_lower) is float
    assert result.lower.min() < -800.0
    assert result.lower.mean() - 1.0 < result.mean_lower < result.upper.mean()
    finer = refvlm.bracket(model, x, samples=200_000, boxes=4000, rng=np.random.default_rng(2))
    assert result.mean_lower <= finer.mean_upper
    assert result.mean_upper >= finer.mean_lower
