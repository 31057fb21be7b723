"""The kernels' own exp, log1p, log, sigmoid and tanh hold the error bounds that their docstring states."""

import mpmath as mp
import numba
import numpy as np

from refvlm.enumeration.kernels import double_double, elementary, lanes

U = 2.0**-53


def vectorised(function):
    """The function over an array, block by block as kernels use it; one by one, and by octets, it has the same bits."""

    @numba.njit(error_model="numpy")
    def by_blocks(values, out):
        for i in range(0, len(values), lanes.BLOCK):
            lanes.store(out, i, function(lanes.load_block(values, i)))

    @numba.njit(error_model="numpy")
    def by_octets(values, out):
        for i in range(0, len(values), lanes.OCTET):
            lanes.store(out, i, function(lanes.load_octet(values, i)))

    @numba.njit(error_model="numpy")
    def one_by_one(values, out):
        for i in range(len(values)):
            out[i] = function(values[i])

    def evaluate(values):
        padded = np.concatenate([values, np.resize(values, -len(values) % lanes.BLOCK)])
        results = [np.empty_like(padded) for _ in range(3)]
        for loop, out in zip((by_blocks, by_octets, one_by_one), results, strict=True):
            loop(padded, out)
        assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()
        return results[0][: len(values)]

    return evaluate


def units(got, values, exact, *, relative):
    """The largest error in units of 2**-53, relative to the exact value or absolute."""
    worst = 0.0
    with mp.workdps(50):
        for g, v in zip(got, values, strict=True):
            e = exact(mp.mpf(float(v)))
            error = abs(mp.mpf(float(g)) - e) / (abs(e) if relative else 1)
            worst = max(worst, float(error / U))
    return worst


def spread(low, high, rng, count=4000):
    """Uniform, and dense towards both ends."""
    reach = high - low
    ends = reach * 2.0 ** rng.uniform(-50, -1, count // 2)
    return np.concatenate([rng.uniform(low, high, count), low + ends, high - ends, [low, high]])


def test_exp_is_within_two_units():
    rng = np.random.default_rng(0)
    values = np.concatenate([spread(-708.0, 0.0, rng), spread(-1.0, 0.0, rng), spread(0.0, 2.0, rng)])
    assert units(vectorised(elementary.exp)(values), values, mp.exp, relative=True) <= 2.0


def test_exp_vanishes_far_below_and_is_one_at_zero():
    values = np.array([-np.inf, -1e300, -709.0, 0.0, -0.0])
    assert vectorised(elementary.exp)(values).tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]


def test_log1p_is_within_three_units():
    rng = np.random.default_rng(1)
    values = np.concatenate([spread(0.0, 1.0, rng), 2.0 ** rng.uniform(-1000, 0, 2000)])
    values = values[values > 0]
    assert units(vectorised(elementary.log1p)(values), values, mp.log1p, relative=True) <= 3.0
    assert vectorised(elementary.log1p)(np.zeros(1))[0] == 0.0


def test_log_is_within_two_units_of_its_size():
    rng = np.random.default_rng(2)
    values = np.concatenate([spread(0.5, 2.0, rng), 2.0 ** rng.uniform(-1000, 1000, 4000)])

    @numba.njit(error_model="numpy")
    def loop(values, power):
        out = np.empty_like(values)
        for i in range(len(values)):
            out[i] = elementary.log(values[i], power)
        return out

    for power in (0.0, -1.0, 35.0, -1e6):
        got = loop(values, power)
        with mp.workdps(50):
            for g, v in zip(got, values, strict=True):
                exact = mp.log(mp.mpf(float(v))) + mp.mpf(power) * mp.log(2)
                assert abs(mp.mpf(float(g)) - exact) <= 2 * U * max(1, abs(exact))


