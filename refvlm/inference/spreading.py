"""What a response to the weights spreads over the layers: slopes of q's logits, and the model's gradient.

For each row, the sum over z of all layers that q draws of q(z) r(w(z)) times what each parameter's log-probability
differentiates, r a function of the weight (`kernels/responses.py`). A single q is one sum over its layer's codes. Under
a chain a row's log weight is a part a(z1) of the lowest layer's and the rest of the layers above: these are rows of
their own, one for each z1, with the nodes of the integrals moved by a(z1) and the row's weight times q(z1); what comes
back, E[r | z1], is what the lowest layer's codes are weighed by.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import bits
from ..enumeration import kernels, sums
from ..enumeration.engine import Engine
from ..enumeration.problem import Prior, Recognition, Response
from ..enumeration.tasks import Task, task
from ..model.parameters import Parameters, prefixed
from ..types import Floats
from .exact import prior_gradient, prior_pass
from .layers import Layer
from .weights import is_chained, log_weight_table, weighing_prior

_BY_TABLE = Recognition(np.zeros((0, 2, 0)), np.zeros((0, 2, 0)))
"""An empty q: the weights are p(x | z) times the table that stands for the prior."""


class Spread(NamedTuple):
    """mean: E_q of the response, (R,), of each row of the lowest layer.

    slopes: of q's logits, from the lowest layer upwards, summed over what draws each, weighed: (rows of the layer, K).
    gradient: of the model, by the names of the lowest layer's model; {} where it was not asked for.
    """

    mean: Floats
    slopes: list[Floats]
    gradient: Parameters


def spread(layers: Sequence[Layer], response: Response, weights: Floats, engine: Engine, *, of_model: bool) -> Spread:
    """For the rows of the lowest layer with these weights, (R,). of_model: whether the model's gradient is wanted."""
    if is_chained(layers):
        return _spread_chain(layers, response, weights, engine, of_model)
    layer = layers[0]
    prior, _, above = prior_pass(layers, engine)

    def task_of(rows: slice) -> Task[tuple[Floats, Floats]]:
        return task(kernels.responses.responded, prior, layer.q.of(rows), layer.x[rows], response.of(rows))

    moment, mean = sums.per_row(layer.source, len(layer.x), task_of, engine)
    slopes = _centred(layer, moment, mean) * weights[:, None]
    if not of_model:
        return Spread(mean, [slopes], {})
    none = sums.no_sum(len(layer.x))
    flat, bit_mass, code_mass = sums.gradient(layer.source, prior, layer.q, layer.x, weights, none, engine, response)
    if above is None:
        deeper = prior_gradient(layer.model.top, bit_mass, math.fsum(mean * weights))
    else:
        deeper = above.gradient(code_mass, engine)
    return Spread(mean, [slopes], prefixed("prior.", deeper) | prefixed("decoder.", layer.source.named(flat)))


def _spread_chain(
    layers: Sequence[Layer], response: Response, weights: Floats, engine: Engine, of_model: bool
) -> Spread:
    layer, *upper = layers
    rows, z = len(layer.x), bits.table(layer.model.latents)
    means, moments = np.empty(rows), np.empty((rows, layer.model.latents))
    slopes, gradient = [np.zeros((len(part.x), part.model.latents)) for part in upper if part.stage is not None], None
    for n, log_w in enumerate(log_weight_table(layer, weighing_prior(layers, engine)[0], engine)):
        q = layer.q.of(slice(n, n + 1))
        moved = Response(
            log_w[:, None] + response.log_t[n],
            np.ascontiguousarray(np.broadcast_to(response.coefficients[n], (len(z), response.coefficients.shape[1]))),
            response.curved,
        )
        of_code = bits.fold(q.probability[0].T)
        above = spread(upper, moved, of_code * weights[n], engine, of_model=of_model)
        found = kernels.bound.expectation(q, np.concatenate([above.mean[None], above.mean * z.T]))[0]
        means[n], moments[n] = found[0], found[1:]
        slopes = [one + other for one, other in zip(slopes, above.slopes, strict=True)]
        if of_model:
            part = prefixed("prior.", above.gradient) | _decoder_part(layers, n, log_w, above.mean, weights[n], engine)
            gradient = part if gradient is None else {name: gradient[name] + value for name, value in part.items()}
    return Spread(means, [_centred(layer, moments, means) * weights[:, None], *slopes], gradient or {})


def _decoder_part(
    layers: Sequence[Layer], n: int, log_w: Floats, mean: Floats, weight: float, engine: Engine
) -> Parameters:
    """The decoder's gradient of row n, whose codes weigh q(z1) E[r | z1] = p(x | z1) E[r | z1] / w(z1)."""
    layer = layers[0]
    table = kernels.marginal.finish(np.zeros(len(mean)), mean) - log_w
    prior = Prior(np.zeros((2, layer.model.latents)), table)
    flat, _, _ = sums.gradient(
        layer.source, prior, _BY_TABLE, layer.x[n : n + 1], np.array([weight]), sums.no_sum(1), engine
    )
    return prefixed("decoder.", layer.source.named(flat))


def _centred(layer: Layer, moment: Floats, mean: Floats) -> Floats:
    """The sum with z_k - phi_k as factor, from those with z_k and without; 0 for an infinite logit."""
    slopes = moment - layer.q.probability[:, 1] * mean[:, None]
    return np.where(np.isfinite(layer.logits), slopes, 0.0)
