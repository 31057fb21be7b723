"""Sums and fits that are killed again and again, and go on elsewhere: `python validation/soak.py`.

    python validation/soak.py --kills 200     so many kills of each, at random moments, with kill -9
    python validation/soak.py --minutes 60    with kill -9, SIGTERM and Ctrl-C, in a loop for so long
    python validation/soak.py --kills 3 --quick    smaller ones, on threads and processes alone

A sum is `refvlm evaluate --checkpoint`, a fit `refvlm fit --checkpoint`. Each is begun on an engine drawn at random, is
killed at a moment drawn at random, is taken up on another engine, and so on until it ends. Expected: what it writes is
what the run without any kill has written, byte by byte; nothing but a journal or a checkpoint is left behind; no
process outlives its parent; and the memory of the processes, and that of the two workers of Dask that serve all of
them, does not grow. Engines that are not installed are left out. Everything random comes from --seed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import common
import numpy as np
import scaling

import refvlm

TREE = Path(__file__).resolve().parent.parent
MPIEXEC = Path(sys.executable).parent / "mpiexec"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(TREE)}
KILL, TERMINATE, INTERRUPT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT
LOUD = {0, -KILL, 130, 143, -TERMINATE}
"""How a run may end: by itself, or by what was sent."""


class Work:
    """A command that can go on, and what it writes."""

    def __init__(self, name: str, folder: Path, command: list[str], kept: Path, output: Path | None) -> None:
        self.name, self.folder, self.command, self.kept, self.output = name, folder, command, kept, output
        self.written, self.seconds = b"", 0.0

    def words(self, engine: list[str]) -> list[str]:
        """The whole command line, on an engine."""
        words = [sys.executable, "-m", "refvlm", *self.command, *engine]
        if engine[-1] == "mpi":
            words = [str(MPIEXEC), "-n", "3", sys.executable, "-m", "mpi4py.futures", *words[1:]]
        return words + (["--resume"] if self.name == "fit" and self.kept.exists() else [])

    def result(self, said: bytes) -> bytes:
        """What the run has written: the rows of a sum, the parameters of a fit."""
        if self.output is None:
            return said
        model, posterior = refvlm.load(self.output)
        parameters = [*model.parameters().values(), *(posterior.parameters().values() if posterior else ())]
        return b"".join(value.tobytes() for value in parameters)

    def clean(self) -> None:
        """Begin anew."""
        for path in (self.kept, self.output):
            if path is not None:
                path.unlink(missing_ok=True)


def works(folder: Path, quick: bool) -> list[Work]:
    """A sum of some seconds by two threads, and a fit."""
    rng, latents, epochs = np.random.default_rng(0), 31 if quick else 33, 500 if quick else 3000
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), refvlm.MLP.random([latents, 16], rng))
    refvlm.save(folder / "model.npz", model)
    np.save(folder / "rows.npy", common.binary(2, 16, rng))
    journal, checkpoint, fitted = folder / "sum.journal", folder / "fit.checkpoint", folder / "fitted.npz"
    summing = ["evaluate", str(folder / "model.npz"), str(folder / "rows.npy"), "--json", "--checkpoint", str(journal)]
    fitting = [
        "fit", "bars", "--latents", "6", "--hidden", "12", "--epochs", str(epochs), "--json", "-o", str(fitted),
        "--checkpoint", str(checkpoint), "--checkpoint-every", "0.2",
    ]  # fmt: skip
    return [Work("sum", folder, summing, journal, None), Work("fit", folder, fitting, checkpoint, fitted)]


def engines(stack: ExitStack, few: bool) -> list[list[str]]:
    """Those that are there; few: no clusters, which take longer to hand out a step of a fit than it takes."""
    found = [["--workers", "1"], ["--workers", "2"], ["--executor", "processes:2"]]
    if few:
        return found
    if find_spec("distributed") is not None:
        found.append(["--executor", stack.enter_context(scaling.dask(2))])
    if find_spec("mpi4py") is not None and MPIEXEC.exists():
        found.append(["--executor", "mpi"])
    return found


def children(parent: int) -> list[int]:
    """All processes below one."""
    below: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        below.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, ahead = [], [parent]
    while ahead:
        ahead += (new := below.get(ahead.pop(), []))
        found += new
    return found


def alive(pid: int) -> bool:
    """Whether it runs, and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def resident(pid: int) -> int:
    """Bytes of memory."""
    try:
        return 4096 * int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0


