"""The sums in plain NumPy, as the equations write them: one row per data point, one column per code.

The slow twin of everything fast: no blocks, no rescaling tricks, whole tables in memory. Tests hold the kernels
against it, and a reader can hold it against the equations.
"""

from __future__ import annotations

import numpy as np
from scipy.special import expit, log_expit, logsumexp, xlogy

from .. import bits
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.parameters import Parameters, prefixed
from ..model.recognition import FactorisedPosterior
from ..types import Bits, Floats


def log_prior(model: BernoulliLVM) -> Floats:
    """log p(z), eq. (1), for every code: (2**K,)."""
    z = bits.table(model.latents)
    if isinstance(model.prior, Bernoulli):
        logits = model.prior.logits
        terms: Floats = np.where(z == 1, log_expit(logits), log_expit(-logits))
        value: Floats = terms.sum(axis=1)
        return value
    return log_marginal(model.prior, z)


def log_likelihood(model: BernoulliLVM, x: Bits) -> Floats:
    """log p(x_n | z), eq. (2): (N, 2**K)."""
    logits = model.decoder.forward(bits.table(model.latents).astype(np.float64))[0]
    on, off = log_expit(logits), log_expit(-logits)
    return np.stack([np.where(row == 1, on, off).sum(axis=1) for row in x])


def log_joint(model: BernoulliLVM, x: Bits) -> Floats:
    """log p(x_n, z) = log p(x_n | z) + log p(z): (N, 2**K)."""
    return log_likelihood(model, x) + log_prior(model)


def log_marginal(model: BernoulliLVM, x: Bits) -> Floats:
    """log p(x_n) = log sum over z of p(x_n, z), eq. (3): (N,)."""
    value: Floats = logsumexp(log_joint(model, x), axis=1)
    return value


def posterior(model: BernoulliLVM, x: Bits) -> Floats:
    """p(z | x_n) = p(x_n, z) / p(x_n), eq. (6): (N, 2**K)."""
    joint = log_joint(model, x)
    value: Floats = np.exp(joint - logsumexp(joint, axis=1, keepdims=True))
    return value


def grad_log_marginal(model: BernoulliLVM, x: Bits, weights: Floats) -> Parameters:
    """The gradient of sum_n w_n log p(x_n), eq. (5): the posterior's average of that of log p(x, z), by name."""
    z, weighted = bits.table(model.latents), posterior(model, x) * weights[:, None]
    logits, pullback = model.decoder.forward(z.astype(np.float64))
    mass = weighted.sum(axis=0)
    decoder = prefixed("decoder.", pullback(weighted.T @ x - mass[:, None] * expit(logits)))
    if isinstance(model.prior, BernoulliLVM):
        return prefixed("prior.", grad_log_marginal(model.prior, z, mass)) | decoder
    slopes = mass @ z - mass.sum() * expit(model.prior.logits)
    return {"prior.logits": np.where(np.isinf(model.prior.logits), 0.0, slopes)} | decoder


def q_table(q: FactorisedPosterior, x: Bits) -> Floats:
    """q(z | x_n) = prod_k phi_k**z_k (1 - phi_k)**(1 - z_k), eq. (4): (N, 2**K)."""
    logits = q.forward(x)[0]
    return np.stack([np.where(bits.table(q.latents) == 1, expit(row), expit(-row)).prod(axis=1) for row in logits])


def vlb(model: BernoulliLVM, q: FactorisedPosterior, x: Bits) -> Floats:
    """E_q[log p(z) + log p(x_n | z) - log q(z)], eq. (10), 0 log 0 = 0: (N,)."""
    q_z, joint = q_table(q, x), log_joint(model, x)
    with np.errstate(invalid="ignore"):
        inside = np.where(q_z > 0, q_z * joint, 0.0)
    value: Floats = inside.sum(axis=1) - xlogy(q_z, q_z).sum(axis=1)
    return value


