"""A plain program: the equations (`equations.py`), bounds and gradients of several draws, samples, wake and sleep.

It is here to be got wrong: a mistake (`mistakes/`) is this class with one method replaced, and what follows from it
follows. In itself it is right, and answers every published case; `dtype` makes it a program in single precision.

Codes, weights, batches and names as everywhere in refvlm; eq. numbers are those of `refvlm/README.md`.
"""

from __future__ import annotations

import itertools

import numpy as np

from ..types import Array
from .equations import Equations, Named
from .problems import Layers
from .quantities import latent_name


class Plain(Equations):
    """Answers a question: `Plain(problem).answer()` returns an array, or arrays by name."""

    def answer(self) -> Array | Named:
        """What the problem asks for."""
        with np.errstate(all="ignore"):
            return getattr(self, self.problem.quantity)()

    # Bounds of M draws: sums over all sets of M paths, in any order

    def sets(self) -> tuple[Array, Array, Array]:
        """Paths (C, M) of every set, their log w (N, C, M), and the probability of each set (N, C)."""
        log_q, samples = self.log_q(), int(self.inputs["samples"])
        chosen = np.array(list(itertools.combinations_with_replacement(range(log_q.shape[1]), samples)))
        orders, run = np.ones(len(chosen)), np.ones(len(chosen))
        for m in range(1, samples):
            run = np.where(chosen[:, m] == chosen[:, m - 1], run + 1, 1)
            orders = orders * (m + 1) / run
        probability = np.exp(log_q)[:, chosen].prod(axis=2) * orders.astype(self.dtype)
        return chosen, self.log_weights(log_q)[:, chosen], probability

    def log_mean_exp(self, f: Array) -> Array:
        """log of the mean of exp over draws, the last axis."""
        largest = f.max(axis=-1, keepdims=True)
        return largest[..., 0] + np.log(np.exp(f - largest).mean(axis=-1))

    def normalised(self, f: Array) -> Array:
        """The weights of draws, normalised."""
        largest = f.max(axis=-1, keepdims=True)
        weights = np.exp(f - largest)
        return weights / weights.sum(axis=-1, keepdims=True)

    def by_path(self, chosen: Array, probability: Array, values: Array) -> Array:
        """E of the sum of the values (N, C, M) of the draws that are a path: (N, P)."""
        found = np.zeros((len(values), len(self.paths()[0])), self.dtype)
        for n, row in enumerate(probability[:, :, None] * values):
            np.add.at(found[n], chosen, row)
        return found

    def iwae(self) -> Array:
        """E log (w_1 + ... + w_M) / M."""
        _, f, probability = self.sets()
        return self.expectation(probability, self.log_mean_exp(f))

    def model_shares(self, f: Array) -> Array:
        """What multiplies d log p(x, z) of each draw in the gradient of log (w_1 + ... + w_M) / M."""
        return self.normalised(f)

    def grad_iwae(self) -> Named:
        chosen, f, probability = self.sets()
        model = self.averaged_gradient(self.by_path(chosen, probability, self.model_shares(f)))
        signal = self.log_mean_exp(f)[:, :, None] - self.model_shares(f)
        return self.both(model, self.score(self.by_path(chosen, probability, signal)))

    def rws_update(self) -> Named:
        chosen, f, probability = self.sets()
        weights = self.by_path(chosen, probability, self.normalised(f))
        return self.both(self.averaged_gradient(weights), self.score(weights))

    # Draws of gradients in q's logits, from M draws of z for each row

    def drawn(self, uniforms: Array) -> Array:
        """z of every draw: (N, M, K)."""
        return self.fire(self.encode(self.encoders[0], self.x)[:, None], uniforms)

    def weights_of(self, z: Array) -> Array:
        """log w of every draw: (N, M)."""
        flat, logits = z.reshape(-1, z.shape[2]), self.encode(self.encoders[0], self.x)[:, None]
        likelihood = self.log_x_bits(self.x[:, None], self.decode(self.decoders[0], z))
        prior = self.prior(0, flat).reshape(z.shape[:2])
        return self.joint(likelihood, prior) - self.log_q_bits(z, logits)

    def scored(self, signal: Array, z: Array) -> Array:
        """The sum over draws of signal (N, M) times score: (N, K)."""
        score = self.delta(z, self.encode(self.encoders[0], self.x)[:, None])
        return (signal[:, :, None] * score).sum(axis=1)

    def draw_leave_one_out(self) -> Array:
        z = self.drawn(self.inputs["draw_uniforms"])
        return self.scored(self.less_the_others(self.weights_of(z)), z)

    def less_the_others(self, f: Array) -> Array:
        """f less the mean of the other draws, by the number of draws."""
        return (f - f.mean(axis=1, keepdims=True)) / self.dtype(f.shape[1] - 1)

    def draw_vimco(self) -> Array:
        z = self.drawn(self.inputs["draw_uniforms"])
        f = self.weights_of(z)
        return self.scored(self.vimco_signal(f) - self.normalised(f), z)

    def vimco_signal(self, f: Array) -> Array:
        """log of the mean weight less the same with a draw's log w replaced by the mean of the others."""
        draws, others = np.arange(f.shape[1]), np.repeat(f[:, None, :], f.shape[1], axis=1)
        others[:, draws, draws] = (f.sum(axis=1, keepdims=True) - f) / self.dtype(f.shape[1] - 1)
        return self.log_mean_exp(f)[:, None] - self.log_mean_exp(others)

    def draw_reweighted(self) -> Array:
        z = self.drawn(self.inputs["draw_uniforms"])
        return self.scored(self.normalised(self.weights_of(z)), z)

    def pairs(self) -> tuple[Array, Array, Array]:
        """z, its antithetic twin, and log w of the one less that of the other."""
        uniforms = self.inputs["draw_uniforms"]
        z, twin = self.drawn(uniforms), self.drawn(1 - uniforms)
        return z, twin, self.weights_of(z) - self.weights_of(twin)

    def draw_arm(self) -> Array:
        _, _, difference = self.pairs()
        return (difference[:, :, None] * (self.dtype(0.5) - self.inputs["draw_uniforms"])).mean(axis=1)

    def draw_disarm(self) -> Array:
        z, twin, difference = self.pairs()
        return (difference[:, :, None] * (z - twin)).mean(axis=1) / 2 * self.disarm_factor()

    def disarm_factor(self) -> Array:
        """sigmoid(|logit|)."""
        return self.sigmoid(np.abs(self.encode(self.encoders[0], self.x)))

    def draw_straight_through(self) -> Array:
        z, logits = self.drawn(self.inputs["draw_uniforms"]), self.encode(self.encoders[0], self.x)
        slopes = self.input_slopes(self.decoders[0], z, self.x_delta(self.x[:, None], self.decode(self.decoders[0], z)))
        return (slopes + self.top - logits[:, None]).mean(axis=1) * self.through_slope(logits)

    def through_slope(self, logits: Array) -> Array:
        """d probability / d logit."""
        return self.sigmoid(logits) * self.sigmoid(-logits)

    def input_slopes(self, layers: Layers, inputs: Array, slopes: Array) -> Array:
        """d/d inputs from d/d logits."""
        _, entering, preactivations = self.forward(layers, inputs)
        slopes = slopes * self.output_slope(preactivations[-1], layers)
        for d in reversed(range(1, len(layers.weights))):
            slopes = (slopes @ layers.weights[d].T) * self.activation_slope(
                entering[d], preactivations[d - 1], layers.activation
            )
        return slopes @ layers.weights[0].T

    # Sampling, wake and sleep, with the uniforms of the question

    def fire(self, logits: Array, uniforms: Array) -> Array:
        """A bit is u < p."""
        return (uniforms < self.sigmoid(logits)).astype(self.dtype)

    def dream(self) -> list[Array]:
        """Layers [x, z, z2, ...], drawn from the top downwards."""
        depth = len(self.decoders) - 1
        layers = [self.fire(self.top, self.inputs[f"uniforms_{latent_name(depth)}"])]
        for depth in reversed(range(len(self.decoders))):
            name = "x" if depth == 0 else latent_name(depth - 1)
            layers.insert(0, self.fire(self.decode(self.decoders[depth], layers[0]), self.inputs[f"uniforms_{name}"]))
        return layers

    def sample(self) -> Named:
        layers = self.dream()
        return {"x": layers[0]} | {latent_name(d): layer for d, layer in enumerate(layers[1:])}

    def recognise(self) -> list[Array]:
        """Layers [x, z, z2, ...], each drawn from q given the one below."""
        layers = [self.x]
        for depth, encoder in enumerate(self.encoders):
            uniforms = self.inputs[f"wake_uniforms_{latent_name(depth)}"]
            layers.append(self.fire(self.encode(encoder, layers[-1]), uniforms))
        return layers

    def wake_step(self) -> Named:
        """Parameters + rate times the mean over rows of d log p(x, z), z from q."""
        layers = self.recognise()
        model = self.named(self.decoders) | {"prior." * len(self.decoders) + "logits": self.top}
        return self.step(model, self.path_gradient(0, layers, np.ones(len(self.x), self.dtype)), len(self.x))

    def sleep_step(self) -> Named:
        """Parameters of q + rate times the mean over dreams of d log q(z | x)."""
        layers = self.dream()
        gradient: Named = {}
        for encoder, (below, above) in zip(self.encoders, itertools.pairwise(layers), strict=True):
            gradient |= self.backward(encoder, below, self.delta(above, self.encode(encoder, below)))
        return self.step(self.named(self.encoders), gradient, len(layers[0]))

    def named(self, networks: list[Layers]) -> Named:
        """Their parameters by name."""
        return {
            f"{layers.prefix}{kind}.{d}": value
            for layers in networks
            for kind, values in (("weights", layers.weights), ("biases", layers.biases))
            for d, value in enumerate(values)
        }

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        """The parameters after a step uphill."""
        rate = self.inputs["learning_rate"] / self.dtype(rows)
        return {name: parameters[name] + rate * gradient[name] for name in parameters}