def test_sigmoid_is_within_five_units_on_both_sides():
    rng = np.random.default_rng(3)
    values = np.concatenate([spread(-700.0, 700.0, rng), spread(-2.0, 2.0, rng)])
    got = vectorised(elementary.sigmoid)(values)
    assert units(got, values, lambda a: 1 / (1 + mp.exp(-a)), relative=True) <= 5.0


def test_tanh_is_within_four_units_absolutely_and_odd():
    rng = np.random.default_rng(4)
    values = np.concatenate([spread(-20.0, 20.0, rng), spread(-1.0, 1.0, rng), [0.0, 1e3, -1e3, 1e300]])
    tanh = vectorised(elementary.tanh)
    assert units(tanh(values), values, mp.tanh, relative=False) <= 4.0
    assert (tanh(-values) == -tanh(values)).all()
    assert (np.abs(tanh(values)) <= 1).all()


def test_power_of_two_and_scaled_exp_are_exact_in_the_power():
    power = vectorised(elementary.power_of_two)
    exponents = np.array([-1022.0, -3.0, 0.0, 10.0, 1023.0])
    assert (power(exponents) == 2.0**exponents).all()
    assert power(np.array([-1023.0, -1e300, -np.inf])).tolist() == [0.0, 0.0, 0.0]

    @numba.njit(error_model="numpy")
    def scaled(values, n):
        out = np.empty_like(values)
        for i in range(len(values)):
            out[i] = elementary.exp_scaled(values[i], n)
        return out

    rng = np.random.default_rng(5)
    for n in (-7.0, -100003.0, 12.0):
        values = n * np.log(2) - rng.uniform(0, 40, 500)
        with mp.workdps(50):
            for g, v in zip(scaled(values, n), values, strict=True):
                reduced = mp.mpf(float(v)) - mp.mpf(n) * mp.log(2)
                bound = 2 * U * (1 + abs(reduced)) + abs(mp.mpf(n)) * mp.mpf(2) ** -106
                assert abs(mp.mpf(float(g)) / mp.exp(reduced) - 1) <= bound


def test_fused_multiply_add_rounds_once():
    @numba.njit
    def fused(a, b, c):
        return elementary.fma(a, b, c)

    a = 1.0 + 2.0**-30
    assert fused(a, a, -(1.0 + 2.0**-29)) == 2.0**-60


def test_double_double_exp_and_log1p_are_good_to_ninety_bits():
    @numba.njit(error_model="numpy")
    def exp(values, rests):
        out = np.empty((2, len(values)))
        for i in range(len(values)):
            out[0, i], out[1, i] = double_double.exp(values[i], rests[i])
        return out

    rng = np.random.default_rng(6)
    values = np.concatenate([spread(-700.0, 0.0, rng, 800), spread(-1.0, 0.0, rng, 800)])
    rests = values * rng.uniform(-1, 1, len(values)) * 2.0**-54

    @numba.njit(error_model="numpy")
    def log1p(values, rests):
        out = np.empty((2, len(values)))
        for i in range(len(values)):
            out[0, i], out[1, i] = double_double.log1p(values[i], rests[i])
        return out

    def largest(got, function, points, small, *, relative):
        worst = 0.0
        for value, rest, v, r in zip(*got, points, small, strict=True):
            exact = function(mp.mpf(float(v)) + mp.mpf(float(r)))
            error = abs(mp.mpf(float(value)) + mp.mpf(float(rest)) - exact) / (exact if relative else 1)
            worst = max(worst, float(error))
        return worst

    with mp.workdps(60):
        near = values > -600  # the rest of a smaller result would be subnormal
        got = exp(values[near], rests[near])
        assert largest(got, mp.exp, values[near], rests[near], relative=True) <= 2.0**-90
        y = np.concatenate([-values / 700, 2.0 ** values[values > -60]]).clip(0, 1)
        small = y * rng.uniform(-1, 1, len(y)) * 2.0**-54
        assert largest(log1p(y, small), mp.log1p, y, small, relative=False) <= 2.0**-89
