"""The sequential test of a mean: its error rates by Ville's inequality, its power, and what it refuses to decide."""

import math

import numpy as np
import pytest
from scipy.stats import binom

from refvlm.testing.betting import SequentialTest, _tilted, plan_test

RUNS = 10_000
ALPHA = 0.05
MOST_ERRORS = int(binom.isf(1e-6, RUNS, ALPHA))
"""More than these of 10,000 runs are wrong with probability 1e-6 where each is wrong with probability 0.05."""

FAIR = np.array([0.0, 1.0]), np.array([0.5, 0.5])
RARE = np.array([0.0, 1.0]), np.array([0.95, 0.05])
EIGHT = np.array([-3.0, -1.1, -0.9, 0.2, 0.7, 1.3, 2.0, 2.2]), np.array([0.02, 0.2, 0.1, 0.28, 0.15, 0.1, 0.1, 0.05])
WORLDS = {"fair": FAIR, "rare": RARE, "eight": EIGHT}


def outcomes(plan, values, probabilities, runs, rng, make=SequentialTest):
    """How often each comes out."""
    found = {"PASS": 0, "FAIL": 0, "INCONCLUSIVE": 0}
    for _ in range(runs):
        test = make(plan)
        verdict = test.update(rng.choice(values, size=plan.draws, p=probabilities)) or test.conclude()
        found[verdict.outcome] += 1
    return found


@pytest.mark.parametrize("world", list(WORLDS))
def test_a_right_estimator_fails_with_probability_alpha_at_most(world):
    values, probabilities = WORLDS[world]
    plan = plan_test(values, probabilities, delta=0.3, alpha=ALPHA)
    found = outcomes(plan, values, probabilities, RUNS, np.random.default_rng(1))
    assert found["FAIL"] <= MOST_ERRORS
    assert found["PASS"] >= 0.9 * RUNS


