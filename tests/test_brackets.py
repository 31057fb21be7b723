"""Brackets of log p(x): never broken where the sum is known, and of the right order where it is not."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, deep, shallow
from scipy.stats import binom

import refvlm
from refvlm.enumeration import kernels, sums
from refvlm.inference import bounds, brackets, mixture, partition, sampled_bracket
from refvlm.inference.context_ground import ContextGround
from refvlm.inference.ground import log_sums, upper_bounds
from refvlm.learning.per_datum import mean_field


def never_exact(patch):
    """The deterministic way at every K."""
    patch.setattr(bounds, "SUMMED_LATENTS", 0)
    patch.setattr(partition, "SHORT_SUM", -1)


def lower_the_tangents(patch, fault):
    """A planted fault: every log U is too low, or too high."""
    right = sums.majorants

    def wrong(*given):
        boxes = right(*given)
        return boxes._replace(log_u=boxes.log_u + fault)

    patch.setattr(sums, "majorants", wrong)


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
    lower_the_tangents(monkeypatch, fault)
    low = refvlm.bracket(model, x)
    monkeypatch.undo()
    assert (low.upper < refvlm.log_marginal(model, x)).all()


def test_the_upper_bound_is_the_one_that_its_formula_gives_and_no_other_lambda_is_better():
    """log U in 50 digits at the kernel's tangent point, K = 7, L = 12; random other lambdas lie above."""
    rng = np.random.default_rng(2)
    model = shallow(7, (), 12, rng, scale=2.0)
    x = binary(3, 12, rng)
    ground = partition.ground_of(model)
    start = np.tile(np.exp(ground.contexts.bits[0, 1]), (3, 1))
    rows, states, free = np.arange(3), np.zeros(3, np.int64), np.full((3, 7), -1, np.int8)
    value, size, tilted, *_ = kernels.tangent.tangent(
        ground.decoder, 0, 3, ground.contexts, x, rows, states, free, start, 60, 0.0
    )
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
    for model in (shallow(22, (), 5, rng), shallow(27, (), 40, rng), shallow(4, (3,), 6, rng), deep(2, 4, 6, rng)):
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


def sampled(model, x, rng, **options):
    """`bracket` by draws at any K."""
    with pytest.MonkeyPatch.context() as patch:
        never_exact(patch)
        return refvlm.bracket(model, x, rng=rng, **options)


def samplers(model, x, boxes):
    """The sampler of each row from so many boxes, the boxes, and 2**K uniforms that force every z."""
    engine = refvlm.inference.brackets.Engine(1)
    ground = partition.ground_of(model)
    parts = partition.refined(ground, x, ground.whole(x, engine), np.full(len(x), boxes), engine)
    own = [parts.take(np.flatnonzero(parts.rows == n)) for n in range(len(x))]
    return [(mixture.sampler(ground, x[n], part), part) for n, part in enumerate(own)]


def every_draw(drawn, latents):
    """log(pi_j q_j(z)), log r and z for every box and z that can be drawn: uniforms of 0 and 1 - 2**-53."""
    z = refvlm.bits.table(latents)
    shares = np.diff(drawn.mixture.upto, prepend=0.0)
    for j, share in enumerate(shares):
        p = drawn.mixture.probabilities[j]
        chance = np.where(z == 1, p, 1.0 - p)
        possible = (chance > 0.0).all(axis=1)
        uniforms = np.where(z[possible] == 1, 0.0, 1.0 - 2.0**-53)
        log_r = kernels.ratios.log_ratios(drawn.mixture, np.full(len(uniforms), j), uniforms)
        yield np.log(share) + np.log(chance[possible]).sum(axis=1), log_r, z[possible]


