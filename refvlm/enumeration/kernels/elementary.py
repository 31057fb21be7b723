"""exp, log, log1p, the logistic function and tanh from adds, multiplies, fused multiply-adds and divisions.

Why not the library's: the bits of `math.exp` depend on the C library and its CPU variants, NumPy's on the
vector units it finds, and neither becomes vector code inside a Numba loop. These have the same bits wherever
there is a fused multiply-add, and errors that can be stated.

With u = 2**-53 and exact arithmetic on the right:

    exp      v in [-708, 0]   v = k ln 2 + r, |r| <= ln(2)/2, degree 11 on r     relative error <= 2 u
    log1p    y in [0, 1]      y - s (y - s**2 P(s**2)), s = y / (2 + y)          relative error <= 3 u
    log      positive normal  m 2**e, sqrt(1/2) <= m < sqrt(2), the same P       absolute error <= 2 u max(1, |log|)
    sigmoid                   1 / (1 + exp(-|a|)) or its complement, no 1 - p    relative error <= 5 u
    tanh                      (1 - e) / (1 + e), e = exp(-2 |a|)                 absolute error <= 4 u

P is 2 atanh(s) = 2 s + s**3 P(s**2) on |s| <= 1/3. Coefficients: interpolation at Chebyshev nodes in 60
digits, rounded; the truncation is below 0.15 u (exp) and 0.03 u (atanh). The rest is rounding, counted
operation by operation: exp ends in 1 + t with |t| < 0.42 (one u, plus 0.42 times t's own 2 u, plus the
reduction's); log1p's correction term is at most 0.44 of the result. tests/test_elementary.py holds each
bound against 50-digit arithmetic, dense near every end of its range.
"""

from __future__ import annotations

from typing import Any

from .compiling import inline
from .lanes import absolute, exponent, fma, mantissa, nearest, power_of_magic, where_less

Number = Any
"""A float, or a vector of floats (`lanes.py`)."""

LN2 = 0.6931471805599453
LN2_REST = 2.3190468138462996e-17
"""ln 2 = LN2 + LN2_REST to 107 bits."""
LOG2_E = 1.4426950408889634
MAGIC = 6755399441055744.0
"""1.5 * 2**52: added to a float below 2**51 it leaves the nearest integer in the low bits."""
LOWEST = -708.0
"""Below it exp is 0 here: 2**-1021, far under anything that is ever added to it."""
IMPOSSIBLE = -1e30
"""A logarithm no possible code can have: logits add up to at most 1e18."""


@inline
def larger(a: Number, b: Number) -> Number:
    """max(a, b)."""
    return where_less(a, b, b, a)


@inline
def power_of_two(n: Number) -> Number:
    """2**n for an integer-valued n <= 1023; 0 where n < -1022."""
    return where_less(n, -1022.0, 0.0, power_of_magic(larger(n, -1022.0) + MAGIC))


@inline
def exp_parts(v: Number, rest: Number) -> tuple[Number, Number]:
    """m and n + MAGIC with exp(v + rest) = m * 2**n, sqrt(1/2) <= m <= sqrt(2), for |v| <= 2**40 and a small rest."""
    shifted = fma(v, LOG2_E, MAGIC)
    k = shifted - MAGIC
    r = fma(-k, LN2_REST, fma(-k, LN2, v)) + rest
    q = fma(r, 2.510038549551032e-08, 2.7620088445409746e-07)
    q = fma(q, r, 2.7557268459997064e-06)
    q = fma(q, r, 2.4801521295954376e-05)
    q = fma(q, r, 0.00019841269863053618)
    q = fma(q, r, 0.0013888888917213717)
    q = fma(q, r, 0.008333333333330062)
    q = fma(q, r, 0.04166666666662413)
    q = fma(q, r, 0.16666666666666669)
    q = fma(q, r, 0.5000000000000001)
    return 1.0 + fma(r * r, q, r), shifted


