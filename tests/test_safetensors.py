"""Safetensors files, made here byte by byte: weights of other programs, model files, and what is neither."""

import io
import itertools
import json
import pickle
import re
from contextlib import suppress

import numpy as np
import pytest

import refvlm


def rng():
    return np.random.default_rng(5)


def write(path, tensors, metadata=None, *, header=None, tail=b"", length=None, order=None):
    """A file with tensors {name: (dtype, shape, bytes)}, or with this header (an object or text) instead of theirs."""
    described, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name in order or tensors:
        dtype, shape, raw = tensors[name]
        described[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(described if header is None else header) if not isinstance(header, (str, bytes)) else header
    text = text if isinstance(text, bytes) else text.encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data + tail)
    return path


def f32(array):
    return "F32", np.shape(array), np.asarray(array, "<f4").tobytes()


def layers_of(*widths, name="fc#", flax=False):
    """float32 tensors of linear layers fc1, fc2, ...."""
    tensors = {}
    for number, (fan_in, fan_out) in enumerate(itertools.pairwise(widths), 1):
        weight = rng().normal(size=(fan_in, fan_out)) + number
        layer = name.replace("#", str(number))
        tensors[f"{layer}.kernel" if flax else f"{layer}.weight"] = f32(weight if flax else weight.T)
        tensors[f"{layer}.bias"] = f32(rng().normal(size=fan_out) + number)
    return dict(sorted(tensors.items()))  # as the package writes them


def refused(path, message, error=ValueError, **named):
    with pytest.raises(error, match=re.escape(message)) as caught:
        refvlm.from_safetensors(path, **named)
    assert "\n" not in str(caught.value)
    assert type(caught.value) is error


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def test_weights_of_torch_are_transposed_and_those_of_flax_are_not(path):
    w0, w1, b0 = (rng().normal(size=size).astype(np.float32) for size in ((3, 5), (5, 2), 5))
    for transposed, part in ((True, "weight"), (False, "kernel")):
        arrays = {f"0.{part}": w0, "0.bias": b0, f"2.{part}": w1}
        write(path, {name: f32(array.T if transposed else array) for name, array in arrays.items()}, {"format": "pt"})
        mlp = refvlm.from_safetensors(path, activation="silu")
        assert mlp.activation == "silu"
        for got, expected in zip((*mlp.weights, *mlp.biases), (w0, w1, b0, np.zeros(2)), strict=True):
            np.testing.assert_array_equal(got, expected.astype(np.float64))


def test_every_float_type_is_converted_exactly(path):
    numbers = np.array([[1.0, -0.333251953125, 2.0**-24], [6.103515625e-05, -65504.0, 0.0]])
    bits = np.array([[0x3F80, 0xBEAA, 0x0080], [0x4F62, 0x8001, 0]], "<u2")  # sign, 8 of exponent, 7 of mantissa
    of_bits = np.array([[1.0, -(1 + 42 / 128) / 4, 2.0**-126], [(1 + 98 / 128) * 2.0**31, -(2.0**-133), 0.0]])
    for dtype, raw, expected in (
        ("F16", numbers.astype("<f2").tobytes(), numbers),
        ("F32", numbers.astype("<f4").tobytes(), numbers),
        ("F64", (numbers / 3).astype("<f8").tobytes(), numbers / 3),
        ("BF16", bits.tobytes(), of_bits),
    ):
        write(path, {"weight": (dtype, (2, 3), raw)})
        np.testing.assert_array_equal(refvlm.from_safetensors(path).weights[0], expected.T)


