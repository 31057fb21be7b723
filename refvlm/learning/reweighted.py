"""Reweighted wake-sleep (Bornschein & Bengio 2015): many draws from q for a row, weighted by how well p explains them.

    z_1, ..., z_S ~ q(z; phi(x)),   w_s = p(x, z_s) / q(z_s; phi(x)),   u_s = w_s / sum of w

    wake theta:  uphill on sum_s u_s log p(x, z_s)     the gradient in theta, beta of log (1/S) sum_s w_s
    wake phi:    uphill on sum_s u_s log q(z_s)        towards E over the data of KL(p(z | x) || q), biased by 1/S
    sleep phi:   as in wake-sleep                      towards E over the model of the same

With S = 1 wake theta is that of wake-sleep, and wake phi is nought in expectation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .machine import Machine
from .passes import Pass, down, recognise

__all__ = ["reweighted_wake"]

Floats = NDArray[np.float64]


def reweighted_wake(machine: Machine, x: Floats, rng: np.random.Generator, samples: int) -> tuple[Floats, Floats]:
    """A draw of the wake directions in theta and beta, and in phi, for the mean over the rows of x."""
    layers, q = recognise(machine, np.repeat(x, samples, axis=0), rng)
    p = down(machine, layers)
    share = normalised_weights(p, q, samples).ravel() / len(x)
    return p.gradient(share), q.gradient(share)


def normalised_weights(p: Pass, q: Pass, samples: int) -> Floats:
    """u_s, (N, S), each row summing to 1."""
    log_weight = (p.log_probability() - q.log_probability()).reshape(-1, samples)
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    share: Floats = weight / weight.sum(axis=1, keepdims=True)
    return share
