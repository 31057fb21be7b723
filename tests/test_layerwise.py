"""A q that factorises over all layers given x: VLB, KL and gradients, against sums that import nothing of refvlm."""

import itertools
import json
import math

import numpy as np
import pytest
from problems import binary, network

import refvlm
from refvlm.cli import main
from refvlm.inference import bound_certificate, bounds, cost
from refvlm.learning.inclusive import cover
from refvlm.testing import assert_grad_close, assert_vlb_close


def stacked(sizes, rng, hidden=(), scale=1.5):
    """A model of sizes L, K1, K2, ...; hidden: of the decoder next to x."""
    prior = refvlm.Bernoulli(rng.normal(size=sizes[-1]))
    for depth in range(len(sizes) - 1, 0, -1):
        widths = [sizes[depth], *(hidden if depth == 1 else ()), sizes[depth - 1]]
        prior = refvlm.BernoulliLVM(prior, network(widths, rng, scale=scale))
    return prior


def encoders(sizes, rng, hidden=()):
    return [refvlm.AmortisedPosterior(network([sizes[0], *hidden, k], rng, scale=1.5)) for k in sizes[1:]]


def per_datum(sizes, rows, rng, spread=1.5):
    return [refvlm.PerDatumPosterior(spread * rng.normal(size=(rows, k))) for k in sizes[1:]]


def log_sigmoid(a):
    return -np.logaddexp(0.0, -a)


def log_bits(logits, z):
    """log Bernoulli(z; sigmoid(logits)) added up over the last axis; an infinite logit is a certain bit."""
    with np.errstate(invalid="ignore"):
        return np.where(z == 1, log_sigmoid(logits), log_sigmoid(-logits)).sum(axis=-1)


def forward(weights, biases, h):
    for depth, (w, b) in enumerate(zip(weights, biases, strict=True)):
        h = (np.tanh(h) if depth else h) @ w + b
    return h


def codes(k):
    return np.array(list(itertools.product((0, 1), repeat=k)))


def summed(model, logits, x):
    """The three terms of eq. (10) by the sum over the codes of all layers; logits: (N, K) of each layer, from x up."""
    layers = model.layers
    tables = [codes(layer.latents) for layer in layers]
    prior, reconstruction, entropy = np.zeros(len(x)), np.zeros(len(x)), np.zeros(len(x))
    for n, row in enumerate(x):
        for z in itertools.product(*tables):
            log_q = sum(log_bits(a[n], part) for a, part in zip(logits, z, strict=True))
            if log_q == -np.inf:
                continue
            chain = [row, *z]
            given = [
                log_bits(forward(layer.decoder.weights, layer.decoder.biases, chain[d + 1]), chain[d])
                for d, layer in enumerate(layers)
            ]
            mass = np.exp(log_q)
            reconstruction[n] += mass * given[0]
            prior[n] += mass * (sum(given[1:]) + log_bits(model.top.logits, z[-1]))
            entropy[n] -= mass * log_q
    return prior, reconstruction, entropy


def logits_of(q, x):
    return [
        stage.logits if isinstance(stage, refvlm.PerDatumPosterior)
        else forward(stage.encoder.weights, stage.encoder.biases, x)
        for stage in q.stages
    ]  # fmt: skip


def constant(logits, fan_in):
    return refvlm.AmortisedPosterior(refvlm.MLP([np.zeros((fan_in, len(logits)))], [logits]))


def chain_of_row(q, x, n, sizes):
    """The same q for row n of x as a chain, whose upper stages do not look at the layer below."""
    lowest, *upper = logits_of(q, x)
    stages = [constant(a[n], below) for a, below in zip(upper, sizes[1:], strict=False)]
    return refvlm.ChainPosterior([refvlm.PerDatumPosterior(lowest[n : n + 1]), *stages])


SIZES = [(7, 4, 3), (5, 2, 6), (6, 4, 2, 3), (1, 3, 2), (4, 1, 2)]


@pytest.fixture(params=[True, False], ids=["lowest summed", "never summed"])
def either_way(request, monkeypatch):
    if not request.param:
        monkeypatch.setattr(bounds, "SUMMED_LATENTS", 0)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("kind", ["amortised", "per-datum", "mixed"])
