"""The plain implementation with one thing wrong, many times over: what a wrong number is recognised by.

Each class replaces one step of `plain.Plain`; whatever follows from it follows, as in the program that made the
mistake. `title` completes "your value equals that with ..."; `remedy` says what to look for. Several were reported in
well-known libraries: the prior left out of a surrogate, a batch summed before broadcasting, a latent shared by all
rows, NaN at probabilities of 0, probabilities or logarithms clipped, softplus cut off at 20.
"""

from __future__ import annotations

from . import bound, draws, gradients, joint, likelihood, network, steps, sums, units
from .common import Mistake, name_of
from .network import SinglePrecision

__all__ = ["CATALOGUE", "MISTAKES", "OF_DRAWS", "Mistake", "SinglePrecision", "name_of"]

MISTAKES: tuple[type[Mistake], ...] = tuple(
    value
    for module in (joint, likelihood, network, sums, units, bound, gradients, steps)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Mistake) and value.title
)
"""Those that the published cases catch; the cases' `catches` are their names."""

CATALOGUE = (*MISTAKES, draws.MissingLikelihood, draws.Loss)
"""All of them, for whoever has a model of his own to compare with."""

OF_DRAWS = (
    joint.MissingPrior,
    joint.UniformPrior,
    likelihood.MeanOverPixels,
    draws.MissingLikelihood,
    bound.MissingEntropy,
    bound.EntropySign,
    units.Bits,
    draws.Loss,
)
"""The usual ones in draws of the VLB, of which a mean that is known roughly can accuse no more than a few."""
