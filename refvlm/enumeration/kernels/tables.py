"""log p(x_n) of eq. (3) for many rows, by the tables of `groups.py`.

Per state and row there remain G loads and multiplications. A block's octets are added one after the other, eight rows'
lanes by a transposed addition, then the 64 blocks of a page and the pages: a depth of 3, 3, 64 and the number of pages,
however many states the tables are of. The posterior's moments E[z_k | x_n], where they are wanted, add the same sums
for every bit that is set, and for the five bits along the lanes keep the lanes apart. Errors: those of `groups.py`.
Twin: `inference/definition.log_marginal`, and `posterior` there times the bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...types import Floats
from ..problem import Decoder, Groups, Prior
from .compiling import inline, kernel, part, stay_apart
from .constants import BLOCK, LOW_BITS, MIDDLE_BITS, OCTET, PAGE
from .elementary import Number, exp
from .groups import probabilities, product, tabulate_groups
from .lanes import (
    TILE,
    add_octets,
    load_block,
    load_like,
    load_octet,
    load_pair,
    splat_octet,
    store,
    transposed_sums,
    vectors,
    width_of,
)  # fmt: skip
from .network import enter, network
from .observation import log_prior, prior_of, turn_prior


class Sums(NamedTuple):
    """Sums over states for each row, rows in whole tiles: N' of them.

    octets: (N' * 8,), a block's, added over its octets. page: (N',), of the page in hand. whole: (N',). by_lane:
    (N' * 32,) and by_bit: (K, N'), of the codes with a bit set above the lanes, or nothing, where there are no moments.
    """

    octets: Floats
    page: Floats
    whole: Floats
    by_lane: Floats
    by_bit: Floats


@part
def add_products(groups: Groups, table: Floats, sums: Sums, code: int, lane: int, like: Number) -> None:
    """Add p(x_n, z) of every row and the table's states, lanes from `lane` of the block from `code`."""
    stay_apart()
    lanes, keep = width_of(like), len(sums.by_lane) > 0
    for tile in range(groups.tiles):
        at = tile * OCTET * OCTET if lanes < BLOCK else 0  # room that stays in the cache
        for n in range(tile * OCTET, (tile + 1) * OCTET):
            value, before = product(groups, table, n, like), splat_octet(0.0)
            if lanes < BLOCK and lane > 0:
                before = load_octet(sums.octets, at)
            store(sums.octets, at, add_octets(before, value))
            if keep:
                by_lane = n * BLOCK + lane
                store(sums.by_lane, by_lane, load_like(like, sums.by_lane, by_lane) + value)
            at += OCTET
        if lane + lanes == BLOCK:
            end_block(sums, tile, code, at - OCTET * OCTET)


@inline
def end_block(sums: Sums, tile: int, code: int, at: int) -> None:
    """Add a tile's sums over the block from `code`, whose octets stand from `at` on."""
    n, octets = tile * OCTET, sums.octets
    part = transposed_sums(
        load_octet(octets, at), load_octet(octets, at + OCTET), load_octet(octets, at + 2 * OCTET),
        load_octet(octets, at + 3 * OCTET), load_octet(octets, at + 4 * OCTET), load_octet(octets, at + 5 * OCTET),
        load_octet(octets, at + 6 * OCTET), load_octet(octets, at + 7 * OCTET),
    )  # fmt: skip
    store(sums.page, n, load_octet(sums.page, n) + part)
    for k in range(LOW_BITS, min(len(sums.by_bit), LOW_BITS + MIDDLE_BITS)):
        if (code >> k) & 1:
            store(sums.by_bit[k], n, load_octet(sums.by_bit[k], n) + part)


@inline
def end_page(sums: Sums, code: int) -> None:
    """The page that holds `code` is over."""
    for n in range(len(sums.page)):
        sums.whole[n] += sums.page[n]
        for k in range(LOW_BITS + MIDDLE_BITS, len(sums.by_bit)):
            if (code >> k) & 1:
                sums.by_bit[k, n] += sums.page[n]
        sums.page[n] = 0.0


@kernel
def tabled_marginal(
    decoder: Decoder, first: int, count: int, prior: Prior, groups: Groups, rows: int, moments: bool
) -> tuple[Floats, Floats]:
    """The sum of p(x_n, z) over `count` codes from `first`, (N,); its moments, (N, K), or (N, 0)."""
    net, log_p = network(decoder, first, count), prior_of(prior)
    latents = decoder.sizes[0] if moments else 0
    padded = groups.tiles * OCTET
    probability, weights = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    table = vectors(groups.entry[-1] * groups.lanes)
    sums = Sums(
        vectors(OCTET * (OCTET if groups.lanes == BLOCK else padded)), vectors(padded), vectors(padded),
        vectors(padded * BLOCK if moments else 0),
        np.zeros((latents, padded)),
    )  # fmt: skip
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            turn_prior(log_p, code)
        probabilities(net, probability)
        for lane in range(0, BLOCK, TILE):
            store(weights, lane, exp(log_prior(log_p, code, lane)))
        # some states at a time: their tables, then row by row their products, added over the states
        if groups.lanes == BLOCK:
            weight = load_block(weights, 0)
            tabulate_groups(groups, probability, weight, 0, table)
            add_products(groups, table, sums, code, 0, weight)
        elif groups.lanes == 2 * OCTET:
            for lane in range(0, BLOCK, 2 * OCTET):
                pair = load_pair(weights, lane)
                tabulate_groups(groups, probability, pair, lane, table)
                add_products(groups, table, sums, code, lane, pair)
        else:
            for lane in range(0, BLOCK, OCTET):
                octet = load_octet(weights, lane)
                tabulate_groups(groups, probability, octet, lane, table)
                add_products(groups, table, sums, code, lane, octet)
        if (code + BLOCK) % PAGE == 0 or code + BLOCK >= first + count:
            end_page(sums, code)
    # the moments: of the bits above the lanes as they are, of the others from the lanes
    moment = np.zeros((rows, latents))
    for n in range(rows):
        for k in range(latents):
            moment[n, k] = sums.by_bit[k, n]
        for k in range(min(latents, LOW_BITS)):
            for j in range(BLOCK):
                if (j >> k) & 1:
                    moment[n, k] += sums.by_lane[n * BLOCK + j]
    return sums.whole[:rows], moment