def test_the_terms_are_sums_over_the_codes_of_all_layers(sizes, kind, either_way):
    rng = np.random.default_rng(len(sizes))
    model, x = stacked(sizes, rng), binary(8, sizes[0], rng)
    amortised, stored = encoders(sizes, rng), per_datum(sizes, 8, rng)
    stages = {"amortised": amortised, "per-datum": stored, "mixed": [*amortised[:1], *stored[1:]]}[kind]
    q = refvlm.LayerwisePosterior(stages)
    terms = refvlm.vlb_terms(model, q, x)
    wanted = summed(model, logits_of(q, x), x)
    for name, got, exact in zip(terms._fields, terms, wanted, strict=True):
        np.testing.assert_allclose(got, exact, rtol=1e-12, atol=1e-13, err_msg=name)
    value, error = refvlm.vlb(model, q, x, with_error=True)
    assert (np.abs(value - sum(wanted)) <= error + 1e-13 * np.abs(value)).all()
    assert (0 < error).all()
    assert (error <= 1e-12 * (1 + np.abs(value))).all()


@pytest.mark.parametrize("hidden", [(9,), (9, 10)])
def test_the_decoder_next_to_x_may_have_hidden_layers(hidden):
    """L, K1, K2 = 7, 4, 3; N = 6."""
    rng = np.random.default_rng(1)
    sizes = (7, 4, 3)
    model, x = stacked(sizes, rng, hidden), binary(6, 7, rng)
    q = refvlm.LayerwisePosterior(encoders(sizes, rng, (8,)))
    terms = refvlm.vlb_terms(model, q, x)
    np.testing.assert_allclose(np.array(terms), np.array(summed(model, logits_of(q, x), x)), rtol=1e-12, atol=1e-13)
    decomposed = refvlm.decompose(model, q, x)
    assert (np.abs(decomposed.residual) <= decomposed.log_px_error + decomposed.vlb_error + decomposed.kl_error).all()


