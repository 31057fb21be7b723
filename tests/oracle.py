"""The formulas once more, as the equations write them: the truth that the tests hold everything else against.

Plain Python over plain lists: `itertools.product` for the sums over {0,1}^K, `math.fsum` for the additions, no
NumPy and nothing of the package under test. Slow, and written to be read beside eqs. (1) to (10).

Rows are batches as everywhere: x (N, L), logits of q (N, K), answers are lists of N floats, in nats. Codes come in
the order c = 0, 1, ... with z_k = (c >> k) & 1. Arrays are welcome: whatever has `tolist` is converted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

INF = math.inf


class Network(NamedTuple):
    """An MLP: layers (W, b) with W (fan_in, fan_out), an activation after every layer but the last."""

    layers: Sequence[tuple[Any, Any]]
    activation: str = "tanh"


class Model(NamedTuple):
    """prior: K logits, or a Model over the same K bits; decoder: from z to the logits of x."""

    prior: Any
    decoder: Network


class Terms(NamedTuple):
    """The three terms of eq. (10), a list of N each."""

    prior: list[float]
    reconstruction: list[float]
    entropy: list[float]


class Slope(NamedTuple):
    """A derivative by finite differences, and how far it may be off."""

    value: float
    uncertainty: float


# Plain data from anything array-like -----------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Lists of Python numbers."""
    return value.tolist() if hasattr(value, "tolist") else value


def as_network(mlp: Any) -> Network:
    """The same network as plain data: of anything with weights, biases and activation."""
    return Network([(plain(w), plain(b)) for w, b in zip(mlp.weights, mlp.biases, strict=True)], mlp.activation)


def as_model(model: Any) -> Model:
    """The same model as plain data: of anything with a decoder, and a prior with logits or itself a model."""
    prior = plain(model.prior.logits) if hasattr(model.prior, "logits") else as_model(model.prior)
    return Model(prior, as_network(model.decoder))


# One variable ----------------------------------------------------------------------------------------------------


def sigmoid(a: float) -> float:
    """1 / (1 + exp(-a))."""
    return 1.0 / (1.0 + math.exp(-a)) if a >= 0 else math.exp(a) / (1.0 + math.exp(a))


def log_sigmoid(a: float) -> float:
    """log of the above; 0 at +inf and -inf at -inf."""
    return -math.log1p(math.exp(-a)) if a >= 0 else a - math.log1p(math.exp(a))


def log_bernoulli(bit: int, logit: float) -> float:
    """log of p**bit (1 - p)**(1 - bit), p = sigmoid(logit)."""
    return log_sigmoid(logit) if bit == 1 else log_sigmoid(-logit)


def log_bernoullis(bits: Sequence[int], logits: Sequence[float]) -> float:
    """log of the product over independent bits."""
    return math.fsum(log_bernoulli(bit, logit) for bit, logit in zip(bits, logits, strict=True))


ACTIVATIONS: dict[str, Callable[[float], float]] = {
    "tanh": math.tanh,
    "relu": lambda a: max(a, 0.0),
    "sigmoid": sigmoid,
    "leaky_relu": lambda a: a if a > 0 else 0.01 * a,
    "elu": lambda a: a if a > 0 else math.expm1(a),
    "softplus": lambda a: max(a, 0.0) + math.log1p(math.exp(-abs(a))),
    "silu": lambda a: a * sigmoid(a),
}


# Sums ------------------------------------------------------------------------------------------------------------


def codes(latents: int) -> list[tuple[int, ...]]:
    """All of {0,1}^K; the code c at index c."""
    return [bits[::-1] for bits in itertools.product((0, 1), repeat=latents)]


def log_sum_exp(values: Sequence[float]) -> float:
    """log sum exp, shifted by the largest so that nothing overflows."""
    largest = max(values)
    if largest == -INF:
        return -INF
    return largest + math.log(math.fsum(math.exp(value - largest) for value in values))


