"""What boxes stand on: how their majorants are made and what bounds they give, for one kind of model each.

`context_ground.py` is for bits that are independent, or so given one of few states; `layered_ground.py` for deep models
of linear decoders. `partition.py` chooses, and makes boxes of either.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..enumeration.engine import Engine
from ..enumeration.sums import Boxes
from ..types import Bits, Floats
from .certificate import SLACK, U

NEWTON_STEPS, TOLERANCE = 40, 1e-9
"""Of the descent to the first tangent: the most steps, and nats beyond which another one is worth while."""


class Ground(Protocol):
    """What all boxes of all rows of a model share."""

    @property
    def latents(self) -> int:
        """How many bits a box may fix."""

    @property
    def observed(self) -> int:
        """L."""

    @property
    def states(self) -> int:
        """How many boxes a row has at least."""

    @property
    def price(self) -> float:
        """What a box costs, in draws."""

    @property
    def roundings(self) -> int:
        """The rounding error of a box's log U, in units of 2**-53 of its size."""

    def whole(self, x: Bits, engine: Engine) -> Boxes:
        """The fewest boxes of each row, of all z that are possible."""

    def halves(self, x: Bits, boxes: Boxes, engine: Engine) -> Boxes:
        """The majorants of boxes whose points are those of larger ones."""

    def lower_bounds(self, boxes: Boxes, x: Bits, engine: Engine) -> Floats:
        """Bounds on log p(x), (N,), that hold in floating point, too."""


def upper_bounds(ground: Ground, boxes: Boxes, count: int) -> Floats:
    """log of the sum of each row's U, (N,), no less than that in exact arithmetic."""
    total, error = log_sums(boxes.log_u + SLACK * ground.roundings * U * boxes.size, boxes.rows, count)
    return total + error


def log_sums(values: Floats, rows: NDArray[np.int64], count: int) -> tuple[Floats, Floats]:
    """log of the sum of e^value over each row's boxes, (N,), and a bound on its rounding error."""
    most = np.full(count, -np.inf)
    np.maximum.at(most, rows, values)
    base = np.where(np.isfinite(most), most, 0.0)
    total = np.zeros(count)
    total += np.bincount(rows, np.exp(values - base[rows]), count)
    with np.errstate(divide="ignore"):
        np.log(total, out=total)
    total += base
    terms = np.bincount(rows, minlength=count)  # of which each is good to 4 u, and d e^-d u for a difference of d
    error = np.where(np.isfinite(total), SLACK * U * (2.0 * terms + 8.0) * (1.0 + np.abs(total)), 0.0)
    return total, error.astype(np.float64)
