"""A candidate in JAX: every quantity by whole tables over z, every gradient by reverse-mode differentiation.

    refvlm conform --time-limit 60 -- python validation/candidates/jax_candidate.py [float32] [--wrong]

--wrong takes the mean over the batch where gradients are of the sum.
"""

from __future__ import annotations

import itertools
from typing import Any

import jax
from speak import options, serve

PRECISION, WRONG = options()
jax.config.update("jax_enable_x64", PRECISION == "float64")
jax.config.update("jax_platforms", "cpu")

import jax.numpy as jnp  # noqa: E402
from jax.nn import log_sigmoid, relu, sigmoid, softmax  # noqa: E402
from jax.scipy.special import logsumexp  # noqa: E402

ACTIVATIONS = {"tanh": jnp.tanh, "relu": relu, "sigmoid": sigmoid}
Array = jax.Array
Parameters = dict[str, Array]


def codes(latents: int) -> Array:
    """Row c is z_k = (c >> k) & 1."""
    return (jnp.arange(1 << latents)[:, None] >> jnp.arange(latents) & 1).astype(PRECISION)


def log_bernoulli(bits: Array, logits: Array) -> Array:
    return jnp.where(bits == 1, log_sigmoid(logits), log_sigmoid(-logits)).sum(-1)


def expectation(weights: Array, values: Array) -> Array:
    """0 times infinity is 0."""
    return jnp.where(weights > 0, weights * values, 0.0).sum(-1)


def logits(parameters: Parameters, prefix: str, h: Array, activation: str) -> Array:
    depth = sum(name.startswith(f"{prefix}weights.") for name in parameters)
    for d in range(depth):
        h = h @ parameters[f"{prefix}weights.{d}"] + parameters[f"{prefix}biases.{d}"]
        h = ACTIVATIONS[activation](h) if d < depth - 1 else h
    return h


def fire(a: Array, uniforms: Array) -> Array:
    return (uniforms < sigmoid(a)).astype(PRECISION)


def layer(depth: int) -> str:
    return "z" if depth == 0 else f"z{depth + 1}"


