"""The VLB of linear decoders by characteristic functions, at any K, against enumeration, 50 digits and its bounds."""

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import mpmath as mp
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, network, shallow
from scipy.special import expit

import refvlm
from refvlm.enumeration.kernels import characteristic, constants, lanes
from refvlm.inference import bound_certificate, bounds, definition

U = 2.0**-53


@pytest.fixture
def never_summed(monkeypatch):
    monkeypatch.setattr(bounds, "SUMMED_LATENTS", 0)


@numba.njit(error_model="numpy")
def circles(turns, rests, real, imaginary):
    for i in range(0, len(turns), lanes.OCTET):
        a, b = characteristic.circle(lanes.load_octet(turns, i), lanes.load_octet(rests, i))
        lanes.store(real, i, a)
        lanes.store(imaginary, i, b)


@numba.njit(error_model="numpy")
def node_weight(n, step):
    return characteristic.node_weight(n, step)


def test_the_circle_is_within_nine_units_of_its_distance_from_one():
    """The quarters' ends, 1/8 of a turn from them and tiny angles too; turns up to 1e6."""
    rng = np.random.default_rng(0)
    ends = np.arange(-16, 17) / 8.0
    turns = np.concatenate([
        rng.uniform(-1, 1, 3000), rng.uniform(-1e6, 1e6, 1000), ends, ends + 2.0**-40, 2.0 ** rng.uniform(-60, -3, 999),
    ])  # fmt: skip
    turns = np.resize(turns, len(turns) + -len(turns) % lanes.OCTET)
    rests = turns * rng.uniform(-0.4, 0.4, len(turns)) * U
    real, imaginary = np.empty_like(turns), np.empty_like(turns)
    circles(turns, rests, real, imaginary)
    worst = 0.0
    with mp.workdps(50):
        for t, r, a, b in zip(turns, rests, real, imaginary, strict=True):
            exact = mp.expm1(2j * mp.pi * (mp.mpf(t) + mp.mpf(r)))
            error = abs(mp.mpc(a, b) - exact)
            worst = max(worst, float(error / (U * abs(exact)))) if exact != 0 else worst
    assert worst < 9.0


@pytest.mark.parametrize("period", [42.0, 57.3, 600.0, 1e4])
def test_weights_of_nodes_are_within_their_error(period):
    """(12 + 2 pi w) u relatively, w from the step as computed."""
    step = 2 * np.pi / period
    last = int(np.ceil(constants.CUTOFF / step))
    for n in sorted({1, 2, 3, *np.linspace(1, last, 97).astype(int)}):
        got = node_weight(n, step)
        with mp.workdps(50):
            w = n * mp.mpf(step)
            exact = mp.mpf(step) / (w * mp.sinh(mp.pi * w))
            assert abs(got - exact) <= (12 + 2 * np.pi * float(w)) * U * exact, n


@pytest.mark.parametrize("logit", [0.0, 0.3, -4.0, 11.0])
def test_the_trapezoidal_sum_errs_by_poissons_series(logit):
    """The theorem that the choice of T rests on, where T is so short that the error shows: 30 digits."""
    with mp.workdps(30):
        m, period = mp.mpf(logit), mp.mpf(14)
        step = 2 * mp.pi / period
        total = step / 2 * m**2 / (2 * mp.pi)
        for n in range(1, int(25 / step)):
            w = n * step
            total += step * (1 - mp.cos(w * m)) / (w * mp.sinh(mp.pi * w))
        error = total - mp.log(mp.cosh(m / 2))
        series = mp.mpf(0)
        for j in range(1, 8):
            t = period * j
            series += mp.log1p(mp.exp(-t - m)) + mp.log1p(mp.exp(-t + m)) - 2 * mp.log1p(mp.exp(-t))
        assert abs(error - series) < mp.mpf(10) ** -26
        assert 0 <= series <= 2 * mp.exp(-(period - abs(m))) / (1 - mp.exp(-period))


