"""Certified bounds from importance weights: as often right as they say, for any decoder and any q."""

import itertools
import math

import numpy as np
import pytest
from problems import binary, deep, network, shallow
from scipy.stats import binom

import refvlm
from refvlm.inference import one_sided


def encoder(model, rng, scale=1.0):
    return refvlm.AmortisedPosterior(network([model.observed, model.latents], rng, scale=scale))


def chain(model, rng):
    stages = [encoder(layer, rng) for layer in model.layers]
    return refvlm.ChainPosterior(stages)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_lower_bounds_hold_as_often_as_they_say(confidence):
    """200 problems, K = 4, L = 7, a hidden layer of 5, two rows, 60 draws; a q near the prior and one far off."""
    broken, calls = 0, 200
    for seed in range(calls):
        rng = np.random.default_rng([0, seed])
        model = shallow(4, (5,), 7, rng, scale=2.0)
        x = model.sample(2, rng)[0]
        q = encoder(model, rng, scale=(0.3, 3.0)[seed % 2])
        lower = refvlm.log_marginal_lower(model, q, x, rng, samples=60, confidence=confidence)
        broken += bool((lower > refvlm.log_marginal(model, x)).any())
    assert broken <= binom.isf(1e-6, calls, 1.0 - confidence)


def test_lower_bounds_close_in_with_the_draws_for_every_kind_of_posterior():
    """One phi a row, an encoder, a chain on a deep model, a single encoder below a prior that is a model."""
    rng = np.random.default_rng(1)
    flat, tall = shallow(5, (3,), 8, rng), deep(3, 4, 8, rng)
    x = binary(3, 8, rng)
    problems = [
        (flat, refvlm.PerDatumPosterior(rng.normal(size=(3, 5)))),
        (flat, encoder(flat, rng)),
        (tall, chain(tall, rng)),
        (tall, encoder(tall, rng)),
    ]
    for model, q in problems:
        exact, widths = refvlm.log_marginal(model, x), []
        for samples in (100, 1000, 100_000):
            lower = refvlm.log_marginal_lower(model, q, x, np.random.default_rng(2), samples=samples)
            assert (lower <= exact).all()
            widths.append((exact - lower).max())
        assert widths[0] > widths[1] > widths[2]
        assert widths[2] < 0.3


def test_lower_bounds_approach_at_the_pace_that_is_said():
    rng = np.random.default_rng(3)
    model = shallow(4, (6,), 9, rng)
    x, q = model.sample(1, rng)[0], encoder(model, rng)
    z = refvlm.bits.table(4)
    log_w = refvlm.log_joint(model, np.repeat(x, 16, axis=0), z) - refvlm.log_q(q, np.repeat(x, 16, axis=0), z)
    share = np.exp(refvlm.log_q(q, np.repeat(x, 16, axis=0), z))
    variance = (share * np.exp(2 * log_w)).sum() / (share * np.exp(log_w)).sum() ** 2 - 1.0
    lower = refvlm.log_marginal_lower(model, q, x, rng, samples=200_000)
    said = math.sqrt(2.0 * variance * math.log(1e9) / 200_000)
    assert 0.5 * said < refvlm.log_marginal(model, x)[0] - lower[0] < 2.0 * said


def test_a_posterior_that_misses_what_matters_gives_a_low_bound_and_no_wrong_one():
    rng = np.random.default_rng(4)
    model = shallow(5, (3,), 8, rng, scale=3.0)
    x = binary(2, 8, rng)
    q = refvlm.PerDatumPosterior(np.tile([np.inf, 0.0, 0.0, 0.0, -40.0], (2, 1)))
    assert (refvlm.log_marginal_lower(model, q, x, rng, samples=5000) <= refvlm.log_marginal(model, x)).all()
    certain = refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf, 0.0, 0.0, 0.0, 0.0]), model.decoder)
    assert (refvlm.log_marginal_lower(certain, q, x, rng, samples=50) == -np.inf).all()


def test_weights_that_are_five_hundredths_too_large_are_caught(monkeypatch):
    """A planted fault: 100 problems at confidence 0.5 with 100,000 draws see it."""
    right = one_sided._log_weights
    monkeypatch.setattr(one_sided, "_log_weights", lambda *given: (right(*given)[0] + 0.05, right(*given)[1]))
    rng = np.random.default_rng(5)
    model = shallow(3, (2,), 4, rng)
    x, q = binary(1, 4, rng), encoder(model, rng, scale=0.1)
    exact, broken = refvlm.log_marginal(model, x), 0
    for _ in range(30):
        broken += bool(refvlm.log_marginal_lower(model, q, x, rng, samples=20_000, confidence=0.5) > exact)
    assert broken > binom.isf(1e-6, 30, 0.5)


