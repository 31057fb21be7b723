"""The cut, the merge and the engine: the same bits for any workers and any order."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import binary, deep, network, shallow

import refvlm
from refvlm.enumeration import kernels, tasks
from refvlm.enumeration.blocks import Route, Tree, code_pieces, row_pieces
from refvlm.enumeration.engine import Engine
from refvlm.inference import arrays


@given(st.integers(1, 62), st.sampled_from(Route))
def test_pieces_cover_the_cube_once(latents, route):
    pieces = code_pieces(latents, route)
    assert (pieces.start, pieces.stop) == (0, 1 << latents)
    assert len(pieces) * pieces.step == 1 << latents
    assert pieces.step <= 1 << 22
    assert len(pieces) <= 16 or pieces.step >= 1 << 14


@given(st.integers(0, 10000), st.sampled_from(Route))
def test_row_pieces_cover_the_rows_once(rows, route):
    covered = [n for part in row_pieces(rows, route) for n in range(rows)[part]]
    assert covered == list(range(rows))


@given(st.integers(1, 40), st.randoms(use_true_random=False))
def test_merging_does_not_depend_on_the_order_of_arrival(count, random):
    def merged(order):
        tree = Tree(count, lambda a, b: f"({a} {b})")
        for index in order:
            tree.add(index, str(index))
        return tree.result

    order = list(range(count))
    random.shuffle(order)
    assert merged(order) == merged(range(count))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_piece_of_several_pages_sums_like_its_parts(sign):
    """Beyond K = 24 pieces hold more than 2**12 codes; here 2**14, the largest terms in its last or first page."""
    rng = np.random.default_rng(2)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.full(14, sign * 2.0)), network([14, 3, 5], rng))
    source, prior, x = arrays.source(model.decoder), arrays.log_probabilities(model.prior), binary(4, 5, rng)
    power, total, _ = kernels.marginal.marginal(source.piece(0, 1 << 14), 0, 1 << 14, prior, x, False)
    whole = kernels.marginal.finish(power, total)
    np.testing.assert_allclose(whole, refvlm.log_marginal(model, x), rtol=1e-14)


class Backwards(Executor):
    """Runs nothing until flushed, then the newest first."""

    def __init__(self):
        self.lock, self.waiting = threading.Lock(), []

    def submit(self, function, /, *arguments, **keywords):
        future = Future()
        with self.lock:
            self.waiting.append((future, function, arguments, keywords))
        return future

    def flush(self):
        with self.lock:
            batch, self.waiting = self.waiting, []
        for future, function, arguments, keywords in reversed(batch):
            future.set_result(function(*arguments, **keywords))


def everything(model, q, x, **engine):
    """The bytes of every enumerated quantity."""
    weights = np.linspace(-1, 2, len(x))
    parts = [
        refvlm.log_marginal(model, x, **engine),
        refvlm.posterior_mean(model, x, **engine),
        refvlm.posterior(model, x[:3], **engine),
        *refvlm.decompose(model, q, x, **engine),
        *refvlm.grad_log_marginal(model, x, weights, **engine).values(),
        *refvlm.grad_vlb(model, q, x, weights, **engine).values(),
    ]
    return [part.tobytes() for part in parts]


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return shallow(14, (6,), 5, rng), refvlm.AmortisedPosterior(network([5, 4, 14], rng)), binary(1100, 5, rng)


def test_bits_do_not_depend_on_the_number_of_workers(problem):
    expected = everything(*problem, workers=1)
    for workers in (2, 7, None):
        assert everything(*problem, workers=workers) == expected


def test_bits_do_not_depend_on_the_executor(problem):
    expected = everything(*problem, workers=1)
    with ThreadPoolExecutor(3) as threads:
        assert everything(*problem, executor=threads) == expected


def test_bits_do_not_depend_on_the_order_of_completion(problem):
    model, _, x = problem
    executor, expected = Backwards(), refvlm.log_marginal(model, x, workers=1)
    timer = threading.Event()

    def keep_flushing():
        while not timer.wait(0.02):
            executor.flush()

    helper = threading.Thread(target=keep_flushing)
    helper.start()
    try:
        assert refvlm.log_marginal(model, x, executor=executor).tobytes() == expected.tobytes()
    finally:
        timer.set()
        helper.join()


def test_bits_are_the_same_in_other_processes(problem):
    model, q, x = problem
    x = x[:30]
    expected = everything(model, q, x, workers=1)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        assert everything(model, q, x, executor=processes) == expected


def test_calls_from_several_threads_do_not_disturb_each_other(problem):
    model, q, x = problem
    expected = everything(model, q, x[:40], workers=1)
    with ThreadPoolExecutor(4) as callers:
        results = list(callers.map(lambda _: everything(model, q, x[:40], workers=2), range(8)))
    assert all(result == expected for result in results)


def test_deep_models_have_the_same_bits_for_any_workers():
    rng = np.random.default_rng(1)
    model, x = deep(3, 13, 5, rng), binary(6, 5, rng)
    one = refvlm.log_marginal_and_grad(model, x, workers=1)
    two = refvlm.log_marginal_and_grad(model, x, workers=2)
    assert one[0].tobytes() == two[0].tobytes()
    assert all(one[1][name].tobytes() == two[1][name].tobytes() for name in one[1])


def test_progress_counts_up_to_the_total_in_the_callers_thread(problem):
    model, _, x = problem
    seen = []
    refvlm.log_marginal(model, x, progress=lambda done, total: seen.append((done, total, threading.get_ident())))
    counts = [done for done, _, _ in seen]
    assert counts == sorted(set(counts))
    assert counts[-1] == seen[-1][1]
    assert len({total for _, total, _ in seen}) == 1
    assert {thread for _, _, thread in seen} == {threading.get_ident()}


@pytest.fixture
def running(monkeypatch):
    """Pieces that are being computed, each of which takes a while."""
    original, lock, pieces = tasks.Task.run, threading.Lock(), []

    def run(task, decoder, code, count, at_once):
        with lock:
            pieces.append(code)
        try:
            result = original(task, decoder, code, count, at_once)
            time.sleep(0.05)
            return result
        finally:
            with lock:
                pieces.remove(code)

    monkeypatch.setattr(tasks.Task, "run", run)
    return pieces


def test_an_interrupt_leaves_no_running_threads(problem, running):
    model, _, x = problem

    def interrupt(done, total):
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refvlm.log_marginal(model, x, workers=2, progress=interrupt)
    assert running == []
    assert np.isfinite(refvlm.log_marginal(model, x[:2])).all()


@pytest.mark.skipif(os.name != "posix", reason="a signal that interrupts is POSIX")
@pytest.mark.parametrize("hidden", [[], [20]])
def test_an_interrupt_ends_the_longest_sum_within_a_second(hidden):
    """2**40 states; afterwards no thread is left."""
    program = (
        "import os, signal, sys, threading, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import numpy as np, refvlm\n"
        "rng = np.random.default_rng(0)\n"
        f"sizes = [40, *{hidden}, 60]\n"
        "model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(40)), refvlm.MLP.random(sizes, rng))\n"
        "x, sent = np.zeros((3, 60), np.uint8), []\n"
        "def stop():\n"
        "    sent.append(time.monotonic())\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "seen = []\n"
        "def progress(done, total):\n"
        "    if not seen:\n"
        "        threading.Timer(0.3, stop).start()\n"
        "    seen.append(done)\n"
        "try:\n"
        "    refvlm.log_marginal(model, x, workers=3, progress=progress)\n"
        "except KeyboardInterrupt:\n"
        "    took = time.monotonic() - sent[0]\n"
        "    time.sleep(0.1)\n"  # helpers look out for more work for a moment
        "    last = [frame.f_code.co_filename for frame in sys._current_frames().values()]\n"
        "    print(took < 1.0 or took, [name for name in last if 'enumeration' in name])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("True []\n", "")


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_an_error_in_any_worker_reaches_the_caller(problem, workers, running, monkeypatch):
    model, _, x = problem
    original, lock, calls = tasks.Task.run, threading.Lock(), []

    def failing(task, decoder, code, count, at_once):
        with lock:
            calls.append(code)
            if len(calls) == 4:
                raise MemoryError("the fourth piece")
        return original(task, decoder, code, count, at_once)

    monkeypatch.setattr(tasks.Task, "run", failing)
    with pytest.raises(MemoryError, match="the fourth piece"):
        refvlm.log_marginal(model, x, workers=workers)
    assert len(calls) <= 4 + workers  # nobody went on
    assert running == []


def test_somebodys_decoder_runs_in_the_callers_thread_alone():
    class Decoder:
        fan_in, fan_out = 14, 5

        def __init__(self):
            self.threads = set()
            self.inner = network([14, 6, 5], np.random.default_rng(3))

        def forward(self, z):
            self.threads.add(threading.get_ident())
            return self.inner.forward(z)

        def parameters(self):
            return self.inner.parameters()

    decoder = Decoder()
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(14)), decoder)
    refvlm.log_marginal_and_grad(model, binary(3, 5, np.random.default_rng(4)), workers=3)
    assert decoder.threads == {threading.get_ident()}


def test_workers_and_executor_are_validated():
    model, x = shallow(3, (), 4, np.random.default_rng(0)), [[0, 1, 1, 0]]
    with ThreadPoolExecutor(1) as executor, pytest.raises(ValueError, match="workers and executor: got both"):
        refvlm.log_marginal(model, x, workers=2, executor=executor)
    with pytest.raises(ValueError, match="workers: got 0, wanted at least 1"):
        refvlm.log_marginal(model, x, workers=0)
    with pytest.raises(TypeError, match="workers: got float"):
        refvlm.log_marginal(model, x, workers=1.5)
    with pytest.raises(TypeError, match="executor: got str"):
        refvlm.log_marginal(model, x, executor="threads")
    with pytest.raises(TypeError, match="progress: got bool"):
        refvlm.log_marginal(model, x, progress=True)
    assert Engine(workers=np.int64(2)).workers == 2