@given(linear_problems(), st.sampled_from([1, 2, 3, 7, 40]))
def test_the_ratios_of_all_codes_add_up_to_the_marginal_and_none_exceeds_one(problem, boxes):
    """E[r] = p(x) / U exactly, over every z of every box, each drawn in one box alone."""
    model, x = problem
    value, error = refvlm.log_marginal(model, x, with_error=True)
    for n, (drawn, part) in enumerate(samplers(model, x, boxes)):
        total, codes = -np.inf, 0
        for log_q, log_r, z in every_draw(drawn, model.latents):
            total = np.logaddexp(total, np.logaddexp.reduce(log_q + log_r))
            codes += len(z)
            exact = refvlm.log_joint(model, np.repeat(x[n : n + 1], len(z), axis=0), z) - log_q - drawn.log_u
            assert (exact <= drawn.rounding).all()
            np.testing.assert_allclose(log_r, np.minimum(exact, 0.0), atol=drawn.rounding + 1e-9)
        assert abs(total + drawn.log_u - value[n]) <= error[n] + drawn.rounding + 1e-12 * (1.0 + abs(value[n]))
        assert codes == 2 ** np.isfinite(model.prior.logits).sum()
        assert drawn.log_u >= log_sums(part.log_u, part.rows * 0, 1)[0][0] - 1e-12 * abs(drawn.log_u)


def test_boxes_are_a_partition_and_their_sum_falls_with_every_halving():
    """K = 9, L = 14, strong weights: each of 2**9 codes in one box; U never rises, and ends at p(x)."""
    rng = np.random.default_rng(23)
    model, x = shallow(9, (), 14, rng, scale=6.0), binary(3, 14, rng)
    engine = refvlm.inference.brackets.Engine(1)
    ground, z = partition.ground_of(model), refvlm.bits.table(9)
    boxes = ground.whole(x, engine)
    before = upper_bounds(ground, boxes, 3)
    for number in (2, 3, 5, 9, 40, 511, 512, 600):
        boxes = partition.refined(ground, x, boxes, np.array([number, number, 1]), engine)
        after = upper_bounds(ground, boxes, 3)
        assert (after <= before + 1e-12).all()
        assert np.bincount(boxes.rows).tolist() == [min(number, 512), min(number, 512), 1]
        for row in range(3):
            fixed = boxes.fixed[boxes.rows == row]
            inside = ((fixed[:, None] < 0) | (fixed[:, None] == z[None])).all(axis=2)
            assert (inside.sum(axis=0) == 1).all()
        before = after
    np.testing.assert_allclose(before[:2], refvlm.log_marginal(model, x[:2]), rtol=1e-12)


def test_the_sums_do_not_depend_on_where_halving_paused():
    rng = np.random.default_rng(24)
    model, x = shallow(30, (), 17, rng, scale=3.0), binary(2, 17, rng)
    engine = refvlm.inference.brackets.Engine(1)
    ground = partition.ground_of(model)
    root = ground.whole(x, engine)
    number = 1
    while number < 60:
        number = partition.next_number(number)
    at_once = partition.refined(ground, x, root, np.array([number, 5]), engine)
    paused = partition.refined(ground, x, root, np.array([8, 5]), engine)
    paused = partition.refined(ground, x, paused, np.array([number, 5]), refvlm.inference.brackets.Engine(3))
    for a, b in zip(at_once, paused, strict=True):
        assert a.tobytes() == b.tobytes()


def test_boxes_without_draws_bring_both_bounds_closer():
    rng = np.random.default_rng(25)
    model, x = shallow(10, (), 21, rng, scale=4.0), binary(3, 21, rng)
    value, error = refvlm.log_marginal(model, x, with_error=True)
    before = np.full(3, np.inf)
    for boxes in (1, 30, 300):
        result = sampled(model, x, None, boxes=boxes)
        assert result.kind == "deterministic"
        assert result.boxes.tolist() == [boxes] * 3
        assert (result.lower <= value + error).all()
        assert (result.upper >= value - error).all()
        assert (result.upper - result.lower < before).all()
        before = result.upper - result.lower
    assert (before < 0.5).all()
    narrow = sampled(model, x, None, width=0.01)
    assert (narrow.upper - narrow.lower <= 0.01).all()
    timed = sampled(model, x, None, seconds=0.3)
    assert (timed.boxes > 30).all()


