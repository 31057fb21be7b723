"""Real implementations in six languages: complete ones conform, and one mistake in each is found and named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refvlm.cli import main
from refvlm.conformance.quantities import QUANTITIES
from refvlm.conformance.vectors import checks

FOLDER = Path(__file__).resolve().parents[1] / "validation" / "candidates"
FIRST = {name for name, quantity in QUANTITIES.items() if quantity.edition == 1}
"""The quantities that the candidates offer."""
SHALLOW = len([c for c in checks() if not c.case.id.startswith(("deep", "helmholtz")) and c.quantity in FIRST])


def conform(capsys, command, *options):
    code = main(["conform", "--json", "--time-limit", "100", *options, "--", *map(str, command)])
    return code, json.loads(capsys.readouterr().out)


COMPILERS = {
    "c": ["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", "candidate", str(FOLDER / "candidate.c"), "-lm"],
    "rust": ["rustc", "--edition", "2021", "-O", "-D", "warnings", "-o", "candidate", str(FOLDER / "candidate.rs")],
}


@pytest.fixture(scope="module", params=COMPILERS)
def compiled(request, tmp_path_factory):
    """The language; a folder with its candidate, compiled, and the vectors that it reads."""
    command = COMPILERS[request.param]
    if shutil.which(command[0]) is None:
        pytest.skip(f"there is no {command[0]}")
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run(command, cwd=folder, check=True)
    assert main(["vectors", str(folder / "vectors")]) == 0
    return request.param, folder


def check_answers(folder, capsys, *options):
    with (folder / "answers.jsonl").open("wb") as out:
        subprocess.run([folder / "candidate", folder / "vectors", *options], stdout=out, check=True)
    code = main(["check", "--json", str(folder / "answers.jsonl")])
    return code, json.loads(capsys.readouterr().out)


def test_without_a_json_library_it_conforms(compiled, capsys):
    code, report = check_answers(compiled[1], capsys)
    assert (code, report["failed"], report["checked"]) == (0, 0, SHALLOW)


MISTAKES = {"c": ("inclusive-comparison", "sample"), "rust": ("reversed-codes", "posterior")}
"""With --wrong: u <= p, and the first latent as the most significant bit of a code."""


def test_the_mistake_of_a_compiled_one_is_found(compiled, capsys):
    language, folder = compiled
    mistake, quantity = MISTAKES[language]
    code, report = check_answers(folder, capsys, "--wrong")
    assert code == 1
    (explanation,) = report["explanations"]
    assert (explanation["mistake"], explanation["explained"]) == (mistake, report["failed"])
    failed = [check for check in report["checks"] if check["status"] == "failed"]
    assert {check["quantity"] for check in failed} == {quantity}
    if language == "c":
        assert [check["case"] for check in failed] == ["ties"]


def node():
    if shutil.which("node") is None:
        pytest.skip("there is no node")
    return ["node", FOLDER / "candidate.mjs"]


def test_javascript_conforms(capsys):
    code, report = conform(capsys, node())
    assert (code, report["failed"], report["checked"]) == (0, 0, SHALLOW)


def test_javascript_with_sums_in_single_precision_is_found(capsys):
    code, report = conform(capsys, [*node(), "--wrong"])
    assert code == 1
    assert report["explanations"][0]["mistake"] == "single-precision"


@pytest.fixture(scope="module")
def r():
    """The command, where R is with jsonlite."""
    asked = ["Rscript", "-e", "library(jsonlite)"]
    if shutil.which("Rscript") is None or subprocess.run(asked, capture_output=True, check=False).returncode != 0:
        pytest.skip("there is no R with jsonlite")
    return ["Rscript", FOLDER / "candidate.R"]


def test_r_conforms(r, capsys):
    code, report = conform(capsys, r)
    assert (code, report["failed"], report["checked"]) == (0, 0, SHALLOW)


def test_r_with_weights_filled_by_columns_is_found(r, capsys):
    code, report = conform(capsys, [*r, "--wrong"])
    assert code == 1
    (explanation,) = report["explanations"]
    assert (explanation["mistake"], explanation["explained"]) == ("column-major-weights", report["failed"])


def torch():
    pytest.importorskip("torch")
    return [sys.executable, FOLDER / "torch_candidate.py"]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_torch_conforms(precision, capsys):
    code, report = conform(capsys, [*torch(), precision])
    assert (code, report["failed"], report["checked"]) == (0, 0, len(checks()))
    assert report["implementation"]["precision"] == precision


def test_torch_without_the_prior_is_found(capsys):
    code, report = conform(capsys, [*torch(), "--wrong"])
    assert code == 1
    best = report["explanations"][0]
    assert best["mistake"] == "missing-prior"
    assert not best["alone"]
    assert best["explained"] == report["failed"]


def jax():
    """Dispatching operation by operation is slow: a part of the cases; all of them by hand."""
    pytest.importorskip("jax")
    return [sys.executable, FOLDER / "jax_candidate.py"]


ONLY = ["--only", "tanh-one/*", "--only", "helmholtz/*", "--only", "half-x/*", "--only", "extreme-logits/*"]


@pytest.mark.parametrize("precision", ["float64", "float32"])
def test_jax_conforms(precision, capsys):
    code, report = conform(capsys, [*jax(), precision], *ONLY)
    assert (code, report["failed"]) == (0, 0)
    assert report["checked"] == 51


def test_jax_with_the_mean_over_the_batch_is_found(capsys):
    code, report = conform(capsys, [*jax(), "--wrong"], *ONLY)
    assert code == 1
    assert report["explanations"][0]["mistake"] == "mean-over-rows"


def test_only_has_to_match_something(capsys):
    assert main(["conform", "--only", "lineal/*", "--", "true"]) == 2
    assert "--only: 'lineal/*' matches no check" in capsys.readouterr().err
