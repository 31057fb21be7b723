"""`refvlm bench`: what it measures, what it compares, and what it says."""

import importlib.util
import json
import math
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import refvlm
from refvlm.bench import peers, processor, roofline
from refvlm.bench.limits import Rates, limit
from refvlm.bench.works import WORKS, Answer, Work, named, ours, problem
from refvlm.cli import main
from refvlm.enumeration import kernels

ROOT = Path(__file__).parents[1]
SMALL = Work("small", 6, 3, 5, 40, 4)


@pytest.fixture
def run(capsys):
    """Run the command in this process: exit code, stdout, stderr."""

    def command(*arguments):
        try:
            code = main(["bench", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        return code, *capsys.readouterr()

    return command


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """A roofline in milliseconds: these tests want no good figures."""
    monkeypatch.setattr(roofline, "LEAST_SECONDS", 1e-4)


def objects(out):
    """JSON lines; the constants that JSON does not have are refused."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return [json.loads(line, parse_constant=refuse) for line in out.splitlines()]


class Plain:
    """A peer in NumPy, of which one program adds `error` to the first log p(x)."""

    def __init__(self, error=0.0):
        self.error = error

    def programs(self, given, gradient, chunks):
        (w, b), *rest = given.layers
        a = refvlm.bits.table(len(given.prior_logits)) @ w + b
        for w, b in rest:
            a = np.tanh(a) @ w + b
        z = refvlm.bits.table(len(given.prior_logits))
        prior = z @ given.prior_logits - np.logaddexp(0, given.prior_logits).sum()
        joint = prior[:, None] + a @ given.x.T.astype(float) - np.logaddexp(0, a).sum(1)[:, None]
        log_px = np.logaddexp.reduce(joint, axis=0)
        yield "right", lambda: Answer(log_px, [])
        yield "perhaps wrong", lambda: Answer(log_px + self.error * (np.arange(len(log_px)) == 0), [])


def use(monkeypatch, error):
    """Make `torch` and `jax` this peer, installed."""
    monkeypatch.setattr("refvlm.bench.facts._version", lambda package: "1.0")
    for name in peers.MAKERS:
        monkeypatch.setitem(peers.MAKERS, name, lambda workers: Plain(error))


# what is printed


def test_json_has_the_documented_keys(run):
    code, out, err = run("--quick", "--only", "mlp-small", "--peers", "none", "--json", "--workers", 2)
    machine, one, two, work, summary = objects(out)
    assert code == 0
    assert "refvlm: this takes about" in err
    assert list(machine["machine"]) == [
        "cpu", "compiled_for", "instructions", "vector_bits", "cores", "load", "system", "python", "refvlm", "numpy",
        "numba", "torch", "jax",
    ]  # fmt: skip
    assert machine["machine"]["vector_bits"] == 64 * kernels.hardware.HARDWARE.width
    for line, workers in ((one, 1), (two, 2)):
        assert list(line["roofline"]) == ["workers", "fma", "exp", "load_multiply", "division"]
        assert line["roofline"]["workers"] == workers
        assert all(0.001 < rate < 1e5 for rate in list(line["roofline"].values())[1:])
    assert {key: work[key] for key in ("work", "K", "H", "L", "N", "gradient", "peak_bytes", "peers")} == {
        "work": "mlp-small", "K": 20, "H": 32, "L": 16, "N": 1, "gradient": False, "peak_bytes": None, "peers": {}
    }  # fmt: skip
    assert work["ns_per_state"] == pytest.approx(work["seconds"] * 1e9 / 2**20)
    rates = Rates(**two["roofline"])
    assert work["limit_ns"] == pytest.approx(limit(named(["mlp-small"])[0], rates))
    assert work["percent_of_limit"] == pytest.approx(100 * work["limit_ns"] / work["ns_per_state"])
    assert work["times_faster"] is None
    assert summary["summary"]["peers_agree"] is None
    assert summary["summary"]["seconds"] > 0


def test_help_documents_every_json_key(run, monkeypatch):
    use(monkeypatch, 0.0)
    text = run("--help")[1]
    lines = objects(run("--quick", "--only", "flatness", "digits-like", "--json", "--repeats", 1)[1])
    keys = {key for line in lines for key in line}
    keys |= {key for line in lines for value in line.values() if isinstance(value, dict) for key in value}
    keys |= set(lines[3]["peers"]["torch"])
    assert lines[3]["times_faster"] == min(peer["times_faster"] for peer in lines[3]["peers"].values())
    assert all(f'"{key}"' in text for key in keys)
    assert [line["K"] for line in lines[-4:-1]] == [18, 20, 22]
    assert [line["peers"] for line in lines[-4:-1]] == [{}, {}, {}]
    script = runpy.run_path(str(ROOT / "validation" / "speed.py"))
    new = script["section"](lines, "then")
    own = kernels.hardware.HARDWARE.instructions
    before = f"# Speed\n\n## {own}\n\nwrong\n\n## another\n\nkept\n"
    shown = script["page"](before, new)
    assert "| digits-like | 12 | 32 | 16 | 2671 |" in shown
    assert "All answers agree" in shown
    assert "## another\n\nkept\n" in shown
    assert "wrong" not in shown
    assert script["page"](shown, new) == shown


def test_people_see_the_roofline_and_the_works(run, monkeypatch):
    use(monkeypatch, 0.0)
    code, out, _ = run("--quick", "--only", "digits-like", "--repeats", 1)
    assert code == 0
    lines = out.splitlines()
    assert lines.index(next(line for line in lines if line.startswith("fused"))) < len(lines) / 2
    (row,) = [line.split() for line in lines if line.startswith("digits-like")]
    assert row[1:5] == ["12", "32", "16", "2671"]
    assert row[-1] == "10"
    assert len(row) == 12
    fastest = min(float(row[8]), float(row[9]))
    assert float(row[10]) == pytest.approx(fastest / float(row[5]), rel=0.01, abs=1e-3)
    assert "all answers agree within a relative 1e-09" in out
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize("error", [1e-3, math.nan])
def test_a_peer_that_disagrees_is_named_and_ends_in_1(run, monkeypatch, error):
    use(monkeypatch, error)
    code, out, _ = run("--quick", "--only", "digits-like", "--peers", "torch", "--repeats", 1)
    assert code == 1
    assert "torch DISAGREES on digits-like: relative difference" in out
    assert "agree within" not in out
    code, out, _ = run("--quick", "--only", "digits-like", "--repeats", 1, "--json")
    *_, work, summary = objects(out)
    assert code == 1
    assert work["peers"]["jax"]["agrees"] is False
    assert summary["summary"]["peers_agree"] is False
    if math.isnan(error):
        assert work["peers"]["jax"]["largest_difference"] == "NaN"


def test_what_is_not_installed_is_one_line(run, monkeypatch):
    monkeypatch.setattr("refvlm.bench.facts._version", lambda package: None if package == "torch" else "1.0")
    monkeypatch.setitem(peers.MAKERS, "jax", lambda workers: Plain())
    code, out, _ = run("--quick", "--only", "digits-like", "--repeats", 1)
    assert code == 0
    assert out.count("torch") == 1
    assert "torch: not installed\n" in out


def test_what_cannot_be_imported_is_one_line(run, monkeypatch):
    def broken(workers):
        raise ImportError("no such\nlibrary")

    use(monkeypatch, 0.0)
    monkeypatch.setitem(peers.MAKERS, "torch", broken)
    code, out, err = run("--quick", "--only", "digits-like", "--repeats", 1, "--json")
    assert code == 0
    assert "refvlm: note: torch cannot be imported: no such library\n" in err
    assert list(objects(out)[-2]["peers"]) == ["jax"]


@pytest.mark.parametrize("arguments", [["--only", "nonsense"], ["--peers", "none", "torch"], ["--repeats", "0"]])
def test_a_wrong_argument_is_named_in_one_line(run, arguments):
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"refvlm: error: argument {arguments[0]}: ")
    assert err.count("\n") == 1


def in_a_process(*arguments):
    """The command in a process of its own: exit code, stdout, stderr."""
    call = [sys.executable, "-m", "refvlm", "bench", *arguments]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


on_avx2 = pytest.mark.skipif(
    kernels.hardware.host().instructions not in ("AVX2", "AVX-512"), reason="this machine cannot be a haswell"
)


@on_avx2
def test_it_measures_as_if_on_another_processor():
    code, out, _ = in_a_process(
        "--cpu", "haswell", "--quick", "--only", "mlp-small", "--peers", "none", "--json", "--repeats", "1"
    )
    assert code == 0
    machine = objects(out)[0]["machine"]
    assert (machine["compiled_for"], machine["instructions"], machine["vector_bits"]) == ("haswell", "AVX2", 256)


@on_avx2
@pytest.mark.parametrize("wrong", ["haswel", "", "pentium-9"])
def test_a_processor_that_is_not_known_is_refused_in_one_line(wrong):
    code, out, err = in_a_process("--cpu", wrong)
    assert (code, out) == (2, "")
    assert err.startswith(f"refvlm: error: --cpu: got {wrong!r}, wanted a name that LLVM knows, such as haswell")
    assert err.count("\n") == 1


def test_another_processor_is_asked_about_without_the_current_directory(tmp_path):
    """A json.py that lies there is not imported by the process that is asked, as it is not by the one that asks."""
    (tmp_path / "json.py").write_text("open('mark', 'w').close()")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from refvlm.bench.processor import compile_for\n"
        "try: compile_for('no such processor')\n"
        "except ValueError as error: print(error)\n"
    )
    call = [sys.executable, "-P", "-c", program, str(Path(refvlm.__file__).parents[1])]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "wanted a name that LLVM knows" in done.stdout
    assert os.listdir(tmp_path) == ["json.py"]


def test_kernels_that_are_compiled_already_are_not_compiled_for_another_processor(run):
    code, _, err = run("--cpu", "haswell")
    assert code == 2
    assert "wanted a process of its own" in err


def test_a_processor_with_wider_vectors_than_this_one_is_refused():
    own = kernels.hardware.host()
    with pytest.raises(ValueError, match=f"got 'wide', which has pairs, wanted what this one runs: {own.instructions}"):
        processor._check("wide", "pairs", own.width + 1, False)


def test_an_interrupt_is_one_line(run, monkeypatch):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("refvlm.bench.measure.Bench.run", interrupted)
    code, out, err = run("--quick")
    assert (code, out) == (130, "")
    assert err.endswith("refvlm: interrupted\n")


# works and limits


def test_the_problems_are_always_the_same():
    prior_logits, layers, x = problem(SMALL._replace(latents=3, rows=4))
    np.testing.assert_allclose(1 / (1 + np.exp(-prior_logits)), [0.58217701, 0.36187203, 0.22458411], rtol=1e-7)
    assert [(w.shape, b.shape) for w, b in layers] == [((3, 3), (3,)), ((3, 5), (5,))]
    np.testing.assert_allclose(layers[0][0][0], [0.10490012, -0.53566937, 0.36159505], rtol=1e-7)
    assert x.tolist() == [[0, 0, 1, 0, 1], [1, 0, 1, 0, 1], [0, 0, 1, 0, 1], [1, 1, 1, 1, 1]]
    assert x.dtype == np.uint8
    smaller = problem(SMALL, latents=3)
    np.testing.assert_array_equal(smaller.prior_logits, prior_logits)
    assert [(w.shape, b.shape) for w, b in problem(SMALL._replace(hidden=0)).layers] == [((6, 5), (5,))]


def test_ours_is_log_p_and_its_gradient():
    given = problem(SMALL)
    weights, biases = zip(*given.layers, strict=True)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(given.prior_logits), refvlm.MLP(weights, biases))
    log_px, gradient = refvlm.log_marginal_and_grad(model, given.x)
    value, both = ours(given, False, 1)(), ours(given, True, 2)()
    np.testing.assert_array_equal(value.log_px, log_px)
    np.testing.assert_array_equal(both.log_px, log_px)
    names = ["prior.logits", *(f"decoder.{kind}.{d}" for d in (0, 1) for kind in ("weights", "biases"))]
    for got, name in zip(both.gradient, names, strict=True):
        np.testing.assert_array_equal(got, gradient[name])


def test_a_difference_is_relative_and_sees_everything():
    one = Answer(np.array([-2.0, -4.0]), [np.array([1.0, 10.0])])
    assert one.difference(one) == 0
    assert Answer(np.array([-2.0, -4.4]), one.gradient).difference(one) == pytest.approx(0.1)
    assert Answer(one.log_px, [np.array([3.0, 10.0])]).difference(one) == pytest.approx(0.2)
    assert math.isnan(Answer(one.log_px, [np.array([math.nan, 10.0])]).difference(one))


def test_limits_by_hand():
    rates = Rates(2, fma=10.0, exp=1.0, load_multiply=5.0, division=2.0)
    of = {work.name: limit(work, rates) for work in WORKS}
    assert of["linear-24"] == of["linear-32"] == pytest.approx(16 / 10)
    # 32 fused multiply-adds and divisions, 32 * 16 fused multiply-adds, 16 exps
    few = 32 / 10 + 32 / 2 + 512 / 10 + 16
    assert of["mlp-small"] == of["flatness"] == pytest.approx(few)
    # 16 more divisions, and 3 groups of bits for each of 2671 rows
    many = few + 16 / 2
    assert of["digits-like"] == pytest.approx(many + 2671 * 3 / 5)
    assert of["gradient"] == pytest.approx(2 * many + 2 * 512 / 10 + 4 * 2671 * 3 / 5)
    assert of["mlp-rows"] == pytest.approx(64 / 10 + 64 / 2 + 4096 / 10 + 64 + 64 / 2 + 1024 * 12 / 5)


# the machine's limits


def test_the_loops_compute_what_they_say():
    start = np.arange(48.0)
    for rounds, expected in ((0, start), (1, start * 0.5 + 1), (3, start / 8 + 1.75)):
        assert kernels.roofline.fma_chains(start, 0.5, 1.0, False, rounds) == expected.sum()
        both = expected.sum() + (expected - start * 0.5**rounds * 2).sum()  # linear in the start
        assert kernels.roofline.fma_chains(start, 0.5, 1.0, True, rounds) == both
    powers = 2.0 ** (np.arange(48) % 8)
    assert kernels.roofline.division_chains(powers, 4.0, 2) == powers.sum()
    assert kernels.roofline.division_chains(powers, 4.0, 3) == (4.0 / powers).sum()
    values = -np.linspace(0.0, 30.0, 96)
    assert kernels.roofline.exponentials(values, 5) == pytest.approx(5 * np.exp(values).sum(), rel=1e-14)
    table = np.where(np.random.default_rng(3).random(192) < 0.5, 0.5, 2.0)
    expected = (table.reshape(3, 64).prod(axis=0) ** 2).sum()
    assert kernels.roofline.load_multiplies(table, 2) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "rounds"),
    [
        ("fma_chains", (np.linspace(0.5, 1.5, 48), 0.999, 0.001, False), 100_000),
        ("fma_chains", (np.linspace(0.5, 1.5, 48), 0.999, 0.001, True), 100_000),
        ("division_chains", (np.linspace(0.5, 1.5, 48), 1.0), 20_000),
        ("exponentials", (-np.linspace(0.0, 30.0, 1024),), 400),
        ("load_multiplies", (np.ones(4096),), 2000),
    ],
)
def test_a_loop_of_many_rounds_takes_so_many_times_as_long(name, arguments, rounds):
    """So no compiler has found a short cut."""
    kernel = getattr(kernels.roofline, name)
    kernel(*arguments, 1)
    for _ in range(5):  # another program may take the core at any time
        best = [math.inf, math.inf]
        for _ in range(5):
            for i, count in enumerate((rounds, 8 * rounds)):
                start = time.perf_counter()
                kernel(*arguments, count)
                best[i] = min(best[i], time.perf_counter() - start)
        if 4 < best[1] / best[0] < 16:
            return
    pytest.fail(f"{best[1] / best[0]:.1f} times as long, wanted about 8")


# the frameworks themselves, where they are installed


@pytest.mark.parametrize("name", list(peers.MAKERS))
def test_frameworks_agree(name):
    """In a process of their own: they change settings, and warn."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    program = (
        "from refvlm.bench.peers import MAKERS\n"
        "from refvlm.bench.works import Work, ours, problem\n"
        "given = problem(Work('small', 6, 3, 5, 40, 4))\n"
        "for gradient in (False, True):\n"
        "    expected = ours(given, gradient, 1)()\n"
        f"    for what, program in MAKERS[{name!r}](2).programs(given, gradient, (4,)):\n"
        "        assert program().difference(expected) < 1e-12, what\n"
        "        print(what)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    forms = {"torch": ["threads 1", "threads 2"] * 2, "jax": ["lax.map", "one by one", "lax.map"]}[name]
    assert done.stdout.splitlines() == [f"chunks of 2**4, {form}" for form in forms]
