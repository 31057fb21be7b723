"""What missing bits may have been: p(x_i = 1 | the observed bits), exactly, and draws of them."""

from __future__ import annotations

from concurrent.futures import Executor

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_count, check_fits, check_generator
from ..enumeration.engine import Progress
from ..model.bernoulli import draw
from ..model.latent_variable import BernoulliLVM
from ..types import Bits, Floats
from .arrays import check_model
from .exact import log_marginal
from .missing import join, split
from .rejection import sample_posterior


def predict_missing(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats:
    """p(x_i = 1 | the bits of its row that are observed), (N, L); an observed bit is what it is, 0.0 or 1.0.

    x: (N, L) zeros and ones, NaN or masked where a bit is missing. p(x_i = 1, observed) / p(observed) of eq. (3), both
    exact, so it takes a pass for every missing bit. Other arguments as in `log_marginal`.
    """
    check_model(model)
    bits, observed = split(x, model.observed)
    known = join(bits, observed).astype(np.float64)

    def log_p(rows: Floats) -> Floats:
        return log_marginal(model, rows, missing="marginalise", workers=workers, executor=executor, progress=progress)

    log_px = log_p(known)
    predicted = bits.astype(np.float64)
    for i in np.flatnonzero(~observed.all(axis=0)):
        rows = np.flatnonzero(~observed[:, i])
        supposed = known[rows]
        supposed[:, i] = 1.0
        predicted[rows, i] = np.minimum(np.exp(log_p(supposed) - log_px[rows]), 1.0)
    return predicted


def sample_missing(
    model: BernoulliLVM,
    x: ArrayLike,
    n: int,
    rng: np.random.Generator,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Bits:
    """n independent draws of every row given its observed bits, which stay as they are: (N, n, L).

    z from the exact posterior given these bits, then the missing ones from p(x | z). x as in `predict_missing`, the
    rest as in `sample_posterior`.
    """
    check_model(model)
    check_count("n", n, 0)
    check_generator("rng", rng)
    bits, observed = split(x, model.observed)
    check_fits(
        f"sample_missing: {n} draws of {len(bits)} rows", 16 * n * bits.size, "use fewer draws or rows at a time"
    )
    z = sample_posterior(
        model, join(bits, observed), n, rng, missing="marginalise", workers=workers,
        executor=executor, progress=progress,
    )  # fmt: skip
    drawn = draw(model.decoder.forward(z.reshape(-1, model.latents).astype(np.float64))[0], rng)
    return np.where(observed[:, None, :], bits[:, None, :], drawn.reshape(len(bits), n, model.observed))
