"""p(x | z) as a product over groups of bits: what makes many rows cheap, because x is binary.

The L bits of x are cut into G groups of at most 6. For some states at a time, each group gets a table of p(its bits |
z) for all its 2**5 or 2**6 patterns, built by doubling from sigmoid(a_i) and sigmoid(-a_i), computed apart so that
neither loses digits. Then p(x_n | z) is a product of G entries: no exp, no log, no matrix product per state and row.

A row's offsets are read once for all states of a table, so it is of 32 where they all stay in the first-level cache, 16
where most do, else of 8. How many follows from L alone: the order of additions does from it.

The prior's factor p(z) goes into the first table, so a product is p(x_n, z). Its relative error is at most
(5 L + L + 3) u from the sigmoids and the products, besides what the logits and log p(z) bring. All factors are at most
1, so whatever falls below 2**-1022 on the way belongs to a term that is itself below it: over all codes this loses at
most 2**(K - 1020). A row whose sum does not tower above that is summed again in the log domain.

Backwards, the same tables add up sums over rows: a row's weight is added to the entry its pattern points at, in every
group, and the tables are folded down to bits once. Rows come in eights, padded with rows of zeros that nobody reads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Bits, Floats
from ..problem import Groups
from .compiling import inline, kernel
from .constants import BLOCK, BLOCK_ENTRIES, OCTET, PAIR_ENTRIES
from .elementary import Number, sigmoids
from .lanes import TILE, load_like, load_one, load_tile, store, width_of
from .network import Network


def pack(x: Bits) -> Groups:
    """The groups of rows x (N, L)."""
    bit, entry, offsets, tiles, lanes = pack_for(x)
    return Groups(bit, entry, offsets, tiles, (0,) * (lanes // OCTET))


@kernel
def pack_for(x: Bits) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], int, int]:
    """All but the last entry of the groups, and how many states their tables are of."""
    rows, observed = x.shape
    count = (3 * observed + 15) // 16  # 16 bits in three groups
    bit, entry = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for g in range(count):
        bit[g + 1] = bit[g] + (observed + count - 1 - g) // count
        entry[g + 1] = entry[g] + (1 << (bit[g + 1] - bit[g]))
    lanes = BLOCK if entry[-1] <= BLOCK_ENTRIES else 2 * OCTET if entry[-1] <= PAIR_ENTRIES else OCTET
    tiles = (rows + OCTET - 1) // OCTET
    offsets = np.empty(tiles * OCTET * count, np.int32)
    for n in range(tiles * OCTET):
        for g in range(count):
            pattern = 0
            if n < rows:
                for i in range(bit[g], bit[g + 1]):
                    pattern |= np.int64(x[n, i]) << (i - bit[g])
            offsets[n * count + g] = (entry[g] + pattern) * lanes
    return bit, entry, offsets, tiles, lanes


@inline
def probabilities(net: Network, out: Floats) -> None:
    """out[(i, 1)] = sigmoid(a_i), out[(i, 0)] = sigmoid(-a_i), lane by lane."""
    for i in range(net.decoder.sizes[-1]):
        for lane in range(0, BLOCK, TILE):
            on, off = sigmoids(load_tile(net.units, (net.logits + i) * BLOCK + lane))
            store(out, 2 * i * BLOCK + lane, off)
            store(out, (2 * i + 1) * BLOCK + lane, on)


@inline
def tabulate_groups(groups: Groups, probability: Floats, weight: Number, lane: int, table: Floats) -> None:
    """Fill the tables for the lanes from `lane` on, as many as weight has, which multiplies the first group's."""
    lanes = width_of(weight)
    for g in range(len(groups.bit) - 1):
        base, first = groups.entry[g] * lanes, groups.bit[g]
        off = load_like(weight, probability, 2 * first * BLOCK + lane)
        on = load_like(weight, probability, (2 * first + 1) * BLOCK + lane)
        store(table, base, weight * off if g == 0 else off)
        store(table, base + lanes, weight * on if g == 0 else on)
        filled = 2 * lanes
        for i in range(first + 1, groups.bit[g + 1]):
            off = load_like(weight, probability, 2 * i * BLOCK + lane)
            on = load_like(weight, probability, (2 * i + 1) * BLOCK + lane)
            for at in range(base, base + filled, lanes):
                value = load_like(weight, table, at)
                store(table, at + filled, value * on)
                store(table, at, value * off)
            filled *= 2


@inline
def look_up(groups: Groups, table: Floats, at: int, like: Number) -> Number:
    """The entry of a group that offset number `at` points at."""
    return load_like(like, table, load_one(groups.offsets, at))


@inline
def product(groups: Groups, table: Floats, at: int, like: Number, three: bool) -> Number:
    """p(x_n, z) for the states of the table; the row's offsets begin at `at`; like: any vector of as many lanes.

    three: a constant, whether there are three groups. Else those beyond a multiple of three come first, so that a loop
    of three has nothing left over: rows are many and groups few, and what the compiler makes of a loop of one, or of a
    loop at all where three will do, costs as much as the groups.
    """
    count = 3 if three else len(groups.bit) - 1
    odd = count % 3
    value = look_up(groups, table, at, like)
    if odd != 1:
        value = value * look_up(groups, table, at + 1, like)
    if odd == 0:
        value = value * look_up(groups, table, at + 2, like)
    at += odd if odd > 0 else 3
    for _ in range((count - 1) // 3):
        value = value * look_up(groups, table, at, like)
        value = value * look_up(groups, table, at + 1, like)
        value = value * look_up(groups, table, at + 2, like)
        at += 3
    return value


@inline
def add_to_entry(groups: Groups, sums: Floats, at: int, weight: Number) -> None:
    """Add to the entry of a group that offset number `at` points at."""
    entry = load_one(groups.offsets, at)
    store(sums, entry, load_like(weight, sums, entry) + weight)


@inline
def scatter(groups: Groups, sums: Floats, at: int, weight: Number, three: bool) -> None:
    """Add a row's weight to the entry of its pattern in every group; arguments as in `product`."""
    count = 3 if three else len(groups.bit) - 1
    odd = count % 3
    if odd > 0:
        add_to_entry(groups, sums, at, weight)
    if odd == 2:
        add_to_entry(groups, sums, at + 1, weight)
    at += odd
    for _ in range(count // 3):
        add_to_entry(groups, sums, at, weight)
        add_to_entry(groups, sums, at + 1, weight)
        add_to_entry(groups, sums, at + 2, weight)
        at += 3


@inline
def fold_groups(groups: Groups, sums: Floats, lane: int, nothing: Number, on: Floats, off: Floats) -> Number:
    """on[i], off[i] (32 lanes each) = the sums over rows with x_i = 1 and 0; returns the whole.

    nothing: zeros in as many lanes as the tables have.
    """
    everything, lanes = nothing, width_of(nothing)
    for g in range(len(groups.bit) - 1):
        base = groups.entry[g] * lanes
        for i in range(groups.bit[g + 1] - 1, groups.bit[g] - 1, -1):
            half = lanes << (i - groups.bit[g])
            ones, zeros = nothing, nothing
            for at in range(base, base + half, lanes):
                lower, upper = load_like(nothing, sums, at), load_like(nothing, sums, at + half)
                ones, zeros = ones + upper, zeros + lower
                store(sums, at, lower + upper)
            store(on, i * BLOCK + lane, ones)
            store(off, i * BLOCK + lane, zeros)
        if g == 0:
            everything = load_like(nothing, sums, base)
    return everything
