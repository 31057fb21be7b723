"""Interrupts at random moments of the command line: how it ends, how soon, and what it leaves behind.

Each trial starts a command in a folder of its own, waits for a random moment, sends SIGINT, SIGTERM or SIGHUP, some of
them twice, and judges: the exit code, 130, 143 or 129; one line on standard error that says so, and nothing of a
traceback; the end within a second, or within three where loops may be compiled, or where brackets are summed up that an
interrupt ends with what was reached, times the load of the machine where more runs than it has cores for; every file
whole, no temporary one; no process left. Some runs of `fit` that were
ended go on with --resume, and their models have to have the bits of a run that nothing ended.

What comes before the interpreter has reached refvlm is not refvlm's to answer for. So a trial begins when the process
catches SIGTERM (/proc/PID/status), which Python by itself does not; this needs Linux. It is said how long that took.
A command that is at its end already may end with its own exit code, if it had something to end with.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import AGREES, DISAGREES

import refvlm

ENDINGS = {
    signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "ended by SIGTERM"),
    signal.SIGHUP: (129, "ended by SIGHUP"),
}  # fmt: skip
SOON, LATER = 1.0, 3.0
"""Seconds to the end: at other times, and where it may compile or sum up."""
PROGRAM = [sys.executable, "-m", "refvlm"]
FIT = "fit digits -o m.npz --latents 4 --hidden 6 --epochs 12 --checkpoint-every 0.3"
COMMANDS = {
    "evaluate": "evaluate large.npz digits --json",
    "brackets": "evaluate wide.npz wide.npy --json --seconds 0.4",
    "fit": FIT,
    "fit --checkpoint": f"{FIT} --checkpoint c",
    "demo": "demo -o m.npz",
    "sample": "sample small.npz -n 3000000 -o x.npy",
    "bench": "bench --quick --json",
    "moments": "moments small.npz digits --rows 60",
    "vectors": "vectors all --archive all.zip",
    "conform": f"conform --junit j.xml -- {' '.join(PROGRAM)} answer",
}
COLD = ("demo", "evaluate", "fit", "moments", "conform")
"""Commands that also begin without compiled loops."""


class Trial(NamedTuple):
    """What is done: when, in seconds after the handlers are there; twice: seconds until the signal comes again."""

    command: str
    number: signal.Signals
    moment: float
    cold: bool
    twice: float | None


class Ended(NamedTuple):
    """How it ended. seconds: from the signal to the end; late: the process had ended before the signal.

    load: processes that want to run, for each core, at least 1.
    """

    code: int
    error: str
    seconds: float
    late: bool
    load: float


def inputs(folder: Path) -> None:
    """The models and data that commands read."""
    rng = np.random.default_rng(0)

    def save(name: str, *sizes: int) -> None:
        model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=sizes[0])), refvlm.MLP.random(sizes, rng))
        q = refvlm.AmortisedPosterior(refvlm.MLP.random([sizes[-1], sizes[0]], rng))
        refvlm.save(folder / name, model, q)

    save("small.npz", 6, 9, 64)
    save("large.npz", 15, 20, 64)
    save("wide.npz", 40, 30)
    np.save(folder / "wide.npy", (rng.random((9, 30)) < 0.5).astype(np.uint8))


def start(command: str, folder: Path, cache: str | None, marker: str) -> subprocess.Popen[str]:
    """The command, in this folder, with a mark in its environment that its children have, too."""
    environment = os.environ | {"REFVLM_TRIAL": marker} | ({} if cache is None else {"REFVLM_CACHE_DIR": cache})
    environment["PYTHONPATH"] = str(Path(refvlm.__file__).parents[1])
    return subprocess.Popen(
        [*PROGRAM, *COMMANDS[command].split()], cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        preexec_fn=heed,
    )  # fmt: skip


def heed() -> None:
    """Ignore no signal, as a shell's jobs in the background, and what nohup starts, are made to."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


def wait_for_handlers(pid: int) -> None:
    """Until the process catches SIGTERM, or has ended."""
    while True:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        fields = dict(line.split(":", 1) for line in lines)
        if fields["State"].split()[0] == "Z" or int(fields["SigCgt"], 16) >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)


def run(trial: Trial, folder: Path, marker: str) -> tuple[Ended, float]:
    """Do it; how it ended, and the seconds until refvlm answered for signals."""
    cache = str(folder / "cache") if trial.cold else None
    begin = time.monotonic()
    with start(trial.command, folder, cache, marker) as child:
        wait_for_handlers(child.pid)
        ready = time.monotonic() - begin
        time.sleep(trial.moment)
        late = child.poll() is not None
        sent = time.monotonic()
        child.send_signal(trial.number)
        if trial.twice is not None:
            time.sleep(trial.twice)
            child.send_signal(trial.number)
        try:
            _, error = child.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            child.kill()
            _, error = child.communicate()
        seconds, load = time.monotonic() - sent, max(os.getloadavg()[0] / len(os.sched_getaffinity(0)), 1.0)
        return Ended(child.returncode, error, seconds, late, load), ready


def faults(trial: Trial, ended: Ended) -> list[str]:
    """What is wrong with how it ended."""
    code, words = ENDINGS[trial.number]
    found = []
    if any(word in ended.error for word in ("Traceback", "Exception", "Error")):
        found.append("traceback")
    if ended.late or ended.code == 0:  # it was at its end
        return found
    said = [line for line in ended.error.splitlines() if line.startswith(f"refvlm: {words}")]
    if ended.code != code:
        found.append(f"exit code {ended.code}, wanted {code}")
    if len(said) != 1 or not ended.error.endswith(f"{said[-1]}\n"):
        found.append(f"{len(said)} lines that say how it ended, wanted one, the last")
    limit = (LATER if trial.cold or trial.command == "brackets" else SOON) * ended.load
    if ended.seconds > limit:
        found.append(f"{ended.seconds:.2f} s, wanted at most {limit:.2f}")
    return found


