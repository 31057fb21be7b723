"""Generalised EM, and the posterior of each data point."""

import itertools
import math

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import binary, deep, network, problems, shallow

import refvlm
from refvlm.inference import bounds
from refvlm.learning.ascent import climb_posterior
from refvlm.learning.per_datum import mean_field
from refvlm.learning.rules import expectation_maximisation as em


@settings(max_examples=60, deadline=None)
@given(problems(most_latents=5, most_observed=6, infinite=True), st.integers(0, 3))
def test_em_never_lowers_log_p(problem, ascents):
    weights = np.abs(problem.weights)
    better, _ = em.step(problem.model, problem.x, weights, ascents=ascents)
    before, after = (weights @ refvlm.log_marginal(model, problem.x) for model in (problem.model, better))
    assert after >= before - 1e-11 * (1 + abs(before))


def test_em_never_lowers_log_p_of_a_deep_model():
    rng = np.random.default_rng(0)
    model, x = deep(2, 3, 5, rng, scale=2.0), binary(30, 5, rng)
    values = []
    for _ in range(15):
        values.append(refvlm.log_marginal(model, x).mean())
        model, _ = em.step(model, x)
    assert all(b >= a for a, b in itertools.pairwise(values))
    assert values[-1] > values[0] + 0.5


def test_the_e_step_is_the_posterior_summed_over_rows():
    rng = np.random.default_rng(1)
    model, x, weights = shallow(3, (4,), 6, rng), binary(7, 6, rng), rng.random(7)
    sums = em.expect(model, x, weights, None)
    table = np.array(oracle.posterior(oracle.as_model(model), x.tolist()))
    assert np.allclose(sums.mass, weights @ table, rtol=1e-12)
    assert np.allclose(sums.targets, (table * weights[:, None]).T @ x, rtol=1e-12)


def test_the_prior_moves_to_the_mean_of_the_posterior_means():
    """beta_k = E[z_k], the maximum of Q in closed form; degenerate bits stay."""
    rng = np.random.default_rng(2)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.4, -np.inf, -0.8]), network([3, 5], rng))
    x, weights = binary(9, 5, rng), rng.random(9)
    better, _ = em.step(model, x, weights, ascents=0)
    mean = weights @ refvlm.posterior_mean(model, x) / weights.sum()
    assert np.allclose(1 / (1 + np.exp(-better.prior.logits)), mean, rtol=1e-12)
    assert better.prior.logits[1] == -np.inf
    assert better.decoder.weights[0].tolist() == model.decoder.weights[0].tolist()


def test_a_step_of_the_decoder_never_lowers_q():
    """Q = sum over rows and z of r(z | x) log p(x | z), by the definition."""
    rng = np.random.default_rng(3)
    model, x = shallow(3, (4,), 5, rng, scale=3.0), binary(8, 5, rng)
    table = np.array(oracle.posterior(oracle.as_model(model), x.tolist()))

    def q_of(decoder):
        moved = oracle.as_model(refvlm.BernoulliLVM(model.prior, decoder))
        codes = oracle.codes(3)
        return math.fsum(
            r * oracle.log_likelihood(moved, [row], [z])[0]
            for row, posterior in zip(x.tolist(), table, strict=True)
            for z, r in zip(codes, posterior, strict=True)
        )

    sums = em.expect(model, x, np.ones(8), None)
    decoder, rate, values = model.decoder, 1e4, [q_of(model.decoder)]  # far too long a step: it has to be halved
    for _ in range(5):
        decoder, rate = em.maximise_decoder(decoder, sums, rate, 1)
        values.append(q_of(decoder))
    assert all(b > a for a, b in itertools.pairwise(values))


def test_em_reaches_a_stationary_point():
    rng = np.random.default_rng(4)
    model, x = shallow(2, (), 4, rng), shallow(2, (), 4, np.random.default_rng(5), scale=3.0).sample(300, rng)[0]
    for _ in range(300):
        model, _ = em.step(model, x)
    gradient = refvlm.grad_log_marginal(model, x)
    assert max(np.abs(value).max() for value in gradient.values()) / len(x) < 1e-3


def test_em_refuses_what_it_cannot_take():
    rng = np.random.default_rng(6)
    model, x = shallow(2, (), 3, rng), binary(4, 3, rng)
    with pytest.raises(ValueError, match="weights: got -1"):
        em.step(model, x, [1, -1, 1, 1])
    assert em.step(model, x, np.zeros(4))[0] is model


