"""Brackets of deep models by majorants from layer to layer: what the bounds rest on, and that they hold."""

from itertools import pairwise

import mpmath as mp
import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, network
from scipy.special import expit

import refvlm
from refvlm.enumeration import draws, sums
from refvlm.enumeration.engine import Engine
from refvlm.enumeration.kernels import envelope, lanes
from refvlm.inference import bounds, ground, layered_ground, mixture, partition


def by_layers(patch):
    """The layered way at every size."""
    patch.setattr(partition, "SHORT_SUM", -1)
    patch.setattr(partition, "STATES", -1)


def layers_of(sizes, rng, scale=1.0, prior_scale=1.0):
    """A model of linear decoders; sizes from the highest layer down to L."""
    model = refvlm.Bernoulli(rng.normal(size=sizes[0]) * prior_scale)
    for above, below in pairwise(sizes):
        model = refvlm.BernoulliLVM(model, network([above, below], rng, scale=scale))
    return model


@st.composite
def deep_problems(draw):
    """Two or three layers, 2 to 9 bits together, L up to 13; logits to ten thousand, certain bits, hostile rows."""
    depth = draw(st.integers(2, 3))
    sizes = draw(st.lists(st.integers(1, 13), min_size=depth + 2, max_size=depth + 2, unique=True))
    sizes = [min(size, 4) for size in sizes[:depth]] + sizes[depth:]
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 100.0, 1e4]))
    model = layers_of(sizes[: depth + 1], rng, scale, draw(st.sampled_from([0.0, 1.0, 30.0, 2000.0])))
    if draw(st.booleans()):
        logits = model.top.logits.copy()
        logits[0] = draw(st.sampled_from([np.inf, -np.inf]))
        prior = refvlm.Bernoulli(logits)
        for layer in reversed(model.layers):
            prior = refvlm.BernoulliLVM(prior, layer.decoder)
        model = prior
    rows = min(sizes[-1], 3)
    return model, model.sample(rows, rng)[0] if draw(st.booleans()) else binary(rows, model.observed, rng)


def samplers(model, x, boxes):
    """The sampler of each row from so many boxes, and the boxes."""
    base, engine = layered_ground.layered_ground(model), Engine(1)
    parts = partition.refined(base, x, base.whole(x, engine), np.full(len(x), boxes), engine)
    own = [parts.take(np.flatnonzero(parts.rows == n)) for n in range(len(x))]
    return [(mixture.sampler(base, x[n], part), part) for n, part in enumerate(own)]


def log_of(bits, logits):
    """log of the probability of bits under logits, by NumPy alone."""
    with np.errstate(invalid="ignore"):
        signed = np.where(bits == 1, logits, -logits)
    return -np.logaddexp(0.0, -signed).sum(axis=-1)


