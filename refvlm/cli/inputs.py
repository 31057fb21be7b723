"""MODEL and DATA as the user names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import numpy as np

from ..checks import FileFormatError, check_fits
from ..data import World, bars, digits, shifter
from ..enumeration.blocks import MANY_ROWS
from ..model.files import load
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import ChainPosterior, LayerwisePosterior, PerDatumPosterior, Posterior
from ..rows import RowReader, open_rows
from ..types import Bits, Floats
from .arguments import Rows
from .failure import reading
from .messages import say

PACKAGED: dict[str, Callable[[], Bits]] = {
    "bars": lambda: bars().images,
    "digits": digits,
    "shifter": lambda: shifter().images,
}

DATA_HELP = (
    "rows of zeros and ones: a .npy array (rows, columns), a .npz with one array or one named x, text with one row a "
    "line (0 and 1, 0.0 and 1.0 or False and True between commas, tabs, semicolons or blanks; a header is skipped), "
    ".npy or text packed by gzip, or - for standard input (.npy or text); or, where no file has that name, digits "
    "(1797 images), bars or shifter (every possible image of that world, once)"
)

_WORLDS: dict[str, Callable[[], World]] = {"bars": bars, "shifter": shifter}


def open_model(path: str) -> tuple[BernoulliLVM, Posterior | None]:
    """The model in a file, and its posterior or None."""
    with reading(path):
        return load(path)


def open_data(source: str, columns: int | None, chunk: int) -> RowReader:
    """The rows of DATA; a file wins over a packaged data set of the same name."""
    if source in PACKAGED and not os.path.exists(source):
        x = PACKAGED[source]()
        if columns is not None and x.shape[1] != columns:
            raise FileFormatError(f"{source}: has {x.shape[1]} columns, wanted {columns}, the model's observed bits")
        pieces = (x[row : row + chunk] for row in range(0, len(x), chunk))
        return RowReader(source, pieces, len(x), x.shape[1])
    with reading(source):
        reader = open_rows(source, chunk=chunk, columns=columns)
    if reader.header:
        more = ", ..." if len(reader.header) > 3 else ""
        say(f"skipped the header of {reader.name} ({', '.join(reader.header[:3])}{more})")
    return reader


def read_data(source: str, columns: int | None = None) -> tuple[Bits, Floats | None]:
    """All rows of DATA, and the probabilities of those of a packaged world, None for others."""
    if source in _WORLDS and not os.path.exists(source) and columns is None:
        world = _WORLDS[source]()
        return world.images, world.probabilities
    chunks, size = [], 0
    with open_data(source, columns, 1 << 16) as reader, reading(reader.name):
        for x in reader:
            chunks.append(x)
            size += x.nbytes  # once more at the end, in one piece
            check_fits(f"{reader.name}: its rows, from the first to here,", size, "give fewer rows", FileFormatError)
    return np.concatenate(chunks) if chunks else np.zeros((0, columns or 0), np.uint8), None


def chunks_of(reader: RowReader) -> Iterator[tuple[int, Bits]]:
    """(number of the first row, rows), never few rows at a time unless there are few in all.

    A row's bits depend on whether it comes among many (`MANY_ROWS`), so short chunks are joined: the output is the
    same for any size of chunk. Errors of reading are told from those of whatever is done with the rows.
    """
    row, chunks = 0, iter(reader)
    ready: list[Bits] = []
    behind: list[Bits] = []
    while True:
        with reading(reader.name):
            x = next(chunks, None)
        if x is None:
            break
        behind.append(x)
        if sum(map(len, behind)) >= MANY_ROWS:
            if ready:
                yield row, np.concatenate(ready)
                row += sum(map(len, ready))
            ready, behind = behind, []
    if ready or behind:
        yield row, np.concatenate(ready + behind)


def rows_of_posterior(posterior: Posterior, start: int, count: int) -> Posterior:
    """The posterior of `count` rows from row `start`."""
    if isinstance(posterior, (PerDatumPosterior, LayerwisePosterior)):
        return posterior.take(slice(start, start + count))
    if isinstance(posterior, ChainPosterior) and isinstance(posterior.stages[0], PerDatumPosterior):
        return ChainPosterior([posterior.stages[0].take(slice(start, start + count)), *posterior.stages[1:]])
    return posterior


def selected(reader: RowReader, wanted: Rows) -> Iterator[tuple[int, Bits]]:
    """(number of the first row, rows) of all chunks, or of the wanted part of them."""
    for number, x in chunks_of(reader):
        if wanted is None:
            yield number, x
            continue
        if number >= wanted.stop:
            return
        start, stop = max(wanted.start - number, 0), min(wanted.stop - number, len(x))
        if start < stop:
            yield number + start, x[start:stop]


def check_rows(posterior: Posterior | None, rows: int | None, part: bool, *, at_least: int = 0) -> None:
    """A per-datum posterior belongs to the rows it was made for: refuse data with more of them, or with fewer."""
    stages = () if posterior is None else posterior.stages
    stored = next((len(stage.logits) for stage in stages if isinstance(stage, PerDatumPosterior)), None)
    if stored is None:
        return
    if at_least > stored or (rows is not None and rows != stored and not part):
        got = f"at least {at_least}" if rows is None else str(rows)
        raise FileFormatError(
            f"DATA: got {got} rows, wanted {stored}: the model file has a posterior with one row for each row of its "
            "own data"
        )
