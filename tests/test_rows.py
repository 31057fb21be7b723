"""Reading rows of data: the same rows from every format, and one clear error for everything else."""

import io
import os
import pickle
import struct
import subprocess
import sys
import threading
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refvlm.checks import FileFormatError
from refvlm.rows import open_rows

X = np.random.default_rng(3).integers(0, 2, size=(11, 5)).astype(np.uint8)


def read(source, **options):
    with open_rows(source, **options) as reader:
        return list(reader)


def as_text(x, end="\n"):
    return "".join(",".join(map(str, row)) + end for row in x.tolist()).encode()


def as_npy(x, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, x, **options)
    return buffer.getvalue()


def refused(path, content, message, **options):
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=message) as caught:
        read(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def stdin(monkeypatch):
    """Put bytes where standard input is, through a real pipe."""
    ends = []

    def feed(content):
        out, into = os.pipe()
        writer = threading.Thread(target=lambda: [os.write(into, content), os.close(into)])
        writer.start()
        file = os.fdopen(out)
        ends.append((writer, file))
        monkeypatch.setattr("sys.stdin", file)

    yield feed
    for writer, file in ends:
        writer.join()
        file.close()


WRITERS = {
    "npy": lambda path: np.save(path, X),
    "npy by columns": lambda path: np.save(path, np.asfortranarray(X)),
    "npy of bool": lambda path: np.save(path, X.astype(bool)),
    "npy of big-endian floats": lambda path: np.save(path, X.astype(">f8")),
    "npy 2.0": lambda path: path.write_bytes(as_npy(X.astype(np.int32), version=(2, 0))),
    "npz": lambda path: path.write_bytes(np_archive(np.savez, images=X)),
    "npz by columns": lambda path: path.write_bytes(np_archive(np.savez, images=np.asfortranarray(X))),
    "npz named x": lambda path: path.write_bytes(np_archive(np.savez_compressed, y=X[0], x=X.astype(np.int64))),
    "csv": lambda path: path.write_bytes(as_text(X)),
    "csv without a last newline": lambda path: path.write_bytes(as_text(X).rstrip()),
    "csv with blank lines at the end": lambda path: path.write_bytes(as_text(X) + b"\n \r\n\n"),
    "csv from elsewhere": lambda path: path.write_bytes(b"\xef\xbb\xbf" + as_text(X, "\r\n").replace(b",", b" , ")),
}
SUFFIXES = {"npy": ".npy", "npz": ".npz", "csv": ".csv"}


def np_archive(save, **arrays):
    buffer = io.BytesIO()
    save(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize("chunk", [1, 3, 11, 4096])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_gives_the_same_rows_in_chunks_of_any_size(tmp_path, kind, chunk):
    path = tmp_path / ("data" + SUFFIXES[kind[:3]])
    WRITERS[kind](path)
    with open_rows(path, chunk=chunk, columns=5) as reader:
        assert reader.columns == 5
        assert reader.rows == (None if kind.startswith("csv") else 11)
        chunks = list(reader)
    assert [len(rows) for rows in chunks] == [min(chunk, 11 - first) for first in range(0, 11, chunk)]
    assert all(rows.dtype == np.uint8 and rows.flags.c_contiguous for rows in chunks)
    np.testing.assert_array_equal(np.concatenate(chunks), X)


@pytest.mark.parametrize("content", [as_text(X), as_npy(X), as_npy(np.asfortranarray(X).astype(np.float32))])
def test_standard_input_gives_the_same_rows(stdin, content):
    stdin(content)
    np.testing.assert_array_equal(np.concatenate(read("-", chunk=4)), X)


def test_one_short_row_from_standard_input_is_not_mistaken_for_a_header(stdin):
    stdin(b"1\n0\n")
    np.testing.assert_array_equal(np.concatenate(read("-")), [[1], [0]])


def test_a_named_pipe_is_read_from_front_to_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(as_npy(X)))
    writer.start()
    np.testing.assert_array_equal(np.concatenate(read(tmp_path / "pipe", chunk=2)), X)
    writer.join()


@pytest.mark.parametrize("kind", ["nothing", "blank lines", "rows", "columns"])
def test_no_rows_give_no_chunks(tmp_path, stdin, kind):
    content = {
        "nothing": b"",
        "blank lines": b"\n\n",
        "rows": header(shape="(0, 5)"),
        "columns": header(shape="(0, 5)", fortran="True"),
    }[kind]
    (tmp_path / "data").write_bytes(content)
    assert read(tmp_path / "data") == []
    stdin(content)
    assert read("-", columns=5) == []


@given(st.integers(1, 9), st.integers(3, 7), st.integers(0, 2**20))
def test_text_and_binary_agree(rows, columns, seed):
    x = np.random.default_rng(seed).integers(0, 2, size=(rows, columns)).astype(np.uint8)
    for content in (as_text(x), as_npy(x)):
        raw = io.BufferedReader(io.BytesIO(content))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("sys.stdin", io.TextIOWrapper(raw))
            np.testing.assert_array_equal(np.concatenate(read("-", chunk=2)), x)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"0,1,0\n0,1\n", r"line 2: got 2 cells, wanted 3"),
        (b"0,1,0\n0,1,0,1\n", r"line 2: got 4 cells, wanted 3"),
        (b"0,1,0\n0,1,\n", r"line 2: got '' in column 2, a missing value, wanted 0 or 1"),
        (b"0,1,0\n0,2,1\n", r"line 2: got '2' in column 1, wanted 0 or 1"),
        (b"0,1,0\n0,1,0.5\n", r"line 2: got '0.5' in column 2"),
        (b"0,1,0\n0,1,nan\n", r"line 2: got 'nan' in column 2, a missing value, wanted 0 or 1; from Python functions"),
        (b"0,1,0\n\n0,1,0\n", r"line 2: got a blank line before further rows"),
        (b"\n0,1,0\n", r"line 1: got a blank line"),
        (b"0,\x00,1\n", r"line 1: got '\\x00' in column 1"),
        (b"0,\xff,1\n", r"line 1: got '\\\\xff' in column 1"),
        ("0,1\n".encode("utf-16"), r"is text in UTF-16; save it as UTF-8"),
        (b"9" * 5000 + b"\n", r"line 1: got '9+\.\.\. in column 0"),
        (b"/2,1\n", r"line 1: got '/2' in column 0"),
    ],
)
def test_bad_text_is_refused_with_its_line(tmp_path, content, message):
    refused(tmp_path / "data.csv", content, message)


