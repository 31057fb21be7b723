"""The enumerated part of the VLB, eq. (10), and the gap to it, eq. (7): two sums that share only the network.

    reconstruction   sum over z of q(z | x_n) log p(x_n | z)
    divergence       sum over z of q log(q / p) - q + p,  p = p(z | x_n) = p(x_n, z) / p(x_n)

The extra - q + p adds up to zero and makes every term non-negative. It also makes the divergence insensitive,
to first order, to an error in the log p(x_n) that it is given, so log p(x) = VLB + KL stays a check of all three.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..problem import Decoder, Prior, Recognition
from .compiling import inline, kernel
from .elementary import exp, fma
from .network import decode, lane_count, tree_sum, workspace
from .observation import log_likelihood, log_prior, log_sigmoids, low_recognition, recognise

__all__ = ["divergence", "expectation", "reconstruction"]

Floats = NDArray[np.float64]


@kernel
def reconstruction(decoder: Decoder, q: Recognition, x: NDArray[np.uint8], first: int, count: int) -> Floats:
    """The part of E_q[log p(x_n | z)] that lies in `count` codes from `first`, (N,)."""
    rows, lanes = len(x), lane_count(decoder.sizes[0])
    work = workspace(decoder, lanes)
    terms = np.empty((2, decoder.sizes[-1], lanes))
    joint = np.empty(lanes)
    low_q = low_recognition(q, lanes)
    total = np.zeros(rows)
    for code in range(first, first + count, lanes):
        log_sigmoids(decode(decoder, code, work, lanes), terms, lanes)
        for n in range(rows):
            high = recognise(q, n, code)[0]
            if high > 0.0:
                log_likelihood(x, n, terms, joint, lanes)
                for j in range(lanes):
                    joint[j] *= high * low_q[n, 0, j]
                total[n] += tree_sum(joint, lanes)
    return total


@kernel
def expectation(q: Recognition, tables: Floats) -> Floats:
    """E_q[table(z)] for every row, tables (T, 2**K): (N, T); infinite where q has any mass on such an entry."""
    rows, lanes = len(q.probability), lane_count(q.probability.shape[2])
    count = tables.shape[1]
    low_q = low_recognition(q, lanes)
    product = np.empty(lanes)
    total = np.zeros((rows, len(tables)))
    for code in range(0, count, lanes):
        for n in range(rows):
            high, log_high = recognise(q, n, code)
            for t in range(len(tables)):
                for j in range(lanes):
                    value = tables[t, code + j]
                    if abs(value) < np.inf:
                        product[j] = high * low_q[n, 0, j] * value
                    else:
                        product[j] = value if log_high + low_q[n, 1, j] > -np.inf else 0.0
                total[n, t] += tree_sum(product, lanes)
    return total


@inline
def excess(t: float) -> float:
    """t - 1 + exp(-t) >= 0, by its series where the difference would cancel."""
    if abs(t) < 0.25:
        s = 1.1470745597729725e-11  # 1 / 14!, down to 1 / 2!; the next term is below 2**-53 of the first
        s = fma(s, -t, 1.6059043836821613e-10)
        s = fma(s, -t, 2.08767569878681e-09)
        s = fma(s, -t, 2.505210838544172e-08)
        s = fma(s, -t, 2.755731922398589e-07)
        s = fma(s, -t, 2.7557319223985893e-06)
        s = fma(s, -t, 2.48015873015873e-05)
        s = fma(s, -t, 0.0001984126984126984)
        s = fma(s, -t, 0.001388888888888889)
        s = fma(s, -t, 0.008333333333333333)
        s = fma(s, -t, 0.041666666666666664)
        s = fma(s, -t, 0.16666666666666666)
        return t * t * fma(s, -t, 0.5)
    return (t - 1.0) + exp(-t)


@kernel
def divergence(
    decoder: Decoder, prior: Prior, q: Recognition, x: NDArray[np.uint8], log_px: Floats, first: int, count: int
) -> Floats:
    """The part of KL(q || p(z | x_n)) that lies in `count` codes from `first`, (N,)."""
    rows, lanes = len(x), lane_count(decoder.sizes[0])
    work = workspace(decoder, lanes)
    terms = np.empty((2, decoder.sizes[-1], lanes))
    prior_lanes, joint = np.empty(lanes), np.empty(lanes)
    low_q = low_recognition(q, lanes)
    total = np.zeros(rows)
    for code in range(first, first + count, lanes):
        log_sigmoids(decode(decoder, code, work, lanes), terms, lanes)
        log_prior(prior, code, prior_lanes, lanes)
        for n in range(rows):
            log_likelihood(x, n, terms, joint, lanes)
            high, log_high = recognise(q, n, code)
            for j in range(lanes):
                log_p = (joint[j] + prior_lanes[j]) - log_px[n]
                p_of_q = high * low_q[n, 0, j]
                log_q = log_high + low_q[n, 1, j]
                t = log_q - log_p
                if p_of_q == 0.0:  # also where q underflows: it still has mass there
                    joint[j] = np.inf if log_p == -np.inf and log_q > -np.inf else exp(log_p)
                elif t > -0.25:
                    joint[j] = p_of_q * excess(t)
                else:
                    joint[j] = p_of_q * (t - 1.0) + exp(log_p)
            total[n] += tree_sum(joint, lanes)
    return total
