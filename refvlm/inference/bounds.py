"""The variational lower bound and the gap to log p(x), exactly: eqs. (7) to (10).

log p(x) = VLB + KL, eq. (8), is computed by three routes that share nothing but the network, so that it can fail:
log p(x) by the streaming sum; the VLB from the closed forms of its prior and entropy terms and the enumerated
reconstruction; KL as a sum of non-negative terms over the normalised posterior.

For a chain q(z1 | x) q(z2 | z1) on a deep model both are recursions over the layers: the prior term of the lower
layer is the expected VLB of the layers above, and KL follows from the chain rule,
KL = KL(q1 || p(z1 | x)) + E_q1[KL(q(z2 | z1) || p(z2 | z1))].
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import bits
from ..checks import as_binary, as_weights
from ..enumeration import kernels, sums
from ..enumeration.engine import Engine, Progress, Task, task
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.parameters import Parameters, prefixed
from ..model.recognition import ChainPosterior, Posterior
from ..types import Floats
from . import arrays
from .bound_certificate import characteristic_error, expectation_error, kl_error, largest_logits, vlb_error
from .exact import Marginal, marginal_pass, prior_gradient, prior_pass, table_prior
from .layers import Layer, prepare

SUMMED_LATENTS = 20
"""Up to so many latents the VLB is a sum over codes, whatever the decoder."""

LARGEST_LOGIT = 1e4
"""Where a linear decoder's logits can be larger, characteristic functions take longer than anybody wants."""


class VLBTerms(NamedTuple):
    """The terms of eq. (10), (N,) each, nats: VLB = prior + reconstruction + entropy.

    prior: E_q[log p(z)], of all layers together under a chain. reconstruction: E_q[log p(x | z)].
    entropy: E_q[-log q(z)], of the whole chain.
    """

    prior: Floats
    reconstruction: Floats
    entropy: Floats


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


