"""How long the measurements will take, guessed from shapes: good to a factor of two where nothing else runs."""

from __future__ import annotations

from .limits import Rates, limit
from .works import Work

__all__ = ["own_seconds", "peer_seconds"]

_TYPICAL = Rates(1, fma=45.0, exp=2.2, load_multiply=45.0, division=5.3)
"""Of one core of a server."""
_OF_LIMIT = 4.0
"""Our time over the limit."""
_PER_COLUMN = 5e-9
"""A peer's seconds for each state and each of its K + H + L + N columns."""
_BACKWARD = 3.0
"""A peer's time with the gradient over that without."""
_FIRST = 0.5
"""Seconds more for a peer's first run of a program: compilation, allocation."""


def own_seconds(work: Work, workers: int) -> float:
    """Of one run of ours."""
    together = Rates(workers, *(workers * rate for rate in _TYPICAL[1:]))
    return _OF_LIMIT * limit(work, together) * 2.0**work.latents * 1e-9


def peer_seconds(work: Work, latents: int, programs: int, runs: int) -> float:
    """Of `runs` runs of a peer for K = `latents`, the first runs of `programs` programs among them."""
    columns = latents + work.hidden + work.observed + work.rows
    one = _PER_COLUMN * columns * 2.0**latents * (_BACKWARD if work.gradient else 1.0)
    return runs * one + _FIRST * programs
