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
e_k (P + KL + K log 2 + 0.23), as above. Under a chain the layers above add the largest of their errors.

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
    q          an error in a logit of q moves R and A by p_k (sum over i of |W_ki| + |prior logit|) of it at most.

As in `certificate.py` second-order terms are covered by a factor 1.01, and what is no MLP is taken at its word.
"""

from __future__ import annotations

import math

import numpy as np

from ..enumeration import kernels
from ..enumeration.blocks import Route, depth, output_pieces
from ..enumeration.kernels import constants
from ..enumeration.problem import Recognition
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, FactorisedPosterior
from ..types import Bits, Floats
from .certificate import LOG_2, SLACK, JointError, U, few_terms_depth, gamma, joint_error, logit_errors


def vlb_error(
    model: BernoulliLVM,
    q: FactorisedPosterior,
    prior: Floats,
    reconstruction: Floats,
    entropy: Floats,
    *,
    table: float = 0.0,
    reconstruction_error: Floats | None = None,
) -> Floats:
    """Bounds on |computed - exact| VLB, (N,), from its terms, (N,) each.

    table: the largest error in the table that stands for log p(z), and for the entropies above, else 0.
    reconstruction_error: of that term, (N,), where it was no sum over codes, with all that errors in the logits of q
    cause. 0 where the VLB is -inf.
    """
    latents = model.latents
    finite = np.isfinite(prior)
    a, r, h = np.where(finite, -prior, 0.0), -reconstruction, np.abs(entropy)
    error, encoder = reconstruction_error, np.zeros(1)
    if error is None:
        averaging = 6 * latents * U
        error = _tabulated(model, 0.0, prior=False).average(r) + (averaging + gamma(_depth(latents))) * r
        encoder = _encoder_errors(q).sum() * (r + a + 0.23)
    if isinstance(model.prior, Bernoulli):
        error = error + (13 + 2 * latents) * U * a
    else:
        error = error + table + expectation_error(latents, a)
    error = error + (13 + 2 * latents) * U * h + 2 * U * (a + r + h) + encoder
    return np.where(finite, SLACK * error, 0.0)


def characteristic_error(prior: Bernoulli, decoder: MLP, stage: FactorisedPosterior, q: Recognition, x: Bits) -> Floats:
    """Bounds on the error of E_q[log p(x_n | z)] by characteristic functions and on what q's logits cause, (N,)."""
    c, (weights, biases) = constants, (decoder.weights[0], decoder.biases[0])
    latents, observed = weights.shape
    likelier = q.log_probability[:, 1] > q.log_probability[:, 0]
    rare = np.where(likelier, q.probability[:, 0], q.probability[:, 1])
    mode, spread = np.tile(biases, (len(rare), 1)), np.zeros((len(rare), observed))
    for k in range(latents):  # no BLAS: the same bits everywhere
        mode += np.where(likelier[:, k, None], weights[k], 0.0)
        spread += rare[:, k, None] * np.abs(weights[k])
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
    slope = np.abs(weights).sum(axis=1) + np.where(np.isfinite(prior.logits), np.abs(prior.logits), 0.0)
    own = np.where(rare > 0.0, rare * slope, 0.0) + 0.23
    total: Floats = error.T.copy().sum(axis=0) + (own * _encoder_errors(stage)).T.copy().sum(axis=0)
    return total


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


def expectation_error(latents: int, magnitude: Floats) -> Floats:
    """A bound on the rounding error of E_q of an exact table with entries of one sign; magnitude: |E_q|, (N,)."""
    low = constants.LOW_BITS
    error: Floats = (6 * latents * U + gamma(low + 2 ** max(latents - low, 0))) * magnitude
    return error


def kl_error(
    model: BernoulliLVM, q: FactorisedPosterior, gap: Floats, log_px: Floats, log_px_error: Floats, prior_error: float
) -> Floats:
    """Bounds on |computed - exact| KL, (N,), from its values, log p(x) and the error of that; 0 where KL is inf."""
    latents = model.latents
    finite = np.isfinite(gap)
    g, p, most = np.where(finite, gap, 0.0), -log_px, latents * LOG_2
    joint = _tabulated(model, prior_error, prior=True).average(p + 0.5 * g + most)  # half of what q and p average
    error = 2 * (joint + log_px_error + U * p) + U * (2 * p + g + 2 * most)
    error = error + 2.3 * (7 + latents) * U * most + (6 * latents + 8) * U * (g + 4)
    error = error + gamma(_depth(latents)) * g + _encoder_errors(q).sum() * (p + g + most + 0.23)
    return np.where(finite, SLACK * error, 0.0)


def _tabulated(model: BernoulliLVM, prior_error: float, *, prior: bool) -> JointError:
    """The error of log p(x, z), or of log p(x | z), where sigmoids' logarithms are tabulated."""
    relative = 7 + few_terms_depth(model.observed)
    if prior and isinstance(model.prior, Bernoulli):
        relative = max(relative, 7 + model.latents + 2)
    return joint_error(model, np.zeros(1), np.full(1, relative + 1.0), prior_error)


def _depth(latents: int) -> int:
    return depth(latents, Route.STREAMED) + constants.ROWS


def _encoder_errors(q: FactorisedPosterior) -> Floats:
    """The errors of q's logits, (K,)."""
    if isinstance(q, AmortisedPosterior) and isinstance(q.encoder, MLP):
        return logit_errors(q.encoder, False, encoder=True)
    return np.zeros(q.latents)
