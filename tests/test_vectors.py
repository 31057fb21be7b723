"""The published cases: what they are, that both forms say the same, and that refvlm itself answers them."""

import hashlib
import io
import itertools
import json
import math
import re
import struct
import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from refvlm.cli import main
from refvlm.conformance import ourselves
from refvlm.conformance.comparison import Mismatch, allowed, compare, ulps_between
from refvlm.conformance.fingerprints import as_parts
from refvlm.conformance.plain import Plain
from refvlm.conformance.problems import RefusedError, problem_of, read_problem
from refvlm.conformance.quantities import QUANTITIES, latent_name
from refvlm.conformance.tensors import MalformedError, decode, encode
from refvlm.conformance.vectors import Expected, archive, cases, checks, version, write_vectors

POSITIVE = [check for check in checks() if check.error is None]
NEGATIVE = [check for check in checks() if check.error is not None]


class Single(Plain):
    """The same equations in float32."""

    dtype = np.float32


def entries():
    with zipfile.ZipFile(io.BytesIO(archive())) as stored:
        return {name.split("/", 1)[1]: stored.read(name).decode() for name in stored.namelist()}


ENTRIES = entries()


def schema(name):
    jsonschema = pytest.importorskip("jsonschema")
    text = json.loads(resources.files("refvlm.conformance").joinpath(f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


# The archive


def test_the_cases_are_many_small_and_all_told_below_five_megabytes():
    assert len(cases()) >= 50
    assert len(POSITIVE) >= 400
    assert len(NEGATIVE) >= 80
    assert sum(len(text) for text in ENTRIES.values()) < 5e6
    assert {check.quantity for check in POSITIVE} == set(QUANTITIES)
    assert {check.error for check in NEGATIVE} == {"shape", "domain"}


@pytest.mark.parametrize("name", ["protocol.md", "CHANGELOG-vectors.md", "case.schema.json", "message.schema.json"])
def test_the_archive_carries_the_documents_of_the_package(name):
    assert ENTRIES[name] == resources.files("refvlm.conformance").joinpath(name).read_text(encoding="utf-8")


def test_every_case_is_valid_under_the_schema_and_a_changed_one_is_not():
    validator = schema("case")
    for name in cases():
        case = json.loads(ENTRIES[f"cases/{name}.json"])
        validator.validate(case)
    for spoil in (
        lambda c: c.update(extra=1),
        lambda c: c.pop("why"),
        lambda c: c["model"].update(activation="gelu"),
        lambda c: c["inputs"]["x"]["f64"].__setitem__(0, "3FF"),
        lambda c: c["checks"]["vlb"].pop("scale"),
        lambda c: c["checks"].update(elbo=c["checks"]["vlb"]),
    ):
        case = json.loads(ENTRIES["cases/linear.json"])
        spoil(case)
        assert not validator.is_valid(case)


def test_the_index_of_the_plain_text_lists_every_case():
    assert ENTRIES["text/INDEX"].split() == list(cases())
    assert {name for name in ENTRIES if name.startswith("cases/")} == {f"cases/{name}.json" for name in cases()}


def parse_text(text):
    """What a reader without a JSON parser makes of a case: split at white space, nothing else."""
    words = iter(word for line in text.splitlines() if not line.startswith("#") for word in line.split())
    assert next(words) == "refvlm-case-text-1"
    found = {"id": next(words), "activation": {}, "tensor": {}, "scale": {}, "error": {}}
    for word in words:
        if word == "end":
            return found
        name = next(words)
        if word in ("activation", "error"):
            found[word][name] = next(words)
            continue
        assert word == "tensor"
        shape = [int(next(words)) for _ in range(int(next(words)))]
        numbers, scales = [], []
        for _ in range(math.prod(shape)):
            numbers.append(struct.unpack(">d", bytes.fromhex(next(words)))[0])
            approx = next(words)
            assert approx == "-" or float(approx) == pytest.approx(numbers[-1], rel=1e-5)
            if name.startswith("checks."):
                scales.append(float(next(words)))
        found["tensor"][name] = np.reshape(numbers, shape)
        found["scale"][name] = np.reshape(scales, shape) if name.startswith("checks.") else None
    raise AssertionError("no end")


@pytest.mark.parametrize("name", list(cases()))
def test_plain_text_says_what_json_says(name):
    text, case = parse_text(ENTRIES[f"text/{name}.txt"]), cases()[name]
    assert text["id"] == name
    assert text["activation"] == {"model": case.model.activation, "posterior": case.posterior.activation}
    wanted = {f"model.{k}": v for k, v in case.model.parameters.items()}
    wanted |= {f"posterior.{k}": v for k, v in case.posterior.parameters.items()}
    wanted |= {f"inputs.{k}": v for k, v in case.inputs.items()}
    stored = json.loads(ENTRIES[f"cases/{name}.json"])
    wanted |= {f"intermediates.{k}": decode(k, v) for k, v in stored["intermediates"].items()}
    for quantity, check in case.checks.items():
        for part, expected in (check.expected or {}).items():
            key = f"checks.{quantity}.{part}" if part else f"checks.{quantity}"
            wanted[key] = expected.value
            np.testing.assert_array_equal(text["scale"][key], expected.scale)
    assert text["tensor"].keys() == wanted.keys()
    for key, value in wanted.items():
        np.testing.assert_array_equal(text["tensor"][key], value)
    assert text["error"] == {q: c.error for q, c in case.checks.items() if c.error}


def test_write_vectors_and_the_archive_give_the_same_files(tmp_path, capsys):
    assert main(["vectors", str(tmp_path / "out"), "--archive", str(tmp_path / "v.zip")]) == 0
    assert "protocol.md" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "v.zip") as stored:
        for name in stored.namelist():
            assert (tmp_path / "out" / Path(*Path(name).parts[1:])).read_bytes() == stored.read(name)
    assert len(write_vectors(tmp_path / "again")) == len(ENTRIES)


def test_vectors_wants_a_place_and_says_where_it_cannot_write(tmp_path, capsys):
    assert main(["vectors"]) == 2
    assert "wanted DIR" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["vectors", str(tmp_path / "file")]) == 73
    assert capsys.readouterr().err.count("\n") == 1


