"""Portions of work on somebody's `concurrent.futures.Executor`: threads, processes, a cluster.

What portions share, the model and the rows, goes to each worker once: it is kept there under a key, and sent along
only with the first portions, and again where a worker says that it does not know the key. A portion is as many pieces
as take long enough to make the cost of handing it out small, and a few of the end as short as it takes for all
workers to be busy until then. How pieces are put together changes no bit: see `blocks.py`.
"""

from __future__ import annotations

import math
import os
import platform
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ThreadPoolExecutor,
    wait,
)
from dataclasses import replace
from threading import Lock
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from ..machine import available_cores
from ..version import __version__
from . import kernels
from .tasks import Portion, Work

T = TypeVar("T")

_AHEAD = 2
"""Portions for each worker that are handed out: one that it computes, one that it finds when it is done."""
_IN_PROCESS, _ELSEWHERE = 0.02, 0.5
"""Seconds that a portion is to take; handing one out costs less than a fiftieth, 0.1 and up to 10 milliseconds."""
_SHORTEST = 0.02
"""Seconds of a portion elsewhere, at the end of a sum."""
_SERIAL = 0.0005
"""Seconds of the process that hands out portions, for each of them: no portion is shorter than it takes for all."""
_ROUNDS = 4
"""So many times that long is a portion, at the least, until the end is near."""
_TAIL = 4
"""Portions for each worker that what is left is cut into, at the least."""
_STALLED = 5.0
"""Seconds without any result after which the caller begins to compute, too: its workers may be waiting for it."""
_KEPT = 8
"""Works that a worker remembers."""


class ExecutorError(RuntimeError):
    """Workers that are gone, or that would give other bits."""


class Identity(NamedTuple):
    """What has to be the same for two processes to give the same bits."""

    version: str
    kernels: str
    fused: bool


class Parcel(NamedTuple):
    """A work, and whose."""

    sender: Identity
    work: Work


class Answer(NamedTuple):
    """A portion's result, None where the worker does not know the work; the seconds that it took."""

    result: Any
    seconds: float
    known: bool = True


def identity() -> Identity:
    """Of this process."""
    return Identity(__version__, kernels.compiling.DIGEST, kernels.hardware.HARDWARE.fused)


def check_identity(sender: Identity) -> None:
    """Refuse, in a worker, to sum where the bits would be others than the sender's."""
    own = identity()
    if own.fused and own == sender:
        return
    where = f"executor: got the worker {platform.node() or 'localhost'} (process {os.getpid()})"
    if not own.fused:
        raise ExecutorError(
            f"{where}, whose processor has no fused multiply-add ({kernels.hardware.HARDWARE.cpu}); wanted workers "
            "with one, without which the bits would be others"
        )
    raise ExecutorError(
        f"{where} with refvlm {own.version}, kernels {own.kernels}; wanted refvlm {sender.version}, kernels "
        f"{sender.kernels}, as the caller has; install the same refvlm on all of them"
    )


_works: OrderedDict[str, Work] = OrderedDict()
_lock = Lock()


def compute(key: str, parcel: Parcel | None, first: int, pieces: int, step: int) -> Answer:
    """In a worker: a portion of the work of this key, which comes with it or is remembered."""
    with _lock:
        work = _works.get(key)
        if work is not None:
            _works.move_to_end(key)
    if work is None:
        if parcel is None:
            return Answer(None, 0.0, known=False)
        check_identity(parcel.sender)
        work = _writable(parcel.work)
        with _lock:
            _works[key] = work
            while len(_works) > _KEPT:
                _works.popitem(last=False)
    start = time.perf_counter()
    result = work.run(first, pieces, step)
    return Answer(result, time.perf_counter() - start)


def compute_here(portion: Portion) -> Answer:
    """In a thread of the caller's process, or in the caller."""
    start = time.perf_counter()
    result = portion.run()
    return Answer(result, time.perf_counter() - start)


def _writable(work: Work) -> Work:
    """Arrays may have come read-only, for which kernels would be compiled once more."""
    return replace(work, task=replace(work.task, arguments=_owned(work.task.arguments)), subject=_owned(work.subject))


