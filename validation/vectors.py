"""The conformance vectors, made and checked: `python validation/vectors.py [--case ID] [--write | --documents]`.

Without --write every case is computed again in sixty digits, by `exact_quantities.py`, which imports nothing of refvlm,
and compared with what `refvlm/conformance/vectors.zip` holds; a case that differs in one bit is named. With --write the
archive is made: the cases as JSON and as plain text, with the schemas and the protocol beside them. Either way every
gradient and every step is held against central differences in a hundred digits, one random direction per tensor, and
no case may have two dimensions alike. With --documents nothing is computed: the protocol, the changelog and the schemas
in the archive are replaced, the schemas after the lists of quantities and activations in them have been brought up to
date. No archive is written whose cases are not those that the newest entry of the changelog counts: new cases want a
new version.

Prints one line for each case; exit code 1 if anything disagrees.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import itertools
import json
import math
import random
import re
import struct
import sys
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from common import AGREES, DISAGREES
from exact_quantities import HOUSE, LIST, QUANTITIES, Problem
from mpmath import mp, mpf
from running_error import SAFETY, Number, exact, nearest, total
from vector_cases import (
    Case,
    dimensions,
    negative_cases,
    negative_weighted_cases,
    positive_cases,
    weighted_cases,
)

ARCHIVE = HOUSE / "vectors.zip"
SCHEMAS = ("case.schema.json", "message.schema.json")
CHANGELOG, MANIFEST = "CHANGELOG-vectors.md", "manifest.json"
ROOT = "refvlm-vectors-1"
FORMAT = "refvlm-case-1"


# Numbers as text -------------------------------------------------------------------------------------------------


def flatten(value: Any) -> list[Any]:
    """The leaves, row by row."""
    if isinstance(value, list):
        return [leaf for part in value for leaf in flatten(part)]
    return [value]


def shape_of(value: Any, empty: tuple[int, ...] = ()) -> list[int]:
    """The shape of nested lists; `empty` says what lies behind an axis of length 0."""
    if not isinstance(value, list):
        return []
    return [len(value), *(shape_of(value[0]) if value else empty)]


def bits_of(value: float) -> str:
    """16 hexadecimal digits of the IEEE double, most significant first; NaN is the quiet one."""
    return "7FF8000000000000" if math.isnan(value) else struct.pack(">d", value).hex().upper()


def tensor(value: Any, empty: tuple[int, ...] = ()) -> dict[str, Any]:
    """shape, bits and approximations of nested lists of floats or Numbers."""
    leaves = [nearest(leaf.v) if isinstance(leaf, Number) else float(leaf) for leaf in flatten(value)]
    return {
        "shape": shape_of(value, empty),
        "f64": [bits_of(leaf) for leaf in leaves],
        "approx": [float(f"{leaf:.6g}") if math.isfinite(leaf) else None for leaf in leaves],
    }


def scale(value: Any) -> list[float]:
    """SAFETY times the running errors, rounded up to three digits."""
    return [upwards(SAFETY * leaf.e) for leaf in flatten(value)]


def upwards(value: float) -> float:
    """The next number of three digits."""
    if value < 1e-300:
        return 0.0
    exponent = math.floor(math.log10(value)) - 2
    above = float(f"{math.ceil(value / 10.0**exponent)}e{exponent}")
    return above if above >= value else float(f"{math.ceil(value / 10.0**exponent) + 1}e{exponent}")


# A case as it is published ---------------------------------------------------------------------------------------


def published(case: Case) -> dict[str, Any]:
    """The case with everything computed."""
    columns = len(case["inputs"]["x"][0]) if case["inputs"].get("x") and isinstance(case["inputs"]["x"][0], list) else 5
    empty = {"x": (columns,), "z": (3,)}
    stated: dict[str, Any] = {
        "format": FORMAT,
        "id": case["id"],
        "why": case["why"],
        "catches": case["catches"],
        "model": with_tensors(case["model"]),
        "posterior": with_tensors(case["posterior"]),
        "inputs": {name: tensor(value, empty.get(name, ())) for name, value in case["inputs"].items()},
        "intermediates": {} if "error" in case else intermediates(Problem(case)),
        "checks": {},
    }
    problem = None if "error" in case else Problem(case)
    for quantity in case["quantities"]:
        check: dict[str, Any] = {
            "inputs": [name for name in case["inputs"] if takes(quantity, name)],
            "posterior": LIST["quantities"][quantity]["posterior"],
        }
        if problem is None:
            check["error"] = case["error"]
        else:
            result = QUANTITIES[quantity](problem)
            named = isinstance(result, dict)
            tail = {"posterior": (8,), "posterior_mean": (3,)}.get(quantity, ())
            check["result"] = {name: tensor(value) for name, value in result.items()} if named else tensor(result, tail)
            check["scale"] = {name: scale(value) for name, value in result.items()} if named else scale(result)
        stated["checks"][quantity] = check
    return stated


def takes(quantity: str, name: str) -> bool:
    """Whether the quantity needs the input of that name."""
    patterns = LIST["quantities"][quantity]["inputs"]
    return any(name == pattern or (pattern[-1] == "*" and name.startswith(pattern[:-1])) for pattern in patterns)


def with_tensors(network: dict[str, Any]) -> dict[str, Any]:
    return network | {"parameters": {name: tensor(value) for name, value in network["parameters"].items()}}


def intermediates(problem: Problem) -> dict[str, Any]:
    """What lies between the parameters and the answers: for every code, and for every row and code."""
    tensors: dict[str, Any] = {}
    for layer in problem.model.layers():
        for depth in range(len(layer.decoder.layers) - 1):
            tensors[f"{layer.prefix}decoder.affine.{depth}"] = tensor([values[depth] for values in layer.steps])
        tensors[f"{layer.prefix}decoder.logits"] = tensor([values[-1] for values in layer.steps])
    tensors["log_prior"] = tensor([problem.model.log_priors[z] for z in problem.model.codes])
    columns = len(problem.model.codes)
    tensors["log_likelihood"] = tensor(
        [[problem.model.log_likelihood(x, z) for z in problem.model.codes] for x in problem.x], (columns,)
    )
    tensors["log_joint"] = tensor([problem.model.log_joints(x) for x in problem.x], (columns,))
    if problem.q is not None:
        below: list[list[Any]] = [problem.x, *(layer.codes for layer in problem.model.layers())]
        for prefix, encoder, inputs in zip(problem.q.prefixes, problem.q.encoders, below, strict=False):
            tensors[f"{prefix}logits"] = tensor([encoder.logits(row) for row in inputs], (len(encoder.layers[-1][1]),))
    return tensors


def as_text(case: dict[str, Any]) -> str:
    """The same for readers without a JSON parser: words and numbers, split at white space, one number a line."""
    lines = [f"refvlm-case-text-1 {case['id']}", f"# {case['why']}"]
    lines += [f"# catches {' '.join(case['catches'])}"] if case["catches"] else []
    for part in ("model", "posterior"):
        lines.append(f"activation {part} {case[part]['activation']}")
        for name, value in case[part]["parameters"].items():
            lines += text_tensor(f"{part}.{name}", value)
    for kind in ("inputs", "intermediates"):
        for name, value in case[kind].items():
            lines += text_tensor(f"{kind}.{name}", value)
    for quantity, check in case["checks"].items():
        if "error" in check:
            lines.append(f"error {quantity} {check['error']}")
        elif "shape" in check["result"]:
            lines += text_tensor(f"checks.{quantity}", check["result"], check["scale"])
        else:
            for name, value in check["result"].items():
                lines += text_tensor(f"checks.{quantity}.{name}", value, check["scale"][name])
    return "\n".join([*lines, "end", ""])


def text_tensor(name: str, value: dict[str, Any], scales: list[float] | None = None) -> list[str]:
    """`tensor NAME AXES LENGTH...`, then a line for every number: bits, approximation and, of a result, its scale."""
    lines = [" ".join(["tensor", name, str(len(value["shape"])), *map(str, value["shape"])])]
    for i, (bits, approx) in enumerate(zip(value["f64"], value["approx"], strict=True)):
        shown = "-" if approx is None else f"{approx:.6g}"
        lines.append(f"{bits} {shown}" + ("" if scales is None else f" {scales[i]:.3g}"))
    return lines


# The archive -----------------------------------------------------------------------------------------------------


def documents() -> dict[str, str]:
    """Protocol, changelog and schemas by name, the schemas with the lists that they repeat brought up to date."""
    texts = {name: (HOUSE / name).read_text(encoding="utf-8") for name in ("protocol.md", CHANGELOG, *SCHEMAS)}
    for name in SCHEMAS:
        schema = json.loads(texts[name])
        schema["$defs"]["quantity"] = {"enum": list(LIST["quantities"])}
        if name == "case.schema.json":
            used = dict.fromkeys(case[part]["activation"] for case in every_case() for part in ("model", "posterior"))
            schema["$defs"]["activation"] = {"enum": list(used)}
        texts[name] = json.dumps(schema, indent=1) + "\n"
    return texts


def files(cases: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(name, text) of everything in the archive but the manifest."""
    yield from documents().items()
    yield "text/INDEX", "".join(f"{case['id']}\n" for case in cases)
    for case in cases:
        yield f"cases/{case['id']}.json", json.dumps(case, separators=(",", ":"), allow_nan=False) + "\n"
        yield f"text/{case['id']}.txt", as_text(case)


