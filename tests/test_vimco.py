"""VIMCO in exact expectation: all tuples of draws are enumerated, and the bound is computed from its definition.

The mean of the update over all tuples has to be the gradient of E[log (1/S) sum of p/q] over the same tuples: by
central differences of the enumerated bound, and in closed form, without any baseline.
"""

import itertools
import math

import numpy as np
import pytest
from enumerated import (
    Scripted,
    deep_machine,
    down_probability,
    expected,
    logits_of,
    shallow_machine,
    sigmoid,
    slope,
    up_probability,
)
from problems import binary

import refvlm
from refvlm.learning.batches import Batch
from refvlm.learning.rules import Vimco
from refvlm.learning.rules.vimco import vimco

X = np.array([1, 0, 1])


def codes(sizes):
    """All latent layers of these sizes from x upwards, as a list for each code."""
    return [list(layers) for layers in itertools.product(*(itertools.product((0, 1), repeat=size) for size in sizes))]


def bound_of(machine, sizes, samples):
    """E[log (1/S) sum_s p(x, z_s) / q(z_s)] over all tuples of draws, by the oracle's networks."""
    q = [up_probability(machine, X, layers) for layers in codes(sizes)]
    w = [down_probability(machine, [X, *layers]) / chance for layers, chance in zip(codes(sizes), q, strict=True)]
    return math.fsum(
        math.prod(q[c] for c in draws) * math.log(math.fsum(w[c] for c in draws) / samples)
        for draws in itertools.product(range(len(q)), repeat=samples)
    )


def mean_of_updates(machine, sizes, samples):
    """The exact expectation of direction and bound; layer 1 is drawn for all samples, then layer 2."""

    def update(rng):
        direction, bound = vimco(machine, X[None].astype(float), rng, samples)
        return [*direction, bound]

    def chance(drawn):
        by_layer = [[bits[s * size :][:size] for s in range(samples)] for bits, size in zip(drawn, sizes, strict=True)]
        return math.prod(up_probability(machine, X, layers) for layers in zip(*by_layer, strict=True))

    return expected(update, machine, X, [size * samples for size in sizes], chance)


