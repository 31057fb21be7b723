"""The enumerated part of the VLB, eq. (10), and the gap to it, eq. (7): two sums that share only the network.

    reconstruction   sum over z of q(z | x_n) log p(x_n | z)
    divergence       sum over z of q log(q / p) - q + p,  p = p(z | x_n) = p(x_n, z) / p(x_n)

The extra - q + p adds up to zero and makes every term non-negative. It also makes the divergence insensitive,
to first order, to an error in the log p(x_n) that it is given, so log p(x) = VLB + KL stays a check of all three.
Errors: `inference/bound_certificate.py`. Twins: `inference/definition.vlb` and `kl`.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Prior, Recognition
from .compiling import inline, kernel
from .constants import BLOCK
from .elementary import Number, exp
from .lanes import TILE, absolute, fma, load_block, load_tile, store, total, vectors, where_less
from .moments import NEVER, weighted
from .network import enter, network
from .observation import high_bits, log_likelihood, log_prior, prior_of, recognise, recognition_of, tabulate, turn_prior


@kernel
def reconstruction(decoder: Decoder, first: int, count: int, q: Recognition, x: Bits) -> Floats:
    """The part of E_q[log p(x_n | z)] that lies in `count` codes from `first`, (N,)."""
    rows = len(x)
    net, low_q = network(decoder, first, count), recognition_of(q)
    log_sigmoid, terms = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    sums, page = np.zeros(rows), np.zeros(rows)
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            sums += page
            page[:] = 0.0
        tabulate(net, log_sigmoid)
        for n in range(rows):
            high = high_bits(q, n, code)
            for lane in range(0, BLOCK, TILE):
                store(terms, lane, recognise(low_q, n, high, lane)[0] * log_likelihood(x, n, log_sigmoid, lane))
            page[n] += total(load_block(terms, 0))
    return sums + page


@kernel
def expectation(q: Recognition, tables: Floats) -> Floats:
    """E_q[table(z)] for every row, tables (T, 2**K): (N, T); infinite where q has any mass on such an entry."""
    rows, count = len(q.probability), tables.shape[1]
    low_q, values, terms = recognition_of(q), vectors(BLOCK), vectors(BLOCK)
    sums = np.zeros((rows, len(tables)))
    for code in range(0, count, BLOCK):
        for t in range(len(tables)):
            for j in range(min(BLOCK, count)):
                values[j] = tables[t, code + j]
            for n in range(rows):
                high = high_bits(q, n, code)
                for lane in range(0, BLOCK, TILE):
                    probability, log_probability = recognise(low_q, n, high, lane)
                    store(terms, lane, weighted(probability, log_probability, load_tile(values, lane)))
                sums[n, t] += total(load_block(terms, 0))
    return sums


@inline
def excess(t: Number) -> Number:
    """t - 1 + exp(-t) >= 0 for t > -1, by its series where the difference would cancel."""
    s = fma(-t, 1.1470745597729725e-11, 1.6059043836821613e-10)  # 1 / 14!, down to 1 / 2!
    s = fma(-t, s, 2.08767569878681e-09)
    s = fma(-t, s, 2.505210838544172e-08)
    s = fma(-t, s, 2.755731922398589e-07)
    s = fma(-t, s, 2.7557319223985893e-06)
    s = fma(-t, s, 2.48015873015873e-05)
    s = fma(-t, s, 0.0001984126984126984)
    s = fma(-t, s, 0.001388888888888889)
    s = fma(-t, s, 0.008333333333333333)
    s = fma(-t, s, 0.041666666666666664)
    s = fma(-t, s, 0.16666666666666666)
    s = t * t * fma(-t, s, 0.5)
    return where_less(absolute(t), 0.25, s, (t - 1.0) + exp(-t))


@inline
def divergence_terms(log_p: Number, probability: Number, log_q: Number) -> Number:
    """q log(q / p) - q + p; p where q is 0, +inf where q has mass, however little, on an impossible z."""
    t = log_q - log_p
    p = exp(log_p)
    near = probability * excess(where_less(-0.25, t, t, 0.0))
    far = probability * (t - 1.0) + p
    ordinary = where_less(-0.25, t, near, far)
    impossible = where_less(NEVER, log_p, p, where_less(NEVER, log_q, np.inf, 0.0))
    return where_less(0.0, probability, ordinary, impossible)  # q may underflow and still have mass


@kernel
def divergence(
    decoder: Decoder, first: int, count: int, prior: Prior, q: Recognition, x: Bits, log_px: Floats
) -> Floats:
    """The part of KL(q || p(z | x_n)) that lies in `count` codes from `first`, (N,)."""
    rows = len(x)
    net, log_p, low_q = network(decoder, first, count), prior_of(prior), recognition_of(q)
    log_sigmoid, terms = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    sums, page = np.zeros(rows), np.zeros(rows)
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            turn_prior(log_p, code)
            sums += page
            page[:] = 0.0
        tabulate(net, log_sigmoid)
        for n in range(rows):
            high = high_bits(q, n, code)
            for lane in range(0, BLOCK, TILE):
                joint = log_likelihood(x, n, log_sigmoid, lane) + log_prior(log_p, code, lane)
                probability, log_probability = recognise(low_q, n, high, lane)
                store(terms, lane, divergence_terms(joint - log_px[n], probability, log_probability))
            page[n] += total(load_block(terms, 0))
    return sums + page
