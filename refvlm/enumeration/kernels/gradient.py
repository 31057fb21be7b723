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
states adds gamma of its depth, in terms of the sum of magnitudes: rows in their order, 4 or 8 octets, the blocks of a
piece in strands of 8, the pieces along the tree. The activations' derivatives are written in the activations, so a
saturated unit's has an absolute error of 12 u. No bound is reported. Twin: `inference/definition.grad_log_marginal`.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Groups, Prior, Recognition, Response
from .backward import add_block, backward, bit_sums, collect, end_page, flat_gradient, slopes_of
from .compiling import inline, kernel
from .constants import BLOCK, OCTET, PAGE
from .elementary import Number, exp, exp_scaled
from .groups import fold_groups, probabilities, tabulate_groups
from .lanes import load_block, load_octet, splat_octet, store, vectors
from .network import enter, network
from .observation import log_likelihood, log_prior, prior_of, recognise, recognition_of, tabulate, turn_prior
from .responses import respond
from .tables import products


@inline
def add_to(sums: Floats, entry: int, weight: Number) -> None:
    """sums[entry : entry + 8] += weight."""
    store(sums, entry, load_octet(sums, entry) + weight)


@inline
def scatter(sums: Floats, groups: Groups, n: int, weight: Number) -> None:
    """Add the weight of row n, an octet, to the entry of its pattern in every group."""
    count = len(groups.bit) - 1
    start = (n // OCTET) * count * OCTET + n % OCTET
    for at in range(start, start + count * OCTET, OCTET):
        add_to(sums, groups.offsets[at], weight)


@inline
def scatter_tabled(sums: Floats, groups: Groups, table: Floats, factors: Floats, tabled: int) -> None:
    """`scatter` for the leading rows, whose weights are the tables' products times their factors, eight by eight."""
    count, offsets = len(groups.bit) - 1, groups.offsets
    for tile in range((tabled + OCTET - 1) // OCTET):
        a, b, c, d, e, f, g, h = products(table, groups, tile)
        n, at = tile * OCTET, tile * count * OCTET
        a, b, c, d = a * factors[n], b * factors[n + 1], c * factors[n + 2], d * factors[n + 3]
        e, f, g, h = e * factors[n + 4], f * factors[n + 5], g * factors[n + 6], h * factors[n + 7]
        for _ in range(count):
            add_to(sums, offsets[at], a)
            add_to(sums, offsets[at + 1], b)
            add_to(sums, offsets[at + 2], c)
            add_to(sums, offsets[at + 3], d)
            add_to(sums, offsets[at + 4], e)
            add_to(sums, offsets[at + 5], f)
            add_to(sums, offsets[at + 6], g)
            add_to(sums, offsets[at + 7], h)
            at += OCTET


@kernel
def gradient(
    decoder: Decoder, first: int, count: int, prior: Prior, q: Recognition, x: Bits, groups: Groups,
    row_weights: Floats, power: Floats, total: Floats, tabled: int, response: Response,
) -> tuple[Floats, Floats, Floats, Floats]:  # fmt: skip
    """Sums over `count` codes from `first` and all rows of w_n r_n(z) times what each result differentiates.

    Returns: the decoder's gradient, as decoder.flat; the mass of each bit, sum of w_n r_n(z) z_k, (K,); the mass of
    each code where the prior is a table, (count,), else (0,); d / d logits where there is no network, (count, L), else
    (0, L). With an empty q the weights r_n are the posterior's, p(x_n) = total * 2**power; power 0 in `tabled` rows.
    Else they are q's, times the response to the weight where there is one.
    """
    rows, observed = x.shape
    net, log_p, low_q = network(decoder), prior_of(prior), recognition_of(q)
    by_q, bare, responding = len(q.probability) > 0, len(decoder.flat) == 0, response.log_t.shape[1] > 0
    probability, log_sigmoid = vectors(2 * observed * BLOCK), vectors(2 * observed * BLOCK)
    prior_lanes, weights = vectors(BLOCK), vectors((0 if by_q and not responding else rows - tabled) * BLOCK + BLOCK)
    on, off, mass = vectors(observed * BLOCK), vectors(observed * BLOCK), vectors(BLOCK)
    table, sums = vectors(groups.entry[-1] * OCTET), vectors(groups.entry[-1] * OCTET)
    slopes, bits = slopes_of(net), bit_sums(1, decoder.sizes[0])
    factors, leading = row_weights / total, vectors(groups.tiles * OCTET)
    for n in range(tabled):  # not as slices, for whose error message Numba compiles its strings, in a second
        leading[n] = factors[n]  # rows that only fill up a tile weigh nothing
    code_mass = np.empty(count if len(prior.table) > 0 else 0)
    logit_slopes = np.empty((count if bare else 0, observed))
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            turn_prior(log_p, code)
        # forwards: p(x_i | z), log p(z), and the weights of the rows that are no products of table entries
        probabilities(net, probability)
        log_prior_lanes = log_prior(log_p, code)
        store(prior_lanes, 0, exp(log_prior_lanes))
        if responding or (not by_q and tabled < rows):
            tabulate(net, log_sigmoid)
            for n in range(tabled, rows):
                joint = log_likelihood(x, n, log_sigmoid) + log_prior_lanes
                if responding:
                    probability_n, log_q = recognise(low_q, n, code)
                    weight = probability_n * respond(joint, log_q, response, n) * row_weights[n]
                else:
                    weight = exp_scaled(joint, power[n]) * factors[n]
                store(weights, (n - tabled) * BLOCK, weight)
        # over the rows, eight states at a time: every weight into the tables' entries, which fold into on, off and mass
        for lane in range(0, BLOCK, OCTET):
            for at in range(0, len(sums), OCTET):
                store(sums, at, splat_octet(0.0))
            if by_q and not responding:
                for n in range(rows):
                    store(weights, 0, recognise(low_q, n, code)[0])
                    scatter(sums, groups, n, load_octet(weights, lane) * row_weights[n])
            else:
                if tabled > 0:  # of the posterior alone
                    tabulate_groups(groups, probability, load_octet(prior_lanes, lane), lane, table)
                    scatter_tabled(sums, groups, table, leading, tabled)
                for n in range(tabled, rows):
                    scatter(sums, groups, n, load_octet(weights, (n - tabled) * BLOCK + lane))
            store(mass, lane, fold_groups(groups, sums, lane, on, off))
        # backwards from the logits, with the slopes of all rows together
        for i in range(observed):
            p_off, p_on = load_block(probability, 2 * i * BLOCK), load_block(probability, (2 * i + 1) * BLOCK)
            slope = load_block(on, i * BLOCK) * p_off - load_block(off, i * BLOCK) * p_on
            store(slopes.units, (net.logits + i) * BLOCK, slope)
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
        if (code + BLOCK) % PAGE == 0 or code + BLOCK >= first + count:
            end_page(bits, code)
            end_page(slopes.inputs, code)
    return flat_gradient(decoder, slopes), collect(bits)[:, 0].copy(), code_mass, logit_slopes
