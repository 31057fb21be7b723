"""refvlm.testing: what passes, what fails and how it is named; the testers are tested with wrong implementations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import binary, shallow

import refvlm
import refvlm.testing as rt
from refvlm import bits
from refvlm import gradient_estimators as ge
from refvlm.conformance.mistakes import OF_DRAWS, name_of
from refvlm.conformance.plain import Plain
from refvlm.conformance.problems import from_model
from refvlm.model.bernoulli import sigmoid
from refvlm.testing import samples
from refvlm.testing.estimators import one_row
from refvlm.testing.gradients import RANK, Whitened
from refvlm.testing.strategies import models, problems

K, H, E, L, N = 4, 7, 9, 6, 5


@pytest.fixture(scope="module")
def world():
    """A model, q, five rows, the first alone, and its distribution over z."""
    rng = np.random.default_rng(1)
    decoder = refvlm.MLP.random([K, H, L], rng, scale=1.5)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.5, -1.0, 1.5, 0.2]), decoder)
    q = refvlm.AmortisedPosterior(refvlm.MLP.random([L, E, K], rng))
    x = model.sample(N, rng)[0]
    return model, q, x, x[:1], one_row(model, q, x[:1])


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def draw_z(world, rng):
    _, q, _, x1, _ = world
    phi = sigmoid(q.forward(x1)[0])
    return lambda n: (rng.random((n, K)) < phi).astype(np.uint8)


def draw_of(values, world, rng):
    """An estimator whose value depends on z alone, and z from q."""
    z = draw_z(world, rng)
    if isinstance(values, dict):
        return lambda n: (lambda c: {name: v[c] for name, v in values.items()})(bits.codes_of(z(n)))
    return lambda n: values[bits.codes_of(z(n))]


# Numbers -----------------------------------------------------------------------------------------------------------


@given(problems(infinite=True))
def test_refvlm_is_close_to_itself_whatever_the_weights(problem):
    model, q, x = problem
    rt.assert_log_marginal_close(refvlm.log_marginal(model, x), model, x)
    rt.assert_vlb_close(refvlm.vlb(model, q, x), model, q, x)
    rt.assert_grad_close(refvlm.grad_log_marginal(model, x), model, x)


@given(problems(deep=True))
@settings(max_examples=20)
def test_deep_ones_too(problem):
    model, q, x = problem
    rt.assert_log_marginal_close(refvlm.log_marginal(model, x), model, x)
    rt.assert_vlb_close(refvlm.vlb(model, q, x), model, q, x)
    rt.assert_grad_close(refvlm.grad_vlb(model, q, x), model, x, posterior=q)


class Single(Plain):
    """A plain program in float32."""

    dtype = np.float32


@given(problems(), st.sampled_from(["float64", "float32"]))
def test_no_plain_program_is_accused_of_its_rounding(problem, precision):
    model, q, x = problem
    program = {"float64": Plain, "float32": Single}[precision]

    def answer(quantity):
        return program(from_model(quantity, model, q, {"x": x.astype(float)})).answer()

    rt.assert_log_marginal_close(answer("log_marginal"), model, x, precision=precision)
    rt.assert_vlb_close(answer("vlb"), model, q, x, precision=precision)
    rt.assert_grad_close(answer("grad_log_marginal"), model, x, precision=precision)
    rt.assert_grad_close(answer("grad_vlb"), model, x, posterior=q, precision=precision)


@given(problems(most_latents=4))
@settings(max_examples=30)
def test_what_rounding_explains_is_small_enough_to_see_a_forgotten_term(problem):
    model, q, x = problem
    forgotten = refvlm.vlb(model, q, x) - refvlm.vlb_terms(model, q, x).entropy
    if refvlm.vlb_terms(model, q, x).entropy.max() > 1e-3:
        with pytest.raises(AssertionError):
            rt.assert_vlb_close(forgotten, model, q, x)


def test_a_tolerance_of_zero_is_one(world):
    model, _, x, _, _ = world
    rt.assert_log_marginal_close(refvlm.log_marginal(model, x), model, x, tolerance=0.0)
    with pytest.raises(AssertionError):
        rt.assert_log_marginal_close(np.nextafter(refvlm.log_marginal(model, x), 0), model, x, tolerance=0.0)


@given(models(most_latents=3, most_observed=5, deep=True))
@settings(max_examples=10)
def test_strategies_never_make_square_models(model):
    assert len({model.latents, model.observed, model.prior.latents}) == 3 or model.prior.latents == model.observed
    assert model.latents != model.observed


def test_a_plain_float32_program_is_close_as_float32_and_named_as_float64(world):
    model, _, x, _, _ = world
    decoder = model.decoder
    parts = [a.astype(np.float32) for a in (*decoder.weights, *decoder.biases, model.prior.logits)]
    z = bits.table(K).astype(np.float32)
    logits = np.tanh(z @ parts[0] + parts[2]) @ parts[1] + parts[3]
    joint = (x[:, None] * logits - np.logaddexp(np.float32(0), logits)).sum(-1)
    joint = joint + (z * parts[4] - np.logaddexp(np.float32(0), parts[4])).sum(-1)
    single = np.log(np.exp(joint).sum(1))
    assert single.dtype == np.float32
    rt.assert_log_marginal_close(single, model, x, precision="float32")
    with pytest.raises(AssertionError, match="float32 explains it"):
        rt.assert_log_marginal_close(single, model, x)


@pytest.mark.parametrize("change", [1e-9, -1e-6, 1.0, np.nan, np.inf])
def test_one_wrong_row_is_enough(change, world):
    model, q, x, _, _ = world
    for desired, check in (
        (refvlm.log_marginal(model, x), lambda a: rt.assert_log_marginal_close(a, model, x)),
        (refvlm.vlb(model, q, x), lambda a: rt.assert_vlb_close(a, model, q, x)),
    ):
        desired[3] += change
        with pytest.raises(AssertionError, match=r"entry \[3\].*1 of 5 wrong"):
            check(desired)


def test_known_mistakes_are_named(world):
    model, q, x, _, _ = world
    terms = refvlm.vlb_terms(model, q, x)
    with pytest.raises(AssertionError, match=r"it equals that with the entropy term -log q\(z\|x\) left out"):
        rt.assert_vlb_close(terms.prior + terms.reconstruction, model, q, x)
    with pytest.raises(AssertionError, match="K log 2 too low"):
        rt.assert_log_marginal_close(refvlm.log_marginal(model, x) - K * np.log(2), model, x)
    mean = {name: value / N for name, value in refvlm.grad_log_marginal(model, x).items()}
    with pytest.raises(AssertionError, match="it equals that with the opposite sign, that of the loss: log p"):
        rt.assert_log_marginal_close(-refvlm.log_marginal(model, x), model, x)
    with pytest.raises(AssertionError, match="the gradient of the mean over rows"):
        rt.assert_grad_close(mean, model, x)
    loss = {name: -value for name, value in refvlm.grad_vlb(model, q, x).items()}
    with pytest.raises(AssertionError, match="that of the loss"):
        rt.assert_grad_close(loss, model, x, posterior=q)


def test_shapes_and_names_are_checked(world):
    model, q, x, _, _ = world
    with pytest.raises(AssertionError, match=r"got shape \(\), wanted \(5,\)"):
        rt.assert_log_marginal_close(refvlm.log_marginal(model, x).mean(), model, x)
    gradient = refvlm.grad_log_marginal(model, x)
    with pytest.raises(AssertionError, match=r"got no 'prior.logits'"):
        rt.assert_grad_close({k: v for k, v in gradient.items() if k != "prior.logits"}, model, x)
    with pytest.raises(AssertionError, match="unknown 'theta'"):
        rt.assert_grad_close({**gradient, "theta": 0.0}, model, x)
    with pytest.raises(TypeError, match="arrays by the parameters' names"):
        rt.assert_grad_close([1.0], model, x)
    with pytest.raises(ValueError, match="precision"):
        rt.assert_vlb_close(refvlm.vlb(model, q, x), model, q, x, precision="half")


def test_weights_and_tolerances_are_taken(world, rng):
    model, q, x, _, _ = world
    weights = rng.normal(size=N)
    rt.assert_grad_close(refvlm.grad_vlb(model, q, x, weights), model, x, posterior=q, weights=weights)
    with pytest.raises(AssertionError):
        rt.assert_grad_close(refvlm.grad_vlb(model, q, x), model, x, posterior=q, weights=weights)
    rt.assert_log_marginal_close(refvlm.log_marginal(model, x) + 1e-4, model, x, tolerance=1e-3)


def test_per_datum_chains_and_infinite_bounds_are_taken(rng):
    upper = refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -1.0]), refvlm.MLP.random([2, 3], rng))
    model = refvlm.BernoulliLVM(upper, refvlm.MLP.random([3, 5], rng))
    x = model.sample(4, rng)[0]
    free = refvlm.PerDatumPosterior(rng.normal(size=(4, 3)))
    chain = refvlm.ChainPosterior([free, refvlm.AmortisedPosterior(refvlm.MLP.random([3, 2], rng))])
    for q in (free, chain):
        rt.assert_vlb_close(refvlm.vlb(model, q, x), model, q, x)
        rt.assert_grad_close(refvlm.grad_vlb(model, q, x), model, x, posterior=q)
        with pytest.raises(AssertionError):
            rt.assert_vlb_close(refvlm.vlb(model, q, x) + 1e-6, model, q, x)
    ruled_out = refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf, 0.0, 1.0]), model.decoder)
    rt.assert_vlb_close(np.full(4, -np.inf), ruled_out, free, x)
    with pytest.raises(AssertionError):
        rt.assert_vlb_close(np.full(4, -1e300), ruled_out, free, x)


# Forced z ----------------------------------------------------------------------------------------------------------


def test_exact_values_and_gradients_pass_with_any_baseline(world, rng):
    model, q, _, x1, row = world
    z = draw_z(world, rng)
    assert rt.assert_unbiased_exact(row.signal, model, q, x1, draw_z=z).outcome == "PASS"
    weights = np.exp(row.signal)
    assert rt.assert_unbiased_exact(weights, model, q, x1, draw_z=z, quantity="marginal").outcome == "PASS"
    for baseline in (0.0, -3.5):
        values = row.gradients(baseline)
        rt.assert_unbiased_exact(values, model, q, x1, draw_z=z, quantity="grad_vlb")


def draws_with(row):
    """By the mistakes' names, what they make of log p(x, z) - log q(z): written out, as one makes them."""
    return {
        "missing-prior": row.log_likelihood - row.log_q,
        "uniform-prior": row.log_likelihood - K * np.log(2) - row.log_q,
        "mean-over-pixels": row.log_likelihood / L + row.log_prior - row.log_q,
        "missing-likelihood": row.log_prior - row.log_q,
        "missing-entropy": row.log_likelihood + row.log_prior,
        "entropy-sign": row.log_likelihood + row.log_prior + row.log_q,
        "bits": (row.log_likelihood + row.log_prior - row.log_q) / np.log(2),
        "loss": -(row.log_likelihood + row.log_prior - row.log_q),
    }


