"""ARM (Yin, Zhou, "ARM: augment-REINFORCE-merge gradient for stochastic binary networks", 2019).

    (1/S) sum_s (f(z_s) - f(z'_s)) (1/2 - u_s),    z = 1[u < phi], its twin z' = 1[1 - u < phi]

Their u is 1 - u here, so that a bit fires where u < phi. No bias; the uniforms add to the variance: given the pair
of bits, u is uniform on what is left, of variance n^2 / 12 where they differ and (1 - 2n)^2 / 12 where not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...types import Floats
from .antithetic import pair_of, pairs, second_moment
from .estimator import Cost, Estimator, gradient_of_vlb, weighted
from .landscape import Codes, Landscape


@dataclass(frozen=True, eq=False)
class Arm(Estimator):
    """samples: pairs of draws."""

    name = "arm"

    def cost(self, latents: int) -> Cost:
        """Two a pair."""
        return Cost(2 * self.samples)

    def _value(self, at: Landscape, u: Floats) -> Floats:
        z, twin = pairs(at, u)
        difference = at.log_weights(z) - at.log_weights(twin)
        return weighted(difference, 0.5 - u) / self.samples

    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        widest = np.full(codes.score.shape[1], 0.5 * np.ptp(codes.log_w[codes.q > 0]))
        return -widest, widest

    def _covariance(self, codes: Codes) -> Floats:
        mean, squares = gradient_of_vlb(codes), []
        for logit in codes.at.logits[0]:
            bit = pair_of(float(logit))
            apart, left = 1.0 - bit.size, np.tanh(0.5 * abs(logit))
            squares.append(bit.unequal * (bit.size**2 / 4.0 + apart**2 / 12.0) + bit.equal * (left**2 / 12.0))
        return (second_moment(codes, squares) - np.outer(mean, mean)) / self.samples
