"""Every reader of refvlm under damaged and hostile input: it reads it right, or refuses it in one line.

    python validation/fuzz.py                     100,000 inputs for each reader, some minutes each
    python validation/fuzz.py --reader npz-rows --number 2000 --seed 7

Inputs are good ones, made by refvlm itself, after random damage (`mutations.py`, `fuzz_readers.py`), the same for
the same seed. Expected of each, within SECONDS and MEMORY:

- it is refused by an exception that is documented for the reader, whose message, without the file's name, is at most
  LONGEST printable characters on one line; or
- it is read, without a warning, and where there is somebody else to read it (NumPy, a few lines by hand), as he does;
- nothing is run, unpickled or written meanwhile.

The first findings of a reader are printed as they are found, with what shows them again: reader, seed, number.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import fuzz_readers
import numpy as np
from common import AGREES, DISAGREES

SECONDS, MEMORY, LONGEST = 10.0, 300 << 20, 600
SHOWN = 3
FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "socket.connect",
)  # fmt: skip


class TooLongError(BaseException):
    """An input that has taken longer than it may."""


class Watch:
    """What Python's audit hook, which cannot be taken off, has seen while reading."""

    def __init__(self) -> None:
        self.reading, self.seen = False, ""
        self.ours: tuple[str, ...] = ()
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.reading and (
            event in FORBIDDEN
            or (event == "open" and not self._is_ours(arguments[0]) and self._writes(*arguments[1:3]))
        ):
            self.seen = f"{event} {str(arguments)[:100]}"

    def _is_ours(self, file: object) -> bool:
        """By its name, or a number that it got when it was opened."""
        return isinstance(file, int) or str(file).startswith(self.ours)

    @staticmethod
    def _writes(mode: object, flags: object) -> bool:
        if isinstance(mode, str):
            return not set(mode).isdisjoint("wax+")
        return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))


WATCH = Watch()


@contextmanager
def limited() -> Iterator[None]:
    """Raise TooLongError in a block that takes longer than it may."""

    def stop(number: int, frame: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def peak() -> int:
    """The most memory that this process has had so far, in bytes; getrusage begins with that of who started it."""
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+)", status.read_text())[0])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def verdict(reader: fuzz_readers.Reader, given: Any, folder: str) -> tuple[str, str]:
    """("read" or "refused", "") of an input as it should be, or ("finding", what is wrong)."""
    before = peak()
    WATCH.seen = ""
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("error")
            WATCH.reading = True
            try:
                kind, said = "read", reader.read(given)
            except reader.errors as error:
                kind, said = "refused", str(error)
            finally:
                WATCH.reading = False
    except TooLongError:
        return "finding", f"took more than {SECONDS:g} s"
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "finding", f"{type(error).__name__}: {str(error)[:300]!r} at {Path(where.filename).name}:{where.lineno}"
    more = peak() - before
    if more > MEMORY:
        return "finding", f"took {more >> 20} MiB"
    if WATCH.seen:
        return "finding", f"did {WATCH.seen}"
    if kind == "refused":
        wrong = wrong_message(said.replace(folder, ""))
        return ("finding", wrong) if wrong else ("refused", "")
    return ("read", "") if reader.otherwise is None or _alike(said, reader.otherwise, given) else ("finding", "misread")


def _alike(read: Any, otherwise: Callable[[Any], Any], given: Any) -> bool:
    """Whether somebody else reads the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return agrees(read, otherwise(given))
        except Exception:  # he refuses what was read
            return False


def wrong_message(text: str) -> str:
    """What is wrong with the message of a refusal, if anything."""
    if not text.isprintable():
        return f"a message with characters that do not print: {text[:300]!r}"
    if len(text) > LONGEST:
        return f"a message of {len(text)} characters: {text[:300]!r}"
    if any(sign in text for sign in ("object has no attribute", "argument must be", "unhashable", "not subscriptable")):
        return f"a message about Python's insides: {text[:300]!r}"
    return ""


def agrees(read: Any, other: Any) -> bool:
    """Whether two readers say the same; `other` may have rows before those that were read."""
    if isinstance(read, dict):
        return read.keys() == other.keys() and all(agrees(value, other[key]) for key, value in read.items())
    if len(read) < len(other):
        other = other[len(other) - len(read) :]
    return read.size == 0 == np.size(other) or np.array_equal(read, other, equal_nan=True)


def run(name: str, number: int, seed: int, first: int = 0) -> tuple[int, int, int]:
    """So many inputs for a reader; how many were read, refused, and findings."""
    counts = {"read": 0, "refused": 0, "finding": 0}
    with tempfile.TemporaryDirectory() as folder:
        WATCH.ours = (str(Path(folder, "input")),)
        reader = fuzz_readers.readers(Path(folder))[name]()
        for given in reader.seeds:  # good ones
            reader.read(given)  # which also fetches what is loaded late
            kind, what = verdict(reader, given, folder)
            if kind != "read":
                raise AssertionError(f"{name}: a good input was not read: {what or kind}")
        for each in range(first, first + number):
            given = reader.damage(reader.seeds, Random(f"{name} {seed} {each}"))
            kind, what = verdict(reader, given, folder)
            counts[kind] += 1
            if kind == "finding" and counts[kind] <= SHOWN:
                print(f"FINDING  --reader {name} --seed {seed} --first {each} --number 1: {what}", flush=True)
    return counts["read"], counts["refused"], counts["finding"]


def main() -> int:
    """Run the readers asked for, and print a line for each."""
    known = list(fuzz_readers.readers(Path()))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", action="append", choices=known, help="this one alone; may be repeated")
    parser.add_argument("--number", type=int, default=100_000, help="inputs for each reader (default: %(default)d)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first input (default: %(default)d)")
    arguments = parser.parse_args()
    findings = 0
    print(f"{'reader':20}{'inputs':>8}{'read':>8}{'refused':>9}{'expected':>10}{'got':>6}  verdict{'seconds':>12}")
    for name in arguments.reader or known:
        start = time.perf_counter()
        read, refused, found = run(name, arguments.number, arguments.seed, arguments.first)
        findings += found
        good = "agrees" if found == 0 else "DISAGREES"
        taken = time.perf_counter() - start
        print(
            f"{name:20}{arguments.number:>8}{read:>8}{refused:>9}{0:>10}{found:>6}  {good:9}{taken:>10.0f}", flush=True
        )
    print(f"{findings} findings")
    return AGREES if findings == 0 else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
