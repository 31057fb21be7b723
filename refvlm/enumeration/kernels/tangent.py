"""An upper bound on log p(x) for a linear decoder at any K: the best affine majorant of log p(x | z).

With s = 2 x - 1 and a = b + W^T z, log p(x | z) = sum over i of log sigmoid(s_i a_i) is concave in z. By duality, for
any lambda in [0, 1]^L and H(lambda) = -lambda log lambda - (1 - lambda) log(1 - lambda),

    log sigmoid(t) <= lambda t - H(lambda),

with equality at t where lambda = sigmoid(-t). The right-hand side is affine in z, so p(z) times its exponential
factorises over the bits, and its sum over z is closed form:

    log p(x) <= log U = sum over i of lambda_i s_i b_i - H(lambda_i) + sum over k of log(1 - beta_k + beta_k e^(g_k)),
    g_k = sum over i of lambda_i s_i W_ki.

log U is convex in lambda. Its least value is at the tangent in the point z0 = q, where q_k = sigmoid(c_k + g_k) are the
means of the tilted distribution and c the prior's logits; damped Newton steps on z0 = q go there. How far they get
decides how tight the bound is, not whether it holds: it holds for any lambda, and its rounding is that of a few sums.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Prior
from .compiling import inline, kernel
from .elementary import exp, larger, log, log1p, sigmoids

SHORTEST = 1.0 / 1024.0
"""The part of a Newton step below which none is taken."""


@inline
def log_mixture(off: float, on: float, g: float) -> float:
    """log(e^off + e^(on + g)), for the logarithms of a bit's probabilities; either may be -inf."""
    high, low = larger(off, on + g), -larger(-off, -(on + g))
    return high if low == -np.inf else high + log1p(exp(low - high))


@inline
def entropy(p: float) -> float:
    """H(p), for the p that is given: 0 at 0 and 1."""
    rest = 1.0 - p
    a = -p * log(p, 0.0) if p > 1e-300 else 0.0
    return a - rest * log(rest, 0.0) if rest > 0.0 else a


@inline
def log_u(
    signed: Floats, biases: Floats, prior: Floats, z: Floats, arguments: Floats, slopes: Floats, tilts: Floats
) -> tuple[float, float]:
    """log U at the tangent in z, and the sum of the magnitudes in it; fills s a, lambda and g.

    signed: s_i W_ki, (K, L); biases: s_i b_i, (L,); prior: log probabilities of 0 and 1, (2, K).
    """
    latents, observed = signed.shape
    value, size = 0.0, 0.0
    for i in range(observed):
        arguments[i] = biases[i]
    for k in range(latents):
        if z[k] != 0.0:
            for i in range(observed):
                arguments[i] += z[k] * signed[k, i]
    for i in range(observed):
        slopes[i] = sigmoids(arguments[i])[1]
        h = entropy(slopes[i])
        value += slopes[i] * biases[i] - h
        size += abs(slopes[i] * biases[i]) + h + 1.0
    for k in range(latents):
        g, most = 0.0, 0.0
        for i in range(observed):
            g += slopes[i] * signed[k, i]
            most += abs(slopes[i] * signed[k, i])
        tilts[k] = g
        term = log_mixture(prior[0, k], prior[1, k], g)
        value += term
        size += abs(term) + most + 1.0
        if prior[1, k] > -np.inf:
            size += abs(prior[1, k])
        if prior[0, k] > -np.inf:
            size += abs(prior[0, k])
    return value, size


@inline
def newton_step(
    signed: Floats, arguments: Floats, variances: Floats, gaps: Floats, matrix: Floats, scaled: Floats
) -> None:
    """Put the solution d of (1 + V A S A^T) d = gap in place of the gap: V of the bits' variances, S of the outputs'.

    Leading minors of the matrix are positive, so elimination needs no pivots.
    """
    latents, observed = signed.shape
    for i in range(observed):
        on, off = sigmoids(arguments[i])
        scaled[i] = on * off
    for k in range(latents):
        for j in range(latents):
            matrix[k, j] = 0.0
        for i in range(observed):
            weight = variances[k] * signed[k, i] * scaled[i]
            if weight != 0.0:
                for j in range(latents):
                    matrix[k, j] += weight * signed[j, i]
        matrix[k, k] += 1.0
    for k in range(latents):
        for row in range(k + 1, latents):
            factor = matrix[row, k] / matrix[k, k]
            if factor != 0.0:
                for j in range(k + 1, latents):
                    matrix[row, j] -= factor * matrix[k, j]
                gaps[row] -= factor * gaps[k]
    for k in range(latents - 1, -1, -1):
        for j in range(k + 1, latents):
            gaps[k] -= matrix[k, j] * gaps[j]
        gaps[k] /= matrix[k, k]


@kernel
def tangent(
    decoder: Decoder, first: int, count: int, prior: Prior, x: Bits, steps: int, tolerance: float
) -> tuple[Floats, Floats, Floats]:
    """For rows first to first + count - 1 of x: log U, the magnitudes in its sums, (count,), and log-odds of the tilts.

    The last, (count, K), are c_k + g_k, the logits of the factorised distribution that U sums. It ends after so many
    Newton steps, or when log U falls by less than `tolerance`.
    """
    latents, observed = decoder.sizes[0], decoder.sizes[1]
    signed = np.empty((latents, observed))
    biases, arguments, slopes, scaled = np.empty(observed), np.empty(observed), np.empty(observed), np.empty(observed)
    z, there, tilts = np.empty(latents), np.empty(latents), np.empty(latents)
    variances, gaps, matrix = np.empty(latents), np.empty(latents), np.empty((latents, latents))
    bounds, sizes, logits = np.empty(count), np.empty(count), np.empty((count, latents))
    for n in range(count):
        for i in range(observed):
            s = 1.0 if x[first + n, i] else -1.0
            biases[i] = s * decoder.flat[latents * observed + i]
            for k in range(latents):
                signed[k, i] = s * decoder.flat[k * observed + i]
        for k in range(latents):
            z[k] = exp(prior.bits[1, k])
        value, size = log_u(signed, biases, prior.bits, z, arguments, slopes, tilts)
        for _ in range(steps):
            for k in range(latents):
                on, off = sigmoids((prior.bits[1, k] - prior.bits[0, k]) + tilts[k])
                variances[k], gaps[k] = on * off, on - z[k]
            newton_step(signed, arguments, variances, gaps, matrix, scaled)
            part, new, new_size = 1.0, np.inf, 0.0
            while part >= SHORTEST:
                for k in range(latents):
                    there[k] = z[k] + part * gaps[k]
                new, new_size = log_u(signed, biases, prior.bits, there, arguments, slopes, tilts)
                if new <= value:
                    break
                part *= 0.25
            if not new <= value:
                break
            gain = value - new
            value, size = new, new_size
            for k in range(latents):
                z[k] = there[k]
            if gain < tolerance:
                break
        value, size = log_u(signed, biases, prior.bits, z, arguments, slopes, tilts)
        bounds[n], sizes[n] = value, size
        for k in range(latents):
            logits[n, k] = (prior.bits[1, k] - prior.bits[0, k]) + tilts[k]
    return bounds, sizes, logits