def counted(entries: dict[str, str]) -> dict[str, Any]:
    """How many cases and checks there are, and the digest of the case files, as the changelog states them."""
    cases = [json.loads(text) for name, text in entries.items() if name.startswith("cases/")]
    held = sorted(name for name in entries if re.match(r"cases/.*\.json|text/.*\.txt", name))
    lines = (f"{hashlib.sha256(entries[name].encode('utf-8')).hexdigest()}  {name}\n" for name in held)
    return {
        "cases": len(cases),
        "checks": sum(len(case["checks"]) for case in cases),
        "sha256": hashlib.sha256("".join(lines).encode("ascii")).hexdigest(),
    }


def newest(changelog: str) -> dict[str, Any]:
    """The version of the changelog's first entry, and what the entry counts."""
    entry = r"^## (\d+\.\d+\.\d+) \(.*\)\n\n(\d+) cases, (\d+) checks, sha256 `(\w*)`$"
    found = re.search(entry, changelog, re.MULTILINE)
    if found is None:
        raise ValueError(f"{CHANGELOG}: no entry; wanted '## 1.0.0 (date)', then '51 cases, 531 checks, sha256 `...`'")
    return {"version": found[1], "cases": int(found[2]), "checks": int(found[3]), "sha256": found[4]}


def with_manifest(entries: dict[str, str]) -> dict[str, str]:
    """The entries of an archive, the manifest first: the version of the changelog, with what there is."""
    made = {"version": newest(entries[CHANGELOG])["version"], **counted(entries)}
    return {MANIFEST: json.dumps(made, indent=1) + "\n"} | {k: v for k, v in entries.items() if k != MANIFEST}


