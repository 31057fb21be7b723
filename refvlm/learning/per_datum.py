"""Eq. (7) as an optimisation for each data point: the factorised q closest to p(z | x), one phi of its own per x.

Coordinate ascent on the VLB (mean field): with the other bits' phi held, the best logit of bit k is

    logit_k = E_q[log p(x, z) | z_k = 1] - E_q[log p(x, z) | z_k = 0],

so that no step lowers any row's VLB. Above 20 latents and without hidden layers, where no table of codes is needed, all
bits move together towards these logits, each row as far as its VLB rises. Rows have nothing to do with each other, and
nothing is learnt that a new x could use: N * K numbers are stored for N rows, where an encoder's number of weights does
not grow with the data.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_binary, check_count
from ..enumeration.engine import on
from ..inference.bounds import needs_sum
from ..inference.mean_field import LARGEST, ascend_together
from ..inference.missing import Mask, Part, join, parts
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import PerDatumPosterior
from ..types import Bits, Floats
from .logistic import sigmoid
from .masked import log_joint_table, posterior_mean
from .replay import replayed

if TYPE_CHECKING:
    from ..enumeration.engine import Progress, Workers
    from .replay import Replay


_PART = 1 << 22
"""Entries of the table over z that are held at a time."""


def mean_field(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    observed: Mask | None = None,
    sweeps: int = 100,
    tolerance: float = 1e-9,
    workers: Workers = None,
    progress: Progress | None = None,
    replay: Replay | None = None,
) -> PerDatumPosterior:
    """The posterior with logits (N, K) that ascent reaches from the posterior means, row i for x[i].

    x: (N, L). observed: (N, L), which bits are; x is 0 elsewhere; None for all. It ends after `sweeps` over all bits,
    or when no phi of a row moves by more than `tolerance`. A local optimum of each row's VLB: a stationary point of
    eq. (7). A bit whose prior is degenerate stays so. Where no table of codes is needed (see `vlb`) it starts from the
    prior. replay: the parts that an earlier run has done. Raises ValueError where the table of a row will not
    fit.
    """
    rows = as_binary("x", x, model.observed)
    check_count("sweeps", sweeps, 0)
    if not needs_sum(model):
        logits = np.tile(model.top.logits, (len(rows), 1))

        def together(own: Part) -> Floats:
            reached = ascend_together(
                own.model, own.x, logits[own.rows], sweeps, tolerance, **on(workers), progress=progress
            )
            return reached.logits

        for own in parts(model, None, join(rows, observed)):
            logits[own.rows] = replayed(replay, own.columns, partial(together, own))
        return PerDatumPosterior(logits)
    logits = np.empty((len(rows), model.latents))
    part = max(1, _PART >> model.latents)
    for start in range(0, len(rows), part):
        some = slice(start, start + part)
        there = None if observed is None else observed[some]
        ascent = partial(_ascend, model, rows[some], there, sweeps, tolerance, workers)
        logits[some] = replayed(replay, rows[some], ascent)
        if progress is not None:
            progress(min(start + part, len(rows)), len(rows))
    return PerDatumPosterior(logits)


def _ascend(
    model: BernoulliLVM, x: Bits, observed: Mask | None, sweeps: int, tolerance: float, workers: Workers
) -> Floats:
    """The logits for some rows."""
    table = log_joint_table(model, x, observed, workers)
    mean = posterior_mean(model, x, observed, workers)
    with np.errstate(divide="ignore"):
        logits: Floats = np.clip(np.log(mean) - np.log1p(-mean), -LARGEST, LARGEST)
    prior = model.prior.logits if isinstance(model.prior, Bernoulli) else np.zeros(model.latents)
    pinned = np.isinf(prior)
    logits[:, pinned] = prior[pinned]
    table[np.isneginf(table)] = 0.0  # q gives them no mass at all
    phi = sigmoid(logits)
    for _ in range(sweeps):
        before = phi.copy()
        for k in np.flatnonzero(~pinned):
            split = table.reshape(len(x), -1, 2, 1 << k)  # the bits above k, bit k, the bits below
            gain = split[:, :, 1] - split[:, :, 0]
            expected = np.einsum("nhl,nh,nl->n", gain, _products(phi[:, k + 1 :]), _products(phi[:, :k]), optimize=True)
            logits[:, k] = np.clip(expected, -LARGEST, LARGEST)
            phi[:, k] = sigmoid(logits[:, k])
        if np.abs(phi - before).max(initial=0.0) <= tolerance:
            break
    return logits


def _products(phi: Floats) -> Floats:
    """q of all codes over these bits, (N, 2**bits), the first bit fastest."""
    table = np.ones((len(phi), 1))
    for column in phi.T:
        table = np.concatenate([table * (1.0 - column[:, None]), table * column[:, None]], axis=1)
    return table
