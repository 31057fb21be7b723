"""Straight-through Gumbel-softmax (Jang, Gu, Poole 2017; Maddison, Mnih, Teh 2017), for bits: the binary concrete.

    (1/S) sum_s d f / d z at z_s, times d y_s / d logits = y_s (1 - y_s) / t
    y = sigmoid((logit - log(u / (1 - u))) / t)

z = 1[y > 1/2] = 1[u < phi] forwards, the relaxed y backwards; t the temperature. f between the bits as in MuProp.
Given z the factors of different bits are independent, so the exact moments need, for each bit and value, the first two
moments of y (1 - y) / t: integrals over v = log(y / (1 - y)), for which u has the density t sigmoid'(t v - logit).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...activations import log_sigmoid, sigmoid
from ...checks import check_number
from ...types import Floats
from .estimator import Cost, Estimator, drawn, range_of
from .landscape import Codes, Landscape

_NODES = 24
_WIDTHS = np.concatenate([np.arange(0.0, 8.0), 8.0 * 1.5 ** np.arange(12)])
"""Of the distances between panels, from where the integrand peaks."""


@dataclass(frozen=True, eq=False)
class StraightThroughGumbel(Estimator):
    """temperature: t, between 0.01 and 100. Needs a decoder with slopes in z, and a Bernoulli prior."""

    temperature: float = 1.0

    name = "straight-through-gumbel"

    @property
    def unbiased(self) -> bool:
        """Not where log p(x, z) is not linear in z."""
        return False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("temperature", self.temperature, 0.01, 100.0)

    def cost(self, latents: int) -> Cost:
        """Value and slopes of each draw."""
        return Cost(self.samples, self.samples)

    def _value(self, at: Landscape, u: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            v = (at.logits[:, None] - (np.log(u) - np.log1p(-u))) / self.temperature
        factor = sigmoid(v) * sigmoid(-v) / self.temperature
        slopes: Floats = (at.slopes(drawn(at, u).astype(float)) * factor).mean(axis=1)
        return slopes

    def _mean(self, codes: Codes) -> Floats:
        mean: Floats = codes.q @ self._conditional(codes)[0]
        return mean

    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        low, high = range_of(codes, codes.at.slopes(codes.z.astype(float))[0])
        steepest = 0.25 / self.temperature
        return np.minimum(low, 0.0) * steepest, np.maximum(high, 0.0) * steepest

    def _covariance(self, codes: Codes) -> Floats:
        given, square = self._conditional(codes)
        mean = codes.q @ given
        centred = given - mean
        covariance: Floats = (centred.T * codes.q) @ centred
        diagonal = np.diag_indices(len(mean))
        covariance[diagonal] += codes.q @ (square - given**2)
        return covariance / self.samples

    def _conditional(self, codes: Codes) -> tuple[Floats, Floats]:
        """First and second moments of the draw's entries given z, (2**K, K) each."""
        slopes = codes.at.slopes(codes.z.astype(float))[0]
        of_bits = np.array([factor_moments(float(logit), self.temperature) for logit in codes.at.logits[0]])
        chosen = np.where(codes.z[0][:, :, None] == 1, of_bits[:, 1], of_bits[:, 0])
        return slopes * chosen[:, :, 0], slopes**2 * chosen[:, :, 1]


def factor_moments(logit: float, temperature: float) -> Floats:
    """E and E of the square of y (1 - y) / t given z = 0 and given z = 1: (2, 2); 0 for an infinite logit."""
    if np.isinf(logit):
        return np.zeros((2, 2))
    return np.array([_moments_above(-logit, temperature), _moments_above(logit, temperature)])


def _moments_above(logit: float, temperature: float) -> Floats:
    """Both moments given v > 0, (2,): the density of v there is t sigmoid'(t v - logit) / sigmoid(logit)."""
    x, weights = np.polynomial.legendre.leggauss(_NODES)
    edges = _panels(max(logit / temperature, 0.0), 1.0 / max(temperature, 1.0))
    half = 0.5 * np.diff(edges)
    v = (edges[:-1] + half)[:, None] + half[:, None] * x
    a = temperature * v - logit
    density = (
        half[:, None] * weights * temperature * np.exp(log_sigmoid(a) + log_sigmoid(-a) - log_sigmoid(np.array(logit)))
    )
    factor = sigmoid(v) * sigmoid(-v) / temperature
    return np.array([(density * factor).sum(), (density * factor**2).sum()])


def _panels(peak: float, width: float) -> NDArray[np.float64]:
    """Edges of panels from 0 up, close to 0 and close to the peak no wider than the width."""
    around = [side * width * _WIDTHS + centre for centre in (0.0, peak) for side in (-1.0, 1.0)]
    plain = np.arange(0.0, 40.0)
    edges: NDArray[np.float64] = np.unique(np.concatenate([*around, plain]))
    return edges[(edges >= 0.0) & (edges <= 750.0)]
