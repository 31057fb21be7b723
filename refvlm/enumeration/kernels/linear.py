"""log p(x) for a decoder without hidden layers and a factorised prior: no exp per state.

With the signs of x folded in, a_i = +-(W^T z + b)_i, p(x | z) = 1 / prod of (1 + exp(a_i)). Split z into high and low
bits, a_i = h_i + l_i, with l_i = centre c_i +- s_i over all low bits, s_i half the sum of |W_ki|. Then

    1 + exp(a_i) = exp(h_i + c_i) (D_i + F_i),    D_i = exp(-h_i - c_i) in the row's table, F_i = exp(l_i - c_i)

in the lanes' table: an addition and a multiplication. The exponentials collect in the row's weight,

    p(x, z) = [p(high bits) exp(-sum (h_i + c_i))] * p(low bits) / prod (D_i + F_i).

A row is one setting of the high bits; 32 rows make a chunk. Four rows by a tile are in registers at a time; fractions
of `together` rows are added as one, so that there is one division for 4, 2 or 1 states.

Ranges. (D_i + F_i) / (D_i + 1) lies between exp(-s_i) and exp(s_i). So, scaled by a power of two near the product of
(D_i + 1), taken out after every 16 factors, every product lies within exp(+-S) of 1 to 2, S = sum s_i, and none on
the way leaves exp(+-(S + Q)), Q = the largest sum over 16 factors of |h_i + c_i| + log 2. Denominators of `together`
rows lie within exp(+-together S). A row's weight or a product that underflows loses, relative to what the largest row
of the chunk contributes, at most exp(-708 + 2 S), exp(-744 + 3 S) and exp(-744 + 5 S) for together = 1, 2, 4.
`linear_split` admits S + Q <= 690 and S <= 300, 210, 125: less than exp(-100) is lost; where that does not hold for any
number of low bits from 5 to 10, the sum goes through `marginal.py`.

Errors. Table entries: their arguments are sums in double-double, so 2 u each, whatever the weights; a factor 3 u, a
product of L of them 4 L u; weights 3 u each, fractions 8 u: the relative error of a term is at most (4 L + 20) u,
besides that of the prior's logarithms. Depth: 8 tiles times 2**5 blocks of lanes, 5 for the lanes, and the chunks.
Twin: `inference/definition.log_marginal`, and `posterior` there times the bits.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Prior
from .compiling import allocating, inline, kernel
from .constants import BLOCK, ROW_BITS, SEGMENT, SPLITS
from .double_double import add, two_sum
from .elementary import MAGIC, Number, exp, exp_of_sum, exp_parts, larger, power_of_two
from .lanes import (
    TILE,
    exponent,
    fma,
    load_block,
    load_one,
    load_tile,
    mantissa,
    splat_tile,
    store,
    total,
    vectors,
)
from .marginal import NO_POWER

FAR = -(2.0**40)
"""It replaces any smaller log-weight, whose row counts for nothing."""


@kernel
def linear_split(decoder: Decoder, bits: int) -> tuple[int, int]:
    """How many low bits, and how many rows share a division, in pieces of 2**bits codes; (0, 0) where ranges forbid."""
    latents, observed = decoder.sizes[0], decoder.sizes[1]
    weights = decoder.flat[: latents * observed].reshape(latents, observed)
    for low, together in SPLITS:
        spread, run, most = 0.0, 0.0, 0.0
        for i in range(observed):
            half, centre, above, below = 0.0, decoder.flat[latents * observed + i], 0.0, 0.0
            for k in range(latents):
                w = weights[k, i]
                if k < low:
                    half += 0.5 * abs(w)
                    centre += 0.5 * w
                else:
                    above, below = above + max(w, 0.0), below + min(w, 0.0)
            spread += half
            run = (0.0 if i % SEGMENT == 0 else run) + max(abs(centre + above), abs(centre + below)) + 0.7
            most = max(most, run)
        admitted = 125.0 if together == 4 else 210.0 if together == 2 else 300.0
        if low + ROW_BITS <= bits and spread <= admitted and spread + most <= 690.0:
            return low, together
    return 0, 0


class Split(NamedTuple):
    """The tables for one x.

    signed: ((K + 1) * L,), weights and biases times -(2 x_i - 1). lanes: F, [block of lanes, i, lane]. weights: p(low
    bits) over its largest, (2**low,); `log_weight` that largest. middle, middle_rest: [i, row], the sums over the 5
    bits that tell the rows of a chunk apart. centre, centre_rest: (L,).
    """

    signed: Floats
    lanes: Floats
    weights: Floats
    log_weight: float
    middle: Floats
    middle_rest: Floats
    log_rows: Floats
    centre: Floats
    centre_rest: Floats


@allocating
def sums_of(column: Floats, bit: int, bits: int) -> tuple[Floats, Floats]:
    """The sums of column[bit : bit + bits] over all values of these bits, in double-double."""
    table, rest = vectors(1 << bits), vectors(1 << bits)
    for k in range(bits):
        for j in range(1 << k):
            table[j + (1 << k)], rest[j + (1 << k)] = add(table[j], rest[j], column[bit + k], 0.0)
    return table, rest


@allocating
def logs_of(prior: Prior, bit: int, bits: int) -> Floats:
    """The logarithms of the probabilities of all values of these bits."""
    table = vectors(1 << bits)
    for k in range(bits):
        for j in range(1 << k):
            table[j + (1 << k)] = table[j] + prior.bits[1, bit + k]
            table[j] = table[j] + prior.bits[0, bit + k]
    return table


@allocating
def split_of(decoder: Decoder, prior: Prior, row: Bits, low: int) -> Split:
    """Fill the tables for one row of x."""
    latents, observed = decoder.sizes[0], decoder.sizes[1]
    signed = np.empty((latents + 1) * observed)
    for i in range(observed):
        for k in range(latents + 1):
            w = decoder.flat[k * observed + i]
            signed[k * observed + i] = -w if row[i] else w
    lanes, column = vectors(observed << low), np.empty(latents)
    middle, middle_rest = vectors(observed * BLOCK), vectors(observed * BLOCK)
    centre, centre_rest = np.zeros(observed), np.zeros(observed)
    for i in range(observed):
        for k in range(latents):
            column[k] = signed[k * observed + i]
        for k in range(low):
            centre[i], centre_rest[i] = add(centre[i], centre_rest[i], 0.5 * column[k], 0.0)
        table, rest = sums_of(column, 0, low)
        for at in range(0, 1 << low, TILE):
            v, v_rest = add(load_tile(table, at), load_tile(rest, at), -centre[i], -centre_rest[i])
            store(lanes, (at // BLOCK * observed + i) * BLOCK + at % BLOCK, exp_of_sum(v, v_rest))
        table, rest = sums_of(column, low, ROW_BITS)
        store(middle, i * BLOCK, load_block(table, 0))
        store(middle_rest, i * BLOCK, load_block(rest, 0))
    weights = logs_of(prior, 0, low)
    log_weight = weights.max()
    for j in range(0, 1 << low, TILE):
        store(weights, j, exp(load_tile(weights, j) - log_weight))
    log_rows = logs_of(prior, low, ROW_BITS)
    return Split(signed, lanes, weights, log_weight, middle, middle_rest, log_rows, centre, centre_rest)


class Rows(NamedTuple):
    """The tables of a chunk: factors D, [i, row]; scales, [segment, row]; weight, (32,), over 2**power.

    The rest is room: base, base_rest (L,), h_i of the bits above a chunk; powers (32,); sums (4 * 32,).
    """

    factors: Floats
    scales: Floats
    weight: Floats
    base: Floats
    base_rest: Floats
    powers: Floats
    sums: Floats


@inline
def fill_rows(split: Split, prior: Prior, code: int, low: int, rows: Rows) -> float:
    """The tables of the chunk from `code`; returns the power of its weights."""
    observed, latents = len(split.centre), prior.bits.shape[1]
    log_prior = split.log_weight
    for k in range(low + ROW_BITS, latents):
        log_prior += prior.bits[(code >> k) & 1, k]
    base, base_rest = rows.base, rows.base_rest
    for i in range(observed):
        base[i], base_rest[i] = add(split.centre[i], split.centre_rest[i], split.signed[latents * observed + i], 0.0)
        for k in range(low + ROW_BITS, latents):
            if (code >> k) & 1:
                base[i], base_rest[i] = add(base[i], base_rest[i], split.signed[k * observed + i], 0.0)
    for row in range(0, BLOCK, TILE):
        # D_i and, segment by segment, the product of D_i + 1, whose exponent is taken out
        exponents, product = splat_tile(0.0), splat_tile(1.0)
        sum_h, sum_rest = splat_tile(0.0), splat_tile(0.0)
        for i in range(observed):
            at = i * BLOCK + row
            h, h_rest = add(load_tile(split.middle, at), load_tile(split.middle_rest, at), base[i], base_rest[i])
            sum_h, sum_rest = add(sum_h, sum_rest, h, h_rest)
            factor = exp_of_sum(-h, -h_rest)
            store(rows.factors, at, factor)
            product = product * (factor + 1.0)
            if i % SEGMENT == SEGMENT - 1 or i == observed - 1:
                e, start = exponent(product), i - i % SEGMENT
                scale = power_of_two(-e)
                store(rows.scales, start // SEGMENT * BLOCK + row, scale)
                at = start * BLOCK + row
                store(rows.factors, at, load_tile(rows.factors, at) * scale)
                exponents, product = exponents + e, mantissa(product)
        # the rows' weights p(high bits) exp(-sum h), without the exponents, over their largest power
        v, rest = two_sum(larger(load_tile(split.log_rows, row) + log_prior, FAR), -sum_h)
        m, shifted = exp_parts(v, rest - sum_rest)
        store(rows.powers, row, (shifted - MAGIC) - exponents)
        store(rows.weight, row, m)
    power = rows.powers[0]
    for r in range(1, BLOCK):
        power = max(power, rows.powers[r])
    for row in range(0, BLOCK, TILE):
        store(rows.weight, row, load_tile(rows.weight, row) * power_of_two(load_tile(rows.powers, row) - power))
    return power


@inline
def products(split: Split, rows: Rows, r: int, at: int) -> tuple[Number, Number, Number, Number]:
    """The scaled products of D + F for rows r to r + 3; F of the tile's lanes stand from `at` on in split.lanes."""
    observed, factors = len(split.centre), rows.factors
    p0, p1, p2, p3 = splat_tile(1.0), splat_tile(1.0), splat_tile(1.0), splat_tile(1.0)
    d = r
    for start in range(0, observed, SEGMENT):
        f, s = load_tile(split.lanes, at), start // SEGMENT * BLOCK + r
        p0 = p0 * fma(f, load_one(rows.scales, s), load_one(factors, d))
        p1 = p1 * fma(f, load_one(rows.scales, s + 1), load_one(factors, d + 1))
        p2 = p2 * fma(f, load_one(rows.scales, s + 2), load_one(factors, d + 2))
        p3 = p3 * fma(f, load_one(rows.scales, s + 3), load_one(factors, d + 3))
        at, d = at + BLOCK, d + BLOCK
        for _ in range(start + 1, min(start + SEGMENT, observed)):
            f = load_tile(split.lanes, at)
            p0, p1 = p0 * (f + load_one(factors, d)), p1 * (f + load_one(factors, d + 1))
            p2, p3 = p2 * (f + load_one(factors, d + 2)), p3 * (f + load_one(factors, d + 3))
            at, d = at + BLOCK, d + BLOCK
    return p0, p1, p2, p3


