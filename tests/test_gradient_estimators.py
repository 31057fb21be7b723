"""Gradient estimators: draws against the papers' formulas, exact moments against sums over all that draws depend on."""

import itertools
import math

import mpmath as mp
import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, deep, network, problems, shallow
from test_weights import all_weights

import refvlm
from refvlm import gradient_estimators as ge
from refvlm.enumeration.engine import Engine
from refvlm.inference.gradient_estimators.landscape import landscape, tables
from refvlm.inference.gradient_estimators.straight_through_gumbel import factor_moments

SMALL = [
    ge.Reinforce(), ge.Reinforce(samples=2, baseline=-3.5), ge.Nvil(), ge.Nvil(samples=2, baseline=-2.0, scale=3.0),
    ge.LeaveOneOut(samples=2), ge.LeaveOneOut(samples=3), ge.LeaveOneOut(samples=4), ge.MuProp(), ge.MuProp(samples=2),
    ge.LocalExpectation(), ge.LocalExpectation(samples=2), ge.DisArm(), ge.DisArm(samples=2), ge.Vimco(samples=2),
    ge.Vimco(samples=3), ge.Vimco(samples=4), ge.ReweightedWake(samples=1), ge.ReweightedWake(samples=2),
    ge.ReweightedWake(samples=3), ge.ReweightedWake(samples=4), ge.StraightThrough(), ge.StraightThrough(samples=2),
]  # fmt: skip


def named(estimator):
    return f"{estimator.name}-{estimator.samples}"


def small_problem(latents, seed, hidden=(4,)):
    rng = np.random.default_rng(seed)
    model, x = shallow(latents, hidden, 7, rng, scale=2.0), binary(1, 7, rng)
    return model, refvlm.PerDatumPosterior(1.5 * rng.normal(size=(1, latents))), x


def pieces(phi, order):
    """A rule for u, exact for functions that are polynomials between the steps of z and of its twin."""
    edges = sorted({0.0, min(phi, 1.0 - phi), max(phi, 1.0 - phi), 1.0})
    nodes, weights = np.polynomial.legendre.leggauss(order)
    found = [((a + b) / 2 + (b - a) / 2 * nodes, (b - a) / 2 * weights) for a, b in itertools.pairwise(edges)]
    return np.concatenate([f[0] for f in found]), np.concatenate([f[1] for f in found])


def over_all_uniforms(estimator, model, q, x, rules):
    """Mean and covariance of `value` over a product of rules (nodes, weights) for the K bits of every draw."""
    rules = rules * estimator.samples
    u = np.array(list(itertools.product(*[nodes for nodes, _ in rules])))
    weights = np.array(list(itertools.product(*[weights for _, weights in rules]))).prod(axis=1)
    many = refvlm.PerDatumPosterior(np.repeat(q.logits, len(u), axis=0))
    values = estimator.value(model, many, np.repeat(x, len(u), axis=0), u.reshape(len(u), estimator.samples, -1))
    mean = weights @ values
    return mean, ((values - mean).T * weights) @ (values - mean)


def bits_only(phi):
    """The two values of a bit, as uniforms and probabilities."""
    return np.array([phi / 2, (1 + phi) / 2]), np.array([phi, 1 - phi])