def test_the_usual_mistakes_in_draws_are_those_written_out(world):
    row = world[-1]
    mistaken = {name_of(mistake): values for mistake, values in row.mistaken(OF_DRAWS)}
    assert list(mistaken) == list(draws_with(row))
    for name, wanted in draws_with(row).items():
        np.testing.assert_allclose(mistaken[name], wanted, rtol=1e-13, atol=1e-13)
        assert not np.allclose(wanted, row.signal)


@pytest.mark.parametrize("mistake", OF_DRAWS, ids=name_of)
def test_exact_values_name_what_is_forgotten(mistake, world, rng):
    model, q, _, x1, row = world
    with pytest.raises(AssertionError, match="16 of 16 codes wrong") as caught:
        rt.assert_unbiased_exact(draws_with(row)[name_of(mistake)], model, q, x1, draw_z=draw_z(world, rng))
    assert str(caught.value).endswith(f"\n  the values equal those with {mistake.title}: {mistake.remedy}")


class Opaque:
    """A decoder that is no MLP: what becomes of a mistake in it nobody can tell."""

    def __init__(self, inside):
        self.fan_in, self.fan_out, self.forward, self.parameters = (
            inside.fan_in, inside.fan_out, inside.forward, inside.parameters
        )  # fmt: skip


def test_mistakes_inside_the_decoder_are_named_where_it_can_be_looked_into(world, rng):
    model, _, _, x1, _ = world
    free = refvlm.PerDatumPosterior(rng.normal(size=(1, K)))
    row = one_row(model, free, x1)
    twice = sigmoid(model.decoder.forward(bits.table(K).astype(float))[0])
    wrong = (x1 * twice - np.logaddexp(0, twice)).sum(axis=1) + row.log_prior - row.log_q

    def check(decoder):
        hidden = refvlm.BernoulliLVM(model.prior, decoder)
        with pytest.raises(AssertionError, match="16 of 16 codes wrong") as caught:
            rt.assert_unbiased_exact(wrong, hidden, free, x1, draw_z=lambda n: np.zeros((n, K)))
        return str(caught.value)

    assert "the values equal those with the decoder's probabilities taken as logits" in check(model.decoder)
    assert "the values equal" not in check(Opaque(model.decoder))


