"""PyTorch: modules, which say what they are, and state dicts, which do not; torch itself is never imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...activations import LEAK
from ...checks import describe, quoted
from ..mlp import MLP
from .flow import Step, check_constant, read, say_link, unknown
from .layers import check_activation, mlp, needed
from .names import LEAVE_OUT, layer, layers_in, part

_ARGUMENT = "module_or_state_dict"
_WEIGHTS = {"weight": True}
_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "Tanh": ("tanh", {}),
    "Sigmoid": ("sigmoid", {}),
    "ReLU": ("relu", {}),
    "LeakyReLU": ("leaky_relu", {"negative_slope": LEAK}),
    "ELU": ("elu", {"alpha": 1.0}),
    "Softplus": ("softplus", {"beta": 1.0, "threshold": 20.0}),
    "SiLU": ("silu", {}),
}
"""By class: our name, and the constants that ours has."""
_SKIPPED = ("Dropout", "AlphaDropout", "Identity", "Flatten")  # nothing, on rows and out of training
_WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule")
_CONTAINERS = ("Sequential", "ModuleList", "ModuleDict", *_WRAPPERS)
_UNREAD = "what stands between them is in a forward method, which cannot be read"


def from_torch(
    module_or_state_dict: Any, activation: str | None = None, *, prefix: str = "", layers: Sequence[str] | None = None
) -> MLP:
    """An MLP from a torch.nn.Module of Linear layers with one kind of activation between them, or from its state dict.

    module_or_state_dict: of a module the activations are read (Tanh, Sigmoid, ReLU, LeakyReLU, ELU, Softplus, SiLU),
    also in a Sequential within a Sequential; Dropout, AlphaDropout, Identity and Flatten are skipped. A Sigmoid at the
    end is the Bernoulli link, which an MLP here does not have: it is left out, and a UserWarning says so. Softplus is
    ours at its threshold of 20 or above, where torch's own is off by at most 2.1e-9, because it leaves e**-a out.
    Of a state dict, "<layer>.weight" (fan_out, fan_in) and "<layer>.bias" (fan_out,), tensors or arrays, half and
    bfloat16 included: all are converted exactly, and a missing bias (bias=False) is zeros. "module." (DataParallel)
    and "_orig_mod." (torch.compile) before all names do not count.
    activation: needed with more than one layer where it cannot be read: from a state dict, and from a module with a
    forward of its own. Whether a sigmoid follows there cannot be seen: the last Linear must give logits.
    prefix: the beginning of the names that are meant, such as "decoder." of an autoencoder.
    layers: names of the Linear layers after the prefix, in the order of application; all others are left out, and the
    activation has to be said. Without it the order is that of the module or of the dict, and that of the numbers in
    names that differ in nothing else, as in "0.weight", "2.weight".

    Raises ValueError for other modules and parameters, for two Linear layers in a row, for several kinds of activation
    or constants other than ours (negative_slope 0.01, alpha 1, beta 1), and where the order is not clear.
    """
    said = check_activation(activation)
    state, module = module_or_state_dict, None
    if not isinstance(state, Mapping):
        if not (callable(getattr(state, "state_dict", None)) and isinstance(getattr(state, "_modules", None), Mapping)):
            raise TypeError(f"{_ARGUMENT}: got {describe(state)}, wanted a torch.nn.Module or its state dict")
        module, state = state, state.state_dict()
    if module is not None and layers is None:
        flow = read(_ARGUMENT, _steps(module, state, prefix), said, _UNREAD)
        say_link(_ARGUMENT, flow.link)
        return mlp(_ARGUMENT, flow.layers, flow.activation)
    nested = next((key for key, value in state.items() if isinstance(value, Mapping)), None)
    if nested is not None:
        raise ValueError(
            f"{_ARGUMENT}: got a dictionary under {describe(nested)}, wanted tensors; pass that dictionary"
        )
    values = {str(key): value for key, value in state.items()}
    meant = {new: values[old] for new, old in part(_ARGUMENT, values, prefix).items()}
    found = layers_in(_ARGUMENT, meant, _WEIGHTS, layers, in_order=True)
    unread = "a state dict does not say it" if module is None else "with layers= it is not read"
    return mlp(_ARGUMENT, found, needed(found, said, unread))


def _steps(module: Any, state: Mapping[str, Any], prefix: str) -> list[Step]:
    """The part of a module under `prefix`, one step after the other."""
    leaves: dict[str, tuple[Any, bool]] = {}
    _walk(module, "", True, leaves)
    parts: dict[str, dict[str, Any]] = {name: {} for name in leaves}
    strays = {}  # parameters of modules that have modules in them
    for key, value in state.items():
        owner = key
        while owner and owner + "." not in leaves:
            owner = owner.rpartition(".")[0]
        if owner or "" in leaves:
            parts[owner + "." if owner else ""][key] = value
        else:
            strays[key] = value
    steps = []
    for new, old in part(_ARGUMENT, [*leaves, *strays], prefix).items():
        if old in strays:
            raise ValueError(
                f"{_ARGUMENT}: got the parameter {quoted(old)}, which belongs to no layer known here; {LEAVE_OUT}"
            )
        leaf, follows = leaves[old]
        steps.append(_step(leaf, (new or old).removesuffix("."), parts[old], follows))
    return steps


def _walk(module: Any, name: str, follows: bool, leaves: dict[str, tuple[Any, bool]]) -> bool:
    """Put all modules without modules in them among the leaves, by name; return whether they follow each other.

    Not by named_children(), which leaves out what comes a second time, as an activation may that several layers share.
    """
    children = [(key, child) for key, child in module._modules.items() if child is not None]
    kind = type(module).__name__
    foreign = type(module).__module__.startswith("torch.") and kind not in _CONTAINERS and not _sequential(module)
    if foreign or not children:
        if kind not in _CONTAINERS:
            leaves[name] = module, follows
        return True
    known = _sequential(module) or kind in _WRAPPERS
    before = follows and known
    for key, child in children:
        before = _walk(child, f"{name}{key}.", before, leaves) and known
    return before


def _sequential(module: Any) -> bool:
    """Whether it is a Sequential, or a class made from it, with the forward that a Sequential has."""
    bases = [base for base in type(module).__mro__ if base.__name__ == "Sequential"]
    return bool(bases) and getattr(type(module), "forward", None) is getattr(bases[0], "forward", None)


def _step(module: Any, name: str, parts: Mapping[str, Any], follows: bool) -> Step:
    kind = type(module).__name__
    if kind == "Linear" and hasattr(module, "in_features"):
        return Step(name, kind, layer(_ARGUMENT, name, parts, _WEIGHTS), None, follows)
    if kind in _SKIPPED:
        return Step(name, kind, None, None, follows)
    if kind not in _ACTIVATIONS:
        raise unknown(_ARGUMENT, kind, name, _SKIPPED, _ACTIVATIONS, "pass prefix= for the part that is an MLP")
    ours, constants = _ACTIVATIONS[kind]
    for constant, wanted in constants.items():
        # From a threshold of 20 on what torch leaves out of softplus is less than 2.1e-9; more is closer to ours.
        check_constant(
            f"{kind} {quoted(name)}", constant, getattr(module, constant, None), wanted, least=constant == "threshold"
        )
    return Step(name, kind, None, ours, follows)