@pytest.mark.parametrize("estimator", SMALL, ids=named)
@pytest.mark.parametrize("latents", [2, 3])
def test_exact_moments_are_sums_over_all_tuples_of_draws(estimator, latents):
    """K = 2, 3; L, N = 7, 1; M up to 4: to a relative 1e-12. Of pairs: three intervals of u for each bit."""
    if latents * estimator.samples > 9 and "pairs" in type(estimator).__doc__:
        pytest.skip("too many pairs")
    model, q, x = small_problem(latents, latents)
    phi = 1.0 / (1.0 + np.exp(-q.logits[0]))
    paired = "pairs" in type(estimator).__doc__
    rules = [pieces(p, 1) if paired else bits_only(p) for p in phi]
    mean, covariance = over_all_uniforms(estimator, model, q, x, rules)
    scale = max(np.abs(mean).max(), np.sqrt(np.abs(covariance).max()))
    np.testing.assert_allclose(estimator.mean(model, q, x)[0], mean, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(estimator.covariance(model, q, x)[0], covariance, rtol=1e-12, atol=1e-12 * scale**2)


@pytest.mark.parametrize("estimator", [ge.ReweightedWake(2), ge.ReweightedWake(3), ge.Vimco(2), ge.LeaveOneOut(2)])
def test_a_small_variance_keeps_its_digits_beside_a_large_mean(estimator):
    """A q that is nearly certain, K = 3: against all tuples, relative to the variance alone."""
    model, _, x = small_problem(3, 1)
    q = refvlm.PerDatumPosterior([[14.0, -11.0, 16.0]])
    phi = 1.0 / (1.0 + np.exp(-q.logits[0]))
    _, covariance = over_all_uniforms(estimator, model, q, x, [bits_only(p) for p in phi])
    found = estimator.covariance(model, q, x)[0]
    assert np.trace(covariance) < 1e-2
    np.testing.assert_allclose(found, covariance, rtol=1e-9, atol=1e-9 * np.trace(covariance))


@pytest.mark.parametrize("samples", [1, 2])
def test_moments_of_arm_are_integrals_over_its_uniforms(samples):
    """A draw is linear in each u between steps, its square quadratic: two nodes an interval make it exact. K = 2, 3."""
    for latents in (2, 3)[: 3 - samples]:
        model, q, x = small_problem(latents, 5)
        phi = 1.0 / (1.0 + np.exp(-q.logits[0]))
        mean, covariance = over_all_uniforms(ge.Arm(samples), model, q, x, [pieces(p, 2) for p in phi])
        np.testing.assert_allclose(ge.Arm(samples).mean(model, q, x)[0], mean, rtol=1e-12, atol=1e-13)
        np.testing.assert_allclose(ge.Arm(samples).covariance(model, q, x)[0], covariance, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
def test_moments_of_straight_through_gumbel_are_integrals_over_its_uniforms(temperature):
    """K = 2, by rules in the logit of u, on either side of the step."""
    model, q, x = small_problem(2, 6)
    rules = []
    for logit in q.logits[0]:
        v, w = np.polynomial.legendre.leggauss(120)
        a = np.concatenate([15.0 * (v - 1.0), 15.0 * (v + 1.0)])
        u = 1.0 / (1.0 + np.exp(a - logit))  # logit of u is logit - a, and z = 1 where a > 0
        rules.append((u, np.concatenate([15.0 * w, 15.0 * w]) * u * (1 - u)))
    estimator = ge.StraightThroughGumbel(temperature=temperature)
    mean, covariance = over_all_uniforms(estimator, model, q, x, rules)
    np.testing.assert_allclose(estimator.mean(model, q, x)[0], mean, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(estimator.covariance(model, q, x)[0], covariance, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("temperature", [0.01, 0.3, 1.0, 7.0, 100.0])
@pytest.mark.parametrize("logit", [-700.0, -30.0, -1.3, 0.0, 0.4, 12.0, 90.0])
def test_factors_of_gumbel_agree_with_thirty_digits(logit, temperature):
    """E of y (1 - y) / t and of its square given a bit, by mpmath's quadrature in the logit of y."""

    def density(a):
        return 1 / (4 * mp.cosh(a / 2) ** 2)

    with mp.workdps(30):
        t, eta = mp.mpf(temperature), mp.mpf(logit)
        for bit in (0, 1):
            sign = 1 if bit else -1
            whole = 1 / (1 + mp.exp(-sign * eta))
            peak, width = sign * eta / t, min(1 / t, mp.mpf(1))
            steps = [0, 1, 2, 4, 8, 16, 32, 64, 128, 400]
            edges = sorted({
                e for c in (mp.mpf(0), max(peak, mp.mpf(0))) for s in steps for w in (width, mp.mpf(1))
                for e in (c - s * w, c + s * w) if 0 <= e <= 900
            })  # fmt: skip
            for power in (1, 2):

                def term(v, power=power, sign=sign, whole=whole):  # of size 1, as the tolerance of quad is absolute
                    return density(v) ** power / t**power * t * density(t * v - sign * eta) / whole

                size = max(term(e) for e in edges)
                wanted = size * mp.quad(lambda v, term=term, size=size: term(v) / size, edges)
                got = factor_moments(logit, temperature)[bit, power - 1]
                assert abs(got - wanted) <= 1e-12 * wanted + mp.mpf(10) ** -290


def of_papers(name, f, logits, u):
    """One draw as the papers write it, for one row: f(z) of bits as a tuple, u (S, K); plain Python."""
    latents, draws = len(logits), len(u)
    phi = [1 / (1 + math.exp(-a)) for a in logits]
    z = [tuple(int(u[s][k] < phi[k]) for k in range(latents)) for s in range(draws)]
    values = [f(each) for each in z]
    score = [[each[k] - phi[k] for k in range(latents)] for each in z]
    if name == "leave-one-out":
        baselines = [(sum(values) - value) / (draws - 1) for value in values]
        signal = [(value - b) / draws for value, b in zip(values, baselines, strict=True)]
    elif name == "vimco":
        bound = math.log(sum(map(math.exp, values)) / draws)
        signal = []
        for s, value in enumerate(values):
            others = [other for t, other in enumerate(values) if t != s]
            without = math.log((sum(map(math.exp, others)) + math.exp(sum(others) / (draws - 1))) / draws)
            signal.append(bound - without - math.exp(value) / sum(map(math.exp, values)))
    elif name == "reweighted-wake":
        signal = [math.exp(value) / sum(map(math.exp, values)) for value in values]
    elif name == "reinforce":
        signal = [value / draws for value in values]
    elif name in ("arm", "disarm"):
        total = [0.0] * latents
        for s in range(draws):  # with their uniforms, 1 - u
            theirs = [1 - v for v in u[s]]
            first = tuple(int(v > 1 / (1 + math.exp(a))) for v, a in zip(theirs, logits, strict=True))
            second = tuple(int(v < 1 / (1 + math.exp(-a))) for v, a in zip(theirs, logits, strict=True))
            for k in range(latents):
                if name == "arm":
                    total[k] += (f(first) - f(second)) * (theirs[k] - 0.5) / draws
                elif first[k] != second[k]:
                    size = 1 / (1 + math.exp(-abs(logits[k])))
                    total[k] += 0.5 * (f(first) - f(second)) * (-1) ** second[k] * size / draws
        return total
    elif name == "local-expectation":
        total = [0.0] * latents
        for each in z:
            for k in range(latents):
                on, off = ((*each[:k], bit, *each[k + 1 :]) for bit in (1, 0))
                total[k] += phi[k] * (1 - phi[k]) * (f(on) - f(off)) / draws
        return total
    return [sum(signal[s] * score[s][k] for s in range(draws)) for k in range(latents)]


PLAIN = [
    ge.Reinforce(3), ge.LeaveOneOut(3), ge.Vimco(3), ge.ReweightedWake(3), ge.Arm(2), ge.DisArm(2),
    ge.LocalExpectation(2),
]  # fmt: skip


@pytest.mark.parametrize("estimator", PLAIN, ids=named)
def test_a_draw_is_what_the_paper_writes(estimator):
    """K, L, N = 3, 7, 4, from the same uniforms; log p and log q by plain Python."""
    rng = np.random.default_rng(1)
    model, x = shallow(3, (4,), 7, rng), binary(4, 7, rng)
    q = refvlm.AmortisedPosterior(network([7, 5, 3], rng, scale=2.0))
    u, logits, plain = rng.random((4, estimator.samples, 3)), q.forward(x)[0], oracle.as_model(model)
    found = estimator.value(model, q, x, u)
    for n in range(4):

        def f(z, n=n):
            log_q = sum(-math.log1p(math.exp(-a if bit else a)) for a, bit in zip(logits[n], z, strict=True))
            return oracle.log_joint(plain, [x[n].tolist()], [list(z)])[0] - log_q

        wanted = of_papers(estimator.name, f, logits[n].tolist(), u[n].tolist())
        np.testing.assert_allclose(found[n], wanted, rtol=1e-11, atol=1e-12)


def smooth(model, logits, x, z):
    """log p(x, z) - log q(z) as a function of any z, in plain NumPy."""
    a = model.decoder.forward(z[None])[0][0]
    log_x = -np.logaddexp(0.0, np.where(x == 1, -a, a)).sum()
    log_z, log_q = (z @ a - np.logaddexp(0.0, a).sum() for a in (model.prior.logits, logits))
    return log_x + log_z - log_q


def slopes_of(f, z):
    """Central differences."""
    steps = 1e-6 * np.eye(len(z))
    return np.array([(f(z + step) - f(z - step)) / 2e-6 for step in steps])


def test_draws_through_slopes_are_what_the_papers_write():
    """MuProp, straight-through, straight-through Gumbel against differences of the extension of log w; K, L = 3, 7."""
    rng = np.random.default_rng(2)
    model, x = shallow(3, (4,), 7, rng), binary(1, 7, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(1, 3)))
    logits, phi = q.logits[0], 1 / (1 + np.exp(-q.logits[0]))
    u = rng.random((1, 2, 3))

    def f(z):
        return smooth(model, logits, x[0], z)

    z = (u[0] < phi).astype(float)
    at_mean = slopes_of(f, phi)
    muprop = np.mean([(f(b) - f(phi) - at_mean @ (b - phi)) * (b - phi) for b in z], axis=0) + at_mean * phi * (1 - phi)
    np.testing.assert_allclose(ge.MuProp(2).value(model, q, x, u)[0], muprop, rtol=1e-7, atol=1e-8)
    slopes = np.stack([slopes_of(f, b) for b in z])
    through = (slopes * phi * (1 - phi)).mean(axis=0)
    np.testing.assert_allclose(ge.StraightThrough(2).value(model, q, x, u)[0], through, rtol=1e-7, atol=1e-8)
    y = 1 / (1 + np.exp(-(logits - np.log(u[0] / (1 - u[0]))) / 0.7))
    assert ((y > 0.5) == z).all()
    gumbel = (slopes * y * (1 - y) / 0.7).mean(axis=0)
    found = ge.StraightThroughGumbel(2, temperature=0.7).value(model, q, x, u)[0]
    np.testing.assert_allclose(found, gumbel, rtol=1e-7, atol=1e-8)


EVERY = [*PLAIN, ge.Nvil(2), ge.MuProp(2), ge.StraightThrough(2), ge.StraightThroughGumbel(2, temperature=0.5)]


def test_every_estimator_is_tested():
    assert {type(estimator) for estimator in EVERY} == set(ge.ESTIMATORS.values())


@pytest.mark.parametrize("estimator", EVERY, ids=named)
def test_draws_have_the_exact_mean_and_covariance(estimator):
    """40,000 draws; K, L = 4, 6. Bernstein's inequality for every entry, 1e-9 in all per estimator."""
    rng = np.random.default_rng(7)
    count = 40_000
    model, x = shallow(4, (5,), 6, rng), binary(1, 6, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(1, 4)))
    mean, covariance = estimator.mean(model, q, x)[0], estimator.covariance(model, q, x)[0]
    many = refvlm.PerDatumPosterior(np.repeat(q.logits, count, axis=0))
    draws = estimator.sample(model, many, np.repeat(x, count, axis=0), rng) - mean
    size = np.abs(draws).max(axis=0)
    level = np.log(2 * (4 + 16) / 1e-9)
    for values, expected, largest in (
        (draws, np.zeros(4), size),
        ((draws[:, :, None] * draws[:, None, :]).reshape(count, 16), covariance.ravel(), np.outer(size, size).ravel()),
    ):
        variance = ((values - expected) ** 2).mean(axis=0)
        allowed = np.sqrt(2 * 1.3 * variance * level / count) + largest * level / count
        assert (np.abs(values.mean(axis=0) - expected) <= allowed).all()
    assert np.trace(covariance) > 1e-6


@given(problems(most_latents=5, most_rows=3, saturated=False))
def test_unbiased_means_are_the_gradient_of_the_vlb(p):
    wanted = refvlm.grad_vlb(p.model, refvlm.PerDatumPosterior(p.q.forward(p.x)[0]), p.x)["posterior.logits"]
    for name, kind in ge.ESTIMATORS.items():
        if kind.objective == "vlb" and kind().unbiased:
            np.testing.assert_allclose(kind().mean(p.model, p.q, p.x), wanted, rtol=1e-9, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("samples", [2, 7, 1000])
def test_means_of_many_draws_are_those_of_the_exact_gradients(samples):
    """K, L, N = 6, 8, 3, of a deep model, too."""
    rng = np.random.default_rng(3)
    for model in (shallow(6, (5,), 8, rng), deep(3, 6, 8, rng)):
        x, q = binary(3, 8, rng), refvlm.PerDatumPosterior(rng.normal(size=(3, 6)))
        for estimator, exact in ((ge.Vimco(samples), refvlm.grad_iwae), (ge.ReweightedWake(samples), refvlm.grad_rws)):
            wanted = exact(model, q, x, samples)["posterior.logits"]
            np.testing.assert_allclose(estimator.mean(model, q, x), wanted, rtol=1e-12, atol=1e-14)


def test_second_moment_of_many_weights_agrees_with_fifty_digits():
    """K, L, M = 5, 7, 30: both integrals by nodes four times as close, in 50 digits."""
    rng = np.random.default_rng(4)
    model, x = shallow(5, (6,), 7, rng), binary(1, 7, rng)
    q, samples = refvlm.PerDatumPosterior(rng.normal(size=(1, 5))), 30
    found = ge.ReweightedWake(samples).covariance(model, q, x)[0]
    with mp.workdps(50):
        log_w, log_q = all_weights(model, q, 0, x[0].tolist())
        w, p = [mp.exp(a) for a in log_w], [mp.exp(b) for b in log_q]
        score = [
            [mp.mpf(code >> k & 1) - 1 / (1 + mp.exp(-mp.mpf(q.logits[0, k]))) for k in range(5)] for code in range(32)
        ]
        scale, step = mp.log(mp.fsum(a * b for a, b in zip(w, p, strict=True))), mp.mpf(1) / 16
        own, mean, pairs = [mp.mpf(0)] * 32, [mp.mpf(0)] * 5, mp.zeros(5, 5)
        for j in range(-800, 400):
            t = mp.exp(j * step - scale)
            y = [t * a for a in w]
            e = [mp.exp(-a) for a in y]
            phi = mp.fsum(a * b for a, b in zip(e, p, strict=True))
            moment = [mp.fsum(p[c] * y[c] * e[c] * score[c][k] for c in range(32)) for k in range(5)]
            for c in range(32):
                own[c] += step * samples * y[c] ** 2 * e[c] * phi ** (samples - 1)
            for k in range(5):
                mean[k] += step * samples * phi ** (samples - 1) * moment[k]
                for i in range(5):
                    pairs[k, i] += step * samples * (samples - 1) * phi ** (samples - 2) * moment[k] * moment[i]
        for k in range(5):
            for i in range(5):
                second = mp.fsum(p[c] * own[c] * score[c][k] * score[c][i] for c in range(32)) + pairs[k, i]
                assert abs(found[k, i] - (second - mean[k] * mean[i])) <= 1e-13 * (1 + abs(second))


@pytest.mark.parametrize("estimator", EVERY, ids=named)
def test_a_bit_that_q_fixes_has_no_gradient_and_leaves_the_others_theirs(estimator):
    """K = 4 with a bit fixed at 1 beside the model of K = 3 that has its weights in the biases; L, N = 7, 2."""
    rng = np.random.default_rng(8)
    weights, biases, prior = rng.normal(size=(4, 7)), rng.normal(size=7), rng.normal(size=4)
    prior[2] = np.inf
    whole = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), refvlm.MLP([weights], [biases]))
    rest = [0, 1, 3]
    smaller = refvlm.BernoulliLVM(refvlm.Bernoulli(prior[rest]), refvlm.MLP([weights[rest]], [biases + weights[2]]))
    x, logits, u = binary(2, 7, rng), rng.normal(size=(2, 4)), rng.random((2, estimator.samples, 4))
    logits[:, 2] = np.inf
    q, q_of_rest = refvlm.PerDatumPosterior(logits), refvlm.PerDatumPosterior(logits[:, rest])
    for ours, theirs in (
        (estimator.value(whole, q, x, u), estimator.value(smaller, q_of_rest, x, u[:, :, rest])),
        (estimator.mean(whole, q, x), estimator.mean(smaller, q_of_rest, x)),
    ):
        np.testing.assert_allclose(ours[:, rest], theirs, rtol=1e-11, atol=1e-11)
        assert (ours[:, 2] == 0.0).all()
    covariance = estimator.covariance(whole, q, x)
    wanted = estimator.covariance(smaller, q_of_rest, x)
    np.testing.assert_allclose(covariance[:, rest][:, :, rest], wanted, rtol=1e-11, atol=1e-11)
    assert (covariance[:, 2] == 0.0).all()
    assert (covariance[:, :, 2] == 0.0).all()


class Quadratic:
    """A decoder that is no MLP: logits quadratic in the sum of the bits."""

    def __init__(self, latents, observed):
        self.fan_in, self.fan_out = latents, observed

    def forward(self, z):
        total = z.sum(axis=1, keepdims=True)
        return total * np.linspace(-1, 1, self.fan_out) + 0.3 * total**2, lambda slopes: {}

    def parameters(self):
        return {}


class Smooth(Quadratic):
    """The same with slopes."""

    def input_slopes(self, z, slopes):
        total = z.sum(axis=1, keepdims=True)
        inner = (slopes * (np.linspace(-1, 1, self.fan_out) + 0.6 * total)).sum(axis=1, keepdims=True)
        return np.repeat(inner, self.fan_in, axis=1)


def test_decoders_that_are_no_mlp_have_values_and_may_have_slopes():
    rng = np.random.default_rng(9)
    x, q = binary(2, 6, rng), refvlm.PerDatumPosterior(rng.normal(size=(2, 3)))
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=3)), Quadratic(3, 6))
    with_slopes = refvlm.BernoulliLVM(model.prior, Smooth(3, 6))
    gradient = ge.Reinforce().mean(model, q, x)
    np.testing.assert_allclose(ge.MuProp().mean(with_slopes, q, x), gradient, rtol=1e-12)
    for estimator in (ge.MuProp(), ge.StraightThrough(), ge.StraightThroughGumbel()):
        assert np.isfinite(estimator.covariance(with_slopes, q, x)).all()
        with pytest.raises(
            TypeError, match=r"decoder: got .*Quadratic.*input_slopes.*estimators that take values .* remain"
        ):
            estimator.covariance(model, q, x)
    assert ge.DisArm().covariance(model, q, x).shape == (2, 3, 3)


