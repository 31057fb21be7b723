"""{0,1}^K of a row in boxes, each with its own tangent: together their sums bound log p(x) more closely than one does.

Best first: the box that could gain most is halved at the bit in which log p(x | z) is most curved, and both halves take
one Newton step from the tangent of the whole. A fourth of a row's boxes are halved at a time, so that they can be
computed together. What comes out depends on how many are asked for alone.

A deep model has a box to begin with for each state of the layers above z: given it, the bits of z are independent. They
all start at one tangent, for a prior between theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import bits
from ..enumeration import kernels, sums
from ..enumeration.engine import Engine
from ..enumeration.problem import Contexts, Decoder
from ..enumeration.sums import Boxes
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP, Network
from ..model.recognition import PerDatumPosterior
from ..types import Bits, Floats
from . import arrays, bounds
from .certificate import SLACK, U
from .exact import log_marginal
from .joint import log_joint

NEWTON_STEPS, TOLERANCE = 40, 1e-9
"""Of the descent to the first tangent: the most steps, and nats beyond which another one is worth while."""
MOST_NUMBERS = 1 << 26
"""Floats in all boxes that are held at a time."""
SHORT_SUM = 1 << 36
"""Multiplications, N L 2**K for a linear decoder, of a sum that is short enough to be preferred to bounds: seconds."""
_CONTEXTS = 16
"""Of a deep model, that count in lower bounds, if not more of them are the likeliest of a row."""
STATES = 12
"""Bits of the layer above z, of a deep model, up to which each of its states gets a box."""


def has_boxes(model: BernoulliLVM) -> bool:
    """Whether there are tangents: for a linear decoder, with a Bernoulli prior and many latents, or in a deep model.

    There the next decoder has to be linear as well, from at most STATES bits.
    """
    above = model.prior
    if not is_linear(model.decoder):
        return False
    if isinstance(above, Bernoulli):
        return model.latents > bounds.SUMMED_LATENTS
    return is_linear(above.decoder) and above.latents <= STATES


def is_linear(decoder: Network) -> bool:
    """Whether it is an MLP without hidden layers."""
    return isinstance(decoder, MLP) and len(decoder.weights) == 1


def is_summed(model: BernoulliLVM, rows: int) -> bool:
    """Whether log p(x) of so many rows has no bracket but the sum, or that is short."""
    length = max(rows, 1) * model.observed << model.latents
    if isinstance(model.prior, BernoulliLVM):
        length += model.latents << (model.latents + model.prior.latents)
    return not has_boxes(model) or length <= SHORT_SUM


class Ground(NamedTuple):
    """What all boxes of all rows share. logits: (M, K), of the contexts' priors."""

    decoder: Decoder
    contexts: Contexts
    logits: Floats

    @property
    def latents(self) -> int:
        """K, of the layer next to x."""
        return int(self.logits.shape[1])

    @property
    def observed(self) -> int:
        """L."""
        return int(self.decoder.sizes[-1])


def ground_of(model: BernoulliLVM) -> Ground:
    """Of a linear decoder on bits that are independent, or so given a state of the layers above."""
    assert isinstance(model.decoder, MLP)
    flat, above = arrays.flat_network(model.decoder), model.prior
    if isinstance(above, Bernoulli):
        logits = np.array(above.logits[None])
        log_weight, size = np.zeros(1), np.zeros(1)
    else:
        assert isinstance(above.decoder, MLP)
        codes = bits.table(above.latents)
        weights, biases = above.decoder.weights[0], above.decoder.biases[0]
        logits = codes @ weights + biases
        if isinstance(above.prior, Bernoulli):
            chosen = kernels.bernoulli.bernoulli(np.array(above.prior.logits[None]))[1][0]
            log_weight = np.where(codes == 1, chosen[1], chosen[0]).sum(axis=1)
            error = 16.0 * U * above.latents * np.where(np.isinf(log_weight), 0.0, np.abs(log_weight) + 1.0)
        else:
            log_weight, error = log_marginal(above.prior, codes, with_error=True)
        moved = above.latents * (np.abs(weights).sum() + np.abs(biases).sum())  # of the logits, and no less of log p
        possible = np.isfinite(log_weight)
        logits, log_weight = logits[possible], log_weight[possible]
        size = error[possible] / U + moved
    table = kernels.bernoulli.bernoulli(np.ascontiguousarray(logits))[1]
    return Ground(flat, Contexts(table, np.ascontiguousarray(log_weight), size), logits)


