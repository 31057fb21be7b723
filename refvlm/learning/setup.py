"""Where learning starts: random parameters for the shapes that were asked for, and what goes with what."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..activations import ACTIVATIONS
from ..checks import check_choice, check_count, describe
from ..inference.arrays import check_posterior
from ..inference.bounds import check_decoders, needs_sum
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import (
    AmortisedPosterior,
    ChainPosterior,
    LayerwisePosterior,
    PerDatumPosterior,
    Posterior,
)
from . import defaults
from .batches import Data
from .history import ENUMERABLE, enumerable
from .rules import methods
from .rules.rule import Rule

POSTERIORS = ("amortised", "layerwise", "per-datum", "none")


class Shape(NamedTuple):
    """Widths of the hidden layers of every decoder, z first, and of every encoder, x first; and their activation."""

    hidden: tuple[int, ...]
    encoder_hidden: tuple[int, ...]
    activation: str


def shape_of(hidden: Sequence[int], encoder_hidden: Sequence[int] | None, activation: str) -> Shape:
    """The shape, checked; an encoder's hidden layers are by default those of the decoder in reverse."""
    decoder = widths("hidden", hidden, 0)
    encoder = decoder[::-1] if encoder_hidden is None else widths("encoder_hidden", encoder_hidden, 0)
    return Shape(decoder, encoder, check_choice("activation", activation, tuple(ACTIVATIONS)))


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
    frequency = data.weights @ data.x
    seen = 1.0 if data.observed is None else data.weights @ data.observed
    # never 0 or 1, for columns that are constant; 1/2 for those that are never observed
    inner = (frequency * len(data) + 0.5) / (seen * len(data) + 1.0)
    last = prior.decoder
    assert isinstance(last, MLP)
    biases = [*last.biases[:-1], np.log(inner) - np.log1p(-inner)]
    return BernoulliLVM(prior.prior, MLP(last.weights, biases, shape.activation))


def encoders(
    observed: int, model: BernoulliLVM, shape: Shape, rng: np.random.Generator
) -> AmortisedPosterior | ChainPosterior:
    """A random encoder from each layer to the next."""
    stages = [
        AmortisedPosterior(MLP.random([below, *shape.encoder_hidden, above], rng, activation=shape.activation))
        for below, above in pairwise((observed, *(layer.latents for layer in model.layers)))
    ]
    return stages[0] if len(stages) == 1 else ChainPosterior(stages)


def _layerwise(observed: int, model: BernoulliLVM, shape: Shape, rng: np.random.Generator) -> LayerwisePosterior:
    """A random encoder from x to each layer."""
    if isinstance(model.prior, Bernoulli):
        raise ValueError("posterior: got 'layerwise' for one layer of latents, wanted latents=(K1, K2, ...)")
    sizes = ((observed, *shape.encoder_hidden, layer.latents) for layer in model.layers)
    return LayerwisePosterior(
        [AmortisedPosterior(MLP.random(each, rng, activation=shape.activation)) for each in sizes]
    )


def start_posterior(
    posterior: Posterior | None, kind: str, data: Data, model: BernoulliLVM, shape: Shape, rng: np.random.Generator
) -> Posterior:
    """The posterior that learns with the model: the caller's, or without one a random posterior of this kind."""
    if posterior is None:
        if kind == "per-datum":
            return PerDatumPosterior(rng.normal(size=(len(data.distinct), model.latents)) * 0.01)
        if kind == "layerwise":
            return _layerwise(data.x.shape[1], model, shape, rng)
        return encoders(data.x.shape[1], model, shape, rng)
    check_posterior(model, posterior)
    if isinstance(posterior, PerDatumPosterior):
        if kind != "per-datum" or len(posterior.logits) != len(data):
            raise ValueError(
                f"start: got one phi for each of {len(posterior.logits)} rows, with posterior={kind!r} and {len(data)} "
                "rows of x; wanted an encoder, or posterior='per-datum' and as many rows"
            )
        appears = np.unique(data.inverse, return_index=True)[1]
        return PerDatumPosterior(posterior.logits[appears])
    if isinstance(posterior, AmortisedPosterior) and isinstance(model.prior, BernoulliLVM):
        raise ValueError(
            "start: got a single encoder for a deep model, wanted a ChainPosterior with one for each layer"
        )
    return posterior


def start_of(value: object) -> tuple[BernoulliLVM, Posterior | None]:
    """`value` if it is a model with its posterior or None, as `load` returns them."""
    if (
        not isinstance(value, tuple)
        or len(value) != 2
        or not isinstance(value[0], BernoulliLVM)
        or not (value[1] is None or isinstance(value[1], Posterior))
    ):
        raise TypeError(f"start: got {describe(value)}, wanted (model, posterior or None), as refvlm.load returns them")
    return value[0], value[1]


