"""The published cases, read from `vectors.zip`, which validation/vectors.py computes in sixty digits."""

from __future__ import annotations

import functools
import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from ..storage import atomic_write
from ..types import Floats
from .quantities import QUANTITIES
from .tensors import decode


class Network(NamedTuple):
    """An activation, and parameters by name."""

    activation: str
    parameters: dict[str, Floats]


class Expected(NamedTuple):
    """Values rounded once, and what is allowed for each: scale times the unit roundoff of the precision claimed."""

    value: Floats
    scale: Floats


@dataclass(frozen=True, eq=False)
class Case:
    """A model, a posterior and inputs; why the case exists, and the mistakes that it is known to catch."""

    id: str
    why: str
    catches: tuple[str, ...]
    model: Network
    posterior: Network
    inputs: dict[str, Floats]
    checks: dict[str, Check]


@dataclass(frozen=True, eq=False)
class Check:
    """One question about a case. expected: under "" where the answer is one array; None where an error must come."""

    case: Case
    quantity: str
    inputs: dict[str, Floats]
    expected: dict[str, Expected] | None
    error: str | None

    @property
    def id(self) -> str:
        """The check's name, CASE/QUANTITY."""
        return f"{self.case.id}/{self.quantity}"

    @property
    def model(self) -> Network:
        """Prior and decoder."""
        return self.case.model

    @property
    def posterior(self) -> Network | None:
        """The encoder, if the quantity needs one."""
        return self.case.posterior if QUANTITIES[self.quantity].posterior else None


def archive() -> bytes:
    """Returns the zip file: manifest, protocol, changelog, schemas, cases as JSON and as plain text, in one folder."""
    return resources.files(__package__).joinpath("vectors.zip").read_bytes()


@functools.cache
def version() -> str:
    """Returns the version of the published cases, which is not refvlm's own: what the archive's manifest says."""
    manifest = next(text for name, text in _entries() if name.name == "manifest.json")
    return str(json.loads(manifest)["version"])


@functools.cache
def cases() -> dict[str, Case]:
    """Returns all cases by id, in an order in which an implementation is well built."""
    read = (_read(json.loads(text)) for name, text in _entries() if name.parent.name == "cases")
    return {case.id: case for case in read}


def checks(offered: tuple[str, ...] = tuple(QUANTITIES)) -> list[Check]:
    """Returns all checks of these quantities, case by case; in each case, parts come before what is made of them."""
    return [
        case.checks[quantity]
        for case in cases().values()
        for quantity in QUANTITIES
        if quantity in offered and quantity in case.checks
    ]


def write_vectors(folder: str | os.PathLike[str]) -> list[Path]:
    """Unpacks the archive into a folder, which is made if it is not there, and returns the files written.

    Files of the same names are replaced, others left alone. Raises OSError where it cannot write.
    """
    written = []
    for name, text in _entries():
        path = Path(folder, *name.parts[1:])
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(text)
        written.append(path)
    return written


def _entries() -> Iterator[tuple[PurePosixPath, bytes]]:
    with zipfile.ZipFile(BytesIO(archive())) as stored:
        for name in stored.namelist():
            yield PurePosixPath(name), stored.read(name)


def _read(stored: dict[str, Any]) -> Case:
    case = Case(
        stored["id"],
        stored["why"],
        tuple(stored["catches"]),
        _network(stored["model"]),
        _network(stored["posterior"]),
        _arrays(stored["inputs"]),
        {},
    )
    for quantity, check in stored["checks"].items():
        expected = None
        if "result" in check:
            result, scale = check["result"], check["scale"]
            if "shape" in result:
                result, scale = {"": result}, {"": scale}
            expected = {name: _expected(tensor, scale[name]) for name, tensor in result.items()}
        inputs = {name: case.inputs[name] for name in check["inputs"]}
        case.checks[quantity] = Check(case, quantity, inputs, expected, check.get("error"))
    return case


def _expected(tensor: dict[str, Any], scale: list[float]) -> Expected:
    value = decode("value", tensor)
    return Expected(value, np.array(scale, dtype=np.float64).reshape(value.shape))


def _network(stored: dict[str, Any]) -> Network:
    return Network(stored["activation"], _arrays(stored["parameters"]))


def _arrays(stored: dict[str, Any]) -> dict[str, Floats]:
    return {name: decode(name, tensor) for name, tensor in stored.items()}
