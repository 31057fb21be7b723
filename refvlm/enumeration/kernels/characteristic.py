"""E_q[log p(x | z)] of a linear decoder and a factorised q without a sum over codes: by characteristic functions.

The logit m = b + sum over k of z_k W_k of one output is a sum of independent bits. Put each bit that q makes likelier
than not to 1: m = b' + d, where b' is the logit of q's mode and d the sum of the bits' departures from it, s_k W_k with
probability p_k <= 1/2, s_k = -1 for a bit that the mode sets. From
log cosh(m / 2) = integral over w > 0 of (1 - cos(w m)) / (w sinh(pi w)),

    E softplus(m) = softplus(b') + E[d] / 2 - J,    J = integral over w > 0 of Re[e^(i w b') D(w)] / (w sinh(pi w)),
    D(w) = E[e^(i w d)] - 1 = prod over k of (1 + p_k (e^(i w s_k W_k) - 1)) - 1.

So a q that is certain leaves a closed form, and every error below scales with V = sum of p_k |W_k|. For x = 1 the
term is log sigmoid(b') + E[d] / 2 + J, for x = 0 log sigmoid(-b') - E[d] / 2 + J.

J is a trapezoidal sum at w = n h, h = 2 pi / T. Poisson's formula gives the error of that sum for one m exactly:
sum over j >= 1 of log1p(e^-(T j + m)) + log1p(e^-(T j - m)) - 2 log1p(e^-T j), between 0 and
2 e^-(T - |m|) / (1 - e^-T); the terms beyond w = `CUTOFF` are at most 1.3 e^(-pi w) / w in all. T is `MARGIN` above
the largest |m|, so that both are below 1e-17; angles are kept in turns, n W / T, and reduced exactly.

Lanes are eight outputs, rows go in pairs, and the factors e^(i w W_k) - 1 of one node serve all rows. D is kept instead
of D + 1, D <- D + delta (1 + D), in runs of FEW_TERMS factors, so that it stays relatively precise where w is small and
the kernel 1 / (w sinh) large. `inference/bound_certificate.py` has the error bound.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Recognition
from .compiling import inline, kernel
from .constants import CUTOFF, FEW_TERMS, MARGIN, OCTET
from .double_double import two_sum
from .elementary import Number, exp, larger, log_sigmoids
from .lanes import absolute, fma, load_octet, nearest, splat_octet, store, total, vectors, where_less

TWO_PI = 6.283185307179586


@inline
def circle(turns: Number, rest: Number) -> tuple[Number, Number]:
    """cos - 1 and sin of 2 pi (turns + rest), to a few units of 2**-53 of e^(i angle) - 1."""
    r = (turns - nearest(turns)) + rest
    quarter = nearest(4.0 * r)
    y = TWO_PI * fma(-0.25, quarter, r)
    y2 = y * y
    sine = fma(y2, -7.647163731819816e-13, 1.6059043836821613e-10)  # -1 / 15!, up to -1 / 3!
    sine = fma(y2, sine, -2.505210838544172e-08)
    sine = fma(y2, sine, 2.7557319223985893e-06)
    sine = fma(y2, sine, -0.0001984126984126984)
    sine = fma(y2, sine, 0.008333333333333333)
    sine = fma(y2 * y, fma(y2, sine, -0.16666666666666666), y)
    cosine = fma(y2, 4.779477332387385e-14, -1.1470745597729725e-11)  # 1 / 16!, up to -1 / 2!
    cosine = fma(y2, cosine, 2.08767569878681e-09)
    cosine = fma(y2, cosine, -2.755731922398589e-07)
    cosine = fma(y2, cosine, 2.48015873015873e-05)
    cosine = fma(y2, cosine, -0.001388888888888889)
    cosine = fma(y2, cosine, 0.041666666666666664)
    cosine = y2 * fma(y2, cosine, -0.5)
    size = absolute(quarter)
    sign = where_less(quarter, 0.0, -1.0, 1.0)
    real = where_less(size, 0.5, cosine, where_less(1.5, size, -2.0 - cosine, -1.0 - sign * sine))
    imaginary = where_less(size, 0.5, sine, where_less(1.5, size, -sine, sign * (1.0 + cosine)))
    return real, imaginary


@inline
def node_weight(n: int, step: float) -> float:
    """step / (w sinh(pi w)) at w = n step."""
    w = n * step
    y = 0.5 * TWO_PI * w
    if y < 1.0:
        y2 = y * y
        s = 1.0 + y2 / 272.0
        s = 1.0 + y2 / 210.0 * s
        s = 1.0 + y2 / 156.0 * s
        s = 1.0 + y2 / 110.0 * s
        s = 1.0 + y2 / 72.0 * s
        s = 1.0 + y2 / 42.0 * s
        s = 1.0 + y2 / 20.0 * s
        sinh = y * (1.0 + y2 / 6.0 * s)
    else:
        e = exp(-y)
        sinh = 0.5 * (1.0 / e - e)
    return step / (w * sinh)


@inline
def period(weights: Floats, biases: Floats) -> float:
    """T: MARGIN more than the largest |logit| that these eight outputs can have."""
    lowest, highest = load_octet(biases, 0), load_octet(biases, 0)
    for at in range(0, len(weights), OCTET):
        w = load_octet(weights, at)
        lowest = lowest + where_less(w, 0.0, w, 0.0)
        highest = highest + where_less(0.0, w, w, 0.0)
    store(biases, OCTET, larger(highest, -lowest))
    most = 0.0
    for j in range(OCTET, 2 * OCTET):
        most = max(most, biases[j])
    return MARGIN + most


@inline
def rare_bits(q: Recognition, probability: Floats, signed: Floats) -> None:
    """p_k and s_k p_k of every row, flat."""
    rows, _, latents = q.probability.shape
    for n in range(rows):
        for k in range(latents):
            rare = min(q.probability[n, 0, k], q.probability[n, 1, k])
            probability[n * latents + k] = rare
            signed[n * latents + k] = -rare if in_mode(q, n, k) else rare


@inline
def in_mode(q: Recognition, n: int, k: int) -> bool:
    """Whether q's mode sets the bit."""
    return q.log_probability[n, 1, k] > q.log_probability[n, 0, k]


