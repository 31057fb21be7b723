"""Straight-through (Bengio, Leonard, Courville, "Estimating or propagating gradients through stochastic neurons for
conditional computation", 2013): slopes in z, as if z were phi.

    (1/S) sum_s d f / d z at z_s, times d phi / d logits = phi (1 - phi)

f between the bits as in MuProp: linear log p(z) and log q(z), q's logits held fixed, which gives the entropy its exact
gradient. Biased, wherever f is not linear in z.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...types import Floats
from .estimator import Cost, OfOneCode, drawn
from .landscape import Codes, Landscape


@dataclass(frozen=True, eq=False)
class StraightThrough(OfOneCode):
    """Needs a decoder with slopes in z, and a Bernoulli prior."""

    name = "straight-through"

    @property
    def unbiased(self) -> bool:
        """Not where log p(x, z) is not linear in z."""
        return False

    def cost(self, latents: int) -> Cost:
        """Value and slopes of each draw."""
        return Cost(self.samples, self.samples)

    def _value(self, at: Landscape, u: Floats) -> Floats:
        slopes: Floats = at.slopes(drawn(at, u).astype(float)).mean(axis=1) * at.bend
        return slopes

    def _mean(self, codes: Codes) -> Floats:
        mean: Floats = codes.q @ self._of_every_code(codes)
        return mean

    def _of_every_code(self, codes: Codes) -> Floats:
        slopes: Floats = codes.at.slopes(codes.z.astype(float))[0] * codes.at.bend
        return slopes
