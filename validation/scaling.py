"""What a sum costs on more than one core: measured on this machine's two, simulated for many.

    python validation/scaling.py measure     two workers against one, and the cost of handing out a portion
    python validation/scaling.py simulate    stragglers and lost workers, up to 1024 of them, seeded

Both print Markdown for scaling.md. `measure` wants an idle machine, and ends with 1 if two workers are not as many
times faster as they should be, or if bits differ.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import common  # the tree beside it comes first
import numpy as np

import refvlm
from refvlm.enumeration import executors, remote

HERE = Path(__file__).resolve()
ENGINES = {"threads": 1.9, "processes": 1.8, "dask": 1.8, "mpi": 1.8}
"""How many times as fast two workers have to be, at least."""
WORKS = {"linear, L = 16": (35, (), 16), "H = L = 64": (27, (64,), 64)}
"""K, hidden widths, L of sums that take a worker ten to thirty seconds."""
GOALS = (0.002, 0.01, 0.05, 0.2, 1.0)


def problem(latents: int, hidden: tuple[int, ...], observed: int) -> tuple[refvlm.BernoulliLVM, Any]:
    """A random model and a row."""
    rng = np.random.default_rng(0)
    decoder = refvlm.MLP.random([latents, *hidden, observed], rng)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), decoder)
    return model, (rng.random((1, observed)) < 0.5).astype(np.uint8)


# --- measured ------------------------------------------------------------------------------------------------------


class Timed(NamedTuple):
    """Of one sum: wall time, that of all portions in their workers, their number, the caller's processor time."""

    seconds: float
    inside: float
    portions: int
    caller: float
    bits: str


def timed(executor: Any, workers: int | None, work: str, less: int = 0, repeats: int = 2) -> Timed:
    """The fastest of some sums, after one that compiles. less: bits fewer than the work has."""
    latents, hidden, observed = WORKS[work]
    model, x = problem(latents - less, hidden, observed)
    seen: list[float] = []
    received = remote._Distribution._received

    def noting(self: Any, future: Any) -> Any:
        if not future.cancelled() and future.exception() is None:
            seen.append(future.result().seconds)
        return received(self, future)

    remote._Distribution._received = noting  # type: ignore[method-assign]
    best = None
    try:
        refvlm.log_marginal(*problem(min(latents - 4, 25), hidden, observed), executor=executor, workers=workers)
        for _ in range(repeats):
            seen.clear()
            start, cpu = time.perf_counter(), time.thread_time()
            value = refvlm.log_marginal(model, x, executor=executor, workers=workers)
            found = Timed(
                time.perf_counter() - start, sum(seen), len(seen), time.thread_time() - cpu, value.tobytes().hex()
            )
            best = found if best is None or found.seconds < best.seconds else best
    finally:
        remote._Distribution._received = received  # type: ignore[method-assign]
    assert best is not None
    return best


