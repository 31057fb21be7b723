"""Messages on stderr; stdout is for results."""

from __future__ import annotations

import sys
from contextlib import suppress

from ..enumeration import kernels

__all__ = ["say", "say_cache_problem", "say_if_cold"]


def say(message: str) -> None:
    """One line on stderr; a stderr that is closed is no reason to stop."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(f"refvlm: {message}", file=sys.stderr, flush=True)


def say_if_cold() -> None:
    """Say what the first wait is for, before kernels run."""
    if kernels.cold():
        say("compiling the loops first, once: up to half a minute")


def say_cache_problem() -> None:
    """Say why compiled kernels cannot be kept, if so: then every run compiles again. Call when kernels have run."""
    problem = kernels.cache_problem()
    if problem is not None:
        say(f"note: {problem}; until then every run compiles again")
