"""Maximum likelihood, eq. (5): uphill on the weighted mean of log p(x_n).

With its exact gradient by enumeration; and where there is too much to enumerate, for decoders without hidden layers,
with a gradient from exact draws of the posterior, which has no bias at all: grad log p(x) is the mean of
grad log p(x, z) under p(z | x) (Fisher's identity).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...enumeration.engine import Workers
from ...inference.partition import has_boxes
from ...model.latent_variable import BernoulliLVM
from ...model.parameters import flatten
from ...types import Floats
from ..batches import Batch
from ..history import enumerable
from ..machine import Machine
from ..masked import log_marginal_and_grad, posterior_draws
from ..passes import down
from .rule import Directions, Rule

POSTERIOR_DRAWS = 5
"""Draws of z for a row where there is too much to enumerate. Finding the tangent of a row costs more than they do."""


@dataclass(frozen=True)
class MaximumLikelihood(Rule):
    """The exact gradient of log p(x) in theta and beta, or one without bias from exact draws of the posterior."""

    name = "maximum-likelihood"
    takes_missing = True
    learns_posterior = False
    enumerates = True
    records = ("objective",)

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers) -> Directions:
        """One, and the mean of log p(x_n), or an estimate of it."""
        if enumerable(machine.model):
            direction, log_px = gradient(machine, batch, workers)
        else:
            direction, log_px = drawn_gradient(machine, batch, rng, workers)
        yield direction, {"objective": log_px}

    def sums_codes(self, model: BernoulliLVM) -> bool:
        """Unless the posterior can be drawn from without."""
        return isinstance(model.prior, BernoulliLVM) or not has_boxes(model)


def gradient(machine: Machine, batch: Batch, workers: Workers = None) -> tuple[Floats, float]:
    """The gradient of the weighted mean of log p(x_n), as the generative part of the vector, and that mean in nats."""
    values, slopes = log_marginal_and_grad(machine.model, batch.x, batch.observed, batch.weights, workers)
    return flatten(slopes), float(batch.weights @ values)


def drawn_gradient(
    machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers = None
) -> tuple[Floats, float]:
    """The same from `POSTERIOR_DRAWS` draws of p(z | x_n) for each row: no bias. The mean is an estimate."""
    z, log_px = posterior_draws(machine.model, batch.x, batch.observed, POSTERIOR_DRAWS, rng, workers)
    x = np.repeat(batch.floats(), POSTERIOR_DRAWS, axis=0)
    weights = np.repeat(batch.weights / POSTERIOR_DRAWS, POSTERIOR_DRAWS)
    passed = down(machine, [x, z.reshape(len(x), -1)])
    return passed.gradient(weights), float(batch.weights @ log_px)
