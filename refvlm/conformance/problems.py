"""Reads a question into layers, and refuses one that is wrong: `shape` is checked before `domain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..checks import quoted
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP, Network
from ..model.recognition import AmortisedPosterior, ChainPosterior, FactorisedPosterior, LayerwisePosterior, Posterior
from ..types import Floats
from .quantities import INPUTS, QUANTITIES, expanded
from .vectors import Check
from .vectors import Network as Stored


class RefusedError(ValueError):
    """A question that has no answer. code: "shape" or "domain"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Layers(NamedTuple):
    """One MLP: weights (fan_in, fan_out) and biases, and the prefix of their names."""

    prefix: str
    weights: list[Floats]
    biases: list[Floats]
    activation: str


class Problem(NamedTuple):
    """decoders, encoders: from x upwards, no encoders without a posterior. top: the highest prior's logits."""

    quantity: str
    decoders: list[Layers]
    top: Floats
    encoders: list[Layers]
    inputs: dict[str, Floats]


def problem_of(check: Check) -> Problem:
    """Returns a check's question, unchecked."""
    return _read(check.quantity, check.model, check.posterior, check.inputs)


def from_model(quantity: str, model: BernoulliLVM, q: Posterior | None, inputs: dict[str, Floats]) -> Problem | None:
    """Returns the question about objects of refvlm.

    None if a network is no MLP, or phi is stored for several rows, or q is layerwise: there are no such questions.
    """
    if isinstance(q, LayerwisePosterior):
        return None
    decoders = [_of_mlp("prior." * depth + "decoder.", layer.decoder) for depth, layer in enumerate(model.layers)]
    stages = () if q is None else q.stages
    chain = isinstance(q, ChainPosterior)
    encoders = [_of_stage(f"{d}.encoder." if chain else "encoder.", stage, model) for d, stage in enumerate(stages)]
    known = [layers for layers in (*decoders, *encoders) if layers is not None]
    if len(known) < len(decoders) + len(encoders):
        return None
    return Problem(quantity, known[: len(decoders)], model.top.logits, known[len(decoders) :], inputs)


def _of_mlp(prefix: str, network: Network) -> Layers | None:
    if not isinstance(network, MLP):
        return None
    return Layers(prefix, list(network.weights), list(network.biases), network.activation)


def _of_stage(prefix: str, stage: FactorisedPosterior, model: BernoulliLVM) -> Layers | None:
    if isinstance(stage, AmortisedPosterior):
        return _of_mlp(prefix, stage.encoder)
    # phi of one row is an encoder that does not look at x; of the layers of a chain the first alone sees x
    if len(stage.logits) != 1 or prefix not in ("encoder.", "0.encoder."):
        return None
    return Layers(prefix, [np.zeros((model.observed, stage.latents))], [stage.logits[0]], "tanh")


def read_problem(quantity: str, model: Stored, posterior: Stored | None, inputs: Mapping[str, Floats]) -> Problem:
    """Returns the question if its shapes fit together and its numbers are in their domains.

    Raises RefusedError.
    """
    _check_names(quantity, model, posterior, inputs)
    problem = _read(quantity, model, posterior, dict(inputs))
    _check_shapes(problem)
    _check_domain(problem)
    return problem


def _prefixes(model: Stored, posterior: Stored | None) -> tuple[list[str], list[str]]:
    """Returns the prefixes of the decoders' and of the encoders' parameters, from x upwards."""
    decoders = ["decoder."]
    while f"prior.{decoders[-1]}weights.0" in model.parameters:
        decoders.append(f"prior.{decoders[-1]}")
    if posterior is None:
        return decoders, []
    chain = any(name.startswith("0.") for name in posterior.parameters)
    return decoders, [f"{depth}.encoder." for depth in range(len(decoders))] if chain else ["encoder."]


def _check_names(quantity: str, model: Stored, posterior: Stored | None, inputs: Mapping[str, Floats]) -> None:
    """Checks that every parameter and input is there, and that there are no others."""
    asks = QUANTITIES[quantity]
    decoders, encoders = _prefixes(model, posterior)
    _check_parameters("model", model.parameters, decoders, ["prior." * len(decoders) + "logits"])
    if asks.posterior:
        _check_parameters("posterior", {} if posterior is None else posterior.parameters, encoders or ["encoder."], [])
    layers = {"": 0, "model": len(decoders), "posterior": len(encoders)}
    wanted = [name for pattern in asks.inputs for name in expanded(pattern, layers[INPUTS[pattern].layers])]
    known = [name for pattern in INPUTS for name in expanded(pattern, len(decoders))]
    _check_present("inputs", inputs, wanted, known)


def _check_parameters(what: str, arrays: Mapping[str, Floats], networks: list[str], others: list[str]) -> None:
    wanted = list(others)
    for prefix in networks:
        depth = max(sum(name.startswith(f"{prefix}weights.") for name in arrays), 1)
        wanted += [f"{prefix}{kind}.{d}" for kind in ("weights", "biases") for d in range(depth)]
    _check_present(what, arrays, wanted, wanted)


