"""The variational lower bound and the gap to log p(x), exactly: eqs. (7) to (10).

log p(x) = VLB + KL, eq. (8), is computed by three routes that share nothing but the network, so that it can fail:
log p(x) by the streaming sum; the VLB from the closed forms of its prior and entropy terms and the enumerated
reconstruction; KL as a sum of non-negative terms over the normalised posterior.

For a chain q(z1 | x) q(z2 | z1) on a deep model both are recursions over the layers: the prior term of the lower
layer is the expected VLB of the layers above, and KL follows from the chain rule,
KL = KL(q1 || p(z1 | x)) + E_q1[KL(q(z2 | z1) || p(z2 | z1))].
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, as_weights
from ..enumeration import kernels, sums
from ..enumeration.engine import Engine, Progress
from ..enumeration.problem import Prior, Recognition
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM, prefixed, under
from ..model.mlp import Parameters
from ..model.recognition import ChainPosterior, FactorisedPosterior, Posterior
from . import arrays, exact
from .bound_certificate import expectation_error, kl_error, vlb_error

__all__ = ["Decomposition", "VLBTerms", "decompose", "grad_vlb", "kl", "vlb", "vlb_terms"]

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]


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
    `log_marginal`.
    """
    arrays.check_posterior(arrays.check_model(model), q)
    terms, error = _terms(model, q, as_binary("x", x, model.observed), Engine(workers, executor, progress))
    value = terms.prior + terms.reconstruction + terms.entropy
    return (value, error) if with_error else value


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
    arrays.check_posterior(arrays.check_model(model), q)
    return _terms(model, q, as_binary("x", x, model.observed), Engine(workers, executor, progress))[0]


def _terms(model: BernoulliLVM, q: Posterior, x: Bits, engine: Engine) -> tuple[VLBTerms, Floats]:
    """The terms and a bound on the rounding error of their sum."""
    if len(x) == 0:
        return VLBTerms(np.zeros(0), np.zeros(0), np.zeros(0)), np.zeros(0)
    first = _first(q)
    share = arrays.recognition(first, x)[1]
    reconstruction = sums.reconstruction(arrays.source(model.decoder), share, x, engine)
    if isinstance(model.prior, Bernoulli):
        prior, entropy = kernels.get("prior_and_entropy")(share, arrays.prior_bits(model.prior).bits)
        return VLBTerms(prior, reconstruction, entropy), vlb_error(model, first, prior, reconstruction, entropy, 0.0)
    _, entropy = kernels.get("prior_and_entropy")(share, np.zeros((2, model.latents)))
    if isinstance(q, ChainPosterior):
        above, errors = _terms(model.prior, q.above, arrays.all_codes(model.latents), engine)
        tables = np.stack([above.prior + above.reconstruction, above.entropy])
        prior, entropy_above = _expectation(share, tables).T
        entropy, table_error = entropy + entropy_above, float(errors.max())
    else:
        found, table_error = exact.log_prior_arrays(model.prior, engine)
        prior = _expectation(share, found.table[None])[:, 0]
    error = vlb_error(model, first, prior, reconstruction, entropy, table_error)
    if isinstance(q, ChainPosterior):
        error = error + expectation_error(model.latents, entropy_above)
    return VLBTerms(prior, reconstruction, entropy), error


def _first(q: Posterior) -> FactorisedPosterior:
    """The stage next to x."""
    return q.stages[0] if isinstance(q, ChainPosterior) else q


def _expectation(share: Recognition, tables: Floats) -> Floats:
    """E_q[table(z)], (N, T)."""
    expected: Floats = kernels.get("expectation")(share, tables)
    return expected


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
    arrays.check_posterior(arrays.check_model(model), q)
    rows, engine = as_binary("x", x, model.observed), Engine(workers, executor, progress)
    value, error = _kl(q, model, exact.evidence(model, rows, engine), rows, engine)
    return (value, error) if with_error else value