def unstated(entries: dict[str, str]) -> list[str]:
    """What the newest entry of the changelog says otherwise than it is."""
    stated, made = newest(entries[CHANGELOG]), counted(entries)
    return [
        f"{CHANGELOG}: {stated['version']} states {name} {stated[name]}, and there is {value}; what was published "
        "stays, new cases want an entry of their own"
        for name, value in made.items()
        if stated[name] != value
    ]


def write(entries: dict[str, str]) -> bool:
    """Write the schemas, and the archive as a zip file whose entries carry no date; or say why not, and give False."""
    for reason in (reasons := unstated(entries)):
        print(f"DISAGREES: {reason}")
    if reasons:
        return False
    entries = with_manifest(entries)
    for name in SCHEMAS:
        (HOUSE / name).write_text(entries[name], encoding="utf-8")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as out:
        for name, text in entries.items():
            entry = zipfile.ZipInfo(f"{ROOT}/{name}", (1980, 1, 1, 0, 0, 0))
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            out.writestr(entry, text.encode("utf-8"))
    ARCHIVE.write_bytes(buffer.getvalue())
    version = json.loads(entries[MANIFEST])["version"]
    print(f"wrote {ARCHIVE.name}, version {version}: {len(entries)} files, {ARCHIVE.stat().st_size} bytes")
    return True


