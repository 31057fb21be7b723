"""From boxes with a tangent each to what draws come from, and what their ratios have to be multiplied by.

U~ is U with as much added as makes r = p(x, z) / (pi_j q~_j(z) U~) at most 1 for every z of every box j:
(3 L + 11 K + 30) u times the magnitudes in log U, with u = 2**-53. q~ is what the sampler really draws from: bits are
u < p~ with u and p~ on a grid of 2**-53, p~ rounded so that the rarer value of a bit becomes no less likely; pi_j is
on the same grid, no less than one step of it, and log U~ is the largest log U_j - log pi_j. Rounding moves log r by at
most (3 L + 2 K + 40) u times the magnitudes of what is added up.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..enumeration import kernels
from ..enumeration.problem import Mixture
from ..enumeration.sums import Boxes
from ..types import Bits, Floats
from .certificate import SLACK, U
from .partition import Ground

_GRID = 1 << 53


class Sampler(NamedTuple):
    """A row's mixture; log U~, and the bound on the rounding of log r."""

    mixture: Mixture
    log_u: float
    rounding: float


def sampler(ground: Ground, x: Bits, boxes: Boxes) -> Sampler:
    """For a row x (L,) and its boxes."""
    latents, observed, decoder = ground.latents, ground.observed, ground.decoder
    log_u = boxes.log_u + SLACK * U * (3 * observed + 11 * latents + 30) * boxes.size
    steps = _on_grid(log_u)
    log_pi = np.log(steps) - np.log(_GRID)
    whole = float((log_u - log_pi).max())
    whole += SLACK * U * 8.0 * (abs(whole) + 60.0)

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


def _on_grid(log_u: Floats) -> Floats:
    """Probabilities in proportion to U as numbers of steps: integers from 1 that add up to 2**53."""
    share = np.exp(log_u - log_u.max())
    steps = np.maximum(np.floor(share / share.sum() * _GRID), 1.0).astype(np.int64)
    steps[np.argmax(steps)] += _GRID - int(steps.sum())
    numbers: Floats = steps.astype(np.float64)
    return numbers
