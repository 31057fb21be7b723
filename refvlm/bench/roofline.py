"""What this machine's arithmetic can do at most, on one worker and on all at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from ..enumeration import kernels
from ..types import Floats
from .limits import Rates

LEAST_SECONDS = 0.005
"""A call takes at least this long."""


class _Loop(NamedTuple):
    """A kernel of `kernels/roofline.py` but for its last argument, how many rounds; operations in one of them."""

    operation: str
    kernel: Callable[..., float]
    arguments: tuple[Any, ...]
    operations: int
    rounds: int


class Roofline:
    """The highest rates in all measurements so far, of one thread and of `workers` at once."""

    def __init__(self, workers: int) -> None:
        start = np.linspace(0.5, 1.5, 48)
        exponents = _aligned(-np.linspace(0.0, 30.0, 1024))
        table = _aligned(np.tile(np.repeat([1.25, 0.8], 64), 32))  # 4096 floats, 32 KB; the products stay near 1
        self._loops = [
            _loop("fma", "fma_chains", 48, start, 0.999, 0.001, False),
            _loop("fma", "fma_chains", 96, start, 0.999, 0.001, True),
            _loop("exp", "exponentials", len(exponents), exponents),
            _loop("load_multiply", "load_multiplies", len(table), table),
            _loop("division", "division_chains", 48, start, 1.0),
        ]
        self._best = {count: dict.fromkeys(Rates._fields[1:], 0.0) for count in sorted({1, workers})}

    def measure(self, repeats: int) -> None:
        """Run every loop `repeats` times."""
        for count, best in self._best.items():
            with ThreadPoolExecutor(count) as executor:
                for loop in self._loops:
                    for _ in range(repeats + 1):  # the first starts the threads
                        start = time.perf_counter()
                        calls = [executor.submit(loop.kernel, *loop.arguments, loop.rounds) for _ in range(count)]
                        for call in calls:
                            call.result()
                        seconds = time.perf_counter() - start
                        rate = count * loop.rounds * loop.operations / seconds * 1e-9
                        best[loop.operation] = max(best[loop.operation], rate)

    @property
    def rates(self) -> list[Rates]:
        """Of one worker and, where there are more, of all."""
        return [Rates(count, **best) for count, best in self._best.items()]


def _loop(operation: str, name: str, operations: int, *arguments: Any) -> _Loop:
    """With enough rounds to take LEAST_SECONDS, after a warm-up."""
    kernel, rounds, seconds = getattr(kernels.roofline, name), 64, 0.0
    kernel(*arguments, 1)
    while seconds < LEAST_SECONDS:
        rounds *= 2
        start = time.perf_counter()
        kernel(*arguments, rounds)
        seconds = time.perf_counter() - start
    return _Loop(operation, kernel, arguments, operations, rounds)


def _aligned(values: Floats) -> Floats:
    """A copy that starts at a multiple of 64 bytes, so that no vector straddles two lines of the cache."""
    room = np.empty(len(values) + 8)
    start = -(room.ctypes.data // 8) % 8
    room[start : start + len(values)] = values
    return room[start : start + len(values)]
