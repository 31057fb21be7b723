"""Bounds by M samples as what they are: a sum over all multisets of M codes, in as many digits as mpmath is set to."""

import itertools
import math
from collections import Counter

import mpmath as mp


def iwae(log_weights, log_q, samples):
    """E log (w_1 + ... + w_M) / M from log w and log q of every code; -inf where q allows a weight of 0."""
    q = [mp.exp(value) for value in log_q]
    if any(p > 0 and mp.isinf(value) for p, value in zip(q, log_weights, strict=True)):
        return mp.mpf("-inf")
    codes = [code for code, p in enumerate(q) if p > 0]
    weights = {code: mp.exp(log_weights[code]) for code in codes}
    total = mp.mpf(0)
    for chosen in itertools.combinations_with_replacement(codes, samples):
        counts = Counter(chosen)
        probability = mp.mpf(math.factorial(samples))
        for code, count in counts.items():
            probability *= q[code] ** count / math.factorial(count)
        total += probability * mp.log(mp.fsum(count * weights[code] for code, count in counts.items()) / samples)
    return total


def kappa(log_weights, log_q, s):
    """log E_q w^s and its first two derivatives, over the codes that q allows."""
    pairs = [(mp.exp(b), a) for a, b in zip(log_weights, log_q, strict=True) if not mp.isinf(b)]
    terms = [p * mp.exp(s * a) for p, a in pairs]
    whole = mp.fsum(terms)
    mean = mp.fsum(t * a for t, (_, a) in zip(terms, pairs, strict=True)) / whole
    return mp.log(whole), mean, mp.fsum(t * (a - mean) ** 2 for t, (_, a) in zip(terms, pairs, strict=True)) / whole
