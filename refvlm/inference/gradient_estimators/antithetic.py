"""Pairs of draws from the same uniforms, z by u and its antithetic twin by 1 - u, and exact moments over all pairs.

Bit by bit such a pair is (1, 0), (0, 1), each with probability n = min(phi, 1 - phi), or equal, so that expectations
of products over bits are Kronecker products of 2 x 2 matrices. With values a(z, twin) = prod over k of a_k,

    E (f(z) - f(twin))^2 a = 2 (sum over z of f^2 (A 1) - f (A f)),    A = product of the P_k a_k, symmetric

which takes K 2^K operations instead of 4^K.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ... import bits
from ...activations import sigmoid
from ...types import Bits, Floats
from .landscape import Codes, Landscape


class Pair(NamedTuple):
    """One bit of a pair: 2 x 2 matrices over (z_k, twin's z_k).

    probability: P. signed: P times +1 at (1, 0) and -1 at (0, 1). unequal, equal: P where they differ, and where not.
    size: sigmoid(|logit|), the larger of phi and 1 - phi.
    """

    probability: Floats
    signed: Floats
    unequal: Floats
    equal: Floats
    size: float


def pairs(at: Landscape, u: Floats) -> tuple[Bits, Bits]:
    """Draws and their twins, (N, S, K) each."""
    off = sigmoid(-at.logits[:, None])
    return (u < at.phi[:, None]).astype(np.uint8), (u >= off).astype(np.uint8)


def pair_of(logit: float) -> Pair:
    """The bit of this logit."""
    (n, size), same = sigmoid(np.array([-abs(logit), abs(logit)])), np.tanh(0.5 * abs(logit))
    equal = np.diag([0.0, same] if logit > 0 else [same, 0.0])
    unequal = np.array([[0.0, n], [n, 0.0]])
    return Pair(equal + unequal, np.array([[0.0, -n], [n, 0.0]]), unequal, equal, float(size))


def second_moment(codes: Codes, squares: Sequence[Floats]) -> Floats:
    """E[D^2 d d^T], (K, K), D = f(z) - f(twin): d_k = +-sigmoid(|logit_k|) / 2 where bits differ, 0 where not.

    On the diagonal P times d_k^2 is squares[k] instead.
    """
    f, each = codes.log_w, [pair_of(float(logit)) for logit in codes.at.logits[0]]
    factors, moment = [pair.probability for pair in each], np.empty((len(each), len(each)))
    for k, pair in enumerate(each):
        factors[k] = squares[k]
        moment[k, k] = _of_squared_differences(factors, f)
        factors[k] = 0.5 * pair.size * pair.signed
        for j in range(k):
            factors[j] = 0.5 * each[j].size * each[j].signed
            moment[k, j] = moment[j, k] = _of_squared_differences(factors, f)
            factors[j] = each[j].probability
        factors[k] = pair.probability
    return moment


def _of_squared_differences(factors: Sequence[Floats], f: Floats) -> float:
    """The sum over all pairs of (f(z) - f(twin))^2 times the product of the factors, which is symmetric."""
    sums = bits.fold(np.array([factor.sum(axis=1) for factor in factors]))
    return float(2.0 * (f**2 @ sums - f @ _apply(factors, f)))


def _apply(factors: Sequence[Floats], f: Floats) -> Floats:
    """The sum over twins of the product of the factors times f(twin), (2**K,)."""
    for k, ((a, b), (c, d)) in enumerate(factors):
        low, high = f.reshape(-1, 2, 1 << k).transpose(1, 0, 2)
        f = np.stack([a * low + b * high, c * low + d * high], axis=1).ravel()
    return f
