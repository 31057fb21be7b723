"""Damage for what programs read: bytes, JSON, arrays by name, archives, each from a `random.Random`.

Every function takes good input and gives worse input: a few changes at random places, sizes and names that hostile
files have among them. The same generator gives the same damage.
"""

from __future__ import annotations

import copy
import io
import json
import math
import struct
import warnings
import zipfile
from random import Random
from typing import Any

import numpy as np

LONG_RUN = 1 << 16
INTEGERS = (0, 1, -1, 2, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**53 + 1, 2**62, 2**63 - 1, 2**63, 2**64, -(2**63))
NUMBERS = (*INTEGERS, 10**30, 10**400, -(10**400), 0.5, -0.0, 1e308, -1e-308, math.nan, math.inf, -math.inf, True)
FLOATS = (0.0, -0.0, 1.0, 2.0, 0.5, -1e-308, 1e18, 1e19, 1e308, -1e308, math.nan, math.inf, -math.inf)
NAMES = (
    "", "x", "x" * 100_000, "\x1b[2J\x07red", "two\nlines", "\r\x00end", "\u202egnp.", "../../etc/passwd",
    "\ud800", "\U000e0001" * 50, "model.decoder.weights.0", "a/b.weight", "header",
    "__metadata__", "module." * 3000, "*", "[!]", "1" * 400,
)  # fmt: skip
RAW = (
    "[" * 100_000, '{"a":' * 3000, "9" * 10_000, "-" + "9" * 400, "1e999", "NaN", "-Infinity", '"\\ud800"',
    '{"a":1,"a":2}', "[" + "0," * 30_000 + "0]", "[" + "[]," * 30_000 + "0]", "tru", "'a'", "\x00", "\ufeff1", "1 2",
    "{}" * 3, "",
)  # fmt: skip
"""JSON, and what only looks like it, that no value is written as."""
_HOLE = "the place of raw text"


def damaged(data: bytes, rng: Random, others: tuple[bytes, ...] = (b"",)) -> bytes:
    """The bytes after one to four changes; others: what may be spliced in."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        place, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        kind = rng.randrange(10)
        if kind <= 1 and data:  # one bit, or one byte
            place = min(place, len(data) - 1)
            byte = data[place] ^ (1 << rng.randrange(8)) if kind else rng.randrange(256)
            data = data[:place] + bytes([byte]) + data[place + 1 :]
        elif kind == 2:
            data = data[:place]
        elif kind == 3:
            data = data[:place] + data[end:]
        elif kind == 4:
            data = data[:end] + data[place:end] * rng.choice((1, 1, 2, 9)) + data[end:]
        elif kind == 5:
            other = rng.choice(others)
            data = data[:place] + other[rng.randrange(len(other) + 1) :]
        elif kind == 6:
            data = data[:place] + bytes([rng.randrange(256)]) * rng.choice((1, 8, 300, LONG_RUN)) + data[place:]
        elif kind == 7:
            field = (rng.choice(INTEGERS) & (2**64 - 1)).to_bytes(8, rng.choice(("little", "big")))
            width = rng.choice((2, 4, 8))
            data = data[:place] + field[:width] + data[place + width :]
        elif kind == 8:
            data = data[:place] + rng.choice((*NAMES, *RAW)).encode(errors="surrogatepass") + data[end:]
        else:
            data = data[:place] + data[end:] + data[place:end]
    return data


def changed(value: Any, rng: Random) -> Any:
    """A copy of nested dictionaries and lists in which one place is another: a value, a type, a name, more or less."""
    value = copy.deepcopy(value)
    parent, key = _place(value, rng)
    if parent is None:
        return _instead(value, rng)
    kind = rng.randrange(6)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent, dict):
        parent[rng.choice(NAMES)] = parent.pop(key)
    elif kind == 1:
        parent.insert(key, parent[key])
    elif kind == 2:
        other, there = _place(value, rng)
        parent[key] = copy.deepcopy(value if other is None else other[there])
    elif kind == 3 and isinstance(parent, dict):
        parent[rng.choice(NAMES)] = copy.deepcopy(parent[key])
    else:
        parent[key] = _instead(parent[key], rng)
    return value


def _place(value: Any, rng: Random) -> tuple[Any, Any]:
    """A container and a key in it, at any depth; (None, None) for the whole."""
    parent, key = None, None
    while isinstance(value, (dict, list)) and value and (parent is None or rng.random() < 0.75):
        parent, key = value, rng.choice(list(value) if isinstance(value, dict) else range(len(value)))
        value = parent[key]
    return parent, key


def _instead(value: Any, rng: Random) -> Any:
    """Something in a value's place."""
    if isinstance(value, np.ndarray) and rng.random() < 0.7:
        return changed_array(value, rng)
    if isinstance(value, str) and value and rng.random() < 0.5:
        return damaged(value.encode(errors="surrogatepass"), rng).decode(errors="replace")
    return copy.deepcopy(
        rng.choice((rng.choice(NUMBERS), rng.choice(NAMES), None, [], {}, [[]], {"a": {}}, [0, 1], _HOLE))
    )


