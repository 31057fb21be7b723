"""Estimators in parameters: what one in q's logits is in the encoder's, and updates of the model, reweighted or not.

A gradient G in the logits is J^T G in the encoder's parameters, J = d logits / d parameters at the row. The mean goes
the same way; the trace of the covariance is the sum of C times J J^T, entry by entry: no P x P matrix. The updates of
the model's parameters are averages of g(z) = d log p(x, z) / d theta, whose traces need squared norms alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...activations import sigmoid
from ...checks import check_count, check_fits, check_generator, describe
from ...enumeration.engine import Engine, Progress
from ...model.bernoulli import Bernoulli
from ...model.latent_variable import BernoulliLVM
from ...model.mlp import MLP
from ...model.parameters import Parameters, flatten, prefixed, under
from ...model.recognition import AmortisedPosterior, PerDatumPosterior, Posterior
from ...types import Bits, Floats
from .. import arrays
from ..bounds import grad_vlb
from ..weighted_gradients import grad_rws
from .estimator import Estimator, drawn
from .landscape import Codes, Landscape, landscape, tables
from .reweighted import nodes, normalised


class ParameterMoments(NamedTuple):
    """mean: of the estimates summed over the rows, by name. trace: of each row's covariance, (N,)."""

    mean: Parameters
    trace: Floats


def in_encoder(
    estimator: Estimator, model: BernoulliLVM, q: Posterior, x: ArrayLike, *, workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None,
) -> ParameterMoments:  # fmt: skip
    """Exact moments of an estimator in the parameters of q, by their names. Arguments as in `Estimator.mean`."""
    at = landscape(model, q, x)
    assert isinstance(q, (AmortisedPosterior, PerDatumPosterior))
    mean = estimator.mean(model, q, x, workers=workers, executor=executor)
    covariance = estimator.covariance(model, q, x, workers=workers, executor=executor, progress=progress)
    trace = np.array([(products_of(q, at.x[n : n + 1], n) * covariance[n]).sum() for n in range(len(at.x))])
    return ParameterMoments(arrays.recognition_gradient(q, at.x, mean), np.maximum(trace, 0.0))


def products_of(q: AmortisedPosterior | PerDatumPosterior, x: Bits, number: int) -> Floats:
    """J J^T of one row x, (1, L), of this number: (K, K)."""
    units = np.eye(q.latents)
    if isinstance(q, PerDatumPosterior):
        return units
    if isinstance(q.encoder, MLP):
        return q.encoder.slope_products(x, units)
    pullback = q.forward(x)[1]
    jacobian = np.stack([flatten(pullback(unit[None])) for unit in units])
    products: Floats = jacobian @ jacobian.T
    return products


@dataclass(frozen=True)
class ModelUpdate(ABC):
    """An estimate of a gradient in the model's parameters from draws of z from q; samples: S or M."""

    samples: int = 1

    name: ClassVar[str]

    def __post_init__(self) -> None:
        check_count("samples", self.samples, 1)

    def sample(self, model: BernoulliLVM, q: Posterior, x: ArrayLike, rng: np.random.Generator) -> Parameters:
        """One draw, summed over the rows of x, (N, L), by the model's names."""
        at, prior = landscape(model, q, x), _prior(model)
        z = drawn(at, check_generator("rng", rng).random((len(at.x), self.samples, model.latents)))
        weights = self._weights(at.log_weights(z)).reshape(-1, 1)
        codes, rows = z.reshape(-1, model.latents).astype(np.float64), np.repeat(at.x, self.samples, axis=0)
        logits, pullback = model.decoder.forward(codes)
        slopes = (weights * _score(prior, codes)).sum(axis=0)
        return {"prior.logits": slopes} | prefixed("decoder.", pullback(weights * (rows - sigmoid(logits))))

    def moments(
        self, model: BernoulliLVM, q: Posterior, x: ArrayLike, *, workers: int | None = None,
        executor: Executor | None = None, progress: Progress | None = None,
    ) -> ParameterMoments:  # fmt: skip
        """Exact, by the model's names; progress counts rows. Refused for a deep model, and a decoder that is no MLP."""
        at, engine = landscape(model, q, x), Engine(workers, executor, progress)
        decoder = _decoder(model)
        check_fits(
            f"a network's units for all 2**{model.latents} codes",
            (48 * sum(decoder.sizes)) << model.latents,
            "take fewer latent bits",
        )
        trace = [self._trace(codes, _Gradients(codes)) for codes in tables(at, engine)]
        return ParameterMoments(
            under("model.", self._mean(at, engine)), np.maximum(np.array(trace, dtype=np.float64), 0.0)
        )

    @abstractmethod
    def _weights(self, log_w: Floats) -> Floats:
        """What the draws of a row count for, (N, S)."""

    @abstractmethod
    def _mean(self, at: Landscape, engine: Engine) -> Parameters:
        """By names with "model." in front."""

    @abstractmethod
    def _trace(self, codes: Codes, gradients: _Gradients) -> float:
        """For one row."""


