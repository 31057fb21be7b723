"""Confidence sequences by betting: exact expectations, and how often they are ever wrong."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binom

from refvlm.enumeration.draws import histogram, nothing
from refvlm.inference.capital import BETS, Capital, draws_needed

SUPPORTS = [((0.0, 1.0), (0.7, 0.3)), ((0.0, 0.11, 0.93), (0.5, 0.3, 0.2)), ((1e-9, 0.017, 1.0), (0.9, 0.09, 0.01))]


def capital_of(values):
    with np.errstate(divide="ignore"):
        return Capital(histogram(np.log(np.asarray(values, dtype=np.float64))))


@pytest.mark.parametrize(("support", "masses"), SUPPORTS)
@pytest.mark.parametrize("above", [True, False])
def test_the_expected_capital_at_the_true_mean_is_at_most_one(support, masses, above):
    """Over all sequences of five draws, exactly; this is all that the guarantee rests on."""
    mean = sum(v * p for v, p in zip(support, masses, strict=True))
    expected = 0.0
    for draws in itertools.product(range(len(support)), repeat=5):
        chance = math.prod(masses[d] for d in draws)
        expected += chance * math.exp(capital_of([support[d] for d in draws]).against(mean, above=above))
    assert 0.5 < expected <= 1.0


@pytest.mark.parametrize("above", [True, False])
def test_the_histograms_capital_is_never_more_than_the_draws_own(above):
    """The chord of a concave function: against the product over the draws themselves, and close to it."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.beta(0.3, 2.0, 300), 10.0 ** rng.uniform(-40, 0, 100), [0.0, 1.0]])
    capital = capital_of(values)
    for mean in (0.001, 0.05, 0.3, 0.9):
        gain = values / mean - 1.0 if above else (mean - values) / (1.0 - mean)
        own = np.log1p(BETS[:, None] * gain).sum(axis=1)
        own = own.max() + math.log(np.exp(own - own.max()).mean())
        got = capital.against(mean, above=above)
        assert got <= own
        assert got > own - 0.02 - 0.001 * abs(own)


@pytest.mark.parametrize("delta", [0.5, 0.1, 0.02])
def test_no_side_is_ever_wrong_more_often_than_it_says(delta):
    """At any of eight looks, 1000 runs; a bound that held exactly would fail once in a million."""
    rng, runs, allowed = np.random.default_rng(1), 1000, binom.isf(1e-6, 1000, delta / 2)
    wrong = np.zeros(2)
    for run in range(runs):
        mean = (0.3, 0.02)[run % 2]
        values, missed = np.zeros(0, bool), np.zeros(2, bool)
        for count in (3, 5, 10, 20, 40, 80, 160, 320):
            values = np.append(values, rng.random(count) < mean)
            lower, upper = capital_of(values).bounds(delta)
            missed |= [lower > mean, upper < mean]
        wrong += missed
    assert (wrong <= allowed).all()
    assert wrong.sum() > 0 or delta < 0.1


def test_bounds_close_in_on_the_mean_at_the_pace_that_is_forecast():
    rng = np.random.default_rng(2)
    values = rng.beta(2.0, 18.0, 400_000)
    seen, delta = nothing(), 1e-9
    for part in np.split(values, 40):
        seen = seen.plus(histogram(np.log(part)))
    capital = Capital(seen)
    lower, upper = capital.bounds(delta)
    assert lower < 0.1 < upper
    width = math.log(upper / lower)
    forecast = draws_needed(width, -math.log(capital.mean), capital.relative_variance, delta)
    assert 0.6 < forecast / 400_000 < 1.6
    assert capital.mean == pytest.approx(values.mean(), rel=1e-12)


def test_nothing_is_known_before_the_first_draw_or_where_all_are_zero():
    assert Capital(nothing()).bounds(0.1) == (0.0, 1.0)
    lower, upper = capital_of(np.zeros(1000)).bounds(0.1)
    assert lower == 0.0
    assert upper < 0.02


def test_draws_whose_squares_are_no_numbers_bound_the_mean_from_above():
    """Means of 1e-160 and 1e-300: nothing is divided by the square of their sum."""
    for size in (1e-160, 1e-300):
        capital = capital_of(np.full(500, size))
        assert capital.relative_variance == math.inf
        lower, upper = capital.bounds(1e-6)
        assert lower == 0.0
        assert size < upper < 0.1
