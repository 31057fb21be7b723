"""Sums over z of functions of the weight w(z) = p(x_n, z) / q(z | x_n), whose mean under q is p(x_n).

    tilted     sum of q w^s: kappa(s) = log E_q w^s, and from sums with log w as a factor its first two derivatives
    absence    sum of q (1 - exp(-t w)) = 1 - phi(t), phi(t) = E_q exp(-t w)

Both have terms of one sign (the second derivative's around a centre), so a sum keeps its relative precision: K + 6
roundings and one exp for each term, gamma of its depth. Weights live as logarithms, so that nothing overflows; codes
that q excludes have no weight. In `tilted` terms of a page are scaled by a power of two near the largest, exactly.
Errors: `inference/weight_certificate.py`. Twins: `inference/definition.log_mean_power` and `iwae`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...types import Bits, Floats
from ..problem import Above, Decoder, Prior, Recognition
from .compiling import inline, kernel
from .constants import BLOCK, PAGE
from .elementary import LOG2_E, Number, exp, exp_scaled, larger, log, log1p, power_of_two
from .lanes import TILE, fma, load_block, load_tile, nearest, splat_block, splat_tile, store, total, vectors, where_less
from .marginal import NO_POWER
from .network import enter, network
from .observation import high_bits, log_likelihood, log_prior, prior_of, recognise, recognition_of, tabulate, turn_prior

NEVER = -1e300
"""What stands for log 0, so that a product with an exponent of 0 is 0."""
_ALMOST_NEVER = -1e290
LOWEST_WEIGHT, HIGHEST_WEIGHT, LOWEST_JOINT, IMPOSSIBLE, UNCOVERED = range(5)
"""The marks of a row: the largest of -log w, of log w and of -log p(x, z), over codes that both p and q allow; whether
q allows a code that p does not, and p one that q does not, as 0 or 1."""
MARKS = 5


@inline
def largest(lanes: Floats, at: int) -> float:
    """The largest of the block from `at`."""
    most = lanes[at]
    for j in range(at + 1, at + BLOCK):
        most = max(most, lanes[j])
    return most


@inline
def load_above(table: Floats, row: int, code: int, room: Floats) -> Number:
    """A tile of a row of a table over codes, which may be shorter than a block; room: (32,)."""
    for j in range(TILE):
        room[j] = table[row, code + j] if code + j < table.shape[1] else 0.0
    return load_tile(room, 0)


@inline
def mark(
    marks: Floats, at: int, joint: Number, log_q: Number, above: Floats, code: int, room: Floats
) -> None:  # fmt: skip
    """Take a tile into a row's marks, 32 each from `at`; above: (5, 2**K), those of the layers above, or (5, 0)."""
    for kind in range(MARKS):
        value = where_less(NEVER, joint, 0.0, splat_tile(1.0))
        if kind < IMPOSSIBLE:
            ratio = joint - log_q
            value = -ratio if kind == LOWEST_WEIGHT else ratio if kind == HIGHEST_WEIGHT else -joint
        elif kind == UNCOVERED:
            value = splat_tile(0.0)
        if above.shape[1] > 0:
            higher = load_above(above, kind, code, room)
            value = value + higher if kind < IMPOSSIBLE else larger(value, higher)
        outside = -np.inf if kind < IMPOSSIBLE else 0.0
        if kind < IMPOSSIBLE:
            value = where_less(NEVER, joint, value, outside)
        elsewhere = where_less(NEVER, joint, 1.0, splat_tile(0.0)) if kind == UNCOVERED else splat_tile(outside)
        value = where_less(NEVER, log_q, value, elsewhere)
        store(marks, at + kind * BLOCK, larger(load_tile(marks, at + kind * BLOCK), value))


