"""Archives of .npy arrays (.npz), hostile until validated: nothing is inflated before it is known to be wanted."""

from __future__ import annotations

import io
import struct
import sys
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from .checks import FileFormatError, check_fits, one_line, quoted
from .npy import MAGIC, NpyHeader, read_header

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What NumPy writes; what else zipfile knows fails in ways of its own, and inflates without a limit."""
_ENCRYPTED = 1
_LONGEST_DIRECTORY = 1 << 22  # bytes, some 30 000 members
_PIECE = 1 << 20

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
        raise FileFormatError(f"{name}: a truncated or damaged .npz archive ({one_line(error, 200)})") from None


class _Limited:
    """A file of which at most `most` bytes are read at a time: zipfile takes a directory of any size in one piece."""

    def __init__(self, file: IO[bytes], most: int) -> None:
        self._file, self.most = file, most
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if size > self.most:
            raise zipfile.BadZipFile(f"its directory takes {size} bytes, wanted at most {self.most}")
        return self._file.read(size)


def open_archive(name: str, file: IO[bytes]) -> zipfile.ZipFile:
    """An archive of which every member can be read a little at a time, under a name of its own.

    Raises FileFormatError, naming the file `name`, for any other.
    """
    with damage_named(name):
        limited: Any = _Limited(file, _LONGEST_DIRECTORY)
        archive = zipfile.ZipFile(limited)
    limited.most = sys.maxsize
    names = set()
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if member.compress_type not in _METHODS:
            raise FileFormatError(
                f"{name}: array {quoted(key)}: compressed by an unknown method, wanted one written by numpy.savez"
            )
        if member.flag_bits & _ENCRYPTED:
            raise FileFormatError(f"{name}: array {quoted(key)}: encrypted, wanted one written by numpy.savez")
        if key in names:
            raise FileFormatError(f"{name}: holds the array {quoted(key)} twice, wanted it once")
        names.add(key)
    return archive


class Member(NamedTuple):
    """An array in an open archive, not yet read. name: of the file; what: of the array, for messages."""

    archive: zipfile.ZipFile
    name: str
    what: str
    info: zipfile.ZipInfo

    def layout(self) -> NpyHeader:
        """What the array's header says, which is all that is read. Raises FileFormatError where it is damaged."""
        with damage_named(self.name), self.archive.open(self.info) as stream:
            return read_header(self.what, stream)

    def read(self, dtype: str = "<f8") -> NDArray[Any]:
        """The array, which is of this dtype and takes up its whole member, or a FileFormatError."""
        with damage_named(self.name), self.archive.open(self.info) as stream:
            layout = read_header(self.what, stream)
            if layout.dtype != np.dtype(dtype):
                raise FileFormatError(
                    f"{self.what}: holds an array of dtype {layout.dtype}; wanted {np.dtype(dtype).name}"
                )
            rest = self.info.file_size - layout.offset
            if rest != layout.size:  # the member's checksum is that of all its bytes
                raise FileFormatError(
                    f"{self.what}: {rest} bytes for an array of shape {layout.shape}, which takes {layout.size}; the "
                    "file is cut short or damaged"
                )
            data = bytearray(layout.size)
            place = memoryview(data)
            while place:
                count = cast(io.BufferedIOBase, stream).readinto(place[:_PIECE])
                if count == 0:
                    raise FileFormatError(f"{self.what}: cut short; the file is truncated or damaged")
                place = place[count:]
        flat: NDArray[Any] = np.frombuffer(data, dtype)
        return flat.reshape(layout.shape, order="F" if layout.fortran else "C")


def read_index(name: str, file: io.BufferedReader, wanted: str) -> dict[str, Member]:
    """Every array of the archive by name, none of them read; `wanted` says in messages what the file should be.

    Raises FileFormatError for all that is no sound archive, and where the arrays do not fit into memory together.
    """
    start = file.peek(6)[:6]
    if not start.startswith(b"PK"):
        kind = "a single .npy array" if start.startswith(MAGIC) else "no .npz archive"
        if start[:1] == b"\x80":
            kind = "a Python pickle, which is never loaded"
        raise FileFormatError(f"{name}: this is {kind}; wanted {wanted}")
    archive = open_archive(name, file)
    size = sum(info.file_size for info in archive.infolist())
    check_fits(f"{name}: its arrays", size, "wanted a smaller file", FileFormatError)
    keys = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    return {key: Member(archive, name, f"{name}: array {quoted(key)}", info) for key, info in keys.items()}
