"""log p(x_n) of eq. (3) for many rows, by the tables of `groups.py`.

Per state and row there remain G loads and multiplications, eight states at a time. Eight rows' sums over the lanes are
taken together by a transposed addition, added over the 256 octets of a page, then over the pages: a depth of 3, 256 and
the number of pages. The posterior's moments E[z_k | x_n], where they are wanted, add the same sums for every bit that
is set, and for the three bits along the lanes keep the lanes apart. Errors: those of `groups.py`. Twin:
`inference/definition.log_marginal`, and `posterior` there times the bits.
"""

from __future__ import annotations

import numpy as np

from ...types import Floats
from ..problem import Decoder, Groups, Prior
from .compiling import inline, kernel
from .constants import BLOCK, OCTET, PAGE
from .elementary import Number, exp
from .groups import probabilities, tabulate_groups
from .lanes import load_octet, store, transposed_sums, vectors
from .network import enter, network
from .observation import log_prior, prior_of, turn_prior


@inline
def products(table: Floats, groups: Groups, tile: int) -> tuple[Number, ...]:
    """p(x_n, z) for the eight rows of a tile and the eight states of the table."""
    count, offsets = len(groups.bit) - 1, groups.offsets
    at = tile * count * OCTET
    a, b = load_octet(table, offsets[at]), load_octet(table, offsets[at + 1])
    c, d = load_octet(table, offsets[at + 2]), load_octet(table, offsets[at + 3])
    e, f = load_octet(table, offsets[at + 4]), load_octet(table, offsets[at + 5])
    g, h = load_octet(table, offsets[at + 6]), load_octet(table, offsets[at + 7])
    for _ in range(1, count):
        at += OCTET
        a, b = a * load_octet(table, offsets[at]), b * load_octet(table, offsets[at + 1])
        c, d = c * load_octet(table, offsets[at + 2]), d * load_octet(table, offsets[at + 3])
        e, f = e * load_octet(table, offsets[at + 4]), f * load_octet(table, offsets[at + 5])
        g, h = g * load_octet(table, offsets[at + 6]), h * load_octet(table, offsets[at + 7])
    return a, b, c, d, e, f, g, h


@kernel
def tabled_marginal(
    decoder: Decoder, first: int, count: int, prior: Prior, groups: Groups, rows: int, moments: bool
) -> tuple[Floats, Floats]:
    """The sum of p(x_n, z) over `count` codes from `first`, (N,); its moments, (N, K), or (N, 0)."""
    net, log_p = network(decoder), prior_of(prior)
    latents = decoder.sizes[0] if moments else 0
    padded = groups.tiles * OCTET
    probability, weights = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    table = vectors(groups.entry[-1] * OCTET)
    sums, page = vectors(padded), vectors(padded)
    by_bit, by_lane = np.zeros((latents, padded)), vectors(padded * OCTET if moments else 0)
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            turn_prior(log_p, code)
        probabilities(net, probability)
        store(weights, 0, exp(log_prior(log_p, code)))
        # eight states at a time: their tables, then eight rows at a time their products, added over the states
        for lane in range(0, BLOCK, OCTET):
            tabulate_groups(groups, probability, load_octet(weights, lane), lane, table)
            for tile in range(groups.tiles):
                a, b, c, d, e, f, g, h = products(table, groups, tile)
                at = tile * OCTET
                part = transposed_sums(a, b, c, d, e, f, g, h)
                store(page, at, load_octet(page, at) + part)
                if moments:
                    for k in range(3, latents):
                        if ((code + lane) >> k) & 1:
                            store(by_bit[k], at, load_octet(by_bit[k], at) + part)
                    at *= OCTET
                    for r in (a, b, c, d, e, f, g, h):
                        store(by_lane, at, load_octet(by_lane, at) + r)
                        at += OCTET
        if (code + BLOCK) % PAGE == 0:
            for n in range(padded):
                sums[n] += page[n]
                page[n] = 0.0
    # the moments: of the bits above the lanes as they are, of the others from the lanes
    moment = np.zeros((rows, latents))
    for n in range(rows):
        for k in range(latents):
            moment[n, k] = by_bit[k, n]
        for k in range(min(latents, 3)):
            for j in range(OCTET):
                if (j >> k) & 1:
                    moment[n, k] += by_lane[n * OCTET + j]
    return (sums + page)[:rows], moment
