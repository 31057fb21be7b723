"""From boxes with a majorant each to what draws come from, and what their ratios have to be multiplied by.

U~ is U with as much added as makes r = p(x, z) / (pi_j q~_j(z) U~) at most 1 for every z of every box j:
(3 L + 11 K + 30) u times the magnitudes in log U, with u = 2**-53. q~ is what the sampler really draws from: bits are
u < p~ with u and p~ on a grid of 2**-53, p~ rounded so that the rarer value of a bit becomes no less likely; pi_j is
on the same grid, no less than one step of it, and log U~ is the largest log U_j - log pi_j. Rounding moves log r by at
most (3 L + 2 K + 40) u times the magnitudes of what is added up.

Of a deep model, S the layers' sizes added up, U~ has (8 S + 120) u more, twice what log U may err by, for the tilts of
q~ are rounded like those in U; and rounding moves log r by (3 S + 60) u times its magnitudes: of a bit's p~ and p(z_k)
logits up to the weights' sum and the tilt, and logarithms of no less than 2**-53.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..enumeration import kernels
from ..enumeration.kernels.constants import OCTET
from ..enumeration.problem import AnyMixture, LayeredMixture, Mixture
from ..enumeration.sums import Boxes
from ..model.mlp import MLP
from ..types import Bits, Floats
from . import arrays
from .certificate import SLACK, U
from .context_ground import ContextGround
from .ground import Ground
from .layered_ground import LayeredGround

_GRID = 1 << 53
_BEYOND = 1e30
"""The tilt of a fixed bit, more than any logit."""
_NEVER = -800.0
"""The logit of a unit that only fills an octet."""


class Sampler(NamedTuple):
    """A row's mixture; log U~, and the bound on the rounding of log r."""

    mixture: AnyMixture
    log_u: float
    rounding: float


def sampler(ground: Ground, x: Bits, boxes: Boxes) -> Sampler:
    """For a row x (L,) and its boxes."""
    if isinstance(ground, LayeredGround):
        return _of_layers(ground, x, boxes)
    assert isinstance(ground, ContextGround)
    return _of_contexts(ground, x, boxes)


def _of_contexts(ground: ContextGround, x: Bits, boxes: Boxes) -> Sampler:
    latents, observed, decoder = ground.latents, ground.observed, ground.decoder
    steps, log_pi, whole = _shares(boxes.log_u + SLACK * U * (3 * observed + 11 * latents + 30) * boxes.size)
    values = kernels.bernoulli.bernoulli(boxes.logits)[0]
    off, on = values[:, 0], values[:, 1]
    free = boxes.fixed < 0
    rare = np.clip(np.ceil(np.minimum(on, off) * _GRID) / _GRID, 1.0 / _GRID, 0.5)
    rare = np.where(free, rare, 0.0)
    likelier = (on >= off) | (rare == 0.5)  # 1 where both values are, as in the kernel
    off_p, on_p = ground.contexts.bits[boxes.states, 0], ground.contexts.bits[boxes.states, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        common = np.log1p(-rare) - np.where(likelier, on_p, off_p)
        departures = np.where(free, np.log(rare) - np.where(likelier, off_p, on_p) - common, 0.0)
    magnitudes = np.abs(decoder.flat).sum() + 2.0 * abs(whole) + boxes.size.max() + 60.0
    magnitudes += (np.abs(common) + np.abs(departures)).sum(axis=1).max()
    rounding = SLACK * U * (3 * observed + 2 * latents + 40) * float(magnitudes)

    signed = kernels.ratios.signed_weights(decoder, x)
    starts = kernels.ratios.mode_logits(signed, likelier.astype(np.uint8))
    at_mode = whole + log_pi + common.sum(axis=1) - ground.contexts.log_weight[boxes.states]
    probabilities = np.where(likelier, 1.0 - rare, rare)
    mixture = Mixture(signed, starts, probabilities, departures, at_mode, np.cumsum(steps) / _GRID)
    return Sampler(mixture, whole, rounding)


def _of_layers(ground: LayeredGround, x: Bits, boxes: Boxes) -> Sampler:
    sizes = ground.stack.sizes
    steps, log_pi, whole = _shares(boxes.log_u + 2.0 * SLACK * U * ground.roundings * boxes.size)
    decoders = [layer.decoder for layer in ground.model.layers if isinstance(layer.decoder, MLP)]
    signed = kernels.ratios.signed_weights(arrays.flat_network(decoders[0]), x)
    weights = [_octets(np.vstack([each.weights[0], each.biases[0]]), _NEVER) for each in decoders[1:]]
    top = ground.model.top.logits
    top = np.where(np.isinf(top), np.where(top > 0.0, -_NEVER, _NEVER), top)  # what is certain has a factor of 1
    tilts, free, start = list[Floats](), list[Floats](), 0
    for size in sizes[1:].tolist():
        own = slice(start, start + size)
        fixed = boxes.fixed[:, own]
        free.append(_octets((fixed < 0).astype(np.float64), 0.0))
        tilts.append(_octets(np.where(fixed < 0, boxes.logits[:, own], _BEYOND * np.where(fixed == 1, 1.0, -1.0)), 0.0))
        start += size
    flat = np.concatenate([*(each.ravel() for each in weights), _octets(top[None], _NEVER)[0]])
    units, most = int(sizes.sum()), np.abs(np.where(boxes.fixed < 0, boxes.logits, 0.0)).sum(axis=1).max()
    size = float(np.abs(ground.stack.flat).sum() + np.abs(top).sum() + most) + 40.0 * units + 2.0 * abs(whole) + 60.0
    rounding = SLACK * U * (3 * units + 60) * size
    mixture = LayeredMixture(
        sizes, signed, flat, np.hstack(tilts), np.hstack(free), whole + log_pi, np.cumsum(steps) / _GRID
    )
    return Sampler(mixture, whole, rounding)


def _octets(rows: Floats, filler: float) -> Floats:
    """Rows in whole octets; what fills the last row of weights, the biases, fills no other."""
    filled = np.zeros((len(rows), -(-rows.shape[1] // OCTET) * OCTET))
    filled[:, : rows.shape[1]] = rows
    filled[-1, rows.shape[1] :] = filler
    return filled


def _shares(log_u: Floats) -> tuple[Floats, Floats, float]:
    """Of boxes with these log U: the steps of the grid that each gets, log pi, and log U~."""
    steps = _on_grid(log_u)
    log_pi = np.log(steps) - np.log(_GRID)
    whole = float((log_u - log_pi).max())
    return steps, log_pi, whole + SLACK * U * 8.0 * (abs(whole) + 60.0)


def _on_grid(log_u: Floats) -> Floats:
    """Probabilities in proportion to U as numbers of steps: integers from 1 that add up to 2**53."""
    share = np.exp(log_u - log_u.max())
    steps = np.maximum(np.floor(share / share.sum() * _GRID), 1.0).astype(np.int64)
    steps[np.argmax(steps)] += _GRID - int(steps.sum())
    numbers: Floats = steps.astype(np.float64)
    return numbers
