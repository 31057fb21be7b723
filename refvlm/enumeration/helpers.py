"""Threads that help the caller, and stay for a moment in case he needs help again.

A sum over a few hundred codes takes a tenth of a millisecond, and a step of learning is several sums: to start a
thread for each, and to be woken by it, would take as long. So a helper that has nothing left to do looks out for work
for a fifth of a millisecond (`kernels/spinning.py`), and only then ends.
"""

from __future__ import annotations

import atexit
import functools
import os
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from . import kernels

_PATIENCE, _TO_BEGIN, _TO_END = 2e-4, 1.5e-5, 3e-6
"""Seconds that a thread waits for a signal, and after one to begin, and one that somebody has ended."""
_ATTEMPTS = 1000
"""Times that it waits for a call which is about to come."""
_CALLS, _DONE, _UNUSED = 0, 8, 15
"""Places of signals; no two of them share a cache line."""

_idle: list[_Helper] = []
"""Those that look out for work."""


@functools.cache
def _pauses_per_second() -> float:
    """Of this processor: the most that is seen, for whatever comes between makes them fewer."""
    signals, pauses, rate = np.zeros(16, dtype=np.int64), 1000, 0.0
    kernels.spinning.wait_while(signals, _CALLS, 0, _UNUSED, 0, 0)  # compiles, or loads from the cache
    for _ in range(10):
        start = time.perf_counter()
        kernels.spinning.wait_while(signals, _CALLS, 0, _UNUSED, pauses, 0)
        rate = max(rate, pauses / (time.perf_counter() - start))
        pauses = max(pauses, int(rate * _PATIENCE / 4))
    return rate


def _wait_while(signals: NDArray[np.int64], which: int, value: int, tells: int, grace: float) -> bool:
    """See `kernels/spinning.py`."""
    rate = _pauses_per_second()
    return kernels.spinning.wait_while(signals, which, value, tells, int(rate * _PATIENCE), int(rate * grace))


class _Helper:
    """A thread. signals[_CALLS] counts what it has been called for, signals[_DONE] follows as that is done."""

    def __init__(self, job: Callable[[], None]) -> None:
        self.signals = np.zeros(16, dtype=np.int64)
        self.call(job)

    def call(self, job: Callable[[], None]) -> None:
        """While it looks out for work, or before it runs."""
        self._job = job
        self.signals[_CALLS] += 1

    def run(self) -> None:
        """The thread."""
        while True:
            calls, job = int(self.signals[_CALLS]), self._job
            job()
            del job, self._job
            _idle.append(self)
            if not self._is_called_again(calls):
                return

    def _is_called_again(self, calls: int) -> bool:
        """Look out for work."""
        for _ in range(_ATTEMPTS):
            if _wait_while(self.signals, _CALLS, calls, _DONE, _TO_BEGIN):
                return True
            try:
                _idle.remove(self)
            except ValueError:  # somebody has taken it, and is about to call, unless he was interrupted
                continue
            return False
        return False


class Call:
    """A function that a helper runs, and that must not raise."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function: Callable[[], object] | None = function
        self._lock = allocate_lock()
        try:
            self._helper = _idle.pop()
            self._helper.call(self._run)
        except IndexError:
            self._helper = _Helper(self._run)
            with suppress(RuntimeError):  # where no more threads are allowed it never begins
                start_new_thread(self._helper.run, ())
        self._number = int(self._helper.signals[_CALLS])

    def _run(self) -> None:
        with self._lock:
            if self._function is not None:
                self._function()

    def end(self) -> None:
        """Wait until it is done; where it has not begun, it never will."""
        if self._lock.locked():
            _wait_while(self._helper.signals, _DONE, self._number - 1, _UNUSED, _TO_END)
        with self._lock:
            self._function = None


def _retire() -> None:
    """Before the interpreter goes: no thread should come back to it later."""
    end = time.monotonic() + 1.0
    while _idle and time.monotonic() < end:
        time.sleep(0.001)


atexit.register(_retire)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)