def test_a_bit_that_is_rarer_than_the_grid_is_drawn_as_often_as_the_grid_allows():
    rng = np.random.default_rng(7)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([-60.0, 50.0, np.inf, -np.inf, 0.3]), shallow(5, (), 6, rng).decoder)
    for drawn, _ in samplers(model, binary(2, 6, rng), 1):
        p = drawn.mixture.probabilities[0]
        assert p[0] == 2.0**-53
        assert p[2:4].tolist() == [1.0, 0.0]
        assert 1.0 - p[1] >= 2.0**-53
        assert ((p * 2.0**53) % 1.0 == 0.0).all()


def test_a_box_that_is_rarer_than_the_grid_is_drawn_as_often_as_the_grid_allows():
    """One bit decides 100 nats: its rarer box has the share 2**-53, and U grows for that."""
    decoder = refvlm.MLP([np.array([[100.0, 0.1], [0.2, 0.3]])], [np.array([-50.0, 0.0])])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.0, 0.5]), decoder)
    ((drawn, part),) = samplers(model, np.ones((1, 2), np.uint8), 2)
    shares = np.diff(drawn.mixture.upto, prepend=0.0)
    if part.fixed[0, 0] < 0:  # the other bit was halved: take the halves of both
        ((drawn, part),) = samplers(model, np.ones((1, 2), np.uint8), 4)
        shares = np.diff(drawn.mixture.upto, prepend=0.0)
    assert shares.min() == 2.0**-53
    assert drawn.mixture.upto[-1] == 1.0
    total = np.logaddexp.reduce(np.concatenate([log_q + log_r for log_q, log_r, _ in every_draw(drawn, 2)]))
    assert abs(total + drawn.log_u - refvlm.log_marginal(model, np.ones((1, 2)))[0]) < 1e-11


def test_a_bit_that_the_grid_makes_even_counts_as_its_value_one():
    """Tilts of -2.2e-16: the rarer value has half a grid step less than 1/2, and is rounded up to it."""
    model = shallow(4, (), 7, np.random.default_rng(21))
    x = binary(1, 7, np.random.default_rng(22))
    ground = partition.ground_of(model)
    part = ground.whole(x, refvlm.inference.brackets.Engine(1))
    part = part._replace(logits=np.full((1, 4), -2.2e-16), log_u=np.array([40.0]), size=np.array([100.0]))
    drawn = mixture.sampler(ground, x[0], part)
    assert drawn.mixture.probabilities.tolist() == [[0.5] * 4]
    ((log_q, log_r, _),) = every_draw(drawn, 4)
    total = np.logaddexp.reduce(log_q + log_r) + drawn.log_u
    assert abs(total - refvlm.log_marginal(model, x)[0]) < 1e-11


@pytest.mark.parametrize("confidence", [1.0 - 1e-9, 0.9, 0.5])
def test_sampled_brackets_hold_the_exact_value_as_often_as_they_say(confidence):
    """240 problems of 3 rows; all rows of a call together. At 1 - 1e-9 never broken; else within a binomial bound."""
    broken, calls = 0, 240
    for seed in range(calls):
        rng = np.random.default_rng([8, seed])
        latents, observed = int(rng.integers(1, 9)), int(rng.integers(9, 20))
        model = shallow(latents, (), observed, rng, scale=float(rng.choice([0.3, 1.0, 4.0])))
        x = model.sample(3, rng)[0] if seed % 2 else binary(3, observed, rng)
        value, error = refvlm.log_marginal(model, x, with_error=True)
        result = sampled(model, x, rng, samples=300, confidence=confidence)
        assert result.kind == "sampled"
        assert result.samples.tolist() == [300] * 3
        assert result.confidence == confidence
        outside = (result.lower > value + error) | (result.upper < value - error)
        broken += outside.any()
    assert broken <= binom.isf(1e-6, calls, 1.0 - confidence)


