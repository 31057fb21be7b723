"""The encoder phi(x) of eq. (4) and its gradient: the network, with data rows instead of codes along the lanes.

Forwards, rows pass through elementwise operations only, so a row's logits have the same bits in any batch. The
errors of the layers are those of `network.py`, the first one dense too. Twin: `model/mlp.MLP.forward` and its pullback.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder
from .activations import activate, backpropagate, keeps_arguments
from .backward import dense_gradient
from .compiling import inline, kernel
from .constants import BLOCK, OCTET
from .lanes import load_octet, total, vectors
from .network import dense, units_from


@inline
def forward(network: Decoder, x: Bits, start: int, units: Floats, arguments: Floats) -> None:
    """Units of every layer, the bits first and the logits last, for up to 32 rows from `start`."""
    sizes = network.sizes
    for j in range(BLOCK):
        for i in range(sizes[0]):
            units[i * BLOCK + j] = x[start + j, i] if start + j < len(x) else 0.0
    offset, inputs = 0, 0
    for layer in range(len(sizes) - 1):
        fan_in, fan_out = sizes[layer], sizes[layer + 1]
        if layer > 0:
            activate(units, arguments, inputs, fan_in, network.activation)
        biases = offset + fan_in * fan_out
        dense(network.flat, offset, biases, fan_out, 1, fan_in, fan_out, units, inputs, inputs + fan_in)
        offset, inputs = offset + (fan_in + 1) * fan_out, inputs + fan_in


@kernel
def encode(network: Decoder, x: Bits) -> Floats:
    """The network's outputs for rows of bits x (N, fan_in): (N, fan_out)."""
    rows, fan_out, total_units = len(x), network.sizes[-1], units_from(network.sizes, 0)
    out, logits = np.empty((rows, fan_out)), total_units - fan_out
    units, nothing = vectors(total_units * BLOCK), vectors(0)
    for start in range(0, rows, BLOCK):
        forward(network, x, start, units, nothing)
        for j in range(min(BLOCK, rows - start)):
            for i in range(fan_out):
                out[start + j, i] = units[(logits + i) * BLOCK + j]
    return out


@kernel
def encoder_gradient(network: Decoder, x: Bits, slopes: Floats) -> Floats:
    """The gradient of sum of slopes * outputs, slopes (N, fan_out), as network.flat."""
    sizes, rows, total_units = network.sizes, len(x), units_from(network.sizes, 0)
    units, down = vectors(total_units * BLOCK), vectors(total_units * BLOCK)
    arguments = vectors(len(units) if keeps_arguments(network.activation) else 0)
    strands = vectors(len(network.flat) * OCTET)
    logits = total_units - sizes[-1]
    for start in range(0, rows, BLOCK):
        forward(network, x, start, units, arguments)
        for j in range(BLOCK):
            for i in range(sizes[-1]):
                down[(logits + i) * BLOCK + j] = slopes[start + j, i] if start + j < rows else 0.0
        offset, outputs = len(network.flat), logits
        for layer in range(len(sizes) - 2, -1, -1):
            fan_in, fan_out = sizes[layer], sizes[layer + 1]
            offset, inputs = offset - (fan_in + 1) * fan_out, outputs - fan_in
            dense_gradient(units, down, inputs, outputs, fan_in, fan_out, offset * OCTET, strands)
            if layer > 0:
                dense(network.flat, offset, -1, 1, fan_out, fan_out, fan_in, down, outputs, inputs)
                backpropagate(units, arguments, down, inputs, fan_in, network.activation)
            outputs = inputs
    flat = np.empty(len(network.flat))
    for i in range(len(flat)):
        flat[i] = total(load_octet(strands, i * OCTET))
    return flat
