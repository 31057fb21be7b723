"""Brackets of log p(x): never broken where the sum is known, and of the right order where it is not."""

from concurrent.futures import ThreadPoolExecutor

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, deep, shallow

import refvlm
from refvlm.enumeration import kernels
from refvlm.inference import arrays, bounds, brackets


def never_exact(patch):
    """The deterministic way at every K."""
    patch.setattr(bounds, "SUMMED_LATENTS", 0)
    patch.setattr(brackets, "SHORT_SUM", -1)


@st.composite
def linear_problems(draw):
    """K up to 11 and L up to 21, distinct; logits up to ten thousand; certain bits; rows drawn or hostile."""
    latents, observed, rows = draw(
        st.lists(st.integers(1, 21), min_size=3, max_size=3, unique=True).filter(lambda s: s[0] <= 11 and s[2] <= 5)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 100.0]))
    model = shallow(latents, (), observed, rng, scale=scale)
    logits = model.prior.logits * draw(st.sampled_from([0.0, 1.0, 30.0]))
    if draw(st.booleans()):
        logits[0] = draw(st.sampled_from([np.inf, -np.inf]))
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), model.decoder)
    return model, model.sample(rows, rng)[0] if draw(st.booleans()) else binary(rows, observed, rng)


@given(linear_problems())
def test_the_exact_value_lies_between_the_bounds(problem):
    model, x = problem
    value, error = refvlm.log_marginal(model, x, with_error=True)
    with pytest.MonkeyPatch.context() as patch:
        never_exact(patch)
        result = refvlm.bracket(model, x)
    assert result.kind == "deterministic"
    assert (result.lower <= value + error).all()
    assert (result.upper >= value - error).all()
    assert result.mean_lower <= value.mean() + error.mean()
    assert result.mean_upper >= value.mean() - error.mean()
    assert result.boxes.tolist() == [1] * len(x)
    assert result.samples.tolist() == [0] * len(x)


def test_both_bounds_meet_where_nothing_is_unknown():
    """No weights: the tangent touches, q is the prior, and only rounding is left between them."""
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.5, -np.inf, 2.0]), refvlm.MLP([np.zeros((3, 4))], [np.arange(4.0)]))
    x = binary(5, 4, np.random.default_rng(0))
    with pytest.MonkeyPatch.context() as patch:
        never_exact(patch)
        result = refvlm.bracket(model, x)
    assert (result.lower <= result.upper).all()
    assert (result.upper - result.lower < 1e-12).all()


@pytest.mark.parametrize("fault", [-1e-3, -0.5])
def test_a_majorant_that_is_too_low_is_caught(fault, monkeypatch):
    """With weights of 0.02 the bracket is so tight that the exact value sees a thousandth."""
    rng = np.random.default_rng(1)
    model = shallow(6, (), 9, rng, scale=0.02)
    x = binary(4, 9, rng)
    never_exact(monkeypatch)
    tangents = brackets._tangents
    monkeypatch.setattr(brackets, "_tangents", lambda *given: (tangents(*given)[0] + fault, tangents(*given)[1]))
    low = refvlm.bracket(model, x)
    monkeypatch.undo()
    assert (low.upper < refvlm.log_marginal(model, x)).all()


def test_the_upper_bound_is_the_one_that_its_formula_gives_and_no_other_lambda_is_better():
    """log U in 50 digits at the kernel's tangent point, K = 7, L = 12; random other lambdas lie above."""
    rng = np.random.default_rng(2)
    model = shallow(7, (), 12, rng, scale=2.0)
    x = binary(3, 12, rng)
    decoder, prior = arrays.flat_network(model.decoder), arrays.log_probabilities(model.prior)
    value, size, tilted = kernels.tangent.tangent(decoder, 0, 3, prior, x, 60, 0.0)
    weights, biases = model.decoder.weights[0], model.decoder.biases[0]

    def log_u(row, slopes):
        signs = [1 if bit else -1 for bit in row]
        with mp.workdps(50):
            total = mp.mpf(0)
            for s, p, b in zip(signs, slopes, biases.tolist(), strict=True):
                total += p * s * mp.mpf(b) + p * mp.log(p) + (1 - p) * mp.log(1 - p)
            for c, w in zip(model.prior.logits.tolist(), weights.tolist(), strict=True):
                g = mp.fsum(p * s * mp.mpf(v) for p, s, v in zip(slopes, signs, w, strict=True))
                beta = 1 / (1 + mp.exp(-mp.mpf(c)))
                total += mp.log(1 - beta + beta * mp.exp(g))
            return total

    for n, row in enumerate(x.tolist()):
        z = 1 / (1 + np.exp(-tilted[n]))  # at the optimum the tangent point is the tilted mean
        a = np.where(x[n] == 1, 1.0, -1.0) * (z @ weights + biases)
        best = log_u(row, [1 / (1 + mp.exp(mp.mpf(v))) for v in a.tolist()])
        assert abs(best - mp.mpf(value[n])) < 1e-7
        assert size[n] > abs(value[n])
        for _ in range(20):
            assert log_u(row, [mp.mpf(v) for v in rng.random(12).tolist()]) > best