@inline
def take_octet(decoder: Decoder, octet: int, weights: Floats, biases: Floats) -> None:
    """The weights and biases of eight outputs, zeros beyond the last."""
    latents, observed = decoder.sizes[0], decoder.sizes[1]
    for j in range(OCTET):
        i = octet * OCTET + j
        biases[j] = decoder.flat[latents * observed + i] if i < observed else 0.0
        for k in range(latents):
            weights[k * OCTET + j] = decoder.flat[k * observed + i] if i < observed else 0.0


@inline
def take_row(
    q: Recognition, n: int, weights: Floats, biases: Floats, probability: Floats, signed: Floats, mode: Floats,
    mode_rest: Floats, mean: Floats,
) -> Number:  # fmt: skip
    """b' with its rest and E[d] of one row, stored; returns the sum of p_k (1 - p_k) W_k**2."""
    latents = q.probability.shape[2]
    b, b_rest, d, square = load_octet(biases, 0), splat_octet(0.0), splat_octet(0.0), splat_octet(0.0)
    for start in range(0, latents, FEW_TERMS):
        d_run, square_run = splat_octet(0.0), splat_octet(0.0)
        for k in range(start, min(start + FEW_TERMS, latents)):
            w, p = load_octet(weights, k * OCTET), probability[n * latents + k]
            if in_mode(q, n, k):
                b, e = two_sum(b, w)
                b_rest = b_rest + e
            d_run = fma(signed[n * latents + k], w, d_run)
            square_run = fma(p * (1.0 - p), w * w, square_run)
        d, square = d + d_run, square + square_run
    b, b_rest = two_sum(b, b_rest)
    store(mode, n * OCTET, b)
    store(mode_rest, n * OCTET, b_rest)
    store(mean, n * OCTET, d)
    return square


@inline
def take_node(node: int, turn: float, weights: Floats, real: Floats, imaginary: Floats) -> None:
    """e^(i w W_k) - 1 of every bit at w = 2 pi node / T; turn: 1 / T."""
    for at in range(0, len(weights), OCTET):
        a, b = along_circle(node, turn, load_octet(weights, at), splat_octet(0.0))
        store(real, at, a)
        store(imaginary, at, b)


@inline
def along_circle(node: int, turn: float, logit: Number, rest: Number) -> tuple[Number, Number]:
    """e^(i w (logit + rest)) - 1 at w = 2 pi node / T."""
    unit = logit * turn
    turns = node * unit
    return circle(turns, fma(float(node), unit, -turns) + node * turn * rest)


@inline
def departure(
    row: int, latents: int, probability: Floats, signed: Floats, real: Floats, imaginary: Floats
) -> tuple[Number, Number]:
    """D at one node for one row: the product of 1 + p_k (e^(i w s_k W_k) - 1), minus 1."""
    d_real, d_imaginary = splat_octet(0.0), splat_octet(0.0)
    at = row * latents
    for start in range(0, latents, FEW_TERMS):
        stop = min(start + FEW_TERMS, latents)
        r, i = splat_octet(0.0), splat_octet(0.0)
        for k in range(start, stop):
            a, b = probability[at + k] * load_octet(real, k * OCTET), signed[at + k] * load_octet(imaginary, k * OCTET)
            whole = 1.0 + r
            r, i = fma(-i, b, fma(whole, a, r)), fma(whole, b, fma(i, a, i))
        whole = 1.0 + d_real
        d_real, d_imaginary = (
            fma(-d_imaginary, i, fma(whole, r, d_real)), fma(whole, i, fma(d_imaginary, r, d_imaginary)),
        )  # fmt: skip
    return d_real, d_imaginary


