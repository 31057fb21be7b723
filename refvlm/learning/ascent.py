"""Ascent on an exact objective with all rows at once: L-BFGS over a dictionary of parameters.

Where value and gradient are exact, a quasi-Newton step from a well-kept library does in a few dozen evaluations what a
first-order rule does in thousands.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_binary, as_weights, check_count
from ..enumeration.engine import on
from ..inference.exact import log_marginal_and_grad
from ..inference.missing import Mask
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import Parameters, under
from ..model.recognition import Posterior
from ..types import Bits, Floats
from .batches import Batch
from .masked import grad_vlb, vlb
from .replay import replayed

if TYPE_CHECKING:
    from ..enumeration.engine import Progress, Workers
    from .replay import Replay

_EVERY, _PATIENCE = 5, 4
"""Steps between two judgements, and how many in a row without a better one end an ascent."""


def climb(
    model: BernoulliLVM,
    x: ArrayLike,
    steps: int,
    weights: ArrayLike | None = None,
    *,
    workers: Workers = None,
    progress: Progress | None = None,
) -> BernoulliLVM:
    """The model after at most `steps` L-BFGS steps on the mean of log p(x_n), eq. (5), x (N, L).

    weights: (N,) of that mean, None for equal ones.
    """
    rows, fractions = rows_and_weights(model, x, weights)

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        values, slopes = log_marginal_and_grad(model.with_parameters(parameters), rows, fractions, **on(workers))
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
    held_out: Batch | None = None,
    workers: Workers = None,
    progress: Progress | None = None,
    replay: Replay | None = None,
) -> Posterior:
    """q after at most `steps` L-BFGS steps on the mean VLB, eq. (9), of x (N, L), the model held fixed.

    weights: (N,) of that mean, None for equal ones. observed: (N, L), which bits are; x is 0 elsewhere; None for all.
    held_out: rows whose mean VLB decides which q on the way is kept. replay: what an earlier run of this has computed.
    """
    rows, fractions = rows_and_weights(model, x, weights)

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        moved = q.with_parameters(parameters)
        slopes = under("posterior.", grad_vlb(model, moved, rows, observed, fractions, workers))
        return float(fractions @ vlb(model, moved, rows, observed, workers)), slopes

    def judge(parameters: Parameters) -> float:
        assert held_out is not None
        values = vlb(model, q.with_parameters(parameters), held_out.x, held_out.observed, workers)
        return float(held_out.weights @ values)

    reached = ascend(q.parameters(), objective, steps, progress, None if held_out is None else judge, replay)
    return q.with_parameters(reached)


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
    judge: Callable[[Parameters], float] | None = None,
    replay: Replay | None = None,
) -> Parameters:
    """Parameters after at most `steps` L-BFGS steps uphill from `start`; never worse than `start`.

    objective: from parameters to its value and its gradient under the same names. Infinite parameters stay as they are.
    progress: called as progress(steps done, steps).
    judge: from parameters to what counts in the end, such as the objective of held-out rows: it is asked every few
    steps, the best parameters are returned, and what has not been better for long ends the ascent.
    replay: what an earlier run of this ascent has computed, with which it goes on to the same bits.
    """
    from scipy.optimize import OptimizeResult, minimize

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

    def evaluate(vector: Floats) -> Floats:
        value, gradient = objective(unpack(vector))
        return np.append(pack(gradient), value)

    def downhill(vector: Floats) -> tuple[float, Floats]:
        both = replayed(replay, vector, lambda: evaluate(vector))
        return -float(both[-1]), -both[:-1]

    if steps == 0 or sum(sizes) == 0:
        return start
    done = since_best = 0

    def score_of(vector: Floats) -> float:
        assert judge is not None
        ask = judge
        return float(replayed(replay, vector, lambda: np.array([ask(unpack(vector))]))[0])

    best, best_score = start, -math.inf if judge is None else score_of(pack(start))

    def judged(vector: Floats) -> None:
        nonlocal since_best, best, best_score
        reached, since_best = unpack(vector), since_best + 1
        score = score_of(vector)
        if score > best_score:
            best, best_score, since_best = reached, score, 0

    def after_a_step(intermediate_result: OptimizeResult) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, steps)
        if judge is not None and done % _EVERY == 0:
            judged(intermediate_result.x)
            if since_best == _PATIENCE:
                raise StopIteration

    options = {"maxiter": steps, "maxcor": 20}
    lowest = minimize(downhill, pack(start), jac=True, method="L-BFGS-B", callback=after_a_step, options=options)
    if progress is not None and done < steps:
        progress(steps, steps)
    if judge is None:
        return unpack(lowest.x)
    if done % _EVERY:  # where it ended by itself
        judged(lowest.x)
    return best
