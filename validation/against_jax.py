"""refvlm against JAX in float64: `python validation/against_jax.py`.

The same models written once more with jax.numpy, one code and one row at a time, vectorised by vmap and
differentiated by jax.vjp with respect to a dictionary of parameters under refvlm's names:

    log p(bits; a)  = - sum_i softplus((1 - 2 bits_i) a_i)
    log p(x)        = logsumexp over z of log p(x | z) + log p(z)                            eq. (3)
    VLB             = sum over z of q(z) (log p(x | z) + log p(z) - log q(z))                eq. (10)
    KL              = sum over z of q(z) (log q(z) - log p(x | z) - log p(z) + log p(x))     eq. (7)

With a single q on a deep model log p(z) is the same logsumexp one layer up. With a chain the bound is taken layer by
layer: in eq. (10) the bound of the layers above stands in for log p(z), in eq. (7) their divergence is added (the
chain rule). `refvlm.from_flax` gets the parameters of a real flax.linen MLP, where flax is installed.

Allowed: 1e-13 of the sum of the magnitudes of what is added up, that is some 500 roundings of float64, and a value
here is the result of a few hundred operations one after the other. A gradient adds up slopes times the rows' weights
through weight matrices with norms of order 1. Exit code 1 if anything disagrees, 77 without JAX.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import numpy as np
from common import NO_FRAMEWORK, Report

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    print(f"skipped: JAX cannot be imported ({error})")
    sys.exit(NO_FRAMEWORK)

from cases import Case, cases

import refvlm

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

RELATIVE = 1e-13
ACTIVATION = {
    "tanh": jnp.tanh, "relu": jax.nn.relu, "sigmoid": jax.nn.sigmoid, "leaky_relu": jax.nn.leaky_relu,
    "elu": jax.nn.elu, "softplus": jax.nn.softplus, "silu": jax.nn.silu,
}  # fmt: skip

Arrays = dict[str, jax.Array]


def codes(latents: int) -> jax.Array:
    """{0,1}^K in the order of the codes, (2**K, K)."""
    every = itertools.product((0.0, 1.0), repeat=latents)
    return jnp.array([bits[::-1] for bits in every])


def forward(mlp: refvlm.MLP, parameters: Arrays, prefix: str, h: jax.Array) -> jax.Array:
    """The logits for one input; of `mlp` only the depth and the activation are used."""
    depth = len(mlp.weights)
    for d in range(depth):
        h = parameters[f"{prefix}weights.{d}"].T @ h + parameters[f"{prefix}biases.{d}"]
        h = h if d == depth - 1 else ACTIVATION[mlp.activation](h)
    return h


def log_probability(bits: jax.Array, logits: jax.Array) -> jax.Array:
    """log p(bits; logits) of independent bits."""
    return -jax.nn.softplus((1 - 2 * bits) * logits).sum()


def log_likelihoods(model: refvlm.BernoulliLVM, parameters: Arrays, prefix: str, x: jax.Array) -> jax.Array:
    """log p(x | z) of one row for every code, (2**K,)."""
    return jax.vmap(lambda z: log_probability(x, forward(model.decoder, parameters, f"{prefix}decoder.", z)))(
        codes(model.latents)
    )


def log_priors(model: refvlm.BernoulliLVM, parameters: Arrays, prefix: str) -> jax.Array:
    """log p(z) for every code of the layer next to x, (2**K,)."""
    every = codes(model.latents)
    if isinstance(model.prior, refvlm.Bernoulli):
        return jax.vmap(lambda z: log_probability(z, parameters[f"{prefix}prior.logits"]))(every)
    return jax.vmap(lambda z: log_evidence(model.prior, parameters, f"{prefix}prior.", z))(every)


def log_evidence(model: refvlm.BernoulliLVM, parameters: Arrays, prefix: str, x: jax.Array) -> jax.Array:
    """log p(x) of one row, eq. (3)."""
    joint = log_likelihoods(model, parameters, prefix, x) + log_priors(model, parameters, prefix)
    return jax.nn.logsumexp(joint)


def log_qs(logits: jax.Array) -> jax.Array:
    """log q(z) for every code, (2**K,)."""
    return jax.vmap(lambda z: log_probability(z, logits))(codes(len(logits)))


def bound(
    model: refvlm.BernoulliLVM, stages: list[Any], prefixes: list[str], parameters: Arrays, prefix: str, row: jax.Array,
    logits: jax.Array,
) -> dict[str, jax.Array]:  # fmt: skip
    """Of one row: VLB and KL given the logits of the first stage; upper stages by recursion over the layers."""
    log_q, likelihood = log_qs(logits), log_likelihoods(model, parameters, prefix, row)
    exact = log_priors(model, parameters, prefix)
    evidence = jax.nn.logsumexp(likelihood + exact)
    share = jnp.exp(log_q)
    inner_vlb, inner_kl, inner_size = exact, jnp.zeros_like(exact), jnp.abs(exact)
    if len(stages) > 1:

        def above(z: jax.Array) -> dict[str, jax.Array]:
            upper = forward(stages[1].encoder, parameters, f"{prefixes[1]}encoder.", z)
            return bound(model.prior, stages[1:], prefixes[1:], parameters, f"{prefix}prior.", z, upper)

        tables = jax.vmap(above)(codes(model.latents))
        inner_vlb, inner_kl, inner_size = tables["vlb"], tables["kl"], tables["size"]
    return {
        "vlb": (share * (likelihood + inner_vlb - log_q)).sum(),
        "kl": (share * (log_q - likelihood - exact + evidence + inner_kl)).sum(),
        "size": (share * (jnp.abs(likelihood) + jnp.abs(log_q) + inner_size)).sum() + jnp.abs(evidence),
        "log_px": evidence,
    }


def quantities(case: Case, parameters: Arrays) -> dict[str, jax.Array]:
    """All rows, (N,) each."""
    chained = isinstance(case.q, refvlm.ChainPosterior)
    stages = list(case.q.stages) if isinstance(case.q, refvlm.ChainPosterior) else [case.q]
    prefixes = [f"posterior.{depth}." if chained else "posterior." for depth in range(len(stages))]
    x = jnp.array(case.x, dtype=jnp.float64)
    if isinstance(stages[0], refvlm.PerDatumPosterior):
        logits = parameters[f"{prefixes[0]}logits"]
    else:
        encoder = stages[0].encoder
        logits = jax.vmap(lambda row: forward(encoder, parameters, f"{prefixes[0]}encoder.", row))(x)
    return jax.vmap(lambda row, a: bound(case.model, stages, prefixes, parameters, "model.", row, a))(x, logits)


def check_case(report: Report, case: Case) -> None:
    """Values and gradients of one model with one q."""
    named = {f"model.{name}": value for name, value in case.model.parameters().items()}
    named |= {f"posterior.{name}": value for name, value in case.q.parameters().items()}
    parameters = {name: jnp.array(value) for name, value in named.items()}
    kind = ("deep, " if isinstance(case.model.prior, refvlm.BernoulliLVM) else "") + type(case.q).__name__

    @jax.jit
    def everything(p: Arrays) -> tuple[dict[str, jax.Array], dict[str, Arrays]]:
        found, pullback = jax.vjp(lambda p: quantities(case, p), p)
        zeros = jax.tree.map(jnp.zeros_like, found)
        return found, {key: pullback(zeros | {key: jnp.array(case.weights)})[0] for key in ("log_px", "vlb")}

    found, slopes = everything(parameters)
    size = 1 + np.asarray(found["size"])
    values, of_log_px = refvlm.log_marginal_and_grad(case.model, case.x, case.weights)
    for what, key, got in (
        ("log_marginal", "log_px", refvlm.log_marginal(case.model, case.x)),
        ("log_marginal_and_grad, value", "log_px", values),
        ("vlb", "vlb", refvlm.vlb(case.model, case.q, case.x)),
        ("kl", "kl", refvlm.kl(case.model, case.q, case.x)),
    ):
        report.check(f"{what} [{kind}]", np.asarray(found[key]), got, RELATIVE * size, where=case.name)

    allowed = RELATIVE * float(np.abs(case.weights).sum() * size.max())
    for what, key, got in (
        ("grad_log_marginal", "log_px", refvlm.grad_log_marginal(case.model, case.x, case.weights)),
        ("log_marginal_and_grad", "log_px", of_log_px),
        ("grad_vlb", "vlb", refvlm.grad_vlb(case.model, case.q, case.x, case.weights)),
    ):
        got = got if what == "grad_vlb" else {f"model.{name}": array for name, array in got.items()}
        if set(got) != {name for name in parameters if what == "grad_vlb" or name.startswith("model.")}:
            raise AssertionError(f"{what}: names {sorted(got)} are not those of the parameters")
        for name, array in got.items():
            family = f"{what} {name.split('.')[0]}.* [{kind}]"
            report.check(family, np.asarray(slopes[key][name]), array, allowed, where=f"{case.name}, {name}")


def check_modules(report: Report) -> None:
    """from_flax on the parameters of a real flax.linen MLP, float32 and float64, with and without biases."""
    try:
        import flax.linen as nn
    except ImportError as error:
        print(f"skipped: from_flax, because flax cannot be imported ({error})")
        return

    class Net(nn.Module):
        widths: tuple[int, ...]
        activation: str
        biased: bool
        dtype: Any

        @nn.compact
        def __call__(self, h: jax.Array) -> jax.Array:
            for depth, width in enumerate(self.widths):
                h = ACTIVATION[self.activation](h) if depth > 0 else h
                uniform = nn.initializers.uniform(1.0)
                h = nn.Dense(width, use_bias=self.biased, param_dtype=self.dtype, bias_init=uniform)(h)
            return h

    inputs = codes(6)
    for activation in ACTIVATION:
        for widths, dtype, biased in itertools.product(
            [(11,), (9, 11), (4, 9, 11)], [jnp.float32, jnp.float64], [True, False]
        ):
            net = Net(widths, activation, biased, dtype)
            variables = net.init(jax.random.key(7), inputs)
            wide = jax.tree.map(lambda a: a.astype(jnp.float64), variables)
            expected = np.asarray(net.apply(wide, inputs))
            where = f"{activation}, {widths}, {dtype.__name__}, biased={biased}"
            for params in (variables, variables["params"]):
                mlp = refvlm.from_flax(params, activation=activation)
                allowed = RELATIVE * (1 + mlp.largest_logits())  # what a logit is at most a sum of
                got = mlp.forward(np.asarray(inputs))[0]
                report.check("from_flax: logits of a linen MLP", expected, got, allowed, where=where)


def main() -> int:
    """Run all cases, print the table."""
    report = Report()
    print(f"refvlm {refvlm.__version__} against JAX {jax.__version__}, float64")
    for case in cases():
        check_case(report, case)
    check_modules(report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