def test_a_part_of_a_file_is_read_whatever_else_is_in_it(path):
    tensors = {f"decoder.{name}": tensor for name, tensor in layers_of(3, 5, 4).items()}
    tensors |= {f"encoder.{name}": tensor for name, tensor in layers_of(4, 6, 3).items()}
    tensors |= {"bn.num_batches_tracked": ("I64", (), bytes(8)), "bn.running_mean": f32(np.ones(4))}
    tensors |= {"conv.weight": ("I8", (2, 1, 3, 3), bytes(18)), "empty": ("F32", (0, 3), b"")}
    write(path, tensors)
    for prefix in ("decoder.", "decoder"):
        assert refvlm.from_safetensors(path, prefix, activation="tanh").sizes == (3, 5, 4)
    mlp = refvlm.from_safetensors(path, layers=["encoder.fc1", "encoder.fc2"], activation="tanh")
    assert mlp.sizes == (4, 6, 3)
    refused(path, "got 'bn.num_batches_tracked', which belongs to a BatchNorm", activation="tanh")
    refused(path, f"prefix: got 'dec.', with which no name in {path} begins", prefix="dec.", activation="tanh")
    refused(path, "layers: got str 'fc1', which is not in", layers=["fc1"], activation="tanh")
    del tensors["bn.num_batches_tracked"], tensors["bn.running_mean"], tensors["conv.weight"], tensors["empty"]
    refused(write(path, tensors), "got several networks, 'encoder.', 'decoder.', wanted one", activation="tanh")


def test_the_order_is_natural_or_that_of_the_widths_or_asked_for(path):
    write(path, layers_of(*[3] * 11, 4))
    mlp = refvlm.from_safetensors(path, activation="relu")
    assert [round(b.mean() - mlp.biases[0].mean()) for b in mlp.biases[:10]] == list(range(10))
    write(path, {"hidden.weight": f32(np.ones((5, 3))), "embed.weight": f32(np.ones((3, 2)))})
    assert refvlm.from_safetensors(path, activation="relu").sizes == (2, 3, 5)
    write(path, {f"{name}.weight": f32(np.full((3, 3), n)) for n, name in enumerate(("hid", "inp", "out"))})
    refused(path, "'hid' (3-3), 'inp' (3-3), 'out' (3-3), which fit together in several orders", activation="relu")
    refused(path, "pass layers=[...] with the names in the order in which they are applied", activation="relu")
    mlp = refvlm.from_safetensors(path, layers=["inp", "hid", "out"], activation="relu")
    assert [w[0, 0] for w in mlp.weights] == [1, 0, 2]


def test_the_activation_has_to_be_said(path):
    refused(write(path, layers_of(3, 5, 4)), "activation: got None for the 2 layers 'fc1' (3-5), 'fc2' (5-4)")
    refused(path, "activation: got str 'gelu', wanted one of", activation="gelu")
    assert refvlm.from_safetensors(write(path, layers_of(3, 4))).sizes == (3, 4)


def test_layers_of_other_types_or_kinds_are_refused(path):
    for dtype, size in (("I64", 8), ("F8_E4M3", 1), ("U8", 1)):
        write(path, {"0.weight": (dtype, (5, 3), bytes(15 * size))})
        message = f"{path}: tensor '0.weight': got the dtype {dtype}, wanted F16, BF16, F32, F64"
        refused(path, message, refvlm.FileFormatError)
    write(path, {"0.weight": f32(np.ones((5, 1, 3, 3)))})
    refused(path, f"{path}: got '0.weight' of shape (5, 1, 3, 3), which belongs to a Conv2d")
    write(path, {"0.weight": f32(np.full((5, 3), np.nan))})
    refused(path, "got nan at index (0, 0), wanted finite numbers")
    refused(write(path, {}), f"{path}: got no layers, wanted at least one")
    write(path, {"a.weight": f32(np.ones((4, 3))), "a/weight": f32(np.ones((4, 3)))})
    refused(path, "got 'a.weight', 'a/weight', which name the same twice")


