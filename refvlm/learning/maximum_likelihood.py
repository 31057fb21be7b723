"""Exact maximum likelihood, eq. (5): theta <- argmax sum_n log p(x_n), the gradient by enumeration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, as_weights
from ..inference.exact import log_marginal_and_grad
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import Parameters
from .ascent import ascend
from .batches import Batch
from .machine import Machine, flat

if TYPE_CHECKING:
    from ..enumeration.engine import Progress

__all__ = ["climb", "gradient"]


def gradient(machine: Machine, batch: Batch, workers: int | None = None) -> tuple[NDArray[np.float64], float]:
    """Of the weighted mean of log p(x_n), as the generative part of the vector; and that mean, nats."""
    values, slopes = log_marginal_and_grad(machine.model, batch.x, batch.weights, workers=workers)
    return flat(slopes), float(batch.weights @ values)


def climb(
    model: BernoulliLVM,
    x: ArrayLike,
    steps: int,
    weights: ArrayLike | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BernoulliLVM:
    """The model after at most `steps` full-batch L-BFGS steps on the mean of log p(x_n), x (N, L).

    weights: (N,) of that mean, None for equal ones.
    """
    rows = as_binary("x", x, model.observed)
    shares = as_weights(weights, len(rows))
    shares = shares / shares.sum()

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        values, slopes = log_marginal_and_grad(model.with_parameters(parameters), rows, shares, workers=workers)
        return float(shares @ values), slopes

    return model.with_parameters(ascend(model.parameters(), objective, steps, progress))
