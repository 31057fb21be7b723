"""Mistakes in derivatives whose function is right."""

from __future__ import annotations

import numpy as np

from ...types import Array
from ..equations import Named
from .common import Mistake


class PriorMassOnly(Mistake):
    title = "the prior's gradient without - beta"
    remedy = "d log p(z) / d logit_k = z_k - beta_k"

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        return {name: np.where(np.isinf(self.top), 0, weights @ z) for name in super().prior_gradient(z, weights)}


class GradientInProbabilities(Mistake):
    title = "the prior's gradient with respect to beta instead of its logits"
    remedy = "parameters are logits: multiply by beta (1 - beta)"

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        slope = self.sigmoid(self.top) * self.sigmoid(-self.top)
        return {
            name: np.where(slope > 0, value / slope, 0) for name, value in super().prior_gradient(z, weights).items()
        }


class PriorsExpectation(Mistake):
    title = "the gradient averaged under the prior instead of the posterior"
    remedy = "Fisher's identity: weight d log p(x, z) by p(z|x)"

    def grad_log_marginal(self) -> Named:
        prior = np.exp(self.prior(0, self.codes(self.latents(0))))
        return self.joint_gradient(0, self.x, np.tile(prior, (len(self.x), 1)))


class ScoreSign(Mistake):
    title = "the score term with the wrong sign"
    remedy = "d VLB / d phi = E_q[(log p(x, z) - log q(z)) d log q(z)], uphill"

    def grad_vlb_posterior(self) -> Named:
        return {name: -value for name, value in super().grad_vlb_posterior().items()}


class DetachedZ(Mistake):
    title = "z held fixed: the gradient through E_q[log p(x, z)] left out"
    remedy = "the draws depend on phi: multiply the score by log p(x, z) - log q(z)"

    def learning_signal(self, log_q: Array) -> Array:
        return -log_q


class EntropyGradientMissing(Mistake):
    title = "- log q(z) left out of what multiplies the score"
    remedy = "d VLB / d phi = E_q[(log p(x, z) - log q(z)) d log q(z)]"

    def learning_signal(self, log_q: Array) -> Array:
        return super().learning_signal(log_q) + log_q


class RowsSignalShared(Mistake):
    title = "the learning signal summed over the batch before it meets the score"
    remedy = "each row's score goes with its own log p(x, z) - log q(z)"

    def learning_signal(self, log_q: Array) -> Array:
        signal = super().learning_signal(log_q)
        return np.broadcast_to(signal.sum(axis=0, keepdims=True), signal.shape)