def _kl(q: Posterior, model: BernoulliLVM, found: exact.Evidence, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """The divergence, given the first pass, and a bound on its rounding error."""
    if len(x) == 0:
        return np.zeros(0), np.zeros(0)
    first = _first(q)
    share = arrays.recognition(first, x)[1]
    gap = sums.divergence(found.source, found.prior, share, x, found.log_px, engine)
    error = kl_error(model, first, gap, found.log_px, found.error, found.prior_error)
    if isinstance(q, ChainPosterior):
        assert isinstance(model.prior, BernoulliLVM)
        codes = arrays.all_codes(model.latents)
        above, errors = _kl(q.above, model.prior, exact.evidence(model.prior, codes, engine), codes, engine)
        expected = _expectation(share, above[None])[:, 0]
        gap, finite = gap + expected, np.isfinite(expected)
        error = error + float(errors.max()) + expectation_error(model.latents, np.where(finite, expected, 0.0))
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
    arrays.check_posterior(arrays.check_model(model), q)
    rows, engine = as_binary("x", x, model.observed), Engine(workers, executor, progress)
    found = exact.evidence(model, rows, engine)
    terms, bound_error = _terms(model, q, rows, engine)
    bound = terms.prior + terms.reconstruction + terms.entropy
    gap, gap_error = _kl(q, model, found, rows, engine)
    with np.errstate(invalid="ignore"):
        residual = np.where(np.isneginf(bound) & np.isposinf(gap), 0.0, found.log_px - (bound + gap))
    return Decomposition(found.log_px, bound, gap, residual, found.error, bound_error, gap_error)


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
    arrays.check_posterior(arrays.check_model(model), q)
    rows = as_binary("x", x, model.observed)
    gradient = _grad(model, q, rows, as_weights(weights, len(rows)), Engine(workers, executor, progress))
    names = prefixed("model.", model.parameters()) | prefixed("posterior.", q.parameters())
    return {name: gradient[name] for name in names}


def _grad(model: BernoulliLVM, q: Posterior, x: Bits, weights: Floats, engine: Engine) -> Parameters:
    if len(x) == 0:
        names = prefixed("model.", model.parameters()) | prefixed("posterior.", q.parameters())
        return {name: np.zeros_like(value) for name, value in names.items()}
    first = _first(q)
    logits, share = arrays.recognition(first, x)
    prior, above = _prior_for(model, q, engine)
    source = arrays.source(model.decoder)
    moment, expected = sums.moments(source, prior, share, x, engine)
    infinite = np.isneginf(expected)
    if infinite.any():
        raise ValueError(
            f"posterior: puts mass on a z of zero prior probability for row {int(np.argmax(infinite))} of x, where the "
            "VLB is -inf; wanted a q that vanishes wherever the prior does"
        )
    flat, bit_mass, code_mass = sums.gradient(source, prior, share, x, weights, sums.no_sum(len(x)), engine)
    decoder = prefixed("model.decoder.", arrays.named(source, flat))
    slopes = _logit_slopes(logits, share, moment, expected) * weights[:, None]
    recognition = arrays.recognition_gradient(first, x, slopes)
    if isinstance(model.prior, Bernoulli):
        upper = prefixed("model.prior.", exact.prior_gradient(model.prior, bit_mass, weights.sum()))
        return upper | decoder | prefixed("posterior.", recognition)
    codes = arrays.all_codes(model.latents)
    if above is None:
        deeper = exact.grad_log_marginal(
            model.prior, codes, code_mass, workers=engine.workers, executor=engine.executor, progress=engine.progress
        )
        return prefixed("model.prior.", deeper) | decoder | prefixed("posterior.", recognition)
    deeper = _grad(model.prior, above, codes, code_mass, engine)
    return (
        prefixed("model.prior.", under("model.", deeper))
        | decoder
        | prefixed("posterior.0.", recognition)
        | _one_stage_up(under("posterior.", deeper), isinstance(above, ChainPosterior))
    )


def _prior_for(model: BernoulliLVM, q: Posterior, engine: Engine) -> tuple[Prior, Posterior | None]:
    """What stands for log p(z1) under q, and the posterior of the layers above if q is a chain."""
    if isinstance(q, ChainPosterior):
        assert isinstance(model.prior, BernoulliLVM)
        terms, _ = _terms(model.prior, q.above, arrays.all_codes(model.latents), engine)
        table = terms.prior + terms.reconstruction + terms.entropy
        return Prior(np.zeros((2, model.latents)), table), q.above
    return exact.log_prior_arrays(model.prior, engine)[0], None


def _logit_slopes(logits: Floats, share: Recognition, moment: Floats, expected: Floats) -> Floats:
    """d VLB / d logits of q, (N, K): the covariance of z_k with log p(x, z), plus the entropy's; see `moments.py`."""
    off, on = share.probability[:, 0], share.probability[:, 1]
    finite = np.isfinite(logits)
    entropy = -on * off * np.where(finite, logits, 0.0)
    return np.where(finite, moment - on * expected[:, None] + entropy, 0.0)


def _one_stage_up(parameters: Parameters, chained: bool) -> Parameters:
    """Names of the upper stages' gradients as the whole chain knows them."""
    if not chained:
        return prefixed("posterior.1.", parameters)
    moved = {}
    for name, value in parameters.items():
        depth, rest = name.split(".", 1)
        moved[f"posterior.{int(depth) + 1}.{rest}"] = value
    return moved