# The version


def editions(changelog):
    """Of every entry, the newest first: version, cases, checks, digest, ids of the cases that it adds."""
    found = []
    for entry in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        head = r"(\d+\.\d+\.\d+) \(\d{4}-\d\d-\d\d\)\n\n(\d+) cases, (\d+) checks, sha256 `([0-9a-f]{64})`\n"
        number, count, asked, digest = re.match(head, entry).groups()
        adds = re.findall(r"`([^`]+)`", next(iter(re.findall(r"Adds:.*?(?:\n\n|\n- |\Z)", entry, re.DOTALL)), ""))
        found.append((number, int(count), int(asked), digest, adds))
    return found


def count_of(entries, without=()):
    """(cases, checks, digest) of these entries but for some cases; the digest as `sha256sum` would have it."""
    kept = {
        name: text
        for name, text in entries.items()
        if re.fullmatch(r"cases/.*\.json|text/.*\.txt", name) and Path(name).stem not in without
    }
    stated = [json.loads(text) for name, text in kept.items() if name.startswith("cases/")]
    lines = "".join(f"{hashlib.sha256(kept[name].encode()).hexdigest()}  {name}\n" for name in sorted(kept))
    return len(stated), sum(len(c["checks"]) for c in stated), hashlib.sha256(lines.encode()).hexdigest()


def check_editions(changelog, entries):
    """That the cases are those of the newest version, and without what each version adds those of the one before."""
    listed = editions(changelog)
    versions = [tuple(map(int, number.split("."))) for number, *_ in listed]
    assert versions == sorted(set(versions), reverse=True)
    later = []
    for number, count, asked, digest, adds in listed:
        assert (count, asked, digest) == count_of(entries, later), f"{number} is not what was published"
        later += adds
    return listed


PUBLISHED = {
    "1.1.0": "0ccfa202d8e49109b077d018ab4ed3113c7d7a84da403e1130d36b0f01d499b5",
    "1.0.0": "3b0422bd4b1403aae9d3f5211cd2926d4447dd705385154e32392612448efb8e",
}
"""Digests: an entry of the changelog does not change either."""


def test_the_cases_are_those_of_the_version_and_each_version_keeps_those_before():
    listed = check_editions(ENTRIES["CHANGELOG-vectors.md"], ENTRIES)
    assert {number: digest for number, _, _, digest, _ in listed} == PUBLISHED


