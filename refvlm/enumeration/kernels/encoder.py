"""The encoder phi(x) of eq. (4): the same network, with data rows instead of codes along the lanes.

Rows pass through elementwise operations only, so a row's logits have the same bits in any batch.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..problem import Decoder
from .compiling import kernel
from .network import activate, dense

__all__ = ["encode"]

ROWS_ABREAST = 64


@kernel
def encode(network: Decoder, x: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The network's outputs for rows of bits x (N, fan_in): (N, fan_out)."""
    sizes = network.sizes
    rows, widest = len(x), sizes.max()
    out = np.empty((rows, sizes[-1]))
    inputs, outputs = np.empty((widest, ROWS_ABREAST)), np.empty((widest, ROWS_ABREAST))
    run = np.empty(ROWS_ABREAST)
    for start in range(0, rows, ROWS_ABREAST):
        lanes = min(ROWS_ABREAST, rows - start)
        for j in range(lanes):
            for i in range(sizes[0]):
                inputs[i, j] = x[start + j, i]
        offset = 0
        for layer in range(len(sizes) - 1):
            fan_in, fan_out = sizes[layer], sizes[layer + 1]
            if layer > 0:
                activate(inputs[:fan_in], network.activation, lanes)
            weights = network.flat[offset : offset + fan_in * fan_out].reshape(fan_in, fan_out)
            biases = network.flat[offset + fan_in * fan_out : offset + (fan_in + 1) * fan_out]
            dense(weights, biases, inputs[:fan_in], outputs[:fan_out], run, lanes)
            inputs, outputs = outputs, inputs
            offset += (fan_in + 1) * fan_out
        for j in range(lanes):
            for i in range(sizes[-1]):
                out[start + j, i] = inputs[i, j]
    return out
