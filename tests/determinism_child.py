"""Problems whose every quantity `test_determinism.py` compares; run as a program, prints them all as JSON.

A quantity's name is that of its function, then, after a dot, the part of the result. Problems are made of integers and
powers of two alone: `rng.normal` itself takes logarithms from the C library.
"""

from __future__ import annotations

import json
import math
import sys
from itertools import pairwise
from typing import NamedTuple

import numpy as np

import refvlm
from refvlm.inference.certificate import needs_precision

ROWS = 700
"""Rows of every problem: more than one piece of them."""

DRAWS = 5


class Problem(NamedTuple):
    model: refvlm.BernoulliLVM
    q: refvlm.AmortisedPosterior | refvlm.PerDatumPosterior | refvlm.ChainPosterior
    x: np.ndarray
    z: np.ndarray
    weights: np.ndarray


class IntegerNetwork:
    """Affine, no MLP, with integer weights: exact logits, and exactly rounded sums in the pullback."""

    def __init__(self, fan_in, fan_out, rng):
        self.fan_in, self.fan_out = fan_in, fan_out
        self.weights = rng.integers(-3, 4, size=(fan_in, fan_out)).astype(np.float64)

    def parameters(self):
        return {"weights": self.weights}

    def forward(self, inputs):
        def pullback(slopes):
            columns = [[math.fsum(slope[bit == 1]) for slope in slopes.T] for bit in inputs.T]
            return {"weights": np.array(columns)}

        return inputs @ self.weights * 0.25 - 0.5, pullback


def numbers(rng, *shape, scale=2.0):
    """Multiples of 2**-20 between -scale and scale, a power of two."""
    return rng.integers(-(1 << 20), 1 << 20, size=shape) * (scale * 2.0**-20)


def network(sizes, rng, activation="tanh", scale=2.0):
    weights = [numbers(rng, *pair, scale=scale) for pair in pairwise(sizes)]
    return refvlm.MLP(weights, [numbers(rng, n, scale=0.5) for n in sizes[1:]], activation)


def shallow(sizes, rng, activation="tanh", scale=2.0):
    """A model with the given widths, latents first, and an encoder for it."""
    latents, observed = sizes[0], sizes[-1]
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(numbers(rng, latents)), network(sizes, rng, activation, scale))
    return model, refvlm.AmortisedPosterior(network([observed, 8, latents], rng, activation, 1.0))


def linear(rng):
    return shallow([9, 5], rng)


def tanh(rng):
    return shallow([14, 6, 16], rng)


def relu(rng):
    return shallow([13, 11, 7, 65], rng, "relu", 1.0)


def sigmoid(rng):
    return shallow([10, 21, 5], rng, "sigmoid", 4.0)


def silu(rng):
    """Its derivative is computed from the argument, not from the value."""
    return shallow([12, 6, 9, 5], rng, "silu")


def large(rng):
    """Weights up to 1024, for which the network is evaluated in double-double."""
    return shallow([13, 11, 7, 5], rng, scale=1024.0)


def degenerate(rng):
    """Bits that are always 0 or always 1, and a q that agrees with them."""
    latents, observed = 12, 16
    fixed = {0: np.inf, 4: -np.inf, 7: -np.inf, 11: np.inf}
    prior, logits = numbers(rng, latents), numbers(rng, ROWS, latents)
    for k, value in fixed.items():
        prior[k] = logits[:, k] = value
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), network([latents, 6, observed], rng))
    return model, refvlm.PerDatumPosterior(logits)


def impossible(rng):
    """A q with mass on what the prior rules out: VLB = -inf, KL = +inf."""
    return degenerate(rng)[0], refvlm.AmortisedPosterior(network([16, 12], rng))


def collapsed(rng):
    """A prior that is a model, and a single q."""
    above, _ = shallow([9, 6, 13], rng, "sigmoid")
    model = refvlm.BernoulliLVM(above, network([13, 7, 5], rng))
    return model, refvlm.AmortisedPosterior(network([5, 13], rng))


def chain(rng):
    """The same, and a q for each layer."""
    model, _ = collapsed(rng)
    above = refvlm.AmortisedPosterior(network([13, 8, 9], rng, scale=1.0))
    return model, refvlm.ChainPosterior([refvlm.PerDatumPosterior(numbers(rng, ROWS, 13)), above])


def general(rng):
    """Neither the decoder nor the encoder is an MLP."""
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(numbers(rng, 13)), IntegerNetwork(13, 5, rng))
    return model, refvlm.AmortisedPosterior(IntegerNetwork(5, 13, rng))


MAKERS = (linear, tanh, relu, sigmoid, large, degenerate, impossible, collapsed, chain, general, silu)
NAMES = tuple(maker.__name__ for maker in MAKERS)
FEW, MANY = 3, 40
"""Rows of a problem that are enumerated where there is no need for all; of `linear` one instead of the few."""


def problem(name):
    """All rows of the problem of that name."""
    number = NAMES.index(name)
    rng = np.random.default_rng(number)
    model, q = MAKERS[number](rng)
    x, z = (rng.integers(0, 2, size=(ROWS, n)).astype(np.uint8) for n in (model.observed, model.latents))
    return Problem(model, q, x, z, numbers(rng, ROWS))


