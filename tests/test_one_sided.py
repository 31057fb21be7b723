"""Certified bounds for any decoder, by exact sums over all draws: the functions themselves, scripted draw by draw."""

import itertools
import math
from fractions import Fraction

import mpmath as mp
import numpy as np
import pytest
from digits import exact_logits
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, deep, network, problems, shallow
from scipy.stats import binom

import refvlm
from refvlm import bits
from refvlm.inference import one_sided

SURE = 1.0 - 1e-9


class Scripted(np.random.Generator):
    """A generator of these uniforms, one after the other."""

    def __init__(self, uniforms):
        super().__init__(np.random.PCG64(0))
        self.uniforms = np.asarray(uniforms, dtype=np.float64).ravel()

    def random(self, shape):
        count = math.prod(shape)
        drawn, self.uniforms = self.uniforms[:count], self.uniforms[count:]
        assert len(drawn) == count
        return drawn.reshape(shape)


def scripted(z, logits):
    """A generator that makes these z (n, K) come out of q with logits (K,): u = 0 where a bit has its rarer value."""
    return Scripted(np.where((z == 1) == (logits >= 0.0), 1.0 - 2.0**-53, 0.0))


def table_of_q(logits):
    """q(z) for every code, (2**K,)."""
    p = 1.0 / (1.0 + np.exp(-logits))
    return np.where(bits.table(len(logits)) == 1, p, 1.0 - p).prod(axis=1)


def encoder(model, rng, scale=1.0):
    return refvlm.AmortisedPosterior(network([model.observed, model.latents], rng, scale=scale))


def chain(model, rng):
    return refvlm.ChainPosterior([encoder(layer, rng) for layer in model.layers])


def near_posterior(model, x, off=0.0, rng=None):
    """Each row's factorised q with the posterior's own means; `off`: the spread of errors in its logits."""
    mean = np.clip(refvlm.posterior_mean(model, x), 0.02, 0.98)
    logits = np.log(mean) - np.log1p(-mean)
    return refvlm.PerDatumPosterior(logits if rng is None else logits + off * rng.normal(size=logits.shape))


def multiplied(patch, factor):
    """A planted fault: all weights are so many times what they should be."""
    right = one_sided._log_weights

    def wrong(*given):
        value, magnitudes = right(*given)
        return value + math.log(factor), magnitudes

    patch.setattr(one_sided, "_log_weights", wrong)


class Wrapped:
    """A decoder that is no MLP to the library."""

    def __init__(self, mlp):
        self.mlp, self.fan_in, self.fan_out = mlp, mlp.fan_in, mlp.fan_out

    def forward(self, z):
        return self.mlp.forward(z)

    def parameters(self):
        return self.mlp.parameters()


@pytest.mark.parametrize("confidence", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("samples", [2, 4])
def test_the_exact_error_rate_over_all_draws_of_four_codes_is_below_what_is_stated(samples, confidence):
    """K = 2, H = 3, L = 5: every sequence of draws with its probability."""
    rng = np.random.default_rng(0)
    model, x, logits = shallow(2, (3,), 5, rng, scale=3.0), binary(1, 5, rng), np.array([2.0, -2.5])
    exact, q = refvlm.log_marginal(model, x)[0], refvlm.PerDatumPosterior(logits[None])
    rate, total = 0.0, 0.0
    for codes in itertools.product(range(4), repeat=samples):
        z, chance = bits.table(2)[list(codes)], math.prod(table_of_q(logits)[list(codes)])
        generator = scripted(z, logits)
        lower = refvlm.log_marginal_lower(model, q, x, generator, samples=samples, confidence=confidence)
        rate, total = rate + chance * (lower[0] > exact), total + chance
    assert total == pytest.approx(1.0, rel=1e-12)
    assert rate <= 1.0 - confidence


@pytest.mark.parametrize(("confidence", "calls"), [(0.5, 300), (0.9, 300), (SURE, 300)])
@pytest.mark.parametrize("factor", [1.0, 1.05])
def test_lower_bounds_are_broken_no_more_often_than_stated_and_a_fault_of_five_percent_is_caught(
    monkeypatch, confidence, calls, factor
):
    """K = 4, H = 6, L = 9, three rows at once, 20 models, 5000 draws; with weights 1.05 times too large as well."""
    multiplied(monkeypatch, factor)
    broken = 0
    for seed in range(calls):
        rng = np.random.default_rng([1, seed])
        model = shallow(4, (6,), 9, np.random.default_rng([2, seed % 20]), scale=0.3)
        x = model.sample(3, rng)[0]
        q = near_posterior(model, x)
        lower = refvlm.log_marginal_lower(model, q, x, rng, samples=5000, confidence=confidence)
        broken += bool((lower > refvlm.log_marginal(model, x)).any())
    allowed = 0 if confidence == SURE else binom.isf(1e-6, calls, 1.0 - confidence)
    if factor == 1.0:
        assert broken <= allowed
    elif confidence < SURE:
        assert broken > allowed


@given(problems(infinite=True), st.integers(2, 40), st.integers(0, 2**32 - 1))
def test_bounds_hold_for_any_model_and_q(problem, samples, seed):
    """Encoders and logits for each row, impossible bits, logits up to 1e4."""
    model, q, x, _ = problem
    rng = np.random.default_rng(seed)
    for rows in (x, model.sample(len(x), rng)[0]):
        value, error = refvlm.log_marginal(model, rows, with_error=True)
        assert (refvlm.log_marginal_lower(model, q, rows, rng, samples=samples) <= value + error).all()
    x, z = model.sample(len(x), rng)
    value, error = refvlm.log_marginal(model, x, with_error=True)
    upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=samples)
    assert value.mean() - error.mean() <= upper <= 0.0


