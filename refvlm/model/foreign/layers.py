"""Linear layers as they come out of other frameworks, and the MLP that they make."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...activations import ACTIVATIONS
from ...checks import as_array, check_choice, describe, one_line, quoted
from ..mlp import MLP
from ..safetensors import Tensor

IN_ORDER = "pass layers=[...] with the names in the order in which they are applied"
_SHOWN = 6
_NARROW = ("bfloat16", "float8")


class Shaped(Protocol):
    """An array, or a tensor in a file that is not read before it is known to belong."""

    @property
    def shape(self) -> tuple[int, ...]:
        """As in NumPy."""


class Layer(NamedTuple):
    """A linear layer: its name, its weights with 2 axes, transposed if they are (fan_out, fan_in), its bias or None."""

    name: str
    weight: Shaped
    transposed: bool
    bias: Shaped | None

    @property
    def fan_in(self) -> int:
        """Number of inputs."""
        return self.weight.shape[1 if self.transposed else 0]

    @property
    def fan_out(self) -> int:
        """Number of outputs."""
        return self.weight.shape[0 if self.transposed else 1]

    def __str__(self) -> str:
        return f"{quoted(self.name)} ({self.fan_in}-{self.fan_out})"


def array(name: str, value: Any) -> NDArray[Any]:
    """Anything array-like: tensors that track gradients, live on a device or are bfloat16 included, all exactly."""
    if isinstance(value, Tensor):
        return value.read()
    try:
        for method in ("detach", "cpu", "unbox"):  # the last of Flax's arrays with names of axes
            value = getattr(value, method, lambda value=value: value)()
    except (RuntimeError, NotImplementedError) as error:  # a tensor on torch's device "meta" has no numbers
        raise ValueError(f"{name}: got {describe(value)}, wanted an array ({one_line(error, 200)})") from None
    if any(narrow in str(getattr(value, "dtype", "")) for narrow in _NARROW):
        # NumPy has none of these: a torch tensor would be refused, an array of JAX's is of kind "V".
        value = value.float() if hasattr(value, "float") else np.asarray(value).astype(np.float32)
    return as_array(name, value)


def shaped(name: str, value: Any) -> Shaped:
    """`value` if it has a shape, to be read when it is needed, or an array of it."""
    found: Shaped = value if isinstance(getattr(value, "shape", None), tuple) else array(name, value)
    return found


def list_of(layers: Sequence[Layer]) -> str:
    """The layers with their widths, for a message."""
    shown = [str(layer) for layer in layers[:_SHOWN]]
    return ", ".join([*shown, "..."] if len(layers) > _SHOWN else shown)


def check_activation(activation: str | None) -> str | None:
    """`activation`, if it is None or one that there is."""
    return None if activation is None else check_choice("activation", activation, tuple(ACTIVATIONS))


def needed(layers: Sequence[Layer], activation: str | None, why: str) -> str:
    """The activation said, which a single layer does not need; `why` says why it cannot be read."""
    if activation is None and len(layers) > 1:
        raise ValueError(
            f"activation: got None for the {len(layers)} layers {list_of(layers)}, wanted what stands between them, "
            f"one of {', '.join(map(repr, ACTIVATIONS))}; {why}"
        )
    return "tanh" if activation is None else activation


def mlp(argument: str, layers: Sequence[Layer], activation: str) -> MLP:
    """The MLP of these layers, in this order. Raises ValueError, naming layers, where they do not fit together."""
    for before, layer in pairwise(layers):
        if before.fan_out != layer.fan_in:
            raise ValueError(
                f"{argument}: got the layer {before} and after it {layer}, wanted that to take {before.fan_out} "
                f"inputs; {IN_ORDER}, or prefix= for a part"
            )
    weights, biases = [], []
    for layer in layers:
        weight = array(f"{argument}: weights of {quoted(layer.name)}", layer.weight)
        weights.append(weight.T if layer.transposed else weight)
        if layer.bias is not None and tuple(layer.bias.shape) != (layer.fan_out,):
            raise ValueError(
                f"{argument}: got a bias of shape {tuple(layer.bias.shape)} for the layer {layer}, wanted "
                f"({layer.fan_out},)"
            )
        bias = (
            np.zeros(layer.fan_out)
            if layer.bias is None
            else array(f"{argument}: bias of {quoted(layer.name)}", layer.bias)
        )
        biases.append(bias)
    return MLP(weights, biases, activation)
