"""Sums of q(z | x_n) log p(x_n, z) with the bits of z as factors, row by row.

From these the gradient of the VLB in q's logits follows:

    d VLB / d logit_k = E_q[(z_k - phi_k) log p(x, z)] + d entropy / d logit_k.

All terms of a sum are of one sign, so each is good to a relative error of that of q, 6 K u, of log p(x, z), and
gamma of the additions, up to 2**11 deep in a piece. The difference is not: its error goes with E_q |log p(x, z)|.
"""

from __future__ import annotations

import numpy as np

from ...types import Bits, Floats
from ..problem import Decoder, Prior, Recognition
from .backward import add_block, bit_sums, collect, end_page
from .compiling import inline, kernel
from .constants import BLOCK, PAGE
from .elementary import Number
from .lanes import TILE, load_block, store, vectors, where_less
from .network import enter, network
from .observation import high_bits, log_likelihood, log_prior, prior_of, recognise, recognition_of, tabulate, turn_prior

NEVER = -np.inf


@inline
def weighted(probability: Number, log_probability: Number, value: Number) -> Number:
    """q * value, 0 where q is 0 and -inf where q has mass, however little, and value is -inf."""
    infinite = where_less(NEVER, log_probability, NEVER, 0.0)
    return where_less(NEVER, value, probability * value, infinite)


@kernel
def moments(decoder: Decoder, first: int, count: int, prior: Prior, q: Recognition, x: Bits) -> tuple[Floats, Floats]:
    """The sums over `count` codes from `first`: with z_k as factor (N, K), and without (N,)."""
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
                joint = log_likelihood(x, n, log_sigmoid, lane) + log_prior(log_p, code, lane)
                probability, log_probability = recognise(low_q, n, high, lane)
                store(terms, lane, weighted(probability, log_probability, joint))
            add_block(sums, n, code, load_block(terms, 0))
        if (code + BLOCK) % PAGE == 0 or code + BLOCK >= first + count:
            end_page(sums, code)
    return collect(sums).T.copy(), sums.whole
