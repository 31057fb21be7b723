"""How the command line ends by a signal: soon, in one line, with its exit code, whatever it was doing."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import refvlm
from refvlm import interrupts, starting
from refvlm.cli import main

if not os.path.exists("/proc/self/status"):
    pytest.skip("the process's own signals are read as Linux tells them", allow_module_level=True)

FOLDER = Path(__file__).parents[1] / "validation"


@pytest.fixture(scope="module")
def script():
    """validation/interrupts.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        return importlib.import_module("interrupts")


@pytest.fixture(scope="module")
def base(script, tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupts")
    script.inputs(folder)
    return folder


# each command, at some moment


@pytest.mark.parametrize(
    ("command", "name", "moment", "twice"),
    [
        ("evaluate", "SIGINT", 0.0, None),
        ("evaluate", "SIGHUP", 1.5, 0.01),
        ("brackets", "SIGTERM", 2.0, None),
        ("fit", "SIGTERM", 0.3, None),
        ("fit", "SIGINT", 1.5, 0.01),
        ("fit --checkpoint", "SIGHUP", 1.5, 0.01),
        ("demo", "SIGINT", 0.9, None),
        ("sample", "SIGTERM", 0.6, None),
        ("bench", "SIGINT", 1.2, None),
        ("moments", "SIGTERM", 1.2, None),
        ("vectors", "SIGHUP", 0.5, None),
        ("conform", "SIGTERM", 1.2, None),
    ],
)
def test_a_signal_is_one_line_soon_and_leaves_nothing_broken(script, base, command, name, moment, twice):
    trial = script.Trial(command, getattr(signal, name), moment, False, twice)
    folder = script.fresh(base)
    ended, _ = script.run(trial, folder, str(os.getpid()))
    assert script.faults(trial, ended) == [], ended.error
    assert script.damage(folder) == []
    assert script.orphans(str(os.getpid())) == []


def test_the_script_sees_what_is_wrong(script, base):
    trial = script.Trial("evaluate", signal.SIGTERM, 0.1, False, None)
    good = script.Ended(143, "refvlm: ended by SIGTERM\n", 0.2, False, 1.0)
    assert script.faults(trial, good) == []
    for bad, what in (
        ({"code": -15}, "exit code -15"),
        ({"error": "refvlm: ended by SIGTERM\n" * 2}, "2 lines"),
        ({"error": ""}, "0 lines"),
        ({"error": "Traceback (most recent call last)\nrefvlm: ended by SIGTERM\n"}, "traceback"),
        ({"seconds": 1.1}, "1.10 s"),
    ):
        (found,) = script.faults(trial, good._replace(**bad))
        assert what in found
    folder = script.fresh(base)
    (folder / "m.npz").write_bytes(b"PK half")
    (folder / "m.npz.0123456789ab.tmp").touch()
    assert len(script.damage(folder)) == 2
    left = subprocess.Popen(["sleep", "60"], env=os.environ | {"REFVLM_TRIAL": "left"})
    assert script.orphans("left") == [left.pid]
    left.wait()


# what an exception alone would not do


def ended(body, *sends):
    """A program in which `body` runs under the handlers, after signals at these seconds: (code, out, err, seconds)."""
    program = (
        "import ctypes, os, signal, sys, time\n"
        "from refvlm import interrupts\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
        "def swallow(seconds):\n"
        "    end = time.monotonic() + seconds\n"
        "    while time.monotonic() < end:\n"
        "        try:\n"
        "            time.sleep(0.01)\n"
        "        except BaseException:\n"
        "            pass\n"
        "interrupts.while_loading()\n"
        "try:\n"
        "    with interrupts.Caught() as caught:\n"
        "        print('ready', flush=True)\n"
        f"        {body}\n"
        "except KeyboardInterrupt:\n"
        "    print('raised')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as child:
        child.stdout.readline()
        begin = time.monotonic()
        for seconds, name in sends:
            time.sleep(seconds)
            child.send_signal(getattr(signal, name))
        out, err = child.stdout.read(), child.stderr.read()  # `communicate` would miss what came with the first line
        return child.wait(), out, err, time.monotonic() - begin


def test_an_interrupt_that_a_callback_swallows_is_raised_again():
    body = "ctypes.CFUNCTYPE(None)(lambda: time.sleep(0.3))(); time.sleep(30)"
    code, out, err, seconds = ended(body, (0.1, "SIGINT"))
    assert (code, out, err) == (0, "raised\n", "")
    assert seconds < 20


@pytest.mark.parametrize(
    ("name", "code", "words"), [("SIGINT", 130, "interrupted"), ("SIGHUP", 129, "ended by SIGHUP")]
)
def test_what_takes_no_notice_is_ended_with_its_output_flushed(name, code, words):
    body = "print('before'); swallow(30)"
    assert ended(body, (0.1, name))[:3] == (code, "before\n", f"refvlm: {words}\n")


def test_what_is_being_finished_is_waited_for():
    finish = "with interrupts.finishing(): swallow(1.5); print('finished', flush=True)"
    body = f"swallow(0.3)\n        {finish}\n        swallow(30)"
    code, out, _, seconds = ended(body, (0.1, "SIGTERM"), (0.01, "SIGTERM"), (0.0, "SIGHUP"))
    assert (code, out) == (143, "finished\n")
    assert seconds >= 1.5


def test_a_second_ctrl_c_ends_even_that_at_once():
    code, out, err, seconds = ended("with interrupts.finishing(): swallow(30)", (0.1, "SIGINT"), (0.4, "SIGINT"))
    assert (code, out, err) == (130, "", "refvlm: interrupted\n")
    assert seconds < 20


def test_a_child_that_is_forked_off_ends_by_itself():
    body = (
        "pid = os.fork()\n"
        "        if pid == 0: time.sleep(30); os._exit(9)\n"
        "        os.kill(pid, signal.SIGTERM); print(os.waitpid(pid, 0)[1]); time.sleep(0.3)"
    )
    assert ended(body)[:3] == (0, f"{int(signal.SIGTERM)}\n", "")


def test_the_same_signal_by_two_ways_does_not_cut_short_what_the_first_has_to_end():
    """As from a terminal that closes, and the shell in it."""
    body = "try: time.sleep(30)\n        except KeyboardInterrupt: time.sleep(0.4); print('ended', flush=True)"
    assert ended(body, (0.1, "SIGHUP"), (0.1, "SIGHUP"))[:3] == (0, "ended\n", "")


def test_an_interrupt_of_code_that_a_library_runs_is_130(tmp_path):
    """CPython notes it, and would end a `python -m` by SIGINT after all, whoever has taken it since."""
    (tmp_path / "program.py").write_text(
        "import ctypes, sys\n"
        "from refvlm import interrupts\n"
        "from refvlm.cli import main, sample\n"
        "def run(arguments):\n"
        "    ctypes.pythonapi.PyRun_String.restype = ctypes.py_object\n"
        "    ctypes.pythonapi.PyRun_String(b'raise KeyboardInterrupt', 257, *[ctypes.py_object({})] * 2)\n"
        "sample.run = run\n"
        "interrupts.while_loading()\n"
        "sys.exit(main(['sample', 'm.npz', '-n', '1']))\n"
    )
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(refvlm.__file__).parents[1]}"}
    command = [sys.executable, "-m", "program"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "refvlm: interrupted\n")


# whose signals they are


def test_the_library_touches_no_signal_and_the_command_gives_them_back():
    seen = "([signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)], signal.set_wakeup_fd(-1))"
    program = (
        f"import signal, sys; before = {seen}\nimport refvlm; print({seen} == before)\n"
        f"from refvlm.cli import main; print(main(['sample', sys.argv[1], '-n', '1']), {seen} == before)"
    )
    path = Path(refvlm.__file__).parent / "no such file"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, text=True, check=False)
    assert done.stdout == "True\n66 True\n"


