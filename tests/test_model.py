"""Models and posteriors as objects: construction, names, sampling, and what bad input is told."""

import numpy as np
import pytest
from problems import binary, deep, network, shallow

import refvlm
from refvlm.model.bernoulli import draw


def rng():
    return np.random.default_rng(0)


def test_parameters_carry_their_documented_names_and_shapes():
    model = deep(2, 3, 6, rng(), hidden=(4,))
    assert {name: value.shape for name, value in model.parameters().items()} == {
        "prior.prior.logits": (2,),
        "prior.decoder.weights.0": (2, 4),
        "prior.decoder.weights.1": (4, 3),
        "prior.decoder.biases.0": (4,),
        "prior.decoder.biases.1": (3,),
        "decoder.weights.0": (3, 4),
        "decoder.weights.1": (4, 6),
        "decoder.biases.0": (4,),
        "decoder.biases.1": (6,),
    }
    chain = refvlm.ChainPosterior([refvlm.AmortisedPosterior(network(s, rng())) for s in ([6, 3], [3, 2])])
    assert list(chain.parameters()) == [
        "0.encoder.weights.0",
        "0.encoder.biases.0",
        "1.encoder.weights.0",
        "1.encoder.biases.0",
    ]
    assert list(refvlm.PerDatumPosterior(np.zeros((4, 3))).parameters()) == ["logits"]
    again = model.with_parameters(model.parameters())
    x = binary(3, 6, rng())
    assert (refvlm.log_marginal(again, x) == refvlm.log_marginal(model, x)).all()


def test_parameters_are_exact_read_only_copies():
    weights = np.arange(6, dtype=np.float32).reshape(2, 3)
    mlp = refvlm.MLP([weights.tolist()], [np.array([1, 2, 3])])
    weights += 1
    assert mlp.weights[0].dtype == mlp.biases[0].dtype == np.float64
    np.testing.assert_array_equal(mlp.weights[0], np.arange(6).reshape(2, 3))
    with pytest.raises(ValueError, match="read-only"):
        mlp.weights[0][0, 0] = 1.0
    with pytest.raises(AttributeError):
        mlp.activation = "relu"


def test_a_network_shows_its_widths_and_not_its_weights():
    assert repr(network([3, 5, 4], rng(), "relu")) == "MLP(3-5-4, relu)"
    assert "MLP(3-5-4, tanh)" in repr(shallow(3, (5,), 4, rng()))


def test_forward_follows_the_weights_orientation():
    """a = h @ W + b with W (fan_in, fan_out), the last layer linear."""
    w0, w1, b0, b1 = rng().normal(size=(3, 4)), rng().normal(size=(4, 2)), rng().normal(size=4), rng().normal(size=2)
    z = binary(5, 3, rng())
    for name, function in {
        "tanh": np.tanh,
        "relu": lambda a: np.maximum(a, 0),
        "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
        "leaky_relu": lambda a: np.maximum(a, 0.01 * a),
        "elu": lambda a: np.maximum(a, 0) + np.exp(np.minimum(a, 0)) - 1,
        "softplus": lambda a: np.log(1 + np.exp(a)),
        "silu": lambda a: a / (1 + np.exp(-a)),
    }.items():
        logits, _ = refvlm.MLP([w0, w1], [b0, b1], name).forward(z)
        np.testing.assert_allclose(logits, function(z @ w0 + b0) @ w1 + b1, rtol=1e-14)
    linear, _ = refvlm.MLP([w0], [b0]).forward(z)
    np.testing.assert_allclose(linear, z @ w0 + b0, rtol=1e-15)


def test_a_bit_fires_exactly_when_u_is_below_p():
    class Uniforms(np.random.Generator):
        def random(self, shape):
            return np.broadcast_to([0.0, 0.0, 0.5, np.nextafter(0.5, 0), np.nextafter(1, 0)], shape)

    logits = np.array([[-np.inf, np.inf, 0.0, 0.0, np.inf]])
    assert draw(logits, Uniforms(np.random.PCG64())).tolist() == [[0, 1, 0, 1, 1]]


def test_samples_follow_the_model():
    """Counts of all 2**L outcomes: exact binomial tails at 1e-9 per cell, 16 + 8 cells."""
    from scipy.stats import binom

    model, n = shallow(3, (2,), 4, rng(), scale=2.0), 20000
    x, z = model.sample(n, np.random.default_rng(1))
    for rows, latents, probability in (
        (x, 4, np.exp(refvlm.log_marginal(model, refvlm.bits.table(4)))),
        (z, 3, np.exp(refvlm.log_prior(model, refvlm.bits.table(3)))),
    ):
        counts = np.bincount(refvlm.bits.codes_of(rows), minlength=1 << latents)
        assert (binom.cdf(counts, n, probability) > 1e-9).all()
        assert (binom.sf(counts - 1, n, probability) > 1e-9).all()


