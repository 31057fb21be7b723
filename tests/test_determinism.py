"""The same bits: for any workers, in any batch, in other processes, and whatever the CPU, libm, NumPy and BLAS do.

Children run `determinism_child.py` with the variables below. What each does to the witnesses, which are digits that
come from outside refvlm, is in `test_the_variable_changes_digits_elsewhere`. Children run one after the other: two
that compiled for different CPUs at the same time would race for one entry of Numba's index.
"""

import ast
import functools
import json
import os
import platform
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import determinism_child as child
import numpy as np
import pytest
from determinism_child import FUNCTIONS, NAMES, ROWS, everything, of_all, of_pairs, of_rows, part, problem
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

import refvlm
from refvlm.cli import main
from refvlm.enumeration import kernels
from refvlm.enumeration.blocks import code_pieces
from refvlm.inference.certificate import needs_precision

# NumPy refuses to disable what is in its baseline and what it does not dispatch on, and warns of what the host lacks:
# X86_V3 X86_V4 AVX512_ICL in 2.4, SSSE3 SSE41 ... FMA3 AVX2 AVX512F ... AVX512_ICL in 2.0.
NUMPY = {"NPY_DISABLE_CPU_FEATURES": " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))}
OPENBLAS = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_NUM_THREADS": "1"}
# The names before glibc 2.33 end in _Usable; unknown ones are ignored.
GLIBC = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-AVX2_Usable,-FMA_Usable,-AVX512F_Usable"}
# With a name alone Numba would add the host's features to that CPU's; with none it leaves them to the name.
HASWELL = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
ZNVER4 = {"NUMBA_CPU_NAME": "znver4", "NUMBA_CPU_FEATURES": ""}

ELSEWHERE = {
    "native": {},
    "numpy": NUMPY,
    "openblas": OPENBLAS,
    "glibc": GLIBC,
    "numpy+openblas+glibc": NUMPY | OPENBLAS | GLIBC,
    "haswell": HASWELL,
    "haswell+numpy+openblas+glibc": HASWELL | NUMPY | OPENBLAS | GLIBC,
    "znver4": ZNVER4,
}
VARIABLES = {name for variables in ELSEWHERE.values() for name in variables}

HASWELL_FLAGS = {"avx2", "fma", "bmi1", "bmi2", "f16c", "movbe", "abm"}
FLAGS = {
    "haswell": HASWELL_FLAGS,
    "znver4": HASWELL_FLAGS
    | {f"avx512{name}" for name in ("f", "bw", "cd", "dq", "vl", "ifma", "vbmi", "_bf16", "_bitalg", "_vbmi2")}
    | {"avx512_vnni", "avx512_vpopcntdq", "gfni", "vaes", "vpclmulqdq", "adx", "sha_ni", "sse4a"},
}


def skip_what_the_host_lacks(where):
    variables = ELSEWHERE[where]
    cpu = variables.get("NUMBA_CPU_NAME")
    if cpu is not None:
        lacking = FLAGS[cpu] - host_flags()
        if lacking:
            pytest.skip(f"this host cannot run code for {cpu}: it lacks {', '.join(sorted(lacking))}")
    if variables.get("NPY_DISABLE_CPU_FEATURES") == "":
        pytest.skip("this NumPy has nothing beyond its baseline that this host could run")
    if "GLIBC_TUNABLES" in variables and platform.libc_ver()[0] != "glibc":
        pytest.skip("the C library is not glibc")


@functools.cache
def host_flags():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    return frozenset(next((line.split(":")[1].split() for line in lines if line.startswith("flags")), ()))


@functools.cache
def finished(where):
    """The child, once it has ended."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | ELSEWHERE[where]
    paths = [str(Path(refvlm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-W", "error", child.__file__]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def run_child(where):
    """What the child printed."""
    done = finished(where)
    if "is not a recognized processor" in done.stderr:
        pytest.skip(f"this Numba's LLVM does not know {ELSEWHERE[where]['NUMBA_CPU_NAME']}")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return json.loads(done.stdout)


@functools.cache
def printed(where):
    """The child's quantities by problem and name."""
    return {
        name: {
            quantity: np.array([float.fromhex(v) for v in value["hex"]]).reshape(value["shape"])
            for quantity, value in quantities.items()
        }
        for name, quantities in run_child(where)["results"].items()
    }


@functools.cache
def expected(name):
    """What one worker gets in this process."""
    return everything(name, workers=1)


def ordinals(values):
    """Integers in the order of the floats, neighbours one apart; -0.0 is below 0.0."""
    words = np.array(values).view(np.int64).tolist()
    return [word if word >= 0 else -(word & (2**63 - 1)) - 1 for word in words]


def differences(wanted, got, label=""):
    """One line for each quantity that has other bits: how many elements, the first and the worst of them."""
    lines = []
    if wanted.keys() != got.keys():
        lines.append(f"{label}: other quantities: {sorted(wanted.keys() ^ got.keys())}")
    for quantity in wanted.keys() & got.keys():
        a, b = (np.array(v[quantity], dtype=np.float64, ndmin=1) for v in (wanted, got))
        if a.shape != b.shape:
            lines.append(f"{label} {quantity}: shape {b.shape}, wanted {a.shape}")
            continue
        other = np.argwhere(a.view(np.int64) != b.view(np.int64))
        if len(other) == 0:
            continue
        x, y = (v[tuple(other.T)].tolist() for v in (a, b))
        ulps = [abs(i - j) for i, j in zip(ordinals(x), ordinals(y), strict=True)]
        text = f"{label} {quantity}: {len(other)} of {a.size} differ"
        for n in dict.fromkeys((0, ulps.index(max(ulps)))):
            text += f"; {other[n].tolist()}: {y[n].hex()}, wanted {x[n].hex()}, {ulps[n]} ulps"
        lines.append(text)
    return sorted(lines)


def assert_same_bits(wanted, got, label=""):
    lines = differences(wanted, got, label)
    assert not lines, "\n" + "\n".join(lines)


def of_function(function, quantities):
    """The results of one function."""
    return {name: value for name, value in quantities.items() if name.split(".")[0] == function}


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_is_what_it_is_for(name):
    model, found = problem(name).model, expected(name)
    if name != "general":
        assert needs_precision(model.decoder) == (name == "large")
    assert len(code_pieces(model.latents)) == {9: 1, 10: 1, 12: 1, 13: 2, 14: 4}[model.latents]
    for rows in ("", ".many"):
        assert np.isinf(found[f"vlb{rows}"]).all() == np.isinf(found[f"kl{rows}"]).all() == (name == "impossible")
    missing = {"grad_vlb"} if name == "impossible" else set()
    missing |= {"iwae"} if name in {"large", "chain", "collapsed"} else set()
    assert {quantity.split(".")[0] for quantity in found} == set(FUNCTIONS) - missing
    assert not any(np.isnan(value).any() for value in found.values())


# any workers


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workers", [2, 7])
def test_any_number_of_workers(name, workers):
    assert_same_bits(expected(name), everything(name, workers=workers), name)


@pytest.fixture(scope="module", params=["threads", "processes"])
def executor(request):
    processes = functools.partial(ProcessPoolExecutor, 2, mp_context=get_context("spawn"))
    with ThreadPoolExecutor(3) if request.param == "threads" else processes() as pool:
        yield pool


@pytest.mark.parametrize("name", NAMES)
def test_any_executor(name, executor):
    assert_same_bits(expected(name), everything(name, executor=executor), name)


def of_many_rows(**engine):
    """Two pieces of rows by two of codes."""
    p = problem("relu")
    return of_rows(p, **engine) | of_all(p, **engine)


@pytest.fixture(scope="module")
def many_rows():
    return of_many_rows(workers=1)


@pytest.mark.parametrize("workers", [2, 7])
def test_any_number_of_workers_for_many_rows(many_rows, workers):
    assert_same_bits(many_rows, of_many_rows(workers=workers), "relu")


def test_any_executor_for_many_rows(many_rows, executor):
    assert_same_bits(many_rows, of_many_rows(executor=executor), "relu")


# any batch


FEW = {
    "a row alone": [slice(n, n + 1) for n in (0, 63, 64, 511, 512, ROWS - 1)],
    "the first of five": [slice(n, n + 5) for n in (0, 510)],
    "chunks of seven": [slice(n, n + 7) for n in (0, 7, 504, 511, ROWS - 7)],
}
MANY = {
    "chunks of forty": [slice(n, n + 40) for n in (0, 490, ROWS - 40)],
    "all but one": [slice(1, ROWS)],
    "permuted": [np.random.default_rng(0).permutation(ROWS)],
}
BATCHES = FEW | MANY


def by_row(p):
    """What has a value for each row, and so has the gradient in q's logits where each row has its own."""
    found = of_rows(p)
    if isinstance(p.q, refvlm.PerDatumPosterior | refvlm.ChainPosterior):
        gradient = refvlm.grad_vlb(p.model, p.q, p.x, p.weights)
        found["grad_vlb"] = gradient["posterior.logits" if "posterior.logits" in gradient else "posterior.0.logits"]
    return found


@functools.lru_cache(maxsize=1)  # tables of 90 MB
def together(values, name):
    """The values of all rows of a problem."""
    return values(problem(name))


def assert_batches_agree(values, name, batches):
    wanted, lines = together(values, name), []
    for rows in BATCHES[batches]:
        at = {quantity: value[rows] for quantity, value in wanted.items()}
        lines += differences(at, values(part(problem(name), rows)), f"{name}, rows from {np.arange(ROWS)[rows][0]}:")
    assert not lines, "\n" + "\n".join(lines)


@pytest.mark.parametrize("batches", MANY)
@pytest.mark.parametrize("name", NAMES)
def test_many_rows_in_any_batch_of_many(name, batches):
    assert_batches_agree(by_row, name, batches)


@pytest.mark.parametrize("name", NAMES)
def test_few_rows_in_any_batch_of_few(name):
    few = part(problem(name), slice(500, 531))
    wanted, lines = by_row(few), []
    for rows in (slice(0, 1), slice(11, 12), slice(12, 13), slice(30, 31), slice(0, 5), slice(10, 15), slice(7, 14)):
        at = {quantity: value[rows] for quantity, value in wanted.items()}
        lines += differences(at, by_row(part(few, rows)), f"{name}, rows from {500 + rows.start}:")
    assert not lines, "\n" + "\n".join(lines)


@pytest.mark.parametrize("batches", BATCHES)
@pytest.mark.parametrize("name", NAMES)
def test_pairs_in_any_batch(name, batches):
    if isinstance(problem(name).model.prior, refvlm.BernoulliLVM) and batches in FEW:
        pytest.skip("log p(z) of a model is a sum over its latents: its bits are the same among many, and among few")
    assert_batches_agree(of_pairs, name, batches)


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "large", "degenerate", "impossible", "collapsed", "chain"])
def test_evaluate_prints_the_same_lines_for_any_chunk(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    p = part(problem(name), slice(0, 40))
    refvlm.save("model.npz", p.model, p.q)
    np.save("x.npy", p.x)
    lines = {}
    for chunk in (3, 33, 4096):
        assert main(["evaluate", "model.npz", "x.npy", "--json", "--chunk", str(chunk)]) == 0
        lines[chunk] = capsys.readouterr().out.splitlines()
    assert lines[3] == lines[33] == lines[4096]
    rows = [json.loads(line) for line in lines[3][:-1]]
    found = refvlm.decompose(p.model, p.q, p.x)
    assert_same_bits(found._asdict(), {key: [row[key] for row in rows] for key in found._fields}, name)


# any process, on any CPU


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("where", ELSEWHERE)
def test_any_process_and_cpu(where, function):
    """Every child against the native one, and that against this process."""
    skip_what_the_host_lacks(where)
    lines = []
    for name in NAMES:
        wanted = expected(name) if where == "native" else printed("native")[name]
        lines += differences(of_function(function, wanted), of_function(function, printed(where)[name]), name)
    assert not lines, f"\nwith {ELSEWHERE[where]}:\n" + "\n".join(lines)


@pytest.mark.parametrize("where", ELSEWHERE)
def test_children_computed_as_they_were_told(where):
    skip_what_the_host_lacks(where)
    variables, found = ELSEWHERE[where], run_child(where)["circumstances"]
    if "NUMBA_CPU_NAME" in variables:
        assert (found["cpu"], found["features"]) == (variables["NUMBA_CPU_NAME"], [])
    if "NPY_DISABLE_CPU_FEATURES" in variables:
        assert found["numpy"] == []


# Seen to change, with NumPy 2.0.0 and 2.4.6, OpenBLAS 0.3.27 and 0.3.31 and glibc 2.36 on a Zen 5: np.exp, np.tanh,
# np.log1p and np.expm1 under NUMPY; a @ b under OPENBLAS; math.exp, log1p, expm1, sinh and pow, and with them
# np.logaddexp, under GLIBC.
@pytest.mark.parametrize(
    ("where", "witness"), [("numpy", "np.exp"), ("openblas", "matmul"), ("glibc", "math.exp"), ("glibc", "math.sinh")]
)
def test_the_variable_changes_digits_elsewhere(where, witness):
    skip_what_the_host_lacks(where)
    native, other = (run_child(name)["circumstances"]["witness"][witness] for name in ("native", where))
    if native == other:
        pytest.skip(f"{' '.join(ELSEWHERE[where])} does not change {witness} here, so it shows nothing")


# The variants of exp in glibc differ for one argument in a thousand, by one ulp, and most sums swallow that. So the
# kernels' sources are searched too.
OF_LIBRARIES = re.compile(
    "a?(sin|cos|tan)h?|arc(sin|cos|tan)h?|a(rc)?tan2|exp(2|m1|it)?|log(1p|2|10|addexp2?|_expit)?|pow(er)?|float_power|"
    "cbrt|hypot|erfc?|l?gamma|v?dot|inner|matmul|einsum|tensordot|linalg"
)


def names_of_libraries(tree):
    """(line, what) of every name under numpy or math, every matrix product and every power that is no constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("np", "math"):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ImportFrom) and node.module in ("math", "numpy", "scipy.special"):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.MatMult):
            yield node.lineno, "matmul"
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
            operands = [side.operand if isinstance(side, ast.UnaryOp) else side for side in (node.left, node.right)]
            if not all(isinstance(side, ast.Constant) for side in operands):
                yield node.lineno, "pow"


def test_no_kernel_takes_digits_from_a_library():
    sources = list(Path(kernels.__file__).parent.glob("*.py"))
    assert len(sources) > 1
    for path in sources:
        for line, name in names_of_libraries(ast.parse(path.read_text())):
            assert not OF_LIBRARIES.fullmatch(name), f"{path.name}:{line}: {name}"
