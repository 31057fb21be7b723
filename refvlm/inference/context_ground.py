"""Tangents where the bits of z are independent, or so given one of few states of the layers above.

For a linear decoder on a Bernoulli prior there is one state. A deep model has a box to begin with for each state of the
layer above z, which has to be small and linear, while what is above that may be any model that can be summed. They all
start at one tangent, for a prior between theirs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import bits
from ..enumeration import kernels, sums
from ..enumeration.engine import Engine
from ..enumeration.problem import Contexts, Decoder
from ..enumeration.sums import Boxes
from ..enumeration.tasks import task
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import PerDatumPosterior
from ..types import Bits, Floats
from . import arrays, bounds
from .certificate import SLACK, U
from .exact import log_marginal
from .ground import NEWTON_STEPS, TOLERANCE, log_sums
from .joint import log_joint

_TOGETHER = 16
"""Boxes in a piece, where each takes one Newton step."""
_CONTEXTS = 16
"""Of a deep model, that count in lower bounds, if not more of them are the likeliest of a row."""


@dataclass(frozen=True)
class ContextGround:
    """A `Ground` of the model's lowest layer. logits: (M, K), of the contexts' priors."""

    model: BernoulliLVM
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

    @property
    def states(self) -> int:
        """M."""
        return len(self.logits)

    @property
    def price(self) -> float:
        """Operations of a Newton step, over those of a draw, as they were measured."""
        latents, observed = self.latents, self.observed
        box = latents**2 * observed / 20 + latents**3 / 12 + 2 * latents * observed
        return box / (4 * latents + latents * observed / 32 + 1.5 * observed)

    @property
    def roundings(self) -> int:
        """See `brackets.py`."""
        return 2 * self.observed + self.latents + 12

    def whole(self, x: Bits, engine: Engine) -> Boxes:
        """One box for each row and context, of all z that are possible."""
        count, states = len(x), np.arange(len(self.logits), dtype=np.int64)
        if len(states) == 1:
            points = np.exp(self.contexts.bits[:, 1])
            boxes = self._boxes(np.arange(count, dtype=np.int64), states, np.tile(points, (count, 1)))
            return self.tangents(x, boxes, NEWTON_STEPS, engine)
        share = np.exp(self.contexts.log_weight - self.contexts.log_weight.max())
        mean = (share @ self.logits)[None] / share.sum()
        table = kernels.bernoulli.bernoulli(mean)[1]
        middle = ContextGround(self.model, self.decoder, Contexts(table, np.zeros(1), np.zeros(1)), mean)
        points = middle.whole(x, engine).points
        rows = np.repeat(np.arange(count, dtype=np.int64), len(states))
        return self.tangents(x, self._boxes(rows, states, points[rows]), 1, engine)

    def _boxes(self, rows: NDArray[np.int64], states: NDArray[np.int64], points: Floats) -> Boxes:
        """One for each row and state, to begin with."""
        every = np.tile(states, len(rows) // max(len(states), 1)) if len(states) > 1 else np.zeros(len(rows), np.int64)
        logits = self.logits[every]
        fixed = np.where(np.isinf(logits), np.where(logits > 0.0, 1, 0), -1).astype(np.int8)
        nothing = np.zeros(len(rows))
        points = np.where(fixed < 0, points, fixed)
        return Boxes(rows, every, fixed, nothing, nothing, logits, points, logits)

    def halves(self, x: Bits, boxes: Boxes, engine: Engine) -> Boxes:
        """Their tangents, a step from those of the whole, which are as good as the whole's to begin with."""
        return self.tangents(x, boxes, 1, engine)

    def tangents(self, x: Bits, boxes: Boxes, steps: int, engine: Engine) -> Boxes:
        """Those of boxes of which rows, states, bits and points are known."""
        kernel = kernels.tangent.tangent
        work = task(kernel, self.contexts, x, boxes.rows, boxes.states, boxes.fixed, boxes.points, steps, TOLERANCE)
        return sums.majorants(work, self.decoder, boxes, _TOGETHER if steps == 1 else 1, engine)

    def lower_bounds(self, boxes: Boxes, x: Bits, engine: Engine) -> Floats:
        """log of the sum over each row's boxes of e^VLB, (N,), no more than that in exact arithmetic.

        The q have the boxes' logits. Of many contexts those count that matter: a part of the sum is a lower bound, too.
        """
        best = np.full(len(x), -np.inf)
        np.maximum.at(best, boxes.rows, boxes.log_u)
        weight = np.full(len(self.logits), -np.inf)
        np.maximum.at(weight, boxes.states, boxes.log_u - best[boxes.rows])
        value, error = np.full(len(boxes.rows), -np.inf), np.zeros(len(boxes.rows))
        least = min(float(np.sort(weight)[::-1][:_CONTEXTS][-1]), 0.0)
        for state in np.flatnonzero(weight >= least).tolist():
            own = BernoulliLVM(Bernoulli(self.logits[state]), self.model.decoder)
            which = np.flatnonzero(boxes.states == state)
            value[which], error[which] = _lower_bound(own, boxes.logits[which], x[boxes.rows[which]], engine)
            value[which] += self.contexts.log_weight[state]
            error[which] += SLACK * U * (self.contexts.size[state] + np.abs(value[which]))
        total, rounding = log_sums(value - error, boxes.rows, len(x))
        return total - rounding


def context_ground(model: BernoulliLVM) -> ContextGround:
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
    return ContextGround(model, flat, Contexts(table, np.ascontiguousarray(log_weight), size), logits)


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
