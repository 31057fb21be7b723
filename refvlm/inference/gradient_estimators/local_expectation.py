"""Local expectation gradients (Titsias, Lazaro-Gredilla, "Local expectation gradients for black box variational
inference", 2015): bit by bit the exact expectation, given draws of the other bits.

    (1/S) sum_s phi_k (1 - phi_k) (f(z_s with z_k = 1) - f(z_s with z_k = 0)) for bit k

All bits use one draw: its own value and those with one bit turned give all 2 K values in K + 1 evaluations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...types import Floats
from .estimator import Cost, OfOneCode, drawn
from .landscape import Codes, Landscape


@dataclass(frozen=True, eq=False)
class LocalExpectation(OfOneCode):
    """Rao-Blackwellised REINFORCE: its covariance is at most that of REINFORCE with any baseline of the other bits."""

    name = "local-expectation"

    def cost(self, latents: int) -> Cost:
        """K + 1 values a draw."""
        return Cost(self.samples * (latents + 1))

    def _value(self, at: Landscape, u: Floats) -> Floats:
        z, mean = drawn(at, u), np.zeros_like(at.logits)
        own = at.log_weights(z)
        for k in range(z.shape[2]):
            turned = z.copy()
            turned[:, :, k] ^= 1
            fixed = np.isinf(at.logits[:, k])
            turned[fixed] = z[fixed]
            difference = (own - at.log_weights(turned)) * np.where(z[:, :, k] == 1, 1.0, -1.0)
            mean[:, k] = at.bend[:, k] * difference.mean(axis=1)
        return mean

    def _of_every_code(self, codes: Codes) -> Floats:
        values = np.empty_like(codes.score)
        for k in range(values.shape[1]):
            pairs = codes.log_w.reshape(-1, 2, 1 << k)  # the other bits above, z_k, those below
            values[:, k] = np.repeat((pairs[:, 1] - pairs[:, 0])[:, None], 2, axis=1).ravel()
        every: Floats = values * codes.at.bend[0]
        return every
