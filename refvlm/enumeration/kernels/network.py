"""The network over a block of codes: the low bits of the code lie along the lanes, one unit per row.

A block is `lanes = 2**min(K, 6)` consecutive codes that share their high bits, so

    W^T z + b = (b + sum over high k of z_k W_k) + (sum over low k of z_k W_k),

one row per block plus one table per call. Both are kept as unevaluated sums of two floats (double-double), and
the row's and the table's are added the same way, so a first-layer pre-activation carries a relative error of
2 u however large and cancelling the weights are; without that, tanh of a near-cancelling sum at weights of
1e3 would cost five digits. Later layers are dense: fused multiply-adds in runs of 16 inputs, so that the
rounding grows like 16 + H/16 and not like H. Networks whose weights are too large for that come here as given
logits, from `precise.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..blocks import LOW_BITS
from ..problem import Decoder
from .compiling import inline
from .double_double import two_sum
from .elementary import fma, sigmoid, tanh

__all__ = [
    "Workspace",
    "activate",
    "backward",
    "decode",
    "dense",
    "dot",
    "fold_low",
    "lane_count",
    "tree_max",
    "tree_sum",
    "workspace",
]

Floats = NDArray[np.float64]


class Workspace(NamedTuple):
    """The arrays a kernel reuses from block to block.

    table, table_rest: (H_1, lanes), the low bits' part of the first layer. row, row_rest: (H_1,), the high bits'.
    units: (all hidden units and logits, lanes); the logits come last. run: (lanes,), scratch.
    """

    table: Floats
    table_rest: Floats
    row: Floats
    row_rest: Floats
    units: Floats
    run: Floats


@inline
def lane_count(latents: int) -> int:
    """States in a block."""
    return 1 << min(latents, LOW_BITS)


@inline
def tree_sum(v: Floats, lanes: int) -> float:
    """The sum of v[:lanes], halving; v is overwritten. lanes is a power of two."""
    if lanes == 64:  # with the distance written out, the halves are known not to overlap: vector code
        for j in range(32):
            v[j] += v[j + 32]
        for j in range(16):
            v[j] += v[j + 16]
        for j in range(8):
            v[j] += v[j + 8]
        lanes = 8
    while lanes > 1:
        lanes //= 2
        for j in range(lanes):
            v[j] += v[j + lanes]
    return v[0]


@inline
def larger(a: float, b: float) -> float:
    return a if a > b else b


@inline
def tree_max(v: Floats, scratch: Floats, lanes: int) -> float:
    """The largest of v[:lanes]; scratch is overwritten."""
    if lanes == 64:
        for j in range(32):
            scratch[j] = larger(v[j], v[j + 32])
        for j in range(16):
            scratch[j] = larger(scratch[j], scratch[j + 16])
        for j in range(8):
            scratch[j] = larger(scratch[j], scratch[j + 8])
        lanes = 8
    else:
        for j in range(lanes):
            scratch[j] = v[j]
    while lanes > 1:
        lanes //= 2
        for j in range(lanes):
            scratch[j] = larger(scratch[j], scratch[j + lanes])
    return scratch[0]


@inline
def low_table(decoder: Decoder, lanes: int) -> tuple[Floats, Floats]:
    """Sums of the first layer's low rows for every lane, (H_1, lanes) twice: value and rest."""
    width = decoder.sizes[1] if decoder.given.shape[0] == 0 else 0
    table, rest = np.zeros((width, lanes)), np.zeros((width, lanes))
    for q in range(width):
        filled, k = 1, 0
        while filled < lanes:
            weight = decoder.flat[k * width + q]
            for j in range(filled):
                s, e = two_sum(table[q, j], weight)
                table[q, j + filled], rest[q, j + filled] = two_sum(s, e + rest[q, j])
            filled, k = 2 * filled, k + 1
    return table, rest