def test_numbers_of_a_deep_model_with_an_opaque_layer_are_compared_without_a_name(rng):
    upper = refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -1.0]), Opaque(refvlm.MLP.random([2, 3], rng)))
    model = refvlm.BernoulliLVM(upper, refvlm.MLP.random([3, 5], rng))
    x = model.sample(4, rng)[0]
    with pytest.raises(AssertionError, match=r"4 of 4 wrong$"):
        rt.assert_log_marginal_close(-refvlm.log_marginal(model, x), model, x)


def test_exact_gradients_see_a_factor_of_1_0056(world, rng):
    model, q, _, x1, row = world
    shifted = {name: 1.0056 * value for name, value in row.gradients(0.0).items()}
    with pytest.raises(AssertionError, match=r"\(1.0056 times\)"):
        rt.assert_unbiased_exact(shifted, model, q, x1, draw_z=draw_z(world, rng), quantity="grad_vlb")


def test_right_values_with_wrong_draws_do_not_pass(world, rng):
    model, q, _, x1, row = world
    z = draw_z(world, rng)
    with pytest.raises(AssertionError, match="the draws fit with the codes' bits in reverse order"):
        rt.assert_unbiased_exact(row.signal, model, q, x1, draw_z=lambda n: z(n)[:, ::-1])
    with pytest.raises(TypeError, match="draw_z"):
        rt.assert_unbiased_exact(row.signal, model, q, x1)


