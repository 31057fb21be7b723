"""Where pieces are computed, and their results merged: on threads, or on any `concurrent.futures.Executor`.

Kernels release the interpreter lock and start no threads of their own. At most a few pieces per worker are in flight,
so memory stays flat, and an interrupt waits for those that run: each is cut to take milliseconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any, TypedDict, TypeVar

from ..checks import check_count, describe
from ..machine import available_cores
from .blocks import Gaps, Node, Tree
from .helpers import Call
from .journal import Journal, Ledger
from .remote import Source, hand_out
from .tasks import Columns, Piece, Portion, Received, Subject, SubjectOf, Summation, Work

R = TypeVar("R")
T = TypeVar("T")

Progress = Callable[[int, int], object]
"""Called in the caller's thread as progress(pieces done, pieces in all)."""


_PIECES, _CODES = 4, 1 << 14
"""Pieces that a thread takes at once where a kernel merges them, and codes in them: no more than one piece may have."""

Workers = int | Executor | None
"""Threads, None for all available cores, or somebody's executor: one argument where it is only passed on."""


class Place(TypedDict):
    """The two arguments of a public function that say the same."""

    workers: int | None
    executor: Executor | None


def on(workers: Workers) -> Place:
    """For a public function: `log_marginal(model, x, **on(workers))`."""
    if isinstance(workers, Executor):
        return Place(workers=None, executor=workers)
    return Place(workers=workers, executor=None)


