"""log p(x_n) of eq. (3) for many rows, by the tables of `groups.py`.

Per state and row there remain G loads and multiplications. The octets of a table, 4, 2 or 1, are added one after the
other, eight rows' lanes by a transposed addition, then the tables of a page and the pages: of the 256 octets of a page
a depth of 3, 256 and the number of pages at most. The posterior's moments E[z_k | x_n], where they are wanted, add the
same sums for every bit that is set, and for the five bits along the lanes keep the lanes apart. Errors: those of
`groups.py`. Twin: `inference/definition.log_marginal`, and `posterior` there times the bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...types import Floats
from ..problem import Decoder, Groups, Prior
from .compiling import inline, kernel, part, stay_apart
from .constants import BLOCK, LOW_BITS, MIDDLE_BITS, OCTET, PAGE
from .elementary import Number, exp
from .groups import place, probabilities, product, tabulate_groups, words_of
from .lanes import (
    TILE,
    added_octets,
    load_like,
    load_octet,
    load_one,
    octets_like,
    splat_octet,
    store,
    transposed_sums,
    vectors,
    width_of,
)
from .merging import add_piece, waiting_sums
from .network import enter, moved, network
from .observation import log_prior, prior_of, turn_prior


class Sums(NamedTuple):
    """Sums over states for each row, rows as sorted and in whole tiles: N' of them.

    page: (N',), of the page in hand. whole: (N',). by_lane: (N' * 32,) and by_bit: (K, N'), of the codes with a bit set
    above the lanes, or nothing, where there are no moments. room: (64,), for eight rows.
    """

    page: Floats
    whole: Floats
    by_lane: Floats
    by_bit: Floats
    room: Floats


@inline
def add_rows(
    groups: Groups, table: Floats, sums: Sums, code: int, lane: int, like: Number, moments: bool, three: bool
) -> None:  # fmt: skip
    """Add p(x_n, z) of every row and the table's states, lanes from `lane` of the block from `code`.

    moments, three: constants; three as in `product`. A question in the loop over rows costs a tenth, so each answer has
    a function of its own below.
    """
    words, room = 1 if three else words_of(groups), sums.room
    row, by_lane, entry = 0, lane, -1
    first = like
    for tile in range(groups.tiles):
        for at in range(0, OCTET * OCTET, OCTET):
            word = load_one(groups.entries, row)
            if place(word, 0, like) != entry:
                entry = place(word, 0, like)
                first = load_like(like, table, entry)
            value = product(groups, table, row, word, first, three)
            store(room, at, added_octets(value))
            if moments:
                store(sums.by_lane, by_lane, load_like(like, sums.by_lane, by_lane) + value)
                by_lane += BLOCK
            row += words
        part = transposed_sums(
            load_octet(room, 0), load_octet(room, OCTET), load_octet(room, 2 * OCTET), load_octet(room, 3 * OCTET),
            load_octet(room, 4 * OCTET), load_octet(room, 5 * OCTET), load_octet(room, 6 * OCTET),
            load_octet(room, 7 * OCTET),
        )  # fmt: skip
        n = tile * OCTET
        store(sums.page, n, load_octet(sums.page, n) + part)
        if moments:
            for k in range(LOW_BITS, min(len(sums.by_bit), LOW_BITS + MIDDLE_BITS)):
                if (code >> k) & 1:
                    store(sums.by_bit[k], n, load_octet(sums.by_bit[k], n) + part)


@part
def add_with_moments(groups: Groups, table: Floats, sums: Sums, code: int, lane: int, like: Number) -> None:
    """`add_rows` with moments."""
    stay_apart()
    add_rows(groups, table, sums, code, lane, like, True, False)


@part
def add_products(groups: Groups, table: Floats, sums: Sums, code: int, lane: int, like: Number) -> None:
    """`add_rows` without moments."""
    stay_apart()
    add_rows(groups, table, sums, code, lane, like, False, False)


@part
def add_products_of_three(groups: Groups, table: Floats, sums: Sums, code: int, like: Number) -> None:
    """`add_rows` without moments, of three groups, where a table is of a block."""
    stay_apart()
    add_rows(groups, table, sums, code, 0, like, False, True)


@inline
def add_table(
    groups: Groups, table: Floats, sums: Sums, probability: Floats, code: int, lane: int, prior: Number, moments: bool
) -> None:  # fmt: skip
    """Fill the tables for the lanes from `lane`, whose prior is `prior`, and add every row's products."""
    tabulate_groups(groups, probability, prior, lane, table)
    if moments:
        add_with_moments(groups, table, sums, code, lane, prior)
    elif width_of(prior) == BLOCK and len(groups.bit) == 4:
        add_products_of_three(groups, table, sums, code, prior)
    else:
        add_products(groups, table, sums, code, lane, prior)