def another(entries):
    """The entries with one more case."""
    case = json.dumps(json.loads(entries["cases/linear.json"]) | {"id": "another"})
    return entries | {"cases/another.json": case, "text/another.txt": entries["text/linear.txt"]}


def test_a_case_more_or_a_case_changed_wants_a_new_version():
    changelog = ENTRIES["CHANGELOG-vectors.md"]
    for entries in (another(ENTRIES), ENTRIES | {"text/linear.txt": ENTRIES["text/linear.txt"] + "\n"}):
        with pytest.raises(AssertionError, match=r"1\.1\.0 is not what was published"):
            check_editions(changelog, entries)
    count, asked, digest = count_of(another(ENTRIES))
    entry = f"## 1.2.0 (2027-01-31)\n\n{count} cases, {asked} checks, sha256 `{digest}`\n\n"
    before, mark, after = changelog.partition("## 1.1.0")
    check_editions(f"{before}{entry}- One more. Adds: `another`\n\n{mark}{after}", another(ENTRIES))
    with pytest.raises(AssertionError, match=r"1\.1\.0 is not what was published"):
        check_editions(f"{before}{entry}- One more.\n\n{mark}{after}", another(ENTRIES))


def test_the_version_is_the_same_everywhere(tmp_path, capsys):
    changelog = resources.files("refvlm.conformance").joinpath("CHANGELOG-vectors.md").read_text(encoding="utf-8")
    number, count, asked, digest, _ = editions(changelog)[0]
    stated = {"version": number, "cases": count, "checks": asked, "sha256": digest}
    assert json.loads(ENTRIES["manifest.json"]) == stated
    assert version() == number
    assert main(["vectors", str(tmp_path), "--archive", str(tmp_path / "v.zip")]) == 0
    assert capsys.readouterr().err.count(f"vectors {number}") == 2
    assert json.loads((tmp_path / "manifest.json").read_text()) == stated


def test_the_digest_is_what_the_changelogs_command_gives(tmp_path):
    if sys.platform == "win32":
        pytest.skip("a command for a Unix shell")
    write_vectors(tmp_path)
    command = re.search(r"```sh\n(.*?)```", ENTRIES["CHANGELOG-vectors.md"], re.DOTALL)[1]
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split()[0] == json.loads(ENTRIES["manifest.json"])["sha256"]


# What a case is made of


@pytest.mark.parametrize("case", [c for c in cases().values() if not any(k.error for k in c.checks.values())], ids=str)
def test_no_two_dimensions_of_a_case_are_equal(case):
    latents, prefix, lengths = [], "", {"N": len(case.inputs["x"])}
    while f"{prefix}decoder.weights.0" in case.model.parameters:
        latents.append(len(case.model.parameters[f"{prefix}decoder.weights.0"]))
        prefix += "prior."
    lengths |= {f"K{d}": k for d, k in enumerate(latents)} | {f"C{d}": 1 << k for d, k in enumerate(latents)}
    for part in (case.model, case.posterior):
        for name, value in part.parameters.items():
            stem, _, depth = name.rpartition(".")
            if stem.endswith("biases") and f"{stem}.{int(depth) + 1}" in part.parameters:
                lengths[f"{id(part)} {name}"] = len(value)
    lengths["L"] = case.inputs["x"].shape[1]
    if "uniforms_x" in case.inputs:
        lengths["S"] = len(case.inputs["uniforms_x"])
    assert len(set(lengths.values())) == len(lengths), lengths


def test_every_prior_has_parameters_that_matter():
    for case in cases().values():
        top = next(value for name, value in case.model.parameters.items() if name.endswith("prior.logits"))
        assert np.any(top != 0), case.id


@pytest.mark.parametrize("check", [c for c in POSITIVE if c.quantity == "sample"], ids=lambda c: c.case.id)
def test_uniforms_are_clear_of_their_probabilities_but_for_exact_ties(check):
    plain = Plain(problem_of(check))
    layers = plain.dream()
    logits = [plain.decode(d, z) for d, z in zip(plain.decoders, layers[1:], strict=True)]
    logits.append(np.broadcast_to(plain.top, layers[-1].shape))
    names = ["x", *(latent_name(d) for d in range(len(layers) - 1))]
    ties = 0
    for name, a in zip(names, logits, strict=True):
        u, p = plain.inputs[f"uniforms_{name}"], plain.sigmoid(a)
        tie = (u == p) | ((p == 1) & (u < 1))
        assert np.all((np.abs(u - p) > 1e-3) | tie)
        ties += int((u == p).sum())
    assert (ties > 0) == (check.case.id == "ties")


