"""The network over a block of codes: 32 consecutive codes along the lanes, one unit per row.

A page is up to 64 blocks, 2048 codes. The first layer is the table split

    W^T z + b = (b + sum over high k of z_k W_k + sum over middle k of z_k W_k) + (sum over low k of z_k W_k):

bits 0 to 4 give a table over the lanes, bits 5 to 10 with the rest one row for each block of a page, filled when the
page is turned. All are kept as unevaluated sums of two floats (double-double), so the pre-activation a has a relative
error of 2 u however large and cancelling the weights are; without that, tanh of a near-cancelling sum at weights of
1e3 would cost five digits.

For tanh and sigmoid the tables hold exponentials instead, E = exp(2 a) = exp(2 row) exp(2 low), so that

    tanh a = 1 - 2 / (1 + E),    sigmoid a = 1 / (1 + exp(-a))

cost a division and no exp. With tables good to 2 u the product is good to 4 u, and as |d tanh / d log E| <= 1/2 the
absolute error is at most 2 u + 2 u (1 + E, quotient, each times 2 / (1 + E)) + u: below 6 u together, for sigmoid below
4 u. No 0 * inf can arise where every exponent stays below 700; that is decided beforehand from sums of |W| (`bounded`),
otherwise, and for relu, the sum is taken.

Later layers are dense: fused multiply-adds in runs of 64 inputs, four outputs at a time by the lanes of a tile, whose
sums fill half of the registers. Networks whose weights are too large for float64 come here as logits, from
`precise.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...types import Floats
from ..problem import Decoder
from .activations import activate, exponent_factor, from_exponentials, keeps_arguments
from .compiling import allocating, inline
from .constants import BLOCK, LOW_BITS, MIDDLE_BITS, OCTET, PAGE, RUN
from .double_double import add, two_sum
from .elementary import Number, exp_of_sum
from .lanes import (
    TILE,
    fma,
    load_block,
    load_like,
    load_octet,
    load_one,
    load_tile,
    splat_block,
    splat_tile,
    store,
    vectors,
)


class Network(NamedTuple):
    """A decoder with the tables of its first layer; flat arrays, [unit, lane] or [unit, block of the page].

    low, low_rest: (H_1 * 32,). middle, middle_rest: (H_1 * blocks,), the middle bits alone; rows, rows_rest: with all
    but the low bits, for the page in hand. blocks: of a page that are summed, but at least 8. scale: 0, or the factor
    of a in E where the tables hold exponentials. units: ((all hidden units and logits) * 32,), the logits last, from
    unit `logits`. arguments: what the activations were applied to, as units, or (0,) where nothing needs it.
    """

    decoder: Decoder
    low: Floats
    low_rest: Floats
    middle: Floats
    middle_rest: Floats
    rows: Floats
    rows_rest: Floats
    blocks: int
    scale: float
    units: Floats
    arguments: Floats
    logits: int


@allocating
def subset_sums(decoder: Decoder, width: int, bit: int, bits: int, end: int, code: int) -> tuple[Floats, Floats]:
    """For every unit the sums of its weights from bits `bit` to end - 1, over all values of the first `bits` of these.

    The others are those of `code`. Bits are added in their order.
    """
    count = 1 << bits
    table, rest = vectors(width * count), vectors(width * count)
    for q in range(width):
        start = q * count
        for k in range(bit, min(end, decoder.sizes[0])):
            weight = decoder.flat[k * width + q]
            if k - bit >= bits:
                for j in range(start, start + count if (code >> k) & 1 else start, OCTET):
                    s, e = two_sum(load_octet(table, j), weight)
                    s, e = two_sum(s, e + load_octet(rest, j))
                    store(table, j, s)
                    store(rest, j, e)
            elif 1 << (k - bit) >= OCTET:
                half = 1 << (k - bit)
                for j in range(start, start + half, OCTET):
                    s, e = two_sum(load_octet(table, j), weight)
                    s, e = two_sum(s, e + load_octet(rest, j))
                    store(table, j + half, s)
                    store(rest, j + half, e)
            else:
                half = 1 << (k - bit)
                for j in range(start, start + half):
                    s, e = two_sum(table[j], weight)
                    table[j + half], rest[j + half] = two_sum(s, e + rest[j])
    return table, rest


@inline
def units_from(sizes: NDArray[np.int64], layer: int) -> int:
    """Units of all layers from `layer`; Numba compiles a loop in a tenth of the time of sizes[layer:].sum()."""
    units = 0
    for i in range(layer, len(sizes)):
        units += sizes[i]
    return units


@inline
def bounded(decoder: Decoder, most: float) -> bool:
    """Whether the low bits' part of every first-layer unit and the others' part stay within +-most."""
    fan_in, width = decoder.sizes[0], decoder.sizes[1]
    for q in range(width):
        low, high = 0.0, abs(decoder.flat[fan_in * width + q])
        for k in range(fan_in):
            if k < LOW_BITS:
                low += abs(decoder.flat[k * width + q])
            else:
                high += abs(decoder.flat[k * width + q])
        if not max(low, high) < most:
            return False
    return True


@allocating
def network(decoder: Decoder, first: int, count: int, exponentials: bool = True) -> Network:
    """The decoder with its tables filled for `count` codes from `first`, an aligned power of two of them.

    With exponentials where that is asked for and they serve.
    """
    width, total = decoder.sizes[1] if len(decoder.flat) > 0 else 0, units_from(decoder.sizes, 1)
    scale = 0.0
    hidden = width > 0 and len(decoder.sizes) > 2
    if exponentials and hidden:
        scale = exponent_factor(decoder.activation)
        if scale != 0.0 and not bounded(decoder, 699.0 / abs(scale)):
            scale = 0.0
    low, low_rest = subset_sums(decoder, width, 0, LOW_BITS, LOW_BITS, 0)
    if scale != 0.0:
        for i in range(0, len(low), TILE):
            store(low, i, exp_of_sum(scale * load_tile(low, i), scale * load_tile(low_rest, i)))
    page_bits = 3
    while page_bits < MIDDLE_BITS and BLOCK << page_bits < count:
        page_bits += 1
    middle, middle_rest = middle_sums(decoder, width, page_bits, first)
    rows, rows_rest = vectors(len(middle)), vectors(len(middle))
    units = vectors(total * BLOCK)
    arguments = vectors(total * BLOCK if hidden and keeps_arguments(decoder.activation) else 0)
    logits = total - decoder.sizes[-1]
    return Network(
        decoder, low, low_rest, middle, middle_rest, rows, rows_rest, 1 << page_bits, scale, units, arguments, logits
    )  # fmt: skip


@allocating
def middle_sums(decoder: Decoder, width: int, page_bits: int, code: int) -> tuple[Floats, Floats]:
    """Of the bits that tell the blocks of a page apart, and of those up to a whole page's that all of them share."""
    return subset_sums(decoder, width, LOW_BITS, page_bits, LOW_BITS + MIDDLE_BITS, code)