@inline
def chunk_sum(split: Split, rows: Rows, blocks: int, together: int) -> float:
    """The sum over a chunk, in units of 2**power."""
    stride = len(split.centre) * BLOCK
    for lane in range(0, BLOCK, TILE):
        sums = splat_tile(0.0)
        for block in range(blocks):  # its factors, and the rows', stay in the first-level cache
            w = load_tile(split.weights, block * BLOCK + lane)
            for r in range(0, BLOCK, 4):
                g0, g1 = load_one(rows.weight, r), load_one(rows.weight, r + 1)
                g2, g3 = load_one(rows.weight, r + 2), load_one(rows.weight, r + 3)
                p0, p1, p2, p3 = products(split, rows, r, block * stride + lane)
                if together == 1:
                    fraction = (g0 / p0 + g1 / p1) + (g2 / p2 + g3 / p3)
                else:
                    n01, d01 = fma(p1, g0, p0 * g1), p0 * p1
                    n23, d23 = fma(p3, g2, p2 * g3), p2 * p3
                    fraction = n01 / d01 + n23 / d23 if together == 2 else fma(n01, d23, n23 * d01) / (d01 * d23)
                sums = fma(w, fraction, sums)
        store(rows.sums, lane, sums)
    return total(load_block(rows.sums, 0))