@kernel
def tilted(
    decoder: Decoder, first: int, count: int, prior: Prior, q: Recognition, x: Bits, exponents: Floats,
    centres: Floats, above: Above,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """The part of E_q w^s, and with log w - c and its square as factors, in `count` codes from `first`, T exponents.

    centres: c, (N, T). above: of a chain, what the layers above add for each code, else empty. Returns the power
    (N, T), the three sums over 2**power (N, T, 3), and the marks (N, 5).
    """
    rows, orders = len(x), len(exponents)
    net, log_p, low_q = network(decoder, first, count), prior_of(prior), recognition_of(q)
    log_sigmoid, room = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    highest, orders_of = vectors(BLOCK), vectors(3 * BLOCK)
    width = max(BLOCK, min(count, PAGE))
    joints, recognised = vectors(rows * width), vectors(rows * width)
    power, sums = np.full((rows, orders), NO_POWER), np.zeros((rows, orders, 3))
    marks, lanes = np.empty((rows, MARKS)), vectors(rows * MARKS * BLOCK)
    for n in range(rows):
        for kind in range(IMPOSSIBLE):
            store(lanes, (n * MARKS + kind) * BLOCK, splat_block(-np.inf))
    chained = above.marks.shape[1] > 0
    page = first
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            turn_prior(log_p, code)
            page = code
        tabulate(net, log_sigmoid)
        for n in range(rows):
            high = high_bits(q, n, code)
            for lane in range(0, BLOCK, TILE):
                log_q = larger(recognise(low_q, n, high, lane)[1], NEVER)
                joint = larger(log_likelihood(x, n, log_sigmoid, lane) + log_prior(log_p, code, lane), NEVER)
                mark(lanes, n * MARKS * BLOCK + lane, joint, log_q, above.marks, code + lane, room)
                at = n * width + code + lane - page
                store(joints, at, where_less(NEVER, log_q, joint, NEVER))
                store(recognised, at, log_q)
        if (code + BLOCK) % PAGE > 0 and code + BLOCK < first + count:
            continue
        for n in range(rows):
            for t in range(orders):
                s = exponents[t]
                for lane in range(0, BLOCK, TILE):
                    most = splat_tile(NEVER)
                    for at in range(lane, code + BLOCK - page, BLOCK):
                        joint, log_q = load_tile(joints, n * width + at), load_tile(recognised, n * width + at)
                        v = fma(s, joint, (1.0 - s) * log_q)
                        if chained:
                            v = v + load_above(above.values, 3 * t + 0, page + at, room)
                        most = larger(most, v)
                    store(highest, lane, most)
                top = nearest(largest(highest, 0) * LOG2_E)
                if top < _ALMOST_NEVER:
                    continue
                for lane in range(0, BLOCK, TILE):
                    zeroth, once, twice = splat_tile(0.0), splat_tile(0.0), splat_tile(0.0)
                    for at in range(lane, code + BLOCK - page, BLOCK):
                        joint, log_q = load_tile(joints, n * width + at), load_tile(recognised, n * width + at)
                        v = fma(s, joint, (1.0 - s) * log_q)
                        value, square = (joint - log_q) - centres[n, t], splat_tile(0.0)
                        if chained:
                            v = v + load_above(above.values, 3 * t + 0, page + at, room)
                            value = value + load_above(above.values, 3 * t + 1, page + at, room)
                            square = load_above(above.values, 3 * t + 2, page + at, room)
                        value = where_less(_ALMOST_NEVER, joint, value, 0.0)
                        term = where_less(_ALMOST_NEVER, v, exp_scaled(v, top), 0.0)
                        zeroth, once = zeroth + term, once + term * value
                        twice = twice + term * fma(value, value, square)
                    store(orders_of, lane, zeroth)
                    store(orders_of, BLOCK + lane, once)
                    store(orders_of, 2 * BLOCK + lane, twice)
                new = max(power[n, t], top)
                before, now = power_of_two(power[n, t] - new), power_of_two(top - new)
                power[n, t] = new
                for order in range(3):
                    part = total(load_block(orders_of, order * BLOCK))
                    sums[n, t, order] = sums[n, t, order] * before + part * now
    for n in range(rows):
        for kind in range(MARKS):
            marks[n, kind] = largest(lanes, (n * MARKS + kind) * BLOCK)
    return power, sums, marks


@kernel
def merge_tilted(
    power: Floats, sums: Floats, marks: Floats, other_power: Floats, other_sums: Floats, other_marks: Floats
) -> tuple[Floats, Floats, Floats]:
    """The sum of two such sums."""
    merged_power, merged, merged_marks = np.empty_like(power), np.empty_like(sums), np.empty_like(marks)
    for n in range(len(power)):
        for t in range(power.shape[1]):
            new = max(power[n, t], other_power[n, t])
            before, now = power_of_two(power[n, t] - new), power_of_two(other_power[n, t] - new)
            merged_power[n, t] = new
            for order in range(3):
                merged[n, t, order] = sums[n, t, order] * before + other_sums[n, t, order] * now
        for kind in range(MARKS):
            merged_marks[n, kind] = max(marks[n, kind], other_marks[n, kind])
    return merged_power, merged, merged_marks


@inline
def gone(y: Number) -> Number:
    """1 - exp(-y) for y >= 0, to a relative 7 u: by its series where the difference would cancel."""
    s = fma(-y, 1.6059043836821613e-10, 2.08767569878681e-09)  # 1 / 13!, down to 1 / 2!
    s = fma(-y, s, 2.505210838544172e-08)
    s = fma(-y, s, 2.755731922398589e-07)
    s = fma(-y, s, 2.7557319223985893e-06)
    s = fma(-y, s, 2.48015873015873e-05)
    s = fma(-y, s, 0.0001984126984126984)
    s = fma(-y, s, 0.001388888888888889)
    s = fma(-y, s, 0.008333333333333333)
    s = fma(-y, s, 0.041666666666666664)
    s = fma(-y, s, 0.16666666666666666)
    s = fma(-y, s, 0.5)
    return where_less(y, 0.35, fma(-y * y, s, y), 1.0 - exp(-y))


@kernel
def absence(decoder: Decoder, first: int, count: int, prior: Prior, q: Recognition, x: Bits, log_t: Floats) -> Floats:
    """The part of 1 - phi(t) = E_q[1 - exp(-t w)] in `count` codes from `first`; log_t and result: (N, T)."""
    rows, nodes = log_t.shape
    net, log_p, low_q = network(decoder, first, count), prior_of(prior), recognition_of(q)
    log_sigmoid, terms = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    ratios, probabilities = vectors(BLOCK), vectors(BLOCK)
    sums, page = np.zeros((rows, nodes)), np.zeros((rows, nodes))
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            turn_prior(log_p, code)
            sums += page
            page[:] = 0.0
        tabulate(net, log_sigmoid)
        for n in range(rows):
            high = high_bits(q, n, code)
            for lane in range(0, BLOCK, TILE):
                probability, log_q = recognise(low_q, n, high, lane)
                joint = log_likelihood(x, n, log_sigmoid, lane) + log_prior(log_p, code, lane)
                store(probabilities, lane, probability)
                store(ratios, lane, where_less(-np.inf, log_q, joint - log_q, NEVER))
            for j in range(nodes):
                for lane in range(0, BLOCK, TILE):
                    ratio = load_tile(ratios, lane)
                    y = exp(where_less(ratio, 700.0 - log_t[n, j], ratio + log_t[n, j], 700.0))
                    store(terms, lane, load_tile(probabilities, lane) * gone(y))
                page[n, j] += total(load_block(terms, 0))
    return sums + page


@kernel
def effective_share(log_mean: Floats, log_mean_square: Floats) -> Floats:
    """(E_q w)^2 / E_q w^2 from their logarithms, (N,)."""
    share = np.empty_like(log_mean)
    for n in range(len(share)):
        share[n] = exp(-larger(log_mean_square[n] - 2.0 * log_mean[n], 0.0))
    return share


@inline
def log_of_rest(absent: float) -> float:
    """log phi from 1 - phi < 1, whichever way it does not cancel."""
    phi = 1.0 - absent
    return -log1p(absent / phi) if phi >= 0.5 else log(phi, 0.0)


@kernel
def gap(
    absent: Floats, log_s: Floats, relative: Floats, starts: NDArray[np.int64], least_log_weight: Floats,
    samples: float, step: float, left_out: float,
) -> tuple[Floats, Floats, Floats, Floats]:  # fmt: skip
    """log E w - E log((w_1 + ... + w_M) / M) by the trapezoidal rule: step times the sum of phi(s)^M - exp(-M s).

    absent: 1 - phi, (N, T), w scaled to a mean of 1; log_s: (T,); relative: bounds on the errors of `absent`,
    relatively. A row's sum begins at the node `starts`, (N,), and ends where the rest is at most left_out; that follows
    from the smallest weight. Also returns bounds on the rest, above left_out where there are too few nodes, and on what
    errors of `absent` and rounding do, (N,), and step times the sum of M phi^(M-1) (1 - phi), (N,).
    """
    rows, nodes = absent.shape
    value, rest, error, growth = np.zeros(rows), np.full(rows, np.inf), np.zeros(rows), np.zeros(rows)
    log_samples = log(samples, 0.0)
    for n in range(rows):
        j = starts[n]
        while j < nodes and rest[n] > left_out:
            t = samples * exp(-larger(-log_s[j], -700.0))  # beyond that exp(-t) is 0 anyway
            phi, tail = 1.0 - absent[n, j], larger(-(log_s[j] + log_samples + least_log_weight[n]), 0.0) + 0.7
            if phi > 2.0 * relative[n, j]:
                m = samples * log_of_rest(absent[n, j])
                k, power = larger(t + m, 0.0), exp(m)
                term, moved = power * gone(k), samples * relative[n, j] * absent[n, j] / phi
                rounded = 2.0**-53 * (12.0 * t - 5.0 * m)
                value[n] += term
                error[n] += power * (exp(-k) * (rounded + 2.0 * moved) + gone(k) * (moved - 2.0**-53 * 5.0 * m))
                growth[n] += samples * absent[n, j] * power / phi
                rest[n] = power * tail
            else:  # phi is lost in its error: below 3 times that, phi^M below its square, here and further on
                power = 9.0 * relative[n, j] * relative[n, j]
                error[n] += power * (1.0 + tail / step)
                rest[n] = 0.0
            j += 1
        error[n] += 2.0**-53 * (16.0 + (j - starts[n])) * value[n]
        value[n], error[n], growth[n] = step * value[n], step * error[n], step * growth[n]
    return value, rest, error, growth
