"""Results of pieces that follow each other, added along the tree of `blocks.py` inside a kernel.

A call of a kernel from Python, and the lock that comes with it, take as long as a tenth of the smallest pieces.
"""

from __future__ import annotations

import numpy as np

from ...types import Floats
from .compiling import allocating, inline


@allocating
def waiting_sums(pieces: int, size: int) -> Floats:
    """Room for `size` numbers of each level of the tree over `pieces`, a power of two; the last is that of all."""
    levels = 0
    while 1 << levels < pieces:
        levels += 1
    return np.empty((levels + 1, size))


@inline
def add_piece(waiting: Floats, number: int, value: Floats) -> None:
    """Add the numbers of piece `number`, which come after those of all pieces before it; `value` is used up."""
    level = 0
    while (number >> level) & 1:
        for i in range(len(value)):
            value[i] = waiting[level, i] + value[i]
        level += 1
    for i in range(len(value)):
        waiting[level, i] = value[i]
