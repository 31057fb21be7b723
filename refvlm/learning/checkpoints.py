"""Checkpoints: the state of a `Training` in one file, written whole or not at all, from which it resumes exactly."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import time
from typing import Any

import numpy as np

from ..checks import FileFormatError, describe
from ..model.files import read_arrays
from ..storage import atomic_write, check_writable
from .history import Record
from .training import Training

FORMAT = "refvlm-checkpoint"
VERSION = 2

_FIELDS = {
    "format", "version", "configuration", "steps", "since_best", "best_score", "generator", "sums"
}  # fmt: skip


class Keeper:
    """Keeps the state of `training` in the file `path`, without a path nowhere.

    resume: set `training` to the state that is in the file. Otherwise the file must be writable. Raises what
    `load_checkpoint` does.
    """

    def __init__(
        self, training: Training, path: str | os.PathLike[str] | None, seconds: float, resume: bool = False
    ) -> None:
        self._training, self._path, self._seconds = training, path, seconds
        if resume and path is None:
            raise ValueError("resume: got True without a checkpoint to resume from; wanted checkpoint=path")
        if path is not None and resume:
            load_checkpoint(path, training)
        elif path is not None:
            check_writable(path)
        self._saved = time.monotonic()

    def save(self) -> None:
        """Write the file."""
        if self._path is not None:
            save_checkpoint(self._path, self._training)
            self._saved = time.monotonic()

    def save_if_due(self) -> None:
        """Write the file if it is older than `seconds`."""
        if self._path is not None and time.monotonic() - self._saved >= self._seconds:
            self.save()


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

    Raises FileFormatError for a file that is damaged or not a checkpoint, ValueError for one of another configuration
    (the message says what differs), and OSError where it cannot be read. A failure leaves `training` unchanged.
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
    if header.get("version") != VERSION:
        raise FileFormatError(
            f"{name}: a checkpoint of version {describe(header.get('version'))}, wanted {VERSION}; finish the run with "
            "the refvlm that began it, or begin it again"
        )
    if set(header) != _FIELDS or not isinstance(header["configuration"], dict):
        raise FileFormatError(f"{name}: a damaged checkpoint (its header has not the fields of this version)")
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
    """What has to be the same for a run to go on: rule, settings, shapes, where it started, and the data."""
    settings = dataclasses.asdict(training.settings)
    hyperparameters = settings.pop("rule")
    shapes = {key: list(value.shape) for key, value in training.machine.parameters.items()}
    whole = {
        "method": training.settings.rule.name, **hyperparameters, **settings, "shapes": shapes,
        "data": training.data.digest(),
        "validation": None if training.validation is None else training.validation.digest(), "start": training.start,
    }  # fmt: skip
    compared: dict[str, Any] = json.loads(json.dumps(whole, default=lambda number: number.item()))  # of NumPy
    return compared


def _record(row: list[float]) -> Record:
    epoch, step, rate, *rest = row
    return Record(int(epoch), int(step), rate, *(None if math.isnan(value) else value for value in rest))
