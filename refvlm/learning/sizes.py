"""How many latents: `fit(latents="auto")` tries them from few to many, and goes by held-out rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from ..checks import describe
from ..enumeration.engine import Workers
from ..model.latent_variable import BernoulliLVM
from .batches import Data
from .masked import log_marginal

SIZES = (2, 4, 6, 8, 10, 12, 14, 16)
"""The numbers of latents that are tried. Each takes about four times as long as the one before, in the end."""

T = TypeVar("T")


class Tried(NamedTuple):
    """A number of latents; the mean exact log p(x) of the held-out rows, nats; by how much it is above the best of the
    fewer ones, with the standard error of this difference of means over the same rows. None for the first."""

    latents: int
    held_out_log_px: float
    gain: float | None = None
    standard_error: float | None = None


def choose(
    learn: Callable[[int], tuple[BernoulliLVM, T]], held_out: Data, workers: Workers
) -> tuple[T, tuple[Tried, ...]]:
    """What `learn` gives beside the model for the number of latents that is chosen, and all that were tried.

    The next number is tried as long as the last has raised the mean held-out log p(x) by more than a standard error.
    """
    chosen, best = None, np.empty(0)
    tried: list[Tried] = []
    for latents in SIZES:
        model, learnt = learn(latents)
        values = log_marginal(model, held_out.x, held_out.observed, workers)
        if not tried:
            tried.append(Tried(latents, float(values.mean())))
        else:
            gains = values - best
            error = float(gains.std(ddof=1)) / math.sqrt(len(gains))
            tried.append(Tried(latents, float(values.mean()), float(gains.mean()), error))
            if not gains.mean() > error:
                break
        chosen, best = learnt, values
    assert chosen is not None
    return chosen, tuple(tried)


def check_auto(start: BernoulliLVM | None, held_out: Data | None, checkpoint: object) -> None:
    """Refuse to choose a number of latents where there is nothing to choose by, or nothing to choose."""
    if held_out is None:
        raise ValueError(
            "latents: got 'auto' without held-out rows, which it goes by; wanted validation=rows, or at least 200 "
            "distinct rows of x without weights, of which a tenth is held out"
        )
    if start is not None:
        raise ValueError("latents: got 'auto' with a start, which has its own; wanted one of the two")
    if checkpoint is not None:
        raise ValueError(
            f"checkpoint: got {describe(checkpoint)} with latents='auto', which is several runs; wanted None, or the "
            "number of latents"
        )