def _check_present(what: str, arrays: Mapping[str, Floats], wanted: list[str], known: list[str]) -> None:
    for name in wanted:
        if name not in arrays:
            raise RefusedError("shape", f"{what}: there is no {quoted(name)}")
    unknown = sorted(arrays.keys() - set(known))
    if unknown:
        raise RefusedError("shape", f"{what}: {quoted(unknown[0])} belongs to nothing")


def _read(quantity: str, model: Stored, posterior: Stored | None, inputs: dict[str, Floats]) -> Problem:
    decoders, encoders = _prefixes(model, posterior)
    return Problem(
        quantity,
        [_layers(prefix, model) for prefix in decoders],
        model.parameters["prior." * len(decoders) + "logits"],
        [_layers(prefix, posterior) for prefix in encoders if posterior is not None],
        inputs,
    )


def _layers(prefix: str, network: Stored) -> Layers:
    depth = sum(name.startswith(f"{prefix}weights.") for name in network.parameters)
    weights = [network.parameters[f"{prefix}weights.{d}"] for d in range(depth)]
    biases = [network.parameters[f"{prefix}biases.{d}"] for d in range(depth)]
    return Layers(prefix, weights, biases, network.activation)


def _check_shapes(problem: Problem) -> None:
    widths: list[int] = []
    for layers in problem.decoders:
        fan_in, fan_out = _fans(layers)
        if widths and fan_out != widths[-1]:
            raise RefusedError("shape", f"{layers.prefix}: got {fan_out} logits, wanted {widths[-1]}")
        widths += [fan_out, fan_in] if not widths else [fan_in]
    if problem.top.shape != (widths[-1],):
        raise RefusedError("shape", f"prior logits: got shape {problem.top.shape}, wanted ({widths[-1]},)")
    for depth, layers in enumerate(problem.encoders):
        if _fans(layers) != (widths[depth], widths[depth + 1]):
            raise RefusedError(
                "shape", f"{layers.prefix}: got {_fans(layers)}, wanted {tuple(widths[depth : depth + 2])}"
            )
    rows: dict[str, int] = {}
    for pattern, wanted in INPUTS.items():
        for depth, name in enumerate(expanded(pattern, len(problem.decoders)), start=1):
            if name in problem.inputs:
                shape, lengths = problem.inputs[name].shape, rows | {"L": widths[0], "K": widths[depth]}
                _check_axes(name, shape, wanted.shape, lengths)
                rows |= dict(zip(wanted.shape[:1], shape, strict=False))


def _check_axes(name: str, shape: tuple[int, ...], axes: tuple[str, ...], lengths: dict[str, int]) -> None:
    """Checks a shape. lengths: by axis; of rows only if another input has them."""
    if len(shape) != len(axes) or any(lengths.get(axis, n) != n for axis, n in zip(axes, shape, strict=True)):
        wanted = ", ".join(str(lengths.get(axis, "draws" if axis == "M" else "rows")) for axis in axes)
        raise RefusedError("shape", f"{name}: got shape {shape}, wanted ({wanted})")


def _fans(layers: Layers) -> tuple[int, int]:
    """Returns (fan_in, fan_out), and checks that each layer fits the one before it."""
    width = len(layers.weights[0])
    for d, (weights, biases) in enumerate(zip(layers.weights, layers.biases, strict=True)):
        if weights.ndim != 2 or len(weights) != width or biases.shape != weights.shape[1:]:
            raise RefusedError(
                "shape",
                f"{layers.prefix}weights.{d}: got shapes {weights.shape} and {biases.shape}, wanted ({width}, m), (m,)",
            )
        width = weights.shape[1]
    return len(layers.weights[0]), width


def _check_domain(problem: Problem) -> None:
    if np.isnan(problem.top).any():
        raise RefusedError("domain", "prior logits: got NaN")
    for layers in (*problem.decoders, *problem.encoders):
        if not all(np.isfinite(value).all() for value in (*layers.weights, *layers.biases)):
            raise RefusedError("domain", f"{layers.prefix}: got NaN or infinity among the parameters")
    for pattern, described in INPUTS.items():
        for name in expanded(pattern, len(problem.decoders)):
            value = problem.inputs.get(name)
            if value is None:
                continue
            if described.values == "bits" and not np.isin(value, (0.0, 1.0)).all():
                raise RefusedError("domain", f"{name}: wanted exactly 0 or 1")
            if described.values == "count" and not (value >= 1.0 and value == np.floor(value) and np.isfinite(value)):
                raise RefusedError("domain", f"{name}: wanted a whole number of at least 1")
            if described.values == "uniforms" and not ((0.0 <= value) & (value < 1.0)).all():
                raise RefusedError("domain", f"{name}: wanted numbers in [0, 1)")
