"""What refvlm reads, for `fuzz.py`: of each its good inputs, their damage, the reading, and who else can read it.

One more reader is one more entry of `readers`.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import mutations
import numpy as np
from common import random_arrays

import refvlm
from refvlm.checks import FileFormatError
from refvlm.cli.examined import _known
from refvlm.cli.failure import Failure
from refvlm.conformance.examination import answers_in, judge, request
from refvlm.conformance.messages import parse, read_answer, read_introduction
from refvlm.conformance.ourselves import INTRODUCTION, answer
from refvlm.conformance.problems import problem_of
from refvlm.conformance.server import answer_lines
from refvlm.conformance.tensors import MalformedError, encode
from refvlm.conformance.vectors import cases
from refvlm.enumeration import journal
from refvlm.learning.batches import Data
from refvlm.learning.checkpoints import load_checkpoint, save_checkpoint
from refvlm.learning.machine import Machine
from refvlm.learning.rules import rule_of
from refvlm.learning.training import Settings, Training
from refvlm.model import safetensors
from refvlm.rows import open_rows

Array = Any


class Reader(NamedTuple):
    """seeds: good inputs. damage: (seeds, rng) to a worse one. read: to what it means, or one of `errors`.

    otherwise: the same by other means, or more rows before them, None where there are none; asked only about what was
    read. Inputs are bytes, or objects where a reader takes these.
    """

    seeds: Sequence[Any]
    damage: Callable[[Sequence[Any], Random], Any]
    read: Callable[[Any], Any]
    errors: tuple[type[Exception], ...]
    otherwise: Callable[[Any], Any] | None = None


def readers(folder: Path) -> dict[str, Callable[[], Reader]]:
    """Every reader by name, to be made; `folder` is for the files."""
    path = folder / "input"

    def of_file(read: Callable[[str], Any], suffix: str = "") -> Callable[[bytes], Any]:
        path = folder / f"input{suffix}"

        def called(content: bytes) -> Any:
            path.write_bytes(content)
            return read(str(path))

        return called

    return {
        "model-npz": lambda: Reader(
            models(path, ".npz"), archive_damage, of_file(model_arrays), (FileFormatError,), by_numpy
        ),
        "model-safetensors": lambda: Reader(
            models(path, ".safetensors"), safetensors_damage, of_file(model_arrays), (FileFormatError,), by_hand
        ),
        "from-safetensors": lambda: Reader(
            foreign_files(), safetensors_damage, of_file(foreign_mlp), (FileFormatError, ValueError)
        ),
        "from-torch": lambda: Reader(state_dicts(), object_damage, from_torch, (ValueError, TypeError)),
        "from-flax": lambda: Reader(flax_parameters(), object_damage, from_flax, (ValueError, TypeError)),
        "from-keras": lambda: Reader(keras_weights(), object_damage, from_keras, (ValueError, TypeError)),
        "npy-rows": lambda: Reader(npy_rows(), npy_damage, of_file(rows, ".npy"), (FileFormatError,), rows_by_numpy),
        "npz-rows": lambda: Reader(
            npz_rows(), archive_damage, of_file(rows, ".npz"), (FileFormatError,), rows_by_numpy
        ),
        "text-rows": lambda: Reader(text_rows(), text_damage, of_file(rows), (FileFormatError,), rows_by_words),
        "gzip-rows": lambda: Reader(
            [gzip.compress(seed, mtime=0) for seed in (*text_rows(), *npy_rows())],
            gzip_damage, of_file(rows), (FileFormatError,), rows_by_gzip,
        ),
        "checkpoint": lambda: checkpoints(path, of_file),
        "answers": lambda: Reader(answer_files(), lines_damage, of_file(answers), (MalformedError,)),
        "conversation": lambda: Reader(replies(), line_damage, conversation, (MalformedError,)),
        "requests": lambda: Reader(requests(), line_damage, answered, (MalformedError,)),
        "journal": lambda: journals(path, byte_damage),
        "forged-journal": lambda: journals(path, forged_damage),
        "known": lambda: Reader(known_lists(), text_damage, of_file(_known), (Failure,)),
    }  # fmt: skip


# Damage.


def byte_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    return mutations.damaged(rng.choice(seeds), rng, tuple(seeds))


def archive_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    if rng.random() < 0.4:
        return byte_damage(seeds, rng)
    return mutations.rezipped(rng.choice(seeds), rng)


def safetensors_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    """Bytes, or the header written anew, with its right length most times."""
    if rng.random() < 0.4:
        return byte_damage(seeds, rng)
    seed = rng.choice(seeds)
    length = int.from_bytes(seed[:8], "little")
    header, rest = json.loads(seed[8 : 8 + length]), seed[8 + length :]
    if "__metadata__" in header and rng.random() < 0.5:
        described = json.loads(header["__metadata__"]["refvlm"])
        text = mutations.json_bytes(mutations.changed(described, rng), rng).decode(errors="replace")
        header["__metadata__"]["refvlm"] = text
    else:
        header = mutations.changed(header, rng)
    text = mutations.json_bytes(header, rng)
    size = len(text) if rng.random() < 0.9 else rng.choice(mutations.INTEGERS) & (2**64 - 1)
    return size.to_bytes(8, "little") + text + rest


def object_damage(seeds: Sequence[Any], rng: Random) -> Any:
    value = rng.choice(seeds)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = mutations.changed(value, rng)
    return value


def npy_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    if rng.random() < 0.5:
        return byte_damage(seeds, rng)
    array = np.load(io.BytesIO(rng.choice(seeds)))
    return mutations.npy_bytes(mutations.changed_array(array, rng) if rng.random() < 0.5 else array, rng)


def text_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    """Bytes, or cells and lines."""
    seed = rng.choice(seeds)
    if rng.random() < 0.4:
        return mutations.damaged(seed, rng, tuple(seeds))
    words = seed.replace(b",", b"\0,\0").replace(b"\n", b"\0\n\0").split(b"\0")
    for _ in range(rng.choice((1, 1, 3))):
        words[rng.randrange(len(words))] = rng.choice(WORDS)
    return b"".join(words)


WORDS = (
    b"", b"0", b"1", b"1.0", b"-0.0", b"1e0", b"0e999999999", b"True", b"2", b"nan", b'"0"', b'"', b'""', b'"1\n"',
    b"\n", b"\r\n", b"\r", b",", b",,", b";", b"\t", b" ", b"\x00", b"\x1b[31m", b"\xff", b"\xef\xbb\xbf",
    b"\xef\xbc\x91", b"#", b"# 0,1\n", b"x" * 5000, b"0" * 5000, b"0," * 5000, b"*/vlb", b"[!x]*", b"[", b"**" * 200,
    b"a,b,c\n", b"0,1\n",
)  # fmt: skip


def gzip_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    if rng.random() < 0.5:
        return byte_damage(seeds, rng)
    content = mutations.damaged(gzip.decompress(rng.choice(seeds)), rng)
    return gzip.compress(content, mtime=0) + (b"" if rng.random() < 0.9 else byte_damage(seeds, rng))


def line_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    """One line of JSON, changed, or its bytes."""
    if rng.random() < 0.25:
        return byte_damage(seeds, rng)
    value = json.loads(rng.choice(seeds))
    for _ in range(rng.choice((1, 1, 2))):
        value = mutations.changed(value, rng)
    return mutations.json_bytes(value, rng)


def lines_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    lines = rng.choice(seeds).splitlines(keepends=True)
    kind, at = rng.randrange(5), rng.randrange(len(lines))
    if kind == 0:
        return byte_damage(seeds, rng)
    if kind == 1:
        lines.insert(at, lines[rng.randrange(len(lines))])
    lines[at] = line_damage([lines[at]], rng) + b"\n"
    return b"".join(lines)


# Journals of sums.


def journals(path: Path, damage: Callable[[Sequence[bytes], Random], bytes]) -> Reader:
    """Of a sum over 2**16 codes. Damage that no checksum hides leaves its bits what they are."""
    rng = np.random.default_rng(0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=16)), refvlm.MLP(*random_arrays((16, 3), rng)))
    x, seeds = np.array([[0, 1, 1], [1, 0, 0]]), []
    expected = refvlm.log_marginal(model, x)
    path.unlink(missing_ok=True)
    for stop in (2, 7, 16):

        def progress(done: int, total: int, stop: int = stop) -> None:
            if done == stop:
                raise InterruptedError

        with suppress(InterruptedError):
            refvlm.log_marginal(model, x, checkpoint=path, workers=1, progress=progress)
        seeds.append(path.read_bytes())

    def read(content: bytes) -> Array:
        path.write_bytes(content)
        return refvlm.log_marginal(model, x, checkpoint=path, workers=1)

    otherwise = None if damage is forged_damage else lambda content: expected
    return Reader(seeds, damage, read, (ValueError,), otherwise)


def forged_damage(seeds: Sequence[bytes], rng: Random) -> bytes:
    """Records that are changed, left out or doubled, with the right checksums."""
    seed, records = rng.choice(seeds), list[bytes]()
    at = len(journal._MAGIC)
    while at < len(seed):
        length, _ = journal._HEAD.unpack_from(seed, at)
        at += journal._HEAD.size
        records.append(seed[at : at + length])
        at += length
    for _ in range(rng.choice((1, 1, 2))):
        place, kind = rng.randrange(len(records)), rng.randrange(6)
        if kind == 0 and len(records) > 1:
            del records[place]
        elif kind == 1:
            records.insert(place, rng.choice(records))
        elif kind == 2:
            records[place] = b"A" + mutations.json_bytes(mutations.changed({"kernels": ""}, rng), rng)
        else:
            records[place] = records[place][:1] + mutations.damaged(records[place][1:], rng, tuple(records))
    heads = (journal._HEAD.pack(len(record), journal._checksum(record)) for record in records)
    return journal._MAGIC + b"".join(head + record for head, record in zip(heads, records, strict=True))


# Model files.


def models(path: Path, suffix: str) -> list[bytes]:
    rng = np.random.default_rng(0)

    def mlp(*sizes: int, activation: str = "tanh") -> refvlm.MLP:
        return refvlm.MLP(*random_arrays(sizes, rng), activation)

    shallow = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=3)), mlp(3, 5, 4))
    deep = refvlm.BernoulliLVM(refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.5]), mlp(2, 3)), mlp(3, 4))
    chain = refvlm.ChainPosterior([refvlm.AmortisedPosterior(mlp(4, 3)), refvlm.AmortisedPosterior(mlp(3, 2))])
    found = []
    for model, q in (
        (shallow, None), (shallow, refvlm.AmortisedPosterior(mlp(4, 6, 3, activation="relu"))),
        (shallow, refvlm.PerDatumPosterior(rng.normal(size=(2, 3)))), (deep, chain),
    ):  # fmt: skip
        refvlm.save(path.with_suffix(suffix), model, q)
        found.append(path.with_suffix(suffix).read_bytes())
    return found


def model_arrays(path: str) -> dict[str, Array]:
    model, q = refvlm.load(path)
    arrays = {f"model.{key}": value for key, value in model.parameters().items()}
    return arrays | {f"posterior.{key}": value for key, value in (q.parameters() if q else {}).items()}


def by_numpy(content: bytes) -> dict[str, Array]:
    with np.load(io.BytesIO(content)) as archive:
        return {key: archive[key] for key in archive.files if key != "header"}


def by_hand(content: bytes) -> dict[str, Array]:
    length = struct.unpack("<Q", content[:8])[0]
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    return {
        key: np.frombuffer(data[slice(*entry["data_offsets"])], "<f8").reshape(entry["shape"])
        for key, entry in header.items()
        if key != "__metadata__"
    }


# Weights of other frameworks.


def foreign_files() -> list[bytes]:
    weights, biases = random_arrays((3, 5, 2), np.random.default_rng(1))
    torch = {
        f"net.{i}.{kind}": value for i in (0, 1) for kind, value in (("weight", weights[i].T), ("bias", biases[i]))
    }
    torch = {key.replace("net.1", "net.2"): value for key, value in torch.items()}
    flax = {f"Dense_{i}.{kind}": v for i in (0, 1) for kind, v in (("kernel", weights[i]), ("bias", biases[i]))}
    found = [b"".join(safetensors.pieces(arrays, {})) for arrays in (torch, flax)]
    entry = {"dtype": "BF16", "shape": [3, 2], "data_offsets": [0, 12]}
    text = json.dumps({"module.weight": entry}).encode()
    return [*found, len(text).to_bytes(8, "little") + text + bytes(range(60, 72))]


def foreign_mlp(path: str) -> list[Array]:
    return list(refvlm.from_safetensors(path, activation="tanh").parameters().values())


def state_dicts() -> list[Any]:
    weights, biases = random_arrays((3, 5, 4, 2), np.random.default_rng(2))
    whole = {}
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        whole |= {f"decoder.{2 * i}.weight": weight.T.copy(), f"decoder.{2 * i}.bias": bias}
    plain = {f"fc{i}.weight": weight.T.copy() for i, weight in enumerate(weights)}
    return [whole, plain, {"module.a.weight": weights[0].T.tolist(), "module.a.bias": biases[0].tolist()}]


def flax_parameters() -> list[Any]:
    weights, biases = random_arrays((3, 5, 2), np.random.default_rng(3))
    dense = {f"Dense_{i}": {"kernel": weights[i], "bias": biases[i]} for i in (0, 1)}
    return [{"params": dense}, {"encoder": dense}, {"params": {"decoder": {"out": {"kernel": weights[0].tolist()}}}}]


def keras_weights() -> list[Any]:
    weights, biases = random_arrays((3, 5, 2), np.random.default_rng(6))
    return [[weights[0], biases[0], weights[1], biases[1]], [weights[0].tolist()]]


def from_keras(weights: Any) -> list[Array]:
    return list(refvlm.from_keras(weights, "relu").parameters().values())


def from_torch(state: Any) -> list[Array]:
    return list(refvlm.from_torch(state, "relu").parameters().values())


def from_flax(params: Any) -> list[Array]:
    return list(refvlm.from_flax(params, "relu").parameters().values())


# Rows.


def bits() -> Array:
    return np.random.default_rng(4).integers(0, 2, (7, 5))


def npy_rows() -> list[bytes]:
    arrays = (bits().astype("u1"), bits() == 1, bits() + 0.0, np.asfortranarray(bits()))
    return [mutations.written(array) for array in arrays]


def npz_rows() -> list[bytes]:
    found = []
    for save, arrays in (
        (np.savez, {"x": bits()}),
        (np.savez_compressed, {"a": bits() == 1}),
        (np.savez, {"x": bits() + 0.0, "y": bits()}),
    ):
        held = io.BytesIO()
        save(held, **arrays)
        found.append(held.getvalue())
    return found


def text_rows() -> list[bytes]:
    plain = "\n".join(",".join(map(str, row)) for row in bits().tolist())
    return [
        text.encode()
        for text in (
            plain + "\n", "a,b,c,d,e\n" + plain, "# by hand\n" + plain.replace(",", "\t") + "\n\n",
            plain.replace(",", ";").replace("\n", "\r\n"), "\ufeff" + plain.replace(",", " "),
            plain.replace("0", "False").replace("1", "1.0"), '"a","b","c","d","e"\n' + plain.replace("1", '"1"'),
        )
    ]  # fmt: skip


def rows(path: str) -> Array:
    with open_rows(path, chunk=3) as reader:
        chunks = list(reader)
        return np.concatenate(chunks) if chunks else np.zeros((0, reader.columns or 0), np.uint8)


def rows_by_numpy(content: bytes) -> Array:
    if content.startswith(b"PK"):
        with np.load(io.BytesIO(content)) as archive:
            names = [key for key in archive.files if f"{key}.npy" in archive.zip.namelist()]
            return archive["x" if "x" in names else names[0]]
    if not content.startswith(b"\x93NUMPY"):
        return rows_by_words(content)
    return np.load(io.BytesIO(content))


def rows_by_words(content: bytes) -> Array:
    """The lines that are numbers, whatever separates them; a header that counts columns is one more than was read."""
    lines = content.decode("utf-8-sig", "surrogateescape").replace('"', "").lower().split("\n")
    found = []
    for line in lines:
        try:
            words = re.split(r"\s*[,;\t]\s*|\s+", line.strip())
            found.append([float({"true": "1", "false": "0"}.get(word, word)) for word in words])
        except ValueError:  # a header, a comment, a blank line
            continue
    width = len(found[-1]) if found else 0
    return np.array([line for line in found if len(line) == width])


def rows_by_gzip(content: bytes) -> Array:
    return rows_by_numpy(gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content)


# Checkpoints.


def checkpoints(path: Path, of_file: Callable[[Callable[[str], Any]], Callable[[bytes], Any]]) -> Reader:
    training = _training(0)
    seeds = []
    for _ in range(3):
        for _ in range(2):
            training.step()
        save_checkpoint(path, training)
        seeds.append(path.read_bytes())

    def read(name: str) -> dict[str, Array]:
        fresh = _training(1)
        before = (fresh.counters(), {key: value.copy() for key, value in fresh.arrays().items()})
        try:
            load_checkpoint(name, fresh)
        except (FileFormatError, ValueError):
            after = (fresh.counters(), fresh.arrays())
            if before[0] != after[0] or not all(
                np.array_equal(after[1][key], value) for key, value in before[1].items()
            ):
                raise AssertionError("a refused checkpoint has changed the training") from None
            raise
        return fresh.arrays()

    def otherwise(content: bytes) -> dict[str, Array]:
        return {key: value for key, value in by_numpy(content).items() if key != "history"}

    return Reader(seeds, archive_damage, of_file(read), (FileFormatError, ValueError), otherwise)


def _training(seed: int) -> Training:
    rng = np.random.default_rng(5)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(2)), refvlm.MLP.random([2, 5], rng))
    machine = Machine(model, refvlm.AmortisedPosterior(refvlm.MLP.random([5, 2], rng)))
    settings = Settings(rule_of("wake-sleep", {}), 4, 3, "adam", 0.01, 0.0, 0.99, "constant", 0.0, None, 1, 0)
    return Training(machine, Data("x", bits().astype(np.uint8)), None, settings, 1)


# The conversation.


def asked() -> list[Any]:
    chosen = ("log_prior", "log_marginal", "vlb_terms", "vlb", "grad_vlb", "sample", "wake_step", "iwae", "draw_arm")
    checks = [cases()["linear"].checks[quantity] for quantity in chosen if quantity in cases()["linear"].checks]
    return checks + [check for case in cases().values() for check in case.checks.values() if check.error][:3]


def _said(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _introduction() -> dict[str, Any]:
    return {"implementation": INTRODUCTION._asdict(), "quantities": sorted({check.quantity for check in asked()})}


def _reply(check: Any) -> dict[str, Any]:
    if check.error is not None:
        return {"error": {"code": check.error, "message": "x is not 0 or 1"}}
    got = answer(problem_of(check))
    return {"result": {k: encode(v) for k, v in got.items()} if isinstance(got, dict) else encode(got)}


def replies() -> list[bytes]:
    skipped = [{"seq": 2, "skipped": {"reason": "not yet"}}, {"seq": 2, "result": [[0.25, -1.5], [2, 3e-5]]}]
    return [
        _said(each) for each in ({"seq": 1} | _introduction(), *({"seq": 2} | _reply(c) for c in asked()), *skipped)
    ]


def conversation(line: bytes) -> Any:
    message = parse(line)
    if "implementation" in message:
        return read_introduction(message, 1)
    said = read_answer(message, 2)
    for check in asked()[:3]:
        outcome = judge(check, said, "float64")
        if len(outcome.message) > 1200 or not outcome.message.isprintable():
            raise AssertionError(f"a verdict that cannot be shown: {outcome.message[:300]!r}")
    return said


def answer_files() -> list[bytes]:
    lines = [_introduction()]
    lines += [{"case": c.case.id, "quantity": c.quantity} | _reply(c) for c in asked()]
    return [b"".join(_said(each) + b"\n" for each in lines)]


def answers(path: str) -> Any:
    with open(path, "rb") as file:
        return answers_in(iter(file))


def requests() -> list[bytes]:
    messages = [json.loads(_said(request(check, 2))) for check in asked()]
    return [_said(each) for each in ({"seq": 1, "op": "start", "protocol": 1}, *messages, {"op": "stop"})]


def answered(line: bytes) -> Any:
    said: list[Any] = []
    answer_lines([line], said.append)
    for each in said:
        json.dumps(each, allow_nan=False)
        if "error" in each and (len(each["error"]["message"]) > 700 or not each["error"]["message"].isprintable()):
            raise AssertionError(f"a message that cannot be shown: {each['error']['message'][:300]!r}")
    return said


def known_lists() -> list[bytes]:
    return [b"linear/vlb\n# comment\n*/kl  # why\n\n[lt]*/log_?rior\n", b"*\n", b"linear/*\r\ntanh-one/vlb\r\n"]
