"""Every quantity of a conformance vector, by enumeration in sixty digits.

Nothing of refvlm is imported; its list of the quantities, `quantities.json`, is read as data.

A problem is what a vector holds: the parameters by name (nested lists of floats), the activations, the inputs. Sums
over {0,1}^K are plain sums; a deep model is summed layer by layer for log p, over all layers jointly under a chain.
Gradients are written as the expectations that they are,

    d log p(x) = sum_z p(z | x) d log p(x, z)                                              (Fisher's identity)
    d VLB / d theta = sum_z q(z) d log p(x, z)
    d VLB / d phi = sum_z q(z) d log q(z) (log p(x, z) - log q(z)),

and `vectors.py` holds each against central differences of the value in a hundred digits, which share no derivative.
"""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mpmath import mp, mpf
from running_error import (
    ACTIVATIONS,
    Number,
    activation_slope,
    exact,
    exp_difference,
    log_bernoulli,
    log_sum_exp,
    sigmoid,
    total,
    weighted,
)

Bits = tuple[int, ...]
Vector = list[Number]
Matrix = list[list[Number]]
Gradients = dict[str, Any]
"""By name: nested lists of Numbers, shaped as the parameters."""


def delta(weight: Number, bit: int, a: Number) -> Number:
    """w d log p(bit) / d a, the delta rule, with the error of w bit - w p: programs may add the two up apart."""
    return weight * exact(bit) - weight * sigmoid(a)


def codes(latents: int) -> list[Bits]:
    """Code c has z_k = (c >> k) & 1."""
    return [tuple((c >> k) & 1 for k in range(latents)) for c in range(1 << latents)]


def numbers(value: Any) -> Any:
    """Nested lists of floats as Numbers.

    A parameter that float32 cannot hold counts as one that is not exact, so that the tolerance in single precision
    contains the rounding of the inputs.
    """
    if isinstance(value, list):
        return [numbers(part) for part in value]
    v = mpf(value)
    return exact(v) if mp.isinf(v) or is_single(value) else Number(v, float(abs(v)))


def is_single(value: float) -> bool:
    """Whether 24 bits hold it."""
    mantissa, _ = mp.frexp(mpf(value))
    return bool(mantissa * 2**24 == int(mantissa * 2**24))


class Network(NamedTuple):
    """Layers (W, b) with W (fan_in, fan_out), an activation after each but the last."""

    layers: list[tuple[Matrix, Vector]]
    activation: str

    @property
    def fan_in(self) -> int:
        return len(self.layers[0][0])

    def steps(self, inputs: Sequence[Number]) -> tuple[list[Vector], list[Vector]]:
        """(what enters each layer, what each layer's affine map gives): the last of these are the logits."""
        entering, preactivations, h = [], [], list(inputs)
        for depth, (weights, biases) in enumerate(self.layers):
            entering.append(h)
            a = [
                total([b, *(value * row[j] for value, row in zip(h, weights, strict=True))])
                for j, b in enumerate(biases)
            ]
            preactivations.append(a)
            if depth < len(self.layers) - 1:
                h = [ACTIVATIONS[self.activation](value) for value in a]
        return entering, preactivations

    def logits(self, inputs: Sequence[int]) -> Vector:
        return self.steps([exact(bit) for bit in inputs])[1][-1]

    def pull(self, inputs: Sequence[int], slopes: Vector) -> Vector:
        """d/d inputs from d/d logits."""
        entering, _ = self.steps([exact(bit) for bit in inputs])
        for depth in reversed(range(len(self.layers))):
            slopes = [total([w * s for w, s in zip(row, slopes, strict=True)]) for row in self.layers[depth][0]]
            if depth > 0:
                slopes = [
                    s * activation_slope(self.activation, h) for s, h in zip(slopes, entering[depth], strict=True)
                ]
        return slopes

    def backward(self, rows: list[tuple[Sequence[int], Vector]], prefix: str) -> Gradients:
        """The sum over rows (inputs, d/d logits) of d/d parameters."""
        pairs_of: list[list[tuple[Vector, Vector]]] = [[] for _ in self.layers]
        for inputs, slopes in rows:
            entering, _ = self.steps([exact(bit) for bit in inputs])
            for depth in reversed(range(len(self.layers))):
                pairs_of[depth].append((entering[depth], slopes))
                if depth > 0:
                    slopes = [
                        total([w * s for w, s in zip(row, slopes, strict=True)]) * activation_slope(self.activation, h)
                        for row, h in zip(self.layers[depth][0], entering[depth], strict=True)
                    ]
        gradients: Gradients = {}
        for depth, (pairs, (weights, biases)) in enumerate(zip(pairs_of, self.layers, strict=True)):
            gradients[f"{prefix}weights.{depth}"] = [
                [total([h[i] * s[j] for h, s in pairs]) for j in range(len(biases))] for i in range(len(weights))
            ]
        for depth, (pairs, (_, biases)) in enumerate(zip(pairs_of, self.layers, strict=True)):
            gradients[f"{prefix}biases.{depth}"] = [total([s[j] for _, s in pairs]) for j in range(len(biases))]
        return gradients