@pytest.mark.parametrize("sizes", SIZES)
def test_it_is_the_chain_whose_upper_stages_are_constant(sizes, either_way):
    """VLB, its terms, KL, and every gradient: the chain's are sums over codes."""
    rng = np.random.default_rng(2)
    rows = 8
    model, x, weights = stacked(sizes, rng), binary(rows, sizes[0], rng), rng.normal(size=rows)
    q = refvlm.LayerwisePosterior(per_datum(sizes, rows, rng))
    value, divergence, terms = refvlm.vlb(model, q, x), refvlm.kl(model, q, x), refvlm.vlb_terms(model, q, x)
    gradient = refvlm.grad_vlb(model, q, x, weights)
    of_model = dict.fromkeys(model.parameters(), 0.0)
    for n in range(rows):
        chain, row = chain_of_row(q, x, n, sizes), x[n : n + 1]
        np.testing.assert_allclose(value[n], refvlm.vlb(model, chain, row)[0], rtol=1e-12)
        np.testing.assert_allclose(divergence[n], refvlm.kl(model, chain, row)[0], rtol=1e-11, atol=1e-13)
        chained = refvlm.vlb_terms(model, chain, row)
        # a chain's recursion counts the layers between into its prior, too
        np.testing.assert_allclose([t[n] for t in terms], [t[0] for t in chained], rtol=1e-12, atol=1e-13)
        slopes = refvlm.grad_vlb(model, chain, row, weights[n : n + 1])
        for name in of_model:
            of_model[name] = of_model[name] + slopes[f"model.{name}"]
        for depth in range(len(sizes) - 1):
            name = "logits" if depth == 0 else "encoder.biases.0"
            np.testing.assert_allclose(
                gradient[f"posterior.{depth}.logits"][n], slopes[f"posterior.{depth}.{name}"].ravel(), atol=1e-12
            )
    for name, wanted in of_model.items():
        np.testing.assert_allclose(gradient[f"model.{name}"], wanted, rtol=1e-11, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("sizes", [(6, 4, 3), (5, 3, 2, 4)])
@pytest.mark.parametrize("hidden", [(), (7,)])
def test_the_gradient_in_every_parameter_is_the_slope(sizes, hidden, either_way):
    """Central differences of the VLB, entry by entry; N = 8, encoders with a hidden layer and one phi per row."""
    rng = np.random.default_rng(3)
    model, x, weights = stacked(sizes, rng, hidden), binary(8, sizes[0], rng), rng.normal(size=8)
    q = refvlm.LayerwisePosterior([*encoders(sizes[:-1], rng, (9,)), per_datum(sizes, 8, rng)[-1]])
    gradient = refvlm.grad_vlb(model, q, x, weights)
    parameters = {"model.": model.parameters(), "posterior.": q.parameters()}
    assert list(gradient) == [prefix + name for prefix, own in parameters.items() for name in own]
    step = 1e-3
    for prefix, own in parameters.items():
        for name, value in own.items():
            for at in np.ndindex(value.shape):
                moved = []
                for k in (1, -1, 2, -2):
                    there = value.copy()
                    there[at] += k * step
                    parts = {"model.": model, "posterior.": q}
                    parts[prefix] = parts[prefix].with_parameters(own | {name: there})
                    moved.append(weights @ refvlm.vlb(*parts.values(), x))
                slope = (8 * (moved[0] - moved[1]) - (moved[2] - moved[3])) / (12 * step)
                assert abs(gradient[prefix + name][at] - slope) < 1e-8, (prefix + name, at)


@pytest.mark.parametrize(
    ("sizes", "hidden", "rows"), [((7, 5, 3), (), 40), ((9, 3, 6), (4,), 5), ((5, 4, 2, 3), (), 7)]
)
@pytest.mark.parametrize("scale", [0.3, 3.0, 30.0])
def test_log_marginal_is_vlb_plus_kl_within_the_three_bounds(sizes, hidden, rows, scale):
    rng = np.random.default_rng(4)
    model = stacked(sizes, rng, hidden, scale)
    x = model.sample(rows, rng)[0]
    q = refvlm.LayerwisePosterior([*encoders(sizes[:-1], rng), per_datum(sizes, rows, rng, 5.0)[-1]])
    d = refvlm.decompose(model, q, x)
    assert (np.abs(d.residual) <= d.log_px_error + d.vlb_error + d.kl_error).all()
    assert (d.kl >= 0.0).all()
    value, error = refvlm.vlb(model, q, x, with_error=True)
    gap, gap_error = refvlm.kl(model, q, x, with_error=True)
    assert (value.tobytes(), error.tobytes()) == (d.vlb.tobytes(), d.vlb_error.tobytes())
    assert (gap.tobytes(), gap_error.tobytes()) == (d.kl.tobytes(), d.kl_error.tobytes())


def test_a_certain_q_gives_the_log_joint_and_mixed_infinities_the_sum(either_way):
    """L, K1, K2 = 7, 4, 3; N = 6."""
    rng = np.random.default_rng(5)
    sizes = (7, 4, 3)
    model, x = stacked(sizes, rng), binary(6, 7, rng)
    z = [binary(6, k, rng) for k in sizes[1:]]
    q = refvlm.LayerwisePosterior([refvlm.PerDatumPosterior(np.where(part == 1, np.inf, -np.inf)) for part in z])
    value, error = refvlm.vlb(model, q, x, with_error=True)
    joint = refvlm.log_likelihood(model, x, z[0]) + refvlm.log_joint(model.prior, z[0], z[1])
    assert (np.abs(value - joint) <= error + 1e-13).all()
    assert not refvlm.vlb_terms(model, q, x).entropy.any()
    logits = [1.5 * rng.normal(size=part.shape) for part in z]
    for a in logits:
        a[:, 0] = rng.choice([-np.inf, np.inf], size=6)
    mixed = refvlm.LayerwisePosterior([refvlm.PerDatumPosterior(a) for a in logits])
    wanted = summed(model, logits, x)
    np.testing.assert_allclose(np.array(refvlm.vlb_terms(model, mixed, x)), np.array(wanted), rtol=1e-12)
    gradient = refvlm.grad_vlb(model, mixed, x)
    assert all(np.isfinite(value).all() for value in gradient.values())
    for depth in (0, 1):
        assert not gradient[f"posterior.{depth}.logits"][:, 0].any()
        assert gradient[f"posterior.{depth}.logits"][:, 1:].all()


def test_mass_on_an_impossible_z_makes_both_infinities_and_is_refused_a_gradient(either_way):
    """L, K1, K2 = 7, 4, 3; N = 5; the first bit of the top is always 1, the q of row 2 alone agrees."""
    rng = np.random.default_rng(6)
    sizes = (7, 4, 3)
    free = stacked(sizes, rng)
    top = np.array([np.inf, 0.3, -np.inf])
    model = free.with_parameters(free.parameters() | {"prior.prior.logits": top})
    x = binary(5, 7, rng)
    logits = rng.normal(size=(5, 3))
    logits[2, [0, 2]] = np.inf, -np.inf
    lowest = per_datum(sizes, 5, rng)[0]
    q = refvlm.LayerwisePosterior([lowest, refvlm.PerDatumPosterior(logits)])
    d = refvlm.decompose(model, q, x)
    inside = np.arange(5) == 2
    np.testing.assert_array_equal(np.isneginf(d.vlb), ~inside)
    np.testing.assert_array_equal(np.isposinf(d.kl), ~inside)
    assert not d.residual[~inside].any()
    assert not d.vlb_error[~inside].any()
    assert not d.kl_error[~inside].any()
    assert abs(d.residual[2]) <= d.log_px_error[2] + d.vlb_error[2] + d.kl_error[2]
    with pytest.raises(ValueError, match=r"^posterior: puts mass on a z of zero prior probability for row 0 of x"):
        refvlm.grad_vlb(model, q, x)
    gradient = refvlm.grad_vlb(model, q.take(slice(2, 3)), x[2:3])
    assert all(np.isfinite(value).all() for value in gradient.values())
    assert not gradient["model.prior.prior.logits"][[0, 2]].any()


@pytest.mark.parametrize("latents", [(50, 20), (100, 50), (200, 50), (30, 40, 25)])
def test_many_latents_agree_with_draws_and_have_small_bounds(latents):
    """L = 33, N = 7."""
    rng = np.random.default_rng(7)
    sizes = (33, *latents)
    model, q = stacked(sizes, rng, scale=1.0), refvlm.LayerwisePosterior(encoders(sizes, rng))
    for layer in model.layers:
        assert bound_certificate.largest_logits(layer.decoder).max() < 50.0
    x = model.sample(7, rng)[0]
    value, error = refvlm.vlb(model, q, x, with_error=True)
    estimate = refvlm.vlb_estimate(model, q, x, rng, samples=4000)
    assert (np.abs(estimate.value - value) < 5.0 * estimate.standard_error).all()
    assert (error <= 1e-12 * (1 + np.abs(value))).all()
    gradient = refvlm.grad_vlb(model, q, x)
    direction = {name: rng.normal(size=g.shape) for name, g in gradient.items()}

    def moved(step):
        parts = {"model.": model, "posterior.": q}
        there = [
            part.with_parameters({n: v + step * direction[prefix + n] for n, v in part.parameters().items()})
            for prefix, part in parts.items()
        ]
        return refvlm.vlb(*there, x).sum()

    step = 1e-4
    slope = (8 * (moved(step) - moved(-step)) - (moved(2 * step) - moved(-2 * step))) / (12 * step)
    assert abs(slope - sum((gradient[n] * direction[n]).sum() for n in gradient)) < 1e-5


def exact_encoder(mp, encoder, row):
    h = [mp.mpf(int(bit)) for bit in row]
    for depth, (w, b) in enumerate(zip(encoder.weights, encoder.biases, strict=True)):
        h = [mp.tanh(v) for v in h] if depth else h
        h = [mp.mpf(b[j]) + mp.fsum(v * mp.mpf(w[i, j]) for i, v in enumerate(h)) for j in range(len(b))]
    return h


def fifty_digits(mp, model, q, x, n):
    """The VLB of row n, and log p(x), by the sum over the codes of all layers."""
    logits = [
        [mp.mpf(float(a)) for a in stage.logits[n]] if isinstance(stage, refvlm.PerDatumPosterior)
        else exact_encoder(mp, stage.encoder, x[n])
        for stage in q.stages
    ]  # fmt: skip

    def log_p(a, bits):
        return mp.fsum(-mp.log1p(mp.exp(-v if bit else v)) for v, bit in zip(a, bits, strict=True))

    total, marginal = mp.mpf(0), mp.mpf(0)
    for z in itertools.product(*(codes(layer.latents).tolist() for layer in model.layers)):
        log_q = mp.fsum(log_p(a, part) for a, part in zip(logits, z, strict=True))
        rows = [x[n].tolist(), *z]
        value = log_p([mp.mpf(float(v)) for v in model.top.logits], z[-1])
        for d, layer in enumerate(model.layers):
            w, b = layer.decoder.weights[0], layer.decoder.biases[0]
            a = [
                mp.mpf(b[i]) + mp.fsum(mp.mpf(w[k, i]) for k, bit in enumerate(rows[d + 1]) if bit)
                for i in range(len(b))
            ]
            value += log_p(a, rows[d])
        total += mp.exp(log_q) * (value - log_q)
        marginal += mp.exp(value)
    return total, mp.log(marginal)


@pytest.mark.parametrize("sizes", [(4, 3, 2), (5, 2, 3), (4, 2, 1, 3)])
@pytest.mark.parametrize("scale", [0.5, 4.0, 60.0])
def test_values_are_within_their_bounds_of_fifty_digits(sizes, scale, either_way):
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(8)
    model = stacked(sizes, rng, scale=scale)
    x = model.sample(6, rng)[0]
    for spread in (0.3, 3.0, 30.0):
        q = refvlm.LayerwisePosterior(per_datum(sizes, 6, rng, spread))
        value, error = refvlm.vlb(model, q, x, with_error=True)
        with mp.workdps(50):
            for n in range(6):
                assert abs(mp.mpf(value[n]) - fifty_digits(mp, model, q, x, n)[0]) <= float(error[n])


@pytest.mark.parametrize("depth", [0, 1])
def test_the_bound_covers_the_errors_of_each_stages_logits(depth, either_way):
    """L, K1, K2 = 4, 2, 3, N = 5: an encoder whose hidden units cancel loses five digits of its logits."""
    mp = pytest.importorskip("mpmath")
    rng = np.random.default_rng(9)
    sizes = (4, 2, 3)
    model, x = stacked(sizes, rng), binary(5, 4, rng)
    latents = sizes[depth + 1]
    first = rng.normal(size=(4, 6))
    second = 1e6 * rng.normal(size=(6, latents))
    offset = -np.tanh(x[0] @ first + 0.25) @ second  # so that logits of row 0 are small, and what is rounded is not
    loose = refvlm.AmortisedPosterior(refvlm.MLP([first, second], [np.full(6, 0.25), offset]))
    stages = list(per_datum(sizes, 1, rng))
    stages[depth] = loose
    q = refvlm.LayerwisePosterior(stages)
    value, error = refvlm.vlb(model, q, x[:1], with_error=True)
    gap, gap_error = refvlm.kl(model, q, x[:1], with_error=True)
    with mp.workdps(50):
        bound, log_px = fifty_digits(mp, model, q, x[:1], 0)
        off, gap_off = abs(mp.mpf(value[0]) - bound), abs(mp.mpf(gap[0]) - (log_px - bound))
    assert off <= float(error[0])
    assert gap_off <= float(gap_error[0])
    stages[depth] = refvlm.PerDatumPosterior(loose.forward(x[:1])[0])
    stored = refvlm.LayerwisePosterior(stages)
    assert off > 10 * refvlm.vlb(model, stored, x[:1], with_error=True)[1][0]
    assert gap_off > 10 * refvlm.kl(model, stored, x[:1], with_error=True)[1][0]
    assert error[0] > 1e-11


@pytest.mark.parametrize("latents", [(5, 3), (40, 25)])
def test_bits_depend_on_neither_workers_nor_the_other_rows(latents):
    """L = 37, N = 70."""
    rng = np.random.default_rng(10)
    sizes = (37, *latents)
    model, x = stacked(sizes, rng), binary(70, 37, rng)
    q = refvlm.LayerwisePosterior([encoders(sizes, rng)[0], per_datum(sizes, 70, rng)[1]])
    value, error = refvlm.vlb(model, q, x, with_error=True, workers=1)
    calls = []
    again, _ = refvlm.vlb(model, q, x, with_error=True, workers=2, progress=lambda *done: calls.append(done))
    assert again.tobytes() == value.tobytes()
    assert calls[-1][0] == calls[-1][1] > 0
    some = refvlm.vlb(model, q.take(np.arange(20, 60)), x[20:60], with_error=True)
    assert (some[0].tobytes(), some[1].tobytes()) == (value[20:60].tobytes(), error[20:60].tobytes())
    first, second = (refvlm.grad_vlb(model, q, x, workers=workers) for workers in (1, 2))
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)
    assert refvlm.vlb(model, q.take(slice(0, 0)), x[:0]).shape == (0,)
    assert not np.any([g.any() for g in refvlm.grad_vlb(model, q.take(slice(0, 0)), x[:0]).values()])
    if latents == (5, 3):
        assert refvlm.kl(model, q, x, workers=1).tobytes() == refvlm.kl(model, q, x, workers=2).tobytes()
        assert refvlm.decompose(model, q.take(slice(0, 0)), x[:0]).kl.shape == (0,)


