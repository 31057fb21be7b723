"""Weights in a safetensors file, of whichever framework."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ...checks import FileFormatError
from ...storage import open_file
from .. import safetensors
from ..mlp import MLP
from .layers import check_activation, mlp, needed
from .names import layers_in, part


def from_safetensors(
    path: str | os.PathLike[str],
    prefix: str = "",
    layers: Sequence[str] | None = None,
    activation: str | None = None,
) -> MLP:
    """An MLP from a safetensors file; neither the package nor a framework is needed, and only what is meant is read.

    path: a file with "<layer>.weight" (fan_out, fan_in), as PyTorch's are, or "<layer>.kernel" (fan_in, fan_out), as
    Flax's, and "<layer>.bias" (fan_out,), which may be missing; F16, BF16, F32 or F64, converted exactly.
    prefix: the beginning of the names that are meant, such as "decoder.".
    layers: names of the linear layers after the prefix, in the order of application; all others are left out. Without
    it names that differ only in numbers follow these (fc2 before fc10), and widths must leave one order, since such a
    file keeps none.
    activation: has to be said with more than one layer, since the file does not say it. The last layer must give
    logits: a sigmoid after it must not be part of the model.

    Raises FileFormatError for a file that is truncated or otherwise invalid, ValueError for other layers and where the
    order is not clear, and OSError where the file cannot be read.
    """
    said, name = check_activation(activation), os.fspath(path)
    with open_file(path) as file:
        tensors, metadata = safetensors.read_index(name, file)
        if "refvlm" in metadata:
            raise FileFormatError(f"{name}: written by refvlm.save, wanted weights of another program; use refvlm.load")
        meant = {new: tensors[old] for new, old in part(name, tensors, prefix).items()}
        found = layers_in(name, meant, {"weight": True, "kernel": False}, layers, in_order=False)
        return mlp(name, found, needed(found, said, "a safetensors file does not say it"))