@kernel
def reconstruction(decoder: Decoder, first: int, count: int, q: Recognition, x: Bits) -> Floats:
    """The part of E_q[log p(x_n | z)] that `count` octets of outputs from octet `first` give, (N,)."""
    latents, observed, rows = decoder.sizes[0], decoder.sizes[1], len(x)
    probability, signed = np.empty(rows * latents), np.empty(rows * latents)
    rare_bits(q, probability, signed)
    weights, biases = vectors(latents * OCTET), vectors(2 * OCTET)
    real, imaginary = vectors(latents * OCTET), vectors(latents * OCTET)
    mode, mode_rest, mean = vectors(rows * OCTET), vectors(rows * OCTET), vectors(rows * OCTET)
    run, integral = vectors(rows * OCTET), vectors(rows * OCTET)
    out = np.zeros(rows)
    for octet in range(first, first + count):
        take_octet(decoder, octet, weights, biases)
        turn = 1.0 / period(weights, biases)
        step = TWO_PI * turn
        for n in range(rows):
            square = take_row(q, n, weights, biases, probability, signed, mode, mode_rest, mean)
            b, d = load_octet(mode, n * OCTET), load_octet(mean, n * OCTET)
            # the node w = 0, with half its weight: the limit is -(E[d**2] / 2 + b' E[d]) / pi
            store(integral, n * OCTET, -0.5 * turn * fma(d, d, fma(2.0 * b, d, square)))
            store(run, n * OCTET, splat_octet(0.0))
        nodes = int(np.ceil(CUTOFF / step))
        for node in range(1, nodes + 1):
            take_node(node, turn, weights, real, imaginary)
            weight = node_weight(node, step)
            for n in range(rows):
                d_real, d_imaginary = departure(n, latents, probability, signed, real, imaginary)
                re, im = along_circle(node, turn, load_octet(mode, n * OCTET), load_octet(mode_rest, n * OCTET))
                value = fma(-im, d_imaginary, fma(re, d_real, d_real))
                store(run, n * OCTET, fma(weight, value, load_octet(run, n * OCTET)))
            if node % FEW_TERMS == 0 or node == nodes:
                for at in range(0, rows * OCTET, OCTET):
                    store(integral, at, load_octet(integral, at) + load_octet(run, at))
                    store(run, at, splat_octet(0.0))
        for n in range(rows):
            for j in range(OCTET):
                i, at = octet * OCTET + j, n * OCTET + j
                if i < observed:
                    on, off = log_sigmoids(mode[at])
                    half = 0.5 * mean[at]
                    run[at] = (on + half if x[n, i] else off - half) + integral[at]
                else:
                    run[at] = 0.0
            out[n] += total(load_octet(run, n * OCTET))
    return out


@inline
def around(
    node_weights: tuple[float, float], row: int, latents: int, row_weight: float, probability: Floats, signed: Floats,
    real: Floats, imaginary: Floats, turn_real: Number, turn_imaginary: Number, prefix: Floats, slopes: Floats,
    weight_sums: Floats,
) -> Number:  # fmt: skip
    """Add one node of one row to d R / d p_k and to the sums of w_n s_k p_k E[sigmoid(m) | z_k departs].

    The product without factor k is the product of those before it, kept on the way up, and of those after it. Returns
    the node's part of E[sigmoid(m)].
    """
    by_softplus, by_sigmoid = node_weights
    r, i = splat_octet(1.0), splat_octet(0.0)
    for k in range(latents):
        store(prefix, 2 * k * OCTET, r)
        store(prefix, (2 * k + 1) * OCTET, i)
        a = probability[row * latents + k] * load_octet(real, k * OCTET)
        b = signed[row * latents + k] * load_octet(imaginary, k * OCTET)
        r, i = fma(-i, b, fma(r, a, r)), fma(r, b, fma(i, a, i))
    r, i = 1.0 + turn_real, turn_imaginary
    for k in range(latents - 1, -1, -1):
        p, s, at = probability[row * latents + k], signed[row * latents + k], (row * latents + k) * OCTET
        before_r, before_i = load_octet(prefix, 2 * k * OCTET), load_octet(prefix, (2 * k + 1) * OCTET)
        other_r, other_i = fma(-before_i, i, before_r * r), fma(before_r, i, before_i * r)
        e, f = load_octet(real, k * OCTET), load_octet(imaginary, k * OCTET)
        f = -f if s < 0.0 else f
        store(slopes, at, fma(by_softplus, fma(-f, other_i, e * other_r), load_octet(slopes, at)))
        departs = fma(f, other_r, fma(e, other_i, other_i))
        store(weight_sums, k * OCTET, fma(row_weight * s * by_sigmoid, departs, load_octet(weight_sums, k * OCTET)))
        a, b = p * e, p * f
        r, i = fma(-i, b, fma(r, a, r)), fma(r, b, fma(i, a, i))
    return by_sigmoid * i


