"""Gradients of log p(x), eq. (5), and of the VLB, eq. (9), by name."""

import numpy as np
import pytest
from hypothesis import given
from problems import ACTIVATIONS, binary, deep, network, problems, shallow

import refvlm
from refvlm import bits
from refvlm.inference import definition


def direction(parameters, rng):
    """A random direction of unit length over a dictionary of arrays; infinite entries stay put."""
    moves = {name: np.where(np.isfinite(v), rng.normal(size=v.shape), 0.0) for name, v in parameters.items()}
    length = np.sqrt(sum((move**2).sum() for move in moves.values()))
    return {name: move / length for name, move in moves.items()}


def slope(function, parameters, move, step=1e-3):
    """d function / d step along `move`, sixth-order central differences: truncation step**6, rounding 1e-13 / step."""
    along = [function({k: v + t * step * move[k] for k, v in parameters.items()}) for t in (-3, -2, -1, 1, 2, 3)]
    return np.dot([-1, 9, -45, 45, -9, 1], along) / (60 * step)


def assert_gradient(function, gradient, parameters, rng, directions=4):
    assert {k: v.shape for k, v in gradient.items()} == {k: np.shape(v) for k, v in parameters.items()}
    for _ in range(directions):
        move = direction(parameters, rng)
        expected = slope(function, parameters, move)
        got = sum((gradient[name] * move[name]).sum() for name in parameters)
        size = 1 + abs(function(parameters)) + sum(np.abs(g).sum() for g in gradient.values())
        assert abs(got - expected) <= 2e-10 * size, (got, expected)


def assert_vlb_gradient(model, q, x, weights, rng):
    gradient = refvlm.grad_vlb(model, q, x, weights)
    parameters = {f"model.{k}": v for k, v in model.parameters().items()}
    parameters |= {f"posterior.{k}": v for k, v in q.parameters().items()}

    def bound(values):
        moved = model.with_parameters({k[6:]: v for k, v in values.items() if k.startswith("model.")})
        qs = q.with_parameters({k[10:]: v for k, v in values.items() if k.startswith("posterior.")})
        return float(weights @ refvlm.vlb(moved, qs, x))

    assert_gradient(bound, gradient, parameters, rng)


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus", "silu"])
@pytest.mark.parametrize(("latents", "hidden"), [(1, ()), (4, (3,)), (6, (5, 2)), (8, (9,)), (13, (4,))])
def test_gradients_match_finite_differences(latents, hidden, activation):
    rng = np.random.default_rng(latents)
    model = shallow(latents, hidden, 7, rng, activation)
    x, weights = binary(5, 7, rng), rng.normal(size=5)
    assert_gradient(
        lambda p: float(weights @ refvlm.log_marginal(model.with_parameters(p), x)),
        refvlm.grad_log_marginal(model, x, weights),
        model.parameters(),
        rng,
    )
    assert_vlb_gradient(model, refvlm.AmortisedPosterior(network([7, 6, latents], rng)), x, weights, rng)
    assert_vlb_gradient(model, refvlm.PerDatumPosterior(rng.normal(size=(5, latents))), x, weights, rng)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "elu"])
def test_gradients_match_finite_differences_away_from_the_kinks(activation):
    """All pre-activations of a K = 4 net stay further from 0 than the differences reach."""
    rng = np.random.default_rng(5)
    model = shallow(4, (5,), 6, rng, activation)
    hidden = bits.table(4) @ model.decoder.weights[0] + model.decoder.biases[0]
    assert np.abs(hidden).min() > 0.02
    x, weights = binary(3, 6, rng), rng.normal(size=3)
    assert_gradient(
        lambda p: float(weights @ refvlm.log_marginal(model.with_parameters(p), x)),
        refvlm.grad_log_marginal(model, x, weights),
        model.parameters(),
        rng,
    )


def test_gradients_match_finite_differences_in_deep_models():
    rng = np.random.default_rng(2)
    model, x, weights = deep(3, 5, 6, rng), binary(4, 6, rng), rng.normal(size=4)
    assert_gradient(
        lambda p: float(weights @ refvlm.log_marginal(model.with_parameters(p), x)),
        refvlm.grad_log_marginal(model, x, weights),
        model.parameters(),
        rng,
    )
    first, second = network([6, 4, 5], rng), network([5, 7, 3], rng)
    assert_vlb_gradient(model, refvlm.AmortisedPosterior(first), x, weights, rng)
    assert_vlb_gradient(model, refvlm.PerDatumPosterior(rng.normal(size=(4, 5))), x, weights, rng)
    chain = refvlm.ChainPosterior([refvlm.AmortisedPosterior(first), refvlm.AmortisedPosterior(second)])
    assert_vlb_gradient(model, chain, x, weights, rng)


