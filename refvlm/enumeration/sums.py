"""Sums over {0,1}^K: cut into pieces, computed on an engine, merged along fixed trees.

Arrays in, arrays out. A `Source` supplies the decoder piece by piece, because the logits of a decoder that is
no MLP are computed where the pieces are handed out, never in a worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..types import Bits, Floats
from . import kernels
from .blocks import MANY_ROWS, Route, Tree, code_pieces, output_pieces, row_pieces
from .engine import Engine
from .problem import Decoder, Groups, Precise, Prior, Recognition, Response, Stack
from .tasks import ByKernel, Columns, Merge, Piece, Summation, Task, add, task, task_of_several

R = TypeVar("R")


class Source(Protocol):
    """Where a decoder's arrays come from.

    network: an MLP that float64 serves, else None. foreign: `piece` calls somebody's own code.
    """

    latents: int
    observed: int
    foreign: bool
    network: Decoder | None

    def piece(self, code: int, count: int, *, with_units: bool = False) -> Decoder | Precise:
        """The decoder for `count` codes from `code`; with_units: its hidden units are needed as well."""

    def pullback(self, code: int, flat: Floats, logit_slopes: Floats) -> Floats:
        """The decoder's flat gradient from a kernel's: `flat` itself, or what `logit_slopes` imply."""

    def named(self, flat: Floats) -> dict[str, Floats]:
        """A flat gradient by the names of the decoder's parameters."""


def _each(
    source: Source, slices: list[slice], task_of: Callable[[slice], Task[R]], engine: Engine
) -> Iterator[tuple[int, int, R]]:
    """(code piece, row piece, result) of every slice of rows over the whole cut.

    One slice after the other, for a worker gets what its pieces share once; but all slices over the same codes follow
    each other where a piece brings logits of its own.
    """
    codes = code_pieces(source.latents)
    tasks = [task_of(rows) for rows in slices]

    def pieces() -> Iterator[Piece[R]]:
        if source.foreign:
            for code in codes:
                decoder = source.piece(code, codes.step)
                for each in tasks:
                    yield each, decoder, code, codes.step
            return
        decoder = source.piece(codes.start, codes.step)
        for each in tasks:
            for code in codes:
                yield each, decoder, code, codes.step

    for index, result in engine.run(pieces(), len(codes) * len(slices), foreign=source.foreign):
        row_piece, code_piece = divmod(index, len(codes))
        if source.foreign:
            code_piece, row_piece = divmod(index, len(slices))
        yield code_piece, row_piece, result


def per_row(
    source: Source,
    rows: int,
    task_of: Callable[[slice], Task[Any]],
    engine: Engine,
    route: Route = Route.STREAMED,
    merge: Merge = add,
) -> list[Floats]:
    """A kernel's results for every row, (N, ...) each, added over all codes, or merged by `merge`.

    task_of: from some of the rows to the kernel and its arguments for these.
    """
    sums = [Summation(task_of(part), merge) for part in row_pieces(rows, route)]
    results = engine.fold(sums, code_pieces(source.latents, route), source.piece, foreign=source.foreign)
    return [np.concatenate(column) for column in zip(*results, strict=True)]


def _over_outputs(decoder: Decoder, tasks: list[Task[R]], engine: Engine) -> Iterator[tuple[int, int, R]]:
    """(piece of the outputs, number of the task, result) of one task after the other, over all of a linear decoder."""
    octets = output_pieces(int(decoder.sizes[-1]))

    def pieces() -> Iterator[Piece[R]]:
        for each in tasks:
            for first in octets:
                yield each, decoder, first, min(octets.step, octets.stop - first)

    for index, result in engine.run(pieces(), len(octets) * len(tasks)):
        yield index % len(octets), index // len(octets), result


def by_characteristic(decoder: Decoder, q: Recognition, x: Bits, engine: Engine) -> Floats:
    """E_q[log p(x_n | z)], (N,), of a linear decoder, without a sum over codes: `kernels/characteristic.py`."""
    slices, count = row_pieces(len(x)), len(output_pieces(x.shape[1]))
    tasks = [task(kernels.characteristic.reconstruction, q.of(rows), x[rows]) for rows in slices]
    trees: list[Tree[Floats]] = [Tree(count, np.add) for _ in slices]
    for outputs, rows, result in _over_outputs(decoder, tasks, engine):
        trees[rows].add(outputs, result)
    return np.concatenate([tree.result for tree in trees])


