"""A factorised q and a linear decoder: q's likeliest z, how far its bits depart from it, and the logits' means.

No BLAS, and no sum along the last axis: a row has the same bits everywhere, in any batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..enumeration.problem import Recognition
from ..model.mlp import MLP
from ..types import Bits, Floats


class MeanLogits(NamedTuple):
    """The logits of a linear decoder under q, (N, L) each.

    mode: at q's likeliest z. shift: E[logit] - mode. spread: the sum over k of p_k |W_k|, p_k the probability of bit
    k's rarer value.
    """

    mode: Floats
    shift: Floats
    spread: Floats

    @property
    def mean(self) -> Floats:
        """E[logit], (N, L)."""
        return self.mode + self.shift


def mode_of(q: Recognition) -> Bits:
    """q's likeliest z, (N, K): zeros where both values are as likely."""
    return (q.log_probability[:, 1] > q.log_probability[:, 0]).astype(np.uint8)


def rare_of(q: Recognition) -> Floats:
    """The probability of each bit's rarer value, (N, K)."""
    return np.where(mode_of(q) == 1, q.probability[:, 0], q.probability[:, 1])


def departures_of(q: Recognition) -> Floats:
    """phi - q's likeliest z, (N, K), precise where they are close."""
    rare = rare_of(q)
    return np.where(mode_of(q) == 1, -rare, rare)


def mean_logits(decoder: MLP, q: Recognition) -> MeanLogits:
    """Of every output for every row."""
    weights, biases = decoder.weights[0], decoder.biases[0]
    on, rare, departures = mode_of(q) == 1, rare_of(q), departures_of(q)
    mode = np.tile(biases, (len(rare), 1))
    shift, spread = np.zeros_like(mode), np.zeros_like(mode)
    for k in range(len(weights)):
        mode += np.where(on[:, k, None], weights[k], 0.0)
        shift += departures[:, k, None] * weights[k]
        spread += rare[:, k, None] * np.abs(weights[k])
    return MeanLogits(mode, shift, spread)
