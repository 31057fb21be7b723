"""Flax: parameters as dictionaries within dictionaries, in whichever order; flax itself is never imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...checks import describe, quoted
from ..mlp import MLP
from .layers import check_activation, mlp, needed
from .names import LEAVE_OUT, check_prefix, layers_in, part

_DEEPEST = 64


def from_flax(
    params: Mapping[Any, Any], activation: str | None = None, *, prefix: str = "", layers: Sequence[str] | None = None
) -> MLP:
    """An MLP from flax parameters {"Dense_0": {"kernel": (fan_in, fan_out), "bias": (fan_out,)}, "Dense_1": ...}.

    params: that dictionary, one with it under "params", or an nnx.State, at any depth; bfloat16 and half are converted
    exactly; a missing bias (use_bias=False) is zeros. Names in messages and arguments are paths: "decoder/Dense_0".
    activation: has to be said with more than one layer, since the parameters do not say it. The last layer must give
    logits: a sigmoid after it must not be part of the model.
    prefix: the beginning of the paths that are meant, such as "decoder/".
    layers: paths of the Dense layers after the prefix, in the order of application; all others are left out. Without
    it names that differ only in numbers follow these (Dense_2 before Dense_10), and widths must leave one order.

    Raises ValueError for other layers, and where the order is not clear.
    """
    said, prefix = check_activation(activation), check_prefix(prefix)
    if not isinstance(params, Mapping):
        raise TypeError(f"params: got {describe(params)}, wanted a dictionary of arrays by name")
    arrays = dict(_flat(params, ""))
    if any(path.startswith("params/") for path in arrays):
        arrays = _parameters(arrays, prefix)
        prefix = prefix.removeprefix("params/")
    meant = {new: arrays[old] for new, old in part("params", arrays, prefix).items()}
    found = layers_in("params", meant, {"kernel": False}, layers, in_order=False)
    return mlp("params", found, needed(found, said, "parameters do not say it"))


def _flat(params: Mapping[Any, Any], path: str) -> Iterator[tuple[str, Any]]:
    """All arrays by path; keys may be tuples, as flax.traverse_util.flatten_dict makes them, or numbers, as in nnx."""
    for key, value in params.items():
        if path.count("/") > _DEEPEST:
            raise ValueError(f"params: got dictionaries nested more than {_DEEPEST} deep, wanted arrays by name")
        here = path + "/".join(map(str, key if isinstance(key, tuple) else (key,)))
        if isinstance(value, Mapping):
            yield from _flat(value, here + "/")
        else:
            yield here, value


def _parameters(arrays: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The collection "params" of several, refused where another says that there is more to the part than these."""
    found = {}
    for path, value in arrays.items():
        collection, _, rest = path.partition("/")
        if collection == "params":
            found[rest] = value
        elif rest.startswith(prefix.removeprefix("params/")):
            kind = "a BatchNorm" if collection == "batch_stats" else "no Dense layer"
            raise ValueError(f"params: got {quoted(path)} beside 'params', which belongs to {kind}; {LEAVE_OUT}")
    return found
