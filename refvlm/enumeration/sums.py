"""The sums over {0,1}^K by name: cut into pieces, computed on an engine, merged along fixed trees.

Arrays in, arrays out. A `Source` supplies the decoder piece by piece, because the logits of a decoder that is
no MLP are computed where the pieces are handed out, never in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from . import kernels
from .blocks import MANY_ROWS, Road, Tree, code_pieces, row_pieces
from .engine import Engine
from .problem import Decoder, Precise, Prior, Recognition

__all__ = [
    "LogSum",
    "Source",
    "divergence",
    "gradient",
    "joint_table",
    "log_sum",
    "moments",
    "no_sum",
    "piece_sums",
    "reconstruction",
]

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]


class Source(Protocol):
    """Where a decoder's arrays come from.

    network: an MLP that float64 serves, else None. foreign: `piece` calls somebody's own code.
    """

    latents: int
    observed: int
    foreign: bool
    network: Decoder | None

    def piece(self, first: int, count: int) -> Decoder | Precise:
        """The decoder for `count` codes from `first`."""

    def pull(self, first: int, flat: Floats, logit_slopes: Floats) -> Floats:
        """The decoder's flat gradient from a kernel's: `flat` itself, or what `logit_slopes` imply."""


def _run(
    name: str,
    source: Source,
    slices: list[slice],
    arguments: Callable[[slice], tuple[Any, ...]],
    engine: Engine,
    road: Road = Road.STREAMED,
) -> Iterator[tuple[int, int, Any]]:
    """(code piece, row piece, result) of kernel(decoder, *arguments(rows), first, count) over the whole cut."""
    codes = code_pieces(source.latents, road)
    shares = [arguments(part) for part in slices]

    def pieces() -> Iterator[tuple[Any, ...]]:
        for first in codes:
            decoder = source.piece(first, codes.step)
            for share in shares:
                yield (decoder, *share, first, codes.step)

    for index, result in engine.run(name, pieces(), len(codes) * len(slices), foreign=source.foreign):
        yield index // len(slices), index % len(slices), result


def _by_row(
    name: str,
    source: Source,
    rows: int,
    arguments: Callable[[slice], tuple[Any, ...]],
    combine: Callable[[tuple[Floats, ...], tuple[Floats, ...]], tuple[Floats, ...]],
    engine: Engine,
    road: Road = Road.STREAMED,
) -> list[Floats]:
    """Merge per-row results over the code pieces, then put the row pieces back together."""
    slices, count = row_pieces(rows, road), len(code_pieces(source.latents, road))
    trees: list[Tree[tuple[Floats, ...]]] = [Tree(count, combine) for _ in slices]
    for code, part, result in _run(name, source, slices, arguments, engine, road):
        trees[part].add(code, result if isinstance(result, tuple) else (result,))
    return [np.concatenate(column) for column in zip(*(tree.result for tree in trees), strict=True)]


def _add(a: tuple[Floats, ...], b: tuple[Floats, ...]) -> tuple[Floats, ...]:
    return tuple(left + right for left, right in zip(a, b, strict=True))


def _share(q: Recognition, rows: slice) -> Recognition:
    return Recognition(q.probability[rows], q.log_probability[rows])


class LogSum(NamedTuple):
    """p(x_n) = total * 2**power, eq. (3), (N,) each.

    moment: (N, K), the part of total from codes with z_k = 1, or (N, 0). road: (N,), the Road each row took; the power
    of a TABLED row is 0.
    """

    power: Floats
    total: Floats
    moment: Floats
    road: NDArray[np.int64]


def no_sum(rows: int) -> LogSum:
    """In place of p(x_n), where the weights are q's."""
    return LogSum(np.zeros(rows), np.ones(rows), np.zeros((rows, 0)), np.full(rows, Road.STREAMED))


def log_sum(source: Source, prior: Prior, x: Bits, engine: Engine, moments: bool = False) -> LogSum:
    """p(x_n), eq. (3), and its moments where they are asked for.

    Many rows go by tables first; those whose sum comes out so small that underflow might show are summed again, as a
    few rows are: by the linear kernel where it serves, else in the log domain.
    """
    if len(x) < MANY_ROWS:
        return _of_few(source, prior, x, engine, moments)
    total, moment = _by_row(
        "tabled_marginal",
        source,
        len(x),
        lambda rows: (prior, kernels.get("pack")(x[rows]), rows.stop - rows.start, moments),
        _add,
        engine,
        road=Road.TABLED,
    )
    power, road = np.zeros(len(x)), np.full(len(x), Road.TABLED)
    again = np.flatnonzero(total < _TABLE_FLOOR)
    if len(again) > 0:
        power[again], total[again], moment[again], road[again] = _of_few(source, prior, x[again], engine, moments)
    return LogSum(power, total, moment, road)