def test_what_cannot_be_done_is_refused_in_one_line():
    rng = np.random.default_rng(10)
    model, q, x = shallow(6, (), 7, rng), refvlm.PerDatumPosterior(np.zeros((2, 6))), binary(2, 7, rng)
    above = deep(2, 6, 7, rng)
    chain = refvlm.ChainPosterior([q, refvlm.AmortisedPosterior(network([6, 2], rng))])
    barred = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf] * 6), model.decoder)
    for kind, got, call in (
        (ValueError, "samples: got 0", lambda: ge.ReweightedWake(0)),
        (ValueError, "samples: got 1, wanted .*2", lambda: ge.LeaveOneOut(1)),
        (ValueError, "samples: got 1, wanted .*2", lambda: ge.Vimco(1)),
        (ValueError, "baseline: got", lambda: ge.Reinforce(baseline=[[1.0]])),
        (ValueError, "baseline: got 3 numbers", lambda: ge.Reinforce(baseline=[1.0] * 3).sample(model, q, x, rng)),
        (ValueError, "baseline: got 1 numbers", lambda: ge.Nvil(baseline=[1.0]).covariance(model, q, x)),
        (ValueError, "baseline: got 3 numbers", lambda: ge.compare(model, q, x, [ge.Reinforce(baseline=[1.0] * 3)])),
        (ValueError, "baseline: got bool True", lambda: ge.Reinforce(baseline=True)),
        (TypeError, "estimators: got Arm", lambda: ge.compare(model, q, x, ge.Arm())),
        (TypeError, "scale: got dtype", lambda: ge.Nvil(scale="2")),
        (ValueError, "temperature: got bool True", lambda: ge.StraightThroughGumbel(temperature=True)),
        (ValueError, "scale: got", lambda: ge.Nvil(scale=0.5)),
        (ValueError, "temperature: got", lambda: ge.StraightThroughGumbel(temperature=0.0)),
        (ValueError, "sets of draws", lambda: ge.Vimco(9).covariance(model, q, x)),
        (TypeError, "wanted a single q", lambda: ge.Arm().sample(above, chain, x, rng)),
        (TypeError, "prior is a model", lambda: ge.StraightThrough().mean(above, q, x)),
        (ValueError, "zero prior probability", lambda: ge.DisArm().mean(barred, q, x)),
        (ValueError, "zero prior probability", lambda: ge.DisArm().sample(barred, q, x, rng)),
        (
            ValueError,
            r"u: got shape \(2, 6\), wanted \(2, 1, 6\)",
            lambda: ge.Arm().value(model, q, x, np.zeros((2, 6))),
        ),
        (ValueError, r"u: got numbers outside", lambda: ge.Arm().value(model, q, x, np.ones((2, 1, 6)))),
    ):
        with pytest.raises(kind, match=got) as error:
            call()
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"hours for a row.*the covariances of the other estimators, remain"):
        ge.Vimco(9).covariance(model, q, x)


