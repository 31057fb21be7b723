"""`--executor`, `--checkpoint` and `--so-far` on the command line."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from problems import binary, network, shallow

import refvlm
from refvlm.cli import main


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    model, q = shallow(14, (6,), 5, rng), refvlm.AmortisedPosterior(network([5, 4, 14], rng))
    refvlm.save(folder / "q.npz", model, q)
    refvlm.save(folder / "other.npz", shallow(14, (6,), 5, rng))
    refvlm.save(folder / "long.npz", shallow(34, (), 5, rng))
    np.save(folder / "x.npy", binary(40, 5, rng))
    np.save(folder / "one.npy", binary(1, 5, rng))
    return folder


def output(capsys, *words):
    code = main([*map(str, words)])
    return (code, *capsys.readouterr())


@pytest.mark.parametrize("where", [["--executor", "processes:2"], ["--executor", "threads:3"], ["--workers", "1"]])
@pytest.mark.parametrize("command", ["evaluate", "moments"])
def test_what_is_printed_does_not_depend_on_where_it_is_computed(files, capsys, command, where):
    words = [command, files / "q.npz", files / "x.npy", "--json", "--rows", "2"]
    words += ["--estimators", "reinforce", "--samples", "1"] if command == "moments" else []
    expected, found = output(capsys, *words), output(capsys, *words, *where)
    assert expected[0] == found[0] == 0
    assert found[1] == expected[1]


def test_what_fit_learns_does_not_depend_on_where_it_enumerates(files, capsys, tmp_path):
    words = ["fit", files / "x.npy", "--latents", "5", "--hidden", "4", "--epochs", "3", "--json", "--seed", "2"]
    written = []
    for name, where in (("a", []), ("b", ["--executor", "processes:2"]), ("c", ["--executor", "threads:3"])):
        code, out, _ = output(capsys, *words, "-o", tmp_path / name, *where)
        assert code == 0
        model, q = refvlm.load(tmp_path / name)
        parameters = [*model.parameters().values(), *q.parameters().values()]
        written.append((out.splitlines()[:-1], [value.tobytes() for value in parameters]))
    assert written[0] == written[1] == written[2]


@pytest.mark.parametrize("method", ["maximum-likelihood", "em", "vlb", "wake-sleep"])
@pytest.mark.parametrize("missing", [False, True])
def test_fit_takes_an_executor(method, missing):
    rng = np.random.default_rng(0)
    x = binary(60, 7, rng).astype(float)
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
    options = {"latents": 4, "hidden": (), "epochs": 2, "method": method, "validation": False}
    options |= {"missing": "marginalise"} if missing else {}
    expected = refvlm.fit(x, **options)
    with Counted(2) as executor:
        found = refvlm.fit(x, **options, executor=executor)
    assert executor.calls > 0
    for one, other in ((expected.model, found.model), (expected.posterior, found.posterior)):
        assert [v.tobytes() for v in one.parameters().values()] == [v.tobytes() for v in other.parameters().values()]


class Counted(ThreadPoolExecutor):
    calls = 0

    def submit(self, *arguments, **named):
        self.calls += 1
        return super().submit(*arguments, **named)


def test_a_reader_who_leaves_is_no_fault_of_the_executor(files):
    words = [sys.executable, "-m", "refvlm", "evaluate", files / "q.npz", files / "x.npy", "--executor", "processes:1"]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([*words, "--json"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_bracket_takes_an_executor(files, capsys):
    words = ["evaluate", files / "long.npz", files / "one.npy", "--seconds", "0", "--json"]
    expected, found = output(capsys, *words), output(capsys, *words, "--executor", "processes:1")
    assert expected[0] == found[0] == 0
    assert json.loads(found[1].splitlines()[0])["kind"] == json.loads(expected[1].splitlines()[0])["kind"]


def test_a_checkpoint_goes_on_and_says_what_it_proves(files, capsys, tmp_path):
    kept, words = tmp_path / "sum", ["evaluate", files / "q.npz", files / "x.npy", "--json"]
    expected = output(capsys, *words)[1]
    assert output(capsys, *words, "--checkpoint", kept)[1] == expected
    size = kept.stat().st_size
    assert output(capsys, *words, "--checkpoint", kept, "--executor", "threads:1")[1] == expected
    assert kept.stat().st_size == size
    code, out, _ = output(capsys, *words, "--checkpoint", kept, "--so-far")
    rows, exact = [json.loads(line) for line in out.splitlines()], [json.loads(line) for line in expected.splitlines()]
    assert code == 0
    assert len(rows) == 40
    for row, whole in zip(rows, exact, strict=False):
        assert row["done"] == 1.0
        assert whole["log_px"] - 1e-11 < row["log_px_lower"] <= whole["log_px"]
    code, out, _ = output(capsys, *words[:-1], "--checkpoint", kept, "--so-far", "--rows", "2")
    assert out.splitlines()[2:] == [
        f"{'row':>8} {'log p(x) >=':>15} {'summed':>8}",
        *(f"{n:>8} {exact[n]['log_px']:>15.6f}  100.0 %" for n in range(2)),
    ]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["q.npz", "x.npy", "--so-far"], 2, "--so-far: got no --checkpoint, wanted the FILE"),
        (["long.npz", "one.npy", "--seconds", "1", "--checkpoint", "new"], 2, "--checkpoint: got it for brackets"),
        (["q.npz", "x.npy", "--workers", "2", "--executor", "threads:2"], 2, "got both, wanted at most one"),
        (["q.npz", "x.npy", "--executor", "mpi"], 65, "got mpi in a single process"),
        (["q.npz", "x.npy", "--executor", "dask://127.0.0.1:1"], 69, "no scheduler of Dask answers at 127.0.0.1:1"),
        (["q.npz", "x.npy", "--checkpoint", "no/such/folder"], 73, "cannot be opened"),
        (["q.npz", "x.npy", "--checkpoint", "x.npy"], 65, "is no journal of a sum"),
        (["other.npz", "x.npy", "--checkpoint", "kept"], 65, "was begun with another model"),
        (["q.npz", "one.npy", "--checkpoint", "kept"], 65, "is of other data"),
        (["q.npz", "one.npy", "--checkpoint", "kept", "--so-far"], 65, "is of other data"),
        (["q.npz", "x.npy", "--checkpoint", "nothing", "--so-far"], 66, "cannot be opened"),
    ],
)
def test_what_is_refused(files, capsys, monkeypatch, words, code, says):
    monkeypatch.chdir(files)
    if not os.path.exists("kept"):
        output(capsys, "evaluate", "q.npz", "x.npy", "--checkpoint", "kept")
    if "dask" in str(words):
        pytest.importorskip("distributed")
    if "mpi" in words:
        pytest.importorskip("mpi4py")
    found, _, err = output(capsys, "evaluate", *words)
    last = err.strip().splitlines()[-1]
    assert (found, last.startswith("refvlm: error: "), says in last) == (code, True, True), err


def test_an_executor_that_is_none_is_refused_by_the_parser(files, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["evaluate", str(files / "q.npz"), str(files / "x.npy"), "--executor", "cloud"])
    assert (
        "--executor: got 'cloud', wanted threads[:N], processes[:N], dask://HOST:PORT or mpi" in capsys.readouterr().err
    )


def children(parent):
    """Numbers of the processes that a process has started and that run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, above = stat.read_text().rpartition(")")[2].split()[:2]
            if int(above) == parent and state != "Z":
                found.append(int(stat.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
@pytest.mark.parametrize(
    ("where", "signals", "code", "word"),
    [
        (["--workers", "2"], [signal.SIGINT], 130, "interrupted"),
        (["--executor", "processes:2"], [signal.SIGINT], 130, "interrupted"),
        (["--executor", "processes:2"], [signal.SIGTERM], 143, "ended by SIGTERM"),
        (["--executor", "processes:2"], [signal.SIGINT, signal.SIGINT], 130, "interrupted"),
    ],
)
def test_a_signal_keeps_the_sum_and_says_what_it_proves(files, tmp_path, where, signals, code, word):
    """2**34 codes; the first signal comes when the first write has been made, a second one half a second later."""
    kept = tmp_path / "sum"
    words = [sys.executable, "-m", "refvlm", "evaluate", files / "long.npz", files / "one.npy", "--checkpoint", kept]
    with subprocess.Popen([*words, *where], stderr=subprocess.PIPE, text=True) as process:
        end = time.monotonic() + 60
        while (not kept.exists() or kept.stat().st_size < 250) and time.monotonic() < end:
            time.sleep(0.05)
        below = children(process.pid)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.5)
        said = process.stderr.read()
    assert process.returncode == code, said
    last = said.strip().splitlines()[-1]
    assert last.startswith(f"refvlm: {word}; ")
    assert f"% of the sum is in {kept}; the same command goes on from there; proved so far: log p(x) >= -" in last
    assert len(below) >= 2 * ("processes:2" in where)
    end = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)
