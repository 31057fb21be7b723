"""What estimators see of a model at given rows: log w = log p(x, z) - log q(z | x), its slopes in z, and its tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ... import bits
from ...activations import log_sigmoid, sigmoid
from ...checks import as_binary, check_fits, describe
from ...enumeration import sums
from ...enumeration.engine import Engine
from ...model.bernoulli import Bernoulli
from ...model.latent_variable import BernoulliLVM
from ...model.recognition import AmortisedPosterior, PerDatumPosterior, Posterior, StagedPosterior
from ...types import Bits, Floats
from .. import arrays
from ..exact import prior_pass
from ..joint import log_likelihood, log_of_bits, log_prior
from ..layers import prepare
from ..terms import check_finite

SingleQ = AmortisedPosterior | PerDatumPosterior

_STEP = 1 << 14
"""Codes whose slopes are computed together."""


class Landscape(NamedTuple):
    """Rows of data and q's logits there: x (N, L), logits (N, K)."""

    model: BernoulliLVM
    x: Bits
    logits: Floats

    def of_row(self, n: int) -> Landscape:
        """One of the rows alone."""
        return self._replace(x=self.x[n : n + 1], logits=self.logits[n : n + 1])

    @property
    def phi(self) -> Floats:
        """The probabilities of z_k = 1 under q, (N, K)."""
        probability: Floats = sigmoid(self.logits)
        return probability

    @property
    def bend(self) -> Floats:
        """d phi / d logit = phi (1 - phi), (N, K); 0 for a bit that q fixes."""
        slope: Floats = sigmoid(self.logits) * sigmoid(-self.logits)
        return slope

    def score(self, z: Bits) -> Floats:
        """d log q(z) / d logits = z - phi for z (N, S, K); 0 for a bit that q fixes."""
        logits = self.logits[:, None]
        return np.where(np.isinf(logits), 0.0, np.where(z == 1, sigmoid(-logits), -sigmoid(logits)))

    def log_weights(self, z: Bits) -> Floats:
        """log w for S draws per row, z (N, S, K): (N, S) nats. Refused where p excludes a draw."""
        rows, draws, latents = z.shape
        pairs, codes = np.repeat(self.x, draws, axis=0), np.ascontiguousarray(z.reshape(-1, latents))
        log_p = log_likelihood(self.model, pairs, codes) + log_prior(self.model, codes)
        log_w: Floats = (log_p - log_of_bits(np.repeat(self.logits, draws, axis=0), codes)).reshape(rows, draws)
        check_finite(log_w.min(axis=1, initial=0.0))
        return log_w

    def between(self, z: Floats) -> Floats:
        """log w where z (N, K) lies between 0 and 1: the decoder's logits there, log p(z) and log q(z) linear in z."""
        a = self.model.decoder.forward(z)[0]
        prior, own = _smooth_prior(self.model).logits, self.logits
        value: Floats = np.where(self.x == 1, log_sigmoid(a), log_sigmoid(-a)).sum(axis=1)
        for sign, logits in ((1.0, np.broadcast_to(prior, z.shape)), (-1.0, own)):
            finite = np.where(np.isfinite(logits), logits, 0.0)
            value += sign * np.where(np.isfinite(logits), z * finite - np.logaddexp(0.0, finite), 0.0).sum(axis=1)
        return value

    def slopes(self, z: Floats) -> Floats:
        """d log w / d z, (N, S, K), of that extension at z (N, S, K); log q's logits held fixed, 0 where infinite."""
        pull = input_slopes(self.model)
        prior = _smooth_prior(self.model).logits
        rows, draws, latents = z.shape
        flat, below = z.reshape(-1, latents), np.empty((rows * draws, latents))
        for start in range(0, len(flat), _STEP):
            part = slice(start, start + _STEP)
            x = self.x[np.arange(len(flat))[part] // draws]
            below[part] = pull(flat[part], x - sigmoid(self.model.decoder.forward(flat[part])[0]))
        constant: Floats = np.where(np.isfinite(prior), prior, 0.0) - np.where(
            np.isfinite(self.logits), self.logits, 0.0
        )
        slopes: Floats = below.reshape(z.shape) + constant[:, None]
        return slopes


class Codes(NamedTuple):
    """One row, and for every code, (2**K,): its probability under q, log w less its mean, and the score (2**K, K).

    number: of the row. engine: for what else is to be summed. log_q: the logarithm of q, which does not underflow. vlb:
    the mean of log w. Where q excludes a code, log w counts as its mean.
    """

    number: int
    at: Landscape
    engine: Engine
    q: Floats
    log_q: Floats
    vlb: float
    log_w: Floats
    score: Floats

    @property
    def z(self) -> Bits:
        """The bits of every code, (1, 2**K, K)."""
        return bits.table(self.at.model.latents)[None]


def landscape(model: BernoulliLVM, q: Posterior, x: ArrayLike) -> Landscape:
    """The rows of x, (N, L), under a single q; everything is checked."""
    arrays.check_posterior(arrays.check_model(model), q)
    if isinstance(q, StagedPosterior):
        raise TypeError(f"posterior: got {describe(q)}, wanted a single q, whose logits are those of z next to x")
    rows = as_binary("x", x, model.observed)
    return Landscape(model, rows, arrays.recognition_logits(q, rows))


def tables(at: Landscape, engine: Engine) -> Iterator[Codes]:
    """The tables of one row after the other; deep models by the exact log p(z) of the layer next to x."""
    latents = at.model.latents
    check_fits(
        f"tables of all 2**{latents} codes",
        (24 * latents + 128) << latents,
        "take fewer latent bits; draws need no table",
    )
    layers = prepare(at.model, at.x)
    quiet = Engine(engine.workers, engine.executor)
    prior = prior_pass(layers, quiet).arrays
    for n in range(len(at.x)):
        row = at.of_row(n)
        yield _codes(n, row, sums.joint_table(layers[0].source, prior, row.x, quiet)[0], quiet)
        if engine.progress is not None:
            engine.progress(n + 1, len(at.x))


def _codes(number: int, row: Landscape, log_joint: Floats, engine: Engine) -> Codes:
    logits = np.stack([-row.logits[0], row.logits[0]], axis=1)
    q, log_q = bits.fold(sigmoid(logits)), bits.fold(log_sigmoid(logits), np.add)
    allowed = np.isfinite(log_q)
    log_w = np.where(allowed, log_joint, 0.0) - np.where(allowed, log_q, 0.0)
    check_finite(np.array([log_w[allowed].min()]))
    vlb = float(q[allowed] @ log_w[allowed])
    score = row.score(bits.table(row.model.latents)[None])[0]
    return Codes(number, row, engine, q, log_q, vlb, np.where(allowed, log_w - vlb, 0.0), score)


def input_slopes(model: BernoulliLVM) -> Callable[[Floats, Floats], Floats]:
    """The decoder's `input_slopes`, or a TypeError."""
    pull: Callable[[Floats, Floats], Floats] | None = getattr(model.decoder, "input_slopes", None)
    if pull is None:
        raise TypeError(
            f"decoder: got {describe(model.decoder)}, wanted one with the method input_slopes(z, slopes), which gives "
            "d/d z; estimators that take values of log p(x, z) alone remain"
        )
    return pull


def _smooth_prior(model: BernoulliLVM) -> Bernoulli:
    """A prior whose log p(z) is linear in z, or a TypeError."""
    if not isinstance(model.prior, Bernoulli):
        raise TypeError(
            "model: got one whose prior is a model, and log p(z) only at bits, wanted a Bernoulli prior for slopes in "
            "z; estimators that take values of log p(x, z) alone remain"
        )
    return model.prior
