"""VIMCO (Mnih & Rezende 2016, Variational inference for Monte Carlo objectives): ascent on a bound of several draws.

    f_s = log p(x, z_s) - log q(z_s; phi(x)),   z_1, ..., z_S ~ q
    L   = log (1/S) sum_s e^{f_s},              E[L] <= log p(x): the VLB for S = 1, closer to log p(x) the larger S
    u_s = e^{f_s} / sum_t e^{f_t}               the slope of L in f_s

E[L] depends on the parameters through each f_s, and on phi through the draws as well, which the score function follows:

    theta, beta:  sum_s u_s grad log p(x, z_s)
    phi:          sum_s (L - L_-s) grad log q(z_s) - sum_s u_s grad log q(z_s)

L_-s is what L would be had f_s been the mean of the other f: their e^f have that geometric mean. It does not depend on
z_s, and E_q[grad log q] = 0, so both directions are the gradient of E[L] without bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...checks import check_count
from ...types import Floats
from ..batches import Batch
from ..machine import Machine
from ..passes import normalised, weighted_draws
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

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: int | None) -> Directions:
        """One, and the mean of L."""
        direction, bound = vimco(machine, batch.floats(), rng, self.samples)
        yield direction, {"objective": bound}


def vimco(machine: Machine, x: Floats, rng: np.random.Generator, samples: int) -> tuple[Floats, float]:
    """A draw of the gradient in all parameters, (P,), for the mean over the rows of x, and the mean of L in nats."""
    p, q, f = weighted_draws(machine, x, rng, samples)
    others = np.repeat(f[:, None, :], samples, axis=1)  # row s of a matrix: all f, of which the s-th is replaced
    draws = np.arange(samples)
    others[:, draws, draws] = (f.sum(axis=1, keepdims=True) - f) / (samples - 1)
    bound, weights = _log_mean_exp(f), normalised(f)
    signal = bound[:, None] - _log_mean_exp(others) - weights
    direction = np.concatenate([p.gradient(weights.ravel() / len(x)), q.gradient(signal.ravel() / len(x))])
    return direction, float(bound.mean())


def _log_mean_exp(f: Floats) -> Floats:
    """The logarithm of the mean of e^f over the last axis."""
    largest = f.max(axis=-1, keepdims=True)
    logarithm: Floats = np.log(np.exp(f - largest).mean(axis=-1)) + largest[..., 0]
    return logarithm
