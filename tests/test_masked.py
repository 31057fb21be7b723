"""The sums that learning takes where rows miss bits: against the passes by pattern, and plain Python."""

import itertools
import math

import numpy as np
import oracle
import pytest
from problems import deep, network, shallow

import refvlm
from refvlm.inference import bounds
from refvlm.inference.missing import join
from refvlm.learning import masked
from refvlm.learning.ascent import climb_posterior
from refvlm.learning.inclusive import cover
from refvlm.learning.per_datum import mean_field
from refvlm.learning.rules import expectation_maximisation as em

BY_PATTERN = {"missing": "marginalise"}


def rows(count, observed, rng):
    """Bits (count, L), 0 where one is missing, and which are observed: two in three, in row 1 none, in row 2 all."""
    x, seen = rng.integers(0, 2, (count, observed)).astype(np.uint8), rng.random((count, observed)) < 2 / 3
    seen[1], seen[2] = False, True
    x[~seen] = 0
    return x, seen


def certain(rng):
    """A model whose second latent bit is surely 0."""
    return refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -np.inf, -0.7]), network([3, 4, 7], rng))


MODELS = {
    "linear": lambda rng: shallow(3, (), 7, rng),
    "large weights": lambda rng: shallow(4, (5,), 7, rng, scale=30.0),
    "a certain bit": certain,
    "deep": lambda rng: deep(2, 3, 7, rng, hidden=()),
}


def posteriors(model, count, rng):
    """Of every kind that fits."""
    encoder = network([model.observed, 4, model.latents], rng)
    found = [refvlm.AmortisedPosterior(encoder), refvlm.PerDatumPosterior(rng.normal(size=(count, model.latents)))]
    if isinstance(model.prior, refvlm.BernoulliLVM):
        above = refvlm.AmortisedPosterior(network([model.latents, 5, 2], rng))
        found.append(refvlm.ChainPosterior([found[0], above]))
        found.append(refvlm.ChainPosterior([found[1], above]))
        found.append(refvlm.LayerwisePosterior([found[0], refvlm.AmortisedPosterior(network([7, 2], rng))]))
    elif np.isinf(model.prior.logits).any():
        logits = np.where(np.isinf(model.prior.logits), -np.inf, rng.normal(size=(count, model.latents)))
        return [refvlm.PerDatumPosterior(logits)]
    return found


def assert_gradients_agree(found, wanted):
    assert list(found) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12 * (1 + np.abs(value).max()), err_msg=name)


@pytest.fixture(params=[1 << 22, 40], ids=["all codes at once", "some at a time"])
def part(request, monkeypatch):
    monkeypatch.setattr(masked, "_PART", request.param)


