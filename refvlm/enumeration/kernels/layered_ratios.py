"""Draws from the tilted distributions of `layered.py`, and the ratios r of what is summed to its majorant.

From the highest layer down: given the layer above, the bits of a layer are independent, with the logits a + g. With
q~ the probability of what was drawn and pi_j that of its box, r = p(x, z) / (pi_j q~(z) U), log r is

    log p(x | z_1) + sum over all bits of log p(z_k | layer above) - log q~(z_k), less log U + log pi_j,

where q~ is exact: a bit is u < p~ with u and p~ on a grid of 2**-53, p~ rounded so that the rarer value becomes no less
likely. Units lie along the lanes; logarithms are taken of products.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Bits, Floats
from ..problem import LayeredMixture
from .compiling import inline, kernel
from .constants import OCTET
from .elementary import Number, exp, larger, log, sigmoids
from .envelope import smaller
from .lanes import absolute, load_octet, nearest, splat_octet, store, total, vectors, where_less
from .layered import octets

GRID = 2.0**53
PRODUCT = 16
"""Octets whose factors, from 2**-53 to 2, make a product before it is put aside as a logarithm."""


@inline
def drawn(a: Number, tilt: Number, free: Number, uniform: Number) -> tuple[Number, Number, Number]:
    """A bit, 1.0 or 0.0, and log p(bit | a) - log q~(bit) as a term less the logarithm of a factor."""
    on, off = sigmoids(a + tilt)
    rare = free * larger(nearest(smaller(on, off) * GRID + 0.5), 1.0) / GRID
    probability = where_less(off, on, 1.0 - rare, rare)
    bit = where_less(uniform, probability, 1.0, splat_octet(0.0))
    chosen = where_less(uniform, probability, probability, 1.0 - probability)
    logit = where_less(uniform, probability, a, -a)
    return bit, smaller(logit, 0.0), chosen * (1.0 + exp(-absolute(a)))


@kernel
def log_ratios(
    mixture: LayeredMixture, boxes: NDArray[np.int64], uniforms: Floats
) -> tuple[Floats, Bits]:  # fmt: skip
    """log r and z_1, (draws, K_1), of one z for each row of uniforms (draws, units): at most 0."""
    sizes, draws = mixture.sizes, len(boxes)
    layers, widest = len(sizes) - 1, 0
    for d in range(layers + 1):
        widest = max(widest, octets(sizes[d]))
    which, bits, uniform = np.empty(widest + 1, np.int64), vectors(widest), vectors(widest)
    out, z = np.empty(draws), np.zeros((draws, sizes[1]), np.uint8)
    units = 0
    for d in range(1, layers + 1):
        units += octets(sizes[d])
    for n in range(draws):
        box, value, count = boxes[n], 0.0, 0
        unit, weight = units, len(mixture.weights)
        for d in range(layers, 0, -1):
            width = octets(sizes[d])
            rows = sizes[d + 1] if d < layers else 0
            unit -= width
            weight -= (rows + 1) * width
            at_box = box * units + unit
            for i in range(width):
                uniform[i] = uniforms[n, unit + i]
            terms, product, aside = splat_octet(0.0), splat_octet(1.0), splat_octet(0.0)
            for i in range(0, width, OCTET):
                a = load_octet(mixture.weights, weight + rows * width + i)
                for j in range(count):
                    a = a + load_octet(mixture.weights, weight + which[j] * width + i)
                bit, term, factor = drawn(
                    a, load_octet(mixture.tilts, at_box + i), load_octet(mixture.free, at_box + i),
                    load_octet(uniform, i),
                )  # fmt: skip
                store(bits, i, bit)
                terms, product = terms + term, product * factor
                if i % (PRODUCT * OCTET) == (PRODUCT - 1) * OCTET:
                    aside, product = aside + log(product, 0.0), splat_octet(1.0)
            value += total(terms - (aside + log(product, 0.0)))
            count = 0
            for k in range(sizes[d]):
                which[count] = k
                count += 1 if bits[k] > 0.5 else 0
        for j in range(count):
            z[n, which[j]] = 1
        width = octets(sizes[0])
        below, product, aside = splat_octet(0.0), splat_octet(1.0), splat_octet(0.0)
        for i in range(0, width, OCTET):
            a = load_octet(mixture.signed, sizes[1] * width + i)
            for j in range(count):
                a = a + load_octet(mixture.signed, which[j] * width + i)
            below, product = below + smaller(a, 0.0), product * (1.0 + exp(-absolute(a)))
            if i % (512 * OCTET) == 511 * OCTET:
                aside, product = aside + log(product, 0.0), splat_octet(1.0)
        out[n] = min(value + total(below - (aside + log(product, 0.0))) - mixture.at[box], 0.0)
    return out, z
