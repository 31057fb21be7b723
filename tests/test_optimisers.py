"""Optimisers and schedules against their definitions."""

import math

import numpy as np
import pytest

from refvlm.learning.optimisers import OPTIMISERS, SCHEDULES, adam, check_rate, rate_at, sgd

GRADIENTS = [np.array([0.5, -2.0, 1e-3]), np.array([1.5, 0.0, -1e-3]), np.array([-0.25, 1.0, 4e-3])]


def steps_of(optimiser, rate):
    state = optimiser.init(3)
    return [optimiser.update(state, gradient, rate) for gradient in GRADIENTS]


def test_plain_sgd_follows_the_gradient():
    assert all((step == 0.1 * g).all() for step, g in zip(steps_of(sgd(), 0.1), GRADIENTS, strict=True))


def test_momentum_is_a_geometric_sum_of_gradients():
    last = steps_of(sgd(0.9), 0.1)[-1]
    assert np.allclose(last, 0.1 * (GRADIENTS[2] + 0.9 * GRADIENTS[1] + 0.81 * GRADIENTS[0]), rtol=1e-14)


def test_adam_is_algorithm_1_of_kingma_and_ba():
    """m, v, their corrections and the step in plain Python, uphill."""
    steps = steps_of(adam(0.8, 0.99, 1e-7), 0.05)
    m = v = [0.0] * 3
    for t, (gradient, step) in enumerate(zip(GRADIENTS, steps, strict=True), start=1):
        m = [0.8 * a + 0.2 * g for a, g in zip(m, gradient, strict=True)]
        v = [0.99 * a + 0.01 * g * g for a, g in zip(v, gradient, strict=True)]
        wanted = [0.05 * (a / (1 - 0.8**t)) / (math.sqrt(b / (1 - 0.99**t)) + 1e-7) for a, b in zip(m, v, strict=True)]
        assert np.allclose(step, wanted, rtol=1e-12)


def test_adam_takes_momentum_as_beta1():
    state = [OPTIMISERS["adam"](m, 0.99).init(3) for m in (0.0, 0.5)]
    default, half = (
        [OPTIMISERS["adam"](m, 0.99).update(s, g, 0.1) for g in GRADIENTS][-1]
        for m, s in zip((0.0, 0.5), state, strict=True)
    )
    assert np.allclose(default, steps_of(adam(0.9, 0.99), 0.1)[-1], rtol=1e-15)
    assert np.allclose(half, steps_of(adam(0.5, 0.99), 0.1)[-1], rtol=1e-15)


@pytest.mark.parametrize(
    ("schedule", "begin", "halfway", "end"),
    [
        ("constant", 1.0, 1.0, 1.0),
        ("linear", 1.0, 0.5, 0.0),
        ("cosine", 1.0, 0.5, 0.0),
        ("warmup-cosine", 0.1, 0.5, 0.0),
        ("exponential", 1.0, 0.001**0.5, 0.001),
    ],
)
def test_schedules_begin_and_end_where_they_should(schedule, begin, halfway, end):
    assert set(SCHEDULES) == {"constant", "linear", "cosine", "warmup-cosine", "exponential"}
    assert rate_at(schedule, 3.0, 0, 10) == pytest.approx(3.0 * begin, rel=1e-14)
    assert rate_at(schedule, 3.0, 5, 10) == pytest.approx(3.0 * halfway, rel=1e-14)
    assert rate_at(schedule, 3.0, 10, 10) == pytest.approx(3.0 * end, rel=1e-14, abs=1e-15)


def test_the_warm_up_is_a_line_of_eight_in_a_hundred_steps():
    warm = [rate_at("warmup-cosine", 2.0, step, 100) / rate_at("cosine", 2.0, step, 100) for step in range(99)]
    assert warm[:8] == pytest.approx([0.1 + 0.9 * step / 8 for step in range(8)], rel=1e-14)
    assert warm[8:] == pytest.approx([1.0] * 91, rel=1e-14)


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (-0.1, {}, "rate: got -0.1, wanted a finite number at least 0"),
        (0.0, {"above": True}, "rate: got 0.0, wanted a finite number above 0"),
        (1.0, {"most": 1.0}, "rate: got 1.0, wanted a finite number at least 0 and below 1"),
        (math.nan, {}, "rate: got nan"),
        (math.inf, {}, "rate: got inf"),
    ],
)
def test_rates_out_of_range_are_refused(value, options, message):
    with pytest.raises(ValueError, match=message):
        check_rate("rate", value, **options)


@pytest.mark.parametrize("value", ["fast", None, True])
def test_rates_that_are_no_numbers_are_refused(value):
    with pytest.raises(TypeError, match="wanted a number"):
        check_rate("rate", value)


def test_unknown_schedules_are_refused():
    with pytest.raises(ValueError, match="schedule: got str 'warm', wanted one of"):
        rate_at("warm", 1.0, 0, 1)
