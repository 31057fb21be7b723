"""Draws from p(z | x) and its means, at any K where log p(x) has brackets.

Where the sum over all codes is short, by inverting the distribution function. Else by rejection: a draw z from the
mixture of `mixture.py`, accepted with probability r(z) = p(x, z) / (pi_j q_j(z) U), has the distribution p(z | x), for
r is at most 1. Rounding moves log r by no more than `mixture.py` says, and the logarithms of the probabilities by twice
that. It takes U / p(x) tries on
average. Boxes are doubled while that saves more tries than it costs; draws that were accepted before stay.
"""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .. import show
from ..checks import as_binary, check_count, check_generator, describe
from ..enumeration import draws
from ..enumeration.engine import Engine, Progress
from ..enumeration.tasks import Piece, task
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..types import Bits, Floats
from . import arrays
from .exact import invert_posterior, posterior_mean
from .ground import Ground
from .missing import Missing, sums_out_missing
from .mixture import Sampler, sampler
from .partition import MOST_NUMBERS, doubled, ground_of, is_summed, numbers_in_a_box, refined, rows_together

_GROUP = 64
"""Rows whose boxes are held at a time, if they are few."""
_FIRST_TRIES = 256
_FEWEST = 8
"""Boxes that are tried first, beyond one."""
_TOO_MANY = 1e11
"""Tries for one row that nobody waits for."""
_PATIENT = 5e6
"""Tries for one row, for which boxes are made where a draw seems out of reach."""


