"""The one place where arguments are validated and where the messages about them are written.

Every message names the argument, what it got, what it wanted and, where that helps, how to fix it. The
errors are ValueError and TypeError, and for files `FileFormatError`, a ValueError.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .machine import available_memory
from .types import Bits, Floats

_BLOCK = 1 << 20  # cells
_LONGEST_SHOWN, _LONGEST_ERROR = 60, 2000
MISSING_REMEDY = (
    "functions with the argument missing sum such bits out with missing='marginalise'; otherwise leave these rows out"
)


class FileFormatError(ValueError):
    """A file that is not what it should be: truncated, foreign, pickled, or from a later version."""


def describe(value: object) -> str:
    """A short, single-line description of a value."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape} and dtype {value.dtype}"
    try:
        text = shortened(repr(value))
    except (RecursionError, ValueError):  # lists within lists without end, an integer of thousands of digits
        text = "..."
    return f"{type(value).__name__} {text}"


def quoted(text: str) -> str:
    """What a file or another program says, in quotes, printable, on one line and not too long."""
    shown = repr(text[:_LONGEST_SHOWN])
    whole = len(text) <= _LONGEST_SHOWN and len(shown) <= _LONGEST_SHOWN + 2
    return shown if whole else f"{shown[: _LONGEST_SHOWN - 3]}..."