@pytest.mark.parametrize("boxes", [1, 4])
def test_a_thousandth_less_in_the_majorant_is_caught_by_the_sum_over_all_codes(monkeypatch, boxes):
    """A planted fault: log U too low by 1e-3, so that ratios are cut off at 1. No weights, so that r is 1 otherwise."""
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -0.4, 0.1]), refvlm.MLP([np.full((3, 5), 1e-9)], [np.ones(5)]))
    x = binary(1, 5, np.random.default_rng(9))
    lower_the_tangents(monkeypatch, -1e-3)
    ((drawn, _),) = samplers(model, x, boxes)
    total = np.logaddexp.reduce(np.concatenate([log_q + log_r for log_q, log_r, _ in every_draw(drawn, 3)]))
    assert total + drawn.log_u < refvlm.log_marginal(model, x)[0] - 0.9e-3


def test_draws_are_the_same_for_any_workers_and_can_be_repeated():
    model, x = shallow(70, (), 19, np.random.default_rng(10)), binary(2, 19, np.random.default_rng(11))
    first = refvlm.bracket(model, x, samples=9000, rng=np.random.default_rng(1), workers=1)
    again = refvlm.bracket(model, x, samples=9000, rng=np.random.default_rng(1), workers=3)
    other = refvlm.bracket(model, x, samples=9000, rng=np.random.default_rng(2))
    assert first.lower.tobytes() == again.lower.tobytes()
    assert first.upper.tobytes() == again.upper.tobytes()
    assert first.lower.tobytes() != other.lower.tobytes()
    assert first.boxes.tolist() == again.boxes.tolist()
    assert first.mean_lower == again.mean_lower
    timed = refvlm.bracket(model, x, seconds=0.5, rng=np.random.default_rng(3))
    assert (timed.boxes > 1).all()
    repeated = refvlm.bracket(model, x, samples=timed.samples, boxes=timed.boxes, rng=np.random.default_rng(3))
    for a, b in zip(timed, repeated, strict=True):
        assert np.array_equal(a, b)


def test_each_way_to_stop_stops():
    model, x = shallow(64, (), 50, np.random.default_rng(12)), binary(3, 50, np.random.default_rng(13))
    wide = refvlm.bracket(model, x, width=0.1, rng=np.random.default_rng(0))
    assert (wide.upper - wide.lower <= 0.1 + 1e-9).all()
    narrow = refvlm.bracket(model, x, width=0.03, seconds=60.0, rng=np.random.default_rng(0))
    assert (narrow.upper - narrow.lower <= 0.03 + 1e-9).all()
    assert (narrow.samples > wide.samples).all()
    start = time.monotonic()
    refvlm.bracket(model, x, width=1e-9, seconds=0.5, rng=np.random.default_rng(0))
    assert time.monotonic() - start < 3.0
    many = binary(400, 50, np.random.default_rng(14))
    start = time.monotonic()
    cut = refvlm.bracket(model, many, width=1e-9, seconds=0.7, rng=np.random.default_rng(0))
    assert time.monotonic() - start < 4.0
    assert (cut.samples == 0).any()
    assert np.isfinite(cut.lower).all()
    few = refvlm.bracket(model, x, samples=1, rng=np.random.default_rng(0))
    assert few.samples.tolist() == [1, 1, 1]
    deterministic = refvlm.bracket(model, x)
    for result in (wide, narrow, few):
        assert (result.lower <= deterministic.upper).all()
        assert (result.upper >= deterministic.lower).all()
    assert wide.mean_lower <= wide.mean_upper <= wide.mean_lower + 0.1 + 1e-9


def test_a_width_out_of_reach_is_refused_with_what_was_reached():
    model = shallow(120, (), 400, np.random.default_rng(14), scale=8.0)
    x = model.sample(1, np.random.default_rng(15))[0]
    with pytest.raises(ValueError, match=r"^width: got 0.001, which takes about .* draws for row 0 .* seconds"):
        refvlm.bracket(model, x, width=0.001, rng=np.random.default_rng(0))


