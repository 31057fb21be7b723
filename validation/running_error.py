"""Numbers of sixty digits that know how inexact a plain floating-point program's version of them would be.

A `Number` is a value v (mpmath, sixty digits) and a running error e >= 0, in units of the unit roundoff u: what a
program that rounds every operation once, in any order of its sums, gets wrong is at most e u, to first order in u.
The rules are the textbook's (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., sections 2.2, 3.3, 4.2):

    a + b:            e = e_a + e_b + |a + b|
    a b:              e = |a| e_b + |b| e_a + |a b|
    sum of n terms:   e = sum of e_i + n sum of |v_i|
    f(a):             e = |f'(a)| e_a + ELEMENTARY |f(a)|

So e is the value's condition times what was rounded: the tolerance that a conformance vector states comes from it,
`SAFETY` e u, and is small where the value is well determined and large where no program can do better.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, NamedTuple

from mpmath import mp, mpf

mp.dps = 60

ELEMENTARY = 4.0
"""Units of relative error granted to exp, log, tanh and their like: vectorised libraries are not within one half."""

SAFETY = 4.0
"""For what is of second order, and for programs that take a few operations more than the plain one."""

ZERO, ONE = mpf(0), mpf(1)


class Number(NamedTuple):
    """A value and its running error in units of the unit roundoff."""

    v: Any
    e: float

    def __add__(self, other: Number) -> Number:  # type: ignore[override]
        v = self.v + other.v
        return Number(v, self.e + other.e + size(v))

    def __sub__(self, other: Number) -> Number:
        return self + -other

    def __mul__(self, other: Number) -> Number:  # type: ignore[override]
        v = self.v * other.v
        return Number(v, size(self.v) * other.e + size(other.v) * self.e + size(v))

    def __neg__(self) -> Number:
        return Number(-self.v, self.e)


def size(v: Any) -> float:
    """|v| as a float; of an infinity 0, since nothing is rounded there."""
    return 0.0 if mp.isinf(v) else float(abs(v))


def exact(value: Any) -> Number:
    """A number that needs no rounding."""
    return Number(mpf(value), 0.0)


def total(numbers: Iterable[Number]) -> Number:
    """Their sum, added in any order."""
    terms = list(numbers)
    if len(terms) == 1:
        return terms[0]
    error = math.fsum(a.e for a in terms) + len(terms) * math.fsum(size(a.v) for a in terms)
    return Number(mp.fsum(a.v for a in terms), error)


def weighted(weights: Iterable[Number], values: Iterable[Number]) -> Number:
    """sum of w_i v_i with 0 times infinity = 0."""
    return total(w * v if w.v != 0 or not mp.isinf(v.v) else exact(0) for w, v in zip(weights, values, strict=True))


def nearest(v: Any) -> float:
    """The double nearest to v, rounded once."""
    if mp.isinf(v):
        return float(v)
    sign, mantissa, exponent, _ = v._mpf_
    scaled = Fraction(int(mantissa)) * Fraction(2) ** exponent
    return float(-scaled if sign else scaled)


# The functions of the model --------------------------------------------------------------------------------------


def logistic(a: Any) -> Any:
    """1 / (1 + exp(-a)), without cancellation."""
    if mp.isinf(a):
        return ONE if a > 0 else ZERO
    small = mp.exp(-abs(a))
    return 1 / (1 + small) if a >= 0 else small / (1 + small)


def sigmoid(a: Number) -> Number:
    """The probability of a one, with an absolute error: programs take 1 - sigmoid(a) for that of a zero."""
    s = logistic(a.v)
    slope = s * logistic(-a.v)
    return Number(s, size(slope) * a.e + (0.0 if mp.isinf(a.v) else ELEMENTARY))


def softplus(a: Any) -> Any:
    """log(1 + exp(a)), of mpf's."""
    return (a if a > 0 else ZERO) + mp.log1p(mp.exp(-abs(a)))


def log_bernoulli(bit: int, a: Number) -> Number:
    """bit * a - softplus(a): programs may take it so, however small the difference is."""
    if mp.isinf(a.v):
        return exact(0) if (a.v > 0) == bool(bit) else exact(-mp.inf)
    v = -softplus(-a.v if bit else a.v)
    slope = logistic(-a.v) if bit else logistic(a.v)
    return Number(v, size(slope) * a.e + ELEMENTARY * ((size(a.v) if bit else 0.0) + size(softplus(a.v))))


def tanh(a: Number) -> Number:
    t = mp.tanh(a.v)
    return Number(t, size(1 - t * t) * a.e + ELEMENTARY * size(t))


def relu(a: Number) -> Number:
    return a if a.v > 0 else exact(0)


def hidden_sigmoid(a: Number) -> Number:
    s = logistic(a.v)
    return Number(s, size(s * (1 - s)) * a.e + ELEMENTARY * size(s))


ACTIVATIONS = {"tanh": tanh, "relu": relu, "sigmoid": hidden_sigmoid}


def activation_slope(name: str, h: Number) -> Number:
    """The derivative in terms of the activation's own value h; relu's at 0 is 0."""
    one = exact(1)
    if name == "tanh":
        return (one - h) * (one + h)
    if name == "sigmoid":
        return h * (one - h)
    return exact(1 if h.v > 0 else 0)


def log_sum_exp(numbers: list[Number]) -> Number:
    """log of the sum of exp: the errors come in averaged by the terms' weights, and the sum's own on top."""
    largest = max(a.v for a in numbers)
    weights = [mp.exp(a.v - largest) for a in numbers]
    whole = mp.fsum(weights)
    v = largest + mp.log(whole)
    carried = math.fsum(size(weight / whole) * a.e for weight, a in zip(weights, numbers, strict=True))
    return Number(v, carried + size(largest) + len(numbers) + ELEMENTARY * (1 + size(v)))


def exp_difference(a: Number, b: Number) -> Number:
    """exp(a - b), as a posterior's entries are made of."""
    if mp.isinf(a.v):
        return exact(0)
    v = mp.exp(a.v - b.v)
    return Number(v, size(v) * (a.e + b.e + size(a.v) + size(b.v) + ELEMENTARY))
