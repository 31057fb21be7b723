"""Real implementations in four languages: complete ones conform, and one mistake in each is found and named."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from refvlm.cli import main
from refvlm.conformance.vectors import checks

FOLDER = Path(__file__).resolve().parents[1] / "validation" / "candidates"
SHALLOW = len([check for check in checks() if not check.case.id.startswith(("deep", "helmholtz"))])


def conform(capsys, command, *options):
    code = main(["conform", "--json", "--time-limit", "100", *options, "--", *map(str, command)])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def c_program(tmp_path_factory):
    """candidate.c, compiled, and the vectors it reads."""
    if shutil.which("cc") is None:
        pytest.skip("there is no cc")
    folder = tmp_path_factory.mktemp("c")
    source = str(FOLDER / "candidate.c")
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-o", folder / "candidate", source, "-lm"], check=True)
    assert main(["vectors", str(folder / "vectors")]) == 0
    return folder


def check_c(c_program, capsys, *options):
    with (c_program / "answers.jsonl").open("wb") as out:
        subprocess.run([c_program / "candidate", c_program / "vectors", *options], stdout=out, check=True)
    code = main(["check", "--json", str(c_program / "answers.jsonl")])
    return code, json.loads(capsys.readouterr().out)


def test_c_without_a_json_library_conforms(c_program, capsys):
    code, report = check_c(c_program, capsys)
    assert (code, report["failed"], report["checked"]) == (0, 0, SHALLOW)


def test_c_with_u_at_most_p_is_found(c_program, capsys):
    code, report = check_c(c_program, capsys, "--wrong")
    assert code == 1
    assert report["explanations"][0]["mistake"] == "inclusive-comparison"
    assert [c["case"] for c in report["checks"] if c["status"] == "failed"] == ["ties"]


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
