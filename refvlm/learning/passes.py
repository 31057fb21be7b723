"""Passes through the layers x, z1, z2, ... of a Helmholtz machine: up by q, down by p. All sampled rules use them.

Each unit is Bernoulli(sigmoid(logit)), its logit a function of the layer that drives it, so in either direction

    log probability = sum over units of bit * logit - log(1 + e^logit),    d/d logit = bit - sigmoid(logit):

the delta rule. For a network without hidden units the pullback is its outer product with the layer that drives it.
A bit of x that is not observed is NaN in the layers: q sees 0 there, and p(x | z) a 0 that is certain, a factor of 1.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..inference.missing import CERTAIN
from ..model.mlp import Pullback
from ..types import Floats
from .logistic import sigmoid
from .machine import Machine


class Pass(NamedTuple):
    """One direction: the driven layers, (N, units) of 0.0 and 1.0 each, their logits, and the networks' pullbacks.

    In the order in which their parameters lie in the machine's vector.
    """

    bits: list[Floats]
    logits: list[Floats]
    pullbacks: list[Pullback]

    def log_probability(self) -> Floats:
        """log p(x, z1, z2, ...) downwards, log q(z1, z2, ... | x) upwards: (N,) nats."""
        total = np.zeros(len(self.bits[0]))
        for bits, logits in zip(self.bits, self.logits, strict=True):
            total += (bits * logits - np.logaddexp(0.0, logits)).sum(axis=1)
        return total

    def gradient(self, weights: Floats | None = None) -> Floats:
        """The gradient of sum_n weights_n times row n's log-probability, (P,); weights (N,), by default the mean's."""
        scale = 1.0 / len(self.bits[0]) if weights is None else weights[:, None]
        slopes: list[Floats] = []
        for bits, logits, pullback in zip(self.bits, self.logits, self.pullbacks, strict=True):
            slopes.extend(value.ravel() for value in pullback((bits - sigmoid(logits)) * scale).values())
        return np.concatenate(slopes)


def recognise(machine: Machine, x: Floats, rng: np.random.Generator) -> tuple[list[Floats], Pass]:
    """Layers [x, z1, z2, ...], each drawn from q given the one below, and the pass that drew them."""
    layers, passed = [x], Pass([], [], [])
    for encoder in machine.encoders:
        logits, pullback = encoder.forward(np.where(np.isnan(layers[-1]), 0.0, layers[-1]))
        layers.append(_draw(logits, rng))
        _append(passed, layers[-1], logits, pullback)
    return layers, passed


def dream(machine: Machine, rows: int, rng: np.random.Generator) -> list[Floats]:
    """Layers [x, z1, z2, ...] of as many rows, drawn from the model from the top downwards."""
    layers = [_draw(np.broadcast_to(machine.top, (rows, len(machine.top))), rng)]
    for decoder in reversed(machine.decoders):
        layers.append(_draw(decoder.forward(layers[-1])[0], rng))
    return layers[::-1]


def up(machine: Machine, layers: list[Floats]) -> Pass:
    """How q sees these layers."""
    passed = Pass([], [], [])
    for encoder, (below, above) in zip(machine.encoders, pairwise(layers), strict=True):
        _append(passed, above, *encoder.forward(below))
    return passed


def down(machine: Machine, layers: list[Floats]) -> Pass:
    """How p sees these layers."""
    top = layers[-1]
    passed = Pass(
        [top], [np.broadcast_to(machine.top, top.shape)], [lambda slopes: {"logits": np.add.reduce(slopes, axis=0)}]
    )
    for decoder, (above, below) in zip(reversed(machine.decoders), pairwise(reversed(layers)), strict=True):
        _append(passed, below, *decoder.forward(above))
    missing = np.isnan(layers[0])
    passed.bits[-1] = np.where(missing, 0.0, passed.bits[-1])
    passed.logits[-1] = np.where(missing, CERTAIN, passed.logits[-1])
    return passed


def weighted_draws(machine: Machine, x: Floats, rng: np.random.Generator, samples: int) -> tuple[Pass, Pass, Floats]:
    """`samples` draws of all latent layers from q for each of N rows: how p and q see them, and log(p/q), (N, samples).

    The draws of a row follow one another in the passes.
    """
    layers, q = recognise(machine, np.repeat(x, samples, axis=0), rng)
    p = down(machine, layers)
    return p, q, (p.log_probability() - q.log_probability()).reshape(-1, samples)


def _append(passed: Pass, bits: Floats, logits: Floats, pullback: Pullback) -> None:
    passed.bits.append(bits)
    passed.logits.append(logits)
    passed.pullbacks.append(pullback)


def _draw(logits: Floats, rng: np.random.Generator) -> Floats:
    drawn: Floats = (rng.random(logits.shape) < sigmoid(logits)).astype(np.float64)
    return drawn