@pytest.mark.parametrize(
    ("machine", "sizes", "samples"),
    [
        (shallow_machine(20, ()), [2], 2),
        (shallow_machine(21, (4,)), [2], 3),
        (shallow_machine(22, (5, 4)), [2], 4),
        (deep_machine(23), [2, 1], 2),
        (deep_machine(24), [2, 1], 3),
    ],
    ids=["one layer, 2 draws", "a hidden layer, 3 draws", "two hidden layers, 4 draws", "deep, 2", "deep, 3"],
)
def test_the_update_is_the_gradient_of_the_bound_in_expectation(machine, sizes, samples):
    *direction, bound = mean_of_updates(machine, sizes, samples)
    everything = slice(0, len(machine.vector))
    assert bound == pytest.approx(bound_of(machine, sizes, samples), rel=1e-12)
    wanted = slope(machine, everything, lambda: bound_of(machine, sizes, samples))
    assert np.allclose(direction, wanted, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("samples", [2, 3, 4])
def test_phi_has_the_gradient_in_closed_form(samples):
    """Of one sigmoid encoder, E[sum_s (L - u_s) x_i (z_sk - phi_k)]: no differences, no baseline."""
    machine = shallow_machine(25, ())
    phi = np.array([sigmoid(a) for a in logits_of(machine.encoders[0], X)])
    q = {z: up_probability(machine, X, [z]) for z in itertools.product((0, 1), repeat=2)}
    w = {z: down_probability(machine, [X, z]) / chance for z, chance in q.items()}
    slopes = np.zeros(2)
    for draws in itertools.product(q, repeat=samples):
        total = math.fsum(w[z] for z in draws)
        for z in draws:
            factor = math.log(total / samples) - w[z] / total
            slopes += math.prod(q[y] for y in draws) * factor * (np.array(z) - phi)
    *direction, _ = mean_of_updates(machine, [2], samples)
    assert np.allclose(direction[machine.recognition], [*np.outer(X, slopes).ravel(), *slopes], rtol=1e-11, atol=1e-14)


def test_the_bound_lies_between_the_vlb_and_log_p_and_rises_with_the_draws():
    machine = shallow_machine(26)
    bounds = [mean_of_updates(machine, [2], samples)[-1] for samples in (2, 3, 5)]
    vlb = refvlm.vlb(machine.model, machine.posterior, X[None])[0]
    assert vlb < bounds[0] < bounds[1] < bounds[2] < refvlm.log_marginal(machine.model, X[None])[0]


def test_one_update_by_hand():
    """Three draws, written out: a draw's f is replaced by the mean of the other two, and L taken again."""
    machine = shallow_machine(27, ())
    draws = (0, 1), (1, 1), (1, 0)
    f = [math.log(down_probability(machine, [X, z]) / up_probability(machine, X, [z])) for z in draws]

    def bound(values):
        return math.log(sum(math.exp(v) for v in values) / 3)

    learnt = [
        bound(f) - bound([(f[1] + f[2]) / 2, f[1], f[2]]),
        bound(f) - bound([f[0], (f[0] + f[2]) / 2, f[2]]),
        bound(f) - bound([f[0], f[1], (f[0] + f[1]) / 2]),
    ]
    u = [math.exp(v) / sum(math.exp(w) for w in f) for v in f]
    phi = np.array([sigmoid(a) for a in logits_of(machine.encoders[0], X)])
    beta = np.array([sigmoid(a) for a in machine.top])
    direction, value = vimco(machine, X[None].astype(float), Scripted([bit for z in draws for bit in z]), 3)
    delta = sum((learnt[s] - u[s]) * (np.array(z) - phi) for s, z in enumerate(draws))
    assert value == pytest.approx(bound(f), rel=1e-13)
    assert np.allclose(direction[machine.recognition], [*np.outer(X, delta).ravel(), *delta], rtol=1e-12)
    assert np.allclose(direction[:2], sum(u[s] * (np.array(z) - beta) for s, z in enumerate(draws)), rtol=1e-12)


def test_the_baseline_lowers_the_spread_where_the_bound_is_far_from_zero():
    """The spread of phi's direction over many draws, against the same with a baseline of nothing."""
    machine, rng = shallow_machine(28, ()), np.random.default_rng(0)
    machine.parameters["model.decoder.biases.0"][:] = 8.0  # so that L is far below zero, and nearly the same for all z
    x = np.zeros((1, 3))
    biases = slice(len(machine.vector) - 2, None)
    with_baseline = [vimco(machine, x, rng, 4)[0][biases] for _ in range(200)]
    phi = np.array([sigmoid(a) for a in logits_of(machine.encoders[0], x[0])])
    without = []
    for _ in range(200):
        z = rng.random((4, 2)) < phi
        w = [down_probability(machine, [x[0], row]) / up_probability(machine, x[0], [row]) for row in z.astype(int)]
        without.append(sum((math.log(np.mean(w)) - w[s] / sum(w)) * (z[s] - phi) for s in range(4)))
    assert np.var(with_baseline, axis=0).sum() < 0.1 * np.var(without, axis=0).sum()


def test_directions_are_means_over_the_rows_and_large_weights_do_not_overflow():
    machine = shallow_machine(29)
    x = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]])
    scripts = (0, 1, 1, 1), (1, 0, 0, 0)
    both, bound = vimco(machine, x, Scripted([*scripts[0], *scripts[1]]), 2)
    single = [vimco(machine, row[None], Scripted(bits), 2) for row, bits in zip(x, scripts, strict=True)]
    assert np.allclose(both, (single[0][0] + single[1][0]) / 2, rtol=1e-12)
    assert bound == pytest.approx((single[0][1] + single[1][1]) / 2, rel=1e-13)
    machine.parameters["model.decoder.biases.1"][:] = -2000.0  # e^f is 0 in float64 for every draw
    direction, bound = vimco(machine, np.ones((1, 3)), np.random.default_rng(0), 5)
    assert np.isfinite(direction).all()
    assert bound < -5000


def test_the_rule_takes_its_draws_from_the_batch_and_records_the_bound():
    machine, x = shallow_machine(30), binary(6, 3, np.random.default_rng(1))
    ((direction, numbers),) = Vimco(samples=4).directions(
        machine, Batch(x, np.full(6, 1 / 6)), np.random.default_rng(2), None
    )
    wanted, bound = vimco(machine, x.astype(float), np.random.default_rng(2), 4)
    assert (direction == wanted).all()
    assert numbers == {"objective": bound}


def test_it_needs_two_draws():
    with pytest.raises(ValueError, match="samples: got 1, wanted at least 2"):
        refvlm.fit(binary(5, 3, np.random.default_rng(0)), 2, (), "vimco", samples=1)