def test_an_interrupt_ends_the_draws_and_keeps_what_was_reached(monkeypatch):
    model, x = shallow(64, (), 20, np.random.default_rng(16)), binary(2, 20, np.random.default_rng(17))
    whole, rounds = sampled_bracket._Group._draw, []

    def interrupted(*given):
        if len(given) == 2:  # no pilot
            rounds.append(1)
            if len(rounds) == 3:
                raise KeyboardInterrupt
        return whole(*given)

    monkeypatch.setattr(sampled_bracket._Group, "_draw", interrupted)
    result = refvlm.bracket(model, x, width=1e-6, rng=np.random.default_rng(0))
    assert (result.samples > 0).all()
    assert (result.upper - result.lower < 1.0).all()
    rounds[:] = [1, 1]
    early = refvlm.bracket(model, x, width=1e-6, rng=np.random.default_rng(0))
    deterministic = refvlm.bracket(model, x)
    assert early.samples.tolist() == [0, 0]
    assert (early.boxes > 1).all()
    assert (early.lower <= deterministic.lower + 1e-9).all()
    assert (early.upper < deterministic.upper).all()


def test_an_interrupt_between_groups_of_rows_keeps_what_the_others_reached(monkeypatch):
    """20 rows are two groups; the interrupt comes while the tangents of the second are found."""
    model, x = shallow(40, (), 20, np.random.default_rng(30)), binary(20, 20, np.random.default_rng(31))
    right, calls = ContextGround.whole, []

    def interrupted(*given):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return right(*given)

    monkeypatch.setattr(ContextGround, "whole", interrupted)
    result = refvlm.bracket(model, x, samples=5000, rng=np.random.default_rng(0))
    assert result.samples.tolist() == [5000] * 16 + [0] * 4
    assert np.isfinite(result.lower).all()


def test_kl_lies_between_its_bounds_and_the_identity_holds():
    """K = 6, where kl is exact; q off the posterior, and one that puts mass on an impossible z."""
    rng = np.random.default_rng(19)
    model, x = shallow(6, (), 9, rng, scale=2.0), binary(4, 9, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(4, 6)) * 2.0)
    exact = refvlm.decompose(model, q, x)
    for options in ({}, {"samples": 5000, "rng": np.random.default_rng(0)}):
        with pytest.MonkeyPatch.context() as patch:
            never_exact(patch)
            result = refvlm.decompose_bracket(model, q, x, **options)
            lower, upper = refvlm.kl_bracket(model, q, x, **options)
        assert (result.kl_lower <= exact.kl + exact.kl_error).all()
        assert (result.kl_upper >= exact.kl - exact.kl_error).all()
        assert (np.abs(result.vlb - exact.vlb) <= result.vlb_error + exact.vlb_error).all()
        assert result.log_px.kind == ("sampled" if options else "deterministic")
        width = result.log_px.upper - result.log_px.lower
        assert (result.kl_upper - result.kl_lower <= width + 3 * result.vlb_error).all()
        if not options:
            assert lower.tobytes() == result.kl_lower.tobytes()
            assert upper.tobytes() == result.kl_upper.tobytes()
    summed = refvlm.decompose_bracket(model, q, x)
    assert summed.log_px.kind == "exact"
    np.testing.assert_allclose(summed.kl_upper, exact.kl, atol=1e-12)
    degenerate = refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf, *model.prior.logits[1:]]), model.decoder)
    lower, upper = refvlm.kl_bracket(degenerate, q, x)
    assert np.isposinf(lower).all()
    assert np.isposinf(upper).all()


