"""Data to learn from: equal rows merged with their weights, and minibatches that a seed alone determines."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, as_weights, check_choice
from ..inference.missing import Mask, Missing, join, split
from ..types import Bits, Floats


class Batch(NamedTuple):
    """Rows x (n, L) and weights (n,) that sum to 1.

    observed: (n, L), which bits are observed, None for all; x is 0 where one is not, and such a 0 tells nothing of the
    model: it belongs in no p(x | z). q sees it.
    """

    x: Bits
    weights: Floats
    observed: Mask | None = None

    def floats(self) -> Floats:
        """The rows as 0.0, 1.0 and, where a bit is not observed, NaN, (n, L): what forgets to ask gets NaN."""
        return join(self.x, self.observed).astype(np.float64)


class Data:
    """Rows of zeros and ones with weights, (N, L) and (N,).

    observed: (N, L), which bits are observed, None for all; with missing="marginalise" some may be missing, where x
    is 0 then. distinct: the rows without repetition, (U, L), in order of first appearance, equal if the same bits are
    observed, too; inverse: (N,), where each row is among them. Raises ValueError or TypeError for an x that is not
    binary or has no rows, and for weights that are negative or all zero; messages name `name`.
    """

    def __init__(
        self, name: str, x: ArrayLike, weights: ArrayLike | None = None, columns: int | None = None,
        missing: Missing = "refuse",
    ) -> None:  # fmt: skip
        self.observed: Mask | None = None
        if check_choice("missing", missing, ("marginalise", "refuse")) == "marginalise":
            self.x, observed = split(x, columns, name)
            self.observed = None if observed.all() else observed
        else:
            self.x = as_binary(name, x, columns)
        if self.x.size == 0:
            raise ValueError(f"{name}: got shape {self.x.shape}, wanted at least one row and one column")
        self.weighted = weights is not None
        checked = as_weights(weights, len(self.x))
        if (checked < 0).any() or not checked.sum() > 0:
            raise ValueError("weights: got negative ones, or none above 0; wanted how often each row counts")
        self.weights = checked / checked.sum()
        told = self.x if self.observed is None else np.concatenate([self.x, self.observed], axis=1)
        packed = np.packbits(told, axis=1)
        keys = packed.view(np.dtype((np.void, packed.shape[1]))).ravel()
        _, appears, inverse = np.unique(keys, return_index=True, return_inverse=True)
        order = np.argsort(appears)
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        self._first, self.inverse = appears[order], rank[inverse.ravel()]
        self.distinct = self.x[self._first]

    def __len__(self) -> int:
        return len(self.x)

    def part(self, rows: NDArray[np.int64]) -> Data:
        """These rows alone, in this order, equally weighted."""
        missing: Missing = "refuse" if self.observed is None else "marginalise"
        return Data("x", join(self.x[rows], self._observed(rows)), missing=missing)

    def merged(self) -> Batch:
        """All rows, equal ones once."""
        weights = np.bincount(self.inverse, self.weights, len(self.distinct)).astype(np.float64)
        return Batch(self.distinct, weights, self._observed(self._first))

    def batch(self, index: NDArray[np.int64], merge: bool) -> Batch:
        """The rows of this index, equally weighted; with `merge` equal ones once."""
        if not merge:
            return Batch(self.x[index], np.full(len(index), 1.0 / len(index)), self._observed(index))
        kinds, counts = np.unique(self.inverse[index], return_counts=True)
        return Batch(self.distinct[kinds], counts / len(index), self._observed(self._first[kinds]))

    def _observed(self, index: NDArray[np.int64]) -> Mask | None:
        return None if self.observed is None else self.observed[index]

    def epoch(self, seed: int, epoch: int, size: int) -> Iterator[NDArray[np.int64]]:
        """The indices of each minibatch of an epoch: parts of a permutation, or draws where rows have weights."""
        rng = np.random.default_rng([seed, epoch])
        if self.weighted:
            order = np.searchsorted(np.cumsum(self.weights)[:-1], rng.random(len(self)), side="right")
        else:
            order = rng.permutation(len(self))
        return (order[begin : begin + size] for begin in range(0, len(order), size))

    def digest(self) -> str:
        """The SHA-256 of rows and weights, and of what is missing, in hexadecimal."""
        content = hashlib.sha256(repr(self.x.shape).encode())
        content.update(self.x.tobytes())
        content.update(self.weights.tobytes())
        if self.observed is not None:
            content.update(self.observed.tobytes())
        return content.hexdigest()