def test_all_rows_of_a_call_share_the_error_rate():
    """The same draws: a row of seven has what it has alone at a seventh of the error rate."""
    rng = np.random.default_rng(4)
    model, x = shallow(3, (5,), 6, rng), binary(7, 6, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(7, 3)))
    options = {"samples": 50}
    whole = refvlm.log_marginal_lower(model, q, x, np.random.default_rng(0), confidence=0.93, **options)
    alone = refvlm.log_marginal_lower(
        model, q.take(slice(0, 1)), x[:1], np.random.default_rng(0), confidence=0.99, **options
    )
    assert whole[0] == pytest.approx(alone[0], abs=1e-9)
    less = refvlm.log_marginal_lower(model, q, x, np.random.default_rng(0), confidence=0.5, **options)
    assert (less > whole).all()


def test_the_layers_above_are_drawn_from_their_posterior():
    """The upper bound of a chain on 400 rows; with the layers above from elsewhere it is below the exact mean."""
    rng = np.random.default_rng(6)
    model = refvlm.BernoulliLVM(shallow(3, (), 5, rng, scale=6.0), network([5, 8], rng))
    flat = [refvlm.AmortisedPosterior(refvlm.MLP([np.zeros(s)], [np.zeros(s[1])])) for s in ((8, 5), (5, 3))]
    x, z = model.sample(400, rng)
    exact, q = refvlm.log_marginal(model, x).mean(), refvlm.ChainPosterior(flat)
    options = {"samples": 3, "confidence": 0.9}
    assert refvlm.mean_log_marginal_upper(model, q, x, z, rng, **options) > exact
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(one_sided, "sample_posterior", lambda m, z, n, rng: binary(len(z), 3, rng)[:, None])
        assert refvlm.mean_log_marginal_upper(model, q, x, z, rng, **options) < exact


def test_a_q_far_from_the_posterior_or_that_misses_part_of_it_only_loosens_the_bound():
    """K = 6, H = 5, L = 11: q sure of a wrong code; q that excludes a value of a bit. 300 calls at 0.5."""
    rng = np.random.default_rng(7)
    model = shallow(6, (5,), 11, rng, scale=3.0)
    x = model.sample(2, rng)[0]
    exact, mean = refvlm.log_marginal(model, x), refvlm.posterior_mean(model, x)
    wrong = refvlm.PerDatumPosterior(np.where(mean > 0.5, -4.0, 4.0))
    open_bit = np.arange(6) == np.abs(mean - 0.5).argmin(axis=1)[:, None]
    missing = refvlm.PerDatumPosterior(np.where(open_bit, np.inf, 0.0))
    for q in (wrong, missing):
        broken = 0
        for seed in range(300):
            options = {"samples": 40, "confidence": 0.5}
            lower = refvlm.log_marginal_lower(model, q, x, np.random.default_rng([8, seed]), **options)
            broken += bool((lower > exact).any())
        assert broken <= binom.isf(1e-6, 300, 0.5)
        sure = refvlm.log_marginal_lower(model, q, x, rng, samples=400)
        assert (sure < exact).all()
        assert np.isfinite(sure).all()