def test_gradients_match_finite_differences_in_a_chain_of_three():
    rng = np.random.default_rng(3)
    model = refvlm.BernoulliLVM(deep(2, 3, 5, rng), network([5, 4, 6], rng))
    stages = [refvlm.AmortisedPosterior(network(s, rng)) for s in ([6, 5], [5, 7, 3], [3, 2])]
    assert_vlb_gradient(model, refvlm.ChainPosterior(stages), binary(4, 6, rng), rng.normal(size=4), rng)


@given(problems(infinite=True))
def test_gradients_of_many_rows_add_up_from_single_rows(p):
    """The road by tables against the log domain, row by row; the sizes of what is added set the scale."""
    x, weights = np.resize(p.x, (34, p.model.observed)), np.resize(p.weights, 34)
    together = refvlm.grad_log_marginal(p.model, x, weights)
    apart = [refvlm.grad_log_marginal(p.model, x[n : n + 1], weights[n : n + 1]) for n in range(34)]
    for name, value in together.items():
        parts = np.array([part[name] for part in apart])
        scale = np.abs(parts).sum(axis=0) + np.abs(weights).sum()
        assert (np.abs(value - parts.sum(axis=0)) <= 1e-10 * scale).all(), name


@given(problems(saturated=False, infinite=True))
def test_gradients_of_few_and_many_rows_equal_the_definition(p):
    for count in (len(p.x), 39):
        x, weights = np.resize(p.x, (count, p.model.observed)), np.resize(p.weights, count)
        expected = definition.grad_log_marginal(p.model, x, weights)
        for name, value in refvlm.grad_log_marginal(p.model, x, weights).items():
            scale = 1 + np.abs(expected[name]).max() + np.abs(weights).sum()
            assert (np.abs(value - expected[name]) <= 1e-12 * scale).all(), name


@pytest.mark.parametrize(("latents", "hidden", "observed"), [(5, (), 17), (11, (6,), 5), (13, (7, 5), 33), (12, (), 2)])
def test_gradients_over_several_pieces_equal_the_definition(latents, hidden, observed):
    rng = np.random.default_rng(latents)
    model = shallow(latents, hidden, observed, rng, "tanh", 2.0)
    for rows in (3, 47):
        x, weights = binary(rows, observed, rng), rng.normal(size=rows)
        expected = definition.grad_log_marginal(model, x, weights)
        for name, value in refvlm.grad_log_marginal(model, x, weights).items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-11, err_msg=name)
    model, x = deep(3, 6, 5, rng), binary(40, 5, rng)
    expected = definition.grad_log_marginal(model, x, np.ones(40))
    for name, value in refvlm.grad_log_marginal(model, x).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-10, atol=1e-11, err_msg=name)


@given(problems(saturated=False, most_observed=6, infinite=True))
def test_expected_gradient_of_log_marginal_under_the_model_is_zero(p):
    """sum over x of p(x) grad log p(x) = grad of 1."""
    x = bits.table(p.model.observed)
    gradient = refvlm.grad_log_marginal(p.model, x, np.exp(refvlm.log_marginal(p.model, x)))
    for value in gradient.values():
        assert np.abs(value).max() <= 1e-12


def test_expected_gradient_of_log_marginal_under_a_deep_model_is_zero():
    model, x = deep(2, 4, 6, np.random.default_rng(0)), bits.table(6)
    for value in refvlm.grad_log_marginal(model, x, np.exp(refvlm.log_marginal(model, x))).values():
        assert np.abs(value).max() <= 1e-13


@given(problems(saturated=False))
def test_value_and_gradient_together_equal_both_apart(p):
    values, gradient = refvlm.log_marginal_and_grad(p.model, p.x, p.weights)
    assert values.tobytes() == refvlm.log_marginal(p.model, p.x).tobytes()
    apart = refvlm.grad_log_marginal(p.model, p.x, p.weights)
    assert all(gradient[name].tobytes() == apart[name].tobytes() for name in p.model.parameters())


