"""Checkpoints: a run that was interrupted anywhere ends in the same bits, and a wrong file changes nothing."""

import io
import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import refvlm
from refvlm.cli import main
from refvlm.cli.fit_output import Watcher
from refvlm.learning.replay import Replay
from refvlm.learning.rules import RULES
from refvlm.learning.training import Training

RUNS = {name: {} for name in RULES} | {
    "maximum-likelihood": {"batch_size": 17, "momentum": 0.5, "optimiser": "sgd", "learning_rate": 0.05},
    "vlb": {"schedule": "cosine"},
    "wake-sleep": {"batch_size": 11, "latents": (3, 2)},
    "reweighted-wake-sleep": {"batch_size": 40, "samples": 3, "weight_decay": 0.01},
    "vimco": {"batch_size": 40, "samples": 3},
}


@pytest.fixture(scope="module")
def x():
    return refvlm.digits()[:60, 10:23]


class Stop(KeyboardInterrupt):
    """Ctrl-C between two steps."""


def learn(x, method, **options):
    chosen = {"latents": 3, "hidden": (5,), "epochs": 6, "validation": x[:7], "seed": 3} | RUNS[method] | options
    return refvlm.fit(x, method=method, **chosen)


def everything(fitted):
    arrays = [*fitted.model.parameters().values(), *fitted.posterior.parameters().values()]
    return b"".join(value.tobytes() for value in arrays), fitted.history


@pytest.mark.parametrize("method", RUNS)
def test_resuming_gives_the_bits_of_an_uninterrupted_run(x, method, tmp_path):
    whole = learn(x, method)
    path = tmp_path / "run.checkpoint"
    stops = [2, 3, 5] if method in ("em", "vlb") else [1, 7, 9]

    def interrupt_at(step):
        def progress(done, total):
            if done == step:
                raise Stop

        return progress

    for i, step in enumerate(stops):
        with pytest.raises(Stop):
            learn(x, method, checkpoint=path, resume=i > 0, progress=interrupt_at(step))
    assert everything(learn(x, method, checkpoint=path, resume=True)) == everything(whole)


def test_resuming_a_run_that_is_over_gives_it_again(x, tmp_path):
    path = tmp_path / "run.checkpoint"
    first = learn(x, "vlb", checkpoint=path)
    assert everything(learn(x, "vlb", checkpoint=path, resume=True)) == everything(first)


def test_patience_and_the_best_model_survive_an_interruption(x, tmp_path):
    options = {"learning_rate": 0.3, "patience": 3, "epochs": 40}
    whole = learn(x, "maximum-likelihood", **options)
    path = tmp_path / "run.checkpoint"
    last = whole.history[-2].step  # before the record of the posterior; patience is nearly at its end one step earlier

    def progress(done, total):
        if done == last - 1:
            raise Stop

    with pytest.raises(Stop):
        learn(x, "maximum-likelihood", checkpoint=path, progress=progress, **options)
    fitted = learn(x, "maximum-likelihood", checkpoint=path, resume=True, **options)
    assert everything(fitted) == everything(whole)
    assert fitted.history[-2].epoch < 40


@pytest.mark.parametrize("failure", [MemoryError, OSError, ValueError])
def test_whatever_ends_a_run_leaves_its_state(x, tmp_path, failure):
    """Raised by whoever watches: the last step's state is kept, and the run goes on from it."""
    path = tmp_path / "run.checkpoint"
    whole = learn(x, "maximum-likelihood")

    def fail(done, total):
        if done == 9:
            raise failure("no more")

    with pytest.raises(failure, match="no more"):
        learn(x, "maximum-likelihood", checkpoint=path, progress=fail)
    steps = []
    fitted = learn(x, "maximum-likelihood", checkpoint=path, resume=True, progress=lambda done, _: steps.append(done))
    assert steps[0] == 10
    assert everything(fitted) == everything(whole)


@pytest.mark.parametrize("method", RUNS)
def test_an_interrupt_within_a_step_leaves_the_state_before_it(x, method, tmp_path, monkeypatch):
    """After the parameters have moved, as late as it can come: of the step that ends an epoch, with its evaluation."""
    path = tmp_path / "run.checkpoint"
    whole = learn(x, method)
    evaluate, calls = Training._evaluate, []

    def interrupted(self):
        evaluate(self)
        calls.append(self.steps)
        if len(calls) == 2:
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_evaluate", interrupted)
        with pytest.raises(Stop):
            learn(x, method, checkpoint=path)
    steps = []
    fitted = learn(x, method, checkpoint=path, resume=True, progress=lambda done, _: steps.append(done))
    assert steps[0] == calls[-1]
    assert everything(fitted) == everything(whole)


