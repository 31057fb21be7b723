"""The encoder phi(x) of eq. (4): the same network, with data rows instead of codes along the lanes.

Rows pass through elementwise operations only, so a row's logits have the same bits in any batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..problem import Decoder
from .compiling import kernel
from .lanes import BLOCK, vectors
from .network import activate, dense

__all__ = ["encode"]


@kernel
def encode(network: Decoder, x: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The network's outputs for rows of bits x (N, fan_in): (N, fan_out)."""
    sizes, rows = network.sizes, len(x)
    out = np.empty((rows, sizes[-1]))
    units = vectors(sizes.sum() * BLOCK)
    for start in range(0, rows, BLOCK):
        lanes = min(BLOCK, rows - start)
        for j in range(lanes):
            for i in range(sizes[0]):
                units[i * BLOCK + j] = x[start + j, i]
        offset, inputs = 0, 0
        for layer in range(len(sizes) - 1):
            fan_in, fan_out = sizes[layer], sizes[layer + 1]
            if layer > 0:
                activate(units, inputs, fan_in, network.activation)
            biases = offset + fan_in * fan_out
            dense(network.flat, offset, biases, fan_out, 1, fan_in, fan_out, units, inputs, inputs + fan_in)
            offset, inputs = offset + (fan_in + 1) * fan_out, inputs + fan_in
        for j in range(lanes):
            for i in range(sizes[-1]):
                out[start + j, i] = units[(inputs + i) * BLOCK + j]
    return out
