"""The exact sums for rows that miss bits, each bits of its own: one table of logits serves all of them, in NumPy.

With missing="marginalise" the functions of `inference` take a pass for every pattern of missing bits. While a model
learns, each row may have a pattern of its own, and a thousand passes stand where one would do. Here a missing bit is a
factor of 1 in its row's own sum, eq. (2): over the observed i alone

    log p(x_n | z) = sum of x_ni log sigmoid(a_i(z)) + (1 - x_ni) log sigmoid(-a_i(z)),

two matrix products of all rows with some codes; all terms have one sign. No bound on the rounding is reported; tests
hold the results against the passes by pattern.

Of the VLB only the reconstruction knows what is missing, for q sees a 0 there: the prior's term and the entropy are
those of x with these zeros. Its gradient is that of x with the zeros, less what the zeros brought: plus that of
sum_n weights_n E_q[sum of log(1 + e^{a_i(z)}) over the missing i].

x: (N, L) bits, 0 where one is missing. observed: (N, L), which are there; None for all, and then the functions of
`inference` of the same names answer, with their own bits. Values are in nats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from .. import bits
from ..enumeration.engine import Engine, Progress, Workers, on
from ..inference import bounds, exact
from ..inference.arrays import recognition_gradient, recognition_logits
from ..inference.joint import log_prior
from ..inference.missing import Mask, join, parts
from ..inference.rejection import reject
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import Pullback
from ..model.parameters import Parameters, prefixed
from ..model.recognition import Posterior, StagedPosterior
from ..types import Bits, Floats
from .logistic import sigmoid

_PART = 1 << 22
"""Entries of a table of rows by codes, or by bits, that are held at a time."""

_NEVER = -1e300
"""Stands for log 0, which times 0 would be NaN."""


class Codes(NamedTuple):
    """Some codes: which, their bits z (C, K), and what the decoder makes of them, (C, L)."""

    which: slice
    z: Floats
    logits: Floats
    pullback: Pullback


def _codes(model: BernoulliLVM, rows: int) -> Iterator[Codes]:
    """All codes, so many at a time that a table of them by `rows` is small."""
    step = max(1, _PART // max(rows, model.observed))
    for first in range(0, 1 << model.latents, step):
        which = slice(first, min(first + step, 1 << model.latents))
        z = bits.rows_of(np.arange(which.start, which.stop), model.latents).astype(np.float64)
        yield Codes(which, z, *model.decoder.forward(z))


def _log_likelihood(codes: Codes, x: Bits, observed: Mask) -> Floats:
    """log p(x_n | z), eq. (2), of the observed bits, (N, C)."""
    terms = -np.logaddexp(0.0, np.concatenate([-codes.logits, codes.logits], axis=1)).T
    value: Floats = np.empty((len(x), len(codes.z)))
    for rows, told in _ones_and_zeros(x, observed):
        np.matmul(told, terms, out=value[rows])
    return value


def _ones_and_zeros(x: Bits, observed: Mask) -> Iterator[tuple[slice, Floats]]:
    """Some rows, n at a time, and 1.0 where their bits are observed to be 1, then where to be 0, (n, 2 L)."""
    for rows in _some_rows(x):
        there, on = observed[rows], x[rows] == 1
        yield rows, np.concatenate([there & on, there & ~on], axis=1).astype(np.float64)


def _some_rows(x: Bits) -> Iterator[slice]:
    """All rows, so many at a time that a table of their bits is small."""
    step = max(1, _PART // x.shape[1])
    return (slice(start, start + step) for start in range(0, len(x), step))


class _Joint:
    """log p(x_n, z) of the observed bits, some codes at a time; kept where all fit at once."""

    def __init__(self, model: BernoulliLVM, x: Bits, observed: Mask, workers: Workers) -> None:
        self.model, self._x, self._observed = model, x, observed
        self._above: Floats | None = None
        if isinstance(model.prior, BernoulliLVM):
            self._above = exact.log_marginal(model.prior, bits.table(model.latents), **on(workers))
        self._kept: list[tuple[Codes, Floats]] = []
        self.log_px: Floats = np.full(len(x), -np.inf)
        for _, joint in self.pieces():
            largest = np.maximum(joint.max(axis=1), _NEVER)
            with np.errstate(divide="ignore"):
                part = largest + np.log(np.exp(joint - largest[:, None]).sum(axis=1))
            self.log_px = np.logaddexp(self.log_px, part)

    def pieces(self) -> Iterator[tuple[Codes, Floats]]:
        """Codes and their log p(x_n, z), (N, C)."""
        if self._kept:
            yield from self._kept
            return
        for codes in _codes(self.model, len(self._x)):
            prior = log_prior(self.model, codes.z) if self._above is None else self._above[codes.which]
            joint = _log_likelihood(codes, self._x, self._observed)
            joint += prior
            if len(codes.z) == 1 << self.model.latents:
                self._kept = [(codes, joint)]
            yield codes, joint

    def posterior(self) -> Iterator[tuple[Codes, Floats]]:
        """Codes and their p(z | x_n), eq. (6), (N, C)."""
        for codes, joint in self.pieces():
            log_p = joint - self.log_px[:, None]
            yield codes, np.exp(log_p, out=log_p)


def log_marginal(model: BernoulliLVM, x: Bits, observed: Mask | None, workers: Workers = None) -> Floats:
    """log p(x_n), eq. (3), of the observed bits, (N,)."""
    if observed is None:
        return exact.log_marginal(model, x, **on(workers))
    return _Joint(model, x, observed, workers).log_px


def log_marginal_and_grad(
    model: BernoulliLVM, x: Bits, observed: Mask | None, weights: Floats, workers: Workers = None
) -> tuple[Floats, Parameters]:
    """The same, and the gradient of its sum with these weights (N,), eq. (5), by the model's names."""
    if observed is None:
        return exact.log_marginal_and_grad(model, x, weights, **on(workers))
    joint = _Joint(model, x, observed, workers)
    mass = np.zeros(1 << model.latents if isinstance(model.prior, BernoulliLVM) else model.latents)
    decoder = {name: np.zeros_like(value) for name, value in model.decoder.parameters().items()}
    for codes, weighted in joint.posterior():
        weighted *= weights[:, None]
        counts = sum(weighted[rows].T @ told for rows, told in _ones_and_zeros(x, observed))
        ones, zeros = np.split(counts, 2, axis=1)
        p = sigmoid(codes.logits)
        _add(decoder, codes.pullback(ones * (1.0 - p) - zeros * p))
        if isinstance(model.prior, Bernoulli):
            mass += weighted.sum(axis=0) @ codes.z
        else:
            mass[codes.which] = weighted.sum(axis=0)
    if isinstance(model.prior, Bernoulli):
        above = exact.prior_gradient(model.prior, mass, weights.sum())
    else:
        above = exact.grad_log_marginal(model.prior, bits.table(model.latents), mass, **on(workers))
    return joint.log_px, prefixed("prior.", above) | prefixed("decoder.", decoder)


