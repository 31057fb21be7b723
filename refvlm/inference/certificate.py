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
   An activation f adds its own rounding error, (s + t |a|) u, and multiplies e by its Lipschitz constant; on the first
   layer max |a f'(a)|, where it is finite, makes u |a| harmless. `refvlm/activations.py` has these constants, and
   c in |f(a)| <= |a| + c, which bounds the magnitudes that enter the next layer. Dense layer of n inputs of magnitude m
   with errors e: sum |W| e + gamma_d (|b| + sum |W| (m + e)), gamma_d = d u / (1 - d u), d = min(n, 64) + ceil(n / 64)
   + 1, the longest chain of its runs of 64. For one affine layer, u |a_i| |d log sigmoid| <= u |log sigmoid| + 0.28 u.
2. From logits to log p(x | z) = sum of t_i, t_i = log sigmoid(+-a_i) <= 0. An error e_i in a_i moves t_i by at most
   e_i, and by at most e_i exp(e_i) min(1, |t_i|), because |d t / d a| = 1 - exp(t) <= |t|. Hence either
   a += sum e_i or b += max e_i exp(e_i), exp(e) <= 1 + 2 e for e <= 1; both are tried and the better one is reported.
   The second is what makes large weights bearable: where logits are large, almost all t_i are almost zero.
3. Rounding of p(x | z). A few rows (`kernels/marginal.py`): the product over i has a relative error of (3 L + 1) u,
   into a; the sum of max(-+a_i, 0), of one sign, a relative (min(L, 16) + ceil(L / 16)) u, into b. Many rows
   (`kernels/groups.py`): the product has a relative error of (6 L + 3) u, into a. No hidden layer
   (`kernels/linear.py`): the term has (4 L + 20) u, into a, and step 1 is in it.
4. The prior's terms: relative 7 u and K + 2 additions, all of one sign; adding them to the likelihood's: relative u;
   all into b. A prior that is itself a sum brings its own bound instead, into a. Weights for which step 1 gives more
   than 1e-11 for some logit are taken in double-double (`precise.py`): there an activation adds what its record states,
   a dense layer (n**2 + n + 8) u**2 (|b| + sum |W| (m + e)), and what remains is one rounding of the logits, u |a|, as
   for one affine layer. So large weights cost time, not digits.
5. The sum. A term exp(l) of l <= 0 carries a relative error of 4 u (1 + |l|): into a and b. Additions:
   `blocks.depth`, gamma. Terms below 2**-1021 of the largest are dropped, or, by tables, 2**-1020 of a sum above
   2**-900: 2**(K - 120). The final logarithm: 3 u + u P.
6. Posterior means E[z_k | x] = T_1 / T, T_1 the sum over the codes with z_k = 1. The lemma holds for T_1 as for T, with
   -log T_1 = P - log E[z_k | x] in place of P; additions go deeper. So the relative error of the quotient
   is below the sum of both errors, and u for the division.

Second-order terms, products of two of the above, are covered by a factor 1.01 while b < 10**-3; beyond that the
bound is reported as inf. The logits of a decoder that is no MLP are taken as exact.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ..activations import ACTIVATIONS
from ..enumeration.blocks import Route, depth
from ..enumeration.kernels import constants
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..types import Floats

Routes = NDArray[np.int64]

U = 2.0**-53
SLACK = 1.01
LOG_2 = 0.6931471805599454  # rounded up
_TOLERATED = 1e-11


class JointError(NamedTuple):
    """|error of log p(x, z)| <= offset + slope |log p(x, z)| for all z, by either of two pairs; (N,) or scalar each."""

    offsets: tuple[Floats, Floats]
    slopes: tuple[Floats, Floats]

    def average(self, nats: Floats) -> Floats:
        """A bound on the average error where |log p(x, z)| is `nats` on average; inf for useless pairs."""
        pairs = zip(self.offsets, self.slopes, strict=True)
        bound: Floats = np.minimum.reduce(
            [np.where(slope < 1e-3, offset + slope * nats, np.inf) for offset, slope in pairs]
        )
        return bound


def joint_error(model: BernoulliLVM, absolute: Floats, relative: Floats, prior_error: float) -> JointError:
    """Steps 1 to 4, from the errors of the product over i, in units of u: `absolute` into a, `relative` into b."""
    offset = prior_error + absolute * U
    slope = relative * U
    errors = np.zeros(1)
    if isinstance(model.decoder, MLP):
        precise = needs_precision(model.decoder)
        errors = logit_errors(model.decoder, precise)
        if precise or len(model.decoder.weights) == 1:  # one rounding of each logit comes on top
            slope, offset = slope + U, offset + 0.28 * U * model.observed
    largest = float(errors.max())
    steeper = slope + (largest * (1 + 2 * largest) if largest < 1 else np.inf)
    return JointError((offset + errors.sum(), offset), (slope, steeper))


