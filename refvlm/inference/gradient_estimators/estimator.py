"""What a gradient estimator is: a function of uniforms, with an exact mean and covariance in the logits of q."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ...checks import as_array, check_count, check_generator
from ...enumeration.engine import Engine, Progress
from ...model.latent_variable import BernoulliLVM
from ...model.recognition import Posterior
from ...types import Bits, Floats
from .landscape import Codes, Landscape, landscape, tables

Objective = Literal["vlb", "iwae", "inclusive"]


class Cost(NamedTuple):
    """What one draw evaluates for a row: log p(x, z) so many times, and its slopes in z so many times."""

    values: int
    slopes: int = 0

    @property
    def evaluations(self) -> int:
        """Slopes cost about as much as two values more."""
        return self.values + 2 * self.slopes


@dataclass(frozen=True, eq=False)
class Estimator(ABC):
    """Of the gradient in q's logits, given a row; subclasses are frozen dataclasses whose fields are hyperparameters.

    samples: draws of z, or pairs of them, that are averaged or weighed. name: in tables and on the command line.
    objective: whose gradient it estimates: the VLB's, that of IWAE-M, or "inclusive", minus the gradient of
    KL(p(z | x) || q). fewest: samples that it needs.
    """

    samples: int = 1

    name: ClassVar[str]
    objective: ClassVar[Objective] = "vlb"
    fewest: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_count("samples", self.samples, self.fewest)

    @property
    def unbiased(self) -> bool:
        """Whether its mean is that gradient, whatever the model."""
        return True

    def cost(self, latents: int) -> Cost:
        """Of one draw, for K latent bits."""
        return Cost(self.samples)

    def check(self, latents: int, rows: int) -> None:
        """Raise a ValueError where moments of so many rows would take too long, with a prediction, or do not fit."""
        return  # sums over z, which `tables` refuses where they do not fit

    def value(self, model: BernoulliLVM, q: Posterior, x: ArrayLike, u: ArrayLike) -> Floats:
        """The estimate that these uniforms give, (N, K).

        x: (N, L). u: (N, samples, K), in [0, 1); bit k of a draw is u < phi_k, of its antithetic twin u >= 1 - phi_k.
        Raises ValueError or TypeError for other shapes, and where a draw has zero prior probability.
        """
        at = landscape(model, q, x)
        uniforms, wanted = as_array("u", u), (len(at.x), self.samples, model.latents)
        if uniforms.shape != wanted:
            raise ValueError(f"u: got shape {uniforms.shape}, wanted {wanted}, (rows, samples, latent bits)")
        if not ((uniforms >= 0) & (uniforms < 1)).all():
            raise ValueError("u: got numbers outside [0, 1), wanted uniform ones, as rng.random makes them")
        return self._free(at, self._value(at, uniforms.astype(np.float64)))

    def sample(self, model: BernoulliLVM, q: Posterior, x: ArrayLike, rng: np.random.Generator) -> Floats:
        """One draw of the estimate for each row, (N, K)."""
        at = landscape(model, q, x)
        u = check_generator("rng", rng).random((len(at.x), self.samples, model.latents))
        return self._free(at, self._value(at, u))

    def mean(
        self, model: BernoulliLVM, q: Posterior, x: ArrayLike, *, workers: int | None = None,
        executor: Executor | None = None, progress: Progress | None = None,
    ) -> Floats:  # fmt: skip
        """The exact mean of a draw, (N, K). Other arguments as in `log_marginal`; progress counts rows."""
        at, engine = landscape(model, q, x), Engine(workers, executor, progress)
        return self._free(at, _stacked([self._mean(codes) for codes in tables(at, engine)], (0, model.latents)))

    def covariance(
        self, model: BernoulliLVM, q: Posterior, x: ArrayLike, *, workers: int | None = None,
        executor: Executor | None = None, progress: Progress | None = None,
    ) -> Floats:  # fmt: skip
        """The exact covariance of a draw, (N, K, K). Arguments as in `mean`."""
        at, engine = landscape(model, q, x), Engine(workers, executor, progress)
        self.check(model.latents, len(at.x))
        found = _stacked([self._covariance(codes) for codes in tables(at, engine)], (0, model.latents, model.latents))
        free = np.isfinite(at.logits)
        return np.where(free[:, :, None] & free[:, None, :], found, 0.0)

    def moments(self, codes: Codes) -> tuple[Floats, Floats]:
        """Mean (K,) and covariance (K, K) from the tables of one row."""
        free = np.isfinite(codes.at.logits[0])
        covariance = np.where(free[:, None] & free, self._covariance(codes), 0.0)
        return np.where(free, self._mean(codes), 0.0), covariance

    def bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        """Proven bounds on every draw for one row, below and above, (K,) each."""
        free = np.isfinite(codes.at.logits[0])
        low, high = self._bounds(codes)
        return np.where(free, low, 0.0), np.where(free, high, 0.0)

    @abstractmethod
    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        """`bounds`, for the bits that q leaves free."""

    @abstractmethod
    def _value(self, at: Landscape, u: Floats) -> Floats:
        """`value`, arguments checked."""

    def _mean(self, codes: Codes) -> Floats:
        """The mean for one row, (K,): of an unbiased estimator the gradient of the VLB."""
        return gradient_of_vlb(codes)

    @abstractmethod
    def _covariance(self, codes: Codes) -> Floats:
        """The covariance for one row, (K, K)."""

    @staticmethod
    def _free(at: Landscape, values: Floats) -> Floats:
        """0 for the bits that q fixes, which have no gradient."""
        return np.where(np.isfinite(at.logits), values, 0.0)


class OfOneCode(Estimator):
    """Averages over S independent draws, each a function of one z."""

    @abstractmethod
    def _of_every_code(self, codes: Codes) -> Floats:
        """What each z gives, (2**K, K)."""

    def _bounds(self, codes: Codes) -> tuple[Floats, Floats]:
        return range_of(codes, self._of_every_code(codes))

    def _covariance(self, codes: Codes) -> Floats:
        return covariance_of(codes, self._of_every_code(codes)) / self.samples


class ScoreFunction(Estimator):
    """Those that weigh the scores of the draws by numbers that depend on the draws' log w alone."""

    @abstractmethod
    def signal(self, log_w: Floats) -> Floats:
        """What multiplies each draw's score, (N, S), from its log w, (N, S)."""

    def _value(self, at: Landscape, u: Floats) -> Floats:
        z = drawn(at, u)
        return weighted(self.signal(at.log_weights(z)), at.score(z))