# Answers


def answered(check, implementation):
    return as_parts(implementation(problem_of(check)))


@pytest.mark.parametrize("check", POSITIVE, ids=lambda c: c.id)
def test_refvlm_answers_every_case_at_its_float64_tolerance(check):
    assert compare(check.expected, answered(check, ourselves.answer), "float64") is None


@pytest.mark.parametrize("quantity", list(QUANTITIES))
def test_the_plain_implementation_does_too(quantity):
    for check in POSITIVE:
        if check.quantity == quantity:
            assert compare(check.expected, answered(check, lambda p: Plain(p).answer()), "float64") is None, check.id


@pytest.mark.parametrize("quantity", list(QUANTITIES))
def test_single_precision_passes_as_float32_and_fails_as_float64(quantity):
    failed = 0
    for check in (c for c in POSITIVE if c.quantity == quantity):
        got = answered(check, lambda p: Single(p).answer())
        assert compare(check.expected, got, "float32") is None, check.id
        failed += compare(check.expected, got, "float64") is not None
    count = sum(c.quantity == quantity for c in POSITIVE)
    assert failed >= (0 if quantity == "sample" else 0.85 * count)


@pytest.mark.parametrize("check", NEGATIVE, ids=lambda c: c.id)
def test_wrong_questions_are_refused_by_the_code_that_must_come(check):
    with pytest.raises(RefusedError) as caught:
        read_problem(check.quantity, check.case.model, check.posterior, check.inputs)
    assert caught.value.code == check.error


@pytest.mark.parametrize("check", POSITIVE, ids=lambda c: c.id)
def test_sound_questions_are_not_refused_and_those_that_lack_something_are(check):
    case, posterior, inputs = check.case, check.posterior, check.inputs
    assert (posterior is not None) == QUANTITIES[check.quantity].posterior
    assert all(value is case.inputs[name] for name, value in inputs.items())
    read_problem(check.quantity, case.model, posterior, inputs)
    for name in inputs:
        with pytest.raises(RefusedError, match=f"there is no '{name}'"):
            read_problem(check.quantity, case.model, posterior, {k: v for k, v in inputs.items() if k != name})
    for name in case.model.parameters:
        rest = case.model._replace(parameters={k: v for k, v in case.model.parameters.items() if k != name})
        with pytest.raises(RefusedError):
            read_problem(check.quantity, rest, posterior, inputs)
    if posterior is not None:
        with pytest.raises(RefusedError, match="there is no"):
            read_problem(check.quantity, case.model, None, inputs)


@pytest.mark.parametrize("check", POSITIVE[::7], ids=lambda c: c.id)
def test_a_change_of_twice_the_tolerance_is_seen_in_every_entry(check):
    for name, (value, scale) in check.expected.items():
        bound = scale * 2.0**-53 + 1024 * 2.0**-1022
        for index in itertools.islice(np.ndindex(value.shape), 40):
            if not math.isfinite(value[index]):
                continue
            changed = {part: expected.value.copy() for part, expected in check.expected.items()}
            changed[name][index] += 2 * bound[index] + np.spacing(abs(value[index]))
            found = compare(check.expected, changed, "float64")
            assert found is not None
            assert (found.part, found.index, found.wrong) == (name, index, 1)


def test_tolerances_are_a_small_multiple_of_what_a_plain_program_needs():
    worst = dict.fromkeys(QUANTITIES, 0.0)
    for check in POSITIVE:
        got = answered(check, lambda p: Plain(p).answer())
        for name, (value, scale) in check.expected.items():
            finite = np.isfinite(value)
            off = np.where(finite, np.abs(np.where(finite, got[name], 0.0) - np.where(finite, value, 0.0)), 0.0)
            worst[check.quantity] = max(worst[check.quantity], np.max(off / allowed(scale, "float64"), initial=0.0))
    assert max(worst.values()) < 0.5
    relative = [
        np.max(e.scale * 2.0**-53 / np.maximum(np.abs(e.value), 1))
        for check in POSITIVE
        for e in check.expected.values()
        if np.isfinite(e.value).all() and e.value.size
    ]
    assert max(relative) < 2e-9
    assert np.median(relative) < 1e-13