def test_forced_values_must_be_one_for_each_code(world, rng):
    model, q, x, x1, row = world
    z = draw_z(world, rng)
    with pytest.raises(ValueError, match=r"wanted \(16,\)"):
        rt.assert_unbiased_exact(row.signal[:-1], model, q, x1, draw_z=z)
    with pytest.raises(ValueError, match="got 5 rows, wanted 1"):
        rt.assert_unbiased_exact(row.signal, model, q, x, draw_z=z)
    with pytest.raises(ValueError, match="got the name 'phi'"):
        rt.assert_unbiased_exact({"phi": row.signal}, model, q, x1, draw_z=z, quantity="grad_vlb")


# Black boxes -------------------------------------------------------------------------------------------------------


def test_unbiased_draws_pass_within_the_plan(world, rng):
    model, q, _, x1, row = world
    planned = rt.plan_samples(model, q, x1)
    verdict = rt.assert_unbiased(draw_of(row.signal, world, rng), model, q, x1)
    assert verdict.outcome == "PASS"
    assert verdict.draws <= planned < 12_000
    one = draw_of(row.signal, world, rng)
    assert rt.assert_unbiased(lambda n: one(5 * n).reshape(n, 5).mean(1), model, q, x1, samples=5).outcome == "PASS"
    rt.assert_unbiased(draw_of(np.exp(row.signal), world, rng), model, q, x1, quantity="marginal")


def test_the_estimate_of_refvlm_itself_passes(world, rng):
    model, q, _, x1, _ = world

    def draw(n):
        return refvlm.vlb_estimate(model, refvlm.PerDatumPosterior(np.repeat(q.forward(x1)[0], n, axis=0)),
                                   np.repeat(x1, n, axis=0), rng, samples=2)[0]  # fmt: skip

    assert rt.assert_unbiased(draw, model, q, x1, samples=2).outcome == "PASS"


@pytest.mark.parametrize("name", ["missing-prior", "missing-entropy", "bits", "loss"])
def test_biased_draws_fail_and_are_named(name, world, rng):
    model, q, _, x1, row = world
    with pytest.raises(AssertionError, match="FAIL after") as caught:
        rt.assert_unbiased(draw_of(draws_with(row)[name], world, rng), model, q, x1)
    assert not isinstance(caught.value, rt.InconclusiveError)
    mistake = next(mistake for mistake in OF_DRAWS if name_of(mistake) == name)
    assert f"with {mistake.title}: {mistake.remedy}" in str(caught.value)


def test_a_bias_within_the_range_is_found_by_betting(world, rng):
    """Two tenths of the draws replaced by another in-range value: no draw is impossible, the mean is off."""
    model, q, _, x1, row = world
    one = draw_of(row.signal, world, rng)
    far = row.signal[row.probabilities > 0].max()
    with pytest.raises(AssertionError, match="the mean of the draws is above"):
        rt.assert_unbiased(lambda n: np.where(rng.random(n) < 0.2, far, one(n)), model, q, x1)


def test_the_exponential_of_a_mean_is_no_estimate_of_the_marginal(world, rng):
    model, q, _, x1, row = world
    one = draw_of(row.signal, world, rng)
    with pytest.raises(AssertionError, match="below 1"):
        rt.assert_unbiased(
            lambda n: np.exp(one(5 * n).reshape(n, 5).mean(1)), model, q, x1, quantity="marginal", samples=5
        )


def test_a_small_bias_stays_open(world, rng):
    model, q, _, x1, row = world
    one = draw_of(row.signal, world, rng)
    sigma = np.sqrt(row.probabilities @ (row.signal - row.probabilities @ row.signal) ** 2)
    low, high = row.signal.min(), row.signal.max()
    with pytest.raises(rt.InconclusiveError, match="neither PASS nor FAIL"):
        rt.assert_unbiased(lambda n: np.clip(one(n) + 0.055 * sigma, low, high), model, q, x1)


