"""MuProp (Gu, Levine, Sutskever, Mnih, "MuProp: unbiased backpropagation for stochastic neural networks", 2016).

REINFORCE less a baseline that is linear in z, and its mean added back: with z' = phi, the mean of z under q,

    (1/S) sum_s (f(z_s) - f(z') - f'(z')·(z_s - z')) d log q(z_s) / d logits + f'(z') phi (1 - phi)

f between the bits is the extension in which log p(z) and log q(z) are linear in z, q's logits held fixed in f'.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...types import Bits, Floats
from .estimator import Cost, OfOneCode, drawn, weighted
from .landscape import Codes, Landscape


@dataclass(frozen=True, eq=False)
class MuProp(OfOneCode):
    """Needs a decoder with slopes in z, and a Bernoulli prior."""

    name = "muprop"

    def cost(self, latents: int) -> Cost:
        """The draws, and the value and slopes at z'."""
        return Cost(self.samples + 1, 1)

    def _value(self, at: Landscape, u: Floats) -> Floats:
        z = drawn(at, u)
        value, slopes = _expansion(at)
        signal = at.log_weights(z) - _linear(value, slopes, at, z)
        return weighted(signal, at.score(z)) / self.samples + slopes * at.bend

    def _of_every_code(self, codes: Codes) -> Floats:
        value, slopes = _expansion(codes.at)
        signal = codes.log_w - _linear(value - codes.vlb, slopes, codes.at, codes.z)[0]
        every: Floats = signal[:, None] * codes.score + slopes * codes.at.bend
        return every


def _expansion(at: Landscape) -> tuple[Floats, Floats]:
    """log w and its slopes at the mean of q, (N,) and (N, K)."""
    return at.between(at.phi), at.slopes(at.phi[:, None])[:, 0]


def _linear(value: Floats, slopes: Floats, at: Landscape, z: Bits) -> Floats:
    """The expansion at z, (N, S): the score is z less the mean."""
    line: Floats = value[:, None] + (slopes[:, None] * at.score(z)).sum(axis=2)
    return line
