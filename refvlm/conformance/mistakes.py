"""The plain implementation with one thing wrong, many times over: what a wrong number is recognised by.

Each class replaces one step of `plain.Plain`; whatever follows from it follows, as in the program that made the
mistake. `title` completes "your value equals that with ..."; `remedy` says what to look for. Several were reported in
well-known libraries: the prior left out of a surrogate, a batch summed before broadcasting, a latent shared by all
rows, NaN at probabilities of 0, probabilities or logarithms clipped, softplus cut off at 20.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .plain import Named, Plain
from .problems import Layers

__all__ = ["MISTAKES", "Mistake", "name_of"]

Array = NDArray[Any]


class Mistake(Plain):
    """One wrong step. title: what is wrong, in a few words. remedy: what to do about it."""

    title = ""
    remedy = ""

    @property
    def asks_for_gradient(self) -> bool:
        """Whether log p(x, z) is differentiated as one: in a step of wake its parts are."""
        return self.problem.quantity.startswith("grad")


def name_of(mistake: type[Mistake]) -> str:
    """'missing-prior' for MissingPrior: the name in reports and in the cases' `catches`."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in mistake.__name__)[1:]


# The joint -------------------------------------------------------------------------------------------------------


class MissingPrior(Mistake):
    title = "log p(z) left out"
    remedy = "add log p(z) to log p(x|z): log-joint, bound and surrogate all need it"

    def joint(self, likelihood: Array, prior: Array) -> Array:
        return likelihood + 0 * np.where(np.isinf(prior), 0, prior)

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"prior": 0 * terms["reconstruction"]}

    def joint_gradient(self, depth: int, x: Array, weights: Array) -> Named:
        found = super().joint_gradient(depth, x, weights)
        return {name: 0 * value if name.startswith("prior.") else value for name, value in found.items()}

    def path_gradient(self, first: int, layers: Sequence[Array], weights: Array) -> Named:
        return _times(super().path_gradient(first, layers, weights), 0 if self.asks_for_gradient else 1)


class PriorTwice(Mistake):
    title = "log p(z) counted twice"
    remedy = "log p(x, z) = log p(x|z) + log p(z), once"

    def joint(self, likelihood: Array, prior: Array) -> Array:
        return likelihood + 2 * prior

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"prior": 2 * terms["prior"]}

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        return _times(super().prior_gradient(z, weights), 2 if self.asks_for_gradient else 1)


class UniformPrior(Mistake):
    title = "a uniform prior, the prior's logits unused"
    remedy = "log p(z) = sum of z_k log beta_k + (1 - z_k) log(1 - beta_k) with beta = sigmoid(prior logits)"

    def log_prior_bits(self, z: Array, logits: Array) -> Array:
        return super().log_prior_bits(z, 0 * np.where(np.isinf(logits), 0, logits))

    def prior_delta(self, z: Array, logits: Array) -> Array:
        return 0 * super().prior_delta(z, logits)


class PriorProbabilitiesAsLogits(Mistake):
    title = "the prior's logits put through the sigmoid once too often"
    remedy = "the parameters are logits; pass them to a function of logits as they are"

    def log_prior_bits(self, z: Array, logits: Array) -> Array:
        return super().log_prior_bits(z, self.sigmoid(logits))

    def prior_delta(self, z: Array, logits: Array) -> Array:
        beta = self.sigmoid(logits)
        return super().prior_delta(z, beta) * beta * (1 - beta)


class PriorLogitsAsProbabilities(Mistake):
    title = "the prior's logits taken as probabilities"
    remedy = "beta = sigmoid(prior logits)"

    def log_prior_bits(self, z: Array, logits: Array) -> Array:
        return np.where(z == 1, np.log(logits), np.log(1 - logits)).sum(axis=-1)

    def prior_delta(self, z: Array, logits: Array) -> Array:
        return np.where(z == 1, 1 / logits, -1 / (1 - logits))


