"""The gradient of a weighted complete-data log-likelihood in the decoder and the prior.

By Fisher's identity the gradient of log p(x) is the posterior's average of the gradient of log p(x, z); that of the VLB
in theta and beta is q's average of the same (eqs. 5 and 9). One kernel serves both: only the weights r_n(z) differ.
Over all rows and one state,

    d / d a_i = (sum over n with x_ni = 1 of r_n) sigmoid(-a_i) - (sum over n with x_ni = 0 of r_n) sigmoid(a_i),

so the network is walked backwards once per state, however many rows there are, from the logits that it has or, where
more precise ones come beside it, from these. The sums over rows go through the
tables of `groups.py`, backwards. The posterior's weights come from the same tables forwards (the leading `tabled`
rows), or, row by row, from log p(x_n, z).

Errors: a weight r_n is good to the bound of log p(x_n, z) plus that of log p(x_n), relatively; a sum over rows and
states adds gamma of its depth, in terms of the sum of magnitudes: rows as sorted, 4 or 8 octets, the blocks of a
piece in strands of 8, the pieces along the tree. The activations' derivatives are written in the activations, so a
saturated unit's has an absolute error of 12 u. No bound is reported. Twin: `inference/definition.grad_log_marginal`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Groups, Prior, Recognition, Response
from .backward import add_block, backward, bit_sums, collect, end_page, flat_gradient, slopes_of
from .compiling import inline, kernel, part, stay_apart
from .constants import BLOCK, OCTET, PAGE
from .elementary import Number, exp, exp_scaled
from .groups import fold_groups, place, probabilities, product, scatter, tabulate_groups, turn_entry, words_of
from .lanes import (
    TILE,
    load_block,
    load_like,
    load_one,
    load_tile,
    octets_like,
    splat_octet,
    store,
    vectors,
    width_of,
)
from .merging import add_piece, waiting_sums
from .network import enter, moved, network
from .observation import (
    LowRecognition,
    high_bits,
    log_likelihood,
    log_prior,
    prior_of,
    recognise,
    recognition_of,
    tabulate,
    turn_prior,
)
from .responses import respond


class Weighted(NamedTuple):
    """What a block's weights of rows come from.

    low_q: of all rows, q's probabilities times row_weights (N,); or else, of the first `tabled` rows, p(x_n, z) by the
    table times `factors`, as sorted, and of the others, as sorted, what stands in weights (32 each).
    """

    low_q: LowRecognition
    row_weights: Floats
    factors: Floats
    tabled: int
    weights: Floats
    by_q: bool


@inline
def scatter_tabled(
    groups: Groups, table: Floats, sums: Floats, factors: Floats, tabled: int, like: Number, three: bool
) -> None:  # fmt: skip
    """Add the leading rows' products from the tables, times their factors, to the entries of their patterns."""
    words, at, entry = 1 if three else words_of(groups), 0, place(load_one(groups.entries, 0), 0, like)
    first, held = load_like(like, table, entry), load_like(like, sums, entry)
    for n in range(tabled):
        word = load_one(groups.entries, at)
        next_entry = place(word, 0, like)
        if next_entry != entry:
            first = load_like(like, table, next_entry)
        held = turn_entry(sums, held, entry, next_entry)
        weight = product(groups, table, at, word, first, three) * load_one(factors, n)
        held = held + weight
        scatter(groups, sums, at, word, weight, three)
        entry = next_entry
        at += words
    store(sums, entry, held)


@part
def scatter_products(groups: Groups, table: Floats, sums: Floats, factors: Floats, tabled: int, like: Number) -> None:
    """`scatter_tabled` of any groups."""
    stay_apart()
    scatter_tabled(groups, table, sums, factors, tabled, like, False)


@part
def scatter_products_of_three(
    groups: Groups, table: Floats, sums: Floats, factors: Floats, tabled: int, like: Number
) -> None:  # fmt: skip
    """`scatter_tabled` of three groups."""
    stay_apart()
    scatter_tabled(groups, table, sums, factors, tabled, like, True)


@inline
def scatter_rows(
    groups: Groups, table: Floats, sums: Floats, rows: Weighted, probability: Floats, code: int, lane: int,
    prior: Number,
) -> None:  # fmt: skip
    """Put every row's weight into the entries of its patterns, for the lanes from `lane` that `prior` is of."""
    for at in range(0, len(sums), OCTET):
        store(sums, at, splat_octet(0.0))
    words, begin = words_of(groups), 0
    if rows.tabled > 0 and not rows.by_q:  # of the posterior alone
        begin = rows.tabled
        tabulate_groups(groups, probability, prior, lane, table)
        if width_of(prior) == BLOCK and len(groups.bit) == 4:
            scatter_products_of_three(groups, table, sums, rows.factors, rows.tabled, prior)
        else:
            scatter_products(groups, table, sums, rows.factors, rows.tabled, prior)
    entry = place(load_one(groups.entries, 0), 0, prior)
    held = load_like(prior, sums, entry)
    for n in range(begin, len(groups.order)):
        word = load_one(groups.entries, n * words)
        next_entry = place(word, 0, prior)
        held = turn_entry(sums, held, entry, next_entry)
        if rows.by_q:
            row = load_one(groups.order, n)
            low = load_like(prior, rows.low_q.probability, row * BLOCK + lane)
            weight = low * high_bits(rows.low_q.q, row, code)[0] * load_one(rows.row_weights, row)
        else:
            weight = load_like(prior, rows.weights, (n - begin) * BLOCK + lane)
        held = held + weight
        scatter(groups, sums, n * words, word, weight, False)
        entry = next_entry
    store(sums, entry, held)


