"""Bounds from the weights w = p(x, z) / q(z | x): IWAE-M, EUBO, CUBO, Renyi, TVO, and moments of log w, exactly."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import mpmath as mp
import numba
import numpy as np
import pytest
import tuples
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import binary, deep, network, problems, shallow
from test_bound_certificate import log_bits, log_prior, outputs, stage_logits

import refvlm
from refvlm import bits
from refvlm.enumeration.kernels import lanes, weights
from refvlm.inference import definition

U = 2.0**-53


def all_weights(model, q, n, row):
    """log w and log q of every code of all layers that q names, for row n of x, in mpmath's digits."""
    layerwise = isinstance(q, refvlm.LayerwisePosterior)
    stages = q.stages if isinstance(q, refvlm.ChainPosterior) or layerwise else [q]
    found = []

    def descend(model, depth, row, given, log_joint, log_q):
        logits = stage_logits(stages[depth], *given)
        for code, z in enumerate(bits.table(model.latents).tolist()):
            joint, log_both = log_joint + log_bits(outputs(model.decoder, z), row), log_q + log_bits(logits, z)
            if depth + 1 < len(stages):
                descend(model.prior, depth + 1, z, given if layerwise else (code, z), joint, log_both)
            else:
                found.append((joint + log_prior(model.prior, z), log_both))

    descend(model, 0, row, (n, row), mp.mpf(0), mp.mpf(0))
    return [j - b if not mp.isinf(b) else mp.mpf(0) for j, b in found], [b for _, b in found]


def three_kinds(rng):
    """K = (3, 2), L = 5, N = 4: a chain, a layerwise q and one that leaves the top layer to the sum."""
    model, x = deep(2, 3, 5, rng, scale=2.0), binary(4, 5, rng)
    below, above = refvlm.PerDatumPosterior(1.5 * rng.normal(size=(4, 3))), rng.normal(size=(4, 2))
    return model, x, {
        "chain": refvlm.ChainPosterior([below, refvlm.AmortisedPosterior(network([3, 4, 2], rng))]),
        "layerwise": refvlm.LayerwisePosterior([below, refvlm.PerDatumPosterior(above)]),
        "collapsed": below,
    }  # fmt: skip


@pytest.mark.parametrize("samples", [2, 3, 4])
@pytest.mark.parametrize("sizes", [(2, (), 5), (2, (6,), 3), (3, (7, 4), 6)])
def test_iwae_is_the_sum_over_all_tuples(sizes, samples):
    """(K, hidden, L) and N = 4."""
    latents, hidden, observed = sizes
    rng = np.random.default_rng(samples)
    model, x = shallow(latents, hidden, observed, rng, scale=2.0), binary(4, observed, rng)
    q = refvlm.AmortisedPosterior(network([observed, latents + 1, latents], rng, scale=3.0))
    value, error = refvlm.iwae(model, q, x, samples, with_error=True)
    with mp.workdps(50):
        for n, row in enumerate(x.tolist()):
            exact = tuples.iwae(*all_weights(model, q, n, row), samples)
            assert abs(mp.mpf(value[n]) - exact) <= min(error[n], 1e-14 * (1 + abs(float(exact))))


