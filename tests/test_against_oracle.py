"""refvlm against the oracle: the same formulas with itertools.product and math.fsum, and no code in common."""

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from problems import ACTIVATIONS, binary, deep, network, problems, shallow

import refvlm


def logits_of(q, x):
    """q's logits for the rows of x, by the oracle's own network."""
    if isinstance(q, refvlm.PerDatumPosterior):
        return q.logits
    return [oracle.forward(oracle.as_network(q.encoder), row) for row in x.tolist()]


def assert_close(got, expected, relative=1e-12, absolute=1e-12):
    np.testing.assert_allclose(got, expected, rtol=relative, atol=absolute)


@settings(max_examples=60)
@given(problems(most_latents=5, saturated=False, infinite=True))
def test_every_quantity_equals_the_oracles(p):
    model, logits = oracle.as_model(p.model), logits_of(p.q, p.x)
    assert_close(refvlm.log_marginal(p.model, p.x), oracle.log_marginal(model, p.x))
    assert_close(refvlm.posterior(p.model, p.x), oracle.posterior(model, p.x))
    assert_close(refvlm.posterior_mean(p.model, p.x), oracle.posterior_mean(model, p.x))
    got, expected = refvlm.vlb_terms(p.model, p.q, p.x), oracle.vlb_terms(model, logits, p.x)
    for name in ("prior", "reconstruction", "entropy"):
        assert_close(getattr(got, name), getattr(expected, name))
    assert_close(refvlm.vlb(p.model, p.q, p.x), oracle.vlb(model, logits, p.x))
    assert_close(refvlm.kl(p.model, p.q, p.x), oracle.kl(model, logits, p.x))
    z = p.model.sample(len(p.x), np.random.default_rng(0))[1]
    assert_close(refvlm.log_prior(p.model, z), oracle.log_prior(model, z))
    assert_close(refvlm.log_likelihood(p.model, p.x, z), oracle.log_likelihood(model, p.x, z))
    assert_close(refvlm.log_joint(p.model, p.x, z), oracle.log_joint(model, p.x, z))


@settings(max_examples=60)
@given(problems(most_latents=4))
def test_saturated_quantities_equal_the_oracles(p):
    """Errors of a saturated network's own rounding scale with its logits, so the tolerance is relative."""
    model, logits = oracle.as_model(p.model), logits_of(p.q, p.x)
    assert_close(refvlm.log_marginal(p.model, p.x), oracle.log_marginal(model, p.x), 1e-10, 1e-8)
    assert_close(refvlm.vlb(p.model, p.q, p.x), oracle.vlb(model, logits, p.x), 1e-10, 1e-8)


@pytest.mark.parametrize(("top", "middle", "observed", "rows"), [(1, 3, 4, 2), (4, 2, 5, 3), (3, 4, 1, 5)])
def test_deep_models_equal_the_sum_over_all_bits_at_once(top, middle, observed, rows):
    rng = np.random.default_rng(top)
    model, x = deep(top, middle, observed, rng, hidden=(6,), scale=2.0), binary(rows, observed, rng)
    plain = oracle.as_model(model)
    assert_close(refvlm.log_marginal(model, x), oracle.chain_log_marginal(plain, x))
    first, second = network([observed, 7, middle], rng), network([middle, 8, top], rng)
    logits = logits_of(refvlm.AmortisedPosterior(first), x)
    chain = refvlm.ChainPosterior([refvlm.AmortisedPosterior(first), refvlm.AmortisedPosterior(second)])
    above = [oracle.as_network(second)]
    got, expected = refvlm.vlb_terms(model, chain, x), oracle.chain_vlb_terms(plain, logits, above, x)
    for name in ("prior", "reconstruction", "entropy"):
        assert_close(getattr(got, name), getattr(expected, name))
    assert_close(refvlm.kl(model, chain, x), oracle.chain_kl(plain, logits, above, x))
    single = refvlm.AmortisedPosterior(first)
    assert_close(refvlm.vlb(model, single, x), oracle.vlb(plain, logits, x))
    assert_close(refvlm.kl(model, single, x), oracle.kl(plain, logits, x))
    assert_close(refvlm.posterior(model, x), oracle.posterior(plain, x))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_are_the_slopes_of_the_oracles_values(activation):
    rng = np.random.default_rng(7)
    model, x, weights = shallow(3, (4, 5), 6, rng, activation), binary(2, 6, rng), np.array([0.7, -1.3])
    q = refvlm.AmortisedPosterior(network([6, 7, 3], rng, activation))
    plain, encoder = oracle.as_model(model), oracle.as_network(q.encoder)
    gradient, bound = refvlm.grad_log_marginal(model, x, weights), refvlm.grad_vlb(model, q, x, weights)
    for _ in range(3):
        up = {name: rng.normal(size=value.shape) for name, value in model.parameters().items()}
        out = {name: rng.normal(size=value.shape) for name, value in q.parameters().items()}

        def marginal(t, up=up):
            return float(weights @ oracle.log_marginal(oracle.moved_model(plain, up, t), x))

        def lower(t, up=up, out=out):
            phi = oracle.moved_network(encoder, out, t, "encoder.")
            logits = [oracle.forward(phi, row) for row in x.tolist()]
            return float(weights @ oracle.vlb(oracle.moved_model(plain, up, t), logits, x))

        slope = oracle.slope(marginal)
        assert abs(oracle.inner(gradient, up) - slope.value) <= slope.uncertainty + 1e-9
        slope = oracle.slope(lower)
        along = {f"model.{name}": v for name, v in up.items()} | {f"posterior.{name}": v for name, v in out.items()}
        assert abs(oracle.inner(bound, along) - slope.value) <= slope.uncertainty + 1e-9
