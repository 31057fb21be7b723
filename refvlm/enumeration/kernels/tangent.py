"""An upper bound on log p(x) for a linear decoder at any K: the best affine majorant of log p(x | z) on a box.

A box is the part of {0,1}^K where some bits are fixed; {0,1}^K is one. With s = 2 x - 1 and a = b + W^T z,
log p(x | z) = sum over i of log sigmoid(s_i a_i) is concave in z. By duality, for any lambda in [0, 1]^L and
H(lambda) = -lambda log lambda - (1 - lambda) log(1 - lambda),

    log sigmoid(t) <= lambda t - H(lambda),

with equality at t where lambda = sigmoid(-t). The right-hand side is affine in z, so p(z) times its exponential
factorises over the bits, and its sum over the z of the box is closed form:

    log p(x, z in the box) <= log U = sum over i of lambda_i s_i b_i - H(lambda_i)
                                    + sum over free k of log(1 - beta_k + beta_k e^(g_k))
                                    + sum over fixed k of log p(z_k) + z_k g_k,
    g_k = sum over i of lambda_i s_i W_ki.

log U is convex in lambda. Its least value is at the tangent in the point z0 = q, where q_k = sigmoid(c_k + g_k) are the
means of the tilted distribution and c the prior's logits; damped Newton steps on z0 = q go there. How far they get
decides how tight the bound is, not whether it holds: it holds for any lambda, and its rounding is that of a few sums.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Bits, Floats
from ..problem import Contexts, Decoder
from .compiling import inline, kernel, part
from .constants import OCTET
from .elementary import Number, exp, larger, log, log1p, sigmoids
from .lanes import absolute, load_octet, splat_octet, store, total, transposed_sums, vectors

SHORTEST = 1.0 / 1024.0
"""The part of a Newton step below which none is taken."""
SMALLEST = 1e-300
"""What counts as this in a logarithm that is multiplied by it."""


@inline
def log_mixture(off: float, on: float, g: float) -> float:
    """log(e^off + e^(on + g)), for the logarithms of a bit's probabilities; either may be -inf."""
    high, low = larger(off, on + g), -larger(-off, -(on + g))
    return high if low == -np.inf else high + log1p(exp(low - high))


@inline
def entropy(slope: Number) -> Number:
    """H of this very float in [0, 1]."""
    rest = 1.0 - slope
    return -(slope * log(larger(slope, SMALLEST), 0.0)) - rest * log(larger(rest, SMALLEST), 0.0)


@part
def log_u(
    signed: Floats, biases: Floats, prior: Floats, z: Floats, arguments: Floats, slopes: Floats, tilts: Floats
) -> float:
    """log U at the tangent in z, without the prior of the fixed bits; fills s a, lambda and g.

    signed: s_i W_ki of the free bits, row by row in whole octets; biases: s_i times the biases and the weights of the
    fixed ones; prior: log probabilities of 0 and 1, (2, free); z: (free,).
    """
    free, width = prior.shape[1], len(biases)
    value = splat_octet(0.0)
    for i in range(0, width, OCTET):
        b = load_octet(biases, i)
        a = b
        for k in range(free):
            a = a + z[k] * load_octet(signed, k * width + i)
        store(arguments, i, a)
        slope = sigmoids(a)[1]
        store(slopes, i, slope)
        value = value + (slope * b - entropy(slope))
    sum_u = total(value)
    for k in range(free):
        g = splat_octet(0.0)
        for i in range(0, width, OCTET):
            g = g + load_octet(slopes, i) * load_octet(signed, k * width + i)
        tilts[k] = total(g)
        sum_u += log_mixture(prior[0, k], prior[1, k], tilts[k])
    return sum_u


@part
def magnitudes(signed: Floats, reach: Floats, prior: Floats, slopes: Floats, tilts: Floats) -> float:
    """What is added up in log U, in magnitude; reach: |b_i| and the |W_ki| of the fixed ones, (L,) in whole octets."""
    free, width = prior.shape[1], len(reach)
    size = splat_octet(0.0)
    for i in range(0, width, OCTET):
        most = load_octet(reach, i)
        for k in range(free):
            most = most + absolute(load_octet(signed, k * width + i))
        size = size + (load_octet(slopes, i) * most + 2.0)  # an entropy is at most log 2
    result = total(size)
    for k in range(free):
        result += abs(log_mixture(prior[0, k], prior[1, k], tilts[k])) + 1.0
        result += abs(prior[0, k]) if prior[0, k] > -np.inf else 0.0
        result += abs(prior[1, k]) if prior[1, k] > -np.inf else 0.0
    return result