def test_estimates_and_one_sided_bounds_surround_the_exact_values():
    """L, K1, K2, K3 = 7, 4, 3, 2; N = 6, of which rows the model drew."""
    rng = np.random.default_rng(11)
    sizes = (7, 4, 3, 2)
    model = stacked(sizes, rng)
    x, z = model.sample(6, rng)
    q = refvlm.LayerwisePosterior([*encoders(sizes[:-1], rng), per_datum(sizes, 6, rng)[-1]])
    d = refvlm.decompose(model, q, x)
    estimate = refvlm.vlb_estimate(model, q, x, rng, samples=5000)
    assert (np.abs(estimate.value - d.vlb) < 5 * estimate.standard_error).all()
    estimate = refvlm.log_marginal_estimate(model, q, x, rng, samples=20000)
    assert (np.abs(estimate.value - d.log_px) < 5 * estimate.standard_error).all()
    lower = refvlm.log_marginal_lower(model, q, x, rng, samples=5000)
    assert (lower <= d.log_px).all()
    assert (lower > d.log_px - 2.0).all()
    upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=50)
    assert upper >= d.log_px.mean()
    np.testing.assert_allclose(
        refvlm.log_q(q, x, z), log_bits(forward(q.stages[0].encoder.weights, q.stages[0].encoder.biases, x), z)
    )


