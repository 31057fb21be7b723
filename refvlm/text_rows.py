"""Rows of data as text, one row a line: separators, notations and headers as people have them.

Hostile until validated: lines and what is held of them are bounded, every cell is exactly 0 or 1 in a usual notation,
and what is skipped is told.
"""

from __future__ import annotations

import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import numpy as np

from .checks import MISSING_REMEDY, FileFormatError, check_fits, describe, one_line
from .types import Bits

_LONGEST_LINE = 1 << 21  # bytes: a million columns, which take some seconds and a hundred MB where they have names
_LONGEST_CHUNK = 1 << 24  # bytes of rows
_MOST_COMMENTS = 100
_MANY_CELLS = 1 << 20
_MOST_SPELLINGS, _LONGEST_SPELLING = 1000, 32

_SEPARATORS = {b",": "commas", b"\t": "tabs", b";": "semicolons", b" ": "blanks"}
_BITS = (re.compile(rb"[+-]?0(\.0*)?([eE][+-]?\d+)?|(?i:false)"), re.compile(rb"\+?1(\.0*)?([eE][+-]?0+)?|(?i:true)"))
_MISSING = {b"", b"?", b"-", b".", b"na", b"n/a", b"#n/a", b"<na>", b"nan", b"null", b"none", b"missing"}
_UNNAMED = (b"", b"Unnamed: 0")  # what pandas and R write above an index, and pandas once more
_WITHOUT_INDEX = "in pandas with index=False, in R with row.names=FALSE"


class Text(NamedTuple):
    """header: lines skipped before the rows, shortened; columns: L, None where nothing tells; chunks: (n, L) uint8."""

    header: tuple[str, ...]
    columns: int | None
    chunks: Iterator[Bits]


def read_text(name: str, raw: io.RawIOBase, columns: int | None, chunk: int) -> Text:
    """The rows in `raw`, at most `chunk` at a time.

    Cells are separated by commas, tabs, semicolons or blanks, as the first lines decide; 0, 1, 0.0, 1e0, True, false
    and the like, bare or quoted. Lines that begin with # and a line of names, or of the columns' numbers, before the
    rows are skipped: `header`.
    columns: L, if it is known what it has to be.

    Raises FileFormatError, here or while reading, naming the line (from 1), the column (from 0) and the cell.
    """
    lines = _Lines(name, raw)
    header: list[str] = []
    while (line := lines.next()) is not None and line.startswith(b"#"):
        if len(header) == _MOST_COMMENTS:
            raise FileFormatError(
                f"{name}, line {lines.number}: got more than {_MOST_COMMENTS} comments before any row"
            )
        header.append(_shown(line))
    if line is None:
        return Text(tuple(header), columns, iter(()))
    number, separator = lines.number, _separator(line)
    below = lines.next() if separator is None else None  # no row of 0 and 1, so the line below decides
    form = _Form(name, separator or _separator(below or b"") or next(_present(line)), columns, number)
    rows = [line, below]
    if form.has_header(line):
        header.append(_shown(line))
        rows = [below]
    given = [row for row in rows if row is not None]
    lines.give_back(b"".join(given), len(given))
    return Text(tuple(header), form.columns, _chunks(lines, form, given[0] if given else b"", chunk))


class _Lines:
    """Lines with their ends and their numbers, from 1; blank ones are tolerated at the end of the file only."""

    def __init__(self, name: str, raw: io.RawIOBase) -> None:
        self.number = 0
        self._name = name
        self._file = io.BufferedReader(raw)
        self._returned = io.BytesIO()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.next, None)

    def next(self) -> bytes | None:
        """The next line, or None after the last."""
        blank: int | None = None
        while line := self._line():
            self.number += 1
            if len(line) == _LONGEST_LINE:
                raise FileFormatError(
                    f"{self._name}, line {self.number}: longer than {_LONGEST_LINE} bytes, wanted a row of 0 and 1; "
                    "longer rows can be read from an .npy file"
                )
            if not line.isspace():
                if blank is not None:
                    raise FileFormatError(
                        f"{self._name}, line {blank}: got a blank line before further rows, wanted one row a line"
                    )
                return line
            blank = blank or self.number
        return None

    def _line(self) -> bytes:
        line = self._returned.readline(_LONGEST_LINE)
        return line if line.endswith(b"\n") else line + self._file.readline(_LONGEST_LINE - len(line))

    def read(self, size: int) -> bytes:
        """So many bytes, fewer only at the end of the file; the number stays."""
        data = self._returned.read(size)
        return data if len(data) == size else data + self._file.read(size - len(data))

    def give_back(self, data: bytes, lines: int) -> None:
        """Bytes that were read in vain, so many lines of which were counted."""
        self.number -= lines
        self._returned = io.BytesIO(data + self._returned.read())


