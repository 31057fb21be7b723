"""Sampled updates with all their draws enumerated: scripted generators, small machines, exact expectations.

A generator that yields chosen uniforms makes an update draw any bits; the sum over all of them, weighted with their
probabilities under the oracle's own formulas, is the expectation, without any averaging.
"""

import itertools
import math

import numpy as np
import oracle
from problems import network, shallow

import refvlm
from refvlm.learning.machine import Machine

STEP = 1e-5


class Scripted(np.random.Generator):
    """A generator whose random() makes `u < p` come out as scripted, bit by bit, wherever 0 < p < 1."""

    def __init__(self, bits):
        super().__init__(np.random.PCG64(0))
        self.bits = list(bits)

    def random(self, shape):
        count = math.prod(shape)
        drawn, self.bits = self.bits[:count], self.bits[count:]
        assert len(drawn) == count
        return np.where(np.array(drawn) == 1, 0.0, 1.0 - 2.0**-53).reshape(shape)


def scripts(count):
    return itertools.product((0, 1), repeat=count)


def shallow_machine(seed, hidden=(4,)):
    """K = 2 latents, L = 3 observed bits; its rows, N = 1 or more, are the caller's."""
    rng = np.random.default_rng(seed)
    return Machine(shallow(2, hidden, 3, rng), refvlm.AmortisedPosterior(network([3, *hidden, 2], rng)))


def deep_machine(seed):
    """z2 of 1 bit, z1 of 2, x of 3: a Helmholtz machine without hidden units."""
    rng = np.random.default_rng(seed)
    top = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=1)), network([1, 2], rng))
    model = refvlm.BernoulliLVM(top, network([2, 3], rng))
    stages = [refvlm.AmortisedPosterior(network(sizes, rng)) for sizes in ([3, 2], [2, 1])]
    return Machine(model, refvlm.ChainPosterior(stages))


def logits_of(network, inputs):
    return oracle.forward(oracle.as_network(network), inputs)


def sigmoid(a):
    return 1.0 / (1.0 + math.exp(-a))


def probability(logits, bits):
    return math.prod(sigmoid(a) if bit else sigmoid(-a) for a, bit in zip(logits, bits, strict=True))


def up_probability(machine, x, layers):
    """q(z1, z2, ... | x), by the oracle's networks."""
    product, below = 1.0, x
    for encoder, above in zip(machine.encoders, layers, strict=True):
        product *= probability(logits_of(encoder, below), above)
        below = above
    return product


def down_probability(machine, layers):
    """p(x, z1, z2, ...), layers from x upwards."""
    product = probability(machine.top, layers[-1])
    for decoder, below, above in zip(machine.decoders, layers, layers[1:], strict=False):
        product *= probability(logits_of(decoder, above), below)
    return product


def cut(bits, sizes):
    """Consecutive parts of these sizes."""
    ends = np.cumsum(sizes)
    return [bits[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def expected(update, machine, x, sizes, weigh):
    """The sum over all draws of `sum(sizes)` bits of probability times update."""
    total = 0.0
    for bits in scripts(sum(sizes)):
        rng = Scripted(bits)
        total = total + weigh(cut(bits, sizes)) * np.asarray(update(rng))
        assert rng.bits == []
    return total


def slope(machine, part, function):
    """Central differences of function() in each parameter of a part of the vector."""
    gradient = np.zeros(part.stop - part.start)
    for i in range(len(gradient)):
        values = []
        for sign in (1.0, -1.0):
            before = machine.vector[part.start + i]
            machine.vector[part.start + i] += sign * STEP
            values.append(function())
            machine.vector[part.start + i] = before
        gradient[i] = (values[0] - values[1]) / (2 * STEP)
    return gradient
