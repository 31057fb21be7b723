"""The sums over {0,1}^K by name: cut into pieces, computed on an engine, merged along fixed trees.

Arrays in, arrays out. A `Source` supplies the decoder piece by piece, because the logits of a decoder that is
no MLP are computed where the pieces are handed out, never in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .blocks import Tree, code_pieces, row_pieces
from .engine import Engine
from .problem import Decoder, Prior, Recognition

__all__ = ["Source", "divergence", "gradient", "joint_table", "log_sum", "moments", "piece_sums", "reconstruction"]

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]


class Source(Protocol):
    """Where a decoder's arrays come from."""

    latents: int
    observed: int

    def piece(self, first: int, count: int) -> Decoder:
        """The decoder for `count` codes from `first`."""

    def pull(self, first: int, flat: Floats, logit_slopes: Floats) -> Floats:
        """The decoder's flat gradient from a kernel's: `flat` itself, or what `logit_slopes` imply."""


def _run(
    name: str, source: Source, rows: int, arguments: Callable[[slice], tuple[Any, ...]], engine: Engine
) -> Iterator[tuple[int, int, Any]]:
    """(code piece, row piece, result) of kernel(decoder, *arguments(rows), first, count) over the whole cut."""
    codes, slices = code_pieces(source.latents), row_pieces(rows)
    shares = [arguments(part) for part in slices]

    def pieces() -> Iterator[tuple[Any, ...]]:
        for first in codes:
            decoder = source.piece(first, codes.step)
            for share in shares:
                yield (decoder, *share, first, codes.step)

    for index, result in engine.run(name, pieces(), len(codes) * len(slices)):
        yield index // len(slices), index % len(slices), result


def _by_row(
    name: str,
    source: Source,
    rows: int,
    arguments: Callable[[slice], tuple[Any, ...]],
    combine: Callable[[tuple[Floats, ...], tuple[Floats, ...]], tuple[Floats, ...]],
    engine: Engine,
) -> list[Floats]:
    """Merge per-row results over the code pieces, then put the row pieces back together."""
    trees: list[Tree[tuple[Floats, ...]]] = [Tree(len(code_pieces(source.latents)), combine) for _ in row_pieces(rows)]
    for code, part, result in _run(name, source, rows, arguments, engine):
        trees[part].add(code, result if isinstance(result, tuple) else (result,))
    return [np.concatenate(column) for column in zip(*(tree.result for tree in trees), strict=True)]


def _add(a: tuple[Floats, ...], b: tuple[Floats, ...]) -> tuple[Floats, ...]:
    return tuple(left + right for left, right in zip(a, b, strict=True))


def _share(q: Recognition, rows: slice) -> Recognition:
    return Recognition(q.probability[rows], q.log_probability[rows])


def log_sum(source: Source, prior: Prior, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """p(x_n) = total * 2**power, eq. (3): (power, total), (N,) each."""
    merge = kernels.get("merge")
    power, total = _by_row(
        "marginal", source, len(x), lambda rows: (prior, x[rows]), lambda a, b: merge(*a, *b), engine
    )
    return power, total


def piece_sums(source: Source, prior: Prior, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """`log_sum` before the code pieces are merged: (power, total), (pieces, N) each."""
    codes, parts = code_pieces(source.latents), row_pieces(len(x))
    power, total = np.empty((len(codes), len(x))), np.empty((len(codes), len(x)))
    for code, part, result in _run("marginal", source, len(x), lambda rows: (prior, x[rows]), engine):
        power[code, parts[part]], total[code, parts[part]] = result
    return power, total


def joint_table(source: Source, prior: Prior, x: Bits, engine: Engine) -> Floats:
    """log p(x_n, z) for every code, (N, 2**K)."""
    table = np.empty((len(x), 1 << source.latents))
    codes, parts = code_pieces(source.latents), row_pieces(len(x))
    for code, part, result in _run("joint_table", source, len(x), lambda rows: (prior, x[rows]), engine):
        table[parts[part], codes[code] : codes[code] + codes.step] = result
    return table


def moments(
    source: Source, prior: Prior, q: Recognition, x: Bits, power: Floats, total: Floats, engine: Engine
) -> tuple[Floats, Floats]:
    """Posterior means (q empty), or q's moments of log p(x_n, z): see `kernels/moments.py`. (N, K) and (N,)."""
    moment, mass = _by_row(
        "moments",
        source,
        len(x),
        lambda rows: (prior, _share(q, rows), x[rows], power[rows], total[rows]),
        _add,
        engine,
    )
    return moment, mass


def reconstruction(source: Source, q: Recognition, x: Bits, engine: Engine) -> Floats:
    """E_q[log p(x_n | z)], (N,)."""
    (likelihood,) = _by_row("reconstruction", source, len(x), lambda rows: (_share(q, rows), x[rows]), _add, engine)
    return likelihood


def divergence(source: Source, prior: Prior, q: Recognition, x: Bits, log_px: Floats, engine: Engine) -> Floats:
    """KL(q || p(z | x_n)), eq. (7), (N,)."""
    (kl,) = _by_row(
        "divergence", source, len(x), lambda rows: (prior, _share(q, rows), x[rows], log_px[rows]), _add, engine
    )
    return kl


def gradient(
    source: Source,
    prior: Prior,
    q: Recognition,
    x: Bits,
    row_weights: Floats,
    power: Floats,
    total: Floats,
    engine: Engine,
) -> tuple[Floats, Floats, Floats]:
    """The decoder's flat gradient, the mass of each bit (K,), and, for a table prior, of each code (2**K,).

    See `kernels/gradient.py`. Rows merge within a code piece first, then the code pieces.
    """
    codes, parts = code_pieces(source.latents), row_pieces(len(x))
    code_mass = np.zeros(len(prior.table))
    inner: dict[int, Tree[tuple[Floats, ...]]] = {}
    left: dict[int, int] = {}
    outer: Tree[tuple[Floats, ...]] = Tree(len(codes), _add)

    def arguments(rows: slice) -> tuple[Any, ...]:
        return prior, _share(q, rows), x[rows], row_weights[rows], power[rows], total[rows]

    for code, part, result in _run("gradient", source, len(x), arguments, engine):
        inner.setdefault(code, Tree(len(parts), _add)).add(part, result)
        left[code] = left.get(code, len(parts)) - 1
        if left[code] == 0:
            del left[code]
            first = codes[code]
            flat, bit_mass, masses, logit_slopes = inner.pop(code).result
            code_mass[first : first + len(masses)] = masses
            outer.add(code, (source.pull(first, flat, logit_slopes), bit_mass))
    flat, bit_mass = outer.result
    return flat, bit_mass, code_mass
