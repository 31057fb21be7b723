"""The worked example: the table of every z of a small model beside one x, as one would write it on a board."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from .. import bits
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Bits
from .exact import posterior as exact_posterior
from .joint import log_joint, log_likelihood, log_prior, log_q

MOST_LATENTS = 12
"""A table of more than 4096 lines is no worked example."""


class Line(NamedTuple):
    """One z: its code, its bits from z_0 on, and eqs. (1), (2), their product, (6) and (4), logarithms in nats."""

    code: int
    z: list[int]
    log_prior: float
    log_likelihood: float
    log_joint: float
    posterior: float
    q: float | None


class Sums(NamedTuple):
    """The columns' sums: p(z), p(z | x) and q(z | x) add up to 1; log sum exp of log p(x, z) is log p(x).

    vlb: the sum of q (log p(x, z) - log q), eq. (10). kl: the sum of q log(q / p(z | x)), eq. (7). With q's first stage
    alone where q has several.
    """

    prior: float
    log_joint: float
    posterior: float
    q: float | None
    vlb: float | None
    kl: float | None


class Worked(NamedTuple):
    """The table of one x."""

    x: str
    lines: list[Line]
    sums: Sums


def work_out(model: BernoulliLVM, q: Posterior | None, x: Bits, workers: int | None) -> Worked:
    """The table for x (1, L); a per-datum q must be that of this row. Of several stages, q is the first."""
    z = bits.table(model.latents)
    repeated = np.repeat(x, len(z), axis=0)
    columns = [
        log_prior(model, z),
        log_likelihood(model, repeated, z),
        log_joint(model, repeated, z),
        exact_posterior(model, x, workers=workers)[0],
    ]
    lists = [column.tolist() for column in columns]
    mass = None if q is None else [math.exp(log_q(q, x, row[None])[0]) for row in z]
    q_column = [None] * len(z) if mass is None else mass
    lines = [Line(c, z[c].tolist(), *values) for c, values in enumerate(zip(*lists, q_column, strict=True))]
    sums = Sums(
        prior=math.exp(_log_sum_exp(lists[0])),
        log_joint=_log_sum_exp(lists[2]),
        posterior=math.fsum(lists[3]),
        q=None if mass is None else math.fsum(mass),
        vlb=None if mass is None else _expected(mass, lists[2]),
        kl=None if mass is None else -_expected(mass, [math.log(p) if p > 0 else -math.inf for p in lists[3]]),
    )
    return Worked("".join(map(str, x[0].tolist())), lines, sums)


def _expected(mass: list[float], logs: list[float]) -> float:
    """The sum of q (log - log q) over the lines, 0 log 0 = 0."""
    return math.fsum(q * (value - math.log(q)) for q, value in zip(mass, logs, strict=True) if q > 0)


def _log_sum_exp(logs: list[float]) -> float:
    """log sum exp by a correctly rounded sum: not the sum of the kernels."""
    largest = max(logs)
    return largest if math.isinf(largest) else largest + math.log(math.fsum(math.exp(a - largest) for a in logs))
