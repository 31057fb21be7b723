"""Ascent on the VLB, eq. (9), from samples: the score-function gradient with a leave-one-out baseline.

    f(z) = log p(x, z) - log q(z; phi(x)),   z_1, ..., z_S ~ q
    theta, beta:  (1/S) sum_s of grad log p(x, z_s)
    phi:          (1/S) sum_s of (f(z_s) - b_s) grad log q(z_s),   b_s = mean of f over the other draws

Without bias: b_s does not depend on z_s, and E_q[grad log q] = 0, which also takes care of q within f. The baseline
of Mnih & Rezende (2016) without its logarithm; Kool, van Hoof & Welling (2019).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit as sigmoid

from .machine import Machine
from .passes import Pass, down, recognise

__all__ = ["ScoreFunction", "score_function"]

Floats = NDArray[np.float64]


class ScoreFunction(NamedTuple):
    """A draw of the VLB's gradient, and what is known of it.

    generative, recognition: uphill directions, mean over rows. vlb: the estimate of the mean VLB that comes with them.
    variance, plain_variance: of the gradient with respect to q's logits, summed over them, mean over rows, as the
    draws show it: with the baseline, and with none.
    """

    generative: Floats
    recognition: Floats
    vlb: float
    variance: float
    plain_variance: float


def score_function(machine: Machine, x: Floats, rng: np.random.Generator, samples: int) -> ScoreFunction:
    """From `samples` >= 2 draws of z for each row of x."""
    layers, q = recognise(machine, np.repeat(x, samples, axis=0), rng)
    p = down(machine, layers)
    f = (p.log_probability() - q.log_probability()).reshape(-1, samples)
    centred = (f - f.mean(axis=1, keepdims=True)) * samples / (samples - 1)  # f_s less the mean of the others
    return ScoreFunction(
        p.gradient(),
        q.gradient(centred.ravel() / f.size),
        float(f.mean()),
        _variance(q, centred),
        _variance(q, f),
    )


def _variance(q: Pass, factor: Floats) -> float:
    """Of the mean over S draws of factor * d log q / d logits, summed over logits, mean over rows; factor (N, S)."""
    rows, samples = factor.shape
    score = np.concatenate([z - sigmoid(a) for z, a in zip(q.bits, q.logits, strict=True)], axis=1)
    slopes = score.reshape(rows, samples, -1) * factor[:, :, None]
    return float(slopes.var(axis=1, ddof=1).sum(axis=1).mean() / samples)
