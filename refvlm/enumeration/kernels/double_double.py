"""Double-double arithmetic, for networks whose weights are so large that rounding in float64 would show.

A number is an unevaluated sum hi + lo, |lo| <= u |hi|, u = 2**-53, so about 106 bits (Dekker 1971; Hida, Li, Bailey
2001). Relative errors of one operation, in units of u**2: sum and product below 8, division below 16. exp reduces to
|r| <= ln(2) / 2, halves r nine times, sums a series to degree 9 and squares back as expm1; each of the nine
squarings at most doubles an error of a few u**2, so exp is good to 2**-90, and with it tanh and sigmoid, absolutely.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .compiling import inline
from .elementary import LN2, LN2_REST, LOG2_E, LOWEST, MAGIC, fma, power_of_two

__all__ = ["activate", "add", "dense", "two_sum"]

Floats = NDArray[np.float64]

LN2_LAST = 5.707708438416212e-34
"""ln 2 = LN2 + LN2_REST + LN2_LAST to 160 bits."""


@inline
def two_sum(a: float, b: float) -> tuple[float, float]:
    """a + b as the rounded sum and its exact rounding error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@inline
def add(a: float, a_rest: float, b: float, b_rest: float) -> tuple[float, float]:
    s, e = two_sum(a, b)
    t, f = two_sum(a_rest, b_rest)
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


@inline
def multiply(a: float, a_rest: float, b: float, b_rest: float) -> tuple[float, float]:
    p = a * b
    return two_sum(p, fma(a, b_rest, fma(a_rest, b, fma(a, b, -p))))


@inline
def divide(a: float, a_rest: float, b: float, b_rest: float) -> tuple[float, float]:
    q = a / b
    p, p_rest = multiply(b, b_rest, q, 0.0)
    r, r_rest = add(a, a_rest, -p, -p_rest)
    return two_sum(q, (r + r_rest) / b)


@inline
def exp(v: float, v_rest: float) -> tuple[float, float]:
    """exp of v + v_rest <= 0; 0 below -708."""
    w = v if v > LOWEST else LOWEST
    w_rest = v_rest if v > LOWEST else 0.0
    k = fma(w, LOG2_E, MAGIC) - MAGIC
    p, p_rest = multiply(k, 0.0, LN2, LN2_REST)
    r, r_rest = add(w, w_rest, -p, -p_rest)
    r, r_rest = add(r, r_rest, -k * LN2_LAST, 0.0)
    r, r_rest = r * 0.001953125, r_rest * 0.001953125  # 2**-9, exact
    # expm1(r) = r (1 + r / 2 (1 + r / 3 (...))), the innermost terms far below the last bit in one float
    s, s_rest = 1.0 + r / 9.0 * (1.0 + r / 10.0), 0.0
    for degree in range(8, 1, -1):
        s, s_rest = multiply(s, s_rest, r, r_rest)
        s, s_rest = divide(s, s_rest, float(degree), 0.0)
        s, s_rest = add(s, s_rest, 1.0, 0.0)
    s, s_rest = multiply(s, s_rest, r, r_rest)
    for _ in range(9):
        square, square_rest = multiply(s, s_rest, s, s_rest)
        s, s_rest = add(2.0 * s, 2.0 * s_rest, square, square_rest)
    s, s_rest = add(s, s_rest, 1.0, 0.0)
    scale = power_of_two(k) if v > LOWEST else 0.0
    return s * scale, s_rest * scale


@inline
def activate(units: Floats, rests: Floats, activation: int, lanes: int) -> None:
    """The activation, in place on value and rest."""
    for q in range(len(units)):
        for j in range(lanes):
            a, a_rest = units[q, j], rests[q, j]
            if activation == 1:
                units[q, j], rests[q, j] = (a, a_rest) if a > 0.0 else (0.0, 0.0)
            else:
                sign, factor = (1.0 if a >= 0.0 else -1.0), (2.0 if activation == 0 else 1.0)
                e, e_rest = exp(-factor * sign * a, -factor * sign * a_rest)
                below, below_rest = add(1.0, 0.0, e, e_rest)
                if activation == 0:
                    above, above_rest = add(1.0, 0.0, -e, -e_rest)
                    t, t_rest = divide(above, above_rest, below, below_rest)
                    units[q, j], rests[q, j] = sign * t, sign * t_rest
                elif a >= 0.0:
                    units[q, j], rests[q, j] = divide(1.0, 0.0, below, below_rest)
                else:
                    units[q, j], rests[q, j] = divide(e, e_rest, below, below_rest)


@inline
def dense(
    weights: Floats,
    biases: Floats,
    inputs: Floats,
    input_rests: Floats,
    outputs: Floats,
    output_rests: Floats,
    lanes: int,
) -> None:
    """biases[i] + sum over q of weights[q, i] inputs[q], the rests summed apart: error n**2 u**2 sum |w h|."""
    fan_in, fan_out = weights.shape
    for i in range(fan_out):
        output, output_rest = outputs[i], output_rests[i]
        for j in range(lanes):
            output[j], output_rest[j] = biases[i], 0.0
        for q in range(fan_in):
            w, h, h_rest = weights[q, i], inputs[q], input_rests[q]
            for j in range(lanes):
                p = w * h[j]
                s, e = two_sum(output[j], p)
                output[j] = s
                output_rest[j] += e + fma(w, h_rest[j], fma(w, h[j], -p))
        for j in range(lanes):
            output[j], output_rest[j] = two_sum(output[j], output_rest[j])
