"""Model files; those in the safetensors format have further tests in test_safetensors.py."""

import io
import json
import pickle
import zipfile
from contextlib import suppress

import numpy as np
import pytest
from problems import binary, deep, network, shallow

import refvlm


def rng():
    return np.random.default_rng(0)


def every_kind():
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.2, -0.7]), network([3, 5, 4], rng(), "sigmoid"))
    yield model, None
    yield model, refvlm.AmortisedPosterior(network([4, 2, 3], rng(), "relu"))
    yield model, refvlm.PerDatumPosterior([[np.inf, 0.5, -1.0], [1e9, -np.inf, 0.1]])
    stages = [refvlm.AmortisedPosterior(network(s, rng())) for s in ([6, 5], [5, 7, 3], [3, 2])]
    yield refvlm.BernoulliLVM(deep(2, 3, 5, rng()), network([5, 4, 6], rng())), refvlm.ChainPosterior(stages)


@pytest.mark.parametrize("name", ["model.npz", "model.safetensors", "model.SafeTensors", "model"])
@pytest.mark.parametrize("kind", range(4))
def test_loading_gives_back_what_was_saved(kind, name, tmp_path):
    model, posterior = list(every_kind())[kind]
    path = tmp_path / name
    refvlm.save(path, model, posterior)
    assert (path.read_bytes()[:2] == b"PK") == (path.suffix.lower() != ".safetensors")
    again, q = refvlm.load(path)
    assert type(q) is type(posterior)
    for saved, loaded in ((model, again), (posterior, q)):
        if saved is not None:
            before, after = saved.parameters(), loaded.parameters()
            assert list(before) == list(after)
            assert all(before[name].tobytes() == after[name].tobytes() for name in before)
    if not isinstance(model.prior, refvlm.Bernoulli):
        x = binary(3, 6, rng())
        assert (refvlm.decompose(again, q, x).vlb == refvlm.decompose(model, posterior, x).vlb).all()


def test_the_same_model_gives_the_same_bytes_and_numpy_can_read_them(tmp_path):
    model, q = list(every_kind())[1]
    for name in ("a.npz", "b.npz"):
        refvlm.save(tmp_path / name, model, q)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
        assert header["version"] == 1
        assert set(archive.files) == {
            "header",
            *(f"model.{name}" for name in model.parameters()),
            *(f"posterior.{name}" for name in q.parameters()),
        }


def rewritten(path, header=None, drop=(), **arrays):
    """The saved file at `path` with its header's fields or arrays changed."""
    with np.load(path) as archive:
        content = {name: archive[name] for name in archive.files if name not in drop}
    fields = json.loads(content["header"].tobytes()) | (header or {})
    content["header"] = np.frombuffer(json.dumps(fields).encode(), dtype=np.uint8)
    with open(path, "wb") as file:
        np.savez(file, **(content | arrays))


@pytest.fixture
def saved(tmp_path):
    model, q = list(every_kind())[1]
    refvlm.save(tmp_path / "model.npz", model, q)
    return tmp_path / "model.npz"


