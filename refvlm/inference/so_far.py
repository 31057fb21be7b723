"""What the finished parts of a sum prove, before it is done.

All terms of p(x), eq. (3), are positive, so those of some codes are a lower bound. The lemma of `certificate.py` holds
for a sum over any set of codes: its proof needs that they are at most 2**K, and -log of their sum in place of P.
Merging n finished parts one after the other takes n additions more.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_binary
from ..enumeration import kernels, sums
from ..enumeration.blocks import Route
from ..enumeration.journal import Journal
from ..enumeration.so_far import NothingYet, SoFar
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Bits, Floats
from .arrays import check_model
from .certificate import error_bound, gamma
from .exact import prior_pass
from .kept import digest_of_rows, journal_of
from .layers import prepare


class SumSoFar(NamedTuple):
    """lower: (N,) nats, a proved lower bound on log p(x), -inf where nothing is proved. done: the part of the sum."""

    lower: Floats
    done: float


def log_marginal_so_far(
    model: BernoulliLVM, x: ArrayLike, checkpoint: str | os.PathLike[str], *, posterior: Posterior | None = None
) -> SumSoFar:
    """What the finished parts of an interrupted `log_marginal`, or of one that still runs, prove of log p(x).

    Sums nothing, and only reads `checkpoint`, the file that was given to that call; of `decompose` with its
    posterior. Raises ValueError for a file of another model, of other rows, or of another kind, and OSError where it
    cannot be read.
    """
    check_model(model)
    rows = as_binary("x", x, model.observed)
    with journal_of(checkpoint, model, posterior, read_only=True) as journal:
        if not journal.holds_rows(digest_of_rows(rows, "refuse")):
            raise ValueError(f"checkpoint: {os.fspath(checkpoint)} is of other data; wanted the rows that it is of")
        try:
            return _proved(model, rows, journal)
        except NothingYet:
            return SumSoFar(np.full(len(rows), -np.inf), 0.0)


def _proved(model: BernoulliLVM, rows: Bits, journal: Journal) -> SumSoFar:
    layers = prepare(model, rows)
    engine = SoFar(journal=journal)
    prior = prior_pass(layers, SoFar(journal=journal, whole=True))
    found = sums.first_sum(layers[0].source, prior.arrays, rows, engine)
    value = kernels.marginal.finish(found.power, found.total)
    error = error_bound(model, value, found.route, prior.error) + 1.01 * gamma(max(engine.parts))
    lost = (found.route == Route.TABLED) & (found.total < kernels.constants.TABLE_FLOOR)
    done, pieces = (sum(column) for column in zip(*engine.pieces, strict=True))
    return SumSoFar(np.where(lost, -np.inf, value - error), done / pieces)