@kernel
def gradient(
    decoder: Decoder, first: int, count: int, pieces: int, prior: Prior, q: Recognition, x: Bits,
    groups: Groups, row_weights: Floats, power: Floats, total: Floats, tabled: int, response: Response,
) -> tuple[Floats, Floats, Floats, Floats]:  # fmt: skip
    """Sums over `pieces` times `count` codes from `first`, and all rows, of w_n r_n(z) times what is differentiated.

    Returns: the decoder's gradient, as decoder.flat; the mass of each bit, sum of w_n r_n(z) z_k, (K,); the mass of
    each code where the prior is a table, else (0,); d / d logits where there is no network, of one piece, (count, L),
    else (0, L). With an empty q the weights r_n are the posterior's, p(x_n) = total * 2**power, with power 0 in the
    `tabled` rows. Else they are q's, times the response to the weight where there is one.
    """
    rows, observed = x.shape
    net, log_p, low_q = network(decoder, first, count), prior_of(prior), recognition_of(q)
    by_q, bare, responding = len(q.probability) > 0, len(decoder.flat) == 0, response.log_t.shape[1] > 0
    probability, log_sigmoid = vectors(2 * observed * BLOCK), vectors(2 * observed * BLOCK)
    prior_lanes, weights = vectors(BLOCK), vectors((0 if by_q and not responding else rows - tabled) * BLOCK)
    on, off, mass = vectors(observed * BLOCK), vectors(observed * BLOCK), vectors(BLOCK)
    like = octets_like(groups.octets)
    lanes = width_of(like)
    table, sums = vectors(groups.entry[-1] * lanes), vectors(groups.entry[-1] * lanes)
    factors = np.empty(rows)
    for n in range(rows):
        factors[n] = row_weights[groups.order[n]] / total[groups.order[n]]
    weighted = Weighted(low_q, row_weights, factors, tabled, weights, by_q and not responding)
    code_mass = np.empty(pieces * count if len(prior.table) > 0 else 0)
    logit_slopes = np.empty((count if bare else 0, observed))
    size, latents = len(decoder.flat), decoder.sizes[0]
    waiting, columns = waiting_sums(pieces, size + latents), np.empty(size + latents)
    for piece in range(pieces):
        start = first + piece * count
        if piece > 0:
            net = moved(net, start)
        slopes, bits = slopes_of(net), bit_sums(1, latents)
        for code in range(start, start + max(count, BLOCK), BLOCK):
            if enter(net, code, start):
                turn_prior(log_p, code)
            # forwards: p(x_i | z), log p(z), and the weights of the rows that are no products of table entries
            probabilities(net, probability)
            for lane in range(0, BLOCK, TILE):
                store(prior_lanes, lane, exp(log_prior(log_p, code, lane)))
            if responding or (not by_q and tabled < rows):
                tabulate(net, log_sigmoid)
                for n in range(tabled, rows):
                    row = groups.order[n]
                    high = high_bits(q, row, code) if responding else (1.0, 0.0)
                    for lane in range(0, BLOCK, TILE):
                        joint = log_likelihood(x, row, log_sigmoid, lane) + log_prior(log_p, code, lane)
                        if responding:
                            probability_n, log_q = recognise(low_q, row, high, lane)
                            weight = probability_n * respond(joint, log_q, response, row) * row_weights[row]
                        else:
                            weight = exp_scaled(joint, power[row]) * factors[n]
                        store(weights, (n - tabled) * BLOCK + lane, weight)
            # over the rows, some states at a time: every weight into the tables, which fold into on, off and mass
            for lane in range(0, BLOCK, lanes):
                scatter_rows(groups, table, sums, weighted, probability, code, lane, load_like(like, prior_lanes, lane))
                store(mass, lane, fold_groups(groups, sums, lane, like, on, off))
            # backwards from the logits, with the slopes of all rows together
            for i in range(observed):
                for lane in range(0, BLOCK, TILE):
                    p_off = load_tile(probability, 2 * i * BLOCK + lane)
                    p_on = load_tile(probability, (2 * i + 1) * BLOCK + lane)
                    slope = load_tile(on, i * BLOCK + lane) * p_off - load_tile(off, i * BLOCK + lane) * p_on
                    store(slopes.units, (net.logits + i) * BLOCK + lane, slope)
            if bare:
                for j in range(min(BLOCK, count)):
                    for i in range(observed):
                        logit_slopes[code - first + j, i] = slopes.units[i * BLOCK + j]
            else:
                backward(net, slopes, code)
            # the prior's part
            for j in range(min(BLOCK, len(code_mass))):
                code_mass[code - first + j] = mass[j]
            add_block(bits, 0, code, load_block(mass, 0))
            if (code + BLOCK) % PAGE == 0 or code + BLOCK >= start + count:
                end_page(bits, code)
                end_page(slopes.inputs, code)
        flat, by_bit = flat_gradient(decoder, slopes), collect(bits)
        for i in range(size):
            columns[i] = flat[i]
        for k in range(latents):
            columns[size + k] = by_bit[k, 0]
        add_piece(waiting, piece, columns)
    return waiting[-1, :size].copy(), waiting[-1, size:].copy(), code_mass, logit_slopes