def test_many_latents_have_a_decomposition_and_its_gap_closes_at_the_best_q():
    rng = np.random.default_rng(20)
    model = shallow(80, (), 30, rng, scale=0.5)
    x = model.sample(3, rng)[0]
    encoder = refvlm.AmortisedPosterior(refvlm.MLP.random([30, 80], rng))
    best = mean_field(model, x)
    options = {"width": 0.01, "seconds": 20.0}
    off = refvlm.decompose_bracket(model, encoder, x, rng=np.random.default_rng(0), **options)
    lower, upper = refvlm.kl_bracket(model, best, x, rng=np.random.default_rng(0), **options)
    assert (upper - lower < 0.0101).all()
    assert (upper < off.kl_lower).all()
    with pytest.raises(ValueError, match=r"kl_bracket, decompose_bracket, sample_posterior"):
        refvlm.kl(model, encoder, x)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"samples": 10}, ValueError, "samples: got 10 without rng"),
        ({"rng": np.random.default_rng(0)}, ValueError, "rng: got one without width, seconds or samples"),
        ({"rng": 3, "samples": 10}, TypeError, "rng: got int 3, wanted a numpy.random.Generator"),
        ({"width": 0.0}, ValueError, "width: got float 0.0, wanted a positive number"),
        ({"seconds": -1.0}, ValueError, "seconds: got float -1.0, wanted a positive number"),
        ({"confidence": 1.0}, ValueError, "confidence: got float 1.0, wanted a number above 0 and below 1"),
        ({"samples": 0, "rng": np.random.default_rng(0)}, ValueError, "samples: got 0, wanted at least 1"),
        ({"boxes": 0}, ValueError, "boxes: got 0, wanted at least 1"),
        ({"boxes": [1, 2, 3]}, ValueError, r"boxes: got int64 of shape \(3,\), wanted an integer, or one for each row"),
        ({"boxes": [1, -2]}, ValueError, "boxes: got -2 for row 1, wanted at least 0"),
        ({"boxes": [1.0, 2.0]}, ValueError, r"boxes: got float64 of shape \(2,\), wanted an integer"),
        ({"boxes": 1.5}, TypeError, "boxes: got float 1.5, wanted an integer"),
    ],
)
def test_bad_arguments_are_refused(options, error, message):
    rng = np.random.default_rng(18)
    with pytest.raises(error, match=f"^{message}"):
        refvlm.bracket(shallow(64, (), 6, rng), binary(2, 6, rng), **options)