def test_text_of_another_width_is_refused_with_its_line(tmp_path):
    refused(tmp_path / "data.csv", b"0,1,0\n0;1;0\n", r"line 2: got '0;1;0' in column 0", columns=3)
    refused(tmp_path / "data.csv", as_text(X), r"line 1: got 5 cells, wanted 7", columns=7)


def test_a_line_without_end_is_refused_at_a_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr("refvlm.text_rows._LONGEST_LINE", 1000)
    refused(tmp_path / "data.csv", b"0," * 5000, r"line 1: longer than 1000 bytes")


HEADER = "{{'descr': {}, 'fortran_order': {}, 'shape': {}, }}"


def header(descr="'|u1'", fortran="False", shape="(11, 5)", length=None, version=1):
    text = HEADER.format(descr, fortran, shape).encode() + b"\n"
    field = struct.pack("<H" if version == 1 else "<I", len(text) if length is None else length)
    return b"\x93NUMPY" + bytes([version, 0]) + field + text


BAD_NPY = [
    (header() + bytes(54), r"holds 54 bytes after the header, wanted 55 for shape \(11, 5\); it is cut short"),
    (header() + bytes(56), r"holds 1 bytes after its array; wanted exactly one"),
    (header(shape="(11,)") + bytes(11), r"shape \(11,\), wanted two axes"),
    (header(shape="()") + bytes(1), r"shape \(\), wanted two axes"),
    (header(shape="(11, 5, 1)") + bytes(55), r"wanted two axes"),
    (header(shape="(11, 0)"), r"wanted at least one column"),
    (header(shape="(-11, -5)") + bytes(55), r"no negative size"),
    (header(shape="(-1, 5)"), r"no negative size"),
    (header(shape="(2 ** 70, 5)"), r"header that cannot be read"),
    (header(shape="(11, 'a')"), r"header that cannot be read"),
    (header(shape=f"({2**70}, 5)") + bytes(9), r"at most 4611686018427387904 bytes"),
    (header(shape=f"({2**63}, {2**63})") + bytes(9), r"at most 4611686018427387904 bytes"),
    (header(descr="'|O'") + bytes(440), r"pickled Python objects, which are never loaded"),
    (header(descr="'<c16'") + bytes(880), r"got dtype complex128, wanted real numbers"),
    (header(descr="'<U1'") + bytes(220), r"got dtype <U1"),
    (header(descr="[('a', '|u1')]") + bytes(55), r"wanted real numbers"),
    (header(descr="'nonsense'") + bytes(55), r"header that cannot be read"),
    (header(descr="__import__('os')") + bytes(55), r"header that cannot be read"),
    (header(length=0) + bytes(55), r"header that cannot be read"),
    (header(length=65535), r"got an .npy header of 65535 bytes"),
    (header(length=2**32 - 1, version=2), r"got an .npy header of 4294967295 bytes"),
    (header(length=9000), r"header that cannot be read"),
    (header(version=9), r"wanted an array in .npy format 1.0 or 2.0"),
    (b"\x93NUMPY\x01\x00\x05", r"an .npy header of 5 bytes|header that cannot be read"),
    (header()[:8], r"an .npy header of"),
    (header() + bytes([0, 1] * 7 + [2]) + bytes(40), r"got 2 in row 2 \(from 0\), column 4, wanted exactly 0 or 1"),
    (header(descr="'|b1'") + bytes(7) + b"\x02" + bytes(47), r"got 2 in row 1 \(from 0\), column 2"),
    (as_npy(np.where(X == 1, np.nan, 2.0)), r"got nan in row 0.*, column 0, a missing value, .*missing='marginalise'"),
    (as_npy(np.where(X == 1, 2.0, np.nan)), r"got nan in row 0.*, column 1, a missing value, .*missing='marginalise'"),
    (as_npy(X * 0.5), r"got 0.5 in row 0.*binarise first, for instance \(x >= 0.5\)$"),
    (as_npy(X * 255), r"got 255 in row 0.*\(x >= 128\)$"),
    (as_npy(X.astype(np.int64) - 1), r"got -1 in row 0.*\(x > 0\)$"),
]


