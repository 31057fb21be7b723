"""Logits of a network in double-double arithmetic: they leave with one rounding, whatever cancelled on the way.

The first layer is the table split of `network.py`, double-double there already; the others follow in kind. Several
times slower than float64, so it is for weights under which that would lose digits. In a dense layer the rests are
summed apart: n inputs leave an error of (n**2 + n) u**2 sum |w h|. Twin:
`model/mlp.MLP.forward`, where weights are small.
"""

from __future__ import annotations

import numpy as np

from ...types import Floats
from ..problem import Decoder
from .activations import precise_value
from .compiling import inline, kernel
from .constants import BLOCK, LOW_BITS, PAGE
from .double_double import add, two_sum
from .lanes import fma, load_block, splat_block, store, vectors
from .network import network, turn_page


@inline
def dense(decoder: Decoder, layer: int, offset: int, units: Floats, rests: Floats, inputs: int) -> None:
    """The layer's pre-activations from its inputs, both value and rest."""
    fan_in, fan_out = decoder.sizes[layer], decoder.sizes[layer + 1]
    for i in range(fan_out):
        value, rest = splat_block(decoder.flat[offset + fan_in * fan_out + i]), splat_block(0.0)
        for q in range(fan_in):
            w, at = decoder.flat[offset + q * fan_out + i], (inputs + q) * BLOCK
            h, h_rest = load_block(units, at), load_block(rests, at)
            p = w * h
            value, e = two_sum(value, p)
            rest = rest + (e + fma(w, h_rest, fma(w, h, -p)))
        value, rest = two_sum(value, rest)
        store(units, (inputs + fan_in + i) * BLOCK, value)
        store(rests, (inputs + fan_in + i) * BLOCK, rest)


@kernel
def precise_logits(decoder: Decoder, first: int, count: int) -> Floats:
    """The logits for `count` codes from `first`, (count, L)."""
    sizes = decoder.sizes
    net = network(decoder, first, count, False)
    units, rests = net.units, vectors(len(net.units))
    out = np.empty((count, sizes[-1]))
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if code % PAGE == 0 or code == first:
            turn_page(net, code)
        block = (code >> LOW_BITS) & (net.blocks - 1)
        for q in range(sizes[1]):
            at, row = q * BLOCK, q * net.blocks + block
            low, low_rest = load_block(net.low, at), load_block(net.low_rest, at)
            value, rest = add(low, low_rest, net.rows[row], net.rows_rest[row])
            store(units, at, value)
            store(rests, at, rest)
        offset, inputs = (sizes[0] + 1) * sizes[1], 0
        for layer in range(1, len(sizes) - 1):
            for at in range(inputs * BLOCK, (inputs + sizes[layer]) * BLOCK, BLOCK):
                value, rest = precise_value(load_block(units, at), load_block(rests, at), decoder.activation)
                store(units, at, value)
                store(rests, at, rest)
            dense(decoder, layer, offset, units, rests, inputs)
            offset, inputs = offset + (sizes[layer] + 1) * sizes[layer + 1], inputs + sizes[layer]
        for j in range(min(BLOCK, count)):
            for i in range(sizes[-1]):
                out[code - first + j, i] = units[(inputs + i) * BLOCK + j]
    return out