def check_start_kind(posterior: Posterior | None, kind: str) -> None:
    """Refuse to go on from a layerwise q as from another kind, or the other way round, or from one phi per datum."""
    if posterior is None or kind == "none":
        return
    if isinstance(posterior, LayerwisePosterior) != (kind == "layerwise"):
        raise ValueError(f"start: got a {type(posterior).__name__} with posterior={kind!r}, wanted its own kind")
    if kind == "layerwise" and any(isinstance(stage, PerDatumPosterior) for stage in posterior.stages):
        raise ValueError("start: got a LayerwisePosterior with one phi per datum, wanted encoders for all layers")


def check_posterior_kind(kind: str, rule: Rule) -> None:
    """Refuse kinds of posterior that a rule cannot learn."""
    check_choice("posterior", kind, POSTERIORS)
    if kind == "none" and rule.learns_posterior:
        raise ValueError(f"posterior: got 'none', and method {rule.name!r} learns one; wanted 'amortised'")
    if kind == "layerwise" and not (rule.learns_posterior and rule.enumerates):
        raise ValueError(
            f"posterior: got 'layerwise' with method {rule.name!r}, wanted the method 'vlb' with its exact gradient"
        )
    if kind == "per-datum" and rule.learns_posterior and not rule.enumerates:
        raise ValueError(
            f"posterior: got 'per-datum' with method {rule.name!r}, which draws z; wanted 'amortised', or a method "
            f"that enumerates: {methods(True)}"
        )


def check_missing(rule: Rule, data: Data) -> None:
    """Refuse rows that miss bits, where the rule would take the zeros in their places for observed."""
    if data.observed is not None and not rule.takes_missing:
        raise ValueError(
            f"missing: got 'marginalise', bits missing in x, and method {rule.name!r}, which does not leave them out; "
            "wanted all bits, or a rule that says takes_missing = True"
        )


def batch_rows(size: int | None, rule: Rule, kind: str, data: Data) -> int | None:
    """Rows in a minibatch, None for all at once, which only rules that enumerate can take."""
    whole = f"method {rule.name!r}" if rule.whole_data else ""
    if kind == "per-datum" and rule.learns_posterior:
        whole = f"posterior 'per-datum' and method {rule.name!r}"
    if size is None:
        return None if whole or (rule.enumerates and data.weighted) else defaults.batch_size(len(data))
    check_count("batch_size", size, 1)
    if size > len(data):
        raise ValueError(f"batch_size: got {size}, wanted at most the {len(data)} rows that are learnt from")
    if whole and size < len(data):
        raise ValueError(f"batch_size: got {size} with {whole}, which takes all rows at once; wanted None")
    return None if rule.enumerates and size == len(data) else size


def learning_rate_of(
    rate: float | None, optimiser: str, model: BernoulliLVM, weight_decay: float | None, rule: Rule
) -> float:
    """The learning rate, checked against a rule whose steps follow no rate, which takes none."""
    if rule.own_steps:
        for name, value, wanted in (("weight_decay", weight_decay or None, 0.0), ("learning_rate", rate, None)):
            if value is not None:
                raise ValueError(
                    f"{name}: got {value} with method {rule.name!r}, whose steps follow no rate; wanted {wanted}"
                )
    return defaults.learning_rate(rule, optimiser, model) if rate is None else rate


def beta2_of(value: float | None, optimiser: str) -> float:
    """Adam's beta2; other optimisers take none."""
    if value is not None and optimiser != "adam":
        raise ValueError(f"beta2: got {value} with optimiser {optimiser!r}, which has none; wanted None, or 'adam'")
    return defaults.BETA2 if value is None else value


def check_enumerable(rule: Rule, model: BernoulliLVM, posterior: Posterior | None) -> None:
    """Refuse rules that enumerate where there is too much to enumerate, and say which do not.

    posterior: the one that learns with the model.
    """
    if isinstance(posterior, LayerwisePosterior):
        check_decoders(model, posterior)
        sums_codes = model.latents > ENUMERABLE and needs_sum(model, posterior)
    else:
        sums_codes = not enumerable(model) and rule.sums_codes(model)
    if sums_codes:
        latents = tuple(layer.latents for layer in model.layers)
        raise ValueError(
            f"latents: got {latents}, and method {rule.name!r} enumerates all 2**{max(latents)} "
            f"codes at every step; wanted at most {ENUMERABLE} bits ({ENUMERABLE - 8} below another layer), or a "
            f"method that draws z: {methods(False)}"
        )