@dataclass(frozen=True)
class Wake(ModelUpdate):
    """The wake phase of wake-sleep: (1/S) sum_s g(z_s), an unbiased estimate of the gradient of the VLB."""

    name = "wake"

    def _weights(self, log_w: Floats) -> Floats:
        return np.full(log_w.shape, 1.0 / self.samples)

    def _mean(self, at: Landscape, engine: Engine) -> Parameters:
        q = PerDatumPosterior(at.logits)
        return grad_vlb(at.model, q, at.x, workers=engine.workers, executor=engine.executor)

    def _trace(self, codes: Codes, gradients: _Gradients) -> float:
        return float(codes.q @ gradients.squares - gradients.norm(codes.q)) / self.samples


@dataclass(frozen=True)
class ReweightedModel(ModelUpdate):
    """That of reweighted wake-sleep and IWAE: sum_s u_s g(z_s), an unbiased estimate of the gradient of IWAE-M."""

    samples: int = 5

    name = "reweighted-model"

    def _weights(self, log_w: Floats) -> Floats:
        return normalised(log_w)

    def _mean(self, at: Landscape, engine: Engine) -> Parameters:
        q = PerDatumPosterior(at.logits)
        return grad_rws(at.model, q, at.x, self.samples, workers=engine.workers, executor=engine.executor)

    def _trace(self, codes: Codes, gradients: _Gradients) -> float:
        own, mean, pairs = np.zeros(len(codes.q)), np.zeros(len(codes.q)), 0.0
        for node in nodes(codes, self.samples):
            own += node.own
            mean += node.single * node.shares
            if node.pair * node.shares.sum() ** 2 * gradients.largest > NEGLIGIBLE * (own @ gradients.squares):
                pairs += node.pair * gradients.norm(node.shares)
        return float(own @ gradients.squares + pairs - gradients.norm(mean))


NEGLIGIBLE = 1e-18
"""The part of a sum up to which a term of a few hundred is left out."""


class _Gradients:
    """g(z) of one row for every code, as far as it is needed: squared norms, and the norms of weighted sums."""

    def __init__(self, codes: Codes) -> None:
        model, z = codes.at.model, codes.z[0].astype(np.float64)
        decoder = _decoder(model)
        logits, self._pullback = decoder.forward(z)
        self._slopes, self._score = codes.at.x - sigmoid(logits), _score(_prior(model), z)
        self.squares: Floats = decoder.squared_norms(z, self._slopes) + (self._score**2).sum(axis=1)
        self.largest = float(self.squares.max())

    def norm(self, weights: Floats) -> float:
        """The squared norm of the sum over codes of weight times gradient."""
        decoder = sum(float((value**2).sum()) for value in self._pullback(weights[:, None] * self._slopes).values())
        return decoder + float(((weights @ self._score) ** 2).sum())


def _score(prior: Bernoulli, z: Floats) -> Floats:
    """d log p(z) / d logits for every z, (N, K); 0 for infinite logits."""
    return np.where(np.isinf(prior.logits), 0.0, z - sigmoid(prior.logits))


def _prior(model: BernoulliLVM) -> Bernoulli:
    if not isinstance(model.prior, Bernoulli):
        raise TypeError("model: got one whose prior is a model, wanted a Bernoulli prior; q's estimators remain")
    return model.prior


def _decoder(model: BernoulliLVM) -> MLP:
    _prior(model)
    if not isinstance(model.decoder, MLP):
        raise TypeError(f"decoder: got {describe(model.decoder)}, wanted an MLP; q's estimators remain")
    return model.decoder