def read_network(parameters: dict[str, Any], prefix: str, activation: str) -> Network:
    """The layers whose names start with prefix."""
    depth = sum(name.startswith(f"{prefix}weights.") for name in parameters)
    return Network(
        [
            (numbers(parameters[f"{prefix}weights.{d}"]), numbers(parameters[f"{prefix}biases.{d}"]))
            for d in range(depth)
        ],
        activation,
    )


class Model:
    """A prior, logits or a Model, under a decoder; tables over the codes of the layer next to x, made once."""

    def __init__(self, parameters: dict[str, Any], activation: str, prefix: str = "") -> None:
        self.prefix = prefix
        self.decoder = read_network(parameters, f"{prefix}decoder.", activation)
        self.codes = codes(self.decoder.fan_in)
        deep = f"{prefix}prior.logits" not in parameters
        self.above = Model(parameters, activation, f"{prefix}prior.") if deep else None
        self.prior_logits: Vector = [] if deep else numbers(parameters[f"{prefix}prior.logits"])
        self.steps = [self.decoder.steps([exact(bit) for bit in z])[1] for z in self.codes]
        self.logits = dict(zip(self.codes, (preactivations[-1] for preactivations in self.steps), strict=True))
        self.log_priors = {z: self.log_prior(z) for z in self.codes}

    def log_prior(self, z: Bits) -> Number:
        """log p(z), eq. (1), or the marginal of the layers above."""
        if self.above is not None:
            return self.above.log_marginal(z)
        return total(log_bernoulli(bit, a) for bit, a in zip(z, self.prior_logits, strict=True))

    def log_likelihood(self, x: Bits, z: Bits) -> Number:
        """log p(x | z), eq. (2)."""
        return total(log_bernoulli(bit, a) for bit, a in zip(x, self.logits[z], strict=True))

    def log_joint(self, x: Bits, z: Bits) -> Number:
        prior = self.log_priors[z]
        return prior if mp.isinf(prior.v) else prior + self.log_likelihood(x, z)

    def log_joints(self, x: Bits) -> Vector:
        return [self.log_joint(x, z) for z in self.codes]

    def log_marginal(self, x: Bits) -> Number:
        """log p(x), eq. (3)."""
        return log_sum_exp(self.log_joints(x))

    def posterior(self, x: Bits) -> Vector:
        """p(z | x), eq. (6)."""
        joints = self.log_joints(x)
        log_px = log_sum_exp(joints)
        return [exp_difference(joint, log_px) for joint in joints]

    def joint_gradient(self, rows: list[tuple[Bits, Bits, Number]]) -> Gradients:
        """sum over (x, z, w) of w d log p(x, z): the delta rule into the decoder, the marginal's into the prior."""
        mass: dict[Bits, list[Number]] = {}
        for _, z, weight in rows:
            mass.setdefault(z, []).append(weight)
        above: Gradients
        if self.above is None:
            above = {f"{self.prefix}prior.logits": self.prior_slopes([(z, total(ws)) for z, ws in mass.items()])}
        else:
            above = self.above.marginal_gradient([(z, total(weights)) for z, weights in mass.items()])
        return above | self.decoder_gradient(rows)

    def prior_slopes(self, rows: list[tuple[Bits, Number]]) -> Vector:
        """sum of w (z_k - beta_k); an infinite logit does not move."""
        return [
            exact(0) if mp.isinf(a.v) else total(delta(w, z[k], a) for z, w in rows)
            for k, a in enumerate(self.prior_logits)
        ]

    def decoder_gradient(self, rows: list[tuple[Bits, Bits, Number]]) -> Gradients:
        slopes: dict[Bits, list[list[Number]]] = {}
        for x, z, weight in rows:
            slopes.setdefault(z, []).append([delta(weight, bit, a) for bit, a in zip(x, self.logits[z], strict=True)])
        summed = [(z, [total(column) for column in zip(*parts, strict=True)]) for z, parts in slopes.items()]
        return self.decoder.backward(summed, f"{self.prefix}decoder.")

    def marginal_gradient(self, rows: list[tuple[Bits, Number]]) -> Gradients:
        """sum over (x, w) of w d log p(x)."""
        return self.joint_gradient(
            [(x, z, w * p) for x, w in rows for z, p in zip(self.codes, self.posterior(x), strict=True)]
        )

    def layers(self) -> list[Model]:
        """From x upwards."""
        return [self, *(self.above.layers() if self.above else [])]


