"""The error bounds of the VLB, of KL and of posterior means against 50-digit arithmetic."""

from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from digits import EXACT
from hypothesis import given, settings
from problems import ACTIVATIONS, binary, deep, network, problems, shallow

import refvlm
from refvlm import bits


def outputs(mlp, row):
    """The network's outputs for one row of bits."""
    h = [mp.mpf(int(v)) for v in row]
    for layer, (w, b) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        if layer > 0:
            h = [EXACT[mlp.activation](v) for v in h]
        columns = zip(w.T.tolist(), b.tolist(), strict=True)
        h = [mp.mpf(c) + mp.fsum(v * mp.mpf(a) for v, a in zip(h, column, strict=True)) for column, c in columns]
    return h


def log_bits(logits, row):
    """log of the probability of the bits; a logit may be infinite."""
    total = mp.mpf(0)
    for a, bit in zip(logits, row, strict=True):
        signed = a if bit else -a
        if mp.isinf(signed):
            total += mp.mpf(0) if signed > 0 else mp.mpf("-inf")
        else:
            total += -mp.log1p(mp.exp(-signed)) if signed > 0 else signed - mp.log1p(mp.exp(signed))
    return total


def log_sum(values):
    top = max(values)
    return top if mp.isinf(top) else top + mp.log(mp.fsum(mp.exp(v - top) for v in values))


def log_prior(prior, z):
    """log p(z), over the layers above too."""
    if isinstance(prior, refvlm.Bernoulli):
        return log_bits([mp.mpf(float(v)) for v in prior.logits], z)
    above = bits.table(prior.latents).tolist()
    return log_sum([log_prior(prior.prior, u) + log_bits(outputs(prior.decoder, u), z) for u in above])


def stage_logits(q, n, row):
    return (
        [mp.mpf(v) for v in q.logits[n].tolist()]
        if isinstance(q, refvlm.PerDatumPosterior)
        else outputs(q.encoder, row)
    )


def bound_of(model, q, n, row):
    """VLB of one row: the sum over z of q (log p(x, z) - log q), under a chain with the VLB above for log p(z)."""
    stages = q.stages if isinstance(q, refvlm.ChainPosterior) else [q]
    logits = stage_logits(stages[0], n, row)
    terms = []
    for code, z in enumerate(bits.table(model.latents).tolist()):
        log_q = log_bits(logits, z)
        if not mp.isinf(log_q):
            upper = bound_of(model.prior, q.above, code, z) if len(stages) > 1 else log_prior(model.prior, z)
            terms.append(mp.exp(log_q) * (upper + log_bits(outputs(model.decoder, z), row) - log_q))
    return mp.fsum(terms)


def assert_certified(model, q, x, most):
    decomposed = refvlm.decompose(model, q, x)
    mean, mean_error = refvlm.posterior_mean(model, x, with_error=True)
    assert refvlm.vlb(model, q, x, with_error=True)[1].tobytes() == decomposed.vlb_error.tobytes()
    assert refvlm.kl(model, q, x, with_error=True)[1].tobytes() == decomposed.kl_error.tobytes()
    errors = decomposed.log_px_error + decomposed.vlb_error + decomposed.kl_error
    assert (np.abs(decomposed.residual) <= errors).all()
    table = bits.table(model.latents).tolist()
    with mp.workdps(50):
        priors, logits = [log_prior(model.prior, z) for z in table], [outputs(model.decoder, z) for z in table]
        for n, row in enumerate(x.tolist()):
            joint = [p + log_bits(a, row) for p, a in zip(priors, logits, strict=True)]
            log_px, bound = log_sum(joint), bound_of(model, q, n, row)
            if mp.isinf(bound):
                assert (decomposed.vlb[n], decomposed.kl[n]) == (-np.inf, np.inf)
            else:
                scale = 1 + abs(float(log_px)) + abs(float(bound))
                for value, error, exact in [
                    (decomposed.vlb[n], decomposed.vlb_error[n], bound),
                    (decomposed.kl[n], decomposed.kl_error[n], log_px - bound),
                ]:
                    assert abs(mp.mpf(float(value)) - exact) <= float(error), (value, exact, error)
                    assert error <= most * scale
            for k in range(model.latents):
                exact = mp.fsum(mp.exp(j - log_px) for j, z in zip(joint, table, strict=True) if z[k])
                assert abs(mp.mpf(float(mean[n, k])) - exact) <= float(mean_error[n, k]), (mean[n, k], exact)
                assert mean_error[n, k] <= most * (1 + abs(float(log_px)))


