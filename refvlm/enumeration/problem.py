"""What a kernel receives: the decoder, the prior and the recognition distribution as plain arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..types import Floats


class Decoder(NamedTuple):
    """An MLP from K bits to L logits, the logits themselves, or both: then the logits count.

    sizes: (D + 1,) int64, the layers' widths from K to L. activation: the code of the one between layers.
    flat: for each layer its weights (fan_in, fan_out), row by row, then its biases (fan_out,); (0,) for no MLP.
    logits: (count, L), of `count` consecutive codes from `logits_from`; (0, 0) where the MLP computes them.
    """

    sizes: NDArray[np.int64]
    activation: int
    flat: Floats
    logits: Floats
    logits_from: int


class Precise(NamedTuple):
    """A decoder whose logits a worker is to compute in double-double.

    with_units: whether the kernel needs the hidden units beside the logits.
    """

    decoder: Decoder
    with_units: bool


class Prior(NamedTuple):
    """log p(z): bit by bit, or, where `table` has entries, one number for each code.

    bits: (2, K), row 0 log(1 - beta_k), row 1 log beta_k; zeros beside a table. table: (2**K,) or (0,).
    """

    bits: Floats
    table: Floats


class Contexts(NamedTuple):
    """Bernoulli priors of z, one for each state of the layers above it: p(z) = sum over c of p(c) p(z | c).

    bits: (M, 2, K), like those of a Prior. log_weight: (M,), log p(c). size: (M,), 1 / u times the error of both.
    """

    bits: Floats
    log_weight: Floats
    size: Floats


class Stack(NamedTuple):
    """A deep model of linear decoders, from x upwards: bits of layer d, given those above, have the logits b + W^T z.

    sizes: (D + 1,) int64, L and the latent bits of each layer. flat: of each decoder, the lowest first, its weights
    (fan_in, fan_out), row by row, then its biases (fan_out,). top: (2, K_D), log probabilities of the highest layer's
    bits, like those of a Prior.
    """

    sizes: NDArray[np.int64]
    flat: Floats
    top: Floats


class Groups(NamedTuple):
    """The cut of x into groups of bits, and where each row's patterns lie in their tables: see `kernels/groups.py`.

    bit: (G + 1,), the first bit of each group, at last L. entry: (G + 1,), the first entry of each group's table, at
    last their number. order: (N,), the rows in the order of their first group's patterns. entries: (tiles * 8 * W,),
    for each row in this order its entries of all groups, three in each of W words. tiles: eights of rows, the last
    filled up with rows of zeros. octets: 0 for every eight of the states that a table is of, 4, 2 or 1 of them: a type
    of its own each, so that kernels are compiled for what is needed.
    """

    bit: NDArray[np.int64]
    entry: NDArray[np.int64]
    order: NDArray[np.int64]
    entries: NDArray[np.int64]
    tiles: int
    octets: tuple[int, ...]


class Recognition(NamedTuple):
    """q(z | x) of eq. (4) bit by bit: [n, 0, k] for z_k = 0 and [n, 1, k] for z_k = 1.

    probability and log_probability: (N, 2, K), or (0, 2, K) where the weights are the posterior's.
    """

    probability: Floats
    log_probability: Floats

    def of(self, rows: slice) -> Recognition:
        """q for some of the rows; the empty one stays what it is."""
        return self if len(self.probability) == 0 else Recognition(self.probability[rows], self.log_probability[rows])


class Response(NamedTuple):
    """What a draw counts for among M, as a function of its weight: nodes of every row, see `kernels/responses.py`.

    log_t: (N, T), from log weights to log y. coefficients: (N, T). curved: of 1 - (1 + y) exp(-y), else of y exp(-y).
    Both arrays have no columns where there is no such function.
    """

    log_t: Floats
    coefficients: Floats
    curved: bool

    def of(self, rows: slice) -> Response:
        """For some of the rows."""
        return Response(self.log_t[rows], self.coefficients[rows], self.curved)


class Above(NamedTuple):
    """What the layers above add to a chain's weights, for each code: see `kernels/weights.py`.

    values: (3 T, 2**K), log E w^s, its first and its second derivative for each of T exponents s. marks: (5, 2**K).
    Both have no columns where there is no chain.
    """

    values: Floats
    marks: Floats


class Mixture(NamedTuple):
    """What a row's draws come from: factorised distributions on the boxes of a partition of {0,1}^K, with s = 2 x - 1.

    signed: s_i W_ki, then s_i b_i, (K + 1) times L in whole octets. starts: s_i a_i at each box's likeliest z, B times
    as many. probabilities: of z_k = 1, (B, K), multiples of 2**-53. With h(z) = log U + log(pi_j q_j(z)) - log p(z),
    the weight of the box's context in p(z): at_mode, (B,), is h at the likeliest z, departures, (B, K), what each bit's
    other value adds to it. upto: (B,), the probabilities pi_j added up, multiples of 2**-53, the last 1.
    """

    signed: Floats
    starts: Floats
    probabilities: Floats
    departures: Floats
    at_mode: Floats
    upto: Floats

    @property
    def randoms(self) -> int:
        """Random numbers of a draw."""
        return int(self.probabilities.shape[1])


class LayeredMixture(NamedTuple):
    """The same of a deep model: distributions on boxes that draw each layer given the one above, tilted.

    All units lie in one array, layer after layer from z_1 upwards, each in whole octets. signed: of layer 0, as in a
    Mixture, the weights to it and, last, the biases. weights: of each layer above it but the highest the same, without
    signs; of the highest its prior's logits; biases of units that only fill an octet are far below 0. tilts, free:
    (B, units), g and 1 for each free unit; a fixed one has a tilt beyond any logit, and 0. at: (B,), log U + log pi_j.
    upto: (B,), as in a Mixture.
    """

    sizes: NDArray[np.int64]
    signed: Floats
    weights: Floats
    tilts: Floats
    free: Floats
    at: Floats
    upto: Floats

    @property
    def randoms(self) -> int:
        """Random numbers of a draw."""
        return int(self.tilts.shape[1])


AnyMixture = Mixture | LayeredMixture
