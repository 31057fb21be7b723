"""Ascent on the variational lower bound, eq. (9), with its exact gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, as_weights
from ..inference.bounds import grad_vlb, vlb
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import Parameters, under
from ..model.recognition import Posterior
from .ascent import ascend
from .batches import Batch
from .machine import Machine, flat

if TYPE_CHECKING:
    from ..enumeration.engine import Progress

__all__ = ["climb_posterior", "gradient"]


def gradient(machine: Machine, batch: Batch, workers: int | None = None) -> NDArray[np.float64]:
    """Of the weighted mean VLB in all parameters, (P,)."""
    assert machine.posterior is not None
    return flat(grad_vlb(machine.model, machine.posterior, batch.x, batch.weights, workers=workers))


def climb_posterior(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    steps: int,
    weights: ArrayLike | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """q after at most `steps` full-batch L-BFGS steps on the mean VLB of x (N, L), the model held fixed.

    weights: (N,) of that mean, None for equal ones.
    """
    rows = as_binary("x", x, model.observed)
    shares = as_weights(weights, len(rows))
    shares = shares / shares.sum()

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        moved = q.with_parameters(parameters)
        slopes = under("posterior.", grad_vlb(model, moved, rows, shares, workers=workers))
        return float(shares @ vlb(model, moved, rows, workers=workers)), slopes

    return q.with_parameters(ascend(q.parameters(), objective, steps, progress))
