"""What the README shows is what a reader gets."""

import re
from pathlib import Path

import numpy as np
import pytest

import refvlm

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


def test_every_function_the_readme_names_exists(readme):
    table = readme[readme.index("| question") : readme.index("## Conventions")]
    for name in set(re.findall(r"`([a-zA-Z_]+)\(", table)) - {"forward", "parameters"}:
        assert hasattr(refvlm, name), name


def test_commands_are_single_lines_of_the_installed_kind(readme):
    assert block(readme, "test command").count("\n") == 1
    assert "refvlm demo" in readme.split("```sh")[1].split("```")[0]
