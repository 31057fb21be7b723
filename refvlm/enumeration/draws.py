"""Draws in numbered pieces, so that they are the same for any workers and can be taken up where they ended."""

from __future__ import annotations

import numpy as np

from ..types import Bits, Floats
from . import kernels
from .problem import Decoder

PIECE = 4096
"""Draws in a piece."""


def log_ratios(
    decoder: Decoder, first: int, count: int, row: int, x: Bits, tilt: tuple[Floats, Floats, float], seed: int
) -> Floats:
    """log r of the draws first to first + count - 1 for a row x (L,): `kernels/ratios.py`.

    row, seed: which stream of random numbers; first is a multiple of PIECE. tilt: probabilities, departures, at_mode.
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(row, first // PIECE))))
    uniforms = stream.random((count, len(tilt[0])))
    return kernels.ratios.log_ratios(decoder, x, tilt[0], tilt[1], tilt[2], uniforms)
