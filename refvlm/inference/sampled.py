"""Estimates from samples, each with its standard error. Their names say _estimate, and they need an rng."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import show
from ..checks import as_binary, check_count, check_generator
from ..model.bernoulli import draw
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import ChainPosterior, Posterior
from ..types import Bits, Floats
from .arrays import check_model, check_posterior, stages_of_x
from .joint import log_likelihood, log_of_bits, log_prior
from .missing import Missing, sums_out_missing

_PAIRS = 1 << 16
"""Pairs (x, z) that are looked at together; bounds the memory."""


class Estimate(NamedTuple):
    """A sampled quantity: value (N,) and the standard error of that mean (N,), nats."""

    value: Floats
    standard_error: Floats

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        kinds = {"value": (show.ESTIMATE, self.value), "standard_error": (show.STANDARD_ERROR, self.standard_error)}
        return show.statistics("Estimate, in nats", kinds)


@sums_out_missing
def vlb_estimate(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    rng: np.random.Generator,
    *,
    samples: int,
    missing: Missing = "refuse",
) -> Estimate:
    """The VLB of eq. (10) from `samples` >= 2 draws of z from q per row: the mean of log p(x, z) - log q(z).

    Returns value (N,) and standard_error (N,), the sample standard deviation over sqrt(samples). Where a draw hits
    a z of zero prior probability, value is -inf and standard_error inf. q, and missing, as in `vlb`.
    """
    value, error = np.empty(0), np.empty(0)
    for draws in _log_ratios(model, q, x, rng, samples):
        mean = draws.mean(axis=1)
        with np.errstate(invalid="ignore"):
            spread = np.where(np.isneginf(mean), np.inf, draws.std(axis=1, ddof=1) / np.sqrt(samples))
        value, error = np.append(value, mean), np.append(error, spread)
    return Estimate(value, error)


@sums_out_missing
def log_marginal_estimate(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    rng: np.random.Generator,
    *,
    samples: int,
    missing: Missing = "refuse",
) -> Estimate:
    """log p(x) by importance sampling, for K that cannot be enumerated: log (1/M) sum_m p(x, z_m) / q(z_m), z_m ~ q.

    samples: M >= 2 for each row. Returns value (N,) and standard_error (N,), that of the mean weight carried through
    the logarithm (delta method). Both are estimates, of which nothing is certified; certified at a confidence are
    `bracket`, for decoders without hidden layers, and from below, for any, `log_marginal_lower`. The weights' mean is
    unbiased for p(x), so on average the value is too low, the more so the farther q is from the posterior; where few
    weights dominate, standard_error is too small as well. Where every draw hits a z of zero prior probability, value is
    -inf and standard_error inf. q, and missing, as in `vlb`.
    """
    value, error = np.empty(0), np.empty(0)
    for draws in _log_ratios(model, q, x, rng, samples):
        largest = draws.max(axis=1)
        lost = np.isneginf(largest)
        weights = np.exp(draws - np.where(lost, 0.0, largest)[:, None])
        mean = weights.mean(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(lost, np.inf, weights.std(axis=1, ddof=1) / (np.sqrt(samples) * mean))
            value = np.append(value, np.where(lost, -np.inf, largest + np.log(mean)))
        error = np.append(error, spread)
    return Estimate(value, error)


def _log_ratios(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, rng: np.random.Generator, samples: int
) -> Iterator[Floats]:
    """log p(x, z) - log q(z) of `samples` draws for each row, (rows, samples), so many rows at a time."""
    check_posterior(check_model(model), q)
    rows = as_binary("x", x, model.observed)
    check_generator("rng", rng)
    check_count("samples", samples, 2)
    logits = [np.asarray(stage.forward(rows)[0]) for stage in stages_of_x(q)]
    step = max(1, _PAIRS // samples)
    for start in range(0, len(rows), step):
        part = slice(start, min(start + step, len(rows)))
        pairs = np.repeat(rows[part], samples, axis=0)
        repeated = [np.repeat(each[part], samples, axis=0) for each in logits]
        yield _log_ratio(model, q, pairs, repeated, rng).reshape(-1, samples)


def _log_ratio(model: BernoulliLVM, q: Posterior, x: Bits, logits: list[Floats], rng: np.random.Generator) -> Floats:
    """log p(x, z) - log q(z | x) for one draw of all layers per row of x; logits: of the stages known without z."""
    lowest, *above = logits
    z = draw(lowest, rng)
    ratio = log_likelihood(model, x, z) - log_of_bits(lowest, z)
    if isinstance(q, ChainPosterior):
        q = q.above
        above = [q.stages[0].forward(z)[0]]
    if above:
        assert isinstance(model.prior, BernoulliLVM)
        return ratio + _log_ratio(model.prior, q, z, above, rng)
    return ratio + log_prior(model, z)
