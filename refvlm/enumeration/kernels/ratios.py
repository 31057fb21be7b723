"""Draws from the tilted distributions of `tangent.py`, one a box, and the ratios r of what is summed to its majorant.

A draw z of box j has independent bits of known probabilities, so r = p(x, z) / (pi_j q_j(z) U) has the mean p(x) / U
when j has the probability pi_j; log U is chosen such that no z exceeds 1. The logits of a draw are those of the box's
likeliest z, corrected for each bit that departs from it: outputs lie along the lanes, and
log p(x | z) = sum of min(s_i a_i, 0) - log prod of (1 + exp(-|a_i|)).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Bits, Floats
from ..problem import Decoder, Mixture
from .compiling import inline, kernel
from .constants import OCTET
from .elementary import exp, log
from .lanes import absolute, load_octet, splat_octet, store, total, vectors, where_less

FACTORS = 512
"""Factors in [1, 2] of a product before it is put aside as a logarithm."""
CERTAIN = 800.0
"""A logit beyond the last output, whose factor is 1."""


@kernel
def signed_weights(decoder: Decoder, x: Bits) -> Floats:
    """s_i W_ki for one row x (L,), bit by bit in whole octets, then s_i b_i."""
    latents, observed = decoder.sizes[0], len(x)
    width = (observed + OCTET - 1) // OCTET * OCTET
    out = vectors((latents + 1) * width)
    for k in range(latents + 1):
        for i in range(observed):
            w = decoder.flat[k * observed + i]
            out[k * width + i] = w if x[i] else -w
    for i in range(observed, width):
        out[latents * width + i] = CERTAIN
    return out


@kernel
def mode_logits(signed: Floats, modes: Bits) -> Floats:
    """s_i a_i at each of these z (B, K), flat: the biases and then the weights of the ones, in order."""
    boxes, latents = modes.shape
    width = len(signed) // (latents + 1)
    out = vectors(boxes * width)
    for j in range(boxes):
        for i in range(0, width, OCTET):
            a = load_octet(signed, latents * width + i)
            for k in range(latents):
                if modes[j, k]:
                    a = a + load_octet(signed, k * width + i)
            store(out, j * width + i, a)
    return out


@inline
def departing(probabilities: Floats, uniforms: Floats, which: NDArray[np.int64], changes: Floats) -> int:
    """How many bits of a draw are not the likelier value; which they are, and whether that sets them, 1, or not, -1.

    A branch on a random bit would be mispredicted; a counter that moves or not is not.
    """
    count = 0
    for k in range(len(probabilities)):
        on = probabilities[k] >= 0.5
        which[count] = k
        changes[count] = -1.0 if on else 1.0
        count += 1 if (uniforms[k] < probabilities[k]) != on else 0
    return count


@kernel
def log_ratios(mixture: Mixture, boxes: NDArray[np.int64], uniforms: Floats) -> Floats:
    """log r of one z for each row of uniforms (draws, K), drawn from these boxes (draws,) of the mixture: at most 0."""
    draws, latents = uniforms.shape
    width = len(mixture.signed) // (latents + 1)
    which, changes = np.empty(latents + 1, np.int64), np.empty(latents + 1)
    out = np.empty(draws)
    for n in range(draws):
        box = boxes[n]
        count = departing(mixture.probabilities[box], uniforms[n], which, changes)
        h = mixture.at_mode[box]
        for j in range(count):
            h += mixture.departures[box, which[j]]
        below, product, aside = splat_octet(0.0), splat_octet(1.0), splat_octet(0.0)
        start = box * width
        for i in range(0, width - width % (4 * OCTET), 4 * OCTET):
            a, b = load_octet(mixture.starts, start + i), load_octet(mixture.starts, start + i + OCTET)
            c, d = load_octet(mixture.starts, start + i + 2 * OCTET), load_octet(mixture.starts, start + i + 3 * OCTET)
            for j in range(count):
                at, sign = which[j] * width + i, changes[j]
                a = a + sign * load_octet(mixture.signed, at)
                b = b + sign * load_octet(mixture.signed, at + OCTET)
                c = c + sign * load_octet(mixture.signed, at + 2 * OCTET)
                d = d + sign * load_octet(mixture.signed, at + 3 * OCTET)
            below = below + (where_less(a, 0.0, a, 0.0) + where_less(b, 0.0, b, 0.0))
            below = below + (where_less(c, 0.0, c, 0.0) + where_less(d, 0.0, d, 0.0))
            first = (1.0 + exp(-absolute(a))) * (1.0 + exp(-absolute(b)))
            product = product * (first * ((1.0 + exp(-absolute(c))) * (1.0 + exp(-absolute(d)))))
            if i % (FACTORS * OCTET) == (FACTORS - 4) * OCTET:
                aside, product = aside + log(product, 0.0), splat_octet(1.0)
        for i in range(width - width % (4 * OCTET), width, OCTET):
            a = load_octet(mixture.starts, start + i)
            for j in range(count):
                a = a + changes[j] * load_octet(mixture.signed, which[j] * width + i)
            below = below + where_less(a, 0.0, a, 0.0)
            product = product * (1.0 + exp(-absolute(a)))
        out[n] = min(total(below - (aside + log(product, 0.0))) - h, 0.0)
    return out
