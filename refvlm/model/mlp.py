"""A multilayer perceptron with manual backpropagation: the DNN of eq. (2), and the encoder phi(x) of eq. (4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike

from .. import show
from ..activations import ACTIVATIONS
from ..checks import as_parameters, check_choice, check_count, check_generator, describe
from ..types import Floats
from .parameters import Parameters

Pullback = Callable[[Floats], Parameters]

LARGEST_LOGITS = 1e18
"""Beyond it one unit in the last place of the log-likelihood is a factor of e**100 in the probability."""


class Network(Protocol):
    """What a decoder, or an encoder, has to be: any object with these."""

    @property
    def fan_in(self) -> int:
        """Number of input bits."""

    @property
    def fan_out(self) -> int:
        """Number of logits."""

    def forward(self, inputs: Floats) -> tuple[Floats, Pullback]:
        """Logits (N, fan_out) for inputs (N, fan_in), and the pullback from d/d logits to d/d parameters."""

    def parameters(self) -> Parameters:
        """The parameters by name; gradients come under the same names."""


def named(network: Network) -> str:
    """A network in a line: its kind, and its widths."""
    if isinstance(network, MLP):
        return repr(network)
    return f"{type(network).__name__}({network.fan_in}-{network.fan_out})"


@dataclass(frozen=True, eq=False, repr=False)
class MLP:
    """Affine layers with an activation between them; the last layer is linear, so the outputs are logits.

    weights: D >= 1 arrays, the d-th (fan_in, fan_out); a = h @ W + b. biases: D arrays (fan_out,).
    activation: a name in `ACTIVATIONS`, applied after every layer but the last. D = 1 has no hidden layer.
    Arrays are copied, and read-only here. Raises ValueError or TypeError for shapes that do not follow on from
    each other, values that are not finite, and weights so large that the logits could add up to more than 1e18.
    """

    weights: tuple[Floats, ...]
    biases: tuple[Floats, ...]
    activation: str

    def __init__(self, weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], activation: str = "tanh") -> None:
        for name, value in (("weights", weights), ("biases", biases)):
            if not isinstance(value, (list, tuple)):
                raise TypeError(f"{name}: got {describe(value)}, wanted a list of arrays, one for each layer")
        if not weights or len(weights) != len(biases):
            raise ValueError(
                f"weights, biases: got {len(weights)} and {len(biases)} arrays, wanted one of each for every layer"
            )
        checked = tuple(as_parameters(f"weights[{d}]", w, 2) for d, w in enumerate(weights))
        shifts = tuple(as_parameters(f"biases[{d}]", b, 1) for d, b in enumerate(biases))
        for d, (w, b) in enumerate(zip(checked, shifts, strict=True)):
            if 0 in w.shape:
                raise ValueError(f"weights[{d}]: got shape {w.shape}, wanted at least one input and one output")
            if d > 0 and w.shape[0] != checked[d - 1].shape[1]:
                raise ValueError(
                    f"weights[{d}]: got shape {w.shape}, wanted ({checked[d - 1].shape[1]}, fan_out) to follow on from "
                    f"weights[{d - 1}] of shape {checked[d - 1].shape}; weights are (fan_in, fan_out)"
                )
            if b.shape != (w.shape[1],):
                raise ValueError(f"biases[{d}]: got shape {b.shape}, wanted ({w.shape[1]},) to go with weights[{d}]")
        check_choice("activation", activation, tuple(ACTIVATIONS))
        object.__setattr__(self, "weights", checked)
        object.__setattr__(self, "biases", shifts)
        object.__setattr__(self, "activation", activation)
        with np.errstate(over="ignore", invalid="ignore"):
            largest = self.largest_logits().sum()
        if not largest <= LARGEST_LOGITS:
            raise ValueError(
                f"weights: got weights under which the logits can add up to {largest:.3g}, wanted at most "
                f"{LARGEST_LOGITS:g}, the range in which float64 resolves the log-likelihood; scale them down"
            )

    @classmethod
    def random(
        cls, sizes: Sequence[int], rng: np.random.Generator, *, activation: str = "tanh", scale: float = 1.0
    ) -> MLP:
        """Layers of these widths, inputs first: weights N(0, scale**2 / fan_in), biases 0."""
        if len(sizes) < 2:
            raise ValueError(f"sizes: got {list(sizes)}, wanted the widths of at least inputs and outputs")
        widths = [check_count(f"sizes[{d}]", width, 1) for d, width in enumerate(sizes)]
        check_generator("rng", rng)
        pairs = list(pairwise(widths))
        weights = [rng.normal(size=pair) * (scale / np.sqrt(pair[0])) for pair in pairs]
        return cls(weights, [np.zeros(fan_out) for _, fan_out in pairs], activation)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.sizes))
        return f"MLP({sizes}, {self.activation})" if len(self.weights) > 1 else f"MLP({sizes})"

    def _repr_html_(self) -> str:
        return show.notebook(show.parameters(self))

    @property
    def fan_in(self) -> int:
        """Number of inputs."""
        return int(self.weights[0].shape[0])

    @property
    def fan_out(self) -> int:
        """Number of logits."""
        return int(self.weights[-1].shape[1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Widths of all layers, inputs first."""
        return (self.fan_in, *(w.shape[1] for w in self.weights))

    def parameters(self) -> Parameters:
        """{"weights.0": (fan_in, fan_out), ..., "biases.0": (fan_out,), ...}."""
        named = {f"weights.{d}": w for d, w in enumerate(self.weights)}
        return named | {f"biases.{d}": b for d, b in enumerate(self.biases)}

    def with_parameters(self, parameters: Parameters) -> MLP:
        """The same architecture with other parameters."""
        layers = range(len(self.weights))
        return MLP(
            [parameters[f"weights.{d}"] for d in layers], [parameters[f"biases.{d}"] for d in layers], self.activation
        )

    def forward(self, inputs: ArrayLike) -> tuple[Floats, Pullback]:
        """Logits (N, fan_out) for inputs (N, fan_in), and the pullback.

        The pullback takes d/d logits (N, fan_out) to the sum over rows of d/d parameters, by name.
        """
        below, arguments, logits = self._upwards(inputs)

        def pullback(slopes: Floats) -> Parameters:
            deltas = self._downwards(below, arguments, slopes)
            weights = {f"weights.{d}": h.T @ delta for d, (h, delta) in enumerate(zip(below, deltas, strict=True))}
            return weights | {f"biases.{d}": np.add.reduce(delta, axis=0) for d, delta in enumerate(deltas)}

        return logits, pullback

    def input_slopes(self, inputs: ArrayLike, slopes: Floats) -> Floats:
        """d/d logits (N, fan_out) as d/d inputs (N, fan_in), which need not be 0 or 1."""
        below, arguments, _ = self._upwards(inputs)
        return self._downwards(below, arguments, slopes)[0] @ self.weights[0].T

    def slope_products(self, inputs: ArrayLike, slopes: Floats) -> Floats:
        """Inner products of d/d parameters, (R, R), for R rows of d/d logits, (R, fan_out), at an input (1, fan_in)."""
        below, arguments, _ = self._upwards(inputs)
        pairs = zip(below, self._downwards(below, arguments, slopes), strict=True)
        products: Floats = sum(((h[0] ** 2).sum() + 1.0) * (delta @ delta.T) for h, delta in pairs)
        return products

    def squared_norms(self, inputs: ArrayLike, slopes: Floats) -> Floats:
        """The squared norm of every row's own d/d parameters, (N,), from its d/d logits, no such gradient formed."""
        below, arguments, _ = self._upwards(inputs)
        pairs = zip(below, self._downwards(below, arguments, slopes), strict=True)
        norms: Floats = sum(((h**2).sum(axis=1) + 1.0) * (delta**2).sum(axis=1) for h, delta in pairs)
        return norms

    def _upwards(self, inputs: ArrayLike) -> tuple[list[Floats], list[Floats], Floats]:
        """What each layer takes, the arguments of the activations, and the logits."""
        h = np.asarray(inputs, dtype=np.float64)
        if h.ndim != 2 or h.shape[1] != len(self.weights[0]):
            raise ValueError(f"inputs: got shape {h.shape}, wanted (rows, {self.fan_in})")
        below, arguments, activation = [h], list[Floats](), ACTIVATIONS[self.activation]
        for weights, biases in list(zip(self.weights, self.biases, strict=True))[:-1]:
            arguments.append(below[-1] @ weights + biases)
            below.append(activation.value(arguments[-1]))
        return below, arguments, below[-1] @ self.weights[-1] + self.biases[-1]

    def _downwards(self, below: list[Floats], arguments: list[Floats], slopes: Floats) -> list[Floats]:
        """d/d logits as the slopes of each layer before its activation, the lowest layer first."""
        deltas, activation = [slopes], ACTIVATIONS[self.activation]
        for d in reversed(range(1, len(self.weights))):
            deltas.append((deltas[-1] @ self.weights[d].T) * activation.slope(arguments[d - 1], below[d]))
        return deltas[::-1]

    def largest_logits(self) -> Floats:
        """A bound on |logit_i| over all inputs in [0, 1], (fan_out,), from the weights' magnitudes."""
        h = np.ones(self.fan_in)
        for d, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            if d > 0:
                h = ACTIVATIONS[self.activation].magnitude(h)
            h = (h[:, None] * np.abs(weights)).sum(axis=0) + np.abs(biases)
        return h