def test_what_would_take_too_long_is_refused_before_the_first_draw(world):
    model, q, _, x1, _ = world
    with pytest.raises(ValueError, match=r"most: got 100, and \d+ draws are planned"):
        rt.assert_unbiased(lambda n: 1 / 0, model, q, x1, most=100)


def test_a_probability_that_underflows_is_refused(rng):
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.0, 1.0]), refvlm.MLP([np.zeros((2, 90))], [np.full(90, 9.0)]))
    q = refvlm.PerDatumPosterior([[0.0, 0.0]])
    with pytest.raises(ValueError, match="p\\(x\\) itself underflows"):
        rt.assert_unbiased(lambda n: np.zeros(n), model, q, np.zeros((1, 90)), quantity="marginal")


def test_without_a_mean_there_is_no_test(world, rng):
    model, q, _, x1, _ = world
    ruled_out = refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf, 0.0, 1.0, 0.0]), model.decoder)
    with pytest.raises(ValueError, match="VLB = -inf"):
        rt.assert_unbiased(lambda n: np.zeros(n), ruled_out, q, x1)
    chain = refvlm.ChainPosterior([q, refvlm.AmortisedPosterior(refvlm.MLP.random([K, 2], rng))])
    with pytest.raises(TypeError, match="wanted an AmortisedPosterior"):
        rt.assert_unbiased(lambda n: np.zeros(n), model, chain, x1)
    with pytest.raises(ValueError, match=r"got shape \(3,\), wanted \(1000,\)"):
        rt.assert_unbiased(lambda n: np.zeros(3), model, q, x1)


def test_when_q_is_certain_draws_are_compared_exactly(world):
    model, _, _, x1, _ = world
    certain = refvlm.PerDatumPosterior([[np.inf, -np.inf, np.inf, np.inf]])
    value = refvlm.vlb(model, certain, x1)[0]
    assert rt.assert_unbiased(lambda n: np.full(n, value), model, certain, x1).outcome == "PASS"
    with pytest.raises(AssertionError, match="where every draw should be"):
        rt.assert_unbiased(lambda n: np.full(n, value + 1e-6), model, certain, x1)


# Gradients ---------------------------------------------------------------------------------------------------------


def test_score_function_gradients_pass_whatever_the_constant_baseline(world, rng):
    model, q, _, x1, row = world
    for baseline in (0.0, -4.0):
        draw = draw_of(row.gradients(baseline), world, rng)
        verdict = rt.assert_unbiased(draw, model, q, x1, quantity="grad_vlb", baseline=baseline)
        assert verdict.outcome == "PASS"
    some = {name: v for name, v in row.gradients(0.0).items() if name.startswith("posterior.")}
    assert rt.assert_unbiased(draw_of(some, world, rng), model, q, x1, quantity="grad_vlb").outcome == "PASS"


def test_the_table_of_gradients_has_the_exact_mean(world):
    model, q, _, x1, row = world
    exact = refvlm.grad_vlb(model, q, x1)
    for baseline in (0.0, 2.0):
        for name, values in row.gradients(baseline).items():
            np.testing.assert_allclose(np.tensordot(row.probabilities, values, axes=1), exact[name], atol=1e-13)


@pytest.mark.parametrize("baseline", [0.0, 2.0, -3.5])
def test_the_score_is_multiplied_by_the_signal_minus_the_baseline(baseline, world):
    _, q, _, x1, row = world
    scores = bits.table(K) - sigmoid(q.forward(x1)[0])  # d log q / d logits, which the last biases are added to
    wanted = (row.log_likelihood + row.log_prior - row.log_q - baseline)[:, None] * scores
    np.testing.assert_allclose(row.gradients(baseline)["posterior.encoder.biases.1"], wanted, atol=1e-12)


def test_the_table_of_gradients_of_a_deep_model_and_a_free_q_too(rng):
    upper = refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -1.0]), refvlm.MLP.random([2, 7, 3], rng))
    model = refvlm.BernoulliLVM(upper, refvlm.MLP.random([3, 5], rng))
    q = refvlm.PerDatumPosterior(rng.normal(size=(1, 3)))
    row = one_row(model, q, model.sample(1, rng)[0])
    exact = refvlm.grad_vlb(model, q, row.x)
    table = row.gradients(-1.5)
    assert table.keys() == exact.keys()
    for name, values in table.items():
        np.testing.assert_allclose(np.tensordot(row.probabilities, values, axes=1), exact[name], atol=1e-13)

    def draw(n):
        codes = rng.choice(8, size=n, p=row.probabilities)
        return {name: values[codes] for name, values in table.items()}

    assert rt.assert_unbiased(draw, model, q, row.x, quantity="grad_vlb", baseline=-1.5).outcome == "PASS"


