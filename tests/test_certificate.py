"""The error bound of log p(x) against 50-digit arithmetic."""

import re
from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
from digits import exact_logits
from problems import ACTIVATIONS, binary, deep, shallow

import refvlm
from refvlm import bits
from refvlm.enumeration.blocks import Route, depth
from refvlm.enumeration.kernels import bernoulli, constants, groups, linear, marginal, network, observation, tables
from refvlm.inference import bound_certificate, certificate


def exact_log_marginal(model, x):
    """log p(x_n) in 50 digits, written out here once more; (N,) of mpf."""
    with mp.workdps(50):
        totals = [mp.mpf(0)] * len(x)
        if isinstance(model.prior, refvlm.BernoulliLVM):
            priors = [mp.exp(v) for v in exact_log_marginal(model.prior, bits.table(model.latents))]
        for code, z in enumerate(bits.table(model.latents).tolist()):
            if isinstance(model.prior, refvlm.Bernoulli):
                prior = mp.mpf(1)
                for bit, logit in zip(z, model.prior.logits.tolist(), strict=True):
                    prior *= mp.exp(log_sigmoid(logit if bit else -logit))
            else:
                prior = priors[code]
            h = exact_logits(model.decoder, z)
            on, off = [log_sigmoid(a) for a in h], [log_sigmoid(-a) for a in h]
            for n, row in enumerate(x.tolist()):
                totals[n] += prior * mp.exp(mp.fsum(o if v else f for v, o, f in zip(row, on, off, strict=True)))
        return [mp.log(total) for total in totals]


def log_sigmoid(a):
    if mp.isinf(a):
        return mp.mpf(0) if a > 0 else mp.mpf("-inf")
    a = mp.mpf(a)
    return -mp.log1p(mp.exp(-a)) if a > 0 else a - mp.log1p(mp.exp(a))


def assert_certified(model, x, most):
    values, errors = refvlm.log_marginal(model, x, with_error=True)
    with mp.workdps(50):
        for value, error, exact in zip(values, errors, exact_log_marginal(model, x), strict=True):
            actual = abs(mp.mpf(float(value)) - exact)
            assert actual <= float(error), (value, float(actual), error)
            assert error <= most * (1 + abs(value)), (value, error)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("latents", "hidden", "observed"), [(1, (), 3), (5, (), 17), (4, (9,), 6), (3, (6, 4), 8)])
def test_log_marginal_is_within_its_bound_and_2e13(latents, hidden, observed, activation):
    rng = np.random.default_rng(latents + 10 * observed)
    model = shallow(latents, hidden, observed, rng, activation)
    x = binary(2, observed, rng)
    assert_certified(model, x, 1e-12)
    with mp.workdps(50):
        for value, exact in zip(refvlm.log_marginal(model, x), exact_log_marginal(model, x), strict=True):
            assert abs(mp.mpf(float(value)) - exact) <= 2e-13 * max(1, abs(exact))


@pytest.mark.parametrize("seed", range(14))
@pytest.mark.parametrize(
    ("latents", "hidden", "observed"), [(2, (), 5), (6, (), 3), (3, (7,), 5), (5, (11,), 4), (4, (6, 5), 3)]
)
def test_weights_of_a_thousand_keep_a_bound_of_1e9(latents, hidden, observed, seed):
    rng = np.random.default_rng(seed)
    sizes = [latents, *hidden, observed]
    if seed % 2:  # signs only: sums cancel exactly or not at all, units sit at zero or at their limits
        weights = [1e3 * rng.choice([-1.0, 1.0], size=pair) for pair in pairwise(sizes)]
        biases = [1e3 * rng.integers(-1, 2, n).astype(float) for n in sizes[1:]]
    else:
        weights = [1e3 * rng.normal(size=pair) for pair in pairwise(sizes)]
        biases = [1e3 * rng.normal(size=n) for n in sizes[1:]]
    prior = rng.choice([-np.inf, -30.0, 0.3, 30.0, np.inf], size=latents, p=[0.1, 0.2, 0.4, 0.2, 0.1])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), refvlm.MLP(weights, biases, ACTIVATIONS[seed // 2]))
    x = np.concatenate([binary(2, observed, rng), model.sample(3, rng)[0]])
    assert_certified(model, x, 1e-9)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_cancellation_behind_an_activation_costs_no_digits(activation):
    """1e6 (h(0.9) - h(0.9 - 2**-30)) and then 1e6 times that once more: float64 would keep five digits of it."""
    first, second = np.array([[0.9, 0.9], [0.0, -(2.0**-30)]]), np.array([[1e6], [-1e6]])
    for weights in ([first, second], [first, second, np.array([[1e6]])]):
        decoder = refvlm.MLP(weights, [np.zeros(w.shape[1]) for w in weights], activation)
        model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, np.inf]), decoder)
        value = refvlm.log_marginal(model, [[1]])[0]
        with mp.workdps(50):
            exact = exact_log_marginal(model, np.array([[1]]))[0]
            assert abs(value - exact) <= 4e-16 * max(1, abs(exact))


