"""The VLB where q factorises over all latents of a model, layer by layer and bit by bit: a term for each layer.

With q(z1, z2, ..., z_D | x) = q1(z1 | x) q2(z2 | x) ..., eq. (10) is

    VLB = E log p(x | z1) + sum over d < D of E log p(z_d | z_(d+1)) + E log p(z_D) + sum over d of H(q_d),

and z_(d+1) is independent of z_d. So, with logits a = b + sum over j of z_(d+1),j W_j, means mu = E z_d, and
m the likeliest z_d under q_d, bit by bit,

    E log p(z_d | z_(d+1)) = E log p(m | z_(d+1)) + sum over k of (mu_k - m_k) E a_k,
    E a_k = b_k + sum over j of W_jk E z_(d+1),j,

because log p(1 | a) - log p(0 | a) = a. The first term is one of data m: by characteristic functions where the decoder
is linear (`kernels/characteristic.py`), and a q that is certain leaves it alone. The lowest layer's decoder may be any,
with a sum over its codes. One layer with a Bernoulli prior, D = 1, is the VLB of a single q. Gradients:

    d / d phi_j of layer d + 1:  of the first term, and sum over k of (mu_k - m_k) W_jk
    d / d mu_k:                  E a_k; in the highest layer the prior's logit; and - logit_k from the entropy
    d / d W_jk:                  of the first term, and phi_j (mu_k - m_k); d / d b_k without phi_j.

Errors: `bound_certificate.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..enumeration import kernels, sums
from ..enumeration.engine import Engine
from ..enumeration.problem import Prior
from ..enumeration.tasks import Task, task
from ..model.mlp import MLP
from ..model.parameters import Parameters, prefixed
from ..types import Floats
from . import arrays
from .bound_certificate import layerwise_error
from .departures import MeanLogits, departures_of, mean_logits
from .exact import prior_gradient
from .layers import Layer
from .terms import Bound, VLBTerms, check_finite, of_no_rows


def bound_pass(layers: Sequence[Layer], engine: Engine, *, summed: bool) -> Bound:
    """The VLB of x, the rows of the lowest layer. summed: its reconstruction is a sum over codes."""
    if len(layers[0].x) == 0:
        return of_no_rows()
    lowest, *upper = layers
    reconstruction = summed_reconstruction(lowest, engine) if summed else _characteristic(lowest, engine)
    means = [_means(layer) for layer in upper]
    pairs = zip(layers, upper, means, strict=False)
    between = [_between(below, layer, mean, engine) for below, layer, mean in pairs]
    closed = arrays.log_probabilities(layers[0].model.top).bits
    top = kernels.bernoulli.prior_and_entropy(layers[-1].q, closed)[0]
    entropies = [
        kernels.bernoulli.prior_and_entropy(layer.q, np.zeros_like(layer.q.probability[0]))[1] for layer in layers
    ]
    terms = VLBTerms(_total([*between, top]), reconstruction, _total(entropies))
    return Bound(terms, layerwise_error(layers, [None if summed else _means(lowest), *means], terms))


def _total(parts: Sequence[Floats]) -> Floats:
    """Their sum, from the first on."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _linear(layer: Layer) -> MLP:
    decoder = layer.model.decoder
    assert isinstance(decoder, MLP)
    return decoder


def _means(layer: Layer) -> MeanLogits:
    return mean_logits(_linear(layer), layer.q)


def _characteristic(layer: Layer, engine: Engine) -> Floats:
    """E_q[log p(x | z)], (N,), without a sum over codes."""
    return sums.by_characteristic(arrays.flat_network(_linear(layer)), layer.q, layer.x, engine)


def summed_reconstruction(layer: Layer, engine: Engine) -> Floats:
    """E_q[log p(x | z)], (N,), by the sum over codes, for any decoder."""

    def task_of(rows: slice) -> Task[Floats]:
        return task(kernels.bound.reconstruction, layer.q.of(rows), layer.x[rows])

    return sums.per_row(layer.source, len(layer.x), task_of, engine)[0]


