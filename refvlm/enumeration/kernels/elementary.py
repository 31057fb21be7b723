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

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compiling import inline

__all__ = ["exp", "exp_scaled", "fma", "log", "log1p", "power_of_two", "sigmoid", "tanh"]

LN2 = 0.6931471805599453
LN2_REST = 2.3190468138462996e-17
"""ln 2 = LN2 + LN2_REST to 107 bits."""
LOG2_E = 1.4426950408889634
MAGIC = 6755399441055744.0
"""1.5 * 2**52: added to a float below 2**51 it leaves the nearest integer in the low bits."""
LOWEST = -708.0
"""Below it exp is 0 here: 2**-1021, far under anything that is ever added to it."""


@intrinsic
def fma(typing_context: Any, x: Any, y: Any, z: Any) -> Any:
    """x * y + z with one rounding."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        double = ir.DoubleType()
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(double, [double, double, double]), "llvm.fma.f64"
        )
        return builder.call(function, arguments)

    return types.float64(types.float64, types.float64, types.float64), generate


@intrinsic
def _power_of_magic(typing_context: Any, k: Any) -> Any:
    """2**n from the float n + MAGIC, -1022 <= n <= 1023: the low bits become the exponent field."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        bits = builder.bitcast(arguments[0], word)
        bits = builder.shl(builder.add(bits, ir.Constant(word, 1023)), ir.Constant(word, 52))
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(types.float64), generate


@intrinsic
def _bits(typing_context: Any, x: Any) -> Any:
    """The 64 bits of a float as an int64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.int64(types.float64), generate


@intrinsic
def _float(typing_context: Any, bits: Any) -> Any:
    """The float with these 64 bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.int64), generate


@inline
def power_of_two(n: float) -> float:
    """2**n for an integer-valued n <= 1023; 0 where n < -1022."""
    return _power_of_magic(max(n, -1022.0) + MAGIC) if n >= -1022.0 else 0.0


@inline
def exp(v: float) -> float:
    """exp(v) for v <= 700; 0 below -708, so exp(-inf) = 0."""
    w = v if v > LOWEST else LOWEST
    shifted = fma(w, LOG2_E, MAGIC)
    k = shifted - MAGIC
    r = fma(-k, LN2_REST, fma(-k, LN2, w))
    q = 2.510038549551032e-08
    q = fma(q, r, 2.7620088445409746e-07)
    q = fma(q, r, 2.7557268459997064e-06)
    q = fma(q, r, 2.4801521295954376e-05)
    q = fma(q, r, 0.00019841269863053618)
    q = fma(q, r, 0.0013888888917213717)
    q = fma(q, r, 0.008333333333330062)
    q = fma(q, r, 0.04166666666662413)
    q = fma(q, r, 0.16666666666666669)
    q = fma(q, r, 0.5000000000000001)
    value = (1.0 + fma(r * r, q, r)) * _power_of_magic(shifted)
    return value if v >= LOWEST else 0.0


@inline
def exp_scaled(v: float, n: float) -> float:
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
def log(x: float, n: float) -> float:
    """log(x * 2**n) for a positive normal x and an integer-valued n."""
    bits = _bits(x)
    exponent = (bits >> 52) - 1023
    m = _float((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000)
    if m > 1.4142135623730951:
        m = 0.5 * m
        exponent += 1
    f = m - 1.0
    s = f / (2.0 + f)
    w = s * s
    k = n + float(exponent)
    return fma(k, LN2, fma(k, LN2_REST, fma(-s, fma(-w, _atanh_rest(w), f), f)))


@inline
def sigmoid(a: float) -> float:
    """1 / (1 + exp(-a)) without cancellation on either side."""
    y = exp(-abs(a))
    return (1.0 if a >= 0.0 else y) / (1.0 + y)


@inline
def tanh(a: float) -> float:
    """tanh(a), exact in sign and symmetry."""
    e = exp(-2.0 * abs(a))
    t = (1.0 - e) / (1.0 + e)
    return t if a >= 0.0 else -t