class Soak:
    """Counts of what happened."""

    def __init__(self, seed: int, signals: list[signal.Signals]) -> None:
        self.rng, self.signals = np.random.default_rng(seed), signals
        self.kills: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.faults: list[str] = []
        self.memory: list[tuple[float, int]] = []

    def once(self, work: Work, choices: list[list[str]], most: int | None) -> None:
        """Begin, kill, go on, until it ends; most: kills."""
        work.clean()
        kills = 0
        while True:
            engine = choices[int(self.rng.integers(len(choices)))]
            wanted = most is None or kills < most
            after = float(self.rng.uniform(0.2, 1.2 * work.seconds)) if wanted and self.rng.random() < 0.9 else None
            done, said = self._run(work, engine, after)
            if done:
                break
            kills += 1
        self.ends[work.name] += 1
        if work.result(said) != work.written:
            self.faults.append(f"{work.name}: other bits after {kills} kills")
        left = {path.name for path in work.folder.iterdir()} - {"model.npz", "rows.npy", "sum.journal", "fitted.npz"}
        if left - {"fit.checkpoint"}:
            self.faults.append(f"{work.name}: left {sorted(left)}")
            for name in left:
                (work.folder / name).unlink()

    def _run(self, work: Work, engine: list[str], after: float | None) -> tuple[bool, bytes]:
        """Whether it came to its end, and what it printed."""
        with subprocess.Popen(
            work.words(engine), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, cwd=work.folder,
            start_new_session=True,
        ) as process:  # fmt: skip
            try:
                said, errors = process.communicate(timeout=after)
            except subprocess.TimeoutExpired:
                how = self.signals[int(self.rng.integers(len(self.signals)))]
                below = children(process.pid)
                self.memory.append((time.monotonic(), sum(map(resident, [process.pid, *below]))))
                if engine[-1] == "mpi" and how != KILL:
                    os.killpg(process.pid, how)  # as a scheduler does
                else:
                    process.send_signal(how)
                if engine[-1] == "mpi" and how == KILL:
                    for pid in below:
                        if alive(pid):
                            os.kill(pid, KILL)
                said, errors = process.communicate(timeout=60)
                self.kills[f"{work.name} {how.name}"] += 1
                self._check_orphans(work, engine, below)
                if process.returncode == 0:
                    return True, said
                if process.returncode not in LOUD and engine[-1] != "mpi":
                    self.faults.append(f"{work.name} {engine} {how.name}: exit {process.returncode}: {errors[-300:]!r}")
                if b"Traceback" in errors and engine[-1] != "mpi":
                    self.faults.append(f"{work.name} {engine} {how.name}: {errors[-300:]!r}")
                return False, said
            if process.returncode != 0:
                self.faults.append(f"{work.name} {engine}: exit {process.returncode}: {errors[-300:]!r}")
                raise SystemExit("\n".join(self.faults))
            return True, said

    def _check_orphans(self, work: Work, engine: list[str], below: list[int]) -> None:
        end = time.monotonic() + 10
        while any(map(alive, below)) and time.monotonic() < end:
            time.sleep(0.05)
        left = [pid for pid in below if alive(pid)]
        if left:
            self.faults.append(f"{work.name} {engine}: processes {left} outlive their parent")
            for pid in left:
                os.kill(pid, KILL)


def grown(values: list[tuple[float, int]]) -> float:
    """The median of the last quarter over that of the first."""
    quarter = max(len(values) // 4, 1)
    first, last = (float(np.median([size for _, size in part])) for part in (values[:quarter], values[-quarter:]))
    return last / first


def undisturbed(folder: Path, quick: bool) -> list[Work]:
    """The works, with what they write where nothing happens."""
    found = works(folder, quick)
    for work in found:
        work.clean()
        start = time.monotonic()
        said = subprocess.run(
            work.words(["--workers", "2"]), capture_output=True, env=ENVIRONMENT, cwd=folder, check=True
        ).stdout  # fmt: skip
        work.written, work.seconds = work.result(said), time.monotonic() - start
    return found


def main() -> int:
    """Kill until it is enough."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, help="of sums, and as many of fits, by kill -9")
    parser.add_argument("--minutes", type=float, help="so long, by all signals")
    parser.add_argument("--quick", action="store_true", help="a sum and a fit of a second")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    if (arguments.kills is None) == (arguments.minutes is None):
        parser.error("wanted --kills or --minutes, one of them")
    soak = Soak(arguments.seed, [KILL] if arguments.kills else [KILL, TERMINATE, INTERRUPT])
    folder = Path(tempfile.mkdtemp(prefix="refvlm-soak-"))
    start, served = time.monotonic(), list[tuple[float, int]]()
    try:
        with ExitStack() as stack, suppress(KeyboardInterrupt):  # what has happened until then is reported
            found = undisturbed(folder, arguments.quick)
            before = set(children(os.getpid()))
            choices = {work.name: engines(stack, arguments.quick or work.name == "fit") for work in found}
            workers = [pid for pid in children(os.getpid()) if pid not in before]
            while arguments.minutes is None or time.monotonic() - start < 60 * arguments.minutes:
                killed = [sum(n for name, n in soak.kills.items() if name.startswith(work.name)) for work in found]
                if arguments.kills is not None and min(killed) >= arguments.kills:
                    break
                for work, done in zip(found, killed, strict=True):
                    most = None if arguments.kills is None else arguments.kills - done
                    if most != 0:
                        soak.once(work, choices[work.name], most)
                    served.append((time.monotonic(), sum(map(resident, workers))))
                if sys.stderr.isatty():
                    print(f"\r{dict(soak.kills)} {dict(soak.ends)}", end="", file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(soak, served, time.monotonic() - start)


def _report(soak: Soak, served: list[tuple[float, int]], seconds: float) -> int:
    rows: list[tuple[str, Any, Any]] = [("runs that ended with other bits, or otherwise wrong", 0, len(soak.faults))]
    for name, values in (("processes when they were killed", soak.memory), ("scheduler and workers of Dask", served)):
        values = [value for value in values if value[1]]
        if len(values) >= 20:
            rows.append((f"memory of the {name}, last quarter over the first, at most", 1.1, round(grown(values), 3)))
    for fault in soak.faults:
        print(fault)
    print(f"{seconds / 60:.1f} minutes; kills: {dict(soak.kills)}; runs to their end: {dict(soak.ends)}")
    failures = 0
    for what, expected, got in rows:
        agrees = got <= expected
        failures += not agrees
        print(f"{what}: expected {expected}, got {got}: {'agrees' if agrees else 'DISAGREES'}")
    return common.AGREES if failures == 0 else common.DISAGREES


if __name__ == "__main__":
    sys.exit(main())
