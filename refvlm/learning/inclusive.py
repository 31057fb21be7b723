"""Fitting q to cover the exact posterior: phi uphill on the mean of -KL(p(z | x) || q) over the data.

With a factorised q only the posterior means enter, -KL = sum_k mean_k logit_k - log(1 + e^logit_k) + const: logistic
regression on them, concave for an encoder without hidden layer. It is where reweighted wake-sleep's wake phi tends as
its draws grow in number, and where ascent on the VLB starts well: q then has mass wherever the posterior has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from .. import bits
from ..enumeration.engine import on
from ..inference.arrays import recognition_gradient, recognition_logits
from ..inference.missing import Mask
from ..inference.partition import has_boxes
from ..inference.rejection import sample_posterior
from ..model.latent_variable import BernoulliLVM
from ..model.parameters import Parameters
from ..model.recognition import ChainPosterior, LayerwisePosterior, Posterior
from ..types import Bits, Floats
from .ascent import ascend, rows_and_weights
from .batches import Batch
from .history import enumerable
from .logistic import sigmoid
from .masked import posterior_draws, posterior_mean
from .replay import replayed
from .rules.expectation_maximisation import expect

if TYPE_CHECKING:
    from ..enumeration.engine import Progress, Workers
    from .replay import Replay

_DRAWS = 100
"""Of a row's posterior, where there is too much to enumerate."""


def cover(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    steps: int,
    weights: ArrayLike | None = None,
    *,
    observed: Mask | None = None,
    held_out: Batch | None = None,
    workers: Workers = None,
    progress: Progress | None = None,
    replay: Replay | None = None,
) -> Posterior:
    """q after at most `steps` L-BFGS steps on the mean of -KL(p(z | x) || q) over x (N, L), the model held fixed.

    weights: (N,), not negative, of that mean, None for equal ones. observed: (N, L), which bits are; x is 0 elsewhere;
    None for all. held_out: rows whose mean decides which q on the way is kept. Where there is too much to enumerate,
    and no hidden layer, the posterior means are those of exact draws. The stages of a chain are fitted one by one, each
    to the codes of the layer below with the mass that the posterior gives them; only the lowest has held-out rows.
    replay: what an earlier run of this has computed.
    """
    if isinstance(q, LayerwisePosterior):
        raise ValueError(
            "posterior: got a LayerwisePosterior, wanted a single one or a ChainPosterior to cover p(z | x)"
        )
    rows, fractions = rows_and_weights(model, x, weights)
    lowest = q.stages[0]

    def means(x: Bits, there: Mask | None) -> Floats:
        return replayed(replay, x, lambda: _means(model, x, there, workers, progress))

    mean = means(rows, observed)

    def objective(parameters: Parameters) -> tuple[float, Parameters]:
        moved = lowest.with_parameters(parameters)
        logits = recognition_logits(moved, rows)
        slopes = recognition_gradient(moved, rows, fractions[:, None] * (mean - sigmoid(logits)))
        return _covered(logits, mean, fractions), slopes

    judge = None
    if held_out is not None:
        others = means(held_out.x, held_out.observed)

        def judge(parameters: Parameters) -> float:
            logits = recognition_logits(lowest.with_parameters(parameters), held_out.x)
            return _covered(logits, others, held_out.weights)

    lowest = lowest.with_parameters(ascend(lowest.parameters(), objective, steps, progress, judge, replay))
    if not isinstance(q, ChainPosterior):
        return lowest
    assert isinstance(model.prior, BernoulliLVM)
    codes, mass = bits.table(model.latents), expect(model, rows, fractions, workers, observed=observed).mass
    above = cover(model.prior, q.above, codes, steps, mass, workers=workers, progress=progress, replay=replay)
    return ChainPosterior([lowest, *above.stages])


def _covered(logits: Floats, mean: Floats, fractions: Floats) -> float:
    """The mean of -KL(p(z | x) || q), but for a constant, from q's logits and the posterior means, both (N, K)."""
    return float((fractions @ (mean * logits - np.logaddexp(0.0, logits))).sum())


def _means(
    model: BernoulliLVM, rows: Bits, observed: Mask | None, workers: Workers, progress: Progress | None
) -> Floats:
    """The posterior means, (N, K): exact, or those of draws."""
    if enumerable(model) or not has_boxes(model):
        return posterior_mean(model, rows, observed, workers, progress)
    rng = np.random.default_rng(0)
    if observed is None:
        means: Floats = sample_posterior(model, rows, _DRAWS, rng, **on(workers), progress=progress).mean(axis=1)
    else:  # the former would take the sum, where a pattern has few rows
        means = posterior_draws(model, rows, observed, _DRAWS, rng, workers)[0].mean(axis=1)
    return means