def _between(below: Layer, layer: Layer, means: MeanLogits, engine: Engine) -> Floats:
    """E log p(z_d | z_(d+1)), (N,), z_d the latents of `below`, z_(d+1) those of `layer`."""
    mean, departures = means.mean, departures_of(below.q)
    total = np.zeros(len(mean))
    for k in range(mean.shape[1]):
        total += departures[:, k] * mean[:, k]
    return _characteristic(layer, engine) + total


def gradient_pass(
    layers: Sequence[Layer], weights: Floats, engine: Engine, *, summed: bool
) -> tuple[Parameters, list[Parameters]]:
    """The gradient of sum_n weights_n VLB in the model's parameters, and in those of each stage of q, lowest first."""
    model_top = layers[0].model.top
    check_finite(kernels.bernoulli.prior_and_entropy(layers[-1].q, arrays.log_probabilities(model_top).bits)[0])
    decoders, stages = [], []
    for depth, layer in enumerate(layers):
        if summed and depth == 0:
            flat, slopes = _summed_gradient(layer, weights, engine)
        else:
            flat, slopes = _characteristic_gradient(layer, layers[depth - 1] if depth > 0 else None, weights, engine)
        decoders.append(layer.source.named(flat))
        if depth + 1 < len(layers):
            above = _means(layers[depth + 1]).mean
        else:
            above = np.where(np.isfinite(model_top.logits), model_top.logits, 0.0)
        finite = np.isfinite(layer.logits)
        variance = layer.q.probability[:, 0] * layer.q.probability[:, 1]
        slopes = slopes + variance * (above - np.where(finite, layer.logits, 0.0))
        slopes = np.where(finite, slopes, 0.0) * weights[:, None]
        assert layer.stage is not None
        stages.append(arrays.recognition_gradient(layer.stage, layers[0].x, slopes))
    mass = (layers[-1].q.probability[:, 1] * weights[:, None]).sum(axis=0)
    gradient = prior_gradient(model_top, mass, weights.sum())
    for decoder in reversed(decoders):
        gradient = prefixed("prior.", gradient) | prefixed("decoder.", decoder)
    return gradient, stages


def _summed_gradient(layer: Layer, weights: Floats, engine: Engine) -> tuple[Floats, Floats]:
    """The decoder's flat gradient of sum_n w_n E_q[log p(x_n | z)], and that term's slopes in q's logits, (N, K)."""
    even = Prior(np.zeros((2, layer.model.latents)), np.zeros(0))

    def task_of(rows: slice) -> Task[tuple[Floats, Floats]]:
        return task(kernels.moments.moments, even, layer.q.of(rows), layer.x[rows])

    moment, expected = sums.per_row(layer.source, len(layer.x), task_of, engine)
    flat, _, _ = sums.gradient(layer.source, even, layer.q, layer.x, weights, sums.no_sum(len(layer.x)), engine)
    return flat, moment - layer.q.probability[:, 1] * expected[:, None]


def _characteristic_gradient(
    layer: Layer, below: Layer | None, weights: Floats, engine: Engine
) -> tuple[Floats, Floats]:
    """The same without a sum over codes; with a layer below of E log p(z_d | z_(d+1)), which is its q's as well."""
    decoder = _linear(layer)
    flat, by_probability = sums.gradient_by_characteristic(
        arrays.flat_network(decoder), layer.q, layer.x, weights, engine
    )
    on, off = layer.q.probability[:, 1], layer.q.probability[:, 0]
    if below is not None:
        departures = departures_of(below.q)
        for k in range(decoder.fan_out):
            by_probability = by_probability + departures[:, k, None] * decoder.weights[0][:, k]
        weighted = weights[:, None] * departures
        flat = flat + np.concatenate([*((p[:, None] * weighted).sum(axis=0) for p in on.T), weighted.sum(axis=0)])
    return flat, on * off * by_probability
