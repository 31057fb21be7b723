"""Estimates from samples, each with its standard error. Their names say _estimate, and they need an rng."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, check_count, check_generator
from ..model.bernoulli import draw
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import ChainPosterior, Posterior
from .arrays import check_model, check_posterior
from .joint import log_likelihood, log_of_bits, log_prior

__all__ = ["Estimate", "vlb_estimate"]

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]

_PAIRS = 1 << 16
"""Pairs (x, z) that are looked at together; bounds the memory."""


class Estimate(NamedTuple):
    """A sampled quantity: value (N,) and the standard error of that mean (N,), nats."""

    value: Floats
    standard_error: Floats


def vlb_estimate(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, rng: np.random.Generator, *, samples: int
) -> Estimate:
    """The VLB of eq. (10) from `samples` >= 2 draws of z from q per row: the mean of log p(x, z) - log q(z).

    Returns value (N,) and standard_error (N,), the sample standard deviation over sqrt(samples). Where a draw hits
    a z of zero prior probability, value is -inf and standard_error inf. q as in `vlb`.
    """
    check_posterior(check_model(model), q)
    rows = as_binary("x", x, model.observed)
    check_generator("rng", rng)
    check_count("samples", samples, 2)
    value, error = np.empty(len(rows)), np.empty(len(rows))
    logits = np.asarray(_first_logits(q, rows))
    step = max(1, _PAIRS // samples)
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        pairs = np.repeat(rows[part], samples, axis=0)
        draws = _log_ratio(model, q, pairs, np.repeat(logits[part], samples, axis=0), rng).reshape(-1, samples)
        value[part] = draws.mean(axis=1)
        hit = np.isneginf(value[part])
        with np.errstate(invalid="ignore"):
            error[part] = np.where(hit, np.inf, draws.std(axis=1, ddof=1) / np.sqrt(samples))
    return Estimate(value, error)


def _first_logits(q: Posterior, x: Bits) -> Floats:
    """Logits of the stage next to x."""
    return (q.stages[0] if isinstance(q, ChainPosterior) else q).forward(x)[0]


def _log_ratio(model: BernoulliLVM, q: Posterior, x: Bits, logits: Floats, rng: np.random.Generator) -> Floats:
    """log p(x, z) - log q(z | x) for one draw of all of q's layers per row of x; logits are the first stage's."""
    z = draw(logits, rng)
    ratio = log_likelihood(model, x, z) - log_of_bits(logits, z)
    if isinstance(q, ChainPosterior):
        assert isinstance(model.prior, BernoulliLVM)
        return ratio + _log_ratio(model.prior, q.above, z, _first_logits(q.above, z), rng)
    return ratio + log_prior(model, z)
