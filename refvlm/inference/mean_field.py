"""The best factorised q of each row where the VLB needs no sum over codes: exact ascent, all bits together."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np

from ..enumeration import kernels
from ..enumeration.engine import Progress
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import PerDatumPosterior
from ..types import Bits, Floats
from .bounds import grad_vlb, vlb

LARGEST = 700.0
"""Logits are kept within it: sigmoid(-700) is the smallest probability that float64 holds with all its digits."""


def ascend_together(
    model: BernoulliLVM,
    x: Bits,
    logits: Floats,
    sweeps: int,
    tolerance: float,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> PerDatumPosterior:
    """From logits (N, K) upwards in each row's VLB, for `sweeps` steps or until no phi moves by more than `tolerance`.

    The gradient in a logit is phi (1 - phi) (best logit - logit), with the others held. A row goes towards its best
    logits, half as far whenever its VLB would not rise. Infinite logits stay.
    """
    logits = np.where(np.isinf(logits), logits, np.clip(logits, -LARGEST, LARGEST))
    reach, moving = np.ones(len(x)), np.arange(len(x))
    value = vlb(model, PerDatumPosterior(logits), x, workers=workers, executor=executor)
    for sweep in range(sweeps if len(x) else 0):
        some, at = x[moving], logits[moving]
        probability = kernels.bernoulli.bernoulli(at)[0]
        variance = probability[:, 0] * probability[:, 1]
        slopes = grad_vlb(model, PerDatumPosterior(at), some, workers=workers, executor=executor)["posterior.logits"]
        gap = np.divide(slopes, variance, out=np.zeros_like(at), where=np.isfinite(at))
        there = np.where(np.isinf(at), at, np.clip(at + reach[moving, None] * gap, -LARGEST, LARGEST))
        new = vlb(model, PerDatumPosterior(there), some, workers=workers, executor=executor)
        moved = np.abs(kernels.bernoulli.bernoulli(there)[0] - probability).max(axis=(1, 2))
        rises = new >= value[moving]
        logits[moving[rises]], value[moving[rises]] = there[rises], new[rises]
        reach[moving] = np.where(rises, np.minimum(2.0 * reach[moving], 1.0), 0.5 * reach[moving])
        moving = moving[moved > tolerance]
        if progress is not None:
            progress(len(x) - len(moving) if sweep + 1 < sweeps else len(x), len(x))
        if len(moving) == 0:
            break
    return PerDatumPosterior(logits)
