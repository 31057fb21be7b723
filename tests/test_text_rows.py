"""Rows as text: what people's programs write is read to the same rows, and everything else refused for what it is."""

import gzip
import io
import os
import re
import subprocess
import sys
import threading
from decimal import Decimal, InvalidOperation

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from refvlm.checks import FileFormatError
from refvlm.rows import open_rows
from refvlm.text_rows import read_text

X = np.random.default_rng(3).integers(0, 2, size=(11, 5)).astype(np.uint8)
NAMES = ["a", "b 1", "c", "größe", "e"]


def text(x, separator=",", end="\n", words=("0", "1")):
    return "".join(separator.join(words[bit] for bit in row) + end for row in x.tolist())


def savetxt(x, **options):
    buffer = io.StringIO()
    np.savetxt(buffer, x, **options)
    return buffer.getvalue()


def read(source, **options):
    """The header and the rows."""
    with open_rows(source, **options) as reader:
        chunks = list(reader)
        return reader.header, np.concatenate(chunks) if chunks else np.zeros((0, reader.columns or 0), np.uint8)


def parsed(content, chunk=4096, columns=None):
    found = read_text("FILE", io.BytesIO(content), columns, chunk)
    return found, list(found.chunks)


def refused(content, message, **options):
    with pytest.raises(FileFormatError, match=message) as caught:
        parsed(content.encode() if isinstance(content, str) else content, **options)
    assert str(caught.value).startswith("FILE")
    assert "\n" not in str(caught.value)


WRITTEN = {
    "savetxt": savetxt(X),
    "savetxt of integers": savetxt(X, fmt="%d"),
    "savetxt in columns": savetxt(X, fmt="%3d"),
    "savetxt with a header": (savetxt(X, header="made\nby numpy"), ("'# made'", "'# by numpy'")),
    "tabs": text(X, "\t"),
    "tabs of floats": text(X, "\t", words=("0.0", "1.0")),
    "semicolons": text(X, ";"),
    "semicolons and blanks": text(X, " ; ", words=("0.", "1.")),
    "Windows": text(X, ",", "\r\n"),
    "Windows, in floats": text(X, ",", "\r\n", ("0.0", "1.0")),
    "Python": text(X, ",", words=("False", "True")),
    "R": text(X, " ", words=("FALSE", "TRUE")),
    "JSON": text(X, ", ", words=("false", "true")),
    "C": text(X, " ", words=("0.000e+00", "1.000e+00")),
    "short exponents": text(X, ",", words=("-0", "+1e0")),
    "in quotes": text(X, ",", words=('"0"', '"1"')),
    "in quotes and tabs": text(X, "\t", words=('"0"', '"1"')),
    "in quotes and blanks": text(X, "  ", words=('"0"', '"1.0"')),
    "names": ("a,b,c,d,e\n" + text(X), ("'a,b,c,d,e'",)),
    "names with blanks": (",".join(NAMES) + "\n" + text(X), ("'a,b 1,c,größe,e'",)),
    "names and semicolons": (";".join(NAMES) + "\r\n" + text(X, ";", "\r\n"), ("'a;b 1;c;größe;e'",)),
    "names and tabs": ("\t".join(NAMES) + "\n" + text(X, "\t"), (r"'a\tb 1\tc\tgröße\te'",)),
    "names and blanks": ("V1 V2 V3 V4 V5\n" + text(X, "  "), ("'V1 V2 V3 V4 V5'",)),
    "names in quotes": ('"a,b";"b";"c";"d";"e"\n' + text(X, ";"), ("""'"a,b";"b";"c";"d";"e"'""",)),
    "names of pandas": ("0,1,2,3,4\n" + text(X), ("'0,1,2,3,4'",)),
    "numbers from 1": ("1 2 3 4 5\n" + text(X, " "), ("'1 2 3 4 5'",)),
    "a comment and names": ("#\n#x\na,b,c,d,e\n" + text(X), ("'#'", "'#x'", "'a,b,c,d,e'")),
    "one line is padded": text(X[:4]) + " " + text(X[4:5], " , ", " \n") + text(X[5:]),
    "one line is in quotes": text(X[:7]) + text(X[7:8], words=('"0"', "1")) + text(X[8:]),
    "the last line has no end": text(X, " ").rstrip("\n"),
    "the last line has half an end": text(X, ",", "\r\n").rstrip("\n"),
    "blank lines end it": text(X, "\t") + "\n \r\n\t\n",
}  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 3, 4096])
@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("packed", [False, True])
def test_what_people_write_gives_the_same_rows(tmp_path, kind, chunk, packed):
    content, header = WRITTEN[kind] if isinstance(WRITTEN[kind], tuple) else (WRITTEN[kind], ())
    (tmp_path / "data").write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    for columns in (None, 5):
        found, rows = read(tmp_path / "data", chunk=chunk, columns=columns)
        assert (found, rows.dtype) == (header, np.uint8)
        np.testing.assert_array_equal(rows, X)