def test_learning_that_diverges_leaves_no_checkpoint_to_diverge_from(x, tmp_path):
    with pytest.raises(ValueError, match="learning diverged"):
        learn(x, "maximum-likelihood", checkpoint=tmp_path / "run.checkpoint", learning_rate=1e9)
    assert os.listdir(tmp_path) == []


POSTERIORS = {
    "an encoder": {},
    "an encoder of missing bits": {"missing": "marginalise"},
    "without held-out rows": {"validation": False},
    "one for a deep model": {"latents": (4, 2)},
    "one phi per row": {"posterior": "per-datum", "validation": False},
    "one phi per row of missing bits": {"posterior": "per-datum", "validation": False, "missing": "marginalise"},
}


@pytest.mark.parametrize("name", POSTERIORS)
def test_the_fit_of_a_posterior_goes_on_where_it_was_ended(x, name, tmp_path, monkeypatch):
    """However often: each time it gets further, without computing anything again, to the same bits."""
    monkeypatch.setattr("refvlm.learning.per_datum._PART", 7 << 3)  # rows
    monkeypatch.setattr("refvlm.learning.fit.POSTERIOR_STEPS", 6)
    options = {"epochs": 2, "latents": 3, "hidden": (5,), "validation": x[:7], "seed": 3} | POSTERIORS[name]
    rows = x.astype(float)
    if "missing" in options:
        rows[4:, 5] = np.nan
    path, computed = tmp_path / "run.checkpoint", []
    take = Replay.take

    def counting(stop):
        def one(self, question, compute):
            def count():
                if stop is not None and len(computed) == stop:
                    raise Stop
                computed.append(question.tobytes())
                return compute()

            return take(self, question, count)

        return one

    monkeypatch.setattr(Replay, "take", counting(None))
    whole = refvlm.fit(rows, checkpoint=tmp_path / "whole", **options)
    total, computed[:] = len(computed), []
    assert total > 5
    for stop in range(0, total, 3):
        monkeypatch.setattr(Replay, "take", counting(stop))
        with pytest.raises(Stop):
            refvlm.fit(rows, checkpoint=path, resume=stop > 0, **options)
        assert len(computed) == stop
    monkeypatch.setattr(Replay, "take", counting(None))
    fitted = refvlm.fit(rows, checkpoint=path, resume=True, **options)
    assert len(computed) == total
    assert everything(fitted) == everything(whole) == everything(refvlm.fit(rows, **options))


def test_results_about_another_posterior_are_not_taken(x, tmp_path):
    path = tmp_path / "run.checkpoint"
    for options in ({}, {"encoder_hidden": (4,)}, {"posterior": "per-datum"}, {}):
        common = {"epochs": 2, "latents": 3, "hidden": (5,), "validation": False, **options}
        fitted = refvlm.fit(x, checkpoint=path, resume=path.exists(), **common)
        assert everything(fitted) == everything(refvlm.fit(x, **common))