@pytest.mark.parametrize("kind", ["chain", "part of a chain", "layerwise", "collapsed"])
def test_weights_of_deep_models_are_those_of_all_layers_that_q_names(kind):
    """Of three layers, K = (3, 2, 1), where the highest is left to the sum below a chain."""
    rng = np.random.default_rng(0)
    model, x, kinds = three_kinds(rng)
    if kind == "part of a chain":
        model, kind = refvlm.BernoulliLVM(deep(1, 2, 3, rng, hidden=(), scale=2.0), model.decoder), "chain"
    q = kinds[kind]
    value, error = refvlm.iwae(model, q, x, 2, with_error=True)
    moments = refvlm.log_weight_moments(model, q, x)
    ones = [
        (refvlm.eubo(model, q, x, with_error=True), lambda k: k(1)[1]),
        (refvlm.cubo(model, q, x, 3.0, with_error=True), lambda k: k(3)[0] / 3),
        (refvlm.renyi(model, q, x, 0.25, with_error=True), lambda k: k(mp.mpf(3) / 4)[0] / mp.mpf(0.75)),
        (refvlm.tvo(model, q, x, [0, 0.5, 1], with_error=True), lambda k: (k(0)[1] + k(mp.mpf(0.5))[1]) / 2),
    ]
    with mp.workdps(50):
        for n, row in enumerate(x.tolist()):
            log_w, log_q = all_weights(model, q, n, row)
            assert abs(value[n] - tuples.iwae(log_w, log_q, 2)) <= error[n] < 1e-12

            def kappa(s, log_w=log_w, log_q=log_q):
                return tuples.kappa(log_w, log_q, s)

            for (got, bound), of in ones:
                assert abs(mp.mpf(got[n]) - of(kappa)) <= bound[n] < 1e-11
            for s, mean, variance in (
                (0, moments.mean, moments.variance),
                (1, moments.posterior_mean, moments.posterior_variance),
            ):
                _, first, second = kappa(s)
                assert abs(mean[n] - first) <= 1e-13 * (1 + abs(first))
                assert abs(variance[n] - second) <= 1e-13 * (1 + second)
            assert abs(moments.effective_share[n] - mp.exp(2 * kappa(1)[0] - kappa(2)[0])) <= 1e-13


@pytest.mark.parametrize("samples", [2, 37, 1000, 10_000])
def test_iwae_of_one_bit_is_a_binomial_mean(samples):
    """K, L, N = 1, 3, 2: the number of ones among M draws is binomial, at any M."""
    rng = np.random.default_rng(1)
    model, x = shallow(1, (4,), 3, rng, scale=3.0), binary(2, 3, rng)
    q = refvlm.PerDatumPosterior([[0.4], [-2.0]])
    value, error = refvlm.iwae(model, q, x, samples, with_error=True)
    with mp.workdps(40):
        for n, row in enumerate(x.tolist()):
            (low, high), (off, on) = all_weights(model, q, n, row)
            ways, total = mp.exp(samples * off), mp.mpf(0)
            for ones in range(samples + 1):
                total += ways * mp.log(((samples - ones) * mp.exp(low) + ones * mp.exp(high)) / samples)
                ways *= mp.exp(on - off) * (samples - ones) / (ones + 1)
            assert abs(value[n] - total) <= min(error[n], 1e-14)


@pytest.mark.parametrize("samples", [2, 50, 10**6])
def test_iwae_agrees_with_quadrature_in_fifty_digits(samples):
    """K, L, N = 5, 7, 1: Frullani's integral by another rule, between the points where weights of the codes act."""
    rng = np.random.default_rng(2)
    model, x = shallow(5, (6,), 7, rng, scale=2.0), binary(1, 7, rng)
    q = refvlm.AmortisedPosterior(network([7, 5], rng))
    value, error = refvlm.iwae(model, q, x, samples, with_error=True)
    with mp.workdps(50):
        log_w, log_q = all_weights(model, q, 0, x[0].tolist())
        log_mean = tuples.kappa(log_w, log_q, 1)[0]
        w, p = [mp.exp(a - log_mean) for a in log_w], [mp.exp(b) for b in log_q]

        def inside(u):
            t = mp.exp(u)
            phi = mp.fsum(b * mp.exp(-t * a / samples) for a, b in zip(w, p, strict=True))
            return phi**samples - mp.exp(-t)

        ends = list(range(-60, 66, 3))
        exact = log_mean - mp.quad(inside, ends, maxdegree=5)
        assert abs(value[0] - exact) <= min(float(error[0]), 1e-13)
        assert error[0] < 1e-12 * (1 + abs(value[0]))