def test_pandas_own_files_are_read_and_its_index_is_refused():
    pandas = pytest.importorskip("pandas")
    for frame in (
        pandas.DataFrame(X),
        pandas.DataFrame(X.astype(bool)),
        pandas.DataFrame(X.astype(float)).add_prefix("p"),
    ):
        for separator in (",", "\t", ";", " "):
            found, chunks = parsed(frame.to_csv(index=False, sep=separator).encode())
            np.testing.assert_array_equal(np.concatenate(chunks), X)
            assert len(found.header) == 1
            message = r"line 1: got '' in column 0, as it stands above an index.*index=False"
            if separator == " ":  # where that cannot be seen
                message = r"line 2: got 6 cells, wanted 5, as in the header.*if the first names the row.*index=False"
            refused(frame.to_csv(sep=separator), message)


@pytest.mark.parametrize(
    ("line", "names"), [("0,1", "a,b"), ("0", "a"), ('"0";"1"', "a;b"), ("0  1", "a b"), ("0\t1", "a\tb")]
)
def test_a_first_line_that_may_count_the_columns_is_refused_unless_names_are_above(line, names):
    refused(
        f"{line}\n{line}\n",
        rf"FILE, line 1: got .*, a row or a header .*names before it, such as {re.escape(repr(names))}$",
    )
    found, chunks = parsed(f"{names}\n{line}\n{line}\n".encode())
    assert len(found.header) == 1
    assert np.concatenate(chunks).tolist() == [[0, 1][: found.columns]] * 2


@pytest.mark.parametrize("line", ["1,0", "0,0", "0.0,1.0", "1", "False,True", "0,1,0"])
def test_other_first_lines_of_bits_are_rows(line):
    found, chunks = parsed(f"{line}\n".encode())
    assert found.header == ()
    assert len(np.concatenate(chunks)) == 1


