"""Runs another program as a child process, asks it line by line, and never leaves it running.

The child leads a process group of its own, which is killed at the end whatever happens. Its standard output is read,
and its standard input written, by threads, so that no amount of silence or chatter can block us.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO, Any, Self

from ..checks import printable
from .messages import LONGEST_LINE, check_request, parse
from .tensors import MalformedError

_GRACE = 5.0
_PR_SET_PDEATHSIG = 1
_END = object()


class BrokenError(Exception):
    """The conversation cannot go on. kind: "hang", "crash", "garbage" or "missing" (no such program)."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Conversation:
    """`with Conversation(command, limit) as c: c.ask({...})`: one line there, one line back, within `limit` seconds.

    log: called with "->" or "<-" and each line. Raises BrokenError.
    """

    def __init__(self, command: Sequence[str], limit: float, log: Any = None) -> None:
        self.command, self.limit = list(command), limit
        self._log = log or (lambda direction, line: None)
        try:
            self._child = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=_die_with_us if _can_die_with_us() else None,
            )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BrokenError("missing", f"{command[0]}: cannot be started: {reason}") from None
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._lines: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._requests: queue.Queue[Any] = queue.Queue()
        for target, stream in ((_read, self._child.stdout), (_write, self._child.stdin)):
            held = self._lines if target is _read else self._requests
            threading.Thread(target=target, args=(stream, held), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a request and parses the line that answers it."""
        self._send(message)
        line = self._next(time.monotonic() + self.limit, "to answer")
        if line is _END:
            raise BrokenError("crash", f"ended without an answer, with {self._how_it_ended()}")
        self._log("<-", _shown(line))
        if not line.endswith(b"\n"):
            what = "a line longer than any answer" if len(line) >= LONGEST_LINE else "half a line, and then nothing"
            raise BrokenError("garbage", f"sent {what}; every answer ends with a line feed")
        try:
            return parse(line)
        except MalformedError as error:
            raise BrokenError("garbage", f"{error}; nothing but answers belongs on standard output") from None

    def stop(self) -> None:
        """Sends stop, and checks that the program ends by itself, silently and with exit code 0."""
        self._send({"op": "stop"})
        self._requests.put(_END)
        deadline = time.monotonic() + max(self.limit, _GRACE)
        line = self._next(deadline, "to end after stop")
        if line is not _END:
            self._log("<-", _shown(line))
            raise BrokenError("garbage", "sent another line after its last answer; one line for each question, no more")
        try:
            code = self._child.wait(max(deadline - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            raise BrokenError("hang", "closed its output after stop but did not end") from None
        if code != 0:
            raise BrokenError("crash", f"ended with {_in_words(code)} after stop, wanted exit code 0")

    def kill(self) -> None:
        """Ends the program and whatever it has started."""
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self._child.pid, signal.SIGKILL)
            else:
                self._child.kill()
        self._requests.put(_END)
        self._child.wait()
        # the reader may wait for room: take what is left until it has seen the end
        with contextlib.suppress(queue.Empty):
            while self._lines.get(timeout=0.2) is not _END:
                pass

    def _send(self, message: Mapping[str, Any]) -> None:
        check_request(message)
        line = json.dumps(message, separators=(",", ":"), allow_nan=False)
        self._log("->", line)
        self._requests.put(line.encode("ascii") + b"\n")

    def _next(self, deadline: float, what: str) -> Any:
        try:
            return self._lines.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            raise BrokenError(
                "hang", f"took more than {self.limit:g} s {what}; if it is only slow, allow more with --time-limit"
            ) from None

    def _how_it_ended(self) -> str:
        try:
            return _in_words(self._child.wait(_GRACE))
        except subprocess.TimeoutExpired:
            return "its output closed and the program still running"


def _shown(line: bytes) -> str:
    return printable(line.decode("utf-8", "replace").rstrip("\r\n"))


def _can_die_with_us() -> bool:
    """Whether the kernel offers it, and no other thread could hold a lock while Python runs between fork and exec."""
    return sys.platform == "linux" and threading.active_count() == 1


def _die_with_us() -> None:
    """Asks the kernel to kill this process when refvlm is killed and can do nothing itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def _read(stream: IO[bytes], lines: queue.Queue[Any]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while line := stream.readline(LONGEST_LINE):
            lines.put(line)
    lines.put(_END)
    with contextlib.suppress(OSError):
        stream.close()


def _write(stream: IO[bytes], requests: queue.Queue[Any]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while (line := requests.get()) is not _END:
            stream.write(line)
            stream.flush()
    with contextlib.suppress(OSError, ValueError):
        stream.close()
