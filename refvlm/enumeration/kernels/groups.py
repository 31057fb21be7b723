"""p(x | z) as a product over groups of bits: what makes many rows cheap, because x is binary.

The L bits of x are cut into G groups of at most 6. For 8 states at a time, each group gets a table of p(its bits | z)
for all its 2**5 or 2**6 patterns, built by doubling from sigmoid(a_i) and sigmoid(-a_i), computed apart so that neither
loses digits. Then p(x_n | z) is a product of G entries: no exp, no log, no matrix product per state and row.

The prior's factor p(z) goes into the first table, so a product is p(x_n, z). Its relative error is at most
(5 L + L + 3) u from the sigmoids and the products, besides what the logits and log p(z) bring. All factors are at most
1, so whatever falls below 2**-1022 on the way belongs to a term that is itself below it: over all codes this loses at
most 2**(K - 1020). A row whose sum does not tower above that is summed again in the log domain.

Backwards, the same tables add up sums over rows: a row's weight is added to the entry its pattern points at, in every
group, and the tables are folded down to bits once. Rows come in eights, padded with rows of zeros that nobody reads.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Groups
from .compiling import inline, kernel
from .constants import BLOCK, OCTET
from .elementary import Number, sigmoids
from .lanes import load_block, load_octet, splat_octet, store
from .network import Network


@kernel
def pack(x: Bits) -> Groups:
    """The groups of rows x (N, L)."""
    rows, observed = x.shape
    count = (3 * observed + 15) // 16  # 16 bits in three groups
    bit, entry = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for g in range(count):
        bit[g + 1] = bit[g] + (observed + count - 1 - g) // count
        entry[g + 1] = entry[g] + (1 << (bit[g + 1] - bit[g]))
    tiles = (rows + OCTET - 1) // OCTET
    offsets = np.empty(tiles * count * OCTET, np.int32)
    for tile in range(tiles):
        for g in range(count):
            for u in range(OCTET):
                pattern, n = 0, tile * OCTET + u
                if n < rows:
                    for i in range(bit[g], bit[g + 1]):
                        pattern |= np.int64(x[n, i]) << (i - bit[g])
                offsets[(tile * count + g) * OCTET + u] = (entry[g] + pattern) * OCTET
    return Groups(bit, entry, offsets, tiles)


@inline
def probabilities(net: Network, out: Floats) -> None:
    """out[(i, 1)] = sigmoid(a_i), out[(i, 0)] = sigmoid(-a_i), lane by lane."""
    for i in range(net.decoder.sizes[-1]):
        on, off = sigmoids(load_block(net.units, (net.logits + i) * BLOCK))
        store(out, 2 * i * BLOCK, off)
        store(out, (2 * i + 1) * BLOCK, on)


@inline
def tabulate_groups(groups: Groups, probability: Floats, weight: Number, lane: int, table: Floats) -> None:
    """Fill the tables for 8 lanes from `lane`; weight, an octet, multiplies the first group's."""
    for g in range(len(groups.bit) - 1):
        base, filled = groups.entry[g] * OCTET, OCTET
        store(table, base, weight if g == 0 else splat_octet(1.0))
        for i in range(groups.bit[g], groups.bit[g + 1]):
            off = load_octet(probability, 2 * i * BLOCK + lane)
            on = load_octet(probability, (2 * i + 1) * BLOCK + lane)
            for at in range(base, base + filled, OCTET):
                value = load_octet(table, at)
                store(table, at + filled, value * on)
                store(table, at, value * off)
            filled *= 2


@inline
def fold_groups(groups: Groups, sums: Floats, lane: int, on: Floats, off: Floats) -> Number:
    """on[i], off[i] (32 lanes each) = the sums over rows with x_i = 1 and 0, 8 lanes; returns the whole."""
    everything = splat_octet(0.0)
    for g in range(len(groups.bit) - 1):
        base = groups.entry[g] * OCTET
        for i in range(groups.bit[g + 1] - 1, groups.bit[g] - 1, -1):
            half = OCTET << (i - groups.bit[g])
            ones, zeros = splat_octet(0.0), splat_octet(0.0)
            for at in range(base, base + half, OCTET):
                lower, upper = load_octet(sums, at), load_octet(sums, at + half)
                ones, zeros = ones + upper, zeros + lower
                store(sums, at, lower + upper)
            store(on, i * BLOCK + lane, ones)
            store(off, i * BLOCK + lane, zeros)
        if g == 0:
            everything = load_octet(sums, base)
    return everything