def brute_mean_field(model, x, k, logits):
    """The best logit of bit k with the others held, by the definition."""
    others = [j for j in range(model.latents) if j != k]
    gain = 0.0
    for z in itertools.product((0, 1), repeat=len(others)):
        q = math.prod(1 / (1 + math.exp(-logits[j] if bit else logits[j])) for j, bit in zip(others, z, strict=True))
        values = []
        for bit in (0, 1):
            full = [0] * model.latents
            full[k] = bit
            for j, value in zip(others, z, strict=True):
                full[j] = value
            values.append(oracle.log_joint(oracle.as_model(model), [x], [full])[0])
        gain += q * (values[1] - values[0])
    return gain


def test_mean_field_is_a_fixed_point_for_every_row():
    rng = np.random.default_rng(7)
    model, x = shallow(3, (5,), 6, rng, scale=2.0), binary(4, 6, rng)
    q = mean_field(model, x, sweeps=1000, tolerance=1e-14)
    for row, logits in zip(x.tolist(), q.logits, strict=True):
        for k in range(3):
            assert logits[k] == pytest.approx(brute_mean_field(model, row, k, logits), rel=1e-9, abs=1e-9)


def test_mean_field_sweeps_never_lower_any_rows_vlb():
    rng = np.random.default_rng(8)
    model, x = deep(2, 4, 7, rng, scale=3.0), binary(12, 7, rng)
    values = [refvlm.vlb(model, mean_field(model, x, sweeps=sweeps), x) for sweeps in range(6)]
    assert all((b >= a - 1e-12).all() for a, b in itertools.pairwise(values))
    assert (values[-1] > values[0]).any()


def test_mean_field_is_exact_where_the_posterior_factorises():
    """With no weights x says nothing about z: q is the prior, and the gap closes."""
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.5, -np.inf, 2.0]), refvlm.MLP([np.zeros((3, 4))], [np.ones(4)]))
    x = binary(5, 4, np.random.default_rng(9))
    q = mean_field(model, x)
    assert np.allclose(q.logits, [0.5, -np.inf, 2.0], atol=1e-12)
    assert refvlm.kl(model, q, x).max() < 1e-12


def test_one_phi_per_datum_beats_an_encoder_on_its_own_rows():
    rng = np.random.default_rng(10)
    model, x = shallow(4, (6,), 8, rng, scale=2.0), binary(20, 8, rng)
    encoder = climb_posterior(model, refvlm.AmortisedPosterior(network([8, 4], rng)), x, 200)
    assert refvlm.kl(model, mean_field(model, x), x).mean() < refvlm.kl(model, encoder, x).mean()


def test_mean_field_without_a_table_is_a_fixed_point_and_never_lowers_any_rows_vlb(monkeypatch):
    rng = np.random.default_rng(12)
    model, x = shallow(4, (), 7, rng, scale=3.0), binary(5, 7, rng)
    monkeypatch.setattr(bounds, "SUMMED_LATENTS", 0)
    q = mean_field(model, x, sweeps=2000, tolerance=1e-13)
    for row, logits in zip(x.tolist(), q.logits, strict=True):
        for k in range(4):
            assert logits[k] == pytest.approx(brute_mean_field(model, row, k, logits), rel=1e-7, abs=1e-7)
    values = [refvlm.vlb(model, mean_field(model, x, sweeps=sweeps), x) for sweeps in range(6)]
    assert all((b >= a).all() for a, b in itertools.pairwise(values))
    assert (values[-1] > values[0]).all()


def test_mean_field_takes_any_number_of_latents():
    """K = 90: the gradient in q's logits vanishes, bits of a degenerate prior stay, and the prior's bound is beaten."""
    rng = np.random.default_rng(13)
    logits = rng.normal(size=90)
    logits[:2] = [np.inf, -np.inf]
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), network([90, 31], rng, scale=2.0))
    x, calls = binary(6, 31, rng), []
    q = mean_field(model, x, progress=lambda *done: calls.append(done))
    np.testing.assert_array_equal(q.logits[:, :2], np.tile([np.inf, -np.inf], (6, 1)))
    assert np.abs(refvlm.grad_vlb(model, q, x)["posterior.logits"]).max() < 1e-7
    start = refvlm.PerDatumPosterior(np.tile(logits, (6, 1)))
    assert (refvlm.vlb(model, q, x) > refvlm.vlb(model, start, x) + 0.1).all()
    assert calls[-1] == (6, 6)