def gradient_by_characteristic(
    decoder: Decoder, q: Recognition, x: Bits, row_weights: Floats, engine: Engine
) -> tuple[Floats, Floats]:
    """The flat gradient of sum_n w_n E_q[log p(x_n | z)], and each row's derivatives by q(z_k = 1), (N, K)."""
    slices, count = row_pieces(len(x)), len(output_pieces(x.shape[1]))
    kernel = kernels.characteristic.gradient
    tasks = [task(kernel, q.of(rows), x[rows], row_weights[rows]) for rows in slices]
    by_outputs: list[Tree[Floats]] = [Tree(len(slices), np.add) for _ in range(count)]
    by_rows: list[Tree[Floats]] = [Tree(count, np.add) for _ in slices]
    for outputs, rows, (flat, by_probability) in _over_outputs(decoder, tasks, engine):
        by_outputs[outputs].add(rows, flat)
        by_rows[rows].add(outputs, by_probability)
    latents, observed = decoder.sizes
    padded = np.concatenate([tree.result for tree in by_outputs], axis=1).reshape(latents + 1, -1)
    return padded[:, :observed].ravel(), np.concatenate([tree.result for tree in by_rows])


class Boxes(NamedTuple):
    """Boxes with a majorant each, of any rows, in order: see `kernels/tangent.py` for the meanings.

    rows, states: (B,). fixed: (B, K). log_u, size: (B,). logits, points, curvatures: (B, K). Where they are those of
    `kernels/layered.py`, K counts the bits of all layers, logits are the tilts, and curvatures the gains.
    """

    rows: NDArray[np.int64]
    states: NDArray[np.int64]
    fixed: NDArray[np.int8]
    log_u: Floats
    size: Floats
    logits: Floats
    points: Floats
    curvatures: Floats

    def take(self, which: slice | NDArray[np.int64]) -> Boxes:
        """Some of them, in this order."""
        return Boxes._make(column[which] for column in self)

    def and_those(self, others: Boxes) -> Boxes:
        """These, then the others."""
        return Boxes._make(np.concatenate([column, others[n]]) for n, column in enumerate(self))


def majorants(
    work: Task[tuple[Floats, Floats, Floats, Floats, Floats]], subject: Decoder | Stack, boxes: Boxes, size: int,
    engine: Engine,
) -> Boxes:  # fmt: skip
    """The boxes with the majorants that a kernel finds for them, `size` of them in a piece."""
    firsts = range(0, len(boxes.rows), size)
    pieces = ((work, subject, first, min(size, len(boxes.rows) - first)) for first in firsts)
    results = dict(engine.run(pieces, len(firsts)))
    if not results:
        return boxes
    columns = zip(*(results[n] for n in range(len(firsts))), strict=True)
    return Boxes(boxes.rows, boxes.states, boxes.fixed, *(np.concatenate(column) for column in columns))


class LogSum(NamedTuple):
    """p(x_n) = total * 2**power, eq. (3), (N,) each.

    moment: (N, K), the part of total from codes with z_k = 1, or (N, 0). route: (N,), the Route each row took; the
    power of a TABLED row is 0. groups: of each piece of the rows, where all of them went by tables, else nothing.
    """

    power: Floats
    total: Floats
    moment: Floats
    route: NDArray[np.int64]
    groups: tuple[Groups, ...] = ()


def no_sum(rows: int) -> LogSum:
    """A stand-in for p(x_n), where the weights are q's."""
    return LogSum(np.zeros(rows), np.ones(rows), np.zeros((rows, 0)), np.full(rows, Route.STREAMED))


def log_sum(source: Source, prior: Prior, x: Bits, engine: Engine, moments: bool = False) -> LogSum:
    """p(x_n), eq. (3), and its moments where they are asked for.

    Many rows go by tables first; those whose sum comes out so small that underflow might show are summed again, as a
    few rows are: by the linear kernel where it serves, else in the log domain.
    """
    first = first_sum(source, prior, x, engine, moments)
    again = np.flatnonzero((first.route == Route.TABLED) & (first.total < kernels.constants.TABLE_FLOOR))
    if len(again) == 0:
        return first
    few = _of_few(source, prior, x[again], engine, moments)
    first.power[again], first.total[again], first.moment[again], first.route[again] = few[:4]
    return first._replace(groups=())


def first_sum(source: Source, prior: Prior, x: Bits, engine: Engine, moments: bool = False) -> LogSum:
    """`log_sum` without the second one, which a TABLED row needs where its total is below TABLE_FLOOR."""
    if len(x) < MANY_ROWS:
        return _of_few(source, prior, x, engine, moments)

    groups = []

    def task_of(rows: slice) -> Task[tuple[Floats, Floats]]:
        groups.append(kernels.groups.pack(x[rows], rows.stop - rows.start))
        return task_of_several(kernels.tables.tabled_marginal, prior, groups[-1], moments)

    total, moment = per_row(source, len(x), task_of, engine, Route.TABLED)
    return LogSum(np.zeros(len(x)), total, moment, np.full(len(x), Route.TABLED), tuple(groups))


