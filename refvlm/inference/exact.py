"""Exact inference by enumeration: log p(x) of eq. (3), the posterior of eq. (6), the gradient of eq. (5).

A deep model is enumerated layer by layer: downwards a layer's log p(z) is the table of log p over the codes, which the
layer above has summed; upwards the gradient of a layer is weighted by the mass that each of its codes received below.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import bits
from ..checks import as_binary, as_weights, check_fits
from ..enumeration import kernels, sums
from ..enumeration.blocks import code_pieces
from ..enumeration.engine import Engine, Progress
from ..enumeration.problem import Prior, Recognition
from ..enumeration.sums import LogSum
from ..enumeration.tasks import task
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import Parameters, prefixed
from ..types import Bits, Floats
from . import arrays
from .certificate import error_bound, mean_error
from .kept import Checkpoint, keeps_sums, opened
from .layers import Layer, prepare
from .missing import Missing, sums_out_missing

_BY_POSTERIOR = Recognition(np.zeros((0, 2, 0)), np.zeros((0, 2, 0)))
"""An empty q: the weights are the posterior's."""


class LayerPrior(NamedTuple):
    """log p(z) of a layer as kernels take it; a bound on the error of each entry of a table; what made the table."""

    arrays: Prior
    error: float
    above: Marginal | None = None


class Marginal(NamedTuple):
    """What the pass for log p(x) leaves for a layer: the prior, the sums p(x_n) and their logarithms, (N,) nats."""

    layer: Layer
    prior: LayerPrior
    sums: LogSum
    log_px: Floats

    @property
    def error(self) -> Floats:
        """A bound on the rounding error of log_px, (N,)."""
        return error_bound(self.layer.model, self.log_px, self.sums.route, self.prior.error)

    def gradient(self, weights: Floats, engine: Engine) -> Parameters:
        """The gradient of sum_n weights_n log p(x_n), eq. (5), by the names of the layer's model."""
        source = self.layer.source
        flat, bit_mass, code_mass = sums.gradient(
            source, self.prior.arrays, _BY_POSTERIOR, self.layer.x, weights, self.sums, engine
        )
        above = self.prior.above
        if above is None:
            upper = prior_gradient(self.layer.model.top, bit_mass, weights.sum())
        else:
            upper = above.gradient(code_mass, engine)
        return prefixed("prior.", upper) | prefixed("decoder.", source.named(flat))


def table_prior(log_p: Floats, latents: int) -> Prior:
    """log p(z) as one number for each code, (2**K,)."""
    return Prior(np.zeros((2, latents)), log_p)


def prior_pass(layers: Sequence[Layer], engine: Engine) -> LayerPrior:
    """log p(z) of the lowest layer: closed form, or the marginal of the layers above for all its codes."""
    layer, *upper = layers
    if not upper:
        return LayerPrior(arrays.log_probabilities(layer.model.top), 0.0)
    above = marginal_pass(upper, engine)
    return LayerPrior(table_prior(above.log_px, layer.model.latents), float(above.error.max()), above)


def marginal_pass(layers: Sequence[Layer], engine: Engine, *, moments: bool = False) -> Marginal:
    """log p(x_n), eq. (3), from the highest layer downwards. moments: the posterior's, of the lowest layer, as well."""
    layer, prior = layers[0], prior_pass(layers, engine)
    total = sums.log_sum(layer.source, prior.arrays, layer.x, engine, moments) if len(layer.x) else sums.no_sum(0)
    return Marginal(layer, prior, total, kernels.marginal.finish(total.power, total.total))


