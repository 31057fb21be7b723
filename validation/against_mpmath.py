"""refvlm against sums of 50 digits: `python validation/against_mpmath.py [--quick]`.

Everything is computed again in mpmath from the parameters' exact binary values: eq. (2) as a product of
sigmoid(+-a_i), eq. (3) as a sum over all codes of products. An mpf's exponent has no limits, so nothing here needs
a logarithm before the last step, and nothing can underflow. Gradients come from central differences at 70 digits
with a step of 1e-16, whose truncation error is of the order of 1e-32: no derivative formula is shared with anyone.
Deep models are summed over the bits of all layers at once.

Prints one line for each family of comparisons, its worst case, and what was allowed; exit code 1 if any disagrees, 77
without mpmath.
"""

from __future__ import annotations

import argparse
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from common import ACTIVATIONS, NO_FRAMEWORK, Report, binary, distinct_sizes, random_arrays

try:
    import mpmath
    from mpmath import mp
except ImportError as error:
    print(f"skipped: mpmath cannot be imported ({error})")
    sys.exit(NO_FRAMEWORK)

import refvlm

mp.dps = 50
ZERO, ONE = mp.mpf(0), mp.mpf(1)
INFINITY = mp.inf

RELATIVE = 2e-13
"""What is allowed for log p(x), relative to max(1, |log p(x)|)."""

# The model in mpf numbers ----------------------------------------------------------------------------------------


class Network(NamedTuple):
    """Layers of (columns of W, b), and the activation."""

    layers: list[tuple[list[list[Any]], list[Any]]]
    activation: str


class Exact(NamedTuple):
    """prior: a list of logits, or an Exact over the same bits."""

    prior: Any
    decoder: Network


def exact_network(mlp: refvlm.MLP) -> Network:
    """Floats are binary fractions: the conversion is exact."""
    layers = [
        ([[mp.mpf(float(w)) for w in column] for column in weights.T], [mp.mpf(float(b)) for b in biases])
        for weights, biases in zip(mlp.weights, mlp.biases, strict=True)
    ]
    return Network(layers, mlp.activation)


def exact_model(model: refvlm.BernoulliLVM) -> Exact:
    """The same model, nested as it is."""
    if isinstance(model.prior, refvlm.Bernoulli):
        return Exact([mp.mpf(float(a)) for a in model.prior.logits], exact_network(model.decoder))
    return Exact(exact_model(model.prior), exact_network(model.decoder))


def probabilities(logit: Any) -> tuple[Any, Any]:
    """sigmoid(-a) and sigmoid(a), each from exp(-|a|), so that neither is a difference."""
    small = mp.exp(-abs(logit))
    pair = small / (1 + small), 1 / (1 + small)
    return pair if logit >= 0 else pair[::-1]


ACTIVATION: dict[str, Callable[[Any], Any]] = {
    "tanh": mp.tanh,
    "relu": lambda a: a if a > 0 else ZERO,
    "sigmoid": lambda a: probabilities(a)[1],
}


def forward(network: Network, bits: tuple[int, ...]) -> list[Any]:
    """The logits; mpmath's fsum and fdot add exactly and round once."""
    activate = ACTIVATION[network.activation]
    columns, biases = network.layers[0]
    a = [mp.fsum([b, *itertools.compress(w, bits)]) for w, b in zip(columns, biases, strict=True)]
    for columns, biases in network.layers[1:]:
        h = [activate(value) for value in a]
        a = [mp.fdot([ONE, *h], [b, *w]) for w, b in zip(columns, biases, strict=True)]
    return a


def codes(latents: int) -> list[tuple[int, ...]]:
    """The code c at index c, bit k in place k."""
    return [tuple((c >> k) & 1 for k in range(latents)) for c in range(1 << latents)]


def product(pairs: list[tuple[Any, Any]], bits: Any) -> Any:
    """The probability of these bits where bit i has probabilities pairs[i]."""
    return mp.fprod(pair[bit] for pair, bit in zip(pairs, bits, strict=True))


def conditional(network: Network) -> list[list[tuple[Any, Any]]]:
    """For every code of the inputs, the pairs of probabilities of the outputs."""
    return [[probabilities(a) for a in forward(network, z)] for z in codes(len(network.layers[0][0][0]))]


def prior_table(model: Exact) -> list[Any]:
    """p(z) for every code of the layer next to x."""
    latents = len(model.decoder.layers[0][0][0])
    if not isinstance(model.prior, Exact):
        pairs = [probabilities(a) for a in model.prior]
        return [product(pairs, z) for z in codes(latents)]
    above, given = prior_table(model.prior), conditional(model.prior.decoder)
    return [mp.fdot(above, [product(pairs, z) for pairs in given]) for z in codes(latents)]


