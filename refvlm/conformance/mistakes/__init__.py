"""The plain implementation with one thing wrong, many times over: what a wrong number is recognised by.

Each class replaces one step of `plain.Plain`; whatever follows from it follows, as in the program that made the
mistake. `title` completes "your value equals that with ..."; `remedy` says what to look for. Several were reported in
well-known libraries: the prior left out of a surrogate, a batch summed before broadcasting, a latent shared by all
rows, NaN at probabilities of 0, probabilities or logarithms clipped, softplus cut off at 20.
"""

from __future__ import annotations

from . import bound, gradients, joint, likelihood, network, steps, sums, units
from .common import Mistake, name_of
from .network import SinglePrecision

__all__ = ["MISTAKES", "Mistake", "SinglePrecision", "name_of"]

MISTAKES: tuple[type[Mistake], ...] = tuple(
    value
    for module in (joint, likelihood, network, sums, units, bound, gradients, steps)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Mistake) and value.title
)
