"""Exact maximum likelihood, eq. (5), as generalised EM (Dempster, Laird & Rubin 1977).

    E:  r(z | x_n) = p(z | x_n) at the present parameters, eq. (6), for every z
    M:  uphill on Q = sum_n weights_n sum_z r(z | x_n) [log p(z; beta) + log p(x_n | z; theta)]
        the prior in closed form, beta_k = E_r[z_k]; the decoder by steps along its gradient that never lower Q

What raises Q cannot lower sum_n weights_n log p(x_n). Of r only two sums over the rows enter Q: the mass m(z) of a
code, and t(z), the sum of x_n weighted with it, so that, with logits a(z),

    Q(theta) = sum_z [ t(z) . a(z) - m(z) sum_i log(1 + e^{a_i(z)}) ],    dQ/da(z) = t(z) - m(z) sigmoid(a(z)).

Where bits are missing, that of output i counts the rows in which i is observed alone: m_i(z) stands for m(z), and x is
0 elsewhere. A prior that is itself a model learns in the same way from the codes, weighted by m(z).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ... import bits
from ...checks import as_binary, as_weights, check_count, check_fits, describe
from ...inference.missing import Mask
from ...model.bernoulli import Bernoulli
from ...model.latent_variable import BernoulliLVM
from ...model.mlp import MLP
from ...model.parameters import flatten
from ...types import Bits, Floats
from ..batches import Batch
from ..logistic import sigmoid
from ..machine import Machine
from ..masked import posterior
from .rule import Directions, Rule

if TYPE_CHECKING:
    from ...enumeration.engine import Progress, Workers


SUFFICIENT = 1e-4
"""Armijo's constant: the part of the rise foretold by the gradient that a step has to bring."""

_PART = 1 << 22
"""Entries of the posterior that are held at a time."""

_SURE = 700.0
"""The prior logit that learning sets in place of an infinite one, so that it can come back."""


@dataclass(frozen=True)
class ExpectationMaximisation(Rule):
    """One E-step and one M-step on all rows."""

    name = "em"
    takes_missing = True
    learns_posterior = False
    whole_data = True
    own_steps = True
    enumerates = True

    def directions(self, machine: Machine, batch: Batch, rng: np.random.Generator, workers: Workers) -> Directions:
        """One, which leads straight to the parameters after the M-step."""
        better, _ = step(machine.snapshot()[0], batch.x, batch.weights, observed=batch.observed, workers=workers)
        new = np.nan_to_num(flatten(better.parameters()), posinf=_SURE, neginf=-_SURE)
        yield np.where(machine.vector == new, 0.0, new - machine.vector), {}


class Expected(NamedTuple):
    """The result of an E-step: mass m(z), (2**K,), targets t(z), (2**K, L), and seen m_i(z), (2**K, L) or (2**K, 1)."""

    mass: Floats
    targets: Floats
    seen: Floats


def step(
    model: BernoulliLVM,
    x: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    observed: Mask | None = None,
    rate: float = 1.0,
    ascents: int = 10,
    workers: Workers = None,
    progress: Progress | None = None,
) -> tuple[BernoulliLVM, float]:
    """The model after one E-step and one M-step, and the decoder's last step length, to begin with next time.

    x: (N, L); weights: (N,), not negative, None for ones. observed: (N, L), which bits are; x is 0 elsewhere; None for
    all. rate: the first step length tried. ascents: of the decoder. sum_n weights_n log p(x_n) never falls. Raises
    TypeError for a decoder that is no MLP, and ValueError where the tables of 2**K codes will not fit.
    """
    rows = as_binary("x", x, model.observed)
    row_weights = as_weights(weights, len(rows))
    if (row_weights < 0).any():
        raise ValueError(f"weights: got {row_weights.min()}, wanted none below 0")
    check_count("ascents", ascents, 0)
    if not isinstance(model.decoder, MLP):
        raise TypeError(f"decoder: got {describe(model.decoder)}, wanted an MLP")
    if row_weights.sum() == 0:
        return model, rate
    expected = expect(model, rows, row_weights, workers, progress, observed=observed)
    prior = maximise_prior(model.prior, expected.mass, rate, ascents, workers)
    decoder, reached = maximise_decoder(model.decoder, expected, rate, ascents)
    return BernoulliLVM(prior, decoder), reached