@pytest.mark.parametrize(("content", "message"), BAD_NPY)
@pytest.mark.parametrize("chunk", [2, 4096])
def test_a_bad_npy_is_refused(tmp_path, content, message, chunk):
    refused(tmp_path / "data.npy", content, message, chunk=chunk)


@pytest.mark.parametrize(("content", "message"), BAD_NPY)
def test_a_bad_npy_in_an_archive_is_refused(tmp_path, content, message):
    with zipfile.ZipFile(tmp_path / "made", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", content)
    refused(tmp_path / "data.npz", (tmp_path / "made").read_bytes(), message)


@pytest.mark.parametrize(("content", "message"), BAD_NPY)
def test_a_bad_npy_on_standard_input_is_refused(stdin, content, message):
    stdin(content)
    with pytest.raises(FileFormatError, match=message):
        read("-")


def test_any_truncation_of_a_file_is_refused(tmp_path):
    for name, content in {"a.npy": as_npy(X), "a.npz": np_archive(np.savez_compressed, x=X)}.items():
        for length in [*range(0, len(content), 7), len(content) - 1]:
            refused(tmp_path / name, content[:length], ".")


def test_any_damaged_byte_of_an_archive_is_refused_or_harmless(tmp_path):
    content = np_archive(np.savez_compressed, x=X)
    for position in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[position] ^= 0x5A
        (tmp_path / "a.npz").write_bytes(damaged)
        try:
            rows = np.concatenate(read(tmp_path / "a.npz"))
        except FileFormatError:
            continue
        np.testing.assert_array_equal(rows, X)


def test_archives_without_a_clear_array_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    refused(path, np_archive(np.savez, a=X, b=X), r"holds the arrays .*'a'.*'b'.*, wanted a single one, or one named x")
    refused(path, np_archive(np.savez), r"holds no array")
    refused(path, np_archive(np.savez, **{"model.a": X, "header": X}), r"a model file is no data")
    with zipfile.ZipFile(tmp_path / "made", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x.npy", as_npy(X))
    refused(path, (tmp_path / "made").read_bytes(), r"compressed by an unknown method")


def test_an_archive_on_a_pipe_is_refused(stdin):
    stdin(np_archive(np.savez, x=X))
    with pytest.raises(FileFormatError, match="cannot be read from a pipe; give its file name"):
        read("-")


def test_pickles_and_foreign_files_are_refused(tmp_path):
    refused(tmp_path / "a.csv", pickle.dumps(X), "a Python pickle, which is never loaded")
    refused(tmp_path / "a.npy", as_text(X), r"got the first bytes b'.*', wanted those of a \.npy file")
    refused(tmp_path / "a.npz", as_npy(X), r"wanted those of a \.npz file")
    refused(tmp_path / "b.npy", b"", r"wanted those of a \.npy file")


def test_an_array_of_another_width_is_refused_before_it_is_read(tmp_path):
    refused(tmp_path / "a.npy", header(shape="(11, 6000000000)"), "wanted 5 columns", columns=5)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit on memory is Linux's")
def test_a_zip_bomb_costs_no_memory(tmp_path):
    rows = 1 << 23
    with (
        zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        member.write(header(shape=f"({rows}, 64)"))
        zeros = bytes(1 << 24)
        for _ in range(rows * 64 // len(zeros)):
            member.write(zeros)
    assert (tmp_path / "bomb.npz").stat().st_size < 4 << 20
    script = (
        "import resource, sys\n"
        "from refvlm.rows import open_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with open_rows(sys.argv[1]) as reader:\n"
        "    print(sum(len(rows) for rows in reader))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "bomb.npz"], capture_output=True, text=True, check=True
    )
    count, kilobytes = map(int, ended.stdout.split())
    assert count == rows
    assert kilobytes < 32 << 10  # of the 512 MiB declared


def test_a_chunk_that_cannot_fit_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr("refvlm.checks.available_memory", lambda: 20)
    refused(tmp_path / "a.npy", as_npy(X), "a chunk of its rows would need 55 bytes, and 20 bytes are available")
    np.testing.assert_array_equal(np.concatenate(read(tmp_path / "a.npy", chunk=4)), X)
    refused(tmp_path / "a.npz", np_archive(np.savez, x=np.asfortranarray(X)), "would need 55 bytes", chunk=4)


def test_what_cannot_be_opened_is_an_os_error(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        open_rows(tmp_path / "missing.npy")
    with pytest.raises(IsADirectoryError):
        open_rows(tmp_path)
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(OSError, match="standard input is closed"):
        open_rows("-")


@pytest.mark.parametrize("chunk", [0, -1])
def test_a_chunk_has_at_least_one_row(chunk):
    with pytest.raises(ValueError, match=r"chunk: got .*, wanted at least 1"):
        open_rows("-", chunk=chunk)


def test_files_are_closed_when_opening_fails_and_at_the_end(tmp_path):
    refused(tmp_path / "a.npy", header(shape="(3,)"), "two axes")
    np.save(tmp_path / "b.npy", X)
    with open_rows(tmp_path / "b.npy") as reader:
        next(iter(reader))
    # an unclosed file would be a ResourceWarning here, and warnings are errors