def test_a_cancellation_between_low_and_high_bits_costs_no_digits():
    """(1e8 + 1/3) - 1e8 across the table and the row of a linear decoder, where no other precision helps."""
    weights = np.array([1e8, 1 / 3, 0.0, 0.0, 0.0, 0.0, -1e8])[:, None]
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.full(7, np.inf)), refvlm.MLP([weights], [np.zeros(1)]))
    value = refvlm.log_marginal(model, [[1]])[0]
    with mp.workdps(50):
        assert abs(value - log_sigmoid(1 / 3)) <= 4e-16


def test_deep_models_are_within_their_bound():
    rng = np.random.default_rng(0)
    assert_certified(deep(2, 3, 5, rng, scale=3.0), binary(4, 5, rng), 1e-11)


def test_bound_grows_with_the_problem_and_never_reports_less_than_a_unit():
    rng = np.random.default_rng(1)
    small, large = shallow(3, (4,), 5, rng), shallow(3, (4,), 5, rng, scale=100.0)
    x = binary(6, 5, rng)
    (v, e), (w, f) = (refvlm.log_marginal(m, x, with_error=True) for m in (small, large))
    assert (e >= 2.0**-53 * np.abs(v)).all()
    assert (f / (1 + np.abs(w)) >= e / (1 + np.abs(v))).all()


def test_the_check_objects_to_a_wrong_value():
    rng = np.random.default_rng(2)
    model, x = shallow(4, (3,), 6, rng), binary(2, 6, rng)
    value, error = refvlm.log_marginal(model, x, with_error=True)
    with mp.workdps(50):
        exact = exact_log_marginal(model, x)[0]
        assert abs(mp.mpf(float(value[0] + 2 * error[0])) - exact) > float(error[0])


