"""The table of activations: each record against 60 digits, its constants, and the kernels that know its code."""

import math

import mpmath as mp
import numba
import numpy as np
import pytest
from digits import EXACT
from oracle import ACTIVATIONS as ORACLE

from refvlm.activations import ACTIVATIONS, LEAK
from refvlm.enumeration.kernels import activations as kernel
from refvlm.enumeration.kernels import constants, lanes

U = 2.0**-53
every = pytest.mark.parametrize("name", ACTIVATIONS)


@numba.njit(error_model="numpy")
def values(a, code):
    units, arguments = a.copy(), np.empty_like(a)
    kernel.activate(units, arguments, 0, len(a) // lanes.BLOCK, code)
    return units, arguments


@numba.njit(error_model="numpy")
def slopes(a, h, code):
    out = np.ones_like(a)
    arguments = a if kernel.keeps_arguments(code) else np.empty(0)
    kernel.backpropagate(h, arguments, out, 0, len(a) // lanes.BLOCK, code)
    return out


@numba.njit(error_model="numpy")
def from_exponentials(a, code):
    """Of one unit, whose lanes have exp(c a), while its row of the page, block 3, has exp(0) = 1."""
    out, low = np.empty_like(a), np.empty_like(a)
    for i in range(len(a)):
        low[i] = math.exp(kernel.exponent_factor(code) * a[i])
    rows = np.zeros(constants.ROWS)
    rows[3] = 1.0
    kernel.from_exponentials(out, low, rows, 3, constants.ROWS, 1, code)
    return out


@numba.njit
def exponent_factor(code):
    return kernel.exponent_factor(code)


@numba.njit(error_model="numpy")
def precise(a, rest, code):
    out = np.empty((2, len(a)))
    for i in range(0, len(a), lanes.BLOCK):
        v, v_rest = kernel.precise_value(lanes.load_block(a, i), lanes.load_block(rest, i), code)
        lanes.store(out[0], i, v)
        lanes.store(out[1], i, v_rest)
    return out


def arguments():
    """Both signs, dense towards 0, to where exp has left float64; no kink but at 0; a multiple of a block."""
    rng = np.random.default_rng(0)
    sizes = np.concatenate([2.0 ** rng.uniform(-40, 10, 600), rng.uniform(0, 3, 200), rng.uniform(0, 40, 159)])
    return np.concatenate([sizes, -sizes, [0.0, -0.0]])


@every
def test_kernels_values_are_within_the_error_that_the_record_states(name):
    f, a = ACTIVATIONS[name], arguments()
    computed, kept = values(a, f.code)
    assert kept.tobytes() == a.tobytes()
    absolute, relative = f.rounding
    with mp.workdps(60):
        for v, h in zip(a, computed, strict=True):
            error = abs(mp.mpf(float(h)) - EXACT[name](mp.mpf(float(v))))
            assert error <= (absolute + relative * abs(v)) * U, (v, h)


@every
def test_values_in_double_double_are_within_the_error_that_the_record_states(name):
    f, a = ACTIVATIONS[name], arguments()
    a = a[np.abs(a) < 600]  # the rest of a smaller exponential would be subnormal
    a = a[: len(a) // lanes.BLOCK * lanes.BLOCK]
    rest = a * np.random.default_rng(1).uniform(-1, 1, len(a)) * 2.0**-54
    absolute, relative = f.precise_rounding
    with mp.workdps(60):
        for v, r, h, t in zip(a, rest, *precise(a, rest, f.code), strict=True):
            exact = EXACT[name](mp.mpf(float(v)) + mp.mpf(float(r)))
            assert abs(mp.mpf(float(h)) + mp.mpf(float(t)) - exact) <= absolute + relative * abs(v), (v, r)


@every
def test_slopes_in_kernels_and_in_numpy_are_the_derivative(name):
    f, a = ACTIVATIONS[name], arguments()
    a = a[np.abs(a) > 1e-9]
    a = a[: len(a) // lanes.BLOCK * lanes.BLOCK]
    with mp.workdps(60):
        exact = np.array([float(mp.diff(EXACT[name], mp.mpf(float(v)), h=mp.mpf(10) ** -25)) for v in a])
    scale = np.maximum(1.0, np.abs(a) if name == "silu" else 1.0)  # silu' = s (1 + a (1 - s))
    assert (np.abs(slopes(a, values(a, f.code)[0], f.code) - exact) <= 16 * U * scale).all()
    assert (np.abs(f.slope(a, f.value(a)) - exact) <= 16 * U * scale).all()


@every
def test_the_constants_that_proofs_rest_on_hold(name):
    f, a = ACTIVATIONS[name], np.concatenate([arguments(), np.linspace(-8, 8, 160_001), [-1e9, 1e9]])
    h = f.value(a)
    slope = f.slope(a, h)
    assert (f.range[0] <= h).all()
    assert (h <= f.range[1]).all()
    assert (np.abs(h) <= np.abs(a) + f.growth).all()
    assert (np.abs(h) <= f.magnitude(np.abs(a))).all()
    assert np.abs(slope).max() <= f.lipschitz
    assert np.abs(a * slope).max() <= f.steepness
    # and none is so loose that it says nothing
    assert np.abs(slope).max() > 0.9999 * f.lipschitz
    if math.isfinite(f.steepness):
        assert np.abs(a * slope).max() > 0.99 * f.steepness
    for limit, reached in zip(f.range, (h.min(), h.max()), strict=True):
        assert abs(limit - reached) < 1e-5 or (math.isinf(limit) and abs(reached) > 1)


@every
def test_numpys_value_and_slope_keep_single_precision(name):
    f, a = ACTIVATIONS[name], np.linspace(-3, 3, 7, dtype=np.float32)
    h = f.value(a)
    assert h.dtype == f.slope(a, h).dtype == np.float32
    assert np.abs(h - f.value(a.astype(np.float64))).max() < 1e-6


@every
def test_the_oracle_knows_it_too(name):
    f = ACTIVATIONS[name]
    for a in (-3.5, -0.25, 0.0, 0.5, 4.0):
        assert f.value(np.array([a]))[0] == pytest.approx(ORACLE[name](a), rel=1e-14, abs=1e-15)


def test_the_slope_at_a_kink_is_the_one_from_the_left():
    zero = np.zeros(lanes.BLOCK)
    for name, expected in {"relu": 0.0, "leaky_relu": LEAK, "elu": 1.0}.items():
        f = ACTIVATIONS[name]
        assert (f.slope(zero, zero) == expected).all()
        assert (slopes(zero, zero, f.code) == expected).all()


def test_codes_are_one_each_and_an_unknown_one_is_refused_everywhere():
    codes = [f.code for f in ACTIVATIONS.values()]
    assert sorted(codes) == list(range(len(codes)))
    one = np.ones(lanes.BLOCK)
    for unknown in (len(codes), -1):
        for function in (
            lambda code: values(one, code),
            lambda code: slopes(one, one, code),
            lambda code: from_exponentials(one, code),
            lambda code: precise(one, one, code),
        ):
            with pytest.raises(ValueError, match="code that kernels do not know"):
                function(unknown)


def test_rational_functions_of_an_exponential_equal_the_activation():
    a = np.linspace(-4, 4, lanes.BLOCK)
    for name, f in ACTIVATIONS.items():
        factor = {"tanh": 2.0, "sigmoid": -1.0}.get(name, 0.0)
        assert exponent_factor(f.code) == factor
        if factor:
            assert np.abs(from_exponentials(a, f.code) - f.value(a)).max() < 4 * U
        else:
            with pytest.raises(ValueError, match="code that kernels do not know"):
                from_exponentials(a, f.code)
