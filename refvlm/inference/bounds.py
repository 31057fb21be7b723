"""The variational lower bound and the gap to log p(x), exactly: eqs. (7) to (10).

log p(x) = VLB + KL, eq. (8), is computed by three routes that share nothing but the network, so that it can fail:
log p(x) by the streaming sum; the VLB from the closed forms of its prior and entropy terms and the enumerated
reconstruction; KL as a sum of non-negative terms over the normalised posterior.

For a chain q(z1 | x) q(z2 | z1) on a deep model both are recursions over the layers: the prior term of the lower
layer is the expected VLB of the layers above, and KL follows from the chain rule,
KL = KL(q1 || p(z1 | x)) + E_q1[KL(q(z2 | z1) || p(z2 | z1))]. For a layerwise q(z1 | x) q(z2 | x) the VLB has a closed
form over layers (`layerwise.py`), and KL is the chain's, row by row: for one x q(z2 | x) is a q(z2 | z1).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Literal, NamedTuple, TypeGuard, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import bits, show
from ..checks import as_binary, as_weights
from ..enumeration import kernels, sums
from ..enumeration.engine import Engine, Progress
from ..enumeration.problem import Recognition
from ..enumeration.tasks import Task, task
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP, Network
from ..model.parameters import Parameters, prefixed
from ..model.recognition import LayerwisePosterior, Posterior, StagedPosterior
from ..types import Bits, Floats
from . import arrays, layerwise
from .bound_certificate import expectation_error, kl_error, largest_logits, vlb_error
from .exact import Marginal, marginal_pass, prior_gradient, prior_pass, table_prior
from .kept import Checkpoint, keeps_sums, opened
from .layers import Layer, prepare, prepare_layerwise
from .missing import Missing, sums_out_missing
from .terms import Bound, VLBTerms, check_finite, of_no_rows

SUMMED_LATENTS = 20
"""Up to so many latents the VLB is a sum over codes, whatever the decoder."""

LARGEST_LOGIT = 1e4
"""Where a linear decoder's logits can be larger, characteristic functions take longer than anybody wants."""


class Decomposition(NamedTuple):
    """Eq. (8), (N,) each, nats: residual = log_px - (vlb + kl), 0 by definition where vlb = -inf and kl = +inf.

    log_px_error, vlb_error and kl_error bound the rounding errors; |residual| is never above their sum.
    """

    log_px: Floats
    vlb: Floats
    kl: Floats
    residual: Floats
    log_px_error: Floats
    vlb_error: Floats
    kl_error: Floats

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        kinds = dict.fromkeys(("log_px", "vlb", "kl"), show.EXACT) | {"residual": "log_px - (vlb + kl)"}
        named = {name: (kinds.get(name, show.ROUNDING), value) for name, value in self._asdict().items()}
        return show.statistics("Decomposition, in nats", named)


