"""REINFORCE with a leave-one-out baseline: what the other draws of the same row give on average.

    (1/S) sum_s (f_s - b_s) d log q(z_s) / d logits,    b_s = the mean of f over the other draws,    S >= 2

Mnih, Rezende (2016), without their logarithm; Kool, van Hoof, Welling, "Buy 4 REINFORCE samples, get a baseline for
free!" (2019). It is the sample covariance of f and the score: a U-statistic of order 2, which has its covariance from
one sum over z (Hoeffding 1948): that of the conditional mean given one draw, and that of a pair.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...types import Floats
from .estimator import ScoreFunction, covariance_of, gradient_of_vlb, range_of_differences
from .landscape import Codes


@dataclass(frozen=True, eq=False)
class LeaveOneOut(ScoreFunction):
    """samples: S, at least 2."""

    samples: int = 2

    name = "leave-one-out"
    fewest = 2

    def signal(self, log_w: Floats) -> Floats:
        """(f_s - b_s) / S."""
        centred: Floats = (log_w - log_w.mean(axis=1, keepdims=True)) / (self.samples - 1)
        return centred

    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        low, high = range_of_differences(codes)  # it is half the mean over pairs of (f - f') (z - z')
        return 0.5 * low, 0.5 * high

    def _covariance(self, codes: Codes) -> Floats:
        f, score, q = codes.log_w, codes.score, codes.q
        given_one = covariance_of(codes, 0.5 * (f[:, None] * score + gradient_of_vlb(codes)))
        of_a_pair = 0.5 * ((score.T * (q * f**2)) @ score + (q @ f**2) * ((score.T * q) @ score))
        weighted: Floats = 4.0 * (self.samples - 2) * given_one + 2.0 * of_a_pair
        return weighted / (self.samples * (self.samples - 1))
