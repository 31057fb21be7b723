"""Sums on processes, a Dask cluster, MPI and other people's executors, and what happens when these fail."""

import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import executor_child as child
import numpy as np
import pytest
from problems import binary, shallow

import refvlm
from refvlm.enumeration import executors, remote
from refvlm.enumeration.processes import Processes

HERE = Path(__file__).parent
CHILD = HERE / "executor_child.py"
SCRIPTS = Path(sys.executable).parent

needs_dask = pytest.mark.skipif(find_spec("distributed") is None, reason="Dask is not installed")
needs_mpi = pytest.mark.skipif(
    find_spec("mpi4py") is None or not (SCRIPTS / "mpiexec").exists(), reason="mpi4py or mpich is not installed"
)
needs_posix = pytest.mark.skipif(os.name != "posix", reason="kill -9 is POSIX")


@pytest.fixture(scope="module")
def expected():
    return child.everything(workers=1)


def run(*command, timeout=120, **more):
    """Standard output of a process that has to end well."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=timeout, check=False, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- the same bits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["processes:2", "threads:3"])
def test_bits_do_not_depend_on_processes_and_threads_by_name(expected, name):
    assert run(sys.executable, CHILD, name) == expected


@contextmanager
def dask_cluster(folder, workers=1, **environment):
    """The address of a scheduler with so many workers, of a thread each; files with the numbers of their processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"127.0.0.1:{port}", (folder / "dask.log").open("w")
    quiet = {"stdout": log, "stderr": log, "env": os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment}
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://{address}", "--nthreads", "1", "--no-nanny"]
    with ExitStack() as stack:
        stack.enter_context(log)
        commands = [[*start, "--no-dashboard"], *[[*work, "--no-dashboard"]] * workers]
        for number, command in enumerate(commands):
            process = stack.enter_context(subprocess.Popen(command, **quiet, cwd=folder))
            stack.callback(process.kill)
            (folder / f"pid{number}").write_text(str(process.pid))
        yield address


