"""Kernels on pieces, on any `concurrent.futures.Executor`.

A piece is a kernel with its arrays, so it can go to a thread or to another process. Kernels release the
interpreter lock and start no threads of their own. At most a few pieces per worker are in flight, so memory
stays flat, and an interrupt waits for those that run: each is cut to take milliseconds.
"""

from __future__ import annotations

from _thread import LockType, allocate_lock, start_new_thread
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import numpy as np

from ..checks import check_count, describe
from ..machine import available_cores
from . import kernels
from .problem import AnyMixture, Decoder, Precise, Stack

P = ParamSpec("P")
R = TypeVar("R")

Progress = Callable[[int, int], object]
"""Called in the caller's thread as progress(pieces done, pieces in all)."""

Subject = Decoder | Precise | Stack | AnyMixture
"""What a piece is of."""

_IN_FLIGHT = 3


@dataclass(frozen=True)
class Task(Generic[R]):
    """A kernel, and its arguments after the piece of the cube to sum over; `task` makes one with its types checked."""

    kernel: Callable[..., R]
    arguments: tuple[Any, ...]

    def run(self, decoder: Subject, code: int, count: int) -> R:
        """The kernel's result for `count` codes from `code`. A precise decoder's logits are computed here."""
        if isinstance(decoder, Precise):
            network = decoder.decoder
            logits = kernels.precise.precise_logits(network, code, count)
            if not decoder.with_units:
                network = Decoder(network.sizes[[0, -1]], 0, np.zeros(0), logits, code)
            decoder = network._replace(logits=logits, logits_from=code)
        return self.kernel(decoder, code, count, *self.arguments)


def task(kernel: Callable[Concatenate[Any, int, int, P], R], *arguments: P.args, **none: P.kwargs) -> Task[R]:
    """The task of a kernel with these arguments, all by position."""
    assert not none
    return Task(kernel, arguments)


Piece = tuple[Task[R], Subject, int, int]
"""A task, and what it runs on: a decoder, the first code and the number of codes; or a mixture and draws from it."""


def _run(piece: Piece[R]) -> R:
    """Run it; a module-level function, so that it can be sent to a process."""
    work, decoder, code, count = piece
    return work.run(decoder, code, count)


@dataclass(frozen=True)
class Engine:
    """Where pieces are computed: `workers` threads (None: all available cores), or somebody's executor."""

    workers: int | None = None
    executor: Executor | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        if self.workers is not None:
            check_count("workers", self.workers, 1)
            if self.executor is not None:
                raise ValueError("workers and executor: got both, wanted at most one; an executor has its own workers")
        if self.executor is not None and not isinstance(self.executor, Executor):
            raise TypeError(f"executor: got {describe(self.executor)}, wanted a concurrent.futures.Executor")
        if self.progress is not None and not callable(self.progress):
            raise TypeError(f"progress: got {describe(self.progress)}, wanted a function of (done, total)")

    def run(self, pieces: Iterable[Piece[R]], count: int, *, foreign: bool = False) -> Iterator[tuple[int, R]]:
        """(number of the piece, kernel's result) for `count` pieces, as they finish, in the caller's thread.

        foreign: the pieces come from somebody's own code, which must run in the caller's thread alone.
        """
        for done, item in enumerate(self._take(pieces, count, foreign), start=1):
            yield item
            if self.progress is not None:
                self.progress(done, count)

    def _take(self, pieces: Iterable[Piece[R]], count: int, foreign: bool) -> Iterator[tuple[int, R]]:
        workers = min(self.workers or available_cores(), count)
        if self.executor is not None:
            yield from _hand_out(self.executor, available_cores(), pieces)
        elif foreign and workers > 1:
            with ThreadPoolExecutor(workers, thread_name_prefix="refvlm") as executor:
                yield from _hand_out(executor, workers, pieces)
        else:
            yield from _take_turns(workers, pieces)


def _take_turns(workers: int, pieces: Iterable[Piece[R]]) -> Iterator[tuple[int, R]]:
    """The caller's thread and `workers` - 1 others each take the next piece until there is none.

    No futures, no queue of tasks, and no `Thread.start`, which waits until the other thread runs: where pieces take a
    tenth of a millisecond, those would cost as much again. A thread holds its lock while it is at work; once the caller
    has taken it, one that has not begun yet finds it taken, and does nothing.
    """
    numbered, lock, over = enumerate(pieces), Lock(), Event()
    results: deque[tuple[int, R]] = deque()
    failures: list[BaseException] = []

    def take() -> tuple[int, Piece[R]] | None:
        with lock:
            return None if over.is_set() else next(numbered, None)

    def work(at_work: LockType) -> None:
        if not at_work.acquire(blocking=False):
            return
        try:
            while (item := take()) is not None:
                results.append((item[0], _run(item[1])))
        except BaseException as error:
            failures.append(error)
            over.set()
        finally:
            at_work.release()

    others: list[LockType] = []
    try:
        for _ in range(1, workers):
            others.append(allocate_lock())
            start_new_thread(work, (others[-1],))
        while (item := take()) is not None:
            yield item[0], _run(item[1])
            while results:
                yield results.popleft()
        while others:
            others[-1].acquire()
            others.pop()
        if failures:
            raise failures[0]
        yield from results
    finally:
        over.set()
        for at_work in others:
            at_work.acquire()


def _hand_out(executor: Executor, workers: int, pieces: Iterable[Piece[R]]) -> Iterator[tuple[int, R]]:
    """Keep a few pieces per worker in flight; on the way out, cancel what has not started."""
    waiting: dict[Future[R], int] = {}
    try:
        for index, piece in enumerate(pieces):
            waiting[executor.submit(_run, piece)] = index
            if len(waiting) >= _IN_FLIGHT * workers:
                for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                    yield waiting.pop(future), future.result()
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield waiting.pop(future), future.result()
    finally:
        for future in waiting:
            future.cancel()
        wait([future for future in waiting if not future.cancelled()])
