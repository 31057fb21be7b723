"""The least time that a work's arithmetic takes: operations per latent state, over what the machine does per second.

Counted are the operations of the algorithms in `enumeration/kernels/`, on single floats, for one state:

    dense = H L fused multiply-adds, the layer after the hidden units; the layer before them is a table look-up
    network = H fused multiply-adds and H divisions (first layer and tanh, from tables of exponentials) + dense

    no hidden layer, few rows    N L additions and N L multiplications: the longer of the two, each at one vector a slot
                                 of a fused multiply-add, because they can go to different pipes
    few rows                     network + L exps
    many rows                    network + L exps + L divisions 1 / (1 + y) + N G load-multiplies
    with the gradient            many rows, and once more (without the N G)
                                 + 2 dense (backwards: the weights' gradients, the hidden units' slopes)
                                 + N G load-multiplies + N G times load, add and store, each counted as 2 of them

G = ceil(3 L / 16) groups of bits. Left out is what is small beside these (the prior, one exp and one division for each
state, filling tables) or no arithmetic (addresses, the look-up of a row's pattern, adding lanes up), and that loads and
stores do not always find their data in L1. Times of different operations are added, as if none ran beside another,
and an exp is timed as a whole. So the limit is a yardstick and no theorem: near 100 % there is little left to gain.
"""

from __future__ import annotations

from typing import NamedTuple

from ..enumeration.blocks import MANY_ROWS
from .works import Work


class Rates(NamedTuple):
    """Billions of operations on floats per second, by `workers` threads together."""

    workers: int
    fma: float
    exp: float
    load_multiply: float
    division: float


def limit(work: Work, rates: Rates) -> float:
    """Nanoseconds per latent state, by all of rates.workers together."""
    hidden, observed, rows = work.hidden, work.observed, work.rows
    dense = hidden * observed
    if rows < MANY_ROWS and not hidden and not work.gradient:
        return rows * observed / rates.fma
    network = (hidden + dense) / rates.fma + hidden / rates.division + observed / rates.exp
    if rows < MANY_ROWS and not work.gradient:
        return network
    network += observed / rates.division
    lookups = rows * -(-3 * observed // 16) / rates.load_multiply
    if not work.gradient:
        return network + lookups
    return 2 * network + 2 * dense / rates.fma + 4 * lookups
