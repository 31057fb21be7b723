"""Mistakes in log p(x|z), eq. (2)."""

from __future__ import annotations

import numpy as np

from ...types import Array
from ..problems import Layers
from .common import Family, Mistake


class MissingSoftplus(Mistake):
    title = "the normaliser log(1 + e^a) left out of log p(x|z)"
    remedy = "log p(x|z) = sum of x_i a_i - log(1 + e^a_i)"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        return (x * logits).sum(axis=-1)

    def x_delta(self, x: Array, logits: Array) -> Array:
        return x + 0 * logits


class MeanOverPixels(Mistake):
    title = "the mean over the observed bits instead of the sum"
    remedy = "sum log p(x_i|z) over i; reduction='sum', not 'mean'"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        return super().log_x_bits(x, logits) / self.dtype(x.shape[-1])

    def x_delta(self, x: Array, logits: Array) -> Array:
        return super().x_delta(x, logits) / self.dtype(x.shape[-1])


class ExchangedBits(Mistake):
    title = "x and 1 - x exchanged"
    remedy = "sigmoid(a_i) is the probability of a one"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        return super().log_x_bits(1 - x, logits)

    def x_delta(self, x: Array, logits: Array) -> Array:
        return super().x_delta(1 - x, logits)


class SigmoidTwice(Mistake):
    title = "the decoder's probabilities taken as logits: sigmoid applied twice"
    remedy = "give the loss that takes logits the decoder's linear output"

    def decode(self, layers: Layers, z: Array) -> Array:
        return self.sigmoid(super().decode(layers, z))

    def output_slope(self, a: Array, layers: Layers) -> Array:
        p = self.sigmoid(a)
        return p * (1 - p) if "decoder" in layers.prefix else super().output_slope(a, layers)


def _sigmoid(logits: Array) -> Array:
    """By its definition, as libraries compute it: 0 where e^-a overflows."""
    return 1 / (1 + np.exp(-logits))


class RoundedProbability(Mistake):
    title = "logarithms of probabilities that were rounded first, log(1 - sigmoid(a))"
    remedy = "compute log p from the logit: -log(1 + e^-a) and -log(1 + e^a)"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = _sigmoid(logits)
        return np.where(bits == 1, np.log(p), np.log(1 - p))


class ZeroTimesLogZero(Mistake):
    title = "x log p + (1 - x) log(1 - p) with 0 log 0 = NaN"
    remedy = "compute log p from the logit, and take 0 log 0 = 0"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = _sigmoid(logits)
        return bits * np.log(p) + (1 - bits) * np.log(1 - p)


class ZeroTimesInfinity(Mistake):
    title = "z a - log(1 + e^a) at infinite logits, 0 times infinity = NaN"
    remedy = "an infinite prior logit is legal: choose log sigmoid(a) or log sigmoid(-a) by the bit"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        return bits * logits - self.softplus(logits)


class ClippedProbability(Family):
    title = "probabilities clipped to [1e-7, 1 - 1e-7]"
    pattern = "probabilities clipped to [{}, 1 - {}]"
    remedy = "no clipping: compute log p from the logit"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = np.clip(self.sigmoid(logits), self.dtype(self.parameter), self.dtype(1 - self.parameter))
        return np.where(bits == 1, np.log(p), np.log(1 - p))

    def delta(self, bits: Array, logits: Array) -> Array:
        p = self.sigmoid(logits)
        return super().delta(bits, logits) * ((p > self.parameter) & (p < 1 - self.parameter))


class ClampedLogarithm(Family):
    title = "logarithms clamped at -100"
    pattern = "logarithms clamped at -{}"
    remedy = "use the loss that takes logits (in PyTorch BCEWithLogits; BCELoss clamps)"
    lowest, highest, parameter = 1.0, 1e4, 100.0

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        return np.maximum(super().log_bernoulli_terms(bits, logits), -self.parameter)


class EpsilonInLogarithm(Family):
    title = "log(p + 1e-8)"
    pattern = "log(p + {})"
    remedy = "no epsilon: compute log p from the logit"
    parameter = 1e-8

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = np.where(bits == 1, self.sigmoid(logits), self.sigmoid(-logits))
        return np.log(p + self.dtype(self.parameter))

    def delta(self, bits: Array, logits: Array) -> Array:
        p = np.where(bits == 1, self.sigmoid(logits), self.sigmoid(-logits))
        return super().delta(bits, logits) * (p / (p + self.dtype(self.parameter)))


class SoftplusCutOff(Mistake):
    title = "softplus(a) taken as a above 20"
    remedy = "use logaddexp(0, a), or a softplus without a threshold"

    def softplus(self, a: Array) -> Array:
        return np.where(a > 20, a, super().softplus(a))
