"""Messages on stderr; stdout is for results."""

from __future__ import annotations

import math
import sys
from contextlib import suppress

from ..checks import printable
from ..enumeration import kernels
from ..enumeration.engine import Workers
from ..inference.cost import multiplications, predict_seconds
from ..inference.partition import has_boxes
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..progress import PATIENCE, duration
from ..types import Bits
from .engines import sharing
from .failure import BAD_INPUT, Failure

_NEVER_LONG = 1 << 27
"""Multiplications that take no noticeable time."""
_HOUR, _YEAR = 3600.0, 365.25 * 86400.0
"""Seconds."""
_ESTIMATES = "from Python refvlm.log_marginal_estimate and vlb_estimate take any number"


def say(message: str) -> None:
    """One line on stderr; a stderr that is closed is no reason to stop."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            sys.stderr.write(f"refvlm: {printable(message)}\n")
            sys.stderr.flush()


def say_if_cold() -> None:
    """Say what the first wait is for, before kernels run."""
    if kernels.compiling.cold():
        say("compiling the loops first, once: up to half a minute")


def say_cache_problem() -> None:
    """Say why compiled kernels cannot be kept, if so: then every process compiles again. Call when kernels have run."""
    problem = kernels.compiling.cache_problem()
    if problem is not None:
        say(f"note: {problem}; until then every run, and every process of a pool, compiles again")


def say_prediction(model: BernoulliLVM, posterior: Posterior | None, x: Bits, rows: int | None, where: Workers) -> None:
    """Say how long an evaluation of `rows` rows will take, if long; x: the first of them, rows None: their number.

    What would take more than a year fails, with the ways out.
    """
    count = len(x) if rows is None else rows
    if multiplications(model, count, posterior) < _NEVER_LONG:
        return
    workers, times = sharing(where)
    seconds = predict_seconds(model, posterior, x, count, workers=workers) / times
    if seconds >= PATIENCE:
        what = f"every {count} rows" if rows is None else "1 row" if rows == 1 else f"{rows} rows"
        takes = f"about {duration(seconds)} for {what} of 2**{model.latents} latents each"
        if seconds > _YEAR:
            instead = "--seconds 1 brackets log p(x) instead" if has_boxes(model) else _ESTIMATES
            fewer = max(model.latents - math.ceil(math.log2(seconds / _YEAR)), 0)
            raise Failure(f"{takes}, wanted less than a year, as with {fewer} latent bits; {instead}", BAD_INPUT)
        say(takes)
        if seconds >= _HOUR:
            hours_from = model.latents - int(math.log2(seconds / _HOUR))
            say(f"on this machine such a sum takes hours from {hours_from} latent bits on; {_ESTIMATES}")
