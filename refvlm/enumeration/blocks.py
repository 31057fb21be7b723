"""How the cube {0,1}^K is cut, and how partial sums are merged.

The cut depends on shapes alone, never on workers or on timing, and a row's share of it not even on the other
rows, but for whether there are many of them. Partial sums are merged along a fixed binary tree over the pieces'
numbers, whatever order they arrive in. So a result has the same bits for any number of workers, and a row's has the
same bits in any batch of at least MANY_ROWS rows, and in any of fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LOW_BITS", "MANY_ROWS", "MIDDLE_BITS", "PAGE", "Tree", "code_pieces", "depth", "row_pieces"]

LOW_BITS = 5
"""The low bits of a code lie along the lanes of a block: 32 states."""

MIDDLE_BITS = 6
"""A page is 64 blocks, 2048 states: what is added up along one tree."""

PAGE = 1 << (LOW_BITS + MIDDLE_BITS)
"""Codes in a page."""

MANY_ROWS = 16
"""From this many rows on, a call takes the road by tables (`kernels/groups.py`)."""

_SMALLEST, _LARGEST, _PARTS = 12, 16, 4
_SMALLEST_TABLED, _LARGEST_TABLED = 8, 14
"""The logarithms of the codes in a piece, by tables too; between them a sixteenth of the cube."""

_ROWS, _ROWS_TABLED = 32, 4096
"""Rows of x in one piece: each brings a page of terms, by tables a number."""

T = TypeVar("T")


def code_pieces(latents: int, tabled: bool = False) -> range:
    """The first codes of the consecutive pieces of {0,1}^K; the range's step is the number of codes in each."""
    smallest, largest = (_SMALLEST_TABLED, _LARGEST_TABLED) if tabled else (_SMALLEST, _LARGEST)
    bits = min(latents, max(smallest, min(latents - _PARTS, largest)))
    return range(0, 1 << latents, 1 << bits)


def row_pieces(rows: int, tabled: bool = False) -> list[slice]:
    """Consecutive slices of a bounded number of rows."""
    most = _ROWS_TABLED if tabled else _ROWS
    return [slice(start, min(start + most, rows)) for start in range(0, rows, most)]


def depth(latents: int, tabled: bool) -> int:
    """Additions that a term of the sum goes through at most."""
    pieces = code_pieces(latents, tabled)
    page = 3 + PAGE // 8 if tabled else LOW_BITS + MIDDLE_BITS
    return page + max(1, pieces.step // PAGE) + len(pieces).bit_length()


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
