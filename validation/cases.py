"""The models that the other frameworks build again: every activation, depth and kind of recognition, never square."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from common import ACTIVATIONS, MORE_ACTIVATIONS, binary, random_arrays

import refvlm


class Case(NamedTuple):
    """A model, a recognition distribution, rows of x, their weights in a weighted sum."""

    name: str
    model: refvlm.BernoulliLVM
    q: refvlm.AmortisedPosterior | refvlm.PerDatumPosterior | refvlm.ChainPosterior
    x: Any
    weights: Any


def network(sizes: list[int], rng: np.random.Generator, activation: str) -> refvlm.MLP:
    """An MLP of these widths, inputs first."""
    return refvlm.MLP(*random_arrays(sizes, rng), activation)


def cases() -> Iterator[Case]:
    """Shallow ones with 0, 1, 2 hidden layers, then two and three layers of latents."""
    rng = np.random.default_rng(2026)
    pairs = list(zip(ACTIVATIONS, (*ACTIVATIONS[1:], ACTIVATIONS[0]), strict=True))
    pairs += zip(MORE_ACTIVATIONS, (*MORE_ACTIVATIONS[1:], MORE_ACTIVATIONS[0]), strict=True)
    for activation, other in pairs:
        for hidden in ([], [9], [9, 6]):
            decoder = network([5, *hidden, 12], rng, activation)
            model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=5)), decoder)
            x = np.concatenate([model.sample(4, rng)[0], binary(3, 12, rng)])
            name = f"{activation}, {len(hidden)} hidden"
            encoder = network([12, *hidden[::-1], 5], rng, other)
            yield Case(name, model, refvlm.AmortisedPosterior(encoder), x, rng.normal(size=7))
            yield Case(name, model, refvlm.PerDatumPosterior(rng.normal(size=(7, 5)) * 2), x, rng.normal(size=7))
        yield from deep_cases(rng, activation, other)


def deep_cases(rng: np.random.Generator, activation: str, other: str) -> Iterator[Case]:
    """Latents 5 under 3, and 5 under 4 under 2; x has 10 bits and 13 rows."""
    for uppers in ([3], [4, 2]):
        widths = [10, 5, *uppers]  # from x upwards
        model: Any = refvlm.Bernoulli(rng.normal(size=widths[-1]))
        stages: list[Any] = []
        for above, below in zip(widths[:0:-1], widths[-2::-1], strict=True):
            model = refvlm.BernoulliLVM(model, network([above, above + 4, below], rng, activation))
            stages.insert(0, refvlm.AmortisedPosterior(network([below, below + 1, above], rng, other)))
        x = np.concatenate([model.sample(9, rng)[0], binary(4, 10, rng)])
        name = f"{activation}, {len(widths) - 1} layers"
        free = refvlm.PerDatumPosterior(rng.normal(size=(13, 5)))
        for q in (stages[0], free, refvlm.ChainPosterior(stages), refvlm.ChainPosterior([free, *stages[1:]])):
            yield Case(name, model, q, x, rng.normal(size=13))
