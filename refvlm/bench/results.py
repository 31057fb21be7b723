"""The results of measuring a work."""

from __future__ import annotations

import math
from typing import NamedTuple

from .works import Work

TOLERANCE = 1e-9
"""Answers agree where their largest relative difference is at most this."""


class PeerResult(NamedTuple):
    """latents: K where it was timed. ns_per_state: of `program`, the fastest. difference: the largest of any program.

    A difference is relative: of log p(x) row by row, of a gradient to the largest entry of each array.
    """

    latents: int
    ns_per_state: float
    program: str
    difference: float

    @property
    def agrees(self) -> bool:
        """Whether the answers are ours but for rounding; NaN is not."""
        return self.difference <= TOLERANCE


class Result(NamedTuple):
    """Of one work: the best time, per latent state in nanoseconds, and the least that its arithmetic takes.

    peak_bytes: the process's peak memory, where it is told.
    """

    work: Work
    seconds: float
    ns_per_state: float
    peak_bytes: int | None
    peers: dict[str, PeerResult]
    limit_ns: float = math.nan

    @property
    def percent_of_limit(self) -> float:
        """How much of the time the arithmetic takes, in percent."""
        return 100.0 * self.limit_ns / self.ns_per_state

    @property
    def times_faster(self) -> float | None:
        """The fastest peer's time per state over ours; None where there was no peer."""
        if not self.peers:
            return None
        return min(peer.ns_per_state for peer in self.peers.values()) / self.ns_per_state
