"""refvlm's own answers, through the functions that users call: the first implementation held against the vectors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..inference.bounds import grad_vlb, kl, vlb, vlb_terms
from ..inference.exact import grad_log_marginal, log_marginal, posterior, posterior_mean
from ..inference.joint import log_joint, log_likelihood, log_prior
from ..learning.machine import Machine
from ..learning.wake_sleep import sleep, wake
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, ChainPosterior, Posterior
from ..version import __version__
from .messages import Implementation
from .problems import Layers, Problem

__all__ = ["INTRODUCTION", "answer"]

INTRODUCTION = Implementation("refvlm", __version__, "Python", "float64")

Floats = NDArray[np.float64]


Result = Floats | dict[str, Floats]


def answer(problem: Problem) -> Result:
    """The quantity that a problem asks for."""
    model, q, given = _model(problem), _posterior(problem), problem.inputs
    asked = problem.quantity
    if asked in _OF_PAIRS:
        return _OF_PAIRS[asked](model, *(given[name] for name in ("x", "z") if name in given))
    if asked in _OF_MODEL:
        of_model: Result = _OF_MODEL[asked](model, given["x"])
        return of_model
    if asked == "sample":
        x, z = model.sample(len(given["uniforms_x"]), _Given(_dreamt(problem)))
        return {"x": x.astype(np.float64), "z": z.astype(np.float64)} | _above(model, problem)
    assert q is not None
    if asked == "vlb_terms":
        return vlb_terms(model, q, given["x"])._asdict()
    if asked in _OF_BOUND:
        of_bound: Result = _OF_BOUND[asked](model, q, given["x"])
        return of_bound
    return _step(problem, Machine(model, q))


_OF_PAIRS: dict[str, Callable[..., Floats]] = {
    "log_prior": log_prior,
    "log_likelihood": log_likelihood,
    "log_joint": log_joint,
}
_OF_MODEL: dict[str, Callable[..., Any]] = {
    "log_marginal": log_marginal,
    "posterior": posterior,
    "posterior_mean": posterior_mean,
    "grad_log_marginal": grad_log_marginal,
}
_OF_BOUND: dict[str, Callable[..., Any]] = {"vlb": vlb, "kl": kl, "grad_vlb": grad_vlb}


def _model(problem: Problem) -> BernoulliLVM:
    found: Bernoulli | BernoulliLVM = Bernoulli(problem.top)
    for layers in reversed(problem.decoders):
        found = BernoulliLVM(found, _mlp(layers))
    assert isinstance(found, BernoulliLVM)
    return found


def _posterior(problem: Problem) -> Posterior | None:
    stages = [AmortisedPosterior(_mlp(layers)) for layers in problem.encoders]
    if not stages:
        return None
    return stages[0] if len(stages) == 1 else ChainPosterior(stages)


def _mlp(layers: Layers) -> MLP:
    return MLP(layers.weights, layers.biases, layers.activation)


def _dreamt(problem: Problem) -> list[Floats]:
    """The uniforms in the order in which the model draws: the top layer first, x last."""
    names = sorted((name for name in problem.inputs if name.startswith("uniforms_z")), reverse=True)
    return [problem.inputs[name] for name in (*names, "uniforms_x")]


class _Given(np.random.Generator):
    """A generator that hands out given uniforms, array by array."""

    def __init__(self, uniforms: list[Floats]) -> None:
        super().__init__(np.random.PCG64(0))
        self._uniforms = list(uniforms)

    def random(self, size: Any = None, dtype: Any = None, out: Any = None) -> Any:
        """The next array."""
        found = self._uniforms.pop(0)
        assert found.shape == tuple(np.atleast_1d(size))
        return found


def _above(model: BernoulliLVM, problem: Problem) -> dict[str, Floats]:
    """The layers above the first, which `sample` does not give back: drawn again from the same uniforms."""
    uniforms, found = _dreamt(problem)[:-1], {}
    layer = model.prior
    for depth in range(2, len(problem.decoders) + 1):
        assert isinstance(layer, BernoulliLVM)
        found[f"z{depth}"] = layer.sample(len(uniforms[0]), _Given(uniforms))[1].astype(np.float64)
        layer = layer.prior
    return found


def _step(problem: Problem, machine: Machine) -> dict[str, Floats]:
    """One step of wake or sleep."""
    given = problem.inputs
    if problem.quantity == "wake_step":
        names = sorted(name for name in given if name.startswith("wake_uniforms_z"))
        part = machine.generative
        uphill = wake(machine, given["x"], _Given([given[name] for name in names]))
    else:
        part = machine.recognition
        uphill = sleep(machine, len(given["uniforms_x"]), _Given(_dreamt(problem)))
    vector = machine.vector.copy()
    vector[part] += given["learning_rate"] * uphill
    prefix = "model." if problem.quantity == "wake_step" else "posterior."
    stepped = machine.views(vector)
    return {name.removeprefix(prefix): value for name, value in stepped.items() if name.startswith(prefix)}