def changed_array(array: np.ndarray, rng: Random) -> np.ndarray:
    """An array of another shape, type or content."""
    if array.dtype.kind not in "buif":
        return np.zeros((3, 5))
    kind = rng.randrange(7)
    if kind == 0:
        with np.errstate(all="ignore"):
            return array.astype(rng.choice(("f4", ">f8", "u1", "i8", "?", "c16", "U3", "O", "f2", "M8[s]")))
    if kind == 1:
        return array[..., None] if rng.random() < 0.5 else array.ravel()
    if kind == 2:
        return np.asfortranarray(array.T)
    if kind == 3:
        return array[: rng.randrange(len(array) + 1)] if array.ndim else array
    if kind == 4:
        return np.zeros(rng.choice([(), (0,), (0, 3), (1,) * 31, (7, 2), (1, 1, 1)]))
    array = array.astype(np.float64)
    if array.size:
        array.flat[rng.randrange(array.size)] = rng.choice(FLOATS)
    return array * rng.choice((1.0, 1e300, -1.0)) if kind == 5 and np.abs(array).max(initial=0.0) < 1e8 else array


def json_bytes(value: Any, rng: Random) -> bytes:
    """A value as JSON, or nearly so."""
    text = json.dumps(value, separators=rng.choice(((",", ":"), (", ", ": "))), ensure_ascii=rng.random() < 0.7)
    text = text.replace(json.dumps(_HOLE), rng.choice(RAW))
    start = rng.choice(("",) * 20 + ("\ufeff", " ", "\n", "\x00"))
    return (start + text).encode(errors="surrogatepass")


def npy_bytes(array: np.ndarray, rng: Random) -> bytes:
    """An array as .npy, at times with a header that lies."""
    if rng.random() < 0.5:
        held = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.lib.format.write_array(held, array, version=rng.choice((None, (1, 0), (2, 0))))
        return held.getvalue()
    shape = [*array.shape]
    if shape and rng.random() < 0.7:
        shape[rng.randrange(len(shape))] = rng.choice(INTEGERS)
    descr = repr(array.dtype.str) if rng.random() < 0.7 else rng.choice(
        ("'|O'", "'<f8,<f8'", "'V0'", "'S999999999'", "[('\\x1b[2J', '<f8')]", "('<f8', (9999, 9999))", "'<f16'",
         "None", "'<m8[s]'")
    )  # fmt: skip
    lengths = rng.choice(
        (repr(tuple(shape)), repr(tuple(shape)), repr(shape), "(True,)", "(" * 200, "(1.5,)", "(9**9**9,)")
    )
    header = f"{{'descr': {descr}, 'fortran_order': {rng.random() < 0.3}, 'shape': {lengths}, }}"
    text = header.encode().ljust(rng.choice((118, 118, 9000, 17000))) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + array.tobytes()


def rezipped(data: bytes, rng: Random) -> bytes:
    """An archive with the right checksums whose members, names or methods are others."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.randrange(len(members)) if members else 0
        name, content = members[at] if members else ("x.npy", b"")
        kind = rng.randrange(7)
        if kind == 0:
            del members[at : at + 1]
        elif kind == 1:
            name = rng.choice(NAMES)[:60_000].encode(errors="replace").decode()
        elif kind == 2:
            members.append((rng.choice((name, f"{name[:-4]}", "x.npy", "more.npy", "archive.zip")), content))
        elif kind == 3:
            content = damaged(content, rng, (members[0][1],) if members else (b"",))
        elif content.startswith(b"\x93NUMPY") and b"'|O'" not in content[:200]:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    array = np.load(io.BytesIO(content), allow_pickle=False)
                described = json.loads(array.tobytes()) if name == "header.npy" else None
            except Exception:  # one that has been damaged already
                continue
            if described is not None:
                array = np.frombuffer(json_bytes(changed(described, rng), rng), np.uint8)
                content = npy_bytes(array, rng) if kind == 4 else written(array)
            else:
                content = npy_bytes(changed_array(array, rng) if kind == 6 else array, rng)
        if kind and members:
            members[at] = (name, content)
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    method = rng.choices(methods, (8, 4, 1, 1))[0]
    held = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(held, "w", method) as archive:
        warnings.simplefilter("ignore")  # about names that are there twice
        for name, content in members:
            archive.writestr(name or "empty", content)
        archive.comment = b"c" * rng.choice((0, 0, 0, 5, 60_000))
    made = held.getvalue()
    return damaged(made, rng) if method in methods[2:] or rng.random() < 0.1 else made


def written(array: np.ndarray) -> bytes:
    """An array as NumPy writes it."""
    held = io.BytesIO()
    np.save(held, array)
    return held.getvalue()