def expectation(log_q: Sequence[float], values: Sequence[float]) -> float:
    """sum q f, where q = 0 contributes nothing and a finite log q, however small q, meets f = -+inf with -+inf."""
    inside = [(log_weight, value) for log_weight, value in zip(log_q, values, strict=True) if log_weight > -INF]
    infinite = [value for _, value in inside if math.isinf(value)]
    return sum(infinite) if infinite else math.fsum(math.exp(weight) * value for weight, value in inside)


# The model -------------------------------------------------------------------------------------------------------


def forward(network: Network, inputs: Sequence[float]) -> list[float]:
    """The logits for one input: a = h W + b, layer by layer."""
    h = [float(value) for value in inputs]
    for depth, (weights, biases) in enumerate(network.layers):
        columns = zip(*plain(weights), strict=True)
        a = [
            math.fsum([b, *(value * w for value, w in zip(h, column, strict=True))])
            for column, b in zip(columns, plain(biases), strict=True)
        ]
        last = depth == len(network.layers) - 1
        h = a if last else [ACTIVATIONS[network.activation](value) for value in a]
    return h


def latents_of(model: Model) -> int:
    """K: the number of rows of the decoder's first weight matrix."""
    return len(plain(model.decoder.layers[0][0]))


def log_prior(model: Model, z: Any) -> list[float]:
    """log p(z), eq. (1), or of a deep model the log-marginal of the layers above: z (M, K) -> M floats."""
    if isinstance(model.prior, Model):
        return log_marginal(model.prior, z)
    return [log_bernoullis(row, plain(model.prior)) for row in plain(z)]


def log_likelihood(model: Model, x: Any, z: Any) -> list[float]:
    """log p(x | z), eq. (2), for pairs of rows."""
    return [log_bernoullis(row, forward(model.decoder, code)) for row, code in zip(plain(x), plain(z), strict=True)]


def log_joint(model: Model, x: Any, z: Any) -> list[float]:
    """log p(x, z) for pairs of rows."""
    return [a + b for a, b in zip(log_likelihood(model, x, z), log_prior(model, z), strict=True)]


class Tables(NamedTuple):
    """For every code z of the layer next to x: log p(z), and the logits of x."""

    log_prior: list[float]
    logits: list[list[float]]

    def log_likelihoods(self, row: Sequence[int]) -> list[float]:
        """log p(x | z) for every z."""
        return [log_bernoullis(row, logits) for logits in self.logits]

    def log_joints(self, row: Sequence[int]) -> list[float]:
        """log p(x, z) for every z."""
        return [a + b for a, b in zip(self.log_likelihoods(row), self.log_prior, strict=True)]


def tables(model: Model) -> Tables:
    """What does not depend on x, so that it is computed once for all rows."""
    every = codes(latents_of(model))
    return Tables(log_prior(model, every), [forward(model.decoder, z) for z in every])


def log_marginal(model: Model, x: Any) -> list[float]:
    """log p(x) = log sum over z of p(x | z) p(z), eq. (3)."""
    table = tables(model)
    return [log_sum_exp(table.log_joints(row)) for row in plain(x)]


def posterior(model: Model, x: Any) -> list[list[float]]:
    """p(z | x) = p(x, z) / p(x), eq. (6): N rows of 2**K."""
    table = tables(model)
    joints = [table.log_joints(row) for row in plain(x)]
    return [[math.exp(value - log_sum_exp(joint)) for value in joint] for joint in joints]


def posterior_mean(model: Model, x: Any) -> list[list[float]]:
    """E[z | x]: N rows of K."""
    latents = latents_of(model)
    every = codes(latents)
    return [
        [math.fsum(p * z[k] for p, z in zip(row, every, strict=True)) for k in range(latents)]
        for row in posterior(model, x)
    ]


# The bound -------------------------------------------------------------------------------------------------------


def log_q(logits: Sequence[float]) -> list[float]:
    """log q(z), eq. (4), for every code."""
    return [log_bernoullis(z, logits) for z in codes(len(logits))]