@settings(max_examples=60)
@given(problems(most_latents=3, most_observed=6, infinite=True, most_rows=3), st.sampled_from([2, 3]))
def test_errors_are_within_their_bounds_for_hostile_models(p, samples):
    """IWAE-M is refused where weights spread over more than 1e4 nats, and only there."""
    try:
        value, error = refvlm.iwae(p.model, p.q, p.x, samples, with_error=True)
    except ValueError as refused:
        value, error, message = None, None, str(refused)
        assert message.startswith("model: got log weights down to")
    eubo, eubo_error = refvlm.eubo(p.model, p.q, p.x, with_error=True)
    chi, chi_error = refvlm.cubo(p.model, p.q, p.x, 2, with_error=True)
    widest = mp.mpf(0)
    with mp.workdps(60):
        for n, row in enumerate(p.x.tolist()):
            log_w, log_q = all_weights(p.model, p.q, n, row)
            possible = [(a, b) for a, b in zip(log_w, log_q, strict=True) if not mp.isinf(a)]
            (log_mean, mean, _), (square, _, _) = (tuples.kappa(*zip(*possible, strict=True), s) for s in (1, 2))
            assert abs(mp.mpf(eubo[n]) - mean) <= eubo_error[n]
            assert abs(mp.mpf(chi[n]) - square / 2) <= chi_error[n]
            exact = tuples.iwae(log_w, log_q, samples)
            if mp.isinf(exact):
                assert value is None or (np.isneginf(value[n]) and error[n] == 0)
                continue
            widest = max(widest, log_mean - min(log_w))
            assert value is None or abs(mp.mpf(value[n]) - exact) <= error[n] < np.inf
    assert (value is None) == (widest > 1e4)


@given(problems(saturated=False))
def test_bounds_are_ordered(p):
    """VLB <= TVO, IWAE-2 <= IWAE-3 <= IWAE-40 <= log p <= CUBO-2 <= CUBO-3; log p <= EUBO; Renyi falls with alpha."""
    model, q, x = p.model, p.q, p.x
    log_px, near = refvlm.log_marginal(model, x), 1e-11
    rising = [
        refvlm.vlb(model, q, x), *(refvlm.iwae(model, q, x, m) for m in (2, 3, 40)), log_px,
        refvlm.cubo(model, q, x), refvlm.cubo(model, q, x, 3),
    ]  # fmt: skip
    falling = [refvlm.renyi(model, q, x, alpha) for alpha in (-2.0, -0.5, 0.0, 0.5, 1.0, 3.0)]
    sums = [refvlm.tvo(model, q, x, np.linspace(0, 1, n)) for n in (2, 3, 5, 17)]
    for row in [rising, falling[::-1], [*sums, log_px, refvlm.eubo(model, q, x)]]:
        for lower, upper in itertools.pairwise(row):
            assert (lower <= upper + near).all()