@st.composite
def linear_problems(draw):
    """K up to 11, distinct sizes, logits up to a few hundred, bits of q from even to certain."""
    latents, observed, rows = draw(
        st.lists(st.integers(1, 21), min_size=3, max_size=3, unique=True).filter(lambda s: s[0] <= 11 and s[2] <= 6)
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 30.0]))
    model = shallow(latents, (), observed, rng, scale=scale)
    logits = rng.normal(size=(rows, latents)) * draw(st.sampled_from([0.0, 1.0, 30.0]))
    if draw(st.booleans()):
        logits[:, 0] = draw(st.sampled_from([np.inf, -np.inf]))
    x = model.sample(rows, rng)[0] if draw(st.booleans()) else binary(rows, observed, rng)
    return model, refvlm.PerDatumPosterior(logits), x


@given(linear_problems())
def test_the_vlb_without_a_sum_is_that_of_the_sum_within_both_bounds(problem):
    summed, summed_error = refvlm.vlb(*problem, with_error=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "SUMMED_LATENTS", 0)
        value, error = refvlm.vlb(*problem, with_error=True)
    assert (np.abs(value - summed) <= error + summed_error).all()
    if np.abs(problem[0].decoder.weights[0]).sum(axis=0).max() < 40.0:
        assert (error <= 1e-12 * (1 + np.abs(value))).all()


def in_fifty_digits(model, logits, x):
    """E_q[log p(x | z)] by the sum over all codes."""
    weights, biases = model.decoder.weights[0].tolist(), model.decoder.biases[0].tolist()
    values = []
    with mp.workdps(50):
        for row, observed in zip(logits.tolist(), x.tolist(), strict=True):
            q = [1 / (1 + mp.exp(-mp.mpf(v))) for v in row]
            value = mp.mpf(0)
            for z in refvlm.bits.table(model.latents).tolist():
                mass = mp.fprod(p if bit else 1 - p for p, bit in zip(q, z, strict=True))
                for i, bit in enumerate(observed):
                    a = mp.mpf(biases[i]) + mp.fsum(mp.mpf(w[i]) for w, on in zip(weights, z, strict=True) if on)
                    value -= mass * mp.log1p(mp.exp(-a if bit else a))
            values.append(value)
    return values


@pytest.mark.parametrize("scale", [0.5, 3.0, 60.0])
def test_the_bound_holds_against_fifty_digits(scale, never_summed):
    rng = np.random.default_rng(1)
    for latents, observed, rows in ((2, 5, 3), (6, 3, 4)):
        model = shallow(latents, (), observed, rng, scale=scale)
        q, x = refvlm.PerDatumPosterior(rng.normal(size=(rows, latents)) * 2.0), binary(rows, observed, rng)
        terms = refvlm.vlb_terms(model, q, x)
        error = refvlm.vlb(model, q, x, with_error=True)[1]
        for n, exact in enumerate(in_fifty_digits(model, q.logits, x)):
            assert abs(mp.mpf(terms.reconstruction[n]) - exact) <= error[n]


def test_a_sum_too_long_to_notice_and_the_integral_agree():
    """K = 21, where the sum is no longer the default, with an encoder."""
    rng = np.random.default_rng(2)
    model = shallow(21, (), 9, rng, scale=2.0)
    q = refvlm.AmortisedPosterior(network([9, 21], rng))
    x = model.sample(4, rng)[0]
    value, error = refvlm.vlb(model, q, x, with_error=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "SUMMED_LATENTS", 30)
        summed, summed_error = refvlm.vlb(model, q, x, with_error=True)
    assert (np.abs(value - summed) <= error + summed_error).all()
    assert (error < summed_error).all()


