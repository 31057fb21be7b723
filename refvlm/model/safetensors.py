"""The safetensors format: the header's length in 8 bytes, the header in JSON, raw little-endian numbers.

Files are hostile until validated: lengths are held against the file's before anything is read, every byte of the
numbers must belong to exactly one tensor, and nothing is allocated from a size that the file only claims. No model is
known here.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..checks import FileFormatError, check_fits, describe, one_line, quoted, shortened
from ..strict_json import parse
from ..types import Floats

_LONGEST = 1 << 22  # some 30 000 tensors
_MOST_AXES = 32
_LARGEST = 1 << 62
_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1,
    "I16": 2, "U16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4, "I64": 8, "U64": 8, "F64": 8, "C64": 8,
}  # fmt: skip
"""Bytes of a number by the format's names; other tensors of a file may be of any of these."""
_FLOATS = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
_KINDS = (
    (b"PK", "a zip archive, such as torch.save and numpy.savez write"),
    (b"\x80", "a Python pickle, which is never loaded"),
    (b"version https://git-lfs", "a pointer of Git LFS in the file's place; `git lfs pull` fetches the file"),
)


class Tensor(NamedTuple):
    """A tensor in an open file, not yet read: `what` for messages, and the place of its first byte."""

    file: BinaryIO
    what: str
    dtype: str
    shape: tuple[int, ...]
    place: int

    def read(self) -> Floats:
        """Exactly its numbers, as float64 of `shape`. Raises FileFormatError if they are no floats."""
        if self.dtype not in _FLOATS:
            raise FileFormatError(f"{self.what}: got the dtype {self.dtype}, wanted {', '.join(_FLOATS)}")
        count = math.prod(self.shape)
        check_fits(self.what, 8 * count, "wanted a smaller one", FileFormatError)
        self.file.seek(self.place)
        raw = self.file.read(count * _BYTES[self.dtype])
        if len(raw) != count * _BYTES[self.dtype]:
            raise FileFormatError(f"{self.what}: cut short; the file has shrunk since it was opened")
        numbers: NDArray[Any] = np.frombuffer(raw, _FLOATS[self.dtype])
        if self.dtype == "BF16":  # the upper half of a float32
            numbers = (numbers.astype(np.uint32) << 16).view(np.float32)
        with np.errstate(invalid="ignore"):  # a signalling NaN, which whoever takes the numbers refuses
            return numbers.astype(np.float64).reshape(self.shape)


def recognised(start: bytes) -> bool:
    """Whether a file that starts with these, at least 9, bytes can only be meant as one."""
    return start[8:9] == b"{" and not any(start.startswith(magic) for magic, _ in _KINDS)


def read_index(name: str, file: BinaryIO) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Every tensor of the file by name, none of them read, and the metadata.

    Raises FileFormatError, naming the file `name`, for all but a file in which everything fits.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(8)
    length = int.from_bytes(start, "little")
    if size < 8 or length > min(size - 8, _LONGEST):
        start += file.read(32)
        kind = next((kind for magic, kind in _KINDS if start.startswith(magic)), "")
        if kind:
            raise FileFormatError(f"{name}: this is {kind}; wanted a safetensors file")
        raise FileFormatError(
            f"{name}: got a safetensors header of {length} bytes in a file of {size}, wanted one of at most {_LONGEST} "
            "that ends within the file; it is truncated, or of another format"
        )
    try:
        header = _parsed(file.read(length))
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise ValueError(f"__metadata__: got {describe(metadata)}, wanted strings by name")
        tensors = {key: _tensor(name, file, key, entry, 8 + length) for key, entry in header.items()}
        _check_places([(header[key]["data_offsets"], key) for key in tensors], size - 8 - length)
    except ValueError as error:
        raise FileFormatError(f"{name}: not a valid safetensors file: {one_line(error, 400)}") from None
    return tensors, metadata


def pieces(arrays: Mapping[str, Floats], metadata: Mapping[str, str]) -> Iterator[bytes]:
    """The bytes of a safetensors file with these float64 arrays in their order, one piece after the other."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    place = 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F64", "shape": list(array.shape), "data_offsets": [place, place + array.nbytes]}
        place += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that the numbers are aligned
    yield len(text).to_bytes(8, "little") + text
    for array in arrays.values():
        yield np.ascontiguousarray(array, "<f8").tobytes()


def _parsed(text: bytes) -> dict[str, Any]:
    """The header's object."""
    if not text.startswith(b"{"):
        raise ValueError(f"its header starts with {text[:8]!r}, wanted a JSON object")
    try:
        header: dict[str, Any] = parse(text)
    except ValueError as error:
        raise ValueError(f"its header {error}") from None
    return header


def _tensor(name: str, file: BinaryIO, key: str, entry: Any, start: int) -> Tensor:
    """One entry of the header, held against the format; the numbers of the file begin at the byte `start`."""
    what = f"tensor {quoted(key)}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{what}: got {describe(entry)}, wanted an object with dtype, shape, data_offsets")
    dtype, shape, places = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BYTES:
        raise ValueError(f"{what}: got the dtype {describe(dtype)}, wanted one of {', '.join(_FLOATS)}")
    if not _naturals(shape) or len(shape) > _MOST_AXES:
        raise ValueError(f"{what}: got the shape {describe(shape)}, wanted at most {_MOST_AXES} numbers of at least 0")
    if not _naturals(places) or len(places) != 2:
        raise ValueError(f"{what}: got the data_offsets {describe(places)}, wanted where it begins and where it ends")
    expected = math.prod(shape) * _BYTES[dtype]
    if places[1] - places[0] != expected:
        raise ValueError(
            f"{what}: got {places[1] - places[0]} bytes for the shape {describe(shape)} of {dtype}, wanted "
            f"{shortened(str(expected))}"
        )
    if (
        8 * math.prod(max(length, 1) for length in shape) > _LARGEST
    ):  # with a 0 in it, which makes it no smaller to NumPy
        raise ValueError(f"{what}: got the shape {describe(shape)}, wanted one of at most {_LARGEST} bytes")
    return Tensor(file, f"{name}: {what}", dtype, tuple(shape), start + places[0])


def _naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < _LARGEST for v in values)


def _check_places(places: list[tuple[list[int], str]], size: int) -> None:
    """Tensors lie one after the other and take up all `size` bytes, as the format demands."""
    ends = [([0, 0], "the beginning"), *sorted(places), ([size, size], "the end of the file")]
    for ((_, end), before), ((begin, _), after) in pairwise(ends):
        if begin != end:
            how = "overlap" if begin < end else "leave bytes between them"
            raise ValueError(
                f"{quoted(before)}, which ends at byte {end}, and {quoted(after)}, which begins at byte {begin}, {how}"
                "; wanted one after the other"
            )