class _Spellings(dict[bytes, int]):
    """The bit that a cell stands for; KeyError where it stands for none. A file has few, which are remembered."""

    def __missing__(self, cell: bytes) -> int:
        for bit, pattern in enumerate(_BITS):
            if pattern.fullmatch(cell.strip()):
                if len(self) < _MOST_SPELLINGS and len(cell) <= _LONGEST_SPELLING:
                    self[cell] = bit
                return bit
        raise KeyError(cell)


class _Form:
    """How a file writes its rows. first: the number of the line that decided; names: of the columns, if it has them."""

    def __init__(self, name: str, separator: bytes, columns: int | None, first: int) -> None:
        self.name, self.separator, self.columns, self.first = name, separator, columns, first
        self.names: list[bytes] = []
        self._bits = _Spellings({b"0": 0, b"1": 1})

    def has_header(self, line: bytes) -> bool:
        """Whether the first line is a header: names alone, or the columns counted from 0 or 1. Tells L, too.

        Refused where a row would look like it, and where there is an index below it.
        """
        where = self._where(self.first)
        cells = [cell.strip() for cell in _split(line, self.separator, where)]
        if cells == [b"0", b"1"][: len(cells)] and self.columns in (None, len(cells)):
            names = self.separator.decode().join("ab"[: len(cells)])
            raise FileFormatError(
                f"{where}: got {_shown(line)}, a row or a header that counts columns; if it is a header, remove it; "
                f"if it is a row, put a line of names before it, such as {names!r}"
            )
        header = not all(map(_is_bit, cells)) and _is_header(cells)
        if len(cells) > 1 and cells[0] in _UNNAMED and _is_header(cells[1:]):
            raise FileFormatError(
                f"{where}: got {_shown(cells[0])} in column 0, as it stands above an index; write the file without, "
                f"{_WITHOUT_INDEX}"
            )
        if header and self.columns not in (None, len(cells)):
            raise FileFormatError(f"{where}: got a header of {len(cells)} columns, wanted {self.columns}")
        self.columns = self.columns or len(cells)
        self.names = cells if header else []
        return header

    def row(self, line: bytes, number: int) -> Bits:
        """One line as a row (L,)."""
        cells = _split(line, self.separator, self._where(number))
        try:
            row: Bits = np.fromiter(map(self._bits.__getitem__, cells), np.uint8, len(cells))
        except KeyError:
            raise FileFormatError(self._about_cell(cells, number)) from None
        if len(cells) != self.columns:
            source = ", as in the header" if self.names else ""
            index = len(self.names) == len(cells) - 1 > 0
            remedy = f"; if the first names the row, write the file without it, {_WITHOUT_INDEX}" if index else ""
            raise FileFormatError(
                f"{self._where(number)}: got {len(cells)} cells, wanted {self.columns}{source}, separated by "
                f"{_SEPARATORS[self.separator]}{remedy}"
            )
        return row

    def _where(self, number: int) -> str:
        return f"{self.name}, line {number}"

    def _about_cell(self, cells: list[bytes], number: int) -> str:
        """What is wrong with the first cell that is no bit, and what helps."""
        column, cell = next((c, cell.strip()) for c, cell in enumerate(cells) if not _is_bit(cell))
        name = f" ({_shown(self.names[column])})" if column < len(self.names) else ""
        got = f"{self._where(number)}: got {_shown(cell)} in column {column}{name}"
        if cell.lower() in _MISSING:
            return f"{got}, a missing value, wanted 0 or 1; from Python {MISSING_REMEDY}"
        remedy = ""
        if len(cells) == 1 and number == self.first:
            remedy = f", or cells separated by {', '.join(_SEPARATORS.values())}"
        elif len(cells) == 1 and self.columns != 1:
            remedy = f", separated by {_SEPARATORS[self.separator]} as before"
        elif number == self.first and any(map(_is_name, cells)):
            other, value = next((c, each) for c, each in enumerate(cells) if not _is_name(each))
            remedy = f"; nor is this a header, for {_shown(value)} in column {other} is no name"
        elif column == 0 and cell in (b"%d" % n for n in range(number - self.first - 1, number - self.first + 2)):
            remedy = f"; if column 0 counts the rows, write the file without it, {_WITHOUT_INDEX}"
        return f"{got}, wanted 0 or 1{remedy}"