@pytest.mark.usefixtures("part")
@pytest.mark.parametrize("name", MODELS)
def test_sums_are_those_by_pattern(name):
    rng = np.random.default_rng(0)
    model, (x, seen), weights = MODELS[name](rng), rows(11, 7, rng), rng.uniform(0.5, 2.0, 11)
    y = join(x, seen)
    log_px, gradient = masked.log_marginal_and_grad(model, x, seen, weights)
    wanted = refvlm.log_marginal(model, y, **BY_PATTERN)
    np.testing.assert_allclose(log_px, wanted, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(masked.log_marginal(model, x, seen), log_px)
    assert_gradients_agree(gradient, refvlm.grad_log_marginal(model, y, weights, **BY_PATTERN))
    table = refvlm.posterior(model, y, **BY_PATTERN)
    np.testing.assert_allclose(masked.posterior(model, x, seen), table, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(
        masked.posterior_mean(model, x, seen), refvlm.posterior_mean(model, y, **BY_PATTERN), atol=1e-13
    )
    with np.errstate(divide="ignore"):
        joint = np.log(table) + wanted[:, None]
    found = masked.log_joint_table(model, x, seen)
    here = table > 1e-300
    np.testing.assert_allclose(found[here], joint[here], rtol=1e-11, atol=1e-11)


@pytest.mark.usefixtures("part")
@pytest.mark.parametrize("name", MODELS)
def test_bounds_are_those_by_pattern(name):
    rng = np.random.default_rng(1)
    model, (x, seen), weights = MODELS[name](rng), rows(11, 7, rng), rng.uniform(0.5, 2.0, 11)
    y = join(x, seen)
    for q in posteriors(model, len(x), rng):
        wanted = refvlm.vlb(model, q, y, **BY_PATTERN)
        np.testing.assert_allclose(masked.vlb(model, q, x, seen), wanted, rtol=1e-12, atol=1e-12)
        gap = refvlm.kl(model, q, y, **BY_PATTERN)
        np.testing.assert_allclose(masked.kl(model, q, x, seen), gap, atol=1e-12 * (1 + np.abs(wanted).max()))
        assert_gradients_agree(
            masked.grad_vlb(model, q, x, seen, weights), refvlm.grad_vlb(model, q, y, weights, **BY_PATTERN)
        )


def test_a_bound_without_a_sum_goes_by_pattern(monkeypatch):
    rng = np.random.default_rng(2)
    model, (x, seen), weights = shallow(4, (), 7, rng), rows(5, 7, rng), rng.random(5)
    q = refvlm.AmortisedPosterior(network([7, 4], rng))
    summed = masked.vlb(model, q, x, seen), masked.grad_vlb(model, q, x, seen, weights)
    monkeypatch.setattr(bounds, "SUMMED_LATENTS", 0)
    np.testing.assert_allclose(masked.vlb(model, q, x, seen), summed[0], rtol=1e-11)
    assert_gradients_agree(masked.grad_vlb(model, q, x, seen, weights), summed[1])


def test_where_all_bits_are_there_the_exact_functions_answer():
    rng = np.random.default_rng(3)
    model, x, weights = deep(2, 3, 7, rng), rng.integers(0, 2, (9, 7)).astype(np.uint8), rng.random(9)
    q = refvlm.AmortisedPosterior(network([7, 3], rng))
    pairs = [
        (masked.log_marginal(model, x, None), refvlm.log_marginal(model, x)),
        (masked.log_marginal_and_grad(model, x, None, weights)[0], refvlm.log_marginal(model, x)),
        (masked.posterior(model, x, None), refvlm.posterior(model, x)),
        (masked.posterior_mean(model, x, None), refvlm.posterior_mean(model, x)),
        (masked.vlb(model, q, x, None), refvlm.vlb(model, q, x)),
        (masked.kl(model, q, x, None), refvlm.kl(model, q, x)),
    ]
    for found, wanted in pairs:
        np.testing.assert_array_equal(found, wanted)


def seen_log_likelihood(network_of_oracle, row, z):
    """log p of the bits of a row that are no NaN, one by one."""
    logits = oracle.forward(network_of_oracle, z)
    return math.fsum(oracle.log_bernoulli(int(bit), a) for bit, a in zip(row, logits, strict=True) if bit == bit)


def plain_posterior(model, row):
    """p(z | observed), by the definition."""
    plain, codes = oracle.as_model(model), oracle.codes(model.latents)
    above = oracle.log_prior(plain, codes)
    joint = [seen_log_likelihood(plain.decoder, row, z) + p for z, p in zip(codes, above, strict=True)]
    return np.exp(np.array(joint) - oracle.log_sum_exp(joint))


def test_the_e_step_counts_what_is_observed(monkeypatch):
    """mass, targets and m_i(z), by the definition; rows in parts."""
    monkeypatch.setattr(em, "_PART", 32)
    rng = np.random.default_rng(4)
    model, (x, seen), weights = shallow(3, (4,), 7, rng), rows(11, 7, rng), rng.uniform(0.5, 2.0, 11)
    table = np.array([plain_posterior(model, row) for row in join(x, seen)]) * weights[:, None]
    sums = em.expect(model, x, weights, None, observed=seen)
    np.testing.assert_allclose(sums.mass, table.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(sums.targets, table.T @ x, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(sums.seen, table.T @ seen, rtol=1e-12)


@pytest.mark.parametrize("name", ["shallow", "deep"])
def test_em_never_lowers_log_p_of_what_is_observed_and_comes_to_rest_at_its_maximum(name):
    rng = np.random.default_rng(5)
    model = shallow(2, (5,), 4, rng) if name == "shallow" else deep(2, 3, 4, rng, hidden=(), scale=2.0)
    x, seen = rows(31, 4, rng)
    y, values = join(x, seen), []
    for _ in range(200):
        values.append(refvlm.log_marginal(model, y, **BY_PATTERN).mean())
        model, _ = em.step(model, x, observed=seen)
    assert all(b >= a - 1e-13 for a, b in itertools.pairwise(values))
    assert values[-1] > values[0] + 0.1
    slopes = refvlm.grad_log_marginal(model, y, **BY_PATTERN)
    assert max(np.abs(value).max() for value in slopes.values()) / len(x) < 0.01


def test_covering_the_posterior_given_what_is_observed_ends_at_the_likelihood_equations():
    """An encoder without hidden layer: sum over rows of x_i (mean_k - phi_k) = 0, x being 0 where a bit is missing."""
    rng = np.random.default_rng(6)
    model, (x, seen), weights = shallow(3, (5,), 7, rng, scale=2.0), rows(40, 7, rng), rng.random(40)
    start = refvlm.AmortisedPosterior(network([7, 3], rng))
    q = cover(model, start, x, 500, weights, observed=seen)
    mean = np.array([plain_posterior(model, row) for row in join(x, seen)]) @ refvlm.bits.table(3)
    residual = (mean - 1 / (1 + np.exp(-q.forward(x)[0]))) * weights[:, None]
    assert np.abs(x.T @ residual).max() < 1e-3 * weights.sum()
    assert np.abs(residual.sum(axis=0)).max() < 1e-3 * weights.sum()


def test_covering_a_chain_gives_the_codes_their_mass_given_what_is_observed():
    rng = np.random.default_rng(7)
    model, (x, seen) = deep(2, 3, 7, rng, scale=2.0), rows(30, 7, rng)
    stages = [refvlm.AmortisedPosterior(network(sizes, rng)) for sizes in ([7, 9, 3], [3, 2])]
    reached = cover(model, refvlm.ChainPosterior(stages), x, 200, observed=seen)
    mass = np.sum([plain_posterior(model, row) for row in join(x, seen)], axis=0)
    upper = cover(model.prior, stages[1], refvlm.bits.table(3), 200, mass)
    for name, value in upper.parameters().items():
        np.testing.assert_allclose(reached.stages[1].parameters()[name], value, rtol=1e-3, atol=1e-3)


def test_covering_many_latents_draws_from_the_posterior_given_what_is_observed():
    """K = 29 above weights of 0 but for z_0: rows in which the bit that tells z_0 is missing have the prior's mean."""
    weights = np.zeros((29, 3))
    weights[0, 1] = 30.0
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(29)), refvlm.MLP([weights], [[0.0, -15.0, 0.0]]))
    x = np.zeros((6, 3), np.uint8)
    seen = np.ones((6, 3), bool)
    seen[:, 1] = False
    q = cover(model, refvlm.AmortisedPosterior(refvlm.MLP([np.zeros((3, 29))], [np.zeros(29)])), x, 100, observed=seen)
    assert abs(1 / (1 + np.exp(-q.forward(x)[0][0, 0])) - 0.5) < math.sqrt(math.log(2e6) / (2 * 600))  # Hoeffding, 1e-6


@pytest.mark.parametrize("summed", [True, False])
def test_mean_field_given_what_is_observed_is_a_fixed_point_for_every_row(summed, monkeypatch):
    rng = np.random.default_rng(8)
    model, (x, seen) = shallow(3, (), 7, rng, scale=2.0), rows(6, 7, rng)
    if not summed:
        monkeypatch.setattr(bounds, "SUMMED_LATENTS", 0)
    q = mean_field(model, x, observed=seen, sweeps=3000, tolerance=1e-14)
    decoder, codes = oracle.as_network(model.decoder), oracle.codes(3)
    for row, logits in zip(join(x, seen), q.logits, strict=True):
        for k in range(3):
            best = model.prior.logits[k]
            for z in codes:
                others = [oracle.log_bernoulli(z[j], logits[j]) for j in range(3) if j != k]
                best += (2 * z[k] - 1) * math.exp(math.fsum(others)) * seen_log_likelihood(decoder, row, z)
            assert logits[k] == pytest.approx(best, rel=1e-7, abs=1e-7)


def test_climbing_ends_where_the_bound_of_what_is_observed_is_level():
    rng = np.random.default_rng(9)
    model, (x, seen) = shallow(3, (4,), 7, rng), rows(9, 7, rng)
    q = climb_posterior(model, refvlm.PerDatumPosterior(np.zeros((9, 3))), x, 500, observed=seen)
    assert np.abs(refvlm.grad_vlb(model, q, join(x, seen), **BY_PATTERN)["posterior.logits"]).max() < 1e-3