@sums_out_missing
def sample_posterior(
    model: BernoulliLVM,
    x: ArrayLike,
    n: int,
    rng: np.random.Generator,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Bits:
    """n independent draws of z from the exact posterior p(z | x) for every row: (N, n, K).

    Of a deep model, those of the layer next to x. By inverting the distribution function where the sum over all codes
    is short, or the only way; else, where `bracket` has bounds, by rejection, at any K. The same rng gives the same
    bits for any workers. Arguments as in `log_marginal`. Raises ValueError for more than 62 latents where there is
    nothing but the sum, and where rejection would take more than 1e11 tries for a row.
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    check_count("n", n, 0)
    check_generator("rng", rng)
    engine = Engine(workers, executor, progress)
    if is_summed(model, len(rows)):
        return invert_posterior(model, rows, n, rng, engine)
    return reject(model, rows, n, int(rng.integers(1 << 63)), engine)[0]


class MeanBracket(NamedTuple):
    """Bounds on E[z_k | x_n], (N, K) each.

    kind: "exact", the sum with its rounding bound; or "sampled": all bounds hold together with this confidence.
    """

    lower: Floats
    upper: Floats
    kind: Literal["exact", "sampled"]
    confidence: float

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        kind = show.certified(self.confidence) if self.kind == "sampled" else show.PROVED
        sides = {"lower": (kind, self.lower), "upper": (kind, self.upper)}
        return show.statistics(f"MeanBracket, {self.kind}, of probabilities", sides)


def posterior_mean_bracket(
    model: BernoulliLVM,
    x: ArrayLike,
    rng: np.random.Generator,
    *,
    samples: int = 10000,
    confidence: float = 1.0 - 1e-9,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> MeanBracket:
    """Bounds on the posterior means, eq. (6), at any K: see `MeanBracket`.

    Where `sample_posterior` would sum, the exact ones. Else from `samples` exact draws for each row: how often a bit is
    set is binomial, and the bounds are those of Clopper & Pearson (1934), with an error rate of (1 - confidence) / (N
    K) each. x (N, L); other arguments and errors as in `sample_posterior`.
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    check_count("samples", samples, 1)
    check_generator("rng", rng)
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: got {describe(confidence)}, wanted a number above 0 and below 1")
    if is_summed(model, len(rows)):
        mean, error = posterior_mean(
            model, rows, with_error=True, workers=workers, executor=executor, progress=progress
        )
        return MeanBracket(np.maximum(mean - error, 0.0), np.minimum(mean + error, 1.0), "exact", 1.0)
    from scipy.special import betainccinv, betaincinv  # 0.1 s, which `import refvlm` can do without

    z, _, rounding = reject(model, rows, samples, int(rng.integers(1 << 63)), Engine(workers, executor, progress))
    ones, rate = z.sum(axis=1, dtype=np.int64), 0.5 * (1.0 - confidence) / max(len(rows) * model.latents, 1)
    lower = np.where(ones > 0, betaincinv(np.maximum(ones, 1), samples - ones + 1, rate), 0.0)
    upper = np.where(ones < samples, betainccinv(ones + 1, np.maximum(samples - ones, 1), rate), 1.0)
    inexact = np.expm1(2.0 * rounding)[:, None] + 1e-14
    lower, upper = np.maximum(lower - inexact, 0.0), np.minimum(upper + inexact, 1.0)
    if isinstance(model.prior, Bernoulli):
        lower = np.where(model.prior.logits == np.inf, 1.0, lower)
        upper = np.where(model.prior.logits == -np.inf, 0.0, upper)
    return MeanBracket(lower, upper, "sampled", confidence)


def reject(model: BernoulliLVM, x: Bits, n: int, seed: int, engine: Engine) -> tuple[Bits, Floats, Floats]:
    """n draws for each row, (N, n, K), estimates of log p(x_n) from all tries with the last boxes, and the rounding.

    The last, (N,), bounds the errors of log r. Without draws, both are 0.
    """
    z, log_px, rounding = np.zeros((len(x), n, model.latents), np.uint8), np.zeros(len(x)), np.zeros(len(x))
    base = ground_of(model)
    size = rows_together(base, _GROUP)
    for start in range(0, len(x) if n else 0, size):
        rows = slice(start, min(start + size, len(x)))
        z[rows], log_px[rows], rounding[rows] = _reject(base, x[rows], n, start, seed, engine)
    return z, log_px, rounding


def _reject(base: Ground, x: Bits, n: int, first: int, seed: int, engine: Engine) -> tuple[Bits, Floats, Floats]:
    """For a group of rows, which begins at `first`."""
    boxes, price = base.whole(x, engine), base.price
    most = max(MOST_NUMBERS // (len(x) * numbers_in_a_box(base)), 1)
    found: list[list[Bits]] = [[] for _ in x]
    missing = np.full(len(x), n)
    tries, sums, wanted = np.zeros(len(x), np.int64), np.zeros(len(x)), np.full(len(x), _FIRST_TRIES)
    samplers: dict[int, Sampler] = {}
    rounding = np.zeros(len(x))
    counts, final = np.bincount(boxes.rows, minlength=len(x)), np.zeros(len(x), bool)
    while (missing > 0).any():
        for row in np.flatnonzero(missing > 0).tolist():
            if row not in samplers:
                own = slice(*np.searchsorted(boxes.rows, [row, row + 1]))
                samplers[row] = sampler(base, x[row], boxes.take(own))
                rounding[row] = max(rounding[row], samplers[row].rounding)
        pieces, owners = list[Piece[tuple[Bits, float]]](), list[int]()
        for row in np.flatnonzero(missing > 0).tolist():
            work = task(draws.accepted, seed, (first + row, int(counts[row])))
            for at in range(0, int(wanted[row]), draws.PIECE):
                size = min(draws.PIECE, int(wanted[row]) - at)
                pieces.append((work, samplers[row].mixture, int(tries[row]) + at, size))
                owners.append(row)
        results = dict(engine.run(iter(pieces), len(pieces)))
        tries += np.where(missing > 0, wanted, 0)
        for index, row in enumerate(owners):
            kept, total = results[index]
            found[row].append(kept[: missing[row]])
            missing[row] -= len(found[row][-1])
            sums[row] += total
        aim = counts.copy()
        for row in np.flatnonzero(missing > 0).tolist():
            left = missing[row] * tries[row] / max(sums[row], 1e-30 * tries[row])
            more = doubled(int(counts[row]), _FEWEST)
            worth = 0.25 * left if left <= _TOO_MANY else _PATIENT
            if (more - counts[row]) * price < worth and more <= most and not final[row]:
                aim[row] = more
            elif left > _TOO_MANY:
                raise ValueError(
                    f"n: got {n}, and a draw for row {first + row} takes about {left / missing[row]:.0e} tries; wanted "
                    f"fewer, or a row that the model explains better; `bracket` bounds its log p(x) all the same"
                )
            wanted[row] = int(min(1.1 * left + 64, 64 * draws.PIECE))
        boxes = refined(base, x, boxes, aim, engine)
        counts, before = np.bincount(boxes.rows, minlength=len(x)), counts
        final |= (aim > before) & (counts == before)  # nothing is left to be halved
        for row in np.flatnonzero(counts != before).tolist():
            tries[row], sums[row], wanted[row] = 0, 0.0, _FIRST_TRIES
            del samplers[row]
    estimates = [samplers[row].log_u + math.log(max(sums[row], 1e-300) / tries[row]) for row in range(len(x))]
    return np.array([np.concatenate(each) for each in found]), np.array(estimates), rounding