ENTRY = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
TWICE = '{"w.weight": %s, "w.weight": %s}' % ((json.dumps(ENTRY),) * 2)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ([ENTRY], "its header starts with b'[{\"dtype', wanted a JSON object"),
        ("", "its header starts with b'', wanted a JSON object"),
        (b'{"\xff": 3}', "its header is not UTF-8"),
        ('{"weight": ', "Expecting value"),
        ("{" + "[" * 100_000, "Expecting property name"),
        ('{"weight": ' + "[" * 100_000, "not a valid safetensors file"),
        (
            '{"weight": {"dtype": "F32", "shape": [%s], "data_offsets": [0, 24]}}' % ("9" * 5000),
            "its header has an integer of more digits",
        ),
        ('{"weight": NaN}', "its header has NaN"),
        (TWICE, "its header has the name 'w.weight' twice in one object"),
        ('{"__metadata__": {"a": "b", "a": "c"}}', "its header has the name 'a' twice"),
        ({"__metadata__": {"a": 1}}, "__metadata__: got dict {'a': 1}, wanted strings by name"),
        ({"__metadata__": ["a"]}, "__metadata__: got list ['a']"),
        ({"weight": 3}, "tensor 'weight': got int 3, wanted an object with dtype, shape, data_offsets"),
        ({"weight": {"dtype": "F32", "shape": [2, 3]}}, "wanted an object with dtype, shape, data_offsets"),
        ({"weight": ENTRY | {"more": 1}}, "wanted an object with dtype, shape, data_offsets"),
        (
            {"weight": ENTRY | {"dtype": "F4"}},
            "tensor 'weight': got the dtype str 'F4', wanted one of F16, BF16, F32, F64",
        ),
        ({"weight": ENTRY | {"dtype": ["F32"]}}, "got the dtype list ['F32']"),
        ({"weight": ENTRY | {"shape": 6}}, "got the shape int 6"),
        ({"weight": ENTRY | {"shape": [2, -3]}}, "got the shape list [2, -3]"),
        ({"weight": ENTRY | {"shape": [2.0, 3]}}, "got the shape list [2.0, 3]"),
        ({"weight": ENTRY | {"shape": [True, 6]}}, "got the shape list [True, 6]"),
        ({"weight": ENTRY | {"shape": [1] * 33}}, "wanted at most 32 numbers"),
        ({"weight": ENTRY | {"shape": [1 << 62]}}, "got the shape list [4611686018427387904]"),
        ({"weight": ENTRY | {"shape": [1 << 61] * 32}}, "got 24 bytes for the shape"),
        (
            {"weight": ENTRY | {"shape": [2, 4]}},
            "tensor 'weight': got 24 bytes for the shape list [2, 4] of F32, wanted 32",
        ),
        ({"weight": ENTRY | {"data_offsets": [0, 20]}}, "got 20 bytes for the shape list [2, 3] of F32, wanted 24"),
        ({"weight": ENTRY | {"data_offsets": [24, 0]}}, "got -24 bytes for the shape"),
        ({"weight": ENTRY | {"data_offsets": [-24, 0]}}, "got the data_offsets list [-24, 0]"),
        ({"weight": ENTRY | {"data_offsets": [0, 24, 48]}}, "got the data_offsets list [0, 24, 48]"),
        ({"weight": ENTRY | {"data_offsets": [0, 24.0]}}, "got the data_offsets list [0, 24.0]"),
        ({"weight": ENTRY | {"data_offsets": [8, 32]}}, "'the beginning', which ends at byte 0, and 'weight', which"),
        ({"a": ENTRY, "b": ENTRY}, "'a', which ends at byte 24, and 'b', which begins at byte 0, overlap; wanted one"),
        ({"a": ENTRY, "b": ENTRY | {"data_offsets": [12, 36]}}, "which begins at byte 12, overlap"),
        ({"a": ENTRY, "b": ENTRY | {"data_offsets": [28, 52]}}, "which begins at byte 28, leave bytes between them"),
        (
            {"a": ENTRY, "b": ENTRY | {"data_offsets": [24, 48]}},
            "'the end of the file', which begins at byte 24, overlap",
        ),
        ({}, "'the end of the file', which begins at byte 24, leave bytes between them"),
    ],
    ids=itertools.count(),
)
def test_invalid_headers_are_refused(path, header, message):
    write(path, {}, header=header, tail=bytes(24))
    refused(path, message, refvlm.FileFormatError)
    refused(path, f"{path}: not a valid safetensors file: ", refvlm.FileFormatError)
    with pytest.raises(refvlm.FileFormatError):
        refvlm.load(path)