_TABLE_FLOOR = 2.0**-900
"""By tables, terms below 2**-1022 are lost: at most 2**(K - 120) of a sum above this."""


def _of_few(source: Source, prior: Prior, x: Bits, engine: Engine, moments: bool) -> LogSum:
    """`log_sum` of rows one by one; what they share is the decoder's work."""
    merge = kernels.get("merge")
    split = _linear_split(source, prior)
    road, name = (Road.LINEAR, "linear_marginal") if split else (Road.STREAMED, "marginal")
    power, total, moment = _by_row(
        name,
        source,
        len(x),
        lambda rows: (prior, x[rows], moments, *split),
        lambda a, b: merge(*a, *b),
        engine,
        road=road,
    )
    return LogSum(power, total, moment, np.full(len(x), road))


def _linear_split(source: Source, prior: Prior) -> tuple[int, ...]:
    """What the linear kernel needs to know, or () where it cannot serve: see `kernels/linear.py`."""
    if source.network is None or len(source.network.sizes) > 2 or len(prior.table) > 0:
        return ()
    bits = code_pieces(source.latents, Road.LINEAR).step.bit_length() - 1
    low, together = kernels.get("linear_split")(source.network, bits)
    return (low, together) if low else ()


def piece_sums(source: Source, prior: Prior, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """p(x_n, z) summed over each code piece: (power, total), (pieces, N) each."""
    count, slices = len(code_pieces(source.latents)), row_pieces(len(x))
    power, total = np.empty((count, len(x))), np.empty((count, len(x)))
    for code, part, result in _run("marginal", source, slices, lambda rows: (prior, x[rows], False), engine):
        power[code, slices[part]], total[code, slices[part]] = result[:2]
    return power, total


def joint_table(source: Source, prior: Prior, x: Bits, engine: Engine) -> Floats:
    """log p(x_n, z) for every code, (N, 2**K)."""
    table = np.empty((len(x), 1 << source.latents))
    codes, slices = code_pieces(source.latents), row_pieces(len(x))
    for code, part, result in _run("joint_table", source, slices, lambda rows: (prior, x[rows]), engine):
        table[slices[part], codes[code] : codes[code] + codes.step] = result
    return table


def moments(source: Source, prior: Prior, q: Recognition, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """E_q[z_k log p(x_n, z)], (N, K), and E_q[log p(x_n, z)], (N,)."""
    moment, mass = _by_row("moments", source, len(x), lambda rows: (prior, _share(q, rows), x[rows]), _add, engine)
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
    source: Source, prior: Prior, q: Recognition, x: Bits, row_weights: Floats, sums: LogSum, engine: Engine
) -> tuple[Floats, Floats, Floats]:
    """The decoder's flat gradient, the mass of each bit (K,), and, for a table prior, of each code (2**K,).

    See `kernels/gradient.py`. The tabled rows come first. Rows merge within a code piece, then the code pieces.
    """
    order = np.argsort(sums.road != Road.TABLED, kind="stable")
    x, row_weights, power, total = x[order], row_weights[order], sums.power[order], sums.total[order]
    leading = int((sums.road == Road.TABLED).sum())
    codes, slices = code_pieces(source.latents, road=Road.TABLED), row_pieces(len(x), road=Road.TABLED)
    code_mass = np.zeros(len(prior.table))
    inner: dict[int, Tree[tuple[Floats, ...]]] = {}
    left: dict[int, int] = {}
    outer: Tree[tuple[Floats, ...]] = Tree(len(codes), _add)

    def arguments(rows: slice) -> tuple[Any, ...]:
        tabled = min(max(leading - rows.start, 0), rows.stop - rows.start)
        share = _share(q, rows) if len(q.probability) > 0 else q
        return prior, share, x[rows], kernels.get("pack")(x[rows]), row_weights[rows], power[rows], total[rows], tabled

    for code, part, result in _run("gradient", source, slices, arguments, engine, road=Road.TABLED):
        inner.setdefault(code, Tree(len(slices), _add)).add(part, result)
        left[code] = left.get(code, len(slices)) - 1
        if left[code] == 0:
            del left[code]
            first = codes[code]
            flat, bit_mass, masses, logit_slopes = inner.pop(code).result
            code_mass[first : first + len(masses)] = masses
            outer.add(code, (source.pull(first, flat, logit_slopes), bit_mass))
    flat, bit_mass = outer.result
    return flat, bit_mass, code_mass
