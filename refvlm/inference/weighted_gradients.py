"""Exact expected gradients of learning from M weighted draws: that of IWAE-M, and reweighted wake-sleep's updates.

With w_i = p(x, z_i) / q(z_i | x), S their sum, and g_i the gradient of log p(x, z_i) in the model's parameters, or the
score of q, d log q(z_i) / d logits = z_i - phi,

    in the model, both       E sum_i (w_i / S) g_i = sum over z of q(z) R(w) g(z),  R(w) = E[M w / (w + S')]
    in q, wake update        E sum_i (w_i / S) score_i = sum of q R score
    in q, of IWAE-M          E sum_i (log(S / M) - w_i / S) score_i = sum of q (M E log(w + S') - R) score

where S' is the sum of the other M - 1 weights: expectations over M-tuples become a sum over codes, of functions of w
alone (`kernels/responses.py`). The last is the mean of VIMCO's estimate in q (Mnih, Rezende 2016), the first two are
those of reweighted wake-sleep's (Bornschein, Bengio 2015), at any M: how far they are from the gradient of log p(x) and
from minus that of KL(p(z | x) || q) is their bias. Twin: `definition.reweighted`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, as_weights, check_count
from ..enumeration import kernels
from ..enumeration.engine import Engine, Progress
from ..enumeration.problem import Response
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import Parameters, prefixed
from ..model.recognition import LayerwisePosterior, Posterior, StagedPosterior
from ..types import Bits, Floats
from . import arrays
from .bounds import grad_vlb
from .layers import Layer, prepare
from .many_samples import LEFT_OUT, LOG_LEFT_OUT, ROWS, check_spread, first_node, nodes_until
from .missing import Missing, sums_out_missing
from .spreading import spread
from .terms import check_finite
from .weight_certificate import STEP, absence_errors
from .weights import Tilt, of_rows, tilt_pass, weighed_layers


@sums_out_missing
def grad_iwae(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    samples: int,
    weights: ArrayLike | None = None,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Parameters:
    """The exact gradient of sum_n weights_n IWAE-M(x_n): "model." and "posterior." before the parameters' names.

    q: any; a single one on a deep model has the exact log p(z) of its layer, a chain or a layerwise one weights of all
    layers. weights: (N,), None for ones. Of one sample it is `grad_vlb`. The gradient with respect to an infinite logit
    is 0. Raises ValueError where the bound is -inf. Other arguments as in `log_marginal`.
    """
    _check(model, q)
    if check_count("samples", samples, 1) == 1:
        return grad_vlb(model, q, x, weights, workers=workers, executor=executor, progress=progress)
    rows, engine = as_binary("x", x, model.observed), Engine(workers, executor, progress)
    return _gradient(model, q, rows, as_weights(weights, len(rows)), samples, engine, curved=True)


@sums_out_missing
def grad_rws(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    samples: int,
    weights: ArrayLike | None = None,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Parameters:
    """The exact means of reweighted wake-sleep's updates with M samples, uphill, as `grad_iwae` names them.

    "model.": E of the normalised weights' average of the gradient of log p(x, z), which is that of `grad_iwae`, too.
    "posterior.": the wake update, E of the same average of the gradient of log q(z | x); for M without end minus the
    gradient of KL(p(z | x) || q), and 0 for one sample. Arguments as in `grad_iwae`.
    """
    _check(model, q)
    count, rows = check_count("samples", samples, 1), as_binary("x", x, model.observed)
    if count == 1:
        found = grad_vlb(model, q, rows, weights, workers=workers, executor=executor, progress=progress)
        return {name: value if name.startswith("model.") else np.zeros_like(value) for name, value in found.items()}
    engine = Engine(workers, executor, progress)
    return _gradient(model, q, rows, as_weights(weights, len(rows)), count, engine, curved=False)


def _check(model: BernoulliLVM, q: Posterior) -> None:
    arrays.check_posterior(arrays.check_model(model), q)


def _gradient(
    model: BernoulliLVM, q: Posterior, x: Bits, weights: Floats, samples: int, engine: Engine, *, curved: bool
) -> Parameters:
    """Both parts; curved: q's is that of IWAE-M."""
    names = prefixed("model.", model.parameters()) | prefixed("posterior.", q.parameters())
    found = {name: np.zeros(np.shape(value)) for name, value in names.items()}
    if len(x) == 0:
        return found
    parts, first = [], 0
    for layers in weighed_layers(model, q, x):  # of a layerwise q row by row, else all rows together
        response, rows = _responses(layers, samples, engine), slice(first, first + len(layers[0].x))
        plain = spread(layers, response, weights[rows], engine, of_model=True)
        for name, value in plain.gradient.items():
            found[f"model.{name}"] += value
        in_q = plain
        if curved:
            in_q = spread(layers, response._replace(curved=True), weights[rows], engine, of_model=False)
        parts.append(in_q.slopes)
        first = rows.stop
    layerwise = isinstance(q, LayerwisePosterior)
    for depth, stage in enumerate(q.stages):
        if layerwise:  # whose stages all take x
            slopes, inputs = np.concatenate([np.add.reduce(part[depth], axis=0, keepdims=True) for part in parts]), x
        else:
            slopes, inputs = parts[0][depth], layers[depth].x
        prefix = f"posterior.{depth}." if isinstance(q, StagedPosterior) else "posterior."
        found |= prefixed(prefix, arrays.recognition_gradient(stage, inputs, slopes))
    return {name: found[name] for name in names}


