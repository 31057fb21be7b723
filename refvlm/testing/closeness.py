"""Asserts that numbers of another implementation equal the exact ones, up to what rounding explains."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array, as_binary, as_weights
from ..conformance.comparison import ulps_between
from ..conformance.fingerprints import as_parts
from ..conformance.mistakes import CATALOGUE, Mistake, SinglePrecision
from ..conformance.problems import from_model
from ..inference.bounds import grad_vlb, vlb
from ..inference.brackets import bracket
from ..inference.exact import grad_log_marginal, log_marginal
from ..inference.partition import is_summed
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import PerDatumPosterior, Posterior, StagedPosterior
from ..types import Floats
from .rounding import model_sizes, q_sizes, slopes, unit

_MOST_NAMED = 8
"""Latent bits up to which a wrong number is compared with those of known mistakes."""
_WIDTH, _DRAWS = 0.005, 1 << 21
"""Of a bracket in nats, and the draws after which it may be wider."""


def assert_log_marginal_close(
    actual: ArrayLike,
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    precision: str = "float64",
    tolerance: float | None = None,
) -> float:
    """AssertionError unless `actual` (N,) is log p(x), eq. (3), of the rows of x, nats.

    Where the sum over all codes is too long and `refvlm.bracket` serves, `actual` must lie within a bracket, certified
    at 1 - 1e-9. Returns the width of the widest one in nats, 0.0 where log p(x) is exact: no smaller error is seen.

    precision: of the program that made it, "float64" or "float32"; what its rounding may amount to follows from the
    weights (`refvlm.testing.rounding`), and `tolerance`, absolute, replaces it. The message names the worst row, and
    the mistake, where it is a known one.
    """
    sizes = model_sizes(model)
    allowed = (sizes.error + (model.latents + 8) * (sizes.magnitude + 1)) * unit(precision)
    got, width, what = as_array("actual", actual), 0.0, "log p(x)"
    rows = as_binary("x", x, model.observed)
    if is_summed(model, len(rows)):
        desired = log_marginal(model, rows)
    else:
        between = bracket(model, rows, width=_WIDTH, samples=_DRAWS, rng=np.random.default_rng(0))
        width = float((between.upper - between.lower).max(initial=0.0))
        what = f"log p(x), certified within brackets of up to {width:.3g} nats"
        desired = np.clip(got, between.lower, between.upper) if got.shape == between.lower.shape else between.lower
    _compare(
        what, got, desired, allowed if tolerance is None else tolerance, precision,
        lambda got: _named(model, None, x, "log_marginal", {"": got}),
    )  # fmt: skip
    return width


def assert_vlb_close(
    actual: ArrayLike,
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    precision: str = "float64",
    tolerance: float | None = None,
) -> None:
    """AssertionError unless `actual` (N,) is the exact VLB, eq. (10), of the rows of x, nats; -inf must be met.

    The rest as in `assert_log_marginal_close`.
    """
    p, log_q = model_sizes(model), q_sizes(q, model.latents)
    moved = p.error + log_q.error * (1 + p.magnitude + log_q.magnitude)
    allowed = (moved + (model.latents + 8) * (p.magnitude + log_q.magnitude)) * unit(precision)
    _compare(
        "VLB",
        as_array("actual", actual),
        vlb(model, q, x),
        allowed if tolerance is None else tolerance,
        precision,
        lambda got: _named(model, q, x, "vlb", {"": got}),
    )


def assert_grad_close(
    actual: Mapping[str, ArrayLike],
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    posterior: Posterior | None = None,
    weights: ArrayLike | None = None,
    precision: str = "float64",
    tolerance: float | None = None,
) -> None:
    """AssertionError unless `actual` is the gradient of sum_n weights_n log p(x_n), or with `posterior` of the VLB.

    actual: arrays by name, "prior.logits", "decoder.weights.0", ..., with a posterior after "model." and "posterior.";
    all of them, uphill. weights (N,): ones by default. The rest as in `assert_log_marginal_close`.
    """
    if not isinstance(actual, Mapping):
        raise TypeError(f"actual: got {type(actual).__name__}, wanted arrays by the parameters' names")
    rows = as_binary("x", x, model.observed)
    desired: dict[str, Any]
    if posterior is None:
        desired, quantity = grad_log_marginal(model, rows, weights), "grad_log_marginal"
    else:
        desired, quantity = grad_vlb(model, posterior, rows, weights), "grad_vlb"
    missing, unknown = sorted(desired.keys() - actual.keys()), sorted(actual.keys() - desired.keys())
    if missing or unknown:
        said = f"no {missing[0]!r}" if missing else f"the unknown {unknown[0]!r}"
        raise AssertionError(f"gradient: got {said}, wanted exactly {', '.join(desired)}")
    total = float(np.abs(as_weights(weights, len(rows))).sum())
    allowed = _gradient_tolerances(model, posterior, total, unit(precision))
    whole = {name: as_array(name, actual[name]) for name in desired}
    for name, value in desired.items():
        _compare(
            f"gradient of {'log p(x)' if posterior is None else 'the VLB'} by {name}",
            whole[name],
            value,
            allowed[name] if tolerance is None else tolerance,
            precision,
            lambda _: [] if weights is not None else _named(model, posterior, rows, quantity, whole),
        )


def _gradient_tolerances(model: BernoulliLVM, q: Posterior | None, weight: float, roundoff: float) -> dict[str, float]:
    """Returns by parameter how far rounding in p(z | x), or q, and in the backward pass may take a gradient."""
    sizes = model_sizes(model)
    error = 2 * sizes.error + (model.latents + 8) * (sizes.magnitude + 1)
    errors: dict[str, float] = {}
    if q is not None:
        log_q = q_sizes(q, model.latents)
        signal = sizes.magnitude + log_q.magnitude + 1
        error += 2 * log_q.error
        for depth, stage in enumerate(q.stages):
            prefix = f"posterior.{depth}." if isinstance(q, StagedPosterior) else "posterior."
            if isinstance(stage, PerDatumPosterior):
                errors[f"{prefix}logits"] = error * signal
            else:
                errors |= _by_name(f"{prefix}encoder.", stage.encoder, error * signal)
    prefix = "" if q is None else "model."
    for layer in model.layers:
        errors |= _by_name(f"{prefix}decoder.", layer.decoder, error)
        prefix += "prior."
    errors[f"{prefix}logits"] = error
    return {name: value * weight * roundoff for name, value in errors.items()}


def _by_name(prefix: str, network: Any, error: float) -> dict[str, float]:
    known = slopes(network)
    wide = 1.0 if not isinstance(network, MLP) else float(sum(network.sizes))
    return {f"{prefix}{name}": (error + wide) * known.get(name, 100.0) for name in network.parameters()}


def _compare(
    what: str,
    actual: NDArray[Any],
    desired: Floats,
    allowed: float,
    precision: str,
    named: Callable[[Floats], list[type[Mistake]]],
) -> None:
    """Raises AssertionError that says where, by how much, and which mistakes, from `named`, fit."""
    got = actual.astype(np.float64)
    if got.shape != desired.shape:
        raise AssertionError(f"{what}: got shape {got.shape}, wanted {desired.shape}")
    with np.errstate(invalid="ignore"):
        off = np.where(got == desired, 0.0, np.abs(got - desired))
    wrong = ~(off <= allowed)
    if not wrong.any():
        return
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(np.where(np.isnan(off), np.inf, off))), off.shape))
    here, there = float(got[index]), float(desired[index])
    ulps = ulps_between(there, here, precision)
    said = (
        f"{what}: entry {list(index)}: got {here:.17g}, wanted {there:.17g}; off by {abs(here - there):.3g} "
        f"({ulps:.2g} ulps), rounding in {precision} explains {allowed:.2g}; {int(wrong.sum())} of {wrong.size} wrong"
    )
    if precision == "float64" and (off <= allowed * 2.0**29).all():
        raise AssertionError(f"{said}\n  float32 explains it: find where single precision enters, or claim 'float32'")
    fitting = [f"  it equals that with {mistake.advice()}" for mistake in named(got)[:2]]
    raise AssertionError("\n".join([said, *fitting]))


def _named(
    model: BernoulliLVM, q: Posterior | None, x: ArrayLike, quantity: str, got: Mapping[str, ArrayLike]
) -> list[type[Mistake]]:
    """Returns the known mistakes that give these numbers."""
    problem = from_model(quantity, model, q, {"x": np.asarray(x, dtype=np.float64)})
    if model.latents > _MOST_NAMED or problem is None:
        return []
    fitting = []
    for mistake in CATALOGUE:
        if mistake is SinglePrecision:
            continue
        parts = as_parts(mistake(problem).answer())
        if parts.keys() == got.keys() and all(_same(got[name], parts[name]) for name in parts):
            fitting.append(mistake)
    return fitting


def _same(got: ArrayLike, predicted: ArrayLike) -> bool:
    a, b = np.asarray(got, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-9, atol=1e-12, equal_nan=True))
