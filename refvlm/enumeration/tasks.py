"""What is computed: a kernel with its arrays, on one piece of {0,1}^K or on several that follow each other.

All of it can be pickled, so it can go to a thread, to another process, or to another machine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, TypeVar

import numpy as np

from ..types import Floats
from . import kernels
from .problem import AnyMixture, Decoder, Precise, Stack

P = ParamSpec("P")
R = TypeVar("R")

Subject = Decoder | Precise | Stack | AnyMixture
"""What a task is about."""

Columns = tuple[Floats, ...]
Merge = Callable[[Columns, Columns], Columns]
"""Of the results of two pieces, or of more, that follow each other: the result of all."""


@dataclass(frozen=True)
class Task(Generic[R]):
    """A kernel, and its arguments after the piece of the cube to sum over; `task` makes one with its types checked.

    several: the kernel takes a number of pieces, too, a power of two, and merges their results along the tree.
    """

    kernel: Callable[..., R]
    arguments: tuple[Any, ...]
    several: bool = False

    def run(self, subject: Subject, code: int, count: int, pieces: int = 1) -> R:
        """The kernel's result for `count` codes from `code`. A precise decoder's logits are computed here."""
        if isinstance(subject, Precise):
            network = subject.decoder
            logits = kernels.precise.precise_logits(network, code, count)
            if not subject.with_units:
                network = Decoder(network.sizes[[0, -1]], 0, np.zeros(0), logits, code)
            subject = network._replace(logits=logits, logits_from=code)
        if self.several:
            return self.kernel(subject, code, count, pieces, *self.arguments)
        return self.kernel(subject, code, count, *self.arguments)


def task(kernel: Callable[Concatenate[Any, int, int, P], R], *arguments: P.args, **none: P.kwargs) -> Task[R]:
    """The task of a kernel with these arguments, all by position."""
    assert not none
    return Task(kernel, arguments)


def task_of_several(
    kernel: Callable[Concatenate[Any, int, int, int, P], R], *arguments: P.args, **none: P.kwargs
) -> Task[R]:
    """That of a kernel which merges pieces itself."""
    assert not none
    return Task(kernel, arguments, several=True)


Piece = tuple[Task[R], Subject, int, int]
"""A task, and what it runs on: a decoder, the first code and the number of codes; or a mixture and draws from it."""


def add(a: Columns, b: Columns) -> Columns:
    """Column by column."""
    return tuple(left + right for left, right in zip(a, b, strict=True))


@dataclass(frozen=True)
class ByKernel:
    """Merge by a kernel that takes the columns of both."""

    kernel: Callable[..., Columns]

    def __call__(self, a: Columns, b: Columns) -> Columns:
        """The columns of both together."""
        return self.kernel(*a, *b)


@dataclass(frozen=True)
class Summation:
    """A task's results, columns of numbers, merged over all pieces of the cube, along the tree."""

    task: Task[Any]
    merge: Merge = add


SubjectOf = Callable[[int, int], Subject]
"""Of a piece's first code and their number."""
Received = Callable[[int, Columns], Columns]
"""What a piece's result becomes in the caller's thread, given its first code, before it is merged."""


@dataclass(frozen=True, eq=False)
class Work:
    """What portions have in common, and a worker receives once. Without merge their results are kept apart."""

    task: Task[Any]
    subject: Subject
    merge: Merge | None = None

    def run(self, first: int, pieces: int, step: int) -> Any:
        """Of `pieces` pieces of `step` codes each, the first from code `first`: what they merge to, or a list."""
        at_once = pieces if self.task.several and not isinstance(self.subject, Precise) else 1
        results = [self.task.run(self.subject, first + n * step, step, at_once) for n in range(0, pieces, at_once)]
        if self.merge is None:
            return results
        columns: list[Columns] = [each if isinstance(each, tuple) else (each,) for each in results]
        while len(columns) > 1:  # portions of a sum are subtrees of its tree
            columns = [self.merge(*pair) for pair in zip(columns[::2], columns[1::2], strict=True)]
        return columns[0]


class Portion(NamedTuple):
    """Some work on `pieces` pieces, one after the other, of `step` codes each, from code `first`."""

    work: Work
    first: int
    pieces: int
    step: int

    def run(self) -> Any:
        """As `Work.run` says."""
        return self.work.run(self.first, self.pieces, self.step)
