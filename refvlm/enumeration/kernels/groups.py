"""p(x | z) as a product over groups of bits: what makes many rows cheap, because x is binary.

The L bits of x are cut into G groups of at most 6. For some states at a time, each group gets a table of p(its bits |
z) for all its 2**5 or 2**6 patterns, built by doubling from sigmoid(a_i) and sigmoid(-a_i), computed apart so that
neither loses digits. Then p(x_n | z) is a product of G entries: no exp, no log, no matrix product per state and row.

A row's patterns are read once for all states of a table, so it is of 32 where all stay in the first-level cache, of 16
where most do, else of 8. How many follows from L alone: the order of additions does from it. Rows are sorted by the
pattern of their first group, whose entry then stays in registers from one row to the next.

The prior's factor p(z) goes into the first table, so a product is p(x_n, z). Its relative error is at most
(5 L + L + 3) u from the sigmoids and the products, besides what the logits and log p(z) bring. All factors are at most
1, so whatever falls below 2**-1022 on the way belongs to a term that is itself below it: over all codes this loses at
most 2**(K - 1020). A row whose sum does not tower above that is summed again in the log domain.

Backwards, the same tables add up sums over rows, in the order in which they are sorted: a row's weight is added to the
entry its pattern points at, in every group, and the tables are folded down to bits once. Rows come in eights, padded
with rows of zeros that nobody reads.
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

_ENTRY_BITS = 21
"""Bits of the number of an entry, three of which make a word."""
_MOST_OBSERVED = (1 << _ENTRY_BITS) // 8
"""Observed bits with so many entries: 16 bits have 128."""


def pack(x: Bits, leading: int) -> Groups:
    """The groups of rows x (N, L). The `leading` rows stay before the others, and are sorted by themselves."""
    if x.shape[1] > _MOST_OBSERVED:
        raise ValueError(f"x: got {x.shape[1]} observed bits, wanted at most {_MOST_OBSERVED}")
    packed = np.packbits(x, bitorder="little")
    bit, entry, order, entries, tiles, lanes = pack_for(packed, x.shape[0], x.shape[1], leading)
    return Groups(bit, entry, order, entries, tiles, (0,) * (lanes // OCTET))


@inline
def pattern(packed: Bits, at: int, bits: int) -> int:
    """So many bits, at most 8, from number `at`, the first the lowest."""
    byte = at >> 3
    two_bytes = load_one(packed, byte) | load_one(packed, min(byte + 1, len(packed) - 1)) << 8
    return (two_bytes >> (at & 7)) & ((1 << bits) - 1)


@kernel
def pack_for(
    packed: Bits, rows: int, observed: int, leading: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], int, int]:
    """All but the last entry of the groups, and how many states their tables are of; packed: x, a bit a bit."""
    count = (3 * observed + 15) // 16  # 16 bits in three groups
    bit, entry = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    for g in range(count):
        bit[g + 1] = bit[g] + (observed + count - 1 - g) // count
        entry[g + 1] = entry[g] + (1 << (bit[g + 1] - bit[g]))
    lanes = BLOCK if entry[-1] <= BLOCK_ENTRIES else 2 * OCTET if entry[-1] <= PAIR_ENTRIES else OCTET
    order = np.empty(rows, np.int64)
    for start, stop in ((0, leading), (leading, rows)):
        place = np.zeros(entry[1] + 1, np.int64)
        for n in range(start, stop):
            place[pattern(packed, n * observed, bit[1]) + 1] += 1
        place[0] = start
        for p in range(entry[1]):
            place[p + 1] += place[p]
        for n in range(start, stop):
            p = pattern(packed, n * observed, bit[1])
            order[place[p]] = n
            place[p] += 1
    tiles = (rows + OCTET - 1) // OCTET
    words = (count + 2) // 3
    entries = np.zeros(tiles * OCTET * words, np.int64)
    for g in range(count):
        start, bits, base, at, shift = bit[g], bit[g + 1] - bit[g], entry[g], g // 3, g % 3 * _ENTRY_BITS
        for n in range(tiles * OCTET):
            p = pattern(packed, load_one(order, n) * observed + start, bits) if n < rows else 0
            entries[at] |= (base + p) << shift
            at += words
    return bit, entry, order, entries, tiles, lanes


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
        filled, i = 2 * lanes, first + 1
        for _ in range((groups.bit[g + 1] - i) % 3):
            off = load_like(weight, probability, 2 * i * BLOCK + lane)
            on = load_like(weight, probability, (2 * i + 1) * BLOCK + lane)
            for at in range(base, base + filled, lanes):
                value = load_like(weight, table, at)
                store(table, at + filled, value * on)
                store(table, at, value * off)
            filled, i = 2 * filled, i + 1
        while i < groups.bit[g + 1]:  # three bits at a time, which saves most of the loads and a third of the stores
            at = 2 * i * BLOCK + lane
            off, on = load_like(weight, probability, at), load_like(weight, probability, at + BLOCK)
            at += 2 * BLOCK
            second_off, second_on = load_like(weight, probability, at), load_like(weight, probability, at + BLOCK)
            at += 2 * BLOCK
            third_off, third_on = load_like(weight, probability, at), load_like(weight, probability, at + BLOCK)
            for at in range(base, base + filled, lanes):
                value = load_like(weight, table, at)
                value_0, value_1 = value * off, value * on
                value_00, value_01 = value_0 * second_off, value_1 * second_off
                value_10, value_11 = value_0 * second_on, value_1 * second_on
                store(table, at, value_00 * third_off)
                store(table, at + filled, value_01 * third_off)
                store(table, at + 2 * filled, value_10 * third_off)
                store(table, at + 3 * filled, value_11 * third_off)
                store(table, at + 4 * filled, value_00 * third_on)
                store(table, at + 5 * filled, value_01 * third_on)
                store(table, at + 6 * filled, value_10 * third_on)
                store(table, at + 7 * filled, value_11 * third_on)
            filled, i = 8 * filled, i + 3


@inline
def words_of(groups: Groups) -> int:
    """Words that hold the entries of a row."""
    return (len(groups.bit) + 1) // 3


@inline
def place(word: int, which: int, like: Number) -> int:
    """Where one of the three entries that a word names begins in the tables."""
    return ((word >> (which * _ENTRY_BITS)) & ((1 << _ENTRY_BITS) - 1)) * width_of(like)


@inline
def look_up(table: Floats, word: int, which: int, like: Number) -> Number:
    """One of the three entries that a word names."""
    return load_like(like, table, place(word, which, like))


@inline
def times_three(table: Floats, word: int, value: Number) -> Number:
    """The value times the three entries that a word names."""
    value = value * look_up(table, word, 0, value)
    value = value * look_up(table, word, 1, value)
    return value * look_up(table, word, 2, value)


@inline
def product(groups: Groups, table: Floats, at: int, word: int, value: Number, three: bool) -> Number:
    """p(x_n, z) for the states of the table; value: the row's entry of the first group; word: its first, number `at`.

    three: a constant, whether there are three groups. Rows are many and groups few: what the compiler makes of a loop
    where two look-ups will do costs as much as they, and a loop of three words is a twentieth faster than one of one.
    """
    count = 3 if three else len(groups.bit) - 1
    full, odd = count // 3, count % 3
    if full > 0:
        value = value * look_up(table, word, 1, value)
        value = value * look_up(table, word, 2, value)
        end = at + full
        at += 1
        while at + 3 <= end:
            value = times_three(table, load_one(groups.entries, at), value)
            value = times_three(table, load_one(groups.entries, at + 1), value)
            value = times_three(table, load_one(groups.entries, at + 2), value)
            at += 3
        while at < end:
            value = times_three(table, load_one(groups.entries, at), value)
            at += 1
        if odd > 0:
            word = load_one(groups.entries, end)
            value = value * look_up(table, word, 0, value)
    if odd == 2:
        value = value * look_up(table, word, 1, value)
    return value


@inline
def add_to_entry(sums: Floats, word: int, which: int, weight: Number) -> None:
    """Add to one of the three entries that a word names."""
    at = place(word, which, weight)
    store(sums, at, load_like(weight, sums, at) + weight)


@inline
def scatter(groups: Groups, sums: Floats, at: int, word: int, weight: Number, three: bool) -> None:
    """Add a row's weight to the entry of its pattern in every group but the first; arguments as in `product`."""
    count = 3 if three else len(groups.bit) - 1
    full, odd = count // 3, count % 3
    if full > 0:
        add_to_entry(sums, word, 1, weight)
        add_to_entry(sums, word, 2, weight)
        for more in range(at + 1, at + full):
            word = load_one(groups.entries, more)
            add_to_entry(sums, word, 0, weight)
            add_to_entry(sums, word, 1, weight)
            add_to_entry(sums, word, 2, weight)
        if odd > 0:
            word = load_one(groups.entries, at + full)
            add_to_entry(sums, word, 0, weight)
    if odd == 2:
        add_to_entry(sums, word, 1, weight)


@inline
def turn_entry(sums: Floats, held: Number, at: int, entry: int) -> Number:
    """The sum of the entry at `entry`: `held`, which is that of the one at `at`, goes back there if it is another."""
    if entry != at:
        store(sums, at, held)
        held = load_like(held, sums, entry)
    return held


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
