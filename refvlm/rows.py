"""Rows of data from files: .npy, .npz, text, or standard input, a chunk at a time.

Files are hostile until validated: nothing is unpickled, sizes are checked before memory is taken, and every cell is
exactly 0 or 1, or the error says which is not.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from types import TracebackType
from typing import IO, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .archives import damage_named, open_archive
from .checks import MISSING_REMEDY, FileFormatError, check_count, check_fits, describe, one_line, threshold
from .npy import MAGIC, read_header
from .text_rows import read_text
from .types import Bits

_ZIP, _GZIP, _PICKLE, _BOM = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b", b"\x80", b"\xef\xbb\xbf"
_FOREIGN = {
    b"BZh91A": "packed by bzip2; unpack it first, or use gzip",
    b"\xfd7zXZ": "packed by xz; unpack it first, or use gzip",
    b"\x28\xb5\x2f\xfd": "packed by zstd; unpack it first, or use gzip",
    b"\x89HDF": "an HDF5 file; save its array with numpy.save",
    b"PAR1\x15": "a Parquet file; save its values with numpy.save",
    b"\xff\xfe": "text in UTF-16; save it as UTF-8",
    b"\xfe\xff": "text in UTF-16; save it as UTF-8",
    _PICKLE: "a Python pickle, which is never loaded; wanted .npy, .npz or .csv",
}


class RowReader:
    """Iterates once over uint8 arrays (n, L), 1 <= n <= chunk, of exact zeros and ones; a context manager.

    name: of the source, for messages. rows: how many there are, or None where only reading to the end tells.
    columns: L, or None where there is no row to tell. header: the lines of text that were skipped before the rows, each
    quoted and shortened. Reading raises FileFormatError or OSError.
    """

    def __init__(
        self, name: str, chunks: Iterator[Bits], rows: int | None, columns: int | None, header: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.header = header
        self.rows = rows
        self.columns = columns
        self._chunks = chunks
        self._held = ExitStack()

    def __iter__(self) -> Iterator[Bits]:
        return self._chunks

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what is open."""
        self._held.close()


def open_rows(source: str | os.PathLike[str], *, chunk: int = 4096, columns: int | None = None) -> RowReader:
    """The rows of `source`, at most `chunk` at a time.

    source: a path, or "-" for standard input. What a file holds is decided by its first bytes: a .npy array (N, L) of
    any numeric type; a .npz archive with one array, or one named x; otherwise text, of which `read_text` says what may
    stand in it. Standard input may be .npy or text. Either may be packed by gzip.
    columns: L, if it is known what it has to be.

    Raises FileFormatError, naming the source, the row (from 0; in text also the line, from 1) and what was wanted, here
    or while reading, and OSError where the source cannot be read.
    """
    check_count("chunk", chunk, 1)
    with ExitStack() as held:
        if os.fspath(source) == "-":
            reader = _open("standard input", _standard_input(), False, held, chunk, columns)
        else:
            file = held.enter_context(open(source, "rb"))
            reader = _open(os.fspath(source), file, os.path.isfile(source), held, chunk, columns)
        reader._held = held.pop_all()
    return reader


def _open(name: str, file: IO[bytes], seekable: bool, held: ExitStack, chunk: int, columns: int | None) -> RowReader:
    """A reader of `file`; whatever else it opens is added to `held`."""
    head = file.read(6)
    packed = head.startswith(_GZIP)
    if packed and not name.lower().endswith((".npy", ".npz")):
        file = held.enter_context(io.BufferedReader(_Unpacked(name, _Joined(head, file))))
        head, seekable = file.read(6), False
        if head.startswith((*_ZIP, _GZIP)):
            raise FileFormatError(f"{name}: is an archive packed once more, by gzip; unpack it first")
    _check_kind(name, head)
    if head.startswith(_ZIP):
        stream, layout = _open_npz(name, file, held, columns)
        return RowReader(name, _named_damage(name, _stream(name, stream, layout, chunk)), layout.rows, layout.columns)
    if head == MAGIC:
        layout = _read_layout(name, head, file, columns)
        if not seekable:
            return RowReader(name, _stream(name, file, layout, chunk), layout.rows, layout.columns)
        _check_size(name, layout, os.fstat(file.fileno()).st_size - layout.offset)
        chunks = _by_columns(name, file, layout, chunk) if layout.fortran else _stream(name, file, layout, chunk)
        return RowReader(name, chunks, layout.rows, layout.columns)
    text = read_text(name, _Joined(head.removeprefix(_BOM), file), columns, chunk)
    return RowReader(name, text.chunks, None, text.columns, text.header)