def test_the_mean_of_m_over_the_sum_of_weights_is_one_over_p():
    """K = 2, L = 3, M = 3: over all (z1, z2, z3), z1 from the posterior and the others from q. Exact."""
    rng = np.random.default_rng(6)
    model = shallow(2, (4,), 3, rng, scale=2.0)
    x, q = binary(1, 3, rng), encoder(model, rng)
    z, pairs = refvlm.bits.table(2), np.repeat(x, 4, axis=0)
    posterior, share = refvlm.posterior(model, x)[0], np.exp(refvlm.log_q(q, pairs, z))
    weights = np.exp(refvlm.log_joint(model, pairs, z)) / share
    total = 0.0
    for a, b, c in itertools.product(range(4), repeat=3):
        total += posterior[a] * share[b] * share[c] * 3.0 / (weights[a] + weights[b] + weights[c])
    assert total == pytest.approx(math.exp(-refvlm.log_marginal(model, x)[0]), rel=1e-12)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
@pytest.mark.parametrize("tall", [False, True])
def test_upper_bounds_on_the_mean_hold_as_often_as_they_say(confidence, tall):
    """200 calls, 3 rows of the model's own, M = 2: shallow, K = 4; deep, (4, 3) with a chain."""
    broken, calls, above = 0, 200, []
    for seed in range(calls):
        rng = np.random.default_rng([7, seed])
        model = deep(3, 4, 7, rng) if tall else shallow(4, (5,), 7, rng, scale=2.0)
        x, z = model.sample(3, rng)
        q = chain(model, rng) if tall else encoder(model, rng)
        upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=2, confidence=confidence)
        above.append(upper - refvlm.log_marginal(model, x).mean())
        broken += above[-1] < 0.0
    assert broken <= binom.isf(1e-6, calls, 1.0 - confidence)
    assert broken > 0 or confidence > 0.6


def test_z_that_are_no_posterior_draws_break_the_upper_bound():
    """A planted fault: rows that the model did not draw with these z, but far better explained ones."""
    rng = np.random.default_rng(8)
    model = shallow(6, (), 30, rng, scale=6.0)
    q = refvlm.PerDatumPosterior(np.zeros((40, 6)))
    x, z = model.sample(40, rng)
    right = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=1, confidence=0.9)
    assert right > refvlm.log_marginal(model, x).mean()
    wrong = refvlm.mean_log_marginal_upper(model, q, x, 1 - z, rng, samples=1, confidence=0.9)
    assert wrong < refvlm.log_marginal(model, x).mean()


def test_both_sides_enclose_the_mean_and_meet_for_a_good_posterior():
    """K = 8, 600 rows of the model's own; the mean-field posterior."""
    rng = np.random.default_rng(9)
    model = shallow(8, (), 12, rng)
    x, z = model.sample(600, rng)
    q = refvlm.learning.per_datum.mean_field(model, x)
    lower = refvlm.log_marginal_lower(model, q, x, rng, samples=4000).mean()
    upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=300)
    assert lower < refvlm.log_marginal(model, x).mean() < upper
    assert upper - lower < 0.3


def test_the_same_seed_gives_the_same_bounds_and_bad_arguments_are_refused():
    rng = np.random.default_rng(10)
    model = shallow(3, (2,), 5, rng)
    x, z = model.sample(4, rng)
    q = encoder(model, rng)
    bounds = [refvlm.log_marginal_lower(model, q, x, np.random.default_rng(1), samples=100) for _ in range(2)]
    assert bounds[0].tobytes() == bounds[1].tobytes()
    assert bounds[0].shape == (4,)
    assert refvlm.log_marginal_lower(model, q, x[:0], rng).shape == (0,)
    assert type(refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=1)) is float
    with pytest.raises(ValueError, match=r"^samples: got 1, wanted at least 2"):
        refvlm.log_marginal_lower(model, q, x, rng, samples=1)
    with pytest.raises(ValueError, match=r"^confidence: got float 1.0, wanted a number above 0 and below 1"):
        refvlm.log_marginal_lower(model, q, x, rng, confidence=1.0)
    with pytest.raises(TypeError, match=r"^rng: got int 3"):
        refvlm.log_marginal_lower(model, q, x, 3)
    with pytest.raises(ValueError, match=r"^x: got no rows"):
        refvlm.mean_log_marginal_upper(model, q, x[:0], z[:0], rng)
    with pytest.raises(ValueError, match=r"^z: "):
        refvlm.mean_log_marginal_upper(model, q, x, z[:, :2], rng)
