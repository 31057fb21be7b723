"""Exact inference by enumeration: log p(x) of eq. (3), the posterior of eq. (6), the gradient of eq. (5).

A deep model is enumerated layer by layer: its prior is tabulated over the codes of the layer next to x by the
same sum one layer up, and gradients come back the same way, weighted by the mass that each code received.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import bits
from ..checks import as_binary, as_weights, check_count, check_fits, check_generator
from ..enumeration import kernels, sums
from ..enumeration.blocks import code_pieces
from ..enumeration.engine import Engine, Progress, call
from ..enumeration.problem import Prior
from ..enumeration.sums import LogSum, Source
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM, prefixed
from ..model.mlp import Parameters
from . import arrays
from .certificate import error_bound, mean_error

__all__ = [
    "Evidence",
    "evidence",
    "grad_log_marginal",
    "log_marginal",
    "log_joint_table",
    "log_marginal_and_grad",
    "log_prior_arrays",
    "posterior",
    "posterior_mean",
    "prior_gradient",
    "sample_posterior",
]

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]


class Evidence(NamedTuple):
    """What a pass over {0,1}^K leaves: the sums p(x_n) and their logarithms.

    prior_error: a bound on the error of each entry in the table of a prior that is a model.
    """

    model: BernoulliLVM
    source: Source
    prior: Prior
    sums: LogSum
    log_px: Floats
    prior_error: float

    @property
    def error(self) -> Floats:
        """A bound on the rounding error of log_px, (N,)."""
        return error_bound(self.model, self.log_px, self.sums.road, self.prior_error)


def log_prior_arrays(prior: Bernoulli | BernoulliLVM, engine: Engine) -> tuple[Prior, float]:
    """log p(z), bit by bit if factorised, a table over all codes for a model; and the table's largest error."""
    if isinstance(prior, Bernoulli):
        return arrays.prior_bits(prior), 0.0
    found = evidence(prior, arrays.all_codes(prior.observed), engine)
    return Prior(np.zeros((2, prior.observed)), found.log_px), float(found.error.max())


def evidence(model: BernoulliLVM, x: Bits, engine: Engine, moments: bool = False) -> Evidence:
    """log p(x_n), eq. (3), with what later passes need; with the posterior's moments if asked for."""
    source = arrays.source(model.decoder)
    prior, prior_error = log_prior_arrays(model.prior, engine)
    if len(x) == 0:
        return Evidence(model, source, prior, sums.no_sum(0), np.zeros(0), prior_error)
    found = sums.log_sum(source, prior, x, engine, moments)
    log_px = kernels.get("finish")(found.power, found.total)
    return Evidence(model, source, prior, found, log_px, prior_error)


