"""How the command line ends by SIGINT, SIGTERM or SIGHUP: in one line, with an exit code for each, and soon.

An exception alone will not do: what imports, or a callback of the compiler, may turn it into another one or swallow it,
and compiled code knows none. So there are three ways:

- While the command `refvlm` loads its modules (`while_loading`), a signal ends the process itself.
- While a command runs (`Caught`), it raises KeyboardInterrupt, which commands take as they have to.
- Beside it waits a thread that the signal wakes without the main thread. It raises again what was swallowed, and ends
  the process where the command is still there after `GRACE` seconds and has nothing to finish (`finishing`).

What is ignored from the start, as with nohup or in a job in the background, stays so.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

GRACE = 0.6
"""Seconds from a signal to the end of a command that has not ended by itself."""

_TWICE = 0.25  # seconds from which on a second SIGINT is another key press, not the same signal by a second way
_LOOK = 0.02
_FLUSH = 0.2  # seconds for standard output, whose reader may not read
_WORDS = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "ended by SIGTERM"), "SIGHUP": (129, "ended by SIGHUP")}
_ENDINGS = {int(getattr(signal, name)): ending for name, ending in _WORDS.items() if hasattr(signal, name)}
"""Exit code and words, by the signal's number."""

_command = False
_unfinished: list[float] = []
_current: Caught | None = None


def while_loading() -> None:
    """Have signals end this process, which is the command `refvlm`, until a `Caught` takes them over."""
    global _command
    _command = True
    _install(_end)


def came() -> bool:
    """Whether a signal has come that ends the command that is running."""
    return _current is not None and _current.number != 0


@contextmanager
def finishing(seconds: float = 60.0) -> Iterator[None]:
    """The block, such as the writing of a file, is not cut short until so many seconds after a signal."""
    _unfinished.append(seconds)
    try:
        yield
    finally:
        _unfinished.remove(seconds)


class Caught:
    """`with Caught() as caught: ...`: signals raise KeyboardInterrupt in the block, and end the process if that fails.

    number: of the signal that came, 0 for none. A second Ctrl-C ends the process at once. A program that calls the
    command line's `main` is not ended, and has its handlers back after the block; nothing is caught outside of the main
    thread.
    """

    def __init__(self) -> None:
        self.number = 0
        self._raised = self._swallowed = self._ours = self._watched = False
        self._saying, self._said = allocate_lock(), False
        self._thread = get_ident()
        self._pipe: tuple[int, int] | None = None
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    @property
    def ending(self) -> tuple[int, str]:
        """The exit code, and what to say; a KeyboardInterrupt that no signal has raised is one by hand."""
        return _ENDINGS[self.number or int(signal.SIGINT)]

    def say(self, write: Callable[[], object], timeout: float = -1.0) -> None:
        """Have `write` say how it ends, if nobody has said so, or is just saying it for longer than this."""
        if self._saying.acquire(timeout=timeout):
            if not self._said:
                write()
            self._said = True
            self._saying.release()

    def leave(self) -> int:
        """End the process, if it is the command; elsewhere its exit code.

        At once: at its own end the interpreter kills itself by SIGINT, if the interrupt has passed through code that a
        library had it run, and what was interrupted may hang.
        """
        code = self.ending[0]
        if _command:
            os._exit(code)
        return code

    def __enter__(self) -> Self:
        global _current
        _current = self
        if _command and os.name == "posix":
            reading, writing = os.pipe()
            os.set_blocking(writing, False)
            signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            sys.unraisablehook = self._unraisable
            start_new_thread(self._watch, (reading,))
            self._watched = True
        with suppress(ValueError):  # not in the main thread
            self._before = _install(self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _current
        for number, handler in self._before.items():  # the command's work is done, and what is left of it is short
            signal.signal(number, signal.SIG_IGN if _command else handler)
        if not _command:
            _current = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._ours:
            self._ours = False
        elif self._raised and self._watched:  # what comes again is for the thread
            return
        self.number, self._raised = self.number or number, True
        raise KeyboardInterrupt

    def _unraisable(self, unraisable: Any) -> None:
        """After a signal nothing is said about exceptions in callbacks: they are the interrupt, or its work."""
        if self.number == 0:
            self._hook(unraisable)
        elif issubclass(unraisable.exc_type, KeyboardInterrupt):
            self._swallowed = True

    def _watch(self, pipe: int) -> None:
        """The thread. Numbers of signals come through the pipe, its own among them."""
        since, own = 0.0, 0
        while True:
            if select.select([pipe], [], [], _LOOK if since else None)[0]:
                number, now = os.read(pipe, 1)[0], time.monotonic()
                if number not in _ENDINGS:
                    continue
                if own:
                    own -= 1
                elif not since:
                    since, self.number = now, self.number or number
                elif number == signal.SIGINT and now - since >= _TWICE:
                    self._end()
            if since and self._swallowed:
                self._swallowed, self._ours, own = False, True, own + 1
                signal.pthread_kill(self._thread, self.number)
            if since and time.monotonic() - since >= max((GRACE, *_unfinished)):
                self._end()

    def _end(self) -> NoReturn:
        flushed = allocate_lock()
        flushed.acquire()
        start_new_thread(_flush, (flushed,))
        flushed.acquire(timeout=_FLUSH)
        self.say(partial(_say, self.number), _FLUSH)
        os._exit(_ENDINGS[self.number][0])


def _flush(done: Any) -> None:
    with suppress(Exception):
        sys.stdout.flush()
    done.release()


def _say(number: int) -> None:
    """One line, if somebody reads."""
    with suppress(OSError, ValueError):
        if sys.stderr is not None and select.select([], [sys.stderr], [], 0)[1]:
            os.write(sys.stderr.fileno(), f"refvlm: {_ENDINGS[number][1]}\n".encode())


def _end(number: int, frame: FrameType | None) -> NoReturn:
    """End the process, which has nothing to keep."""
    _say(number)
    os._exit(_ENDINGS[number][0])


def _install(handler: Any) -> dict[int, Any]:
    """Set the handler of all signals that are not ignored; those before it."""
    caught = [number for number in _ENDINGS if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, handler) for number in caught}


def _hold_back() -> None:
    """Before a fork: what comes meanwhile is for the child as `_let_go` leaves it, not for what it was."""
    if _command or _current is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)


def _go_on() -> None:
    if _command or _current is not None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDINGS)


def _let_go() -> None:
    """What is forked off ends by a signal as any process, and does not wake its parent's thread."""
    if _command or _current is not None:
        signal.set_wakeup_fd(-1)
        _install(signal.SIG_DFL)
    _go_on()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_back, after_in_parent=_go_on, after_in_child=_let_go)
