"""The terms of the VLB, eq. (10), its estimate, and the general path for decoders that are no MLP."""

import numpy as np
import pytest
from hypothesis import given
from problems import binary, deep, network, problems, shallow

import refvlm
from refvlm import bits
from refvlm.inference import definition


@given(problems())
def test_terms_add_up_to_the_bound_and_have_their_signs(p):
    terms = refvlm.vlb_terms(p.model, p.q, p.x)
    assert (terms.prior + terms.reconstruction + terms.entropy == refvlm.vlb(p.model, p.q, p.x)).all()
    assert (terms.prior <= 0).all()
    assert (terms.reconstruction <= 0).all()
    assert (terms.entropy >= 0).all()
    assert (terms.entropy <= p.model.latents * np.log(2) * (1 + 1e-15)).all()


@given(problems(saturated=False))
def test_bound_and_gap_equal_the_definition(p):
    np.testing.assert_allclose(refvlm.vlb(p.model, p.q, p.x), definition.vlb(p.model, p.q, p.x), rtol=1e-12)
    np.testing.assert_allclose(refvlm.kl(p.model, p.q, p.x), definition.kl(p.model, p.q, p.x), rtol=1e-9, atol=1e-12)


def test_collapsed_bound_is_above_the_joint_bound():
    """With log p(z1) exact the bound has one gap less than along the chain."""
    rng = np.random.default_rng(0)
    model, x = deep(3, 5, 6, rng), binary(4, 6, rng)
    first, second = (refvlm.AmortisedPosterior(network(s, rng)) for s in ([6, 5], [5, 3]))
    assert (refvlm.vlb(model, first, x) > refvlm.vlb(model, refvlm.ChainPosterior([first, second]), x)).all()


@pytest.mark.parametrize("kind", ["shallow", "collapsed", "chain"])
def test_estimate_is_unbiased_with_the_standard_error_it_states(kind):
    """The mean of 40 000 draws is within 6 exact standard errors: a false alarm in 5e8 runs, by the normal law."""
    rng = np.random.default_rng(1)
    model = shallow(4, (3,), 6, rng) if kind == "shallow" else deep(3, 4, 6, rng)
    q = refvlm.AmortisedPosterior(network([6, 4], rng))
    if kind == "chain":
        q = refvlm.ChainPosterior([q, refvlm.AmortisedPosterior(network([4, 5, 3], rng))])
    x = binary(5, 6, rng)
    samples = 40000
    estimate = refvlm.vlb_estimate(model, q, x, rng, samples=samples)
    assert (np.abs(estimate.value - refvlm.vlb(model, q, x)) <= 6 * estimate.standard_error).all()
    if kind != "chain":
        z = bits.table(4)
        share = definition.q_table(q, x)
        ratio = definition.log_joint(model, x) - np.log(share)
        variance = (share * ratio**2).sum(axis=1) - (share * ratio).sum(axis=1) ** 2
        # the sample variance's own relative error is of order sqrt(kurtosis / samples), below 3% here at 6 sigma
        np.testing.assert_allclose(estimate.standard_error, np.sqrt(variance / samples), rtol=0.1)
        assert z.shape == (16, 4)


def test_estimate_has_no_spread_where_q_is_a_point():
    rng = np.random.default_rng(2)
    model, x = shallow(3, (4,), 5, rng), binary(2, 5, rng)
    q = refvlm.PerDatumPosterior(np.where([[1, 0, 1], [0, 0, 1]], np.inf, -np.inf))
    estimate = refvlm.vlb_estimate(model, q, x, rng, samples=7)
    np.testing.assert_allclose(estimate.value, refvlm.vlb(model, q, x), rtol=1e-14)
    assert (estimate.standard_error <= 1e-14).all()
    np.testing.assert_allclose(refvlm.vlb_terms(model, q, x).entropy, 0.0)