def test_checkpoints_come_at_their_interval(x, tmp_path, monkeypatch):
    path, sizes = tmp_path / "run.checkpoint", []
    now = iter(range(10_000))
    monkeypatch.setattr("refvlm.learning.checkpoints.time.monotonic", lambda: next(now))
    learn(
        x, "vlb", checkpoint=path, checkpoint_every=4,
        progress=lambda done, total: sizes.append(path.stat().st_mtime_ns if path.exists() else 0),
    )  # fmt: skip
    assert sizes[0] == 0
    assert len(set(sizes)) >= 2


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"method": "vlb"}, "method"),
        ({"epochs": 7}, "epochs"),
        ({"latents": 4}, "shapes"),
        ({"seed": 4}, "seed"),
        ({"learning_rate": 0.01}, "learning_rate"),
        ({"held_out": 6}, "validation"),
        ({"batch_size": 18}, "batch_size"),
        ({"data": True}, "data"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused_and_kept(x, tmp_path, change, what):
    path = tmp_path / "run.checkpoint"
    learn(x, "maximum-likelihood", checkpoint=path)
    before = path.read_bytes()
    rows = x.copy()
    if change.pop("data", False):
        rows[5, 5] ^= 1
    if "held_out" in change:
        change["validation"] = x[: change.pop("held_out")]
    method = change.pop("method", "maximum-likelihood")
    options = RUNS["maximum-likelihood"] | {"latents": 3, "hidden": (5,), "epochs": 6, "validation": x[:7], "seed": 3}
    with pytest.raises(ValueError, match=f"another run: its {what} is"):
        refvlm.fit(rows, method=method, checkpoint=path, resume=True, **(options | change))
    assert path.read_bytes() == before


def rewritten(path, header=None, **arrays):
    """The checkpoint at `path` with another header or other arrays."""
    with np.load(path) as file:
        held = dict(file)
    if header is not None:
        old = json.loads(held["header"].tobytes())
        held["header"] = np.frombuffer(json.dumps(old | header).encode(), np.uint8)
    held |= arrays
    with open(path, "wb") as file:
        np.savez(file, **{name: value for name, value in held.items() if value is not None})


@pytest.mark.parametrize(
    "damage",
    [
        {"header": {"steps": -1}},
        {"header": {"steps": 10**9}},
        {"header": {"steps": "7"}},
        {"header": {"best_score": "high"}},
        {"header": {"best_score": None}},
        {"header": {"generator": {}}},
        {"header": {"generator": None}},
        {"header": {"sums": 3}},
        {"header": {"version": 2}},
        {"header": {"version": 4}},
        {"header": {"questions": 3}},
        {"header": {"questions": ["one"]}},
        {"header": {"extra": 0}},
        {"header": {"format": "refvlm"}},
        {"vector": np.zeros(3)},
        {"vector": None},
        {"history": np.zeros((2, 3))},
        {"states.0.0": np.full(92, np.nan)},
        {"more": np.zeros(2)},
    ],
    ids=lambda damage: str(next(iter(damage))),
)
def test_a_damaged_checkpoint_is_refused(x, tmp_path, damage):
    path = tmp_path / "run.checkpoint"
    learn(x, "maximum-likelihood", checkpoint=path, epochs=1, posterior="none")
    rewritten(path, **damage)
    with pytest.raises(refvlm.FileFormatError, match="checkpoint"):
        learn(x, "maximum-likelihood", checkpoint=path, epochs=1, posterior="none", resume=True)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"steps": 1.5}, "steps: got float 1.5, wanted an integer of at least 0"),
        ({"since_best": True}, "since_best: got bool True, wanted an integer"),
        ({"best_score": 3}, "best_score: got int 3, wanted a number in hexadecimal, such as '0x1.8p[+]1'"),
        ({"best_score": "0x1p9999"}, "best_score: got str '0x1p9999', wanted a number"),
        ({"best_score": "nan"}, "best_score: got str 'nan', wanted a number"),
        ({"sums": "x"}, "sums: got str 'x', wanted an object"),
        ({"generator": "x"}, "generator: got str 'x', wanted the state of a PCG64"),
        ({"generator": {"bit_generator": "PCG64", "state": []}}, "generator: got dict .*, wanted the state of a PCG64"),
        ({"configuration": {"\x1b[2J": 1}}, "another run: its"),
        ({"steps": float("nan")}, "no checkpoint of refvlm"),
    ],
    ids=str,
)
def test_what_is_wrong_with_a_checkpoint_is_said_in_words_of_ours(x, tmp_path, header, message):
    path = tmp_path / "run.checkpoint"
    learn(x, "maximum-likelihood", checkpoint=path, epochs=1, posterior="none")
    rewritten(path, header)
    with pytest.raises(ValueError, match=message) as caught:
        learn(x, "maximum-likelihood", checkpoint=path, epochs=1, posterior="none", resume=True)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("cell", [(0, np.nan), (0, -1.0), (1, 0.5), (1, np.inf)], ids=str)
def test_a_record_that_no_epoch_has_is_refused(x, tmp_path, cell):
    path = tmp_path / "run.checkpoint"
    learn(x, "maximum-likelihood", checkpoint=path, epochs=1, posterior="none")
    with np.load(path) as file:
        history = file["history"]
    history[0, cell[0]] = cell[1]
    rewritten(path, history=history)
    with pytest.raises(refvlm.FileFormatError, match="its history has a record of the epoch"):
        learn(x, "maximum-likelihood", checkpoint=path, epochs=1, posterior="none", resume=True)


