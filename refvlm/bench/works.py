"""The works: random problems of certain shapes, and the enumeration that is timed on them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..inference.exact import log_marginal, log_marginal_and_grad
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..types import Bits, Floats


class Work(NamedTuple):
    """log p(x) of `rows` rows under a model of `latents` bits, `hidden` tanh units and `observed` bits.

    hidden: 0 for no hidden layer. peer_latents: K where peers are timed, None if they are not. gradient: its gradient
    too. quick_latents: K of `--quick`, None for the same. memory: whether the process's peak memory is told.
    """

    name: str
    latents: int
    hidden: int
    observed: int
    rows: int
    peer_latents: int | None
    gradient: bool = False
    quick_latents: int | None = None
    memory: bool = False

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the layers, inputs first."""
        return (self.latents, *((self.hidden,) if self.hidden else ()), self.observed)


WORKS = (
    # first, so that its peak memory is not that of the frameworks
    Work("linear-32", 32, 0, 16, 1, 20, quick_latents=28, memory=True),
    Work("linear-24", 24, 0, 16, 1, 20),
    Work("linear-22", 22, 0, 64, 1, 18),
    Work("mlp-small", 20, 32, 16, 1, 18),
    Work("mlp", 20, 64, 64, 1, 17),
    Work("mlp-rows", 16, 64, 64, 1024, 14),
    Work("digits-like", 12, 32, 16, 2671, 12),
    Work("gradient", 10, 32, 16, 2671, 10, gradient=True),
    Work("flatness", 18, 32, 16, 1, None),
    Work("flatness", 20, 32, 16, 1, None),
    Work("flatness", 22, 32, 16, 1, None),
)


def named(names: list[str] | None) -> list[Work]:
    """The works of these names, all for None, in the order of WORKS."""
    return [work for work in WORKS if names is None or work.name in names]


class Problem(NamedTuple):
    """prior_logits: (K,). layers: weights (fan_in, fan_out) and biases (fan_out,), inputs first. x: (N, L), 0 and 1."""

    prior_logits: Floats
    layers: list[tuple[Floats, Floats]]
    x: Bits


def problem(work: Work, latents: int | None = None, seed: int = 0) -> Problem:
    """The work's problem, with K = `latents` where that is inputs: the same numbers for the same arguments.

    From one generator the prior's probabilities, uniform on [0.2, 0.8), then layer by layer weights and biases, all
    N(0, 1); from another, seeded with seed + 1, x: fair coins.
    """
    shape = work if latents is None else work._replace(latents=latents)
    rng = np.random.default_rng(seed)
    beta = rng.uniform(0.2, 0.8, shape.latents)
    layers = [(rng.normal(size=pair), rng.normal(size=pair[1])) for pair in pairwise(shape.widths)]
    x = np.random.default_rng(seed + 1).random((shape.rows, shape.observed)) < 0.5
    return Problem(np.log(beta) - np.log1p(-beta), layers, x.astype(np.uint8))


class Answer(NamedTuple):
    """log_px: (N,). gradient: of its sum, in the prior's logits and in each layer's weights and biases; or empty."""

    log_px: Floats
    gradient: list[Floats]

    def difference(self, other: Answer) -> float:
        """The largest relative difference in log p(x); of a gradient relative to the array's largest entry."""
        pairs = [(self.log_px, other.log_px, np.abs(other.log_px))]
        pairs += [(a, b, np.abs(b).max()) for a, b in zip(self.gradient, other.gradient, strict=True)]
        return float(np.max([np.max(np.abs(a - b) / scale) for a, b, scale in pairs]))  # NaN stays NaN


def model_of(inputs: Problem) -> BernoulliLVM:
    """The model of a problem."""
    weights, biases = [w for w, _ in inputs.layers], [b for _, b in inputs.layers]
    return BernoulliLVM(Bernoulli(inputs.prior_logits), MLP(weights, biases))


def ours(inputs: Problem, gradient: bool, workers: int) -> Callable[[], Answer]:
    """The enumeration by the public functions."""
    model = model_of(inputs)

    def value() -> Answer:
        return Answer(log_marginal(model, inputs.x, workers=workers), [])

    def value_and_gradient() -> Answer:
        log_px, named = log_marginal_and_grad(model, inputs.x, workers=workers)
        layers = range(len(inputs.layers))
        parts = [named[f"decoder.{kind}.{d}"] for d in layers for kind in ("weights", "biases")]
        return Answer(log_px, [named["prior.logits"], *parts])

    return value_and_gradient if gradient else value