def test_parameters_rows_and_the_length_of_stages():
    """L, K1, K2 = 7, 4, 3; N = 6."""
    rng = np.random.default_rng(12)
    sizes = (7, 4, 3)
    q = refvlm.LayerwisePosterior([encoders(sizes, rng)[0], per_datum(sizes, 6, rng)[1]])
    assert q.latents == 4
    assert list(q.parameters()) == ["0.encoder.weights.0", "0.encoder.biases.0", "1.logits"]
    moved = q.with_parameters({name: value + 1.0 for name, value in q.parameters().items()})
    assert type(moved) is refvlm.LayerwisePosterior
    np.testing.assert_array_equal(moved.stages[1].logits, q.stages[1].logits + 1.0)
    part = q.take(slice(2, 5))
    assert part.stages[0] is q.stages[0]
    np.testing.assert_array_equal(part.stages[1].logits, q.stages[1].logits[2:5])


def wrong():
    """(what is called, what its one line begins with)."""
    rng = np.random.default_rng(13)
    sizes = (7, 4, 3)
    model, x, stages = stacked(sizes, rng), binary(6, 7, rng), encoders(sizes, rng)
    q, layerwise = refvlm.LayerwisePosterior(stages), refvlm.LayerwisePosterior
    linear = stacked((4, 3), rng)
    hidden = refvlm.BernoulliLVM(refvlm.BernoulliLVM(linear.prior, network([3, 5, 4], rng)), model.decoder)
    steep = refvlm.BernoulliLVM(
        refvlm.BernoulliLVM(linear.prior, refvlm.MLP([np.full((3, 4), 1e4)], [np.zeros(4)])), model.decoder
    )
    tall, wide = stacked((7, 70, 3), rng, hidden=(5,)), stacked((7, 70, 3), rng)
    of_tall, flat = layerwise(encoders((7, 70, 3), rng)), stacked((7, 4), rng)
    of_four = layerwise([*stages, refvlm.PerDatumPosterior(np.zeros((6, 2)))])
    numbers = refvlm.PerDatumPosterior(np.zeros((6, 3)))
    not_linear = (
        r"decoder: prior\.decoder is not linear, or has logits above 10000, wanted neither for the exact VLB of a "
        r"LayerwisePosterior; a ChainPosterior or vlb_estimate take such a model"
    )
    return [
        (lambda: layerwise(stages[:1]), r"stages: got list .*, wanted a list of at least two posteriors"),
        (lambda: layerwise(stages[0]), "stages: got "),
        (lambda: layerwise([stages[0], q]), r"stages\[1\]: got .*, wanted AmortisedPosterior or PerDatumPosterior"),
        (
            lambda: layerwise([stages[0], refvlm.AmortisedPosterior(network([4, 3], rng))]),
            "stages: got encoders with fan_in 4 and 7, wanted one number",
        ),
        (
            lambda: layerwise([refvlm.PerDatumPosterior(np.zeros((5, 4))), numbers]),
            "stages: got logits with rows 5 and 6, wanted one number",
        ),
        (
            lambda: refvlm.vlb(model, of_four, x),
            r"posterior: got layerwise stages over \[4, 3, 2\] bits, wanted \[4, 3\]",
        ),
        (lambda: refvlm.vlb(flat, q, x), r"posterior: got layerwise stages over \[4, 3\] bits, wanted \[4\]"),
        (lambda: refvlm.vlb(model, layerwise(stages[::-1]), x), "posterior: got one over 3 bits, wanted the model's 4"),
        (
            lambda: refvlm.vlb(model, layerwise(encoders((8, 4, 3), rng)), x),
            "posterior: got an encoder with fan_in 8, wanted 7",
        ),
        (
            lambda: refvlm.vlb(model, layerwise([stages[0], numbers]), x[:5]),
            "posterior: got logits for 6 rows and x with 5",
        ),
        (lambda: refvlm.vlb(hidden, q, x), not_linear),
        (lambda: refvlm.grad_vlb(hidden, q, x), not_linear),
        (lambda: refvlm.decompose(steep, q, x), not_linear),
        (lambda: refvlm.vlb(tall, of_tall, x), "latents: got 70, wanted at most 62 for a sum"),
        (lambda: refvlm.kl(wide, of_tall, x), "latents: got 70, wanted at most 62 for a sum .* kl_bracket"),
        (lambda: refvlm.decompose(wide, of_tall, x), "latents: got 70, .* decompose_bracket"),
        (lambda: cover(model, q, x, 3), "posterior: got a LayerwisePosterior, wanted a single one or a ChainPosterior"),
        (
            lambda: refvlm.fit(x, latents=(4, 3), hidden=(), posterior="layerwise"),
            "posterior: got 'layerwise' with method 'maximum-likelihood', wanted the method 'vlb'",
        ),
        (
            lambda: refvlm.fit(x, latents=(4, 3), hidden=(), method="wake-sleep", posterior="layerwise"),
            "posterior: got 'layerwise' with method 'wake-sleep', wanted the method 'vlb'",
        ),
        (
            lambda: refvlm.fit(x, latents=4, hidden=(), method="vlb", posterior="layerwise"),
            "posterior: got 'layerwise' for one layer of latents, wanted latents=",
        ),
        (lambda: refvlm.fit(x, latents=(4, 3), hidden=(5,), method="vlb", posterior="layerwise"), not_linear),
        (
            lambda: refvlm.fit(x, method="vlb", start=(model, q)),
            "start: got a LayerwisePosterior with posterior='amortised'",
        ),
        (
            lambda: refvlm.fit(x, method="vlb", posterior="layerwise", start=(model, layerwise([stages[0], numbers]))),
            "start: got a LayerwisePosterior with one phi per datum",
        ),
    ]