@given(problems(most_latents=6, saturated=False))
def test_special_orders_are_the_quantities_they_should_be(p):
    """CUBO-1 and Renyi-0: log p(x). Renyi-1, TVO over [0, 1], IWAE-1, the mean of log w: the VLB. EUBO: by KL."""
    model, q, x = p.model, p.q, p.x
    log_px, vlb = refvlm.log_marginal(model, x), refvlm.vlb(model, q, x)
    np.testing.assert_allclose(refvlm.cubo(model, q, x, 1), log_px, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(refvlm.renyi(model, q, x, 0.0), log_px, rtol=1e-13, atol=1e-13)
    moments = refvlm.log_weight_moments(model, q, x)
    for value in (refvlm.renyi(model, q, x, 1), refvlm.tvo(model, q, x, [0.0, 1.0]), moments.mean):
        np.testing.assert_allclose(value, vlb, rtol=1e-12)
    assert refvlm.iwae(model, q, x, 1).tobytes() == vlb.tobytes()
    log_w, _ = definition.log_weights(model, q, x)
    eubo = (definition.posterior(model, x) * log_w).sum(axis=1)
    np.testing.assert_allclose(refvlm.eubo(model, q, x), eubo, rtol=1e-11)
    np.testing.assert_allclose(refvlm.eubo(model, q, x), moments.posterior_mean, rtol=1e-13)


@given(problems(most_latents=6, saturated=False), st.sampled_from([2, 7, 1000]))
def test_weights_equal_the_definition(p, samples):
    value = refvlm.iwae(p.model, p.q, p.x, samples)
    np.testing.assert_allclose(value, definition.iwae(p.model, p.q, p.x, samples), rtol=1e-11, atol=1e-11)
    for alpha in (-1.0, 0.3, 2.0):
        mean = definition.log_mean_power(p.model, p.q, p.x, 1 - alpha) / (1 - alpha)
        np.testing.assert_allclose(refvlm.renyi(p.model, p.q, p.x, alpha), mean, rtol=1e-11, atol=1e-11)


def test_where_q_is_the_posterior_all_weights_are_p_of_x():
    """K = 1, L = 4, N = 3: the posterior is a Bernoulli."""
    rng = np.random.default_rng(3)
    model, x = shallow(1, (5,), 4, rng, scale=2.0), binary(3, 4, rng)
    mean = refvlm.posterior_mean(model, x)
    q, log_px = refvlm.PerDatumPosterior(np.log(mean) - np.log1p(-mean)), refvlm.log_marginal(model, x)
    for value in (refvlm.iwae(model, q, x, 5), refvlm.eubo(model, q, x), refvlm.cubo(model, q, x, 4)):
        np.testing.assert_allclose(value, log_px, rtol=1e-13)
    moments = refvlm.log_weight_moments(model, q, x)
    assert (moments.variance < 1e-25).all()
    assert (moments.posterior_variance < 1e-25).all()
    np.testing.assert_allclose(moments.effective_share, 1.0, rtol=1e-13)


def test_where_q_allows_what_p_excludes_a_weight_is_zero():
    """K, L, N = 2, 3, 1: all draws may have it."""
    rng = np.random.default_rng(4)
    model, x = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.3]), network([2, 3], rng)), binary(1, 3, rng)
    q = refvlm.PerDatumPosterior([[0.5, -0.2]])
    value, error = refvlm.iwae(model, q, x, 3, with_error=True)
    assert np.isneginf(value).all()
    assert (error == 0).all()
    assert np.isneginf(refvlm.renyi(model, q, x, 1.5)).all()
    assert np.isneginf(refvlm.renyi(model, q, x, 1)).all()
    np.testing.assert_allclose(refvlm.renyi(model, q, x, 0.0), refvlm.log_marginal(model, x), rtol=1e-14)
    moments = refvlm.log_weight_moments(model, q, x)
    assert np.isneginf(moments.mean).all()
    assert np.isposinf(moments.variance).all()
    assert np.isfinite(moments.posterior_mean).all()
    assert np.isfinite(refvlm.cubo(model, q, x)).all()


def test_where_q_excludes_what_p_needs_bounds_from_above_are_infinite():
    """K, L, N = 2, 3, 1: and those from below reach what q allows of p(x)."""
    rng = np.random.default_rng(5)
    model, x = shallow(2, (), 3, rng), binary(1, 3, rng)
    q = refvlm.PerDatumPosterior([[np.inf, 0.7]])
    for value in (refvlm.eubo(model, q, x), refvlm.cubo(model, q, x), refvlm.renyi(model, q, x, -0.5)):
        assert np.isposinf(value).all()
    moments = refvlm.log_weight_moments(model, q, x)
    assert np.isposinf(moments.posterior_mean).all()
    assert (moments.effective_share == 0).all()
    allowed = np.log(np.exp(definition.log_joint(model, x))[:, [1, 3]].sum(axis=1))
    assert (refvlm.iwae(model, q, x, 10**9) < allowed).all()
    np.testing.assert_allclose(refvlm.iwae(model, q, x, 10**9), allowed, rtol=1e-8)


def test_layers_above_pass_impossible_and_excluded_codes_on():
    """K = (2, 1), L = 3, N = 2: the top bit is certainly 1, or q is certain of it."""
    rng = np.random.default_rng(6)
    for prior, above, infinite in (([np.inf], [0.3], "iwae"), ([0.4], [np.inf], "eubo")):
        upper = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), network([1, 2], rng))
        model, x = refvlm.BernoulliLVM(upper, network([2, 3], rng)), binary(2, 3, rng)
        stages = [rng.normal(size=(2, 2)), np.tile(above, (2, 1))]
        q = refvlm.LayerwisePosterior([refvlm.PerDatumPosterior(logits) for logits in stages])
        value = refvlm.iwae(model, q, x, 2)
        assert (np.isneginf(value) if infinite == "iwae" else np.isfinite(value)).all()
        assert (np.isposinf(refvlm.eubo(model, q, x)) == (infinite == "eubo")).all()
        for n in range(2):
            with mp.workdps(30):
                exact = tuples.iwae(*all_weights(model, q, n, x[n].tolist()), 2)
                assert np.isneginf(value[n]) if mp.isinf(exact) else abs(value[n] - exact) < 1e-13