def test_gradients_out_of_the_hull_fail_at_the_first_draw(world, rng):
    model, q, _, x1, row = world
    for spoil in (lambda v: 1.0056 * v, lambda v: -v):
        wrong = {name: spoil(v) for name, v in row.gradients(0.0).items()}
        with pytest.raises(AssertionError, match=r"FAIL after 1 draws.*affine hull of dimension 15"):
            rt.assert_unbiased(draw_of(wrong, world, rng), model, q, x1, quantity="grad_vlb")


def test_gradients_of_z_from_elsewhere_fail_inside_the_hull(world, rng):
    model, q, _, x1, row = world
    table = row.gradients(0.0)

    def draw(n):
        codes = rng.integers(0, 1 << (K - 1), size=n)
        return {name: values[codes] for name, values in table.items()}

    with pytest.raises(AssertionError, match=r"FAIL after .*direction .* of the draws is"):
        rt.assert_unbiased(draw, model, q, x1, quantity="grad_vlb")


def test_a_baseline_of_its_own_needs_bounds(world, rng):
    model, q, _, x1, row = world
    table = {"posterior.encoder.biases.1": row.gradients(-4.0)["posterior.encoder.biases.1"]}
    draw = draw_of(table, world, rng)
    with pytest.raises(rt.InconclusiveError, match="give bounds"):
        rt.assert_unbiased(draw, model, q, x1, quantity="grad_vlb", estimator="other")
    bounds = ({name: v.min(axis=0) for name, v in table.items()}, {name: v.max(axis=0) for name, v in table.items()})
    keywords = {"quantity": "grad_vlb", "estimator": "other", "bounds": bounds, "delta": 0.2}
    assert rt.assert_unbiased(draw, model, q, x1, **keywords).outcome == "PASS"
    wrong = draw_of({name: np.abs(v) for name, v in table.items()}, world, rng)
    with pytest.raises(AssertionError, match=r"FAIL after .*biases.1\[0\]|FAIL after .*biases.1\[\d\]"):
        rt.assert_unbiased(wrong, model, q, x1, **keywords)


def test_whitened_directions_have_unit_variance_and_no_correlation(world):
    _, _, _, _, row = world
    table = {"a": row.gradients(0.0)["posterior.encoder.biases.1"], "b": row.gradients(0.0)["model.prior.logits"]}
    tests = Whitened(table, row.probabilities, 1, 2.0**-53, 0.1, 1e-6)
    points = np.concatenate([v.reshape(len(row.probabilities), -1) for v in table.values()], axis=1)
    white = (points - row.probabilities @ points) @ tests._whiten.T
    np.testing.assert_allclose((white.T * row.probabilities) @ white, np.eye(tests.tested), atol=1e-8)
    assert tests.rank == np.linalg.matrix_rank(points - row.probabilities @ points, rtol=RANK)
    assert all(plan.alpha == pytest.approx(1e-6 / tests.tested) for plan in tests.plans)


def test_gradient_draws_have_to_come_by_name(world, rng):
    model, q, _, x1, _ = world
    with pytest.raises(TypeError, match="wanted a dict"):
        rt.assert_unbiased(lambda n: np.zeros(n), model, q, x1, quantity="grad_vlb")
    with pytest.raises(ValueError, match="got the name 'phi'"):
        rt.assert_unbiased(lambda n: {"phi": np.zeros(n)}, model, q, x1, quantity="grad_vlb")
    with pytest.raises(ValueError, match="wanted \\(1000, 4\\)"):
        rt.assert_unbiased(lambda n: {"model.prior.logits": np.zeros((n, 3))}, model, q, x1, quantity="grad_vlb")


# Samplers ----------------------------------------------------------------------------------------------------------


def test_the_models_own_samplers_match(world, rng):
    model, _, _, x1, _ = world
    observed = np.exp(refvlm.log_marginal(model, bits.table(L)))
    prior = np.exp(refvlm.log_prior(model, bits.table(K)))
    assert rt.assert_samples_match(lambda n: model.sample(n, rng)[0], observed).outcome == "PASS"
    assert rt.assert_samples_match(lambda n: model.sample(n, rng)[1], prior).outcome == "PASS"
    posterior = refvlm.posterior(model, x1)[0]
    assert rt.assert_samples_match(lambda n: refvlm.sample_posterior(model, x1, n, rng)[0], posterior).outcome == "PASS"