def test_deep_samples_follow_the_deep_model():
    from scipy.stats import binom

    model, n = deep(2, 3, 4, rng(), hidden=(5,), scale=2.0), 20000
    x, _ = model.sample(n, np.random.default_rng(2))
    probability = np.exp(refvlm.log_marginal(model, refvlm.bits.table(4)))
    counts = np.bincount(refvlm.bits.codes_of(x), minlength=16)
    assert (binom.cdf(counts, n, probability) > 1e-9).all()
    assert (binom.sf(counts - 1, n, probability) > 1e-9).all()


def test_sampling_takes_only_the_given_generator():
    model = shallow(3, (), 4, rng())
    first, again = (model.sample(20, np.random.default_rng(5)) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert model.sample(0, rng())[0].shape == (0, 4)


def test_joint_is_likelihood_plus_prior_and_bayes_holds():
    model, q = shallow(3, (5,), 4, rng()), refvlm.AmortisedPosterior(network([4, 3], rng()))
    x, z = binary(6, 4, rng()), binary(6, 3, rng())
    joint = refvlm.log_likelihood(model, x, z) + refvlm.log_prior(model, z)
    np.testing.assert_array_equal(refvlm.log_joint(model, x, z), joint)
    posterior = refvlm.posterior(model, x)[np.arange(6), refvlm.bits.codes_of(z)]
    np.testing.assert_allclose(np.log(posterior), joint - refvlm.log_marginal(model, x), rtol=1e-12, atol=1e-13)
    table = [refvlm.log_q(q, np.repeat(x[:1], 8, axis=0), refvlm.bits.table(3))]
    np.testing.assert_allclose(np.exp(table).sum(), 1.0, rtol=1e-14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: refvlm.Bernoulli([[0.0]]), r"logits: got shape \(1, 1\), wanted 1 axis"),
        (lambda: refvlm.Bernoulli([]), "logits: got none, wanted at least one"),
        (lambda: refvlm.Bernoulli([0.0, np.nan]), "logits: got nan at index"),
        (lambda: refvlm.Bernoulli([1e19]), r"logits: got 1e\+19 at index \(0,\), wanted \|logit\| <= 1e18"),
        (lambda: refvlm.Bernoulli.from_probabilities([0.5, 1.5]), "beta: got 1.5 at index 1, wanted probabilities"),
        (lambda: refvlm.MLP([], []), "weights, biases: got 0 and 0 arrays"),
        (lambda: refvlm.MLP([np.ones((2, 3))], [np.ones(2)]), r"biases\[0\]: got shape \(2,\), wanted \(3,\)"),
        (lambda: refvlm.MLP([np.ones((2, 3)), np.ones((4, 5))], [np.ones(3), np.ones(5)]), r"wanted \(3, fan_out\)"),
        (lambda: refvlm.MLP([np.ones(3)], [np.ones(3)]), r"weights\[0\]: got shape \(3,\), wanted 2 axes"),
        (lambda: refvlm.MLP([np.ones((0, 3))], [np.ones(3)]), "at least one input"),
        (lambda: refvlm.MLP([[[np.inf]]], [[0.0]]), r"weights\[0\]: got inf at index \(0, 0\), wanted finite"),
        (lambda: refvlm.MLP([[[1.0]]], [[np.nan]]), r"biases\[0\]: got nan"),
        (lambda: refvlm.MLP([[[1e300]]], [[0.0]]), r"add up to 1e\+300, wanted at most 1e\+18"),
        (lambda: refvlm.MLP([[[1e200]], [[1e200]]], [[0.0], [0.0]], "relu"), "add up to inf"),
        (lambda: refvlm.MLP([[[1.0]]], [[0.0]], "gelu"), "activation: got str 'gelu', wanted one of 'tanh'"),
        (lambda: refvlm.MLP.random([3], rng()), "sizes: got"),
        (lambda: refvlm.MLP.random([3, 0], rng()), r"sizes\[1\]: got 0, wanted at least 1"),
        (
            lambda: refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), network([2, 4], rng())),
            "decoder: got fan_in 2, wanted 3",
        ),
        (lambda: refvlm.PerDatumPosterior(np.zeros((4, 0))), "at least one latent bit"),
        (lambda: refvlm.PerDatumPosterior(np.zeros(4)), "wanted 2 axes"),
        (
            lambda: refvlm.ChainPosterior([refvlm.AmortisedPosterior(network(s, rng())) for s in ([6, 3], [4, 2])]),
            r"stages\[1\]: got an encoder with fan_in 4, wanted 3",
        ),
        (lambda: network([3, 2], rng()).forward(np.zeros((4, 2))), r"inputs: got shape \(4, 2\), wanted \(rows, 3\)"),
    ],
)
def test_bad_values_are_named_with_what_was_wanted(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: refvlm.Bernoulli(["a"]), "logits: got dtype"),
        (lambda: refvlm.Bernoulli([1j]), "logits: got dtype complex"),
        (lambda: refvlm.MLP(np.ones((2, 3)), [np.ones(3)]), "weights: got an array of shape"),
        (lambda: refvlm.BernoulliLVM(np.zeros(3), network([3, 4], rng())), "prior: got an array"),
        (lambda: refvlm.BernoulliLVM(refvlm.Bernoulli([0.0]), "net"), "decoder: got str 'net', wanted an MLP"),
        (lambda: refvlm.AmortisedPosterior(None), "encoder: got NoneType None"),
        (lambda: refvlm.ChainPosterior([]), "stages: got list"),
        (lambda: refvlm.ChainPosterior([refvlm.PerDatumPosterior(np.zeros((2, 3)))] * 2), r"stages\[1\]: got"),
        (lambda: shallow(2, (), 3, rng()).sample(2.5, rng()), "n: got float 2.5, wanted an integer"),
        (lambda: shallow(2, (), 3, rng()).sample(2, 42), "rng: got int 42, wanted a numpy.random.Generator"),
        (lambda: refvlm.log_marginal("model", [[1]]), "model: got str 'model'"),
        (lambda: refvlm.vlb(shallow(2, (), 3, rng()), None, [[0, 1, 1]]), "posterior: got NoneType"),
    ],
)
def test_bad_kinds_are_named_with_what_was_wanted(make, message):
    with pytest.raises(TypeError, match=message):
        make()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([0, 1, 0, 1], r"x: got shape \(4,\), wanted \(rows, columns\); for one row write x\[None\]"),
        (np.zeros((2, 5)), r"x: got shape \(2, 5\), wanted 4 columns"),
        (np.zeros((2, 4, 1)), "wanted two axes"),
        ([[0, 1, 2, 1]], "x: got 2 at row 0, column 2, wanted exactly 0 or 1; binarise first"),
        ([[0, 1, 1, 1], [0.5, 1, 0, 0]], "x: got 0.5 at row 1, column 0"),
        ([[0, np.nan, 1, 1]], r"x: got a missing value at row 0, column 1 \(1 in all\)"),
        ([[0, 1], [0]], "x: got list .*, wanted a rectangular array"),
    ],
)
def test_bad_data_is_named_with_what_was_wanted(x, message):
    model = shallow(3, (2,), 4, rng())
    with pytest.raises(ValueError, match=message):
        refvlm.log_marginal(model, x)
    with pytest.raises(ValueError, match=message):
        refvlm.grad_log_marginal(model, x)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint64, np.float32, np.float64])
