"""What the README shows is what a reader gets."""

import re
from pathlib import Path

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


def test_every_function_the_readme_names_exists(readme):
    table = readme[readme.index("| question") : readme.index("## Conventions")]
    for name in set(re.findall(r"`([a-zA-Z_]+)\(", table)) - {"forward", "parameters"}:
        assert hasattr(refvlm, name), name


def test_commands_are_single_lines_of_the_installed_kind(readme):
    assert block(readme, "test command").count("\n") == 1
    assert "refvlm demo" in readme.split("```sh")[1].split("```")[0]
