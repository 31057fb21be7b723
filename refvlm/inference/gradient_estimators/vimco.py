"""VIMCO (Mnih, Rezende, "Variational inference for Monte Carlo objectives", 2016): the gradient of IWAE-M in q.

    L   = log (1/M) sum_s e^{f_s},              E L = IWAE-M: the VLB for M = 1, closer to log p(x) the larger M
    u_s = e^{f_s} / sum_t e^{f_t}               the slope of L in f_s
    sum_s (L - L_-s - u_s) d log q(z_s) / d logits

L_-s is what L would be had f_s been the mean of the other f: their e^f have that geometric mean. It does not depend on
z_s and the score has mean 0, so there is no bias. Its covariance is a sum over all multisets of M codes: no shortcut
is known.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...checks import check_fits
from ...model.recognition import PerDatumPosterior
from ...types import Floats
from ..weighted_gradients import logit_slopes
from .estimator import ScoreFunction, weighted
from .landscape import Codes
from .reweighted import normalised

MOST_TERMS = 10**8
"""Sets of draws times M^2."""
_STEP, _CELLS = 1 << 14, 1 << 22
"""Sets that are looked at together, and M^2 for each of them."""


@dataclass(frozen=True, eq=False)
class Vimco(ScoreFunction):
    """samples: M, at least 2."""

    samples: int = 2

    name = "vimco"
    objective = "iwae"
    fewest = 2

    def signal(self, log_w: Floats) -> Floats:
        """L - L_-s - u_s."""
        draws, count = np.arange(self.samples), self.samples
        check_fits(f"{count} signals for each row", 40 * log_w.size * count, "take fewer rows, or fewer samples")
        others = np.repeat(log_w[:, None, :], count, axis=1)  # row s of a matrix: all f, of which the s-th is replaced
        others[:, draws, draws] = (log_w.sum(axis=1, keepdims=True) - log_w) / (count - 1)
        signal: Floats = log_mean_exp(log_w)[:, None] - log_mean_exp(others) - normalised(log_w)
        return signal

    def _mean(self, codes: Codes) -> Floats:
        q = PerDatumPosterior(codes.at.logits)
        mean: Floats = logit_slopes(codes.at.model, q, codes.at.x, self.samples, codes.engine, curved=True)[0]
        return mean

    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        widest = self.samples * np.ptp(codes.log_w[codes.q > 0]) + 1.0  # |L - L_-s| <= the spread of f; the u add to 1
        largest: Floats = widest * np.abs(codes.score).max(axis=0)
        return -largest, largest

    def _covariance(self, codes: Codes) -> Floats:
        mean = self._mean(codes)
        covariance = np.zeros((len(mean), len(mean)))
        for chosen in _multisets(len(codes.q), self.samples):
            values, weights = self._of(codes, chosen)
            covariance += ((values - mean).T * weights) @ (values - mean)
        return covariance

    def _of(self, codes: Codes, chosen: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """The estimates that these multisets give, (C, K), and the probabilities that these are drawn."""
        values = weighted(self.signal(codes.log_w[chosen]), codes.score[chosen])
        weights, run = codes.q[chosen[:, 0]].copy(), np.ones(len(chosen))
        for m in range(1, self.samples):
            run = np.where(chosen[:, m] == chosen[:, m - 1], run + 1.0, 1.0)
            weights *= codes.q[chosen[:, m]] * ((m + 1) / run)
        return values, weights

    def check(self, latents: int, rows: int) -> None:
        """Refuse more sets of draws than MOST_TERMS allow."""
        sets = math.comb((1 << latents) + self.samples - 1, self.samples)
        most = MOST_TERMS // self.samples**2
        if sets > most:
            few = max(1, min(_STEP, _CELLS // self.samples**2))
            start = time.perf_counter()
            self.signal(np.zeros((few, self.samples)))
            hours = (time.perf_counter() - start) * sets / few / 3600.0
            raise ValueError(
                f"samples: got {self.samples} for {latents} latent bits, whose {sets:.3g} sets of draws the covariance "
                f"of VIMCO sums over, {hours:.2g} hours for a row; wanted at most {most:.2g} sets: fewer samples, or a "
                "smaller model; its mean, and the covariances of the other estimators, remain"
            )


def log_mean_exp(f: Floats) -> Floats:
    """The logarithm of the mean of e^f over the last axis."""
    largest = f.max(axis=-1, keepdims=True)
    logarithm: Floats = np.log(np.exp(f - largest).mean(axis=-1)) + largest[..., 0]
    return logarithm


def _multisets(codes: int, samples: int) -> Iterator[NDArray[np.int64]]:
    """All multisets of codes in ascending order, (C, samples), so many at a time."""
    numbers = itertools.chain.from_iterable(itertools.combinations_with_replacement(range(codes), samples))
    step = max(1, min(_STEP, _CELLS // samples**2))
    while len(part := np.fromiter(itertools.islice(numbers, step * samples), np.int64)):
        yield part.reshape(-1, samples)