def kl(model: BernoulliLVM, q: FactorisedPosterior, x: Bits) -> Floats:
    """E_q[log q(z) - log p(z | x_n)], eq. (7), 0 log 0 = 0: (N,)."""
    q_z, joint = q_table(q, x), log_joint(model, x)
    log_posterior = joint - logsumexp(joint, axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        inside = np.where(q_z > 0, q_z * log_posterior, 0.0)
    value: Floats = xlogy(q_z, q_z).sum(axis=1) - inside.sum(axis=1)
    return value


def log_weights(model: BernoulliLVM, q: FactorisedPosterior, x: Bits) -> tuple[Floats, Floats]:
    """log w = log p(x_n, z) - log q(z | x_n) and q(z | x_n) for every code, (N, 2**K) each; log w is 0 where q is."""
    q_z, joint = q_table(q, x), log_joint(model, x)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(q_z > 0, joint - np.log(q_z), 0.0), q_z


def log_mean_power(model: BernoulliLVM, q: FactorisedPosterior, x: Bits, s: float) -> Floats:
    """kappa(s) = log E_q w^s, (N,): kappa(1) = log p(x), kappa(n) / n = CUBO-n, kappa(1 - a) / (1 - a) = Renyi-a."""
    log_w, q_z = log_weights(model, q, x)
    value: Floats = logsumexp(s * log_w, axis=1, b=q_z)
    return value


def iwae(model: BernoulliLVM, q: FactorisedPosterior, x: Bits, samples: int) -> Floats:
    """E log (w_1 + ... + w_M) / M, M >= 2, (N,): log E w - int of phi(t / M)^M - e^-t in log t, phi(s) = E_q e^(-s w).

    The trapezoidal rule, which converges geometrically; phi^M from 1 - phi, which is a sum of positive terms.
    """
    log_w, q_z = log_weights(model, q, x)
    log_mean, step = log_mean_power(model, q, x, 1.0), 0.25
    value = np.empty(len(log_mean))
    for n in range(len(log_mean)):
        scaled = log_w[n] - log_mean[n]
        nodes = np.arange(-40.0, 5.0 - scaled.min() + np.log(samples), step)  # of log t
        t = np.exp(np.minimum(nodes, 700.0))
        y = np.exp(np.minimum(nodes[:, None] - np.log(samples) + scaled, 700.0))
        absent = np.minimum(-np.expm1(-y) @ q_z[n], 1.0)
        with np.errstate(divide="ignore"):
            power = np.exp(samples * np.log1p(-absent))
        value[n] = log_mean[n] - step * (power - np.exp(-t)).sum()
    return value


def reweighted(model: BernoulliLVM, q: FactorisedPosterior, x: Bits, samples: int) -> tuple[Floats, Floats]:
    """q(z) E[M w / (w + S')] and q(z) M E log(w + S') / E w, S' the sum of M - 1 other weights, (N, 2**K) each.

    By the integrals of y e^-y and of e^-t - e^-y, times phi^(M-1), y = t w, over log t.
    """
    log_w, q_z = log_weights(model, q, x)
    log_mean, step = log_mean_power(model, q, x, 1.0), 0.25
    shares, logs = np.zeros_like(q_z), np.zeros_like(q_z)
    for n in range(len(log_mean)):
        scaled = log_w[n] - log_mean[n]
        for node in np.arange(-40.0 - max(scaled.max(), np.log(samples)), 5.0 - scaled.min(), step):
            y = np.exp(np.minimum(node + scaled, 700.0))
            phi = max(1.0 + np.expm1(-y) @ q_z[n], 0.0) ** (samples - 1)
            shares[n] += step * samples * q_z[n] * phi * y * np.exp(-y)
            logs[n] += step * samples * q_z[n] * (np.exp(-np.exp(min(node, 700.0))) - phi * np.exp(-y))
    return shares, logs


def linear_reconstruction(decoder: MLP, q: Floats, x: Bits) -> Floats:
    """E_q[log p(x_n | z)] of a linear decoder at any K, (N,); q: the probabilities of z_k = 1, (N, K).

    Each logit m is a sum of independent bits, with characteristic function phi(w) = e^(i w b) prod_k (1 + q_k (e^(i w
    W_k) - 1)), and E softplus(m) = E[m] / 2 + log 2 + integral over w > 0 of (1 - Re phi(w)) / (w sinh(pi w)): a
    trapezoidal sum, whose first term is E[m**2] / (2 pi).
    """
    weights, biases = decoder.weights[0], decoder.biases[0]
    step = 2 * np.pi / (40.0 + np.abs(biases).max() + np.abs(weights).sum(axis=0).max())
    nodes = step * np.arange(1, int(13.0 / step) + 1)
    value = np.zeros(len(x))
    for n, (bits_of_q, row) in enumerate(zip(q, x, strict=True)):
        mean = biases + bits_of_q @ weights
        square = mean**2 + (bits_of_q * (1 - bits_of_q)) @ weights**2
        integral = step / 2 * square / (2 * np.pi)
        for w in nodes:
            phi = np.exp(1j * w * biases) * (1 + bits_of_q[:, None] * np.expm1(1j * w * weights)).prod(axis=0)
            integral = integral + step * (1 - phi.real) / (w * np.sinh(np.pi * w))
        value[n] = (row * mean - (mean / 2 + np.log(2.0) + integral)).sum()
    return value