@st.composite
def deep_problems(draw):
    """Layers of up to 7, 4 and perhaps 3 bits over L up to 12, linear; a state of the layer above may be impossible."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    low, high, observed = draw(st.sampled_from([(7, 4, 9), (5, 2, 12), (1, 3, 4), (6, 1, 2)]))
    scale = draw(st.sampled_from([0.3, 1.0, 5.0]))
    logits = rng.normal(size=high)
    if draw(st.booleans()):
        logits[0] = np.inf
    above = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), shallow(high, (), low, rng, scale=scale).decoder)
    if draw(st.booleans()):
        above = refvlm.BernoulliLVM(shallow(3, (), high, rng), above.decoder)
    model = refvlm.BernoulliLVM(above, shallow(low, (), observed, rng, scale=scale).decoder)
    return model, binary(3, observed, rng)


@given(deep_problems(), st.sampled_from([1, 40]))
def test_deep_models_have_brackets_too_that_hold_the_exact_value(problem, boxes):
    """A box for each possible state of the layer above: E[r] over all of them is p(x) / U."""
    model, x = problem
    value, error = refvlm.log_marginal(model, x, with_error=True)
    with pytest.MonkeyPatch.context() as patch:
        never_exact(patch)
        result = refvlm.bracket(model, x, boxes=boxes)
        drawn = refvlm.bracket(model, x, boxes=boxes, samples=300, rng=np.random.default_rng(0))
        rows = samplers(model, x, boxes)
    assert (result.kind, drawn.kind) == ("deterministic", "sampled")
    for between in (result, drawn):
        assert (between.lower <= value + error).all()
        assert (between.upper >= value - error).all()
        assert between.mean_lower <= value.mean() + error.mean()
        assert between.mean_upper >= value.mean() - error.mean()
        assert (between.boxes >= min(boxes, 2**model.latents)).all()
    for n, (row, _) in enumerate(rows):
        parts = [log_q + log_r for log_q, log_r, _ in every_draw(row, model.latents)]
        total = np.logaddexp.reduce(np.concatenate(parts)) + row.log_u
        assert abs(total - value[n]) <= error[n] + row.rounding + 1e-12 * (1.0 + abs(value[n]))


def test_a_context_that_is_left_out_is_caught(monkeypatch):
    """A planted fault: one state of the layer above is forgotten, and log p(x) is above the upper bound."""
    rng = np.random.default_rng(26)
    model = refvlm.BernoulliLVM(shallow(2, (), 5, rng, scale=0.1), shallow(5, (), 8, rng, scale=0.1).decoder)
    x = binary(2, 8, rng)
    value = refvlm.log_marginal(model, x)
    never_exact(monkeypatch)
    right = partition.ground_of(model)
    contexts = type(right.contexts)(*(column[1:].copy() for column in right.contexts))
    less = replace(right, contexts=contexts, logits=right.logits[1:])
    monkeypatch.setattr(brackets, "ground_of", lambda _: less)
    assert (refvlm.bracket(model, x).upper < value).all()


def test_a_deep_model_of_many_latents_has_a_bracket_that_holds_the_estimate():
    """(60, 8) over L = 30: 256 states of the upper layer; and 13 bits below a hidden layer are refused."""
    rng = np.random.default_rng(27)
    model = refvlm.BernoulliLVM(shallow(8, (), 60, rng), shallow(60, (), 30, rng).decoder)
    x = model.sample(3, rng)[0]
    result = refvlm.bracket(model, x, width=0.05, seconds=20.0, rng=rng)
    assert result.kind == "sampled"
    assert (result.upper - result.lower < 0.051).all()
    assert (result.boxes >= 256).all()
    prior = refvlm.ChainPosterior(
        [
            refvlm.AmortisedPosterior(refvlm.MLP([np.zeros((30, 60))], [np.zeros(60)])),
            refvlm.AmortisedPosterior(refvlm.MLP([np.zeros((60, 8))], [model.prior.prior.logits])),
        ]
    )
    estimate = refvlm.log_marginal_estimate(model, prior, x, rng, samples=400_000)
    assert (estimate.value < result.upper + 6 * estimate.standard_error).all()
    assert (estimate.value > result.lower - 6 * estimate.standard_error).all()
    wide = refvlm.BernoulliLVM(shallow(13, (4,), 63, rng), shallow(63, (), 30, rng).decoder)
    with pytest.raises(ValueError, match=r"^latents: got 63"):
        refvlm.bracket(wide, x)


def test_logits_beyond_any_vlb_have_brackets_too():
    """K = 50 and 70, L = 9, logits to 1e5: below is log p(x, z) of a z until there are draws."""
    rng = np.random.default_rng(28)
    for latents in (50, 70):
        decoder = refvlm.MLP([rng.normal(size=(latents, 9)) * 1e4], [rng.normal(size=9)])
        model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), decoder)
        assert bounds.needs_sum(model)
        x = model.sample(2, rng)[0]
        certain, drawn = refvlm.bracket(model, x), refvlm.bracket(model, x, samples=50_000, rng=rng)
        assert np.isfinite(certain.lower).all()
        assert (certain.lower <= drawn.upper).all()
        assert (drawn.upper - drawn.lower < 3.0).all()


def test_bounds_on_kl_come_from_as_many_boxes_as_are_asked_for():
    rng = np.random.default_rng(29)
    model, x = shallow(64, (), 20, rng, scale=2.0), binary(2, 20, rng)
    q = refvlm.PerDatumPosterior(np.zeros((2, 64)))
    one, many = refvlm.kl_bracket(model, q, x), refvlm.kl_bracket(model, q, x, boxes=64)
    whole = refvlm.decompose_bracket(model, q, x, boxes=64)
    assert (many[1] - many[0] < one[1] - one[0]).all()
    assert np.array_equal(many[0], whole.kl_lower)