def test_no_rows_give_no_moments():
    rng = np.random.default_rng(11)
    model, q, x = shallow(3, (), 7, rng), refvlm.PerDatumPosterior(np.zeros((0, 3))), np.zeros((0, 7), np.uint8)
    for estimator in EVERY:
        assert estimator.mean(model, q, x).shape == (0, 3)
        assert estimator.covariance(model, q, x).shape == (0, 3, 3)
        assert estimator.sample(model, q, x, rng).shape == (0, 3)


@pytest.mark.parametrize("parameters", ["logits", "posterior"])
def test_a_comparison_has_the_norms_of_bias_and_mean_and_the_trace(parameters):
    """K, L, N = 3, 7, 4, in the logits or the parameters of an encoder; bias exactly 0 where there is none."""
    rng = np.random.default_rng(12)
    model, x = shallow(3, (4,), 7, rng), binary(4, 7, rng)
    q = refvlm.AmortisedPosterior(network([7, 5, 3], rng))
    found = ge.compare(model, q, x, EVERY, parameters=parameters)
    gradient = refvlm.grad_vlb(model, refvlm.PerDatumPosterior(q.forward(x)[0]), x)["posterior.logits"]
    inclusive = refvlm.posterior_mean(model, x) - 1 / (1 + np.exp(-q.forward(x)[0]))
    for estimator, each in zip(EVERY, found, strict=True):
        target = {"vlb": gradient, "inclusive": inclusive, "iwae": None}[estimator.objective]
        mean, covariance = estimator.mean(model, q, x), estimator.covariance(model, q, x)
        assert each.cost.evaluations == estimator.cost(3).values + 2 * estimator.cost(3).slopes
        assert (each.bias == 0).all() == estimator.unbiased
        for n in range(4):
            jacobian = np.eye(3)
            if parameters == "posterior":
                rows = [q.forward(x[n : n + 1])[1](unit[None]) for unit in np.eye(3)]
                jacobian = np.stack([np.concatenate([v.ravel() for v in row.values()]) for row in rows])
            np.testing.assert_allclose(each.size[n], np.linalg.norm(mean[n] @ jacobian), rtol=1e-9)
            np.testing.assert_allclose(each.variance[n], np.trace(jacobian.T @ covariance[n] @ jacobian), rtol=1e-9)
            if not estimator.unbiased:
                wanted = np.linalg.norm((mean[n] - target[n]) @ jacobian)
                np.testing.assert_allclose(each.bias[n], wanted, rtol=1e-8, atol=1e-12)
        whole = each.overall()
        np.testing.assert_allclose(whole.size[0] ** 2, (each.size**2).mean())
        np.testing.assert_allclose(whole.signal_to_noise[0] ** 2, (each.size**2).mean() / each.variance.mean())
    text = repr(found)
    assert text.splitlines()[0] == "exact moments of a draw, 4 rows"
    assert len(text.splitlines()) == 2 + len(EVERY)
    with pytest.raises(TypeError, match=r"estimators\[0\]: got str 'arm', wanted one of refvlm.gradient_estimators"):
        ge.compare(model, q, x, ["arm"])