def vlb_terms(model: Model, logits: Any, x: Any) -> Terms:
    """E_q[log p(z)], E_q[log p(x | z)], -E_q[log q(z)], eq. (10); logits (N, K) of a q over the layer next to x."""
    table, terms = tables(model), Terms([], [], [])
    for row, q_logits in zip(plain(x), plain(logits), strict=True):
        weights = log_q(q_logits)
        terms.prior.append(expectation(weights, table.log_prior))
        terms.reconstruction.append(expectation(weights, table.log_likelihoods(row)))
        terms.entropy.append(-expectation(weights, weights))
    return terms


def vlb(model: Model, logits: Any, x: Any) -> list[float]:
    """E_q[log p(z) + log p(x | z) - log q(z)], eqs. (8) and (10); log p(z1) exact in a deep model."""
    return [math.fsum(parts) for parts in zip(*vlb_terms(model, logits, x), strict=True)]


def kl(model: Model, logits: Any, x: Any) -> list[float]:
    """KL(q || p(z | x)) = E_q[log q(z) - log p(x, z)] + log p(x), eq. (7); +inf where q leaves the support."""
    table, rows = tables(model), zip(plain(x), plain(logits), strict=True)
    return [divergence(log_q(q_logits), table.log_joints(row)) for row, q_logits in rows]


def divergence(log_weights: Sequence[float], log_joints: Sequence[float]) -> float:
    """E_q[log q - log p(z | x)], p(z | x) being the normalised joint."""
    evidence = log_sum_exp(log_joints)
    ratios = [a - (b - evidence) if a > -INF else 0.0 for a, b in zip(log_weights, log_joints, strict=True)]
    return expectation(log_weights, ratios)


# A chain over all the layers of a deep model, brute force over all latent bits at once ----------------------------


def layers_of(model: Model) -> list[Model]:
    """The model, its prior, the prior's prior, ...: from x upwards."""
    return [model, *layers_of(model.prior)] if isinstance(model.prior, Model) else [model]


def all_bits(model: Model) -> list[tuple[tuple[int, ...], ...]]:
    """Every setting (z1, z2, ...) of the latent bits of all layers."""
    return list(itertools.product(*(codes(latents_of(layer)) for layer in layers_of(model))))


def log_generative(model: Model, row: Sequence[int], z: Sequence[Sequence[int]]) -> tuple[float, float]:
    """log p(z1, z2, ...) = log p(z1 | z2) + ... + log p(zD), and log p(x | z1)."""
    layers = layers_of(model)
    likelihoods = [
        log_bernoullis(below, forward(layer.decoder, above))
        for below, layer, above in zip([row, *z], layers, z, strict=False)
    ]
    return math.fsum([*likelihoods[1:], log_bernoullis(z[-1], plain(layers[-1].prior))]), likelihoods[0]


def log_recognition(first: Sequence[float], above: Sequence[Network], z: Sequence[Sequence[int]]) -> float:
    """log q(z1 | x) + log q(z2 | z1) + ...: the logits of the first factor, the networks of the others."""
    upwards = [log_bernoullis(z[d + 1], forward(network, z[d])) for d, network in enumerate(above)]
    return math.fsum([log_bernoullis(z[0], first), *upwards])


def chain_log_marginal(model: Model, x: Any) -> list[float]:
    """log p(x) of a model of any depth by one sum over all bits of all layers."""
    return [log_sum_exp([sum(log_generative(model, row, z)) for z in all_bits(model)]) for row in plain(x)]


def chain_vlb_terms(model: Model, logits: Any, above: Sequence[Network], x: Any) -> Terms:
    """E_q[log p(z1, z2, ...)], E_q[log p(x | z1)], -E_q[log q(z1, z2, ... | x)], eq. (10) over all layers."""
    every, terms = all_bits(model), Terms([], [], [])
    for row, first in zip(plain(x), plain(logits), strict=True):
        weights = [log_recognition(first, above, z) for z in every]
        prior, likelihood = zip(*(log_generative(model, row, z) for z in every), strict=True)
        terms.prior.append(expectation(weights, prior))
        terms.reconstruction.append(expectation(weights, likelihood))
        terms.entropy.append(-expectation(weights, weights))
    return terms


