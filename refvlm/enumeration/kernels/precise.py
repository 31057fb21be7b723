"""Logits of a network in double-double arithmetic: they leave with one rounding, whatever cancelled on the way.

The first layer is the table and row of `network.py`, both already double-double; the others follow in kind. Several
times slower than float64, so it is for weights under which that would lose digits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..problem import Decoder
from .compiling import kernel
from .double_double import activate, add, dense
from .network import high_row, lane_count, workspace

__all__ = ["precise_logits"]


@kernel
def precise_logits(decoder: Decoder, first: int, count: int) -> NDArray[np.float64]:
    """The logits for `count` codes from `first`, (count, L)."""
    sizes = decoder.sizes
    lanes = lane_count(sizes[0])
    work = workspace(decoder, lanes)
    units, rests = work.units, np.empty((len(work.units), lanes))
    out = np.empty((count, sizes[-1]))
    for code in range(first, first + count, lanes):
        high_row(decoder, code, work.row, work.row_rest)
        for q in range(sizes[1]):
            for j in range(lanes):
                value, rest = add(work.row[q], work.row_rest[q], work.table[q, j], work.table_rest[q, j])
                units[q, j], rests[q, j] = value, rest
        offset, start = (sizes[0] + 1) * sizes[1], 0
        for layer in range(1, len(sizes) - 1):
            fan_in, fan_out = sizes[layer], sizes[layer + 1]
            stop = start + fan_in
            below, below_rest = units[start:stop], rests[start:stop]
            activate(below, below_rest, decoder.activation, lanes)
            weights = decoder.flat[offset : offset + fan_in * fan_out].reshape(fan_in, fan_out)
            biases = decoder.flat[offset + fan_in * fan_out : offset + (fan_in + 1) * fan_out]
            above, above_rest = units[stop : stop + fan_out], rests[stop : stop + fan_out]
            dense(weights, biases, below, below_rest, above, above_rest, lanes)
            offset, start = offset + (fan_in + 1) * fan_out, stop
        for j in range(lanes):
            for i in range(sizes[-1]):
                out[code - first + j, i] = units[start + i, j]
    return out
