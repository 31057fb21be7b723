"""Double-double arithmetic, for networks whose weights are so large that rounding in float64 would show.

A number is an unevaluated sum hi + lo, |lo| <= u |hi|, u = 2**-53, so about 106 bits (Dekker 1971; Hida, Li, Bailey
2001). Relative errors of one operation, in units of u**2: sum and product below 8, division below 16. exp reduces to
|r| <= ln(2) / 2, halves r nine times, sums a series to degree 9 and squares back as expm1; each of the nine
squarings at most doubles an error of a few u**2, so exp is good to 2**-90, and with it tanh and sigmoid, absolutely.
"""

from __future__ import annotations

from .compiling import inline
from .elementary import LN2, LN2_REST, LOG2_E, LOWEST, MAGIC, Number, larger, power_of_two
from .elementary import log1p as rounded_log1p
from .lanes import fma, where_less

LN2_LAST = 5.707708438416212e-34
"""ln 2 = LN2 + LN2_REST + LN2_LAST to 160 bits."""


@inline
def two_sum(a: Number, b: Number) -> tuple[Number, Number]:
    """a + b as the rounded sum and its exact rounding error (Knuth)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@inline
def add(a: Number, a_rest: Number, b: Number, b_rest: Number) -> tuple[Number, Number]:
    s, e = two_sum(a, b)
    t, f = two_sum(a_rest, b_rest)
    s, e = two_sum(s, e + t)
    return two_sum(s, e + f)


@inline
def multiply(a: Number, a_rest: Number, b: Number, b_rest: Number) -> tuple[Number, Number]:
    p = a * b
    return two_sum(p, fma(a, b_rest, fma(a_rest, b, fma(a, b, -p))))


@inline
def divide(a: Number, a_rest: Number, b: Number, b_rest: Number) -> tuple[Number, Number]:
    q = a / b
    p, p_rest = multiply(b, b_rest, q, 0.0)
    r, r_rest = add(a, a_rest, -p, -p_rest)
    return two_sum(q, (r + r_rest) / b)


@inline
def choose(a: Number, b: Number, x: Number, x_rest: Number, y: Number, y_rest: Number) -> tuple[Number, Number]:
    """x where a < b, else y."""
    return where_less(a, b, x, y), where_less(a, b, x_rest, y_rest)


@inline
def exp(v: Number, v_rest: Number) -> tuple[Number, Number]:
    """exp of v + v_rest <= 0; 0 below -708."""
    w = larger(v, LOWEST)
    w_rest = where_less(v, LOWEST, 0.0, v_rest)
    k = fma(w, LOG2_E, MAGIC) - MAGIC
    p, p_rest = multiply(k, 0.0, LN2, LN2_REST)
    r, r_rest = add(w, w_rest, -p, -p_rest)
    r, r_rest = add(r, r_rest, -k * LN2_LAST, 0.0)
    r, r_rest = r * 0.001953125, r_rest * 0.001953125  # 2**-9, exact
    # expm1(r) = r (1 + r / 2 (1 + r / 3 (...))), the innermost terms far below the last bit in one float
    s = 1.0 + r / 9.0 * (1.0 + r / 10.0)
    s_rest = 0.0 * s
    for degree in range(8, 1, -1):
        s, s_rest = multiply(s, s_rest, r, r_rest)
        s, s_rest = divide(s, s_rest, float(degree), 0.0)
        s, s_rest = add(s, s_rest, 1.0, 0.0)
    s, s_rest = multiply(s, s_rest, r, r_rest)
    for _ in range(9):
        square, square_rest = multiply(s, s_rest, s, s_rest)
        s, s_rest = add(2.0 * s, 2.0 * s_rest, square, square_rest)
    s, s_rest = add(s, s_rest, 1.0, 0.0)
    scale = where_less(v, LOWEST, 0.0, power_of_two(k))
    return s * scale, s_rest * scale


@inline
def log1p(y: Number, y_rest: Number) -> tuple[Number, Number]:
    """log(1 + y + y_rest) for 0 <= y <= 1, good to 2**-89 absolutely: a Newton step from the rounded one."""
    x, x_rest = add(y, y_rest, 1.0, 0.0)
    guess = rounded_log1p(y)
    e, e_rest = exp(-guess, 0.0 * guess)
    p, p_rest = multiply(x, x_rest, e, e_rest)
    t, t_rest = add(p, p_rest, -1.0, 0.0)
    return add(guess, 0.0, t, t_rest)
