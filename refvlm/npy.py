"""Arrays in .npy format and archives of them, hostile until validated: their headers, and what is wrong with them."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import numpy as np

from .checks import FileFormatError, one_line

MAGIC = b"\x93NUMPY"
_LONGEST = 1 << 14


class NpyHeader(NamedTuple):
    """shape; fortran: whether the array lies column by column; dtype, never of objects; offset: where data start."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int


def read_header(name: str, stream: IO[bytes], start: bytes = b"") -> NpyHeader:
    """The header at the beginning of `stream`, of which the bytes in `start` have been read already.

    Raises FileFormatError, naming `name`, for all but a readable header of at most 16 KiB, and for pickled objects.
    """
    start += stream.read(len(MAGIC) + 2 - len(start))
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(start[len(MAGIC) :])
    if start[: len(MAGIC)] != MAGIC or width is None:
        raise FileFormatError(f"{name}: got the first bytes {start!r}, wanted an array in .npy format 1.0 or 2.0")
    field = stream.read(width)
    length = int.from_bytes(field, "little")
    if len(field) < width or length > _LONGEST:
        raise FileFormatError(f"{name}: got an .npy header of {length} bytes, wanted one of at most {_LONGEST}")
    header = io.BytesIO(field + stream.read(length))
    read = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        with warnings.catch_warnings():  # about files from Python 2, which are welcome
            warnings.simplefilter("ignore")
            shape, fortran, dtype = read(header)
    except Exception as error:  # a hostile header surfaces as whatever the tokenizer or the parser met
        raise FileFormatError(f"{name}: an .npy header that cannot be read ({one_line(error)[:200]})") from None
    if dtype.hasobject:
        raise FileFormatError(f"{name}: holds pickled Python objects, which are never loaded; wanted plain numbers")
    return NpyHeader(shape, fortran, dtype, 8 + width + length)


_DAMAGE = (  # a wrong offset in it is an OSError or an OverflowError, a wrong flag a RuntimeError
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, OSError, OverflowError, struct.error
)  # fmt: skip


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Make whatever a damaged .npz archive surfaces as in the block a FileFormatError about the file."""
    try:
        yield
    except FileFormatError:
        raise
    except _DAMAGE as error:
        raise FileFormatError(f"{name}: a truncated or damaged .npz archive ({one_line(error)[:200]})") from None
