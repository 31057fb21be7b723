"""Where learning starts: random parameters for the shapes that were asked for, and what goes with what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..checks import check_choice, check_count, describe
from ..inference.arrays import check_posterior
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, ChainPosterior, PerDatumPosterior, Posterior
from .batches import Data
from .choices import POSTERIORS
from .history import ENUMERABLE, enumerable
from .methods import Method

__all__ = [
    "Shape",
    "batch_rows",
    "check_enumerable",
    "check_posterior_kind",
    "encoders",
    "random_model",
    "start_of",
    "start_posterior",
    "widths",
]

BATCH = 100
"""Rows in a minibatch by default."""


class Shape(NamedTuple):
    """Widths of the hidden layers of every decoder, z first, and of every encoder, x first; and their activation."""

    hidden: tuple[int, ...]
    encoder_hidden: tuple[int, ...]
    activation: str


def widths(name: str, value: object, least: int) -> tuple[int, ...]:
    """Widths of layers as a tuple of at least `least`; an integer stands for one layer."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and least > 0:
        value = (value,)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(
            f"{name}: got {describe(value)}, wanted a tuple of integers" + ("" if least else ", () for none")
        )
    if len(value) < least:
        raise ValueError(f"{name}: got {describe(value)}, wanted at least {least} layer")
    return tuple(check_count(f"{name}[{i}]", width, 1) for i, width in enumerate(value))


def random_model(data: Data, latents: tuple[int, ...], shape: Shape, rng: np.random.Generator) -> BernoulliLVM:
    """A model of these shapes: even priors, random weights, output biases that give each bit its frequency."""
    observed = data.x.shape[1]
    prior: Bernoulli | BernoulliLVM = Bernoulli(np.zeros(latents[-1]))
    for below, above in zip(reversed((observed, *latents[:-1])), reversed(latents), strict=True):
        decoder = MLP.random([above, *shape.hidden, below], rng, activation=shape.activation)
        prior = BernoulliLVM(prior, decoder)
    assert isinstance(prior, BernoulliLVM)
    ones = data.weights @ data.x
    share = (ones * len(data) + 0.5) / (len(data) + 1.0)  # never 0 or 1, for columns that are constant
    last = prior.decoder
    assert isinstance(last, MLP)
    biases = [*last.biases[:-1], np.log(share) - np.log1p(-share)]
    return BernoulliLVM(prior.prior, MLP(last.weights, biases, shape.activation))


def encoders(
    observed: int, model: BernoulliLVM, shape: Shape, rng: np.random.Generator
) -> AmortisedPosterior | ChainPosterior:
    """A random encoder from each layer to the next."""
    stages = [
        AmortisedPosterior(MLP.random([below, *shape.encoder_hidden, above], rng, activation=shape.activation))
        for below, above in pairwise((observed, *latents_of(model)))
    ]
    return stages[0] if len(stages) == 1 else ChainPosterior(stages)


def start_posterior(
    origin: tuple[BernoulliLVM, Posterior | None] | None,
    kind: str,
    data: Data,
    model: BernoulliLVM,
    shape: Shape,
    rng: np.random.Generator,
) -> Posterior:
    """The posterior that learns with the model: the one given with it, or a random one of this kind."""
    given = None if origin is None else origin[1]
    if given is None:
        if kind == "per-datum":
            return PerDatumPosterior(rng.normal(size=(len(data.distinct), model.latents)) * 0.01)
        return encoders(data.x.shape[1], model, shape, rng)
    check_posterior(model, given)
    if isinstance(given, PerDatumPosterior):
        if kind != "per-datum" or len(given.logits) != len(data):
            raise ValueError(
                f"start: got one phi for each of {len(given.logits)} rows, with posterior={kind!r} and {len(data)} "
                "rows of x; wanted an encoder, or posterior='per-datum' and as many rows"
            )
        first = np.unique(data.inverse, return_index=True)[1]
        return PerDatumPosterior(given.logits[first])
    if isinstance(given, AmortisedPosterior) and isinstance(model.prior, BernoulliLVM):
        raise ValueError(
            "start: got a single encoder for a deep model, wanted a ChainPosterior with one for each layer"
        )
    return given


def latents_of(model: BernoulliLVM) -> tuple[int, ...]:
    """(K1, K2, ...) from x upwards."""
    above = latents_of(model.prior) if isinstance(model.prior, BernoulliLVM) else ()
    return (model.latents, *above)


def start_of(value: object) -> tuple[BernoulliLVM, Posterior | None]:
    """`value` if it is a model with its posterior or None, as `load` gives them."""
    if (
        not isinstance(value, tuple)
        or len(value) != 2
        or not isinstance(value[0], BernoulliLVM)
        or not (value[1] is None or isinstance(value[1], (AmortisedPosterior, ChainPosterior, PerDatumPosterior)))
    ):
        raise TypeError(f"start: got {describe(value)}, wanted (model, posterior or None), as refvlm.load returns them")
    return value[0], value[1]


def check_posterior_kind(kind: str, learner: Method) -> None:
    """Refuse kinds of posterior that a method cannot learn."""
    check_choice("posterior", kind, POSTERIORS)
    if kind == "none" and learner.recognises:
        raise ValueError(f"posterior: got 'none', and method {learner.name!r} learns one; wanted 'amortised'")
    if kind == "per-datum" and learner.recognises and not learner.enumerates:
        raise ValueError(
            f"posterior: got 'per-datum' with method {learner.name!r}, wanted 'amortised'; one phi for each row goes "
            "with 'maximum-likelihood', 'em', and with 'vlb' with its exact gradient"
        )


def batch_rows(given: int | None, learner: Method, kind: str, data: Data) -> int | None:
    """Rows in a minibatch, None for all at once, which only methods that enumerate can take."""
    whole = "method 'em'" if learner.name == "em" else ""
    if kind == "per-datum" and learner.recognises:
        whole = f"posterior 'per-datum' and method {learner.name!r}"
    if given is None:
        return None if whole or (learner.enumerates and data.weighted) else min(BATCH, len(data))
    check_count("batch_size", given, 1)
    if given > len(data):
        raise ValueError(f"batch_size: got {given}, wanted at most the {len(data)} rows of x")
    if whole and given < len(data):
        raise ValueError(f"batch_size: got {given} with {whole}, which takes all rows at once; wanted None")
    return None if learner.enumerates and given == len(data) else given


def check_enumerable(learner: Method, model: BernoulliLVM) -> None:
    """Refuse methods that enumerate where there is too much to enumerate, and say which do not."""
    if learner.enumerates and not enumerable(model):
        raise ValueError(
            f"latents: got {latents_of(model)}, and method {learner.name!r} enumerates all 2**{max(latents_of(model))} "
            f"codes at every step; wanted at most {ENUMERABLE} bits ({ENUMERABLE - 8} below another layer), or a "
            "method that draws z from q: 'wake-sleep', 'reweighted-wake-sleep', or 'vlb' with gradient='score-function'"
        )