@pytest.mark.parametrize(("latents", "observed"), [(65, 7), (200, 33), (2000, 5)])
def test_many_latents_agree_with_the_plain_definition_and_with_draws(latents, observed):
    rng = np.random.default_rng(3)
    model = shallow(latents, (), observed, rng, scale=2.0)
    q = refvlm.AmortisedPosterior(network([observed, latents], rng))
    x = model.sample(6, rng)[0]
    terms = refvlm.vlb_terms(model, q, x)
    probabilities = expit(q.forward(x)[0])
    np.testing.assert_allclose(
        terms.reconstruction, definition.linear_reconstruction(model.decoder, probabilities, x), rtol=1e-11
    )
    value, error = refvlm.vlb(model, q, x, with_error=True)
    estimate = refvlm.vlb_estimate(model, q, x, rng, samples=3000)
    assert (np.abs(estimate.value - value) < 6.0 * estimate.standard_error).all()
    assert (error <= 1e-11 * (1 + np.abs(value))).all()


def test_a_certain_q_gives_the_log_joint_and_an_impossible_one_minus_infinity():
    rng = np.random.default_rng(4)
    model = shallow(70, (), 11, rng)
    z, x = binary(5, 70, rng), binary(5, 11, rng)
    q = refvlm.PerDatumPosterior(np.where(z == 1, np.inf, -np.inf))
    value, error = refvlm.vlb(model, q, x, with_error=True)
    assert (np.abs(value - refvlm.log_joint(model, x, z)) <= error + 1e-12).all()
    logits = model.prior.logits.copy()
    logits[0] = -np.inf
    degenerate = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), model.decoder)
    np.testing.assert_array_equal(np.isneginf(refvlm.vlb(degenerate, q, x)), z[:, 0] == 1)


@given(linear_problems(), st.integers(0, 2**32 - 1))
def test_the_gradient_without_a_sum_is_that_of_the_sum(problem, seed):
    model, q, x = problem
    weights = np.random.default_rng(seed).normal(size=len(x))
    summed = refvlm.grad_vlb(model, q, x, weights)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "SUMMED_LATENTS", 0)
        gradient = refvlm.grad_vlb(model, q, x, weights)
    assert list(gradient) == list(summed)
    scale = 1.0 + np.abs(model.decoder.weights[0]).sum()
    for name, value in gradient.items():
        np.testing.assert_allclose(value, summed[name], rtol=1e-11, atol=1e-13 * scale, err_msg=name)


def test_the_gradient_at_many_latents_is_the_slope_of_the_bound():
    """Central differences along a random direction in all parameters; K = 150, L = 13, N = 40, an encoder."""
    rng = np.random.default_rng(8)
    model = shallow(150, (), 13, rng, scale=2.0)
    q, x = refvlm.AmortisedPosterior(network([13, 150], rng)), binary(40, 13, rng)
    weights = rng.random(40)
    gradient = refvlm.grad_vlb(model, q, x, weights)
    direction = {name: rng.normal(size=value.shape) for name, value in gradient.items()}

    def moved(step):
        parts = {"model.": model, "posterior.": q}
        there = [
            part.with_parameters({n: v + step * direction[prefix + n] for n, v in part.parameters().items()})
            for prefix, part in parts.items()
        ]
        return weights @ refvlm.vlb(*there, x)

    step = 1e-4
    slope = (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step)
    wanted = sum((gradient[name] * direction[name]).sum() for name in gradient)
    assert abs(slope - wanted) < 1e-8 * sum(np.abs(gradient[name] * direction[name]).sum() for name in gradient)


