"""Asserts that draws of a gradient through bits have the exact mean and variance of an estimator."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_array, describe
from ..enumeration.engine import Engine
from ..inference.gradient_estimators import Estimator
from ..inference.gradient_estimators.landscape import landscape, tables
from ..model.latent_variable import BernoulliLVM
from ..types import Floats
from .betting import Verdict
from .drawing import FIRST_BATCH, Drawer, conclusive
from .estimators import FactorisedPosterior, OneRow, one_row, rounding_of
from .gradients import DRAW_SLACK, FreeVectors
from .rounding import unit


def assert_variance_close(
    draw: Drawer,
    model: BernoulliLVM,
    q: FactorisedPosterior,
    x: ArrayLike,
    estimator: Estimator,
    *,
    precision: str = "float64",
    delta: float = 0.1,
    alpha: float = 1e-6,
    most: int = 10_000_000,
) -> Verdict:
    """Raises AssertionError if draws of a gradient do not vary as they should, InconclusiveError if that stays open.

    draw(n): (n, K) independent draws at the one row x (1, L), in the logits of q. estimator: one of
    refvlm.gradient_estimators. Tested are the squared deviations from its exact mean, bit by bit and added up, against
    the diagonal and the trace of its exact covariance; so a wrong mean fails, too. delta: PASS asserts that each is off
    by at most delta standard deviations of such a square. Other arguments as in `assert_unbiased`.
    """
    if not isinstance(estimator, Estimator):
        raise TypeError(f"estimator: got {describe(estimator)}, wanted one of refvlm.gradient_estimators")
    return of_estimator(draw, one_row(model, q, x), estimator, True, precision, delta, alpha, most)


def of_estimator(
    draw: Drawer,
    row: OneRow,
    estimator: Estimator,
    squared: bool,
    precision: str,
    delta: float,
    alpha: float,
    most: int,
) -> Verdict:
    """Tests (n, K) draws against the exact mean; squared: their squared deviations, and these added up, instead."""
    mean = estimator.mean(row.model, row.q, row.x)[0]
    low, high = estimator.bounds(next(tables(landscape(row.model, row.q, row.x), Engine())))
    latents, name = row.model.latents, "squares" if squared else "logits"
    rounding = 2.0 * estimator.samples * rounding_of(row, precision)  # of a difference of two log weights
    slack = DRAW_SLACK * unit(precision) * np.maximum(np.abs(low), np.abs(high)) + rounding
    low, high, wanted = np.minimum(low, mean), np.maximum(high, mean), mean
    if squared:
        covariance = estimator.covariance(row.model, row.q, row.x)[0]
        farthest = np.maximum(high - mean, mean - low)
        squares, slack = farthest**2, (2.0 * farthest + slack) * slack
        slack = np.append(slack, slack.sum())
        wanted = np.append(np.diag(covariance), np.trace(covariance))
        low, high = np.zeros(latents + 1), np.maximum(np.append(squares, squares.sum()), wanted)

    def batch(done: int, count: int) -> Floats:
        got = as_array("draw", draw(count)).astype(np.float64)
        if got.shape != (count, latents):
            raise ValueError(f"draw({count}): got shape {got.shape}, wanted {(count, latents)}, in the logits of q")
        if not np.isfinite(got).all():
            raise AssertionError(
                f"{estimator.name}: FAIL: draw {done + int(np.argwhere(~np.isfinite(got))[0][0]) + 1} is not finite"
            )
        if not squared:
            return got
        deviations = (got - mean) ** 2
        return np.column_stack([deviations, deviations.sum(axis=1)])

    pilot = {name: batch(0, FIRST_BATCH)}
    sides = ({name: low}, {name: high})
    tests = FreeVectors([name], {name: wanted}, sides, pilot, unit(precision), delta, alpha, slack=slack)
    return conclusive(tests, most, f"{estimator.name}, {'variance' if squared else 'mean'}", batch)
