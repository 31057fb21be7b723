"""A candidate in PyTorch: every quantity by whole tables over z, every gradient by autograd.

    refvlm conform -- python validation/candidates/torch_candidate.py [float32] [--wrong]

--wrong leaves log p(z) out of the joint, as a surrogate in a well-known library once did.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from speak import options, serve
from torch.nn.functional import logsigmoid

PRECISION, WRONG = options()
torch.set_default_dtype(getattr(torch, PRECISION))

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu, "sigmoid": torch.sigmoid}
Tensor = torch.Tensor


def codes(latents: int) -> Tensor:
    """Row c is z_k = (c >> k) & 1."""
    return (torch.arange(1 << latents)[:, None] >> torch.arange(latents) & 1).to(torch.get_default_dtype())


def log_bernoulli(bits: Tensor, logits: Tensor) -> Tensor:
    return torch.where(bits == 1, logsigmoid(logits), logsigmoid(-logits)).sum(-1)


def expectation(weights: Tensor, values: Tensor) -> Tensor:
    """0 times infinity is 0."""
    return torch.where(weights > 0, weights * values, torch.zeros(())).sum(-1)


class Networks:
    """Parameters by name, as tensors that track gradients."""

    def __init__(self, network: tuple[str, dict[str, Any]]) -> None:
        self.activation = ACTIVATIONS[network[0]]
        self.parameters = {name: torch.tensor(value, dtype=torch.get_default_dtype(), requires_grad=True)
                           for name, value in network[1].items()}  # fmt: skip

    def logits(self, prefix: str, h: Tensor) -> Tensor:
        depth = sum(name.startswith(f"{prefix}weights.") for name in self.parameters)
        for d in range(depth):
            h = h @ self.parameters[f"{prefix}weights.{d}"] + self.parameters[f"{prefix}biases.{d}"]
            h = self.activation(h) if d < depth - 1 else h
        return h

    def climbed(self, objective: Tensor, rate: Tensor) -> dict[str, Tensor]:
        """The parameters after a step uphill."""
        slopes = self.gradient(objective)
        return {name: (value + rate * slopes[name]).detach() for name, value in self.parameters.items()}

    def gradient(self, objective: Tensor) -> dict[str, Tensor]:
        values = list(self.parameters.values())
        slopes = torch.autograd.grad(objective, values, retain_graph=True, allow_unused=True)
        pairs = zip(self.parameters.items(), slopes, strict=True)
        return {name: torch.zeros_like(value) if slope is None else slope for (name, value), slope in pairs}


class Model(Networks):
    def depth(self) -> int:
        return sum(name.endswith("decoder.weights.0") for name in self.parameters)

    def latents(self, depth: int) -> int:
        return len(self.parameters["prior." * depth + "decoder.weights.0"])

    def log_prior(self, z: Tensor, depth: int = 0) -> Tensor:
        if depth == self.depth() - 1:
            return log_bernoulli(z, self.parameters["prior." * (depth + 1) + "logits"])
        return self.log_joints(z, depth + 1).logsumexp(-1)

    def log_likelihood(self, x: Tensor, z: Tensor, depth: int = 0) -> Tensor:
        return log_bernoulli(x, self.logits("prior." * depth + "decoder.", z))

    def joint(self, likelihood: Tensor, prior: Tensor) -> Tensor:
        return likelihood if WRONG else likelihood + prior

    def log_joints(self, x: Tensor, depth: int = 0) -> Tensor:
        """(N, 2^K)."""
        z = codes(self.latents(depth))
        return self.joint(self.log_likelihood(x[:, None], z[None], depth), self.log_prior(z, depth))


class Posterior(Networks):
    """q(z | x), or a chain; a path is one setting of all the layers it draws."""

    def prefixes(self, model: Model) -> list[str]:
        chain = "0.encoder.weights.0" in self.parameters
        return [f"{d}.encoder." for d in range(model.depth())] if chain else ["encoder."]

    def paths(self, model: Model) -> list[Tensor]:
        tables = [codes(model.latents(d)) for d in range(len(self.prefixes(model)))]
        rows = list(itertools.product(*(range(len(table)) for table in tables)))
        return [table[[row[d] for row in rows]] for d, table in enumerate(tables)]

    def log_q(self, model: Model, x: Tensor, layers: list[Tensor]) -> Tensor:
        """(N, P) for paths, (N,) for rows of z."""
        prefixes = self.prefixes(model)
        logs = log_bernoulli(layers[0], self.logits(prefixes[0], x))
        for prefix, below, above in zip(prefixes[1:], layers, layers[1:], strict=False):
            logs = logs + log_bernoulli(above, self.logits(prefix, below))
        return logs


def path_prior(model: Model, layers: list[Tensor]) -> Tensor:
    logs = model.log_prior(layers[-1], len(layers) - 1)
    for depth, (below, above) in enumerate(itertools.pairwise(layers), start=1):
        logs = logs + model.log_likelihood(below, above, depth)
    return logs


def bound(model: Model, q: Posterior, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """prior, reconstruction, entropy: (N,) each."""
    paths = q.paths(model)
    log_q = q.log_q(model, x[:, None], paths)
    q_z = log_q.exp()
    prior = torch.zeros_like(q_z) if WRONG else path_prior(model, paths).expand(q_z.shape)
    likelihood = model.log_likelihood(x[:, None], paths[0][None])
    return expectation(q_z, prior), expectation(q_z, likelihood), -expectation(q_z, log_q)


def fire(logits: Tensor, uniforms: Tensor) -> Tensor:
    return (uniforms < logits.sigmoid()).to(uniforms.dtype)


def layer(depth: int) -> str:
    return "z" if depth == 0 else f"z{depth + 1}"


def dream(model: Model, inputs: dict[str, Tensor]) -> list[Tensor]:
    depth = model.depth()
    top = model.parameters["prior." * depth + "logits"]
    layers = [fire(top, inputs[f"uniforms_{layer(depth - 1)}"])]
    for d in reversed(range(depth)):
        name = "x" if d == 0 else layer(d - 1)
        layers.insert(0, fire(model.logits("prior." * d + "decoder.", layers[0]), inputs[f"uniforms_{name}"]))
    return layers


class Question:
    def __init__(self, model: Any, posterior: Any, inputs: dict[str, Any]) -> None:
        self.model = Model(model)
        self.q = Posterior(posterior) if posterior else None
        self.inputs = {name: torch.tensor(v, dtype=torch.get_default_dtype()) for name, v in inputs.items()}

    def log_prior(self) -> Tensor:
        return self.model.log_prior(self.inputs["z"])

    def log_likelihood(self) -> Tensor:
        return self.model.log_likelihood(self.inputs["x"], self.inputs["z"])

    def log_joint(self) -> Tensor:
        return self.model.joint(self.log_likelihood(), self.log_prior())

    def log_marginal(self) -> Tensor:
        return self.model.log_joints(self.inputs["x"]).logsumexp(-1)

    def posterior(self) -> Tensor:
        return self.model.log_joints(self.inputs["x"]).softmax(-1)

    def posterior_mean(self) -> Tensor:
        return self.posterior() @ codes(self.model.latents(0))

    def vlb_terms(self) -> dict[str, Tensor]:
        return dict(zip(("prior", "reconstruction", "entropy"), self.terms(), strict=True))

    def terms(self) -> tuple[Tensor, Tensor, Tensor]:
        assert self.q
        return bound(self.model, self.q, self.inputs["x"])

    def vlb(self) -> Tensor:
        prior, reconstruction, entropy = self.terms()
        return prior + reconstruction + entropy

    def kl(self) -> Tensor:
        return self.log_marginal() - self.vlb()

    def grad_log_marginal(self) -> dict[str, Tensor]:
        return self.model.gradient(self.log_marginal().sum())

    def grad_vlb(self) -> dict[str, Tensor]:
        assert self.q
        total = self.vlb().sum()
        gradient = {f"model.{name}": value for name, value in self.model.gradient(total).items()}
        return gradient | {f"posterior.{name}": value for name, value in self.q.gradient(total).items()}

    def sample(self) -> dict[str, Tensor]:
        layers = dream(self.model, self.inputs)
        return {"x": layers[0]} | {layer(d): bits for d, bits in enumerate(layers[1:])}

    def wake_step(self) -> dict[str, Tensor]:
        assert self.q
        layers = [self.inputs["x"]]
        for d, prefix in enumerate(self.q.prefixes(self.model)):
            layers.append(fire(self.q.logits(prefix, layers[-1]), self.inputs[f"wake_uniforms_{layer(d)}"]))
        logs = self.model.log_likelihood(layers[0], layers[1]) + path_prior(self.model, layers[1:])
        return self.model.climbed(logs.mean(), self.inputs["learning_rate"])

    def sleep_step(self) -> dict[str, Tensor]:
        assert self.q
        layers = dream(self.model, self.inputs)
        return self.q.climbed(self.q.log_q(self.model, layers[0], layers[1:]).mean(), self.inputs["learning_rate"])


def answer(quantity: str) -> Any:
    def compute(model: Any, posterior: Any, inputs: dict[str, Any]) -> Any:
        result = getattr(Question(model, posterior, inputs), quantity)()
        if isinstance(result, dict):
            return {name: value.detach().numpy() for name, value in result.items()}
        return result.detach().numpy()

    return compute


QUANTITIES = ("log_prior", "log_likelihood", "log_joint", "log_marginal", "posterior", "posterior_mean", "vlb_terms",
              "vlb", "kl", "grad_log_marginal", "grad_vlb", "sample", "wake_step", "sleep_step")  # fmt: skip

if __name__ == "__main__":
    who = {"name": "torch candidate", "version": torch.__version__, "language": "Python", "precision": PRECISION}
    serve(who, {quantity: answer(quantity) for quantity in QUANTITIES})
