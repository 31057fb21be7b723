"""From a block's logits to log p(x_n, z), eqs. (1) and (2), for every row n and every lane.

log p(x | z) = sum over i of log sigmoid(+-a_i), the sign being that of 2 x_i - 1. Where many quantities need it, both
signs are tabulated per block, [x_i, i, lane], and a row adds the entries that its bits point at. All terms have one
sign, so the sum keeps its relative precision, which sum x_i a_i - sum softplus(a_i) would lose for large logits.
Lanes beyond 2**K, where K < 5, are codes of prior probability 0 and of no mass under q.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...types import Bits, Floats
from ..problem import Prior, Recognition
from .compiling import allocating, inline
from .constants import BLOCK, FEW_TERMS, LOW_BITS, MIDDLE_BITS, ROWS
from .elementary import Number, log_sigmoids
from .lanes import TILE, load_one, load_tile, splat_tile, store, vectors
from .network import Network


class LogPrior(NamedTuple):
    """log p(z): `low` (32,) of the low bits; `rows` (64,) of the others, for each block of the page in hand.

    Of a table that fills no block `low` is a copy, of a longer one there is nothing but the table.
    """

    prior: Prior
    low: Floats
    rows: Floats


@inline
def fill_sums(table: Floats, bits: Floats, bit: int, count: int) -> None:
    """table[j] += the bits' logarithms, bits bit to bit + count - 1 taken from j."""
    filled = 1
    for k in range(bit, min(bit + count, bits.shape[1])):
        for j in range(filled):
            table[j + filled] = table[j] + bits[1, k]
            table[j] = table[j] + bits[0, k]
        filled *= 2


@allocating
def prior_of(prior: Prior) -> LogPrior:
    """The prior with its low table filled."""
    low = vectors(BLOCK)
    low[:] = -np.inf
    low[0] = 0.0
    if len(prior.table) == 0:
        fill_sums(low, prior.bits, 0, LOW_BITS)
    for j in range(min(BLOCK, len(prior.table))):
        low[j] = prior.table[j]
    return LogPrior(prior, low, vectors(ROWS))


@inline
def turn_prior(log_p: LogPrior, code: int) -> None:
    """Fill the rows for the page that holds `code`."""
    bits = log_p.prior.bits
    high = 0.0
    for k in range(LOW_BITS + MIDDLE_BITS, bits.shape[1]):
        high += bits[(code >> k) & 1, k]
    log_p.rows[0] = high
    fill_sums(log_p.rows, bits, LOW_BITS, MIDDLE_BITS)


@inline
def log_prior(log_p: LogPrior, code: int, lane: int) -> Number:
    """log p(z) for the tile from `lane` of the block from `code`."""
    if len(log_p.prior.table) >= BLOCK:
        return load_tile(log_p.prior.table, code + lane)
    return load_tile(log_p.low, lane) + load_one(log_p.rows, (code >> LOW_BITS) & (ROWS - 1))


@inline
def tabulate(net: Network, out: Floats) -> None:
    """out[(1, i)] = log sigmoid(a_i), out[(0, i)] = log sigmoid(-a_i), lane by lane."""
    count = net.decoder.sizes[-1] * BLOCK
    for at in range(0, count, TILE):
        on, off = log_sigmoids(load_tile(net.units, net.logits * BLOCK + at))
        store(out, at, off)
        store(out, count + at, on)


@inline
def log_likelihood(x: Bits, n: int, log_sigmoid: Floats, lane: int) -> Number:
    """log p(x_n | z), sixteen terms at a time, for the tile from `lane`."""
    observed = x.shape[1]
    value = splat_tile(0.0)
    for start in range(0, observed, FEW_TERMS):
        run = splat_tile(0.0)
        for i in range(start, min(start + FEW_TERMS, observed)):
            run = run + load_tile(log_sigmoid, (x[n, i] * observed + i) * BLOCK + lane)
        value = value + run
    return value


class LowRecognition(NamedTuple):
    """The low bits' part of q for row n: probability and log_probability, both (N * 32,)."""

    q: Recognition
    probability: Floats
    log_probability: Floats


@allocating
def recognition_of(q: Recognition) -> LowRecognition:
    """q with its low tables filled."""
    rows = q.probability.shape[0]
    probability, log_probability = vectors(rows * BLOCK), vectors(rows * BLOCK)
    log_probability[:] = -np.inf
    for n in range(rows):
        start = n * BLOCK
        probability[start], log_probability[start] = 1.0, 0.0
        for k in range(min(LOW_BITS, q.probability.shape[2])):
            for j in range(start, start + (1 << k)):
                probability[j + (1 << k)] = probability[j] * q.probability[n, 1, k]
                probability[j] *= q.probability[n, 0, k]
                log_probability[j + (1 << k)] = log_probability[j] + q.log_probability[n, 1, k]
                log_probability[j] += q.log_probability[n, 0, k]
    return LowRecognition(q, probability, log_probability)


@inline
def high_bits(q: Recognition, n: int, code: int) -> tuple[float, float]:
    """The part of q(z | x_n) of the bits above the lanes, for the block from `code`, and its log."""
    probability, log_probability = 1.0, 0.0
    for k in range(LOW_BITS, q.probability.shape[2]):
        bit = (code >> k) & 1
        probability *= q.probability[n, bit, k]
        log_probability += q.log_probability[n, bit, k]
    return probability, log_probability


@inline
def recognise(low: LowRecognition, n: int, high: tuple[float, float], lane: int) -> tuple[Number, Number]:
    """q(z | x_n) for the tile from `lane`, and its log; high: the other bits' part."""
    at = n * BLOCK + lane
    return load_tile(low.probability, at) * high[0], load_tile(low.log_probability, at) + high[1]