@pytest.mark.parametrize("length", [25, 1 << 22, (1 << 22) + 1, 1 << 40, (1 << 64) - 1])
def test_a_header_that_claims_to_be_longer_than_the_file_is_refused_unread(path, length):
    write(path, {}, header="{}", tail=bytes(22), length=length)
    refused(path, f"got a safetensors header of {length} bytes in a file of 32, wanted one", refvlm.FileFormatError)


def test_a_header_that_is_too_long_is_refused_unread(path, monkeypatch):
    write(path, {}, header="{}" + " " * (1 << 22))
    monkeypatch.setattr("refvlm.model.safetensors._parsed", lambda text: pytest.fail("read"))
    refused(path, f"header of {2 + (1 << 22)} bytes in a file of {10 + (1 << 22)}, wanted one", refvlm.FileFormatError)


def test_tensors_that_do_not_fit_into_memory_are_refused(path, monkeypatch):
    write(path, layers_of(3, 5))
    monkeypatch.setattr("refvlm.checks.available_memory", lambda: 20)
    message = "tensor 'fc1.weight' would need 120 bytes, and 20 bytes are available; wanted a smaller one"
    refused(path, message, refvlm.FileFormatError)


def test_truncated_files_are_refused_at_every_length(path):
    whole = write(path, layers_of(3, 5, 4)).read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(refvlm.FileFormatError, match=r"truncated|overlap|not a valid"):
            refvlm.from_safetensors(path, activation="relu")


def test_damaged_files_are_refused_or_harmless(path, tmp_path):
    """One byte changed anywhere: an error of ours, or a network."""
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.2, -0.7]), refvlm.MLP([np.ones((2, 3))], [np.ones(3)]))
    refvlm.save(tmp_path / "model.safetensors", model)
    own = (tmp_path / "model.safetensors").read_bytes()
    for whole, read in (
        (write(path, layers_of(3, 5, 4)).read_bytes(), lambda: refvlm.from_safetensors(path, activation="relu")),
        (own, lambda: refvlm.load(path)),
    ):
        generator = rng()
        for _ in range(500):
            damaged = bytearray(whole)
            damaged[int(generator.integers(len(whole)))] ^= int(generator.integers(1, 256))
            path.write_bytes(damaged)
            with suppress(ValueError):
                read()


def test_other_formats_are_named(path):
    archive = io.BytesIO()
    np.savez(archive, w=np.zeros(3))
    for content, message in (
        (archive.getvalue(), "this is a zip archive, such as torch.save and numpy.savez write"),
        (pickle.dumps({"a": 1}), "this is a Python pickle, which is never loaded"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "this is a pointer of Git LFS"),
        (b"hello, world, this is a text", "it is truncated, or of another format"),
        (b"", "got a safetensors header of 0 bytes in a file of 0"),
    ):
        path.write_bytes(content)
        refused(path, message, refvlm.FileFormatError)
    with pytest.raises(FileNotFoundError):
        refvlm.from_safetensors(path.with_name("nothing"))


# Model files.


@pytest.fixture
def saved(tmp_path):
    model = refvlm.BernoulliLVM(
        refvlm.Bernoulli([np.inf, 0.2, -0.7]), refvlm.MLP.random([3, 5, 4], rng(), activation="elu")
    )
    q = refvlm.AmortisedPosterior(refvlm.MLP.random([4, 2, 3], rng()))
    refvlm.save(tmp_path / "model.safetensors", model, q)
    return tmp_path / "model.safetensors", model, q


