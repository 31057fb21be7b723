"""Arrays in .npy format, hostile until validated: their headers."""

from __future__ import annotations

import math
import re
import warnings
from typing import IO, Any, NamedTuple

import numpy as np

from .checks import FileFormatError, describe, quoted, shortened

MAGIC = b"\x93NUMPY"
_LONGEST = 1 << 14
_MOST_AXES = 32
_LARGEST = 1 << 62
_NUMBER = r"[ \n]*-?(?:0|[1-9][0-9]{0,39})L?[ \n]*"
_FIELD = (
    r"[ \n]*'(descr|fortran_order|shape)'[ \n]*:[ \n]*"
    rf"(True|False|'[<>=|]?[a-zA-Z?][0-9]{{0,4}}'|\((?:(?:{_NUMBER},)+(?:{_NUMBER})?)?[ \n]*\))[ \n]*+"
)
_FIELDS = re.compile(rf"\{{{_FIELD},{_FIELD},{_FIELD},?[ \n]*\}}[ \n]*")
"""A header as NumPy and others write it, the L of Python 2 after numbers included. NumPy's own reader lets Python parse
it, and where that fails its tokenizer, which some ten thousand characters keep busy for a minute."""


class NpyHeader(NamedTuple):
    """shape; fortran: whether the array lies column by column; dtype: of real numbers; offset: where data start."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_header(name: str, stream: IO[bytes], start: bytes = b"") -> NpyHeader:
    """The header at the beginning of `stream`, of which the bytes in `start` have been read already.

    Raises FileFormatError, naming `name`, for all but a readable header of at most 16 KiB about an array of real
    numbers that could exist, and for pickled objects.
    """
    start += stream.read(len(MAGIC) + 2 - len(start))
    width = {b"\x01\x00": 2, b"\x02\x00": 4}.get(start[len(MAGIC) :])
    if start[: len(MAGIC)] != MAGIC or width is None:
        raise FileFormatError(f"{name}: got the first bytes {start!r}, wanted an array in .npy format 1.0 or 2.0")
    field = stream.read(width)
    length = int.from_bytes(field, "little")
    if len(field) < width or length > _LONGEST:
        raise FileFormatError(f"{name}: got an .npy header of {length} bytes, wanted one of at most {_LONGEST}")
    text = stream.read(length)
    shape, fortran, descr = _read_fields(name, text if len(text) == length else b"")
    try:
        with warnings.catch_warnings():  # about spellings that NumPy gives up
            warnings.simplefilter("ignore")
            dtype = np.dtype(descr)
    except (TypeError, ValueError):
        raise FileFormatError(f"{name}: got the dtype {descr!r}, wanted real numbers") from None
    if dtype.hasobject:
        raise FileFormatError(f"{name}: holds pickled Python objects, which are never loaded; wanted plain numbers")
    if dtype.kind not in "buif":
        raise FileFormatError(
            f"{name}: got dtype {shortened(str(dtype))}, wanted real numbers (bool, integer or float)"
        )
    lengths = [max(length, 1) for length in shape]
    if len(shape) > _MOST_AXES or min(shape, default=0) < 0 or math.prod(lengths) * dtype.itemsize > _LARGEST:
        raise FileFormatError(
            f"{name}: got an array of shape {describe(shape)}, wanted at most {_MOST_AXES} axes, no negative "
            f"size and at most {_LARGEST} bytes"
        )
    return NpyHeader(shape, fortran, dtype, 8 + width + length)


def _read_fields(name: str, text: bytes) -> tuple[tuple[int, ...], bool, str]:
    """shape, fortran_order and descr of a header, all three as it states them."""
    found = _FIELDS.fullmatch(text.decode("latin-1"))
    fields = {} if found is None else dict(zip(found.groups()[::2], found.groups()[1::2], strict=True))
    shape, fortran, descr = (fields.get(key, "") for key in ("shape", "fortran_order", "descr"))
    if not (shape.startswith("(") and fortran in ("True", "False") and descr.startswith("'")):
        shown = quoted(" ".join(text.decode("latin-1").split()))
        raise FileFormatError(
            f"{name}: an .npy header that cannot be read: got {shown}, wanted real numbers and "
            "their shape as NumPy writes them"
        )
    lengths = tuple(int(length) for length in re.findall(r"-?[0-9]+", shape))
    return lengths, fortran == "True", descr[1:-1]
