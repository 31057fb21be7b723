"""Backpropagation through the network of a block, all states at once.

Slopes lie beside the units, one vector of 32 lanes per unit. A dense layer's gradient, sum over states of h_q d_i, is
kept in eight strands per weight, in tiles of four by four; the strands are added up once, after the last block. The
first layer's gradient goes into three sums over the slopes d_q: by lane, by block of the page and by page, from which
the sums over the codes with a certain bit set are folded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...types import Floats
from ..problem import Decoder
from .activations import backpropagate
from .compiling import allocating, inline
from .constants import BLOCK, LOW_BITS, MIDDLE_BITS, OCTET, ROWS
from .elementary import Number
from .lanes import STRAND, fma, load_block, load_octet, load_strand, splat_octet, store, total, vectors
from .network import Network, dense


class BitSums(NamedTuple):
    """Sums over codes of `width` quantities v, so that those over the codes with bit k set can be told apart.

    by_lane: (width * 32,). by_row: (width * 64,), one for each block of a page. page: (width,), the page in hand.
    by_bit: (K, width), the bits above a page. whole: (width,).
    """

    by_lane: Floats
    by_row: Floats
    page: Floats
    by_bit: Floats
    whole: Floats


@allocating
def bit_sums(width: int, latents: int) -> BitSums:
    """Nothing yet."""
    return BitSums(
        vectors(width * BLOCK), vectors(width * ROWS), np.zeros(width), np.zeros((latents, width)), np.zeros(width)
    )


@inline
def add_block(sums: BitSums, q: int, code: int, value: Number) -> None:
    """Add the block from `code` of quantity q."""
    store(sums.by_lane, q * BLOCK, load_block(sums.by_lane, q * BLOCK) + value)
    block = total(value)
    sums.by_row[q * ROWS + ((code >> LOW_BITS) & (ROWS - 1))] += block
    sums.page[q] += block


@inline
def end_page(sums: BitSums, code: int) -> None:
    """The page that holds `code` is over."""
    for q in range(len(sums.page)):
        for k in range(LOW_BITS + MIDDLE_BITS, len(sums.by_bit)):
            if (code >> k) & 1:
                sums.by_bit[k, q] += sums.page[q]
        sums.whole[q] += sums.page[q]
        sums.page[q] = 0.0


@allocating
def collect(sums: BitSums) -> Floats:
    """The sums over the codes with bit k set, (K, width)."""
    latents, width = sums.by_bit.shape
    for q in range(width):
        for k in range(min(latents, LOW_BITS + MIDDLE_BITS)):
            s = 0.0
            if k < LOW_BITS:
                for j in range(BLOCK):
                    if (j >> k) & 1:
                        s += sums.by_lane[q * BLOCK + j]
            else:
                for j in range(ROWS):
                    if (j >> (k - LOW_BITS)) & 1:
                        s += sums.by_row[q * ROWS + j]
            sums.by_bit[k, q] = s
    return sums.by_bit


class Slopes(NamedTuple):
    """The sums that backpropagation adds to.

    units: as Network.units, the derivatives of the block in hand. strands: (sum of (fan_in + 1) * fan_out over the
    layers after the first) * 8. inputs: the first layer's, whose inputs are the bits.
    """

    units: Floats
    strands: Floats
    inputs: BitSums


@allocating
def slopes_of(net: Network) -> Slopes:
    """Zeros for this network; nothing where there are logits alone."""
    decoder = net.decoder
    if len(decoder.flat) == 0:
        return Slopes(vectors(len(net.units)), vectors(0), bit_sums(0, decoder.sizes[0]))
    dense_weights = len(decoder.flat) - (decoder.sizes[0] + 1) * decoder.sizes[1]
    return Slopes(vectors(len(net.units)), vectors(dense_weights * OCTET), bit_sums(decoder.sizes[1], decoder.sizes[0]))


@inline
def outer(units: Floats, slopes: Floats, q: int, i: int, at: int, strands: Floats) -> None:
    """Add the products of unit q and slope i."""
    s = load_octet(strands, at)
    for lane in range(0, BLOCK, OCTET):
        s = fma(load_octet(units, q * BLOCK + lane), load_octet(slopes, i * BLOCK + lane), s)
    store(strands, at, s)


@inline
def outer_tile(units: Floats, slopes: Floats, q: int, i: int, at: int, along: int, strands: Floats) -> None:
    """`outer` for four units by two slopes, in registers; the strands of unit q + 1 lie `along` further."""
    for part in range(0, OCTET, STRAND):
        a, e = at + part, at + OCTET + part
        b, f, c, g, d, h = a + along, e + along, a + 2 * along, e + 2 * along, a + 3 * along, e + 3 * along
        a0, a1, b0, b1 = (
            load_strand(strands, a),
            load_strand(strands, e),
            load_strand(strands, b),
            load_strand(strands, f),
        )
        c0, c1, d0, d1 = (
            load_strand(strands, c),
            load_strand(strands, g),
            load_strand(strands, d),
            load_strand(strands, h),
        )
        for lane in range(part, BLOCK, OCTET):
            u, v = q * BLOCK + lane, i * BLOCK + lane
            s0, s1 = load_strand(slopes, v), load_strand(slopes, v + BLOCK)
            h0, h1 = load_strand(units, u), load_strand(units, u + BLOCK)
            h2, h3 = load_strand(units, u + 2 * BLOCK), load_strand(units, u + 3 * BLOCK)
            a0, a1, b0, b1 = fma(h0, s0, a0), fma(h0, s1, a1), fma(h1, s0, b0), fma(h1, s1, b1)
            c0, c1, d0, d1 = fma(h2, s0, c0), fma(h2, s1, c1), fma(h3, s0, d0), fma(h3, s1, d1)
        store(strands, a, a0)
        store(strands, e, a1)
        store(strands, b, b0)
        store(strands, f, b1)
        store(strands, c, c0)
        store(strands, g, c1)
        store(strands, d, d0)
        store(strands, h, d1)


@inline
def dense_gradient(
    units: Floats, slopes: Floats, inputs: int, outputs: int, fan_in: int, fan_out: int, start: int, strands: Floats
) -> None:
    """Add h_q d_i for every weight of a layer, then d_i for the biases; strands from `start`, as in Decoder.flat."""
    along = fan_out * OCTET
    for q in range(0, fan_in - 3, 4):
        for i in range(0, fan_out - 1, 2):
            outer_tile(units, slopes, inputs + q, outputs + i, start + q * along + i * OCTET, along, strands)
    for q in range(fan_in):
        done = fan_out - fan_out % 2 if q < fan_in - fan_in % 4 else 0
        for i in range(done, fan_out):
            outer(units, slopes, inputs + q, outputs + i, start + q * along + i * OCTET, strands)
    for i in range(fan_out):
        at = start + fan_in * along + i * OCTET
        s = splat_octet(0.0)
        for lane in range(0, BLOCK, OCTET):
            s = s + load_octet(slopes, (outputs + i) * BLOCK + lane)
        store(strands, at, load_octet(strands, at) + s)


@inline
def backward(net: Network, slopes: Slopes, code: int) -> None:
    """Backpropagate the block from `code`, whose slopes of the logits stand in slopes.units."""
    decoder = net.decoder
    sizes, skipped = decoder.sizes, (decoder.sizes[0] + 1) * decoder.sizes[1]
    offset, outputs = len(decoder.flat), net.logits
    for layer in range(len(sizes) - 2, 0, -1):
        fan_in, fan_out = sizes[layer], sizes[layer + 1]
        offset -= (fan_in + 1) * fan_out
        inputs = outputs - fan_in
        dense_gradient(
            net.units, slopes.units, inputs, outputs, fan_in, fan_out, (offset - skipped) * OCTET, slopes.strands
        )
        dense(decoder.flat, offset, -1, 1, fan_out, fan_out, fan_in, slopes.units, outputs, inputs)
        backpropagate(net.units, net.arguments, slopes.units, inputs, fan_in, decoder.activation)
        outputs = inputs
    for q in range(sizes[1]):
        add_block(slopes.inputs, q, code, load_block(slopes.units, q * BLOCK))


@allocating
def flat_gradient(decoder: Decoder, slopes: Slopes) -> Floats:
    """The gradient as Decoder.flat, once every block has been added."""
    flat = np.zeros(len(decoder.flat))
    if len(flat) == 0:
        return flat
    fan_in, width = decoder.sizes[0], decoder.sizes[1]
    by_bit = collect(slopes.inputs)
    for q in range(width):
        for k in range(fan_in):
            flat[k * width + q] = by_bit[k, q]
        flat[fan_in * width + q] = slopes.inputs.whole[q]
    for i in range(len(slopes.strands) // OCTET):
        flat[(fan_in + 1) * width + i] = total(load_octet(slopes.strands, i * OCTET))
    return flat