@dataclass(frozen=True)
class Engine:
    """Where pieces are computed: `workers` threads (None: all available cores), or somebody's executor.

    journal: where sums over all pieces are kept while they run, and taken up again.
    """

    workers: int | None = None
    executor: Executor | None = None
    progress: Progress | None = None
    journal: Journal | None = None

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
        done = 0
        for first, results in self._take(_Runs(pieces, count).source, count, foreign):
            for number, result in enumerate(results, start=first):
                done += 1
                yield number, result
                if self.progress is not None:
                    self.progress(done, count)

    def fold(
        self,
        sums: Sequence[Summation],
        codes: range,
        subject_of: SubjectOf,
        *,
        foreign: bool,
        received: Received | None = None,
    ) -> list[Columns]:
        """What the results of each sum merge to, over all pieces of a cut of the cube.

        foreign: `subject_of` is somebody's own code, which must run in the caller's thread alone.
        """
        trees, ledger = self.taken_up(sums, codes, subject_of, foreign, received)
        gaps = [Gaps(len(codes), [node for node, _ in tree.waiting]) for tree in trees]
        total = len(sums) * len(codes)
        done = total - _left(gaps)
        source = (_foreign_pieces if foreign else _subtrees)(sums, codes, subject_of, gaps)
        together = all(each.task.several for each in sums)
        most = max(1, min(_PIECES, _CODES // codes.step)) if together else 1
        try:
            for (number, node), columns in self._take(source, total - done, foreign, most):
                if received is not None:
                    columns = received(codes[node.first], columns)
                trees[number].add(node.number, columns, node.level)
                done += node.leaves
                if ledger is not None:
                    ledger.keep_if_due()
                if self.progress is not None:
                    self.progress(done, total)
        finally:
            if ledger is not None:
                ledger.keep()
        return [tree.result for tree in trees]

    def taken_up(
        self, sums: Sequence[Summation], codes: range, subject_of: SubjectOf, foreign: bool, received: Received | None
    ) -> tuple[list[Tree[Columns]], Ledger | None]:
        """The trees of these sums, with what the journal knows of them, and where they are kept; see `fold`.

        A piece of each that is known is computed, to see whether what is known can be of this sum.
        """
        trees: list[Tree[Columns]] = [Tree(len(codes), each.merge) for each in sums]
        if self.journal is None:
            return trees, None
        ledger = self.journal.ledger(trees, sums, codes, None if foreign else subject_of(codes.start, codes.step))

        def first_piece(number: int) -> Columns:
            work = Work(sums[number].task, subject_of(codes.start, codes.step), sums[number].merge)
            columns: Columns = work.run(codes.start, 1, codes.step)
            return columns if received is None else received(codes.start, columns)

        ledger.restore(first_piece)
        return trees, ledger

    def _take(self, source: Source[T], count: int, foreign: bool, most: int = 1) -> Iterator[tuple[T, Any]]:
        workers = max(1, min(self.workers or available_cores(), count))
        if self.executor is not None:
            yield from hand_out(self.executor, source)
        elif foreign and workers > 1:
            with ThreadPoolExecutor(workers, thread_name_prefix="refvlm") as executor:
                yield from hand_out(executor, source)
        else:
            yield from _take_turns(workers, source, most)


class _Runs:
    """Pieces as portions: those of one work that lie side by side go together."""

    def __init__(self, pieces: Iterable[Piece[Any]], count: int) -> None:
        self._pieces, self._taken, self._count = iter(pieces), 0, count
        self._work: Work | None = None
        self._next = next(self._pieces, None)
        self.source: Source[int] = Source(self._take, lambda: self._count - self._taken)

    def _take(self, most: int) -> tuple[int, Portion] | None:
        if self._next is None:
            return None
        task, subject, first, count = self._next
        if self._work is None or self._work.task is not task or self._work.subject is not subject:
            self._work = Work(task, subject)
        number, pieces = self._taken, 0
        while self._next is not None and pieces < most and self._continues(first + pieces * count, count):
            pieces += 1
            self._next = next(self._pieces, None)
        self._taken += pieces
        return number, Portion(self._work, first, pieces, count)

    def _continues(self, first: int, count: int) -> bool:
        assert self._next is not None
        assert self._work is not None
        task, subject, *place = self._next
        return task is self._work.task and subject is self._work.subject and place == [first, count]


def _left(gaps: list[Gaps]) -> int:
    return sum(each.left for each in gaps)


def _subtrees(
    sums: Sequence[Summation], codes: range, subject_of: SubjectOf, gaps: list[Gaps]
) -> Source[tuple[int, Node]]:
    """What is left of each sum, as subtrees of its tree; one sum after the other, as a worker remembers few."""
    subject = subject_of(codes.start, codes.step)
    works = [Work(each.task, subject, each.merge) for each in sums]
    number = 0

    def take(most: int) -> tuple[tuple[int, Node], Portion] | None:
        nonlocal number
        while number < len(works):
            node = gaps[number].take(most)
            if node is not None:
                return (number, node), Portion(works[number], codes[node.first], node.leaves, codes.step)
            number += 1
        return None

    return Source(take, partial(_left, gaps))


def _foreign_pieces(
    sums: Sequence[Summation], codes: range, subject_of: SubjectOf, gaps: list[Gaps]
) -> Source[tuple[int, Node]]:
    """The same where pieces bring logits of their own: one by one, all sums over the same codes after each other."""
    last: tuple[int, Subject] | None = None

    def take(most: int) -> tuple[tuple[int, Node], Portion] | None:
        nonlocal last
        number = max(range(len(sums)), key=lambda n: gaps[n].left)
        node = gaps[number].take(1)
        if node is None:
            return None
        code = codes[node.first]
        if last is None or last[0] != code:
            last = code, subject_of(code, codes.step)
        work = Work(sums[number].task, last[1], sums[number].merge)
        return (number, node), Portion(work, code, 1, codes.step)

    return Source(take, partial(_left, gaps))


def _take_turns(workers: int, source: Source[T], most: int) -> Iterator[tuple[T, Any]]:
    """The caller's thread and `workers` - 1 others each take the next portion until there is none.

    A portion is of at most so many pieces, and of no more than a worker's share of what is left.

    No futures and no queue of tasks: where pieces take a tenth of a millisecond, those would cost as much again.
    """
    lock, over = Lock(), False
    results: deque[tuple[T, Any]] = deque()
    failures: list[BaseException] = []

    def take() -> tuple[T, Portion] | None:
        with lock:
            return None if over else source.take(max(1, min(most, source.left() // workers)))

    def work() -> None:
        nonlocal over
        try:
            while (item := take()) is not None:
                results.append((item[0], item[1].run()))
        except BaseException as error:
            failures.append(error)
            over = True

    others: list[Call] = []
    try:
        for _ in range(1, workers):
            others.append(Call(work))
        while (item := take()) is not None:
            yield item[0], item[1].run()
            while results:
                yield results.popleft()
        while others:
            others[-1].end()
            others.pop()
        if failures:
            raise failures[0]
        yield from results
    finally:
        over = True
        for other in others:
            other.end()
