"""Exact maximum likelihood, eq. (5): uphill on the weighted mean of log p(x_n), with its gradient by enumeration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...inference.exact import log_marginal_and_grad
from ...model.parameters import flatten
from ...types import Floats
from ..batches import Batch
from ..machine import Machine
from .rule import Directions, Rule


@dataclass(frozen=True)
class MaximumLikelihood(Rule):
    """The exact gradient of log p(x) in theta and beta."""

    name = "maximum-likelihood"
    learns_posterior = False
    enumerates = True
    records = ("objective",)

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: int | None) -> Directions:
        """One, and the mean of log p(x_n)."""
        direction, log_px = gradient(machine, batch, workers)
        yield direction, {"objective": log_px}


def gradient(machine: Machine, batch: Batch, workers: int | None = None) -> tuple[Floats, float]:
    """The gradient of the weighted mean of log p(x_n), as the generative part of the vector, and that mean in nats."""
    values, slopes = log_marginal_and_grad(machine.model, batch.x, batch.weights, workers=workers)
    return flatten(slopes), float(batch.weights @ values)
