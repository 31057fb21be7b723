"""Majorants of deep models of linear decoders, at any K: `kernels/layered.py`. Boxes may fix bits of any layer.

With u = 2**-53 and S the layers' sizes added up, the rounding error of log U is at most (4 S + 60) u times the sum of
the magnitudes that the kernel returns: a tilt, of as many products as a layer has units, moves log U by no more than
its own error, and is counted with the slopes; the ends of the logits' intervals are rounded outwards; an affine
majorant bounds what it has to in the kernel's own numbers, up to 24 u times the numbers in it and 8 u times the length
of the interval, for its slope is a derivative to so much.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..enumeration import kernels, sums
from ..enumeration.engine import Engine
from ..enumeration.problem import Stack
from ..enumeration.sums import Boxes
from ..enumeration.tasks import task
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import LayerwisePosterior, PerDatumPosterior
from ..types import Bits, Floats
from . import arrays, bounds
from .bound_certificate import largest_logits
from .certificate import SLACK, U
from .ground import NEWTON_STEPS, TOLERANCE, log_sums
from .joint import log_likelihood, log_of_bits

HALVING_STEPS = 3
"""Newton steps for the halves of a box: after one they are often worse than the whole."""
_WORSE = 1e-6
"""Nats by which the sum of two halves is above that of the whole where they take more steps."""


@dataclass(frozen=True)
class LayeredGround:
    """A `Ground` of all layers of a model."""

    model: BernoulliLVM
    stack: Stack

    @property
    def latents(self) -> int:
        """The bits of all layers."""
        return int(self.stack.sizes[1:].sum())

    @property
    def observed(self) -> int:
        """L."""
        return int(self.stack.sizes[0])

    @property
    def states(self) -> int:
        """One."""
        return 1

    @property
    def price(self) -> float:
        """Operations of a box's steps, over those of a draw, as they were measured."""
        below, above = self.stack.sizes[:-1].astype(float), self.stack.sizes[1:].astype(float)
        box = HALVING_STEPS * float((above**2 * below / 20 + above**3 / 12 + 4 * above * below).sum())
        box += 150.0 * float(self.stack.sizes[1:-1].sum())
        return box / float((above * below / 24 + 1.5 * below + 8 * above).sum())

    @property
    def roundings(self) -> int:
        """See above."""
        return 4 * int(self.stack.sizes.sum()) + 60

    def whole(self, x: Bits, engine: Engine) -> Boxes:
        """One box for each row, of all z that are possible."""
        count, top = len(x), self.model.top.logits
        logits = np.concatenate([np.zeros(self.latents - len(top)), top])
        fixed = np.where(np.isinf(logits), np.where(logits > 0.0, 1, 0), -1).astype(np.int8)
        points = kernels.bernoulli.bernoulli(logits[None])[0][:, 1]
        rows, nothing = np.arange(count, dtype=np.int64), np.zeros(count)
        every = [np.tile(column, (count, 1)) for column in (fixed, logits, points, logits)]
        boxes = Boxes(rows, np.zeros(count, np.int64), every[0].astype(np.int8), nothing, nothing, *every[1:])
        return self._majorants(x, boxes, NEWTON_STEPS, engine)

    def halves(self, x: Bits, boxes: Boxes, engine: Engine) -> Boxes:
        """Their majorants, a few steps from those of the whole; more, from other starts, where they are worse."""
        found = self._majorants(x, boxes, HALVING_STEPS, engine)
        sums_of_halves = np.logaddexp(found.log_u[::2], found.log_u[1::2])
        worse = np.repeat(sums_of_halves > boxes.log_u[::2] + _WORSE, 2)
        if not worse.any():
            return found
        best = found.take(np.flatnonzero(worse))
        for start in (
            best.points,
            np.where(best.fixed < 0, best.points, best.fixed),
            np.where(best.fixed < 0, 0.5, best.fixed),
        ):
            other = self._majorants(x, best._replace(points=start), NEWTON_STEPS, engine)
            both = best.and_those(other)
            best = both.take(np.arange(len(best.rows)) + len(best.rows) * (other.log_u < best.log_u))
        together = found.take(np.flatnonzero(~worse)).and_those(best)
        return together.take(np.argsort(np.argsort(worse, kind="stable"), kind="stable"))

    def _majorants(self, x: Bits, boxes: Boxes, steps: int, engine: Engine) -> Boxes:
        kernel = kernels.layered.majorant
        work = task(kernel, x, boxes.rows, boxes.fixed, boxes.points, steps, TOLERANCE)
        return sums.majorants(work, self.stack, boxes, 4 if steps == HALVING_STEPS else 1, engine)

    def lower_bounds(self, boxes: Boxes, x: Bits, engine: Engine) -> Floats:
        """log of the sum over each row's boxes of e^VLB, (N,), no more than that in exact arithmetic.

        q has independent bits in all layers: those of the tilted distribution, each layer's at the means of the one
        above. Where logits are too large for the VLB, log p(x, z) of its likeliest z.
        """
        rows, means = x[boxes.rows], self._means(boxes)
        networks = [layer.decoder for layer in self.model.layers]
        if all(isinstance(each, MLP) and largest_logits(each).max() <= bounds.LARGEST_LOGIT for each in networks):
            q = LayerwisePosterior([PerDatumPosterior(logits) for logits in means])
            value, error = bounds.vlb(
                self.model, q, rows, with_error=True, workers=engine.workers, executor=engine.executor
            )
        else:
            z = [(logits > 0.0).astype(np.uint8) for logits in means]
            value = log_of_bits(np.broadcast_to(self.model.top.logits, z[-1].shape), z[-1])
            for layer, below, above in zip(self.model.layers, [rows, *z], z, strict=False):
                value += log_likelihood(layer, below, above)
            error = SLACK * U * self.roundings * (np.abs(self.stack.flat).sum() + np.abs(value) + 1.0)
        total, rounding = log_sums(value - error, boxes.rows, len(x))
        return total - rounding

    def _means(self, boxes: Boxes) -> list[Floats]:
        """Logits of q, (B, K_d) for each layer from x upwards."""
        found, end = list[Floats](), self.latents
        base = np.tile(self.model.top.logits, (len(boxes.rows), 1))
        for layer in reversed(self.model.layers):
            own = slice(end - layer.latents, end)
            fixed = boxes.fixed[:, own]
            with np.errstate(invalid="ignore"):  # of fixed bits, whose tilts are infinite
                found.append(np.where(fixed < 0, base + boxes.logits[:, own], np.where(fixed == 1, np.inf, -np.inf)))
            end -= layer.latents
            assert isinstance(layer.decoder, MLP)
            if end > 0:
                mean = kernels.bernoulli.bernoulli(found[-1])[0][:, 1]
                base = np.tile(layer.decoder.biases[0], (len(mean), 1))
                for k in range(layer.latents):  # no BLAS: the same bits everywhere
                    base += mean[:, k, None] * layer.decoder.weights[0][k]
        return found[::-1]


def layered_ground(model: BernoulliLVM) -> LayeredGround:
    """Of linear decoders in all layers."""
    decoders = [layer.decoder for layer in model.layers]
    flat = [arrays.flat_network(decoder).flat for decoder in decoders if isinstance(decoder, MLP)]
    sizes = np.array([model.observed, *(layer.latents for layer in model.layers)], np.int64)
    return LayeredGround(model, Stack(sizes, np.concatenate(flat), arrays.log_probabilities(model.top).bits))