class _Unpacked(io.RawIOBase):
    """What a gzip stream holds, a little at a time; all that damage surfaces as is a FileFormatError."""

    def __init__(self, name: str, packed: io.RawIOBase) -> None:
        self._name = name
        self._file = gzip.GzipFile(fileobj=io.BufferedReader(packed))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read1(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise FileFormatError(
                f"{self._name}: cut short or damaged, as gzip sees it ({one_line(error, 200)})"
            ) from None
        buffer[: len(data)] = data
        return len(data)


class _Joined(io.RawIOBase):
    """Bytes already read, then the rest of the stream: standard input cannot be rewound."""

    def __init__(self, head: bytes, rest: IO[bytes]) -> None:
        self._head = head
        self._read = getattr(rest, "read1", rest.read)  # what is there now, without waiting for more

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head or self._read(len(buffer))
        data, self._head = data[: len(buffer)], data[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _standard_input() -> IO[bytes]:
    if sys.stdin is None or sys.stdin.closed:
        raise OSError("standard input is closed; give a file name instead of -")
    return sys.stdin.buffer


def _check_kind(name: str, head: bytes) -> None:
    """Refuse what is not what its name says, and pickles under any name."""
    for magic, what in _FOREIGN.items():
        if head.startswith(magic):
            raise FileFormatError(f"{name}: is {what}")
    for suffix, magics in ((".npy", (MAGIC,)), (".npz", _ZIP)):
        if name.lower().removesuffix(".gz").endswith(suffix) and not head.startswith(magics):
            raise FileFormatError(
                f"{name}: got the first bytes {head!r}, wanted those of a {suffix} file ({magics[0]!r})"
            )


class _Layout(NamedTuple):
    """What the header of an .npy array says, and how many bytes it took."""

    rows: int
    columns: int
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def row_size(self) -> int:
        return self.columns * self.dtype.itemsize

    @property
    def size(self) -> int:
        return self.rows * self.row_size


def _read_layout(name: str, head: bytes, stream: IO[bytes], columns: int | None) -> _Layout:
    """The layout of an .npy array whose first six bytes are `head`, if it can be rows of zeros and ones."""
    shape, fortran, dtype, offset = read_header(name, stream, head)
    if len(shape) != 2:
        raise FileFormatError(f"{name}: got an array of shape {shape}, wanted two axes (rows, columns)")
    rows, width = shape
    if width < 1:
        raise FileFormatError(f"{name}: got an array of shape {shape}, wanted at least one column")
    if columns is not None and width != columns:
        raise FileFormatError(f"{name}: got an array of shape {shape}, wanted {columns} columns")
    if dtype.kind == "b":
        dtype = np.dtype(np.uint8)  # so that a byte of 2 in it is found
    return _Layout(rows, width, fortran, dtype, offset)


def _check_size(name: str, layout: _Layout, size: int) -> None:
    """`size` is what follows the header; sizes are Python integers, so that absurd ones do not overflow."""
    shape = (layout.rows, layout.columns)
    if size < layout.size:
        raise FileFormatError(
            f"{name}: holds {size} bytes after the header, wanted {layout.size} for shape {shape}; it is cut short"
        )
    if size > layout.size:
        raise FileFormatError(f"{name}: holds {size - layout.size} bytes after its array; wanted exactly one array")


def _by_columns(name: str, file: IO[bytes], layout: _Layout, chunk: int) -> Iterator[Bits]:
    """Chunks of an array that lies column by column in a file. Not mapped: one that shrinks would end the process."""
    _check_fits(name, min(chunk, layout.rows) * layout.row_size)
    size = layout.dtype.itemsize
    for row in range(0, layout.rows, chunk):
        block: NDArray[Any] = np.empty((min(chunk, layout.rows - row), layout.columns), layout.dtype)
        for column in range(layout.columns):
            file.seek(layout.offset + (column * layout.rows + row) * size)
            data = file.read(len(block) * size)
            if len(data) < len(block) * size:
                raise FileFormatError(f"{name}: is cut short; the file has shrunk since it was opened")
            block[:, column] = np.frombuffer(data, layout.dtype)
        yield _binary(name, block, row)


def _stream(name: str, stream: IO[bytes], layout: _Layout, chunk: int) -> Iterator[Bits]:
    """Chunks of an array that can only be read from front to end; column by column it has to be read whole."""
    size = min(chunk, layout.rows) * layout.row_size
    _check_fits(name, layout.size if layout.fortran else size)
    step = max(layout.rows, 1) if layout.fortran else chunk
    for row in range(0, layout.rows, step):
        rows = min(step, layout.rows - row)
        data = stream.read(rows * layout.row_size)
        if len(data) < rows * layout.row_size:
            _check_size(name, layout, row * layout.row_size + len(data))
        flat: NDArray[Any] = np.frombuffer(data, layout.dtype)
        whole = flat.reshape((rows, layout.columns), order="F" if layout.fortran else "C")
        for start in range(0, rows, chunk):
            yield _binary(name, whole[start : start + chunk], row + start)
    if more := len(stream.read(1)):
        _check_size(name, layout, layout.size + more)


def _check_fits(name: str, size: int) -> None:
    remedy = "read fewer rows at a time, or use a row-major .npy file"
    check_fits(f"{name}: a chunk of its rows", size, remedy, FileFormatError)


def _binary(name: str, rows: NDArray[Any], number: int) -> Bits:
    """Rows as uint8, or an error about the first cell that is neither 0 nor 1."""
    bad = (rows != 0) & (rows != 1)
    if bad.any():
        row, column = (int(index) for index in np.argwhere(bad)[0])
        missing = np.isnan(rows[bad].astype(np.float64))
        remedy = f"from Python {MISSING_REMEDY}"
        if not missing.any():
            remedy = f"binarise first, for instance {threshold('x', rows[bad])}"
        elif not np.isnan(rows[row, column]):
            row, column = (int(index) for index in np.argwhere(bad)[missing.argmax()])
        what = ", a missing value" if missing.any() else ""
        raise FileFormatError(
            f"{name}: got {rows[row, column]} in row {number + row} (from 0), column {column}{what}, wanted exactly 0 "
            f"or 1; {remedy}"
        )
    return np.array(rows, dtype=np.uint8, order="C")


def _open_npz(name: str, file: IO[bytes], held: ExitStack, columns: int | None) -> tuple[IO[bytes], _Layout]:
    """The stream of the archive's array, its header read."""
    if not file.seekable():
        raise FileFormatError(f"{name}: got a .npz archive, which cannot be read from a pipe; give its file name")
    archive = held.enter_context(open_archive(name, file))
    member = _member(name, archive.infolist())
    with damage_named(name):
        stream = held.enter_context(archive.open(member))
        layout = _read_layout(name, stream.read(6), stream, columns)
    _check_size(name, layout, member.file_size - layout.offset)
    return stream, layout


def _member(name: str, members: list[zipfile.ZipInfo]) -> zipfile.ZipInfo:
    """The only array of an archive, or the one named x."""
    arrays = {member.filename.removesuffix(".npy"): member for member in members if member.filename.endswith(".npy")}
    if "x" in arrays:
        return arrays["x"]
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    what = "no array" if not arrays else f"the arrays {', '.join(map(describe, list(arrays)[:5]))}"
    hint = "; a model file is no data" if any(key.startswith("model.") for key in arrays) else ""
    raise FileFormatError(f"{name}: holds {what}, wanted a single one, or one named x{hint}")


def _named_damage(name: str, chunks: Iterator[Bits]) -> Iterator[Bits]:
    while True:
        with damage_named(name):
            rows = next(chunks, None)
        if rows is None:
            return
        yield rows
