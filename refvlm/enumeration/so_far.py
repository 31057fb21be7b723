"""What a journal holds of a sum, as an engine that sums nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce

from .engine import Engine
from .tasks import Columns, Received, SubjectOf, Summation


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
        subject_of: SubjectOf,
        *,
        foreign: bool,
        received: Received | None = None,
    ) -> list[Columns]:
        """What the finished parts of each sum merge to; see `Engine.fold`. Raises NothingYet."""
        trees, _ = self.taken_up(sums, codes, subject_of, foreign, received)
        for tree in trees:
            done = sum(node.leaves for node, _ in tree.waiting)
            if done == 0 or (self.whole and done < len(codes)):
                raise NothingYet
            self.parts.append(len(tree.waiting))
            self.pieces.append((done, len(codes)))
        return [
            reduce(each.merge, (columns for _, columns in tree.waiting)) for each, tree in zip(sums, trees, strict=True)
        ]