def test_bits_do_not_depend_on_workers_or_on_the_other_rows():
    """K, L, N = 13, 5, 4, on two pieces of the cube."""
    rng = np.random.default_rng(7)
    model, x = shallow(13, (6,), 5, rng, scale=3.0), binary(4, 5, rng)
    q = refvlm.AmortisedPosterior(network([5, 13], rng))
    value, error = refvlm.iwae(model, q, x, 9, with_error=True, workers=1)
    with ThreadPoolExecutor(3) as pool:
        for options in ({"workers": 3}, {"executor": pool}):
            again = refvlm.iwae(model, q, x, 9, with_error=True, **options)
            assert again[0].tobytes() == value.tobytes()
            assert again[1].tobytes() == error.tobytes()
    for n in range(4):
        alone = refvlm.iwae(model, q, x[n : n + 1], 9, with_error=True)
        assert alone[0][0] == value[n]
        assert alone[1][0] == error[n]
        assert refvlm.eubo(model, q, x[n : n + 1])[0] == refvlm.eubo(model, q, x)[n]


def test_missing_bits_are_summed_out():
    """K, L, N = 3, 5, 2: those of the decoder without these outputs, and of the encoder without these inputs."""
    rng = np.random.default_rng(8)
    model, x = shallow(3, (4,), 5, rng), binary(2, 5, rng).astype(float)
    q = refvlm.AmortisedPosterior(network([5, 3], rng))
    x[:, 1] = np.nan
    seen = [0, 2, 3, 4]
    w, b = model.decoder.weights, model.decoder.biases
    less = refvlm.BernoulliLVM(model.prior, refvlm.MLP([w[0], w[1][:, seen]], [b[0], b[1][seen]]))
    part = refvlm.AmortisedPosterior(refvlm.MLP([q.encoder.weights[0][seen]], q.encoder.biases))
    for function, order in (
        (refvlm.iwae, (6,)),
        (refvlm.eubo, ()),
        (refvlm.renyi, (0.5,)),
        (refvlm.tvo, ([0, 0.3, 1],)),
    ):
        got = function(model, q, x, *order, missing="marginalise")
        np.testing.assert_allclose(got, function(less, part, x[:, seen], *order), rtol=1e-14)
    got = refvlm.log_weight_moments(model, q, x, missing="marginalise")
    np.testing.assert_allclose(got.variance, refvlm.log_weight_moments(less, part, x[:, seen]).variance, rtol=1e-12)
    with pytest.raises(ValueError, match="missing"):
        refvlm.iwae(model, q, x, 6)


def test_rows_without_number_are_no_rows():
    rng = np.random.default_rng(9)
    model, q = shallow(3, (), 4, rng), refvlm.AmortisedPosterior(network([4, 3], rng))
    x = np.zeros((0, 4))
    for value in (refvlm.iwae(model, q, x, 5), refvlm.eubo(model, q, x), refvlm.tvo(model, q, x, [0, 1])):
        assert value.shape == (0,)
    assert refvlm.log_weight_moments(model, q, x).variance.shape == (0,)


