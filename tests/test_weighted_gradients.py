"""Exact gradients of IWAE-M and mean updates of reweighted wake-sleep, against tuples, differences and 50 digits."""

import itertools
from itertools import pairwise

import mpmath as mp
import numba
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, deep, network, problems, shallow
from scipy.special import expit
from test_weights import all_weights

import refvlm
from refvlm import bits
from refvlm.conformance.plain import Plain
from refvlm.conformance.problems import from_model
from refvlm.enumeration.kernels import lanes, responses
from refvlm.inference import definition

U = 2.0**-53


def means_over_tuples(log_weights, q, logits, samples):
    """E of the normalised weights by code, and E sum_i (log S / M) score_i, over all M-tuples of codes."""
    codes, score = len(q), bits.table(len(logits)) - expit(logits)
    shares, logs = np.zeros(codes), np.zeros(len(logits))
    for chosen in itertools.product(range(codes), repeat=samples):
        w, drawn = np.exp(log_weights[list(chosen)]), list(chosen)
        probability = np.prod(q[drawn])
        np.add.at(shares, drawn, probability * w / w.sum())
        logs += probability * np.log(w.mean()) * score[drawn].sum(axis=0)
    return shares, logs - shares @ score, shares @ score


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("sizes", [(2, (), 5), (3, (4,), 6)])
def test_expected_gradients_are_sums_over_all_tuples(sizes, samples):
    """(K, hidden, L), N = 1, to a relative 1e-12: model and q."""
    latents, hidden, observed = sizes
    rng = np.random.default_rng(samples)
    model, x = shallow(latents, hidden, observed, rng, scale=2.0), binary(1, observed, rng)
    q = refvlm.PerDatumPosterior(1.5 * rng.normal(size=(1, latents)))
    plain, z = oracle.as_model(model), bits.table(latents)
    log_q = np.array(oracle.log_q(q.logits[0].tolist()))
    log_joint = np.array(oracle.log_joint(plain, [x[0].tolist()] * len(z), z.tolist()))
    shares, of_iwae, of_rws = means_over_tuples(log_joint - log_q, np.exp(log_q), q.logits[0], samples)
    iwae, rws = refvlm.grad_iwae(model, q, x, samples, [0.7]), refvlm.grad_rws(model, q, x, samples, [0.7])
    np.testing.assert_allclose(iwae["posterior.logits"][0], 0.7 * of_iwae, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(rws["posterior.logits"][0], 0.7 * of_rws, rtol=1e-12, atol=1e-13)
    logits, pullback = model.decoder.forward(z.astype(float))
    of_decoder = pullback(0.7 * shares[:, None] * (x - expit(logits)))
    wanted = {f"model.decoder.{name}": value for name, value in of_decoder.items()}
    wanted["model.prior.logits"] = 0.7 * (shares @ z - expit(model.prior.logits))
    for found in (iwae, rws):
        assert {name for name in found if name.startswith("model.")} == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-13)


def many_layers(kind, rng):
    """A model and q of L = 6: K = 4, or 4 below 2, or 3 below 2 below 1; what q leaves out is summed exactly."""
    x = binary(3, 6, rng)
    if kind == "shallow":
        return shallow(4, (5,), 6, rng), refvlm.AmortisedPosterior(network([6, 3, 4], rng)), x
    if kind == "collapsed":
        return deep(2, 4, 6, rng), refvlm.AmortisedPosterior(network([6, 3, 4], rng)), x
    model = refvlm.BernoulliLVM(deep(1, 2, 3, rng, hidden=()), network([3, 5, 6], rng))
    lowest, middle = refvlm.PerDatumPosterior(rng.normal(size=(3, 3))), network([3, 4, 2], rng)
    if kind == "layerwise":
        of_x = [refvlm.AmortisedPosterior(network([6, width], rng)) for width in (2, 1)]
        return model, refvlm.LayerwisePosterior([lowest, *of_x]), x
    above = [refvlm.AmortisedPosterior(network([2, 1], rng))] if kind == "chain" else []
    return model, refvlm.ChainPosterior([lowest, refvlm.AmortisedPosterior(middle), *above]), x


@pytest.mark.parametrize("kind", ["shallow", "collapsed", "chain", "part of a chain", "layerwise"])
@pytest.mark.parametrize("samples", [2, 50])
def test_gradient_of_iwae_is_its_slope(kind, samples):
    """Central differences of the exact bound along a random direction; N = 3, up to three layers of latents."""
    rng = np.random.default_rng(3)
    (model, q, x), weights = many_layers(kind, rng), rng.normal(size=3)
    gradient = refvlm.grad_iwae(model, q, x, samples, weights)
    direction = {name: rng.normal(size=value.shape) for name, value in gradient.items()}

    def bound(t):
        def moved(of, prefix):
            return of.with_parameters(
                {name: value + t * direction[prefix + name] for name, value in of.parameters().items()}
            )

        return float(weights @ refvlm.iwae(moved(model, "model."), moved(q, "posterior."), x, samples))

    slope = oracle.slope(bound)
    assert abs(oracle.inner(gradient, direction) - slope.value) <= max(slope.uncertainty, 1e-9)


