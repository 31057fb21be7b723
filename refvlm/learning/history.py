"""The numbers by which learning is watched: exact log p(x), VLB and KL; estimates or brackets where K is too large."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..inference.bounds import kl, needs_sum, vlb
from ..inference.brackets import bracket
from ..inference.exact import log_marginal
from ..inference.partition import ground_of, has_boxes
from ..inference.sampled import log_marginal_estimate
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import LayerwisePosterior, PerDatumPosterior, Posterior
from .batches import Data

ENUMERABLE = 28
"""A layer with more latent bits is not enumerated while a model learns."""

ESTIMATE_SAMPLES = 200
"""Draws of z for a row where log p(x) is estimated."""

BRACKET_SAMPLES, BRACKET_BOXES = 8192, 65
"""Of a row, where the last record's log p(x) is bracketed."""

AFFORDABLE = 1e8
"""Draws, and what boxes cost in draws, up to which it is: some seconds."""


class Record(NamedTuple):
    """The numbers at the end of an epoch: means over the rows in nats, None where a number was not computed.

    log_px, vlb, kl are exact, of the rows that are learnt from; validation_* of the held-out ones; no kl
    of a layerwise q, which would take a pass for each row. *_estimate: by
    importance sampling with the posterior, with its standard error. objective: the mean over the epoch's steps of the
    objective, or of its estimate, at the parameters before each step. gradient_variance: that of the score function,
    with its baseline and without. *_lower, *_upper: of the last record, where log p(x) can be bracketed but not summed:
    between these the mean lies with confidence 1 - 1e-9.
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
    log_px_lower: float | None = None
    log_px_upper: float | None = None
    validation_log_px_lower: float | None = None
    validation_log_px_upper: float | None = None

    @property
    def score(self) -> float | None:
        """Held-out log p(x), exact or else estimated, by which early stopping chooses; None without held-out rows."""
        return self.validation_log_px if self.validation_log_px is not None else self.validation_log_px_estimate


def enumerable(model: BernoulliLVM) -> bool:
    """Whether every layer has few enough bits; a deep model's lower layers are tables."""
    *lower, top = model.layers
    return top.latents <= ENUMERABLE and all(layer.latents <= ENUMERABLE - 8 for layer in lower)


def judge(
    model: BernoulliLVM, posterior: Posterior | None, data: Data, name: str, seed: int, workers: int | None, last: bool
) -> dict[str, float | None]:
    """Mean log p(x), VLB and KL of the data, under `name` + "log_px", ...; estimates where they cannot be exact.

    last: of the last record, which has a bracket, too.
    """
    x, weights = data.merged()
    means: dict[str, float | None] = {}
    fits = posterior is not None and not (isinstance(posterior, PerDatumPosterior) and len(posterior.logits) != len(x))
    if enumerable(model):
        means[f"{name}log_px"] = float(weights @ log_marginal(model, x, workers=workers))
    elif posterior is not None and not isinstance(posterior, PerDatumPosterior):
        rng = np.random.default_rng(seed)
        estimate = log_marginal_estimate(model, posterior, data.x, rng, samples=ESTIMATE_SAMPLES)
        error = np.sqrt(np.sum((data.weights * estimate.standard_error) ** 2))
        means[f"{name}log_px_estimate"] = float(data.weights @ estimate.value)
        means[f"{name}log_px_standard_error"] = float(error)
    if last and not data.weighted and _bracketable(model, len(data)):
        rng = np.random.default_rng(seed)
        between = bracket(model, data.x, samples=BRACKET_SAMPLES, boxes=BRACKET_BOXES, rng=rng, workers=workers)
        means[f"{name}log_px_lower"], means[f"{name}log_px_upper"] = between.mean_lower, between.mean_upper
    if posterior is not None and fits and (enumerable(model) or not needs_sum(model, posterior)):
        means[f"{name}vlb"] = float(weights @ vlb(model, posterior, x, workers=workers))
    if posterior is not None and fits and enumerable(model) and not isinstance(posterior, LayerwisePosterior):
        means[f"{name}kl"] = float(weights @ kl(model, posterior, x, workers=workers))
    return means


def _bracketable(model: BernoulliLVM, rows: int) -> bool:
    """Whether log p(x) of so many rows can be bracketed but not summed, and in a few seconds."""
    if enumerable(model) or not has_boxes(model):
        return False
    ground = ground_of(model)
    return rows * (BRACKET_SAMPLES + max(BRACKET_BOXES, ground.states) * ground.price) <= AFFORDABLE
