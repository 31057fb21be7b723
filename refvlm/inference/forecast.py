"""How long an evaluation will take: a smaller one is timed, and the cost per latent state carries over.

A model without its last latent bits has the same decoder otherwise, and beyond a few thousand states a state costs
the same whatever K is. So the prediction is the time of the same call on fewer bits, times the ratio of the numbers
of states, times that of the numbers of rows.
"""

from __future__ import annotations

import time

import numpy as np
from numpy.typing import NDArray

from .. import bits
from ..enumeration.blocks import MANY_ROWS
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import ChainPosterior, PerDatumPosterior, Posterior
from .bounds import decompose
from .exact import log_marginal

__all__ = ["forecast"]

Bits = NDArray[np.uint8]

_LINEAR, _FEW, _MANY = 22, 18, 12
"""Latent bits of the smaller model, without hidden layers, for a few rows and for many."""
_SAMPLE = 4096
"""Rows that are timed at most."""


def forecast(
    model: BernoulliLVM, posterior: Posterior | None, x: Bits, rows: int, *, workers: int | None = None
) -> float:
    """Predicted seconds of `decompose`, or of `log_marginal` where posterior is None, for `rows` rows such as x.

    x: (N, L), a part of the rows. Takes a fraction of a second itself, and runs every kernel involved once before, so
    compiling is not counted. A decoder that is no MLP cannot be shortened: then the whole model is timed on one row.
    """
    sample = x[:_SAMPLE]
    if len(sample) == 0 or rows == 0:
        return 0.0
    above = 0.0
    if isinstance(model.prior, BernoulliLVM):
        upper = posterior.above if isinstance(posterior, ChainPosterior) else None
        codes = bits.rows_of(np.arange(min(1 << model.latents, _SAMPLE)), model.latents)
        above = forecast(model.prior, upper, codes, 1 << model.latents, workers=workers)
    fewer = _FEW if len(sample) < MANY_ROWS else _MANY
    if not isinstance(model.decoder, MLP):
        fewer, sample = model.latents, sample[:1]
    elif len(model.decoder.weights) == 1 and posterior is None and len(sample) < MANY_ROWS:
        fewer = _LINEAR
    smaller = _shortened(model, min(fewer, model.latents))
    q = None
    if posterior is not None:
        q = PerDatumPosterior(np.zeros((len(sample), smaller.latents)))
    timed = min(_seconds(smaller, q, sample, workers) for _ in range(3))
    states = 2.0 ** (model.latents - smaller.latents)
    return above + timed * states * rows / len(sample)


def _shortened(model: BernoulliLVM, latents: int) -> BernoulliLVM:
    """The model with its first latent bits alone, independent ones."""
    if not isinstance(model.decoder, MLP):
        return BernoulliLVM(Bernoulli(np.zeros(latents)), model.decoder)
    weights = [model.decoder.weights[0][:latents], *model.decoder.weights[1:]]
    return BernoulliLVM(Bernoulli(np.zeros(latents)), MLP(weights, model.decoder.biases, model.decoder.activation))


def _seconds(model: BernoulliLVM, q: Posterior | None, x: Bits, workers: int | None) -> float:
    start = time.perf_counter()
    if q is None:
        log_marginal(model, x, with_error=True, workers=workers)
    else:
        decompose(model, q, x, workers=workers)
    return time.perf_counter() - start