def _of_few(source: Source, prior: Prior, x: Bits, engine: Engine, moments: bool) -> LogSum:
    """`log_sum` of rows one by one; the decoder's work is done once for all of them."""
    low, together = _linear_split(source, prior)

    def task_of(rows: slice) -> Task[tuple[Floats, Floats, Floats]]:
        if low > 0:
            return task(kernels.linear.linear_marginal, prior, x[rows], moments, low, together)
        return task(kernels.marginal.marginal, prior, x[rows], moments)

    route = Route.LINEAR if low > 0 else Route.STREAMED
    power, total, moment = per_row(source, len(x), task_of, engine, route, ByKernel(kernels.marginal.merge))
    return LogSum(power, total, moment, np.full(len(x), route))


def _linear_split(source: Source, prior: Prior) -> tuple[int, int]:
    """The linear kernel's low bits and rows to a division, (0, 0) where it cannot serve: see `kernels/linear.py`."""
    if source.network is None or len(source.network.sizes) > 2 or len(prior.table) > 0:
        return 0, 0
    bits = code_pieces(source.latents, Route.LINEAR).step.bit_length() - 1
    return kernels.linear.linear_split(source.network, bits)


def piece_sums(source: Source, prior: Prior, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """p(x_n, z) summed over each code piece: (power, total), (pieces, N) each."""
    count, slices = len(code_pieces(source.latents)), row_pieces(len(x))
    power, total = np.empty((count, len(x))), np.empty((count, len(x)))
    results = _each(source, slices, lambda rows: task(kernels.marginal.marginal, prior, x[rows], False), engine)
    for code_piece, row_piece, result in results:
        power[code_piece, slices[row_piece]], total[code_piece, slices[row_piece]] = result[:2]
    return power, total


def joint_table(source: Source, prior: Prior, x: Bits, engine: Engine) -> Floats:
    """log p(x_n, z) for every code, (N, 2**K)."""
    table = np.empty((len(x), 1 << source.latents))
    codes, slices = code_pieces(source.latents), row_pieces(len(x))
    results = _each(source, slices, lambda rows: task(kernels.joint.joint_table, prior, x[rows]), engine)
    for code_piece, row_piece, result in results:
        table[slices[row_piece], codes[code_piece] : codes[code_piece] + codes.step] = result
    return table


def _in_order(a: Columns, b: Columns) -> Columns:
    """Of gradients: flat ones and masses of bits are added, masses and slopes of codes follow each other."""
    behind = (
        left if len(right) == 0 else np.concatenate((left, right)) for left, right in zip(a[2:], b[2:], strict=True)
    )
    return (*add(a[:2], b[:2]), *behind)


def gradient(
    source: Source, prior: Prior, q: Recognition, x: Bits, row_weights: Floats, sums: LogSum, engine: Engine,
    response: Response | None = None,
) -> tuple[Floats, Floats, Floats]:  # fmt: skip
    """The decoder's flat gradient, the mass of each bit (K,), and, for a table prior, of each code (2**K,).

    response: what q's weights are multiplied by, None for 1. See `kernels/gradient.py`. Tabled rows come first. Codes
    merge for each piece of the rows, then these pieces.
    """
    power, total, all_tabled = sums.power, sums.total, int((sums.route == Route.TABLED).sum())
    if 0 < all_tabled < len(x):
        order = np.argsort(sums.route != Route.TABLED, kind="stable")
        x, row_weights, power, total = x[order], row_weights[order], power[order], total[order]
    responses = Response(np.zeros((len(x), 0)), np.zeros((len(x), 0)), False) if response is None else response
    codes, slices = code_pieces(source.latents, Route.TABLED), row_pieces(len(x), Route.TABLED)

    def task_of(rows: slice) -> Task[tuple[Floats, Floats, Floats, Floats]]:
        part, tabled = x[rows], min(max(all_tabled - rows.start, 0), rows.stop - rows.start)
        groups = sums.groups[slices.index(rows)] if sums.groups else kernels.groups.pack(part, tabled)
        kernel, factor = kernels.gradient.gradient, responses.of(rows)
        return task_of_several(
            kernel, prior, q.of(rows), part, groups, row_weights[rows], power[rows], total[rows], tabled, factor
        )

    def pulled_back(code: int, columns: Columns) -> Columns:
        flat, bit_mass, code_mass, logit_slopes = columns
        return source.pullback(code, flat, logit_slopes), bit_mass, code_mass, logit_slopes[:0]

    parts = engine.fold(
        [Summation(task_of(rows), _in_order) for rows in slices], codes, partial(source.piece, with_units=True),
        foreign=source.foreign, received=pulled_back if source.foreign else None,
    )  # fmt: skip
    tree: Tree[Columns] = Tree(len(slices), add)
    for number, columns in enumerate(parts):
        tree.add(number, columns[:3])
    flat, bit_mass, code_mass = tree.result
    return flat, bit_mass, code_mass