def test_binary_data_of_any_type_is_welcome(dtype):
    model, x = shallow(3, (2,), 4, rng()), binary(5, 4, rng())
    assert (refvlm.log_marginal(model, x.astype(dtype)) == refvlm.log_marginal(model, x)).all()
    assert (refvlm.log_marginal(model, np.asfortranarray(x)) == refvlm.log_marginal(model, x)).all()


def test_a_tensor_that_tracks_gradients_is_told_what_to_do():
    class Tensor:
        def __array__(self, dtype=None, copy=None):
            raise RuntimeError("Can't call numpy() on Tensor that requires grad.")

    with pytest.raises(TypeError, match=r"logits: got Tensor .*pass tensor.detach\(\)"):
        refvlm.Bernoulli(Tensor())


def test_posteriors_that_do_not_fit_are_named():
    model, x = shallow(3, (2,), 4, rng()), binary(5, 4, rng())
    with pytest.raises(ValueError, match="posterior: got one over 2 bits, wanted the model's 3"):
        refvlm.vlb(model, refvlm.AmortisedPosterior(network([4, 2], rng())), x)
    with pytest.raises(ValueError, match="posterior: got an encoder with fan_in 5, wanted 4"):
        refvlm.kl(model, refvlm.AmortisedPosterior(network([5, 3], rng())), x)
    with pytest.raises(ValueError, match=r"logits for 6 rows and x with 5.*posterior.take"):
        refvlm.decompose(model, refvlm.PerDatumPosterior(np.zeros((6, 3))), x)
    chain = refvlm.ChainPosterior([refvlm.AmortisedPosterior(network(s, rng())) for s in ([4, 3], [3, 2])])
    with pytest.raises(ValueError, match="posterior: got a chain of 2 stages"):
        refvlm.vlb(model, chain, x)
    with pytest.raises(ValueError, match=r"weights: got shape \(4,\), wanted one number for each of the 5 rows"):
        refvlm.grad_log_marginal(model, x, np.ones(4))
    with pytest.raises(ValueError, match="samples: got 1, wanted at least 2"):
        refvlm.vlb_estimate(model, refvlm.AmortisedPosterior(network([4, 3], rng())), x, rng(), samples=1)


def test_taking_rows_keeps_each_row_with_its_phi():
    model, x = shallow(3, (2,), 4, rng()), binary(7, 4, rng())
    q = refvlm.PerDatumPosterior(rng().normal(size=(7, 3)))
    whole, rows = refvlm.vlb(model, q, x), np.array([5, 0, 3])
    np.testing.assert_array_equal(refvlm.vlb(model, q.take(rows), x[rows]), whole[rows])
    np.testing.assert_array_equal(refvlm.vlb(model, q.take(slice(2, 4)), x[2:4]), whole[2:4])