@pytest.mark.parametrize("names", ["a,b,c\n", "a,b,c", "0,1,2\n\n", "# nothing\n", "#\na b c\n"])
def test_a_header_alone_has_no_rows(names):
    found, chunks = parsed(names.encode())
    assert found.header
    assert chunks == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0,foo,1\n0,1,1\n", r"line 1: got 'foo' in column 1, wanted 0 or 1; nor is this a header, for '0' in"),
        ("id,0,1,2\n", r"line 1: got 'id' in column 0, wanted 0 or 1; nor is this a header, for '0' in column 1 is no"),
        ("a,b,c\nd,e,f\n", r"line 2: got 'd' in column 0 \('a'\), wanted 0 or 1$"),
        ("a,b,c\n0,1,2\n", r"line 2: got '2' in column 2 \('c'\), wanted 0 or 1$"),
        ("a,b,c\n0,1\n", r"line 2: got 2 cells, wanted 3, as in the header, separated by commas$"),
        ('"V1" "V2"\n"1" 0 1\n', r"line 2: got 3 cells, wanted 2, .*; if the first names the row, .*row.names=FALSE$"),
        ("0;1;0\n0;1\n", r"line 2: got 2 cells, wanted 3, separated by semicolons$"),
        ("0 1 0\n0,1,0\n", r"line 2: got '0,1,0' in column 0, wanted 0 or 1, separated by blanks as before$"),
        ("010\n011\n", r"line 1: got '010' in column 0, wanted 0 or 1, or cells separated by commas, tab.*, blanks$"),
        ("0|1|0\n", r"line 1: got '0\|1\|0' in column 0, wanted 0 or 1, or cells separated by"),
        ("0,1,?\n", r"line 1: got '\?' in column 2, a missing value, wanted 0 or 1; from Python .*marginalise"),
        ("0,1,1\n0,,1\n", r"line 2: got '' in column 1, a missing value"),
        ("0,1,1\n0,NA,1\n", r"line 2: got 'NA' in column 1, a missing value"),
        ("a;b;c\n0;1;nan\n", r"line 2: got 'nan' in column 2 \('c'\), a missing value"),
        ("0\t1\t1\n\t0\t1\n", r"line 2: got '' in column 0, a missing value"),
        ("nan nan nan\n", r"line 1: got 'nan' in column 0, a missing value"),
        (",0,1,2\n0,1,1,0\n", r"line 1: got '' in column 0, as it stands above an index; write the file without, in"),
        ("Unnamed: 0,a,b\n0,1,1\n", r"line 1: got 'Unnamed: 0' in column 0, as it stands above an index"),
        ('"","V1","V2"\n"1",0,1\n', r"in column 0, as it stands above an index.* in R with row.names=FALSE"),
        ("id,a,b\n0,1,1\n1,0,1\n2,0,1\n", r"line 4: got '2' in column 0 \('id'\), wanted 0 or 1; if column 0 counts"),
        ("0,1,1\n1,0,1\n2,0,1\n", r"line 3: got '2' in column 0, wanted 0 or 1; if column 0 counts the rows, write"),
        ("0,1,1\n1,0,1\n7,0,1\n", r"line 3: got '7' in column 0, wanted 0 or 1$"),
        ("1e-400,1,1\n", r"got '1e-400' in column 0, wanted 0 or 1"),
        ("1.00000000000000000001,1,1\n", r"got '1.0000.*' in column 0, wanted 0 or 1"),
        ("10e-1,1,1\n", r"got '10e-1'"),
        ("0,1,yes\n", r"got 'yes' in column 2, wanted 0 or 1; nor is this a header"),
        ("0,1,1\n0,T,1\n", r"line 2: got 'T' in column 1, wanted 0 or 1$"),
        ("a\a,b,c\n0,1,1\n", r"line 1: got 'a\\x07' in column 0, wanted 0 or 1; nor is this a header, for 'a\\x07' in"),
        ("1_0,1,1\n", r"got '1_0'"),
        ("٠,1,1\n", r"got '٠' in column 0"),
        ('0,"1,1\n', r"line 1: got cells that cannot be told apart|got '\"1'"),
        ('0,1,1\n0,"1,1\n', r"line 2: got cells that cannot be told apart \(unexpected end of data\)"),
        ('0,1,1\n0,"1"x,1\n', r"line 2: got cells that cannot be told apart"),
        ("0,1,1\r0,1,0\r", r"line 1: got a carriage return in the middle, wanted lines that end in \\n or \\r\\n$"),
        ("0 1 1\r0 1 0\r", r"line 1: got a carriage return in the middle"),
        ("a b c\n0 1 1\r0 1 0\r", r"line 2: got a carriage return in the middle"),
        ("a,b,c\n\n0,1,1\n", r"line 2: got a blank line before further rows"),
        ("0,1,1\n# why\n0,1,1\n", r"line 2: got '# why' in column 0, wanted 0 or 1, separated by commas as before"),
        (b"\x00\xff\x03\n0,1,1\n", r"line 1: got '\\x00\\\\xff\\x03' in column 0"),
        ("0,1,0\n".encode("utf-16-le"), r"line 1: got '0\\x00' in column 0"),
        ("#\n" * 101 + "0,1,1\n", r"line 101: got more than 100 comments before any row"),
    ],
)  # fmt: skip
def test_everything_else_is_refused_for_what_it_is(content, message):
    refused(content, message)


def test_the_known_number_of_columns_is_held_against_rows_and_header():
    refused("a,b,c\n0,1,1\n", r"line 1: got a header of 3 columns, wanted 7$", columns=7)
    refused("1 1 1\n", r"line 1: got 3 cells, wanted 7, separated by blanks$", columns=7)
    refused("0,1", r"line 1: got 2 cells, wanted 7, separated by commas$", columns=7)
    refused("0,1,00,1,1", r"line 1: got '00' in column 2", columns=3)


@pytest.mark.parametrize("first", ["0,1,1\n", "a,b,c\n", "# x\n0,1,1\n", " 0,1,1\n"])
@pytest.mark.parametrize("chunk", [1, 7, 4096])
def test_the_number_of_a_bad_line_is_right_wherever_it_stands(first, chunk):
    for before in (0, 1, 6, 7, 20):
        content = first + "0,1,0\n" * before + "0,2,0\n" + "0,1,0\n" * 9
        refused(content, rf"line {content[: content.index('2')].count(chr(10)) + 1}: got '2' in column 1", chunk=chunk)