# Comparison and tensors


def test_nan_is_never_right_and_infinities_must_be_met():
    expected = {"": Expected(np.array([1.0, -np.inf, np.inf]), np.array([1.0, 0.0, 0.0]))}
    assert compare(expected, np.array([1.0, -np.inf, np.inf]), "float64") is None
    for wrong in ([np.nan, -np.inf, np.inf], [1.0, np.inf, np.inf], [1.0, -1e308, np.inf], [1.0, np.nan, np.inf]):
        found = compare(expected, np.array(wrong), "float64")
        assert found is not None
        assert found.wrong == 1
    assert compare(expected, np.ones(2), "float64").what == "got shape (2,), wanted (3,)"
    assert "wanted one array" in compare(expected, {"a": np.ones(3)}, "float64").what


def test_names_of_parts_must_be_those_that_are_wanted():
    one = Expected(np.ones(2), np.ones(2))
    assert "got no array 'b'" in compare({"a": one, "b": one}, {"a": np.ones(2)}, "float64").what
    assert "unknown name 'c'" in compare({"a": one}, {"a": np.ones(2), "c": np.ones(2)}, "float64").what
    assert "wanted arrays by name: a" in compare({"a": one}, np.ones(2), "float64").what
    assert isinstance(compare({"a": one}, {"a": np.ones(2) + 1}, "float64"), Mismatch)


def test_ulps_count_representable_numbers():
    assert ulps_between(1.0, 1.0 + 2.0**-52, "float64") == 1
    assert ulps_between(1.0, float(np.nextafter(np.float32(1), np.float32(2))), "float32") == 1
    assert ulps_between(1.0, math.nan, "float64") == math.inf
    assert ulps_between(-math.inf, -math.inf, "float64") == 0


@given(arrays(np.float64, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), elements=st.floats()))
def test_tensors_survive_the_journey_bit_by_bit(array):
    there = decode("t", json.loads(json.dumps(encode(array), allow_nan=False)))
    assert there.shape == array.shape
    assert there.tobytes() == array.tobytes()


@given(arrays(np.float64, (2, 3), elements=st.floats(allow_nan=False, allow_infinity=False)))
def test_plain_lists_are_tensors_too(array):
    np.testing.assert_array_equal(decode("t", json.loads(json.dumps(array.tolist()))), array)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1.5, "one number alone is written [number]"),
        (None, "got null"),
        (True, "got true"),
        ("x" * 100, "got 'xxx"),
        ([1, [2]], "rectangular"),
        ([[1], 2], "unequal lengths"),
        ([[1], [2, 3]], "unequal lengths"),
        ([True], "got true among its numbers"),
        ([None], "got null among its numbers"),
        ([10**400], "beyond float64"),
        ([[[[[1]]]]], "nested more than 4 deep"),
        ({"shape": [1]}, "no field 'f64'"),
        ({"shape": [1], "f64": ["3FF0000000000000"], "f32": []}, "unknown field 'f32'"),
        ({"shape": [True], "f64": ["3FF0000000000000"]}, "list of integers"),
        ({"shape": [-1], "f64": []}, "list of integers"),
        ({"shape": [1 << 30], "f64": []}, "at most"),
        ({"shape": [2], "f64": ["3FF0000000000000"]}, "wanted 2, the product"),
        ({"shape": [1], "f64": "3FF0000000000000"}, "wanted 1"),
        ({"shape": [1], "f64": ["3ff"]}, "16 hexadecimal digits"),
        ({"shape": [1], "f64": [1.0]}, "16 hexadecimal digits"),
        ({"shape": [1], "f64": ["3FF0000000000000"], "approx": [1, 2]}, "approx"),
    ],
)
def test_what_is_no_tensor_is_named(value, said):
    with pytest.raises(MalformedError, match=r"^result: ") as caught:
        decode("result", value)
    assert said in str(caught.value)