def test_wrong_samplers_fail_and_are_named(world, rng):
    model, _, _, _, _ = world
    observed = np.exp(refvlm.log_marginal(model, bits.table(L)))
    with pytest.raises(AssertionError, match="the draws fit with x and 1 - x exchanged"):
        rt.assert_samples_match(lambda n: 1 - model.sample(n, rng)[0], observed)
    with pytest.raises(AssertionError, match="the draws fit with the codes' bits in reverse order"):
        rt.assert_samples_match(lambda n: model.sample(n, rng)[0][:, ::-1], observed)
    with pytest.raises(AssertionError, match="a fraction of"):
        rt.assert_samples_match(lambda n: rng.random((n, L)) < 0.5, observed)


def test_a_draw_of_probability_zero_fails_at_once(rng):
    table = np.array([0.25, 0.25, 0.5, 0.0])
    with pytest.raises(AssertionError, match=r"bits \[1, 1\], was drawn, whose probability is 0"):
        rt.assert_samples_match(lambda n: np.ones((n, 2)), table)


def test_a_right_sampler_fails_with_probability_alpha_at_most():
    """At alpha = 0.05: 400 runs, of which more than 41 fail with probability 1e-6 if each does with 0.05."""
    table = np.array([0.1, 0.2, 0.3, 0.4])
    rng, failed = np.random.default_rng(3), 0
    for _ in range(400):
        try:
            rt.assert_samples_match(
                lambda n: bits.rows_of(rng.choice(4, size=n, p=table).astype(np.int64), 2), table, delta=0.2, alpha=0.05
            )
        except AssertionError as error:
            failed += not isinstance(error, rt.InconclusiveError)
    assert failed <= 41


def test_a_sampler_at_a_distance_of_delta_does_not_pass():
    """The total variation distance is 0.1 = delta exactly: PASS would be wrong."""
    table, other = np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.2, 0.2, 0.3, 0.3])
    rng = np.random.default_rng(4)
    for _ in range(20):
        with pytest.raises(AssertionError):
            rt.assert_samples_match(
                lambda n: bits.rows_of(rng.choice(4, size=n, p=other).astype(np.int64), 2), table, delta=0.1
            )


def test_too_few_draws_are_inconclusive(monkeypatch):
    monkeypatch.setattr(samples, "_plan", lambda *arguments: 2000)
    rng, table = np.random.default_rng(8), np.full(8, 1 / 8)
    with pytest.raises(rt.InconclusiveError, match="neither PASS nor FAIL after 2000 draws"):
        rt.assert_samples_match(lambda n: rng.random((n, 3)) < 0.5, table)


def test_a_plan_beyond_what_is_allowed_is_refused_before_the_first_draw():
    with pytest.raises(ValueError, match=r"most: got 1000, and \d+ draws are planned"):
        rt.assert_samples_match(lambda n: 1 / 0, np.full(8, 1 / 8), most=1000)


@pytest.mark.parametrize(
    ("table", "said"),
    [([0.5, 0.25, 0.25], "got 3 numbers"), ([0.5, 0.6], "wanted probabilities"), ([1.5, -0.5], "wanted probabilities")],
)
def test_tables_of_probabilities_are_checked(table, said):
    with pytest.raises(ValueError, match=said):
        rt.assert_samples_match(lambda n: np.zeros((n, 1)), table)


def test_draws_have_to_be_bits(rng):
    with pytest.raises(ValueError, match="wanted exactly 0 or 1"):
        rt.assert_samples_match(lambda n: rng.random((n, 1)), [0.5, 0.5])


def test_a_value_at_many_latents_has_to_lie_within_its_bracket():
    """K = 70, L = 15: the bracket's middle passes and the width is said; 0.1 nats off does not, nor a wrong shape."""
    rng = np.random.default_rng(11)
    model = shallow(70, (), 15, rng)
    x = model.sample(3, rng)[0]
    between = refvlm.bracket(model, x, width=0.004, rng=rng)
    middle = (between.lower + between.upper) / 2
    assert 0.0 < rt.assert_log_marginal_close(middle, model, x) <= 0.006
    off = middle + np.array([0.0, -0.1, 0.0])
    with pytest.raises(
        AssertionError, match=r"^log p\(x\), certified within brackets of up to 0.00.* nats: entry \[1\]"
    ):
        rt.assert_log_marginal_close(off, model, x)
    with pytest.raises(AssertionError, match="got shape"):
        rt.assert_log_marginal_close(middle[:2], model, x)
    small = shallow(4, (), 7, rng)
    rows = binary(3, 7, rng)
    assert rt.assert_log_marginal_close(refvlm.log_marginal(small, rows), small, rows) == 0.0