class Term(NamedTuple):
    """One setting of the latent layers that q draws: z upwards from x, log q, q, log p(z), log p(x | z)."""

    z: tuple[Bits, ...]
    log_q: Number
    q: Number
    log_prior: Number
    log_likelihood: Number

    @property
    def value(self) -> Number:
        """log p(x, z) - log q(z), whose mean under q is the VLB."""
        if mp.isinf(self.log_prior.v):
            return self.log_prior
        return self.log_prior + self.log_likelihood - self.log_q


class Recognition:
    """q(z; phi(x)), or a chain q(z1 | x) q(z2 | z1) ... from x upwards."""

    def __init__(self, parameters: dict[str, Any], activation: str) -> None:
        self.chain = any(name.startswith("0.") for name in parameters)
        depth = 1 + max(int(name.split(".")[0]) for name in parameters) if self.chain else 1
        self.prefixes = [f"{d}.encoder." if self.chain else "encoder." for d in range(depth)]
        self.encoders = [read_network(parameters, prefix, activation) for prefix in self.prefixes]

    def terms(self, model: Model, x: Bits) -> list[Term]:
        """All settings of the layers that this q draws."""
        layers = model.layers()
        if not self.chain:
            layers = layers[:1]
        terms = []
        memory: dict[tuple[int, Bits], Vector] = {}
        for z in itertools.product(*(layer.codes for layer in layers)):
            logs, factors = [], []
            for depth, (encoder, below) in enumerate(zip(self.encoders, (x, *z), strict=False)):
                if (depth, below) not in memory:
                    memory[depth, below] = encoder.logits(below)
                phi = memory[depth, below]
                logs += [log_bernoulli(bit, a) for bit, a in zip(z[depth], phi, strict=True)]
                factors += [sigmoid(a if bit else -a) for bit, a in zip(z[depth], phi, strict=True)]
            if self.chain:
                parts = [layer.log_likelihood(z[d], z[d + 1]) for d, layer in enumerate(layers[1:])]
                log_prior = total([*parts, layers[-1].log_priors[z[-1]]])
            else:
                log_prior = model.log_priors[z[0]]
            q = factors[0]
            for factor in factors[1:]:
                q = q * factor
            terms.append(Term(z, total(logs), q, log_prior, model.log_likelihood(x, z[0])))
        return terms

    def gradient(self, rows: list[tuple[Bits, tuple[Bits, ...], Number]]) -> Gradients:
        """sum over (x, z, w) of w d log q(z | x), with every layer's slope taken at the layer below."""
        gradient: Gradients = {}
        for depth, (encoder, prefix) in enumerate(zip(self.encoders, self.prefixes, strict=True)):
            slopes: dict[Bits, list[Vector]] = {}
            for x, z, weight in rows:
                below = x if depth == 0 else z[depth - 1]
                phi = encoder.logits(below)
                slopes.setdefault(below, []).append(
                    [delta(weight, bit, a) for bit, a in zip(z[depth], phi, strict=True)]
                )
            summed = [(below, [total(c) for c in zip(*parts, strict=True)]) for below, parts in slopes.items()]
            gradient |= encoder.backward(summed, prefix)
        return gradient


