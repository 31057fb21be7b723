"""More latents than a code has bits: what does not enumerate takes any K, what does says so."""

import json

import numpy as np
import pytest
from problems import binary, network, shallow

import refvlm
from refvlm.bits import CODE_BITS, check_codes
from refvlm.cli import main
from refvlm.learning.rules import methods

SHAPES = [(64, 70), (65, 40), (200, 50), (2000, 30)]
"""K and L; N is 7."""
N = 7
SAMPLED = ["wake-sleep", "reweighted-wake-sleep", "vimco", "vlb"]


def encoder(model, rng):
    return refvlm.AmortisedPosterior(network([model.observed, model.latents], rng))


def bernoulli_log(logits, bits):
    """log of independent bits, as one would write it down."""
    return -np.logaddexp(0.0, np.where(bits == 1, -logits, logits)).sum(axis=1)


@pytest.mark.parametrize(("latents", "observed"), SHAPES)
def test_the_log_joint_is_that_of_the_definition(latents, observed):
    model = shallow(latents, (), observed, np.random.default_rng(0))
    x, z = model.sample(N, np.random.default_rng(1))
    assert x.shape == (N, observed)
    assert z.shape == (N, latents)
    logits = z @ model.decoder.weights[0] + model.decoder.biases[0]
    wanted = bernoulli_log(logits, x) + bernoulli_log(np.tile(model.prior.logits, (N, 1)), z)
    np.testing.assert_allclose(refvlm.log_joint(model, x, z), wanted, rtol=1e-13)


@pytest.mark.parametrize(("latents", "observed"), SHAPES)
def test_files_keep_every_bit(tmp_path, latents, observed):
    rng = np.random.default_rng(2)
    model = shallow(latents, (5,), observed, rng)
    q = encoder(model, rng)
    refvlm.save(tmp_path / "model.npz", model, q)
    loaded, posterior = refvlm.load(tmp_path / "model.npz")
    for before, after in ((model, loaded), (q, posterior)):
        for name, value in before.parameters().items():
            assert value.tobytes() == after.parameters()[name].tobytes(), name


@pytest.mark.parametrize(("latents", "observed"), SHAPES)
def test_estimates_meet_the_exact_values_of_the_five_bits_that_are_not_certain(latents, observed):
    """All other bits have infinite logits, so that a model of five bits has the same p(x), VLB and KL."""
    rng, free = np.random.default_rng(3), 5
    model = shallow(latents, (), observed, rng, scale=3.0)
    certain = rng.integers(0, 2, latents)
    chosen = rng.choice(latents, free, replace=False)
    logits = np.where(certain == 1, np.inf, -np.inf)
    logits[chosen] = rng.normal(size=free)
    q_logits = np.tile(logits, (N, 1))
    q_logits[:, chosen] = rng.normal(size=(N, free))
    weights, biases = model.decoder.weights[0], model.decoder.biases[0]
    fixed = certain.copy()
    fixed[chosen] = 0
    small = refvlm.BernoulliLVM(
        refvlm.Bernoulli(logits[chosen]), refvlm.MLP([weights[chosen]], [biases + fixed @ weights])
    )
    large = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), model.decoder)
    q, q_small = refvlm.PerDatumPosterior(q_logits), refvlm.PerDatumPosterior(q_logits[:, chosen])
    x, z = large.sample(N, rng)
    others = np.delete(np.arange(latents), chosen)
    np.testing.assert_array_equal(z[:, others], np.tile(certain[others], (N, 1)))
    exact = refvlm.decompose(small, q_small, x)
    for estimate, wanted in (
        (refvlm.log_marginal_estimate(large, q, x, rng, samples=1000), exact.log_px),
        (refvlm.vlb_estimate(large, q, x, rng, samples=1000), exact.vlb),
    ):
        assert (np.abs(estimate.value - wanted) < 6.0 * estimate.standard_error + 1e-12).all()
        assert (estimate.standard_error < 0.5).all()


@pytest.mark.parametrize("method", SAMPLED)
@pytest.mark.parametrize("latents", [(64,), (65,), (200,), (2000,), (200, 50)], ids=str)
def test_rules_that_draw_z_learn_any_number_of_latents(method, latents):
    rng = np.random.default_rng(4)
    x = shallow(3, (), 11, rng, scale=4.0).sample(40, rng)[0]
    options = {"gradient": "score-function", "samples": 4} if method == "vlb" else {}
    fitted = refvlm.fit(
        x, latents=latents, hidden=(), method=method, epochs=12, batch_size=20, evaluate_every=4, **options
    )
    first, last = fitted.history[0], fitted.history[-1]
    assert [layer.latents for layer in fitted.model.layers] == list(latents)
    assert last.log_px is None
    assert last.log_px_estimate > first.log_px_estimate


@pytest.mark.parametrize("latents", [CODE_BITS + 1, 200, 2000])
def test_what_enumerates_refuses_and_names_what_does_not(latents):
    rng = np.random.default_rng(5)
    model = shallow(latents, (), 6, rng)
    q, x = encoder(model, rng), binary(N, 6, rng)
    calls = [
        lambda: refvlm.log_marginal(model, x),
        lambda: refvlm.log_marginal(model, x[:0]),
        lambda: refvlm.posterior(model, x),
        lambda: refvlm.posterior_mean(model, x),
        lambda: refvlm.sample_posterior(model, x, 2, rng),
        lambda: refvlm.grad_log_marginal(model, x),
        lambda: refvlm.kl(model, q, x),
        lambda: refvlm.decompose(model, q, x),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"^latents: got {latents}, wanted at most 62 .*log_marginal_estimate"):
            call()
    for method in ("maximum-likelihood", "em"):
        with pytest.raises(ValueError, match=r"wanted at most 28 bits .*'wake-sleep'"):
            refvlm.fit(x, latents=latents, hidden=(), method=method)
    assert "'wake-sleep'" in methods(False)
    check_codes(CODE_BITS)


def test_a_layer_of_too_many_latents_is_refused_wherever_it_is():
    rng = np.random.default_rng(6)
    low = refvlm.BernoulliLVM(shallow(63, (), 4, rng), network([4, 9], rng))
    with pytest.raises(ValueError, match=r"^latents: got 63"):
        refvlm.log_marginal(low, binary(N, 9, rng))


def test_the_estimator_learns_many_latents_and_says_what_it_cannot():
    rng = np.random.default_rng(7)
    x = shallow(3, (), 11, rng, scale=4.0).sample(40, rng)[0]
    estimator = refvlm.BernoulliLVMEstimator(latents=65, hidden=(), method="wake-sleep", epochs=2).fit(x)
    assert estimator.sample(3).shape == (3, 11)
    with pytest.raises(ValueError, match=r"^score_samples: .*refvlm.log_marginal_estimate"):
        estimator.score(x)


def test_the_command_line_fits_samples_and_says_what_it_cannot_sum(tmp_path, capsys):
    path = str(tmp_path / "model.npz")
    arguments = ["fit", "bars", "-o", path, "--latents", "65,9", "--hidden", "none", "--method", "wake-sleep"]
    assert main([*arguments, "--epochs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["log_px_estimate"] < 0.0
    assert main(["sample", path, "-n", "3", "--latents"]) == 0
    assert len(capsys.readouterr().out.splitlines()[0].split(",")) == 16 + 65
    assert main(["evaluate", path, "bars"]) == 65
    message = capsys.readouterr().err
    assert "latents: got 65" in message
    assert "Traceback" not in message