def _chunks(lines: _Lines, form: _Form, first: bytes, chunk: int) -> Iterator[Bits]:
    """Chunks of rows, `first` being the first of their lines: by blocks where lines are plain, else line by line."""
    columns = form.columns or 1
    count = max(1, min(chunk, _LONGEST_CHUNK // columns))
    end = first[len(first.rstrip(b"\r\n")) :]
    plain = end in (b"\n", b"\r\n") and _plain(first, form.separator, columns, end) is not None
    while True:
        if plain:
            block = lines.read(count * (2 * columns - 1 + len(end)))
            bits = _plain(block, form.separator, columns, end)
            if bits is not None:
                if len(bits) == 0:
                    return
                lines.number += len(bits)
                yield bits
                continue
            lines.give_back(block, 0)
        rows = [form.row(line, lines.number) for line in islice(lines, count)]
        if not rows:
            return
        yield np.stack(rows)


def _plain(block: bytes, separator: bytes, columns: int, end: bytes) -> Bits | None:
    """The rows (n, L) in lines of bare 0 and 1, or None for other lines."""
    size = 2 * columns - 1 + len(end)
    if len(block) % size:
        return None
    raw = np.frombuffer(block, np.uint8).reshape(-1, size)
    bits = raw[:, : 2 * columns : 2] ^ np.uint8(ord("0"))
    separated = (raw[:, 1 : 2 * columns - 1 : 2] == ord(separator)).all()
    ended = (raw[:, 2 * columns - 1 :] == np.frombuffer(end, np.uint8)).all()
    return bits if separated and ended and (bits <= 1).all() else None


def _present(line: bytes) -> Iterator[bytes]:
    """The separators in a line, the likeliest first; a comma where there is none."""
    bare = line.strip()
    found = [separator for separator in _SEPARATORS if separator in bare]
    return iter(found or [b","])


def _separator(line: bytes) -> bytes | None:
    """The separator between whose occurrences all cells are bits, if there is one."""
    for separator in _present(line):
        try:
            cells = _split(line, separator, "")
        except FileFormatError:
            continue
        with suppress(KeyError):
            deque(map(_Spellings().__getitem__, cells), maxlen=0)
            return separator
    return None


def _split(line: bytes, separator: bytes, where: str) -> list[bytes]:
    """The cells of a line, without quotes; padded, perhaps."""
    line = line.removesuffix(b"\n").removesuffix(b"\r").strip(b" ")
    if b"\r" in line:  # else blanks would join what are lines elsewhere
        raise FileFormatError(f"{where}: got a carriage return in the middle, wanted lines that end in \\n or \\r\\n")
    if len(line) > _MANY_CELLS:
        cells = line.count(separator) + 1
        check_fits(f"{where}: its {cells} cells", 64 * cells, "give the rows as a .npy array", FileFormatError)
    if b'"' in line:
        text = line.decode("utf-8", "surrogateescape")
        try:
            quoted = next(csv.reader([text], delimiter=separator.decode(), skipinitialspace=True, strict=True))
        except csv.Error as error:
            raise FileFormatError(f"{where}: got cells that cannot be told apart ({one_line(error, 200)})") from None
        return [cell.encode("utf-8", "surrogateescape") for cell in quoted]
    return line.split() if separator == b" " else line.split(separator)


def _is_bit(cell: bytes) -> bool:
    return cell in (b"0", b"1") or any(pattern.fullmatch(cell.strip()) for pattern in _BITS)


def _is_header(cells: Sequence[bytes]) -> bool:
    """Names alone, or the columns counted from 0 or from 1."""
    counted = any(all(cell == b"%d" % n for n, cell in enumerate(cells, start)) for start in (0, 1))
    return counted or all(map(_is_name, cells))


def _is_name(cell: bytes) -> bool:
    """Printable, with a letter in it, and neither a number nor a bit nor a sign for what is missing."""
    text = cell.strip().decode("utf-8", "replace")
    try:
        float(text)
    except ValueError:
        missing = cell.strip().lower() in _MISSING
        return text.isprintable() and any(map(str.isalpha, text)) and not missing and not _is_bit(cell)
    return False


def _shown(text: bytes) -> str:
    """Quoted, on one line, not too long."""
    return describe(text[:200].strip().decode("utf-8", "backslashreplace")).removeprefix("str ")
