"""Threads that help the caller: what they are called for is done once, or never; they stay for a moment, and go."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from problems import binary

import refvlm
from refvlm.enumeration import helpers, kernels


@pytest.fixture(autouse=True)
def _nobody_waits():
    wait_until(lambda: not helpers._idle)
    yield
    wait_until(lambda: not helpers._idle)


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def patient(monkeypatch):
    """Helpers who stay for long, so that a busy machine makes no difference."""
    monkeypatch.setattr(helpers, "_PATIENCE", 0.5)


def test_what_has_begun_is_waited_for():
    for _ in range(50):
        begun, done = threading.Event(), []
        call = helpers.Call(lambda begun=begun, done=done: (begun.set(), time.sleep(0.002), done.append(1)))
        assert begun.wait(20)
        call.end()
        assert done == [1]
        call.end()  # as often as one likes


def test_what_has_not_begun_never_begins(monkeypatch):
    """The helper gets to it only after it was taken back."""
    patient(monkeypatch)
    held, done = threading.Event(), []
    first = helpers.Call(lambda: None)
    first.end()
    wait_until(lambda: helpers._idle)
    helper = helpers._idle[0]
    taken = helper.call
    helper.call = lambda job: taken(lambda: (held.wait(), job()))
    second = helpers.Call(lambda: done.append(1))
    second.end()
    held.set()
    wait_until(lambda: helpers._idle)
    assert done == []


def test_a_helper_serves_the_next_call_as_well_and_then_ends(monkeypatch):
    patient(monkeypatch)
    seen = set()
    for _ in range(20):
        call = helpers.Call(lambda: seen.add(threading.get_ident()))
        wait_until(lambda: helpers._idle)
        call.end()
    assert len(seen) == 1
    monkeypatch.setattr(helpers, "_PATIENCE", 1e-4)
    helpers.Call(lambda: None).end()
    wait_until(lambda: not helpers._idle)


def test_a_helper_that_was_taken_but_never_called_ends(monkeypatch):
    """Its caller may be interrupted in between."""
    patient(monkeypatch)
    monkeypatch.setattr(helpers, "_ATTEMPTS", 4)
    threads = []
    helpers.Call(lambda: threads.append(threading.get_ident()))
    wait_until(lambda: helpers._idle)
    helpers._idle.pop()
    assert threads[0] in sys._current_frames()
    wait_until(lambda: threads[0] not in sys._current_frames())


def test_without_another_thread_the_caller_does_all(monkeypatch):
    def refused(function, arguments):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(helpers, "start_new_thread", refused)
    rng = np.random.default_rng(1)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=11)), refvlm.MLP.random([11, 3, 5], rng))
    x = binary(40, 5, rng)
    assert refvlm.log_marginal(model, x, workers=3).tobytes() == refvlm.log_marginal(model, x, workers=1).tobytes()


def test_calls_from_several_threads_at_once_are_all_done():
    done = [0] * 8

    def caller(number):
        for _ in range(300):
            begun = threading.Event()

            def job(begun=begun):
                begun.set()
                done[number] += 1

            call = helpers.Call(job)
            assert begun.wait(20)
            call.end()

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [300] * 8


def test_a_signal_is_seen_and_answered():
    signals = np.zeros(16, dtype=np.int64)
    wait = kernels.spinning.wait_while
    assert not wait(signals, 0, 0, 8, 100, 0)
    assert signals[8] == 0
    signals[0] = 5
    assert wait(signals, 0, 4, 8, 100, 10)
    assert signals[8] == 4
    assert helpers._pauses_per_second() > 1e6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_helpers_of_its_own(monkeypatch):
    """Those of its parent are not in it."""
    patient(monkeypatch)
    rng = np.random.default_rng(0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=10)), refvlm.MLP.random([10, 3, 5], rng))
    x = binary(40, 5, rng)
    expected = refvlm.log_marginal(model, x, workers=3)
    wait_until(lambda: helpers._idle)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    child = context.Process(target=lambda: results.put(refvlm.log_marginal(model, x, workers=3).tobytes()))
    child.start()
    assert results.get(timeout=60) == expected.tobytes()
    child.join(60)
    assert child.exitcode == 0


def test_the_interpreter_ends_with_helpers_about():
    code = """
import numpy as np, refvlm
rng = np.random.default_rng(0)
model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=10)), refvlm.MLP.random([10, 3, 5], rng))
refvlm.log_marginal(model, (rng.random((40, 5)) < 0.5).astype(np.uint8), workers=4)
"""
    for _ in range(3):
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (0, "")