@part
def curvature(signed: Floats, arguments: Floats, variances: Floats, weighted: Floats, curvatures: Floats) -> None:
    """s(a) s(-a) of the outputs into `weighted`, and v_k sum_i s(a_i) s(-a_i) W_ki^2 of the bits into `curvatures`."""
    width = len(arguments)
    for i in range(0, width, OCTET):
        on, off = sigmoids(load_octet(arguments, i))
        store(weighted, i, on * off)
    for k in range(len(variances)):
        sum_k = splat_octet(0.0)
        for i in range(0, width, OCTET):
            w = load_octet(signed, k * width + i)
            sum_k = sum_k + load_octet(weighted, i) * (w * w)
        curvatures[k] = variances[k] * total(sum_k)


@part
def newton_step(
    signed: Floats, weighted: Floats, variances: Floats, gaps: Floats, matrix: Floats, row: Floats, roots: Floats,
    moved: Floats,
) -> None:  # fmt: skip
    """Put the solution d of (1 + V B) d = gap in place of the gap, B = A S A^T, V the bits' variances.

    d = gap - R (1 + R B R)^-1 R B gap with R = sqrt(V): a symmetric matrix, whose upper half is eliminated. It has no
    eigenvalue below 1, so that no pivots are needed. signed, matrix: rows in whole octets, and a whole octet of rows.
    """
    free, width = len(variances), len(weighted)
    across = (free + OCTET - 1) // OCTET * OCTET
    for k in range(free):
        for i in range(0, width, OCTET):
            store(row, i, load_octet(weighted, i) * load_octet(signed, k * width + i))
        for j in range(k // OCTET * OCTET, across, OCTET):
            at = j * width
            s0, s1, s2, s3 = splat_octet(0.0), splat_octet(0.0), splat_octet(0.0), splat_octet(0.0)
            s4, s5, s6, s7 = splat_octet(0.0), splat_octet(0.0), splat_octet(0.0), splat_octet(0.0)
            for i in range(0, width, OCTET):
                w = load_octet(row, i)
                s0 = s0 + w * load_octet(signed, at + i)
                s1 = s1 + w * load_octet(signed, at + width + i)
                s2 = s2 + w * load_octet(signed, at + 2 * width + i)
                s3 = s3 + w * load_octet(signed, at + 3 * width + i)
                s4 = s4 + w * load_octet(signed, at + 4 * width + i)
                s5 = s5 + w * load_octet(signed, at + 5 * width + i)
                s6 = s6 + w * load_octet(signed, at + 6 * width + i)
                s7 = s7 + w * load_octet(signed, at + 7 * width + i)
            store(matrix, k * across + j, transposed_sums(s0, s1, s2, s3, s4, s5, s6, s7))
    for k in range(across):
        roots[k] = np.sqrt(variances[k]) if k < free else 0.0
        moved[k] = 0.0
    for k in range(free):
        moved[k] += matrix[k * across + k] * gaps[k]
        for j in range(k + 1, free):
            moved[k] += matrix[k * across + j] * gaps[j]
            moved[j] += matrix[k * across + j] * gaps[k]
    for k in range(free):
        moved[k] *= roots[k]
        for j in range(k // OCTET * OCTET, across, OCTET):
            at = k * across + j
            store(matrix, at, roots[k] * load_octet(roots, j) * load_octet(matrix, at))
        matrix[k * across + k] += 1.0
    for k in range(free):
        for i in range(k + 1, free):
            factor = matrix[k * across + i] / matrix[k * across + k]
            for j in range(i // OCTET * OCTET, across, OCTET):
                at = i * across + j
                store(matrix, at, load_octet(matrix, at) - factor * load_octet(matrix, k * across + j))
            moved[i] -= factor * moved[k]
    for k in range(free - 1, -1, -1):
        for j in range(k + 1, free):
            moved[k] -= matrix[k * across + j] * moved[j]
        moved[k] /= matrix[k * across + k]
        gaps[k] -= roots[k] * moved[k]


@kernel
def tangent(
    decoder: Decoder, first: int, count: int, contexts: Contexts, x: Bits, rows: NDArray[np.int64],
    states: NDArray[np.int64], fixed: NDArray[np.int8], points: Floats, steps: int, tolerance: float,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:  # fmt: skip
    """For boxes first to first + count - 1: log U, the magnitudes in its sums, (count,), and three of (count, K).

    Those are the logits c_k + g_k of the factorised distribution that U sums, +-inf for fixed bits; the point z0 of the
    tangent; and the curvature of log p(x | z) in each bit times its variance, 0 for fixed ones. rows: which x each box
    is of; states: which of the contexts has its prior, whose weight is part of U; fixed: its bits (boxes, K), 0, 1, or
    -1 for a free one; points: where to start, (boxes, K): at the tangent of a larger box log U is no more than there,
    and steps only lower it. It ends after so many of them, or when log U falls by less than `tolerance`.
    """
    latents, observed = decoder.sizes[0], decoder.sizes[1]
    width = (observed + OCTET - 1) // OCTET * OCTET
    across = (latents + OCTET - 1) // OCTET * OCTET
    signed, biases, reach = vectors(across * width), vectors(width), vectors(width)
    arguments, slopes, weighted, row = vectors(width), vectors(width), vectors(width), vectors(width)
    matrix, log_p, free_bits = vectors(across * across), np.empty((2, latents)), np.empty(latents, np.int64)
    all_z, all_there, all_tilts = np.empty(latents), np.empty(latents), np.empty(latents)
    all_variances, all_gaps, bend = np.empty(latents), np.empty(latents), np.empty(latents)
    roots, moved = vectors(across), np.empty(across)
    bounds, sizes = np.empty(count), np.empty(count)
    logits, found, curvatures = np.empty((count, latents)), np.empty((count, latents)), np.zeros((count, latents))
    for n in range(count):
        box, state = rows[first + n], states[first + n]
        prior, certain = contexts.bits[state], contexts.log_weight[state]
        size = contexts.size[state]
        for i in range(observed):
            s = 1.0 if x[box, i] else -1.0
            biases[i] = s * decoder.flat[latents * observed + i]
            reach[i] = abs(biases[i])
        free = 0
        for k in range(latents):
            bit = fixed[first + n, k]
            if bit < 0 or points[first + n, k] != bit:  # a bit that has just been fixed goes there with the others
                free_bits[free] = k
                for i in range(observed):
                    w = decoder.flat[k * observed + i]
                    signed[free * width + i] = w if x[box, i] else -w
                all_z[free] = points[first + n, k]
                log_p[0, free] = prior[0, k] if bit != 1 else -np.inf
                log_p[1, free] = prior[1, k] if bit != 0 else -np.inf
                free += 1
            else:
                certain += prior[bit, k]
                size += abs(prior[bit, k])
                if bit:
                    for i in range(observed):
                        w = decoder.flat[k * observed + i]
                        biases[i] += w if x[box, i] else -w
                        reach[i] += abs(w)
                logits[n, k], found[n, k] = np.inf if bit else -np.inf, bit
        for i in range(free * width, (free + OCTET - 1) // OCTET * OCTET * width):
            signed[i] = 0.0
        for i in range(observed, width):
            biases[i] = 800.0  # beyond the last output: a slope of 0
        own, z, there, tilts = log_p[:, :free], all_z[:free], all_there[:free], all_tilts[:free]
        variances, gaps = all_variances[:free], all_gaps[:free]
        value = log_u(signed, biases, own, z, arguments, slopes, tilts)
        step, gain = 0, np.inf
        while step < steps and gain >= tolerance and free > 0:
            for k in range(free):
                on, off = sigmoids((own[1, k] - own[0, k]) + tilts[k])
                variances[k], gaps[k] = on * off, on - z[k]
            curvature(signed, arguments, variances, weighted, bend)
            newton_step(signed, weighted, variances, gaps, matrix, row, roots, moved)
            length, new = 1.0, np.inf
            while length >= SHORTEST:
                for k in range(free):
                    there[k] = z[k] + length * gaps[k]
                new = log_u(signed, biases, own, there, arguments, slopes, tilts)
                if new <= value:
                    break
                length *= 0.25
            if not new <= value:
                log_u(signed, biases, own, z, arguments, slopes, tilts)
                break
            gain, value, step = value - new, new, step + 1
            for k in range(free):
                z[k] = there[k]
        for k in range(free):
            logit = (own[1, k] - own[0, k]) + tilts[k]
            on, off = sigmoids(logit)
            variances[k] = on * off
            logits[n, free_bits[k]], found[n, free_bits[k]] = logit, z[k]
        curvature(signed, arguments, variances, weighted, bend)
        for k in range(free):
            curvatures[n, free_bits[k]] = bend[k]
        bounds[n] = value + certain
        sizes[n] = size + abs(certain) + magnitudes(signed, reach, own, slopes, tilts)
    return bounds, sizes, logits, found, curvatures
