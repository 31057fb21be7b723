"""Parameters by name: how names nest, and how arrays become one vector and come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from ..types import Floats

Parameters = dict[str, Floats]
_Value = TypeVar("_Value")


def prefixed(prefix: str, parameters: Parameters) -> Parameters:
    """The same arrays under prefix + name."""
    return {prefix + name: value for name, value in parameters.items()}


def under(prefix: str, parameters: Mapping[str, _Value]) -> dict[str, _Value]:
    """The arrays, or what stands for them, whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in parameters.items() if name.startswith(prefix)}


def flatten(parameters: Parameters) -> Floats:
    """All arrays as one vector, in their order."""
    return np.concatenate([value.ravel() for value in parameters.values()]) if parameters else np.zeros(0)


def unflatten(vector: Floats, shapes: Mapping[str, tuple[int, ...]]) -> Parameters:
    """The parts of a vector by name: views of these shapes, in their order."""
    named, start = {}, 0
    for name, shape in shapes.items():
        stop = start + math.prod(shape)
        named[name] = vector[start:stop].reshape(shape)
        start = stop
    return named