def test_estimate_that_hits_an_impossible_latent_is_minus_infinity():
    rng = np.random.default_rng(3)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.2]), network([2, 5], rng))
    estimate = refvlm.vlb_estimate(
        model, refvlm.PerDatumPosterior(np.zeros((3, 2))), binary(3, 5, rng), rng, samples=64
    )
    assert np.isneginf(estimate.value).all()
    assert np.isposinf(estimate.standard_error).all()


@pytest.mark.parametrize("kind", ["shallow", "collapsed", "chain"])
def test_the_mean_importance_weight_is_p_of_x(kind):
    """E_q[p(x, z) / q(z)] = p(x): the mean of 40 000 weights is within 6 exact standard errors."""
    rng = np.random.default_rng(4)
    model = shallow(4, (3,), 6, rng) if kind == "shallow" else deep(3, 4, 6, rng)
    q = refvlm.AmortisedPosterior(network([6, 4], rng))
    if kind == "chain":
        q = refvlm.ChainPosterior([q, refvlm.AmortisedPosterior(network([4, 5, 3], rng))])
    x, samples = binary(5, 6, rng), 40000
    estimate = refvlm.log_marginal_estimate(model, q, x, rng, samples=samples)
    error = np.exp(estimate.value - refvlm.log_marginal(model, x)) - 1.0
    assert (np.abs(error) <= 6 * estimate.standard_error * (1 + error)).all()
    if kind != "chain":
        share, joint = definition.q_table(q, x), np.exp(definition.log_joint(model, x))
        p = joint.sum(axis=1)
        variance = (joint**2 / share).sum(axis=1) / p**2 - 1.0  # of p(x, z) / (q(z) p(x))
        np.testing.assert_allclose(estimate.standard_error, np.sqrt(variance / samples), rtol=0.2)


def test_importance_weights_do_not_vary_where_q_is_the_posterior():
    rng = np.random.default_rng(5)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.7]), network([1, 3], rng))
    x = binary(4, 3, rng)
    mean = refvlm.posterior_mean(model, x)
    q = refvlm.PerDatumPosterior(np.log(mean) - np.log1p(-mean))
    estimate = refvlm.log_marginal_estimate(model, q, x, rng, samples=3)
    np.testing.assert_allclose(estimate.value, refvlm.log_marginal(model, x), rtol=1e-13)
    assert (estimate.standard_error < 1e-14).all()


def test_importance_weights_that_are_all_nought_are_minus_infinity():
    rng = np.random.default_rng(6)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.2]), network([2, 5], rng))
    logits = np.array([[-np.inf, 0.0], [np.inf, 0.0], [0.0, 1.0]])
    estimate = refvlm.log_marginal_estimate(model, refvlm.PerDatumPosterior(logits), binary(3, 5, rng), rng, samples=64)
    assert np.isneginf(estimate.value).tolist() == [True, False, False]
    assert np.isposinf(estimate.standard_error).tolist() == [True, False, False]
    assert refvlm.log_marginal_estimate(
        model, refvlm.PerDatumPosterior(np.zeros((0, 2))), np.zeros((0, 5)), rng, samples=2
    ).value.shape == (0,)


class Parity:
    """A decoder that is no MLP: logits from the parity of z, with one parameter array, and its own pullback."""

    fan_in, fan_out = 4, 6

    def __init__(self, slope):
        self.slope = slope

    def parameters(self):
        return {"slope": self.slope}

    def with_parameters(self, parameters):
        return Parity(parameters["slope"])

    def forward(self, z):
        sign = 1 - 2 * (z.sum(axis=1, keepdims=True) % 2)
        return sign * self.slope, lambda slopes: {"slope": (sign * slopes).sum(axis=0)}


