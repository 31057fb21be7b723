"""Tables over codes: log p(x_n, z) of eqs. (1) and (2), and p(z | x_n) of eq. (6).

Twins: `inference/definition.log_joint` and `posterior`.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Prior
from .compiling import kernel
from .constants import BLOCK
from .elementary import exp_scaled
from .lanes import TILE, store, vectors
from .network import enter, network
from .observation import log_likelihood, log_prior, prior_of, tabulate, turn_prior


@kernel
def joint_table(decoder: Decoder, first: int, count: int, prior: Prior, x: Bits) -> Floats:
    """log p(x_n, z) for `count` codes from `first`, (N, count)."""
    rows = len(x)
    net, log_p = network(decoder, first, count), prior_of(prior)
    log_sigmoid, lanes = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    table = np.empty((rows, count))
    for start in range(0, count, BLOCK):
        code = first + start
        if enter(net, code, first):
            turn_prior(log_p, code)
        tabulate(net, log_sigmoid)
        for n in range(rows):
            for lane in range(0, BLOCK, TILE):
                store(lanes, lane, log_likelihood(x, n, log_sigmoid, lane) + log_prior(log_p, code, lane))
            for j in range(min(BLOCK, count)):
                table[n, start + j] = lanes[j]
    return table


@kernel
def normalise(table: Floats, power: Floats, total: Floats) -> Floats:
    """p(z | x_n) from log p(x_n, z), in place; p(x_n) = total * 2**power, so a row's entries add up to 1."""
    for n in range(len(table)):
        inverse = 1.0 / total[n]
        for c in range(table.shape[1]):
            table[n, c] = exp_scaled(table[n, c], power[n]) * inverse
    return table
