"""Checkpoints: the state of a `Training` in one file, written whole or not at all, from which it goes on bit by bit."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from typing import Any

import numpy as np

from ..checks import FileFormatError, describe
from ..model.files import read_arrays
from ..storage import atomic_write
from .history import Record
from .training import Training

__all__ = ["load_checkpoint", "save_checkpoint"]

FORMAT = "refvlm-checkpoint"
VERSION = 1

_FIELDS = {
    "format", "version", "configuration", "steps", "since_best", "best_score", "generator", "sums"
}  # fmt: skip


def save_checkpoint(path: str | os.PathLike[str], training: Training) -> None:
    """Write the state of `training` to `path`, atomically. Raises OSError where that cannot be."""
    header = {"format": FORMAT, "version": VERSION, "configuration": configuration(training)} | training.counters()
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    history = np.array([[math.nan if value is None else value for value in record] for record in training.history])
    arrays = training.arrays() | {"history": history.reshape(len(training.history), len(Record._fields))}
    np.savez(buffer, header=text, **arrays)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def load_checkpoint(path: str | os.PathLike[str], training: Training) -> None:
    """Set `training` to the state in `path`.

    Raises FileFormatError for a file that is damaged or no checkpoint, ValueError for one of another configuration,
    whose message says what differs, and OSError where it cannot be read. `training` is unchanged by a failure.
    """
    name = os.fspath(path)
    with open(path, "rb") as file:
        arrays = read_arrays(name, file, "a checkpoint")
    try:
        header = json.loads(arrays.pop("header", np.zeros(0, np.uint8)).tobytes().decode())
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileFormatError(f"{name}: no checkpoint of refvlm; wanted one that `refvlm fit` wrote")
    if header.get("version") != VERSION or set(header) != _FIELDS or not isinstance(header["configuration"], dict):
        raise FileFormatError(f"{name}: a checkpoint of version {describe(header.get('version'))}, wanted {VERSION}")
    mine, theirs = configuration(training), header["configuration"]
    for key in mine | theirs:
        if mine.get(key) != theirs.get(key):
            raise ValueError(
                f"{name}: this checkpoint is of another run: its {key} is {describe(theirs.get(key))}, and now it is "
                f"{describe(mine.get(key))}; wanted the same data and options, or another checkpoint"
            )
    try:
        rows = arrays.pop("history")
        if rows.ndim != 2 or rows.shape[1] != len(Record._fields):
            raise ValueError("its history is not one of this refvlm")
        history = [_record(row) for row in rows.tolist()]
        training.restore(header, arrays, history)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"{name}: a damaged checkpoint ({error})") from None


def configuration(training: Training) -> dict[str, Any]:
    """What has to be the same for a run to go on: all settings, the shapes, where it started, and the data."""
    settings = dataclasses.asdict(training.settings)
    method = settings.pop("method")
    shapes = {key: list(value.shape) for key, value in training.machine.parameters.items()}
    found = {
        "method": method.pop("name"), **method, **settings, "shapes": shapes, "data": training.data.digest(),
        "validation": None if training.validation is None else training.validation.digest(), "start": training.start,
    }  # fmt: skip
    compared: dict[str, Any] = json.loads(json.dumps(found))
    return compared


def _record(row: list[float]) -> Record:
    epoch, step, rate, *rest = row
    return Record(int(epoch), int(step), rate, *(None if math.isnan(value) else value for value in rest))
