"""How the cube {0,1}^K is cut into pieces, and how partial sums are merged.

The cut depends on shapes alone, never on workers or on timing, and for one row it does not depend on the other rows,
except on whether there are many of them. Partial sums are merged along a fixed binary tree over the pieces' numbers,
whatever order they arrive in. So a result has the same bits for any number of workers, and a row's result has the same
bits in any batch of at least MANY_ROWS rows, and in any of fewer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

from .kernels import constants

MANY_ROWS = 32
"""A call with at least so many rows takes the route by tables."""


class Route(IntEnum):
    """The kernels that sum p(x_n, z): `kernels/marginal.py`, `kernels/tables.py` and `kernels/linear.py`."""

    STREAMED = 0
    TABLED = 1
    LINEAR = 2


class _Cut(NamedTuple):
    """Bits of the smallest and of the largest piece, between them a sixteenth of the cube; rows in one piece.

    A piece takes milliseconds, so an interrupt has little to wait for.
    """

    smallest: int
    largest: int
    rows: int


_CUTS = {Route.STREAMED: _Cut(12, 16, 32), Route.TABLED: _Cut(8, 14, 4096), Route.LINEAR: _Cut(12, 22, 8)}

_OCTETS = 4
"""Eights of outputs in a piece, where there is no sum over codes."""

T = TypeVar("T")


def code_pieces(latents: int, route: Route = Route.STREAMED) -> range:
    """The first codes of the consecutive pieces of {0,1}^K; the range's step is the number of codes in each."""
    cut = _CUTS[route]
    bits = min(latents, max(cut.smallest, min(latents - 4, cut.largest)))
    return range(0, 1 << latents, 1 << bits)


def row_pieces(rows: int, route: Route = Route.STREAMED) -> list[slice]:
    """Consecutive slices of a bounded number of rows."""
    most = _CUTS[route].rows
    return [slice(start, min(start + most, rows)) for start in range(0, rows, most)]


def output_pieces(observed: int) -> range:
    """The first octets of the consecutive pieces of the outputs; the range's step is the number of octets in each."""
    return range(0, (observed + constants.OCTET - 1) // constants.OCTET, _OCTETS)


def depth(latents: int, route: Route, *, moments: bool = False) -> int:
    """The most additions that a term of the sum, or of a moment of it, goes through."""
    c, pieces = constants, code_pieces(latents, route)
    pages = max(1, pieces.step // c.PAGE)
    if route == Route.LINEAR:
        low = [bits for bits, _ in c.SPLITS]
        chunks = max(1, pieces.step >> (min(low) + c.ROW_BITS))
        if moments:  # lane by lane, one after the other
            piece = (1 << max(low)) + max(low) + chunks
        else:  # four rows and a block of lanes at a time, then the lanes' tree
            piece = ((1 << c.ROW_BITS) // 4 << (max(low) - c.LOW_BITS)) + c.LOW_BITS + chunks
    elif route == Route.TABLED:
        octets = (pieces.step if moments else c.PAGE) // c.OCTET
        piece = 3 + octets + (c.BLOCK if moments else pages)
    else:
        piece = c.LOW_BITS + c.MIDDLE_BITS + pages + (c.BLOCK if moments else 0)
    return piece + len(pieces).bit_length()


class Node(NamedTuple):
    """A subtree of a tree over pieces: of 2**level leaves, from leaf number * 2**level on."""

    level: int
    number: int

    @property
    def first(self) -> int:
        """Its first leaf."""
        return self.number << self.level

    @property
    def leaves(self) -> int:
        """Their number."""
        return 1 << self.level


class Tree(Generic[T]):
    """Merge `count` values along a fixed binary tree; they may arrive in any order, and subtrees as one.

    Only siblings merge, so about log2(count) values wait at any time when they arrive nearly in order.
    """

    def __init__(self, count: int, combine: Callable[[T, T], T]) -> None:
        self._widths = [count]
        while self._widths[-1] > 1:
            self._widths.append((self._widths[-1] + 1) // 2)
        self._combine = combine
        self._waiting: dict[Node, T] = {}

    def add(self, index: int, value: T, level: int = 0) -> None:
        """Hand in the value of leaf `index`, or that of a whole subtree."""
        while level < len(self._widths) - 1:
            sibling = index ^ 1
            if sibling < self._widths[level]:
                if (level, sibling) not in self._waiting:
                    break
                other = self._waiting.pop(Node(level, sibling))
                value = self._combine(value, other) if index < sibling else self._combine(other, value)
            level, index = level + 1, index // 2
        self._waiting[Node(level, index)] = value

    @property
    def waiting(self) -> list[tuple[Node, T]]:
        """What has been handed in and merged so far, in the order of the leaves."""
        return sorted(self._waiting.items(), key=lambda item: item[0].first)

    @property
    def result(self) -> T:
        """The merged value, once every leaf has been handed in."""
        return self._waiting[Node(len(self._widths) - 1, 0)]


class Gaps:
    """Which leaves of a tree, whose number is a power of two, have not been taken yet."""

    def __init__(self, count: int, done: Iterable[Node] = ()) -> None:
        """done: subtrees that need not be taken, in the order of their leaves."""
        self._gaps: deque[tuple[int, int]] = deque()
        start = 0
        for node in done:
            if start < node.first:
                self._gaps.append((start, node.first))
            start = node.first + node.leaves
        if start < count:
            self._gaps.append((start, count))
        self.left = sum(stop - start for start, stop in self._gaps)
        """Leaves that have not been taken."""

    def take(self, most: int) -> Node | None:
        """The first of them, as a subtree of at most so many; None where there is none."""
        if not self._gaps:
            return None
        start, stop = self._gaps.popleft()
        level = min(most, stop - start).bit_length() - 1
        if start > 0:
            level = min(level, (start & -start).bit_length() - 1)
        node = Node(level, start >> level)
        if start + node.leaves < stop:
            self._gaps.appendleft((start + node.leaves, stop))
        self.left -= node.leaves
        return node