def assert_refused(path, message):
    with pytest.raises(refvlm.FileFormatError, match=message) as caught:
        refvlm.load(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_files_are_refused_at_every_length(saved):
    whole = saved.read_bytes()
    for length in [0, 1, 3, 100, *range(200, len(whole), 97), len(whole) - 1]:
        saved.write_bytes(whole[:length])
        assert_refused(saved, "truncated|no .npz archive")


def test_damaged_files_are_refused_or_harmless(saved):
    """One byte changed anywhere: an error of ours, or (inside a float, an unread field) a model."""
    whole = bytearray(saved.read_bytes())
    generator = rng()
    for _ in range(300):
        at = int(generator.integers(len(whole)))
        damaged = bytearray(whole)
        damaged[at] ^= int(generator.integers(1, 256))
        saved.write_bytes(damaged)
        with suppress(refvlm.FileFormatError):
            assert isinstance(refvlm.load(saved)[0], refvlm.BernoulliLVM)


def test_foreign_and_pickled_files_are_refused(saved):
    for content, message in (
        (b"hello, world", "no .npz archive"),
        (pickle.dumps({"a": 1}), "Python pickle, which is never loaded"),
    ):
        saved.write_bytes(content)
        assert_refused(saved, message)
    np.save(saved.with_suffix(".npy"), np.zeros(3))
    assert_refused(saved.with_suffix(".npy"), "single .npy array")
    with open(saved, "wb") as file:
        np.savez(file, weights=np.zeros(3))
    assert_refused(saved, "without refvlm's header")
    with open(saved, "wb") as file:
        np.savez(file, header=np.array([{"a": 1}], dtype=object))
    assert_refused(saved, "array 'header': holds pickled Python objects, which are never loaded")
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("readme.txt", "hi")
    assert_refused(saved, "without refvlm's header")
    with open(saved, "wb") as file:
        np.savez(file, header=np.frombuffer(b"{not json", dtype=np.uint8))
    assert_refused(saved, "its header is not JSON")


def test_pickles_inside_a_file_are_never_executed(saved, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (open, (str(tmp_path / "boom"), "w"))

    rewritten(saved, **{"model.prior.logits": np.array([Bomb()], dtype=object)})
    assert_refused(saved, "never loaded")
    assert not (tmp_path / "boom").exists()


def test_inconsistent_files_are_refused(saved):
    whole = saved.read_bytes()
    for change, message in (
        ({"header": {"version": 2}}, "format version 2, and this refvlm reads up to 1"),
        ({"header": {"version": "1"}}, "format version str"),
        ({"header": {"version": True}}, "format version bool"),
        ({"header": {"format": "other"}}, "foreign header"),
        ({"header": {"extra": 1}}, "header fields"),
        ({"header": {"model": None}}, "header: got NoneType"),
        ({"header": {"model": {"kind": "model", "prior": {"kind": "gauss"}, "decoder": {}}}}, "wanted an object with"),
        ({"header": {"posterior": {"kind": "flow"}}}, "wanted 'amortised', 'per-datum', 'chain' or 'layerwise'"),
        ({"header": {"posterior": None}}, "arrays that do not belong: 'posterior"),
        ({"drop": ("model.decoder.weights.1",)}, "weights.1' is missing"),
        ({"model.decoder.weights.9": np.zeros((2, 2))}, "arrays that do not belong: 'model"),
        ({"model.decoder.weights.0": np.zeros((3, 4))}, "wanted"),
        ({"model.decoder.weights.0": np.zeros((3, 5), dtype=np.float32)}, "dtype float32; wanted float64"),
        ({"model.decoder.biases.0": np.full(5, np.nan)}, r"biases\[0\]: got nan"),
    ):
        saved.write_bytes(whole)
        rewritten(saved, **change)
        assert_refused(saved, message)


def test_a_small_archive_that_claims_to_be_huge_is_refused_before_memory_is_taken(saved):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(saved) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(saved, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (members | {"model.prior.logits.npy": stream.getvalue()}).items():
            archive.writestr(name, content)
    assert_refused(saved, "cut short")


def test_a_file_that_does_not_fit_into_memory_is_refused_as_such(saved, monkeypatch):
    monkeypatch.setattr("refvlm.checks.available_memory", lambda: 20)
    assert_refused(saved, r"model\.npz: its arrays would need .*, and 20 bytes are available; wanted a smaller file$")


@pytest.mark.parametrize(
    "text", ["{'descr': '<f8', 'fortran_order': False, 'shape': (3,), (", "((((", "9" * 5000, "\x00"]
)
def test_hostile_array_headers_are_refused(saved, text):
    header = text.encode().ljust(118) + b"\n"
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("header.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    assert_refused(saved, "header")


def test_missing_files_and_unwritable_places_raise_os_errors(tmp_path):
    model, _ = next(every_kind())
    with pytest.raises(FileNotFoundError):
        refvlm.load(tmp_path / "nothing.npz")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        refvlm.save(tmp_path / "file" / "model.npz", model)
    with pytest.raises(OSError, match=str(tmp_path)):
        refvlm.save(tmp_path, model)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file"]


def test_only_networks_that_a_file_can_describe_are_saved(tmp_path):
    class Decoder:
        fan_in, fan_out, forward, parameters = 2, 3, None, None

    with pytest.raises(TypeError, match=r"decoder: got .*, wanted an MLP"):
        refvlm.save(tmp_path / "m.npz", refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(2)), Decoder()))
    with pytest.raises(TypeError, match="model: got str"):
        refvlm.save(tmp_path / "m.npz", "model")
    with pytest.raises(TypeError, match="posterior: got str"):
        refvlm.save(tmp_path / "m.npz", shallow(2, (), 3, rng()), "q")
    assert not list(tmp_path.iterdir())