def _owned(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value if value.flags.writeable else value.copy()
    if isinstance(value, tuple):
        parts = [_owned(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


def width(executor: Executor) -> int:
    """How many portions it computes at a time, as far as it says."""
    client: Any = getattr(executor, "_client", None)  # of a Dask cluster, which may grow
    if client is not None:
        return max(1, sum(int(threads) for threads in client.nthreads().values()))
    for name in ("num_workers", "_max_workers"):  # of mpi4py's, and of the standard library's
        workers = getattr(executor, name, None)
        if isinstance(workers, int) and workers > 0:
            return workers
    return available_cores()


def longest_portion(workers: int) -> float:
    """Seconds of a portion while there is enough left."""
    return max(_ELSEWHERE, _ROUNDS * _SERIAL * workers)


def portion(left: float, goal: float, workers: int) -> float:
    """Seconds of the next portion, of `left` seconds of a worker's time."""
    return min(goal, max(left / (_TAIL * workers), _SHORTEST, _SERIAL * workers))


class Source(NamedTuple, Generic[T]):
    """What is to be handed out. take(most): the next portion of at most so many pieces, with what its result is for.

    left(): pieces that have not been taken.
    """

    take: Callable[[int], tuple[T, Portion] | None]
    left: Callable[[], int]


def hand_out(executor: Executor, source: Source[T]) -> Iterator[tuple[T, Any]]:
    """(what it is for, result) of all portions, as they finish; on the way out, cancel what has not started."""
    return _Distribution(executor, source).results()


class _Handed(NamedTuple, Generic[T]):
    """A portion that is under way, what it is for, and the key of its work."""

    item: T
    portion: Portion
    key: str


class _Distribution(Generic[T]):
    """The portions that are under way. One work comes after the other."""

    def __init__(self, executor: Executor, source: Source[T]) -> None:
        self.executor, self.source, self.workers = executor, source, width(executor)
        self.here = isinstance(executor, ThreadPoolExecutor)
        self.waiting: dict[Future[Answer], _Handed[T]] = {}
        self.again: list[_Handed[T]] = []
        self.token, self.works, self.sent = secrets.token_hex(8), 0, 0
        self.work: Work | None = None  # of the last portion; its key has the number `works`, and was `sent` so often
        self.seconds = math.inf  # of a piece of this work, at best: a worker compiles before its first
        self.longest = 0.0  # of a portion
        self.asked = self.heard = time.monotonic()  # for the number of workers, and of any portion
        self.helping = False

    def results(self) -> Iterator[tuple[T, Any]]:
        """See `hand_out`."""
        try:
            while True:
                self._fill()
                if not self.waiting:
                    return
                patience = 0.01 if self.helping else _STALLED
                done = wait(self.waiting, patience, FIRST_COMPLETED).done
                for future in done:
                    yield from self._received(future)
                if not done and (self.helping or self._is_stalled()):
                    yield from self._help()
        finally:
            for future in self.waiting:
                future.cancel()
            if self.here:
                wait([future for future in self.waiting if not future.cancelled()])

    def _fill(self) -> None:
        while len(self.waiting) < _AHEAD * self.workers:
            if self.again:
                self._submit(self.again.pop(), with_parcel=True)
                continue
            taken = self.source.take(self._most())
            if taken is None:
                return
            item, portion = taken
            if portion.work is not self.work:
                self.work, self.works, self.sent, self.seconds = portion.work, self.works + 1, 0, math.inf
            self.sent += 1
            handed = _Handed(item, portion, f"{self.token}-{self.works}")
            self._submit(handed, with_parcel=self.sent <= self.workers)

    def _most(self) -> int:
        """Pieces in the next portion."""
        if math.isinf(self.seconds):
            return 1
        goal = _IN_PROCESS if self.here else longest_portion(self.workers)
        left = self.source.left() * self.seconds
        return max(1, int(portion(left, goal, self.workers) / max(self.seconds, 1e-9)))

    def _submit(self, handed: _Handed[T], with_parcel: bool) -> None:
        portion = handed.portion
        try:
            if self.here:
                future = self.executor.submit(compute_here, portion)
            else:
                parcel = Parcel(identity(), portion.work) if with_parcel else None
                future = self.executor.submit(compute, handed.key, parcel, *portion[1:])
        except BrokenExecutor as error:
            raise _gone(error) from error
        self.waiting[future] = handed

    def _received(self, future: Future[Answer]) -> Iterator[tuple[T, Any]]:
        handed = self.waiting.pop(future)
        try:
            answer = future.result()
        except BrokenExecutor:  # who can make workers anew gets the portion again, and who cannot refuses it
            self.again.append(handed)
            return
        except CancelledError as error:
            raise _gone(error) from error
        self.heard, self.helping = time.monotonic(), False
        if self.heard - self.asked > _STALLED:
            self.asked, self.workers = self.heard, width(self.executor)
        if not answer.known:
            self.again.append(handed)
            return
        if handed.portion.work is self.work:
            self.seconds = min(self.seconds, answer.seconds / handed.portion.pieces)
        self.longest = max(self.longest, answer.seconds)
        yield handed.item, answer.result

    def _is_stalled(self) -> bool:
        return time.monotonic() - self.heard >= max(_STALLED, 8 * self.longest)

    def _help(self) -> Iterator[tuple[T, Any]]:
        """Nothing comes: compute a portion here that no worker has begun."""
        self.helping = True
        for future, handed in reversed(self.waiting.items()):
            if future.cancel():
                del self.waiting[future]
                yield handed.item, compute_here(handed.portion).result
                return


def _gone(error: BaseException) -> ExecutorError:
    return ExecutorError(
        "executor: its workers are gone (killed, out of memory, or shut down): "
        f"{type(error).__name__}; wanted workers that stay until the sum is done"
    )