@settings(max_examples=60)
@given(problems(most_latents=4, most_observed=6, saturated=False, infinite=True, most_rows=3))
def test_ordinary_models_are_within_their_bounds(p):
    assert_certified(p.model, p.q, p.x, 1e-11)


@settings(max_examples=40)
@given(problems(most_latents=4, most_observed=6, infinite=True, most_rows=3))
def test_saturated_models_are_within_their_bounds(p):
    assert_certified(p.model, p.q, p.x, 1e-6)  # an encoder with weights of 1e3 in float64


@pytest.mark.parametrize("seed", range(7))
def test_many_rows_and_weights_of_a_thousand_are_within_their_bounds(seed):
    rng = np.random.default_rng(seed)
    sizes = [3, 7, 5] if seed % 2 else [3, 5]
    weights = [1e3 * rng.normal(size=pair) for pair in pairwise(sizes)]
    decoder = refvlm.MLP(weights, [1e3 * rng.normal(size=n) for n in sizes[1:]], ACTIVATIONS[seed])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(30 * rng.normal(size=3)), decoder)
    x = binary(40, 5, rng)
    assert_certified(model, refvlm.PerDatumPosterior(20 * rng.normal(size=(40, 3))), x, 1e-9)


def test_deep_models_are_within_their_bounds():
    rng = np.random.default_rng(0)
    model, x = deep(2, 3, 5, rng, scale=3.0), binary(3, 5, rng)
    first = refvlm.AmortisedPosterior(network([5, 4, 3], rng))
    second = refvlm.AmortisedPosterior(network([3, 6, 2], rng))
    assert_certified(model, first, x, 1e-11)
    assert_certified(model, refvlm.ChainPosterior([first, second]), x, 1e-11)


def test_errors_of_a_chains_lowest_logits_count_in_the_divergence_above():
    """L, K1, K2 = 5, 3, 4, N = 1: a first encoder that loses five digits; the second is 1e4 nats off for some z1."""
    rng = np.random.default_rng(0)
    free, x = deep(4, 3, 5, rng, hidden=()), binary(1, 5, rng)
    model = free.with_parameters(free.parameters() | {"prior.prior.logits": np.full(4, -1e4)})
    first, second = rng.normal(size=(5, 6)), 1e6 * rng.normal(size=(6, 3))
    offset = -np.tanh(x[0] @ first + 0.25) @ second
    loose = refvlm.AmortisedPosterior(refvlm.MLP([first, second], [np.full(6, 0.25), offset]))
    weights = np.vstack([np.full((1, 4), 1e4), np.zeros((2, 4))])
    far = refvlm.AmortisedPosterior(refvlm.MLP([weights], [np.full(4, -5e3)]))
    assert_certified(model, refvlm.ChainPosterior([loose, far]), x, 1e-6)


def test_the_check_objects_to_wrong_values(monkeypatch):
    rng = np.random.default_rng(1)
    model, x = shallow(3, (4,), 6, rng), binary(2, 6, rng)
    q = refvlm.AmortisedPosterior(network([6, 5, 3], rng))
    right = refvlm.decompose(model, q, x)
    for name in ("vlb", "kl"):
        wrong = right._replace(**{name: getattr(right, name) + 2 * getattr(right, f"{name}_error")})
        monkeypatch.setattr(refvlm, "decompose", lambda *arguments, wrong=wrong: wrong)
        with pytest.raises(AssertionError):
            assert_certified(model, q, x, 1e-11)
