"""Whatever a file or another program says: it is read right, or refused in one line, soon and in little memory."""

import io
import json
import os
import subprocess
import sys
import time
import warnings
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import refvlm
from refvlm import strict_json
from refvlm.checks import FileFormatError, describe, one_line, printable, quoted
from refvlm.cli import main
from refvlm.conformance.messages import parse, read_answer
from refvlm.conformance.tensors import MalformedError, decode, encode
from refvlm.npy import read_header
from refvlm.rows import open_rows

FOLDER = Path(__file__).parents[1] / "validation"
READERS = (
    "model-npz", "model-safetensors", "from-safetensors", "from-torch", "from-flax", "from-keras", "npy-rows",
    "npz-rows", "text-rows", "gzip-rows", "checkpoint", "answers", "conversation", "requests", "known",
)  # fmt: skip
MEMORY = 300 << 20


# Damage at random.


@pytest.mark.parametrize("reader", READERS)
def test_damaged_input_is_read_right_or_refused_in_one_line(reader):
    command = [sys.executable, str(FOLDER / "fuzz.py"), "--reader", reader, "--number", "250", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "0 findings" in done.stdout


FAULTS = {
    "raise KeyError('x')": "KeyError: \"'x'\"",
    "raise ValueError('a\\x1bb')": "characters that do not print",
    "raise ValueError('a' * 601)": "a message of 601 characters",
    "raise ValueError(\"'str' object has no attribute 'items'\")": "Python's insides",
    "import time; time.sleep(30)": "took more than 3 s",
    "return [0] * (1 << 26)": "MiB",
    "open('/dev/null', 'w').close()": "did open",
    "import os; os.system('true')": "did os.system",
    "import warnings; warnings.warn('odd')": "UserWarning",
    "import numpy; return numpy.zeros(3)": "misread",
}


def test_every_kind_of_fault_in_a_reader_is_found():
    program = f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import fuzz, fuzz_readers, numpy; fuzz.SECONDS = 3\n"
    for number, fault in enumerate(FAULTS):
        program += (
            f"def read_{number}(given):\n    {fault}\n"
            f"other = lambda given: numpy.ones(3)\n"
            f"reader = fuzz_readers.Reader([], None, read_{number}, (ValueError,), other)\n"
            "print(*fuzz.verdict(reader, b'', 'folder'))\n"
        )
    program += "print(*fuzz.verdict(reader._replace(read=other), b'', 'folder'))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    *found, right = done.stdout.splitlines()
    assert right.split() == ["read"]
    for line, (fault, what) in zip(found, FAULTS.items(), strict=True):
        assert line.startswith("finding "), fault
        assert what in line, fault


@given(st.text(max_size=200) | st.binary(max_size=200) | st.lists(st.text(max_size=30)) | st.integers())
def test_what_is_shown_of_a_value_is_one_printable_line_that_is_not_long(value):
    shown = [describe(value)]
    if isinstance(value, str):
        shown += [quoted(value), one_line(ValueError(value), 62), printable(value)[:62]]
    for text in shown:
        assert text.isprintable()
        assert 0 < len(text) <= 62 + len("bytes ") or (value == "" and text == "")
    if isinstance(value, str) and value.isprintable() and len(value) <= 50 and not set(value) & set("'\\"):
        assert quoted(value) == f"'{value}'"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(JSON)
def test_json_is_read_as_pythons_own_module_reads_it(value):
    text = json.dumps(value)
    assert strict_json.parse(text.encode()) == json.loads(text) == value


@given(st.binary() | st.text().map(lambda text: text.encode(errors="surrogatepass")))
def test_what_is_no_json_is_refused_in_one_line(text):
    with suppress(ValueError):
        json.loads(text.decode())
        return
    with pytest.raises(ValueError, match=r"^is not ") as caught:
        strict_json.parse(text)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "has the name 'a' twice in one object"),
        (b"[NaN]", "has NaN, which JSON does not have, ours"),
        (b"[-Infinity]", "has -Infinity"),
        (b"[" * 100_000, "is JSON nested too deeply"),
        (b"9" * 5000, "has an integer of more digits than can be read"),
        ("\ufeff1".encode(), "is not JSON"),
        (b"\xff", "is not UTF-8"),
    ],
)
def test_json_of_two_meanings_or_none_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        strict_json.parse(text, ", ours")


@given(
    hnp.array_shapes(min_dims=0, max_dims=6, min_side=0),
    st.sampled_from(["<f8", ">f4", "|u1", "|b1", "<i8"]),
    st.booleans(),
)
def test_headers_of_npy_files_are_read_as_numpy_reads_them(shape, dtype, fortran):
    array = np.zeros(shape, dtype, order="F" if fortran else "C")
    for version in ((1, 0), (2, 0)):
        stream = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            np.lib.format.write_array(stream, array, version)
        stream.seek(0)
        header = read_header("x", stream)
        assert (header.shape, header.dtype, header.offset) == (shape, array.dtype, stream.tell())
        assert header.fortran == (array.flags.fnc)
        assert header.size == array.nbytes


