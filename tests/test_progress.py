"""The progress bar: silent until it is worth something, quiet at the end, never in the way."""

import io
import sys
from types import SimpleNamespace

import pytest

from refvlm.progress import PATIENCE, ProgressBar, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def terminal():
    return Terminal()


def test_nothing_is_shown_where_there_is_no_terminal(clock):
    stream = io.StringIO()
    with ProgressBar(stream=stream, clock=clock) as bar:
        clock.now += 1000
        bar(1, 7)
    assert stream.getvalue() == ""


def test_nothing_is_shown_for_work_shorter_than_the_patience(clock, terminal):
    with ProgressBar(stream=terminal, clock=clock) as bar:
        for done in range(1, 20):
            clock.now += (PATIENCE - 0.05) / 19
            bar(done, 19)
    assert terminal.getvalue() == ""


def test_a_long_wait_is_announced_as_soon_as_it_is_predicted(clock, terminal):
    with ProgressBar("fit", stream=terminal, clock=clock) as bar:
        clock.now += 0.5
        bar(1, 100)
        assert terminal.getvalue() == "\rfit [" + "-" * 30 + "]   1%, 50 s left"


def test_a_long_wait_is_shown_even_when_nothing_can_be_predicted(clock, terminal):
    with ProgressBar(stream=terminal, clock=clock) as bar:
        clock.now += PATIENCE
        bar(0, 100)
        assert "0%, ? left" in terminal.getvalue()


def test_work_of_unknown_size_is_counted(clock, terminal):
    with ProgressBar("rows", stream=terminal, clock=clock) as bar:
        clock.now += 1.0
        bar(17, 0)
        assert terminal.getvalue() == ""
        clock.now += 2.0
        bar(34, 0)
        assert terminal.getvalue() == "\rrows 34 done, 3 s"


def test_the_time_left_is_that_of_the_pass(clock, terminal):
    bar = ProgressBar(stream=terminal, clock=clock)
    clock.now += 5
    bar(10, 10)
    clock.now += 1
    bar(1, 10)
    assert terminal.getvalue().rstrip().endswith(" 10%, 9 s left")


def test_it_redraws_at_most_ten_times_a_second(clock, terminal):
    with ProgressBar(stream=terminal, clock=clock) as bar:
        clock.now += PATIENCE
        for done in range(1, 1001):
            clock.now += 0.001
            bar(done, 1000)
        assert terminal.getvalue().count("\r") <= 11


def test_the_line_is_wiped_at_the_end_and_never_overflows(clock, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "30")
    with ProgressBar("a label that is rather long", stream=terminal, clock=clock) as bar:
        clock.now += 7300
        bar(1, 3)
        drawn = terminal.getvalue()
        assert len(drawn) == 30
    assert terminal.getvalue() == drawn + "\r" + " " * 29 + "\r"


def test_the_line_is_wiped_when_the_work_fails(clock, terminal):
    def work():
        with ProgressBar(stream=terminal, clock=clock) as bar:
            clock.now += 3
            bar(1, 3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert terminal.getvalue().endswith(" \r")


@pytest.mark.parametrize(("passed", "text"), [(30, "1:30 min"), (1800, "1:30 h"), (3, "9 s")])
def test_times_are_written_for_people(clock, terminal, passed, text):
    bar = ProgressBar(stream=terminal, clock=clock)
    clock.now += passed
    bar(1, 4)
    assert f" {text} left" in terminal.getvalue()


def test_a_stream_closed_under_it_never_raises(clock, terminal):
    with ProgressBar(stream=terminal, clock=clock) as bar:
        clock.now += 3
        bar(1, 5)
        terminal.close()
        clock.now += 3
        bar(2, 5)
        clock.now += 3
        bar(3, 5)


def test_a_missing_or_closed_stream_is_no_terminal(clock, monkeypatch):
    closed = Terminal()
    closed.close()
    monkeypatch.setattr("sys.stderr", None)
    for stream in (closed, None):
        with ProgressBar(stream=stream, clock=clock) as bar:
            clock.now += 3
            bar(1, 5)


class Cell:
    """What IPython shows of a running cell: each output as what it last was, and how often it was drawn."""

    def __init__(self):
        self.outputs, self.drawn = [], 0

    def display(self, data, *, raw, display_id):
        assert raw
        assert display_id
        self.outputs.append(None)
        number = len(self.outputs) - 1

        def update(data, *, raw):
            assert raw
            self.outputs[number] = data
            self.drawn += 1

        update(data, raw=True)
        return SimpleNamespace(update=update)


@pytest.fixture
def cell(monkeypatch, capsys):
    """The running cell of a notebook, whose standard error is no terminal."""
    cell = Cell()
    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=cell, get_ipython=lambda: shell))
    yield cell
    assert capsys.readouterr() == ("", "")


def test_in_a_notebook_one_output_is_redrawn_and_ends_with_the_time(clock, cell):
    with ProgressBar("fit <1>", clock=clock) as bar:
        clock.now += PATIENCE
        for done in range(1, 1001):
            clock.now += 0.001
            bar(done, 2000)
        (shown,) = cell.outputs
        assert shown["text/plain"].startswith("fit <1> [###")
        assert shown["text/plain"].endswith("left")
        assert "fit &lt;1&gt; [#" in shown["text/html"]
        assert 5 <= cell.drawn <= 11
        bar.wipe()
        assert cell.outputs == [shown]
    assert [output["text/plain"] for output in cell.outputs] == ["fit <1> done, 3 s"]


def test_in_a_notebook_short_work_shows_nothing(clock, cell):
    with ProgressBar(clock=clock) as bar:
        clock.now += 0.9 * PATIENCE
        bar(19, 20)
        bar(20, 20)
    assert cell.outputs == []


def test_in_a_notebook_what_fails_or_was_interrupted_says_so(clock, cell):
    def work():
        with ProgressBar(clock=clock) as bar:
            clock.now += 70
            bar(1, 3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert [output["text/plain"] for output in cell.outputs] == ["stopped, 1:10 min"]


def test_a_stream_that_was_asked_for_is_not_the_notebook(clock, cell, terminal):
    with ProgressBar(stream=terminal, clock=clock) as bar:
        clock.now += 3
        bar(1, 5)
    assert terminal.getvalue() != ""
    assert cell.outputs == []


@pytest.mark.parametrize("shell", [None, SimpleNamespace(), SimpleNamespace(kernel=None)])
def test_ipython_without_a_kernel_is_no_notebook(clock, cell, shell, monkeypatch):
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: shell)
    with ProgressBar(clock=clock) as bar:
        clock.now += 3
        bar(1, 5)
    assert cell.outputs == []


def test_durations_are_for_people():
    seconds = [45, 187, 7500, 86400 * 12, 86400 * 365.25 * 400]
    assert [duration(s) for s in seconds] == ["45 s", "3:07 min", "2:05 h", "12 days", "400 years"]
