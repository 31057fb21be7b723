"""The catalogue of mistakes: for each, the plain implementation with that one thing wrong.

Each class replaces one step of `plain.Plain`; whatever follows from it follows, as in the program that made the
mistake. `title` completes "your value equals that with ..."; `remedy` says what to look for. Several were reported in
well-known libraries: the prior left out of a surrogate, a batch summed before broadcasting, a latent shared by all
rows, NaN at probabilities of 0, probabilities or logarithms clipped, softplus cut off at 20.
"""

from __future__ import annotations

from . import bound, draws, epsilons, estimators, gradients, joint, likelihood, losses, network, steps, sums, units
from .common import Family, Mistake, name_of, remembered
from .losses import Multiplied, Share, WeightedTerms, size
from .network import SinglePrecision

__all__ = [
    "CATALOGUE",
    "FAMILIES",
    "FURTHER",
    "IMPRECISE",
    "MISTAKES",
    "OF_DRAWS",
    "Family",
    "Mistake",
    "Multiplied",
    "Share",
    "SinglePrecision",
    "WeightedTerms",
    "name_of",
    "remembered",
    "size",
]

MISTAKES: tuple[type[Mistake], ...] = tuple(
    value
    for module in (joint, likelihood, network, sums, units, bound, gradients, steps, estimators)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Mistake) and value.title
)
"""The mistakes that the published cases catch; the cases' `catches` hold their names."""

FURTHER: tuple[type[Mistake], ...] = tuple(
    value
    for module in (draws, epsilons, losses)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Mistake) and value.title
)
"""Mistakes that no published case claims to catch, though most are caught."""

CATALOGUE = (*MISTAKES, *FURTHER)
"""All mistakes, for comparisons on models other than the published ones."""

FAMILIES: tuple[type[Family], ...] = tuple(mistake for mistake in CATALOGUE if issubclass(mistake, Family))
"""Those with a number in them, which is found."""

IMPRECISE = (
    likelihood.RoundedProbability, losses.NaiveSoftplus, likelihood.ZeroTimesInfinity, sums.UnshiftedSum,
)  # fmt: skip
"""What is right on paper and loses digits."""

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