# The quantities --------------------------------------------------------------------------------------------------


class Problem:
    """A case's parameters and inputs, and the answer to each question about them."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.model = Model(case["model"]["parameters"], case["model"]["activation"])
        posterior = case.get("posterior")
        self.q = Recognition(posterior["parameters"], posterior["activation"]) if posterior else None
        self.model_parameters = {k: numbers(v) for k, v in case["model"]["parameters"].items()}
        self.q_parameters = {k: numbers(v) for k, v in posterior["parameters"].items()} if posterior else {}
        self.inputs = case["inputs"]
        self.x: list[Bits] = [tuple(int(bit) for bit in row) for row in self.inputs.get("x", [])]
        self.z: list[Bits] = [tuple(int(bit) for bit in row) for row in self.inputs.get("z", [])]

    def terms(self) -> Iterator[list[Term]]:
        assert self.q is not None
        for x in self.x:
            yield self.q.terms(self.model, x)

    def log_prior(self) -> Vector:
        return [self.model.log_priors[z] for z in self.z]

    def log_likelihood(self) -> Vector:
        return [self.model.log_likelihood(x, z) for x, z in zip(self.x, self.z, strict=True)]

    def log_joint(self) -> Vector:
        return [self.model.log_joint(x, z) for x, z in zip(self.x, self.z, strict=True)]

    def log_marginal(self) -> Vector:
        return [self.model.log_marginal(x) for x in self.x]

    def posterior(self) -> Matrix:
        return [self.model.posterior(x) for x in self.x]

    def posterior_mean(self) -> Matrix:
        latents = range(self.model.decoder.fan_in)
        return [
            [total(p for p, z in zip(row, self.model.codes, strict=True) if z[k]) for k in latents]
            for row in self.posterior()
        ]

    def vlb(self) -> Vector:
        return [weighted([t.q for t in terms], [t.value for t in terms]) for terms in self.terms()]

    def vlb_terms(self) -> dict[str, Vector]:
        named: dict[str, Vector] = {"prior": [], "reconstruction": [], "entropy": []}
        for terms in self.terms():
            q = [t.q for t in terms]
            named["prior"].append(weighted(q, [t.log_prior for t in terms]))
            named["reconstruction"].append(weighted(q, [t.log_likelihood for t in terms]))
            named["entropy"].append(-weighted(q, [t.log_q for t in terms]))
        return named

    def kl(self) -> Vector:
        """E_q[log q - log p(x, z)] + log p(x), eq. (7)."""
        values = []
        for x, terms in zip(self.x, self.terms(), strict=True):
            log_px = self.model.log_marginal(x)
            values.append(weighted([t.q for t in terms], [log_px - t.value for t in terms]))
        return values

    def grad_log_marginal(self) -> Gradients:
        return self.model.marginal_gradient([(x, exact(1)) for x in self.x])

    def grad_vlb(self) -> Gradients:
        assert self.q is not None
        rows = [(x, term) for x, terms in zip(self.x, self.terms(), strict=True) for term in terms]
        model = self.expected_joint_gradient(rows)
        q = self.q.gradient([(x, t.z, t.q * t.value) for x, t in rows])
        return {f"model.{k}": v for k, v in model.items()} | {f"posterior.{k}": v for k, v in q.items()}

    def expected_joint_gradient(self, rows: list[tuple[Bits, Term]]) -> Gradients:
        """sum of q d log p(x, z): collapsed over the layers above for a single q, layer by layer for a chain."""
        if self.q is None or not self.q.chain:
            return self.model.joint_gradient([(x, t.z[0], t.q) for x, t in rows])
        return self.layer_gradients([(x, t.z, t.q) for x, t in rows])

    def layer_gradients(self, rows: list[tuple[Bits, tuple[Bits, ...], Number]]) -> Gradients:
        """sum over (x, (z1, z2, ...), w) of w d log p(x, z1, z2, ...), every layer's bits fixed."""
        layers, gradient = self.model.layers(), {}
        top = layers[-1]
        gradient[f"{top.prefix}prior.logits"] = top.prior_slopes([(z[-1], w) for _, z, w in rows])
        for depth in reversed(range(len(layers))):
            gradient |= layers[depth].decoder_gradient([((x, *z)[depth], z[depth], w) for x, z, w in rows])
        return gradient

    # One step of wake-sleep, and the sampler, with the uniforms of the case: a bit is u < p.

    def wake_step(self) -> Gradients:
        """x from the data, z from q; parameters + rate times the mean over rows of d log p(x, z)."""
        assert self.q is not None
        rows = [(x, z, exact(1)) for x, z in zip(self.x, self.recognised(), strict=True)]
        if len(self.q.encoders) == 1:
            gradient = self.model.joint_gradient([(x, z[0], w) for x, z, w in rows])
        else:
            gradient = self.layer_gradients(rows)
        return self.stepped(self.model_parameters, gradient, len(rows))

    def recognised(self) -> list[tuple[Bits, ...]]:
        """For each row of x the layers (z, z2, ...), each drawn from q given the one below."""
        assert self.q is not None
        drawn = []
        for n, x in enumerate(self.x):
            layers: list[Bits] = [x]
            for depth, encoder in enumerate(self.q.encoders):
                uniforms = self.inputs[f"wake_uniforms_{layer_name(depth)}"][n]
                layers.append(fire(encoder.logits(layers[-1]), uniforms))
            drawn.append(tuple(layers[1:]))
        return drawn

    def sleep_step(self) -> Gradients:
        """(x, z) from the model; parameters of q + rate times the mean over the dreams of d log q(z | x)."""
        assert self.q is not None
        dreams = self.dreams()
        gradient = self.q.gradient([(layers[0], tuple(layers[1:]), exact(1)) for layers in dreams])
        return self.stepped(self.q_parameters, gradient, len(dreams))

    def sample(self) -> dict[str, list[Vector]]:
        columns = list(zip(*self.dreams(), strict=True))
        names = ["x", *(layer_name(depth) for depth in range(len(columns) - 1))]
        return {name: [[exact(bit) for bit in row] for row in rows] for name, rows in zip(names, columns, strict=True)}

    # Bounds of M draws, by all multisets of what q draws

    def sets(self, terms: list[Term]) -> Iterator[tuple[tuple[int, ...], Number]]:
        """Every multiset of M terms, and its probability."""
        samples = int(self.inputs["samples"])
        for chosen in itertools.combinations_with_replacement(range(len(terms)), samples):
            probability = exact(math.factorial(samples) // math.prod(map(math.factorial, Counter(chosen).values())))
            for index in chosen:
                probability = probability * terms[index].q
            yield chosen, probability

    def iwae(self) -> Vector:
        """E log (w_1 + ... + w_M) / M."""
        values = []
        for terms in self.terms():
            found = [(p, log_mean_exp([terms[i].value for i in chosen])) for chosen, p in self.sets(terms)]
            values.append(weighted([p for p, _ in found], [bound for _, bound in found]))
        return values

    def counted(self, terms: list[Term]) -> tuple[Vector, Vector]:
        """For every term E of the sum of the normalised weights, and of the bounds, of the draws that are it."""
        shares: list[Vector] = [[exact(0)] for _ in terms]
        bounds: list[Vector] = [[exact(0)] for _ in terms]
        for chosen, p in self.sets(terms):
            values = [terms[i].value for i in chosen]
            whole, bound = log_sum_exp(values), log_mean_exp(values)
            for i, value in zip(chosen, values, strict=True):
                shares[i].append(p * exp_difference(value, whole))
                bounds[i].append(p * bound)
        return [total(column) for column in shares], [total(column) for column in bounds]

    def weighted_gradients(self, signal: Callable[[Number, Number], Number]) -> Gradients:
        """Model: the shares' average of d log p(x, z). Posterior: that of d log q(z), by what signal makes of both."""
        assert self.q is not None
        of_model, of_q = [], []
        for x, terms in zip(self.x, self.terms(), strict=True):
            for term, share, bound in zip(terms, *self.counted(terms), strict=True):
                of_model.append((x, term.z[0], share))
                of_q.append((x, term.z, signal(share, bound)))
        gradients = {f"model.{name}": value for name, value in self.model.joint_gradient(of_model).items()}
        return gradients | {f"posterior.{name}": value for name, value in self.q.gradient(of_q).items()}

    def grad_iwae(self) -> Gradients:
        """E sum_i u_i d log p(x, z_i), and E sum_i (log mean w - u_i) d log q(z_i), u normalised weights."""
        return self.weighted_gradients(lambda share, bound: bound - share)

    def rws_update(self) -> Gradients:
        """The same with E sum_i u_i d log q(z_i)."""
        return self.weighted_gradients(lambda share, bound: share)

    # Draws of gradients in the logits of q

    def draws(self, *, mirrored: bool = False) -> Iterator[tuple[Vector, list[Bits], Vector]]:
        """Of every row phi, the M draws of z, or their twins from 1 - u, and the draws' log w."""
        assert self.q is not None
        for x, terms, uniforms in zip(self.x, self.terms(), self.inputs["draw_uniforms"], strict=True):
            phi = self.q.encoders[0].logits(x)
            z = [fire(phi, [1 - u for u in row] if mirrored else row) for row in uniforms]
            value = {term.z[0]: term.value for term in terms}
            yield phi, z, [value[each] for each in z]

    def scored(self, signals: Callable[[Vector], Vector]) -> Matrix:
        """The sum over draws of signal times score, row by row."""
        return [
            [
                total([delta(s, each[k], a) for s, each in zip(signals(f), z, strict=True)])
                for k, a in enumerate(phi)
            ]
            for phi, z, f in self.draws()
        ]  # fmt: skip

    def draw_leave_one_out(self) -> Matrix:
        """(f_s - mean of the others) / M times the score."""
        return self.scored(lambda f: [portion(f[s] - mean_of([*f[:s], *f[s + 1 :]]), len(f)) for s in range(len(f))])

    def draw_vimco(self) -> Matrix:
        """log of the mean weight, less the same with f_s replaced by the mean of the others, less u_s."""

        def signals(f: Vector) -> Vector:
            bound, whole = log_mean_exp(f), log_sum_exp(f)
            others = [[*f[:s], *f[s + 1 :]] for s in range(len(f))]
            return [
                bound - log_mean_exp([*rest, mean_of(rest)]) - exp_difference(value, whole)
                for value, rest in zip(f, others, strict=True)
            ]

        return self.scored(signals)

    def draw_reweighted(self) -> Matrix:
        """u_s times the score."""
        return self.scored(lambda f: [exp_difference(value, log_sum_exp(f)) for value in f])

    def pairs(self) -> Iterator[tuple[Vector, list[Bits], list[Bits], Vector]]:
        """phi, z, twins, and the difference of their log w."""
        for (phi, z, f), (_, twins, g) in zip(self.draws(), self.draws(mirrored=True), strict=True):
            yield phi, z, twins, [a - b for a, b in zip(f, g, strict=True)]

    def draw_arm(self) -> Matrix:
        """The mean over pairs of the difference times 1/2 - u."""
        rows = []
        for (phi, _, _, differences), uniforms in zip(self.pairs(), self.inputs["draw_uniforms"], strict=True):
            factors = [[exact(mpf("0.5") - mpf(u)) for u in row] for row in uniforms]
            rows.append([
                mean_of([d * row[k] for d, row in zip(differences, factors, strict=True)]) for k in range(len(phi))
            ])  # fmt: skip
        return rows

    def draw_disarm(self) -> Matrix:
        """The mean over pairs of half the difference times z - twin times sigmoid(|logit|)."""
        return [
            [
                portion(
                    mean_of([d * exact(a[k] - b[k]) for d, a, b in zip(differences, z, twins, strict=True)]), 2
                )
                * sigmoid(logit if logit.v > 0 else -logit)
                for k, logit in enumerate(phi)
            ]
            for phi, z, twins, differences in self.pairs()
        ]  # fmt: skip

    def draw_straight_through(self) -> Matrix:
        """The mean over draws of d log w / d z, times phi (1 - phi)."""
        rows = []
        for x, (phi, z, _) in zip(self.x, self.draws(), strict=True):
            slopes = []
            for each in z:
                logits = self.model.logits[each]
                below = self.model.decoder.pull(each, [delta(exact(1), b, a) for b, a in zip(x, logits, strict=True)])
                slopes.append([
                    total([s, b, -a]) for s, b, a in zip(below, self.model.prior_logits, phi, strict=True)
                ])  # fmt: skip
            rows.append([
                mean_of([row[k] for row in slopes]) * sigmoid(a) * sigmoid(-a) for k, a in enumerate(phi)
            ])  # fmt: skip
        return rows

    def dreams(self) -> list[list[Bits]]:
        """Layers [x, z1, z2, ...] of each dream, drawn from the top downwards."""
        layers, dreams = self.model.layers(), []
        for s in range(len(self.inputs["uniforms_x"])):
            dream = [fire(layers[-1].prior_logits, self.inputs[f"uniforms_{layer_name(len(layers) - 1)}"][s])]
            for depth in reversed(range(len(layers))):
                name = "x" if depth == 0 else layer_name(depth - 1)
                dream.insert(0, fire(layers[depth].logits[dream[0]], self.inputs[f"uniforms_{name}"][s]))
            dreams.append(dream)
        return dreams

    def stepped(self, parameters: dict[str, Any], gradient: Gradients, rows: int) -> Gradients:
        rate = numbers(self.inputs["learning_rate"])
        per_row = Number(rate.v / rows, rate.e / rows + float(rate.v / rows))
        return {name: step(parameters[name], gradient[name], per_row) for name in parameters}


def portion(number: Number, parts: int) -> Number:
    """number / parts."""
    return number * Number(mpf(1) / parts, 1.0 / parts)


def mean_of(numbers: Vector) -> Number:
    """Their mean."""
    return portion(total(numbers), len(numbers))


def log_mean_exp(numbers: Vector) -> Number:
    """log of the mean of exp."""
    count = mp.log(len(numbers))
    return log_sum_exp(numbers) - Number(count, float(count))


def step(value: Any, slope: Any, rate: Number) -> Any:
    """value + rate * slope, through nested lists."""
    if isinstance(value, Number):
        return value + rate * slope
    return [step(a, b, rate) for a, b in zip(value, slope, strict=True)]


def layer_name(depth: int) -> str:
    """z, z2, z3, ... from x upwards."""
    return "z" if depth == 0 else f"z{depth + 1}"


CLEAR = mpf("0.001")
"""A uniform this close to its probability would make the bit depend on rounding; exact ties are meant."""


def fire(logits: Sequence[Number], uniforms: Sequence[float]) -> Bits:
    """Bits u < p."""
    bits = []
    for a, u in zip(logits, uniforms, strict=True):
        p = sigmoid(a).v
        if abs(p - u) <= CLEAR and not (p == u or (p == 1 and u < 1)):
            raise TooClose(f"u = {u} and p = {mp.nstr(p, 10)}")
        bits.append(int(u < p))
    return tuple(bits)


class TooClose(ValueError):
    """A uniform within `CLEAR` of its probability."""


HOUSE = Path(__file__).resolve().parent.parent / "refvlm" / "conformance"

LIST = json.loads((HOUSE / "quantities.json").read_text(encoding="utf-8"))
"""The one list of what the protocol knows: inputs, and quantities in the order in which the published cases ask."""

QUANTITIES: dict[str, Callable[[Problem], Any]] = {name: getattr(Problem, name) for name in LIST["quantities"]}


def quantities_where(holds: Callable[[dict[str, Any]], bool], edition: int = 1) -> tuple[str, ...]:
    """The quantities of an edition, those of earlier ones among them, whose record in the list is as wanted."""
    return tuple(name for name, q in LIST["quantities"].items() if q["edition"] <= edition and holds(q))
