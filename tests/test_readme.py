"""What the README shows is what a reader gets."""

import re
from pathlib import Path

import numpy as np
import pytest

import refvlm
from refvlm.conformance.mistakes import MISTAKES
from refvlm.conformance.quantities import QUANTITIES
from refvlm.conformance.vectors import cases

README = Path(__file__).parents[1] / "README.md"


@pytest.fixture(scope="module")
def readme():
    return README.read_text()


def block(readme, mark):
    """The fenced block right after an HTML comment."""
    return re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", readme, re.DOTALL)[1]


def test_the_python_example_runs(readme):
    code = block(readme, "example")
    assert len(code.splitlines()) <= 12
    names = {}
    exec(code, names)
    assert set(names["gradient"]) == {
        *(f"model.{name}" for name in names["model"].parameters()),
        *(f"posterior.{name}" for name in names["q"].parameters()),
    }


def test_the_fit_example_runs_on_a_csv_and_leaves_a_model(readme, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("data.csv", refvlm.bars().sample(200, np.random.default_rng(0)), fmt="%d", delimiter=",")
    names = {}
    exec(block(readme, "fit"), names)
    model, q = refvlm.load("model.npz")
    d = refvlm.decompose(model, q, names["x"])
    assert d.log_px.mean() > -4.0  # the bars' entropy is 2.38 nats, an untrained model's -log p(x) about 11
    assert np.abs(d.residual).max() < 1e-12


def test_the_testing_example_runs_and_its_asserts_can_fail(readme):
    names = {}
    code = block(readme, "testing example")
    exec(code, names)
    for spoil in ("- refvlm.log_q(q, rows, z)", "refvlm.log_joint(model, rows, z) - "):
        assert spoil in code
    with pytest.raises(AssertionError, match="FAIL after"):
        exec(code.replace("refvlm.log_joint(model", "refvlm.log_likelihood(model"), {})
    for function in set(re.findall(r"`(assert_\w+|refvlm_\w+)`", readme)):
        assert function.startswith("refvlm_") or hasattr(names["rt"], function)


def test_the_counts_the_readme_gives_are_those_of_the_package(readme):
    assert f"{len(cases())} cases ask for {len(QUANTITIES)} quantities" in readme
    assert len(MISTAKES) == 63
    assert "sixty-three known mistakes" in readme


def test_every_function_the_readme_names_exists(readme):
    table = readme[readme.index("| question") : readme.index("## Conventions")]
    for name in set(re.findall(r"`([a-zA-Z_]+)\(", table)) - {"forward", "parameters"}:
        assert hasattr(refvlm, name), name


def test_commands_are_single_lines_of_the_installed_kind(readme):
    assert block(readme, "test command").count("\n") == 1
    assert "refvlm demo" in readme.split("```sh")[1].split("```")[0]
