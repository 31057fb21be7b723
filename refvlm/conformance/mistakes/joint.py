"""Mistakes in the prior, eq. (1), and where it is added."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...types import Array
from ..equations import Named
from .common import Mistake, times


class MissingPrior(Mistake):
    title = "log p(z) left out"
    remedy = "add log p(z) to log p(x|z): log-joint, bound and surrogate all need it"

    def joint(self, likelihood: Array, prior: Array) -> Array:
        return likelihood + 0 * np.where(np.isinf(prior), 0, prior)

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"prior": 0 * terms["reconstruction"]}

    def joint_gradient(self, depth: int, x: Array, weights: Array) -> Named:
        gradient = super().joint_gradient(depth, x, weights)
        return {name: 0 * value if name.startswith("prior.") else value for name, value in gradient.items()}

    def path_gradient(self, lowest: int, layers: Sequence[Array], weights: Array) -> Named:
        return times(super().path_gradient(lowest, layers, weights), 0 if self.kind == "gradient" else 1)


class PriorTwice(Mistake):
    title = "log p(z) counted twice"
    remedy = "log p(x, z) = log p(x|z) + log p(z), once"

    def joint(self, likelihood: Array, prior: Array) -> Array:
        return likelihood + 2 * prior

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"prior": 2 * terms["prior"]}

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        return times(super().prior_gradient(z, weights), 2 if self.kind == "gradient" else 1)

    def averaged_gradient(self, weights: Array) -> Named:
        """Along a chain the decoders of the prior, too."""
        chain = len(self.encoders) > 1
        return {
            name: 2 * value if chain and name.startswith("prior.") and ".decoder." in name else value
            for name, value in super().averaged_gradient(weights).items()
        }


class UniformPrior(Mistake):
    title = "a uniform prior, the prior's logits unused"
    remedy = "log p(z) = sum of z_k log beta_k + (1 - z_k) log(1 - beta_k) with beta = sigmoid(prior logits)"

    def log_prior_bits(self, z: Array, logits: Array) -> Array:
        return super().log_prior_bits(z, 0 * np.where(np.isinf(logits), 0, logits))

    def prior_delta(self, z: Array, logits: Array) -> Array:
        return 0 * super().prior_delta(z, logits)


class PriorProbabilitiesAsLogits(Mistake):
    title = "the prior's logits put through the sigmoid once too often"
    remedy = "the parameters are logits; pass them to a function of logits as they are"

    def log_prior_bits(self, z: Array, logits: Array) -> Array:
        return super().log_prior_bits(z, self.sigmoid(logits))

    def prior_delta(self, z: Array, logits: Array) -> Array:
        beta = self.sigmoid(logits)
        return super().prior_delta(z, beta) * beta * (1 - beta)


class PriorLogitsAsProbabilities(Mistake):
    title = "the prior's logits taken as probabilities"
    remedy = "beta = sigmoid(prior logits)"

    def log_prior_bits(self, z: Array, logits: Array) -> Array:
        return np.where(z == 1, np.log(logits), np.log(1 - logits)).sum(axis=-1)

    def prior_delta(self, z: Array, logits: Array) -> Array:
        return np.where(z == 1, 1 / logits, -1 / (1 - logits))


class UpperLayersIgnored(Mistake):
    title = "the layers above z replaced by a uniform prior"
    remedy = "in a deep model log p(z) is the log-marginal of the layers above"

    def prior(self, depth: int, z: Array) -> Array:
        if depth == len(self.decoders) - 1:
            return super().prior(depth, z)
        return np.full(len(z), -z.shape[1] * math.log(2))

    def joint_gradient(self, depth: int, x: Array, weights: Array) -> Named:
        gradient = super().joint_gradient(depth, x, weights)
        own = "prior." * depth + "decoder."
        return {name: 0 * value if len(self.decoders) > depth + 1 and not name.startswith(own) else value
                for name, value in gradient.items()}  # fmt: skip
