"""refvlm's own answers to the questions, through the functions that users call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..inference.bounds import grad_vlb, kl, vlb, vlb_terms
from ..inference.exact import grad_log_marginal, log_marginal, posterior, posterior_mean
from ..inference.gradient_estimators import (
    Arm,
    DisArm,
    Estimator,
    LeaveOneOut,
    ReweightedWake,
    StraightThrough,
    Vimco,
)
from ..inference.joint import log_joint, log_likelihood, log_prior
from ..inference.many_samples import iwae
from ..inference.terms import VLBTerms
from ..inference.weighted_gradients import grad_iwae, grad_rws
from ..learning.machine import Machine
from ..learning.rules.wake_sleep import sleep, wake
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, ChainPosterior, Posterior
from ..types import Floats
from ..version import __version__
from .messages import Implementation
from .problems import Layers, Problem
from .quantities import QUANTITIES, expanded, latent_name

INTRODUCTION = Implementation("refvlm", __version__, "Python", "float64")

Result = Floats | dict[str, Floats]


def answer(problem: Problem) -> Result:
    """Returns the quantity that a problem asks for."""
    asked, q = QUANTITIES[problem.quantity], _posterior(problem)
    inputs = [_argument(problem, pattern) for pattern in asked.inputs]
    result: Any = _FUNCTIONS[problem.quantity](_model(problem), *((q,) if asked.posterior else ()), *inputs)
    return result._asdict() if isinstance(result, VLBTerms) else result


def _argument(problem: Problem, pattern: str) -> Any:
    """Returns an input; for a name with a star, a list of the inputs that are there, from x upwards."""
    names = expanded(pattern, len(problem.decoders))
    values = [problem.inputs[name] for name in names if name in problem.inputs]
    return values if pattern.endswith("*") else values[0]


def _model(problem: Problem) -> BernoulliLVM:
    model: Bernoulli | BernoulliLVM = Bernoulli(problem.top)
    for layers in reversed(problem.decoders):
        model = BernoulliLVM(model, _mlp(layers))
    assert isinstance(model, BernoulliLVM)
    return model


def _posterior(problem: Problem) -> Posterior | None:
    stages = [AmortisedPosterior(_mlp(layers)) for layers in problem.encoders]
    if not stages:
        return None
    return stages[0] if len(stages) == 1 else ChainPosterior(stages)


def _mlp(layers: Layers) -> MLP:
    return MLP(layers.weights, layers.biases, layers.activation)


class _Replay(np.random.Generator):
    """A generator that hands out uniforms that were drawn elsewhere, array by array."""

    def __init__(self, uniforms: list[Floats]) -> None:
        super().__init__(np.random.PCG64(0))
        self._uniforms = list(uniforms)

    def random(self, size: Any = None, dtype: Any = None, out: Any = None) -> Any:
        """The next array."""
        uniforms = self._uniforms.pop(0)
        assert uniforms.shape == tuple(np.atleast_1d(size))
        return uniforms


def _sample(model: BernoulliLVM, uniforms: list[Floats], uniforms_x: Floats) -> dict[str, Floats]:
    """Returns draws of every layer; `sample` gives x and z, so those above are drawn again from the same uniforms."""
    drawn: dict[str, Floats] = {}
    for depth, (layer, below) in enumerate(zip(model.layers, [uniforms_x, *uniforms[:-1]], strict=True)):
        x, z = layer.sample(len(below), _Replay([*reversed(uniforms[depth:]), below]))
        drawn |= {"x": x.astype(np.float64)} if depth == 0 else {}
        drawn[latent_name(depth)] = z.astype(np.float64)
    return drawn


def _wake_step(model: BernoulliLVM, q: Posterior, x: Floats, uniforms: list[Floats], rate: Floats) -> dict[str, Floats]:
    machine = Machine(model, q)
    return _stepped(machine, machine.generative, rate * wake(machine, x, _Replay(uniforms)), "model.")


def _sleep_step(
    model: BernoulliLVM, q: Posterior, uniforms: list[Floats], uniforms_x: Floats, rate: Floats
) -> dict[str, Floats]:
    machine = Machine(model, q)
    uphill = sleep(machine, len(uniforms_x), _Replay([*reversed(uniforms), uniforms_x]))
    return _stepped(machine, machine.recognition, rate * uphill, "posterior.")


def _stepped(machine: Machine, part: slice, step: Floats, prefix: str) -> dict[str, Floats]:
    """Returns the parameters of model or posterior after the step, by name."""
    vector = machine.vector.copy()
    vector[part] += step
    stepped = machine.views(vector)
    return {name.removeprefix(prefix): value for name, value in stepped.items() if name.startswith(prefix)}


def _of_samples(function: Callable[..., Result]) -> Callable[..., Result]:
    """Returns the function of a number of samples that came as an array."""

    def called(model: BernoulliLVM, q: Posterior, x: Floats, samples: Floats) -> Result:
        return function(model, q, x, int(samples))

    return called


def _drawn(kind: type[Estimator]) -> Callable[..., Floats]:
    """Returns the estimator with as many samples as there are uniforms."""

    def called(model: BernoulliLVM, q: Posterior, x: Floats, uniforms: Floats) -> Floats:
        return kind(uniforms.shape[1]).value(model, q, x, uniforms)

    return called


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "log_prior": log_prior,
    "log_likelihood": log_likelihood,
    "log_joint": log_joint,
    "log_marginal": log_marginal,
    "posterior": posterior,
    "posterior_mean": posterior_mean,
    "vlb_terms": vlb_terms,
    "vlb": vlb,
    "kl": kl,
    "grad_log_marginal": grad_log_marginal,
    "grad_vlb": grad_vlb,
    "sample": _sample,
    "wake_step": _wake_step,
    "sleep_step": _sleep_step,
    "iwae": _of_samples(iwae),
    "grad_iwae": _of_samples(grad_iwae),
    "rws_update": _of_samples(grad_rws),
    "draw_leave_one_out": _drawn(LeaveOneOut),
    "draw_vimco": _drawn(Vimco),
    "draw_reweighted": _drawn(ReweightedWake),
    "draw_arm": _drawn(Arm),
    "draw_disarm": _drawn(DisArm),
    "draw_straight_through": _drawn(StraightThrough),
}
"""Called with the model, with q if the quantity needs it, and with its inputs in order."""