def test_the_gradient_has_the_same_bits_for_any_workers_and_refuses_minus_infinity():
    rng = np.random.default_rng(9)
    model = shallow(60, (), 37, rng)
    q, x = refvlm.AmortisedPosterior(network([37, 60], rng)), binary(75, 37, rng)
    first = refvlm.grad_vlb(model, q, x, workers=1)
    again = refvlm.grad_vlb(model, q, x, workers=3)
    assert all(first[name].tobytes() == again[name].tobytes() for name in first)
    assert not np.any([value.any() for value in refvlm.grad_vlb(model, q, x[:0]).values()])
    logits = model.prior.logits.copy()
    logits[3] = np.inf
    degenerate = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), model.decoder)
    with pytest.raises(ValueError, match=r"^posterior: puts mass on a z of zero prior probability for row 0"):
        refvlm.grad_vlb(degenerate, q, x)
    pinned = np.random.default_rng(10).normal(size=(75, 60))
    pinned[:, 3] = np.inf
    gradient = refvlm.grad_vlb(degenerate, refvlm.PerDatumPosterior(pinned), x)
    assert gradient["model.prior.logits"][3] == 0.0
    assert not gradient["posterior.logits"][:, 3].any()
    assert all(np.isfinite(value).all() for value in gradient.values())


def test_learning_by_the_exact_bound_takes_any_number_of_latents():
    """K = 70: no draws, so that a small step never lowers the VLB; one phi for each row too."""
    rng = np.random.default_rng(11)
    x = shallow(3, (), 11, rng, scale=4.0).sample(50, rng)[0]
    for posterior in ("amortised", "per-datum"):
        fitted = refvlm.fit(
            x, latents=70, hidden=(), method="vlb", posterior=posterior, epochs=8, batch_size=None, optimiser="sgd",
            learning_rate=0.02,
        )  # fmt: skip
        curve = [record.vlb for record in fitted.history]
        assert np.diff(curve).min() > 0.0, posterior
        assert fitted.history[-1].log_px is None
    with pytest.raises(ValueError, match=r"^latents: got \(70,\), and method 'vlb' enumerates"):
        refvlm.fit(x, latents=70, hidden=(5,), method="vlb")


def test_bits_depend_on_neither_workers_nor_executor_nor_the_other_rows():
    rng = np.random.default_rng(5)
    model = shallow(80, (), 41, rng)
    q, x = refvlm.AmortisedPosterior(network([41, 80], rng)), binary(70, 41, rng)
    value, error = refvlm.vlb(model, q, x, workers=1, with_error=True)
    calls = []
    again, _ = refvlm.vlb(model, q, x, workers=3, with_error=True, progress=lambda *done: calls.append(done))
    assert again.tobytes() == value.tobytes()
    assert calls[-1][0] == calls[-1][1] > 1
    for pool in (ThreadPoolExecutor(2), ProcessPoolExecutor(2)):
        with pool as executor:
            assert refvlm.vlb(model, q, x, executor=executor).tobytes() == value.tobytes()
    part, part_error = refvlm.vlb(model, q, x[37:40], with_error=True)
    assert part.tobytes() == value[37:40].tobytes()
    assert part_error.tobytes() == error[37:40].tobytes()
    assert refvlm.vlb(model, q, x[:0]).shape == (0,)


def test_logits_that_are_too_large_are_summed_or_refused():
    rng = np.random.default_rng(6)
    large = shallow(63, (), 4, rng, scale=1e5)
    q, x = refvlm.AmortisedPosterior(network([4, 63], rng)), binary(3, 4, rng)
    with pytest.raises(ValueError, match=r"^decoder: got logits of up to .*e\+05, wanted at most 10000 .*vlb_estimate"):
        refvlm.vlb(large, q, x)
    few = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(21)), refvlm.MLP([large.decoder.weights[0][:21]], [np.ones(4)]))
    assert bounds.needs_sum(few)


@pytest.mark.parametrize("constant", ["MARGIN", "CUTOFF"])
def test_a_shorter_sum_over_nodes_moves_the_bound(constant, monkeypatch):
    rng = np.random.default_rng(7)
    model = shallow(30, (), 4, rng)
    q, x = refvlm.AmortisedPosterior(network([4, 30], rng)), binary(3, 4, rng)
    before = refvlm.vlb(model, q, x, with_error=True)[1]
    monkeypatch.setattr(bound_certificate.constants, constant, 5.0)
    assert (refvlm.vlb(model, q, x, with_error=True)[1] > before + 1e-9).all()