def test_truncated_pickled_and_foreign_checkpoints_are_refused(x, tmp_path):
    path = tmp_path / "run.checkpoint"
    learn(x, "vlb", checkpoint=path)
    whole = path.read_bytes()
    pickled = io.BytesIO()
    np.savez(pickled, header=np.array([{}], dtype=object))
    with zipfile.ZipFile(tmp_path / "empty.zip", "w"):
        pass
    for content in (whole[:-30], whole[: len(whole) // 2], b"", b"\x80\x04.", pickled.getvalue(), b"PK\x03\x04junk"):
        path.write_bytes(content)
        with pytest.raises(refvlm.FileFormatError):
            learn(x, "vlb", checkpoint=path, resume=True)
    with pytest.raises(FileNotFoundError):
        learn(x, "vlb", checkpoint=tmp_path / "none", resume=True)


def test_an_unwritable_checkpoint_is_refused_before_any_work(x, tmp_path):
    with pytest.raises(OSError, match="cannot be written"):
        learn(x, "vlb", checkpoint=tmp_path / "no" / "such", progress=lambda *done: pytest.fail("worked"))


# On the command line.


def run(capsys, *arguments):
    code = main(["fit", *map(str, arguments)])
    return code, *capsys.readouterr()


SMALL = ("--latents", "3", "--hidden", "4", "--epochs", "4", "--batch-size", "600")


def test_fit_writes_a_model_that_evaluate_reads(capsys, tmp_path):
    model = tmp_path / "m.npz"
    code, out, err = run(capsys, "digits", "-o", model, *SMALL)
    assert code == 0, err
    assert "an encoder" in out
    assert not (tmp_path / "m.npz.checkpoint").exists()
    assert main(["evaluate", str(model), "digits", "--json", "--rows", "0:2"]) == 0
    learnt, _ = refvlm.load(model)
    assert learnt.latents == 3
    held_out = np.isin(np.arange(1797), refvlm.fit(refvlm.digits(), 3, (), epochs=0, posterior="none").held_out)
    assert f"{np.count_nonzero(~held_out)} rows" in out
    assert f"held out: {np.count_nonzero(held_out)} other rows of digits" in out
    for rows in (refvlm.digits()[~held_out], refvlm.digits()[held_out]):
        assert f"{refvlm.log_marginal(learnt, rows).mean():.4f}" in out


def test_fit_json_lines_are_the_history(capsys, tmp_path):
    path, held_out = tmp_path / "x.csv", tmp_path / "v.npy"
    x = refvlm.digits()[:90, 20:31]
    np.savetxt(path, x, fmt="%d", delimiter=",")
    np.save(held_out, x[:9])
    code, out, err = run(
        capsys, path, "-o", tmp_path / "m.npz", "--validation", held_out, "--latents", "4,2", "--hidden", "none",
        "--method", "wake-sleep", "--epochs", "3", "--json",
    )  # fmt: skip
    assert code == 0, err
    *lines, last = map(json.loads, out.splitlines())
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["log_px"] == pytest.approx(lines[-1]["vlb"] + lines[-1]["kl"], rel=1e-12)
    assert last["summary"]["validation_log_px"] == lines[-1]["validation_log_px"]
    again = refvlm.fit(x, (4, 2), (), "wake-sleep", validation=x[:9], epochs=3)
    assert [record._asdict() for record in again.history] == lines


def test_the_last_line_is_that_of_the_last_evaluation(capsys, tmp_path):
    """Ended by patience in an epoch that would not be shown otherwise; a rate at which held-out rows get worse."""
    x = (np.random.default_rng(0).random((60, 7)) < 0.5).astype(int)
    for name, rows in (("x.npy", x[:40]), ("v.npy", x[40:])):
        np.save(tmp_path / name, rows)
    code, out, err = run(
        capsys, tmp_path / "x.npy", "-o", tmp_path / "m.npz", "--validation", tmp_path / "v.npy", "--latents", "3",
        "--hidden", "9", "--patience", "2", "--learning-rate", "0.1", "--epochs", "400",
    )  # fmt: skip
    assert code == 0, err
    model, q = refvlm.load(tmp_path / "m.npz")
    last = next(line for line in reversed(out.splitlines()) if line[:7].strip().isdigit())
    assert f"{refvlm.log_marginal(model, x[:40]).mean():.4f}" in last
    assert f"{refvlm.kl(model, q, x[:40]).mean():.4f}" in last
    assert "kept: the model of epoch" in out


def test_the_worlds_come_with_their_probabilities(capsys, tmp_path):
    code, out, _ = run(
        capsys, "bars", "-o", tmp_path / "m.npz", "--latents", "5", "--hidden", "none", "--epochs", "3", "--json"
    )
    assert code == 0
    world = refvlm.bars()
    learnt, _ = refvlm.load(tmp_path / "m.npz")
    last = json.loads(out.splitlines()[-1])["summary"]
    assert last["log_px"] == pytest.approx(world.probabilities @ refvlm.log_marginal(learnt, world.images), rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--latents", "eight"], 2, "argument --latents: got 'eight', wanted an integer"),
        (["--learning-rate", "nan"], 2, "wanted a finite number"),
        (["--learning-rate", "1e9"], 65, "learning diverged at step 1 of"),
        (["--latents", "40"], 65, "'wake-sleep'"),
        (["--batch-size", "1619"], 65, "wanted at most the 1618 rows that are learnt from"),
        (["--resume"], 66, "there is no checkpoint"),
        (["--validation", "bars"], 65, "bars: has 16 columns, wanted 64"),
        (["--checkpoint", "/no/such/place"], 73, "cannot be written"),
    ],
)
def test_errors_are_one_line(capsys, tmp_path, arguments, code, message):
    try:
        ended, _, err = run(capsys, "digits", "-o", tmp_path / "m.npz", *SMALL, *arguments)
    except SystemExit as stop:  # argparse
        ended, (_, err) = stop.code, capsys.readouterr()
    assert ended == code
    assert message in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "m.npz").exists()