@pytest.mark.parametrize("world", list(WORLDS))
@pytest.mark.parametrize("direction", [1, -1])
def test_a_bias_beyond_delta_passes_with_probability_alpha_at_most(world, direction):
    values, probabilities = WORLDS[world]
    plan = plan_test(values, probabilities, delta=0.3, alpha=ALPHA)
    bias = 1.001 * plan.delta * plan.sigma
    biased = _tilted(direction * (values - plan.mean), probabilities, bias)
    found = outcomes(plan, values, biased, RUNS // 2, np.random.default_rng(2))
    assert found["PASS"] <= binom.isf(1e-6, RUNS // 2, ALPHA)


@pytest.mark.parametrize("world", list(WORLDS))
@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("alpha", [0.05, 1e-6])
def test_twice_delta_is_found_within_the_plan(world, direction, alpha):
    values, probabilities = WORLDS[world]
    plan = plan_test(values, probabilities, delta=0.2, alpha=alpha)
    biased = _tilted(direction * (values - plan.mean), probabilities, 2 * plan.delta * plan.sigma)
    found = outcomes(plan, values, biased, 1000, np.random.default_rng(3))
    assert found["FAIL"] >= 990


@pytest.mark.parametrize("world", list(WORLDS))
def test_a_right_estimator_passes_within_the_plan(world):
    values, probabilities = WORLDS[world]
    plan = plan_test(values, probabilities, delta=0.2, alpha=1e-6)
    assert outcomes(plan, values, probabilities, 1000, np.random.default_rng(4))["PASS"] >= 990


class Peeking(SequentialTest):
    """A z-test of the running mean at every draw: what people do, and what Ville's inequality forbids."""

    def update(self, draws):
        means = np.cumsum(draws) / np.arange(1, len(draws) + 1)
        z = (means - self.plan.mean) * np.sqrt(np.arange(1, len(draws) + 1)) / self.plan.sigma
        return type("V", (), {"outcome": "FAIL"}) if (np.abs(z[20:]) > 1.96).any() else None


def test_the_simulation_would_notice_a_test_that_peeks():
    plan = plan_test(*FAIR, delta=0.3, alpha=ALPHA)
    assert outcomes(plan, *FAIR, 2000, np.random.default_rng(5), Peeking)["FAIL"] > binom.isf(1e-6, 2000, ALPHA)


def test_a_capital_that_bets_on_the_truth_is_a_martingale():
    """E[1 + b (X - m)] = 1 at the true mean: by the exact sum, for both directions and every bet of a plan."""
    values, probabilities = EIGHT
    plan = plan_test(values, probabilities)
    for bet in plan.bets:
        for sign in (1, -1):
            assert math.isclose(probabilities @ (1 + sign * bet * (values - plan.mean)), 1.0, rel_tol=1e-14)


def test_no_draw_within_the_range_can_take_all_of_the_capital():
    for values, probabilities in WORLDS.values():
        for tolerance in (0.0, 0.01):
            plan = plan_test(values, probabilities, tolerance=tolerance)
            gap = plan.delta * plan.sigma
            low, high = plan.low - tolerance, plan.high + tolerance
            up, down, under, over = plan.bets
            assert 1 + up * (low - plan.mean - tolerance) > 0
            assert 1 - down * (high - plan.mean + tolerance) > 0
            assert 1 + under * (low - plan.mean + gap) > 0
            assert 1 - over * (high - plan.mean - gap) > 0


def test_batches_do_not_matter():
    values, probabilities = EIGHT
    plan = plan_test(values, probabilities, alpha=1e-3)
    draws = np.random.default_rng(6).choice(values, size=plan.draws, p=probabilities)
    whole = SequentialTest(plan).update(draws)
    for size in (1, 7, 1000):
        test, found = SequentialTest(plan), None
        for start in range(0, len(draws), size):
            found = test.update(draws[start : start + size])
            if found:
                break
        assert (found.outcome, found.draws) == (whole.outcome, whole.draws)
        assert found.mean == pytest.approx(whole.mean)


def test_a_draw_out_of_range_fails_at_once():
    plan = plan_test(*EIGHT)
    verdict = SequentialTest(plan).update(np.array([0.2, 0.7, 2.3, 0.2]))
    assert (verdict.outcome, verdict.draws) == ("FAIL", 3)
    assert "outside [-3, 2.2]" in verdict.reason
    assert SequentialTest(plan).update(np.array([math.nan])).outcome == "FAIL"
    loose = plan_test(*EIGHT, tolerance=0.1)
    assert SequentialTest(loose).update(np.array([2.25, -3.05])) is None


def test_without_spread_every_draw_must_be_the_mean():
    plan = plan_test(np.array([2.5, 2.5]), np.array([0.5, 0.5]), tolerance=1e-12)
    assert plan.deterministic
    test = SequentialTest(plan)
    assert test.update(np.full(1, 2.5)) is None
    assert test.conclude().outcome == "PASS"
    assert SequentialTest(plan).update(np.array([2.5, 2.6])).outcome == "FAIL"


def test_what_hardly_ever_comes_does_not_widen_a_range_within_rounding():
    values, probabilities = np.array([2.0, 2.0 + 1e-13, 50.0]), np.array([0.5, 0.5, 1e-31])
    plan = plan_test(values, probabilities, tolerance=1e-12)
    assert plan.deterministic
    assert plan.high < 2.1
    test = SequentialTest(plan)
    assert test.update(np.array([2.0, 2.0 + 1e-13, 2.0 - 5e-13])) is None
    assert test.conclude().outcome == "PASS"
    assert SequentialTest(plan).update(np.array([2.0 + 1e-11])).outcome == "FAIL"


def test_no_draws_are_inconclusive():
    assert SequentialTest(plan_test(*FAIR)).conclude().outcome == "INCONCLUSIVE"


def test_the_plan_grows_with_the_range_and_says_so():
    plans = [plan_test(np.array([0.0, 1.0]), np.array([1 - p, p])) for p in (0.5, 1e-2, 1e-4)]
    assert plans[0].draws < plans[1].draws < plans[2].draws
    assert plans[0].remark == ""
    assert "standard deviations wide" in plans[2].remark


def test_the_plan_shrinks_with_delta_and_with_averaging():
    values, probabilities = EIGHT
    assert plan_test(values, probabilities, delta=0.2).draws < plan_test(values, probabilities, delta=0.1).draws / 3
    averaged = plan_test(values, probabilities, averaged=5)
    assert averaged.sigma == pytest.approx(plan_test(values, probabilities).sigma / math.sqrt(5))
    rng = np.random.default_rng(7)
    passed = 0
    for _ in range(200):
        draws = rng.choice(values, size=(averaged.draws, 5), p=probabilities).mean(axis=1)
        verdict = SequentialTest(averaged).update(draws)
        passed += verdict is not None and verdict.outcome == "PASS"
    assert passed >= 195


def test_the_tilted_distribution_has_the_mean_and_the_support():
    values, probabilities = EIGHT
    for mean in (0.3, 1.5, 2.1):
        tilted = _tilted(values, probabilities, mean)
        assert tilted.sum() == pytest.approx(1)
        assert tilted @ values == pytest.approx(mean)
        assert (tilted >= 0).all()