@inline
def end_page(sums: Sums, code: int) -> None:
    """The page that holds `code` is over."""
    for n in range(len(sums.page)):
        sums.whole[n] += sums.page[n]
        for k in range(LOW_BITS + MIDDLE_BITS, len(sums.by_bit)):
            if (code >> k) & 1:
                sums.by_bit[k, n] += sums.page[n]
        sums.page[n] = 0.0


@inline
def end_piece(groups: Groups, sums: Sums, columns: Floats) -> None:
    """The rows' sums over a piece, in the order of the rows, then their moments; the sums begin anew."""
    rows, latents = len(groups.order), len(sums.by_bit)
    for n in range(rows):
        row = groups.order[n]
        columns[row], sums.whole[n] = sums.whole[n], 0.0
        # of the bits above the lanes as they are, of the others from the lanes
        at = rows + row * latents
        for k in range(latents):
            columns[at + k], sums.by_bit[k, n] = sums.by_bit[k, n], 0.0
        for k in range(min(latents, LOW_BITS)):
            for j in range(BLOCK):
                if (j >> k) & 1:
                    columns[at + k] += sums.by_lane[n * BLOCK + j]
    for at in range(0, len(sums.by_lane), OCTET):
        store(sums.by_lane, at, splat_octet(0.0))


@kernel
def tabled_marginal(
    decoder: Decoder, first: int, count: int, pieces: int, prior: Prior, groups: Groups, moments: bool
) -> tuple[Floats, Floats]:
    """The sum of p(x_n, z) over `pieces` times `count` codes from `first`, (N,); its moments, (N, K), or (N, 0)."""
    net, log_p = network(decoder, first, count), prior_of(prior)
    latents = decoder.sizes[0] if moments else 0
    rows, padded = len(groups.order), groups.tiles * OCTET
    probability, weights = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    like = octets_like(groups.octets)
    lanes = width_of(like)
    table = vectors(groups.entry[-1] * lanes)
    sums = Sums(
        vectors(padded), vectors(padded), vectors(padded * BLOCK if moments else 0), np.zeros((latents, padded)),
        vectors(OCTET * OCTET),
    )  # fmt: skip
    waiting, columns = waiting_sums(pieces, rows * (1 + latents)), np.empty(rows * (1 + latents))
    for piece in range(pieces):
        start = first + piece * count
        if piece > 0:
            net = moved(net, start)
        for code in range(start, start + max(count, BLOCK), BLOCK):
            if enter(net, code, start):
                turn_prior(log_p, code)
            probabilities(net, probability)
            for lane in range(0, BLOCK, TILE):
                store(weights, lane, exp(log_prior(log_p, code, lane)))
            # some states at a time: their tables, then row by row their products, added over the states
            for lane in range(0, BLOCK, lanes):
                add_table(groups, table, sums, probability, code, lane, load_like(like, weights, lane), moments)
            if (code + BLOCK) % PAGE == 0 or code + BLOCK >= start + count:
                end_page(sums, code)
        end_piece(groups, sums, columns)
        add_piece(waiting, piece, columns)
    return waiting[-1, :rows].copy(), waiting[-1, rows:].copy().reshape(rows, latents)
