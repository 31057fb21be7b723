"""How the cube {0,1}^K is cut, and how partial sums are merged.

The cut depends on shapes alone, never on workers or on timing, and a row's share of it not even on the other
rows. Partial sums are merged along a fixed binary tree over the pieces' numbers, whatever order they arrive
in. So a result has the same bits for any number of workers, and a row's has the same bits in any batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["LOW_BITS", "PAGE", "Tree", "code_pieces", "row_pieces"]

LOW_BITS = 6
"""The low bits of a code lie along the lanes of a block: 64 states."""

PAGE = 64
"""Blocks that are summed one after the other before their sum joins the piece's: keeps rounding chains short."""

_SMALLEST, _MANY, _LARGEST = 12, 12, 16
"""A piece has at least 2**12 codes, at most 2**16, between them a 2**12th of the cube, for prompt interrupts."""

ROWS = 512
"""Rows of x in one piece: their sums stay in the nearest caches."""

T = TypeVar("T")


def code_pieces(latents: int) -> range:
    """The first codes of the consecutive pieces of {0,1}^K; the range's step is the number of codes in each."""
    bits = min(latents, max(_SMALLEST, min(latents - _MANY, _LARGEST)))
    return range(0, 1 << latents, 1 << bits)


def row_pieces(rows: int) -> list[slice]:
    """Consecutive slices of at most ROWS rows."""
    return [slice(start, min(start + ROWS, rows)) for start in range(0, rows, ROWS)]


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