@overload
def vlb(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[False] = False, workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def vlb(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[True], workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
def vlb(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    with_error: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """The exact variational lower bound, eqs. (8) and (10): (N,) nats, never above log p(x).

    -inf where q puts mass on a z of zero prior probability. With a single q on a deep model the collapsed bound,
    log p(z1) exact; with a `ChainPosterior` that of all its layers jointly, and exact above them. with_error=True: also
    (N,) bounds on the rounding error (proof in `refvlm.inference.bound_certificate`). x and the rest as in
    `log_marginal`. Above 20 latents a linear decoder with a Bernoulli prior needs no sum over codes: any K will do.
    """
    result = _bound_pass(_bound_layers(model, q, x), Engine(workers, executor, progress))
    return (result.value, result.error) if with_error else result.value


def vlb_terms(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> VLBTerms:
    """The three terms of the VLB, eq. (10): .prior, .reconstruction, .entropy, (N,) nats each. See `vlb`."""
    return _bound_pass(_bound_layers(model, q, x), Engine(workers, executor, progress)).terms


def _checked(model: BernoulliLVM, q: Posterior, x: ArrayLike, *, summed: bool = True) -> Sequence[Layer]:
    """The layers, once model, q and x are what they should be. summed: a sum over all codes is to come."""
    arrays.check_posterior(arrays.check_model(model), q)
    return prepare(model, as_binary("x", x, model.observed), q, summed=summed)


def _bound_layers(model: BernoulliLVM, q: Posterior, x: ArrayLike) -> Sequence[Layer]:
    """The layers for the VLB."""
    summed = needs_sum(arrays.check_model(model))
    decoder = model.decoder
    linear = isinstance(model.prior, Bernoulli) and isinstance(decoder, MLP) and len(decoder.weights) == 1
    if summed and linear and isinstance(decoder, MLP) and model.latents > bits.CODE_BITS:
        raise ValueError(
            f"decoder: got logits of up to {largest_logits(decoder).max():.3g}, wanted at most {LARGEST_LOGIT:g} for "
            f"the exact VLB of {model.latents} latents, which takes time in proportion; vlb_estimate takes any"
        )
    return _checked(model, q, x, summed=summed)


class _Bound(NamedTuple):
    """What the pass for the VLB leaves for a layer: the terms, and a bound on the rounding error of their sum."""

    terms: VLBTerms
    error: Floats

    @property
    def value(self) -> Floats:
        """The VLB, (N,)."""
        return self.terms.prior + self.terms.reconstruction + self.terms.entropy


def _bound_pass(layers: Sequence[Layer], engine: Engine) -> _Bound:
    """The VLB of the lowest layer; of a chain from the highest stage downwards."""
    layer, *upper = layers
    if len(layer.x) == 0:
        return _Bound(VLBTerms(np.zeros(0), np.zeros(0), np.zeros(0)), np.zeros(0))
    model, q, stage = layer.model, layer.q, layer.stage
    assert stage is not None
    reconstruction, reconstruction_error = _reconstruction_pass(layer, engine)
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
    error = vlb_error(
        model, stage, prior, reconstruction, entropy, table=table_error, reconstruction_error=reconstruction_error
    )
    if entropy_above is not None:
        error = error + expectation_error(model.latents, entropy_above)
    return _Bound(VLBTerms(prior, reconstruction, entropy), error)


def _reconstruction_pass(layer: Layer, engine: Engine) -> tuple[Floats, Floats | None]:
    """E_q[log p(x | z)], (N,), and a bound on its error where it is no sum over codes."""
    if needs_sum(layer.model):

        def task_of(rows: slice) -> Task[Floats]:
            return task(kernels.bound.reconstruction, layer.q.of(rows), layer.x[rows])

        return sums.per_row(layer.source, len(layer.x), task_of, engine)[0], None
    decoder, prior, stage = layer.model.decoder, layer.model.prior, layer.stage
    assert isinstance(decoder, MLP)
    assert isinstance(prior, Bernoulli)
    assert stage is not None
    value = sums.by_characteristic(arrays.flat_network(decoder), layer.q, layer.x, engine)
    return value, characteristic_error(prior, decoder, stage, layer.q, layer.x)


def needs_sum(model: BernoulliLVM) -> bool:
    """Whether the VLB takes a sum over all codes.

    It does not where the decoder is linear, its prior a Bernoulli, K above `SUMMED_LATENTS` and no logit can exceed
    `LARGEST_LOGIT`; then K is any number.
    """
    decoder = model.decoder
    linear = isinstance(decoder, MLP) and len(decoder.weights) == 1
    if not linear or not isinstance(model.prior, Bernoulli) or model.latents <= SUMMED_LATENTS:
        return True
    assert isinstance(decoder, MLP)
    return float(largest_logits(decoder).max()) > LARGEST_LOGIT


@overload
def kl(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[False] = False, workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def kl(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[True], workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
def kl(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    with_error: bool = False,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """KL(q || p(z | x)), eq. (7): (N,) nats, never negative; +inf where q puts mass on an impossible z.

    With a `ChainPosterior` the divergence over all layers jointly. with_error=True: also (N,) bounds on the rounding
    error. Arguments as in `log_marginal`.
    """
    engine = Engine(workers, executor, progress)
    value, error = _divergence_pass(marginal_pass(_checked(model, q, x), engine), engine)
    return (value, error) if with_error else value


def _divergence_pass(marginal: Marginal, engine: Engine) -> tuple[Floats, Floats]:
    """The divergence, given what the pass for log p(x) left, and a bound on its rounding error."""
    layer, prior, _, log_px = marginal
    if len(layer.x) == 0:
        return np.zeros(0), np.zeros(0)
    assert layer.stage is not None

    def task_of(rows: slice) -> Task[Floats]:
        return task(kernels.bound.divergence, prior.arrays, layer.q.of(rows), layer.x[rows], log_px[rows])

    (gap,) = sums.per_row(layer.source, len(layer.x), task_of, engine)
    error = kl_error(layer.model, layer.stage, gap, log_px, marginal.error, prior.error)
    if prior.above is not None and prior.above.layer.stage is not None:
        above, errors = _divergence_pass(prior.above, engine)
        expected = kernels.bound.expectation(layer.q, above[None])[:, 0]
        gap, finite = gap + expected, np.isfinite(expected)
        error = error + float(errors.max()) + expectation_error(layer.model.latents, np.where(finite, expected, 0.0))
        error = np.where(np.isfinite(gap), error, 0.0)
    return gap, error


def decompose(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Decomposition:
    """log p(x) = VLB + KL, eq. (8), by three routes, (N,) nats each: see `Decomposition`.

    Arguments as in `log_marginal`; q as in `vlb`.
    """
    layers, engine = _checked(model, q, x), Engine(workers, executor, progress)
    marginal, bound = marginal_pass(layers, engine), _bound_pass(layers, engine)
    gap, gap_error = _divergence_pass(marginal, engine)
    with np.errstate(invalid="ignore"):
        residual = np.where(np.isneginf(bound.value) & np.isposinf(gap), 0.0, marginal.log_px - (bound.value + gap))
    return Decomposition(marginal.log_px, bound.value, gap, residual, marginal.error, bound.error, gap_error)


def grad_vlb(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Parameters:
    """The exact gradient of sum_n weights_n VLB(x_n), eq. (9): "model." and "posterior." before the parameters' names.

    weights: (N,), None for ones. The gradient with respect to an infinite logit is 0. Raises ValueError where the
    VLB is -inf and so has no gradient. Other arguments as in `log_marginal`.
    """
    layers, engine = _bound_layers(model, q, x), Engine(workers, executor, progress)
    names = prefixed("model.", model.parameters()) | prefixed("posterior.", q.parameters())
    if len(layers[0].x) == 0:
        return {name: np.zeros_like(value) for name, value in names.items()}
    row_weights = as_weights(weights, len(layers[0].x))
    of_model, of_stages = _gradient_pass(layers, row_weights, engine)
    gradient = prefixed("model.", of_model)
    for depth, stage in enumerate(of_stages):
        gradient |= prefixed(f"posterior.{depth}." if isinstance(q, ChainPosterior) else "posterior.", stage)
    return {name: gradient[name] for name in names}


def _gradient_pass(layers: Sequence[Layer], weights: Floats, engine: Engine) -> tuple[Parameters, list[Parameters]]:
    """The gradient in the model's parameters, and in those of each stage of q, from the lowest layer upwards."""
    layer, *upper = layers
    if not needs_sum(layer.model):
        return _unsummed_gradient(layer, weights, engine)
    chained = bool(upper) and upper[0].stage is not None
    if chained:  # what stands for log p(z) under q is the VLB of the layers above
        prior, above = table_prior(_bound_pass(upper, engine).value, layer.model.latents), None
    else:
        prior, _, above = prior_pass(layers, engine)

    def task_of(rows: slice) -> Task[tuple[Floats, Floats]]:
        return task(kernels.moments.moments, prior, layer.q.of(rows), layer.x[rows])

    moment, expected = sums.per_row(layer.source, len(layer.x), task_of, engine)
    _check_finite(expected)
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


def _unsummed_gradient(layer: Layer, weights: Floats, engine: Engine) -> tuple[Parameters, list[Parameters]]:
    """The same where the decoder is linear and the prior a Bernoulli, without a sum over codes."""
    assert isinstance(layer.model.decoder, MLP)
    assert layer.stage is not None
    top, off, on = layer.model.top, layer.q.probability[:, 0], layer.q.probability[:, 1]
    _check_finite(kernels.bernoulli.prior_and_entropy(layer.q, arrays.log_probabilities(top).bits)[0])
    decoder = arrays.flat_network(layer.model.decoder)
    flat, by_probability = sums.gradient_by_characteristic(decoder, layer.q, layer.x, weights, engine)
    finite = np.isfinite(layer.logits)
    log_odds = np.where(np.isfinite(top.logits), top.logits, 0.0) - np.where(finite, layer.logits, 0.0)
    slopes = np.where(finite, on * off * (by_probability + log_odds), 0.0) * weights[:, None]
    deeper = prior_gradient(top, (on * weights[:, None]).sum(axis=0), weights.sum())
    stages = [arrays.recognition_gradient(layer.stage, layer.x, slopes)]
    return prefixed("prior.", deeper) | prefixed("decoder.", layer.source.named(flat)), stages


def _check_finite(prior: Floats) -> None:
    """Refuse a gradient where E_q[log p(z)], (N,), or what contains it, is -inf."""
    infinite = np.isneginf(prior)
    if infinite.any():
        raise ValueError(
            f"posterior: puts mass on a z of zero prior probability for row {int(np.argmax(infinite))} of x, where the "
            "VLB is -inf; wanted a q that vanishes wherever the prior does"
        )


def _logit_slopes(layer: Layer, moment: Floats, expected: Floats) -> Floats:
    """d VLB / d logits of q, (N, K): the covariance of z_k with log p(x, z), plus the entropy's; see `moments.py`."""
    off, on = layer.q.probability[:, 0], layer.q.probability[:, 1]
    finite = np.isfinite(layer.logits)
    entropy = -on * off * np.where(finite, layer.logits, 0.0)
    return np.where(finite, moment - on * expected[:, None] + entropy, 0.0)
