"""Arrays as the protocol writes them: a shape and the IEEE bits of every number, or plain nested lists.

    {"shape": [2, 3], "f64": ["3FF0000000000000", ...], "approx": [1.0, ...]}

f64 is row-major, 16 hexadecimal digits a number, most significant first; approx is for people (null where not
finite) and is never read. A plain list cannot say NaN or infinity: JSON has no word for them.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import quoted, shortened
from ..types import Floats

_BITS = re.compile(r"[0-9A-Fa-f]{16}")
_MOST_AXES, _MOST_NUMBERS = 4, 1 << 24


class MalformedError(ValueError):
    """Text that is not what the protocol wants; the message says where and what it wanted."""


def encode(value: ArrayLike) -> dict[str, Any]:
    """Returns the tensor object of an array."""
    array = np.asarray(value, dtype=np.float64)
    digits = array.astype(">f8").tobytes().hex().upper()
    return {
        "shape": list(array.shape),
        "f64": [digits[start : start + 16] for start in range(0, len(digits), 16)],
        "approx": [float(f"{leaf:.6g}") if math.isfinite(leaf) else None for leaf in array.ravel().tolist()],
    }


def decode(what: str, value: object, most: int = _MOST_NUMBERS) -> Floats:
    """Returns the array of a tensor object or of a plain nested list of at most so many numbers.

    `what` names it in errors. Raises MalformedError.
    """
    if isinstance(value, dict):
        return _from_bits(what, value, most)
    if isinstance(value, list):
        return _from_lists(what, value, most)
    raise MalformedError(
        f"{what}: got {json_kind(value)}, wanted a tensor object {{shape, f64}} or a list of numbers; one number alone "
        "is written [number]"
    )


def _from_bits(what: str, value: dict[str, Any], most: int) -> Floats:
    unknown = sorted(value.keys() - {"shape", "f64", "approx"})
    missing = sorted({"shape", "f64"} - value.keys())
    if unknown or missing:
        wrong = f"the unknown field {quoted(unknown[0])}" if unknown else f"no field {missing[0]!r}"
        raise MalformedError(f"{what}: got {wrong}, wanted a tensor object of shape, f64 and, if you like, approx")
    shape, digits = value["shape"], value["f64"]
    if not isinstance(shape, list) or not all(type(length) is int and length >= 0 for length in shape):
        raise MalformedError(f"{what}: shape: got {json_kind(shape)}, wanted a list of integers such as [4, 3]")
    count = _count(what, shape, most)
    if not isinstance(digits, list) or len(digits) != count:
        got = f"{len(digits)} strings" if isinstance(digits, list) else json_kind(digits)
        raise MalformedError(f"{what}: f64: got {got}, wanted {count}, the product of the shape {shape}")
    for index, text in enumerate(digits):
        if not isinstance(text, str) or not _BITS.fullmatch(text):
            raise MalformedError(
                f"{what}: f64[{index}]: got {json_kind(text)}, wanted 16 hexadecimal digits such as '3FF0000000000000'"
            )
    approx = value.get("approx")
    if approx is not None and (not isinstance(approx, list) or len(approx) != count):
        raise MalformedError(
            f"{what}: approx: got {json_kind(approx)}, wanted {count} numbers or nulls, or no such field"
        )
    return np.frombuffer(bytes.fromhex("".join(digits)), dtype=">f8").astype(np.float64).reshape(shape)


def _count(what: str, shape: list[int], most: int) -> int:
    """The numbers of a shape, if there may be so many."""
    count = math.prod(shape[: _MOST_AXES + 1])
    if len(shape) > _MOST_AXES or count > most or max(shape, default=0) > most:
        shown = shortened(str(shape[: _MOST_AXES + 1]))
        raise MalformedError(f"{what}: shape: got {shown}, wanted at most {_MOST_AXES} axes, {most} numbers")
    return count


def _from_lists(what: str, value: list[Any], most: int) -> Floats:
    shape: list[int] = []
    below: Any = value
    while isinstance(below, list):
        shape.append(len(below))
        if not below or len(shape) > _MOST_AXES:
            break
        below = below[0]
    if len(shape) > _MOST_AXES:
        raise MalformedError(f"{what}: got lists nested more than {_MOST_AXES} deep")
    _count(what, shape, most)
    leaves: list[float] = []
    _collect(what, value, shape, leaves)
    return np.array(leaves, dtype=np.float64).reshape(shape)


def _collect(what: str, value: Any, shape: list[int], leaves: list[float]) -> None:
    if not shape:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise MalformedError(
                f"{what}: got {json_kind(value)} among its numbers, wanted numbers in rectangular lists"
            )
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise MalformedError(f"{what}: got a number beyond float64 among its numbers; infinity has to be an f64")
        leaves.append(number)
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise MalformedError(f"{what}: got lists of unequal lengths, wanted them rectangular")
    for part in value:
        _collect(what, part, shape[1:], leaves)


def json_kind(value: object) -> str:
    """Returns what JSON calls a value; a short value itself."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else f"a list of {len(value)}"
    return quoted(value) if isinstance(value, str) else shortened(repr(value))