def test_any_decoder_object_takes_the_general_path():
    rng = np.random.default_rng(4)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=4)), Parity(rng.normal(size=6)))
    q, x = refvlm.AmortisedPosterior(network([6, 4], rng)), binary(5, 6, rng)
    np.testing.assert_allclose(refvlm.log_marginal(model, x), definition.log_marginal(model, x), rtol=1e-14)
    np.testing.assert_allclose(refvlm.posterior(model, x), definition.posterior(model, x), rtol=1e-12)
    d = refvlm.decompose(model, q, x)
    np.testing.assert_allclose(d.vlb, definition.vlb(model, q, x), rtol=1e-13)
    assert np.abs(d.residual).max() <= 1e-14
    step = 1e-5
    for gradient, value in (
        (refvlm.grad_log_marginal(model, x)["decoder.slope"], refvlm.log_marginal),
        (refvlm.grad_vlb(model, q, x)["model.decoder.slope"], lambda m, rows: refvlm.vlb(m, q, rows)),
    ):
        for i in range(6):
            up, down = (
                value(refvlm.BernoulliLVM(model.prior, Parity(model.decoder.slope + s * step * np.eye(6)[i])), x).sum()
                for s in (1, -1)
            )
            assert abs(gradient[i] - (up - down) / (2 * step)) <= 1e-8


def test_the_general_path_equals_the_kernels_own_network():
    """The same MLP once as itself and once as an anonymous object: values, posterior and gradients agree."""

    class Anonymous:
        def __init__(self, mlp):
            self.fan_in, self.fan_out = mlp.fan_in, mlp.fan_out
            self.forward, self.parameters = mlp.forward, mlp.parameters

    rng = np.random.default_rng(5)
    known = shallow(13, (4,), 5, rng)
    hidden = refvlm.BernoulliLVM(known.prior, Anonymous(known.decoder))
    q, x, weights = refvlm.AmortisedPosterior(network([5, 13], rng)), binary(600, 5, rng), rng.normal(size=600)
    np.testing.assert_allclose(refvlm.log_marginal(hidden, x), refvlm.log_marginal(known, x), rtol=1e-13)
    np.testing.assert_allclose(refvlm.kl(hidden, q, x), refvlm.kl(known, q, x), rtol=1e-12)
    for got, expected in (
        (refvlm.grad_log_marginal(hidden, x, weights), refvlm.grad_log_marginal(known, x, weights)),
        (refvlm.grad_vlb(hidden, q, x, weights), refvlm.grad_vlb(known, q, x, weights)),
    ):
        assert list(got) == list(expected)
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-8, atol=1e-9)


def test_a_general_encoder_is_welcome():
    rng = np.random.default_rng(6)
    model, mlp, x = shallow(3, (), 5, rng), network([5, 4, 3], rng), binary(4, 5, rng)

    class Encoder:
        fan_in, fan_out = 5, 3
        forward, parameters = staticmethod(mlp.forward), staticmethod(mlp.parameters)

    known, general = refvlm.AmortisedPosterior(mlp), refvlm.AmortisedPosterior(Encoder())
    np.testing.assert_allclose(refvlm.vlb(model, general, x), refvlm.vlb(model, known, x), rtol=1e-13)


def test_a_decoder_that_misbehaves_is_named():
    rng = np.random.default_rng(7)

    class Broken(Parity):
        def forward(self, z):
            return np.full((len(z), 6), np.nan), None

    class Short(Parity):
        def forward(self, z):
            return np.zeros((len(z), 5)), None

    class Forgetful(Parity):
        def forward(self, z):
            return np.zeros((len(z), 6)), lambda slopes: {}

    prior, x = refvlm.Bernoulli(np.zeros(4)), binary(2, 6, rng)
    with pytest.raises(ValueError, match="decoder: forward returned logits that are not finite"):
        refvlm.log_marginal(refvlm.BernoulliLVM(prior, Broken(np.zeros(6))), x)
    with pytest.raises(ValueError, match=r"decoder: forward returned logits of shape \(16, 5\), wanted \(16, 6\)"):
        refvlm.log_marginal(refvlm.BernoulliLVM(prior, Short(np.zeros(6))), x)
    with pytest.raises(ValueError, match="pullback did not return 'slope'"):
        refvlm.grad_log_marginal(refvlm.BernoulliLVM(prior, Forgetful(np.zeros(6))), x)