@given(problems(most_latents=4, most_rows=2, saturated=False), st.integers(1, 4))
def test_no_draw_leaves_its_bounds(p, samples):
    """Uniforms at random and at the edges of the bits."""
    rng = np.random.default_rng(0)
    phi = 1 / (1 + np.exp(-p.q.forward(p.x)[0]))
    for kind in ge.ESTIMATORS.values():
        estimator = kind(max(samples, kind.fewest))
        for n, codes in enumerate(tables(landscape(p.model, p.q, p.x), Engine())):
            low, high = estimator.bounds(codes)
            u = rng.random((300, estimator.samples, p.model.latents))
            u[:100] = np.where(u[:100] < 0.5, np.nextafter(phi[n], 0), np.minimum(phi[n], np.nextafter(1.0, 0)))
            q = refvlm.PerDatumPosterior(np.repeat(codes.at.logits, 300, axis=0))
            draws = estimator.value(p.model, q, np.repeat(codes.at.x, 300, axis=0), u)
            slack = 1e-9 * (1 + np.abs(high) + np.abs(low))
            assert (draws >= low - slack).all(), estimator.name
            assert (draws <= high + slack).all(), estimator.name


@pytest.mark.parametrize("logit", [30.0, 740.0, 800.0])
def test_a_bias_is_right_where_q_underflows(logit):
    """K, L = 2, 6, q all but certain of a bit that the posterior leaves open: against the exact posterior mean."""
    rng = np.random.default_rng(13)
    model, x = shallow(2, (), 6, rng), binary(1, 6, rng)
    q = refvlm.PerDatumPosterior([[logit, 0.4]])
    (found,) = ge.compare(model, q, x, [ge.ReweightedWake(3)])
    towards = refvlm.posterior_mean(model, x) - 1 / (1 + np.exp(-q.logits))
    wanted = np.linalg.norm(ge.ReweightedWake(3).mean(model, q, x) - towards)
    np.testing.assert_allclose(found.bias, wanted, rtol=1e-10)