def wait_for_workers(address, count):
    from distributed import Client

    with Client(address, timeout=30, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


@needs_dask
def test_bits_do_not_depend_on_dask(tmp_path, expected):
    with dask_cluster(tmp_path, workers=2) as address:
        wait_for_workers(address, 2)
        assert run(sys.executable, CHILD, f"dask://{address}") == expected


@needs_mpi
def test_bits_do_not_depend_on_mpi(expected):
    assert run(SCRIPTS / "mpiexec", "-n", 3, sys.executable, "-m", "mpi4py.futures", CHILD, "mpi") == expected


@needs_mpi
def test_a_slow_rank_of_mpi_changes_nothing(tmp_path):
    """One of two workers waits a tenth of a second before every portion; the other one takes over its share."""
    script = tmp_path / "slow.py"
    script.write_text(
        "import sys, time\n"
        f"sys.path[:0] = {[str(HERE)]!r}\n"
        "from mpi4py import MPI\n"
        "import executor_child as child, refvlm\n"
        "from refvlm.enumeration import executors, tasks\n"
        "if MPI.COMM_WORLD.Get_rank() == 2:\n"
        "    run = tasks.Work.run\n"
        "    tasks.Work.run = lambda *arguments: (time.sleep(0.1), run(*arguments))[1]\n"
        "if __name__ == '__main__':\n"
        "    with executors.opened(executors.parse('mpi')) as executor:\n"
        "        model, x = child.long_problem(31)\n"
        "        print(refvlm.log_marginal(model, x, executor=executor).tobytes().hex())\n"
    )
    found = run(SCRIPTS / "mpiexec", "-n", 3, sys.executable, "-m", "mpi4py.futures", script)
    assert found == refvlm.log_marginal(*child.long_problem(31)).tobytes().hex()


@needs_mpi
def test_mpi_without_workers_is_refused():
    assert run(sys.executable, CHILD, "mpi").startswith(
        "ValueError: executor: got mpi in a single process, wanted mpiexec"
    )


# --- what goes over the wire -------------------------------------------------------------------------------------


class Counting(Processes):
    """Counts the bytes of what is sent and of what comes back."""

    def __init__(self, workers):
        self.sent, self.received = [], []
        super().__init__(workers)

    def submit(self, function, /, *arguments, **named):
        self.sent.append(len(pickle.dumps((function, arguments, named))))
        future = super().submit(function, *arguments, **named)
        future.add_done_callback(lambda done: self.received.append(len(pickle.dumps(done.result()))))
        return future


def test_a_worker_gets_the_model_once_and_sends_little(monkeypatch):
    """Two workers, more than twenty portions, a model of 140 kB."""
    monkeypatch.setattr(remote, "_ELSEWHERE", 0.02)
    rng = np.random.default_rng(4)
    model, x = shallow(21, (300,), 40, rng), binary(3, 40, rng)
    size = 8 * sum(value.size for value in model.parameters().values())
    with Counting(2) as executor:
        found = refvlm.log_marginal(model, x, executor=executor)
    assert found.tobytes() == refvlm.log_marginal(model, x).tobytes()
    with_model = [count for count in executor.sent if count > size]
    assert len(executor.sent) > 20
    assert len(with_model) <= 2 + 4  # and again for a worker that had got none, whose first portions come back
    assert all(count < 1000 for count in executor.sent if count not in with_model)
    assert max(executor.received) < 4000


class Forgetful(Executor):
    """One worker that forgets everything after each portion."""

    def __init__(self):
        self.unknown = 0

    def submit(self, function, /, *arguments, **named):
        remote._works.clear()
        future, answer = Future(), function(*arguments, **named)
        self.unknown += not answer.known
        future.set_result(answer)
        return future


def test_a_worker_that_forgot_the_model_gets_it_again():
    rng = np.random.default_rng(4)
    model, x = shallow(16, (6,), 5, rng), binary(3, 5, rng)
    executor = Forgetful()
    assert refvlm.log_marginal(model, x, executor=executor).tobytes() == refvlm.log_marginal(model, x).tobytes()
    assert executor.unknown > 2


class Pickling(Executor):
    """One worker, in this process, that gets arrays as a cluster may deliver them: read-only."""

    def submit(self, function, /, *arguments, **named):
        buffers = []
        data = pickle.dumps((function, arguments, named), protocol=5, buffer_callback=buffers.append)
        function, arguments, named = pickle.loads(data, buffers=[bytes(buffer) for buffer in buffers])
        future = Future()
        future.set_result(function(*arguments, **named))
        return future


def test_kernels_are_not_compiled_anew_for_arrays_that_arrive_read_only():
    from refvlm.enumeration import kernels

    rng = np.random.default_rng(4)
    model, x = shallow(13, (6,), 5, rng), binary(40, 5, rng)
    expected = refvlm.log_marginal(model, x)
    before = len(kernels.tables.tabled_marginal.compiled.signatures)
    assert refvlm.log_marginal(model, x, executor=Pickling()).tobytes() == expected.tobytes()
    assert len(kernels.tables.tabled_marginal.compiled.signatures) == before


# --- workers that would give other bits ----------------------------------------------------------------------------


def test_a_worker_without_a_fused_multiply_add_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CPU_NAME", "nehalem")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "")
    monkeypatch.setenv("REFVLM_CACHE_DIR", str(tmp_path))
    model, x = shallow(13, (), 5, np.random.default_rng(0)), [[0, 1, 1, 0, 1]]
    with (
        Processes(1) as executor,
        pytest.raises(RuntimeError, match=r"whose processor has no fused multiply-add \(nehalem"),
    ):
        refvlm.log_marginal(model, x, executor=executor)


@needs_dask
def test_a_worker_with_other_kernels_is_refused_by_name_before_anything_is_summed(tmp_path):
    """Its kernels differ by a comment."""
    shutil.copytree(Path(refvlm.__file__).parent, tmp_path / "refvlm", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "refvlm" / "enumeration" / "kernels" / "constants.py").open("a") as file:
        file.write("# another\n")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with dask_cluster(tmp_path, workers=1, PYTHONPATH=path) as address:
        wait_for_workers(address, 1)
        said = run(sys.executable, CHILD, f"dask://{address}")
        assert said.startswith("ExecutorError: executor: got the worker ")
        assert "wanted refvlm" in said
        from distributed import Client

        model, x = shallow(13, (), 5, np.random.default_rng(0)), [[0, 1, 1, 0, 1]]
        with Client(address, set_as_default=False) as client:
            executor = client.get_executor()
            with pytest.raises(RuntimeError, match="install the same refvlm on all of them"):
                refvlm.log_marginal(model, x, executor=executor)


# --- faults ------------------------------------------------------------------------------------------------------


def kill_one(executor):
    os.kill(next(iter(executor._pool._processes)), signal.SIGKILL)


@needs_posix
def test_a_killed_process_is_replaced_and_the_bits_are_the_same():
    model, x = child.long_problem()
    killed = []

    def progress(done, total):
        if 3 * done > total and not killed:
            killed.append(kill_one(executor))

    with Processes(2) as executor:
        found = refvlm.log_marginal(model, x, executor=executor, progress=progress)
    assert killed
    assert found.tobytes() == refvlm.log_marginal(model, x).tobytes()


@needs_posix
def test_processes_that_are_killed_again_and_again_are_given_up():
    model, x = child.long_problem()
    with Processes(1) as executor, pytest.raises(RuntimeError, match="executor: its workers are gone"):
        refvlm.log_marginal(model, x, executor=executor, progress=lambda done, total: kill_one(executor))


@needs_posix
def test_somebodys_pool_that_lost_a_process_is_a_clear_error():
    model, x = child.long_problem()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:

        def progress(done, total):
            os.kill(next(iter(executor._processes)), signal.SIGKILL)

        with pytest.raises(RuntimeError, match=r"executor: its workers are gone \(killed"):
            refvlm.log_marginal(model, x, executor=executor, progress=progress)


@needs_dask
@pytest.mark.parametrize(("victim", "says"), [(1, None), (0, "ExecutorError: executor: its workers are gone")])
def test_a_dask_worker_may_be_killed_and_a_scheduler_is_missed(tmp_path, victim, says):
    with dask_cluster(tmp_path, workers=2) as address:
        wait_for_workers(address, 2)
        found = run(sys.executable, CHILD, f"dask://{address}", tmp_path / f"pid{victim}")
    if says is None:
        assert found == refvlm.log_marginal(*child.long_problem()).tobytes().hex()
    else:
        assert found.startswith(says)


@needs_dask
def test_a_scheduler_that_is_not_there_is_said():
    assert run(sys.executable, CHILD, "dask://127.0.0.1:1").startswith(
        "ConnectionError: executor: no scheduler of Dask"
    )


def alive(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_no_process_outlives_a_parent_that_was_killed():
    script = (
        "import sys\n"
        f"sys.path[:0] = {[str(HERE)]!r}\n"
        "import executor_child as child, refvlm\n"
        "from refvlm.enumeration.processes import Processes\n"
        "if __name__ == '__main__':\n"
        "    executor = Processes(2)\n"
        "    model, x = child.long_problem(40)\n"
        "    def progress(done, total):\n"
        "        print(*executor._pool._processes, flush=True)\n"
        "    refvlm.log_marginal(model, x, executor=executor, progress=progress)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        pids = parent.stdout.readline().split()
        assert len(pids) == 2
        assert all(alive(pid) for pid in pids)
        parent.kill()
    end = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.parametrize("size", [1, 2])
def test_a_call_from_inside_the_pool_that_it_was_given_ends(monkeypatch, size):
    """As many calls as the pool has threads, each of which waits for the pool."""
    monkeypatch.setattr(remote, "_STALLED", 0.3)
    rng = np.random.default_rng(4)
    model, x = shallow(14, (6,), 5, rng), binary(3, 5, rng)
    with ThreadPoolExecutor(size) as executor:
        calls = [executor.submit(refvlm.log_marginal, model, x, executor=executor) for _ in range(size)]
        results = [call.result(timeout=60) for call in calls]
    assert {result.tobytes() for result in results} == {refvlm.log_marginal(model, x).tobytes()}


def test_an_error_in_a_portion_reaches_the_caller_and_cancels_the_rest():
    class Failing(ThreadPoolExecutor):
        def submit(self, function, /, *arguments, **named):
            return super().submit(lambda: 1 / 0)

    model, x = shallow(14, (), 5, np.random.default_rng(0)), [[0, 1, 1, 0, 1]]
    with Failing(2) as executor, pytest.raises(ZeroDivisionError):
        refvlm.log_marginal(model, x, executor=executor)


def test_an_interrupt_leaves_a_pool_usable():
    model, x = child.long_problem(30)

    def interrupt(done, total):
        raise KeyboardInterrupt

    with ThreadPoolExecutor(2) as executor:
        with pytest.raises(KeyboardInterrupt):
            refvlm.log_marginal(model, x, executor=executor, progress=interrupt)
        assert refvlm.log_marginal(model, x, executor=executor).tobytes() == refvlm.log_marginal(model, x).tobytes()
    assert threading.active_count() < 10


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("threads", ("threads", None, "")), ("threads:3", ("threads", 3, "")), ("processes:12", ("processes", 12, "")),
        ("mpi", ("mpi", None, "")), ("dask://host.example:8786", ("dask", None, "host.example:8786")),
        ("dask://[::1]:8786", ("dask", None, "[::1]:8786")),
    ],
)  # fmt: skip
def test_names_of_executors(text, wanted):
    assert executors.parse(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "thread", "threads:0", "threads:-1", "threads:1.5", "processes:", "mpi:3", "dask://", "dask://host",
             "dask://host:1/path", "dask://a b:1", "processes:9999999", "threads:2\n"]
)  # fmt: skip
def test_what_is_no_name_of_an_executor_is_refused(text):
    with pytest.raises(ValueError, match=r"wanted threads\[:N\], processes\[:N\], dask://HOST:PORT or mpi"):
        executors.parse(text)


