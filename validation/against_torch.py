"""refvlm against PyTorch in float64: `python validation/against_torch.py`.

The same models written once more as dense tables over all codes, differentiated by PyTorch's autograd:

    log p(bits; a)  = sum_i bits_i log sigmoid(a_i) + (1 - bits_i) log sigmoid(-a_i)
    log p(x)        = logsumexp over z of log p(x | z) + log p(z)                            eq. (3)
    VLB             = sum over z of q(z) (log p(x | z) + log p(z) - log q(z))                eq. (10)
    KL              = sum over z of q(z) (log q(z) - log p(x | z) - log p(z) + log p(x))     eq. (7)

With a chain on a deep model z stands for the bits of all layers together, one axis of the table for each layer;
with a single q, log p(z) is the logsumexp over the layers above. Gradients are those of sums over rows with random
weights, compared by name. `refvlm.from_torch` gets real torch.nn.Sequential modules, and their state dicts.

Allowed: 1e-13 of the sum of the magnitudes of what is added up, that is some 500 roundings of float64, and a value
here is the result of a few hundred operations one after the other. A gradient adds up slopes times the rows' weights
through weight matrices with norms of order 1. Exit code 1 if anything disagrees, 77 without PyTorch.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
from common import NO_FRAMEWORK, Report

try:
    import torch
    from torch import nn
except ImportError as error:
    print(f"skipped: PyTorch cannot be imported ({error})")
    sys.exit(NO_FRAMEWORK)

from cases import Case, cases

import refvlm

RELATIVE = 1e-13
ACTIVATION = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "leaky_relu": nn.functional.leaky_relu,
    "elu": nn.functional.elu,
    "softplus": nn.functional.softplus,  # the identity above 20, which no argument here reaches
    "silu": nn.functional.silu,
}
MODULE = {
    "tanh": nn.Tanh, "relu": nn.ReLU, "sigmoid": nn.Sigmoid, "leaky_relu": nn.LeakyReLU, "elu": nn.ELU,
    "softplus": nn.Softplus, "silu": nn.SiLU,
}  # fmt: skip

Tensors = dict[str, torch.Tensor]


def codes(latents: int) -> torch.Tensor:
    """{0,1}^K in the order of the codes, (2**K, K)."""
    return ((torch.arange(2**latents)[:, None] >> torch.arange(latents)) & 1).double()


def forward(mlp: refvlm.MLP, parameters: Tensors, prefix: str, h: torch.Tensor) -> torch.Tensor:
    """The logits; of `mlp` only the depth and the activation are used."""
    for d in range(len(mlp.weights)):
        h = ACTIVATION[mlp.activation](h) if d > 0 else h
        h = h @ parameters[f"{prefix}weights.{d}"] + parameters[f"{prefix}biases.{d}"]
    return h


def log_table(logits: torch.Tensor, bits: torch.Tensor) -> torch.Tensor:
    """log p(bits; logits) for every row of bits (N, L) under every row of logits (C, L): (N, C)."""
    on, off = nn.functional.logsigmoid(logits), nn.functional.logsigmoid(-logits)
    return bits @ on.T + (1 - bits) @ off.T


def likelihoods(model: refvlm.BernoulliLVM, parameters: Tensors, prefix: str, x: torch.Tensor) -> torch.Tensor:
    """log p(x_n | z), (N, 2**K)."""
    return log_table(forward(model.decoder, parameters, f"{prefix}decoder.", codes(model.latents)), x)


def log_prior(model: refvlm.BernoulliLVM, parameters: Tensors, prefix: str) -> torch.Tensor:
    """log p(z) for every code of the layer next to x, (2**K,)."""
    if isinstance(model.prior, refvlm.Bernoulli):
        return log_table(parameters[f"{prefix}prior.logits"][None], codes(model.latents))[:, 0]
    above, every = f"{prefix}prior.", codes(model.latents)
    table = likelihoods(model.prior, parameters, above, every) + log_prior(model.prior, parameters, above)
    return torch.logsumexp(table, 1)


def log_marginal(model: refvlm.BernoulliLVM, parameters: Tensors, x: torch.Tensor) -> torch.Tensor:
    """Eq. (3), (N,)."""
    return torch.logsumexp(likelihoods(model, parameters, "model.", x) + log_prior(model, parameters, "model."), 1)


def q_logits(stage: Any, parameters: Tensors, prefix: str, inputs: torch.Tensor) -> torch.Tensor:
    """phi before the sigmoid, one row for each row of inputs."""
    if isinstance(stage, refvlm.PerDatumPosterior):
        return parameters[f"{prefix}logits"]
    return forward(stage.encoder, parameters, f"{prefix}encoder.", inputs)


def joint_tables(case: Case, parameters: Tensors, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """log p(x_n, z) and log q(z | x_n), (N, 2**K): over all layers, flattened, if q is a chain."""
    model, q = case.model, case.q
    log_p = likelihoods(model, parameters, "model.", x)
    if not isinstance(q, refvlm.ChainPosterior):
        logits = q_logits(q, parameters, "posterior.", x)
        return log_p + log_prior(model, parameters, "model."), log_table(logits, codes(q.latents)).T
    log_q = log_table(q_logits(q.stages[0], parameters, "posterior.0.", x), codes(q.latents)).T
    prefix = "model."
    for depth, stage in enumerate(q.stages[1:], 1):
        below, model, prefix = codes(model.latents), model.prior, f"{prefix}prior."
        log_p = log_p[..., None] + likelihoods(model, parameters, prefix, below)
        upwards = q_logits(stage, parameters, f"posterior.{depth}.", below)
        log_q = log_q[..., None] + log_table(upwards, codes(stage.latents)).T
    log_p = log_p + log_prior(model, parameters, prefix)
    return log_p.flatten(1), log_q.flatten(1)


def check_case(report: Report, case: Case) -> None:
    """Values and gradients of one model with one q."""
    named = {f"model.{name}": value for name, value in case.model.parameters().items()}
    named |= {f"posterior.{name}": value for name, value in case.q.parameters().items()}
    parameters = {name: torch.tensor(np.array(value), requires_grad=True) for name, value in named.items()}
    x, weights = torch.tensor(case.x).double(), torch.tensor(case.weights)
    kind = ("deep, " if isinstance(case.model.prior, refvlm.BernoulliLVM) else "") + type(case.q).__name__

    log_px = log_marginal(case.model, parameters, x)
    log_p, log_q = joint_tables(case, parameters, x)
    share = torch.exp(log_q)
    vlb = (share * (log_p - log_q)).sum(1)
    gap = (share * (log_q - log_p + log_px[:, None])).sum(1)
    size = 1 + ((share * (log_p.abs() + log_q.abs())).sum(1) + log_px.abs()).detach().numpy()
    for what, expected, got in (
        ("log_marginal", log_px, refvlm.log_marginal(case.model, case.x)),
        ("vlb", vlb, refvlm.vlb(case.model, case.q, case.x)),
        ("kl", gap, refvlm.kl(case.model, case.q, case.x)),
    ):
        report.check(f"{what} [{kind}]", expected.detach().numpy(), got, RELATIVE * size, where=case.name)

    allowed = RELATIVE * float(np.abs(case.weights).sum() * size.max())
    values, of_log_px = refvlm.log_marginal_and_grad(case.model, case.x, case.weights)
    report.check(f"log_marginal_and_grad, value [{kind}]", log_px.detach().numpy(), values, RELATIVE * size)
    for what, value, got in (
        ("grad_log_marginal", log_px, refvlm.grad_log_marginal(case.model, case.x, case.weights)),
        ("log_marginal_and_grad", log_px, of_log_px),
        ("grad_vlb", vlb, refvlm.grad_vlb(case.model, case.q, case.x, case.weights)),
    ):
        got = got if what == "grad_vlb" else {f"model.{name}": array for name, array in got.items()}
        wanted = [name for name in parameters if what == "grad_vlb" or name.startswith("model.")]
        if set(got) != set(wanted):
            raise AssertionError(f"{what}: names {sorted(set(got) ^ set(wanted))} belong to one side only")
        slopes = torch.autograd.grad((weights * value).sum(), [parameters[name] for name in wanted], retain_graph=True)
        for name, slope in zip(wanted, slopes, strict=True):
            family = f"{what} {name.split('.')[0]}.* [{kind}]"
            report.check(family, slope.numpy(), got[name], allowed, where=f"{case.name}, {name}")


def check_modules(report: Report) -> None:
    """from_torch on real modules and their state dicts, float32 and float64, with and without biases."""
    torch.manual_seed(5)
    inputs = codes(6)
    for activation in ACTIVATION:
        for sizes in ([6, 11], [6, 9, 11], [6, 4, 9, 11]):
            for dtype in (torch.float32, torch.float64):
                for bias in (True, False):
                    layers: list[nn.Module] = []
                    for fan_in, fan_out in itertools.pairwise(sizes):
                        layers += [nn.Linear(fan_in, fan_out, bias=bias, dtype=dtype), MODULE[activation]()]
                    module = nn.Sequential(*layers[:-1])
                    mlps = refvlm.from_torch(module), refvlm.from_torch(module.state_dict(), activation=activation)
                    expected = module.double()(inputs).detach().numpy()
                    for mlp in mlps:
                        allowed = RELATIVE * (1 + mlp.largest_logits())  # what a logit is at most a sum of
                        where = f"{activation}, {sizes}, {dtype}, bias={bias}"
                        got = mlp.forward(inputs.numpy())[0]
                        report.check("from_torch: logits of a Sequential", expected, got, allowed, where=where)


def main() -> int:
    """Run all cases, print the table."""
    torch.set_num_threads(1)
    report = Report()
    print(f"refvlm {refvlm.__version__} against PyTorch {torch.__version__}, float64")
    for case in cases():
        check_case(report, case)
    check_modules(report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
