"""Ascent on the variational lower bound, eq. (9): with its exact gradient, or with one from draws of z.

The score-function gradient with a leave-one-out baseline, for each row x:

    f(z) = log p(x, z) - log q(z; phi(x)),   z_1, ..., z_S ~ q
    theta, beta:  (1/S) sum_s of grad log p(x, z_s)
    phi:          (1/S) sum_s of (f(z_s) - b_s) grad log q(z_s),   b_s = mean of f over the other draws

without bias: `refvlm.gradient_estimators.LeaveOneOut`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...checks import check_choice, check_count
from ...enumeration.engine import Workers
from ...inference.bounds import needs_sum
from ...inference.gradient_estimators import LeaveOneOut
from ...model.latent_variable import BernoulliLVM
from ...model.parameters import flatten
from ...types import Floats
from ..batches import Batch
from ..logistic import sigmoid
from ..machine import Machine
from ..masked import grad_vlb
from ..passes import Pass, weighted_draws
from .rule import Directions, Rule, hyperparameter

GRADIENTS = ("exact", "score-function")


@dataclass(frozen=True)
class Variational(Rule):
    """The gradient of the VLB in theta, beta and phi together."""

    name = "vlb"
    takes_missing = True
    gradient: str = hyperparameter("exact", "of the VLB", GRADIENTS)
    samples: int = hyperparameter(10, "draws of z for each row, where z is drawn")

    def __post_init__(self) -> None:
        check_choice("gradient", self.gradient, GRADIENTS)
        check_count("samples", self.samples, 1 if self.enumerates else 2)

    @property
    def enumerates(self) -> bool:
        """With the exact gradient."""
        return self.gradient == "exact"

    def sums_codes(self, model: BernoulliLVM) -> bool:
        """With the exact gradient, where the VLB is such a sum."""
        return self.enumerates and needs_sum(model)

    @property
    def records(self) -> tuple[str, ...]:
        """With draws: the estimate of the VLB, and the gradient's variance."""
        return () if self.enumerates else ("objective", "gradient_variance", "gradient_variance_without_baseline")

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers) -> Directions:
        """One."""
        if self.enumerates:
            yield gradient(machine, batch, workers), {}
        else:
            yield score_function(machine, batch.floats(), rng, self.samples)


def gradient(machine: Machine, batch: Batch, workers: Workers = None) -> Floats:
    """The exact gradient of the weighted mean VLB in all parameters, (P,)."""
    assert machine.posterior is not None
    return flatten(grad_vlb(machine.model, machine.posterior, batch.x, batch.observed, batch.weights, workers))


def score_function(
    machine: Machine, x: Floats, rng: np.random.Generator, samples: int
) -> tuple[Floats, dict[str, float]]:
    """A draw of the gradient in all parameters from `samples` >= 2 draws of z for each row of x, (P,), and numbers.

    objective: the estimate of the mean VLB from the same draws. gradient_variance: an estimate of the variance of the
    gradient with respect to q's logits, summed over the logits, mean over the rows; and what it is without a baseline.
    """
    p, q, f = weighted_draws(machine, x, rng, samples)
    signal = LeaveOneOut(samples).signal(f)
    return np.concatenate([p.gradient(), q.gradient(signal.ravel() / len(x))]), {
        "objective": float(f.mean()),
        "gradient_variance": _variance(q, signal * samples),
        "gradient_variance_without_baseline": _variance(q, f),
    }


def _variance(q: Pass, factor: Floats) -> float:
    """The variance of the mean over S draws of factor * d log q / d logits, from the S terms; factor (N, S).

    Summed over the logits, mean over the rows.
    """
    rows, samples = factor.shape
    score = np.concatenate([z - sigmoid(a) for z, a in zip(q.bits, q.logits, strict=True)], axis=1)
    slopes = score.reshape(rows, samples, -1) * factor[:, :, None]
    return float(slopes.var(axis=1, ddof=1).sum(axis=1).mean() / samples)
