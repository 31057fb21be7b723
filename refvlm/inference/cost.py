"""What a sum will cost: multiplications, from shapes alone; seconds on this machine, from a smaller sum that is timed.

A model without its last latent bits has the same decoder otherwise, and beyond a few thousand states a state costs
the same whatever K is. So the prediction is the time of the same call on fewer bits, times the ratio of the numbers
of states, times that of the numbers of rows.
"""

from __future__ import annotations

import time

import numpy as np

from .. import bits
from ..enumeration.blocks import MANY_ROWS
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import LayerwisePosterior, PerDatumPosterior, Posterior
from ..types import Bits
from .bounds import decompose
from .exact import log_marginal, log_marginal_and_grad

_LINEAR, _FEW, _MANY = 22, 18, 12
"""Latent bits of the smaller model, without hidden layers, for a few rows and for many."""
_SAMPLE = 4096
"""Rows that are timed at most."""


def multiplications(model: BernoulliLVM, rows: int, posterior: Posterior | None = None) -> int:
    """Roughly the multiplications of log p(x) of so many rows, all layers together; or of KL, where q is layerwise."""
    total, passes, count = 0, 1, rows
    for layer in model.layers:
        weights = sum(value.size for value in layer.decoder.parameters().values())
        total += passes * ((weights + count * (1 + layer.observed // 4)) << layer.latents)
        passes, count = rows if isinstance(posterior, LayerwisePosterior) else 1, 1 << layer.latents
    return total


def predict_seconds(
    model: BernoulliLVM,
    posterior: Posterior | None,
    x: Bits,
    rows: int,
    *,
    gradient: bool = False,
    workers: int | None = None,
) -> float:
    """Predicted seconds of `log_marginal` for `rows` rows such as x; with a posterior of `decompose`.

    x: (N, L), a part of the rows. gradient: of `log_marginal_and_grad` instead. This takes a fraction of a second
    itself, and runs every kernel involved once before, so that compiling is not counted. A decoder that is no MLP
    cannot be shortened: then the whole model is timed on one row. Refused where codes cannot hold so many bits.
    """
    stages = 0 if posterior is None else len(posterior.stages)
    passes = rows if isinstance(posterior, LayerwisePosterior) else 1
    return _predict(model, stages, x, rows, passes, gradient, workers)


def _predict(
    model: BernoulliLVM, stages: int, x: Bits, rows: int, passes: int, gradient: bool, workers: int | None
) -> float:
    """The same, where q has so many stages, and there are so many passes over the layers above."""
    bits.check_codes(model.latents)
    sample = x[:_SAMPLE]
    if len(sample) == 0 or rows == 0:
        return 0.0
    above = 0.0
    if isinstance(model.prior, BernoulliLVM):
        codes = bits.rows_of(np.arange(min(1 << model.latents, _SAMPLE)), model.latents)
        upper = max(stages - 1, 0)
        above = passes * _predict(model.prior, upper, codes, 1 << model.latents, 1, gradient, workers)
    fewer = _FEW if len(sample) < MANY_ROWS else _MANY
    if not isinstance(model.decoder, MLP):
        fewer, sample = model.latents, sample[:1]
    elif len(model.decoder.weights) == 1 and stages == 0 and len(sample) < MANY_ROWS:
        fewer = _LINEAR
    smaller = _shortened(model, min(fewer, model.latents))
    q = None
    if stages > 0:
        q = PerDatumPosterior(np.zeros((len(sample), smaller.latents)))
    timed = min(_seconds(smaller, q, sample, gradient, workers) for _ in range(3))
    states = 2.0 ** (model.latents - smaller.latents)
    return above + timed * states * rows / len(sample)


def _shortened(model: BernoulliLVM, latents: int) -> BernoulliLVM:
    """The model with its lowest latent bits alone, independent ones."""
    if not isinstance(model.decoder, MLP):
        return BernoulliLVM(Bernoulli(np.zeros(latents)), model.decoder)
    weights = [model.decoder.weights[0][:latents], *model.decoder.weights[1:]]
    return BernoulliLVM(Bernoulli(np.zeros(latents)), MLP(weights, model.decoder.biases, model.decoder.activation))


def _seconds(model: BernoulliLVM, q: Posterior | None, x: Bits, gradient: bool, workers: int | None) -> float:
    start = time.perf_counter()
    if gradient:
        log_marginal_and_grad(model, x, workers=workers)
    elif q is None:
        log_marginal(model, x, with_error=True, workers=workers)
    else:
        decompose(model, q, x, workers=workers)
    return time.perf_counter() - start