def logit_slopes(model: BernoulliLVM, q: Posterior, x: Bits, samples: int, engine: Engine, *, curved: bool) -> Floats:
    """What `grad_iwae`, or if not curved `grad_rws`, has for the logits of a single q, row by row: (N, K)."""
    if len(x) == 0 or samples == 1:
        assert not curved or len(x) == 0
        return np.zeros((len(x), model.latents))
    layers = prepare(model, x, q)
    response = _responses(layers, samples, engine)._replace(curved=curved)
    return spread(layers, response, np.ones(len(x)), engine, of_model=False).slopes[0]


def _responses(layers: Sequence[Layer], samples: int, engine: Engine) -> Response:
    """The nodes of every row, from where all of M y e^-y is LEFT_OUT in all, up to where phi^(M-1) leaves as little."""
    tilt = tilt_pass(layers, np.array([0.0, 1.0]), engine)
    check_finite(tilt.slope[:, 0])
    parts = [
        _of_rows(of_rows(layers, rows), tilt.take(rows), samples, engine)
        for rows in np.array_split(np.arange(len(tilt.value)), range(ROWS, len(tilt.value), ROWS))
    ]
    nodes = max(part.log_t.shape[1] for part in parts)
    log_t, coefficients = (
        np.concatenate([np.pad(values, ((0, 0), (0, nodes - values.shape[1]))) for values in column])
        for column in ([part.log_t for part in parts], [part.coefficients for part in parts])
    )
    return Response(log_t, coefficients, False)


def _of_rows(layers: Sequence[Layer], tilt: Tilt, samples: int, engine: Engine) -> Response:
    log_mean, lowest = tilt.value[:, 1], check_spread(tilt)

    def counted(log_s: Floats, absent: Floats) -> Floats:
        relative = absence_errors(layers, tilt, log_mean, log_s)
        return kernels.responses.coefficients(absent, relative, float(samples), STEP)

    def done(log_s: Floats, absent: Floats) -> NDArray[np.bool_]:
        last = counted(log_s[-1:], np.ascontiguousarray(absent[:, -1:]))[:, 0] / STEP
        finished: NDArray[np.bool_] = last * (np.maximum(-(log_s[-1] + lowest), 0.0) + 0.7) <= LEFT_OUT
        return finished

    begin = first_node(np.array([LOG_LEFT_OUT]), samples)[0]
    log_s, absent = nodes_until(done, layers, tilt, int(begin), engine)
    return Response(log_s - log_mean[:, None], counted(log_s, absent), False)
