"""What a draw of weight w counts for among M draws: expectations over the other M - 1, at the nodes of `weights.py`.

With y = s w at the node s, phi(s) = E_q exp(-s w) and a step h of log s, sums over the nodes of h M phi^(M-1) times

    y exp(-y)              R(w) = E[M w / (w + S')], S' the sum of the others: M times the draw's normalised weight
    1 - (1 + y) exp(-y)    M E log(w + S') - R(w), but for a constant

A state costs two exps a node; terms have one sign. Twin: `inference/definition.reweighted`.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Prior, Recognition, Response
from .backward import add_block, bit_sums, collect, end_page
from .compiling import inline, kernel
from .constants import BLOCK, PAGE
from .elementary import Number, exp
from .lanes import TILE, fma, load_block, splat_tile, store, vectors, where_less
from .network import enter, network
from .observation import high_bits, log_likelihood, log_prior, prior_of, recognise, recognition_of, tabulate, turn_prior
from .weights import log_of_rest


@inline
def curved(y: Number) -> Number:
    """1 - (1 + y) exp(-y) for y >= 0, to a relative 12 u: by its series where the difference would cancel."""
    s = fma(-y, 7.809603484293113e-18, 1.4797143443923793e-16)  # 19 / 20!, down to 1 / 2!
    s = fma(-y, s, 2.6552651846596585e-15)
    s = fma(-y, s, 4.498331606952833e-14)
    s = fma(-y, s, 7.169215998581078e-13)
    s = fma(-y, s, 1.0706029224547743e-11)
    s = fma(-y, s, 1.4911969277048643e-10)
    s = fma(-y, s, 1.9270852604185937e-09)
    s = fma(-y, s, 2.296443268665491e-08)
    s = fma(-y, s, 2.505210838544172e-07)
    s = fma(-y, s, 2.48015873015873e-06)
    s = fma(-y, s, 2.2045855379188714e-05)
    s = fma(-y, s, 0.00017361111111111112)
    s = fma(-y, s, 0.0011904761904761906)
    s = fma(-y, s, 0.006944444444444444)
    s = fma(-y, s, 0.03333333333333333)
    s = fma(-y, s, 0.125)
    s = fma(-y, s, 0.3333333333333333)
    s = fma(-y, s, 0.5)
    e = exp(-y)
    return where_less(y, 1.0, y * y * s, (1.0 - e) - where_less(y, 700.0, y, 0.0) * e)


@inline
def respond(joint: Number, log_q: Number, response: Response, n: int) -> Number:
    """The sum over the nodes for row n, from log p(x, z) and log q; what q excludes has no weight."""
    value, log_weight = splat_tile(0.0), where_less(-np.inf, log_q, joint - log_q, -np.inf)
    for j in range(response.log_t.shape[1]):
        v = log_weight + response.log_t[n, j]
        y = exp(where_less(v, 700.0, v, 700.0))
        if response.curved:
            value = value + response.coefficients[n, j] * curved(y)
        else:
            value = value + response.coefficients[n, j] * (y * exp(-y))
    return value


@kernel
def coefficients(absent: Floats, relative: Floats, samples: float, step: float) -> Floats:
    """h M phi^(M-1) at every node, from 1 - phi and bounds on its errors, relatively, (N, T) each; 0 below these."""
    found = np.zeros_like(absent)
    for n in range(absent.shape[0]):
        for j in range(absent.shape[1]):
            if 1.0 - absent[n, j] > 2.0 * relative[n, j]:
                found[n, j] = step * samples * exp((samples - 1.0) * log_of_rest(absent[n, j]))
    return found


@kernel
def responded(
    decoder: Decoder, first: int, count: int, prior: Prior, q: Recognition, x: Bits, response: Response
) -> tuple[Floats, Floats]:
    """The sums over `count` codes from `first` of q times the response: with z_k as factor (N, K), and without (N,)."""
    rows = len(x)
    net, log_p, low_q = network(decoder, first, count), prior_of(prior), recognition_of(q)
    log_sigmoid, terms = vectors(2 * decoder.sizes[-1] * BLOCK), vectors(BLOCK)
    sums = bit_sums(rows, decoder.sizes[0])
    for code in range(first, first + max(count, BLOCK), BLOCK):
        if enter(net, code, first):
            turn_prior(log_p, code)
        tabulate(net, log_sigmoid)
        for n in range(rows):
            high = high_bits(q, n, code)
            for lane in range(0, BLOCK, TILE):
                probability, log_q = recognise(low_q, n, high, lane)
                joint = log_likelihood(x, n, log_sigmoid, lane) + log_prior(log_p, code, lane)
                store(terms, lane, probability * respond(joint, log_q, response, n))
            add_block(sums, n, code, load_block(terms, 0))
        if (code + BLOCK) % PAGE == 0 or code + BLOCK >= first + count:
            end_page(sums, code)
    return collect(sums).T.copy(), sums.whole