def test_a_package_that_is_missing_is_named(monkeypatch):
    for name, extra in (("mpi", "mpi"), ("dask://127.0.0.1:1", "dask")):
        monkeypatch.setitem(sys.modules, "mpi4py.futures" if name == "mpi" else "distributed", None)
        with (
            pytest.raises(ValueError, match=rf"pip install 'refvlm\[{extra}\]'"),
            executors.opened(executors.parse(name)),
        ):
            pass


def test_neither_dask_nor_mpi_is_imported_unasked():
    code = (
        "import sys, refvlm, numpy as np\n"
        "from refvlm.enumeration import executors\n"
        "model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.5]), refvlm.MLP([[[1.0, 2.0]]], [[0.0, 0.0]]))\n"
        "refvlm.log_marginal(model, [[0, 1]])\n"
        "print([name for name in ('distributed', 'dask', 'mpi4py') if name in sys.modules])\n"
    )
    assert run(sys.executable, "-c", code) == "[]"


# --- recipes -------------------------------------------------------------------------------------------------------


def recipes():
    """(language, code) of the section of the page that has them."""
    page = (Path(refvlm.__file__).parent / "enumeration" / "README.md").read_text()
    section = page.partition("## More than one machine")[2].partition("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def files(tmp_path):
    """model.npz and rows.npy of the recipes, and log p(x) of the only row."""
    model, x = shallow(20, (5,), 7, np.random.default_rng(2)), binary(1, 7, np.random.default_rng(3))
    refvlm.save(tmp_path / "model.npz", model)
    np.save(tmp_path / "rows.npy", x)
    return refvlm.log_marginal(model, x)


def test_the_page_has_four_recipes():
    assert [language for language, _ in recipes()] == ["python", "python", "sh", "sh"]


@pytest.mark.parametrize("number", [0, pytest.param(1, marks=needs_dask)])
def test_recipes_in_python(tmp_path, files, number):
    script = tmp_path / "that.py"
    script.write_text(recipes()[number][1])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert run(sys.executable, script, cwd=tmp_path, env=environment) == str(files)


@needs_posix
@pytest.mark.parametrize("number", [pytest.param(2, marks=needs_dask), pytest.param(3, marks=needs_mpi)])
def test_recipes_for_the_shell(tmp_path, files, number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = tmp_path / "that.sh"
    script.write_text(recipes()[number][1].replace("8786", str(port)) + "\nkill $(jobs -p) 2> /dev/null || true\n")
    environment = os.environ | {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": os.pathsep.join(sys.path),
        "HOST": "127.0.0.1", "SLURM_NTASKS": "3",
    }  # fmt: skip
    said = run("bash", script, cwd=tmp_path, env=environment)
    assert f"{files[0]:.10f}" in said
    assert (tmp_path / "sum.journal").stat().st_size > 100
