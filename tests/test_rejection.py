"""Exact posterior draws by rejection, and brackets of the posterior means: against enumeration, and at any K."""

import numpy as np
import pytest
from problems import binary, deep, shallow
from scipy.stats import binom, chi2

import refvlm
from refvlm.enumeration import kernels
from refvlm.inference import bounds, brackets, partition, rejection
from refvlm.inference.context_ground import ContextGround
from refvlm.learning.batches import Batch
from refvlm.learning.machine import Machine
from refvlm.learning.rules import maximum_likelihood


@pytest.fixture
def never_summed(monkeypatch):
    monkeypatch.setattr(bounds, "SUMMED_LATENTS", 0)
    monkeypatch.setattr(partition, "SHORT_SUM", -1)


def codes_of(z):
    return z.astype(np.int64) @ (1 << np.arange(z.shape[-1]))


def surprise(codes, probability):
    """Pearson's statistic of how often each code was drawn, rare ones together, and its degrees of freedom."""
    expected = probability * len(codes)
    common = expected >= 5.0
    seen = np.bincount(codes, minlength=len(probability))
    groups = np.append(seen[common], seen[~common].sum()), np.append(expected[common], expected[~common].sum())
    if groups[1][-1] < 5.0:
        groups = groups[0][:-1], groups[1][:-1]
    return float(((groups[0] - groups[1]) ** 2 / groups[1]).sum()), len(groups[0]) - 1


@pytest.mark.parametrize(("scale", "price"), [(1.0, 1e9), (3.0, 1e9), (3.0, 1e-9)])
def test_draws_have_the_distribution_of_the_exact_posterior(never_summed, monkeypatch, scale, price):
    """K = 6, L = 11, 20000 draws for each of 3 rows, from one box or from many; one certain bit. Chi-square at 1e-6."""
    monkeypatch.setattr(ContextGround, "price", price)
    rng = np.random.default_rng(0)
    model = shallow(6, (), 11, rng, scale=scale)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, *model.prior.logits[1:]]), model.decoder)
    x = binary(3, 11, rng)
    z = refvlm.sample_posterior(model, x, 20000, rng)
    assert z.shape == (3, 20000, 6)
    exact = refvlm.posterior(model, x)
    for n in range(3):
        statistic, freedom = surprise(codes_of(z[n]), exact[n])
        assert statistic < chi2.isf(1e-6, freedom)
        wrong, freedom = surprise(codes_of(z[n]), exact[(n + 1) % 3])
        assert wrong > chi2.isf(1e-6, freedom)


def test_the_first_draws_of_a_call_are_of_all_boxes(never_summed, monkeypatch):
    """4000 calls for one draw each: sorted by box, the first one accepted would be of the first boxes."""
    monkeypatch.setattr(ContextGround, "price", 1e-9)
    rng = np.random.default_rng(1)
    model, x = shallow(5, (), 13, rng, scale=4.0), binary(1, 13, rng)
    rows = np.repeat(x, 4000, axis=0)
    z = refvlm.sample_posterior(model, rows, 1, rng)[:, 0]
    statistic, freedom = surprise(codes_of(z), refvlm.posterior(model, x)[0])
    assert freedom >= 3
    assert statistic < chi2.isf(1e-6, freedom)


def test_a_fault_in_the_ratios_is_caught(never_summed, monkeypatch):
    """Acceptance with sqrt(r): a planted fault. One box, because with many r is close to 1."""
    monkeypatch.setattr(ContextGround, "price", 1e9)
    right = kernels.ratios.log_ratios
    monkeypatch.setattr(kernels.ratios, "log_ratios", lambda *given: 0.5 * right(*given))
    rng = np.random.default_rng(0)
    model, x = shallow(6, (), 11, rng, scale=3.0), binary(1, 11, rng)
    statistic, freedom = surprise(
        codes_of(refvlm.sample_posterior(model, x, 20000, rng)[0]), refvlm.posterior(model, x)[0]
    )
    assert statistic > chi2.isf(1e-6, freedom)


def test_draws_do_not_depend_on_the_workers_and_exist_at_many_latents():
    rng = np.random.default_rng(2)
    model = shallow(90, (), 37, rng, scale=2.0)
    x = model.sample(5, rng)[0]
    one = refvlm.sample_posterior(model, x, 40, np.random.default_rng(3), workers=1)
    three = refvlm.sample_posterior(model, x, 40, np.random.default_rng(3), workers=3)
    other = refvlm.sample_posterior(model, x, 40, np.random.default_rng(4))
    assert one.shape == (5, 40, 90)
    assert one.dtype == np.uint8
    assert one.tobytes() == three.tobytes()
    assert one.tobytes() != other.tobytes()
    assert refvlm.sample_posterior(model, x, 0, rng).shape == (5, 0, 90)
    assert refvlm.sample_posterior(model, x[:0], 3, rng).shape == (0, 3, 90)