class UpperLayersIgnored(Mistake):
    title = "the layers above z replaced by a uniform prior"
    remedy = "in a deep model log p(z) is the log-marginal of the layers above"

    def prior(self, depth: int, z: Array) -> Array:
        if depth == len(self.decoders) - 1:
            return super().prior(depth, z)
        return np.full(len(z), -z.shape[1] * math.log(2))

    def joint_gradient(self, depth: int, x: Array, weights: Array) -> Named:
        found = super().joint_gradient(depth, x, weights)
        own = "prior." * depth + "decoder."
        return {name: 0 * value if len(self.decoders) > depth + 1 and not name.startswith(own) else value
                for name, value in found.items()}  # fmt: skip


# The likelihood --------------------------------------------------------------------------------------------------


class MissingSoftplus(Mistake):
    title = "the normaliser log(1 + e^a) left out of log p(x|z)"
    remedy = "log p(x|z) = sum of x_i a_i - log(1 + e^a_i)"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        return (x * logits).sum(axis=-1)

    def x_delta(self, x: Array, logits: Array) -> Array:
        return x + 0 * logits


class MeanOverPixels(Mistake):
    title = "the mean over the observed bits instead of the sum"
    remedy = "sum log p(x_i|z) over i; reduction='sum', not 'mean'"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        return super().log_x_bits(x, logits) / self.dtype(x.shape[-1])

    def x_delta(self, x: Array, logits: Array) -> Array:
        return super().x_delta(x, logits) / self.dtype(x.shape[-1])


class ExchangedBits(Mistake):
    title = "x and 1 - x exchanged"
    remedy = "sigmoid(a_i) is the probability of a one"

    def log_x_bits(self, x: Array, logits: Array) -> Array:
        return super().log_x_bits(1 - x, logits)

    def x_delta(self, x: Array, logits: Array) -> Array:
        return super().x_delta(1 - x, logits)


class SigmoidTwice(Mistake):
    title = "the decoder's probabilities taken as logits: sigmoid applied twice"
    remedy = "give the loss that takes logits the decoder's linear output"

    def decode(self, layers: Layers, z: Array) -> Array:
        return self.sigmoid(super().decode(layers, z))

    def output_slope(self, a: Array, layers: Layers) -> Array:
        p = self.sigmoid(a)
        return p * (1 - p) if "decoder" in layers.prefix else super().output_slope(a, layers)


class RoundedProbability(Mistake):
    title = "logarithms of probabilities that were rounded first, log(1 - sigmoid(a))"
    remedy = "compute log p from the logit: -log(1 + e^-a) and -log(1 + e^a)"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = self.sigmoid(logits)
        return np.where(bits == 1, np.log(p), np.log(1 - p))


class ZeroTimesLogZero(Mistake):
    title = "x log p + (1 - x) log(1 - p) with 0 log 0 = NaN"
    remedy = "compute log p from the logit, and take 0 log 0 = 0"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = self.sigmoid(logits)
        return bits * np.log(p) + (1 - bits) * np.log(1 - p)


class ZeroTimesInfinity(Mistake):
    title = "z a - log(1 + e^a) at infinite logits, 0 times infinity = NaN"
    remedy = "an infinite prior logit is legal: choose log sigmoid(a) or log sigmoid(-a) by the bit"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        return bits * logits - self.softplus(logits)


class ClippedProbability(Mistake):
    title = "probabilities clipped to [1e-7, 1 - 1e-7]"
    remedy = "no clipping: compute log p from the logit"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = np.clip(self.sigmoid(logits), self.dtype(1e-7), self.dtype(1 - 1e-7))
        return np.where(bits == 1, np.log(p), np.log(1 - p))

    def delta(self, bits: Array, logits: Array) -> Array:
        p = self.sigmoid(logits)
        return super().delta(bits, logits) * ((p > 1e-7) & (p < 1 - 1e-7))


class ClampedLogarithm(Mistake):
    title = "logarithms clamped at -100"
    remedy = "use the loss that takes logits (in PyTorch BCEWithLogits; BCELoss clamps)"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        return np.maximum(super().log_bernoulli_terms(bits, logits), -100)


