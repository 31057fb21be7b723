"""What a learning rule is: an object that holds its hyperparameters and says what `fit` has to know about it."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, TypeVar

import numpy as np

from ...enumeration.engine import Workers
from ...model.latent_variable import BernoulliLVM
from ...types import Floats
from ..batches import Batch
from ..machine import Machine

Directions = Iterator[tuple[Floats, dict[str, float]]]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Rule(ABC):
    """A learning rule; subclasses are frozen dataclasses whose fields are the hyperparameters.

    name: the word that `fit(method=...)` takes. learns_posterior: whether q learns together with the model; if not, it
    is fitted afterwards. whole_data: whether a step needs all rows. own_steps: whether a direction is the step itself,
    which no optimiser and no learning rate scales. takes_missing: whether `directions` leaves out the bits that are not
    in `batch.observed`; a class that writes `directions` anew has to say so anew, or `fit` refuses rows that miss bits.
    """

    name: ClassVar[str]
    learns_posterior: ClassVar[bool] = True
    whole_data: ClassVar[bool] = False
    own_steps: ClassVar[bool] = False
    takes_missing: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "directions" in vars(cls) and "takes_missing" not in vars(cls):
            cls.takes_missing = False

    @property
    def enumerates(self) -> bool:
        """Whether a step is an exact sum where one is possible. Equal rows are merged."""
        return False

    def sums_codes(self, model: BernoulliLVM) -> bool:
        """Whether a step on this model goes through all 2**K codes."""
        return self.enumerates

    @property
    def records(self) -> tuple[str, ...]:
        """The fields of `Record` that get the mean, over the steps of an epoch, of what comes with a direction."""
        return ()

    def parts(self, machine: Machine) -> tuple[slice, ...]:
        """The parts of the machine's vector that the phases of a step move, one after the other."""
        return (slice(0, len(machine.vector)),)

    @abstractmethod
    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers) -> Directions:
        """For each phase its uphill direction, and numbers by the names in `records`.

        batch: rows, their weights, and which of their bits are observed; see `Batch`.
        The machine has taken the step of one phase when the next phase is asked for its direction.
        """


def hyperparameter(default: T, help: str, choices: tuple[str, ...] = ()) -> T:
    """A field of a rule, as `fit` takes it and the command line offers it; choices: the words it can be."""
    return dataclasses.field(default=default, metadata={"help": help, "choices": choices})
