"""What the weights w = p(x, z) / q(z | x) of a draw z from q tell at once: kappa(s) = log E_q w^s and its derivatives.

    kappa'(0) = VLB             kappa(1) = log p(x)         kappa'(1) = EUBO, the mean of log w under p(z | x)
    kappa(n) / n = CUBO-n       kappa(1 - a) / (1 - a) = the Renyi bound of order a
    kappa'(b), 0 <= b <= 1 = the integrand of thermodynamic integration, whose left sum is the TVO
    kappa''(0) = Var_q log w    exp(2 kappa(1) - kappa(2)) = the share of the draws that count in importance sampling

kappa is convex with kappa(0) = 0, which orders these bounds: VLB <= TVO <= log p(x) <= CUBO-n, log p(x) <= EUBO. One
sum over the latents gives kappa and both derivatives for every s (`kernels/weights.py`), a second one around the means
of the first the variances. Of a chain or a layerwise q the weights are those of all layers: what the layers above add
to log w, for each code of a layer, is their own kappa and derivatives there. Where q allows a z that p excludes, w is 0
with positive probability; where q excludes a z that p(z | x) needs, E_q w falls short of p(x).

Errors: `weight_certificate.py`. Twin: `definition.log_mean_power`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import bits
from ..enumeration import kernels, sums
from ..enumeration.engine import Engine
from ..enumeration.problem import Above, Prior, Recognition
from ..enumeration.tasks import ByKernel, Task, task
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import LayerwisePosterior, Posterior
from ..types import Bits, Floats
from .exact import prior_pass
from .layers import Layer, prepare, prepare_layerwise

Flags = NDArray[np.bool_]


class Tilt(NamedTuple):
    """kappa(s), kappa'(s), kappa''(s) for T exponents, (N, T) each, nats, and what bounds the weights of each row.

    least_log_weight, greatest_log_weight, least_log_joint: over z that both p and q allow, (N,). impossible: whether q
    allows a z of p(x, z) = 0; uncovered: whether q excludes one of p(x, z) > 0, (N,). prior_error: the largest error in
    the table of log p(z) that stands for layers above q's, else 0, (N,).
    """

    value: Floats
    slope: Floats
    bend: Floats
    least_log_weight: Floats
    greatest_log_weight: Floats
    least_log_joint: Floats
    impossible: Flags
    uncovered: Flags
    prior_error: Floats

    def take(self, rows: NDArray[np.int64]) -> Tilt:
        """Some of the rows."""
        return Tilt._make(column[rows] for column in self)

    @classmethod
    def of_all(cls, parts: Sequence[Tilt]) -> Tilt:
        """The rows of several, one after the other."""
        return cls._make(np.concatenate(columns) for columns in zip(*parts, strict=True))


def weighed_layers(model: BernoulliLVM, q: Posterior, x: Bits) -> list[Sequence[Layer]]:
    """The layers from x upwards, each with its part of q; of a layerwise q as a chain for each row alone."""
    layers = prepare(model, x, q)
    if not isinstance(q, LayerwisePosterior) or len(layers) == 1:
        return [layers]
    return [_of_row(layers, prepare_layerwise(model, x, q)[1:], n) for n in range(len(x))]


def _of_row(layers: Sequence[Layer], upper: Sequence[Layer], n: int) -> Sequence[Layer]:
    """The layers for row n of x alone; upper: those above the lowest, with q for each row."""
    chain = list(of_rows(layers[:1], np.array([n])))
    for layer, named in zip(layers[1:], upper, strict=True):
        logits, *q = (np.repeat(values[n : n + 1], len(layer.x), axis=0) for values in (named.logits, *named.q))
        chain.append(layer._replace(stage=named.stage, logits=logits, q=Recognition(*q)))
    return chain


def of_rows(layers: Sequence[Layer], rows: NDArray[np.int64]) -> Sequence[Layer]:
    """The layers for some of the rows of x."""
    lowest, *upper = layers
    q = Recognition(lowest.q.probability[rows], lowest.q.log_probability[rows])
    return [lowest._replace(x=lowest.x[rows], logits=lowest.logits[rows], q=q), *upper]


def is_chained(layers: Sequence[Layer]) -> bool:
    """Whether q has a part for the layer above the lowest, too."""
    return len(layers) > 1 and layers[1].stage is not None


def weighing_prior(layers: Sequence[Layer], engine: Engine) -> tuple[Prior, float]:
    """log p(z) of the lowest layer, 0 where a chain leaves it to the layers above, and what its table is off by."""
    latents = layers[0].model.latents
    if is_chained(layers):
        return Prior(np.zeros((2, latents)), np.zeros(0)), 0.0
    prior = prior_pass(layers, engine)
    return prior.arrays, prior.error


def tilt_pass(layers: Sequence[Layer], exponents: Floats, engine: Engine) -> Tilt:
    """`Tilt` of the rows of the lowest layer, of which there is at least one."""
    layer, *upper = layers
    above, prior_error = Above(np.zeros((3 * len(exponents), 0)), np.zeros((kernels.weights.MARKS, 0))), 0.0
    if is_chained(layers):
        higher = tilt_pass(upper, exponents, engine)
        above, prior_error = _as_above(higher), float(higher.prior_error.max())
    prior, own_error = weighing_prior(layers, engine)

    def summed(centres: Floats) -> list[Floats]:
        def task_of(rows: slice) -> Task[tuple[Floats, Floats, Floats]]:
            q = layer.q.of(rows)
            return task(kernels.weights.tilted, prior, q, layer.x[rows], exponents, centres[rows], above)

        merge = ByKernel(kernels.weights.merge_tilted)
        return sums.per_row(layer.source, len(layer.x), task_of, engine, merge=merge)

    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        _, about_zero, _ = summed(np.zeros((len(layer.x), len(exponents))))
        centres = _finite(about_zero[:, :, 1] / about_zero[:, :, 0])
        power, total, marks = summed(centres)
        value = kernels.marginal.finish(power.ravel(), total[:, :, 0].ravel()).reshape(power.shape)
        shift = total[:, :, 1] / total[:, :, 0]
        slope, bend = centres + shift, total[:, :, 2] / total[:, :, 0] - shift**2
    least, greatest, joint, impossible, uncovered = marks.T
    errors = np.full(len(value), own_error + prior_error)
    found = Tilt(value, slope, bend, -least, greatest, -joint, impossible > 0, uncovered > 0, errors)
    return _at_the_edges(found, exponents)


def _at_the_edges(found: Tilt, exponents: Floats) -> Tilt:
    """Infinities where weights of 0 or missing ones decide, and kappa(0) = 0."""
    value = np.where(exponents == 0.0, 0.0, found.value)
    empty = found.impossible[:, None] & (exponents <= 0.0)
    value = np.where(empty & (exponents < 0.0), np.inf, value)
    slope, bend = np.where(empty, -np.inf, found.slope), np.where(empty, np.inf, found.bend)
    open_ended = found.uncovered[:, None] & (exponents >= 1.0)
    value = np.where(open_ended & (exponents > 1.0), np.inf, value)
    slope, bend = np.where(open_ended, np.inf, slope), np.where(open_ended, np.inf, bend)
    return found._replace(value=value, slope=slope, bend=np.maximum(bend, 0.0))


def _as_above(higher: Tilt) -> Above:
    """What a layer below adds to its own weights; rows are its codes. What is not finite is in the marks."""
    never = kernels.weights.NEVER
    value = np.where(np.isneginf(higher.value), never, _finite(higher.value))
    values = np.stack([value, _finite(higher.slope), _finite(higher.bend)]).transpose(2, 0, 1)
    marks = np.stack([
        -higher.least_log_weight, higher.greatest_log_weight, -higher.least_log_joint,
        higher.impossible.astype(np.float64), higher.uncovered.astype(np.float64),
    ])  # fmt: skip
    return Above(np.ascontiguousarray(values.reshape(-1, len(higher.value))), marks)


def _finite(values: Floats) -> Floats:
    """0 in place of what is not finite."""
    return np.where(np.isfinite(values), values, 0.0)


def absence_pass(layers: Sequence[Layer], log_t: Floats, engine: Engine) -> Floats:
    """1 - phi(t) = E_q[1 - exp(-t w)] of the rows of the lowest layer, (N, T), for their own log_t, (N, T)."""
    layer, *upper = layers
    prior, _ = weighing_prior(layers, engine)
    if not is_chained(layers):

        def task_of(rows: slice) -> Task[Floats]:
            return task(kernels.weights.absence, prior, layer.q.of(rows), layer.x[rows], log_t[rows])

        return sums.per_row(layer.source, len(layer.x), task_of, engine)[0]
    found = np.empty_like(log_t)
    for n, log_weights in enumerate(log_weight_table(layer, prior, engine)):  # the layers above have a t for each code
        table = absence_pass(upper, log_weights[:, None] + log_t[n], engine)
        q = layer.q.of(slice(n, n + 1))
        found[n] = kernels.bound.expectation(q, np.ascontiguousarray(table.T))[0]
    return found


def log_weight_table(layer: Layer, prior: Prior, engine: Engine) -> Floats:
    """log p(x_n | z) - log q(z | x_n) for every code, (N, 2**K); what q excludes has no weight."""
    table = sums.joint_table(layer.source, prior, layer.x, engine)
    codes = bits.table(layer.model.latents)
    for k in range(layer.model.latents):
        table -= layer.q.log_probability[:, codes[:, k], k]
    return np.where(np.isposinf(table), kernels.weights.NEVER, table)
