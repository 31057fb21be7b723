"""The gradient of a weighted complete-data log-likelihood in the decoder and the prior.

By Fisher's identity the gradient of log p(x) is the posterior's average of the gradient of log p(x, z); that of
the VLB in theta and beta is q's average of the same (eqs. 5 and 9). One kernel serves both: only the weights
r_n(z) differ. Over all rows and one block,

    d / d a_i(z) = (sum over n with x_ni = 1 of r_n(z)) sigmoid(-a_i) - (sum over n with x_ni = 0) sigmoid(a_i),

so the network is walked backwards once per state, however many rows there are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..blocks import LOW_BITS
from ..problem import Decoder, Prior, Recognition
from .compiling import inline, kernel
from .network import backward, decode, dot, fold_low, lane_count, workspace
from .observation import (
    log_likelihood,
    log_prior,
    log_sigmoids,
    low_recognition,
    posterior_weights,
    recognise,
    sigmoids,
)

__all__ = ["gradient"]

Floats = NDArray[np.float64]


@inline
def clear(sums: Floats, mass: Floats, lanes: int) -> None:
    for j in range(lanes):
        mass[j] = 0.0
    for bit in range(2):
        for i in range(sums.shape[1]):
            for j in range(lanes):
                sums[bit, i, j] = 0.0


@inline
def scatter(x: NDArray[np.uint8], n: int, weights: Floats, sums: Floats, lanes: int) -> None:
    """Add the row's weights to the sums its bits point at, sums[x_ni, i]."""
    for i in range(x.shape[1]):
        target = sums[x[n, i], i]
        for j in range(lanes):
            target[j] += weights[j]


@kernel
def gradient(
    decoder: Decoder, prior: Prior, q: Recognition, x: NDArray[np.uint8], row_weights: Floats, power: Floats,
    total: Floats, first: int, count: int,
) -> tuple[Floats, Floats, Floats, Floats]:  # fmt: skip
    """Sums over `count` codes from `first` and all rows of w_n r_n(z) times what each result differentiates.

    Returns: the decoder's gradient, as decoder.flat; the mass of each bit, sum of w_n r_n(z) z_k, (K,); the mass of
    each code where the prior is a table, (count,), else (0,); d / d logits where they were given, (count, L), else
    (0, L). With an empty q the weights r_n are the posterior's, by power and total as `marginal` returns them.
    """
    rows, latents, observed = len(x), decoder.sizes[0], decoder.sizes[-1]
    lanes = lane_count(latents)
    work = workspace(decoder, lanes)
    terms, sums = np.empty((2, observed, lanes)), np.empty((2, observed, lanes))
    prior_lanes, weights, mass, ones = np.empty(lanes), np.empty(lanes), np.empty(lanes), np.ones(lanes)
    low_q = low_recognition(q, lanes)
    given = len(decoder.given) > 0
    slopes = np.empty((len(work.units), lanes))
    flat, low = np.zeros(len(decoder.flat)), np.zeros((decoder.sizes[1], lanes))
    bit_mass, low_mass = np.zeros(latents), np.zeros(lanes)
    code_mass = np.empty(count if len(prior.table) > 0 else 0)
    logit_slopes = np.empty((count if given else 0, observed))
    for code in range(first, first + count, lanes):
        logits = decode(decoder, code, work, lanes)
        log_sigmoids(logits, terms, lanes)
        log_prior(prior, code, prior_lanes, lanes)
        clear(sums, mass, lanes)
        for n in range(rows):
            if len(low_q) > 0:
                high = recognise(q, n, code)[0]
                for j in range(lanes):
                    weights[j] = high * low_q[n, 0, j]
            else:
                log_likelihood(x, n, terms, weights, lanes)
                for j in range(lanes):
                    weights[j] += prior_lanes[j]
                posterior_weights(weights, power[n], 1.0 / total[n], lanes)
            for j in range(lanes):
                weights[j] *= row_weights[n]
                mass[j] += weights[j]
            scatter(x, n, weights, sums, lanes)
        sigmoids(logits, terms, lanes)
        slope = slopes[len(slopes) - observed :] if not given else slopes[:observed]
        for i in range(observed):
            for j in range(lanes):
                slope[i, j] = sums[1, i, j] * terms[0, i, j] - sums[0, i, j] * terms[1, i, j]
        if given:
            for j in range(lanes):
                for i in range(observed):
                    logit_slopes[code - first + j, i] = slope[i, j]
        else:
            backward(decoder, code, work, slopes, ones, flat, low, lanes)
        if len(code_mass) > 0:
            for j in range(lanes):
                code_mass[code - first + j] = mass[j]
        block = dot(ones, mass, lanes)
        for k in range(LOW_BITS, latents):
            if (code >> k) & 1:
                bit_mass[k] += block
        for j in range(lanes):
            low_mass[j] += mass[j]
    for k in range(min(latents, LOW_BITS)):
        bit_mass[k] = fold_low(low_mass, k)
        if not given:
            width = decoder.sizes[1]
            for unit in range(width):
                flat[k * width + unit] = fold_low(low[unit], k)
    return flat, bit_mass, code_mass, logit_slopes