def test_what_is_refused_says_what_was_wanted():
    rng = np.random.default_rng(10)
    model, q, x = shallow(3, (), 4, rng), refvlm.AmortisedPosterior(network([4, 3], rng)), binary(2, 4, rng)
    steep = refvlm.BernoulliLVM(model.prior, refvlm.MLP([1e7 * rng.normal(size=(3, 4))], [np.zeros(4)]))
    for call, message in (
        (lambda: refvlm.iwae(model, q, x, 0), r"^samples: got 0, wanted at least 1$"),
        (lambda: refvlm.cubo(model, q, x, 0.5), r"^n: got float 0.5, wanted a number between 1 and 1000$"),
        (lambda: refvlm.renyi(model, q, x, np.inf), r"^alpha: got float inf, wanted a number between -1000 and 1000$"),
        (lambda: refvlm.tvo(model, q, x, [0, 1, 0.5]), r"^betas: got .*, wanted numbers that increase from 0 to 1"),
        (lambda: refvlm.tvo(model, q, x, [0.1, 1]), r"^betas: .* both included$"),
        (lambda: refvlm.iwae(steep, q, x, 2), r"^model: got log weights down to .* nats below .*; vlb takes any$"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match=r"^samples: got float 2.5, wanted an integer$"):
        refvlm.iwae(model, q, x, 2.5)
    with pytest.raises(TypeError, match="posterior"):
        refvlm.eubo(model, "q", x)


class Foreign:
    """A decoder that is no MLP."""

    fan_in, fan_out = 3, 4

    def __init__(self, mlp):
        self.mlp = mlp

    def forward(self, z):
        return self.mlp.forward(z)

    def parameters(self):
        return self.mlp.parameters()


def test_any_decoder_has_weights():
    rng = np.random.default_rng(11)
    model, x = shallow(3, (5,), 4, rng), binary(2, 4, rng)
    q = refvlm.AmortisedPosterior(network([4, 3], rng))
    other = refvlm.BernoulliLVM(model.prior, Foreign(model.decoder))
    np.testing.assert_allclose(refvlm.iwae(other, q, x, 4), refvlm.iwae(model, q, x, 4), rtol=1e-13)
    np.testing.assert_allclose(refvlm.eubo(other, q, x), refvlm.eubo(model, q, x), rtol=1e-13)


@numba.njit(error_model="numpy")
def gone(values, out):
    for i in range(0, len(values), lanes.OCTET):
        lanes.store(out, i, weights.gone(lanes.load_octet(values, i)))


def test_one_minus_exp_keeps_its_digits():
    """To 7 u from 1e-300 up, and around the end of the series."""
    rng = np.random.default_rng(12)
    y = np.concatenate(
        [10.0 ** rng.uniform(-300, 3, 400), 0.35 + rng.uniform(-1e-3, 1e-3, 400), rng.uniform(0, 2, 400)]
    )
    out = np.empty_like(y)
    gone(y, out)
    with mp.workdps(40):
        worst = max(float(abs(mp.mpf(b) / -mp.expm1(-mp.mpf(a)) - 1)) for a, b in zip(y, out, strict=True))
    assert worst < 7 * U


@cache
def spread_problem():
    rng = np.random.default_rng(13)
    model, x = shallow(4, (5,), 6, rng, scale=40.0), binary(3, 6, rng)
    return model, refvlm.PerDatumPosterior(rng.normal(size=(3, 4))), x


def test_large_spreads_take_more_nodes_and_keep_the_bound():
    """K, L, N = 4, 6, 3; log weights hundreds of nats apart."""
    model, q, x = spread_problem()
    value, error = refvlm.iwae(model, q, x, 2, with_error=True)
    with mp.workdps(50):
        for n, row in enumerate(x.tolist()):
            log_w, log_q = all_weights(model, q, n, row)
            assert max(log_w) - min(log_w) > 100
            assert abs(value[n] - tuples.iwae(log_w, log_q, 2)) <= error[n] < 1e-11 * (1 + abs(value[n]))


@pytest.mark.parametrize("size", [1e6, 1e9])
def test_nodes_end_where_phi_is_lost_in_its_rounding(size):
    """K, L, N = 3, 4, 2: log p(x) is about -4e9 at most, which leaves seven digits of every weight."""
    rng = np.random.default_rng(14)
    decoder = refvlm.MLP([rng.normal(size=(3, 4))], [np.full(4, size)])
    model, x = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=3)), decoder), np.zeros((2, 4))
    q = refvlm.PerDatumPosterior(rng.normal(size=(2, 3)))
    value, error = refvlm.iwae(model, q, x, 2, with_error=True)
    assert all(np.isfinite(each).all() for each in refvlm.grad_iwae(model, q, x, 2).values())
    with mp.workdps(50):
        for n, row in enumerate(x.astype(int).tolist()):
            assert abs(value[n] - tuples.iwae(*all_weights(model, q, n, row), 2)) <= error[n] <= 1e-5 * size


def test_the_progress_of_every_pass_is_reported():
    model, q, x = spread_problem()
    seen = []
    refvlm.iwae(model, q, x, 2, progress=lambda done, total: seen.append((done, total)))
    assert seen
    assert all(0 < done <= total for done, total in seen)