def chain_vlb(model: Model, logits: Any, above: Sequence[Network], x: Any) -> list[float]:
    """The bound over all layers jointly."""
    return [math.fsum(parts) for parts in zip(*chain_vlb_terms(model, logits, above, x), strict=True)]


def chain_kl(model: Model, logits: Any, above: Sequence[Network], x: Any) -> list[float]:
    """KL(q(z1, z2, ... | x) || p(z1, z2, ... | x)), eq. (7) over all layers."""
    every, divergences = all_bits(model), []
    for row, first in zip(plain(x), plain(logits), strict=True):
        weights = [log_recognition(first, above, z) for z in every]
        divergences.append(divergence(weights, [sum(log_generative(model, row, z)) for z in every]))
    return divergences


# Derivatives by finite differences -------------------------------------------------------------------------------


def moved(value: Any, direction: Any, t: float) -> Any:
    """value + t direction, elementwise through nested lists; an infinite logit stays where it is."""
    value, direction = plain(value), plain(direction)
    if isinstance(value, (list, tuple)):
        return [moved(a, b, t) for a, b in zip(value, direction, strict=True)]
    return value if math.isinf(value) else value + t * direction


def moved_network(network: Network, direction: Mapping[str, Any], t: float, prefix: str = "") -> Network:
    """The network along a direction named like its gradient: prefix + "weights.0", prefix + "biases.0", ..."""
    layers = [
        (moved(w, direction[f"{prefix}weights.{d}"], t), moved(b, direction[f"{prefix}biases.{d}"], t))
        for d, (w, b) in enumerate(network.layers)
    ]
    return Network(layers, network.activation)


def moved_model(model: Model, direction: Mapping[str, Any], t: float, prefix: str = "") -> Model:
    """The model along a direction named like its gradient: "prior.logits", "decoder.weights.0", nested when deep."""
    if isinstance(model.prior, Model):
        prior = moved_model(model.prior, direction, t, f"{prefix}prior.")
    else:
        prior = moved(model.prior, direction[f"{prefix}prior.logits"], t)
    return Model(prior, moved_network(model.decoder, direction, t, f"{prefix}decoder."))


def slope(f: Callable[[float], float], step: float = 2.0**-8) -> Slope:
    """f'(0) by central differences at step, step / 2, step / 4, extrapolated to order 6 in the step (Romberg).

    Steps are powers of 2, so that t itself is exact. The uncertainty is the last correction, which stands for the
    truncation, plus the rounding of f (taken as 16 units in the last place) divided by the smallest step.
    """
    steps = [step / 2**level for level in range(3)]
    values = [(f(h), f(-h)) for h in steps]
    rows = [[(ahead - behind) / (2 * h) for (ahead, behind), h in zip(values, steps, strict=True)]]
    for order in (1, 2):
        factor = 4**order
        rows.append([(factor * fine - coarse) / (factor - 1) for coarse, fine in itertools.pairwise(rows[-1])])
    largest = max(abs(value) for pair in values for value in pair)
    return Slope(rows[2][0], abs(rows[2][0] - rows[1][1]) + 16 * 2.0**-52 * largest / steps[-1])


def inner(first: Any, second: Any) -> float:
    """The inner product of two gradients or directions, through dictionaries and nested lists."""
    return math.fsum(products(first, second))


def products(first: Any, second: Any) -> Iterator[float]:
    """The products of an inner product, one by one."""
    first, second = plain(first), plain(second)
    if isinstance(first, Mapping):
        for name in first:
            yield from products(first[name], second[name])
    elif isinstance(first, (list, tuple)):
        for a, b in zip(first, second, strict=True):
            yield from products(a, b)
    else:
        yield first * second