@kernel
def gradient(
    decoder: Decoder, first: int, count: int, q: Recognition, x: Bits, row_weights: Floats
) -> tuple[Floats, Floats]:
    """What `count` octets of outputs from octet `first` give to the gradient of sum_n w_n E_q[log p(x_n | z)].

    Returns: d / d W of these outputs and, last, d / d b, (K + 1, count, 8); and the derivatives of each row's own
    E_q[log p(x_n | z)] by the probability of z_k = 1, (N, K). From sigmoid(m) = 1 / 2 + integral of
    sin(w m) / sinh(pi w), the derivative of softplus.
    """
    latents, observed, rows = decoder.sizes[0], decoder.sizes[1], len(x)
    probability, signed = np.empty(rows * latents), np.empty(rows * latents)
    rare_bits(q, probability, signed)
    weights, biases = vectors(latents * OCTET), vectors(2 * OCTET)
    real, imaginary, prefix = vectors(latents * OCTET), vectors(latents * OCTET), vectors(2 * latents * OCTET)
    mode, mode_rest, mean = vectors(rows * OCTET), vectors(rows * OCTET), vectors(rows * OCTET)
    slopes, on = vectors(rows * latents * OCTET), vectors(rows * OCTET)
    departing, flat = vectors(latents * OCTET), np.zeros((latents + 1, count, OCTET))
    for octet in range(first, first + count):
        take_octet(decoder, octet, weights, biases)
        turn = 1.0 / period(weights, biases)
        step = TWO_PI * turn
        for at in range(0, len(departing), OCTET):
            store(departing, at, splat_octet(0.0))
        for n in range(rows):
            take_row(q, n, weights, biases, probability, signed, mode, mode_rest, mean)
            b, d = load_octet(mode, n * OCTET), load_octet(mean, n * OCTET)
            store(on, n * OCTET, 0.5 + turn * (b + d))
            for k in range(latents):  # the node w = 0, with half its weight
                at, p = (n * latents + k) * OCTET, probability[n * latents + k]
                w = load_octet(weights, k * OCTET)
                w = -w if signed[n * latents + k] < 0.0 else w
                others = b + fma(-p, w, d)
                store(slopes, at, load_octet(slopes, at) - turn * (w * fma(0.5, w, others)))
                part = 0.5 + turn * (others + w)
                weight = row_weights[n] * signed[n * latents + k]
                store(departing, k * OCTET, fma(weight, part, load_octet(departing, k * OCTET)))
        for node in range(1, int(np.ceil(CUTOFF / step)) + 1):
            take_node(node, turn, weights, real, imaginary)
            by_softplus = node_weight(node, step)
            for n in range(rows):
                re, im = along_circle(node, turn, load_octet(mode, n * OCTET), load_octet(mode_rest, n * OCTET))
                part = around(
                    (by_softplus, by_softplus * (node * step)), n, latents, row_weights[n], probability, signed, real,
                    imaginary, re, im, prefix, slopes, departing,
                )  # fmt: skip
                store(on, n * OCTET, load_octet(on, n * OCTET) + part)
        for j in range(min(OCTET, observed - octet * OCTET)):
            for n in range(rows):
                value = 1.0 if x[n, octet * OCTET + j] else 0.0
                excess = row_weights[n] * (value - on[n * OCTET + j])
                flat[latents, octet - first, j] += excess
                for k in range(latents):
                    s, w = signed[n * latents + k], weights[k * OCTET + j]
                    slopes[(n * latents + k) * OCTET + j] += (value - 0.5) * (-w if s < 0.0 else w)
                    flat[k, octet - first, j] += row_weights[n] * s * value + (excess if in_mode(q, n, k) else 0.0)
            for k in range(latents):
                flat[k, octet - first, j] -= departing[k * OCTET + j]
    by_probability = np.empty((rows, latents))
    for n in range(rows):
        for k in range(latents):
            slope = total(load_octet(slopes, (n * latents + k) * OCTET))
            by_probability[n, k] = -slope if in_mode(q, n, k) else slope
    return flat, by_probability