def test_one_weight_that_outweighs_all_others_gives_a_low_bound_and_not_none():
    """One draw of ten thousand explains x, e^40 times better: at 1 - 1e-9, for one row and as one of 300."""
    decoder = refvlm.MLP([np.full((1, 40), 6.0)], [np.full(40, -3.0)])
    model, logits = refvlm.BernoulliLVM(refvlm.Bernoulli([0.0]), decoder), np.array([-9.0])
    x = np.ones((1, 40), np.uint8)
    z = np.zeros((10_000, 1), np.uint8)
    z[77] = 1
    q = refvlm.PerDatumPosterior(logits[None])
    for confidence in (SURE, 1.0 - 1e-9 / 300):
        lower = refvlm.log_marginal_lower(model, q, x, scripted(z, logits), samples=10_000, confidence=confidence)
        assert np.isfinite(lower).all()
        assert (lower > refvlm.log_marginal(model, x) - 40.0).all()


@pytest.mark.parametrize("logits", [(0.7, -1.2), (0.7, np.inf)])
def test_the_mean_of_m_over_the_sum_of_weights_is_one_over_p_of_x(logits):
    """K = 2, H = 3, L = 5, M = 3: all 64 triples, z_1 from the posterior; also where q misses half.

    There, a z_1 that q misses counts nothing, because its weight is infinite, and its bound is the trivial one.
    """
    rng = np.random.default_rng(10)
    model, x, logits, confidence = shallow(2, (3,), 5, rng), binary(1, 5, rng), np.array(logits), 1e-3
    log_px, posterior = refvlm.log_marginal(model, x)[0], refvlm.posterior(model, x)[0]
    q, chances = refvlm.PerDatumPosterior(logits[None]), table_of_q(logits)
    expected = 0.0
    for first, *others in itertools.product(range(4), repeat=3):
        if chances[others].min() == 0.0:
            continue
        z = bits.table(2)[[first, *others]]
        generator = scripted(z[1:], logits)
        upper = refvlm.mean_log_marginal_upper(model, q, x, z[:1], generator, samples=3, confidence=confidence)
        assert (upper == 0.0) == (chances[first] == 0.0)
        if upper < 0.0:
            chance = posterior[first] * math.prod(chances[others])
            expected += chance * math.exp(log_px - (upper + math.log1p(-confidence)))
    assert expected == pytest.approx(1.0, abs=1e-11)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
@pytest.mark.parametrize("samples", [1, 2, 30])
def test_upper_bounds_are_broken_no_more_often_than_stated(samples, confidence):
    """K = 4, H = 6, L = 9; one row or 5, q off the posterior, 300 calls."""
    for rows in (1, 5):
        broken, calls = 0, 300
        for seed in range(calls):
            rng = np.random.default_rng([11, seed])
            model = shallow(4, (6,), 9, np.random.default_rng([2, seed % 20]))
            x, z = model.sample(rows, rng)
            q = near_posterior(model, x, 1.0, rng)
            upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=samples, confidence=confidence)
            broken += upper < refvlm.log_marginal(model, x).mean()
        assert broken <= binom.isf(1e-6, calls, 1.0 - confidence)


def test_lower_and_upper_enclose_the_exact_mean_closely_and_faults_are_caught(monkeypatch):
    """K = 5, H = 7, L = 11, 300 rows. The faults: z of other rows, z from q, weights 1 / 1.05 times the right ones."""
    rng = np.random.default_rng(12)
    model = shallow(5, (7,), 11, rng, scale=2.0)
    x, z = model.sample(300, rng)
    q, exact = near_posterior(model, x), refvlm.log_marginal(model, x).mean()
    lower = refvlm.log_marginal_lower(model, q, x, rng, samples=2000).mean()
    upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=2000)
    assert lower < exact < upper < exact + 1.1 * math.log(1e9) / 300
    assert lower > exact - 0.4
    multiplied(monkeypatch, 1.0 / 1.05)
    assert refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=2000, confidence=0.9) < exact


def test_z_that_are_no_posterior_draws_break_the_upper_bound():
    """K = 5, L = 17, codes that x tells apart, 300 rows, M = 1 and 2: z of other rows, and z from a flat q."""
    rng = np.random.default_rng(21)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(5)), shallow(5, (7,), 17, rng, scale=4.0).decoder)
    x, z = model.sample(300, rng)
    q, exact = refvlm.PerDatumPosterior(np.zeros((300, 5))), refvlm.log_marginal(model, x).mean()
    for samples in (1, 2):
        options = {"samples": samples, "confidence": 0.9}
        assert refvlm.mean_log_marginal_upper(model, q, x, z, rng, **options) > exact
        assert refvlm.mean_log_marginal_upper(model, q, x, np.roll(z, 1, axis=0), rng, **options) < exact
        assert refvlm.mean_log_marginal_upper(model, q, x, binary(300, 5, rng), rng, **options) < exact


