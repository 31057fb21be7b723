"""More numbers that people put into logarithms, by themselves or through a library; every one can be found."""

from __future__ import annotations

import numpy as np

from ...types import Array
from .common import Family


class ProbabilityFromBelow(Family):
    title = "log max(p, 1e-7)"
    pattern = "log max(p, {}), the lower end alone clipped"
    remedy = "no clipping: compute log p from the logit"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = np.where(bits == 1, self.sigmoid(logits), self.sigmoid(-logits))
        return np.log(np.maximum(p, self.dtype(self.parameter)))

    def delta(self, bits: Array, logits: Array) -> Array:
        p = np.where(bits == 1, self.sigmoid(logits), self.sigmoid(-logits))
        return super().delta(bits, logits) * (p > self.parameter)


class EpsilonInBoth(Family):
    title = "x log(p + 1e-7) + (1 - x) log(1 - p + 1e-7), 1 - p rounded first"
    pattern = "x log(p + {}) + (1 - x) log(1 - p + {}), 1 - p rounded first"
    remedy = "no epsilon: compute log p from the logit"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = self.sigmoid(logits)
        return np.log(np.where(bits == 1, p, 1 - p) + self.dtype(self.parameter))

    def delta(self, bits: Array, logits: Array) -> Array:
        p = np.where(bits == 1, self.sigmoid(logits), self.sigmoid(-logits))
        return super().delta(bits, logits) * (p / (p + self.dtype(self.parameter)))


class ClippedAndShifted(Family):
    title = "probabilities clipped to [1e-7, 1 - 1e-7], and 1e-7 added in the logarithm"
    pattern = "probabilities clipped to [{}, 1 - {}], and {} added in the logarithm"
    remedy = "use the loss that takes logits (in Keras from_logits=True)"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        epsilon = self.dtype(self.parameter)
        p = np.clip(self.sigmoid(logits), epsilon, 1 - epsilon)
        return np.log(np.where(bits == 1, p, 1 - p) + epsilon)

    def delta(self, bits: Array, logits: Array) -> Array:
        epsilon, p = self.parameter, self.sigmoid(logits)
        own = np.where(bits == 1, p, self.sigmoid(-logits))
        return super().delta(bits, logits) * (own / (own + epsilon)) * ((p > epsilon) & (p < 1 - epsilon))


class EpsilonInSum(Family):
    title = "log(sum of exp + 1e-8)"
    pattern = "log(p(x) + {})"
    remedy = "log-sum-exp, without an epsilon"
    lowest = 1e-40
    parameter = 1e-8

    def log_sum_exp(self, table: Array) -> Array:
        return np.logaddexp(super().log_sum_exp(table), self.dtype(np.log(self.parameter)))