def error_bound(model: BernoulliLVM, log_px: Floats, route: Routes, prior_error: float) -> Floats:
    """Bounds on |computed - exact| log p(x), (N,), for the computed values log_px (N,).

    route: (N,), the kernel that summed each row. prior_error: the largest error in the table of a deep prior, else 0.
    """
    joint = _summed_joint(model, route, prior_error).average(-log_px + model.latents * LOG_2)
    bound: Floats = SLACK * (joint + _addition(model.latents, route) + 3 * U + U * np.abs(log_px))
    return bound


def mean_error(model: BernoulliLVM, mean: Floats, log_px: Floats, route: Routes, prior_error: float) -> Floats:
    """Step 6: bounds on the errors of posterior means E[z_k | x], (N, K)."""
    whole = error_bound(model, log_px, route, prior_error)[:, None]
    joint = _summed_joint(model, route[:, None], prior_error)
    part = joint.average(-log_px[:, None] - np.log(np.maximum(mean, 2.0**-1022)) + model.latents * LOG_2)
    part = part + _addition(model.latents, route, moments=True)[:, None]
    relative = whole + part + 3 * U
    bound: Floats = SLACK * mean * np.where(relative < 1, relative * (1 + relative), np.inf) + 2.0**-100
    return np.minimum(bound, 1.0)


def _summed_joint(model: BernoulliLVM, route: Routes, prior_error: float) -> JointError:
    """The error of one term on each route."""
    observed = model.observed
    products = {
        Route.STREAMED: constants.STREAMED_PRODUCT, Route.TABLED: constants.TABLED_PRODUCT,
        Route.LINEAR: constants.LINEAR_TERM,
    }  # fmt: skip
    product = np.array([products[r].each * observed + products[r].more for r in Route])
    prior = _prior_relative(model)
    relative = np.where(route == Route.STREAMED, max(few_terms_depth(observed), prior), prior)
    return joint_error(model, product[route] + 4.0, relative + 5.0, prior_error)


def few_terms_depth(observed: int) -> int:
    """Additions that a term of a sum over i goes through: so many terms at a time."""
    return min(observed, constants.FEW_TERMS) + math.ceil(observed / constants.FEW_TERMS)


def _prior_relative(model: BernoulliLVM) -> int:
    """The relative error of log p(z) and of adding it, in units of u; a table brings its own."""
    return 7 + model.latents + 2 if isinstance(model.prior, Bernoulli) else 0


def _addition(latents: int, route: Routes, *, moments: bool = False) -> Floats:
    """Step 5: the relative error of adding terms, those of log p(x) or of its moments, and of losing some."""
    depths = np.array([depth(latents, r, moments=moments) for r in Route])[route]
    error: Floats = gamma(depths) + 2.0 ** (latents - 1020) / constants.TABLE_FLOOR
    return error


def gamma(count: Any) -> Any:
    """count u / (1 - count u)."""
    return count * U / (1 - count * U)


_known: WeakKeyDictionary[MLP, bool] = WeakKeyDictionary()


def needs_precision(network: MLP) -> bool:
    """Whether float64 would leave more than 1e-11 of error in some logit; found once for each network."""
    if network not in _known:
        _known[network] = len(network.weights) > 1 and bool(logit_errors(network, False).max() > _TOLERATED)
    return _known[network]


def logit_errors(network: MLP, precise: bool, *, encoder: bool = False) -> Floats:
    """Step 1: a bound on each logit's error, (fan_out,); one affine layer or double-double rounds once more.

    encoder: the network takes rows of bits, and its first layer is dense as the others are.
    """
    f = ACTIVATIONS[network.activation]
    own, own_relative = f.precise_rounding if precise else (f.rounding[0] * U, f.rounding[1] * U)
    magnitudes = np.abs(network.biases[0]) + np.abs(network.weights[0]).sum(axis=0)
    rounding = _dense_rounding(network.fan_in, precise) if encoder else (2 * network.fan_in + 8) * U**2
    errors: Floats = rounding * magnitudes
    for layer in range(1, len(network.weights)):
        rounded = np.minimum(U * magnitudes * max(1.0, f.lipschitz), f.steepness * U)
        if layer > 1 or precise or encoder:
            rounded = np.zeros_like(magnitudes)
        errors = np.minimum(f.lipschitz * errors, 2 * f.bound) + rounded + (own + own_relative * magnitudes)
        magnitudes = f.magnitude(magnitudes)
        weights, biases = np.abs(network.weights[layer]), np.abs(network.biases[layer])
        sums = biases + _through(magnitudes + errors, weights)
        errors = _through(errors, weights) + _dense_rounding(len(weights), precise) * sums
        magnitudes = sums
    return errors


def _through(values: Floats, weights: Floats) -> Floats:
    """values @ weights, without BLAS: the same bits everywhere."""
    total: Floats = (values[:, None] * weights).sum(axis=0)
    return total


def _dense_rounding(fan_in: int, precise: bool) -> float:
    """gamma of a dense layer: of the longest chain of its runs, or of the sum of rests in double-double."""
    if precise:
        return (fan_in**2 + fan_in + 8) * U**2
    return float(gamma(min(fan_in, constants.RUN) + math.ceil(fan_in / constants.RUN) + 1))
