"""Worker processes that end with their parent, whatever ends it, and are made anew where one is lost."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing import connection, get_context, parent_process
from threading import Lock
from typing import Any, TypeVar

from ..checks import check_count
from ..machine import available_cores

R = TypeVar("R")

_RESTARTS = 3
"""Times that the workers are made anew: what loses them more often than that will always."""


class Processes(Executor):
    """`workers` processes, by default as many as there are cores, for the argument `executor`.

    They are started anew, by spawn, so they share nothing with their parent. Where one is killed, all are made anew and
    what they had been given is computed again, at most three times. They take no notice of Ctrl-C, which the terminal
    sends to all processes: their parent ends them. Use it in a `with` block.
    """

    def __init__(self, workers: int | None = None) -> None:
        self.num_workers = available_cores() if workers is None else check_count("workers", workers, 1)
        self._lock, self._restarts = Lock(), _RESTARTS
        self._pool = self._started()

    def _started(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(self.num_workers, mp_context=get_context("spawn"), initializer=_begin)

    def submit(self, function: Callable[..., R], /, *arguments: Any, **named: Any) -> Future[R]:
        """See `concurrent.futures.Executor`. Raises BrokenExecutor where workers were lost too often."""
        with self._lock:
            try:
                return self._pool.submit(function, *arguments, **named)
            except BrokenExecutor:
                if self._restarts == 0:
                    raise
                self._restarts -= 1
                self._pool.shutdown(wait=False)
                self._pool = self._started()
                return self._pool.submit(function, *arguments, **named)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes: with cancel_futures at once, else when they have done what they were given."""
        if cancel_futures:
            for process in list((getattr(self._pool, "_processes", None) or {}).values()):
                process.terminate()
        self._pool.shutdown(wait, cancel_futures=cancel_futures)

    def __exit__(self, kind: object, *exception: object) -> None:
        self.shutdown(cancel_futures=kind is not None)


def _begin() -> None:
    """In a new worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Wait until the parent is gone, even if it was killed; then nobody wants what this process computes."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
