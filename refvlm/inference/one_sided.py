"""Certified bounds from importance weights, for any decoder and q: from below for any x, from above for the model's.

w = p(x, z) / q(z | x) with z ~ q is not negative, and its mean is p(x), or less where q has no mass.

- Below: somebody who bets that the mean of w is above m has a capital that is a non-negative supermartingale if it is
  not, however large w may be. So what `capital.py` refutes from below holds without any bound on w. The draws are
  scaled by the largest of them, which changes nothing: bets are parts of w / m.
- Above: if z_1 is a draw of the posterior p(z | x), and z_2, ..., z_M are of q, then

      E[M / (w_1 + ... + w_M)] = 1 / p(x)    (less where all weights of q can be 0),

  because p(z_1 | x) = w_1 q(z_1 | x) / p(x), and any of the M could have been the first. So over N rows the product of
  p(x_n) M / sum of w has a mean of at most 1, and by Markov's inequality it exceeds 1 / delta with probability delta at
  most. Only a model's own draws come with a z_1; so other rows have no such bound.

Bits are drawn from probabilities on a grid of 2**-53, the rarer value's rounded up, and these are what q is. The
rounding of log w is at most that of the logits (`certificate.py`, step 1) and (2 L + 2 K + 40) u times the magnitudes
added.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, check_count, check_generator, describe
from ..enumeration import kernels
from ..enumeration.draws import histogram
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import ChainPosterior, Posterior
from ..types import Bits, Floats
from .arrays import check_model, check_posterior, recognition_logits, stages_of_x
from .capital import Capital
from .certificate import SLACK, U, logit_errors
from .exact import log_marginal
from .joint import log_likelihood, log_prior
from .rejection import sample_posterior

_GRID = 2.0**53
_PAIRS = 1 << 16
"""Pairs (x, z) that are looked at together; bounds the memory."""


def log_marginal_lower(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    rng: np.random.Generator,
    *,
    samples: int = 10000,
    confidence: float = 1.0 - 1e-9,
) -> Floats:
    """Lower bounds on log p(x_n), (N,) nats, certified: they hold together with this confidence. For any decoder and q.

    x (N, L); q as in `vlb`; samples: draws of z from q for each row. With their relative variance v they lie about
    sqrt(2 v log(N / (1 - confidence)) / samples) below log p(x): a q far from the posterior makes them low, not wrong.
    -inf where every draw hits a z of zero prior probability. There is no such bound from above: a q that misses a part
    of the posterior cannot know of it. `log_marginal`, which sums, has both sides, and for decoders without hidden
    layers `bracket`; for others there is nothing but the sum.
    Raises ValueError or TypeError for arguments that do not fit.
    """
    rows = _checked(model, q, x, rng, confidence)
    check_count("samples", samples, 2)
    delta = (1.0 - confidence) / max(len(rows), 1)
    bounds = np.empty(len(rows))
    logits = [recognition_logits(stage, rows) for stage in stages_of_x(q)]
    for n in range(len(rows)):
        step = max(_PAIRS // (model.latents + model.observed), 1)
        sizes = [min(step, samples - start) for start in range(0, samples, step)]
        same = [np.full(size, n) for size in sizes]
        parts = [_log_weights(model, q, rows[some], [each[some] for each in logits], None, rng) for some in same]
        weights, magnitudes = (np.concatenate(column) for column in zip(*parts, strict=True))
        top = float(weights.max())
        if top == -math.inf:
            bounds[n] = -math.inf
            continue
        low = Capital(histogram(weights - top)).lower(delta)
        known = magnitudes[np.isfinite(weights)].max()
        bounds[n] = top + math.log(low) - rounding(model, known) if low > 0.0 else -math.inf
    return np.minimum(bounds, 0.0)


def mean_log_marginal_upper(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    z: ArrayLike,
    rng: np.random.Generator,
    *,
    samples: int = 1000,
    confidence: float = 1.0 - 1e-9,
) -> float:
    """An upper bound on the mean of log p(x_n) over rows that the model drew, nats, certified at this confidence.

    x (N, L), z (N, K): from `model.sample`, together; for other rows, or other z, or a q that was fitted to these z,
    the bound means nothing. samples: M >= 1 draws of z for each row, the given one included. It is the mean of
    log((1/M) sum of w), and log(1 / (1 - confidence)) / N more: with `log_marginal_lower` it says how good an encoder
    is on data of the model's own. Raises ValueError or TypeError for arguments that do not fit, for z that the model
    cannot have drawn, and for no rows.
    """
    rows = _checked(model, q, x, rng, confidence)
    check_count("samples", samples, 1)
    latent = as_binary("z", z, model.latents, rows=len(rows))
    if len(rows) == 0:
        raise ValueError("x: got no rows, wanted at least one that the model drew")
    logits = [recognition_logits(stage, rows) for stage in stages_of_x(q)]
    own, magnitudes = _log_weights(model, q, rows, logits, latent, rng)
    if np.isneginf(own).any():
        raise ValueError(
            f"z: got one for row {int(own.argmin())} that has probability 0 together with x, wanted the pairs that "
            "x, z = model.sample(n, rng) drew"
        )
    total, largest = own, float(magnitudes.max())
    for _ in range(samples - 1):
        weights, magnitudes = _log_weights(model, q, rows, logits, None, rng)
        total = np.logaddexp(total, weights)
        largest = max(largest, float(magnitudes[np.isfinite(weights)].max(initial=0.0)))
    mean = float(total.mean()) - math.log(samples)
    slack = rounding(model, largest) + SLACK * U * (2 * samples + 10) * (2.0 + largest + math.log(samples))
    return min(mean + math.log(1.0 / (1.0 - confidence)) / len(rows) + slack, 0.0)


def rounding(model: BernoulliLVM, magnitude: float) -> float:
    """A bound on the error of log w, where so much is added up."""
    error = 0.0
    for layer in model.layers:
        if isinstance(layer.decoder, MLP):
            error += float(logit_errors(layer.decoder, False, encoder=True).sum())
        error += (2 * layer.observed + 2 * layer.latents + 40) * U * (magnitude + 1.0)
    return SLACK * error


def _checked(model: BernoulliLVM, q: Posterior, x: ArrayLike, rng: np.random.Generator, confidence: float) -> Bits:
    check_posterior(check_model(model), q)
    check_generator("rng", rng)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: got {describe(confidence)}, wanted a number above 0 and below 1")
    return as_binary("x", x, model.observed)


def _log_weights(
    model: BernoulliLVM, q: Posterior, x: Bits, logits: list[Floats], given: Bits | None, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """log w of one draw of all layers for each row, and the magnitudes that are added up, (N,).

    logits: of the stages known without z; given: the lowest z.
    """
    lowest, *upper = logits
    z, log_q = _draw(lowest, rng) if given is None else (given, _log_q(lowest, given))
    likelihood = log_likelihood(model, x, z)
    if np.isnan(likelihood).any():
        raise ValueError("decoder: forward returned logits that are no numbers; wanted finite ones")
    if isinstance(q, ChainPosterior):
        q = q.above
        upper = [recognition_logits(q.stages[0], z)]
    if upper:
        assert isinstance(model.prior, BernoulliLVM)
        above = None if given is None else sample_posterior(model.prior, z, 1, rng)[:, 0]
        prior, more = _log_weights(model.prior, q, z, upper, above, rng)
    elif isinstance(model.prior, BernoulliLVM):
        prior, error = log_marginal(model.prior, z, with_error=True)
        more = np.abs(prior) + error / U
    else:
        prior = log_prior(model, z)
        more = np.where(np.isinf(prior), 0.0, np.abs(prior))
    with np.errstate(invalid="ignore"):
        weights = np.where(np.isneginf(log_q), np.inf, likelihood + prior - log_q)
    return weights, np.abs(likelihood) + more + np.where(np.isinf(log_q), 0.0, np.abs(log_q))


def _on_grid(logits: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The probability of each bit's rarer value, and whether that is 1."""
    off, on = kernels.bernoulli.bernoulli(logits)[0].transpose(1, 0, 2)
    rare = np.minimum(np.ceil(np.minimum(on, off) * _GRID) / _GRID, 0.5)
    return np.where(np.isinf(logits), 0.0, np.maximum(rare, 1.0 / _GRID)), on < off


def _draw(logits: Floats, rng: np.random.Generator) -> tuple[Bits, Floats]:
    rare, one = _on_grid(logits)
    z = ((rng.random(logits.shape) < rare) == one).astype(np.uint8)
    return z, _log_q(logits, z)


def _log_q(logits: Floats, z: Bits) -> Floats:
    """log q(z), (N,)."""
    rare, one = _on_grid(logits)
    with np.errstate(divide="ignore"):
        total: Floats = np.where((z == 1) == one, np.log(rare), np.log1p(-rare)).sum(axis=1)
    return total