@inline
def workspace(decoder: Decoder, lanes: int) -> Workspace:
    """The arrays for blocks of `lanes` codes, the table filled."""
    table, rest = low_table(decoder, lanes)
    width = decoder.sizes[1]
    units = np.empty((decoder.sizes[1:].sum(), lanes))
    return Workspace(table, rest, np.empty(width), np.empty(width), units, np.empty(lanes))


@inline
def high_row(decoder: Decoder, code: int, row: Floats, rest: Floats) -> None:
    """The first layer's biases plus the rows of the high bits of `code`: value and rest, (H_1,) each."""
    fan_in, width = decoder.sizes[0], decoder.sizes[1]
    for q in range(width):
        value, small = decoder.flat[fan_in * width + q], 0.0
        for k in range(LOW_BITS, fan_in):
            if (code >> k) & 1:
                s, e = two_sum(value, decoder.flat[k * width + q])
                value, small = two_sum(s, e + small)
        row[q], rest[q] = value, small


@inline
def activate(units: Floats, activation: int, lanes: int) -> None:
    """The activation, in place."""
    for q in range(len(units)):
        unit = units[q]
        if activation == 0:
            for j in range(lanes):
                unit[j] = tanh(unit[j])
        elif activation == 1:
            for j in range(lanes):
                unit[j] = unit[j] if unit[j] > 0.0 else 0.0
        else:
            for j in range(lanes):
                unit[j] = sigmoid(unit[j])


@inline
def add_row(total: Floats, row: Floats, lanes: int) -> None:
    for j in range(lanes):
        total[j] += row[j]


@inline
def dense(weights: Floats, biases: Floats, inputs: Floats, outputs: Floats, run: Floats, lanes: int) -> None:
    """outputs[i] = biases[i] + sum over q of weights[q, i] inputs[q], lane by lane, q in runs of 16."""
    fan_in, fan_out = weights.shape
    for i in range(fan_out):
        output = outputs[i]
        for j in range(lanes):
            output[j] = biases[i]
        for start in range(0, fan_in, 16):
            stop = min(start + 16, fan_in)
            w, h = weights[start, i], inputs[start]
            for j in range(lanes):
                run[j] = w * h[j]
            q = start + 1
            while q + 3 <= stop:
                w0, w1, w2 = weights[q, i], weights[q + 1, i], weights[q + 2, i]
                h0, h1, h2 = inputs[q], inputs[q + 1], inputs[q + 2]
                for j in range(lanes):
                    run[j] = fma(w2, h2[j], fma(w1, h1[j], fma(w0, h0[j], run[j])))
                q += 3
            while q < stop:
                w, h = weights[q, i], inputs[q]
                for j in range(lanes):
                    run[j] = fma(w, h[j], run[j])
                q += 1
            add_row(output, run, lanes)


@inline
def decode(decoder: Decoder, code: int, work: Workspace, lanes: int) -> Floats:
    """Fill work.units for the block of codes from `code`; returns the logits, (L, lanes)."""
    sizes, units = decoder.sizes, work.units
    if decoder.given.shape[0] > 0:
        for i in range(sizes[-1]):
            for j in range(lanes):
                units[i, j] = decoder.given[code - decoder.given_first + j, i]
        return units
    high_row(decoder, code, work.row, work.row_rest)
    for q in range(sizes[1]):
        unit, low, low_rest = units[q], work.table[q], work.table_rest[q]
        high, high_rest = work.row[q], work.row_rest[q]
        for j in range(lanes):
            s, e = two_sum(high, low[j])
            unit[j] = s + (e + (high_rest + low_rest[j]))
    offset, start = (sizes[0] + 1) * sizes[1], 0
    for layer in range(1, len(sizes) - 1):
        fan_in, fan_out = sizes[layer], sizes[layer + 1]
        stop = start + fan_in
        activate(units[start:stop], decoder.activation, lanes)
        weights = decoder.flat[offset : offset + fan_in * fan_out].reshape(fan_in, fan_out)
        biases = decoder.flat[offset + fan_in * fan_out : offset + (fan_in + 1) * fan_out]
        dense(weights, biases, units[start:stop], units[stop : stop + fan_out], work.run, lanes)
        offset, start = offset + (fan_in + 1) * fan_out, stop
    return units[start:]


