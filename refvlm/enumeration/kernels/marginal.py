"""log p(x_n) of eq. (3) for a few rows: the streaming sum of p(x_n, z) over a piece of {0,1}^K.

With s_i = 2 x_i - 1 and a_i the logits, -log p(x | z) = sum of softplus(-s_i a_i), and

    softplus(t) = max(t, 0) + log(1 + exp(-|t|)),
    p(x | z) = exp(-sum of max(-s_i a_i, 0)) / prod of (1 + exp(-|a_i|)).

The product does not depend on x and stands for the logarithms: a state costs one exp per logit, then one exp for each
row, and one division. Factors lie in [1, 2]; every 512 of them the product's exponent is taken out. Each factor has a
relative error below 2 u and there is one rounding for each, so the product's is at most (3 L + 1) u.

A term is kept as m * 2**k, m near 1, k an integer-valued float, so nothing overflows or underflows. The 2048 terms of a
page are scaled by their largest power, exactly, and added along one tree; the pages' sums follow one another, rescaled
by exact powers of two. So the sum's bits do not depend on when the largest term turns up, its depth is 11 and the
number of pages in a piece, and only terms below 2**-1021 of the largest are dropped. The posterior's moments
E[z_k | x_n] come from the same tree: the sum of the upper half, before it is folded onto the lower.

Error of one term: the relative error of the product, 2 u of the exp, u of the quotient; and of the log-joint that went
into exp, relative (16 + L / 16 + K + 5) u, all its terms being of one sign. Twin: `inference/definition.log_marginal`,
and `posterior` there times the bits for the moments.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Prior
from .compiling import allocating, inline, kernel
from .constants import BLOCK, FEW_TERMS, LOW_BITS, MIDDLE_BITS, PAGE
from .elementary import LOWEST, Number, exp_parts, exp_unbounded, larger, log, power_of_two
from .lanes import (
    TILE,
    absolute,
    exponent,
    fma,
    load_block,
    load_one,
    load_tile,
    mantissa,
    power_of_magic,
    splat_block,
    splat_tile,
    store,
    total,
    vectors,
)
from .network import Network, enter, network
from .observation import log_prior, prior_of, turn_prior

NO_POWER = -np.inf
"""The power of an empty sum."""
FACTORS = 512
"""Factors of at most 2 that a product can take between two looks at its exponent."""


@allocating
def signs(x: Bits) -> Floats:
    """-s_i = 1 - 2 x_i, row by row."""
    rows, observed = x.shape
    out = np.empty(rows * observed)
    for n in range(rows):
        for i in range(observed):
            out[n * observed + i] = 1.0 - 2.0 * x[n, i]
    return out


@inline
def normaliser(net: Network, lane: int) -> tuple[Number, Number]:
    """1 / prod of (1 + exp(-|a_i|)) as m * 2**k, for the tile from `lane`."""
    observed = net.decoder.sizes[-1]
    product, power = splat_tile(1.0), splat_tile(0.0)
    for start in range(0, observed, FACTORS):
        for i in range(start, min(start + FACTORS, observed)):
            a = load_tile(net.units, (net.logits + i) * BLOCK + lane)
            m, shifted = exp_parts(larger(-absolute(a), LOWEST), 0.0)
            product = product * fma(m, power_of_magic(shifted), 1.0)
        power = power - exponent(product)
        product = mantissa(product)
    return 1.0 / product, power


@inline
def misfit(net: Network, sign: Floats, offset: int, lane: int) -> Number:
    """sum over i of max(-s_i a_i, 0), sixteen terms at a time, for the tile from `lane`."""
    observed = net.decoder.sizes[-1]
    value = splat_tile(0.0)
    for start in range(0, observed, FEW_TERMS):
        run = splat_tile(0.0)
        for i in range(start, min(start + FEW_TERMS, observed)):
            a = load_tile(net.units, (net.logits + i) * BLOCK + lane)
            run = run + larger(a * load_one(sign, offset + i), 0.0)
        value = value + run
    return value


@inline
def fold(terms: Floats, start: int, blocks: int, moment: Floats) -> float:
    """The sum of blocks * 32 terms, halving; moment[k], where there is one, becomes the sum of those with bit k set."""
    half, k = blocks // 2, LOW_BITS + MIDDLE_BITS
    while (1 << (k - LOW_BITS)) > blocks:
        k -= 1
    while half > 0:
        k -= 1
        if len(moment) > 0:
            upper = splat_block(0.0)
            for b in range(half, 2 * half):
                upper = upper + load_block(terms, start + b * BLOCK)
            moment[k] = total(upper)
        for at in range(start, start + half * BLOCK, TILE):
            store(terms, at, load_tile(terms, at) + load_tile(terms, at + half * BLOCK))
        half //= 2
    for k in range(min(LOW_BITS, len(moment))):
        moment[k] = 0.0
        for j in range(BLOCK):
            if (j >> k) & 1:
                moment[k] += terms[start + j]
    return total(load_block(terms, start))


@inline
def sum_page(terms: Floats, powers: Floats, start: int, blocks: int, moment: Floats) -> tuple[float, float]:
    """Power and total of the terms m * 2**k of one row and page."""
    largest = load_block(powers, start)
    for b in range(1, blocks):
        largest = larger(largest, load_block(powers, start + b * BLOCK))
    store(powers, start + blocks * BLOCK, largest)
    power = powers[start + blocks * BLOCK]
    for j in range(1, BLOCK):
        power = max(power, powers[start + blocks * BLOCK + j])
    for at in range(start, start + blocks * BLOCK, TILE):
        store(terms, at, load_tile(terms, at) * power_of_two(load_tile(powers, at) - power))
    return power, fold(terms, start, blocks, moment)


@kernel
def marginal(
    decoder: Decoder, first: int, count: int, prior: Prior, x: Bits, moments: bool
) -> tuple[Floats, Floats, Floats]:
    """Power and total, (N,) each, of the sum over `count` codes from `first`; its moments, (N, K), or (N, 0)."""
    rows, observed = x.shape
    latents = decoder.sizes[0]
    net, log_p, sign = network(decoder, first, count), prior_of(prior), signs(x)
    blocks = max(1, min(count, PAGE) // BLOCK)
    width = (blocks + 1) * BLOCK
    terms, powers = vectors(rows * width), vectors(rows * width)
    power, sums = np.full(rows, NO_POWER), np.zeros(rows)
    moment, page_moment = np.zeros((rows, latents if moments else 0)), np.zeros(latents if moments else 0)
    for page in range(first, first + count, PAGE):
        for b in range(blocks):
            code = page + b * BLOCK
            if enter(net, code, page):
                turn_prior(log_p, code)
            for lane in range(0, BLOCK, TILE):
                inverse, inverse_power = normaliser(net, lane)
                log_p_tile = log_prior(log_p, code, lane)
                for n in range(rows):
                    m, k = exp_unbounded(log_p_tile - misfit(net, sign, n * observed, lane))
                    at = n * width + b * BLOCK + lane
                    store(terms, at, m * inverse)
                    store(powers, at, k + inverse_power)
        for n in range(rows):
            page_power, page_sum = sum_page(terms, powers, n * width, blocks, page_moment)
            new = max(power[n], page_power)
            before, now = power_of_two(power[n] - new), power_of_two(page_power - new)
            power[n], sums[n] = new, sums[n] * before + page_sum * now
            for k in range(len(page_moment)):
                part = page_moment[k] if k < LOW_BITS + MIDDLE_BITS else page_sum * ((page >> k) & 1)
                moment[n, k] = moment[n, k] * before + part * now
    return power, sums, moment


@kernel
def merge(
    power: Floats, total: Floats, moment: Floats, other_power: Floats, other_total: Floats, other_moment: Floats
) -> tuple[Floats, Floats, Floats]:
    """The sum of two such sums."""
    merged_power, merged_total, merged_moment = np.empty_like(power), np.empty_like(total), np.empty_like(moment)
    for n in range(len(power)):
        new = max(power[n], other_power[n])
        before, now = power_of_two(power[n] - new), power_of_two(other_power[n] - new)
        merged_power[n] = new
        merged_total[n] = total[n] * before + other_total[n] * now
        for k in range(moment.shape[1]):
            merged_moment[n, k] = moment[n, k] * before + other_moment[n, k] * now
    return merged_power, merged_total, merged_moment


@kernel
def finish(power: Floats, total: Floats) -> Floats:
    """log(total * 2**power), (N,); -inf for an empty sum."""
    value = np.empty_like(total)
    for n in range(len(total)):
        value[n] = log(total[n], power[n]) if total[n] > 0.0 else -np.inf
    return value
