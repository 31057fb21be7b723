"""What a journal holds of a sum, as an engine that computes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce

from .blocks import Tree
from .engine import Engine
from .tasks import Columns, Subject, Summation


class NothingYet(Exception):
    """Of a sum that is needed nothing, or not enough, has been finished."""


@dataclass(frozen=True)
class SoFar(Engine):
    """Merges what is there, in order, instead of summing. whole: all of it has to be there."""

    whole: bool = False
    parts: list[int] = field(default_factory=list)
    """Of each sum, how many finished subtrees were merged."""
    pieces: list[tuple[int, int]] = field(default_factory=list)
    """Of each sum, how many pieces are finished, and how many there are."""

    def fold(
        self,
        sums: Sequence[Summation],
        codes: range,
        subject_of: Callable[[int, int], Subject],
        *,
        foreign: bool,
        received: Callable[[int, Columns], Columns] | None = None,
    ) -> list[Columns]:
        """What the finished parts of each sum merge to; see `Engine.fold`. Raises NothingYet."""
        assert self.journal is not None
        trees: list[Tree[Columns]] = [Tree(len(codes), each.merge) for each in sums]
        self.journal.ledger(trees, sums, codes, None if foreign else subject_of(codes.start, codes.step))
        for tree in trees:
            done = sum(node.leaves for node, _ in tree.waiting)
            if done == 0 or (self.whole and done < len(codes)):
                raise NothingYet
            self.parts.append(len(tree.waiting))
            self.pieces.append((done, len(codes)))
        return [
            reduce(each.merge, (columns for _, columns in tree.waiting)) for each, tree in zip(sums, trees, strict=True)
        ]
