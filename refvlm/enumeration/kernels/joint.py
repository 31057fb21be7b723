"""Tables over codes: log p(x_n, z) of eqs. (1) and (2), and p(z | x_n) of eq. (6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..problem import Decoder, Prior
from .compiling import kernel
from .network import decode, lane_count, workspace
from .observation import log_likelihood, log_prior, log_sigmoids, posterior_weights

__all__ = ["joint_table", "normalise"]

Floats = NDArray[np.float64]


@kernel
def joint_table(decoder: Decoder, prior: Prior, x: NDArray[np.uint8], first: int, count: int) -> Floats:
    """log p(x_n, z) for `count` codes from `first`, (N, count)."""
    rows, lanes = len(x), lane_count(decoder.sizes[0])
    work = workspace(decoder, lanes)
    terms = np.empty((2, decoder.sizes[-1], lanes))
    prior_lanes = np.empty(lanes)
    table = np.empty((rows, count))
    for start in range(0, count, lanes):
        log_sigmoids(decode(decoder, first + start, work, lanes), terms, lanes)
        log_prior(prior, first + start, prior_lanes, lanes)
        for n in range(rows):
            joint = table[n, start : start + lanes]
            log_likelihood(x, n, terms, joint, lanes)
            for j in range(lanes):
                joint[j] += prior_lanes[j]
    return table


@kernel
def normalise(table: Floats, power: Floats, total: Floats) -> Floats:
    """p(z | x_n) from log p(x_n, z), in place; power and total as `marginal` returns them."""
    for n in range(len(table)):
        posterior_weights(table[n], power[n], 1.0 / total[n], table.shape[1])
    return table