@contextmanager
def dask(workers: int) -> Iterator[str]:
    """The name of a cluster with so many workers, of a process each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1"]
    with ExitStack() as stack:
        for command in [start, *[[*work, "--no-nanny"]] * workers]:
            process = stack.enter_context(subprocess.Popen([*command, "--no-dashboard"], **quiet))
            stack.callback(process.kill)
        from distributed import Client

        with Client(f"tcp://127.0.0.1:{port}", timeout=30, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield f"dask://127.0.0.1:{port}"


def child(engine: str, workers: int, work: str, goal: float | None, less: int) -> Timed:
    """`timed` in a process of its own, under mpiexec for MPI."""
    with ExitStack() as stack:
        name = {"threads": f"threads:{workers}", "processes": f"processes:{workers}", "mpi": "mpi"}.get(engine)
        name = name or stack.enter_context(dask(workers))
        command = [str(HERE), "child", name, work, str(goal or 0), str(less)]
        if engine == "mpi":
            mpiexec = str(Path(sys.executable).parent / "mpiexec")
            command = [mpiexec, "-n", str(workers + 1), sys.executable, "-m", "mpi4py.futures", *command]
        else:
            command = [sys.executable, *command]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr}")
    return Timed(*json.loads(done.stdout.splitlines()[-1]))


def run_child(name: str, work: str, goal: str, less: str) -> None:
    """In that process."""
    if float(goal):
        remote._ELSEWHERE, remote._SERIAL = float(goal), 0.0
    wanted = executors.parse(name)
    with executors.opened(wanted) as executor:
        print(json.dumps(timed(executor, wanted.workers if executor is None else None, work, int(less))))


def measure(engines: list[str]) -> int:
    """The tables of what was measured."""
    failures = 0
    print("Seconds of a sum by one worker and by two, the fastest of two sums:\n")
    print(
        "| work | engine | 1 worker | 2 workers | times | at least | bits |\n"
        "| --- | --- | --: | --: | --: | --: | --- |"
    )
    for work, (latents, _, _) in WORKS.items():
        bits = ""
        for engine in engines:
            one, two = (child(engine, workers, work, None, 0) for workers in (1, 2))
            bits = bits or one.bits
            same, times = one.bits == two.bits == bits, one.seconds / two.seconds
            failures += not same or times < ENGINES[engine]
            print(
                f"| K = {latents}, {work} | {engine} | {one.seconds:.2f} | {two.seconds:.2f} | {times:.2f} | "
                f"{ENGINES[engine]} | {'equal' if same else 'DIFFER'} |",
                flush=True,
            )
    print("\nBy size of portion, one worker: milliseconds that one costs beside its sum, and of them the caller's "
          "processor time:\n")  # fmt: skip
    print("| engine | seconds of a portion | portions | ms beside | ms of the caller | of the time |")
    print("| --- | --: | --: | --: | --: | --: |")
    for engine in engines:
        if engine == "threads":
            continue
        for goal in GOALS:
            found = child(engine, 1, "linear, L = 16", goal, 3)
            beside = (found.seconds - found.inside) / found.portions
            print(
                f"| {engine} | {found.inside / found.portions:.4f} | {found.portions} | {1e3 * beside:.2f} | "
                f"{1e3 * found.caller / found.portions:.2f} | {100 * (1 - found.inside / found.seconds):.1f} % |",
                flush=True,
            )
    return failures


# --- simulated -----------------------------------------------------------------------------------------------------


class Cluster(NamedTuple):
    """Workers, and what is wrong with them.

    slow: the part of them that takes `slower` times as long. jitter: the standard deviation of log speed. lost: the
    mean time, in seconds, after which a worker is lost and comes back 30 s later, having lost what it had.
    """

    workers: int
    jitter: float = 0.05
    slow: float = 0.0
    slower: float = 5.0
    lost: float = np.inf


class Outcome(NamedTuple):
    """efficiency: the time that all workers together would need, over the time that it took. portions; again: lost."""

    efficiency: float
    portions: int
    again: int


_BESIDE, _CALLER, _BACK = 1e-3, 0.4e-3, 30.0
"""Seconds beside a portion, in its worker and in the caller, as measured with Dask; until a lost worker is back."""


class Simulation:
    """A sum by the rules of `remote.py`, that all workers at their own speeds would need `ideal` seconds for.

    The caller hands out one portion after the other, as workers ask. Each has up to two of them, and loses them when it
    is lost. Work is measured in seconds of a worker of speed 1; there is no smallest piece.
    """

    def __init__(self, cluster: Cluster, ideal: float, goal: float, seed: int) -> None:
        self.rng, self.cluster, self.goal = np.random.default_rng(seed), cluster, goal
        self.speed = np.exp(self.rng.normal(size=cluster.workers) * cluster.jitter)
        self.speed[self.rng.random(cluster.workers) < cluster.slow] /= cluster.slower
        self.left, self.ideal = ideal * float(self.speed.sum()), ideal
        self.events: list[tuple[float, int, str, int, int, float]] = []
        self.number = self.portions = self.again = self.under_way = 0
        self.free_at = self.last = 0.0
        self.has: list[list[float]] = [[] for _ in range(cluster.workers)]
        self.lives = [0] * cluster.workers
        self.asking = [worker for _ in range(remote._AHEAD) for worker in range(cluster.workers)][::-1]
        self.lost: list[float] = []
        if np.isfinite(cluster.lost):
            for worker in range(cluster.workers):
                self._at(self.rng.exponential(cluster.lost), "is lost", worker)

    def _at(self, when: float, what: str, worker: int, size: float = 0.0) -> None:
        self.number += 1
        heapq.heappush(self.events, (when, self.number, what, worker, self.lives[worker], size))

    def run(self) -> Outcome:
        """Until all is summed."""
        self._hand_out(0.0)
        while self.left > 0.0 or self.lost or self.under_way:
            now, _, what, worker, life, size = heapq.heappop(self.events)
            if what == "is back":
                self.asking += [worker] * remote._AHEAD
                self._at(now + self.rng.exponential(self.cluster.lost), "is lost", worker)
            elif what == "is lost":
                self.lives[worker] += 1
                self._lose(self.has[worker])
                self.has[worker] = []
                self._at(now + _BACK, "is back", worker)
            elif life != self.lives[worker]:
                self._lose([size] if what == "gets" else [])
            elif what == "gets":
                self.has[worker].append(size)
                if len(self.has[worker]) == 1:
                    self._begin(worker, now)
            else:
                self.last, self.under_way = now, self.under_way - 1
                self.has[worker].pop(0)
                self.asking.append(worker)
                if self.has[worker]:
                    self._begin(worker, now)
            self._hand_out(now)
        return Outcome(self.ideal / self.last, self.portions, self.again)

    def _begin(self, worker: int, now: float) -> None:
        self._at(now + _BESIDE + self.has[worker][0] / self.speed[worker], "has done", worker)

    def _lose(self, sizes: list[float]) -> None:
        self.lost += sizes
        self.again += len(sizes)
        self.under_way -= len(sizes)

    def _hand_out(self, now: float) -> None:
        while self.asking and (self.lost or self.left > 0.0):
            worker = self.asking.pop()
            if self.lost:
                size = self.lost.pop()
            else:
                size = min(remote.portion(self.left, self.goal, self.cluster.workers), self.left)
                self.left -= size
            self.free_at = max(self.free_at, now) + _CALLER
            self.portions, self.under_way = self.portions + 1, self.under_way + 1
            self._at(self.free_at, "gets", worker, size)


SITUATIONS = {
    "equal, 5 % jitter": {},
    "one in fifty five times slower": {"slow": 0.02},
    "each lost once an hour": {"lost": 3600.0},
}


def simulations() -> int:
    """The table of what was simulated; whether the size of a portion that is used is close to the best."""
    failures = 0
    print(
        "Efficiency, mean of five seeds: the time that the workers need by their speeds, over the time that it took.\n"
    )
    goals = (0.02, 0.2, 2.0, 20.0)
    print(f"| workers | ideal | workers are | {' | '.join(f'{goal:g} s' for goal in goals)} | as used | lost |")
    print(f"| --: | --: | --- | {' | '.join('--:' for _ in goals)} | --: | --: |")
    for workers in (2, 64, 1024):
        used = remote.longest_portion(workers)
        for ideal in (60.0, 600.0):
            for name, more in SITUATIONS.items():
                cells, found = [], {}
                for goal in (*goals, used):
                    if ideal / goal * workers > 3e5 and goal != used:
                        cells.append("")
                        continue
                    runs = [Simulation(Cluster(workers, **more), ideal, goal, seed).run() for seed in range(5)]
                    found[goal] = float(np.mean([run.efficiency for run in runs]))
                    cells.append(f"{100 * found[goal]:.1f} %")
                failures += found[used] < max(found.values()) - 0.02
                again = np.mean([run.again for run in runs])
                print(f"| {workers} | {ideal:g} s | {name} | {' | '.join(cells)} | {again:.1f} |", flush=True)
    return failures


def main() -> int:
    """Measure or simulate."""
    if sys.argv[1:2] == ["child"]:
        run_child(*sys.argv[2:])
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=("measure", "simulate"))
    parser.add_argument("--engines", default=",".join(ENGINES), help="(default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.what == "measure":
        failures = measure(arguments.engines.split(","))
        print(f"\nload {os.getloadavg()[0]:.2f}")
    else:
        failures = simulations()
    print(f"\n{failures} disagree")
    return common.AGREES if failures == 0 else common.DISAGREES


if __name__ == "__main__":
    sys.exit(main())
