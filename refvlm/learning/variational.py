"""Ascent on the variational lower bound, eq. (9), with its exact gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from ..checks import as_binary
from ..inference.bounds import grad_vlb, vlb
from ..model.latent_variable import BernoulliLVM, under
from ..model.mlp import Parameters
from ..model.recognition import Posterior
from .ascent import ascend

if TYPE_CHECKING:
    from ..enumeration.engine import Progress

__all__ = ["climb_posterior"]


def climb_posterior(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    steps: int,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """q after at most `steps` full-batch L-BFGS steps on the mean VLB of x (N, L), the model held fixed."""
    rows = as_binary("x", x, model.observed)

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        moved = q.with_parameters(parameters)
        gradient = under("posterior.", grad_vlb(model, moved, rows, workers=workers))
        value = float(vlb(model, moved, rows, workers=workers).mean())
        return value, {name: slope / len(rows) for name, slope in gradient.items()}

    return q.with_parameters(ascend(q.parameters(), objective, steps, progress))
