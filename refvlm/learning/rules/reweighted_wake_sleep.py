"""Reweighted wake-sleep (Bornschein & Bengio 2015): many draws from q for a row, weighted by how well p explains them.

    z_1, ..., z_S ~ q(z; phi(x)),   w_s = p(x, z_s) / q(z_s; phi(x)),   u_s = w_s / sum of w

    wake theta:  uphill on sum_s u_s log p(x, z_s)     the gradient in theta, beta of log (1/S) sum_s w_s
    wake phi:    uphill on sum_s u_s log q(z_s)        towards E over the data of KL(p(z | x) || q), biased by 1/S
    sleep phi:   as in wake-sleep                      towards E over the model of the same

With S = 1 wake theta is that of wake-sleep, and wake phi is 0 in expectation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...checks import check_count
from ...enumeration.engine import Workers
from ...inference.gradient_estimators.reweighted import normalised
from ...types import Floats
from ..batches import Batch
from ..machine import Machine
from ..optimisers import check_rate
from ..passes import weighted_draws
from .rule import Directions, Rule, hyperparameter
from .wake_sleep import sleep


@dataclass(frozen=True)
class ReweightedWakeSleep(Rule):
    """Wake theta, and wake phi mixed with sleep phi."""

    name = "reweighted-wake-sleep"
    takes_missing = True
    samples: int = hyperparameter(10, "draws of z for each row, where z is drawn")
    wake_phi: float = hyperparameter(0.5, "weight of wake phi, 0 to 1; the rest is sleep phi")

    def __post_init__(self) -> None:
        check_count("samples", self.samples, 1)
        if not 0.0 <= check_rate("wake_phi", self.wake_phi) <= 1.0:
            raise ValueError(f"wake_phi: got {self.wake_phi}, wanted a weight from 0 to 1")

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers) -> Directions:
        """One."""
        theta, phi = reweighted_wake(machine, batch.floats(), rng, self.samples)
        if self.wake_phi < 1.0:
            phi = self.wake_phi * phi + (1.0 - self.wake_phi) * sleep(machine, len(batch.x), rng)
        yield np.concatenate([theta, phi]), {}


def reweighted_wake(machine: Machine, x: Floats, rng: np.random.Generator, samples: int) -> tuple[Floats, Floats]:
    """A draw of the wake directions in theta and beta, and in phi, for the mean over the rows of x."""
    p, q, f = weighted_draws(machine, x, rng, samples)
    weights = normalised(f).ravel() / len(x)
    return p.gradient(weights), q.gradient(weights)