class Question:
    """p and q are the parameters by name; every method takes them, so that JAX can differentiate."""

    def __init__(self, model: Any, posterior: Any, inputs: dict[str, Any]) -> None:
        self.activation, arrays = model
        self.p = {name: jnp.asarray(value, dtype=PRECISION) for name, value in arrays.items()}
        self.q_activation, q_arrays = posterior or ("tanh", {})
        self.q = {name: jnp.asarray(value, dtype=PRECISION) for name, value in q_arrays.items()}
        self.inputs = {name: jnp.asarray(value, dtype=PRECISION) for name, value in inputs.items()}
        self.depth = sum(name.endswith("decoder.weights.0") for name in self.p)
        self.latents = [len(self.p["prior." * d + "decoder.weights.0"]) for d in range(self.depth)]
        chain = "0.encoder.weights.0" in self.q
        self.prefixes = [f"{d}.encoder." for d in range(self.depth)] if chain else ["encoder."]
        self.x = self.inputs.get("x")
        self.z = self.inputs.get("z")

    # The model

    def prior(self, p: Parameters, z: Array, depth: int = 0) -> Array:
        if depth == self.depth - 1:
            return log_bernoulli(z, p["prior." * (depth + 1) + "logits"])
        return logsumexp(self.joints(p, z, depth + 1), axis=-1)

    def likelihood(self, p: Parameters, x: Array, z: Array, depth: int = 0) -> Array:
        return log_bernoulli(x, logits(p, "prior." * depth + "decoder.", z, self.activation))

    def joints(self, p: Parameters, x: Array, depth: int = 0) -> Array:
        z = codes(self.latents[depth])
        return self.likelihood(p, x[:, None], z[None], depth) + self.prior(p, z, depth)

    def marginal(self, p: Parameters) -> Array:
        return logsumexp(self.joints(p, self.x), axis=-1)

    # The bound

    def paths(self) -> list[Array]:
        tables = [codes(latents) for latents in self.latents[: len(self.prefixes)]]
        rows = list(itertools.product(*(range(len(table)) for table in tables)))
        return [table[jnp.array([row[d] for row in rows])] for d, table in enumerate(tables)]

    def log_q(self, q: Parameters, x: Array, layers: list[Array]) -> Array:
        logs = log_bernoulli(layers[0], logits(q, self.prefixes[0], x, self.q_activation))
        for prefix, below, above in zip(self.prefixes[1:], layers, layers[1:], strict=False):
            logs = logs + log_bernoulli(above, logits(q, prefix, below, self.q_activation))
        return logs

    def path_prior(self, p: Parameters, layers: list[Array]) -> Array:
        logs = self.prior(p, layers[-1], len(layers) - 1)
        for depth, (below, above) in enumerate(itertools.pairwise(layers), start=1):
            logs = logs + self.likelihood(p, below, above, depth)
        return logs

    def terms(self, p: Parameters, q: Parameters) -> tuple[Array, Array, Array]:
        paths = self.paths()
        log_q = self.log_q(q, self.x[:, None], paths)
        q_z = jnp.exp(log_q)
        return (
            expectation(q_z, jnp.broadcast_to(self.path_prior(p, paths), q_z.shape)),
            expectation(q_z, self.likelihood(p, self.x[:, None], paths[0][None])),
            -expectation(q_z, log_q),
        )

    # The answers

    def log_prior(self) -> Array:
        return self.prior(self.p, self.z)

    def log_likelihood(self) -> Array:
        return self.likelihood(self.p, self.x, self.z)

    def log_joint(self) -> Array:
        return self.log_likelihood() + self.log_prior()

    def log_marginal(self) -> Array:
        return self.marginal(self.p)

    def posterior(self) -> Array:
        return softmax(self.joints(self.p, self.x), axis=-1)

    def posterior_mean(self) -> Array:
        return self.posterior() @ codes(self.latents[0])

    def vlb_terms(self) -> dict[str, Array]:
        return dict(zip(("prior", "reconstruction", "entropy"), self.terms(self.p, self.q), strict=True))

    def vlb(self) -> Array:
        prior, reconstruction, entropy = self.terms(self.p, self.q)
        return prior + reconstruction + entropy

    def kl(self) -> Array:
        return self.log_marginal() - self.vlb()

    def total(self, values: Array) -> Array:
        return values.mean() if WRONG else values.sum()

    def grad_log_marginal(self) -> Parameters:
        return jax.grad(lambda p: self.total(self.marginal(p)))(self.p)

    def grad_vlb(self) -> Parameters:
        p, q = jax.grad(lambda p, q: self.total(sum(self.terms(p, q))), argnums=(0, 1))(self.p, self.q)  # type: ignore[arg-type]
        return {f"model.{name}": value for name, value in p.items()} | {f"posterior.{n}": v for n, v in q.items()}

    def dream(self) -> list[Array]:
        top = self.p["prior." * self.depth + "logits"]
        layers = [fire(top, self.inputs[f"uniforms_{layer(self.depth - 1)}"])]
        for d in reversed(range(self.depth)):
            a = logits(self.p, "prior." * d + "decoder.", layers[0], self.activation)
            layers.insert(0, fire(a, self.inputs[f"uniforms_{'x' if d == 0 else layer(d - 1)}"]))
        return layers

    def sample(self) -> dict[str, Array]:
        layers = self.dream()
        return {"x": layers[0]} | {layer(d): bits for d, bits in enumerate(layers[1:])}

    def wake_step(self) -> Parameters:
        layers = [self.x]
        for d, prefix in enumerate(self.prefixes):
            a = logits(self.q, prefix, layers[-1], self.q_activation)
            layers.append(fire(a, self.inputs[f"wake_uniforms_{layer(d)}"]))
        slopes = jax.grad(lambda p: (self.likelihood(p, layers[0], layers[1]) + self.path_prior(p, layers[1:])).mean())(
            self.p
        )
        return {name: value + self.inputs["learning_rate"] * slopes[name] for name, value in self.p.items()}

    def sleep_step(self) -> Parameters:
        layers = self.dream()
        slopes = jax.grad(lambda q: self.log_q(q, layers[0], layers[1:]).mean())(self.q)
        return {name: value + self.inputs["learning_rate"] * slopes[name] for name, value in self.q.items()}


QUANTITIES = ("log_prior", "log_likelihood", "log_joint", "log_marginal", "posterior", "posterior_mean", "vlb_terms",
              "vlb", "kl", "grad_log_marginal", "grad_vlb", "sample", "wake_step", "sleep_step")  # fmt: skip

if __name__ == "__main__":
    who = {"name": "jax candidate", "version": jax.__version__, "language": "Python", "precision": PRECISION}
    serve(who, {name: (lambda *asked, name=name: getattr(Question(*asked), name)()) for name in QUANTITIES})