@pytest.mark.parametrize(("latents", "observed", "widest"), [(64, 40, 3.0), (200, 50, 4.0)])
def test_many_latents_have_brackets_that_hold_the_estimate(latents, observed, widest):
    rng = np.random.default_rng(3)
    model = shallow(latents, (), observed, rng)
    x = model.sample(6, rng)[0]
    result = refvlm.bracket(model, x)
    assert result.kind == "deterministic"
    assert (result.upper - result.lower < widest).all()
    q = refvlm.PerDatumPosterior(np.tile(model.prior.logits, (6, 1)))
    estimate = refvlm.log_marginal_estimate(model, q, x, rng, samples=20000)
    assert (estimate.value > result.lower - 6 * estimate.standard_error).all()
    assert (estimate.value < result.upper + 6 * estimate.standard_error).all()


def test_a_short_sum_or_a_decoder_without_bounds_is_summed():
    rng = np.random.default_rng(4)
    for model in (shallow(22, (), 5, rng), shallow(4, (3,), 6, rng), deep(2, 4, 6, rng)):
        x = binary(3, model.observed, rng)
        value, error = refvlm.log_marginal(model, x, with_error=True)
        result = refvlm.bracket(model, x)
        assert result.kind == "exact"
        assert result.boxes.tolist() == [0, 0, 0]
        assert (result.lower <= value - error).all()
        assert (result.upper >= np.minimum(value + error, 0.0)).all()
        assert (result.upper - result.lower <= 3 * error).all()
    with pytest.raises(ValueError, match=r"^latents: got 63, wanted at most 62 .*log_marginal_estimate"):
        refvlm.bracket(shallow(63, (3,), 6, rng), binary(3, 6, rng))


def test_bits_depend_on_neither_workers_nor_executor_nor_the_other_rows():
    rng = np.random.default_rng(5)
    model, x = shallow(70, (), 19, rng), binary(9, 19, rng)
    first = refvlm.bracket(model, x, workers=1)
    calls = []
    with ThreadPoolExecutor(3) as executor:
        others = [
            refvlm.bracket(model, x, workers=3, progress=lambda *done: calls.append(done)),
            refvlm.bracket(model, x, executor=executor),
        ]
    for other in others:
        for a, b in zip(first[:2], other[:2], strict=True):
            assert a.tobytes() == b.tobytes()
    assert calls
    alone = refvlm.bracket(model, x[4:5])
    assert alone.lower[0] == first.lower[4]
    assert alone.upper[0] == first.upper[4]
    nothing = refvlm.bracket(model, x[:0])
    assert nothing.lower.shape == nothing.upper.shape == (0,)
    assert nothing.mean_lower is None
    assert nothing.mean_upper is None


def test_rows_that_no_code_explains_have_brackets_too():
    """p(x | z) below 1e-300 for every z, the sum of 30 logits near -200."""
    rng = np.random.default_rng(6)
    decoder = refvlm.MLP([rng.normal(size=(40, 30))], [np.full(30, -200.0)])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=40)), decoder)
    result = refvlm.bracket(model, np.ones((2, 30)))
    assert (result.lower > -30 * 260.0).all()
    assert (result.upper < -30 * 150.0).all()
    assert (result.upper - result.lower < 1.0).all()
