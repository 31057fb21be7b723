"""Worlds: generators of binary images small enough that every image and its exact probability is listed.

A world has an entropy H = - sum_x p(x) log p(x). The mean negative log-likelihood of a model p' under the world
is E[-log p'(x)] = H + KL(p, p') >= H, so the entropy is the floor that no model gets below in expectation, and
only the world itself reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ..checks import as_binary, check_count, check_generator, describe
from ..types import Bits, Floats

MAX_UNITS = 16
"""The widest pattern whose 2**width values are listed: 2**17 images, 33 MB for bars."""


@dataclass(frozen=True, eq=False)
class World:
    """An exact distribution over binary images; `bars` and `shifter` make them.

    images          (M, L) uint8, read-only: the images of positive probability, each once, in lexicographic order
    probabilities   (M,) float64, read-only: their probabilities, summing to 1
    shape           (height, width) of one image, height * width = L, row-major
    """

    images: Bits = field(repr=False)
    probabilities: Floats = field(repr=False)
    shape: tuple[int, int]

    @property
    def entropy(self) -> float:
        """The entropy in nats: the least mean negative log-likelihood that any model can reach."""
        # "0.0 -" and not a bare minus: a world of one image has entropy 0.0, not -0.0
        return 0.0 - math.fsum(p * math.log(p) for p in self.probabilities.tolist())

    @property
    def entropy_bits(self) -> float:
        """The entropy in bits."""
        return 0.0 - math.fsum(p * math.log2(p) for p in self.probabilities.tolist())

    @cached_property
    def _log_probability_of(self) -> dict[bytes, float]:
        """The log-probability of every possible image, by its bytes."""
        pairs = zip(self.images, self.probabilities.tolist(), strict=True)
        return {image.tobytes(): math.log(p) for image, p in pairs}

    def log_probability(self, x: object) -> Floats:
        """Exact log p(x) in nats, shape (N,), of images x (N, L); -inf where the world cannot produce the image.

        Raises TypeError if x is not numeric, ValueError if it is not (N, L) or not exactly 0 or 1.
        """
        rows = as_binary("x", x, self.images.shape[1])
        known = self._log_probability_of
        return np.array([known.get(row.tobytes(), -math.inf) for row in rows], dtype=np.float64)

    def sample(self, n: int, rng: np.random.Generator) -> Bits:
        """Draw n independent images, (n, L) uint8: one uniform number each, through the inverse distribution function.

        Raises TypeError or ValueError unless n is an integer >= 0 and rng a numpy Generator.
        """
        uniform = check_generator("rng", rng).random(check_count("n", n, 0))
        # Row i owns [sum before i, sum up to i). Rounding may leave the last sum below 1: the last row owns the rest.
        rows = np.searchsorted(np.cumsum(self.probabilities)[:-1], uniform, side="right")
        return self.images[rows]


def bars(size: int = 4, vertical: float = 2 / 3, on: float = 0.2) -> World:
    """Images of vertical or of horizontal bars, size x size pixels (Hinton, Dayan, Frey and Neal 1995, Science 268).

    Choose the orientation, vertical with probability `vertical`; then switch each of the `size` bars of that
    orientation on, independently, with probability `on`. The blank and the full image arise both ways. With the
    default arguments there are 30 images, and the entropy is 3.4284049666 bits (2.3763892364 nats): no model has a
    smaller mean negative log-likelihood.

    size            bars per orientation, 1 to 16; L = size * size
    vertical, on    probabilities in [0, 1]; images of probability zero (in float64) are left out

    Raises TypeError or ValueError for arguments outside these ranges.

    >>> world = bars()
    >>> len(world.images), world.shape, round(world.entropy_bits, 10)
    (30, (4, 4), 3.4284049666)
    """
    size = _check_units("size", size)
    vertical, on = _check_probability("vertical", vertical), _check_probability("on", on)
    patterns, chances = _patterns(size, on)
    return _merge(
        (
            (np.tile(patterns, (1, size)), vertical * chances),
            (np.repeat(patterns, size, axis=1), (1 - vertical) * chances),
        ),
        (size, size),
    )


def shifter(width: int = 8, on: float = 0.3) -> World:
    """A random row above its shifted copy (Dayan, Hinton, Neal and Zemel 1995, Neural Computation 7:889-904).

    Each of the `width` pixels of a row is on, independently, with probability `on`; the row is shifted left or
    right by one pixel, with wraparound, with probability 1/2 each. The image has four rows: rows 0 and 1 are the
    row, rows 2 and 3 the shifted row. A row of period two looks the same either way. With the default arguments
    there are 508 images, and the entropy is 7.988724 bits (5.537361 nats): no model has a smaller mean negative
    log-likelihood.

    width   pixels in a row, 1 to 16; L = 4 * width
    on      a probability in [0, 1]; images of probability zero (in float64) are left out

    Raises TypeError or ValueError for arguments outside these ranges.

    >>> world = shifter()
    >>> len(world.images), world.shape, round(world.entropy_bits, 6)
    (508, (4, 8), 7.988724)
    """
    width = _check_units("width", width)
    patterns, chances = _patterns(width, _check_probability("on", on))
    left, right = np.roll(patterns, -1, axis=1), np.roll(patterns, 1, axis=1)
    return _merge(
        ((np.hstack([patterns, patterns, shifted, shifted]), 0.5 * chances) for shifted in (left, right)),
        (4, width),
    )


def _check_units(name: str, value: object) -> int:
    units = check_count(name, value, 1)
    if units > MAX_UNITS:
        raise ValueError(
            f"{name}: got {units}, wanted at most {MAX_UNITS}, because all of up to 2 * 2**{name} images are listed; "
            f"choose a smaller {name}"
        )
    return units


def _check_probability(name: str, value: object) -> float:
    if not isinstance(value, (int, float, np.integer, np.floating)):
        raise TypeError(f"{name}: got {describe(value)}, wanted one int or float, a probability from 0 to 1")
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: got {value}, wanted a probability from 0 to 1")
    return float(value)


def _patterns(units: int, on: float) -> tuple[Bits, Floats]:
    """All patterns (2**units, units) of independent bits, and their probabilities on^ones (1 - on)^zeros."""
    patterns = ((np.arange(1 << units)[:, None] >> np.arange(units)) & 1).astype(np.uint8)
    by_ones = np.array([on**ones * (1 - on) ** (units - ones) for ones in range(units + 1)])
    return patterns, by_ones[patterns.sum(axis=1, dtype=np.int64)]


def _merge(ways: Iterable[tuple[Bits, Floats]], shape: tuple[int, int]) -> World:
    """The world in which an image has the total probability of all the ways to make it."""
    terms: dict[bytes, list[float]] = {}
    for images, chances in ways:
        for image, chance in zip(images, chances.tolist(), strict=True):
            if chance > 0:
                terms.setdefault(image.tobytes(), []).append(chance)
    keys = sorted(terms)
    images = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), shape[0] * shape[1])
    probabilities = np.array([math.fsum(terms[key]) for key in keys])
    probabilities.flags.writeable = False
    return World(images, probabilities, shape)  # an array over bytes is read-only by birth
