"""Dictionaries of arrays by name: the part that is meant, its linear layers, and what everything else in it is."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...checks import describe, quoted
from .layers import Layer, shaped
from .order import ordered

_WRAPPERS = re.compile(r"(module\.|_orig_mod\.)*")  # of DataParallel and of torch.compile
_TELLING = (
    (r"running_(mean|var)|num_batches_tracked", "a BatchNorm: fold it into the Linear layer beside it"),
    (r"(weight|bias)_(ih|hh)(_l\d+.*)?", "a recurrent layer"),
    (r"in_proj_(weight|bias)|[qkv]_proj_weight", "an attention layer"),
    (
        r"weight_(g|v|u|orig|mask)|original\d*",
        "a Linear layer under weight_norm, spectral_norm or pruning: remove that",
    ),
    (r"zero_point|_packed_params", "a quantised layer"),
    (r"scale", "a normalisation"),
    (r"embedding", "an embedding"),
    (r"negative_slope", "a PReLU"),
)
_BY_AXES = {
    ("weight", 3): "a Conv1d or a Bilinear",
    ("weight", 4): "a Conv2d",
    ("weight", 5): "a Conv3d",
    ("kernel", 3): "a Conv, a DenseGeneral or an attention layer",
    ("kernel", 4): "a Conv",
    ("kernel", 5): "a Conv",
}
LEAVE_OUT = "wanted Linear layers alone; pass prefix= for the part that is an MLP"


def part(argument: str, names: Iterable[str], prefix: object) -> dict[str, str]:
    """The names that begin with `prefix`, without it, to what they were; wrappers of whole networks are stripped.

    Of the prefix the last "." or "/" may be left out. Raises ValueError where nothing begins with it.
    """
    prefix = check_prefix(prefix)
    whole = {name: name for name in names}
    for candidates in (whole, _unwrapped(whole)):
        for beginning in (prefix,) if not prefix or prefix[-1] in "./" else (prefix + ".", prefix + "/", prefix):
            found = {name[len(beginning) :]: old for name, old in candidates.items() if name.startswith(beginning)}
            if found:
                return _unwrapped(found)
    if prefix and whole:
        tops = dict.fromkeys(re.sub(r"(?<=[./]).*", "", name) for name in _unwrapped(whole))
        shown = ", ".join(map(quoted, list(tops)[:6]))
        raise ValueError(
            f"prefix: got {quoted(prefix)}, with which no name in {argument} begins; wanted one of {shown}"
        )
    raise ValueError(f"{argument}: got no layers, wanted at least one")


def check_prefix(prefix: object) -> str:
    """`prefix` if it is a string."""
    if not isinstance(prefix, str):
        raise TypeError(f"prefix: got {describe(prefix)}, wanted the beginning of names, such as 'decoder.'")
    return prefix


def _unwrapped(names: Mapping[str, str]) -> dict[str, str]:
    shared = os.path.commonprefix(list(names))  # noqa: RUF071  # letter by letter is what is meant
    wrappers = _WRAPPERS.match(shared)
    return {name[wrappers.end() if wrappers else 0 :]: old for name, old in names.items()}


def layers_in(
    argument: str,
    values: Mapping[str, Any],
    weights: Mapping[str, bool],
    chosen: object,
    *,
    in_order: bool,
) -> list[Layer]:
    """The linear layers, in the order of application.

    values: arrays by names "<layer>.<part>" or "<layer>/<part>". weights: the parts that may be weights, to whether
    they are (fan_out, fan_in). chosen: names of layers in their order, or None. in_order: whether the source keeps it.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        groups.setdefault(name[: -len(_leaf(name)) - 1], {})[name] = value
    if chosen is not None:
        named = [name for name, parts in groups.items() if not set(weights).isdisjoint(map(_leaf, parts))]
        return [layer(argument, name, groups[name], weights) for name in check_names(argument, chosen, named)]
    for parts in groups.values():
        _tell(argument, parts)
    layers = [layer(argument, name, parts, weights) for name, parts in groups.items()]
    if not layers:
        raise ValueError(f"{argument}: got no layers, wanted at least one")
    _check_numbers(argument, groups)
    # A Linear registers its weight before its bias: where a bias comes first, somebody has sorted the names.
    unsorted = all(_leaf(next(iter(parts))) in weights for parts in groups.values())
    return ordered(argument, layers, given=in_order and unsorted)


