"""Bounds how far another program's rounding may take it from the exact value, from the sizes of the weights.

The rules of running errors (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., chapter 3), for a program
that rounds every operation once, applied to bounds instead of values: for all z at once, before any sum is taken. In
units of the unit roundoff u, a sum of n terms is off by n times the sum of their magnitudes, a function by 4 relative
units and its slope times its argument's error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..activations import ACTIVATIONS
from ..checks import check_choice
from ..conformance.comparison import PRECISIONS
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP, Network
from ..model.recognition import AmortisedPosterior, PerDatumPosterior, Posterior, StagedPosterior
from ..types import Floats

_ELEMENTARY = 4.0


class Sizes(NamedTuple):
    """Bounds over all inputs for a logarithm of a probability: its error, in units of u, and its magnitude."""

    error: float
    magnitude: float


def unit(precision: str) -> float:
    """Returns the unit roundoff of "float64" or "float32"."""
    return PRECISIONS[check_choice("precision", precision, tuple(PRECISIONS))].unit


def model_sizes(model: BernoulliLVM) -> Sizes:
    """Returns the bounds for log p(x, z), over all x and z whose probability is not 0."""
    likelihood = _of_bits(*_logits(model.decoder))
    if isinstance(model.prior, Bernoulli):
        logits = model.prior.logits[np.isfinite(model.prior.logits)]
        prior = _of_bits(np.zeros_like(logits), np.abs(logits))
    else:
        prior = model_sizes(model.prior)
        prior = Sizes(prior.error + model.prior.latents * (prior.magnitude + _ELEMENTARY), prior.magnitude)
    magnitude = likelihood.magnitude + prior.magnitude
    return Sizes(likelihood.error + prior.error + magnitude, magnitude)


def q_sizes(q: Posterior, latents: int) -> Sizes:
    """Returns the bounds for log q(z | x), over all x and z; of several stages their sum."""
    if isinstance(q, StagedPosterior):
        parts = [q_sizes(stage, stage.latents) for stage in q.stages]
        return Sizes(sum(part.error for part in parts), sum(part.magnitude for part in parts))
    if isinstance(q, PerDatumPosterior):
        largest = np.abs(np.where(np.isfinite(q.logits), q.logits, 0.0)).max(axis=0, initial=0.0)
        return _of_bits(np.zeros(latents), largest)
    assert isinstance(q, AmortisedPosterior)
    return _of_bits(*_logits(q.encoder))


def slopes(network: Network) -> dict[str, float]:
    """Returns, by parameter, how large a derivative can be if those at the logits are at most 1."""
    if not isinstance(network, MLP):
        return {}
    largest: dict[str, float] = {}
    entering, _ = _magnitudes(network)
    carried = np.ones(network.fan_out)
    for d in reversed(range(len(network.weights))):
        largest[f"weights.{d}"] = float(carried.max() * max(entering[d].max(), 1.0))
        largest[f"biases.{d}"] = float(carried.max())
        carried = (np.abs(network.weights[d]) @ carried) * max(1.0, ACTIVATIONS[network.activation].lipschitz)
    return largest


def _logits(network: Network) -> tuple[Floats, Floats]:
    """Returns (error, magnitude) of every logit; those of a network that is no MLP are taken as exact and ordinary."""
    if not isinstance(network, MLP):
        return np.full(network.fan_out, 100.0), np.full(network.fan_out, 10.0)
    entering, error = _magnitudes(network)
    return error, entering[-1]


def _magnitudes(network: MLP) -> tuple[list[Floats], Floats]:
    """Returns the magnitudes of what enters each layer and of the logits; and the logits' errors."""
    h, error = np.ones(network.fan_in), np.zeros(network.fan_in)
    entering, f = [h], ACTIVATIONS[network.activation]
    for d, (weights, biases) in enumerate(zip(network.weights, network.biases, strict=True)):
        sums = h @ np.abs(weights) + np.abs(biases)
        error = error @ np.abs(weights) + (len(h) + 2) * sums
        h = sums
        if d < len(network.weights) - 1:
            h = f.magnitude(sums)
            error = max(1.0, f.lipschitz) * error + (0.0 if f.rounding == (0.0, 0.0) else _ELEMENTARY * h)
        entering.append(h)
    return entering, error


def _of_bits(error: Floats, magnitude: Floats) -> Sizes:
    """Returns the bounds for a sum of log Bernoulli probabilities with such logits."""
    each = magnitude + np.log(2.0)
    total = float(each.sum())
    return Sizes(float(error.sum()) + (_ELEMENTARY + len(each)) * total, total)