# Gradient estimators


ESTIMATORS = [
    ge.Reinforce(2, baseline=-3.0), ge.Nvil(), ge.LeaveOneOut(3), ge.MuProp(), ge.LocalExpectation(), ge.Arm(),
    ge.DisArm(2), ge.StraightThrough(), ge.StraightThroughGumbel(temperature=0.7), ge.Vimco(3), ge.ReweightedWake(4),
]  # fmt: skip


def drawer(estimator, world, rng):
    """Draws at the first row."""

    def draw(n):
        model, q, _, x1, _ = world
        rows = refvlm.PerDatumPosterior(np.repeat(q.forward(x1)[0], n, axis=0))
        return estimator.sample(model, rows, np.repeat(x1, n, axis=0), rng)

    return draw


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: estimator.name)
def test_estimators_have_their_own_mean_and_variance(estimator, world, rng):
    draw, (model, q, _, x1, _) = drawer(estimator, world, rng), world
    for found in (
        rt.assert_unbiased(draw, model, q, x1, estimator=estimator, delta=0.3),
        rt.assert_variance_close(draw, model, q, x1, estimator, delta=0.3),
    ):
        assert found.outcome == "PASS"


def test_a_biased_estimator_and_one_that_varies_otherwise_fail(world, rng):
    """Draws shrunk by 1 / M, those of DisARM without its factor, and right means with twice the variance."""
    model, q, _, x, _ = world
    loo, disarm = ge.LeaveOneOut(2), ge.DisArm()
    shrunk, plain = drawer(loo, world, rng), drawer(disarm, world, rng)
    sizes = 1 / (1 + np.exp(-np.abs(q.forward(x)[0])))
    with pytest.raises(AssertionError, match=r"leave-one-out, mean: FAIL after .*logits\[\d\]"):
        rt.assert_unbiased(lambda n: 0.5 * shrunk(n), model, q, x, estimator=loo)
    with pytest.raises(AssertionError, match=r"disarm, mean: FAIL"):
        rt.assert_unbiased(lambda n: plain(n) / sizes, model, q, x, estimator=disarm)
    four = drawer(ge.DisArm(4), world, rng)
    assert rt.assert_unbiased(four, model, q, x, estimator=disarm, delta=0.3).outcome == "PASS"
    with pytest.raises(AssertionError, match=r"disarm, variance: FAIL after .*squares\[\d\]"):
        rt.assert_variance_close(four, model, q, x, disarm)
    with pytest.raises(TypeError, match=r"estimator: got str .disarm., wanted one of refvlm.gradient_estimators"):
        rt.assert_variance_close(four, model, q, x, "disarm")
    with pytest.raises(ValueError, match=r"got shape \(1000,\), wanted \(1000, \d\), in the logits of q"):
        rt.assert_unbiased(lambda n: four(n)[:, 0], model, q, x, estimator=disarm)


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_an_estimator_that_hardly_varies_is_not_accused_of_rounding(precision):
    """A decoder that takes the bits apart: local expectations have no variance but that of rounding."""
    for seed in range(8):
        rng = np.random.default_rng(seed)
        decoder = refvlm.MLP([np.diag(rng.normal(size=3))], [rng.normal(size=3)])
        model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=3)), decoder)
        q, x = refvlm.PerDatumPosterior(rng.normal(size=(1, 3))), (rng.random((1, 3)) < 0.5).astype(np.uint8)
        estimator = ge.LocalExpectation()
        exact = drawer(estimator, (model, q, x, x, None), rng)

        def draw(n, exact=exact):
            return exact(n).astype(precision)

        for found in (
            rt.assert_unbiased(draw, model, q, x, estimator=estimator, precision=precision),
            rt.assert_variance_close(draw, model, q, x, estimator, precision=precision),
        ):
            assert found.outcome == "PASS"


def test_draws_that_are_not_numbers_fail_and_what_an_estimator_has_is_not_given_twice(world):
    model, q, _, x, _ = world
    with pytest.raises(AssertionError, match=r"disarm: FAIL: draw 1 is not finite"):
        rt.assert_unbiased(lambda n: np.full((n, K), np.nan), model, q, x, estimator=ge.DisArm())
    for extra in ({"samples": 2}, {"baseline": 1.0}, {"quantity": "marginal"}, {"bounds": ({}, {})}):
        with pytest.raises(ValueError, match=r"estimator: got one of refvlm.gradient_estimators together with"):
            rt.assert_unbiased(lambda n: np.zeros((n, K)), model, q, x, estimator=ge.DisArm(), **extra)
