"""The pytest plugin, as a user's test suite sees it."""

import importlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from refvlm.conformance.vectors import checks

ROOT = Path(__file__).resolve().parents[1]

RIGHT = """
import pytest
from refvlm.conformance.plain import Plain
from refvlm.conformance.problems import RefusedError, read_problem

def answer(quantity, model, posterior, inputs):
    return Plain(read_problem(quantity, model, posterior, inputs)).answer()
"""


def run(folder, test, ini="", *options):
    """pytest in a folder of its own, with nothing but this plugin."""
    (folder / "test_mine.py").write_text(RIGHT + test)
    (folder / "pytest.ini").write_text(f"[pytest]\naddopts = --strict-markers -W error\n{ini}")
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "-p", "refvlm.pytest_plugin", "-q", "-p", "no:cacheprovider", *options]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_every_case_is_a_test(tmp_path):
    code, out = run(tmp_path, "def test_it(refvlm_case): refvlm_case.run(answer)\n")
    assert code == 0, out
    assert f"{sum(check.error is None for check in checks())} passed" in out


def test_a_mark_chooses_and_negative_cases_must_raise(tmp_path):
    mark = "@pytest.mark.refvlm(quantities=['log_marginal', 'vlb'], errors=True)\n"
    code, out = run(tmp_path, mark + "def test_it(refvlm_case): refvlm_case.run(answer)\n", "", "-vv")
    assert code == 0, out
    assert "test_it[half-x-vlb] PASSED" in out
    assert "log_prior" not in out
    code, out = run(
        tmp_path, mark + "def test_it(refvlm_case):\n    if refvlm_case.error: refvlm_case.run(lambda *a: [0.0])\n"
    )
    assert code == 1
    assert "where an error (domain) must come" in out


def test_a_wrong_number_is_named(tmp_path):
    wrong = (
        "@pytest.mark.refvlm(quantities=['vlb'], cases=['linear'])\n"
        "def test_it(refvlm_case):\n"
        "    case = refvlm_case\n"
        "    terms = Plain(read_problem('vlb_terms', case.model, case.posterior, case.inputs)).answer()\n"
        "    refvlm_case.assert_answer(terms['prior'] + terms['reconstruction'])\n"
    )
    code, out = run(tmp_path, wrong)
    assert code == 1
    assert "it equals that with the entropy term -log q(z|x) left out" in out
    assert "the case: One weight matrix" in out


def test_known_failures_are_strict(tmp_path):
    failing = (
        "@pytest.mark.refvlm(cases=['linear'], quantities=['kl', 'vlb'])\n"
        "def test_it(refvlm_case):\n"
        "    refvlm_case.assert_answer(answer(refvlm_case.quantity, refvlm_case.model, refvlm_case.posterior,"
        " refvlm_case.inputs) + (refvlm_case.quantity == 'kl'))\n"
    )
    code, out = run(tmp_path, failing, "refvlm_known_failures =\n    linear/kl\n")
    assert code == 0, out
    assert "1 passed, 1 xfailed" in out
    code, out = run(tmp_path, failing, "refvlm_known_failures =\n    */vlb\n    linear/kl\n")
    assert code == 1
    assert "XPASS(strict)" in out
    code, out = run(tmp_path, failing, "refvlm_known_failures =\n    linear/elbo\n")
    assert code not in (0, 1)
    assert "'linear/elbo' is no check" in out


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ("'vlb'", "takes keywords only"),
        ("quantities=['elbo']", "quantities: got str 'elbo'"),
        ("cases=['nowhere']", "cases: got str 'nowhere'"),
        ("precision='half'", "precision: got str 'half'"),
        ("mood='fine'", "mood"),
    ],
)
def test_a_mark_that_means_nothing_is_refused(mark, said, tmp_path):
    code, out = run(tmp_path, f"@pytest.mark.refvlm({mark})\ndef test_it(refvlm_case): pass\n")
    assert code != 0
    assert said in out


def test_single_precision_has_its_own_tolerances(tmp_path):
    test = (
        "import numpy as np\nclass Single(Plain):\n    dtype = np.float32\n"
        "@pytest.mark.refvlm(quantities=['log_marginal'], precision={!r})\n"
        "def test_it(refvlm_case):\n"
        "    problem = read_problem(refvlm_case.quantity, refvlm_case.model, None, refvlm_case.inputs)\n"
        "    refvlm_case.assert_answer(Single(problem).answer())\n"
    )
    assert run(tmp_path, test.format("float32"))[0] == 0
    assert run(tmp_path, test.format("float64"))[0] == 1


def test_loading_the_plugin_loads_nothing_heavy():
    program = (
        "import sys, refvlm.pytest_plugin\n"
        "heavy = {'numba', 'scipy', 'llvmlite', 'hypothesis', 'torch'}\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & heavy))\n"
        "print([m for m in sys.modules if m.startswith(('refvlm.conformance', 'refvlm.testing'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["[]", "[]"]


def test_the_entry_point_names_the_plugin():
    with (ROOT / "pyproject.toml").open("rb") as file:
        (plugin,) = tomllib.load(file)["project"]["entry-points"]["pytest11"].values()
    assert hasattr(importlib.import_module(plugin), "pytest_generate_tests")
