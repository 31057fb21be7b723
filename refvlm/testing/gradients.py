"""Tests draws of gradients, many numbers at once, direction by direction.

A named estimator takes only the 2**K values g(z), so its draws lie in their affine hull, of dimension at most 2**K - 1:
what lies outside is wrong at once. Inside, the exact covariance under q makes the directions uncorrelated and of
variance 1, and each is tested as one number, by betting, at alpha / directions.

Directions of the hull count as such where the singular value of the points g(z) - mean exceeds RANK times the largest,
and are tested where their standard deviation under q does, too; a draw's distance from the hull may be 2**12 u times
the largest |g(z)|.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_array
from ..types import Floats
from .betting import Plan, SequentialTest, Verdict, plan_test

RANK = 1e-10
DRAW_SLACK = 4096.0


def flatten(draws: Any, names: list[str], like: Mapping[str, Floats], count: int) -> Floats:
    """Returns arrays (n, *shape) by name as one array (n, D)."""
    columns = []
    for name in names:
        if not isinstance(draws, Mapping) or name not in draws:
            raise ValueError(f"draw({count}): got no {name!r}, wanted the same names every time")
        got = as_array(name, draws[name]).astype(np.float64)
        if got.shape != (count, *like[name].shape):
            raise ValueError(f"draw({count}): {name}: got shape {got.shape}, wanted {(count, *like[name].shape)}")
        columns.append(got.reshape(count, -1))
    return np.concatenate(columns, axis=1)


class _Tests:
    """Tests side by side: FAIL as soon as one fails, PASS when all have."""

    plans: list[Plan]

    def _begin(self, labels: list[str]) -> None:
        self._tests = [SequentialTest(plan) for plan in self.plans]
        self._verdicts: list[Verdict | None] = [None] * len(self.plans)
        self._labels = labels
        self._count = 0

    @property
    def plan_draws(self) -> int:
        """The number of draws after which the test is over."""
        return max((plan.draws for plan in self.plans), default=1)

    @property
    def remark(self) -> str:
        """Why many draws are planned, or an empty string."""
        return next((plan.remark for plan in sorted(self.plans, key=lambda plan: -plan.draws)), "")

    def _advance(self, columns: Floats) -> Verdict | None:
        self._count += len(columns)
        for i, test in enumerate(self._tests):
            if self._verdicts[i] is None:
                verdict = test.update(np.ascontiguousarray(columns[:, i]))
                if verdict is not None and verdict.outcome == "FAIL":
                    return verdict._replace(reason=f"{self._labels[i]}: {verdict.reason}")
                self._verdicts[i] = verdict
        if all(verdict is not None for verdict in self._verdicts):
            return Verdict("PASS", self._count, float("nan"))
        return None

    def conclude(self) -> Verdict:
        """Returns the verdict when there are no more draws."""
        ended = [v or test.conclude() for v, test in zip(self._verdicts, self._tests, strict=True)]
        open_ones = [label for label, v in zip(self._labels, ended, strict=True) if v.outcome != "PASS"]
        if not open_ones:
            return Verdict("PASS", self._count, float("nan"))
        said = f"open in {len(open_ones)} of {len(ended)} directions, the first {open_ones[0]}"
        return Verdict("INCONCLUSIVE", self._count, float("nan"), said)


class Whitened(_Tests):
    """Draws of an estimator whose value at every z is known: table by name, (2**K, *shape); q (2**K,): q(z | x)."""

    def __init__(
        self, table: Mapping[str, Floats], q: Floats, samples: int, roundoff: float, delta: float, alpha: float
    ) -> None:
        points = np.concatenate([value.reshape(len(q), -1) for value in table.values()], axis=1)[q > 0]
        q = q[q > 0]
        self._mean = q @ points
        centred = points - self._mean
        self._slack = DRAW_SLACK * roundoff * float(np.abs(points).max(initial=0.0))
        _, sizes, directions = np.linalg.svd(centred, full_matrices=False)
        rank = int((sizes > RANK * sizes.max(initial=0.0)).sum()) if sizes.size and sizes[0] > self._slack else 0
        self._hull = directions[:rank]
        inside = centred @ self._hull.T
        spreads, rotation = np.linalg.eigh((inside.T * q) @ inside)
        kept = spreads > (RANK**2) * spreads.max(initial=0.0)
        self._whiten = (rotation[:, kept] / np.sqrt(spreads[kept])).T @ self._hull
        self.rank, self.tested = rank, int(kept.sum())
        each = alpha / max(self.tested, 1)
        self.plans = [
            plan_test(
                centred @ direction,
                q,
                mean=0.0,
                averaged=samples,
                tolerance=min(self._slack * float(np.abs(direction).sum()), 0.5 * delta / np.sqrt(samples)),
                delta=delta,
                alpha=each,
            )
            for direction in self._whiten
        ]
        self._names = [name for name, value in table.items() for _ in range(value[0].size)]
        self._begin([f"direction {i} (mostly {self._mostly(row)})" for i, row in enumerate(self._whiten)])

    def update(self, draws: Floats) -> Verdict | None:
        """Takes draws (n, D) in; returns the verdict, if there is one."""
        centred = draws - self._mean
        outside = np.abs(centred - (centred @ self._hull.T) @ self._hull)
        wrong = ~(outside <= self._slack)
        if wrong.any():
            row, column = (int(i) for i in np.unravel_index(int(wrong.argmax()), wrong.shape))
            return Verdict(
                "FAIL",
                self._count + row + 1,
                float("nan"),
                f"draw {self._count + row + 1} is no value of this estimator at any z, nor a mean of such: "
                f"{self._names[column]} is {outside[row, column]:.3g} from their affine hull of dimension {self.rank}",
            )
        return self._advance(centred @ self._whiten.T)

    def _mostly(self, direction: Floats) -> str:
        return self._names[int(np.abs(direction).argmax())]


class FreeVectors(_Tests):
    """Draws of an estimator of which only the mean and bounds are known: number by number, in their own units.

    The first draws choose the bets and the deviations in which delta counts, and are not tested.
    """

    def __init__(
        self,
        names: list[str],
        exact: Mapping[str, Floats],
        bounds: tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]],
        draws: Any,
        roundoff: float,
        delta: float,
        alpha: float,
        *,
        slack: Floats | None = None,
    ) -> None:
        """slack: what rounding may do to each number, by default 2**12 u of the larger bound."""
        count = len(np.asarray(draws[names[0]]))
        pilot = flatten(draws, names, exact, count)
        mean = np.concatenate([exact[name].ravel() for name in names])
        low, high = (
            np.concatenate([np.broadcast_to(as_array(name, side[name]), exact[name].shape).ravel() for name in names])
            for side in bounds
        )
        if slack is None:
            slack = DRAW_SLACK * roundoff * np.maximum(np.abs(low), np.abs(high))
        self.plans, labels = [], []
        flat_names = [f"{name}[{i}]" for name in names for i in range(exact[name].size)]
        for i in range(len(mean)):
            if not low[i] <= mean[i] <= high[i]:
                raise ValueError(
                    f"bounds: {flat_names[i]}: got [{low[i]:.6g}, {high[i]:.6g}], which the mean is outside of"
                )
            values = np.concatenate([pilot[:, i] - pilot[:, i].mean() + mean[i], [low[i], high[i]]]).clip(
                low[i], high[i]
            )
            probabilities = np.concatenate([np.full(count, 1.0 / count), [1e-9, 1e-9]])
            exactly, within, each = float(mean[i]), float(slack[i]), alpha / len(mean)
            self.plans.append(plan_test(values, probabilities, mean=exactly, tolerance=within, delta=delta, alpha=each))
            labels.append(flat_names[i])
        self._begin(labels)

    def update(self, draws: Floats) -> Verdict | None:
        """Takes draws (n, D) in; returns the verdict, if there is one."""
        return self._advance(draws)