def stored() -> dict[str, str]:
    """(name, text) of everything in the archive as it is."""
    with zipfile.ZipFile(ARCHIVE) as archive:
        return {name.removeprefix(f"{ROOT}/"): archive.read(name).decode("utf-8") for name in archive.namelist()}


def differing(cases: list[dict[str, Any]], complete: bool) -> list[str]:
    """Names of entries that the archive lacks, has too many (if the cases are complete), or has otherwise."""
    wanted, present = with_manifest(dict(files(cases))), stored()
    names = wanted.keys() | present.keys() if complete else wanted.keys() - {"text/INDEX", MANIFEST}
    return sorted(name for name in names if wanted.get(name) != present.get(name))


# Central differences ---------------------------------------------------------------------------------------------

DIGITS, STEP, AGREEMENT = 100, mpf(10) ** -30, 1e-40
"""A central difference with this step is off by about STEP**2 of the third derivative."""


def largest_disagreement(case: Case) -> float:
    """Over all derivatives and tensors: |difference quotient - <gradient, direction>|, relative."""
    derivatives = {name for name in case["quantities"] if LIST["quantities"][name]["kind"] in ("gradient", "step")}
    worst = 0.0
    for quantity in sorted(derivatives):
        result = QUANTITIES[quantity](Problem(case))
        for name, gradient in result.items():
            if "zero" in case["id"] and name.endswith(".0"):
                continue  # relu has no derivative there; 0 is a convention
            worst = max(worst, disagreement(case, quantity, name, gradient))
    return worst


def disagreement(case: Case, quantity: str, name: str, gradient: Any) -> float:
    if quantity in ("grad_vlb", "grad_iwae", "rws_update"):
        part, bare = name.split(".", 1)
    else:
        part, bare = "posterior" if quantity == "sleep_step" else "model", name
    value = case[part]["parameters"][bare]
    source = random.Random(f"{case['id']} {quantity} {name}")
    direction = [mpf(source.uniform(-1, 1)) if math.isfinite(leaf) else mpf(0) for leaf in flatten(value)]
    with mp.workdps(DIGITS):
        ahead, behind = (objective(moved(case, part, bare, direction, sign * STEP), quantity, case) for sign in (1, -1))
        slope = (ahead - behind) / (2 * STEP)
    leaves = [leaf.v for leaf in flatten(gradient)]
    if quantity.endswith("step"):
        rate = mpf(case["inputs"]["learning_rate"])
        leaves = [(leaf - mpf(old)) / rate for leaf, old in zip(leaves, flatten(value), strict=True)]
    products = [leaf * d for leaf, d in zip(leaves, direction, strict=True) if d != 0]
    size = mp.fsum(abs(p) for p in products) + 1
    return float(abs(slope - mp.fsum(products)) / size)


def moved(case: Case, part: str, name: str, direction: list[Any], by: Any) -> Case:
    """The case with one tensor moved along a direction."""
    rest = iter(direction)

    def along(value: Any) -> Any:
        return [along(p) for p in value] if isinstance(value, list) else mpf(value) + by * next(rest)

    network = case[part]
    return case | {part: network | {"parameters": network["parameters"] | {name: along(network["parameters"][name])}}}


