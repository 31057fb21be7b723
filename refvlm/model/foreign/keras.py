"""Keras: models, which say what they are, and lists of weights, which do not; Keras itself is never imported."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from ...activations import LEAK
from ...checks import describe, quoted
from ..mlp import MLP
from .flow import Step, check_constant, read, say_link, unknown
from .layers import Layer, check_activation, mlp, needed, shaped
from .names import check_names, part

_ARGUMENT = "weights_or_model"
_ACTIVATIONS = {
    "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "leaky_relu": "leaky_relu", "elu": "elu",
    "softplus": "softplus", "silu": "silu", "swish": "silu",
}  # fmt: skip
"""By the names of Keras's functions."""
_LAYERS: dict[str, tuple[str, dict[str, float]]] = {
    "ReLU": ("relu", {"negative_slope": 0.0, "threshold": 0.0}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": LEAK}),
    "ELU": ("elu", {"alpha": 1.0}),
}
"""By classes of layers: our name, and the constants that ours has."""
_SKIPPED = ("InputLayer", "Dropout", "AlphaDropout", "Identity", "Flatten")  # nothing, on rows and out of training
_REMEDY = "pass prefix= for the part that is an MLP"
_UNREAD = "what stands between them is in a call method, which cannot be read"


def from_keras(
    weights_or_model: Any, activation: str | None = None, *, prefix: str = "", layers: Sequence[str] | None = None
) -> MLP:
    """An MLP from a Keras model of Dense layers with one kind of activation between them, or from its weights.

    weights_or_model: of a Sequential or a functional model the activations are read, from Dense(..., activation=), from
    Activation, ReLU, LeakyReLU and ELU layers, also of models in it; Dropout, AlphaDropout, Identity and Flatten are
    skipped. A sigmoid at the end is the Bernoulli link, which an MLP here does not have: it is left out, and a
    UserWarning says so.
    Of model.get_weights(), a list [W1, b1, W2, b2, ...] with W (fan_in, fan_out) and b (fan_out,), which may be missing
    (use_bias=False); float16 and bfloat16 are converted exactly.
    activation: has to be said with more than one layer where it cannot be read: with a list of weights, and with a
    model that has a call of its own. Whether a sigmoid follows there cannot be seen: the last layer must give logits.
    prefix: the beginning of the names that are meant, such as "decoder/" for the layers of a model in the model.
    layers: names of the Dense layers after the prefix, in the order of application; all others are left out, and the
    activation has to be said. Without it the order is that of the model.

    Raises ValueError for other layers, for two Dense layers in a row, for several kinds of activation or constants
    other than ours (a slope of 0.01 in leaky_relu, where Keras's default is another; alpha 1), and for models that have
    no weights yet.
    """
    said = check_activation(activation)
    if isinstance(weights_or_model, (list, tuple)):
        if prefix or layers is not None:
            got = describe(prefix or layers)
            raise ValueError(f"prefix, layers: got {got} for a list of weights, which has no names, wanted neither")
        listed = _listed(weights_or_model)
        return mlp(_ARGUMENT, listed, needed(listed, said, "a list of weights does not say it"))
    if not isinstance(getattr(weights_or_model, "layers", None), (list, tuple)):
        raise TypeError(f"{_ARGUMENT}: got {describe(weights_or_model)}, wanted a Keras model, or its get_weights()")
    leaves: dict[str, _Leaf] = {}
    _walk(weights_or_model, "", True, leaves)
    meant = {new.removesuffix("/"): leaves[old] for new, old in part(_ARGUMENT, leaves, prefix).items()}
    if layers is not None:
        names = check_names(_ARGUMENT, layers, [name for name in meant if type(meant[name].layer).__name__ == "Dense"])
        chosen = [_dense(meant[name].layer, name) for name in names]
        return mlp(_ARGUMENT, chosen, needed(chosen, said, "with layers= it is not read"))
    steps = [step for name, leaf in meant.items() for step in _steps(leaf, name)]
    flow = read(_ARGUMENT, steps, said, _UNREAD)
    say_link(_ARGUMENT, flow.link)
    return mlp(_ARGUMENT, flow.layers, flow.activation)


class _Leaf(NamedTuple):
    """A layer that is no model; whether the one before is certain to feed it; what makes its model no chain, or ""."""

    layer: Any
    follows: bool
    several: str


def _listed(weights: Sequence[Any]) -> list[Layer]:
    """The layers of [W1, b1, W2, b2, ...]."""
    layers: list[Layer] = []
    for number, value in enumerate(weights):
        name = f"{_ARGUMENT}[{number}]"
        found = shaped(name, value)
        axes = len(found.shape)
        if axes == 1 and layers and layers[-1].bias is None:
            layers[-1] = layers[-1]._replace(bias=found)
        elif axes == 2:
            layers.append(Layer(f"[{number}]", found, False, None))
        else:
            kind = {0: "a scalar", 1: "a normalisation or a PReLU"}.get(axes, "a convolution or attention")
            raise ValueError(
                f"{name}: got shape {tuple(found.shape)}, which is {kind}, wanted the weights of Dense layers alone, "
                "(fan_in, fan_out), each with its bias (fan_out,) or none; pass the weights of the part that is an MLP"
            )
    if not layers:
        raise ValueError(f"{_ARGUMENT}: got no layers, wanted at least one")
    return layers


def _walk(model: Any, path: str, follows: bool, leaves: dict[str, _Leaf]) -> bool:
    """Put all layers that are no models among the leaves; return whether they follow each other."""
    bases = {base.__name__ for base in type(model).__mro__}
    known = not bases.isdisjoint({"Sequential", "Functional"})
    counts = [f"{len(getattr(model, ends, None) or [0])} {ends}" for ends in ("inputs", "outputs")]
    several = " and ".join(counts) if known and counts != ["1 inputs", "1 outputs"] else ""
    calls = sum(map(len, getattr(model, "_nodes_by_depth", {}).values()))  # of a functional model
    if calls > len(model.layers):
        several = f"{calls} calls of {len(model.layers)} layers"
    before = follows and known
    for layer in model.layers:
        name = f"{path}{getattr(layer, 'name', type(layer).__name__)}/"
        while name in leaves:  # as names in models with a call of their own may be
            name = f"{name[:-1]}'/"
        if isinstance(getattr(layer, "layers", None), (list, tuple)):
            before = _walk(layer, name, before, leaves) and known
        else:
            leaves[name] = _Leaf(layer, before, several)
            before = known
    return before


def _steps(leaf: _Leaf, name: str) -> Iterator[Step]:
    """What one layer does: a Dense has its activation in it."""
    layer, follows, several = leaf
    kind = type(layer).__name__
    if several:
        raise ValueError(
            f"{_ARGUMENT}: got {kind} {quoted(name)} in a model with {several}, wanted a chain of layers; {_REMEDY}"
        )
    if kind == "Dense":
        yield Step(name, kind, _dense(layer, name), None, follows)
        activation, follows = getattr(layer, "activation", None), True
    elif kind == "Activation":
        activation = layer.activation
    elif kind in _LAYERS:
        activation = layer
    elif kind in _SKIPPED:
        activation = None
    else:
        raise unknown(_ARGUMENT, kind, name, _SKIPPED, _ACTIVATIONS, _REMEDY)
    yield Step(name, _kind(activation), None, _ours(activation, name), follows)


def _dense(layer: Any, name: str) -> Layer:
    arrays = layer.get_weights()
    shapes = [tuple(array.shape) for array in arrays]
    if not arrays:
        raise ValueError(
            f"{_ARGUMENT}: got the Dense {quoted(name)}, which is not built, wanted weights; call the model once"
        )
    if [len(shape) for shape in shapes] not in ([2], [2, 1]):
        raise ValueError(
            f"{_ARGUMENT}: got the Dense {quoted(name)} with weights of shapes {shapes}, wanted (fan_in, fan_out) and "
            "(fan_out,) alone; take quantisation or LoRA out of it"
        )
    return Layer(name, arrays[0], False, arrays[1] if len(arrays) > 1 else None)


def _kind(activation: Any) -> str:
    return str(getattr(activation, "__name__", type(activation).__name__))


def _ours(activation: Any, name: str) -> str | None:
    """Our name of a function or a layer that is an activation, its constants checked; None for none."""
    kind = _kind(activation)
    if activation is None or kind == "linear" or kind in _SKIPPED:
        return None
    if kind in _LAYERS:
        ours, constants = _LAYERS[kind]
        got = {each: getattr(activation, each, getattr(activation, "alpha", None)) for each in constants}
        if getattr(activation, "max_value", None) is not None:
            raise ValueError(f"activation: got ReLU {quoted(name)} with max_value={activation.max_value}, wanted none")
    elif kind in _ACTIVATIONS:
        ours = _ACTIVATIONS[kind]
        constants = next((constants for same, constants in _LAYERS.values() if same == ours), {})
        got = _defaults(activation)
        constants = {each: wanted for each, wanted in constants.items() if each in got}
    else:
        raise unknown(_ARGUMENT, f"activation {kind}", name, _SKIPPED, _ACTIVATIONS, _REMEDY)
    for each, wanted in constants.items():
        check_constant(f"{kind} {quoted(name)}", each, got[each], wanted)
    return ours


def _defaults(function: Any) -> dict[str, Any]:
    """The values that a function's arguments have unless they are given, as a Dense does not give them."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {}
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}
