"""REINFORCE (Williams, "Simple statistical gradient-following algorithms", 1992): log w less b, times the score.

    (1/S) sum_s (f_s - b) d log q(z_s) / d logits,    f_s = log p(x, z_s) - log q(z_s | x)

No bias for any b that does not depend on the draws, since the score has mean 0; that also takes care of q within f.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...checks import as_array, describe
from ...types import Floats
from .estimator import OfOneCode, ScoreFunction
from .landscape import Codes


@dataclass(frozen=True, eq=False)
class Reinforce(OfOneCode, ScoreFunction):
    """baseline: b, a number, or one for each row, (N,)."""

    baseline: ArrayLike = 0.0

    name = "reinforce"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_per_row("baseline", self.baseline)

    def check(self, latents: int, rows: int) -> None:
        """Refuse baselines of other rows."""
        per_row("baseline", self.baseline, rows)

    def signal(self, log_w: Floats) -> Floats:
        """(f - b) / S."""
        return (log_w - per_row("baseline", self.baseline, len(log_w))[:, None]) / self.samples

    def _of_every_code(self, codes: Codes) -> Floats:
        """(f - b) times the score, (2**K, K)."""
        centred = codes.log_w + (codes.vlb - of_row("baseline", self.baseline, codes.number))
        return centred[:, None] * codes.score


def check_per_row(name: str, value: ArrayLike) -> Floats:
    """A finite number, or one for each row."""
    array = as_array(name, value)
    numbers = array.astype(np.float64)
    if numbers.ndim > 1 or array.dtype.kind == "b" or not np.isfinite(numbers).all():
        raise ValueError(f"{name}: got {describe(value)}, wanted a finite number, or one for each row")
    return numbers


def per_row(name: str, value: ArrayLike, rows: int) -> Floats:
    """The numbers of so many rows, (rows,)."""
    numbers = check_per_row(name, value)
    if numbers.ndim == 1 and len(numbers) != rows:
        raise ValueError(f"{name}: got {len(numbers)} numbers, wanted one, or one for each of the {rows} rows")
    return np.broadcast_to(numbers, (rows,))


def of_row(name: str, value: ArrayLike, number: int) -> float:
    """The number of one row."""
    numbers = check_per_row(name, value)
    return float(numbers[number] if numbers.ndim == 1 else numbers)
