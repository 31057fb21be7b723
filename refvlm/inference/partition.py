"""{0,1}^K of a row in boxes, each with its own tangent: together their sums bound log p(x) more closely than one does.

Best first: the box that could gain most is halved at the bit in which log p(x | z) is most curved, and both halves take
one Newton step from the tangent of the whole. A fourth of a row's boxes are halved at a time, so that they can be
computed together. What comes out depends on how many are asked for alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..enumeration import sums
from ..enumeration.engine import Engine
from ..enumeration.sums import Boxes
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..types import Bits, Floats
from . import arrays
from .certificate import SLACK, U

NEWTON_STEPS, TOLERANCE = 40, 1e-9
"""Of the descent to the first tangent: the most steps, and nats beyond which another one is worth while."""
MOST_NUMBERS = 1 << 26
"""Floats in all boxes that are held at a time."""


def whole(model: BernoulliLVM, x: Bits, engine: Engine) -> Boxes:
    """One box for each row, of all z that are possible."""
    logits, count = np.array(model.top.logits), len(x)
    fixed = np.where(np.isinf(logits), np.where(logits > 0.0, 1, 0), -1).astype(np.int8)
    points = np.exp(arrays.log_probabilities(model.top).bits[1])
    rows = np.arange(count, dtype=np.int64)
    return _tangents(model, x, rows, np.tile(fixed, (count, 1)), np.tile(points, (count, 1)), NEWTON_STEPS, engine)


def refined(model: BernoulliLVM, x: Bits, boxes: Boxes, wanted: NDArray[np.int64], engine: Engine) -> Boxes:
    """So many boxes of each row, wanted (N,), or as many as there can be. Those of a row are in the order of rows."""
    while True:
        chosen = _to_halve(boxes, np.bincount(boxes.rows, minlength=len(x)), wanted)
        if len(chosen) == 0:
            return boxes
        bit = boxes.curvatures[chosen].argmax(axis=1)
        halves = np.repeat(chosen, 2)
        fixed = boxes.fixed[halves]
        fixed[np.arange(len(halves)), np.repeat(bit, 2)] = np.tile(np.array([0, 1], np.int8), len(chosen))
        new = _tangents(model, x, boxes.rows[halves], fixed, boxes.points[halves], 1, engine)
        kept = np.delete(np.arange(len(boxes.rows)), chosen)
        boxes = boxes.take(kept).and_those(new)
        boxes = boxes.take(np.argsort(boxes.rows, kind="stable"))


def next_number(count: int) -> int:
    """How many boxes there are after a fourth of so many has been halved."""
    return count + max(count // 4, 1)


def doubled(count: int, fewest: int = 2) -> int:
    """The first such number that is twice as many, and at least so many."""
    more = next_number(count)
    while more < max(2 * count, fewest):
        more = next_number(more)
    return more


def price_of_a_box(latents: int, observed: int) -> float:
    """In draws: operations of a Newton step, over those of a draw, as they were measured."""
    box = latents**2 * observed / 20 + latents**3 / 12 + 2 * latents * observed
    return box / (4 * latents + latents * observed / 32 + 1.5 * observed)


def _to_halve(boxes: Boxes, counts: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """The boxes of each row that could gain most: a fourth of them, or as many as are still wanted."""
    room = np.minimum(np.maximum(counts // 4, 1), wanted - counts)
    gain = 0.5 * boxes.curvatures.sum(axis=1)
    possible = np.flatnonzero((gain > 0.0) & (room[boxes.rows] > 0))
    with np.errstate(divide="ignore"):
        priority = boxes.log_u[possible] + np.log(-np.expm1(-gain[possible]))
    order = np.lexsort((-priority, boxes.rows[possible]))
    rows = boxes.rows[possible][order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows, side="left")
    return np.sort(possible[order][rank < room[rows]])


def _tangents(
    model: BernoulliLVM, x: Bits, rows: NDArray[np.int64], fixed: NDArray[np.int8], points: Floats, steps: int,
    engine: Engine,
) -> Boxes:  # fmt: skip
    decoder, prior = model.decoder, model.prior
    assert isinstance(decoder, MLP)
    assert isinstance(prior, Bernoulli)
    flat, bits = arrays.flat_network(decoder), arrays.log_probabilities(prior)
    return sums.tangents(flat, bits, x, rows, fixed, points, steps, TOLERANCE, engine)


def upper_bounds(model: BernoulliLVM, boxes: Boxes, count: int) -> Floats:
    """log of the sum of each row's U, (N,), no less than that in exact arithmetic: see `brackets.py`."""
    above = boxes.log_u + SLACK * (2 * model.observed + model.latents + 12) * U * boxes.size
    total, error = log_sums(above, boxes.rows, count)
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