@allocating
def moved(net: Network, first: int) -> Network:
    """The network for as many codes from another `first`, in the same memory."""
    width, page_bits = len(net.low) // BLOCK, 0
    while 1 << page_bits < net.blocks:
        page_bits += 1
    middle, middle_rest = middle_sums(net.decoder, width, page_bits, first)
    return Network(
        net.decoder, net.low, net.low_rest, middle, middle_rest, net.rows, net.rows_rest, net.blocks, net.scale,
        net.units, net.arguments, net.logits,
    )  # fmt: skip


@inline
def turn_page(net: Network, code: int) -> None:
    """Fill the rows for the page that holds `code`."""
    fan_in, width, flat = net.decoder.sizes[0], net.decoder.sizes[1], net.decoder.flat
    if len(flat) == 0:
        return
    for q in range(width):
        value, small = flat[fan_in * width + q], 0.0
        for k in range(LOW_BITS + MIDDLE_BITS, fan_in):
            if (code >> k) & 1:
                value, small = add(value, small, flat[k * width + q], 0.0)
        for i in range(q * net.blocks, (q + 1) * net.blocks, OCTET):
            s, s_rest = add(load_octet(net.middle, i), load_octet(net.middle_rest, i), value, small)
            if net.scale != 0.0:
                s = exp_of_sum(net.scale * s, net.scale * s_rest)
            store(net.rows, i, s)
            store(net.rows_rest, i, s_rest)