@pytest.mark.parametrize(
    "fields",
    [
        "'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 200 + " " * 8000 + "!",
        "'descr': '<f8', 'fortran_order': False, 'shape': (" + " " * 12_000,
        "'descr': '<f8', 'fortran_order': False, 'shape': (3,)" + " " * 12_000 + "x",
        "'descr': '<f8', 'fortran_order': False, 'shape': (" + "1," * 6000 + "x",
        "'descr': '<f8', 'fortran_order': False, 'shape': (9**9**9,)",
    ],
)
def test_a_header_that_keeps_a_parser_busy_is_refused_at_once(fields):
    """NumPy's own reader takes half a minute for the first of these."""
    text = ("{" + fields + ", }").encode().ljust(9000) + b"\n"
    start = time.perf_counter()
    with pytest.raises(FileFormatError, match="header that cannot be read"):
        read_header("x", io.BytesIO(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text))
    assert time.perf_counter() - start < 5  # a hundredth of a second, on a machine that does nothing else


# Bombs.


def grown(program, *arguments):
    """Bytes by which a child's memory grows, and what the error says that it must end in."""
    program = (
        "import resource, sys, refvlm; from refvlm.rows import open_rows\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak()\n"
        f"try: {program}\n"
        "except (ValueError, OSError) as error: print(1024 * (peak() - before), error)\n"
    )
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    size, _, said = done.stdout.partition(" ")
    return int(size), said


def model_file(path):
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), refvlm.MLP.random([3, 4], np.random.default_rng(0)))
    refvlm.save(path, model)
    return path


