"""What learning looks like from outside: exact log p(x), VLB and KL, and estimates where K forbids them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..inference.bounds import kl, vlb
from ..inference.exact import log_marginal
from ..inference.sampled import log_marginal_estimate
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import PerDatumPosterior, Posterior
from .batches import Data

__all__ = ["ENUMERABLE", "Record", "enumerable", "judge", "work"]

ENUMERABLE = 28
"""Beyond so many latent bits in a layer nothing is enumerated while a model learns."""

ESTIMATE_SAMPLES = 200
"""Draws of z for a row where log p(x) is estimated."""


class Record(NamedTuple):
    """The state at the end of an epoch, means over the rows, nats; None where a number is not there.

    log_px, vlb, kl are exact, of the rows that are learnt from; validation_* of the held-out ones. *_estimate: by
    importance sampling with the posterior, with its standard error. objective: the mean over the epoch's steps of what
    they followed, at the parameters they had. gradient_variance: the score function's, with its baseline and without.
    """

    epoch: int
    step: int
    learning_rate: float
    log_px: float | None = None
    vlb: float | None = None
    kl: float | None = None
    validation_log_px: float | None = None
    validation_vlb: float | None = None
    validation_kl: float | None = None
    log_px_estimate: float | None = None
    log_px_standard_error: float | None = None
    validation_log_px_estimate: float | None = None
    validation_log_px_standard_error: float | None = None
    objective: float | None = None
    gradient_variance: float | None = None
    gradient_variance_without_baseline: float | None = None

    @property
    def score(self) -> float | None:
        """What early stopping goes by: held-out log p(x), exact if there, else estimated."""
        return self.validation_log_px if self.validation_log_px is not None else self.validation_log_px_estimate


def work(model: BernoulliLVM, rows: int) -> int:
    """Roughly the multiplications of log p(x) of so many rows; a number of shapes alone, not of this machine."""
    weights = sum(value.size for value in model.decoder.parameters().values())
    above = work(model.prior, 1 << model.latents) if isinstance(model.prior, BernoulliLVM) else 0
    return above + ((weights + rows * (1 + model.observed // 4)) << model.latents)


def enumerable(model: BernoulliLVM) -> bool:
    """Whether every layer has few enough bits; a deep model's lower layers are tables."""
    if isinstance(model.prior, BernoulliLVM):
        return model.latents <= ENUMERABLE - 8 and enumerable(model.prior)
    return model.latents <= ENUMERABLE


def judge(
    model: BernoulliLVM, posterior: Posterior | None, data: Data, name: str, seed: int, workers: int | None
) -> dict[str, float | None]:
    """Mean log p(x), VLB and KL of the data, under `name` + "log_px", ...; estimates where they cannot be exact."""
    if not enumerable(model):
        if posterior is None or isinstance(posterior, PerDatumPosterior):
            return {}
        estimate = log_marginal_estimate(
            model, posterior, data.x, np.random.default_rng(seed), samples=ESTIMATE_SAMPLES
        )
        error = np.sqrt(np.sum((data.weights * estimate.standard_error) ** 2))
        return {
            f"{name}log_px_estimate": float(data.weights @ estimate.value),
            f"{name}log_px_standard_error": float(error),
        }
    x, weights = data.merged()
    found: dict[str, float | None] = {f"{name}log_px": float(weights @ log_marginal(model, x, workers=workers))}
    if posterior is not None and not (isinstance(posterior, PerDatumPosterior) and len(posterior.logits) != len(x)):
        found[f"{name}vlb"] = float(weights @ vlb(model, posterior, x, workers=workers))
        found[f"{name}kl"] = float(weights @ kl(model, posterior, x, workers=workers))
    return found