@inline
def exp(v: Number) -> Number:
    """exp(v) for v <= 700; 0 below -708, so exp(-inf) = 0."""
    m, shifted = exp_parts(larger(v, LOWEST), 0.0)
    return where_less(v, LOWEST, 0.0, m * power_of_magic(shifted))


@inline
def exp_of_sum(v: Number, rest: Number) -> Number:
    """exp(v + rest) for |v| <= 700 and |rest| <= 2**-40 |v|."""
    m, shifted = exp_parts(v, rest)
    return m * power_of_magic(shifted)


@inline
def exp_unbounded(v: Number) -> tuple[Number, Number]:
    """m and n with exp(v) = m * 2**n for any v <= 0, to a relative 4 u (1 + |v|); below IMPOSSIBLE, as there."""
    w = larger(v, IMPOSSIBLE)
    n = nearest(w * LOG2_E)
    r = fma(-n, LN2_REST, fma(-n, LN2, w))
    m, shifted = exp_parts(where_less(absolute(r), 0.5, r, 0.0), 0.0)  # where |v| > 2**50 only n has meaning
    return m * power_of_magic(shifted), n


@inline
def exp_scaled(v: Number, n: Number) -> Number:
    """exp(v) * 2**-n for an integer-valued n with v - n ln 2 <= 700: no overflow, and exact in n."""
    return exp(fma(-n, LN2_REST, fma(-n, LN2, v)))


@inline
def _atanh_rest(w: float) -> float:
    """P of 2 atanh(s) = 2 s + s**3 P(s**2), for w = s**2 <= 1/9."""
    p = 0.15631534707431224
    p = fma(p, w, 0.07491639460673266)
    p = fma(p, w, 0.10845291032779812)
    p = fma(p, w, 0.11734265179376593)
    p = fma(p, w, 0.13335179661515711)
    p = fma(p, w, 0.15384543917753166)
    p = fma(p, w, 0.1818181989926796)
    p = fma(p, w, 0.22222222198216113)
    p = fma(p, w, 0.28571428571600266)
    p = fma(p, w, 0.3999999999999952)
    return fma(p, w, 0.6666666666666666)


@inline
def log1p(y: float) -> float:
    """log(1 + y) for 0 <= y <= 1. As 2 s = y - s y, the leading term carries no rounding."""
    s = y / (2.0 + y)
    w = s * s
    return fma(-s, fma(-w, _atanh_rest(w), y), y)


@inline
def log(x: Number, n: Number) -> Number:
    """log(x * 2**n) for a positive normal x and an integer-valued n."""
    m, k = mantissa(x), exponent(x) + n
    k = where_less(1.4142135623730951, m, k + 1.0, k)
    m = where_less(1.4142135623730951, m, 0.5 * m, m)
    f = m - 1.0
    s = f / (2.0 + f)
    w = s * s
    return fma(k, LN2, fma(k, LN2_REST, fma(-s, fma(-w, _atanh_rest(w), f), f)))


@inline
def sigmoids(a: Number) -> tuple[Number, Number]:
    """1 / (1 + exp(-a)) and 1 / (1 + exp(a)), neither as 1 minus the other."""
    y = exp(-absolute(a))
    likely = 1.0 / (1.0 + y)
    rare = y * likely
    return where_less(a, 0.0, rare, likely), where_less(a, 0.0, likely, rare)


@inline
def log_sigmoids(a: Number) -> tuple[Number, Number]:
    """log sigmoid(a) and log sigmoid(-a), to a relative 7 u."""
    rest = log1p(exp(-absolute(a)))
    return -larger(-a, 0.0) - rest, -larger(a, 0.0) - rest


@inline
def sigmoid(a: Number) -> Number:
    """1 / (1 + exp(-a))."""
    return sigmoids(a)[0]


@inline
def tanh(a: Number) -> Number:
    """tanh(a), exact in sign and symmetry."""
    e = exp(-2.0 * absolute(a))
    t = (1.0 - e) / (1.0 + e)
    return where_less(a, 0.0, -t, t)