def expect(
    model: BernoulliLVM, x: Bits, weights: Floats, workers: Workers, progress: Progress | None = None, *,
    observed: Mask | None = None,
) -> Expected:  # fmt: skip
    """The E-step."""
    codes = 1 << model.latents
    check_fits(
        f"an EM step's tables of 2**{model.latents} codes",
        8 * codes * ((4 if observed is None else 6) * model.observed + model.latents) + 16 * max(_PART, codes),
        "use the gradient (method maximum-likelihood), which needs no table, or fewer latent bits",
    )
    mass, targets = np.zeros(codes), np.zeros((codes, model.observed))
    seen = mass[:, None] if observed is None else np.zeros_like(targets)
    part = max(1, _PART >> model.latents)
    for start in range(0, len(x), part):
        rows, row_weights = x[start : start + part], weights[start : start + part]
        there = None if observed is None else observed[start : start + part]
        weighted = posterior(model, rows, there, workers, progress) * row_weights[:, None]
        mass += weighted.sum(axis=0)
        targets += weighted.T @ rows.astype(np.float64)
        if there is not None:
            seen += weighted.T @ there.astype(np.float64)
    return Expected(mass, targets, seen)


def maximise_prior(
    prior: Bernoulli | BernoulliLVM, mass: Floats, rate: float, ascents: int, workers: Workers
) -> Bernoulli | BernoulliLVM:
    """The prior after the M-step: a factorised one maximises sum_z m(z) log p(z), beta_k = E[z_k]; a model steps up."""
    codes = bits.table(prior.latents if isinstance(prior, Bernoulli) else prior.observed)
    if isinstance(prior, BernoulliLVM):
        return step(prior, codes, mass, rate=rate, ascents=ascents, workers=workers)[0]
    beta = mass @ codes / mass.sum()
    fixed = np.isinf(prior.logits)
    return Bernoulli(np.where(fixed, prior.logits, Bernoulli.from_probabilities(np.minimum(beta, 1.0)).logits))


def maximise_decoder(decoder: MLP, expected: Expected, rate: float, ascents: int) -> tuple[MLP, float]:
    """The decoder after so many steps along the gradient of Q, each halved until it raises Q enough; the last length.

    Lengths are per unit of mass, so that `rate` does not depend on the number of rows.
    """
    codes = bits.table(decoder.fan_in).astype(np.float64)
    used = expected.mass > 0
    codes, mass, targets = (
        codes[used],
        expected.seen[used] / expected.mass.sum(),
        expected.targets[used] / expected.mass.sum(),
    )

    def q_of(logits: Floats) -> float:
        return float((targets * logits - mass * np.logaddexp(0.0, logits)).sum())

    logits, pullback = decoder.forward(codes)
    value = q_of(logits)
    for _ in range(ascents):
        parameters, gradient = decoder.parameters(), pullback(targets - mass * sigmoid(logits))
        rise = sum(float((slope * slope).sum()) for slope in gradient.values())
        while rate * rise > np.spacing(abs(value)):
            trial = decoder.with_parameters({name: old + rate * gradient[name] for name, old in parameters.items()})
            trial_logits, trial_pullback = trial.forward(codes)
            reached = q_of(trial_logits)
            if reached >= value + SUFFICIENT * rate * rise:
                break
            rate *= 0.5
        else:
            break  # no step that float64 can tell raises Q: a stationary point
        decoder, logits, pullback, value = trial, trial_logits, trial_pullback, reached
        rate *= 2.0
    return decoder, rate