class EpsilonInLogarithm(Mistake):
    title = "log(p + 1e-8)"
    remedy = "no epsilon: compute log p from the logit"

    def log_bernoulli_terms(self, bits: Array, logits: Array) -> Array:
        p = np.where(bits == 1, self.sigmoid(logits), self.sigmoid(-logits))
        return np.log(p + self.dtype(1e-8))

    def delta(self, bits: Array, logits: Array) -> Array:
        p = np.where(bits == 1, self.sigmoid(logits), self.sigmoid(-logits))
        return super().delta(bits, logits) * (p / (p + self.dtype(1e-8)))


class SoftplusCutOff(Mistake):
    title = "softplus(a) taken as a above 20"
    remedy = "use logaddexp(0, a), or a softplus without a threshold"

    def softplus(self, a: Array) -> Array:
        return np.where(a > 20, a, super().softplus(a))


# The network -----------------------------------------------------------------------------------------------------


class ColumnMajorWeights(Mistake):
    title = "weights read in column-major order"
    remedy = "tensors are row-major: the last index varies fastest"

    def cast(self, layers: Layers) -> Layers:
        found = super().cast(layers)
        return found._replace(weights=[w.ravel().reshape(w.shape, order="F") for w in found.weights])


class ReversedLatents(Mistake):
    title = "the latent bits in reverse order at the decoder"
    remedy = "z_0 goes with the first row of the first weight matrix"

    def forward(self, layers: Layers, inputs: Array) -> tuple[Array, list[Array], list[Array]]:
        return super().forward(layers, inputs[:, ::-1] if "decoder" in layers.prefix else inputs)


class MissingBiases(Mistake):
    title = "the biases left out"
    remedy = "a = h W + b"

    def affine(self, h: Array, weights: Array, biases: Array) -> Array:
        return h @ weights + 0 * biases


class BiasesTwice(Mistake):
    title = "the biases added twice"
    remedy = "a = h W + b"

    def affine(self, h: Array, weights: Array, biases: Array) -> Array:
        return h @ weights + 2 * biases


class ActivationOnOutput(Mistake):
    title = "the activation applied to the last layer too"
    remedy = "the last layer is linear: its outputs are logits"

    def output(self, logits: Array, activation: str) -> Array:
        return self.activate(logits, activation)

    def output_slope(self, a: Array, layers: Layers) -> Array:
        return self.activation_slope(self.activate(a, layers.activation), a, layers.activation)


class AlwaysTanh(Mistake):
    title = "tanh, whatever the activation"
    remedy = "the activation comes with the model and with the posterior, each its own"

    def activate(self, a: Array, activation: str) -> Array:
        return super().activate(a, "tanh")

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return super().activation_slope(h, a, "tanh")


class DecodersActivation(Mistake):
    title = "the decoder's activation in the encoder"
    remedy = "the posterior brings an activation of its own"

    def encode(self, layers: Layers, below: Array) -> Array:
        return super().encode(layers._replace(activation=self.decoders[0].activation), below)


class MissingSlope(Mistake):
    title = "the activation's derivative left out of the backward pass"
    remedy = "multiply by f'(a) on the way down"

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return np.ones_like(a)


class SlopeAtValue(Mistake):
    title = "the activation's derivative taken at f(a) instead of a"
    remedy = "tanh' = 1 - h^2 and sigmoid' = h (1 - h) where h is already the activation's value"

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return super().activation_slope(self.activate(h, activation), h, activation)


class SlopeAtZero(Mistake):
    title = "relu'(0) = 1"
    remedy = "by convention relu'(0) = 0, as in PyTorch and JAX"

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return (a >= 0).astype(self.dtype) if activation == "relu" else super().activation_slope(h, a, activation)


class SinglePrecision(Mistake):
    title = "arithmetic in single precision"
    remedy = "somewhere a float32 array or literal enters; or claim float32"
    dtype = np.float32


# The sum over z --------------------------------------------------------------------------------------------------


