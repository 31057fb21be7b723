"""What the pages show is what a reader gets: examples run, links lead somewhere, and nothing is said twice."""

import dataclasses
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import refvlm
from refvlm.activations import ACTIVATIONS
from refvlm.conformance.mistakes import CATALOGUE
from refvlm.conformance.quantities import QUANTITIES
from refvlm.conformance.vectors import cases
from refvlm.inference import definition

ROOT = Path(__file__).parents[1]
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("refvlm/**/README.md"), *ROOT.glob("validation/**/*.md")})


def text(name):
    return (ROOT / name).read_text()


def block(page, mark):
    """The fenced block right after an HTML comment."""
    return re.search(rf"<!-- {mark} -->\n```\w+\n(.*?)```", page, re.DOTALL)[1]


def test_the_python_example_runs():
    code = block(text("README.md"), "example")
    assert len(code.splitlines()) <= 12
    names = {}
    exec(code, names)
    assert set(names["gradient"]) == {
        *(f"model.{name}" for name in names["model"].parameters()),
        *(f"posterior.{name}" for name in names["q"].parameters()),
    }


def test_the_fit_example_runs_on_a_csv_and_leaves_a_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savetxt("data.csv", refvlm.bars().sample(200, np.random.default_rng(0)), fmt="%d", delimiter=",")
    names = {}
    exec(block(text("refvlm/learning/README.md"), "fit"), names)
    model, q = refvlm.load("model.npz")
    d = refvlm.decompose(model, q, names["x"])
    assert d.log_px.mean() > -4.0  # the bars' entropy is 2.38 nats, an untrained model's -log p(x) about 11
    assert np.abs(d.residual).max() < 1e-12


def test_the_testing_example_runs_and_its_asserts_can_fail():
    names = {}
    page = text("refvlm/testing/README.md")
    code = block(page, "testing example")
    exec(code, names)
    for spoil in ("- refvlm.log_q(q, rows, z)", "refvlm.log_joint(model, rows, z) - "):
        assert spoil in code
    with pytest.raises(AssertionError, match="FAIL after"):
        exec(code.replace("refvlm.log_joint(model", "refvlm.log_likelihood(model"), {})
    functions = set(re.findall(r"`(assert_\w+|refvlm_\w+)`", page))
    assert len(functions) > 5
    for function in functions:
        assert function.startswith("refvlm_") or hasattr(names["rt"], function)


def test_the_estimators_example_runs_and_the_page_has_them_all():
    names = {}
    page = text("refvlm/inference/gradient_estimators/README.md")
    exec(block(page, "estimators example"), names)
    assert names["covariance"].shape == (4, 5, 5)
    listed = re.findall(r"^\| `(\w+)\(([\w, ]+)\)` \|", page, re.MULTILINE)
    kinds = {kind.__name__: kind for kind in refvlm.gradient_estimators.ESTIMATORS.values()}
    assert {name for name, _ in listed} == set(kinds)
    for name, fields in listed:
        assert [field.name for field in dataclasses.fields(kinds[name])] == fields.split(", ")


def test_the_counts_the_pages_give_are_those_of_the_package():
    page = text("refvlm/conformance/README.md")
    assert f"{len(cases())} cases ask for {len(QUANTITIES)} quantities" in page
    assert f"{len(cases())} cases" in text("README.md")
    assert len(CATALOGUE) == 88
    assert "eighty-eight known mistakes" in page


def test_every_function_the_readme_names_exists():
    page = text("README.md")
    table = page[page.index("| question") : page.index("To change something")]
    names = set(re.findall(r"`([a-zA-Z_]+)\(", table)) - {"forward", "parameters"}
    assert len(names) > 10
    for name in names:
        assert hasattr(refvlm, name), name


def test_the_architecture_page_knows_every_definition_test_and_activation():
    page = text("refvlm/README.md")
    rows = re.findall(r"^\| \((\d+)\) \| (.*?) \| (.*?) \| `(test_\w+)` \|$", page, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 11))
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for _, defined, fast, test in rows:
        for name in re.findall(r"`(\w+)`", defined):
            assert hasattr(definition, name)
        for name in re.findall(r"`(\w+)`", fast.split(" in ")[0]):
            assert hasattr(refvlm, name)
        assert f"def {test}(" in tests
    words = page[page.index("## Words") : page.index("## Map")]
    assert 10 < len(re.findall(r"^\| \w", words, re.MULTILINE)) - 1 <= 25
    conventions = next(line for line in page.splitlines() if line.startswith("| activations |"))
    for name in ACTIVATIONS:
        assert name in conventions
    for folder in {path.parent.name for path in (ROOT / "refvlm").rglob("*.py")} - {"refvlm"}:
        assert f"{folder}/" in page or f"/{folder}" in page, folder


def test_commands_are_single_lines_of_the_installed_kind():
    page = text("README.md")
    assert block(page, "test command").count("\n") == 1
    assert "refvlm demo" in page.split("```sh")[1].split("```")[0]


def test_the_readme_is_at_most_seven_kilobytes():
    assert len(text("README.md").encode()) <= 7168


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_to_a_file_or_a_heading(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}, link


def test_nothing_is_said_twice_in_the_pages():
    """No sentence of more than 60 characters stands in two places, the changelog and lists of results apart."""
    seen = {}
    for page in PAGES:
        if page.name == "CHANGELOG.md" or "validation" in page.parts:
            continue
        prose = " ".join(re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL).split())
        for sentence in re.split(r"(?<=[.:;|]) ", prose):
            if len(sentence) > 60:
                assert sentence not in seen, (sentence, page, seen[sentence])
                seen[sentence] = page


def test_pages_and_code_cite_no_notes_outside_the_repository():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    files = listed or [str(p.relative_to(ROOT)) for p in ROOT.rglob("*.py") if ".venv" not in p.parts]
    for name in files:
        if name.endswith((".py", ".md", ".json")) and name != "tests/test_readme.py":
            assert not re.search(r"\bthe (project's |course |lecture )?notes\b", text(name)), name