@given(problems(saturated=False))
def test_gradients_are_linear_in_the_weights(p):
    one = refvlm.grad_vlb(p.model, p.q, p.x, p.weights)
    rows = [refvlm.grad_vlb(p.model, q, p.x[n][None]) for n, q in enumerate(each_row(p.q, len(p.x)))]
    for name, value in one.items():
        if name == "posterior.logits":
            summed = np.concatenate([w * row[name] for w, row in zip(p.weights, rows, strict=True)])
        else:
            summed = sum(w * row[name] for w, row in zip(p.weights, rows, strict=True))
        np.testing.assert_allclose(value, summed, rtol=1e-9, atol=1e-11)


def each_row(q, rows):
    return [q.take(slice(n, n + 1)) if isinstance(q, refvlm.PerDatumPosterior) else q for n in range(rows)]


def test_vlb_gradient_vanishes_in_phi_at_the_best_phi_and_equals_the_marginals_in_theta_there():
    """Where q is the posterior, grad VLB = grad log p in theta and beta, and 0 in phi."""
    rng = np.random.default_rng(4)
    weights = np.zeros((3, 5))
    weights[[0, 0, 1, 2, 2], np.arange(5)] = rng.normal(size=5) * 2
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=3)), refvlm.MLP([weights], [rng.normal(size=5)]))
    x = binary(4, 5, rng)
    mean = refvlm.posterior_mean(model, x)  # the posterior factorises: each latent has observed bits of its own
    q = refvlm.PerDatumPosterior(np.log(mean) - np.log1p(-mean))
    gradient, marginal = refvlm.grad_vlb(model, q, x), refvlm.grad_log_marginal(model, x)
    assert np.abs(gradient["posterior.logits"]).max() <= 1e-13
    for name, value in marginal.items():
        np.testing.assert_allclose(gradient[f"model.{name}"], value, rtol=1e-10, atol=1e-12)


def test_gradient_in_an_infinite_logit_is_exactly_zero():
    rng = np.random.default_rng(5)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.4, -np.inf]), network([3, 4, 5], rng))
    x = binary(6, 5, rng)
    assert (refvlm.grad_log_marginal(model, x)["prior.logits"][[0, 2]] == 0).all()
    logits = np.tile([np.inf, 0.2, -np.inf], (6, 1))
    gradient = refvlm.grad_vlb(model, refvlm.PerDatumPosterior(logits), x)
    assert (gradient["posterior.logits"][:, [0, 2]] == 0).all()
    assert (gradient["model.prior.logits"][[0, 2]] == 0).all()
    assert (gradient["posterior.logits"][:, 1] != 0).all()


def test_vlb_gradient_is_refused_where_the_bound_is_minus_infinity():
    rng = np.random.default_rng(6)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.1, np.inf]), network([2, 3], rng))
    q = refvlm.PerDatumPosterior([[0.0, np.inf], [0.0, 1.0]])
    with pytest.raises(ValueError, match="row 1"):
        refvlm.grad_vlb(model, q, binary(2, 3, rng))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_pullback_is_the_transpose_of_the_forward_map(activation):
    rng = np.random.default_rng(7)
    mlp = network([4, 6, 3, 5], rng, activation)
    inputs, slopes = rng.normal(size=(7, 4)), rng.normal(size=(7, 5))
    gradient = mlp.forward(inputs)[1](slopes)
    assert list(gradient) == list(mlp.parameters())
    assert_gradient(
        lambda p: float((mlp.with_parameters(p).forward(inputs)[0] * slopes).sum()), gradient, mlp.parameters(), rng
    )


def test_the_gradient_check_objects_to_a_wrong_gradient():
    rng = np.random.default_rng(8)
    model, x = shallow(4, (3,), 6, rng), binary(5, 6, rng)
    for name in model.parameters():
        gradient = refvlm.grad_log_marginal(model, x)
        gradient[name] = gradient[name] * 1.0001 + 1e-6
        with pytest.raises(AssertionError):
            assert_gradient(
                lambda p: float(refvlm.log_marginal(model.with_parameters(p), x).sum()),
                gradient,
                model.parameters(),
                rng,
            )