def zeros(size):
    """An .npy array of so many bytes, packed by zlib without a header, its checksum and its length."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (size // 8,)})
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    check, packed = zlib.crc32(stream.getvalue()), packer.compress(stream.getvalue())
    piece = bytes(1 << 22)
    for _ in range(size // len(piece)):
        check, packed = zlib.crc32(piece, check), packed + packer.compress(piece)
    return packed + packer.flush(), check, size + len(stream.getvalue())


def test_an_array_that_nobody_asks_for_is_not_inflated(tmp_path):
    path = model_file(tmp_path / "model.npz")
    packed, check, size = zeros(3 << 27)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.npy", packed)
        info = archive.getinfo("more.npy")  # as if the archive had packed it
        info.compress_type, info.file_size, info.CRC = zipfile.ZIP_DEFLATED, size, check
        archive.fp.seek(info.header_offset)
        archive.fp.write(info.FileHeader(False))
        archive.fp.seek(0, os.SEEK_END)
        archive.start_dir = archive.fp.tell()
    size, said = grown("refvlm.load(sys.argv[1])", path)
    assert "arrays that do not belong: 'more'" in said
    assert size < MEMORY
    size, said = grown("list(open_rows(sys.argv[1]))", path)
    assert "holds the arrays" in said
    assert size < MEMORY


def test_an_archive_with_a_directory_of_many_megabytes_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "model.npz"
    model_file(path)
    content = path.read_bytes()
    place = content.index(b"PK\x01\x02")
    entry = content[place : content.index(b"PK\x01\x02", place + 4)] * 100_000
    end = (
        b"PK\x05\x06" + bytes(4) + b"\xff\xff\xff\xff" + len(entry).to_bytes(4, "little") + place.to_bytes(4, "little")
    )
    path.write_bytes(content[:place] + entry + end + bytes(2))
    size, said = grown("refvlm.load(sys.argv[1])", path)
    assert "its directory takes" in said
    assert size < MEMORY // 10


def test_archives_of_other_methods_doubled_names_and_secrets_are_refused(tmp_path):
    path = model_file(tmp_path / "model.npz")
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, content in members:
                archive.writestr(name, content)
        for read in (refvlm.load, lambda path: list(open_rows(path))):
            with pytest.raises(FileFormatError, match="array 'header': compressed by an unknown method"):
                read(path)
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for name, content in [*members, members[1]]:
            archive.writestr(name, content)
    with pytest.raises(FileFormatError, match=r"holds the array 'model\..*' twice, wanted it once"):
        refvlm.load(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
            archive.infolist()[-1].flag_bits |= 1
    with pytest.raises(FileFormatError, match="array 'header': encrypted"):
        refvlm.load(path)


def test_bytes_after_an_array_in_its_member_are_refused_with_the_checksum_that_they_hide(tmp_path):
    path = model_file(tmp_path / "model.npz")
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content + bytes(8))
    with pytest.raises(FileFormatError, match=r"array 'header': .* bytes for an array of shape .* damaged"):
        refvlm.load(path)


def test_a_line_of_many_megabytes_is_refused_in_little_memory(tmp_path):
    for line in (b"0," * (1 << 25), b"\x00" * (1 << 26)):
        (tmp_path / "data.csv").write_bytes(line)
        size, said = grown("list(open_rows(sys.argv[1]))", tmp_path / "data.csv")
        assert "line 1: longer than 2097152 bytes" in said
        assert size < MEMORY // 10


@pytest.mark.parametrize("cell", [b"0,", b'"1",', b"a,"])
def test_the_longest_line_that_is_read_takes_little_memory(tmp_path, cell):
    line = cell * ((1 << 21) // len(cell) - 2) + cell[:-1] + b"\n"
    (tmp_path / "data.csv").write_bytes(b"x" + line.replace(cell, b"b" * (len(cell) - 1) + b",")[1:] + line)
    size, _ = grown("list(open_rows(sys.argv[1])); raise ValueError", tmp_path / "data.csv")
    assert size < MEMORY


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("MODEL", ["evaluate", "{}", "digits"]),
        (
            "CHECKPOINT",
            ["fit", "bars", "--latents", "2", "--epochs", "1", "-o", "{}.npz", "--checkpoint", "{}", "--resume"],
        ),
        ("KNOWN", ["check", "{answers}", "--known", "{}"]),
    ],
)
@pytest.mark.parametrize("kind", ["a pipe", "a device", "a directory"])
def test_what_is_no_file_is_refused_without_waiting(name, arguments, kind, tmp_path, capsys):
    path, answers = tmp_path / "it", tmp_path / "answers"
    who = {"name": "a", "version": "1", "language": "b", "precision": "float64"}
    answers.write_text(json.dumps({"implementation": who, "quantities": []}) + "\n")
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a directory":
        path.mkdir()
    place = "/dev/zero" if kind == "a device" else str(path)
    code = main([each.replace("{}", place).replace("{answers}", str(answers)) for each in arguments])
    said = capsys.readouterr().err
    assert code in (66, 73), said
    assert place in said
    assert said.count("\n") == 1


def test_a_file_of_answers_without_an_end_is_refused_at_its_first_line():
    command = [sys.executable, "-m", "refvlm", "check", "/dev/zero"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "refvlm: error: /dev/zero: line 1: longer than any answer\n"


def test_answers_of_many_megabytes_end_the_conversation_at_once(tmp_path):
    program = tmp_path / "talker.py"
    who = {"name": "a", "version": "1", "language": "b", "precision": "float64"}
    start = json.dumps({"seq": 1, "implementation": who, "quantities": ["log_marginal"]})
    program.write_text(
        f"import sys\nprint({start!r}, flush=True)\nsys.stdin.readline()\n"
        "for line in sys.stdin: print('{\"seq\":2,\"result\":[' + '0,' * 7_500_000 + '0]}', flush=True)\n"
    )
    command = [sys.executable, "-m", "refvlm", "conform", "--", sys.executable, str(program)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert time.perf_counter() - start < 40  # a second or two, on a machine that does nothing else
    assert done.returncode == 1
    assert "a line longer than any answer" in done.stdout


def test_numbers_beyond_what_an_answer_holds_are_refused_before_they_are_collected():
    for result in ([0] * (1 << 15), [[0] * (1 << 9)] * (1 << 9), {"shape": [1 << 15], "f64": []}):
        with pytest.raises(MalformedError, match="wanted at most 4 axes, 16384 numbers"):
            read_answer({"seq": 2, "result": result}, 2)
    with pytest.raises(MalformedError, match="got 2000 tensors by name, wanted at most 1024"):
        read_answer({"seq": 2, "result": {f"a{n}": [0] for n in range(2000)}}, 2)
    with pytest.raises(MalformedError, match="a number beyond float64"):
        decode("x", json.loads("[1e999]"))
    assert decode("x", encode(np.array([np.inf]))).tolist() == [np.inf]


def test_one_object_of_many_names_is_searched_for_a_double_once():
    names = ",".join(f'"{n}":0' for n in range(60_000))
    start = time.perf_counter()
    with pytest.raises(MalformedError, match="has the name '59999' twice"):
        parse("{" + names + ',"59999":1}')
    assert time.perf_counter() - start < 20  # a tenth of a second, on a machine that does nothing else


def test_many_wrappers_around_a_name_are_taken_off_at_once():
    start = time.perf_counter()
    name = "module." * 100_000
    assert refvlm.from_torch({f"{name}weight": np.ones((2, 3)), f"{name}bias": np.ones(2)}).sizes == (3, 2)
    assert time.perf_counter() - start < 20  # some milliseconds, on a machine that does nothing else


def test_dictionaries_in_dictionaries_without_end_are_refused():
    params = {}
    params["params"] = params
    with pytest.raises(ValueError, match="nested more than 64 deep"):
        refvlm.from_flax(params)


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_file_that_shrinks_while_it_is_read_is_refused(order, tmp_path):
    path, rows = tmp_path / "x.npy", 200_000
    np.save(path, np.ones((rows, 3), np.uint8, order=order))
    with open_rows(path, chunk=100_000) as reader:
        chunks = iter(reader)
        next(chunks)
        os.truncate(path, 1000)
        with pytest.raises(FileFormatError, match="is cut short"):
            next(chunks)


def test_names_that_would_move_the_cursor_are_shown_in_quotes(tmp_path, capsys):
    path = model_file(tmp_path / "model.npz")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("\x1b[2Jmodel\x07.npy", archive.read("model.prior.logits.npy"))
    assert main(["evaluate", str(path), "digits"]) == 65
    said = capsys.readouterr().err
    assert r"'\x1b[2Jmodel\x07'" in said
    assert said.rstrip("\n").isprintable()