def whole(ground: Ground, x: Bits, engine: Engine) -> Boxes:
    """One box for each row and context, of all z that are possible."""
    count, states = len(x), np.arange(len(ground.logits), dtype=np.int64)
    if len(states) == 1:
        points = np.exp(ground.contexts.bits[:, 1])
        boxes = _boxes(ground, x, np.arange(count, dtype=np.int64), states, np.tile(points, (count, 1)))
        return _tangents(ground, x, boxes, NEWTON_STEPS, engine)
    share = np.exp(ground.contexts.log_weight - ground.contexts.log_weight.max())
    mean = (share @ ground.logits)[None] / share.sum()
    table = kernels.bernoulli.bernoulli(mean)[1]
    middle = Ground(ground.decoder, Contexts(table, np.zeros(1), np.zeros(1)), mean)
    points = whole(middle, x, engine).points
    rows = np.repeat(np.arange(count, dtype=np.int64), len(states))
    return _tangents(ground, x, _boxes(ground, x, rows, states, points[rows]), 1, engine)


def _boxes(ground: Ground, x: Bits, rows: NDArray[np.int64], states: NDArray[np.int64], points: Floats) -> Boxes:
    """One for each row and state, to begin with."""
    every = np.tile(states, len(rows) // max(len(states), 1)) if len(states) > 1 else np.zeros(len(rows), np.int64)
    logits = ground.logits[every]
    fixed = np.where(np.isinf(logits), np.where(logits > 0.0, 1, 0), -1).astype(np.int8)
    nothing = np.zeros(len(rows))
    points = np.where(fixed < 0, points, fixed)
    return Boxes(rows, every, fixed, nothing, nothing, logits, points, logits)


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
        boxes = boxes.take(kept).and_those(_tangents(ground, x, halves, 1, engine))
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


def rows_together(ground: Ground, most: int) -> int:
    """How many rows' boxes can be held at a time, at most so many."""
    numbers = len(ground.logits) * (6 * ground.latents + ground.observed)
    return max(min(MOST_NUMBERS // (4 * numbers), most), 1)


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


def _tangents(ground: Ground, x: Bits, boxes: Boxes, steps: int, engine: Engine) -> Boxes:
    """Those of boxes of which rows, states, bits and points are known."""
    return sums.tangents(
        ground.decoder,
        ground.contexts,
        x,
        boxes.rows,
        boxes.states,
        boxes.fixed,
        boxes.points,
        steps,
        TOLERANCE,
        engine,
    )


def upper_bounds(ground: Ground, boxes: Boxes, count: int) -> Floats:
    """log of the sum of each row's U, (N,), no less than that in exact arithmetic: see `brackets.py`."""
    above = boxes.log_u + SLACK * (2 * ground.observed + ground.latents + 12) * U * boxes.size
    total, error = log_sums(above, boxes.rows, count)
    return total + error


def lower_bounds(model: BernoulliLVM, ground: Ground, boxes: Boxes, q: Floats, x: Bits, engine: Engine) -> Floats:
    """log of the sum over each row's boxes of e^VLB, (N,), no more than that in exact arithmetic; q: their logits.

    Of many contexts those count that matter: a part of the sum is a lower bound, too.
    """
    best = np.full(len(x), -np.inf)
    np.maximum.at(best, boxes.rows, boxes.log_u)
    weight = np.full(len(ground.logits), -np.inf)
    np.maximum.at(weight, boxes.states, boxes.log_u - best[boxes.rows])
    value, error = np.full(len(boxes.rows), -np.inf), np.zeros(len(boxes.rows))
    least = min(float(np.sort(weight)[::-1][:_CONTEXTS][-1]), 0.0)
    for state in np.flatnonzero(weight >= least).tolist():
        own, which = BernoulliLVM(Bernoulli(ground.logits[state]), model.decoder), np.flatnonzero(boxes.states == state)
        value[which], error[which] = _lower_bound(own, q[which], x[boxes.rows[which]], engine)
        value[which] += ground.contexts.log_weight[state]
        error[which] += SLACK * U * (ground.contexts.size[state] + np.abs(value[which]))
    total, rounding = log_sums(value - error, boxes.rows, len(x))
    return total - rounding


def _lower_bound(model: BernoulliLVM, q: Floats, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """The VLB of factorised q, (N, K) logits, or, where logits are too large for it, log p(x, z) of its likeliest z.

    With a bound on its rounding error, (N,) each.
    """
    if model.latents <= bounds.SUMMED_LATENTS or not bounds.needs_sum(model):
        posterior = PerDatumPosterior(q)
        return bounds.vlb(model, posterior, x, with_error=True, workers=engine.workers, executor=engine.executor)
    assert isinstance(model.decoder, MLP)
    value = log_joint(model, x, (q > 0.0).astype(np.uint8))
    sizes = np.abs(model.decoder.weights[0]).sum() + np.abs(model.decoder.biases[0]).sum() + np.abs(value) + 1.0
    return value, SLACK * U * (3 * model.observed + 11 * model.latents + 30) * sizes


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
