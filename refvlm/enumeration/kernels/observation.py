"""From a block's logits to log p(x_n, z), eqs. (1) and (2), for every row n and every lane.

log p(x | z) = sum over i of log sigmoid(+-a_i), the sign being that of 2 x_i - 1. Both signs are tabulated per
block, [x_i, i, lane], and a row adds the entries that its bits point at. All terms have one sign, so the sum
keeps its relative precision, which sum x_i a_i - sum softplus(a_i) would lose for large logits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..blocks import LOW_BITS
from ..problem import Prior, Recognition
from .compiling import inline
from .elementary import exp, exp_scaled, log1p

__all__ = [
    "log_likelihood",
    "log_prior",
    "log_sigmoids",
    "low_recognition",
    "posterior_weights",
    "recognise",
    "sigmoids",
]

Floats = NDArray[np.float64]


@inline
def log_sigmoids(logits: Floats, out: Floats, lanes: int) -> None:
    """out[1, i] = log sigmoid(a_i), out[0, i] = log sigmoid(-a_i), lane by lane."""
    for i in range(logits.shape[0]):
        a, off, on = logits[i], out[0, i], out[1, i]
        for j in range(lanes):
            rest = log1p(exp(-abs(a[j])))
            on[j] = (a[j] if a[j] < 0.0 else 0.0) - rest
            off[j] = (-a[j] if a[j] > 0.0 else 0.0) - rest


@inline
def sigmoids(logits: Floats, out: Floats, lanes: int) -> None:
    """out[1, i] = sigmoid(a_i), out[0, i] = sigmoid(-a_i), lane by lane, neither as 1 minus the other."""
    for i in range(logits.shape[0]):
        a, off, on = logits[i], out[0, i], out[1, i]
        for j in range(lanes):
            y = exp(-abs(a[j]))
            large, small = 1.0 / (1.0 + y), y / (1.0 + y)
            on[j] = large if a[j] >= 0.0 else small
            off[j] = small if a[j] >= 0.0 else large


@inline
def log_likelihood(x: NDArray[np.uint8], n: int, log_sigmoid: Floats, out: Floats, lanes: int) -> None:
    """out[j] = log p(x_n | z_j)."""
    observed = x.shape[1]
    for j in range(lanes):
        out[j] = 0.0
    i = 0
    while i + 4 <= observed:
        t0, t1 = log_sigmoid[x[n, i], i], log_sigmoid[x[n, i + 1], i + 1]
        t2, t3 = log_sigmoid[x[n, i + 2], i + 2], log_sigmoid[x[n, i + 3], i + 3]
        for j in range(lanes):
            out[j] += (t0[j] + t1[j]) + (t2[j] + t3[j])
        i += 4
    while i < observed:
        t0 = log_sigmoid[x[n, i], i]
        for j in range(lanes):
            out[j] += t0[j]
        i += 1


@inline
def log_prior(prior: Prior, code: int, out: Floats, lanes: int) -> None:
    """out[j] = log p(z_j) for the block of codes from `code`."""
    if prior.table.shape[0] > 0:
        for j in range(lanes):
            out[j] = prior.table[code + j]
        return
    latents = prior.bits.shape[1]
    high = 0.0
    for k in range(LOW_BITS, latents):
        high += prior.bits[(code >> k) & 1, k]
    out[0] = high
    filled, k = 1, 0
    while filled < lanes:
        off, on = prior.bits[0, k], prior.bits[1, k]
        for j in range(filled):
            out[j + filled] = out[j] + on
            out[j] = out[j] + off
        filled, k = 2 * filled, k + 1


@inline
def low_recognition(q: Recognition, lanes: int) -> Floats:
    """The low bits' part of q for every row and lane: [n, 0] its probability, [n, 1] its log; (N, 2, lanes)."""
    rows = q.probability.shape[0]
    low = np.empty((rows, 2, lanes))
    for n in range(rows):
        low[n, 0, 0], low[n, 1, 0] = 1.0, 0.0
        filled, k = 1, 0
        while filled < lanes:
            for j in range(filled):
                low[n, 0, j + filled] = low[n, 0, j] * q.probability[n, 1, k]
                low[n, 0, j] *= q.probability[n, 0, k]
                low[n, 1, j + filled] = low[n, 1, j] + q.log_probability[n, 1, k]
                low[n, 1, j] += q.log_probability[n, 0, k]
            filled, k = 2 * filled, k + 1
    return low


@inline
def recognise(q: Recognition, n: int, code: int) -> tuple[float, float]:
    """The high bits' part of q(z | x_n) for the block from `code`, and of its log."""
    probability, log_probability = 1.0, 0.0
    for k in range(LOW_BITS, q.probability.shape[2]):
        bit = (code >> k) & 1
        probability *= q.probability[n, bit, k]
        log_probability += q.log_probability[n, bit, k]
    return probability, log_probability


@inline
def posterior_weights(joint: Floats, power: float, inverse: float, lanes: int) -> None:
    """From log p(x_n, z) to p(z | x_n), eq. (6), in place: the sum's own terms over the sum, adding up to 1."""
    for j in range(lanes):
        joint[j] = exp_scaled(joint[j], power) * inverse