def part(p, rows):
    """The problem of some of the rows."""
    q = p.q
    if isinstance(q, refvlm.PerDatumPosterior):
        q = q.take(rows)
    elif isinstance(q, refvlm.ChainPosterior):
        q = refvlm.ChainPosterior([q.stages[0].take(rows), *q.stages[1:]])
    return Problem(p.model, q, p.x[rows], p.z[rows], p.weights[rows])


def named(function, parts):
    return {f"{function}.{name}": value for name, value in parts.items()}


def of_rows(p, **engine):
    """What has a value for each row."""
    model, q, x, _, _ = p
    log_px, error = refvlm.log_marginal(model, x, with_error=True, **engine)
    return {
        "log_marginal": log_px,
        "log_marginal.error": error,
        "posterior_mean": refvlm.posterior_mean(model, x, **engine),
        "posterior": refvlm.posterior(model, x, **engine),
        "vlb": refvlm.vlb(model, q, x, **engine),
        **named("vlb_terms", refvlm.vlb_terms(model, q, x, **engine)._asdict()),
        "kl": refvlm.kl(model, q, x, **engine),
        **named("decompose", refvlm.decompose(model, q, x, **engine)._asdict()),
        **named("log_weight_moments", refvlm.log_weight_moments(model, q, x, **engine)._asdict()),
    }


def of_samples(p, **engine):
    """IWAE-3, where its sums over the nodes are short."""
    precise = isinstance(p.model.decoder, refvlm.MLP) and needs_precision(p.model.decoder)
    if precise or not isinstance(p.model.prior, refvlm.Bernoulli):
        return {}
    value, error = refvlm.iwae(p.model, p.q, p.x, 3, with_error=True, **engine)
    return {"iwae": value, "iwae.error": error}


def of_pairs(p):
    """What has a value for each pair of rows (x, z) and enumerates nothing, unless the prior is a model."""
    model, q, x, z, _ = p
    return {
        "log_prior": refvlm.log_prior(model, z),
        "log_likelihood": refvlm.log_likelihood(model, x, z),
        "log_joint": refvlm.log_joint(model, x, z),
        "log_q": refvlm.log_q(q, x, z),
    }


def of_all(p, **engine):
    """What the rows share: sums over them, and draws from one generator."""
    model, q, x, _, weights = p
    log_px, gradient = refvlm.log_marginal_and_grad(model, x, weights, **engine)
    found = {
        "sample_posterior": refvlm.sample_posterior(model, x, DRAWS, np.random.default_rng(0), **engine),
        **named("grad_log_marginal", refvlm.grad_log_marginal(model, x, **engine)),
        "log_marginal_and_grad": log_px,
        **named("log_marginal_and_grad", gradient),
    }
    if np.isfinite(refvlm.vlb(model, q, x, **engine)).all():
        found |= named("grad_vlb", refvlm.grad_vlb(model, q, x, weights, **engine))
    return found


FUNCTIONS = (
    "log_marginal", "posterior_mean", "posterior", "sample_posterior", "vlb", "vlb_terms", "kl", "decompose",
    "iwae", "log_weight_moments", "grad_log_marginal", "log_marginal_and_grad", "grad_vlb", "log_prior",
    "log_likelihood", "log_joint", "log_q",
)  # fmt: skip


def everything(name, **engine):
    """All quantities of a problem: of few of its rows, of many, and of all where nothing is enumerated."""
    p = problem(name)
    few, many = part(p, slice(1 if name == "linear" else FEW)), part(p, slice(MANY))
    found = of_rows(few, **engine) | of_all(few, **engine) | of_samples(few, **engine) | of_pairs(p)
    of_many = of_rows(many, **engine) | of_all(many, **engine)
    of_many["posterior"] = of_many["posterior"][:1]  # whole tables take seconds to print
    return found | {f"{quantity}.many": value for quantity, value in of_many.items()}


def circumstances():
    """What this process computes with, and digits from elsewhere that show whether that makes a difference."""
    from numba.core.registry import cpu_target
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    _, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    t = numbers(np.random.default_rng(0), 2000, scale=8.0)
    a, b = t[:1200].reshape(40, 30), t[800:].reshape(30, 40)
    return {
        "cpu": cpu,
        "features": sorted(name for name in features.split(",") if name.startswith("+")),
        "numpy": sorted(name for name in __cpu_dispatch__ if __cpu_features__.get(name)),
        "witness": {
            "np.exp": [v.hex() for v in np.exp(t).tolist()],
            "math.exp": [math.exp(v).hex() for v in t.tolist()],
            "math.sinh": [math.sinh(v).hex() for v in t.tolist()],
            "matmul": [v.hex() for v in np.ravel(a @ b / 3.0 @ a).tolist()],
        },
    }


def main():
    results = {
        name: {
            quantity: {"shape": np.shape(value), "hex": [float(v).hex() for v in np.ravel(value).tolist()]}
            for quantity, value in everything(name, workers=1).items()
        }
        for name in NAMES
    }
    json.dump({"circumstances": circumstances(), "results": results}, sys.stdout)


if __name__ == "__main__":
    main()
