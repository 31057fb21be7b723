"""The catalogue of mistakes: for each, the plain implementation with that one thing wrong.

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
"""The mistakes that the published cases catch; the cases' `catches` hold their names."""

CATALOGUE = (*MISTAKES, draws.MissingLikelihood, draws.Loss)
"""All mistakes, for comparisons on models other than the published ones."""

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
"""The usual mistakes in draws of the VLB: a mean that is only estimated cannot tell apart more than a few."""