@pytest.mark.parametrize("number", range(len(wrong())))
def test_what_does_not_fit_is_refused_in_one_line(number):
    call, line = wrong()[number]
    with pytest.raises((ValueError, TypeError), match=f"^{line}") as caught:
        call()
    assert "\n" not in str(caught.value)


def test_kl_takes_hidden_layers_in_every_decoder():
    """L, K1, K2 = 7, 4, 3, hidden 5 above; N = 6: the chain's recursion, row by row."""
    rng = np.random.default_rng(14)
    sizes = (7, 4, 3)
    above = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=3)), network([3, 5, 4], rng))
    model, x = refvlm.BernoulliLVM(above, network([4, 7], rng)), binary(6, 7, rng)
    q = refvlm.LayerwisePosterior(per_datum(sizes, 6, rng))
    bound = sum(summed(model, logits_of(q, x), x))
    np.testing.assert_allclose(refvlm.kl(model, q, x), refvlm.log_marginal(model, x) - bound, rtol=1e-11)


def test_files_keep_it_and_a_changed_header_is_refused(tmp_path):
    """L, K1, K2 = 7, 4, 3; N = 6."""
    rng = np.random.default_rng(15)
    sizes = (7, 4, 3)
    model, path = stacked(sizes, rng), tmp_path / "m.npz"
    logits = per_datum(sizes, 6, rng)[1].logits.copy()
    logits[0, 0] = -np.inf
    q = refvlm.LayerwisePosterior([encoders(sizes, rng, (5,))[0], refvlm.PerDatumPosterior(logits)])
    refvlm.save(path, model, q)
    loaded, again = refvlm.load(path)
    assert type(again) is refvlm.LayerwisePosterior
    assert list(again.parameters()) == list(q.parameters())
    for name, value in q.parameters().items():
        assert again.parameters()[name].tobytes() == value.tobytes()
    x = binary(6, 7, rng)
    assert refvlm.vlb(loaded, again, x).tobytes() == refvlm.vlb(model, q, x).tobytes()
    arrays = dict(np.load(path))
    header = json.loads(arrays["header"].tobytes())
    for change in (
        {"kind": "layerwise"}, {"kind": "layers"}, {"kind": ["layerwise"]}, {"stages": []}, {"stages": 3},
        {"stages": header["posterior"]["stages"][:1]}, {"stages": header["posterior"]["stages"] * 9}, {"more": 1},
        {"stages": [header["posterior"]["stages"][0], header["posterior"]]},
    ):  # fmt: skip
        described = header | {"posterior": header["posterior"] | change}
        if change == {"kind": "layerwise"}:
            described["posterior"] = change
        text = np.frombuffer(json.dumps(described).encode(), dtype=np.uint8)
        np.savez(path, **(arrays | {"header": text}))
        with pytest.raises(refvlm.FileFormatError, match="not a consistent model file"):
            refvlm.load(path)


