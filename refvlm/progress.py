"""A progress bar for terminal and notebook: `with ProgressBar("log p(x)") as bar: log_marginal(..., progress=bar)`."""

from __future__ import annotations

import html
import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

PATIENCE = 2.0
"""Seconds of work, done or predicted, below which nothing is shown."""

_REDRAW = 0.1
_TRUSTED = 0.25  # seconds of work before which a prediction means nothing
_WIDTH, _NARROWEST = 30, 5


class ProgressBar:
    """Called with (done, total), shows a bar and the time left on one line of the terminal, and wipes it at the end.

    In a Jupyter notebook it is one output of the cell, always the same, that ends as a line with the time taken.
    It draws nothing where `stream` (default: sys.stderr) is not a terminal and there is no notebook, nothing before two
    seconds of work have passed or are predicted, at most ten times a second, and it never raises: a stream that is
    closed under it ends the drawing, not the work. `total` 0 stands for unknown: then it counts. Where the work comes
    in several passes, `done` going down begins the next, and the time left is that of the pass.

    label: what is being done. clock: seconds that only grow.
    """

    def __init__(
        self, label: str = "", *, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.label = label
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._start = self._pass = self._called = self._shown = clock()
        self._done = 0
        self._drawn = 0
        self._notebook = Notebook() if stream is None and _in_notebook() else None
        self._alive = self._notebook is not None or _is_terminal(self._stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.wipe()
        if self._notebook is not None and self._notebook.drawn:
            end = "done" if error is None else "stopped"
            self._notebook.show(f"{self._labelled()}{end}, {duration(self._clock() - self._start)}")

    def __call__(self, done: int, total: int) -> None:
        """Say that `done` of `total` pieces of work are done."""
        if not self._alive:
            return
        now = self._clock()
        if done < self._done:
            self._pass = self._called
        self._called, self._done = now, done
        passed = now - self._pass
        if self._is_due(now, _time_left(done, total, passed)):
            self._shown = now
            if self._notebook is None:
                self._draw(self._line(done, total, passed))
            else:
                self._notebook.show(self._line(done, total, passed))

    def wipe(self) -> None:
        """Clear the terminal's line, if there is one; the next call may draw again."""
        if self._drawn:
            self._write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _is_due(self, now: float, left: float) -> bool:
        """Whether to draw: often enough once there is a line, before that only if the wait is worth one."""
        if self._drawn or (self._notebook is not None and self._notebook.drawn):
            return now - self._shown >= _REDRAW
        so_far = now - self._start
        return so_far >= PATIENCE or (so_far >= _TRUSTED and so_far + left >= PATIENCE)

    def _line(self, done: int, total: int, passed: float) -> str:
        label = self._labelled()
        if total <= 0:
            return f"{label}{done} done, {duration(passed)}"
        fraction = min(max(done / total, 0.0), 1.0)
        left = duration(_time_left(done, total, passed)) if done > 0 else "?"
        rest = f"] {fraction:4.0%}, {left} left"
        width = min(_WIDTH, max(_room() - len(label) - 1 - len(rest), _NARROWEST))
        bar = "#" * int(fraction * width)
        return f"{label}[{bar:-<{width}}{rest}"

    def _labelled(self) -> str:
        return self.label + " " if self.label else ""

    def _draw(self, line: str) -> None:
        line = line[: _room()]
        self._write("\r" + line.ljust(self._drawn))
        self._drawn = len(line)

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # closed, or gone
            self._alive = False


class Notebook:
    """One output of the running cell, which each call of `show` replaces. drawn: whether there is one."""

    def __init__(self) -> None:
        self._display = sys.modules["IPython"].display
        self._handle: Any = None

    @property
    def drawn(self) -> bool:
        return self._handle is not None

    def show(self, line: str) -> None:
        data = {"text/plain": line, "text/html": f"<code>{html.escape(line)}</code>"}
        if self._handle is None:
            self._handle = self._display.display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def _in_notebook() -> bool:
    """Whether this runs in a kernel of Jupyter, which then has loaded IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def _room() -> int:
    """Characters that fit on the line."""
    return shutil.get_terminal_size().columns - 1


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):
        return False


def _time_left(done: int, total: int, passed: float) -> float:
    """Seconds left if the rest goes as what was done, 0 where nothing can be said."""
    return passed * max(total - done, 0) / done if done > 0 else 0.0


def duration(seconds: float) -> str:
    """Seconds for people: '45 s', '3:07 min', '2:05 h', '12 days', '400 years'."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    days = whole // 86400
    if days < 3:
        return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
    return f"{days} days" if days < 1000 else f"{days / 365.25:.0f} years"