def damage(folder: Path) -> list[str]:
    """Files that are not whole, and temporary ones."""
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name.startswith("cache") or path.is_dir():
            continue
        if path.suffix == ".tmp":
            found.append(f"{name} is left")
            continue
        try:
            if path.suffix == ".npy":
                np.load(path)
            elif name == "m.npz":
                refvlm.load(path)
            elif path.suffix in (".npz", ".zip", ".checkpoint") or name == "c":
                with zipfile.ZipFile(path) as archive:
                    bad = archive.testzip()
                    if bad is not None:
                        raise ValueError(f"{bad} is damaged")
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            found.append(f"{name}: {error}")
    return found


def orphans(marker: str) -> list[int]:
    """Processes with this mark that run after a second still; they are ended."""
    deadline = time.monotonic() + 1.0
    while left := _marked(marker):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            return left
        time.sleep(0.05)
    return []


def _marked(marker: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state = (path / "stat").read_text().rsplit(")", 1)[1].split()[0]
            if state not in "ZX" and f"REFVLM_TRIAL={marker}".encode() in (path / "environ").read_bytes():
                found.append(int(path.name))
        except (OSError, IndexError):
            continue
    return found


def resumed(folder: Path, whole: bytes) -> list[str]:
    """Go on with a run of `fit`, to the model of a run that nothing ended."""
    command = [*PROGRAM, *COMMANDS["fit"].split(), "--resume"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return [f"does not resume: {done.stderr.strip()}"]
    return [] if (folder / "m.npz").read_bytes() == whole else ["resumes to another model"]


def trials(count: int, seed: int, lengths: dict[str, float]) -> list[Trial]:
    """So many, of all commands in turn. A third of the moments lie in the first second, in which modules are loaded."""
    rng, made = random.Random(seed), []
    for n in range(count):
        command = list(COMMANDS)[n % len(COMMANDS)]
        cold = command in COLD and rng.random() < 0.2
        most = 1.0 if rng.random() < 1 / 3 else 10.0 if cold else lengths[command]
        number = rng.choice(list(ENDINGS))
        twice = rng.choice([0.01, 0.3]) if rng.random() < 0.15 else None
        made.append(Trial(command, number, rng.uniform(0.0, most), cold, twice))
    return made


def measured(base: Path) -> tuple[dict[str, float], bytes]:
    """How long every command takes when it is left alone, in seconds, with its loops compiled; the model of `fit`."""
    lengths, whole = {}, b""
    for command in COMMANDS:
        for _ in range(2):  # the first one compiles
            folder = fresh(base)
            begin = time.monotonic()
            with start(command, folder, None, "alone") as child:
                _, error = child.communicate()
            lengths[command] = time.monotonic() - begin
            if child.returncode != 0:
                raise SystemExit(f"{command} ends with {child.returncode}: {error}")
        if command == "fit":
            whole = (folder / "m.npz").read_bytes()
    return lengths, whole


def fresh(base: Path) -> Path:
    """A folder with the inputs."""
    folder = Path(tempfile.mkdtemp(dir=base))
    for path in base.glob("*.np?"):
        (folder / path.name).symlink_to(path)
    return folder


def main() -> int:
    """All trials, a line for each that goes wrong, and the table."""
    parser = argparse.ArgumentParser(description="Interrupts at random moments of the command line.")
    parser.add_argument("--interrupts", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", type=int, default=8, metavar="N", help="runs of fit that go on (default: 8)")
    arguments = parser.parse_args()
    wrong, begun, counts = 0, [], Counter[str]()
    times: dict[str, list[float]] = {command: [] for command in COMMANDS}
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        inputs(base)
        lengths, whole = measured(base)
        for n, trial in enumerate(trials(arguments.interrupts, arguments.seed, lengths)):
            folder, marker = fresh(base), secrets.token_hex(8)
            ended, ready = run(trial, folder, marker)
            found = faults(trial, ended) + damage(folder) + [f"process {pid} is left" for pid in orphans(marker)]
            if counts["resumed"] < arguments.resume and (folder / "m.npz.checkpoint").exists():
                counts["resumed"] += 1
                found += resumed(folder, whole)
            begun.append(ready)
            counts["over" if ended.late or ended.code == 0 else trial.number.name] += 1
            counts["cold"] += trial.cold
            if not ended.late:
                times[trial.command].append(ended.seconds)
            if found:
                wrong += 1
                print(f"WRONG  {n}: {trial}: {'; '.join(found)}\n{ended.error}", flush=True)
            shutil.rmtree(folder)
    print(f"{'command':17} {'interrupts':>10}  median and longest time to the end, s")
    for command, seconds in times.items():
        if seconds:
            print(f"{command:17} {len(seconds):>10}  {np.median(seconds):.2f}  {max(seconds):.2f}")
    kinds = ", ".join(f"{counts[number.name]} {number.name}" for number in ENDINGS)
    print(f"refvlm answered for signals {np.median(begun):.3f} s after the start (median; longest {max(begun):.3f})")
    print(
        f"{arguments.interrupts} interrupts ({kinds}; {counts['over']} at the end or after it), {counts['cold']} with "
        f"loops to compile, {counts['resumed']} resumed; {wrong} wrong"
    )
    return DISAGREES if wrong else AGREES


if __name__ == "__main__":
    sys.exit(main())
