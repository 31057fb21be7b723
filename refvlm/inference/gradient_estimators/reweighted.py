"""Reweighted wake-sleep's wake update in q (Bornschein, Bengio, "Reweighted wake-sleep", 2015).

    sum_s u_s d log q(z_s) / d logits,    u_s = w_s / (w_1 + ... + w_M)

An estimate of E under p(z | x) of the score, which is minus the gradient of KL(p(z | x) || q); biased by about 1 / M.
Its mean is one sum over z (`weighted_gradients.py`). The second moment is that, of each draw with itself, and a pair's:
since 1 / S^2 = int t e^(-t S) dt, with y = t w and phi(t) = E_q e^(-t w),

    E[u_1^2 g g^T] M + E[u_1 u_2 g g'^T] M (M - 1)
        = int over log t of M E[y^2 e^-y g g^T] phi^(M-1) + M (M - 1) E[y e^-y g] E[y e^-y g]^T phi^(M-2)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ...model.recognition import PerDatumPosterior
from ...types import Floats
from ..many_samples import check_widest
from ..weight_certificate import STEP
from ..weighted_gradients import logit_slopes
from .estimator import ScoreFunction, range_of
from .landscape import Codes


@dataclass(frozen=True, eq=False)
class ReweightedWake(ScoreFunction):
    """samples: M."""

    samples: int = 5

    name = "reweighted-wake"
    objective = "inclusive"

    @property
    def unbiased(self) -> bool:
        """Never: by about 1 / M."""
        return False

    def signal(self, log_w: Floats) -> Floats:
        """u."""
        return normalised(log_w)

    def _mean(self, codes: Codes) -> Floats:
        q = PerDatumPosterior(codes.at.logits)
        mean: Floats = logit_slopes(codes.at.model, q, codes.at.x, self.samples, codes.engine, curved=False)[0]
        return mean

    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        return range_of(codes, codes.score)

    def _covariance(self, codes: Codes) -> Floats:
        centred = codes.score - self._mean(codes)  # the u add to 1, so that this centres the estimate
        own, of_pairs = np.zeros(len(codes.q)), np.zeros((centred.shape[1],) * 2)
        for node in nodes(codes, self.samples):
            own += node.own
            moment = node.shares @ centred
            of_pairs += node.pair * np.outer(moment, moment)
        covariance: Floats = (centred.T * own) @ centred + of_pairs
        return covariance


class Node(NamedTuple):
    """What one node of the integrals over log t adds, q included: see above.

    own: M q y^2 e^-y phi^(M-1), (2**K,). shares: q y e^-y, (2**K,). single, pair: M phi^(M-1) and M (M - 1) phi^(M-2).
    All but shares have the step as factor.
    """

    own: Floats
    shares: Floats
    single: float
    pair: float


def nodes(codes: Codes, samples: int) -> Iterator[Node]:
    """The nodes for M weights of one row: a trapezoidal rule, which converges geometrically.

    Below the first all y are under e^-40, above the last all over 90.
    """
    allowed = codes.q > 0
    log_w = np.where(allowed, codes.log_w, codes.log_w[allowed].max())
    check_widest(float(log_w.max() - log_w.min()))
    for log_t in np.arange(-log_w.max() - 40.0, -log_w.min() + 4.5, STEP):
        y = np.exp(np.minimum(log_t + log_w, 700.0))
        e = np.exp(-y)
        absent = min(float(-(codes.q @ np.expm1(-y))), 1.0)
        with np.errstate(divide="ignore"):
            log_phi = np.log1p(-absent) if absent < 0.5 else np.log(codes.q @ e)
        whole, rest = (np.exp(count * log_phi) if count > 0 else 1.0 for count in (samples - 1, samples - 2))
        shares = codes.q * y * e
        single, pair = STEP * samples * whole, STEP * samples * (samples - 1) * rest
        yield Node(single * shares * y, shares, float(single), float(pair))


def normalised(log_w: Floats) -> Floats:
    """e^f divided by its sum over the draws of a row, (N, S): importance weights that sum to 1."""
    weights = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    ratios: Floats = weights / weights.sum(axis=1, keepdims=True)
    return ratios