class ReversedCodes(Mistake):
    title = "the codes' bits in reverse order: z_0 the most significant"
    remedy = "row c of a table is z_k = (c >> k) & 1: z_0 varies fastest"

    def posterior(self) -> Array:
        latents = self.latents(0)
        order = self.codes(latents)[:, ::-1] @ (1 << np.arange(latents))
        return super().posterior()[:, order.astype(int)]


class LogMeanExp(Mistake):
    title = "the mean over codes instead of the sum: K log 2 too low"
    remedy = "log p(x) = log sum over z of p(x, z); a mean belongs to draws from the prior"

    def log_sum_exp(self, table: Array) -> Array:
        return super().log_sum_exp(table) - self.dtype(math.log(table.shape[1]))


class MaximumForSum(Mistake):
    title = "the largest log p(x, z) instead of the log of the sum"
    remedy = "log-sum-exp over all codes"

    def log_sum_exp(self, table: Array) -> Array:
        return table.max(axis=1, initial=-math.inf)


class UnshiftedSum(Mistake):
    title = "log(sum(exp(.))) without a shift"
    remedy = "take the largest term out first: log-sum-exp"

    def log_sum_exp(self, table: Array) -> Array:
        return np.log(np.exp(table).sum(axis=1))


class OneLatentForAllRows(Mistake):
    title = "one z shared by all rows of the batch"
    remedy = "every row has a z of its own: sum over z inside, rows outside"

    def marginal(self, depth: int, x: Array) -> Array:
        if depth > 0 or not len(x):
            return super().marginal(depth, x)
        likelihood = self.likelihood_table(0, x).sum(axis=0, keepdims=True)
        whole = self.log_sum_exp(likelihood + self.prior(0, self.codes(self.latents(0))))
        return np.repeat(whole, len(x))


class UnnormalisedPosterior(Mistake):
    title = "p(x, z) instead of p(z|x)"
    remedy = "divide by p(x)"

    def shares(self, depth: int, x: Array) -> Array:
        return np.exp(self.joint_table(depth, x))


class NormalisedOverRows(Mistake):
    title = "normalised over the rows instead of over the codes"
    remedy = "softmax over the axis of the codes"

    def shares(self, depth: int, x: Array) -> Array:
        joint = self.joint_table(depth, x)
        if not len(joint):
            return joint
        return np.exp(joint - self.log_sum_exp(joint.T))


class MostProbableCode(Mistake):
    title = "the most probable code instead of the mean"
    remedy = "E[z_k | x] = sum over z of p(z|x) z_k"

    def posterior_mean(self) -> Array:
        return self.codes(self.latents(0))[self.posterior().argmax(axis=1)]


# Batches and units -----------------------------------------------------------------------------------------------

_LOGARITHMS = ("log_prior", "log_likelihood", "log_joint", "log_marginal", "vlb", "vlb_terms", "kl")


class Bits(Mistake):
    title = "logarithms to base 2"
    remedy = "nats: natural logarithms"

    def answer(self) -> Array | Named:
        found = super().answer()
        if self.problem.quantity in _LOGARITHMS or self.problem.quantity.startswith("grad"):
            return _each(found, lambda value: value / self.dtype(math.log(2)))
        return found


class SummedOverRows(Mistake):
    title = "summed over the batch, then broadcast to its rows"
    remedy = "one number per row; no sum over rows before the end"

    def answer(self) -> Array | Named:
        found = super().answer()
        if self.problem.quantity in _LOGARITHMS:
            return _each(found, lambda value: np.full_like(value, value.sum()))
        return found


class MeanOverRows(Mistake):
    title = "the gradient of the mean over rows instead of the sum"
    remedy = "gradients are of the sum over the rows of x"

    def answer(self) -> Array | Named:
        found = super().answer()
        if self.problem.quantity.startswith("grad"):
            return _each(found, lambda value: value / max(len(self.x), 1))
        return found