def test_a_checkpoint_that_is_there_is_not_overwritten(capsys, tmp_path):
    checkpoint = tmp_path / "m.npz.checkpoint"
    checkpoint.write_text("precious")
    code, _, err = run(capsys, "digits", "-o", tmp_path / "m.npz", *SMALL)
    assert code == 65
    assert "--resume" in err
    assert checkpoint.read_text() == "precious"


LONG = ("--latents", "4", "--hidden", "5", "--method", "wake-sleep", "--epochs", "60", "--json")


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, name, capsys):
    """What Python is told of saves the state of that moment; what it is not, leaves that of the last checkpoint."""
    model, number = tmp_path / "m.npz", getattr(signal, name)
    seconds = "0" if name == "SIGKILL" else "1000"
    command = [sys.executable, "-m", "refvlm", "fit", "digits", "-o", str(model), *LONG, "--checkpoint-every", seconds]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(3):  # epochs
        child.stdout.readline()
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}[name]
    assert not model.exists()
    if name != "SIGKILL":
        words = "interrupted" if name == "SIGINT" else f"ended by {name}"
        assert err.splitlines()[-1] == (
            f"refvlm: {words}; the state is in {model}.checkpoint; the same command with --resume goes on from it"
        )
        assert "Traceback" not in err
    code, resumed, err = run(capsys, "digits", "-o", model, *LONG, "--resume")
    assert code == 0, err
    assert json.loads(resumed.splitlines()[0])["epoch"] > 1
    assert run(capsys, "digits", "-o", tmp_path / "w.npz", *LONG)[0] == 0
    first, second = (refvlm.load(path) for path in (model, tmp_path / "w.npz"))
    for one, other in zip(first, second, strict=True):
        assert all((value == other.parameters()[name]).all() for name, value in one.parameters().items())


def test_the_prediction_survives_a_pass_that_counts_anew(monkeypatch, capsys):
    """Steps of one second each; then the posterior's, which begin where the first step was, or below."""
    now = iter(range(100))
    monkeypatch.setattr("refvlm.cli.fit.time.monotonic", lambda: next(now))
    watcher = Watcher(True)
    for done in (10, 10, 3, 3, 4):
        watcher.progress(done, 1000)
    assert "about 16:36 min for the 996 steps that are left" in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="POSIX pipes")
def test_a_reader_who_leaves_does_not_stop_learning(tmp_path):
    command = f"{sys.executable} -m refvlm fit digits -o {tmp_path}/m.npz {' '.join(LONG)} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert json.loads(done.stdout)["epoch"] == 1
    assert "error" not in done.stderr  # how long it takes may stand there
    assert refvlm.load(tmp_path / "m.npz")[0].latents == 4


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_full_disk_under_standard_output_costs_no_model(tmp_path, form):
    options = [option for option in LONG if option != "--json"] + form
    command = f"{sys.executable} -m refvlm fit digits -o {tmp_path}/m.npz {' '.join(options)} > /dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.returncode == 73
    assert "standard output cannot be written" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["m.npz"]
    assert refvlm.load(tmp_path / "m.npz")[0].latents == 4


def test_hyperparameters_that_are_numpy_numbers_are_kept_like_pythons(x, tmp_path):
    path = tmp_path / "c"
    options = {"epochs": 2, "samples": np.int64(3), "wake_phi": np.float64(0.25), "learning_rate": np.float64(0.02)}
    learn(x, "reweighted-wake-sleep", checkpoint=path, **options)
    plain = {"epochs": 2, "samples": 3, "wake_phi": 0.25, "learning_rate": 0.02}
    learn(x, "reweighted-wake-sleep", checkpoint=path, resume=True, **plain)