def printable(text: str) -> str:
    """The text without the characters that a terminal obeys instead of showing."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def shortened(text: str, most: int = _LONGEST_SHOWN) -> str:
    """The text on one line of at most so many printable characters."""
    words = printable(" ".join(text.split()))
    return words if len(words) <= most else words[: most - 3] + "..."


def one_line(error: BaseException, most: int = _LONGEST_ERROR) -> str:
    """What an exception says, or at least its kind, on one printable line that is not too long."""
    return shortened(str(error), most) or type(error).__name__


def as_array(name: str, value: object) -> NDArray[Any]:
    """`value` as a real numeric array, or a TypeError that names the argument."""
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        raise ValueError(
            f"{name}: got {int(np.ma.getmaskarray(value).sum())} masked entries, wanted numbers everywhere"
        )
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError(f"{name}: got {describe(value)}, wanted a rectangular array ({error})") from None
    except (TypeError, RuntimeError) as error:  # a tensor that tracks gradients, or of a kind that NumPy has not
        raise TypeError(
            f"{name}: got {describe(value)}, wanted an array ({one_line(error)}); "
            "of a tensor pass tensor.detach().cpu().numpy()"
        ) from None
    if array.dtype.kind not in "buif":
        remedy = f"; if they are numbers, pass {name}.astype(float)" if array.dtype.kind in "OSU" else ""
        raise TypeError(f"{name}: got dtype {array.dtype}, wanted real numbers (bool, integer or float){remedy}")
    return array


def as_parameters(name: str, value: object, ndim: int, *, infinite: bool = False) -> Floats:
    """A read-only float64 copy of `value` with `ndim` axes, free of NaN and, unless `infinite`, of infinities."""
    array = as_array(name, value)
    if array.ndim != ndim:
        raise ValueError(f"{name}: got shape {array.shape}, wanted {ndim} {'axis' if ndim == 1 else 'axes'}")
    copy = np.array(array, dtype=np.float64, order="C")
    bad = np.isnan(copy) if infinite else ~np.isfinite(copy)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        wanted = "numbers, no NaN" if infinite else "finite numbers"
        raise ValueError(f"{name}: got {copy[where]} at index {where}, wanted {wanted}")
    copy.flags.writeable = False
    return copy


def as_logits(name: str, value: object, ndim: int) -> Floats:
    """A read-only float64 copy of Bernoulli logits: at most 1e18 in magnitude, or infinite."""
    logits = as_parameters(name, value, ndim, infinite=True)
    bad = np.isfinite(logits) & (np.abs(logits) > 1e18)
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(f"{name}: got {logits[where]} at index {where}, wanted |logit| <= 1e18, or infinite")
    return logits


def as_binary(name: str, value: object, columns: int | None, *, rows: int | None = None) -> Bits:
    """`value` as a C-ordered, writable uint8 array (rows, columns) of exact zeros and ones.

    Arrays, lists, frames of pandas without missing values, sparse matrices. Writable, because kernels would be compiled
    once more for arrays that are not.
    """
    array: Any = value if is_sparse(value) else as_array(name, _unwrapped(name, value))
    if array.ndim == 1:
        raise ValueError(f"{name}: got shape {array.shape}, wanted (rows, columns); for one row write {name}[None]")
    if array.ndim != 2:
        remedy = f"; images become rows by {name}.reshape(len({name}), -1)" if array.ndim > 2 else ""
        raise ValueError(f"{name}: got shape {array.shape}, wanted two axes (rows, columns){remedy}")
    if columns is not None and array.shape[1] != columns:
        raise ValueError(f"{name}: got shape {array.shape}, wanted {columns} columns, shape (rows, {columns})")
    if rows is not None and array.shape[0] != rows:
        raise ValueError(f"{name}: got {array.shape[0]} rows, wanted {rows}")
    if is_sparse(array):
        return _bits_of_sparse(name, array)
    _refuse_others(name, array)
    return np.require(array, np.uint8, ["C", "W"])


def _bits_of_sparse(name: str, value: Any) -> Bits:
    """The bits (rows, columns) of a sparse matrix; wider numbers are dense for a few rows at a time."""
    blocks = dense_blocks(name, value)  # refused here, where it is too large
    stored = value.tocoo()
    gone = np.isnan(stored.data) if stored.dtype.kind == "f" else np.zeros(0, np.bool_)
    if gone.any():
        missing = np.zeros(value.shape, np.bool_)
        missing[stored.row[gone], stored.col[gone]] = True
        _refuse_missing(name, missing)
    bits = np.empty(value.shape, np.uint8)
    for row, block in blocks:
        _refuse_others(name, block, row)
        bits[row : row + len(block)] = block
    return bits


def _refuse_others(name: str, array: NDArray[Any], start: int = 0) -> None:
    """Refuse all but 0 and 1. start: the number of the first row."""
    if array.dtype.kind in "bu" and array.max(initial=0) <= 1:  # one look instead of three
        return
    bad = (array != 0) & (array != 1)
    if bad.any():
        if array.dtype.kind == "f":
            _refuse_missing(name, np.isnan(array))
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"{name}: got {array[row, column]} at row {start + row}, column {column}, wanted exactly 0 or 1; "
            f"binarise first, for instance {threshold(name, array[bad])}"
        )


def _unwrapped(name: str, value: Any) -> object:
    """What stands in a masked array or a frame, if nothing is missing in it."""
    if isinstance(value, np.ma.MaskedArray):
        _refuse_missing(name, np.ma.getmaskarray(value))
        return np.ma.getdata(value)
    if is_frame(value):
        _refuse_missing(name, np.asarray(value.isna()))
        return (
            value.to_numpy(dtype=np.float64) if all(kind.kind in "buif" for kind in value.dtypes) else value.to_numpy()
        )
    return value


def is_sparse(value: object) -> bool:
    """Whether it is a sparse matrix or array of SciPy."""
    return all(hasattr(value, name) for name in ("tocsr", "toarray", "nnz", "ndim"))


def dense_blocks(name: str, value: Any) -> Iterator[tuple[int, NDArray[Any]]]:
    """(number of the first row, some rows, dense) of a sparse matrix of two axes, all of which fit as bytes."""
    rows, columns = value.shape
    check_fits(f"{name}: as an array", rows * columns, "pass fewer rows at a time")
    compressed, step = value.tocsr(), max(1, _BLOCK // max(columns, 1))
    return ((row, as_array(name, compressed[row : row + step].toarray())) for row in range(0, rows, step))


def is_frame(value: object) -> bool:
    """Whether it is a data frame as pandas has them, whose missing values are not NumPy's."""
    return all(hasattr(value, name) for name in ("isna", "to_numpy", "columns", "dtypes"))


