"""Mistakes in the VLB, its terms and KL, eqs. (7), (8) and (10)."""

from __future__ import annotations

import numpy as np

from ...types import Array
from ..equations import Named
from ..problems import Layers
from .common import Mistake


class MissingEntropy(Mistake):
    title = "the entropy term -log q(z|x) left out"
    remedy = "VLB = E_q[log p(x, z) - log q(z)]"

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"entropy": 0 * terms["reconstruction"]}

    def log_weights(self, log_q: Array) -> Array:
        return super().log_weights(log_q) + log_q


class EntropySign(Mistake):
    title = "the entropy term with the wrong sign"
    remedy = "the entropy E_q[-log q] is not negative, and is added"

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"entropy": -terms["entropy"]}

    def log_weights(self, log_q: Array) -> Array:
        return super().log_weights(log_q) + 2 * log_q


class ReversedKl(Mistake):
    title = "KL(p(z|x) || q), the two exchanged"
    remedy = "KL(q || p(z|x)): the expectation is under q"

    def divergence(self, log_q: Array, log_p: Array) -> Array:
        return super().divergence(log_p, log_q)


class KlToPrior(Mistake):
    title = "KL(q || p(z)), to the prior instead of the posterior"
    remedy = "the gap log p(x) - VLB is KL(q || p(z|x))"

    def kl(self) -> Array:
        log_q = self.log_q()
        return self.divergence(log_q, np.broadcast_to(self.path_prior(), log_q.shape))


class KlAdded(Mistake):
    title = "the gap added to log p(x) instead of taken away"
    remedy = "VLB = log p(x) - KL(q || p(z|x))"

    def vlb(self) -> Array:
        return self.log_marginal() + self.kl()


class MeanOfQ(Mistake):
    title = "the decoder applied to the mean of q instead of to its codes"
    remedy = "E_q[log p(x|z)] is a sum over codes; the decoder sees bits, never probabilities"

    def vlb_terms(self) -> Named:
        mean = self.sigmoid(self.encode(self.encoders[0], self.x))
        return super().vlb_terms() | {"reconstruction": self.log_x_bits(self.x, self.decode(self.decoders[0], mean))}


class PhiAsLogits(Mistake):
    title = "phi, a probability, taken as a logit: sigmoid applied twice in q"
    remedy = "the encoder's outputs are logits"

    def encode(self, layers: Layers, below: Array) -> Array:
        return self.sigmoid(super().encode(layers, below))

    def output_slope(self, a: Array, layers: Layers) -> Array:
        phi = self.sigmoid(a)
        return phi * (1 - phi) if "encoder" in layers.prefix else super().output_slope(a, layers)


class ReversedBitsOfQ(Mistake):
    title = "phi_k going with z_(K-1-k)"
    remedy = "logit k of the encoder belongs to z_k"

    def encode(self, layers: Layers, below: Array) -> Array:
        return super().encode(layers, below)[:, ::-1]