@inline
def first_layer(net: Network, code: int) -> None:
    """The first layer of the block from `code`: activations where it is hidden, else logits."""
    width, activation = net.decoder.sizes[1], net.decoder.activation
    block = (code >> LOW_BITS) & (net.blocks - 1)
    if net.scale != 0.0:
        from_exponentials(net.units, net.low, net.rows, block, net.blocks, width, activation)
        return
    for q in range(width):
        row, row_rest = load_one(net.rows, q * net.blocks + block), load_one(net.rows_rest, q * net.blocks + block)
        for at in range(q * BLOCK, (q + 1) * BLOCK, TILE):
            s, e = two_sum(row, load_tile(net.low, at))
            store(net.units, at, s + (e + (row_rest + load_tile(net.low_rest, at))))
    if len(net.decoder.sizes) > 2:
        activate(net.units, net.arguments, 0, width, activation)


@inline
def dense(
    flat: Floats, weights: int, biases: int, along: int, across: int, fan_in: int, fan_out: int, units: Floats,
    inputs: int, outputs: int,
) -> None:  # fmt: skip
    """units[outputs + i] = bias i + sum over q of w[q, i] units[inputs + q].

    w[q, i] = flat[weights + q * along + i * across], bias i = flat[biases + i], or none where biases < 0.
    """
    for start in range(0, fan_in, RUN):
        stop = min(start + RUN, fan_in)
        for i in range(0, fan_out - 3, 4):
            for lane in range(0, BLOCK, TILE):
                a0, a1, a2, a3 = splat_tile(0.0), splat_tile(0.0), splat_tile(0.0), splat_tile(0.0)
                w, h_at = weights + start * along + i * across, (inputs + start) * BLOCK + lane
                for _ in range(start, stop):
                    h = load_tile(units, h_at)
                    a0, a1 = fma(load_one(flat, w), h, a0), fma(load_one(flat, w + across), h, a1)
                    a2, a3 = fma(load_one(flat, w + 2 * across), h, a2), fma(load_one(flat, w + 3 * across), h, a3)
                    w, h_at = w + along, h_at + BLOCK
                at = (outputs + i) * BLOCK + lane
                add_run(flat, biases, start, i, a0, units, at)
                add_run(flat, biases, start, i + 1, a1, units, at + BLOCK)
                add_run(flat, biases, start, i + 2, a2, units, at + 2 * BLOCK)
                add_run(flat, biases, start, i + 3, a3, units, at + 3 * BLOCK)
        for i in range(fan_out - fan_out % 4, fan_out):
            a0, w = splat_block(0.0), weights + start * along + i * across
            for q in range(start, stop):
                a0 = fma(load_one(flat, w), load_block(units, (inputs + q) * BLOCK), a0)
                w += along
            add_run(flat, biases, start, i, a0, units, (outputs + i) * BLOCK)


@inline
def add_run(flat: Floats, biases: int, start: int, i: int, run: Number, units: Floats, at: int) -> None:
    """Store the first run of inputs of output i with the bias, add the later ones."""
    if start > 0:
        run = load_like(run, units, at) + run
    elif biases >= 0:
        run = run + flat[biases + i]
    store(units, at, run)


@inline
def enter(net: Network, code: int, first: int) -> bool:
    """Fill net.units for the block from `code` of a piece from `first`; whether a new page was begun with it."""
    decoder, units, logits = net.decoder, net.units, net.decoder.logits
    sizes, begins = decoder.sizes, code % PAGE == 0 or code == first
    if begins:
        turn_page(net, code)
    if len(decoder.flat) > 0:
        first_layer(net, code)
        offset, inputs = (sizes[0] + 1) * sizes[1], 0
        for layer in range(1, len(sizes) - 1):
            fan_in, fan_out = sizes[layer], sizes[layer + 1]
            outputs = inputs + fan_in
            if layer > 1:
                activate(units, net.arguments, inputs, fan_in, decoder.activation)
            dense(decoder.flat, offset, offset + fan_in * fan_out, fan_out, 1, fan_in, fan_out, units, inputs, outputs)
            offset, inputs = offset + (fan_in + 1) * fan_out, outputs
    for j in range(BLOCK if len(logits) > 0 else 0):
        row = min(code - decoder.logits_from + j, len(logits) - 1)
        for i in range(logits.shape[1]):
            units[(net.logits + i) * BLOCK + j] = logits[row, i]
    return begins
