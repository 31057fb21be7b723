"""A bound on the rounding error of log p(x), from the weights' magnitudes and the kernel's own operations.

Let l(z) = log p(x, z) <= 0 be exact, l^(z) what the kernel computes, P = -log p(x), u = 2**-53.

Lemma. If |l^(z) - l(z)| <= a + b |l(z)| for all z, with 0 <= b < 1, then

    |log sum exp l^ - log sum exp l| <= a + b (P + K log 2).

Proof. Let D = a + b |l| = a - b l and E the average over the posterior p(z | x) = exp(l(z)) / p(x). The difference
is log E[exp(l^ - l)], at most log E[exp D] and, by Jensen, at least -E[D]. Upwards, E[exp D] =
e**a sum exp((1 - b) l) / p(x) <= e**a (sum exp l)**(1 - b) (2**K)**b / p(x) by Hoelder, = exp(a + b (P + K log 2)).
Downwards, E[D] = a + b E[-l], and E[-l] = P + entropy of the posterior <= P + K log 2.

So no sum has to be taken to bound its error: P is the answer itself. What remains is a and b for one log-joint.

1. Logits. First layer (double-double, see `kernels/network.py`): error u |a| + (2 K + 8) u**2 S, S = |b| + sum |W|.
   Activations: tanh adds 4 u, sigmoid 5 u, relu nothing; they are 1-, 1/4- and 1-Lipschitz, and on the first
   layer |a| tanh'(a) <= 0.448, |a| sigmoid'(a) <= 0.224 make u |a| harmless. Dense layer of n inputs of magnitude
   m with errors e: sum |W| e + gamma_d (|b| + sum |W| (m + e)), gamma_d = d u / (1 - d u), d = 16 + ceil(n / 16) + 1,
   the longest chain of its runs of 16. For one affine layer, u |a_i| |d log sigmoid| <= u |log sigmoid| + 0.28 u.
2. From logits to log p(x | z) = sum of t_i, t_i = log sigmoid(+-a_i) <= 0. An error e_i in a_i moves t_i by at most
   e_i, and by at most e_i exp(e_i) min(1, |t_i|), because |d t / d a| = 1 - exp(t) <= |t|. Hence either
   a += sum e_i or b += max e_i exp(e_i); both are tried and the better one is reported. The second is what makes
   large weights bearable: where logits are large, almost all t_i are almost zero.
3. Rounding of t_i: relative 7 u; their sum, all of one sign: relative (L / 4 + 7) u. The prior's terms: relative
   7 u and K + 2 additions. Adding the two, both <= 0: relative u. All of it is in b. A prior that is itself a sum
   brings its own bound instead, into a.
   Weights for which step 1 gives more than 1e-11 for some logit are taken in double-double (`precise.py`):
   there an activation adds 2**-90, a dense layer (n**2 + n + 8) u**2 (|b| + sum |W| (m + e)), and what remains is one
   rounding of the logits, u |a|, as for one affine layer. So large weights cost time, not digits.
4. The sum. A term exp(l - n log 2) has relative error 2 u + 2 u |l - n log 2|, and the posterior's average of that
   distance is at most K log 2 + 0.7; additions: 6 + 64 + pages + log2(pieces) deep, gamma. Terms below 2**-1021 are
   dropped: 2**(K - 1000). The final logarithm: 3 u + u P.

Second-order terms, products of two of the above, are covered by a factor 1.01 while b < 10**-3; beyond that the
bound is reported as inf. The logits of a decoder that is no MLP are taken as given.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ..enumeration.blocks import LOW_BITS, PAGE, code_pieces
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP

__all__ = ["error_bound", "logit_errors", "needs_precision"]

Floats = NDArray[np.float64]

U = 2.0**-53
_SLACK = 1.01
_TOLERATED = 1e-11


def error_bound(model: BernoulliLVM, log_px: Floats, prior_error: float) -> Floats:
    """Bounds on |computed - exact| log p(x), (N,), for the computed values log_px (N,).

    prior_error: the largest error in the table of a prior that is a model, else 0.
    """
    latents = model.latents
    nats = -log_px + latents * math.log(2.0)
    likelihood = 7 + model.observed / 4 + 7
    prior = 7 + latents + 2 if isinstance(model.prior, Bernoulli) else 0
    rounding, offset, errors = (max(likelihood, prior) + 1) * U, prior_error, np.zeros(1)
    if isinstance(model.decoder, MLP):
        precise = needs_precision(model.decoder)
        errors = logit_errors(model.decoder, precise)
        if precise or len(model.decoder.weights) == 1:  # one rounding of each logit comes on top
            rounding, offset = rounding + U, offset + 0.28 * U * model.observed
    largest = float(errors.max())
    by_sum = offset + errors.sum() + rounding * nats
    by_largest = offset + (rounding + largest * math.exp(min(largest, 1.0))) * nats
    joint = np.minimum(by_sum, by_largest) if largest + rounding < 1e-3 else np.full_like(log_px, np.inf)
    bound: Floats = _SLACK * (joint + _summation(latents) + U * np.abs(log_px))
    return bound


def needs_precision(network: MLP) -> bool:
    """Whether float64 would leave more than 1e-11 of error in some logit."""
    return len(network.weights) > 1 and bool(logit_errors(network, False).max() > _TOLERATED)


def _summation(latents: int) -> float:
    """Step 4, without its share of P."""
    pieces = code_pieces(latents)
    pages = max(1, pieces.step >> (LOW_BITS + PAGE.bit_length() - 1))
    depth = LOW_BITS + PAGE + pages + len(pieces).bit_length()
    terms = 2 * U * (latents * math.log(2.0) + 1.7)
    return depth * U / (1 - depth * U) + terms + 2.0 ** (latents - 1000) + 3 * U


def logit_errors(network: MLP, precise: bool) -> Floats:
    """Step 1: a bound on each logit's error, (L,), but for the last rounding of one affine layer or double-double."""
    activation = network.activation
    lipschitz, own = {"tanh": (1.0, 4 * U), "sigmoid": (0.25, 5 * U), "relu": (1.0, 0.0)}[activation]
    steepest = {"tanh": 0.448, "sigmoid": 0.224, "relu": np.inf}[activation]
    if precise:
        own = 0.0 if activation == "relu" else 2.0**-90
    magnitudes = np.abs(network.biases[0]) + np.abs(network.weights[0]).sum(axis=0)
    errors: Floats = (2 * network.fan_in + 8) * U**2 * magnitudes
    for layer in range(1, len(network.weights)):
        rounded = np.minimum(U * magnitudes, steepest * U) if layer == 1 and not precise else 0.0
        errors = np.minimum(lipschitz * errors, 2.0 if activation != "relu" else np.inf) + rounded + own
        if activation != "relu":
            magnitudes = np.ones_like(magnitudes)
        weights, biases = np.abs(network.weights[layer]), np.abs(network.biases[layer])
        sums = biases + (magnitudes + errors) @ weights
        rounding = _dense_rounding(len(weights), precise)
        errors = errors @ weights + rounding * sums
        magnitudes = sums
    return errors


def _dense_rounding(fan_in: int, precise: bool) -> float:
    """gamma of a dense layer: of the longest chain of its runs of 16, or of the sum of rests in double-double."""
    if precise:
        return (fan_in**2 + fan_in + 8) * U**2
    depth = 16 + math.ceil(fan_in / 16) + 1
    return depth * U / (1 - depth * U)
