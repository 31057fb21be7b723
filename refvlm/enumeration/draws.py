"""Draws in numbered pieces, so that they are the same for any workers and can be taken up where they ended."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import Bits, Floats
from . import kernels
from .problem import AnyMixture, LayeredMixture

PIECE = 4096
"""Draws in a piece."""
_CHUNK = 512
"""Draws whose random numbers lie in memory at a time."""
STEP, LOWEST = 1.0 / 64.0, -60.0
EDGES = np.concatenate([[0.0], np.exp(np.arange(LOWEST, STEP / 2, STEP))])
"""Of the histograms: geometric from e**LOWEST to 1, and 0."""
EDGES[-1] = 1.0


class Histogram(NamedTuple):
    """What is kept of draws X in [0, 1]: how many, their mass at each of EDGES, their sum and that of their squares.

    The mass of a draw is shared between the two edges around it so that its mean stays.
    """

    draws: int
    mass: Floats
    total: float
    squares: float

    def plus(self, other: Histogram) -> Histogram:
        """Of both."""
        return Histogram(
            self.draws + other.draws, self.mass + other.mass, self.total + other.total, self.squares + other.squares
        )


def nothing() -> Histogram:
    """Of no draws."""
    return Histogram(0, np.zeros(len(EDGES)), 0.0, 0.0)


def histogram(logarithms: Floats) -> Histogram:
    """Of draws that are given as log X <= 0."""
    x, last = np.exp(logarithms), len(EDGES) - 2
    cell = np.clip(np.floor((logarithms - LOWEST) / STEP) + 1.0, 0, last).astype(np.int64)
    cell = np.minimum(cell - (x < EDGES[cell]) + (x >= EDGES[cell + 1]), last)  # where the logarithm was rounded over
    upper = (x - EDGES[cell]) / (EDGES[cell + 1] - EDGES[cell])
    mass = np.zeros(len(EDGES))
    mass += np.bincount(cell, 1.0 - upper, len(EDGES))
    mass += np.bincount(cell + 1, upper, len(EDGES))
    return Histogram(len(x), mass, float(x.sum()), float((x * x).sum()))


def log_ratios(mixture: AnyMixture, boxes: NDArray[np.int64], uniforms: Floats) -> Floats:
    """log r of a draw of these boxes for each row of uniforms (draws, randoms)."""
    if isinstance(mixture, LayeredMixture):
        return kernels.layered_ratios.log_ratios(mixture, boxes, uniforms)[0]
    return kernels.ratios.log_ratios(mixture, boxes, uniforms)


def bits_of(mixture: AnyMixture, boxes: NDArray[np.int64], uniforms: Floats) -> Bits:
    """The z of these draws, of the layer next to x, (draws, K)."""
    if isinstance(mixture, LayeredMixture):
        return kernels.layered_ratios.log_ratios(mixture, boxes, uniforms)[1]
    return (uniforms < mixture.probabilities[boxes]).astype(np.uint8)


def accepted(mixture: AnyMixture, first: int, count: int, seed: int, key: tuple[int, ...]) -> tuple[Bits, float]:
    """The z of those draws that are accepted with probability r each, (accepted, K), and the sum of all r.

    In the order of the draws, so that the first so many of them are not of one box more than of another. seed, key,
    first: which stream of random numbers.
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(*key, first))))
    boxes = np.searchsorted(mixture.upto, stream.random(count), side="right")
    kept, total = list[Bits](), 0.0
    for start in range(0, count, _CHUNK):
        some = boxes[start : start + _CHUNK]
        uniforms = stream.random((len(some), mixture.randoms))
        log_r = log_ratios(mixture, some, uniforms)
        good = stream.standard_exponential(len(some)) >= -log_r
        kept.append(bits_of(mixture, some[good], uniforms[good]))
        total += float(np.exp(log_r).sum())
    return np.concatenate(kept), total


def draw(mixture: AnyMixture, first: int, count: int, seed: int, key: tuple[int, ...]) -> Histogram:
    """Of r for the draws first to first + count - 1 from a mixture: `kernels/ratios.py`; first is a multiple of PIECE.

    seed, key: which stream of random numbers.
    """
    stream = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(*key, first // PIECE))))
    # In order of their boxes, so that what is read lies together: nothing that follows depends on the order in a piece.
    boxes = np.searchsorted(mixture.upto, np.sort(stream.random(count)), side="right")
    uniforms, result = np.empty((min(_CHUNK, count), mixture.randoms)), np.empty(count)
    for start in range(0, count, _CHUNK):
        some = boxes[start : start + _CHUNK]
        stream.random(out=uniforms[: len(some)])
        result[start : start + _CHUNK] = log_ratios(mixture, some, uniforms[: len(some)])
    return histogram(result)
