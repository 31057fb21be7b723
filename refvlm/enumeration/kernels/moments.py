"""Sums over z with the bits of z as factors, row by row.

With an empty `q` the weights are the posterior's and the moments are E[z_k | x_n], eq. (6). With q they are
q(z) log p(x_n, z), from which the gradient of the VLB in q's logits follows:

    d VLB / d logit_k = E_q[(z_k - phi_k) log p(x, z)] + d entropy / d logit_k.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..blocks import LOW_BITS
from ..problem import Decoder, Prior, Recognition
from .compiling import kernel
from .network import decode, fold_low, lane_count, tree_sum, workspace
from .observation import (
    log_likelihood,
    log_prior,
    log_sigmoids,
    low_recognition,
    posterior_weights,
    recognise,
)

__all__ = ["moments"]

Floats = NDArray[np.float64]


@kernel
def moments(
    decoder: Decoder, prior: Prior, q: Recognition, x: NDArray[np.uint8], power: Floats, total: Floats,
    first: int, count: int,
) -> tuple[Floats, Floats]:  # fmt: skip
    """The sums over `count` codes from `first`: with z_k as factor (N, K), and without (N,)."""
    rows, latents = len(x), decoder.sizes[0]
    lanes = lane_count(latents)
    work = workspace(decoder, lanes)
    terms = np.empty((2, decoder.sizes[-1], lanes))
    prior_lanes, weights = np.empty(lanes), np.empty(lanes)
    low_q = low_recognition(q, lanes)
    low, moment, mass = np.zeros((rows, lanes)), np.zeros((rows, latents)), np.zeros(rows)
    for code in range(first, first + count, lanes):
        log_sigmoids(decode(decoder, code, work, lanes), terms, lanes)
        log_prior(prior, code, prior_lanes, lanes)
        for n in range(rows):
            log_likelihood(x, n, terms, weights, lanes)
            for j in range(lanes):
                weights[j] += prior_lanes[j]
            if len(low_q) > 0:
                high, log_high = recognise(q, n, code)
                for j in range(lanes):
                    if weights[j] > -np.inf:
                        weights[j] *= high * low_q[n, 0, j]
                    elif log_high + low_q[n, 1, j] == -np.inf:
                        weights[j] = 0.0  # else -inf: q has mass, however little, on an impossible z
            else:
                posterior_weights(weights, power[n], 1.0 / total[n], lanes)
            for j in range(lanes):
                low[n, j] += weights[j]
            block = tree_sum(weights, lanes)
            mass[n] += block
            for k in range(LOW_BITS, latents):
                if (code >> k) & 1:
                    moment[n, k] += block
    for n in range(rows):
        for k in range(min(latents, LOW_BITS)):
            moment[n, k] = fold_low(low[n], k)
    return moment, mass
