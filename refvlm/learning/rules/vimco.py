"""VIMCO (Mnih & Rezende 2016, Variational inference for Monte Carlo objectives): ascent on a bound of several draws.

    f_s = log p(x, z_s) - log q(z_s; phi(x)),   z_1, ..., z_S ~ q
    L   = log (1/S) sum_s e^{f_s},              E[L] <= log p(x): the VLB for S = 1, closer to log p(x) the larger S
    u_s = e^{f_s} / sum_t e^{f_t}               the slope of L in f_s

E[L] depends on the parameters through each f_s, and on phi through the draws as well, which the score function follows:

    theta, beta:  sum_s u_s grad log p(x, z_s)
    phi:          `refvlm.gradient_estimators.Vimco`

Both directions are the gradient of E[L] without bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...checks import check_count
from ...enumeration.engine import Workers
from ...inference import gradient_estimators as estimators
from ...inference.gradient_estimators.reweighted import normalised
from ...inference.gradient_estimators.vimco import log_mean_exp
from ...types import Floats
from ..batches import Batch
from ..machine import Machine
from ..passes import weighted_draws
from .rule import Directions, Rule, hyperparameter


@dataclass(frozen=True)
class Vimco(Rule):
    """The gradient of the bound of `samples` draws in theta, beta and phi together."""

    name = "vimco"
    takes_missing = True
    records = ("objective",)
    samples: int = hyperparameter(10, "draws of z for each row, where z is drawn")

    def __post_init__(self) -> None:
        check_count("samples", self.samples, 2)

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers) -> Directions:
        """One, and the mean of L."""
        direction, bound = vimco(machine, batch.floats(), rng, self.samples)
        yield direction, {"objective": bound}


def vimco(machine: Machine, x: Floats, rng: np.random.Generator, samples: int) -> tuple[Floats, float]:
    """A draw of the gradient in all parameters, (P,), for the mean over the rows of x, and the mean of L in nats."""
    p, q, f = weighted_draws(machine, x, rng, samples)
    signal, weights = estimators.Vimco(samples).signal(f), normalised(f)
    direction = np.concatenate([p.gradient(weights.ravel() / len(x)), q.gradient(signal.ravel() / len(x))])
    return direction, float(log_mean_exp(f).mean())
