"""log p(x) = VLB + KL, eq. (8): the spine."""

import numpy as np
import pytest
from hypothesis import given, settings
from problems import binary, deep, network, problems, shallow

import refvlm
from refvlm.enumeration import kernels


def assert_identity(d):
    finite = np.isfinite(d.vlb)
    scale = 1 + np.abs(d.log_px) + np.where(finite, np.abs(d.vlb), 0.0)
    residual = np.abs(d.residual)
    assert (residual <= 1e-12 * scale).all(), (residual / scale).max()
    assert (np.isposinf(d.kl) == ~finite).all()


@settings(max_examples=300)
@given(problems())
def test_log_marginal_is_vlb_plus_kl(p):
    d = refvlm.decompose(p.model, p.q, p.x)
    assert np.isfinite(d.vlb).all()
    assert_identity(d)


@settings(max_examples=150)
@given(problems(infinite=True))
def test_log_marginal_is_vlb_plus_kl_with_degenerate_prior_bits(p):
    d = refvlm.decompose(p.model, p.q, p.x)
    assert np.isfinite(d.log_px).all()
    assert_identity(d)


@settings(max_examples=200)
@given(problems())
def test_vlb_never_exceeds_log_marginal(p):
    d = refvlm.decompose(p.model, p.q, p.x)
    assert (d.vlb <= d.log_px + 1e-12 * (1 + np.abs(d.log_px))).all()
    assert (d.kl >= 0).all()


def test_identity_across_pieces_and_pages():
    rng = np.random.default_rng(5)
    model, q = shallow(14, (6,), 5, rng), refvlm.AmortisedPosterior(network([5, 3, 14], rng))
    assert_identity(refvlm.decompose(model, q, binary(4, 5, rng)))


@pytest.mark.parametrize("top_latents", [3, 7])
def test_identity_in_a_deep_model_for_both_kinds_of_posterior(top_latents):
    rng = np.random.default_rng(top_latents)
    model = deep(top_latents, 5, 6, rng, scale=2.0)
    first, second = network([6, 4, 5], rng), network([5, 8, top_latents], rng)
    x = binary(9, 6, rng)
    for q in (
        refvlm.AmortisedPosterior(first),
        refvlm.PerDatumPosterior(rng.normal(size=(9, 5))),
        refvlm.ChainPosterior([refvlm.AmortisedPosterior(first), refvlm.AmortisedPosterior(second)]),
        refvlm.ChainPosterior([refvlm.PerDatumPosterior(rng.normal(size=(9, 5))), refvlm.AmortisedPosterior(second)]),
    ):
        assert_identity(refvlm.decompose(model, q, x))


def test_chain_of_three_layers_keeps_the_identity():
    rng = np.random.default_rng(8)
    model = refvlm.BernoulliLVM(deep(2, 3, 5, rng), network([5, 4, 6], rng))
    stages = [refvlm.AmortisedPosterior(network(s, rng)) for s in ([6, 5], [5, 7, 3], [3, 2])]
    d = refvlm.decompose(model, refvlm.ChainPosterior(stages), binary(7, 6, rng))
    assert_identity(d)
    single = refvlm.decompose(model, stages[0], binary(7, 6, np.random.default_rng(9)))
    assert_identity(single)


def test_where_q_meets_an_impossible_latent_both_infinities_appear():
    rng = np.random.default_rng(0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.3, -np.inf]), network([3, 4], rng))
    d = refvlm.decompose(model, refvlm.PerDatumPosterior(np.zeros((2, 3))), binary(2, 4, rng))
    assert np.isneginf(d.vlb).all()
    assert np.isposinf(d.kl).all()
    assert (d.residual == 0).all()
    assert np.isfinite(d.log_px).all()
    inside = refvlm.PerDatumPosterior(np.array([[np.inf, 0.7, -np.inf]] * 2))
    assert np.isfinite(refvlm.decompose(model, inside, binary(2, 4, rng)).vlb).all()


@pytest.mark.parametrize("logit", [30.0, 708.0, 709.0, 1e5, 1e18])
def test_mass_on_an_impossible_latent_counts_however_small(logit):
    """sigmoid(-709) is 0 in float64 and e**-709 in truth: VLB = -inf all the same, in shallow and in deep models."""
    rng = np.random.default_rng(1)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -np.inf]), network([2, 3], rng))
    q, x = refvlm.PerDatumPosterior([[0.1, -logit], [0.1, -np.inf]]), binary(2, 3, rng)
    d = refvlm.decompose(model, q, x)
    assert np.isneginf(d.vlb).tolist() == np.isposinf(d.kl).tolist() == [True, False]
    assert_identity(d)
    with pytest.raises(ValueError, match="row 0"):
        refvlm.grad_vlb(model, q, x)
    towering = refvlm.BernoulliLVM(
        refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf]), network([1, 2], rng)), network([2, 3], rng)
    )
    above = refvlm.AmortisedPosterior(refvlm.MLP([np.zeros((2, 1))], [[-logit]]))
    chain = refvlm.ChainPosterior([refvlm.PerDatumPosterior(np.zeros((2, 2))), above])
    assert np.isneginf(refvlm.vlb(towering, chain, x)).all()
    assert np.isposinf(refvlm.kl(towering, chain, x)).all()


def test_bound_is_tight_at_the_posterior_where_the_posterior_factorises():
    """Each latent switches its own observed bits, so p(z | x) is a product: q can equal it, and the gap closes."""
    rng = np.random.default_rng(3)
    weights = np.zeros((4, 7))
    owner = np.array([0, 0, 1, 1, 2, 3, 3])
    weights[owner, np.arange(7)] = rng.normal(size=7) * 2
    biases, prior = rng.normal(size=7), rng.normal(size=4)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), refvlm.MLP([weights], [biases]))
    x = binary(5, 7, rng)

    def softplus(a):
        return np.logaddexp(0.0, a)

    jump = x * weights.sum(axis=0) - softplus(biases + weights.sum(axis=0)) + softplus(biases)
    logits = prior + np.stack([jump[:, owner == k].sum(axis=1) for k in range(4)], axis=1)
    d = refvlm.decompose(model, refvlm.PerDatumPosterior(logits), x)
    np.testing.assert_allclose(d.vlb, d.log_px, rtol=1e-14, atol=1e-13)
    assert (d.kl <= 1e-24).all()  # second order in the rounding of the logits
    moved = refvlm.decompose(model, refvlm.PerDatumPosterior(logits + 0.01), x)
    assert (moved.kl > 1e-6).all()


@pytest.mark.parametrize(
    ("module", "broken"),
    [("marginal", "finish"), ("bound", "divergence"), ("bound", "reconstruction"), ("bernoulli", "prior_and_entropy")],
)
def test_corrupting_any_one_route_moves_the_residual(module, broken, monkeypatch):
    rng = np.random.default_rng(1)
    model, q, x = shallow(5, (4,), 6, rng), refvlm.AmortisedPosterior(network([6, 5], rng)), binary(3, 6, rng)
    home = getattr(kernels, module)
    original = getattr(home, broken)

    def shifted(*arguments):
        result = original(*arguments)
        return tuple(part + 1e-6 for part in result) if isinstance(result, tuple) else result + 1e-6

    monkeypatch.setattr(home, broken, shifted)
    assert (np.abs(refvlm.decompose(model, q, x, workers=1).residual) > 5e-7).all()
