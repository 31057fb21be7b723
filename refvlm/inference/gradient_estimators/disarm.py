"""DisARM (Dong, Mnih, Tucker, "DisARM: an antithetic gradient estimator for binary latent variables", 2020).

    (1/S) sum_s (f(z_s) - f(z'_s)) / 2 · (z_s - z'_s) sigmoid(|logit|),    z = 1[u < phi], its twin z' = 1[1 - u < phi]

ARM with the uniforms integrated out given the pair; the same as U2G (Yin, Ho, Yan, Qian, Zhou 2020). No bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...activations import sigmoid
from ...types import Floats
from .antithetic import pair_of, pairs, second_moment
from .estimator import Cost, Estimator, gradient_of_vlb, range_of_differences, weighted
from .landscape import Codes, Landscape


@dataclass(frozen=True, eq=False)
class DisArm(Estimator):
    """samples: pairs of draws."""

    name = "disarm"

    def cost(self, latents: int) -> Cost:
        """Two a pair."""
        return Cost(2 * self.samples)

    def _value(self, at: Landscape, u: Floats) -> Floats:
        z, twin = pairs(at, u)
        difference = at.log_weights(z) - at.log_weights(twin)
        apart = z.astype(np.float64) - twin
        sizes: Floats = 0.5 * sigmoid(np.abs(at.logits)) / self.samples
        return weighted(difference, apart) * sizes

    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        low, high = range_of_differences(codes)
        sizes = 0.5 * sigmoid(np.abs(codes.at.logits[0]))
        return low * sizes, high * sizes

    def _covariance(self, codes: Codes) -> Floats:
        mean, bits = gradient_of_vlb(codes), [pair_of(float(logit)) for logit in codes.at.logits[0]]
        moment = second_moment(codes, [0.25 * bit.size**2 * bit.unequal for bit in bits])
        return (moment - np.outer(mean, mean)) / self.samples