@overload
def log_marginal(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[False] = False, missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats: ...  # fmt: skip
@overload
def log_marginal(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[True], missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@keeps_sums
@sums_out_missing
def log_marginal(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats | tuple[Floats, Floats]:
    """Exact log p(x), eq. (3): the sum over all 2**K latents.

    x: (N, L) zeros and ones. With missing="marginalise" bits that are NaN or masked are summed out, exactly: what comes
    is log p of the others (`refvlm.inference.missing`).
    Returns (N,) nats; with_error=True also (N,) bounds on the absolute rounding error
    (proof in `refvlm.inference.certificate`; a decoder that is no MLP is taken at its word).
    workers: threads, by default all available cores; or executor: any concurrent.futures.Executor, of processes or of a
    cluster, too (recipes in refvlm/enumeration/README.md).
    progress: called as progress(done, total), anew for every pass over the latents. The result has the same bits for
    any of these, and a row's the same bits in any batch of at least 32 rows, and in any of fewer.
    checkpoint: a file that keeps what has been summed, every two seconds; the same call goes on from it, with any
    workers, to the same bits, and `log_marginal_so_far` says what it proves already. Raises ValueError or TypeError for
    an x that is not binary (N, L), and ValueError for a checkpoint of something else.

    >>> import numpy as np, refvlm
    >>> model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.0]), refvlm.MLP([[[2.0, -1.0]]], [[0.5, 0.0]]))
    >>> np.exp(refvlm.log_marginal(model, [[0, 0], [1, 0], [0, 1], [1, 1]])).sum().round(12)
    np.float64(1.0)
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    result = marginal_pass(prepare(model, rows), Engine(workers, executor, progress, opened(checkpoint)))
    return (result.log_px, result.error) if with_error else result.log_px


@sums_out_missing
def posterior(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    missing: Missing = "refuse",
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
    bits.check_codes(model.latents)
    check_fits(
        f"posterior: the table of {len(rows)} rows by 2**{model.latents} codes",
        8 * len(rows) << model.latents,
        "use posterior_mean or sample_posterior, which need no table, or fewer rows at a time",
    )
    engine = Engine(workers, executor, progress)
    if len(rows) == 0:
        return np.zeros((0, 1 << model.latents))
    layer, prior, total, _ = marginal_pass(prepare(model, rows), engine)
    table = sums.joint_table(layer.source, prior.arrays, rows, engine)
    return kernels.joint.normalise(table, total.power, total.total)


@overload
def posterior_mean(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[False] = False, missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats: ...  # fmt: skip
@overload
def posterior_mean(
    model: BernoulliLVM, x: ArrayLike, *, with_error: Literal[True], missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@keeps_sums
@sums_out_missing
def posterior_mean(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats | tuple[Floats, Floats]:
    """E[z | x] under p(z | x), eq. (6): (N, K). One pass, no table.

    with_error=True: also (N, K) bounds on the rounding error. Arguments as in `log_marginal`.
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    engine = Engine(workers, executor, progress, opened(checkpoint))
    if len(rows) == 0:
        nothing = np.zeros((0, model.latents))
        return (nothing, nothing.copy()) if with_error else nothing
    _, prior, total, log_px = marginal_pass(prepare(model, rows), engine, moments=True)
    mean = np.minimum(total.moment / total.total[:, None], 1.0)
    return (mean, mean_error(model, mean, log_px, total.route, prior.error)) if with_error else mean


def invert_posterior(model: BernoulliLVM, rows: Bits, n: int, rng: np.random.Generator, engine: Engine) -> Bits:
    """n independent draws from p(z | x) for every row, (N, n, K), by inverting the distribution function.

    First which piece of {0,1}^K, then which code in it, so that no table over all codes is needed.
    """
    bits.check_codes(model.latents)
    codes = np.zeros((len(rows), n), dtype=np.int64)
    if codes.size == 0:
        return np.zeros((len(rows), n, model.latents), dtype=np.uint8)
    pieces = code_pieces(model.latents)
    check_fits(
        f"sample_posterior: the sums of {len(rows)} rows over {len(pieces)} pieces of the cube",
        32 * len(rows) * len(pieces) + 16 * pieces.step,
        "use fewer rows at a time",
    )
    layers = prepare(model, rows)
    source, prior = layers[0].source, prior_pass(layers, engine).arrays
    power, total = sums.piece_sums(source, prior, rows, engine)
    mass = np.ldexp(total, np.maximum(power - power.max(axis=0), -1100.0).astype(np.int64))
    chosen = _invert(mass.T, rng.random(codes.shape))
    uniforms = rng.random(codes.shape)
    for piece in np.unique(chosen):
        code, count = pieces[piece], pieces.step
        hit = np.flatnonzero((chosen == piece).any(axis=1))
        table = task(kernels.joint.joint_table, prior, rows[hit]).run(source.piece(code, count), code, count)
        weights = kernels.joint.normalise(table, power[piece, hit], total[piece, hit])
        drawn = code + _invert(weights, uniforms[hit])
        codes[hit] = np.where(chosen[hit] == piece, drawn, codes[hit])
    return bits.rows_of(codes.ravel(), model.latents).reshape(len(rows), n, model.latents)


def _invert(weights: Floats, uniforms: Floats) -> NDArray[np.int64]:
    """For each row and uniform the first index at which the distribution function exceeds it; never one of weight 0."""
    distribution = np.cumsum(weights, axis=1)
    distribution /= distribution[:, -1:]
    return np.stack([np.searchsorted(f, u, side="right") for f, u in zip(distribution, uniforms, strict=True)])


def log_joint_table(model: BernoulliLVM, x: Bits, engine: Engine) -> Floats:
    """log p(x, z) of every code, (N, 2**K); refused where the table will not fit."""
    bits.check_codes(model.latents)
    check_fits(
        f"the table of log p(x, z) of {len(x)} rows by 2**{model.latents} codes",
        8 * len(x) << model.latents,
        "use fewer rows at a time",
    )
    if len(x) == 0:
        return np.zeros((0, 1 << model.latents))
    layers = prepare(model, x)
    return sums.joint_table(layers[0].source, prior_pass(layers, engine).arrays, x, engine)


@sums_out_missing
def grad_log_marginal(
    model: BernoulliLVM,
    x: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Parameters:
    """The gradient of sum_n weights_n log p(x_n), eq. (5), by the names of `model.parameters()`.

    weights: (N,), None for ones. The gradient with respect to an infinite prior logit is 0. Other arguments as in
    `log_marginal`.
    """
    return log_marginal_and_grad(model, x, weights, workers=workers, executor=executor, progress=progress)[1]


@keeps_sums
@sums_out_missing
def log_marginal_and_grad(
    model: BernoulliLVM,
    x: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> tuple[Floats, Parameters]:
    """log p(x), (N,), and the gradient of its weighted sum, in one call: see `log_marginal`, `grad_log_marginal`."""
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    row_weights = as_weights(weights, len(rows))
    engine = Engine(workers, executor, progress, opened(checkpoint))
    if len(rows) == 0:
        return np.zeros(0), {name: np.zeros_like(value) for name, value in model.parameters().items()}
    result = marginal_pass(prepare(model, rows), engine)
    return result.log_px, result.gradient(row_weights, engine)


def prior_gradient(prior: Bernoulli, bit_mass: Floats, mass: float) -> Parameters:
    """The gradient of sum of r(z) log p(z), from the masses: mass_k - mass beta_k; 0 for an infinite logit."""
    beta = kernels.bernoulli.bernoulli(np.array(prior.logits[None]))[0][0, 1]
    return {"logits": np.where(np.isinf(prior.logits), 0.0, bit_mass - mass * beta)}
