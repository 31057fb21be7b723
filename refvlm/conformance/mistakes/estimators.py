"""Mistakes in bounds of several draws, and in draws of gradients through bits."""

from __future__ import annotations

import numpy as np

from ...types import Array
from .common import Mistake


class MeanOfLogWeights(Mistake):
    title = "the mean of the log weights instead of the log of their mean"
    remedy = "IWAE-M = E log of the mean of M weights: average before the logarithm"

    def log_mean_exp(self, f: Array) -> Array:
        return f.mean(axis=-1)


class SumOfWeights(Mistake):
    title = "the weights added, not averaged: log M too much"
    remedy = "subtract log M"

    def log_mean_exp(self, f: Array) -> Array:
        return super().log_mean_exp(f) + np.log(self.dtype(f.shape[-1]))


class UndetachedWeights(Mistake):
    title = "the normalised weights not detached: sum of u log w differentiated through u as well"
    remedy = "the gradient of log sum w is sum of u d log w with u held fixed: stop the gradient at u"

    def model_shares(self, f: Array) -> Array:
        u = self.normalised(f)
        return u * (1 + f - (u * f).sum(axis=-1, keepdims=True))


class BaselineWithItself(Mistake):
    title = "a baseline that contains the draw itself: the mean of all draws"
    remedy = "the baseline of a draw is the mean of the others, or the gradient shrinks by the factor 1 - 1 / M"

    def less_the_others(self, f: Array) -> Array:
        return (f - f.mean(axis=1, keepdims=True)) / self.dtype(f.shape[1])


class VimcoOverTheBatch(Mistake):
    title = "VIMCO's signal made from log weights that are summed over the batch first"
    remedy = "each row has its own M weights, its own bound and its own signals"

    def vimco_signal(self, f: Array) -> Array:
        return np.broadcast_to(super().vimco_signal(f.sum(axis=0, keepdims=True)), f.shape)


class VimcoWithoutWeights(Mistake):
    title = "VIMCO without the gradient of log w in q itself"
    remedy = "log w contains - log q: subtract the normalised weights from the signals"

    def draw_vimco(self) -> Array:
        z = self.drawn(self.inputs["draw_uniforms"])
        return self.scored(self.vimco_signal(self.weights_of(z)), z)


class TwinsExchanged(Mistake):
    title = "z and its antithetic twin exchanged: the sign of ARM and DisARM"
    remedy = "where u < phi alone fires, the difference f(z) - f(twin) pushes the logit up"

    def pairs(self) -> tuple[Array, Array, Array]:
        z, twin, difference = super().pairs()
        return z, twin, -difference


class DisarmWithoutFactor(Mistake):
    title = "DisARM without the factor sigmoid(|logit|)"
    remedy = "each bit's entry is (f(z) - f(twin)) / 2 (z_k - twin_k) sigmoid(|logit_k|)"

    def disarm_factor(self) -> Array:
        return np.ones_like(super().disarm_factor())


class ThroughAsIdentity(Mistake):
    title = "straight-through without phi (1 - phi): the gradient in the probability taken for that in the logit"
    remedy = "multiply by d phi / d logit = phi (1 - phi)"

    def through_slope(self, logits: Array) -> Array:
        return np.ones_like(logits)