@inline
def dot(a: Floats, b: Floats, lanes: int) -> float:
    """The sum of a[j] b[j] over the lanes, in eight strands so that it becomes vector code."""
    if lanes % 8 != 0:
        s = 0.0
        for j in range(lanes):
            s = fma(a[j], b[j], s)
        return s
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for j in range(0, lanes, 8):
        s0, s1 = fma(a[j], b[j], s0), fma(a[j + 1], b[j + 1], s1)
        s2, s3 = fma(a[j + 2], b[j + 2], s2), fma(a[j + 3], b[j + 3], s3)
        s4, s5 = fma(a[j + 4], b[j + 4], s4), fma(a[j + 5], b[j + 5], s5)
        s6, s7 = fma(a[j + 6], b[j + 6], s6), fma(a[j + 7], b[j + 7], s7)
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@inline
def derivative(units: Floats, slopes: Floats, activation: int, lanes: int) -> None:
    """slopes *= the activation's derivative, written in the activation's own value; relu's at 0 is 0."""
    for q in range(len(units)):
        h, slope = units[q], slopes[q]
        if activation == 0:
            for j in range(lanes):
                slope[j] *= (1.0 - h[j]) * (1.0 + h[j])
        elif activation == 1:
            for j in range(lanes):
                slope[j] = slope[j] if h[j] > 0.0 else 0.0
        else:
            for j in range(lanes):
                slope[j] *= h[j] * (1.0 - h[j])


@inline
def backward(
    decoder: Decoder,
    code: int,
    work: Workspace,
    slopes: Floats,
    ones: Floats,
    gradient: Floats,
    low: Floats,
    lanes: int,
) -> None:
    """Backpropagate one block: slopes holds d/d logits in its last L rows and is filled upwards from there.

    gradient: as decoder.flat, added to; but of the first layer's low rows only low, (H_1, lanes), is: `fold_low`
    turns it into their gradient once, after the last block.
    """
    sizes, units = decoder.sizes, work.units
    layers = len(sizes) - 1
    offset, start = len(decoder.flat), len(units)
    for layer in range(layers - 1, 0, -1):
        fan_in, fan_out = sizes[layer], sizes[layer + 1]
        offset -= (fan_in + 1) * fan_out
        start -= fan_out
        before = start - fan_in
        weights = decoder.flat[offset : offset + fan_in * fan_out].reshape(fan_in, fan_out)
        for q in range(fan_in):
            below = slopes[before + q]
            for j in range(lanes):
                below[j] = 0.0
            for i in range(fan_out):
                w, above = weights[q, i], slopes[start + i]
                gradient[offset + q * fan_out + i] += dot(units[before + q], above, lanes)
                for j in range(lanes):
                    below[j] = fma(w, above[j], below[j])
        for i in range(fan_out):
            gradient[offset + fan_in * fan_out + i] += dot(ones, slopes[start + i], lanes)
        derivative(units[before:start], slopes[before:start], decoder.activation, lanes)
    fan_in, width = sizes[0], sizes[1]
    for q in range(width):
        slope = slopes[q]
        for j in range(lanes):
            low[q, j] += slope[j]
        mass = dot(ones, slope, lanes)
        gradient[fan_in * width + q] += mass
        for k in range(LOW_BITS, fan_in):
            if (code >> k) & 1:
                gradient[k * width + q] += mass


@inline
def fold_low(low: Floats, k: int) -> float:
    """The sum of low over the lanes whose bit k is set."""
    s = 0.0
    for j in range(len(low)):
        if (j >> k) & 1:
            s += low[j]
    return s