def test_what_is_ignored_stays_ignored(base):
    command = [sys.executable, "-m", "refvlm", "evaluate", "small.npz", "digits"]
    with subprocess.Popen(
        command, cwd=base, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),  # as nohup does
    ) as child:  # fmt: skip
        for _ in range(3):
            time.sleep(0.1)
            child.send_signal(signal.SIGHUP)
        out, err = child.communicate()
    assert child.returncode == 0
    assert all("compiling the loops first" in line for line in err.splitlines()), err
    assert "holds for every row" in out


@pytest.mark.parametrize(
    ("words", "script", "answer"),
    [
        (["python", "/usr/bin/refvlm", "fit"], "/usr/bin/refvlm", True),
        (["python.exe", "C/refvlm.exe"], "C/refvlm.exe", True),
        (["python", "-X", "dev", "-m", "refvlm", "fit"], "-m", True),
        (["python", "-mrefvlm"], "-m", True),
        (["python", "-m", "pytest", "refvlm"], "-m", False),
        (["python", "program.py", "refvlm"], "program.py", False),
        (["python", "-c", "from multiprocessing.spawn import spawn_main"], "/usr/bin/refvlm", False),
        ([], "", False),
    ],
)
def test_the_command_is_told_from_other_programs(words, script, answer, monkeypatch):
    monkeypatch.setattr(sys, "orig_argv", words)
    monkeypatch.setattr(sys, "argv", [script])
    assert starting._is_command() is answer