@pytest.mark.parametrize("depth", [2, 3])
def test_updates_under_a_chain_are_sums_over_all_tuples_of_its_draws(depth):
    """L, K, K2, K3 = 5, 2, 3, 1, N, M = 2, 2: both functions against a plain program that goes through all pairs."""
    rng = np.random.default_rng(9)
    upper = shallow(3, (4,), 2, rng) if depth == 2 else deep(1, 3, 2, rng, hidden=())
    model, x = refvlm.BernoulliLVM(upper, network([2, 5], rng)), binary(2, 5, rng)
    widths = [5, 2, 3, 1][: depth + 1]
    q = refvlm.ChainPosterior([refvlm.AmortisedPosterior(network(list(pair), rng)) for pair in pairwise(widths)])
    inputs = {"x": x.astype(float), "samples": np.array(2.0)}
    for name, function in (("grad_iwae", refvlm.grad_iwae), ("rws_update", refvlm.grad_rws)):
        wanted, found = Plain(from_model(name, model, q, inputs)).answer(), function(model, q, x, 2)
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-11, atol=1e-13, err_msg=key)


@given(problems(most_latents=5, saturated=False), st.sampled_from([2, 5]))
def test_expected_gradients_equal_the_definition(p, samples):
    shares, logs = definition.reweighted(p.model, p.q, p.x, samples)
    score = bits.table(p.model.latents) - expit(p.q.forward(p.x)[0])[:, None, :]
    for found, table in (
        (refvlm.grad_iwae(p.model, p.q, p.x, samples, p.weights), logs - shares),
        (refvlm.grad_rws(p.model, p.q, p.x, samples, p.weights), shares),
    ):
        slopes = np.einsum("nc,nck->nk", table, score) * p.weights[:, None]
        wanted = p.q.forward(p.x)[1](slopes)
        for name, value in wanted.items():
            np.testing.assert_allclose(found[f"posterior.{name}"], value, rtol=1e-9, atol=1e-10)
        logits = p.model.decoder.forward(bits.table(p.model.latents).astype(float))[0]
        mass = shares.T @ p.weights
        bias = (shares * p.weights[:, None]).T @ p.x - mass[:, None] * expit(logits)
        last = len(p.model.decoder.weights) - 1
        np.testing.assert_allclose(found[f"model.decoder.biases.{last}"], bias.sum(axis=0), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("samples", [2, 30, 10**6])
def test_gradients_in_q_agree_with_fifty_digits(samples):
    """K, L, N = 5, 7, 1, to 1e-13, at a million samples as well: integrals by four times as many nodes."""
    rng = np.random.default_rng(4)
    model, x = shallow(5, (6,), 7, rng), binary(1, 7, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(1, 5)))
    found = [f(model, q, x, samples)["posterior.logits"][0] for f in (refvlm.grad_iwae, refvlm.grad_rws)]
    with mp.workdps(50):
        log_w, log_q = all_weights(model, q, 0, x[0].tolist())
        w, p = [mp.exp(a) for a in log_w], [mp.exp(b) for b in log_q]
        curved, shares = [mp.mpf(0)] * 32, [mp.mpf(0)] * 32
        step, scale = mp.mpf(1) / 16, mp.log(mp.fsum(a * b for a, b in zip(w, p, strict=True)))
        for j in range(-1100, 400):
            s = mp.exp(j * step - scale)
            y = [s * a for a in w]
            e = [mp.exp(-a) for a in y]
            factor = step * samples * mp.fsum(a * b for a, b in zip(e, p, strict=True)) ** (samples - 1)
            for code in range(32):
                shares[code] += factor * y[code] * e[code]
                curved[code] += factor * (1 - (1 + y[code]) * e[code])
        phi = [1 / (1 + mp.exp(-mp.mpf(v))) for v in q.logits[0].tolist()]
        for k in range(5):
            for got, table in zip(found, (curved, shares), strict=True):
                exact = mp.fsum(p[c] * table[c] * (((c >> k) & 1) - phi[k]) for c in range(32))
                assert abs(got[k] - exact) <= 1e-13 * max(1, abs(exact))


def test_many_samples_lead_to_the_gradients_that_they_estimate():
    """In the model that of log p(x), in q minus KL(p(z | x) || q)'s; the bias falls as 1 / M. K, L, N = 4, 6, 2."""
    rng = np.random.default_rng(5)
    model, x = shallow(4, (5,), 6, rng), binary(2, 6, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(2, 4)))
    exact = refvlm.grad_log_marginal(model, x)
    towards = refvlm.posterior_mean(model, x) - expit(q.logits)
    off = []
    for samples in (10**3, 10**4, 10**5):
        found = refvlm.grad_rws(model, q, x, samples)
        off.append(
            [np.abs(found["model.decoder.weights.0"] - exact["decoder.weights.0"]).max(),
             np.abs(found["posterior.logits"] - towards).max()]
        )  # fmt: skip
    ratios = np.array(off)[:-1] / np.array(off)[1:]
    np.testing.assert_allclose(ratios, 10.0, rtol=0.03)


