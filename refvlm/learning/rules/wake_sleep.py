"""Wake-sleep (Dayan, Hinton, Neal & Zemel 1995; Hinton, Dayan, Frey & Neal 1995), for any depth.

    wake:   x from the data, z ~ q(z; phi(x));                theta, beta uphill on log p(x, z)
    sleep:  z ~ p(z; beta), x ~ p(x | z; theta);              phi uphill on log q(z; phi(x))

In expectation wake follows the gradient of the VLB in theta and beta, eq. (9). Sleep follows minus the gradient in phi
of E_p(x)[KL(p(z | x) || q)], which is not the VLB's: p stands before q, and x comes from the model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...enumeration.engine import Workers
from ...types import Floats
from ..batches import Batch
from ..machine import Machine
from ..passes import down, dream, recognise, up
from .rule import Directions, Rule


@dataclass(frozen=True)
class WakeSleep(Rule):
    """Wake moves the model, then sleep moves q."""

    name = "wake-sleep"
    takes_missing = True

    def parts(self, machine: Machine) -> tuple[slice, ...]:
        """The model, then q."""
        return machine.generative, machine.recognition

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers) -> Directions:
        """Wake, then sleep."""
        yield wake(machine, batch.floats(), rng), {}
        yield sleep(machine, len(batch.x), rng), {}


def wake(machine: Machine, x: Floats, rng: np.random.Generator) -> Floats:
    """A draw of the wake phase's uphill direction in theta and beta, for the mean over the rows of x."""
    layers, _ = recognise(machine, x, rng)
    return down(machine, layers).gradient()


def sleep(machine: Machine, rows: int, rng: np.random.Generator) -> Floats:
    """A draw of the sleep phase's uphill direction in phi, for the mean over so many dreams."""
    return up(machine, dream(machine, rows, rng)).gradient()