@inline
def chunk_moments(split: Split, rows: Rows, blocks: int, by_lane: Floats, by_row: Floats) -> None:
    """The same sum lane by lane, (2**low,), and row by row, (32,)."""
    stride = len(split.centre) * BLOCK
    by_lane[:] = 0.0
    for r in range(0, BLOCK, 4):
        g0, g1, g2, g3 = rows.weight[r], rows.weight[r + 1], rows.weight[r + 2], rows.weight[r + 3]
        for lane in range(0, BLOCK, TILE):
            s0, s1, s2, s3 = splat_tile(0.0), splat_tile(0.0), splat_tile(0.0), splat_tile(0.0)
            for block in range(blocks):
                at = block * BLOCK + lane
                w = load_tile(split.weights, at)
                p0, p1, p2, p3 = products(split, rows, r, block * stride + lane)
                f0, f1, f2, f3 = w * (g0 / p0), w * (g1 / p1), w * (g2 / p2), w * (g3 / p3)
                s0, s1, s2, s3 = s0 + f0, s1 + f1, s2 + f2, s3 + f3
                store(by_lane, at, load_tile(by_lane, at) + ((f0 + f1) + (f2 + f3)))
            store(rows.sums, lane, s0)
            store(rows.sums, BLOCK + lane, s1)
            store(rows.sums, 2 * BLOCK + lane, s2)
            store(rows.sums, 3 * BLOCK + lane, s3)
        for j in range(4):
            by_row[r + j] = total(load_block(rows.sums, j * BLOCK))