@overload
def vlb(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[False] = False, missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats: ...  # fmt: skip
@overload
def vlb(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[True], missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@keeps_sums
@sums_out_missing
def vlb(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats | tuple[Floats, Floats]:
    """The exact variational lower bound, eqs. (8) and (10): (N,) nats, never above log p(x).

    -inf where q puts mass on a z of zero prior probability. With a single q on a deep model the collapsed bound,
    log p(z1) exact; with a `ChainPosterior` that of all its layers jointly, and exact above them; with a
    `LayerwisePosterior` that of all layers, whose decoders above the lowest must be linear. with_error=True: also
    (N,) bounds on the rounding error (proof in `refvlm.inference.bound_certificate`). x and the rest as in
    `log_marginal`. Above 20 latents a linear decoder needs no sum over codes where its prior is a Bernoulli or q
    layerwise: any K will do.
    """
    result = _bound(model, q, _checked(model, q, x), Engine(workers, executor, progress, opened(checkpoint)))
    return (result.value, result.error) if with_error else result.value


@sums_out_missing
def vlb_terms(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> VLBTerms:
    """The three terms of the VLB, eq. (10): .prior, .reconstruction, .entropy, (N,) nats each. See `vlb`."""
    return _bound(model, q, _checked(model, q, x), Engine(workers, executor, progress)).terms


def _checked(model: BernoulliLVM, q: Posterior, x: ArrayLike) -> Bits:
    """The rows of x, once model, q and x are what they should be."""
    arrays.check_posterior(arrays.check_model(model), q)
    return as_binary("x", x, model.observed)


def needs_sum(model: BernoulliLVM, q: Posterior | None = None) -> bool:
    """Whether the VLB, under q if it is a `LayerwisePosterior`, takes a sum over all codes of the layer next to x.

    It does not where the decoder is linear, its prior a Bernoulli or q layerwise, K above `SUMMED_LATENTS` and no logit
    can exceed `LARGEST_LOGIT`; then K is any number.
    """
    free = isinstance(model.prior, Bernoulli) or isinstance(q, LayerwisePosterior)
    return not free or model.latents <= SUMMED_LATENTS or not _bounded(model.decoder)


def _linear(decoder: Network) -> TypeGuard[MLP]:
    return isinstance(decoder, MLP) and len(decoder.weights) == 1


def _bounded(decoder: Network) -> bool:
    """Whether it is linear and small enough for characteristic functions."""
    return _linear(decoder) and float(largest_logits(decoder).max()) <= LARGEST_LOGIT


def _by_layers(model: BernoulliLVM, q: Posterior) -> bool:
    """Whether the VLB is a term for each layer; else it is a recursion over tables of codes."""
    return isinstance(q, LayerwisePosterior) or not needs_sum(model)


def check_decoders(model: BernoulliLVM, q: Posterior) -> None:
    """Refuse decoders with which the VLB would take more than anybody has."""
    decoder = model.decoder
    if needs_sum(model, q) and (isinstance(model.prior, Bernoulli) or isinstance(q, LayerwisePosterior)):
        if _linear(decoder) and model.latents > bits.CODE_BITS:
            raise ValueError(
                f"decoder: got logits of up to {largest_logits(decoder).max():.3g}, wanted at most {LARGEST_LOGIT:g} "
                f"for the exact VLB of {model.latents} latents, which takes time in proportion; vlb_estimate takes any"
            )
        bits.check_codes(model.latents)
    for depth, part in enumerate(model.layers[1:] if isinstance(q, LayerwisePosterior) else (), 1):
        if not _bounded(part.decoder):
            raise ValueError(
                f"decoder: {'prior.' * depth}decoder is not linear, or has logits above {LARGEST_LOGIT:g}, wanted "
                "neither for the exact VLB of a LayerwisePosterior; a ChainPosterior or vlb_estimate take such a model"
            )


def _bound(model: BernoulliLVM, q: Posterior, x: Bits, engine: Engine) -> Bound:
    """The VLB of rows that are checked."""
    check_decoders(model, q)
    if _by_layers(model, q):
        return layerwise.bound_pass(prepare_layerwise(model, x, q), engine, summed=needs_sum(model, q))
    return _bound_pass(prepare(model, x, q), engine)


def _bound_pass(layers: Sequence[Layer], engine: Engine) -> Bound:
    """The VLB of the lowest layer; of a chain from the highest stage downwards."""
    layer, *upper = layers
    if len(layer.x) == 0:
        return of_no_rows()
    if not needs_sum(layer.model):
        return layerwise.bound_pass(layers, engine, summed=False)
    model, q, stage = layer.model, layer.q, layer.stage
    assert stage is not None
    reconstruction = layerwise.summed_reconstruction(layer, engine)
    closed = arrays.log_probabilities(model.top).bits if not upper else np.zeros((2, model.latents))
    prior, entropy = kernels.bernoulli.prior_and_entropy(q, closed)
    table_error, entropy_above = 0.0, None
    if upper and upper[0].stage is not None:
        above = _bound_pass(upper, engine)
        tables = np.stack([above.terms.prior + above.terms.reconstruction, above.terms.entropy])
        prior, entropy_above = kernels.bound.expectation(q, tables).T
        entropy, table_error = entropy + entropy_above, float(above.error.max())
    elif upper:
        table, table_error, _ = prior_pass(layers, engine)
        prior = kernels.bound.expectation(q, table.table[None])[:, 0]
    error = vlb_error(model, stage, prior, reconstruction, entropy, table=table_error)
    if entropy_above is not None:
        error = error + expectation_error(stage, entropy_above)
    return Bound(VLBTerms(prior, reconstruction, entropy), error)


@overload
def kl(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[False] = False, missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats: ...  # fmt: skip
@overload
def kl(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[True], missing: Missing = "refuse",
    workers: int | None = None, executor: Executor | None = None, progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@keeps_sums
@sums_out_missing
def kl(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Floats | tuple[Floats, Floats]:
    """KL(q || p(z | x)), eq. (7): (N,) nats, never negative; +inf where q puts mass on an impossible z.

    With a `ChainPosterior` or a `LayerwisePosterior` the divergence over all layers jointly; with the latter each row
    takes a pass over the codes of all layers above the lowest. with_error=True: also (N,) bounds on the rounding error.
    Arguments as in `log_marginal`.
    """
    rows, engine = _checked(model, q, x), Engine(workers, executor, progress, opened(checkpoint))
    marginal = marginal_pass(prepare(model, rows, q), engine)
    value, error = _divergence_pass(marginal, engine, _layers_above(model, q, rows))
    return (value, error) if with_error else value


def _layers_above(model: BernoulliLVM, q: Posterior, x: Bits) -> Sequence[Layer]:
    """The layers above the lowest, with what a layerwise q says of them for each row; none for another q."""
    return prepare_layerwise(model, x, q)[1:] if isinstance(q, LayerwisePosterior) else ()


def _divergence_pass(marginal: Marginal, engine: Engine, upper: Sequence[Layer] = ()) -> tuple[Floats, Floats]:
    """The divergence, given what the pass for log p(x) left, and a bound on its rounding error.

    upper: the layers above with a q for each row of x, where it does not depend on the layer below.
    """
    layer, prior, _, log_px = marginal
    if len(layer.x) == 0:
        return np.zeros(0), np.zeros(0)
    assert layer.stage is not None

    def task_of(rows: slice) -> Task[Floats]:
        return task(kernels.bound.divergence, prior.arrays, layer.q.of(rows), layer.x[rows], log_px[rows])

    (gap,) = sums.per_row(layer.source, len(layer.x), task_of, engine)
    error = kl_error(layer.model, layer.stage, gap, log_px, marginal.error, prior.error)
    above = prior.above
    if above is None or (above.layer.stage is None and not upper):
        return gap, error
    expected, table_error = np.empty_like(gap), np.empty_like(gap)
    for n in range(len(gap) if upper else 1):  # one table of the layers above serves all rows, or each has its own
        rows = slice(n, n + 1) if upper else slice(0, len(gap))
        table, errors = _divergence_pass(_with_q_of_row(above, upper, n) if upper else above, engine)
        expected[rows] = kernels.bound.expectation(layer.q.of(rows), table[None])[:, 0]
        table_error[rows] = errors.max()
    gap, finite = gap + expected, np.isfinite(expected)
    error = error + table_error + expectation_error(layer.stage, np.where(finite, expected, 0.0))
    return gap, np.where(np.isfinite(gap), error, 0.0)


def _with_q_of_row(above: Marginal, layers: Sequence[Layer], n: int) -> Marginal:
    """What the pass for log p(x) left of some layers, with the q that row n of x has for them at every code."""
    layer, *upper = layers
    codes = len(above.layer.x)
    logits, *q = (np.repeat(values[n : n + 1], codes, axis=0) for values in (layer.logits, *layer.q))
    named = above.layer._replace(stage=layer.stage, logits=logits, q=Recognition(*q))
    prior = above.prior
    if prior.above is not None:
        prior = prior._replace(above=_with_q_of_row(prior.above, upper, n))
    return above._replace(layer=named, prior=prior)


@keeps_sums
@sums_out_missing
def decompose(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
    checkpoint: Checkpoint = None,
) -> Decomposition:
    """log p(x) = VLB + KL, eq. (8), by three routes, (N,) nats each: see `Decomposition`.

    Arguments as in `log_marginal`; q as in `vlb`.
    """
    rows, engine = _checked(model, q, x), Engine(workers, executor, progress, opened(checkpoint))
    layers = prepare(model, rows, q)
    marginal = marginal_pass(layers, engine)  # first, for what a sum that is stopped has proved of log p(x)
    bound = _bound(model, q, rows, engine)
    gap, gap_error = _divergence_pass(marginal, engine, _layers_above(model, q, rows))
    with np.errstate(invalid="ignore"):
        residual = np.where(np.isneginf(bound.value) & np.isposinf(gap), 0.0, marginal.log_px - (bound.value + gap))
    return Decomposition(marginal.log_px, bound.value, gap, residual, marginal.error, bound.error, gap_error)


@sums_out_missing
def grad_vlb(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Parameters:
    """The exact gradient of sum_n weights_n VLB(x_n), eq. (9): "model." and "posterior." before the parameters' names.

    weights: (N,), None for ones. The gradient with respect to an infinite logit is 0. Raises ValueError where the
    VLB is -inf and so has no gradient. Other arguments as in `log_marginal`.
    """
    rows, engine = _checked(model, q, x), Engine(workers, executor, progress)
    check_decoders(model, q)
    names = prefixed("model.", model.parameters()) | prefixed("posterior.", q.parameters())
    if len(rows) == 0:
        return {name: np.zeros_like(value) for name, value in names.items()}
    row_weights = as_weights(weights, len(rows))
    if _by_layers(model, q):
        layers, summed = prepare_layerwise(model, rows, q), needs_sum(model, q)
        of_model, of_stages = layerwise.gradient_pass(layers, row_weights, engine, summed=summed)
    else:
        of_model, of_stages = _gradient_pass(prepare(model, rows, q), row_weights, engine)
    gradient = prefixed("model.", of_model)
    for depth, stage in enumerate(of_stages):
        gradient |= prefixed(f"posterior.{depth}." if isinstance(q, StagedPosterior) else "posterior.", stage)
    return {name: gradient[name] for name in names}


def _gradient_pass(layers: Sequence[Layer], weights: Floats, engine: Engine) -> tuple[Parameters, list[Parameters]]:
    """The gradient in the model's parameters, and in those of each stage of q, from the lowest layer upwards."""
    layer, *upper = layers
    if not needs_sum(layer.model):
        return layerwise.gradient_pass(layers, weights, engine, summed=False)
    chained = bool(upper) and upper[0].stage is not None
    if chained:  # what stands for log p(z) under q is the VLB of the layers above
        prior, above = table_prior(_bound_pass(upper, engine).value, layer.model.latents), None
    else:
        prior, _, above = prior_pass(layers, engine)

    def task_of(rows: slice) -> Task[tuple[Floats, Floats]]:
        return task(kernels.moments.moments, prior, layer.q.of(rows), layer.x[rows])

    moment, expected = sums.per_row(layer.source, len(layer.x), task_of, engine)
    check_finite(expected)
    flat, bit_mass, code_mass = sums.gradient(
        layer.source, prior, layer.q, layer.x, weights, sums.no_sum(len(layer.x)), engine
    )
    assert layer.stage is not None
    slopes = _logit_slopes(layer, moment, expected) * weights[:, None]
    stages = [arrays.recognition_gradient(layer.stage, layer.x, slopes)]
    if chained:
        deeper, higher_stages = _gradient_pass(upper, code_mass, engine)
        stages += higher_stages
    elif above is not None:
        deeper = above.gradient(code_mass, engine)
    else:
        deeper = prior_gradient(layer.model.top, bit_mass, weights.sum())
    return prefixed("prior.", deeper) | prefixed("decoder.", layer.source.named(flat)), stages


def _logit_slopes(layer: Layer, moment: Floats, expected: Floats) -> Floats:
    """d VLB / d logits of q, (N, K): the covariance of z_k with log p(x, z), plus the entropy's; see `moments.py`."""
    off, on = layer.q.probability[:, 0], layer.q.probability[:, 1]
    finite = np.isfinite(layer.logits)
    entropy = -on * off * np.where(finite, layer.logits, 0.0)
    return np.where(finite, moment - on * expected[:, None] + entropy, 0.0)
