"""Factorised Bernoulli distributions from their logits: eqs. (1), (4), and the closed forms of eq. (10)."""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Recognition
from .compiling import kernel
from .constants import FEW_TERMS
from .elementary import log_sigmoids, sigmoids


@kernel
def bernoulli(logits: Floats) -> tuple[Floats, Floats]:
    """Probabilities and log-probabilities of the values 0 and 1 for logits (N, K): (N, 2, K) each."""
    rows, latents = logits.shape
    probability, log_probability = np.empty((rows, 2, latents)), np.empty((rows, 2, latents))
    for n in range(rows):
        for k in range(latents):
            probability[n, 1, k], probability[n, 0, k] = sigmoids(logits[n, k])
            log_probability[n, 1, k], log_probability[n, 0, k] = log_sigmoids(logits[n, k])
    return probability, log_probability


@kernel
def log_of_bits(logits: Floats, values: Bits) -> Floats:
    """log of the probability of rows of bits (N, W) under their logits (N, W): (N,), sixteen terms at a time."""
    out = np.zeros(len(logits))
    for n in range(len(logits)):
        for start in range(0, logits.shape[1], FEW_TERMS):
            run = 0.0
            for i in range(start, min(start + FEW_TERMS, logits.shape[1])):
                run += log_sigmoids(logits[n, i] if values[n, i] else -logits[n, i])[0]
            out[n] += run
    return out


@kernel
def prior_and_entropy(q: Recognition, bits: Floats) -> tuple[Floats, Floats]:
    """E_q[log p(z)] for a factorised prior and the entropy E_q[-log q(z)], (N,) each; 0 log 0 = 0.

    What decides whether q has mass is its logarithm: a probability that underflows is still positive.
    """
    rows, _, latents = q.probability.shape
    prior, entropy = np.zeros(rows), np.zeros(rows)
    for n in range(rows):
        for k in range(latents):
            for bit in range(2):
                p = q.probability[n, bit, k]
                if q.log_probability[n, bit, k] > -np.inf:
                    prior[n] += p * bits[bit, k] if bits[bit, k] > -np.inf else -np.inf
                    entropy[n] -= p * q.log_probability[n, bit, k]
    return prior, entropy