def all_draws(model, drawn, part, x):
    """For each box: every z of it, log pi_j q_j(z), log p(x, z) and log r, the first two by NumPy alone."""
    sizes = [layer.latents for layer in model.layers]
    starts = np.cumsum([0, *sizes])
    z = refvlm.bits.table(int(starts[-1]))
    for j, fixed in enumerate(part.fixed):
        inside = z[((fixed < 0) | (z == fixed)).all(axis=1)].astype(float)
        share = np.diff(drawn.mixture.upto, prepend=0.0)[j]
        log_q, log_p = np.full(len(inside), np.log(share)), np.zeros(len(inside))
        uniforms = np.zeros((len(inside), drawn.mixture.randoms))
        unit = 0
        below = np.tile(x.astype(float), (len(inside), 1))
        for d, layer in enumerate(model.layers):
            own = slice(starts[d], starts[d + 1])
            bits = inside[:, own]
            log_p += log_of(below, bits @ layer.decoder.weights[0] + layer.decoder.biases[0])
            above = inside[:, starts[d + 1] : starts[d + 1] + (sizes[d + 1] if d + 1 < len(sizes) else 0)]
            if d + 1 < len(sizes):
                logits = above @ model.layers[d + 1].decoder.weights[0] + model.layers[d + 1].decoder.biases[0]
            else:
                logits = np.tile(model.top.logits, (len(inside), 1))
                log_p += log_of(bits, logits)
            free = fixed[own] < 0
            tilted = logits[:, free] + part.logits[j, own][free]
            rare = np.maximum(np.ceil(np.minimum(expit(tilted), expit(-tilted)) * 2.0**53), 1.0) / 2.0**53
            likely = (bits[:, free] == 1) == (tilted > 0.0)
            log_q += np.where(likely, np.log1p(-rare), np.log(rare)).sum(axis=1)
            uniforms[:, unit : unit + sizes[d]] = np.where(bits == 1, 0.0, 1.0 - 2.0**-53)
            unit += -(-sizes[d] // 8) * 8
            below = bits
        boxes = np.full(len(inside), j)
        log_r = draws.log_ratios(drawn.mixture, boxes, uniforms)
        assert (draws.bits_of(drawn.mixture, boxes, uniforms) == inside[:, : sizes[0]]).all()
        yield inside, log_q, log_p, log_r


@given(deep_problems(), st.sampled_from([1, 2, 3, 7, 40]))
def test_the_ratios_of_all_codes_add_up_to_the_marginal_and_none_exceeds_one(problem, boxes):
    """E[r] = p(x) / U exactly, over every z of all layers, each in one box alone."""
    model, x = problem
    value, error = refvlm.log_marginal(model, x, with_error=True)
    for n, (drawn, part) in enumerate(samplers(model, x, boxes)):
        total, codes = -np.inf, 0
        for z, log_q, log_p, log_r in all_draws(model, drawn, part, x[n]):
            slack = drawn.rounding + 1e-12 * (1.0 + np.abs(log_p))
            exact = log_p - log_q - drawn.log_u
            assert (exact <= slack).all()
            assert (np.abs(log_r - np.minimum(exact, 0.0)) <= slack + 1e-9).all()
            total = np.logaddexp(total, np.logaddexp.reduce(log_q + log_r))
            codes += len(z)
        assert abs(total + drawn.log_u - value[n]) <= error[n] + drawn.rounding + 1e-12 * (1.0 + abs(value[n]))
        assert codes == 2 ** (sum(layer.latents for layer in model.layers) - np.isinf(model.top.logits).sum())


@given(deep_problems(), st.sampled_from([1, 2, 9]))
def test_the_exact_value_lies_between_the_bounds(problem, boxes):
    model, x = problem
    value, error = refvlm.log_marginal(model, x, with_error=True)
    with pytest.MonkeyPatch.context() as patch:
        by_layers(patch)
        certain = refvlm.bracket(model, x, boxes=boxes)
        drawn = refvlm.bracket(model, x, boxes=boxes, samples=300, rng=np.random.default_rng(0))
    assert (certain.kind, drawn.kind) == ("deterministic", "sampled")
    for between in (certain, drawn):
        assert (between.lower <= value + error).all()
        assert (between.upper >= value - error).all()
        assert between.mean_lower <= value.mean() + error.mean()
        assert between.mean_upper >= value.mean() - error.mean()


@given(st.integers(0, 2**32 - 1))
def test_the_line_of_an_interval_lies_above_and_touches(seed):
    """log[1 + sigmoid(a) (e^g - 1)] at 200 points of each of 64 intervals; the line is least at its point."""
    rng = np.random.default_rng(seed)
    low = rng.normal(size=64) * 10.0 ** rng.uniform(-2, 2, 64)
    high = low + rng.exponential(size=64) * 10.0 ** rng.uniform(-3, 2, 64)
    at, g = low + (high - low) * rng.random(64), rng.normal(size=64) * 10.0 ** rng.uniform(-3, 2, 64)
    slope, offset = lines(at, g, low, high)
    a = low + (high - low) * np.linspace(0.0, 1.0, 200)[:, None]
    curve = np.logaddexp(0.0, a + g) - np.logaddexp(0.0, a)
    assert (curve <= slope * a + offset + 1e-14 * (1.0 + np.abs(g) + np.abs(a))).all()
    chords = [
        curve[i] + (curve[j] - curve[i]) * (at - a[i]) / (a[j] - a[i])
        for i in range(0, 199, 9)
        for j in range(i + 1, 200, 9)
    ]
    around = [(a[i] <= at) & (at <= a[j]) for i in range(0, 199, 9) for j in range(i + 1, 200, 9)]
    most = np.max(np.where(around, chords, -np.inf), axis=0)  # no concave function above f is below any chord
    assert (slope * at + offset >= most - 1e-9 * (1.0 + np.abs(most))).all()
    assert np.median(slope * at + offset - most) < 0.05


@given(st.integers(0, 2**32 - 1))
def test_a_line_lies_above_wherever_it_is_said_to_touch(seed):
    """o(t) at 200 points of each of 64 intervals, the touching point anywhere in the concave part: a poor search."""
    rng = np.random.default_rng(seed)
    first = rng.normal(size=64) * 10.0 ** rng.uniform(-2, 2, 64)
    last = first + rng.exponential(size=64) * 10.0 ** rng.uniform(-3, 2, 64)
    h = np.abs(rng.normal(size=64)) * 10.0 ** rng.uniform(-3, 2, 64)
    p = np.maximum(first, 0.0) + rng.choice([0.0, 0.3, 1.0, 1.5], 64) * np.maximum(last - np.maximum(first, 0.0), 0.0)
    at, slope, offset = first + (last - first) * rng.random(64), np.zeros(64), np.zeros(64)
    lines_through(at, p, first, last, h, slope, offset)
    t = first + (last - first) * np.linspace(0.0, 1.0, 200)[:, None]
    curve = np.logaddexp(0.0, t + h) - np.logaddexp(0.0, t - h) - h
    assert (curve <= slope * t + offset + 1e-14 * (1.0 + h + np.abs(t))).all()


@numba.njit(error_model="numpy")
def lines_through(at, p, first, last, h, slopes, offsets):
    for i in range(0, len(at), 8):
        line = envelope.line(
            lanes.load_octet(at, i), lanes.load_octet(p, i), lanes.load_octet(first, i), lanes.load_octet(last, i),
            lanes.load_octet(h, i),
        )  # fmt: skip
        lanes.store(slopes, i, line[0])
        lanes.store(offsets, i, line[1])


@numba.njit(error_model="numpy")
def by_octets(at, g, low, high, slopes, offsets):
    for i in range(0, len(at), 8):
        line = envelope.envelope(
            lanes.load_octet(at, i), lanes.load_octet(g, i), lanes.load_octet(low, i), lanes.load_octet(high, i)
        )
        lanes.store(slopes, i, line[0])
        lanes.store(offsets, i, line[1])


def lines(at, g, low, high):
    slopes, offsets = np.zeros(64), np.zeros(64)
    by_octets(at, g, low, high, slopes, offsets)
    return slopes, offsets


def test_the_upper_bound_is_the_one_that_its_formula_gives():
    """log U in 50 digits from the tilts and points of the kernel, (3, 5) over L = 7; and it is near the best one."""
    rng = np.random.default_rng(3)
    model = layers_of([3, 5, 7], rng, scale=2.0)
    x = binary(2, 7, rng)
    boxes = layered_ground.layered_ground(model).whole(x, Engine(1))
    (w1, b1), (w2, b2) = ((each.decoder.weights[0], each.decoder.biases[0]) for each in model.layers)
    for n, row in enumerate(x):
        s, z1, z2 = 2.0 * row - 1.0, boxes.points[n, :5], boxes.points[n, 5:]
        with mp.workdps(50):
            total = mp.mpf(0)
            slopes = [1 / (1 + mp.exp(mp.mpf(v))) for v in (s * (z1 @ w1 + b1)).tolist()]
            for i, p in enumerate(slopes):
                total += p * s[i] * mp.mpf(b1[i]) + p * mp.log(p) + (1 - p) * mp.log(1 - p)
            alphas = []
            for k in range(5):
                g = mp.fsum(p * s[i] * mp.mpf(w1[k, i]) for i, p in enumerate(slopes))
                assert abs(g - mp.mpf(boxes.logits[n, k])) < 1e-13
                low, high = (mp.mpf(b2[k]) + mp.fsum(mp.mpf(v) for v in w2[:, k] if sign * v > 0) for sign in (-1, 1))
                alpha, beta = concave_line(mp.mpf(float(z2 @ w2[:, k] + b2[k])), g, low, high)
                alphas.append(alpha)
                total += beta + alpha * mp.mpf(b2[k])
            for j, c in enumerate(model.top.logits.tolist()):
                tilt = mp.fsum(alpha * mp.mpf(w2[j, k]) for k, alpha in enumerate(alphas))
                pi = 1 / (1 + mp.exp(-mp.mpf(c)))
                total += mp.log(1 - pi + pi * mp.exp(tilt))
        assert abs(total - mp.mpf(boxes.log_u[n])) < 2e-4, n  # how far the touching point is sought


def concave_line(at, g, low, high):
    """The least concave majorant of f on [low, high] at a point, as slope and offset, by bisection in 50 digits."""

    def f(a):
        return mp.log(1 + mp.exp(a + g)) - mp.log(1 + mp.exp(a))

    def slope(a):
        return 1 / (1 + mp.exp(-a - g)) - 1 / (1 + mp.exp(-a))

    turn = -g / 2
    first, last = (low, high) if g > 0 else (high, low)  # convex at the first end, concave towards the last
    toward = 1 if g > 0 else -1
    inner, outer = (max(low, turn), high) if g > 0 else (min(high, turn), low)
    if toward * (last - turn) <= 0:
        point = last
    else:
        for _ in range(150):
            middle = (inner + outer) / 2
            if f(middle) - f(first) - slope(middle) * (middle - first) < 0:
                inner = middle
            else:
                outer = middle
        point = outer
    if toward * (at - point) >= 0 and toward * (at - turn) >= 0:
        return slope(at), f(at) - slope(at) * at
    rise = (f(point) - f(first)) / (point - first)
    return rise, f(first) - rise * first


@pytest.mark.parametrize("fault", [-1e-3, -0.3])
def test_a_majorant_that_is_too_low_is_caught(fault, monkeypatch):
    """A planted fault: r exceeds 1 somewhere, or the sum over all codes is not p(x)."""
    rng = np.random.default_rng(5)
    model = layers_of([3, 4, 9], rng)
    x = model.sample(2, rng)[0]
    right = sums.majorants
    monkeypatch.setattr(sums, "majorants", lambda *given: (lambda b: b._replace(log_u=b.log_u + fault))(right(*given)))
    value = refvlm.log_marginal(model, x)
    for n, (drawn, part) in enumerate(samplers(model, x, 64)):
        parts = list(all_draws(model, drawn, part, x[n]))
        total = np.logaddexp.reduce(np.concatenate([log_q + log_r for _, log_q, _, log_r in parts])) + drawn.log_u
        assert abs(total - value[n]) > 1e-2 * abs(fault)


def test_boxes_fix_bits_of_both_layers_and_their_sum_falls():
    """(6, 9) over L = 14, strong weights: U of 1, 16, 64 and 512 boxes, and it ends near p(x)."""
    rng = np.random.default_rng(6)
    model = layers_of([6, 9, 14], rng, scale=3.0)
    x = model.sample(2, rng)[0]
    base, engine = layered_ground.layered_ground(model), Engine(1)
    value, boxes = refvlm.log_marginal(model, x), base.whole(x, engine)
    uppers = [ground.upper_bounds(base, boxes, 2)]
    for number in (16, 64, 512):
        boxes = partition.refined(base, x, boxes, np.full(2, number), engine)
        uppers.append(ground.upper_bounds(base, boxes, 2))
    gaps = np.array(uppers) - value
    assert (np.diff(gaps, axis=0) < 0.0).all()
    assert (gaps[-1] < 0.2 * gaps[0]).all()
    assert (boxes.fixed[:, :9] >= 0).any()
    assert (boxes.fixed[:, 9:] >= 0).any()


@pytest.mark.parametrize("seed", range(4))
def test_boxes_lose_little_where_a_few_steps_from_the_whole_lead_nowhere(seed):
    """(20, 30) over L = 40, logits to hundreds: a fixed bit of z_1 has a tangent, worse than the whole's line."""
    rng = np.random.default_rng(seed)
    model = layers_of([20, 30, 40], rng, scale=30.0)
    x, engine = model.sample(1, rng)[0], Engine(1)
    base = layered_ground.layered_ground(model)
    boxes = base.whole(x, engine)
    before = ground.upper_bounds(base, boxes, 1)
    for number in (2, 5, 16, 64):
        boxes = partition.refined(base, x, boxes, np.array([number]), engine)
        assert ground.upper_bounds(base, boxes, 1) <= before + 2.0  # tens with steps from the whole alone


@pytest.mark.parametrize(("sizes", "width"), [((20, 50, 30), 0.05), ((50, 100, 40), 0.1), ((9, 14, 60, 33), 0.1)])
def test_deep_models_of_many_latents_have_brackets_that_hold_the_estimate(sizes, width):
    """(50, 20), (100, 50) and (60, 14, 9) latents over other L: bounds at 1 - 1e-9, importance sampling within."""
    rng = np.random.default_rng(7)
    model = layers_of(sizes, rng)
    x = model.sample(2, rng)[0]
    result = refvlm.bracket(model, x, width=width, seconds=60.0, rng=rng)
    assert result.kind == "sampled"
    assert (result.upper - result.lower <= width).all()
    assert result.mean_upper - result.mean_lower < width
    certain = refvlm.bracket(model, x)
    assert (certain.lower <= result.upper).all()
    assert (certain.upper >= result.lower).all()
    q = refvlm.LayerwisePosterior([refvlm.PerDatumPosterior(np.zeros((2, n))) for n in reversed(sizes[:-1])])
    between = refvlm.decompose_bracket(model, q, x, width=width, seconds=60.0, rng=rng)
    assert (between.kl_lower <= between.kl_upper).all()
    assert (between.kl_lower > 0.0).all()


def test_draws_are_the_same_for_any_workers_and_can_be_repeated():
    rng = np.random.default_rng(8)
    model = layers_of([15, 25, 11], rng)
    x = model.sample(3, rng)[0]
    first = refvlm.bracket(model, x, seconds=1.0, rng=np.random.default_rng(1), workers=2)
    again = refvlm.bracket(model, x, samples=first.samples, boxes=first.boxes, rng=np.random.default_rng(1), workers=1)
    assert first.lower.tolist() == again.lower.tolist()
    assert first.upper.tolist() == again.upper.tolist()
    assert (first.mean_lower, first.mean_upper) == (again.mean_lower, again.mean_upper)


def test_draws_from_the_posterior_are_exact():
    """(3, 6) over L = 9 by rejection against the exact posterior: each code's count is binomial, at 1e-9 together."""
    rng = np.random.default_rng(9)
    model = layers_of([3, 6, 9], rng, scale=2.0)
    x = model.sample(1, rng)[0]
    exact = refvlm.posterior(model, x)[0]
    with pytest.MonkeyPatch.context() as patch:
        by_layers(patch)
        z = refvlm.sample_posterior(model, x, 20000, rng)[0]
        mean = refvlm.posterior_mean_bracket(model, x, rng)
    counts = np.bincount(z @ (1 << np.arange(6)), minlength=64)
    chi = ((counts - 20000 * exact) ** 2 / (20000 * exact))[20000 * exact > 5].sum()
    assert chi < 63 + 6.5 * np.sqrt(2 * 63) + 20
    assert (mean.lower <= refvlm.posterior_mean(model, x)).all()
    assert (mean.upper >= refvlm.posterior_mean(model, x)).all()


def test_logits_beyond_any_vlb_have_brackets_too():
    """(7, 30) over L = 9, logits to 1e5: below is log p(x, z) of one z until there are draws."""
    rng = np.random.default_rng(10)
    model = layers_of([7, 30, 9], rng, scale=1e5)
    assert bounds.largest_logits(model.decoder).max() > bounds.LARGEST_LOGIT
    x = model.sample(2, rng)[0]
    with pytest.MonkeyPatch.context() as patch:
        by_layers(patch)
        certain, drawn = refvlm.bracket(model, x), refvlm.bracket(model, x, samples=50_000, rng=rng)
    assert np.isfinite(certain.lower).all()
    assert (certain.lower <= drawn.upper).all()
    assert (drawn.lower <= certain.upper).all()