def test_rows_are_held_in_chunks_of_bounded_size(monkeypatch):
    monkeypatch.setattr("refvlm.text_rows._LONGEST_CHUNK", 19)
    for content in (text(X), text(X, "  ")):
        assert [len(rows) for rows in parsed(content.encode())[1]] == [3, 3, 3, 2]
    monkeypatch.setattr("refvlm.text_rows._LONGEST_CHUNK", 2)
    assert [len(rows) for rows in parsed(text(X).encode())[1]] == [1] * 11


def test_cells_that_cannot_fit_are_refused_before_they_are_split(monkeypatch):
    monkeypatch.setattr("refvlm.checks.available_memory", lambda: 300)
    monkeypatch.setattr("refvlm.text_rows._MANY_CELLS", 30)
    refused("0, 1, 0\n" + "0, " * 20, r"line 2: its 21 cells would need 1.3 KiB, and 300 bytes are available; give the")


def test_a_line_without_end_is_refused_wherever_it_stands(monkeypatch):
    monkeypatch.setattr("refvlm.text_rows._LONGEST_LINE", 100)
    refused("#" * 200, r"line 1: longer than 100 bytes")
    refused("0,1,1\n" + "0," * 200, r"line 2: longer than 100 bytes")
    refused(" 0,1,1\n" + "0," * 200, r"line 2: longer than 100 bytes")


BARE = re.compile(rb"[,;\t ]+")
WORDS = {b"true": 1, b"false": 0}


def slowly(content):
    """The bits in lines without quotes, by exact decimal arithmetic; None for a line that is no row."""
    rows = []
    for line in filter(bytes.strip, content.split(b"\n")):
        cells = [cell.lower() for cell in BARE.split(line.removesuffix(b"\r").strip(b" \t"))]
        try:
            values = [WORDS[cell] if cell in WORDS else Decimal(cell.decode()) for cell in cells if cell]
        except (InvalidOperation, UnicodeDecodeError):
            values = [None]
        rows.append(values if all(value in (0, 1) for value in values) else None)
    return rows


FRAGMENTS = [b"0", b"1", b"0.0", b"1.0", b"1e0", b"True", b"false", b",", b";", b"\t", b" ", b"\n", b"\r\n"]
ODD = [
    b"a",
    b"b",
    b"x y",
    b"2",
    b"nan",
    b"?",
    b"#",
    b'"',
    b"-",
    b"e",
    b".",
    b"\x00",
    b"\xff",
    b"\r",
    b"1e-999",
    b"\xef\xbb\xbf",
]


@given(st.lists(st.sampled_from(FRAGMENTS * 3 + ODD), max_size=40).map(b"".join), st.sampled_from([1, 2, 4096]))
@example(b"0,1,0\n0,1,0", 2)
@example(b"a\n0", 1)
@example(b"00", 1)
@example(b"1\n00", 2)
def test_any_text_is_refused_or_read_as_exact_decimals_say(content, chunk):
    found, chunks, problem = None, [], "FILE, line 0: "
    try:
        found, chunks = parsed(content, chunk)
    except FileFormatError as error:
        problem = str(error)
    assert re.fullmatch(r"FILE, line \d+: .*", problem)
    if found is None:
        return
    rows = [row for rows in chunks for row in rows.tolist()]
    if b'"' not in content:
        assert rows == slowly(content)[len(found.header) :]


@given(
    st.integers(1, 9),
    st.integers(3, 7),
    st.integers(0, 2**20),
    st.sampled_from([",", "\t", ";", " ", "   "]),
    st.data(),
)
def test_any_mixture_of_notations_is_read(rows, columns, seed, separator, data):
    x = np.random.default_rng(seed).integers(0, 2, size=(rows, columns))
    spelled = [st.sampled_from(words) for words in (["0", "0.", "0.0", "-0.00", "0e9", "False", '"0"'],
                                                    ["1", "1.", "1.0", "+1.00", "1e-00", "true", '"1"'])]  # fmt: skip
    content = "".join(separator.join(data.draw(spelled[bit]) for bit in row) + "\n" for row in x.tolist())
    np.testing.assert_array_equal(np.concatenate(parsed(content.encode(), 2)[1]), x)