def test_moments_are_finite_where_weights_underflow():
    """Prior logits of -1000 and q's of -680: weights that are 0 in all but one code; of one and two draws exactly."""
    rng = np.random.default_rng(14)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([-1000.0, 0.3]), network([2, 5], rng))
    x, q = binary(1, 5, rng), refvlm.PerDatumPosterior([[-680.0, 0.5]])
    single = ge.ReweightedWake(1).covariance(model, q, x)[0]
    phi = 1 / (1 + np.exp(-0.5))
    np.testing.assert_allclose(single[1, 1], phi * (1 - phi), rtol=1e-12)
    for samples in (1, 2, 3, 10):
        assert np.isfinite(ge.ReweightedWake(samples).covariance(model, q, x)).all()
        assert np.isfinite(ge.ReweightedModel(samples).moments(model, q, x).trace).all()


def test_a_bit_that_q_fixes_fires_in_twins_for_every_uniform():
    rng = np.random.default_rng(15)
    model, x = shallow(3, (), 6, rng), binary(1, 6, rng)
    q = refvlm.PerDatumPosterior([[np.inf, -np.inf, 1.0]])
    for estimator in (ge.Arm(), ge.DisArm()):
        for u in (0.0, 0.5, np.nextafter(1.0, 0.0)):
            assert np.isfinite(estimator.value(model, q, x, np.full((1, 1, 3), u))).all()


def test_what_many_samples_would_take_is_refused_without_taking_it():
    rng = np.random.default_rng(16)
    model, q, x = shallow(8, (), 7, rng), refvlm.PerDatumPosterior(np.zeros((1, 8))), binary(1, 7, rng)
    for call in (
        lambda: ge.Vimco(500).covariance(model, q, x),
        lambda: ge.compare(model, q, x, [ge.Vimco(500)]),
        lambda: ge.Vimco(300).check(2, 1),
    ):
        with pytest.raises(ValueError, match=r"samples: got \d+ for \d latent bits, whose .* sets of draws"):
            call()
    with pytest.raises(ValueError, match=r"signals for each row would need .*; take fewer rows, or fewer samples"):
        ge.Vimco(3_000_000).signal(np.zeros((1, 3_000_000)))
