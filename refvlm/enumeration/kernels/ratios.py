"""Draws from the tilted distribution of `tangent.py` and the ratios r of what is summed to its majorant, in [0, 1].

A draw z has independent bits of known probabilities, so p(x, z) / (q(z) U) has the mean p(x) / U; log U is chosen such
that no z exceeds 1. The logits of a draw are those of the likeliest z, corrected for each bit that departs from it:
outputs lie along the lanes, and log p(x | z) = sum of min(s_i a_i, 0) - log prod of (1 + exp(-|a_i|)).
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder
from .compiling import kernel
from .constants import OCTET
from .elementary import exp, log
from .lanes import absolute, load_octet, splat_octet, store, total, vectors, where_less

FACTORS = 512
"""Factors in [1, 2] of a product before it is put aside as a logarithm."""


@kernel
def log_ratios(
    decoder: Decoder, x: Bits, probabilities: Floats, departures: Floats, at_mode: float, uniforms: Floats
) -> Floats:
    """log r of one z for each row of uniforms (draws, K), for one row x (L,): at most 0.

    probabilities: of z_k = 1, (K,), multiples of 2**-53. With h(z) = log U + log q(z) - log p(z): at_mode is h of the
    likeliest z, departures, (K,), what each bit's other value adds to it.
    """
    draws, latents = uniforms.shape
    observed = len(x)
    padded = (observed + OCTET - 1) // OCTET * OCTET
    signed, start, logits = vectors(latents * padded), vectors(padded), vectors(padded)
    for i in range(padded):
        start[i] = 800.0  # beyond the last output: certain
    for i in range(observed):
        s = 1.0 if x[i] else -1.0
        start[i] = s * decoder.flat[latents * observed + i]
        for k in range(latents):
            w = s * decoder.flat[k * observed + i]
            if probabilities[k] >= 0.5:
                start[i] += w
                w = -w
            signed[k * padded + i] = w
    out = np.empty(draws)
    for n in range(draws):
        h = at_mode
        for i in range(0, padded, OCTET):
            store(logits, i, load_octet(start, i))
        for k in range(latents):
            if (uniforms[n, k] < probabilities[k]) != (probabilities[k] >= 0.5):
                h += departures[k]
                for i in range(0, padded, OCTET):
                    store(logits, i, load_octet(logits, i) + load_octet(signed, k * padded + i))
        below, product, aside = splat_octet(0.0), splat_octet(1.0), splat_octet(0.0)
        for i in range(0, padded, OCTET):
            a = load_octet(logits, i)
            below = below + where_less(a, 0.0, a, 0.0)
            product = product * (1.0 + exp(-absolute(a)))
            if i % (FACTORS * OCTET) == (FACTORS - 1) * OCTET:
                aside, product = aside + log(product, 0.0), splat_octet(1.0)
        out[n] = min(total(below - (aside + log(product, 0.0))) - h, 0.0)
    return out
