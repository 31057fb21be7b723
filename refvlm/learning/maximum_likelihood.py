"""Exact maximum likelihood, eq. (5): theta <- argmax sum_n log p(x_n), the gradient by enumeration."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from ..checks import as_binary
from ..inference.exact import log_marginal_and_grad
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import Parameters
from .ascent import ascend

if TYPE_CHECKING:
    from ..enumeration.engine import Progress

__all__ = ["climb"]


def climb(
    model: BernoulliLVM,
    x: ArrayLike,
    steps: int,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BernoulliLVM:
    """The model after at most `steps` full-batch L-BFGS steps on the mean of log p(x_n), x (N, L)."""
    rows = as_binary("x", x, model.observed)

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        values, gradient = log_marginal_and_grad(model.with_parameters(parameters), rows, workers=workers)
        return float(values.mean()), {name: value / len(rows) for name, value in gradient.items()}

    return model.with_parameters(ascend(model.parameters(), objective, steps, progress))