def test_the_command_line_evaluates_such_a_file(tmp_path, capsys):
    """L, K1, K2 = 7, 4, 3; N = 40, in chunks of 9: the identity holds, and a file of fewer rows is refused."""
    rng = np.random.default_rng(16)
    sizes = (7, 4, 3)
    model, x = stacked(sizes, rng), binary(40, 7, rng)
    q = refvlm.LayerwisePosterior([per_datum(sizes, 40, rng)[0], encoders(sizes, rng)[1]])
    refvlm.save(tmp_path / "m.npz", model, q)
    np.save(tmp_path / "x.npy", x)
    names = [str(tmp_path / name) for name in ("m.npz", "x.npy")]
    assert main(["evaluate", *names, "--json", "--chunk", "9"]) == 0
    *rows, last = map(json.loads, capsys.readouterr().out.splitlines())
    np.testing.assert_array_equal([row["vlb"] for row in rows], refvlm.vlb(model, q, x))
    assert last["summary"]["identity_holds"]
    assert main(["evaluate", *names, "--table"]) == 0
    np.save(tmp_path / "x.npy", x[:20])
    upper = refvlm.LayerwisePosterior([encoders(sizes, rng)[0], per_datum(sizes, 40, rng)[1]])
    refvlm.save(tmp_path / "m.npz", model, upper)
    assert main(["evaluate", *names]) != 0
    assert "got 20 rows, wanted 40" in capsys.readouterr().err


