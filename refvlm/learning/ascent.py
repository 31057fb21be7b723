"""Ascent on an exact objective with all rows at once: L-BFGS over a dictionary of parameters.

Where value and gradient are exact, a quasi-Newton step from a well-kept library does in a few dozen evaluations what a
first-order rule does in thousands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_binary, as_weights, check_count
from ..inference.exact import log_marginal_and_grad
from ..inference.missing import Mask
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import Parameters, under
from ..model.recognition import Posterior
from ..types import Bits, Floats
from .masked import grad_vlb, vlb

if TYPE_CHECKING:
    from ..enumeration.engine import Progress


def climb(
    model: BernoulliLVM,
    x: ArrayLike,
    steps: int,
    weights: ArrayLike | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> BernoulliLVM:
    """The model after at most `steps` L-BFGS steps on the mean of log p(x_n), eq. (5), x (N, L).

    weights: (N,) of that mean, None for equal ones.
    """
    rows, fractions = rows_and_weights(model, x, weights)

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        values, slopes = log_marginal_and_grad(model.with_parameters(parameters), rows, fractions, workers=workers)
        return float(fractions @ values), slopes

    return model.with_parameters(ascend(model.parameters(), objective, steps, progress))


def climb_posterior(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    steps: int,
    weights: ArrayLike | None = None,
    *,
    observed: Mask | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Posterior:
    """q after at most `steps` L-BFGS steps on the mean VLB, eq. (9), of x (N, L), the model held fixed.

    weights: (N,) of that mean, None for equal ones. observed: (N, L), which bits are; x is 0 elsewhere; None for all.
    """
    rows, fractions = rows_and_weights(model, x, weights)

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        moved = q.with_parameters(parameters)
        slopes = under("posterior.", grad_vlb(model, moved, rows, observed, fractions, workers))
        return float(fractions @ vlb(model, moved, rows, observed, workers)), slopes

    return q.with_parameters(ascend(q.parameters(), objective, steps, progress))


def rows_and_weights(model: BernoulliLVM, x: ArrayLike, weights: ArrayLike | None) -> tuple[Bits, Floats]:
    """x as checked rows of the model, and the weight of each in a mean, which sum to 1."""
    rows = as_binary("x", x, model.observed)
    checked = as_weights(weights, len(rows))
    return rows, checked / checked.sum()


def ascend(
    start: Parameters,
    objective: Callable[[Parameters], tuple[float, Parameters]],
    steps: int,
    progress: Progress | None = None,
) -> Parameters:
    """Parameters after at most `steps` L-BFGS steps uphill from `start`; never worse than `start`.

    objective: from parameters to its value and its gradient under the same names. Infinite parameters stay as they are.
    progress: called as progress(steps done, steps).
    """
    from scipy.optimize import minimize

    check_count("steps", steps, 0)
    free = {name: np.isfinite(value) for name, value in start.items()}
    sizes = [int(mask.sum()) for mask in free.values()]

    def unpack(vector: Floats) -> Parameters:
        parameters = {name: value.copy() for name, value in start.items()}
        for (name, mask), part in zip(free.items(), np.split(vector, np.cumsum(sizes)[:-1]), strict=True):
            parameters[name][mask] = part
        return parameters

    def pack(parameters: Parameters) -> Floats:
        return np.concatenate([parameters[name][mask] for name, mask in free.items()])

    def downhill(vector: Floats) -> tuple[float, Floats]:
        value, gradient = objective(unpack(vector))
        return -value, -pack(gradient)

    done = 0

    def count(intermediate_result: object) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)

    if steps == 0 or sum(sizes) == 0:
        return start
    options = {"maxiter": steps, "maxcor": 20}
    lowest = minimize(downhill, pack(start), jac=True, method="L-BFGS-B", callback=count, options=options)
    if progress is not None and done < steps:
        progress(steps, steps)
    return unpack(lowest.x)
