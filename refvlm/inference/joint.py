"""log p(z), log p(x | z), log p(x, z) and log q(z | x) for given pairs, eqs. (1), (2) and (4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_binary
from ..enumeration import kernels
from ..enumeration.engine import Engine
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import Posterior
from ..types import Bits, Floats
from .arrays import check_model, flat_network, recognition_logits
from .exact import marginal_pass
from .layers import prepare


def log_of_bits(logits: Floats, values: Bits) -> Floats:
    """sum over the last axis of log Bernoulli(value; sigmoid(logit)), (N,); -inf where a degenerate bit disagrees."""
    return kernels.bernoulli.log_of_bits(np.require(logits, np.float64, ["C", "W"]), values)


def log_prior(model: BernoulliLVM, z: ArrayLike) -> Floats:
    """log p(z), eq. (1): z (N, K) -> (N,) nats. For a deep model the exact log-marginal of the layers above.

    -inf where a degenerate prior bit rules z out. Raises ValueError or TypeError for a z that is not binary (N, K).
    """
    check_model(model)
    rows = as_binary("z", z, model.latents)
    if isinstance(model.prior, Bernoulli):
        logits = np.broadcast_to(model.prior.logits, rows.shape)
        return log_of_bits(logits, rows)
    return marginal_pass(prepare(model.prior, rows), Engine()).log_px


def log_likelihood(model: BernoulliLVM, x: ArrayLike, z: ArrayLike) -> Floats:
    """log p(x | z), eq. (2), for the pairs of rows x (N, L) and z (N, K): (N,) nats, always finite."""
    check_model(model)
    observed = as_binary("x", x, model.observed)
    latent = as_binary("z", z, model.latents, rows=len(observed))
    if isinstance(model.decoder, MLP):
        return log_of_bits(kernels.encoder.encode(flat_network(model.decoder), latent), observed)
    return log_of_bits(model.decoder.forward(latent.astype(np.float64))[0], observed)


def log_joint(model: BernoulliLVM, x: ArrayLike, z: ArrayLike) -> Floats:
    """log p(x, z) = log p(x | z) + log p(z) for the pairs of rows x (N, L) and z (N, K): (N,) nats."""
    return log_likelihood(model, x, z) + log_prior(model, z)


def log_q(q: Posterior, x: ArrayLike, z: ArrayLike) -> Floats:
    """log q(z | x), eq. (4), for the pairs of rows x (N, L) and z (N, K): (N,) nats. Of several stages: the first."""
    latent = as_binary("z", z, q.latents)
    observed = as_binary("x", x, None, rows=len(latent))
    return log_of_bits(recognition_logits(q.stages[0], observed), latent)