def test_one_sample_is_the_vlb():
    rng = np.random.default_rng(6)
    model, x = shallow(3, (4,), 5, rng), binary(2, 5, rng)
    q = refvlm.AmortisedPosterior(network([5, 3], rng))
    vlb, iwae, rws = refvlm.grad_vlb(model, q, x), refvlm.grad_iwae(model, q, x, 1), refvlm.grad_rws(model, q, x, 1)
    for name, value in vlb.items():
        assert iwae[name].tobytes() == value.tobytes()
        assert np.array_equal(rws[name], value if name.startswith("model.") else np.zeros_like(value))


def test_bits_do_not_depend_on_workers_and_missing_bits_are_summed_out():
    """K, L, N = 13, 5, 70: two pieces of the cube, two groups of rows."""
    rng = np.random.default_rng(7)
    model, x = shallow(13, (3,), 5, rng), binary(70, 5, rng)
    q = refvlm.AmortisedPosterior(network([5, 13], rng))
    one, three = (refvlm.grad_iwae(model, q, x, 3, workers=n) for n in (1, 3))
    for name, value in one.items():
        assert three[name].tobytes() == value.tobytes()
    small, few = shallow(3, (3,), 5, rng), binary(2, 5, rng).astype(float)
    few[0, 2] = np.nan
    r = refvlm.AmortisedPosterior(network([5, 3], rng))
    got = refvlm.grad_rws(small, r, few, 4, missing="marginalise")
    whole = refvlm.grad_rws(small, r, few[1:], 4)
    seen = [0, 1, 3, 4]
    w, b = small.decoder.weights, small.decoder.biases
    less = refvlm.BernoulliLVM(small.prior, refvlm.MLP([w[0], w[1][:, seen]], [b[0], b[1][seen]]))
    part = refvlm.AmortisedPosterior(refvlm.MLP([r.encoder.weights[0][seen]], r.encoder.biases))
    rest = refvlm.grad_rws(less, part, few[:1, seen], 4)
    np.testing.assert_allclose(
        got["model.decoder.weights.0"], whole["model.decoder.weights.0"] + rest["model.decoder.weights.0"], rtol=1e-12
    )


def test_infinite_logits_have_no_slope_and_what_is_refused_says_so():
    """K, L, N = 2, 4, 1."""
    rng = np.random.default_rng(8)
    model, x = shallow(2, (), 4, rng), binary(1, 4, rng)
    certain = refvlm.PerDatumPosterior([[np.inf, 0.3]])
    for function in (refvlm.grad_iwae, refvlm.grad_rws):
        found = function(model, certain, x, 3)
        assert found["posterior.logits"][0, 0] == 0.0
        assert all(np.isfinite(value).all() for value in found.values())
        impossible = refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf, 0.0]), model.decoder)
        with pytest.raises(ValueError, match=r"^posterior: puts mass on a z of zero prior probability for row 0"):
            function(impossible, certain, x, 3)
        with pytest.raises(ValueError, match=r"^samples: got 0, wanted at least 1$"):
            function(model, certain, x, 0)
        first, second = (refvlm.AmortisedPosterior(network(sizes, rng)) for sizes in ([4, 3], [3, 2]))
        excluding = refvlm.ChainPosterior([refvlm.PerDatumPosterior([[np.inf, 0.3, -1.0]]), second])
        for q in (refvlm.ChainPosterior([first, second]), excluding):
            found = function(deep(2, 3, 4, rng), q, x, 3)
            assert all(np.isfinite(value).all() for value in found.values())
        assert found["posterior.0.logits"][0, 0] == 0.0
        nothing = function(model, refvlm.AmortisedPosterior(network([4, 2], rng)), np.zeros((0, 4)), 3)
        assert all((value == 0).all() for value in nothing.values())


@numba.njit(error_model="numpy")
def curved(values, out):
    for i in range(0, len(values), lanes.OCTET):
        lanes.store(out, i, responses.curved(lanes.load_octet(values, i)))


def test_one_minus_one_plus_y_times_exp_keeps_its_digits():
    """To 12 u from 1e-150 up, and around the end of the series."""
    rng = np.random.default_rng(9)
    around = 1.0 + rng.uniform(-1e-3, 1e-3, 400)
    y = np.concatenate([10.0 ** rng.uniform(-150, 4, 400), around, rng.uniform(0, 3, 400)])
    out = np.empty_like(y)
    curved(y, out)
    with mp.workdps(400):
        exact = [1 - (1 + mp.mpf(a)) * mp.exp(-mp.mpf(a)) for a in y]
        assert max(float(abs(mp.mpf(b) / a - 1)) for a, b in zip(exact, out, strict=True)) < 12 * U