class NegatedGradient(Mistake):
    title = "the gradient with the opposite sign, that of the loss"
    remedy = "gradients are uphill, of log p(x) and of the VLB"

    def answer(self) -> Array | Named:
        found = super().answer()
        return _each(found, np.negative) if self.problem.quantity.startswith("grad") else found


# The bound -------------------------------------------------------------------------------------------------------


class MissingEntropy(Mistake):
    title = "the entropy term -log q(z|x) left out"
    remedy = "VLB = E_q[log p(x, z) - log q(z)]"

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"entropy": 0 * terms["reconstruction"]}

    def learning_signal(self, log_q: Array) -> Array:
        return super().learning_signal(log_q) + log_q


class EntropySign(Mistake):
    title = "the entropy term with the wrong sign"
    remedy = "the entropy E_q[-log q] is not negative, and is added"

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"entropy": -terms["entropy"]}

    def learning_signal(self, log_q: Array) -> Array:
        return super().learning_signal(log_q) + 2 * log_q


class ReversedKl(Mistake):
    title = "KL(p(z|x) || q), the two exchanged"
    remedy = "KL(q || p(z|x)): the expectation is under q"

    def divergence(self, log_q: Array, log_p: Array) -> Array:
        return super().divergence(log_p, log_q)


class KlToPrior(Mistake):
    title = "KL(q || p(z)), to the prior instead of the posterior"
    remedy = "the gap log p(x) - VLB is KL(q || p(z|x))"

    def kl(self) -> Array:
        log_q = self.log_q()
        return self.divergence(log_q, np.broadcast_to(self.path_prior(), log_q.shape))


class KlAdded(Mistake):
    title = "the gap added to log p(x) instead of taken away"
    remedy = "VLB = log p(x) - KL(q || p(z|x))"

    def vlb(self) -> Array:
        return self.log_marginal() + self.kl()


class MeanOfQ(Mistake):
    title = "the decoder applied to the mean of q instead of to its codes"
    remedy = "E_q[log p(x|z)] is a sum over codes; the decoder sees bits, never probabilities"

    def vlb_terms(self) -> Named:
        mean = self.sigmoid(self.encode(self.encoders[0], self.x))
        return super().vlb_terms() | {"reconstruction": self.log_x_bits(self.x, self.decode(self.decoders[0], mean))}


class PhiAsLogits(Mistake):
    title = "phi, a probability, taken as a logit: sigmoid applied twice in q"
    remedy = "the encoder's outputs are logits"

    def encode(self, layers: Layers, below: Array) -> Array:
        return self.sigmoid(super().encode(layers, below))

    def output_slope(self, a: Array, layers: Layers) -> Array:
        phi = self.sigmoid(a)
        return phi * (1 - phi) if "encoder" in layers.prefix else super().output_slope(a, layers)


class ReversedBitsOfQ(Mistake):
    title = "phi_k going with z_(K-1-k)"
    remedy = "logit k of the encoder belongs to z_k"

    def encode(self, layers: Layers, below: Array) -> Array:
        return super().encode(layers, below)[:, ::-1]


# Gradients -------------------------------------------------------------------------------------------------------


class PriorMassOnly(Mistake):
    title = "the prior's gradient without - beta"
    remedy = "d log p(z) / d logit_k = z_k - beta_k"

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        return {name: np.where(np.isinf(self.top), 0, weights @ z) for name in super().prior_gradient(z, weights)}


class GradientInProbabilities(Mistake):
    title = "the prior's gradient with respect to beta instead of its logits"
    remedy = "parameters are logits: multiply by beta (1 - beta)"

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        slope = self.sigmoid(self.top) * self.sigmoid(-self.top)
        return {
            name: np.where(slope > 0, value / slope, 0) for name, value in super().prior_gradient(z, weights).items()
        }


class PriorsExpectation(Mistake):
    title = "the gradient averaged under the prior instead of the posterior"
    remedy = "Fisher's identity: weight d log p(x, z) by p(z|x)"

    def grad_log_marginal(self) -> Named:
        prior = np.exp(self.prior(0, self.codes(self.latents(0))))
        return self.joint_gradient(0, self.x, np.tile(prior, (len(self.x), 1)))