# gzip


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


def packed(content):
    """Without the time, which would give a test another name in each process that collects it."""
    return gzip.compress(content, mtime=0)


def as_npy(x):
    buffer = io.BytesIO()
    np.save(buffer, x)
    return buffer.getvalue()


def test_packed_arrays_and_standard_input_are_unpacked(tmp_path, stdin):
    for content in (text(X).encode(), as_npy(X), as_npy(np.asfortranarray(X))):
        parts = gzip.compress(content[:50]) + gzip.compress(content[50:])
        (tmp_path / "data.npy.gz" if content[:1] == b"\x93" else tmp_path / "data.csv.gz").write_bytes(parts)
        stdin(parts)
        np.testing.assert_array_equal(read("-", chunk=4)[1], X)
    for name in ("data.npy.gz", "data.csv.gz"):
        np.testing.assert_array_equal(read(tmp_path / name, chunk=4)[1], X)


@pytest.mark.parametrize("content", [text(X).encode() * 9, as_npy(np.tile(X, (9, 1)))])
def test_any_truncation_or_damage_of_a_packed_file_is_refused_or_harmless(tmp_path, content):
    whole = gzip.compress(content)
    path = tmp_path / "data"
    for length in [*range(2, len(whole), 5), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError, match="cut short or damaged, as gzip sees it") as caught:
            read(path)
        assert str(path) in str(caught.value)
    for position in range(2, len(whole), 3):
        damaged = bytearray(whole)
        damaged[position] ^= 0x5A
        path.write_bytes(damaged)
        try:
            rows = read(path)[1]
        except FileFormatError:
            continue
        np.testing.assert_array_equal(rows, np.tile(X, (9, 1)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", packed(packed(b"0,1,1")), "an archive packed once more, by gzip; unpack it first"),
        ("x.npz.gz", packed(b"PK\x03\x04..."), "an archive packed once more, by gzip; unpack it first"),
        ("x.npy.gz", packed(text(X).encode()), r"got the first bytes b'.*', wanted those of a \.npy file"),
        ("x.npy", packed(as_npy(X)), r"got the first bytes .*, wanted those of a \.npy file"),
        ("x.csv.bz2", b"BZh91AY&SY", "packed by bzip2; unpack it first, or use gzip"),
        ("x.csv.xz", b"\xfd7zXZ\x00", "packed by xz"),
        ("x.csv.zst", b"\x28\xb5\x2f\xfd....", "packed by zstd"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file; save its array with numpy.save"),
        ("x.parquet", b"PAR1\x15\x04", "a Parquet file"),
        ("x.csv", text(X).encode("utf-16"), "text in UTF-16; save it as UTF-8"),
        ("x.gz", packed(b"\x80\x04N."), "a Python pickle, which is never loaded"),
    ],
)  # fmt: skip
def test_what_is_packed_otherwise_or_no_data_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FileFormatError, match=message):
        read(tmp_path / name)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the unit of ru_maxrss is Linux's")
@pytest.mark.parametrize(
    ("line", "lines", "answer"),
    [
        (b"0," * 31 + b"0\n", 1 << 22, str(1 << 22)),  # 256 MiB
        (b"0 ," * 31 + b"0\n", 1 << 18, str(1 << 18)),
        (b"#" * 63 + b"\n", 1 << 22, "refused"),
        (b"0" * 64, 1 << 22, "refused"),
    ],
    ids=["plain", "padded", "comments", "without end"],
)
def test_a_bomb_costs_no_memory(tmp_path, line, lines, answer):
    with gzip.open(tmp_path / "bomb.gz", "wb", compresslevel=1) as file:
        for _ in range(lines >> 14):
            file.write(line * (1 << 14))
    assert (tmp_path / "bomb.gz").stat().st_size < 4 << 20
    script = (
        "import resource, sys\n"
        "from refvlm.checks import FileFormatError\n"
        "from refvlm.rows import open_rows\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n"
        "    with open_rows(sys.argv[1]) as reader:\n"
        "        print(sum(len(rows) for rows in reader))\n"
        "except FileFormatError as error:\n"
        "    print('refused')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "bomb.gz")]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    got, kilobytes = ended.stdout.split()
    assert got == answer
    assert (
        int(kilobytes) < (160 if answer == "refused" else 32) << 10
    )  # the longest line is 64 MiB, twice while it grows