def test_the_prediction_counts_a_pass_for_each_row():
    """L, K1, K2 = 7, 6, 5; N = 90."""
    rng = np.random.default_rng(17)
    sizes = (7, 6, 5)
    model, x = stacked(sizes, rng), binary(90, 7, rng)
    q = refvlm.LayerwisePosterior(encoders(sizes, rng))
    alone = cost.multiplications(model.prior, 1 << 6)
    assert cost.multiplications(model, 90, q) - cost.multiplications(model, 90) == 89 * alone
    assert cost.predict_seconds(model, q, x, 90) > 10 * cost.predict_seconds(model, q.stages[0], x, 90)


def test_learning_by_the_exact_bound_takes_any_number_of_latents_in_each_layer():
    """K1, K2 = 50, 20, L = 11, N = 60: no draws, so that a small step never lowers the VLB."""
    rng = np.random.default_rng(18)
    x = stacked((11, 3, 2), rng, scale=4.0).sample(60, rng)[0]
    fitted = refvlm.fit(
        x, latents=(50, 20), hidden=(), method="vlb", posterior="layerwise", epochs=8, batch_size=None,
        optimiser="sgd", learning_rate=0.02,
    )  # fmt: skip
    assert type(fitted.posterior) is refvlm.LayerwisePosterior
    assert [stage.encoder.sizes for stage in fitted.posterior.stages] == [(11, 50), (11, 20)]
    curve = [record.vlb for record in fitted.history]
    assert np.diff(curve).min() > 0.0
    assert math.isclose(curve[-1], refvlm.vlb(fitted.model, fitted.posterior, x).mean(), rel_tol=1e-12)
    on = refvlm.fit(
        x, method="vlb", posterior="layerwise", start=(fitted.model, fitted.posterior), epochs=3, batch_size=None,
        optimiser="sgd", learning_rate=0.02,
    )  # fmt: skip
    assert on.history[-1].vlb > curve[-1]


def test_learning_reports_log_px_where_it_is_short_and_no_kl():
    """K1, K2 = 4, 3, L = 11, N = 60."""
    rng = np.random.default_rng(19)
    x = stacked((11, 3, 2), rng, scale=4.0).sample(60, rng)[0]
    last = refvlm.fit(x, latents=(4, 3), hidden=(), method="vlb", posterior="layerwise", epochs=3).history[-1]
    assert last.log_px > last.vlb
    assert last.kl is None


def test_assertions_for_other_programs_take_it():
    """L, K1, K2 = 7, 4, 3; N = 6."""
    rng = np.random.default_rng(20)
    sizes = (7, 4, 3)
    model, x = stacked(sizes, rng), binary(6, 7, rng)
    q = refvlm.LayerwisePosterior(encoders(sizes, rng))
    value = refvlm.vlb(model, q, x)
    assert_vlb_close(value, model, q, x)
    gradient = refvlm.grad_vlb(model, q, x)
    assert_grad_close(gradient, model, x, posterior=q)
    with pytest.raises(AssertionError, match="VLB"):
        assert_vlb_close(value + 1e-6, model, q, x)
    with pytest.raises(AssertionError, match=r"posterior\.1\.encoder"):
        assert_grad_close(gradient | {"posterior.1.encoder.biases.0": np.zeros(3)}, model, x, posterior=q)
