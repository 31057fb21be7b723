"""How the cube {0,1}^K is cut, and how partial sums are merged.

The cut depends on shapes alone, never on workers or on timing, and a row's share of it not even on the other
rows, but for whether there are many of them. Partial sums are merged along a fixed binary tree over the pieces'
numbers, whatever order they arrive in. So a result has the same bits for any number of workers, and a row's has the
same bits in any batch of at least MANY_ROWS rows, and in any of fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Generic, NamedTuple, TypeVar

__all__ = ["LOW_BITS", "MANY_ROWS", "MIDDLE_BITS", "PAGE", "Road", "Tree", "code_pieces", "depth", "row_pieces"]

LOW_BITS = 5
"""The low bits of a code lie along the lanes of a block: 32 states."""

MIDDLE_BITS = 6
"""A page is 64 blocks, 2048 states: what is added up along one tree."""

PAGE = 1 << (LOW_BITS + MIDDLE_BITS)
"""Codes in a page."""

MANY_ROWS = 32
"""From this many rows on, a call takes the road by tables."""


class Road(IntEnum):
    """The kernels that sum p(x_n, z): see `kernels/marginal.py`, `kernels/groups.py` and `kernels/linear.py`."""

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


_CUTS = {Road.STREAMED: _Cut(12, 16, 32), Road.TABLED: _Cut(8, 14, 4096), Road.LINEAR: _Cut(12, 22, 8)}

T = TypeVar("T")


def code_pieces(latents: int, road: Road = Road.STREAMED) -> range:
    """The first codes of the consecutive pieces of {0,1}^K; the range's step is the number of codes in each."""
    cut = _CUTS[road]
    bits = min(latents, max(cut.smallest, min(latents - 4, cut.largest)))
    return range(0, 1 << latents, 1 << bits)


def row_pieces(rows: int, road: Road = Road.STREAMED) -> list[slice]:
    """Consecutive slices of a bounded number of rows."""
    most = _CUTS[road].rows
    return [slice(start, min(start + most, rows)) for start in range(0, rows, most)]


def depth(latents: int, road: Road, *, moments: bool = False) -> int:
    """Additions that a term of the sum, or of a moment of it, goes through at most."""
    pieces = code_pieces(latents, road)
    pages = max(1, pieces.step // PAGE)
    if road == Road.LINEAR:
        chunks = max(1, pieces.step >> 10)  # of at least 2**10 codes
        piece = (1024 + 10 if moments else 256 + 5) + chunks  # lanes one after the other, or the lanes' tree
    elif road == Road.TABLED:
        piece = 3 + pieces.step // 8 + 8 if moments else 3 + PAGE // 8 + pages
    else:
        piece = LOW_BITS + MIDDLE_BITS + pages + (1 << LOW_BITS if moments else 0)
    return piece + len(pieces).bit_length()


class Tree(Generic[T]):
    """Merge `count` values along a fixed binary tree; they may arrive in any order.

    Only siblings merge, so about log2(count) values wait at any time when they arrive nearly in order.
    """

    def __init__(self, count: int, combine: Callable[[T, T], T]) -> None:
        self._widths = [count]
        while self._widths[-1] > 1:
            self._widths.append((self._widths[-1] + 1) // 2)
        self._combine = combine
        self._waiting: dict[tuple[int, int], T] = {}

    def add(self, index: int, value: T) -> None:
        """Hand in the value of leaf `index`."""
        level = 0
        while level < len(self._widths) - 1:
            sibling = index ^ 1
            if sibling < self._widths[level]:
                if (level, sibling) not in self._waiting:
                    break
                other = self._waiting.pop((level, sibling))
                value = self._combine(value, other) if index < sibling else self._combine(other, value)
            level, index = level + 1, index // 2
        self._waiting[level, index] = value

    @property
    def result(self) -> T:
        """The merged value, once every leaf has been handed in."""
        return self._waiting[len(self._widths) - 1, 0]