class ScoreSign(Mistake):
    title = "the score term with the wrong sign"
    remedy = "d VLB / d phi = E_q[(log p(x, z) - log q(z)) d log q(z)], uphill"

    def grad_vlb_posterior(self) -> Named:
        return {name: -value for name, value in super().grad_vlb_posterior().items()}


class DetachedZ(Mistake):
    title = "z held fixed: the gradient through E_q[log p(x, z)] left out"
    remedy = "the draws depend on phi: multiply the score by log p(x, z) - log q(z)"

    def learning_signal(self, log_q: Array) -> Array:
        return -log_q


class EntropyGradientMissing(Mistake):
    title = "- log q(z) left out of what multiplies the score"
    remedy = "d VLB / d phi = E_q[(log p(x, z) - log q(z)) d log q(z)]"

    def learning_signal(self, log_q: Array) -> Array:
        return super().learning_signal(log_q) + log_q


class RowsSignalShared(Mistake):
    title = "the learning signal summed over the batch before it meets the score"
    remedy = "each row's score goes with its own log p(x, z) - log q(z)"

    def learning_signal(self, log_q: Array) -> Array:
        signal = super().learning_signal(log_q)
        return np.broadcast_to(signal.sum(axis=0, keepdims=True), signal.shape)


# Draws and steps -------------------------------------------------------------------------------------------------


class InclusiveComparison(Mistake):
    title = "a bit drawn by u <= p"
    remedy = "u < p with u in [0, 1): p = 0 never fires"

    def fire(self, logits: Array, uniforms: Array) -> Array:
        return (uniforms <= self.sigmoid(logits)).astype(self.dtype)


class MirroredUniforms(Mistake):
    title = "a bit drawn by u >= 1 - p"
    remedy = "u < p"

    def fire(self, logits: Array, uniforms: Array) -> Array:
        return (uniforms >= self.sigmoid(-logits)).astype(self.dtype)


class RoundedBits(Mistake):
    title = "a bit taken as p >= 1/2, the uniforms unused"
    remedy = "u < p"

    def fire(self, logits: Array, uniforms: Array) -> Array:
        return np.broadcast_to(logits >= 0, uniforms.shape).astype(self.dtype)


class MeansForDraws(Mistake):
    title = "probabilities instead of drawn bits in the wake phase"
    remedy = "z is drawn: z_k = 1 where u < phi_k"

    def recognise(self) -> list[Array]:
        layers = [self.x]
        for encoder in self.encoders:
            layers.append(self.sigmoid(self.encode(encoder, layers[-1])))
        return layers


class DownhillStep(Mistake):
    title = "a step downhill"
    remedy = "parameters + rate times the gradient: both phases climb"

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        return super().step(parameters, {name: -value for name, value in gradient.items()}, rows)


class SummedStep(Mistake):
    title = "the sum over rows instead of the mean in a step"
    remedy = "divide by the number of rows, or of dreams"

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        return super().step(parameters, gradient, 1)


class DividedTwice(Mistake):
    title = "divided by the number of rows twice in a step"
    remedy = "a mean of means: divide once"

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        return super().step(parameters, gradient, rows * rows)


class PriorHeldFixed(Mistake):
    title = "the prior left as it was in the wake phase"
    remedy = "wake moves beta and theta"

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        found = super().prior_gradient(z, weights)
        return _times(found, 0 if "step" in self.problem.quantity else 1)


def _times(found: Named, factor: int) -> Named:
    return {name: factor * value for name, value in found.items()}


def _each(found: Array | Named, change: Any) -> Array | Named:
    if isinstance(found, dict):
        return {name: change(value) for name, value in found.items()}
    return change(found)


MISTAKES: tuple[type[Mistake], ...] = tuple(
    value
    for value in list(globals().values())
    if isinstance(value, type) and issubclass(value, Mistake) and value.title
)
