"""Bounds on the rounding errors of the VLB and of KL, by the means of `certificate.py`.

Let P = -log p(x), R, A and H be the reconstruction, prior and entropy terms of eq. (10), u = 2**-53, and let the
log-likelihood's error be at most a + b |log p(x | z)|, from logarithms of sigmoids that are tabulated and added: b
has 7 u for each and the depth of their sum. All of log p(x | z), log p(z), log q(z | x) are of one sign, so averages
over q of their magnitudes are the terms themselves: E_q |log p(x | z)| = |R|, E_q |log p(z)| = |A|, E_q |log q| = H.

VLB. q(z) is a product of K probabilities, each good to 5 u: relative 6 K u. Hence errors of at most

    R: a + (b + 6 K u + gamma) |R|        gamma of the additions' depth: 5 lanes, 64 blocks, pages, pieces
    A: (13 + 2 K) u |A|, or, of a table with error t: t + (6 K u + gamma') |A|, gamma' of 2**(K - 5) additions
    H: (13 + 2 K) u H, and 2 u (|A| + |R| + H) for adding the three.

An error e_k in a logit of q, where an encoder computes it, moves the VLB by at most e_k (|R| + |A| + 0.23), because
|d E_q f / d logit_k| = phi (1 - phi) |E[f | z_k = 1] - E[f | z_k = 0]| <= |E_q f| for f of one sign, and
|d H / d logit_k| = phi (1 - phi) |logit_k| <= 0.224.

KL = sum of q (t - 1) + p, t = log q - log p, log p = log p(x, z) - log p(x). An error in log p moves a term by
|q - p| of it at most. With E the error of log p(x), E_q |log p(x, z)| = P + KL + H <= P + KL + K log 2 and
E_p |log p(x, z)| <= P + K log 2, that is 2 (a + E + u P) + (b + u) (2 P + KL + 2 K log 2). log q is good to a relative
(7 + K) u and counts q, and p where p < 1.3 q, times it: 2.3 (7 + K) u K log 2. q is good to 6 K u, and the evaluation
of a term to 8 u, of q |t| + q + p at most, sum q |t| <= KL + 2: (6 K + 8) u (KL + 4). Additions: gamma KL. An encoder:
e_k (P + KL + K log 2 + 0.23), as above. Under a chain the layers above add the largest of their errors, and an average
over q of what they leave, V, the errors of such a table and of q: (6 K u + gamma' + sum of e_k) E_q |V|.

R by characteristic functions (`kernels/characteristic.py`), for one output, V = sum of p_k |W_k|, w = n h a node:

    D          |e^(i w W) - 1| <= w |W| is good to 9 u relatively, its angle to 3 u, p_k to 5 u, their product to u; a
               factor joins D with sqrt(2) u (|D| + |D'| + 3 |delta|), |D| <= w V, and no later factor exceeds 1. In
               runs of FEW_TERMS that is sqrt(2) u w V (2 min(K, 16) + 2 ceil(K / 16) + 6) + 18 u w V.
    e^(i w b') good to 18 u, and two roundings with D; its angle, the same for all nodes, to 3 u |b'|, which moves J by
               at most 3 u |b'| V / 4, for J' = E sigmoid(b') - sigmoid(m) in b'.
    weights    h / (w sinh(pi w)) is good to (12 + 2 pi w) u, and sum of h / sinh(pi w) <= (1.1 + log(T / 2 pi)) / pi,
               the `reach` of an error in D; sum of 2 pi w h / sinh(pi w) <= 1.6. Additions: FEW_TERMS, nodes by them.
    w = 0      terms of at most 3 V together, with the depth of the sums over k.
    the rest   E[d] to (17 + ceil(K / 16) + 5) u V; b', rounded once, moves log sigmoid(b') by u |b'| min(1, its size),
               and that is good to 7 u; |J| <= 1.5 V; additions over the outputs.
    nodes      2.1 e^-MARGIN and 1.3 e^(-pi CUTOFF) / CUTOFF: both sums, of b' and of m, are too large, so they cancel.
    q          an error in a logit of q moves R and A by phi (1 - phi) (sum over i of |W_ki| + |prior logit|) of it at
               most, and H by 0.224 of it.

A layer between (`layerwise.py`), of I outputs with means a_k under q and B_k = |b_k| + sum of |W_jk|: its first term is
R of bits that are exact. A mean has K additions for the mode; for E[d], at most half of B_k, K terms good to 6 u and as
many additions; one for their sum: (1.5 K + 4) u B_k. p_k is good to 5 u, the product to u, I additions: together
(2 K + I + 10) u sum of p_k B_k; the first term is added last. An error in a logit of the q below moves it by
phi (1 - phi) |a_k| of it, of the q above by phi (1 - phi) (sum over k of |W_jk|) at most: what the prior's logits and R
are for one layer. D layers take D + 2 additions.

As in `certificate.py` second-order terms are covered by a factor 1.01, and what is no MLP is taken at its word.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..enumeration import kernels
from ..enumeration.blocks import Route, depth, output_pieces
from ..enumeration.kernels import constants
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, FactorisedPosterior
from ..types import Bits, Floats
from .certificate import LOG_2, SLACK, JointError, U, few_terms_depth, gamma, joint_error, logit_errors
from .departures import MeanLogits, rare_of
from .layers import Layer
from .terms import VLBTerms


def vlb_error(
    model: BernoulliLVM,
    q: FactorisedPosterior,
    prior: Floats,
    reconstruction: Floats,
    entropy: Floats,
    *,
    table: float = 0.0,
) -> Floats:
    """Bounds on |computed - exact| VLB, (N,), from its terms, (N,) each, where R is a sum over codes.

    table: the largest error in the table that stands for log p(z), and for the entropies above, else 0. 0 where the
    VLB is -inf.
    """
    finite = np.isfinite(prior)
    a, r, h = np.where(finite, -prior, 0.0), -reconstruction, np.abs(entropy)
    own, encoder = (13 + 2 * model.latents) * U, encoder_errors(q).sum()
    error = summed_error(model, r) + encoder * (r + 0.23)
    if isinstance(model.prior, Bernoulli):
        error = error + (own + encoder) * a
    else:
        error = error + table + expectation_error(q, a)
    error = error + own * h + 2 * U * (a + r + h)
    return np.where(finite, SLACK * error, 0.0)


def summed_error(model: BernoulliLVM, magnitude: Floats) -> Floats:
    """Bounds on the rounding error of R as a sum over codes; magnitude: |R|, (N,)."""
    averaging = 6 * model.latents * U + gamma(streamed_depth(model.latents))
    error: Floats = tabulated_error(model, 0.0, prior=False).average(magnitude) + averaging * magnitude
    return error


def layerwise_error(layers: Sequence[Layer], means: Sequence[MeanLogits | None], terms: VLBTerms) -> Floats:
    """Bounds on |computed - exact| VLB, (N,), where q factorises over all layers, from x upwards.

    means: of each layer's logits under q, None where the lowest layer's R is a sum over codes. 0 where the VLB is -inf.
    """
    finite = np.isfinite(terms.prior)
    a, r, h = np.where(finite, -terms.prior, 0.0), -terms.reconstruction, np.abs(terms.entropy)
    own = (13 + 2 * max(layer.model.latents for layer in layers)) * U
    error = own * (a + h) + (len(layers) + 2) * U * (a + r + h)
    top = layers[0].model.top.logits
    for level, (layer, mean) in enumerate(zip(layers, means, strict=True)):
        decoder, stage = layer.model.decoder, layer.stage
        variance = layer.q.probability[:, 0] * layer.q.probability[:, 1]
        assert stage is not None
        if mean is None:
            error, slope = error + summed_error(layer.model, r), r[:, None]
        else:
            assert isinstance(decoder, MLP)
            sizes = np.abs(decoder.weights[0])
            error, slope = error + characteristic_error(decoder, mean, layer.x), variance * sizes.sum(axis=1)
            if level > 0:
                chain = (2 * decoder.fan_in + decoder.fan_out + 10) * U
                magnitudes = np.abs(decoder.biases[0]) + sizes.sum(axis=0)
                error = error + chain * _over_bits(rare_of(layers[level - 1].q) * magnitudes)
        above = means[level + 1] if level + 1 < len(layers) else None
        odds = np.abs(np.where(np.isfinite(top), top, 0.0) if above is None else above.mean)
        error = error + _over_bits((slope + variance * odds + 0.23) * encoder_errors(stage))
    return np.where(finite, SLACK * error, 0.0)


def _over_bits(values: Floats) -> Floats:
    """The sums of (N, K) over the bits, (N,)."""
    total: Floats = values.T.copy().sum(axis=0)
    return total


def characteristic_error(decoder: MLP, logits: MeanLogits, x: Bits) -> Floats:
    """Bounds on the rounding error of E_q[log p(x_n | z)] by characteristic functions, (N,)."""
    c, (latents, observed) = constants, decoder.weights[0].shape
    mode, spread = logits.mode, logits.spread
    runs, depth_of_run = math.ceil(latents / c.FEW_TERMS), min(latents, c.FEW_TERMS)
    periods = c.MARGIN + largest_logits(decoder)
    nodes = np.ceil(c.CUTOFF * periods / (2 * np.pi)) / c.FEW_TERMS + c.FEW_TERMS + 1
    reach = (1.1 + LOG_2 * np.frexp(periods)[1] - 1.83) / np.pi
    product = math.sqrt(2.0) * (2 * depth_of_run + 2 * runs + 6) + 55
    size, log_p = np.abs(mode), kernels.bernoulli.bernoulli(mode)[1]
    nats = -np.where(x == 1, log_p[:, 1], log_p[:, 0])
    tree = 3 + 2 * observed.bit_length() + output_pieces(observed).step
    error = spread * (reach * (product + nodes) + 0.75 * size + 3 * (nodes + runs) + 2 * runs + 20 + 2 * tree)
    error = U * (error + size * np.minimum(1.0, nats) + (9 + tree) * nats)
    error = error + 2.1 * _exp_above(c.MARGIN) + 1.3 * _exp_above(3.14 * c.CUTOFF) / c.CUTOFF
    return _over_bits(error)


def _exp_above(v: float) -> float:
    """A power of two above exp(-v)."""
    return 2.0 ** -math.floor(v / LOG_2)


def largest_logits(decoder: MLP) -> Floats:
    """The largest |logit| that each eight outputs of a linear decoder can have together, for every output, (L,)."""
    weights, biases = decoder.weights[0], decoder.biases[0]
    highest = biases + np.where(weights > 0.0, weights, 0.0).sum(axis=0)
    lowest = biases + np.where(weights < 0.0, weights, 0.0).sum(axis=0)
    most = np.maximum(highest, -lowest)
    starts = np.arange(0, len(most), constants.OCTET)
    return np.repeat(np.maximum.reduceat(most, starts), constants.OCTET)[: len(most)]


def expectation_error(q: FactorisedPosterior, magnitude: Floats) -> Floats:
    """A bound on the error of E_q of an exact table with entries of one sign, with all that errors in q's logits cause.

    magnitude: |E_q|, (N,).
    """
    rounding = 6 * q.latents * U + gamma(table_depth(q.latents))
    error: Floats = (rounding + encoder_errors(q).sum()) * magnitude
    return error


def table_depth(latents: int) -> int:
    """Additions that an entry goes through where a table over codes is averaged."""
    return constants.LOW_BITS + (1 << max(latents - constants.LOW_BITS, 0))


def kl_error(
    model: BernoulliLVM, q: FactorisedPosterior, gap: Floats, log_px: Floats, log_px_error: Floats, prior_error: float
) -> Floats:
    """Bounds on |computed - exact| KL, (N,), from its values, log p(x) and the error of that; 0 where KL is inf."""
    latents = model.latents
    finite = np.isfinite(gap)
    g, p, most = np.where(finite, gap, 0.0), -log_px, latents * LOG_2
    joint = tabulated_error(model, prior_error, prior=True).average(p + 0.5 * g + most)  # half of what q and p average
    error = 2 * (joint + log_px_error + U * p) + U * (2 * p + g + 2 * most)
    error = error + 2.3 * (7 + latents) * U * most + (6 * latents + 8) * U * (g + 4)
    error = error + gamma(streamed_depth(latents)) * g + encoder_errors(q).sum() * (p + g + most + 0.23)
    return np.where(finite, SLACK * error, 0.0)


def tabulated_error(model: BernoulliLVM, prior_error: float, *, prior: bool) -> JointError:
    """The error of log p(x, z), or of log p(x | z), where sigmoids' logarithms are tabulated."""
    relative = 7 + few_terms_depth(model.observed)
    if prior and isinstance(model.prior, Bernoulli):
        relative = max(relative, 7 + model.latents + 2)
    return joint_error(model, np.zeros(1), np.full(1, relative + 1.0), prior_error)


def streamed_depth(latents: int) -> int:
    return depth(latents, Route.STREAMED) + constants.ROWS


def encoder_errors(q: FactorisedPosterior) -> Floats:
    """The errors of q's logits, (K,)."""
    if isinstance(q, AmortisedPosterior) and isinstance(q.encoder, MLP):
        return logit_errors(q.encoder, False, encoder=True)
    return np.zeros(q.latents)