class Enumerated(NamedTuple):
    """For every code: p(z); the pairs of probabilities of x given z; p(x_n | z) for each row."""

    prior: list[Any]
    given: list[list[tuple[Any, Any]]]
    likelihood: list[list[Any]]

    def joint(self, row: int) -> list[Any]:
        """p(x_n, z)."""
        return [p * likelihood for p, likelihood in zip(self.prior, self.likelihood[row], strict=True)]


def enumerate_model(model: Exact, x: Any) -> Enumerated:
    """Every term of eq. (3)."""
    given = conditional(model.decoder)
    likelihood = [[product(pairs, row) for pairs in given] for row in x.tolist()]
    return Enumerated(prior_table(model), given, likelihood)


def expected_log(weights: list[Any], values: list[Any]) -> Any:
    """sum q log f; 0 log 0 = 0, and -inf where q > 0 meets f = 0."""
    kept = [(w, v) for w, v in zip(weights, values, strict=True) if w > 0]
    return -INFINITY if any(v == 0 for _, v in kept) else mp.fdot((w, mp.log(v)) for w, v in kept)


def q_table(logits: list[Any]) -> list[Any]:
    """q(z), eq. (4), for every code."""
    pairs = [probabilities(a) for a in logits]
    return [product(pairs, z) for z in codes(len(logits))]


class Bound(NamedTuple):
    """One row's terms of eq. (10), and KL of eq. (7)."""

    prior: Any
    reconstruction: Any
    entropy: Any
    kl: Any

    @property
    def vlb(self) -> Any:
        """Their sum."""
        return self.prior + self.reconstruction + self.entropy


def bound_of(q: list[Any], prior: list[Any], likelihood: list[Any]) -> Bound:
    """The terms, and KL = E_q[log(q p(x) / p(x, z))], over any table of codes."""
    joint = [p * f for p, f in zip(prior, likelihood, strict=True)]
    evidence = mp.fsum(joint)
    outside = any(w > 0 and p == 0 for w, p in zip(q, joint, strict=True))
    ratios = [w * evidence / p if p > 0 else ONE for w, p in zip(q, joint, strict=True)]
    gap = INFINITY if outside else expected_log(q, ratios)
    return Bound(expected_log(q, prior), expected_log(q, likelihood), -expected_log(q, q), gap)


def chain_bound(model: Exact, first: list[Any], above: list[Network], row: Any) -> Bound:
    """All layers at once: q(z1 | x) q(z2 | z1) ... against p(x, z1, z2, ...), for one row."""
    layers = [model]
    while isinstance(layers[-1].prior, Exact):
        layers.append(layers[-1].prior)
    generative = [conditional(layer.decoder) for layer in layers]
    recognition = [conditional(network) for network in above]
    top, bottom = [probabilities(a) for a in layers[-1].prior], [probabilities(a) for a in first]
    indices = [list(enumerate(codes(len(layer.decoder.layers[0][0][0])))) for layer in layers]
    q, prior, likelihood = [], [], []
    for setting in itertools.product(*indices):
        c, z = zip(*setting, strict=True)
        inner = [product(generative[d][c[d]], z[d - 1]) for d in range(1, len(layers))]
        prior.append(mp.fprod([*inner, product(top, z[-1])]))
        likelihood.append(product(generative[0][c[0]], row))
        upwards = [product(recognition[d][c[d]], z[d + 1]) for d in range(len(above))]
        q.append(mp.fprod([product(bottom, z[0]), *upwards]))
    return bound_of(q, prior, likelihood)


# Problems --------------------------------------------------------------------------------------------------------

Problem = tuple[refvlm.BernoulliLVM, Any]


def rows_for(model: refvlm.BernoulliLVM, rng: np.random.Generator, drawn: int, uniform: int) -> Any:
    """Rows of x: some from the model itself, some uniform, and never as many as there are latents or columns."""
    while drawn + uniform in (model.latents, model.observed):
        uniform += 1
    return np.concatenate([model.sample(drawn, rng)[0], binary(uniform, model.observed, rng)])


def random_problem(rng: np.random.Generator, latents: int, hidden: int, most: int, activation: str) -> Problem:
    """Weights N(0, 1) / sqrt(fan_in), prior logits N(0, 1); all widths different."""
    sizes = [latents, *distinct_sizes(rng, latents, hidden + 1, 2, most)]
    model = refvlm.BernoulliLVM(
        refvlm.Bernoulli(rng.normal(size=latents)), refvlm.MLP(*random_arrays(sizes, rng), activation)
    )
    return model, rows_for(model, rng, 2, 1)


