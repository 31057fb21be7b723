"""How a command ends: exit codes, and errors as one line."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

from ..checks import one_line

OK = 0
IDENTITY_BROKEN = 1
PEER_DISAGREES = 1
DIFFERS = 1
USAGE = 2
INCONCLUSIVE = 3
BROKEN = 4
BAD_INPUT = 65
NO_INPUT = 66
UNAVAILABLE = 69
NO_OUTPUT = 73


class Failure(Exception):
    """An expected error: what to say, and the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Make an OSError in the block a failure to read `name`."""
    try:
        yield
    except OSError as error:
        raise Failure(_about(name, "cannot be read", error), NO_INPUT) from None


@contextmanager
def writing(name: str) -> Iterator[None]:
    """Make an OSError in the block a failure to write `name`."""
    try:
        yield
    except OSError as error:
        raise Failure(_about(name, "cannot be written", error), NO_OUTPUT) from None


def standard_input() -> BinaryIO:
    """The bytes of standard input."""
    if sys.stdin is None:
        raise Failure("standard input is closed", NO_INPUT)
    return sys.stdin.buffer


@contextmanager
def keeping(name: str) -> Iterator[None]:
    """Make an OSError in the block a failure to keep something in `name`, which says of itself what is wrong."""
    try:
        yield
    except OSError as error:
        raise Failure(one_line(error), NO_OUTPUT) from None


@contextmanager
def listening() -> Iterator[None]:
    """Print in the block; a reader of standard output who has left is no reason to stop, where it is not the point."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
    except OSError as error:
        silence_stdout()
        raise Failure(f"standard output cannot be written: {error.strerror or error}", NO_OUTPUT) from None


def silence_stdout() -> None:
    """Keep the interpreter from complaining, at exit, about what can no longer be written."""
    with suppress(OSError, ValueError, AttributeError):  # the last where it is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _about(name: str, what: str, error: OSError) -> str:
    """An error number in words; an error that already comes with its own words keeps them."""
    return one_line(error) if error.strerror is None else f"{name}: {what}: {error.strerror}"
