"""Mistakes in log p(x), eq. (3), and in the posterior, eq. (6)."""

from __future__ import annotations

import math

import numpy as np

from ...types import Array
from ..equations import Named
from .common import Mistake


class ReversedCodes(Mistake):
    title = "the codes' bits in reverse order: z_0 the most significant"
    remedy = "row c of a table is z_k = (c >> k) & 1: z_0 varies fastest"

    def posterior(self) -> Array:
        latents = self.latents(0)
        order = self.codes(latents)[:, ::-1] @ (1 << np.arange(latents))
        return super().posterior()[:, order.astype(int)]


class LogMeanExp(Mistake):
    title = "the mean over codes instead of the sum: K log 2 too low"
    remedy = "log p(x) = log sum over z of p(x, z); a mean belongs to draws from the prior"

    def log_sum_exp(self, table: Array) -> Array:
        return super().log_sum_exp(table) - self.dtype(math.log(table.shape[1]))


class MaximumForSum(Mistake):
    title = "the largest log p(x, z) instead of the log of the sum"
    remedy = "log-sum-exp over all codes"

    def log_sum_exp(self, table: Array) -> Array:
        return table.max(axis=1, initial=-math.inf)


class UnshiftedSum(Mistake):
    title = "log(sum(exp(.))) without a shift"
    remedy = "take the largest term out first: log-sum-exp"

    def log_sum_exp(self, table: Array) -> Array:
        return np.log(np.exp(table).sum(axis=1))

    def grad_log_marginal(self) -> Named:
        """As autodiff has it, e^t / sum of e^t: 0 / 0 where the sum has underflowed."""
        terms = np.exp(self.joint_table(0, self.x))
        return self.joint_gradient(0, self.x, terms / terms.sum(axis=1, keepdims=True))


class OneLatentForAllRows(Mistake):
    title = "one z shared by all rows of the batch"
    remedy = "every row has a z of its own: sum over z inside, rows outside"

    def marginal(self, depth: int, x: Array) -> Array:
        if depth > 0 or not len(x):
            return super().marginal(depth, x)
        likelihood = self.likelihood_table(0, x).sum(axis=0, keepdims=True)
        whole = self.log_sum_exp(likelihood + self.prior(0, self.codes(self.latents(0))))
        return np.repeat(whole, len(x))


class UnnormalisedPosterior(Mistake):
    title = "p(x, z) instead of p(z|x)"
    remedy = "divide by p(x)"

    def posterior_table(self, depth: int, x: Array) -> Array:
        return np.exp(self.joint_table(depth, x))


class NormalisedOverRows(Mistake):
    title = "normalised over the rows instead of over the codes"
    remedy = "softmax over the axis of the codes"

    def posterior_table(self, depth: int, x: Array) -> Array:
        joint = self.joint_table(depth, x)
        if not len(joint):
            return joint
        return np.exp(joint - self.log_sum_exp(joint.T))


class MostProbableCode(Mistake):
    title = "the most probable code instead of the mean"
    remedy = "E[z_k | x] = sum over z of p(z|x) z_k"

    def posterior_mean(self) -> Array:
        return self.codes(self.latents(0))[self.posterior().argmax(axis=1)]