LATENTS = (1, 2, 3, 4, 2, 5, 3, 6, 4, 7)
"""Cycled through: small K for most, because 50 digits are slow."""

LARGE = [(8, 1), (9, 0), (8, 2), (10, 0), (9, 1), (11, 0), (7, 2), (12, 0), (10, 1), (12, 1)]
"""(K, hidden layers) of a few problems of up to 4096 terms, with widths up to 64 where K <= 9 and up to 24 beyond."""


def random_problems(quick: bool) -> Iterator[Problem]:
    """All combinations of 0, 1, 2 hidden layers and three activations many times over."""
    rng = np.random.default_rng(20261123)
    for number in range(27 if quick else 216):
        latents = LATENTS[number % len(LATENTS)]
        yield random_problem(rng, latents, number % 3, 24 if quick else 64, ACTIVATIONS[number // 3 % 3])
    for number, (latents, hidden) in enumerate(LARGE[: 1 if quick else len(LARGE)]):
        yield random_problem(rng, latents, hidden, 64 if latents <= 9 else 24, ACTIVATIONS[number % 3])


def normal_thousands(arrays: Any, rng: np.random.Generator) -> Any:
    """Weights and biases N(0, 1) * 1e3."""
    return [[rng.normal(size=a.shape) * 1e3 for a in part] for part in arrays]


def plus_minus_thousand(arrays: Any, rng: np.random.Generator) -> Any:
    """Weights and biases +1e3 or -1e3: sums that vanish, ties, kinks hit exactly."""
    return [[np.where(rng.random(a.shape) < 0.5, 1e3, -1e3) for a in part] for part in arrays]


def saturated(arrays: Any, rng: np.random.Generator) -> Any:
    """Weights N(0, 1) * 30: hidden units near +-1, logits where 1 - sigmoid is below the last place."""
    return [[rng.normal(size=a.shape) * 30 for a in part] for part in arrays]


def any_scale(arrays: Any, rng: np.random.Generator) -> Any:
    """Weights and biases N(0, 1) * s, s from 1 to 1e5, another one in each layer."""
    scales = 10.0 ** rng.uniform(0.0, 5.0, len(arrays[0]))
    return [[rng.normal(size=a.shape) * s for a, s in zip(part, scales, strict=True)] for part in arrays]


def cancelling(arrays: Any, rng: np.random.Generator) -> Any:
    """Weights of 1e3 whose sums leave about 1: each bias cancels half of its column up to N(0, 1)."""
    weights = [rng.normal(size=w.shape) * 1e3 for w in arrays[0]]
    return weights, [-w[rng.random(len(w)) < 0.5].sum(axis=0) + rng.normal(size=w.shape[1]) for w in weights]


def as_drawn(arrays: Any, _: np.random.Generator) -> Any:
    """The ordinary weights."""
    return arrays


def finite_prior(latents: int, rng: np.random.Generator) -> Any:
    """Prior logits N(0, 1)."""
    return rng.normal(size=latents)


def infinite_prior(latents: int, rng: np.random.Generator) -> Any:
    """Each prior logit N(0, 1), +inf or -inf."""
    return np.choose(rng.integers(3, size=latents), [rng.normal(size=latents), np.inf, -np.inf])


def thirties_prior(latents: int, rng: np.random.Generator) -> Any:
    """Each prior logit +30 or -30."""
    return np.where(rng.random(latents) < 0.5, 30.0, -30.0)


ADVERSARIES = {
    "weights N(0,1)*1e3": (normal_thousands, finite_prior),
    "weights +-1e3": (plus_minus_thousand, finite_prior),
    "weights N(0,1)*30": (saturated, finite_prior),
    "weights N(0,1)*(1 to 1e5)": (any_scale, finite_prior),
    "sums of 1e3 that cancel": (cancelling, finite_prior),
    "prior logits +-inf": (as_drawn, infinite_prior),
    "prior logits +-30": (as_drawn, thirties_prior),
    "1e3 and prior +-inf": (normal_thousands, infinite_prior),
    "1e3 and prior +-30": (cancelling, thirties_prior),
}


def adversarial_problems(quick: bool) -> Iterator[tuple[str, Problem]]:
    """The same architectures with weights and priors at the edges."""
    rng = np.random.default_rng(1123)
    for number in range(5 if quick else 60):
        for name, (reweigh, prior) in ADVERSARIES.items():
            latents, hidden = LATENTS[(number * 7) % len(LATENTS)], number % 3
            sizes = [latents, *distinct_sizes(rng, latents, hidden + 1, 2, 16 if quick else 32)]
            weights, biases = reweigh(random_arrays(sizes, rng), rng)
            decoder = refvlm.MLP(weights, biases, ACTIVATIONS[number // 3 % 3])
            model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior(latents, rng)), decoder)
            yield name, (model, rows_for(model, rng, 2, 3))


# Comparisons -----------------------------------------------------------------------------------------------------


def describe(model: refvlm.BernoulliLVM) -> str:
    """Shape, for a message."""
    return f"sizes {model.decoder.sizes}, {model.decoder.activation}"


def floats(values: list[Any]) -> list[float]:
    """Rounded once, for the table."""
    return [float(value) for value in values]


def minus(got: Any, exact: list[Any]) -> list[float]:
    """got - exact, subtracted in 50 digits; 0 for equal infinities."""
    pairs = zip(np.asarray(got).ravel().tolist(), exact, strict=True)
    return [0.0 if g == e else float(mp.mpf(g) - e) for g, e in pairs]


def check_log_marginal(report: Report, model: refvlm.BernoulliLVM, x: Any, table: Enumerated) -> list[Any]:
    """log p(x) and its error bound; returns the exact values."""
    got, reported = refvlm.log_marginal(model, x, with_error=True)
    exact = [mp.log(mp.fsum(table.joint(n))) for n in range(len(x))]
    expected, difference, where = floats(exact), minus(got, exact), describe(model)
    allowed = RELATIVE * np.maximum(1.0, np.abs(expected))
    report.check("log p(x), within 2e-13 max(1, |log p|)", expected, got, allowed, where=where, minus=difference)
    report.check("log p(x), within the reported bound", expected, got, reported, where=where, minus=difference)
    return exact


def check_adversary(report: Report, name: str, model: refvlm.BernoulliLVM, x: Any, table: Enumerated) -> None:
    """Never outside the reported bound, and the bound itself small."""
    got, reported = refvlm.log_marginal(model, x, with_error=True)
    exact = [mp.log(mp.fsum(table.joint(n))) for n in range(len(x))]
    expected, where = floats(exact), describe(model)
    report.check(f"{name}: log p(x), within the bound", expected, got, reported, where=where, minus=minus(got, exact))
    small = 1e-9 * (1 + np.abs(expected))
    report.check(f"{name}: the bound, within 1e-9 (1 + |log p|)", 0.0, reported, small, where=where)


def check_posterior(report: Report, model: refvlm.BernoulliLVM, x: Any, table: Enumerated, what: str = "") -> None:
    """p(z | x) = exp(log p(x, z) - log p(x)): two logs, each within 2e-13 relative, make a relative error of p."""
    got, mean, where = refvlm.posterior(model, x), refvlm.posterior_mean(model, x), describe(model)
    every, tiny = codes(model.latents), 1e-300  # below which terms may be dropped
    for n in range(len(x)):
        joint = table.joint(n)
        evidence = mp.fsum(joint)
        exact = [value / evidence for value in joint]
        nats = np.array([float(-mp.log(value)) if value > 0 else 0.0 for value in joint])
        allowed = 2 * RELATIVE * np.maximum(1.0, nats) * np.array(floats(exact)) + tiny
        difference = minus(got[n], exact)
        report.check(f"{what}posterior p(z | x)", floats(exact), got[n], allowed, where=where, minus=difference)
        moments = [mp.fsum(itertools.compress(exact, [z[k] for z in every])) for k in range(model.latents)]
        allowed = 2 * RELATIVE * max(1.0, nats.max()) * np.array(floats(moments)) + tiny
        difference = minus(mean[n], moments)
        report.check(f"{what}posterior mean", floats(moments), mean[n], allowed, where=where, minus=difference)


def check_pairs(
    report: Report, model: refvlm.BernoulliLVM, x: Any, table: Enumerated, rng: np.random.Generator
) -> None:
    """log p(z), log p(x | z), log p(x, z) of single pairs; sums of terms of one sign, so relative to themselves."""
    chosen = rng.integers(1 << model.latents, size=len(x))
    z = np.array([codes(model.latents)[c] for c in chosen], dtype=np.uint8)
    prior = [mp.log(table.prior[c]) for c in chosen]
    likelihood = [mp.log(table.likelihood[n][c]) for n, c in enumerate(chosen)]
    joint = [a + b for a, b in zip(prior, likelihood, strict=True)]
    for name, got, exact in (
        ("log p(z)", refvlm.log_prior(model, z), prior),
        ("log p(x | z)", refvlm.log_likelihood(model, x, z), likelihood),
        ("log p(x, z)", refvlm.log_joint(model, x, z), joint),
    ):
        allowed = RELATIVE * np.maximum(1.0, np.abs(floats(exact)))
        report.check(f"{name} of a pair", floats(exact), got, allowed, where=describe(model), minus=minus(got, exact))


def check_bounds(report: Report, what: str, model: refvlm.BernoulliLVM, q: Any, x: Any, bounds: list[Bound]) -> None:
    """VLB, its terms, KL, the residual. Each term is a sum of one sign, so its error is relative to itself."""
    where = describe(model)
    terms, decomposition = refvlm.vlb_terms(model, q, x), refvlm.decompose(model, q, x)
    sizes = np.ones(len(x))
    for name in ("prior", "reconstruction", "entropy"):
        exact = [getattr(bound, name) for bound in bounds]
        sizes += np.where(np.isinf(floats(exact)), 0.0, np.abs(floats(exact)))
        allowed = RELATIVE * np.maximum(1.0, np.nan_to_num(np.abs(floats(exact)), posinf=0.0))
        got = getattr(terms, name)
        report.check(f"{what}: {name} term", floats(exact), got, allowed, where=where, minus=minus(got, exact))
    vlb, gap = [bound.vlb for bound in bounds], [bound.kl for bound in bounds]
    for route, value in (("vlb", refvlm.vlb(model, q, x)), ("decompose .vlb", decomposition.vlb)):
        report.check(f"{what}: {route}", floats(vlb), value, RELATIVE * sizes, where=where, minus=minus(value, vlb))
    for route, value in (("kl", refvlm.kl(model, q, x)), ("decompose .kl", decomposition.kl)):
        # log q, log p(x, z) and log p(x) enter each ratio with 2e-13 of their own size
        report.check(f"{what}: {route}", floats(gap), value, 2 * RELATIVE * sizes, where=where, minus=minus(value, gap))
    allowed = 1e-12 * (1 + np.abs(decomposition.log_px) + np.nan_to_num(np.abs(decomposition.vlb), posinf=0.0))
    report.check(f"{what}: residual of the identity", 0.0, decomposition.residual, allowed, where=where)


def per_datum(model: refvlm.BernoulliLVM, x: Any, rng: np.random.Generator, scale: float) -> tuple[Any, Any, list[Any]]:
    """A q with random logits: as refvlm takes it, and per row in mpf."""
    logits = rng.normal(size=(len(x), model.latents)) * scale
    return refvlm.PerDatumPosterior(logits), logits, [[mp.mpf(float(a)) for a in row] for row in logits]


def amortised(model: refvlm.BernoulliLVM, x: Any, rng: np.random.Generator) -> tuple[Any, list[Any]]:
    """A q with an encoder: as refvlm takes it, and its logits per row in mpf."""
    sizes = [model.observed, model.observed + model.latents, model.latents]
    encoder = refvlm.MLP(*random_arrays(sizes, rng), ACTIVATIONS[model.latents % 3])
    network = exact_network(encoder)
    return refvlm.AmortisedPosterior(encoder), [forward(network, tuple(row)) for row in x.tolist()]


def check_random(report: Report, quick: bool) -> None:
    """The ordinary problems."""
    rng = np.random.default_rng(77)
    for number, (model, x) in enumerate(random_problems(quick)):
        table = enumerate_model(exact_model(model), x)
        check_log_marginal(report, model, x, table)
        if number % 2 == 0 and model.latents <= 7:
            check_pairs(report, model, x, table, rng)
            check_posterior(report, model, x, table)
            if number % 4 == 0:
                q, _, logits = per_datum(model, x, rng, [0.5, 3.0, 30.0, 800.0][number // 4 % 4])
            else:
                q, logits = amortised(model, x, rng)
            bounds = [bound_of(q_table(a), table.prior, table.likelihood[n]) for n, a in enumerate(logits)]
            check_bounds(report, "q", model, q, x, bounds)


def check_adversaries(report: Report, quick: bool) -> None:
    """The problems at the edges; the posterior, VLB and KL for a part of them, infinities included."""
    rng = np.random.default_rng(78)
    for number, (name, (model, x)) in enumerate(adversarial_problems(quick)):
        table = enumerate_model(exact_model(model), x)
        check_adversary(report, name, model, x, table)
        if number % 4 == 0:
            check_posterior(report, model, x, table, "edges: ")
            logits = rng.normal(size=(len(x), model.latents)) * [0.5, 3.0, 30.0, 800.0][number // 4 % 4]
            inside = np.isinf(model.prior.logits) & (np.arange(len(x)) % 2 == 0)[:, None]
            q = refvlm.PerDatumPosterior(np.where(inside, model.prior.logits, logits))
            exact = [[mp.mpf(float(a)) for a in row] for row in q.logits]
            bounds = [bound_of(q_table(a), table.prior, table.likelihood[n]) for n, a in enumerate(exact)]
            check_bounds(report, "edges, q", model, q, x, bounds)


def deep_problems(quick: bool) -> Iterator[tuple[refvlm.BernoulliLVM, Any, list[Any], Any]]:
    """Two and three layers of latents: a model, rows, encoders upwards from the first layer, a generator."""
    rng = np.random.default_rng(79)
    shapes = [((3, 5), 2), ((4, 7), 1), ((2, 3, 6), 1), ((5, 4), 3), ((3, 8), 4), ((2, 4, 5), 3)]
    for number, (widths, top) in enumerate(shapes[: 2 if quick else None]):
        model: Any = refvlm.Bernoulli(rng.normal(size=top))
        below, encoders = top, []
        for depth, width in enumerate(widths):
            hidden = [[], [width + 3], [width + 4, width + 2]][(number + depth) % 3]
            activation = ACTIVATIONS[(number + depth) % 3]
            model = refvlm.BernoulliLVM(model, refvlm.MLP(*random_arrays([below, *hidden, width], rng), activation))
            encoders.insert(0, refvlm.MLP(*random_arrays([width, width + 2, below], rng), activation))
            below = width
        yield model, rows_for(model, rng, 2, 2), encoders, rng


def check_deep(report: Report, quick: bool) -> None:
    """log p, the collapsed bound with a single q, the joint one with a chain."""
    for model, x, encoders, rng in deep_problems(quick):
        exact = exact_model(model)
        table = enumerate_model(exact, x)
        got, reported = refvlm.log_marginal(model, x, with_error=True)
        values = [mp.log(mp.fsum(table.joint(n))) for n in range(len(x))]
        allowed = RELATIVE * np.maximum(1.0, np.abs(floats(values)))
        difference, where = minus(got, values), describe(model)
        report.check("deep: log p(x)", floats(values), got, allowed, where=where, minus=difference)
        report.check("deep: log p(x), within the bound", floats(values), got, reported, where=where, minus=difference)
        check_posterior(report, model, x, table, "deep: ")
        check_pairs(report, model, x, table, rng)
        single, _, logits = per_datum(model, x, rng, 1.5)
        bounds = [bound_of(q_table(a), table.prior, table.likelihood[n]) for n, a in enumerate(logits)]
        check_bounds(report, "deep, one q", model, single, x, bounds)
        upper = [refvlm.AmortisedPosterior(encoder) for encoder in encoders[1:]]
        networks = [exact_network(encoder) for encoder in encoders[1:]]
        first = exact_network(encoders[0])
        for stage, at in (
            (single, logits),
            (refvlm.AmortisedPosterior(encoders[0]), [forward(first, tuple(row)) for row in x.tolist()]),
        ):
            chain = refvlm.ChainPosterior([stage, *upper])
            bounds = [chain_bound(exact, at[n], networks, row) for n, row in enumerate(x.tolist())]
            check_bounds(report, "deep, a chain", model, chain, x, bounds)


# Gradients -------------------------------------------------------------------------------------------------------


def locations(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths to the numbers of nested lists."""
    if isinstance(value, list):
        for index, part in enumerate(value):
            yield from locations(part, (*path, index))
    else:
        yield path


def nudged(value: list[Any], path: tuple[Any, ...], step: Any) -> Callable[[], None]:
    """Add step to one number in place; the returned function puts the old one back."""
    for index in path[:-1]:
        value = value[index]
    old = value[path[-1]]
    value[path[-1]] = old + step

    def restore() -> None:
        value[path[-1]] = old

    return restore


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """The number at a path."""
    return at(value[path[0]], path[1:]) if path else value


def difference_quotients(f: Callable[[], Any], array: list[Any]) -> list[Any]:
    """d f / d each number of nested lists, by central differences at a step of 1e-16; 0 for an infinite logit."""
    step, quotients = mp.mpf(10) ** -16, []
    for path in locations(array):
        ends = []
        if mp.isinf(at(array, path)):
            quotients.append(ZERO)
            continue
        for signed in (step, -step):
            restore = nudged(array, path, signed)
            ends.append(f())
            restore()
        quotients.append((ends[0] - ends[1]) / (2 * step))
    return quotients


def named_arrays(model: Exact, prefix: str) -> Iterator[tuple[str, list[Any]]]:
    """The mutable lists behind each of the model's parameters; weights as columns, so transposed."""
    if isinstance(model.prior, Exact):
        yield from named_arrays(model.prior, f"{prefix}prior.")
    else:
        yield f"{prefix}prior.logits", model.prior
    yield from named_layers(model.decoder, f"{prefix}decoder.")


def named_layers(network: Network, prefix: str) -> Iterator[tuple[str, list[Any]]]:
    """The same for one network."""
    for depth, (columns, biases) in enumerate(network.layers):
        yield f"{prefix}weights.{depth}", columns
        yield f"{prefix}biases.{depth}", biases


def check_gradient(
    report: Report, what: str, got: dict[str, Any], arrays: Any, f: Callable[[], Any], scale: float
) -> None:
    """Every number of every array; `scale` bounds the magnitudes that an entry is a sum of."""
    names = set()
    for name, array in arrays:
        names.add(name)
        exact = difference_quotients(f, array)
        found = got[name].T if ".weights." in f".{name}" else got[name]
        allowed = 1e-13 * scale
        report.check(what, floats(exact), found.ravel(), allowed, where=name, minus=minus(found, exact))
    if names != set(got):
        raise AssertionError(f"{what}: names {sorted(set(got) ^ names)} belong to one side only")


def steepness(model: refvlm.BernoulliLVM) -> float:
    """How much a slope can grow on its way through the decoder's matrices to the first hidden layer."""
    return float(np.prod([1 + np.abs(w).sum(axis=0).max() for w in model.decoder.weights[1:]]))


def steep_problems(quick: bool) -> Iterator[tuple[refvlm.BernoulliLVM, Any, Any, Any]]:
    """Weights N(0, 1) * 30, prior logits of which some are infinite, and q infinite there and elsewhere."""
    rng = np.random.default_rng(81)
    for number in range(3 if quick else 18):
        latents, observed, hidden = [(2, 4, [3]), (3, 2, []), (1, 5, [4, 2])][number % 3]
        weights, biases = saturated(random_arrays([latents, *hidden, observed], rng), rng)
        prior = infinite_prior(latents, rng)
        decoder = refvlm.MLP(weights, biases, ACTIVATIONS[number // 3 % 3])
        model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), decoder)
        logits = np.where(rng.random((6, latents)) < 0.2, np.inf, rng.normal(size=(6, latents)) * 3)
        q = refvlm.PerDatumPosterior(np.where(np.isinf(prior), prior, logits))
        yield model, q, rows_for(model, rng, 3, 3), rng.normal(size=6)


def gradient_problems(quick: bool) -> Iterator[tuple[refvlm.BernoulliLVM, Any, Any, Any]]:
    """Small models of every kind with a q for each, and weights of the rows."""
    rng = np.random.default_rng(80)
    shallow = [(2, [], 4), (3, [4], 2), (1, [3, 2], 5), (3, [2], 5), (2, [5, 3], 4), (4, [], 3)]
    for number, (latents, hidden, observed) in enumerate(shallow[: 2 if quick else None]):
        decoder = refvlm.MLP(*random_arrays([latents, *hidden, observed], rng), ACTIVATIONS[number % 3])
        model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), decoder)
        x = binary(8, observed, rng)
        encoder = refvlm.MLP(*random_arrays([observed, latents + 3, latents], rng), ACTIVATIONS[(number + 1) % 3])
        yield model, refvlm.AmortisedPosterior(encoder), x, rng.normal(size=len(x))
        yield model, refvlm.PerDatumPosterior(rng.normal(size=(len(x), latents))), x, rng.normal(size=len(x))
    for top, middle, observed in [(1, 2, 3), (2, 3, 4)][: 1 if quick else None]:
        above = refvlm.BernoulliLVM(
            refvlm.Bernoulli(rng.normal(size=top)), refvlm.MLP(*random_arrays([top, 4, middle], rng), "sigmoid")
        )
        model = refvlm.BernoulliLVM(above, refvlm.MLP(*random_arrays([middle, observed], rng)))
        x = binary(6, observed, rng)
        first = refvlm.AmortisedPosterior(refvlm.MLP(*random_arrays([observed, middle], rng)))
        second = refvlm.AmortisedPosterior(refvlm.MLP(*random_arrays([middle, 5, top], rng), "relu"))
        yield model, first, x, rng.normal(size=len(x))
        yield model, refvlm.ChainPosterior([first, second]), x, rng.normal(size=len(x))


def exact_vlb(model: Exact, stages: list[Any], x: Any, weights: list[Any]) -> Any:
    """sum_n weights_n VLB(x_n); stages hold mpf lists: a network, or logits per row."""
    total = ZERO
    table = enumerate_model(model, x) if len(stages) == 1 else None
    for n, row in enumerate(x.tolist()):
        first = forward(stages[0], tuple(row)) if isinstance(stages[0], Network) else stages[0][n]
        if table is None:
            value = chain_bound(model, first, stages[1:], row)
        else:
            value = bound_of(q_table(first), table.prior, table.likelihood[n])
        total += weights[n] * value.vlb
    return total


def stage_of(q: Any) -> Any:
    """One stage in mpf numbers."""
    if isinstance(q, refvlm.PerDatumPosterior):
        return [[mp.mpf(float(a)) for a in row] for row in q.logits]
    return exact_network(q.encoder)


def stage_arrays(stage: Any, prefix: str) -> Iterator[tuple[str, list[Any]]]:
    """Its parameters by name."""
    if isinstance(stage, Network):
        yield from named_layers(stage, f"{prefix}encoder.")
    else:
        yield f"{prefix}logits", stage


def check_gradients(report: Report, quick: bool) -> None:
    """grad_log_marginal and grad_vlb, weighted, entry by entry.

    An entry is an average over z of slopes, times the rows' weights: a slope of a logit is at most 1, and what it
    can grow to on its way down is `steepness`, a few units where the weights are ordinary. For a VLB the terms of an
    entry of q also carry log p(x, z) - log q, in nats.
    """
    with mp.workdps(70):
        ordinary, steep = gradient_problems(quick), steep_problems(quick)
        problems = [*(("", *problem) for problem in ordinary), *(("edges, ", *problem) for problem in steep)]
        for edges, model, q, x, row_weights in problems:
            exact, weights = exact_model(model), [mp.mpf(float(w)) for w in row_weights]
            scale = float(np.abs(row_weights).sum()) * (steepness(model) if edges else 1.0)
            size = 10.0
            if edges:
                size = 1 + float(np.abs(np.stack(refvlm.vlb_terms(model, q, x))).sum(axis=0).max())
            deep = "deep, " if isinstance(model.prior, refvlm.BernoulliLVM) else edges
            chained = isinstance(q, refvlm.ChainPosterior)
            stages = [stage_of(stage) for stage in (q.stages if chained else [q])]

            def evidence(exact: Any = exact, x: Any = x, weights: Any = weights) -> Any:
                table = enumerate_model(exact, x)
                return mp.fdot((w, mp.log(mp.fsum(table.joint(n)))) for n, w in enumerate(weights))

            def vlb(exact: Any = exact, stages: Any = stages, x: Any = x, weights: Any = weights) -> Any:
                return exact_vlb(exact, stages, x, weights)

            if not chained:
                values, got = refvlm.log_marginal_and_grad(model, x, row_weights)
                table = enumerate_model(exact, x)
                value = [mp.log(mp.fsum(table.joint(n))) for n in range(len(x))]
                allowed = RELATIVE * np.maximum(1.0, np.abs(floats(value)))
                what = f"{deep}log p(x) beside its gradient"
                report.check(what, floats(value), values, allowed, minus=minus(values, value))
                check_gradient(report, f"{deep}grad log p(x)", got, named_arrays(exact, ""), evidence, scale)
                alone = refvlm.grad_log_marginal(model, x, row_weights)
                check_gradient(report, f"{deep}grad log p(x), alone", alone, named_arrays(exact, ""), evidence, scale)
            recognition = [
                named
                for depth, stage in enumerate(stages)
                for named in stage_arrays(stage, f"posterior.{depth}." if chained else "posterior.")
            ]
            arrays = [*named_arrays(exact, "model."), *recognition]
            what = f"{deep}grad VLB, {'a chain' if chained else type(q).__name__}"
            check_gradient(report, what, refvlm.grad_vlb(model, q, x, row_weights), arrays, vlb, size * scale)


def main() -> int:
    """Run all families, print the table."""
    parser = argparse.ArgumentParser(description="Check refvlm against sums of 50 digits.")
    parser.add_argument("--quick", action="store_true", help="a subset, in a few seconds")
    quick = parser.parse_args().quick
    report, started = Report(), time.perf_counter()
    print(f"refvlm {refvlm.__version__} against mpmath {mpmath.__version__} at {mp.dps} digits")
    for part in (check_random, check_adversaries, check_deep, check_gradients):
        part(report, quick)
    code = report.finish()
    print(f"{math.ceil(time.perf_counter() - started)} s")
    return code


if __name__ == "__main__":
    sys.exit(main())