def test_lemma_bounds_the_perturbation_of_a_log_sum():
    """|log sum exp(l + d) - log sum exp(l)| <= a + b (P + K log 2) wherever |d| <= a + b |l|: the worst d, tried."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        latents = int(rng.integers(1, 8))
        joint = -rng.exponential(10.0 ** rng.uniform(-1, 3), size=1 << latents)
        a, b = 10.0 ** rng.uniform(-6, 0, 2) * [1.0, 0.5]
        evidence = np.logaddexp.reduce(joint)
        for sign in (1, -1):
            moved = np.logaddexp.reduce(joint + sign * (a - b * joint))
            assert abs(moved - evidence) <= (a + b * (-evidence + latents * np.log(2))) * (1 + 1e-12) or evidence > 0
    assert certificate.U == 2.0**-53


# What the proof takes from the kernels ------------------------------------------------------------------------------


def bounds_of(rows, hidden, scale):
    """Every error bound of one problem, (N,) each; K = 13 and L = 40, longer than any run."""
    rng = np.random.default_rng(0)
    model = shallow(13, hidden, 40, rng, "relu", scale)
    q, x = refvlm.PerDatumPosterior(rng.normal(size=(rows, 13))), binary(rows, 40, rng)
    d = refvlm.decompose(model, q, x)
    return d.log_px_error, d.vlb_error, d.kl_error, refvlm.posterior_mean(model, x, with_error=True)[1]


WIDE = (100,)  # more inputs to the last layer than one run


@pytest.mark.parametrize(
    ("name", "value", "rows", "hidden"),
    [
        ("RUN", 8, 3, WIDE),
        ("FEW_TERMS", 4, 3, WIDE),
        ("STREAMED_PRODUCT", constants.Roundings(9, 1), 3, WIDE),
        ("STREAMED_PRODUCT", constants.Roundings(3, 90), 3, WIDE),
        ("TABLED_PRODUCT", constants.Roundings(18, 3), 40, WIDE),
        ("TABLED_PRODUCT", constants.Roundings(6, 90), 40, WIDE),
        ("LINEAR_TERM", constants.Roundings(12, 20), 3, ()),
        ("LINEAR_TERM", constants.Roundings(4, 90), 3, ()),
        ("SPLITS", ((11, 4), (5, 1)), 3, ()),
        ("SPLITS", ((10, 4), (3, 1)), 3, ()),
        ("ROW_BITS", 7, 3, ()),
        ("PAGE", 512, 40, WIDE),
        ("PAGE", 512, 3, WIDE),
        ("OCTET", 4, 40, WIDE),
        ("LOW_BITS", 9, 3, WIDE),
        ("MIDDLE_BITS", 9, 3, WIDE),
        ("BLOCK", 64, 3, WIDE),
        ("ROWS", 128, 3, WIDE),
        ("TABLE_FLOOR", 2.0**-980, 40, WIDE),
    ],
)
def test_a_constant_of_the_kernels_moves_the_bounds(name, value, rows, hidden, monkeypatch):
    before = bounds_of(rows, hidden, 1.0)
    for module in (marginal, groups, linear, network, observation, tables, bernoulli):
        assert getattr(module, name, value) in (value, getattr(constants, name))  # kernels have no number of their own
    monkeypatch.setattr(constants, name, value)
    after = bounds_of(rows, hidden, 1.0)
    assert any((a != b).all() for a, b in zip(after, before, strict=True))


def test_a_bound_is_refused_where_a_constant_makes_the_terms_worthless(monkeypatch):
    monkeypatch.setattr(constants, "FEW_TERMS", 1)
    monkeypatch.setattr(certificate, "U", 2.0**-14)  # as if kernels computed with fifteen bits
    assert np.isinf(bounds_of(3, WIDE, 1.0)[0]).all()


def words(module):
    """A module's docstring on one line."""
    return " ".join(module.__doc__.split())


def test_what_kernels_document_is_what_the_proof_uses():
    for module, roundings in (
        (marginal, constants.STREAMED_PRODUCT),
        (groups, constants.TABLED_PRODUCT),
        (linear, constants.LINEAR_TERM),
    ):
        stated = f"({roundings.each} L + {roundings.more}) u"
        assert stated in words(module).replace("(5 L + L + 3) u", "(6 L + 3) u")
        assert stated in words(certificate)
    assert f"in runs of {constants.RUN} inputs" in words(network)
    assert f"min(n, {constants.RUN}) + ceil(n / {constants.RUN})" in words(certificate)
    assert f"({constants.FEW_TERMS} + L / {constants.FEW_TERMS} + K + 5) u" in words(marginal)
    assert f"(min(L, {constants.FEW_TERMS}) + ceil(L / {constants.FEW_TERMS})) u" in words(certificate)
    assert {16: "sixteen"}[constants.FEW_TERMS] in observation.log_likelihood.__doc__
    tree = int(re.search(r"its depth is (\d+) and the number of pages", words(marginal))[1])
    assert depth(11, Route.STREAMED) == tree + 1 + 1
    own = re.search(r"a depth of (\d+), (\d+) and the number of pages", words(tables)).groups()
    assert depth(11, Route.TABLED) == sum(map(int, own)) + 1 + len(range(0, 2**11, 2**8)).bit_length()
    stated = re.search(r"Depth: (\d+) tiles times 2\*\*(\d+) blocks of lanes, (\d+) for", words(linear))
    tiles, blocks, own = map(int, stated.groups())
    assert depth(12, Route.LINEAR) == tiles * 2**blocks + own + 2**12 // 2**10 + 1
    assert f"{constants.ROWS} blocks" in words(bound_certificate)