def posterior(
    model: BernoulliLVM, x: Bits, observed: Mask | None, workers: Workers = None, progress: Progress | None = None
) -> Floats:
    """p(z | x_n), eq. (6), given the observed bits, (N, 2**K)."""
    if observed is None:
        return exact.posterior(model, x, **on(workers), progress=progress)
    return np.concatenate([part for _, part in _Joint(model, x, observed, workers).posterior()], axis=1)


def posterior_mean(
    model: BernoulliLVM, x: Bits, observed: Mask | None, workers: Workers = None, progress: Progress | None = None
) -> Floats:
    """E[z | x_n] given the observed bits, (N, K)."""
    if observed is None:
        return exact.posterior_mean(model, x, **on(workers), progress=progress)
    mean = np.zeros((len(x), model.latents))
    for codes, part in _Joint(model, x, observed, workers).posterior():
        mean += part @ codes.z
    return np.minimum(mean, 1.0)


def posterior_draws(
    model: BernoulliLVM, x: Bits, observed: Mask | None, n: int, rng: np.random.Generator, workers: Workers = None
) -> tuple[Floats, Floats]:
    """n draws of p(z | x_n) given the observed bits, (N, n, K), by rejection, and estimates of log p(x_n), (N,).

    By pattern, for decoders without hidden layers, at any K.
    """
    z, log_px = np.empty((len(x), n, model.latents)), np.empty(len(x))
    for part in parts(model, None, join(x, observed)):
        seed = int(rng.integers(1 << 63))  # of its own: rows of two patterns would share their draws
        z[part.rows], log_px[part.rows], _ = reject(part.model, part.x, n, seed, Engine(**on(workers)))
    return z, log_px


