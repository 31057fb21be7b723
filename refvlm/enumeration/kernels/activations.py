"""The activations on vectors of lanes, by the codes of `refvlm/activations.py`: the only branches over them in kernels.

Errors of `value`, with u = 2**-53, from those of `elementary.py`; |a| and |f| are those of the argument and the value:

    tanh         4 u, and 6 u by `from_exponentials` (`network.py` says why)
    relu         exact
    sigmoid      5 u, and 4 u by `from_exponentials`
    leaky_relu   one product: LEAK u |a|
    elu          2 u of exp and 1 u of the difference where a <= 0, exact elsewhere: 3 u
    softplus     log1p of an exp, (2 + 3) u times at most log 2, and the sum: (3.5 + 0.7) u + u |a|
    silu         5 u of sigmoid and 1 u of the product, relatively: 6 u |a|

`precise_value` computes in double-double, where everything rests on an exp that is good to 2**-90. The record of each
activation states the larger error of the two ways, and tests/test_activations.py holds all of them against 60 digits.
"""

from __future__ import annotations

from ...activations import ACTIVATIONS, LEAK
from ...types import Floats
from .compiling import inline, part
from .constants import BLOCK
from .double_double import add, choose, divide, multiply
from .double_double import exp as precise_exp
from .double_double import log1p as precise_log1p
from .elementary import Number, exp, larger, log1p, sigmoids
from .lanes import TILE, absolute, fma, load_one, load_tile, store, where_less

TANH, RELU, SIGMOID = (ACTIVATIONS[name].code for name in ("tanh", "relu", "sigmoid"))
LEAKY_RELU, ELU, SOFTPLUS, SILU = (ACTIVATIONS[name].code for name in ("leaky_relu", "elu", "softplus", "silu"))
UNKNOWN = "activation: got a code that kernels do not know"


@inline
def value(a: Number, activation: int) -> Number:
    """f(a), with one exp for all that need one: a copy for each would be compiled into every kernel."""
    if activation == RELU:
        return larger(a, 0.0)
    if activation == LEAKY_RELU:
        return where_less(0.0, a, a, LEAK * a)
    e = exp((-2.0 if activation == TANH else -1.0) * absolute(a))
    if activation == TANH:
        t = (1.0 - e) / (1.0 + e)
        return where_less(a, 0.0, -t, t)
    if activation == ELU:
        return where_less(0.0, a, a, e - 1.0)
    if activation == SOFTPLUS:
        return larger(a, 0.0) + log1p(e)
    likely = 1.0 / (1.0 + e)
    s = where_less(a, 0.0, e * likely, likely)
    if activation == SIGMOID:
        return s
    if activation == SILU:
        return a * s
    raise ValueError(UNKNOWN)


@inline
def times_slope(d: Number, a: Number, h: Number, activation: int) -> Number:
    """d f'(a), from h = f(a), or from a where `keeps_arguments` says so."""
    if activation == TANH:
        return d * ((1.0 - h) * (1.0 + h))
    if activation == RELU:
        return where_less(0.0, h, d, 0.0)
    if activation == SIGMOID:
        return d * (h * (1.0 - h))
    if activation == LEAKY_RELU:
        return where_less(0.0, h, d, LEAK * d)
    if activation == ELU:
        return d * where_less(0.0, h, 1.0, h + 1.0)
    on, off = sigmoids(a)
    if activation == SOFTPLUS:
        return d * on
    if activation == SILU:
        return d * (on * fma(a, off, 1.0))
    raise ValueError(UNKNOWN)


@inline
def keeps_arguments(activation: int) -> bool:
    """Whether f'(a) is computed from a, so that a has to be kept beside f(a)."""
    return activation in (SOFTPLUS, SILU)


@inline
def exponent_factor(activation: int) -> float:
    """c where f(a) is a rational function of E = exp(c a), so that E may come from tables; else 0."""
    return 2.0 if activation == TANH else -1.0 if activation == SIGMOID else 0.0


@inline
def from_exponentials(
    units: Floats, low: Floats, rows: Floats, block: int, blocks: int, width: int, activation: int
) -> None:
    """f(a) of `width` units, E = low * row, where low has a unit's lanes and rows its `block` among `blocks`."""
    if activation == TANH:
        for q in range(width):
            row = load_one(rows, q * blocks + block)
            for at in range(q * BLOCK, (q + 1) * BLOCK, TILE):
                store(units, at, 1.0 - 2.0 / fma(load_tile(low, at), row, 1.0))
    elif activation == SIGMOID:
        for q in range(width):
            row = load_one(rows, q * blocks + block)
            for at in range(q * BLOCK, (q + 1) * BLOCK, TILE):
                store(units, at, 1.0 / fma(load_tile(low, at), row, 1.0))
    else:
        raise ValueError(UNKNOWN)


@inline
def precise_value(a: Number, a_rest: Number, activation: int) -> tuple[Number, Number]:
    """f(a + a_rest) in double-double."""
    if activation == RELU:
        return choose(0.0, a, a, a_rest, 0.0, 0.0)
    if activation == LEAKY_RELU:
        p, p_rest = multiply(a, a_rest, LEAK, 0.0)
        return choose(0.0, a, a, a_rest, p, p_rest)
    factor = -2.0 if activation == TANH else -1.0
    size, size_rest = choose(a, 0.0, -a, -a_rest, a, a_rest)
    e, e_rest = precise_exp(factor * size, factor * size_rest)
    if activation == ELU:
        p, p_rest = add(e, e_rest, -1.0, 0.0)
        return choose(0.0, a, a, a_rest, p, p_rest)
    if activation == SOFTPLUS:
        p, p_rest = choose(0.0, a, a, a_rest, 0.0, 0.0)
        log, log_rest = precise_log1p(e, e_rest)
        return add(p, p_rest, log, log_rest)
    below, below_rest = add(e, e_rest, 1.0, 0.0)
    if activation == TANH:
        above, above_rest = add(-e, -e_rest, 1.0, 0.0)
        t, t_rest = divide(above, above_rest, below, below_rest)
        return choose(a, 0.0, -t, -t_rest, t, t_rest)
    above, above_rest = choose(a, 0.0, e, e_rest, 1.0, 0.0)
    s, s_rest = divide(above, above_rest, below, below_rest)
    if activation == SIGMOID:
        return s, s_rest
    if activation == SILU:
        return multiply(a, a_rest, s, s_rest)
    raise ValueError(UNKNOWN)


@part
def activate(units: Floats, arguments: Floats, start: int, count: int, activation: int) -> None:
    """Put f(a) in place of a, for `count` units from `start`; a itself into arguments, if there is room for it."""
    for i in range(start * BLOCK, (start + count) * BLOCK, TILE):
        a = load_tile(units, i)
        if len(arguments) > 0:
            store(arguments, i, a)
        store(units, i, value(a, activation))


@part
def backpropagate(units: Floats, arguments: Floats, slopes: Floats, start: int, count: int, activation: int) -> None:
    """Multiply the derivatives by f(a) of `count` units by f'(a): derivatives by a."""
    for i in range(start * BLOCK, (start + count) * BLOCK, TILE):
        a = load_tile(arguments if len(arguments) > 0 else units, i)
        store(slopes, i, times_slope(load_tile(slopes, i), a, load_tile(units, i), activation))
