"""Terms of the bound with other weights, results times a constant, losses of libraries; numbers in them are found."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import numpy as np

from ...types import Array
from ..equations import Named
from ..problems import Problem
from .common import Mistake, each, remembered


class Share(NamedTuple):
    """A factor, and what it is divided by: "", or a size of the problem: "N", "K", "L", "NK", "NL"."""

    factor: float
    by: str = ""

    def of(self, problem: Problem) -> float:
        """Returns the number."""
        return self.factor / size(problem, self.by)

    def __str__(self) -> str:
        per = "".join({"N": " / rows", "K": " / latents", "L": " / pixels"}[letter] for letter in self.by)
        return f"{self.factor:.6g}{per}"


def size(problem: Problem, by: str) -> float:
    """Returns the product of the sizes named."""
    weights = problem.decoders[0].weights
    sizes = {"N": max(len(problem.inputs.get("x", ())), 1), "K": len(weights[0]), "L": weights[-1].shape[1]}
    return float(np.prod([sizes[letter] for letter in by]))


_KNOWN_WEIGHTS: dict[tuple[float, ...], str] = {
    (-1.0, -1.0, -1.0): "the loss, -VLB",
    (-1.0, 1.0, -1.0): "the reconstruction plus KL(q || p(z)) instead of minus",
}


class WeightedTerms(Mistake):
    """VLB = a prior + b reconstruction + c entropy, and its gradient."""

    remedy = "VLB = E_q[log p(z)] + E_q[log p(x|z)] + E_q[-log q(z)], each term once"
    shares: ClassVar[tuple[Share, Share, Share]] = (Share(1.0), Share(1.0), Share(1.0))

    @classmethod
    @remembered
    def of(cls, shares: tuple[Share, Share, Share]) -> type[WeightedTerms]:
        """Returns the mistake with these weights."""
        names = ("the prior term", "the reconstruction", "the entropy")
        odd = [f"{name} times {share}" for name, share in zip(names, shares, strict=True) if share != Share(1.0)]
        factors = tuple(share.factor for share in shares)
        title = "in the VLB " + ", ".join(odd)
        if not any(share.by for share in shares):
            title = _KNOWN_WEIGHTS.get(factors, title)
        return type(cls.__name__, (cls,), {"shares": shares, "title": title})

    def weights(self) -> list[Any]:
        return [self.dtype(share.of(self.problem)) for share in self.shares]

    def vlb(self) -> Array:
        a, b, c = self.weights()
        terms = self.vlb_terms()
        return a * terms["prior"] + b * terms["reconstruction"] + c * terms["entropy"]

    def log_weights(self, log_q: Array) -> Array:
        a, b, c = self.weights()
        return b * self.path_likelihood() + a * self.path_prior() - c * log_q

    def grad_vlb_model(self) -> Named:
        a, b, _ = self.weights()
        return {
            name: (b if name.startswith("decoder.") else a) * value for name, value in super().grad_vlb_model().items()
        }


class Multiplied(Mistake):
    """The result times a constant."""

    remedy = "find the factor: a mean where a sum belongs, a sign, another logarithm"
    share: ClassVar[Share] = Share(1.0)

    @classmethod
    @remembered
    def of(cls, share: Share) -> type[Multiplied]:
        """Returns the mistake with this factor."""
        return type(cls.__name__, (cls,), {"share": share, "title": f"the right result times {share}"})

    def answer(self) -> Array | Named:
        answer = super().answer()
        if self.kind not in ("nats", "probabilities", "gradient", "estimates"):
            return answer
        factor = self.share.of(self.problem)
        return each(answer, lambda value: value * factor)


class MeanOfLogarithms(Mistake):
    title = "the mean of log p(x|z) over the prior instead of the log of the mean"
    remedy = "log p(x) = log of sum over z of p(z) p(x|z): the logarithm is outside"

    def marginal(self, depth: int, x: Array) -> Array:
        prior = np.exp(self.prior(depth, self.codes(self.latents(depth))))
        return self.expectation(np.broadcast_to(prior, (len(x), len(prior))), self.likelihood_table(depth, x))


class ExchangedArguments(Mistake):
    title = "the arguments of the cross-entropy exchanged: p log x, logarithms clamped at -100"
    remedy = "prediction first, target second: binary_cross_entropy(p, x)"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        on = self.sigmoid(logits)
        return (np.where(x == 1, 0, -100) * on + np.where(x == 1, -100, 0) * self.sigmoid(-logits)).sum(axis=-1)

    def x_delta(self, x: Array, logits: Array) -> Array:
        return np.where(x == 1, 100, -100) * self.sigmoid(logits) * self.sigmoid(-logits)


class ExchangedLogits(Mistake):
    title = "the arguments of the cross-entropy with logits exchanged"
    remedy = "logits first, target second: binary_cross_entropy_with_logits(a, x)"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        return (x * logits - self.softplus(x)).sum(axis=-1)

    def x_delta(self, x: Array, logits: Array) -> Array:
        return x + 0 * logits


class FiresAbove(Mistake):
    title = "a bit drawn by u > p"
    remedy = "u < p"

    def fire(self, logits: Array, uniforms: Array) -> Array:
        return (uniforms > self.sigmoid(logits)).astype(self.dtype)


class GradientForStep(Mistake):
    title = "the parameters set to rate times the gradient instead of moved by it"
    remedy = "parameters + rate times the gradient"

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        moved = super().step(parameters, gradient, rows)
        return {name: moved[name] - np.where(np.isinf(parameters[name]), 0, parameters[name]) for name in parameters}


class RecognisedInSleep(Mistake):
    title = "in sleep, the encoder fed with its own probabilities instead of the bits that were dreamt"
    remedy = "in sleep every layer's input and target are the dream's"

    def sleep_step(self) -> Named:
        layers = self.dream()
        gradient: Named = {}
        below = layers[0]
        for encoder, above in zip(self.encoders, layers[1:], strict=False):
            logits = self.encode(encoder, below)
            gradient |= self.backward(encoder, below, self.delta(above, logits))
            below = self.sigmoid(logits)
        return self.step(self.named(self.encoders), gradient, len(layers[0]))


class DreamInWake(Mistake):
    title = "in wake, the rule of sleep: targets taken from the model's own expectations"
    remedy = "in wake the targets are x and the bits that q drew"

    def delta(self, bits: Array, logits: Array) -> Array:
        return 0 * bits if self.problem.quantity == "wake_step" else super().delta(bits, logits)


class Transposed(Mistake):
    title = "rows and columns exchanged"
    remedy = "row-major, in the shape that the protocol gives"

    def answer(self) -> Array | Named:
        answer = super().answer()
        return each(answer, np.transpose) if self.kind in ("probabilities", "gradient") else answer


class ReversedMean(Mistake):
    title = "the latent bits of the mean in reverse order"
    remedy = "column k belongs to z_k"

    def posterior_mean(self) -> Array:
        return super().posterior_mean()[:, ::-1]


class NaiveSoftplus(Mistake):
    title = "softplus as log(1 + e^a), which overflows and loses small a"
    remedy = "logaddexp(0, a), or max(a, 0) + log1p(e^-|a|)"

    def softplus(self, a: Array) -> Array:
        return np.log(1 + np.exp(a))
