"""Checkpoints: the state of a run in one file, written whole or not at all, from which it resumes exactly.

That of a `Training`, and of what comes after it, the fit of a posterior, the results that its `Replay` has.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..archives import Member, read_index
from ..checks import FileFormatError, describe, shortened
from ..storage import atomic_write, check_writable, open_file
from ..strict_json import parse
from .history import Record
from .replay import Replay, Result
from .training import DivergedError, Training

FORMAT = "refvlm-checkpoint"
VERSION = 3

_LARGEST_HEADER = 1 << 20
_FIELDS = {
    "format", "version", "configuration", "steps", "since_best", "best_score", "generator", "sums", "questions"
}  # fmt: skip


class Keeper:
    """Keeps the state of `training`, and of `replay` after it, in the file `path`, without a path nowhere.

    resume: set both to the state that is in the file. Otherwise the file must be writable. Raises what
    `load_checkpoint` does.
    """

    def __init__(
        self, training: Training, path: str | os.PathLike[str] | None, seconds: float, resume: bool = False
    ) -> None:
        self._training, self._path, self._seconds = training, path, seconds
        if resume and path is None:
            raise ValueError("resume: got True without a checkpoint to resume from; wanted checkpoint=path")
        results: list[Result] = []
        if path is not None and resume:
            results = load_checkpoint(path, training)
        elif path is not None:
            check_writable(path)
        self.replay = None if path is None else Replay(results, self.save_if_due)
        self._saved = time.monotonic()

    def save(self) -> None:
        """Write the file."""
        if self._path is not None:
            save_checkpoint(self._path, self._training, () if self.replay is None else self.replay.results)
            self._saved = time.monotonic()

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Write the file when the block is over, and when anything ends it but what would end it again."""
        try:
            yield
        except DivergedError:
            raise
        except BaseException:
            self.save()
            raise
        self.save()

    def save_if_due(self) -> None:
        """Write the file if it is older than `seconds`."""
        if self._path is not None and time.monotonic() - self._saved >= self._seconds:
            self.save()


def save_checkpoint(path: str | os.PathLike[str], training: Training, results: Sequence[Result] = ()) -> None:
    """Write the state of `training` and these results to `path`, atomically. Raises OSError where that cannot be."""
    header = {"format": FORMAT, "version": VERSION, "configuration": configuration(training)} | training.counters()
    header["questions"] = [result.question for result in results]
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    history = np.array([[math.nan if value is None else value for value in record] for record in training.history])
    arrays = training.arrays() | {"history": history.reshape(len(training.history), len(Record._fields))}
    arrays |= {_answer(n): result.answer for n, result in enumerate(results)}
    with atomic_write(path) as file:
        np.savez(buffer, header=text, **arrays)
        file.write(buffer.getvalue())


def load_checkpoint(path: str | os.PathLike[str], training: Training) -> list[Result]:
    """Set `training` to the state in `path`; the results that came after it.

    Raises FileFormatError for a file that is damaged or not a checkpoint, ValueError for one of another configuration
    (the message says what differs), and OSError where it cannot be read. A failure leaves `training` unchanged.
    """
    name = os.fspath(path)
    with open_file(path) as file:
        members = read_index(name, file, "a checkpoint")
        header = _read_header(name, members.pop("header", None))
        _check_configuration(name, configuration(training), header["configuration"])
        try:
            questions = _questions(header["questions"])
            names = [_answer(n) for n in range(len(questions))]
            arrays = _read_arrays(members, training, names)
            history = [_record(row) for row in arrays.pop("history").tolist()]
            results = [Result(question, arrays.pop(name)) for question, name in zip(questions, names, strict=True)]
            training.restore(header, arrays, history)
        except FileFormatError:
            raise
        except ValueError as error:
            raise FileFormatError(f"{name}: a damaged checkpoint ({error})") from None
    return results


def _questions(listed: object) -> list[str]:
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise ValueError(f"its questions are {describe(listed)}, wanted a list of digests")
    return listed


def _read_header(name: str, member: Member | None) -> dict[str, Any]:
    """The header, its configuration and counters unchecked."""
    header = None
    if member is not None and member.info.file_size <= _LARGEST_HEADER:
        text = member.read("u1").tobytes()
        with suppress(ValueError):
            header = parse(text)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise FileFormatError(f"{name}: no checkpoint of refvlm; wanted one that `refvlm fit` wrote")
    if header.get("version") != VERSION:
        raise FileFormatError(
            f"{name}: a checkpoint of version {describe(header.get('version'))}, wanted {VERSION}; finish the run with "
            "the refvlm that began it, or begin it again"
        )
    if set(header) != _FIELDS or not isinstance(header["configuration"], dict):
        raise FileFormatError(f"{name}: a damaged checkpoint (its header has not the fields of this version)")
    return header


def _check_configuration(name: str, mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    for key in mine | theirs:
        if mine.get(key) != theirs.get(key):
            raise ValueError(
                f"{name}: this checkpoint is of another run: its {shortened(key)} is {describe(theirs.get(key))}, and "
                f"now it is {describe(mine.get(key))}; wanted the same data and options, or another checkpoint"
            )


def _read_arrays(members: dict[str, Member], training: Training, answers: list[str]) -> dict[str, NDArray[Any]]:
    """Exactly the arrays of this run, and `answers`, none of which is read before all have the right shapes."""
    shapes = {key: array.shape for key, array in training.arrays().items()}
    if members.keys() != {*shapes, *answers, "history"}:
        raise ValueError("its arrays are not those of this run")
    records = members["history"].layout().shape
    if len(records) != 2 or records[0] > training.settings.epochs or records[1] != len(Record._fields):
        raise ValueError("its history is not one of this refvlm")
    for key, shape in shapes.items():
        found = members[key].layout().shape
        if found != shape:
            raise ValueError(f"its array {key} has the shape {found}, wanted {shape}")
    return {key: member.read() for key, member in members.items()}


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


def _answer(n: int) -> str:
    """The name of an array."""
    return f"answers.{n}"


def _record(row: list[float]) -> Record:
    epoch, step, rate, *rest = row
    if not (epoch >= 0 and step >= 0 and epoch.is_integer() and step.is_integer()):
        raise ValueError(f"its history has a record of the epoch {epoch} and the step {step}")
    return Record(int(epoch), int(step), rate, *(None if math.isnan(value) else value for value in rest))