def _refuse_missing(name: str, missing: NDArray[np.bool_]) -> None:
    if missing.any():
        axes = ("row", "column", "axis 2", "axis 3")
        where = ", ".join(f"{axis} {i}" for axis, i in zip(axes, np.argwhere(missing)[0], strict=False))
        raise ValueError(
            f"{name}: got a missing value at {where} ({int(missing.sum())} in all), wanted exactly 0 or 1; "
            f"{MISSING_REMEDY}"
        )


def threshold(name: str, values: NDArray[Any]) -> str:
    """The line that makes bits of values like these: grey levels, spins, probabilities."""
    if values.min() < 0:
        return f"({name} > 0)"
    return f"({name} >= 128)" if values.max() > 16 else f"({name} >= 0.5)"


def as_weights(value: object, rows: int) -> Floats:
    """The weights of a sum over rows, shape (rows,); None means ones."""
    if value is None:
        return np.ones(rows)
    weights = as_parameters("weights", value, 1)
    if len(weights) != rows:
        raise ValueError(f"weights: got shape {weights.shape}, wanted one number for each of the {rows} rows of x")
    return weights


def check_choice(name: str, value: object, choices: Sequence[str]) -> str:
    """`value` if it is one of `choices`."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name}: got {describe(value)}, wanted one of {', '.join(map(repr, choices))}")
    return value


def check_count(name: str, value: object, least: int) -> int:
    """`value` as an int that is at least `least`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name}: got {describe(value)}, wanted an integer")
    if value < least:
        raise ValueError(f"{name}: got {value}, wanted at least {least}")
    return int(value)


def check_number(name: str, value: object, least: float, most: float) -> float:
    """`value` as a float if it is one number between these."""
    array = as_array(name, value)
    if array.ndim > 0 or array.dtype.kind not in "iuf" or not least <= float(array) <= most:
        wanted = f"of at least {least:g}" if most == float("inf") else f"between {least:g} and {most:g}"
        raise ValueError(f"{name}: got {describe(value)}, wanted a number {wanted}")
    return float(array)


def as_counts(name: str, value: object, rows: int) -> NDArray[np.int64]:
    """A number for each row, (N,) int64, from one that is at least 1, or from one for each that is at least 0."""
    counts = as_array(name, value)
    if counts.ndim == 0:
        return np.full(rows, check_count(name, value, 1), np.int64)
    if counts.shape != (rows,) or not (np.issubdtype(counts.dtype, np.integer) or counts.size == 0):
        raise ValueError(
            f"{name}: got {counts.dtype} of shape {counts.shape}, wanted an integer, or one for each row, ({rows},)"
        )
    if (counts < 0).any():
        raise ValueError(f"{name}: got {counts.min()} for row {int(counts.argmin())}, wanted at least 0")
    return counts.astype(np.int64)


def check_generator(name: str, value: object) -> np.random.Generator:
    """`value` if it is a numpy Generator."""
    if not isinstance(value, np.random.Generator):
        raise TypeError(
            f"{name}: got {describe(value)}, wanted a numpy.random.Generator; "
            "make one with numpy.random.default_rng(seed)"
        )
    return value


def human_size(size: int) -> str:
    """A number of bytes for people: '2.0 GiB'."""
    amount = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.3g} EiB"


def check_fits(what: str, size: int, remedy: str, kind: type[ValueError] = ValueError) -> None:
    """Refuse, before any work and with an error of this kind, a table of `size` bytes that will not fit into memory."""
    have = available_memory()
    if size > have:
        raise kind(f"{what} would need {human_size(size)}, and {human_size(have)} are available; {remedy}")
