"""Moments of estimators in the parameters of encoder and decoder, against sums of whole gradients over all draws."""

import itertools

import numpy as np
import oracle
import pytest
from problems import binary, deep, network, shallow
from test_gradient_estimators import Quadratic

import refvlm
from refvlm import bits
from refvlm import gradient_estimators as ge
from refvlm.model.parameters import flatten


def gradients_of_codes(model, x):
    """d log p(x, z) in all parameters for every code, (2**K, P), code by code."""
    rows = []
    for z in bits.table(model.latents)[:, None].astype(float):
        logits, pullback = model.decoder.forward(z)
        prior = z[0] - 1 / (1 + np.exp(-model.prior.logits))
        rows.append(np.concatenate([prior, flatten(pullback(x - 1 / (1 + np.exp(-logits))))]))
    return np.stack(rows)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("kind", [ge.Wake, ge.ReweightedModel])
@pytest.mark.parametrize("sizes", [(2, (), 7), (3, (4, 5), 6)])
def test_updates_of_the_model_are_sums_over_all_tuples(kind, samples, sizes):
    """(K, hidden, L), N = 2: mean and trace to a relative 1e-12."""
    latents, hidden, observed = sizes
    rng = np.random.default_rng(1)
    model, x = shallow(latents, hidden, observed, rng, scale=2.0), binary(2, observed, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(2, latents)))
    plain, z = oracle.as_model(model), bits.table(latents)
    found = kind(samples).moments(model, q, x)
    total = 0.0
    for n in range(2):
        log_q = np.array(oracle.log_q(q.logits[n].tolist()))
        w = np.exp(np.array(oracle.log_joint(plain, [x[n].tolist()] * len(z), z.tolist())) - log_q)
        g, mean, second = gradients_of_codes(model, x[n : n + 1]), 0.0, 0.0
        for chosen in itertools.product(range(len(z)), repeat=samples):
            drawn = list(chosen)
            shares = w[drawn] / w[drawn].sum() if kind is ge.ReweightedModel else np.full(samples, 1 / samples)
            estimate, probability = shares @ g[drawn], np.exp(log_q[drawn].sum())
            mean, second = mean + probability * estimate, second + probability * estimate @ estimate
        np.testing.assert_allclose(found.trace[n], second - mean @ mean, rtol=1e-12)
        total = total + mean
    np.testing.assert_allclose(flatten(found.mean), total, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("estimator", [ge.DisArm(), ge.Vimco(2), ge.ReweightedWake(4), ge.StraightThrough()])
@pytest.mark.parametrize("kind", ["MLP", "other", "per datum"])
def test_moments_in_the_encoder_are_those_in_the_logits_through_its_jacobian(estimator, kind):
    """K, L, N = 3, 7, 2; J row by row from unit pullbacks, the whole P x P covariance formed."""
    rng = np.random.default_rng(2)
    model, x = shallow(3, (4,), 7, rng), binary(2, 7, rng)
    encoder = network([7, 5, 4, 3], rng)
    if kind == "other":
        other = type(
            "Other", (), {"fan_in": 7, "fan_out": 3, "forward": encoder.forward, "parameters": encoder.parameters}
        )
        q = refvlm.AmortisedPosterior(other())
    else:
        q = refvlm.AmortisedPosterior(encoder) if kind == "MLP" else refvlm.PerDatumPosterior(encoder.forward(x)[0])
    found = ge.in_encoder(estimator, model, q, x)
    mean, covariance = estimator.mean(model, q, x), estimator.covariance(model, q, x)
    total = 0.0
    for n in range(2):
        if kind == "per datum":
            jacobian = np.zeros((3, 6))
            jacobian[:, 3 * n : 3 * n + 3] = np.eye(3)
        else:
            jacobian = np.stack([flatten(encoder.forward(x[n : n + 1])[1](unit[None])) for unit in np.eye(3)])
        whole = jacobian.T @ covariance[n] @ jacobian
        np.testing.assert_allclose(found.trace[n], np.trace(whole), rtol=1e-11)
        total = total + mean[n] @ jacobian
    np.testing.assert_allclose(flatten(found.mean), total, rtol=1e-10, atol=1e-12)


def test_moments_of_sleep_are_sums_over_all_dreams():
    """K, L = 2, 5, H = 3: all pairs (x, z), whole gradients; deep, too."""
    rng = np.random.default_rng(3)
    q = refvlm.AmortisedPosterior(network([5, 3, 2], rng))
    for model in (shallow(2, (4,), 5, rng), deep(3, 2, 5, rng)):
        mean, second = 0.0, 0.0
        for x, z in itertools.product(itertools.product((0, 1), repeat=5), itertools.product((0, 1), repeat=2)):
            logits, pullback = q.forward(np.array([x], np.uint8))
            g = flatten(pullback(np.array([z]) - 1 / (1 + np.exp(-logits))))
            p = np.exp(refvlm.log_joint(model, [x], [z])[0])
            mean, second = mean + p * g, second + p * g @ g
        found = ge.Sleep().moments(model, q)
        np.testing.assert_allclose(flatten(found.mean), mean, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(found.trace, second - mean @ mean, rtol=1e-11)


@pytest.mark.parametrize("kind", [ge.Wake, ge.ReweightedModel])
def test_draws_of_updates_have_the_exact_mean_and_trace(kind):
    """3,000 draws, K, L, M = 3, 6, 4; Bernstein's inequality, 1e-9 in all."""
    rng = np.random.default_rng(4)
    model, x = shallow(3, (4,), 6, rng), binary(1, 6, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(1, 3)))
    exact = kind(4).moments(model, q, x)
    draws = np.stack([flatten(kind(4).sample(model, q, x, rng)) for _ in range(3000)]) - flatten(exact.mean)
    squares, level = (draws**2).sum(axis=1), np.log(2 * (draws.shape[1] + 1) / 1e-9)
    for values, wanted in ((draws, 0.0), (squares[:, None], exact.trace[0])):
        largest = np.abs(values - wanted).max(axis=0)
        allowed = np.sqrt(2 * 1.3 * values.var(axis=0) * level / 3000) + largest * level / 3000
        assert (np.abs(values.mean(axis=0) - wanted) <= allowed).all()


def test_draws_of_sleep_have_the_exact_mean_and_trace():
    """6,000 dreams, K, L = 2, 5, likewise."""
    rng = np.random.default_rng(5)
    model, q = shallow(2, (4,), 5, rng), refvlm.AmortisedPosterior(network([5, 2], rng))
    exact = ge.Sleep().moments(model, q)
    draws = np.stack([flatten(ge.Sleep().sample(model, q, rng)) for _ in range(6000)]) - flatten(exact.mean)
    squares, level = (draws**2).sum(axis=1), np.log(2 * (draws.shape[1] + 1) / 1e-9)
    for values, wanted in ((draws, 0.0), (squares[:, None], exact.trace)):
        largest = np.abs(values - wanted).max(axis=0)
        allowed = np.sqrt(2 * 1.3 * values.var(axis=0) * level / 6000) + largest * level / 6000
        assert (np.abs(values.mean(axis=0) - wanted) <= allowed).all()


def test_what_parameters_cannot_have_is_refused_in_one_line():
    rng = np.random.default_rng(6)
    q, x = refvlm.AmortisedPosterior(network([25, 3], rng)), binary(2, 25, rng)
    wide, narrow, rows = shallow(3, (), 25, rng), shallow(3, (), 5, rng), refvlm.PerDatumPosterior([[0.0] * 3])
    other = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), Quadratic(3, 25))
    for kind, got, call in (
        (ValueError, "samples: got 0", lambda: ge.Wake(0)),
        (TypeError, "prior is a model", lambda: ge.Wake().moments(deep(2, 3, 25, rng), q, x)),
        (TypeError, "wanted an MLP; q's estimators remain", lambda: ge.ReweightedModel().moments(other, q, x)),
        (ValueError, "3 latent and 25 observed bits.*at most 22", lambda: ge.Sleep().moments(wide, q)),
        (TypeError, "dreams have no row", lambda: ge.Sleep().moments(narrow, rows)),
    ):  # fmt: skip
        with pytest.raises(kind, match=got) as error:
            call()
        assert "\n" not in str(error.value)
