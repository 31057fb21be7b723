"""The learning methods as phases: which part of the parameters moves, and along what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice, check_count
from . import expectation_maximisation, maximum_likelihood, variational, wake_sleep
from .batches import Batch
from .choices import GRADIENTS, METHODS
from .machine import Machine, flat
from .optimisers import check_rate
from .reweighted import reweighted_wake
from .score_function import score_function

__all__ = ["Method", "Phase"]

Floats = NDArray[np.float64]
Notes = dict[str, float]
Direction = Callable[[Batch, np.random.Generator], tuple[Floats, Notes]]


_SURE = 700.0
"""In place of a prior logit that EM sends to infinity, so that it can come back."""


class Phase(NamedTuple):
    """part: of the machine's vector. direction: uphill from here, with what else was learnt on the way.

    whole: the direction is the step itself, not a gradient for an optimiser.
    """

    part: slice
    direction: Direction
    whole: bool = False


@dataclass(frozen=True)
class Method:
    """A method by name and its own settings.

    gradient: of the VLB, "exact" or "score-function". samples: draws of z for a row, of the score function and of
    reweighted wake-sleep. wake_phi: the share of wake phi, the rest is sleep phi, in reweighted wake-sleep, 0 to 1.
    """

    name: str
    gradient: str = "exact"
    samples: int = 10
    wake_phi: float = 0.5

    def __post_init__(self) -> None:
        check_choice("method", self.name, METHODS)
        check_choice("gradient", self.gradient, GRADIENTS)
        check_count("samples", self.samples, 2 if self.gradient == "score-function" else 1)
        if not 0.0 <= check_rate("wake_phi", self.wake_phi) <= 1.0:
            raise ValueError(f"wake_phi: got {self.wake_phi}, wanted a share from 0 to 1")

    @property
    def enumerates(self) -> bool:
        """Whether a step costs 2**K."""
        return self.name in ("maximum-likelihood", "em") or (self.name == "vlb" and self.gradient == "exact")

    @property
    def recognises(self) -> bool:
        """Whether the posterior learns with the model."""
        return self.name not in ("maximum-likelihood", "em")

    def phases(self, machine: Machine, workers: int | None) -> list[Phase]:
        """The phases of one step, in their order."""
        theta, phi = machine.generative, machine.recognition
        everything = slice(0, len(machine.vector))
        if self.name == "maximum-likelihood":
            return [Phase(theta, _maximum_likelihood(machine, workers))]
        if self.name == "em":
            return [Phase(theta, _em(machine, workers), whole=True)]
        if self.name == "vlb" and self.gradient == "exact":
            return [Phase(everything, lambda batch, rng: (variational.gradient(machine, batch, workers), {}))]
        if self.name == "vlb":
            return [Phase(everything, _score_function(machine, self.samples))]
        if self.name == "wake-sleep":
            return [
                Phase(theta, lambda batch, rng: (wake_sleep.wake(machine, batch.x.astype(np.float64), rng), {})),
                Phase(phi, lambda batch, rng: (wake_sleep.sleep(machine, len(batch.x), rng), {})),
            ]
        return [Phase(everything, _reweighted(machine, self.samples, self.wake_phi))]


def _maximum_likelihood(machine: Machine, workers: int | None) -> Direction:
    def direction(batch: Batch, rng: np.random.Generator) -> tuple[Floats, Notes]:
        slopes, log_px = maximum_likelihood.gradient(machine, batch, workers)
        return slopes, {"objective": log_px}

    return direction


def _em(machine: Machine, workers: int | None) -> Direction:
    def direction(batch: Batch, rng: np.random.Generator) -> tuple[Floats, Notes]:
        better, _ = expectation_maximisation.step(machine.snapshot()[0], batch.x, batch.weights, workers=workers)
        old = machine.vector[machine.generative]
        new = np.nan_to_num(flat(better.parameters()), posinf=_SURE, neginf=-_SURE)
        return np.where(old == new, 0.0, new - old), {}

    return direction


def _score_function(machine: Machine, samples: int) -> Direction:
    def direction(batch: Batch, rng: np.random.Generator) -> tuple[Floats, Notes]:
        found = score_function(machine, batch.x.astype(np.float64), rng, samples)
        notes = {
            "objective": found.vlb,
            "gradient_variance": found.variance,
            "gradient_variance_without_baseline": found.plain_variance,
        }
        return np.concatenate([found.generative, found.recognition]), notes

    return direction


def _reweighted(machine: Machine, samples: int, wake_phi: float) -> Direction:
    def direction(batch: Batch, rng: np.random.Generator) -> tuple[Floats, Notes]:
        theta, phi = reweighted_wake(machine, batch.x.astype(np.float64), rng, samples)
        if wake_phi < 1.0:
            phi = wake_phi * phi + (1.0 - wake_phi) * wake_sleep.sleep(machine, len(batch.x), rng)
        return np.concatenate([theta, phi]), {}

    return direction
