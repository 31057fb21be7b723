"""An upper bound on log p(x) of a deep model of linear decoders at any K: affine majorants from layer to layer.

Write z_0 for x, a_d = b_d + W_d^T z_(d+1) for the logits of layer d, and D for the highest layer. As in `tangent.py`,
log p(x | z_1) is at most affine in z_1, with slopes lambda of the logits s a_0. Given z_2 the bits of z_1 are
independent, and the sum over z_1 of p(z_1 | z_2) e^(g z_1) is the product of 1 + sigmoid(a_k) (e^(g_k) - 1). Its
logarithm has an affine majorant alpha_k a_k + beta_k for all a_k that the bits above can make (`envelope.py`); where a
box fixes the bit, it is g_k z_k + log sigmoid(+-a_k), concave, with a tangent. Either is affine in z_2, and so on:

    log p(x, z in the box) <= log U = sum over i of lambda_i s_i b_i - H(lambda_i)
                                    + sum over layers 1 to D - 1 and k of beta_k + alpha_k b_k
                                    + sum over k of log(1 - pi_k + pi_k e^(g_k)) of layer D, pi its probabilities,
    g = W s lambda for layer 1, W alpha of the layer below for the others.

Every choice of lambda and alpha gives a bound. The best ones are those of the tilted distribution's means q_d: the
majorants of layer d are least at b_d + W_d^T q_(d+1). Damped Newton steps on the points, one system for each layer, all
steps of one length, go there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...types import Bits, Floats
from ..problem import Stack
from .compiling import allocating, inline, kernel, part
from .constants import OCTET
from .elementary import larger, sigmoids
from .envelope import envelope
from .lanes import absolute, load_octet, splat_octet, store, total, vectors, where_less
from .tangent import SHORTEST, entropy, log_mixture, newton_step

CERTAIN = 800.0
"""A logit that leaves nothing open: those of units that only fill an octet, negative."""
ROUNDING = 2.0**-52
"""An interval of logits is this times the terms in its ends wider, on either side."""


class Net(NamedTuple):
    """A stack on a row and a box. All units lie in one array, layer after layer, each in whole octets.

    unit_at: (D + 1,), where a layer begins. weight_at: (D,), where the rows to each layer begin, one for each unit of
    the layer above, as long as the layer in octets, of layer 0 times s. biases: of the units, of layer 0 times s; those
    of layer D are its prior's logits. lowest, highest: the logits of layers 1 to D - 1 in the box. kind: of the units,
    -1 free, 0 or 1 fixed. reach: the magnitudes of a unit's bias and its weights, added up.
    """

    sizes: NDArray[np.int64]
    unit_at: NDArray[np.int64]
    weight_at: NDArray[np.int64]
    weights: Floats
    biases: Floats
    lowest: Floats
    highest: Floats
    kind: Floats
    reach: Floats


class Bound(NamedTuple):
    """What belongs to a point, for the units of all layers.

    slopes: lambda s and alpha. tilts: g. bends: how curved the majorants are. means: q. above: how far a majorant lies
    above what it bounds.
    """

    slopes: Floats
    tilts: Floats
    bends: Floats
    means: Floats
    above: Floats


@inline
def octets(size: int) -> int:
    """`size` rounded up to whole octets."""
    return (size + OCTET - 1) // OCTET * OCTET


@allocating
def bound_of(units: int) -> Bound:
    """Room for one."""
    return Bound(vectors(units), vectors(units), vectors(units), vectors(units), vectors(units))


@part
def majorise(net: Net, top: Floats, z: Floats, bound: Bound) -> float:
    """log U of the majorants that are least at the points z; fills in what belongs to them."""
    layers = len(net.sizes) - 1
    value = 0.0
    for d in range(layers):
        start, width, above, fan_in = net.unit_at[d], octets(net.sizes[d]), net.unit_at[d + 1], net.sizes[d + 1]
        part_value = splat_octet(0.0)
        for i in range(0, width, OCTET):
            at = start + i
            b = load_octet(net.biases, at)
            a = b
            for k in range(fan_in):
                a = a + z[above + k] * load_octet(net.weights, net.weight_at[d] + k * width + i)
            kind, g = load_octet(net.kind, at), load_octet(bound.tilts, at)
            sign = where_less(kind, 0.5, -1.0, 1.0)
            on, off = sigmoids(sign * a)
            slope, offset, bend = off * sign, -entropy(off), on * off
            offset = offset + where_less(kind, 0.5, 0.0, g)
            mean, higher = where_less(kind, 0.5, 0.0, splat_octet(1.0)), splat_octet(0.0)
            if d > 0:
                free = envelope(a, g, load_octet(net.lowest, at), load_octet(net.highest, at))
                slope, offset = where_less(kind, 0.0, free[0], slope), where_less(kind, 0.0, free[1], offset)
                bend, mean = where_less(kind, 0.0, free[2], bend), where_less(kind, 0.0, free[3], mean)
                higher = where_less(kind, 0.0, free[4], higher)
            store(bound.slopes, at, slope)
            store(bound.bends, at, bend)
            store(bound.means, at, mean)
            store(bound.above, at, higher)
            part_value = part_value + (offset + slope * b)
        value += total(part_value)
        for k in range(fan_in):
            tilt = splat_octet(0.0)
            for i in range(0, width, OCTET):
                w = load_octet(net.weights, net.weight_at[d] + k * width + i)
                tilt = tilt + load_octet(bound.slopes, start + i) * w
            bound.tilts[above + k] = total(tilt)
    at = net.unit_at[layers]
    for k in range(net.sizes[layers]):
        kind, g = net.kind[at + k], bound.tilts[at + k]
        off = top[0, k] if kind != 1.0 else -np.inf
        on = top[1, k] if kind != 0.0 else -np.inf
        value += log_mixture(off, on, g)
        bound.means[at + k] = kind if kind >= 0.0 else sigmoids((on - off) + g)[0]
    return value


@part
def magnitudes(net: Net, top: Floats, bound: Bound) -> float:
    """What is added up in log U, in magnitude: see `inference/layered_ground.py`."""
    layers = len(net.sizes) - 1
    size = splat_octet(0.0)
    for d in range(layers):
        for i in range(0, octets(net.sizes[d]), OCTET):
            at = net.unit_at[d] + i
            size = size + (absolute(load_octet(bound.slopes, at)) * load_octet(net.reach, at) + 3.0)
            free = where_less(load_octet(net.kind, at), 0.0, 1.0, splat_octet(0.0))
            ends = absolute(load_octet(net.lowest, at)) + absolute(load_octet(net.highest, at))
            size = size + (free * (2.0 * ends) + 3.0 * absolute(load_octet(bound.tilts, at)))
    result = total(size)
    for k in range(net.sizes[layers]):
        result += 2.0 * abs(bound.tilts[net.unit_at[layers] + k]) + 1.0
        result += abs(top[0, k]) if top[0, k] > -np.inf else 0.0
        result += abs(top[1, k]) if top[1, k] > -np.inf else 0.0
    return result


@part
def place(stack: Stack, x: Bits, fixed: NDArray[np.int8], net: Net) -> None:
    """Lay the row and the box out in the net, whose arrays are zeros where nothing is."""
    layers = len(net.sizes) - 1
    taken, bit = 0, 0
    for d in range(layers + 1):
        start, width, size = net.unit_at[d], octets(net.sizes[d]), net.sizes[d]
        for k in range(size if d > 0 else 0):
            net.kind[start + k] = fixed[bit]
            bit += 1
        for i in range(width):
            net.kind[start + i] = (1.0 if d == 0 else net.kind[start + i]) if i < size else 0.0
            net.biases[start + i] = 0.0 if i < size else -CERTAIN
        if d == layers:
            break
        for k in range(net.sizes[d + 1]):
            for i in range(size):
                sign = (1.0 if x[i] else -1.0) if d == 0 else 1.0
                net.weights[net.weight_at[d] + k * width + i] = sign * stack.flat[taken + k * size + i]
        taken += net.sizes[d + 1] * size
        for i in range(size):
            sign = (1.0 if x[i] else -1.0) if d == 0 else 1.0
            net.biases[start + i] = sign * stack.flat[taken + i]
        taken += size
    bit = net.sizes[1]
    for d in range(layers):
        start, width, above = net.unit_at[d], octets(net.sizes[d]), net.sizes[d + 1]
        for i in range(net.sizes[d]):
            low, high, reach = net.biases[start + i], net.biases[start + i], abs(net.biases[start + i])
            for k in range(above):
                w = net.weights[net.weight_at[d] + k * width + i]
                state = -1 if d == 0 else fixed[bit + k]
                low += w if state == 1 or (state < 0 and w < 0.0) else 0.0
                high += w if state == 1 or (state < 0 and w > 0.0) else 0.0
                reach += abs(w)
            slack = ROUNDING * (above + 2) * reach
            net.lowest[start + i], net.highest[start + i], net.reach[start + i] = low - slack, high + slack, reach
        bit += above if d > 0 else 0


@kernel
def majorant(
    stack: Stack, first: int, count: int, x: Bits, rows: NDArray[np.int64], fixed: NDArray[np.int8], points: Floats,
    steps: int, tolerance: float,
) -> tuple[Floats, Floats, Floats, Floats, Floats]:  # fmt: skip
    """For boxes first to first + count - 1: log U, the magnitudes in its sums, (count,), and three of (count, K).

    K counts the bits of all layers, from x upwards. Those three are the tilts g, of fixed bits +-inf; the points; and
    what a bit's halves might gain, twice: the curvature that it causes times its variance, and its majorant's excess.
    Arguments as in `tangent.py`, fixed and points over all K bits.
    """
    layers = len(stack.sizes) - 1
    latents = 0
    unit_at, weight_at = np.zeros(layers + 1, np.int64), np.zeros(layers, np.int64)
    units, weights, largest, widest = 0, 0, 0, 0
    for d in range(layers + 1):
        unit_at[d] = units
        units += octets(stack.sizes[d])
        widest = max(widest, octets(stack.sizes[d]))
        if d > 0:
            latents += stack.sizes[d]
            largest = max(largest, octets(stack.sizes[d]))
        if d < layers:
            weight_at[d] = weights
            weights += octets(stack.sizes[d + 1]) * octets(stack.sizes[d])
    net = Net(
        stack.sizes, unit_at, weight_at, vectors(weights), vectors(units), vectors(units), vectors(units),
        vectors(units), vectors(units),
    )  # fmt: skip
    here, next_one = bound_of(units), bound_of(units)
    z, there, change, variances = vectors(units), vectors(units), vectors(units), vectors(units)
    matrix, row, roots, moved = vectors(largest * largest), vectors(widest), vectors(largest), vectors(largest)
    bounds, sizes = np.empty(count), np.empty(count)
    tilts, found, gains = np.empty((count, latents)), np.empty((count, latents)), np.zeros((count, latents))
    for n in range(count):
        place(stack, x[rows[first + n]], fixed[first + n], net)
        bit = 0
        for d in range(1, layers + 1):
            for k in range(stack.sizes[d]):
                z[unit_at[d] + k] = points[first + n, bit]
                bit += 1
        value = majorise(net, stack.top, z, here)
        step, gain = 0, np.inf
        while step < steps and gain >= tolerance:
            for d in range(1, layers + 1):
                start, size = unit_at[d], stack.sizes[d]
                for k in range(size):
                    mean = here.means[start + k]
                    variances[start + k] = mean * (1.0 - mean) if net.kind[start + k] < 0.0 else 0.0
                    change[start + k] = mean - z[start + k]
                below, width = unit_at[d - 1], octets(stack.sizes[d - 1])
                newton_step(
                    net.weights[weight_at[d - 1] : weight_at[d - 1] + octets(size) * width],
                    here.bends[below : below + width], variances[start : start + size], change[start : start + size],
                    matrix, row, roots, moved,
                )  # fmt: skip
            length, new = 1.0, np.inf
            while length >= SHORTEST:
                for at in range(unit_at[1], units):
                    there[at] = z[at] + length * change[at]
                new = majorise(net, stack.top, there, next_one)
                if new <= value:
                    break
                length *= 0.25
            if not new <= value:
                break
            gain, value, step = value - new, new, step + 1
            z, there, here, next_one = there, z, next_one, here
        bounds[n], sizes[n] = value, magnitudes(net, stack.top, here)
        bit = 0
        for d in range(1, layers + 1):
            below, width, start = unit_at[d - 1], octets(stack.sizes[d - 1]), unit_at[d]
            for k in range(stack.sizes[d]):
                kind = net.kind[start + k]
                tilts[n, bit] = here.tilts[start + k] if kind < 0.0 else (np.inf if kind == 1.0 else -np.inf)
                found[n, bit] = z[start + k]
                if kind < 0.0:
                    bend = splat_octet(0.0)
                    for i in range(0, width, OCTET):
                        at = below + i
                        w = load_octet(net.weights, weight_at[d - 1] + k * width + i)
                        spread = larger(load_octet(net.highest, at) - load_octet(net.lowest, at), 1e-9)
                        bend = bend + load_octet(here.bends, at) * (w * w)
                        bend = bend + load_octet(here.above, at) * (2.0 * absolute(w) / spread)
                    mean = here.means[start + k]
                    gains[n, bit] = mean * (1.0 - mean) * total(bend) + 2.0 * here.above[start + k]
                bit += 1
    return bounds, sizes, tilts, found, gains
