"""Bounds on the rounding errors of kappa(s) = log E_q w^s, of kappa'(s), and on all errors of IWAE-M.

What kernels compute of log p(x, z) is off by d_p, |d_p| <= a + b |log p(x, z)| as in `certificate.py`, and of log q by
d_q, |d_q| <= e + (7 + K) u Q: e is the sum over k of the errors of the encoder's logits, because the probability of a
bit moves by no more than its logit, and Q the largest -log q(z | x), the sum over k of |log of the rarer value's
probability|. Layers of a chain add up. Let r be q w^s, normalised, and P = E_r |log p(x, z)|; log p = log w + log q,
both of one sign, so P <= Q - kappa'(s).

kappa. Its derivative by log p is s r, by log q (1 - s) r. So an error of |s| (a + b P) + |1 - s| (e + (7 + K) u Q),
while the largest of |s d_p| + |1 - s| |d_q| is at most 1e-3, so that second-order terms are covered by a factor 1.01.
Else that largest itself, since no sum of exponentials moves by more in its logarithm than its terms in theirs. Terms:
roundings of v = s log p + (1 - s) log q, 2 u (|s| P + |1 - s| Q); of v - n log 2, which weighs u times its distance
from the largest, at most the entropy of r and 1: u (K log 2 + 1); exp 2 u; gamma of the depth; logarithm.
kappa'. log w is off by d_p - d_q and u |log w|. The weights r move by no more than D, the largest of what moves a term,
and that moves E_r log w by at most D times the standard deviation of log w under r, sqrt(kappa''(s)). Where D is above
1e-3, and for IWAE-M likewise, what is left is that any average of log weights lies between the least and the greatest,
computed or exact, up to gamma of how far these are apart and a few u of the larger: the error is at most that distance
and twice what each is off by. D depends on s: at s = 0 an error of log p moves log w alone, in which E_r is linear.

IWAE-M = L - gap, L = kappa(1), from the average S / M of M weights of mean 1: by log x = int (e^-t - e^(-t x)) dt / t,

    gap = -E log(S / M) = int over u of phi(t / M)^M - e^-t,  t = e^u,  phi(s) = E_q exp(-s w).

1. An error d(z) in log w moves it by at most E sum_i W_i |d(z_i)|, W_i the normalised weights. Larger weights have
   larger W_i, so E sum_i W_i (-log w_i) <= E_q[-log w] = -VLB, and as above -log p averages at most Q - VLB.
2. An error e_k in a logit of q also moves what is drawn. With f(z) the expected change of log S by a draw z, which is
   between 0 and log(1 + w / S'), S' the other weights' sum, e_k phi (1 - phi) |E[f | z_k = 1] - E[f | z_k = 0]| is at
   most e_k E log(1 + w / S'), for each of M draws: e_k A, A = M (E log S_M - E log S_(M-1)), which is the integral of
   M phi^(M-1) (1 - phi).
3. 1 - phi is computed as a sum of positive terms: K + 6 roundings of q, 6 u for 1 - e^-y, gamma, and for y = s w, whose
   logarithm is rounded at each step, u (2 |u| + |L| + 2 max |log w - L|). In a chain the layers below the highest have
   log w from a sum over the bits, and add up a table. The effect of all that and of the scalar functions is added up
   node by node in `kernels/weights.gap`; that phi(s) >= e^-s holds up to the rounding of L, which is less.
4. The trapezoidal rule of step h. In the strip |Im u| < a, cos a = c, |phi(s e^(i a))| <= phi(c s), so

       int |f(u + i a)| du <= 2 + E1(c) + log(1 + 1 / c) + gap + 1 / e:

   below u = 0 both terms are within t of 1; above, phi(c s)^M <= E exp(-c t S / M), whose integral is at most
   E log(1 + M / (c S)), at most log(1 + 1 / c) - E log(S / M) + E max(log(S / M), 0), and log x <= x / e. The error
   is at most twice that over e^(2 pi a / h) - 1. At h = 1 / 4 and c = 0.04 it is below 4e-17 (8.4 + gap).
5. Nodes left out: below u_0 the integrand is at most t, and at most t^2 E_q w^2 / (2 M); above, phi^M falls at least as
   exp(-t w) does, so what is left is at most phi^M log(1 + 1 / (t w)), w the smallest weight, and log(1 + 1 / a) is
   at most max(-log a, 0) + log 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..enumeration.problem import Recognition
from ..types import Floats
from .bound_certificate import encoder_errors, streamed_depth, table_depth, tabulated_error
from .certificate import LOG_2, SLACK, U, gamma
from .layers import Layer
from .weights import Tilt

STEP = 0.25
"""Of the trapezoidal rule in log t."""
_TOLERATED = 1e-3


class Sizes(NamedTuple):
    """What the errors of a row's weights follow from: bits of all layers, depth of the sums, Q, e and (7 + K) u Q."""

    latents: int
    addition: float
    entropy: Floats
    encoder: float
    log_q: Floats


def sizes_of(layers: Sequence[Layer]) -> Sizes:
    """Of the layers that q has a part for; Q of a layer above the lowest is the largest over its codes."""
    latents, addition, encoder = 0, 0.0, 0.0
    entropy, log_q = np.zeros(len(layers[0].x)), np.zeros(len(layers[0].x))
    for level, layer in enumerate(_named(layers)):
        assert layer.stage is not None
        most = _largest(layer.q)
        most = most if level == 0 else np.full_like(entropy, most.max())
        latents += layer.model.latents
        addition += float(gamma(streamed_depth(layer.model.latents)))
        encoder += float(encoder_errors(layer.stage).sum())
        entropy, log_q = entropy + most, log_q + (7 + layer.model.latents) * U * most
    return Sizes(latents, addition, entropy, encoder, log_q)


