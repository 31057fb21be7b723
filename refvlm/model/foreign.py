"""Weights from other frameworks' dictionaries; the frameworks themselves are not needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import describe
from .mlp import MLP


def from_torch(state_dict: Mapping[str, Any], activation: str = "tanh") -> MLP:
    """An MLP from the state dict of a torch.nn.Sequential of Linear layers with activations between them.

    state_dict: "0.weight" (fan_out, fan_in), "0.bias" (fan_out,), "2.weight", ...; tensors or arrays. Layers are
    taken in the order of their numbers; a missing bias (bias=False) is zeros. A state dict does not name the
    activation: give it; and the last Linear must give logits, so a Sigmoid after it, which leaves no trace here, must
    not be part of the model. Raises ValueError for other names, and for two Linear layers in a row.
    """
    layers: dict[int, dict[str, NDArray[Any]]] = {}
    for name, value in _mapping("state_dict", state_dict).items():
        match = re.fullmatch(r"(\d+)\.(weight|bias)", str(name))
        if match is None:
            raise ValueError(
                f"state_dict: got the name {describe(name)}, wanted '0.weight', '0.bias', '2.weight', ... of a "
                "torch.nn.Sequential of Linear layers; pass the state dict of that part alone"
            )
        layers.setdefault(int(match[1]), {})[match[2]] = _array(value)
    for number, layer in layers.items():
        if "weight" not in layer:
            raise ValueError(f"state_dict: got '{number}.bias' without '{number}.weight', wanted both")
        if number + 1 in layers:
            raise ValueError(
                f"state_dict: got layers {number} and {number + 1}, which follow each other without an activation; "
                "wanted one between them; multiply the two weights into one layer"
            )
        if layer["weight"].ndim == 2:
            layer["weight"] = layer["weight"].T
    return _mlp("state_dict", [layers[number] for number in sorted(layers)], "weight", activation)


def from_flax(params: Mapping[str, Any], activation: str = "tanh") -> MLP:
    """An MLP from flax parameters {"Dense_0": {"kernel": (fan_in, fan_out), "bias": (fan_out,)}, "Dense_1": ...}.

    params: that dictionary, or one with it under "params". Layers are taken in the order of the numbers at the end
    of their names; a missing bias (use_bias=False) is zeros. The dictionary does not name the activation: give it.
    Raises ValueError for other names.
    """
    networks = _mapping("params", params)
    if set(networks) == {"params"}:
        networks = _mapping("params", networks["params"])
    layers: dict[int, dict[str, NDArray[Any]]] = {}
    for name, layer in networks.items():
        match = re.fullmatch(r".*?(\d+)", str(name))
        if match is None or not isinstance(layer, Mapping) or not {"kernel"} <= set(layer) <= {"kernel", "bias"}:
            raise ValueError(
                f"params: got the name {describe(name)}, wanted layers such as 'Dense_0' with 'kernel' and 'bias'"
            )
        if int(match[1]) in layers:
            raise ValueError(
                f"params: got two layers numbered {match[1]}, wanted one; pass the MLP's own parameters alone"
            )
        layers[int(match[1])] = {part: _array(value) for part, value in layer.items()}
    return _mlp("params", [layers[number] for number in sorted(layers)], "kernel", activation)


def _mapping(name: str, value: object) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name}: got {describe(value)}, wanted a dictionary of arrays by name")
    return value


def _array(value: Any) -> NDArray[Any]:
    """Anything array-like, tensors that track gradients, live on a device or are bfloat16 included."""
    for method in ("detach", "cpu"):
        value = getattr(value, method, lambda value=value: value)()
    if "bfloat16" in str(getattr(value, "dtype", "")):
        value = value.float() if hasattr(value, "float") else value.astype(np.float32)
    return np.asarray(value)


def _mlp(name: str, layers: list[dict[str, NDArray[Any]]], weight: str, activation: str) -> MLP:
    if not layers:
        raise ValueError(f"{name}: got no layers, wanted at least one")
    weights = [layer[weight] for layer in layers]
    biases = [layer.get("bias", np.zeros(w.shape[-1])) for layer, w in zip(layers, weights, strict=True)]
    return MLP(weights, biases, activation)