def check_names(argument: str, chosen: object, layers: Sequence[str]) -> Sequence[str]:
    """The names that were chosen, if each is one of `layers`."""
    if isinstance(chosen, str) or not isinstance(chosen, Sequence) or not chosen:
        raise TypeError(f"layers: got {describe(chosen)}, wanted a list of names of layers, in their order")
    for name in chosen:
        if name not in layers:
            shown = ", ".join(map(quoted, layers[:6])) + ", ..." * (len(layers) > 6)
            raise ValueError(f"layers: got {describe(name)}, which is not in {argument}; wanted some of {shown}")
    return chosen


def _leaf(path: str) -> str:
    """The last part of a name."""
    return path[1 + max(path.rfind("."), path.rfind("/")) :]


def _tell(argument: str, paths: Iterable[str]) -> None:
    """Refuse what names betray."""
    for pattern, kind in _TELLING:
        for path in paths:
            if re.fullmatch(pattern, _leaf(path)):
                raise ValueError(f"{argument}: got {quoted(path)}, which belongs to {kind}; {LEAVE_OUT}")


def layer(argument: str, name: str, values: Mapping[str, Any], weights: Mapping[str, bool]) -> Layer:
    """The linear layer of this name with these arrays, or a ValueError that says what it is instead."""
    _tell(argument, values)
    parts = {_leaf(path): shaped(f"{argument}: {quoted(path)}", value) for path, value in values.items()}
    if len(parts) < len(values):
        raise ValueError(f"{argument}: got {', '.join(map(quoted, values))}, which name the same twice, wanted it once")
    named = {
        leaf: f"{argument}: got {quoted(path)} of shape {tuple(part.shape)}"
        for path, (leaf, part) in zip(values, parts.items(), strict=True)
    }
    weight = next((leaf for leaf in parts if leaf in weights), None)
    for leaf in parts:
        if leaf != weight and leaf != "bias":
            raise ValueError(f"{named[leaf]}, wanted names of linear layers, {_wanted(weights)}; {LEAVE_OUT}")
    if weight is None:
        raise ValueError(f"{argument}: got {quoted(name)} without {_wanted(weights)}, wanted one; {LEAVE_OUT}")
    axes = len(parts[weight].shape)
    if axes != 2:
        kind = _BY_AXES.get((weight, axes), "no layer known here")
        if axes == 1 and weight == "weight":
            kind = "a LayerNorm or another normalisation" if "bias" in parts else "a PReLU, or an RMSNorm"
        raise ValueError(f"{named[weight]}, which belongs to {kind}; {LEAVE_OUT}")
    return Layer(name, parts[weight], weights[weight], parts.get("bias"))


def _wanted(weights: Iterable[str]) -> str:
    return " or ".join(f"'<layer>.{leaf}'" for leaf in weights)


def _check_numbers(argument: str, groups: Iterable[str]) -> None:
    """Refuse layers numbered n and n + 1: in a Sequential nothing stands between them."""
    names = set(groups)
    for name in groups:
        if match := re.fullmatch(r"(?:.*[./])?(\d{1,18})", name):
            following = f"{name[: match.start(1)]}{int(match[1]) + 1}"
            if following in names:
                raise ValueError(
                    f"{argument}: got the layers {quoted(name)} and {quoted(following)}, which follow each "
                    "other without an activation in a Sequential, wanted one between them; multiply the two weights "
                    "into one layer, or, of a ModuleList, pass layers=[...] with the names of all layers in their order"
                )