def exact_log_weight(model, x, z, logits):
    """log p(x, z) - log q(z) in 50 digits, q with the probabilities that bits are drawn with."""

    def log_sigmoid(a):
        return -mp.log1p(mp.exp(-a))

    total = mp.fsum(log_sigmoid(a if v else -a) for a, v in zip(exact_logits(model.decoder, z), x, strict=True))
    prior = [mp.mpf(float(v)) for v in model.prior.logits]
    total += mp.fsum(log_sigmoid(a if v else -a) for a, v in zip(prior, z, strict=True))
    rare, one = one_sided._on_grid(logits[None])
    rare = [mp.mpf(float(v)) for v in rare[0]]
    return total - mp.fsum(mp.log(r if (v == 1) == o else 1 - r) for r, o, v in zip(rare, one[0], z, strict=True))


@pytest.mark.parametrize("hidden", [(), (6,), (6, 5)])
@pytest.mark.parametrize(("scale", "most"), [(1.0, 1e-12), (30.0, 1e-9), (1e4, 1.0)])
def test_logarithms_of_weights_are_within_their_bounds(hidden, scale, most):
    """K = 4, L = 9, 40 pairs, against 50 digits."""
    rng = np.random.default_rng(13)
    model, x = shallow(4, hidden, 9, rng, scale=scale), binary(40, 9, rng)
    logits = rng.normal(size=(40, 4)) * rng.choice([0.1, 3.0, 30.0, 900.0], size=(40, 1))
    q, z = refvlm.PerDatumPosterior(logits), binary(40, 4, rng)
    value, magnitudes = one_sided._log_weights(model, q, x, [logits], z, rng)
    with mp.workdps(50):
        for n in range(40):
            off = abs(mp.mpf(float(value[n])) - exact_log_weight(model, x[n], z[n], logits[n]))
            error = one_sided.rounding(model, float(magnitudes[n]))
            assert off <= error
            assert error <= most * (1.0 + abs(value[n]))


def test_bits_are_drawn_with_exactly_the_probabilities_that_weights_are_of():
    """Multiples of 2**-53, for logits up to 800; only infinite ones exclude a value."""
    logits = np.array([[0.0, 0.3, -2.0, 36.0, -40.0, 40.0, 800.0, -800.0, np.inf, -np.inf]])
    rare = one_sided._on_grid(logits)[0][0]
    numbers = [Fraction(r) * 2**53 for r in rare.tolist()]
    assert all(n.denominator == 1 for n in numbers)
    assert numbers[0] == 2**52
    assert all(1 <= n <= 2**52 for n in numbers[:-2])
    assert numbers[-2:] == [0, 0]
    p = 1.0 / (1.0 + np.exp(np.abs(logits[0, :4])))
    assert np.allclose(rare[:4], p, rtol=1e-12, atol=2.0**-53)


