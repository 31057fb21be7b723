"""Finished parts of sums, in a file that grows: what an interrupted sum has done is not done again.

The file is a line that says what it is, and records, each with its length and a checksum. The first record says of
which model and kernels it is; the others are rows that were summed for, by their digest, and finished subtrees of a
sum's tree, under a digest of everything that the sum depends on: so a sum takes up what is its own, and its bits are
those of the sum that was never interrupted. A record that was being written when the machine stopped is cut off; any
other damage is refused. Nothing in the file is code.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from io import FileIO
from typing import Any, NamedTuple

import numpy as np

from .. import strict_json
from ..checks import FileFormatError
from ..digests import digest_of
from ..interrupts import finishing
from ..types import Floats
from . import kernels
from .blocks import Node, Tree
from .tasks import Columns, Merge, Subject, Summation

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_MAGIC = b"refvlm-journal 1\n"
_HEAD = struct.Struct("<Q16s")
_NODE = struct.Struct("<16sIBQB")
_ABOUT, _ROWS, _SUM = b"A", b"R", b"S"
_SECONDS = 2.0
"""Between two writes, at least; and a hundred times as long as a write takes."""
_LONGEST = 1 << 34
"""Bytes of a record."""


class _Known(NamedTuple):
    """A finished subtree of a sum."""

    node: Node
    columns: Columns


class Journal:
    """The open file. about: what it has to be about, by name; a file about something else is refused.

    read_only: look at what somebody else may be writing.
    """

    def __init__(self, path: str | os.PathLike[str], about: dict[str, str], *, read_only: bool = False) -> None:
        self.path, self._about = os.fspath(path), about | {"version of the kernels": kernels.compiling.DIGEST}
        self._rows: list[str] = []
        self._begun = 0
        self._known: dict[tuple[bytes, int], list[_Known]] = {}
        self._file = _opened(self.path, os.O_RDONLY if read_only else os.O_RDWR | os.O_CREAT)
        try:
            if not read_only:
                _lock(self._file, self.path)
            end = self._read()
            if not read_only:
                self._begin(end)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def holds_rows(self, digest: str) -> bool:
        """Whether sums for these rows have begun."""
        return digest in self._rows

    def begin_rows(self, digest: str) -> None:
        """The rows that the next sums are for; others than when the file was written are refused."""
        self._begun += 1
        if self._begun <= len(self._rows):
            if self._rows[self._begun - 1] != digest:
                raise ValueError(
                    f"checkpoint: {self.path} is of other data; wanted the same rows, in this order, or another file"
                )
            return
        self._rows.append(digest)
        self._append([_ROWS + digest.encode()])

    def ledger(
        self, trees: Sequence[Tree[Columns]], sums: Sequence[Summation], codes: range, subject: Subject | None
    ) -> Ledger:
        """The part of this file for these sums, whose trees `restore` gives what it knows.

        subject: what they are all of, None where the model that this file is about says so.
        """
        tasks = [(each.task.kernel, each.task.arguments, digest_of_merge(each)) for each in sums]
        key = bytes.fromhex(digest_of(subject, (codes.start, codes.stop, codes.step), tasks))
        return Ledger(self, key, trees, sums, len(codes))

    def knows(self, key: bytes, number: int) -> bool:
        """Whether parts of a sum are in the file."""
        return (key, number) in self._known

    def finished(self, key: bytes, number: int, count: int, like: Columns, merge: Merge) -> Iterator[_Known]:
        """Subtrees that do not overlap: what was merged later holds what was merged before.

        like: the result of a piece. What has other columns is refused: checksums are no proof against forgery.
        """
        accepted: set[Node] = set()
        for node, columns in sorted(self._known.get((key, number), []), key=lambda known: -known.node.level):
            shapes = [column.shape for column in columns]
            if node.first + node.leaves > count or shapes != _shapes(like, merge, node.leaves):
                raise self._damaged("a part of a sum that it cannot have")
            parents = (Node(level, node.first >> level) for level in range(node.level, count.bit_length()))
            if accepted.isdisjoint(parents):
                accepted.add(node)
                yield _Known(node, columns)

    def write(self, key: bytes, parts: list[tuple[int, Node, Columns]]) -> None:
        """Append finished subtrees."""
        self._append([_SUM + _packed(key, *part) for part in parts])

    def _append(self, records: list[bytes], lead: bytes = b"") -> None:
        end = self._file.tell()
        whole = lead + b"".join(_HEAD.pack(len(record), _checksum(record)) + record for record in records)
        rest = memoryview(whole)
        try:
            with finishing():
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
        except OSError as error:
            with suppress(OSError):
                self._file.seek(end)
                self._file.truncate()
            raise type(error)(
                f"checkpoint: {self.path} cannot be written ({error.strerror or error}); what was kept before is in "
                "it, so make room, and the same call goes on from there"
            ) from None

    def _begin(self, end: int) -> None:
        self._file.seek(end)
        self._file.truncate()
        if end == 0:
            self._append([_ABOUT + json.dumps(self._about).encode()], _MAGIC)

    def _read(self) -> int:
        """Take in what is there; where the good part of the file ends."""
        size = os.fstat(self._file.fileno()).st_size
        magic = self._file.read(len(_MAGIC))
        if magic != _MAGIC:
            if _MAGIC.startswith(magic):  # empty, or torn at once
                return 0
            raise FileFormatError(
                f"checkpoint: {self.path} is no journal of a sum; wanted one that refvlm began, or a new name"
            )
        at, first = len(_MAGIC), True
        while True:
            head = self._file.read(_HEAD.size)
            length, checksum = _HEAD.unpack(head) if len(head) == _HEAD.size else (_LONGEST, b"")
            end = at + _HEAD.size + length
            if end > size:  # torn
                return 0 if first else at
            record = self._file.read(length)
            if _checksum(record) != checksum:
                if end == size:
                    return 0 if first else at
                raise self._damaged(f"byte {at}")
            self._take_in(record, first)
            at, first = end, False

    def _take_in(self, record: bytes, first: bool) -> None:
        kind, content = record[:1], record[1:]
        try:
            if first != (kind == _ABOUT):
                raise ValueError
            if kind == _ABOUT:
                self._compare(strict_json.parse(content))
            elif kind == _ROWS:
                self._rows.append(content.decode("ascii"))
            elif kind == _SUM:
                key, number, known = _unpacked(content)
                self._known.setdefault((key, number), []).append(known)
            else:
                raise ValueError
        except _OtherJournal as error:
            raise ValueError(str(error)) from None
        except (ValueError, struct.error, OverflowError):
            raise self._damaged("a record that no refvlm writes") from None

    def _compare(self, about: object) -> None:
        if not isinstance(about, dict):
            raise ValueError
        for name, mine in self._about.items():
            if about.get(name) != mine:
                raise _OtherJournal(
                    f"checkpoint: {self.path} was begun with another {name}; wanted the same {name}, or another file"
                )

    def _damaged(self, where: str) -> FileFormatError:
        return FileFormatError(f"checkpoint: {self.path} is damaged ({where}); delete it to begin the sum anew")


class _OtherJournal(ValueError):
    """Of another sum."""


class Ledger:
    """The part of a journal for some sums, whose trees it keeps."""

    def __init__(
        self, journal: Journal, key: bytes, trees: Sequence[Tree[Columns]], sums: Sequence[Summation], count: int
    ) -> None:
        self.journal, self.key, self.trees, self._sums, self._count = journal, key, trees, sums, count
        self.written: set[tuple[int, Node]] = set()
        self._due = time.monotonic() + _SECONDS

    def restore(self, piece: Callable[[int], Columns]) -> None:
        """Hand the trees what is known of their sums. piece: the result of a piece of a sum, by the sum's number."""
        for number, (tree, each) in enumerate(zip(self.trees, self._sums, strict=True)):
            if self.journal.knows(self.key, number):
                like = piece(number)
                for node, columns in self.journal.finished(self.key, number, self._count, like, each.merge):
                    tree.add(node.number, columns, node.level)
                    self.written.add((number, node))

    def keep_if_due(self) -> None:
        """Write what has been finished, if the last time is long enough ago."""
        if time.monotonic() >= self._due:
            self.keep()

    def keep(self) -> None:
        """Write what has been finished since the last time."""
        start = time.monotonic()
        waiting = ((number, *item) for number, tree in enumerate(self.trees) for item in tree.waiting)
        new = [part for part in waiting if (part[0], part[1]) not in self.written]
        if new:
            self.journal.write(self.key, new)
            self.written.update((number, node) for number, node, _ in new)
        end = time.monotonic()
        self._due = end + max(_SECONDS, 100 * (end - start))