def test_an_interrupt_that_has_become_another_error_is_one_still(monkeypatch, capsys):
    def broken(arguments):
        interrupts._current.number = signal.SIGTERM
        raise ImportError("numpy._core.multiarray failed to import")

    monkeypatch.setattr("refvlm.cli.sample.run", broken)
    assert main(["sample", "m.npz", "-n", "1"]) == 143
    assert capsys.readouterr().err == "refvlm: ended by SIGTERM\n"


def test_what_could_not_be_kept_is_said_with_it(monkeypatch, capsys):
    def full(arguments):
        interrupts._current.number = signal.SIGINT
        raise refvlm.cli.Failure("c: cannot be written: No space left on device", 73)

    monkeypatch.setattr("refvlm.cli.sample.run", full)
    assert main(["sample", "m.npz", "-n", "1"]) == 130
    assert capsys.readouterr().err == "refvlm: interrupted; c: cannot be written: No space left on device\n"


# before anything else


def limited(megabytes, **environment):
    """`refvlm --version` under a limit of addresses."""
    import resource

    limit = (megabytes * 10**6, resource.RLIM_INFINITY)
    return subprocess.run(
        [sys.executable, "-m", "refvlm", "--version"], capture_output=True, text=True, check=False,
        env=os.environ | environment, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limit),
    )  # fmt: skip


def test_too_little_memory_is_one_line_before_a_library_aborts():
    done = limited(500)
    assert (done.returncode, done.stdout) == (71, "")
    assert done.stderr.startswith(
        "refvlm: error: memory: a limit (ulimit -v) allows 500 MB of addresses, wanted at least"
    )
    assert done.stderr.count("\n") == 1
    assert limited(720, OPENBLAS_NUM_THREADS="1").stdout == f"refvlm {refvlm.__version__}\n"


@pytest.mark.parametrize(
    ("stream", "command", "code", "said"),
    [
        (0, "answer", 66, "standard input is closed"),
        (0, "check -", 66, "standard input is closed"),
        (0, "evaluate small.npz -", 66, "standard input is closed"),
        (0, f"conform --only linear/vlb -- {sys.executable} -m refvlm answer", 0, ""),
        (1, "sample small.npz -n 2", 73, "standard output is closed"),
        (1, "fit bars -o f.npz --epochs 1 --latents 2", 73, "standard output is closed"),
        (2, "fit bars -o f.npz --epochs 1 --latents 2", 0, ""),
        (2, "sample small.npz -n 2 -o none/x.csv", 73, ""),
    ],
)
def test_a_closed_stream_is_one_line_or_nothing(stream, command, code, said, base, tmp_path):
    os.symlink(base / "small.npz", tmp_path / "small.npz")
    done = subprocess.run(
        [sys.executable, "-m", "refvlm", *command.split()], cwd=tmp_path, capture_output=True, text=True, check=False,
        preexec_fn=lambda: os.close(stream),
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == (said != "")


def test_files_never_take_the_place_of_a_closed_stream(tmp_path):
    """What a library prints on standard error would go into them."""
    program = tmp_path / "refvlm"
    program.write_text("import os, refvlm; print(os.open(__file__, os.O_RDONLY) > 2)")
    done = subprocess.run(
        [sys.executable, program], stdout=subprocess.PIPE, check=False, preexec_fn=lambda: os.close(2)
    )
    assert done.stdout == b"True\n"


def test_an_interrupt_of_a_script_named_refvlm_is_one_line_from_the_first_import_on(tmp_path):
    program = tmp_path / "refvlm"
    program.write_text("import refvlm.starting, time; print('ready', flush=True); time.sleep(30)")
    with subprocess.Popen(
        [sys.executable, program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as child:  # fmt: skip
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=20)[1] == "refvlm: interrupted\n"
    assert child.returncode == 130