@overload
def log_marginal(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[False] = False, workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def log_marginal(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[True], workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
def log_marginal(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    with_error: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """Exact log p(x), eq. (3): the sum over all 2**K latents.

    x: (N, L) zeros and ones. Returns (N,) nats; with_error=True also (N,) bounds on the absolute rounding error
    (proof in `refvlm.inference.certificate`; a decoder that is no MLP is taken at its word).
    workers: threads, by default all available cores; or executor: any concurrent.futures.Executor.
    progress: called as progress(done, total), anew for every pass over the latents. The result has the same bits for
    any of these, and a row's the same bits in any batch of at least 32 rows, and in any of fewer. Raises ValueError or
    TypeError for an x that is not binary (N, L).

    >>> import numpy as np, refvlm
    >>> model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.0]), refvlm.MLP([[[2.0, -1.0]]], [[0.5, 0.0]]))
    >>> np.exp(refvlm.log_marginal(model, [[0, 0], [1, 0], [0, 1], [1, 1]])).sum().round(12)
    np.float64(1.0)
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    found = evidence(model, rows, Engine(workers, executor, progress))
    if not with_error:
        return found.log_px
    return found.log_px, found.error


def posterior(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats:
    """p(z | x), eq. (6), for every code: (N, 2**K); column c is the code with z_k = (c >> k) & 1.

    Rows sum to 1. In a deep model z is the layer next to x. Refused with a ValueError, before any work, where the
    table will not fit into memory. x, workers, executor, progress as in `log_marginal`.
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    check_fits(
        f"posterior: the table of {len(rows)} rows by 2**{model.latents} codes",
        8 * len(rows) << model.latents,
        "use posterior_mean or sample_posterior, which need no table, or fewer rows at a time",
    )
    engine = Engine(workers, executor, progress)
    if len(rows) == 0:
        return np.zeros((0, 1 << model.latents))
    found = evidence(model, rows, engine)
    table = sums.joint_table(found.source, found.prior, rows, engine)
    normalised: Floats = kernels.get("normalise")(table, found.sums.power, found.sums.total)
    return normalised


@overload
def posterior_mean(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[False] = False, workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def posterior_mean(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[True], workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
def posterior_mean(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    with_error: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """E[z | x] under p(z | x), eq. (6): (N, K). One pass, no table.

    with_error=True: also (N, K) bounds on the rounding error. Arguments as in `log_marginal`.
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    engine = Engine(workers, executor, progress)
    if len(rows) == 0:
        nothing = np.zeros((0, model.latents))
        return (nothing, nothing.copy()) if with_error else nothing
    found = evidence(model, rows, engine, moments=True)
    mean = np.minimum(found.sums.moment / found.sums.total[:, None], 1.0)
    if not with_error:
        return mean
    return mean, mean_error(model, mean, found.log_px, found.sums.road, found.prior_error)


def sample_posterior(
    model: BernoulliLVM,
    x: ArrayLike,
    n: int,
    rng: np.random.Generator,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Bits:
    """n independent draws of z from the exact posterior p(z | x) for every row: (N, n, K).

    By inverting the distribution function: first which piece of {0,1}^K, then which code in it, so no table over
    all codes is needed. Arguments as in `log_marginal`.
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    check_count("n", n, 0)
    check_generator("rng", rng)
    engine = Engine(workers, executor, progress)
    codes = np.zeros((len(rows), n), dtype=np.int64)
    if codes.size == 0:
        return np.zeros((len(rows), n, model.latents), dtype=np.uint8)
    pieces = code_pieces(model.latents)
    check_fits(
        f"sample_posterior: the sums of {len(rows)} rows over {len(pieces)} pieces of the cube",
        32 * len(rows) * len(pieces) + 16 * pieces.step,
        "use fewer rows at a time",
    )
    source, (prior, _) = arrays.source(model.decoder), log_prior_arrays(model.prior, engine)
    power, total = sums.piece_sums(source, prior, rows, engine)
    mass = np.ldexp(total, np.maximum(power - power.max(axis=0), -1100.0).astype(np.int64))
    chosen = _invert(mass.T, rng.random(codes.shape))
    uniforms = rng.random(codes.shape)
    for piece in np.unique(chosen):
        first, count = pieces[piece], pieces.step
        hit = np.flatnonzero((chosen == piece).any(axis=1))
        table = call("joint_table", (source.piece(first, count), prior, rows[hit], first, count))
        weights = kernels.get("normalise")(table, power[piece, hit], total[piece, hit])
        drawn = first + _invert(weights, uniforms[hit])
        codes[hit] = np.where(chosen[hit] == piece, drawn, codes[hit])
    return bits.rows_of(codes.ravel(), model.latents).reshape(len(rows), n, model.latents)


def _invert(weights: Floats, uniforms: Floats) -> NDArray[np.int64]:
    """For each row and uniform the first index whose cumulative share exceeds it; never one of weight 0."""
    shares = np.cumsum(weights, axis=1)
    shares /= shares[:, -1:]
    return np.stack([np.searchsorted(share, u, side="right") for share, u in zip(shares, uniforms, strict=True)])


def log_joint_table(model: BernoulliLVM, x: Bits, engine: Engine) -> Floats:
    """log p(x, z) of every code, (N, 2**K); refused where the table will not fit."""
    check_fits(
        f"the table of log p(x, z) of {len(x)} rows by 2**{model.latents} codes",
        8 * len(x) << model.latents,
        "use fewer rows at a time",
    )
    if len(x) == 0:
        return np.zeros((0, 1 << model.latents))
    return sums.joint_table(arrays.source(model.decoder), log_prior_arrays(model.prior, engine)[0], x, engine)


def grad_log_marginal(
    model: BernoulliLVM,
    x: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Parameters:
    """The gradient of sum_n weights_n log p(x_n), eq. (5), by the names of `model.parameters()`.

    weights: (N,), None for ones. The gradient with respect to an infinite prior logit is 0. Other arguments as in
    `log_marginal`.
    """
    return log_marginal_and_grad(model, x, weights, workers=workers, executor=executor, progress=progress)[1]


def log_marginal_and_grad(
    model: BernoulliLVM,
    x: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Parameters]:
    """log p(x), (N,), and the gradient of its weighted sum, in one call: see `log_marginal`, `grad_log_marginal`."""
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    row_weights = as_weights(weights, len(rows))
    engine = Engine(workers, executor, progress)
    if len(rows) == 0:
        return np.zeros(0), {name: np.zeros_like(value) for name, value in model.parameters().items()}
    found = evidence(model, rows, engine)
    flat, bit_mass, code_mass = sums.gradient(
        found.source, found.prior, arrays.NO_RECOGNITION, rows, row_weights, found.sums, engine
    )
    if isinstance(model.prior, Bernoulli):
        above = prior_gradient(model.prior, bit_mass, row_weights.sum())
    else:
        above = grad_log_marginal(
            model.prior,
            arrays.all_codes(model.latents),
            code_mass,
            workers=workers,
            executor=executor,
            progress=progress,
        )
    return found.log_px, prefixed("prior.", above) | prefixed("decoder.", arrays.named(found.source, flat))


def prior_gradient(prior: Bernoulli, bit_mass: Floats, mass: float) -> Parameters:
    """Of sum of r(z) log p(z), from the mass of each bit and in all: mass_k - mass beta_k; 0 for an infinite logit."""
    beta = kernels.get("bernoulli")(np.array(prior.logits[None]))[0][0, 1]
    return {"logits": np.where(np.isinf(prior.logits), 0.0, bit_mass - mass * beta)}