def _named(layers: Sequence[Layer]) -> Sequence[Layer]:
    """Those that q has a part for; what is above them is in the prior's table."""
    return [layer for layer in layers if layer.stage is not None]


def _largest(q: Recognition) -> Floats:
    """The largest -log q(z) that is finite, (N,)."""
    rarer = np.minimum(q.log_probability[:, 0], q.log_probability[:, 1])
    most = np.zeros(len(rarer))
    for k in range(rarer.shape[1]):
        most -= np.where(np.isfinite(rarer[:, k]), rarer[:, k], 0.0)
    return most


def _joint_error(layers: Sequence[Layer], tilt: Tilt, nats: Floats) -> Floats:
    """Bounds on the average error of log p(x, z), (N,), where its magnitude is `nats` on average."""
    error, table = np.zeros_like(nats), float(tilt.prior_error.max())
    for layer in _named(layers):
        error = error + tabulated_error(layer.model, table, prior=True).average(nats)
    return error


def tilt_errors(layers: Sequence[Layer], tilt: Tilt, exponents: Floats) -> tuple[Floats, Floats]:
    """Bounds on the errors of kappa(s) and of kappa'(s), (N, T) each; 0 where these are infinite."""
    sizes = sizes_of(layers)
    values, slopes = np.empty_like(tilt.value), np.empty_like(tilt.value)
    most_nats = np.maximum(-tilt.least_log_joint, 0.0)
    most_joint, off_q = _joint_error(layers, tilt, most_nats), sizes.encoder + sizes.log_q
    range_error = _range_error(tilt, most_joint + off_q, sizes)
    for t, s in enumerate(exponents):
        near, far = abs(float(s)), abs(1.0 - float(s))
        slope = np.where(np.isfinite(tilt.slope[:, t]), tilt.slope[:, t], 0.0)
        nats = np.maximum(sizes.entropy - slope, 0.0)
        joint = _joint_error(layers, tilt, nats)
        spread = sizes.latents * LOG_2 + 1.0
        terms = len(layers) * U * (2 * (near * nats + far * sizes.entropy) + spread + 8.0) + 2.0 * sizes.addition
        value = near * joint + far * off_q + terms + U * np.abs(tilt.value[:, t])
        farthest = near * most_joint + far * off_q
        largest = farthest + terms + U * (np.sqrt(708.0 * spread) + 2.0 * near * np.abs(tilt.least_log_joint))
        bend = np.where(np.isfinite(tilt.bend[:, t]), tilt.bend[:, t], 0.0)
        moved = joint + off_q + 3 * U * (nats + sizes.entropy) + largest * np.sqrt(bend)
        small = farthest <= _TOLERATED
        most_terms = len(layers) * U * (2 * (near * most_nats + far * sizes.entropy) + spread + 8.0)
        at_most = farthest + most_terms + 2.0 * sizes.addition + U * np.abs(tilt.value[:, t])
        value, moved = np.where(small, value, at_most), np.where(small, moved, range_error)
        values[:, t] = np.where(np.isfinite(tilt.value[:, t]), SLACK * value, 0.0)
        slopes[:, t] = np.where(np.isfinite(tilt.slope[:, t]), SLACK * moved, 0.0)
    return np.where(exponents == 0.0, 0.0, values), slopes


def absence_errors(layers: Sequence[Layer], tilt: Tilt, log_mean: Floats, log_s: Floats) -> Floats:
    """Step 3: bounds on the relative errors of 1 - phi, (N, T), at the nodes log_s (T,) of weights over their mean."""
    sizes, named = sizes_of(layers), len(_named(layers))
    lowest, highest = tilt.least_log_weight - log_mean, tilt.greatest_log_weight - log_mean
    reach = np.maximum(np.abs(lowest), np.abs(highest))
    each = 6 * sizes.latents + 12 * named
    row = each * U + sizes.addition + U * (np.abs(log_mean) + 2 * named * reach)
    if named > 1:  # a layer's part of a weight can be larger than the whole, and it is a sum over bits
        row = row + (sizes.latents + 2 * named) * U * (np.abs(tilt.least_log_joint) + sizes.entropy)
        row = row + sum(float(gamma(table_depth(layer.model.latents))) for layer in layers[: named - 1])
    error: Floats = SLACK * (row[:, None] + 2 * named * U * np.abs(log_s))
    return error


def weighing_error(layers: Sequence[Layer], tilt: Tilt, bound: Floats, growth: Floats) -> Floats:
    """Steps 1 and 2: bounds on what errors of log w and of q do to IWAE-M, (N,). bound: the VLB; growth: A."""
    sizes = sizes_of(layers)
    nats = np.maximum(sizes.entropy - bound, 0.0)
    joint = _joint_error(layers, tilt, nats)
    most_joint = _joint_error(layers, tilt, np.maximum(-tilt.least_log_joint, 0.0))
    off_q = sizes.encoder + sizes.log_q
    error = joint + off_q + 2 * U * (nats + sizes.entropy) + sizes.encoder * growth
    farthest = most_joint + off_q
    return np.where(farthest <= _TOLERATED, error, _range_error(tilt, farthest, sizes))


def _range_error(tilt: Tilt, farthest: Floats, sizes: Sizes) -> Floats:
    """How far an average of log weights may be off, (N,), where each is off by `farthest` at most."""
    apart = np.maximum(tilt.greatest_log_weight - tilt.least_log_weight, 0.0)
    error: Floats = apart * (1.0 + 4.0 * sizes.addition) + 2.0 * farthest + 4.0 * U * np.abs(tilt.least_log_weight)
    return error


def strip_error(gap: Floats) -> Floats:
    """Step 4: bounds on the error of the infinite trapezoidal sum, (N,)."""
    return 4e-17 * (8.4 + gap)
