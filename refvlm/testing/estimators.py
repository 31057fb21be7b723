"""The value that an estimator has at every z, and so the whole distribution of a draw.

For one row x and z ~ q(z | x), the usual estimators are functions of z alone:

    "vlb"             log p(x, z) - log q(z)                              mean: the VLB, eq. (8)
    "marginal"        p(x, z) / q(z)                                      mean: p(x)
    "score-function"  (log p(x, z) - log q(z) - b) d log q(z) / d phi     mean: d VLB / d phi, for any constant b
                      d log p(x, z) / d theta                             mean: d VLB / d theta, eq. (9)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import bits
from ..activations import sigmoid
from ..checks import as_binary, check_fits, describe
from ..conformance.mistakes import Mistake
from ..conformance.problems import from_model
from ..inference.exact import grad_log_marginal
from ..inference.joint import log_likelihood, log_prior, log_q
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import prefixed
from ..model.recognition import AmortisedPosterior, PerDatumPosterior
from ..types import Bits, Floats
from .rounding import model_sizes, q_sizes, unit

FactorisedPosterior = AmortisedPosterior | PerDatumPosterior

_MOST_LATENTS = 16
_MOST_TERMS = 1 << 20


class OneRow(NamedTuple):
    """One x, and for every code z, (2**K,): log p(z), log p(x | z), log q(z | x)."""

    model: BernoulliLVM
    q: FactorisedPosterior
    x: Bits
    log_prior: Floats
    log_likelihood: Floats
    log_q: Floats

    @property
    def probabilities(self) -> Floats:
        """q(z | x)."""
        unnormalised = np.exp(self.log_q)
        normalised: Floats = unnormalised / unnormalised.sum()
        return normalised

    @property
    def signal(self) -> Floats:
        """log p(x, z) - log q(z): the draw of the VLB, and what multiplies the score."""
        return self.log_likelihood + self.log_prior - self.log_q

    def mistaken(self, mistakes: Iterable[type[Mistake]]) -> Iterator[tuple[type[Mistake], Floats]]:
        """Yields what each mistake makes of `signal`; nothing if that would take long, or if a network is no MLP."""
        problem = from_model("vlb", self.model, self.q, {"x": self.x.astype(np.float64)})
        if problem is not None and self.log_q.size * self.x.size <= _MOST_TERMS:
            for mistake in mistakes:
                with np.errstate(all="ignore"):
                    yield mistake, mistake(problem).vlb_draws()[0]

    def gradients(self, baseline: float) -> dict[str, Floats]:
        """Returns the score-function estimator of grad_vlb at every code, by name: (2**K, *shape of the parameter)."""
        z = bits.table(self.model.latents)
        size = sum(v.size for v in (*self.model.parameters().values(), *self.q.parameters().values()))
        check_fits(f"the gradients of all {len(z)} codes", 32 * size * len(z), "test a smaller model")
        table = prefixed("model.", self._of_model(z))
        logits, pullback = self.q.forward(self.x)
        per_bit = [pullback(np.eye(self.model.latents)[k][None]) for k in range(self.model.latents)]
        deltas = (z - sigmoid(logits)) * (self.signal - baseline)[:, None]
        for name in self.q.parameters():
            jacobian = np.stack([part[name] for part in per_bit])
            table[f"posterior.{name}"] = np.tensordot(deltas, jacobian, axes=1)
        return table

    def _of_model(self, z: Bits) -> dict[str, Floats]:
        """Returns d log p(x, z) for every code."""
        rows = []
        for code in z[:, None, :]:
            logits, pullback = self.model.decoder.forward(code.astype(np.float64))
            decoder = prefixed("decoder.", pullback(self.x - sigmoid(logits)))
            prior = self.model.prior
            if isinstance(prior, Bernoulli):
                above = {"logits": np.where(np.isinf(prior.logits), 0.0, code[0] - sigmoid(prior.logits))}
            else:
                above = grad_log_marginal(prior, code)
            rows.append(prefixed("prior.", above) | decoder)
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def one_row(model: BernoulliLVM, q: FactorisedPosterior, x: ArrayLike) -> OneRow:
    """Returns the tables over z for one row x, (1, L).

    Raises TypeError for a chain, ValueError for more than one row or too many latent bits.
    """
    if not isinstance(q, (AmortisedPosterior, PerDatumPosterior)):
        raise TypeError(f"q: got {describe(q)}, wanted an AmortisedPosterior or a PerDatumPosterior")
    row = as_binary("x", x, model.observed)
    if len(row) != 1:
        raise ValueError(f"x: got {len(row)} rows, wanted 1: draws are tested row by row; write x[:1]")
    if model.latents > _MOST_LATENTS:
        raise ValueError(
            f"model: got {model.latents} latent bits, wanted at most {_MOST_LATENTS}: the test has to know what every "
            "z gives; test the same code on a smaller model"
        )
    z = bits.table(model.latents)
    rows = np.repeat(row, len(z), axis=0)
    logits = np.repeat(q.forward(row)[0], len(z), axis=0)
    return OneRow(
        model, q, row, log_prior(model, z), log_likelihood(model, rows, z), log_q(PerDatumPosterior(logits), rows, z)
    )


def rounding_of(row: OneRow, precision: str) -> float:
    """Returns how far rounding may take log p(x, z) - log q(z)."""
    return (model_sizes(row.model).error + q_sizes(row.q, row.model.latents).error) * unit(precision)