def _shapes(like: Columns, merge: Merge, leaves: int) -> list[tuple[int, ...]]:
    """Of so many pieces like this one: merging adds columns up, or puts those of codes one after the other."""
    both = merge(like, like)
    return [a.shape if a.shape == b.shape else (leaves * len(a), *a.shape[1:]) for a, b in zip(like, both, strict=True)]


def digest_of_merge(each: Summation) -> str:
    """Which way a sum is merged."""
    return digest_of(getattr(each.merge, "kernel", each.merge))


def _opened(path: str, flags: int) -> FileIO:
    """Without a buffer, so that what could not be written is not tried again when the file is closed."""
    try:
        descriptor = os.open(path, flags | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0), 0o666)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "it is no ordinary file")
    except OSError as error:
        raise type(error)(
            f"checkpoint: {path} cannot be opened ({error.strerror}); wanted the name of a file"
        ) from None
    return FileIO(descriptor, "r" if flags == os.O_RDONLY else "r+")


def _lock(file: FileIO, path: str) -> None:
    """One process writes at a time; where the file system knows no locks it is not found out."""
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BlockingIOError(
            f"checkpoint: {path} is in use by another process; wanted a file of its own for each run"
        ) from None
    except OSError:
        pass


def _checksum(record: bytes) -> bytes:
    return hashlib.blake2b(record, digest_size=16).digest()


def _packed(key: bytes, number: int, node: Node, columns: Columns) -> bytes:
    parts = [_NODE.pack(key, number, node.level, node.number, len(columns))]
    for column in columns:
        parts.append(struct.pack(f"<B{column.ndim}Q", column.ndim, *column.shape))
        parts.append(column.astype("<f8").tobytes())
    return b"".join(parts)


def _unpacked(content: bytes) -> tuple[bytes, int, _Known]:
    key, number, level, index, count = _NODE.unpack_from(content)
    if level > 62 or index >= 1 << (62 - level):
        raise ValueError
    at, columns = _NODE.size, list[Floats]()
    for _ in range(count):
        (dimensions,) = struct.unpack_from("<B", content, at)
        shape = struct.unpack_from(f"<{dimensions}Q", content, at + 1)
        at += 1 + 8 * dimensions
        size = 1
        for length in shape:
            size *= length
        if size > len(content):
            raise ValueError
        columns.append(np.frombuffer(content, "<f8", size, at).astype(np.float64).reshape(shape))
        at += 8 * size
    if at != len(content):
        raise ValueError
    return key, number, _Known(Node(level, index), tuple(columns))
