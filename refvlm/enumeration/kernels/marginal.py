"""log p(x_n) of eq. (3): the streaming sum of p(x_n, z) over a piece of {0,1}^K.

The running sum of row n is kept as total * 2**power with an integer power, the largest ceil(log2 p(x_n, z))
seen so far. Rescaling by powers of two is exact, so the sum's bits do not depend on when the largest term
turns up; only terms below 2**-1021 of it are dropped. Within a block the lanes are summed by halving, then
PAGE blocks one after the other, then the pages: at most 6 + 64 + 2**(16 - 12) roundings deep per piece.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..blocks import PAGE
from ..problem import Decoder, Prior
from .compiling import inline, kernel
from .elementary import LN2, exp_scaled, log, power_of_two
from .network import decode, lane_count, tree_max, tree_sum, workspace
from .observation import log_likelihood, log_prior, log_sigmoids

__all__ = ["NO_POWER", "finish", "marginal", "merge"]

Floats = NDArray[np.float64]

NO_POWER = -np.inf
"""The power of an empty sum."""


@inline
def rescale(total: float, power: float, new: float) -> float:
    """total * 2**power in units of 2**new >= 2**power."""
    return total * power_of_two(power - new)


@kernel
def marginal(decoder: Decoder, prior: Prior, x: NDArray[np.uint8], first: int, count: int) -> tuple[Floats, Floats]:
    """Power and total, (N,) each, of the sum over `count` codes from `first`."""
    rows, lanes = len(x), lane_count(decoder.sizes[0])
    work = workspace(decoder, lanes)
    terms = np.empty((2, decoder.sizes[-1], lanes))
    prior_lanes, joint = np.empty(lanes), np.empty(lanes)
    power, total, page = np.full(rows, NO_POWER), np.zeros(rows), np.zeros(rows)
    for block in range(count // lanes):
        code = first + block * lanes
        log_sigmoids(decode(decoder, code, work, lanes), terms, lanes)
        log_prior(prior, code, prior_lanes, lanes)
        for n in range(rows):
            log_likelihood(x, n, terms, joint, lanes)
            for j in range(lanes):
                joint[j] += prior_lanes[j]
            largest = tree_max(joint, work.run, lanes)
            if largest > -np.inf:
                new = np.ceil(largest / LN2)
                if new > power[n]:
                    total[n] = rescale(total[n], power[n], new)
                    page[n] = rescale(page[n], power[n], new)
                    power[n] = new
                for j in range(lanes):
                    joint[j] = exp_scaled(joint[j], power[n])
                page[n] += tree_sum(joint, lanes)
        if (block + 1) % PAGE == 0:
            for n in range(rows):
                total[n] += page[n]
                page[n] = 0.0
    return power, total + page


@kernel
def merge(power: Floats, total: Floats, other_power: Floats, other_total: Floats) -> tuple[Floats, Floats]:
    """The sum of two sums, (N,) each."""
    merged_power, merged_total = np.empty_like(power), np.empty_like(total)
    for n in range(len(power)):
        new = max(power[n], other_power[n])
        merged_power[n] = new
        merged_total[n] = rescale(total[n], power[n], new) + rescale(other_total[n], other_power[n], new)
    return merged_power, merged_total


@kernel
def finish(power: Floats, total: Floats) -> Floats:
    """log(total * 2**power), (N,); -inf for an empty sum."""
    value = np.empty_like(total)
    for n in range(len(total)):
        value[n] = log(total[n], power[n]) if total[n] > 0.0 else -np.inf
    return value