def parsed(path):
    """The header, the numbers by name."""
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    assert length % 8 == 0
    header, data = json.loads(raw[8 : 8 + length]), raw[8 + length :]
    metadata = header.pop("__metadata__")
    arrays = {}
    for name, entry in header.items():
        assert entry["dtype"] == "F64"
        arrays[name] = np.frombuffer(data[slice(*entry["data_offsets"])], "<f8").reshape(entry["shape"])
    return metadata, arrays


def test_a_model_file_has_the_keys_of_the_npz_and_the_same_bytes_each_time(saved):
    path, model, q = saved
    again = path.with_name("again.safetensors")
    refvlm.save(again, model, q)
    assert path.read_bytes() == again.read_bytes()
    metadata, arrays = parsed(path)
    refvlm.save(path.with_name("model.npz"), model, q)
    with np.load(path.with_name("model.npz")) as archive:
        assert set(arrays) == set(archive.files) - {"header"}
        assert set(metadata) == {"refvlm"}
        assert json.loads(metadata["refvlm"]) == json.loads(archive["header"].tobytes())
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, archive[name])
    assert sorted(p.name for p in path.parent.iterdir()) == ["again.safetensors", "model.npz", "model.safetensors"]


def test_files_are_known_by_what_they_hold_not_by_their_names(saved):
    path, model, q = saved
    moved = path.rename(path.with_name("model.npz"))
    assert refvlm.load(moved)[0].decoder.activation == "elu"
    refvlm.save(path.with_name("x.npz"), model, q)
    assert refvlm.load(path.with_name("x.npz").rename(path))[0].decoder.activation == "elu"


def test_files_of_others_and_our_own_point_to_each_other(saved, path):
    write(path, layers_of(3, 5, 4), {"format": "pt"})
    with pytest.raises(
        refvlm.FileFormatError, match=r"without refvlm's header; wanted a model file .* refvlm\.from_safetensors"
    ):
        refvlm.load(path)
    refused(
        saved[0], "written by refvlm.save, wanted weights of another program; use refvlm.load", refvlm.FileFormatError
    )


def test_inconsistent_model_files_are_refused(saved):
    path = saved[0]
    metadata, arrays = parsed(path)
    tensors = {name: ("F64", array.shape, array.tobytes()) for name, array in arrays.items()}
    header = json.loads(metadata["refvlm"])
    name = "model.decoder.weights.0"
    for change, message in (
        (
            {"metadata": {"refvlm": json.dumps(header | {"version": 2})}},
            "format version 2, and this refvlm reads up to 1",
        ),
        ({"metadata": {"refvlm": json.dumps(header | {"extra": 2})}}, "header fields"),
        ({"metadata": {"refvlm": "{"}}, "its header is not JSON"),
        ({"metadata": {"refvlm": "\ud800"}}, "its header is not JSON"),
        ({"metadata": {"refvlm": " " * (1 << 17)}}, "without refvlm's header"),
        ({"tensors": {k: v for k, v in tensors.items() if k != name}}, "weights.0' is missing"),
        (
            {"tensors": tensors | {"model.more": f32([1.0])}},
            "array 'model.more': holds F32; wanted F64, that is float64",
        ),
        ({"tensors": tensors | {"model.more": ("F64", (1,), bytes(8))}}, "arrays that do not belong: 'model.more'"),
        ({"tensors": tensors | {name: ("F64", (3, 4), bytes(96))}}, "wanted"),
    ):
        write(path, **({"tensors": tensors, "metadata": metadata} | change))
        with pytest.raises(refvlm.FileFormatError, match=message) as caught:
            refvlm.load(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_model_file_that_does_not_fit_into_memory_is_refused(saved, monkeypatch):
    monkeypatch.setattr("refvlm.checks.available_memory", lambda: 20)
    with pytest.raises(refvlm.FileFormatError, match=r"its arrays would need .* and 20 bytes are available"):
        refvlm.load(saved[0])