def test_short_sums_are_inverted_and_what_has_no_bracket_is_refused():
    rng = np.random.default_rng(5)
    model, x = shallow(7, (), 5, rng), binary(2, 5, rng)
    engine = brackets.Engine(1)
    expected = refvlm.inference.exact.invert_posterior(model, x, 9, np.random.default_rng(0), engine)
    assert np.array_equal(refvlm.sample_posterior(model, x, 9, np.random.default_rng(0)), expected)
    with pytest.raises(ValueError, match=r"^latents: got 63, wanted at most 62"):
        refvlm.sample_posterior(shallow(63, (3,), 5, rng), x, 1, rng)
    hard = shallow(120, (), 400, np.random.default_rng(14), scale=12.0)
    with pytest.raises(ValueError, match=r"^n: got 2, and a draw for row 0 takes about .* tries"):
        refvlm.sample_posterior(hard, binary(1, 400, rng), 2, rng)


@pytest.mark.parametrize("confidence", [0.5, 0.9])
def test_means_lie_between_their_bounds_as_often_as_they_say(never_summed, confidence):
    """150 problems, K = 4, L = 9, two rows, 200 draws: all eight bounds together."""
    broken, calls = 0, 150
    for seed in range(calls):
        rng = np.random.default_rng([6, seed])
        model, x = shallow(4, (), 9, rng, scale=2.0), binary(2, 9, rng)
        exact = refvlm.posterior_mean(model, x)
        result = refvlm.posterior_mean_bracket(model, x, rng, samples=200, confidence=confidence)
        assert result.kind == "sampled"
        broken += bool(((result.lower > exact) | (result.upper < exact)).any())
    assert 0 < broken <= binom.isf(1e-6, calls, 1.0 - confidence)


def test_bounds_on_means_at_many_latents_hold_those_of_other_draws():
    rng = np.random.default_rng(7)
    model = shallow(70, (), 23, rng)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, -np.inf, *model.prior.logits[2:]]), model.decoder)
    x = model.sample(3, rng)[0]
    result = refvlm.posterior_mean_bracket(model, x, rng, samples=20000)
    assert result.lower.shape == (3, 70)
    assert result.confidence == 1.0 - 1e-9
    assert (result.upper - result.lower < 0.06).all()
    again = refvlm.sample_posterior(model, x, 20000, rng).mean(axis=1)
    assert (np.abs(again - (result.lower + result.upper) / 2) < 0.06).all()
    assert (result.lower[:, 0] == 1.0).all()
    assert (result.upper[:, 1] == 0.0).all()


def test_bounds_on_means_are_wider_by_the_rounding_of_large_weights(monkeypatch):
    """Biases of 1e8, K = 25, L = 40: log r is known to 1e-6 or so, and no bound pretends to know more."""
    rng = np.random.default_rng(12)
    decoder = refvlm.MLP([rng.normal(size=(25, 40))], [np.where(np.arange(40) % 3 == 0, 1e8, -1e8)])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(25)), decoder)
    x = model.sample(1, rng)[0]
    monkeypatch.setattr(partition, "SHORT_SUM", -1)
    rounding = rejection.reject(model, x, 10, 0, brackets.Engine(1))[2]
    assert rounding.shape == (1,)
    assert rounding[0] > 1e-7
    options = {"samples": 100, "confidence": 0.5}
    given = np.zeros((1, 100, 25), np.uint8)
    uppers = []
    for known in (rounding, np.zeros(1)):
        monkeypatch.setattr(rejection, "reject", lambda *_, known=known: (given, np.zeros(1), known))
        uppers.append(refvlm.posterior_mean_bracket(model, x, rng, **options).upper)
    assert (uppers[0] > uppers[1] + rounding[0]).all()


