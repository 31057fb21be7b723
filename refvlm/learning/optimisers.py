"""Optimisers as pairs (init, update) over one vector of parameters, and schedules for their learning rate.

    state = optimiser.init(len(vector))
    step = optimiser.update(state, gradient, rate)     # uphill; moves the state along
    vector += step

A state is a tuple of arrays that `update` changes in place, so that a checkpoint is its arrays.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..checks import check_choice, describe
from ..types import Floats

State = tuple[Floats, ...]


class Optimiser(NamedTuple):
    """init: from the number of parameters to a state. update: from state, gradient and learning rate to the step."""

    init: Callable[[int], State]
    update: Callable[[State, Floats, float], Floats]


def sgd(momentum: float = 0.0) -> Optimiser:
    """Stochastic gradient ascent with a velocity v <- momentum v + gradient; the step is rate * v."""
    check_rate("momentum", momentum, most=1.0)
    if momentum == 0.0:
        return Optimiser(lambda size: (), lambda state, gradient, rate: rate * gradient)

    def update(state: State, gradient: Floats, rate: float) -> Floats:
        (velocity,) = state
        velocity *= momentum
        velocity += gradient
        return rate * velocity

    return Optimiser(lambda size: (np.zeros(size),), update)


def adam(beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> Optimiser:
    """Adam (Kingma & Ba 2015, algorithm 1), uphill: rate * m_hat / (sqrt(v_hat) + epsilon)."""
    check_rate("beta1", beta1, most=1.0)
    check_rate("beta2", beta2, most=1.0)

    def update(state: State, gradient: Floats, rate: float) -> Floats:
        mean, square, steps = state
        steps += 1.0
        mean *= beta1
        mean += (1.0 - beta1) * gradient
        square *= beta2
        square += (1.0 - beta2) * gradient * gradient
        scale = np.sqrt(square)
        scale *= 1.0 / math.sqrt(1.0 - beta2 ** steps[0])
        scale += epsilon
        step: Floats = mean / scale
        step *= rate / (1.0 - beta1 ** steps[0])
        return step

    return Optimiser(lambda size: (np.zeros(size), np.zeros(size), np.zeros(1)), update)


OPTIMISERS: dict[str, Callable[[float, float], Optimiser]] = {
    "sgd": lambda momentum, beta2: sgd(momentum),
    "adam": lambda momentum, beta2: adam(momentum or 0.9, beta2),
}
"""By the name that `fit` takes, from its momentum, which is Adam's beta1, and from Adam's beta2."""

WARM_UP = 0.08
"""The part of all steps over which the rate of "warmup-cosine" rises, from a tenth of what it is to be."""


def _cosine(fraction: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * fraction))


SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda fraction: 1.0,
    "linear": lambda fraction: 1.0 - fraction,
    "cosine": _cosine,
    "warmup-cosine": lambda fraction: min(1.0, 0.1 + 0.9 * fraction / WARM_UP) * _cosine(fraction),
    "exponential": lambda fraction: 0.001**fraction,
}
"""The factor on the learning rate from the fraction of all steps that is done; exponential ends at a thousandth."""


def rate_at(schedule: str, rate: float, done: int, total: int) -> float:
    """The learning rate of step `done` (from 0) of `total`."""
    check_choice("schedule", schedule, tuple(SCHEDULES))
    return rate * SCHEDULES[schedule](done / max(total, 1))


def check_rate(name: str, value: object, *, least: float = 0.0, most: float = math.inf, above: bool = False) -> float:
    """`value` as a float in [least, most), or in (least, most) if `above`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: got {describe(value)}, wanted a number")
    fine = least < value if above else least <= value
    if not (fine and value < most):
        interval = f"{'above' if above else 'at least'} {least:g}" + (
            "" if most == math.inf else f" and below {most:g}"
        )
        raise ValueError(f"{name}: got {value}, wanted a finite number {interval}")
    return float(value)
