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

As in `certificate.py` second-order terms are covered by a factor 1.01, and what is no MLP is taken at its word.
"""

from __future__ import annotations

import numpy as np

from ..enumeration.blocks import Route, depth
from ..enumeration.kernels import constants
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, FactorisedPosterior
from ..types import Floats
from .certificate import LOG_2, SLACK, JointError, U, few_terms_depth, gamma, joint_error, logit_errors


def vlb_error(
    model: BernoulliLVM, q: FactorisedPosterior, prior: Floats, reconstruction: Floats, entropy: Floats, table: float
) -> Floats:
    """Bounds on |computed - exact| VLB, (N,), from its terms, (N,) each.

    table: the largest error in the table that stands for log p(z), and for the entropies above, else 0. 0 where the VLB
    is -inf.
    """
    latents = model.latents
    finite = np.isfinite(prior)
    a, r, h = np.where(finite, -prior, 0.0), -reconstruction, np.abs(entropy)
    averaging = 6 * latents * U
    error = _tabulated(model, 0.0, prior=False).average(r) + (averaging + gamma(_depth(latents))) * r
    if isinstance(model.prior, Bernoulli):
        error = error + (13 + 2 * latents) * U * a
    else:
        error = error + table + expectation_error(latents, a)
    error = error + (13 + 2 * latents) * U * h + 2 * U * (a + r + h) + _encoder_error(q) * (r + a + 0.23)
    return np.where(finite, SLACK * error, 0.0)


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
    error = error + gamma(_depth(latents)) * g + _encoder_error(q) * (p + g + most + 0.23)
    return np.where(finite, SLACK * error, 0.0)


def _tabulated(model: BernoulliLVM, prior_error: float, *, prior: bool) -> JointError:
    """The error of log p(x, z), or of log p(x | z), where sigmoids' logarithms are tabulated."""
    relative = 7 + few_terms_depth(model.observed)
    if prior and isinstance(model.prior, Bernoulli):
        relative = max(relative, 7 + model.latents + 2)
    return joint_error(model, np.zeros(1), np.full(1, relative + 1.0), prior_error)


def _depth(latents: int) -> int:
    return depth(latents, Route.STREAMED) + constants.ROWS


def _encoder_error(q: FactorisedPosterior) -> float:
    """The sum over k of the errors of q's logits."""
    if isinstance(q, AmortisedPosterior) and isinstance(q.encoder, MLP):
        return float(logit_errors(q.encoder, False, encoder=True).sum())
    return 0.0
