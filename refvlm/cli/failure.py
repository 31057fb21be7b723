"""How a command ends: exit codes, and errors as one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "BAD_INPUT",
    "IDENTITY_BROKEN",
    "INTERRUPTED",
    "NO_INPUT",
    "NO_OUTPUT",
    "OK",
    "PEER_DISAGREES",
    "Failure",
    "one_line",
    "reading",
    "writing",
]

OK = 0
IDENTITY_BROKEN = 1
PEER_DISAGREES = 1
BAD_INPUT = 65
NO_INPUT = 66
NO_OUTPUT = 73
INTERRUPTED = 130


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


def one_line(error: BaseException) -> str:
    """What an exception says, or at least its kind, on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _about(name: str, what: str, error: OSError) -> str:
    """An error number in words; an error that already comes with its own words keeps them."""
    return one_line(error) if error.strerror is None else f"{name}: {what}: {error.strerror}"