def drawn(at: Landscape, u: Floats) -> Bits:
    """Draws of z from q, (N, S, K), by uniforms of that shape."""
    return (u < at.phi[:, None]).astype(np.uint8)


def weighted(weights: Floats, vectors: Floats) -> Floats:
    """The sum over a row's draws of weight (N, S) times vector (N, S, K): (N, K)."""
    total: Floats = (weights[:, :, None] * vectors).sum(axis=1)
    return total


def range_of(codes: Codes, values: Floats) -> tuple[Floats, Floats]:
    """The least and the largest of a vector that is a function of one z, (2**K, K), over all z that q allows."""
    drawn = values[codes.q > 0]
    return drawn.min(axis=0), drawn.max(axis=0)


def range_of_differences(codes: Codes) -> tuple[Floats, Floats]:
    """Of f(z) - f(z'), or 0, where z_k = 1 and z'_k = 0, and of the same with signs where it is the other way round."""
    log_w, on = codes.log_w[:, None], codes.z[0] == 1
    allowed = (codes.q > 0)[:, None]
    (low_on, high_on), (low_off, high_off) = (
        (np.where(side & allowed, log_w, np.inf).min(axis=0), np.where(side & allowed, log_w, -np.inf).max(axis=0))
        for side in (on, ~on)
    )
    return np.minimum(low_on - high_off, 0.0), np.maximum(high_on - low_off, 0.0)


def gradient_of_vlb(codes: Codes) -> Floats:
    """d VLB / d logits of one row, (K,): E_q of log w times the score."""
    gradient: Floats = (codes.q * codes.log_w) @ codes.score
    return gradient


def covariance_of(codes: Codes, values: Floats) -> Floats:
    """The covariance under q, (K, K), of a vector that is a function of one z, (2**K, K)."""
    centred = values - codes.q @ values
    covariance: Floats = (centred.T * codes.q) @ centred
    return covariance


def _stacked(parts: list[Floats], none: tuple[int, ...]) -> Floats:
    return np.stack(parts) if parts else np.zeros(none)