def test_a_decoder_that_is_no_mlp_has_the_bounds_of_the_mlp_that_it_wraps():
    rng = np.random.default_rng(14)
    model = shallow(4, (6,), 9, rng)
    wrapped = refvlm.BernoulliLVM(model.prior, Wrapped(model.decoder))
    x, z = model.sample(3, rng)
    q = refvlm.AmortisedPosterior(Wrapped(network([9, 5, 4], rng)))
    for bound in (
        lambda m, rng: refvlm.log_marginal_lower(m, q, x, rng, samples=60),
        lambda m, rng: refvlm.mean_log_marginal_upper(m, q, x, z, rng, samples=60),
    ):
        one, other = bound(model, np.random.default_rng(0)), bound(wrapped, np.random.default_rng(0))
        np.testing.assert_allclose(one, other, atol=1e-11)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"rng": 3}, TypeError, "rng: got int 3, wanted a numpy.random.Generator"),
        ({"samples": 0}, ValueError, "samples: got 0, wanted at least"),
        ({"samples": 1.5}, TypeError, "samples: got float 1.5, wanted an integer"),
        ({"confidence": 1.0}, ValueError, "confidence: got float 1.0, wanted a number above 0 and below 1"),
        ({"confidence": math.nan}, ValueError, "confidence: got float nan, wanted a number above 0 and below 1"),
        ({"x": np.zeros((2, 6))}, ValueError, r"x: got shape \(2, 6\), wanted 5 columns"),
        ({"x": np.full((2, 5), 0.5)}, ValueError, "x: got 0.5 at row 0, column 0, wanted exactly 0 or 1"),
        ({"q": refvlm.PerDatumPosterior(np.zeros((2, 4)))}, ValueError, "posterior: got one over 4 bits"),
        ({"q": refvlm.PerDatumPosterior(np.zeros((1, 3)))}, ValueError, "posterior: got logits for 1 rows and x"),
        ({"q": None}, TypeError, "posterior: got NoneType None, wanted"),
        ({"model": None}, TypeError, "model: got NoneType None, wanted a BernoulliLVM"),
        ({"z": np.zeros((2, 4))}, ValueError, r"z: got shape \(2, 4\), wanted 3 columns"),
        ({"z": np.zeros((4, 3))}, ValueError, "z: got 4 rows, wanted 2"),
        ({"z": np.full((2, 3), 2)}, ValueError, "z: got 2 at row 0, column 0, wanted exactly 0 or 1"),
        ({"z": [[0, 0, 0], [0, 0, 1]]}, ValueError, "z: got one for row 1"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    """The last: a z that the prior rules out, so that the model cannot have drawn it."""
    rng = np.random.default_rng(18)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, 0.1, -np.inf]), network([3, 4, 5], rng))
    usual = {"model": model, "q": refvlm.PerDatumPosterior(np.zeros((2, 3))), "x": binary(2, 5, rng), "rng": rng}
    with pytest.raises(error, match=f"^{message}"):
        refvlm.mean_log_marginal_upper(**({"z": np.zeros((2, 3))} | usual | options))
    if "z" not in options:
        with pytest.raises(error, match=f"^{message}"):
            refvlm.log_marginal_lower(**(usual | options))


def test_a_decoder_that_returns_no_numbers_is_refused():
    rng = np.random.default_rng(19)
    broken = Wrapped(network([3, 4, 5], rng))
    broken.forward = lambda z: (np.full((len(z), 5), np.nan), None)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), broken)
    q = refvlm.PerDatumPosterior(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"^decoder: "):
        refvlm.log_marginal_lower(model, q, binary(2, 5, rng), rng)


def test_logits_that_cancel_cost_digits_and_the_bound_knows_it():
    """Two units times 1e6 and -1e6, whose difference is 1e-3 or so: what tanh rounds is far above u |log w|."""
    rng = np.random.default_rng(22)
    inner = np.repeat(rng.normal(size=(4, 1)), 2, axis=1) * np.array([1.0, 1.0 + 1e-9])
    outer = np.outer([1e6, -1e6], rng.normal(size=9))
    model = refvlm.BernoulliLVM(
        refvlm.Bernoulli(rng.normal(size=4)), refvlm.MLP([inner, outer], [np.zeros(2), np.zeros(9)])
    )
    x, z, logits = binary(40, 9, rng), binary(40, 4, rng), rng.normal(size=(40, 4))
    value, magnitudes = one_sided._log_weights(model, refvlm.PerDatumPosterior(logits), x, [logits], z, rng)
    with mp.workdps(50):
        off = [
            float(abs(mp.mpf(float(v)) - exact_log_weight(model, *pair)))
            for v, *pair in zip(value, x, z, logits, strict=True)
        ]
    assert (np.array(off) <= [one_sided.rounding(model, m) for m in magnitudes]).all()
    assert max(off) > 1e-12


def test_lower_bounds_close_in_like_the_root_of_the_relative_variance_over_the_draws():
    """0.8 to 1.4 times sqrt(2 log(1 / delta) V / n), n = 4000 to 256000; K = 4, H = 6, L = 9, the exact V."""
    rng = np.random.default_rng(3)
    model, logits = shallow(4, (6,), 9, rng), rng.normal(size=4) * 0.3
    x = model.sample(1, rng)[0]
    exact, q = refvlm.log_marginal(model, x)[0], refvlm.PerDatumPosterior(logits[None])
    variance = float((refvlm.posterior(model, x)[0] ** 2 / table_of_q(logits)).sum()) - 1.0
    assert 0.1 < variance < 3.0
    for samples in (4000, 32000, 256000):
        lower = refvlm.log_marginal_lower(model, q, x, rng, samples=samples)[0]
        pace = math.sqrt(2.0 * math.log(1e9) * variance / samples)
        assert 0.8 * pace < exact - lower < 1.4 * pace


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


def test_the_same_seed_gives_the_same_bounds_and_no_rows_have_no_mean():
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
    with pytest.raises(ValueError, match=r"^x: got no rows"):
        refvlm.mean_log_marginal_upper(model, q, x[:0], z[:0], rng)
