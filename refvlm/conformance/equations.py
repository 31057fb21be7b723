"""The sums of the equations in plain NumPy, with whole tables in memory and a method for every step: see `plain.py`.

Codes, weights, batches and names as everywhere in refvlm; eq. numbers are those of `refvlm/README.md`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..activations import ACTIVATIONS
from ..types import Array
from .problems import Layers, Problem

Named = dict[str, Array]


class Equations:
    """What a question is about, and every sum over z and every gradient of one."""

    dtype: type[np.floating[Any]] = np.float64

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.decoders = [self.cast(layers) for layers in problem.decoders]
        self.encoders = [self.cast(layers) for layers in problem.encoders]
        self.top = problem.top.astype(self.dtype)
        self.inputs = {name: value.astype(self.dtype) for name, value in problem.inputs.items()}

    def cast(self, layers: Layers) -> Layers:
        """The parameters as this program holds them."""
        return layers._replace(
            weights=[w.astype(self.dtype) for w in layers.weights], biases=[b.astype(self.dtype) for b in layers.biases]
        )

    @property
    def x(self) -> Array:
        return self.inputs["x"]

    @property
    def z(self) -> Array:
        return self.inputs["z"]

    # Bernoulli units and networks

    def codes(self, latents: int) -> Array:
        """Row c holds z_k = (c >> k) & 1."""
        return ((np.arange(1 << latents)[:, None] >> np.arange(latents)) & 1).astype(self.dtype)

    def sigmoid(self, a: Array) -> Array:
        small = np.exp(-np.abs(a))
        return np.where(a >= 0, 1, small) / (1 + small)

    def softplus(self, a: Array) -> Array:
        return np.logaddexp(self.dtype(0), a)

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        """log p of each bit."""
        return np.where(bits == 1, -self.softplus(-logits), -self.softplus(logits))

    def log_bernoulli(self, bits: Array, logits: Array) -> Array:
        """The sum of log p over the last axis."""
        return self.log_bernoulli_terms(bits, logits).sum(axis=-1)

    def log_prior_bits(self, z: Array, logits: Array) -> Array:
        """log p(z), eq. (1)."""
        return self.log_bernoulli(z, logits)

    def log_q_bits(self, z: Array, logits: Array) -> Array:
        """log q(z), eq. (4)."""
        return self.log_bernoulli(z, logits)

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        """log p(x | z), eq. (2)."""
        return self.log_bernoulli(x, logits)

    def activate(self, a: Array, activation: str) -> Array:
        return ACTIVATIONS[activation].value(a)

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        """The derivative at a, where the activation is h."""
        return ACTIVATIONS[activation].slope(a, h)

    def affine(self, h: Array, weights: Array, biases: Array) -> Array:
        return h @ weights + biases

    def forward(self, layers: Layers, inputs: Array) -> tuple[Array, list[Array], list[Array]]:
        """Logits, what enters each layer, and what each affine map gives."""
        h, entering, preactivations = inputs, [], []
        for d, (weights, biases) in enumerate(zip(layers.weights, layers.biases, strict=True)):
            entering.append(h)
            a = self.affine(h, weights, biases)
            preactivations.append(a)
            h = a if d == len(layers.weights) - 1 else self.activate(a, layers.activation)
        return self.output(h, layers.activation), entering, preactivations

    def output(self, logits: Array, activation: str) -> Array:
        """The last layer is linear."""
        return logits

    def output_slope(self, a: Array, layers: Layers) -> Array:
        """The derivative of `output` with respect to the last affine map's values."""
        return np.ones_like(a)

    def decode(self, layers: Layers, z: Array) -> Array:
        """The logits that a decoder gives."""
        return self.forward(layers, z)[0]

    def encode(self, layers: Layers, below: Array) -> Array:
        """The logits phi that an encoder gives."""
        return self.forward(layers, below)[0]

    def backward(self, layers: Layers, inputs: Array, slopes: Array) -> Named:
        """The sum over rows of d/d parameters, from the slopes d/d logits."""
        _, entering, preactivations = self.forward(layers, inputs)
        slopes = slopes * self.output_slope(preactivations[-1], layers)
        weights: list[Array] = []
        biases: list[Array] = []
        for d in reversed(range(len(layers.weights))):
            weights.insert(0, entering[d].T @ slopes)
            biases.insert(0, slopes.sum(axis=0))
            if d > 0:
                slopes = (slopes @ layers.weights[d].T) * self.activation_slope(
                    entering[d], preactivations[d - 1], layers.activation
                )
        return {f"{layers.prefix}weights.{d}": value for d, value in enumerate(weights)} | {
            f"{layers.prefix}biases.{d}": value for d, value in enumerate(biases)
        }

    # The model, layer 0 next to x

    def latents(self, depth: int) -> int:
        return len(self.decoders[depth].weights[0])

    def prior(self, depth: int, z: Array) -> Array:
        """log p(z) of the layer above decoder `depth`: closed form at the top, else a marginal."""
        if depth == len(self.decoders) - 1:
            return self.log_prior_bits(z, self.top)
        return self.marginal(depth + 1, z)

    def likelihood_table(self, depth: int, x: Array) -> Array:
        """log p(x_n | z) of every code: (N, 2^K)."""
        logits = self.decode(self.decoders[depth], self.codes(self.latents(depth)))
        return self.log_x_bits(x[:, None, :], logits[None])

    def joint_table(self, depth: int, x: Array) -> Array:
        """log p(x_n, z): (N, 2^K)."""
        return self.joint(self.likelihood_table(depth, x), self.prior(depth, self.codes(self.latents(depth))))

    def joint(self, likelihood: Array, prior: Array) -> Array:
        """log p(x, z) = log p(x | z) + log p(z)."""
        return likelihood + prior

    def log_sum_exp(self, table: Array) -> Array:
        """log of the sum of exp over codes."""
        if not len(table):
            return table.sum(axis=1)
        largest = table.max(axis=1, keepdims=True)
        largest = np.where(largest == -np.inf, 0, largest)  # of nothing but zeros: log 0 = -inf, no NaN
        return largest[:, 0] + np.log(np.exp(table - largest).sum(axis=1))

    def marginal(self, depth: int, x: Array) -> Array:
        """log p(x), eq. (3)."""
        return self.log_sum_exp(self.joint_table(depth, x))

    def posterior_table(self, depth: int, x: Array) -> Array:
        """p(z | x_n), eq. (6): (N, 2^K)."""
        joint = self.joint_table(depth, x)
        return np.exp(joint - self.log_sum_exp(joint)[:, None])

    def log_prior(self) -> Array:
        return self.prior(0, self.z)

    def log_likelihood(self) -> Array:
        return self.log_x_bits(self.x, self.decode(self.decoders[0], self.z))

    def log_joint(self) -> Array:
        return self.joint(self.log_likelihood(), self.log_prior())

    def log_marginal(self) -> Array:
        return self.marginal(0, self.x)

    def posterior(self) -> Array:
        return self.posterior_table(0, self.x)

    def posterior_mean(self) -> Array:
        return self.posterior() @ self.codes(self.latents(0))

    # The bound: sums over what q draws, one code of z or, along a chain, one of z, z2, ...

    def paths(self) -> list[Array]:
        """The bits of every layer that q draws, for every setting of them: (P, K), (P, K2), ..."""
        tables = [self.codes(self.latents(depth)) for depth in range(len(self.encoders))]
        rows = list(itertools.product(*(range(len(table)) for table in tables)))
        return [table[[row[depth] for row in rows]] for depth, table in enumerate(tables)]

    def log_q(self) -> Array:
        """log q of every path, for every row: (N, P)."""
        paths = self.paths()
        logs = self.log_q_bits(paths[0][None], self.encode(self.encoders[0], self.x)[:, None, :])
        for encoder, (below, above) in zip(self.encoders[1:], itertools.pairwise(paths), strict=True):
            logs = logs + self.log_q_bits(above, self.encode(encoder, below))
        return logs

    def path_prior(self) -> Array:
        """log p of every path: (P,)."""
        paths = self.paths()
        logs = self.prior(len(paths) - 1, paths[-1])
        for depth, (below, above) in enumerate(itertools.pairwise(paths), start=1):
            logs = logs + self.log_x_bits(below, self.decode(self.decoders[depth], above))
        return logs

    def path_likelihood(self) -> Array:
        """log p(x_n | z) of every path: (N, P)."""
        return self.log_x_bits(self.x[:, None, :], self.decode(self.decoders[0], self.paths()[0])[None])

    def expectation(self, weights: Array, values: Array) -> Array:
        """The weighted sum over paths, with 0 times infinity = 0."""
        return np.where(weights > 0, weights * values, 0).sum(axis=1)

    def vlb_terms(self) -> Named:
        log_q = self.log_q()
        q = np.exp(log_q)
        return {
            "prior": self.expectation(q, self.path_prior()[None]),
            "reconstruction": self.expectation(q, self.path_likelihood()),
            "entropy": -self.expectation(q, log_q),
        }

    def vlb(self) -> Array:
        """Eq. (10)."""
        terms = self.vlb_terms()
        return terms["prior"] + terms["reconstruction"] + terms["entropy"]

    def kl(self) -> Array:
        """E_q[log q(z) - log p(x, z)] + log p(x), eq. (7)."""
        log_q = self.log_q()
        log_p = self.joint(self.path_likelihood(), self.path_prior()) - self.log_marginal()[:, None]
        return self.divergence(log_q, log_p)

    def divergence(self, log_q: Array, log_p: Array) -> Array:
        """KL(q || p) over paths."""
        return self.expectation(np.exp(log_q), log_q - log_p)

    # Gradients, of the sum over rows

    def delta(self, bits: Array, logits: Array) -> Array:
        """d log p(bit) / d logit, the delta rule."""
        return bits - self.sigmoid(logits)

    def prior_delta(self, z: Array, logits: Array) -> Array:
        """d log p(z) / d logit."""
        return self.delta(z, logits)

    def x_delta(self, x: Array, logits: Array) -> Array:
        """d log p(x | z) / d logit."""
        return self.delta(x, logits)

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        """sum of w d log p(z) at the top; an infinite logit does not move."""
        slopes = weights @ self.prior_delta(z, self.top)
        return {"prior." * len(self.decoders) + "logits": np.where(np.isinf(self.top), 0, slopes)}

    def decoder_gradient(self, depth: int, x: Array, z: Array, weights: Array) -> Named:
        """sum over n, p of w_np d log p(x_n | z_p)."""
        logits = self.decode(self.decoders[depth], z)
        slopes = np.einsum("np,npl->pl", weights, self.x_delta(x[:, None, :], logits[None]))
        return self.backward(self.decoders[depth], z, slopes)

    def joint_gradient(self, depth: int, x: Array, weights: Array) -> Named:
        """sum over n, z of w_nz d log p(x_n, z), the layers above summed exactly: weights (N, 2^K)."""
        z = self.codes(self.latents(depth))
        mass = weights.sum(axis=0)
        if depth == len(self.decoders) - 1:
            above = self.prior_gradient(z, mass)
        else:
            above = self.joint_gradient(depth + 1, z, mass[:, None] * self.posterior_table(depth + 1, z))
        return above | self.decoder_gradient(depth, x, z, weights)

    def path_gradient(self, lowest: int, layers: Sequence[Array], weights: Array) -> Named:
        """sum over p of w_p d log p of all layers' bits: layers (P, width) upwards from that below decoder `lowest`."""
        gradient = self.prior_gradient(layers[-1], weights)
        for depth, (below, above) in enumerate(itertools.pairwise(layers), start=lowest):
            gradient |= self.decoder_gradient(depth, below, above, np.diag(weights))
        return gradient

    def grad_log_marginal(self) -> Named:
        """Fisher's identity: the posterior's mean of d log p(x, z)."""
        return self.joint_gradient(0, self.x, self.posterior_table(0, self.x))

    def grad_vlb(self) -> Named:
        return self.both(self.grad_vlb_model(), self.grad_vlb_posterior())

    def both(self, model: Named, posterior: Named) -> Named:
        named = {f"model.{name}": value for name, value in model.items()}
        return named | {f"posterior.{name}": value for name, value in posterior.items()}

    def grad_vlb_model(self) -> Named:
        """sum over q of d log p(x, z)."""
        return self.averaged_gradient(np.exp(self.log_q()))

    def averaged_gradient(self, weights: Array) -> Named:
        """sum over n, p of w_np d log p(x_n, path p)."""
        if len(self.encoders) == 1:
            return self.joint_gradient(0, self.x, weights)
        paths = self.paths()
        gradient = self.path_gradient(1, paths, weights.sum(axis=0))
        return gradient | self.decoder_gradient(0, self.x, paths[0], weights)

    def grad_vlb_posterior(self) -> Named:
        """sum over q of d log q(z) (log p(x, z) - log q(z))."""
        log_q = self.log_q()
        return self.score(np.exp(log_q) * self.learning_signal(log_q))

    def log_weights(self, log_q: Array) -> Array:
        """log p(x, z) - log q(z) of every path, whose mean under q is the VLB: (N, P)."""
        return self.joint(self.path_likelihood(), self.path_prior()) - log_q

    def learning_signal(self, log_q: Array) -> Array:
        """What multiplies the score: (N, P)."""
        return self.log_weights(log_q)

    def score(self, weights: Array) -> Named:
        """sum over n, p of w_np d log q(path p | x_n)."""
        paths = self.paths()
        phi = self.encode(self.encoders[0], self.x)
        slopes = weights @ paths[0] - weights.sum(axis=1, keepdims=True) * self.sigmoid(phi)
        gradient = self.backward(self.encoders[0], self.x, slopes)
        for encoder, (below, above) in zip(self.encoders[1:], itertools.pairwise(paths), strict=True):
            slopes = weights.sum(axis=0)[:, None] * self.delta(above, self.encode(encoder, below))
            gradient |= self.backward(encoder, below, slopes)
        return gradient