def log_joint_table(model: BernoulliLVM, x: Bits, observed: Mask | None, workers: Workers = None) -> Floats:
    """log p(x_n, z) of the observed bits, (N, 2**K)."""
    if observed is None:
        return exact.log_joint_table(model, x, Engine(**on(workers)))
    return np.concatenate([joint for _, joint in _Joint(model, x, observed, workers).pieces()], axis=1)


def vlb(model: BernoulliLVM, q: Posterior, x: Bits, observed: Mask | None, workers: Workers = None) -> Floats:
    """The VLB, eq. (10), of the observed bits, (N,). Where it needs no sum over codes, by pattern."""
    if observed is None:
        return bounds.vlb(model, q, x, **on(workers))
    if not bounds.needs_sum(model, q):
        return bounds.vlb(model, q, join(x, observed), missing="marginalise", **on(workers))
    terms = bounds.vlb_terms(model, q, x, **on(workers))
    value = terms.prior + terms.entropy
    logits = recognition_logits(q.stages[0], x)
    for codes in _codes(model, len(x)):
        value += (_q_of(logits, codes.z) * _log_likelihood(codes, x, observed)).sum(axis=1)
    return value


def kl(model: BernoulliLVM, q: Posterior, x: Bits, observed: Mask | None, workers: Workers = None) -> Floats:
    """KL(q || p(z | x_n)), eq. (7), given the observed bits, (N,): here what eq. (8) leaves, not a route of its own."""
    if observed is None:
        return bounds.kl(model, q, x, **on(workers))
    gap = log_marginal(model, x, observed, workers) - vlb(model, q, x, observed, workers)
    return np.maximum(gap, 0.0)


def grad_vlb(
    model: BernoulliLVM, q: Posterior, x: Bits, observed: Mask | None, weights: Floats, workers: Workers = None
) -> Parameters:
    """The gradient of sum_n weights_n VLB(x_n), eq. (9), by the names of `inference.bounds.grad_vlb`."""
    if observed is None:
        return bounds.grad_vlb(model, q, x, weights, **on(workers))
    if not bounds.needs_sum(model, q):
        return bounds.grad_vlb(model, q, join(x, observed), weights, missing="marginalise", **on(workers))
    gradient = bounds.grad_vlb(model, q, x, weights, **on(workers))
    lowest = q.stages[0]
    logits = recognition_logits(lowest, x)
    slopes = np.zeros_like(logits)
    decoder = {name: np.zeros_like(value) for name, value in model.decoder.parameters().items()}
    for rows in _some_rows(x):
        gone, q_logits = (~observed[rows]).astype(np.float64), logits[rows]
        for codes in _codes(model, len(gone)):
            weighted = _q_of(q_logits, codes.z) * weights[rows, None]
            _add(decoder, codes.pullback((weighted.T @ gone) * sigmoid(codes.logits)))
            weighted *= gone @ np.logaddexp(0.0, codes.logits).T
            slopes[rows] += weighted @ codes.z - sigmoid(q_logits) * weighted.sum(axis=1, keepdims=True)
    _add(gradient, prefixed("model.decoder.", decoder))
    slopes[np.isinf(logits)] = 0.0
    name = "posterior.0." if isinstance(q, StagedPosterior) else "posterior."
    _add(gradient, prefixed(name, recognition_gradient(lowest, x, slopes)))
    return gradient


def _q_of(logits: Floats, z: Floats) -> Floats:
    """q(z | x_n), eq. (4), (N, C)."""
    on = np.maximum(-np.logaddexp(0.0, -logits), _NEVER)
    off = np.maximum(-np.logaddexp(0.0, logits), _NEVER)
    probability: Floats = np.exp(on @ z.T + off @ (1.0 - z).T)
    return probability


def _add(total: Parameters, more: Parameters) -> None:
    for name, value in more.items():
        total[name] += value