def objective(case: Case, quantity: str, origin: Case) -> Any:
    """What the quantity is the gradient of; bits that were drawn stay those that `origin` draws."""
    problem = Problem(case)
    if quantity == "grad_log_marginal":
        return mp.fsum(a.v for a in problem.log_marginal())
    if quantity == "grad_vlb":
        return mp.fsum(a.v for a in problem.vlb())
    if quantity == "grad_iwae":
        return mp.fsum(a.v for a in problem.iwae())
    if quantity == "rws_update":  # the shares stay those of `origin`
        terms = zip(problem.terms(), Problem(origin).terms(), strict=True)
        return mp.fsum(
            share.v * (term.log_prior.v + term.log_likelihood.v + term.log_q.v)
            for here, before in terms
            for term, share in zip(here, Problem(origin).counted(before)[0], strict=True)
        )
    if quantity == "wake_step":
        rows = [(x, *z) for x, z in zip(problem.x, drawn(origin, "recognised"), strict=True)]
        layers = problem.model.layers()[: len(rows[0]) - 1]
        logs = [
            total([
                *(layer.log_likelihood(row[d], row[d + 1]) for d, layer in enumerate(layers)),
                layers[-1].log_priors[row[-1]],
            ])
            for row in rows
        ]  # fmt: skip
        return mp.fsum(a.v for a in logs) / len(rows)
    assert problem.q is not None
    dreams = drawn(origin, "dreams")
    logs = [
        next(t.log_q for t in problem.q.terms(problem.model, layers[0]) if t.z == tuple(layers[1:]))
        for layers in dreams
    ]
    return mp.fsum(a.v for a in logs) / len(dreams)


def drawn(case: Case, method: str) -> Any:
    """What the case's own parameters draw."""
    return getattr(Problem(case), method)()


# The command -----------------------------------------------------------------------------------------------------


def work(number: int) -> tuple[dict[str, Any], float, float]:
    """(the published case, the largest disagreement with central differences, seconds)."""
    start = time.perf_counter()
    case = every_case()[number]
    assert isinstance(exact(0).v, mpf)
    worst = 0.0 if "error" in case else largest_disagreement(case)
    return published(case), worst, time.perf_counter() - start


@functools.cache
def every_case() -> list[Case]:
    return list(itertools.chain(positive_cases(), negative_cases(), weighted_cases(), negative_weighted_cases()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"make {ARCHIVE.name} instead of comparing with it")
    parser.add_argument("--documents", action="store_true", help="replace the documents in it, no more")
    parser.add_argument("--case", action="append", metavar="ID", help="compare this case alone; may be repeated")
    arguments = parser.parse_args()
    if arguments.documents:
        renewed = documents()
        cases_kept = {name: text for name, text in stored().items() if name not in renewed}
        return AGREES if write(renewed | cases_kept) else DISAGREES
    bad = False
    for case in every_case():
        lengths = dimensions(case)
        if "error" not in case and len(set(lengths)) < len(lengths):
            print(f"{case['id']}: DISAGREES: dimensions {lengths} are not all different")
            bad = True
    cases = []
    with ProcessPoolExecutor() as pool:
        numbers = [i for i, case in enumerate(every_case()) if not arguments.case or case["id"] in arguments.case]
        for case, worst, seconds in pool.map(work, numbers):
            agrees = worst <= AGREEMENT
            bad |= not agrees
            cases.append(case)
            verdict = "agrees" if agrees else "DISAGREES"
            print(f"{case['id']:22} {len(case['checks']):3} checks, derivatives: expected 0, got {worst:.1e}, "
                  f"allowed {AGREEMENT:.0e}: {verdict} ({seconds:.1f} s)", flush=True)  # fmt: skip
    if len({case["id"] for case in cases}) < len(cases):
        print("DISAGREES: an id occurs twice")
        bad = True
    if arguments.write and not bad and not arguments.case:
        bad = not write(dict(files(cases)))
    else:
        names = differing(cases, not arguments.case)
        for name in names:
            print(f"DISAGREES: {name} in {ARCHIVE.name} is not what comes out")
        print(f"{len(cases)} cases, {sum(len(case['checks']) for case in cases)} checks: "
              f"{'DISAGREES' if names or bad else 'agrees'}")  # fmt: skip
        bad |= bool(names)
    return DISAGREES if bad else AGREES


if __name__ == "__main__":
    sys.exit(main())