def test_means_of_short_sums_are_exact():
    rng = np.random.default_rng(8)
    for model in (shallow(5, (), 8, rng), shallow(5, (3,), 8, rng), deep(3, 4, 8, rng)):
        x = binary(2, 8, rng)
        result = refvlm.posterior_mean_bracket(model, x, rng)
        assert result.kind == "exact"
        assert (result.lower <= refvlm.posterior_mean(model, x)).all()
        assert (result.upper - result.lower < 1e-12).all()
    for options, message in (
        ({"samples": 0}, "samples: got 0, wanted at least 1"),
        ({"confidence": 1.5}, "confidence: got float 1.5, wanted a number above 0 and below 1"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            refvlm.posterior_mean_bracket(model, x, rng, **options)


def test_the_gradient_from_draws_has_the_mean_of_the_exact_one(monkeypatch):
    """K = 5, L = 7, 3 weighted rows, 2000 gradients: each of 47 components within 6 standard errors."""
    rng = np.random.default_rng(9)
    machine = Machine(shallow(5, (), 7, rng, scale=2.0))
    batch = Batch(binary(3, 7, rng), np.array([0.5, 0.2, 0.3]))
    exact, log_px = maximum_likelihood.gradient(machine, batch)
    monkeypatch.setattr(bounds, "SUMMED_LATENTS", 0)
    pairs = [maximum_likelihood.drawn_gradient(machine, batch, rng, 1) for _ in range(2000)]
    drawn = np.array([gradient for gradient, _ in pairs])
    error = drawn.std(axis=0, ddof=1) / np.sqrt(len(drawn))
    assert exact.shape == (5 + 5 * 7 + 7,)
    assert (np.abs(drawn.mean(axis=0) - exact) < 6.0 * error).all()
    assert (np.abs(drawn.mean(axis=0)) > 6.0 * error).mean() > 0.5
    assert abs(np.mean([value for _, value in pairs]) - log_px) < 0.01


def test_maximum_likelihood_climbs_at_many_latents_and_its_bracket_rises():
    """K = 64 on bars, L = 16: certified log p(x) of the same rows before and after; the same seed, the same bits."""
    x = refvlm.bars().sample(120, np.random.default_rng(10))
    options = {"latents": 64, "hidden": (), "method": "maximum-likelihood", "posterior": "none", "seed": 1}
    start = refvlm.fit(x, epochs=0, **options)
    fitted = refvlm.fit(x, epochs=6, learning_rate=0.05, batch_size=40, **options)
    again = refvlm.fit(x, epochs=6, learning_rate=0.05, batch_size=40, workers=1, **options)
    before, after = (
        refvlm.bracket(fit.model, x, samples=8192, rng=np.random.default_rng(0)) for fit in (start, fitted)
    )
    assert after.mean_lower > before.mean_upper + 0.5
    assert fitted.history[-1].log_px_lower <= after.mean_upper
    assert fitted.history[-1].log_px_upper >= after.mean_lower
    assert fitted.history[-2].log_px_upper is None
    objectives = [record.objective for record in fitted.history if record.objective is not None]
    assert objectives[-1] > objectives[0] + 0.3
    for name, value in fitted.model.parameters().items():
        assert np.array_equal(value, again.model.parameters()[name])
    with pytest.raises(ValueError, match=r"^latents: got \(64,\), and method 'maximum-likelihood' enumerates"):
        refvlm.fit(x, **(options | {"hidden": (3,)}))


def test_deep_models_have_draws_of_the_layer_next_to_x(never_summed):
    """(5, 3) over L = 9: Pearson's statistic against the exact posterior of the lower layer."""
    rng = np.random.default_rng(11)
    model = refvlm.BernoulliLVM(shallow(3, (), 5, rng, scale=3.0), shallow(5, (), 9, rng, scale=3.0).decoder)
    x = binary(2, 9, rng)
    z = refvlm.sample_posterior(model, x, 20000, rng)
    exact = refvlm.posterior(model, x)
    for n in range(2):
        statistic, freedom = surprise(codes_of(z[n]), exact[n])
        assert statistic < chi2.isf(1e-6, freedom)
        wrong, freedom = surprise(codes_of(z[n]), exact[1 - n])
        assert wrong > chi2.isf(1e-6, freedom)


def test_a_draw_that_is_out_of_reach_is_refused_where_nothing_is_left_to_be_halved():
    """K = 40, L = 3, weights of 1e4: saturated tangents promise no gain, and the one box accepts nothing."""
    decoder = refvlm.MLP([np.full((40, 3), 1e4)], [np.full(3, -2e5)])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(40)), decoder)
    with pytest.raises(ValueError, match=r"^n: got 1, and a draw for row 0 takes about"):
        refvlm.sample_posterior(model, [[0, 1, 1]], 1, np.random.default_rng(0))
