"""{0,1}^K of a row in boxes, each with its own majorant: together their sums bound log p(x) more closely than one does.

Best first: the box that could gain most is halved at the bit that causes most of it, that in which log p(x | z) is most
curved, and both halves start from the majorant of the whole. A fourth of a row's boxes are halved at a time, so that
they can be computed together. What comes out depends on how many are asked for alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..enumeration.engine import Engine
from ..enumeration.sums import Boxes
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP, Network
from ..types import Bits
from . import bounds
from .context_ground import context_ground
from .ground import Ground
from .layered_ground import layered_ground

MOST_NUMBERS = 1 << 26
"""Floats in all boxes that are held at a time."""
SHORT_SUM = 1 << 36
"""Multiplications, N L 2**K for a linear decoder, of a sum that is short enough to be preferred to bounds: seconds."""
STATES = 12
"""Bits of the layer above z, of a deep model, up to which each of its states gets a box."""


def has_boxes(model: BernoulliLVM) -> bool:
    """Whether there are majorants: for a linear decoder, with a Bernoulli prior and many latents, or in a deep model.

    There all decoders have to be linear, or the next one alone, where it is from at most STATES bits.
    """
    if isinstance(model.prior, Bernoulli):
        return is_linear(model.decoder) and model.latents > bounds.SUMMED_LATENTS
    return has_contexts(model) or all(is_linear(layer.decoder) for layer in model.layers)


def has_contexts(model: BernoulliLVM) -> bool:
    """Whether it is a deep model whose layer next to x is a linear model of its own for each state of few bits."""
    above = model.prior
    if not isinstance(above, BernoulliLVM) or above.latents > STATES:
        return False
    return is_linear(model.decoder) and is_linear(above.decoder)


def is_linear(decoder: Network) -> bool:
    """Whether it is an MLP without hidden layers."""
    return isinstance(decoder, MLP) and len(decoder.weights) == 1


def is_summed(model: BernoulliLVM, rows: int) -> bool:
    """Whether log p(x) of so many rows has no bracket but the sum, or that is short."""
    length = max(rows, 1) * model.observed << model.latents
    if isinstance(model.prior, BernoulliLVM):
        length += model.latents << (model.latents + model.prior.latents)
    return not has_boxes(model) or length <= SHORT_SUM


def ground_of(model: BernoulliLVM) -> Ground:
    """What its boxes stand on."""
    if isinstance(model.prior, Bernoulli) or has_contexts(model):
        return context_ground(model)
    return layered_ground(model)


def refined(ground: Ground, x: Bits, boxes: Boxes, wanted: NDArray[np.int64], engine: Engine) -> Boxes:
    """So many boxes of each row, wanted (N,), or as many as there can be. Those of a row are in the order of rows."""
    while True:
        chosen = _to_halve(boxes, np.bincount(boxes.rows, minlength=len(x)), wanted)
        if len(chosen) == 0:
            return boxes
        bit = boxes.curvatures[chosen].argmax(axis=1)
        halves = boxes.take(np.repeat(chosen, 2))
        halves.fixed[np.arange(len(halves.rows)), np.repeat(bit, 2)] = np.tile(np.array([0, 1], np.int8), len(chosen))
        kept = np.delete(np.arange(len(boxes.rows)), chosen)
        boxes = boxes.take(kept).and_those(ground.halves(x, halves, engine))
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


def numbers_in_a_box(ground: Ground) -> int:
    """Floats that are held for it."""
    return 6 * ground.latents + ground.observed


def rows_together(ground: Ground, most: int) -> int:
    """How many rows' boxes can be held at a time, at most so many."""
    return max(min(MOST_NUMBERS // (4 * ground.states * numbers_in_a_box(ground)), most), 1)


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