@kernel
def linear_marginal(
    decoder: Decoder, first: int, count: int, prior: Prior, x: Bits, moments: bool, low: int, together: int
) -> tuple[Floats, Floats, Floats]:
    """As `marginal`; low and together from `linear_split`."""
    rows, latents = len(x), decoder.sizes[0]
    observed = decoder.sizes[1]
    blocks, chunk = 1 << low >> ROW_BITS, 1 << (low + ROW_BITS)
    segments = (observed + SEGMENT - 1) // SEGMENT
    tables = Rows(
        vectors(observed * BLOCK), vectors(segments * BLOCK), vectors(BLOCK), vectors(observed), vectors(observed),
        vectors(BLOCK), vectors(4 * BLOCK),
    )  # fmt: skip
    power, sums = np.full(rows, NO_POWER), np.zeros(rows)
    moment = np.zeros((rows, latents if moments else 0))
    by_lane, by_row = vectors(1 << low), vectors(BLOCK)
    for n in range(rows):
        # the tables of this row, then chunk by chunk its sum, rescaled by exact powers of two
        split = split_of(decoder, prior, x[n], low)
        lanes = vectors(1 << low)
        for code in range(first, first + count, chunk):
            chunk_power = fill_rows(split, prior, code, low, tables)
            new = max(power[n], chunk_power)
            before, now = power_of_two(power[n] - new), power_of_two(chunk_power - new)
            power[n] = new
            if not moments:
                sums[n] = sums[n] * before + chunk_sum(split, tables, blocks, together) * now
                continue
            # the moments: by lane, and by row for the bits that tell rows or chunks apart
            chunk_moments(split, tables, blocks, by_lane, by_row)
            part = total(load_block(by_row, 0)) * now
            sums[n] = sums[n] * before + part
            for j in range(1 << low):
                lanes[j] = lanes[j] * before + by_lane[j] * now
            for k in range(low, latents):
                with_bit = part * ((code >> k) & 1)
                if k < low + ROW_BITS:
                    with_bit = 0.0
                    for r in range(BLOCK):
                        if (r >> (k - low)) & 1:
                            with_bit += by_row[r] * now
                moment[n, k] = moment[n, k] * before + with_bit
        # the low bits' moments, from the lanes
        for k in range(min(low, moment.shape[1])):
            for j in range(1 << low):
                if (j >> k) & 1:
                    moment[n, k] += lanes[j]
    return power, sums, moment
