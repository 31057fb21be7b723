"""The workflows in the oracle's page: their commands are taken from the page and executed, as the code hosts would."""

import itertools
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from refvlm.conformance.vectors import checks

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "refvlm" / "conformance" / "README.md").read_text()

RIGHT = "from refvlm.cli import main\nraise SystemExit(main(['answer']))\n"
WRONG = """
import refvlm.conformance.ourselves as ourselves
from refvlm.cli import main
right = ourselves.answer
def answer(problem):
    return -right(problem) if problem.quantity == "vlb" else right(problem)
ourselves.answer = answer
raise SystemExit(main(["answer"]))
"""


def workflow(host):
    """The lines of the block of this host."""
    (block,) = re.findall(rf"<!-- {host} -->\n```yaml\n(.*?)```", PAGE, re.DOTALL)
    return block.splitlines()


def indent(line):
    return len(line) - len(line.lstrip())


def github_steps():
    """Whether a step always runs, and its commands; steps that use an action have none."""
    lines = workflow("github")
    begins = [n for n, line in enumerate(lines) if line.startswith("      - ")] + [len(lines)]
    for begin, end in itertools.pairwise(begins):
        step = [line.replace("- ", "  ", 1) if n == 0 else line for n, line in enumerate(lines[begin:end])]
        runs = [n for n, line in enumerate(step) if line.strip().startswith("run:")]
        if not runs:
            continue
        text = step[runs[0]].split("run:", 1)[1].strip()
        if text == "|":
            text = "\n".join(line.strip() for line in step[runs[0] + 1 :] if indent(line) > indent(step[runs[0]]))
        yield any("if: always()" in line for line in step), text


def gitlab_commands():
    """The list under `script`, folded lines put together."""
    lines = workflow("gitlab")
    begin = lines.index("  script:") + 1
    commands = []
    for line in lines[begin:]:
        if indent(line) < 4:
            return commands
        if line.startswith("    - "):
            commands.append(line[6:])
        else:
            commands[-1] += " " + line.strip()
    raise AssertionError("the script does not end")


@pytest.fixture
def workspace(tmp_path):
    """A checkout with `yours`, and a PATH on which pip notes what it is asked for: the tree under test is there."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    scripts = {"refvlm": f'exec "{sys.executable}" -m refvlm "$@"', "pip": f'echo "$@" >> "{tmp_path}/pip"'}
    for name, line in scripts.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (bin_folder / name).chmod(0o755)
    (tmp_path / "checkout").mkdir()
    return tmp_path


def execute(workspace, program, steps):
    """The exit code of the first step that fails, or 0; afterwards only steps that always run do."""
    checkout = workspace / "checkout"
    (checkout / "yours").write_text(f"#!{sys.executable}\n{program}")
    environment = os.environ | {
        "PATH": f"{workspace / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(workspace / "summary"),
    }
    failed = 0
    for always, commands in steps:
        if failed and not always:
            continue
        command = ["bash", "-eo", "pipefail", "-c", commands]
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr, done.stderr
        failed = failed or done.returncode
    assert (workspace / "pip").read_text() == "install refvlm\n"
    suite = ET.parse(checkout / "conformance" / "junit.xml").getroot()
    assert len(list(suite.iter("testcase"))) == len(checks())
    assert "</html>" in (checkout / "conformance" / "report.html").read_text()
    return failed, json.loads((checkout / "conformance" / "badge.json").read_text()), len(list(suite.iter("failure")))


HOSTS = {"github": lambda: list(github_steps()), "gitlab": lambda: [(False, "\n".join(gitlab_commands()))]}


@pytest.mark.parametrize("host", HOSTS)
def test_a_right_program_passes(host, workspace):
    code, badge, failures = execute(workspace, RIGHT, HOSTS[host]())
    assert (code, failures) == (0, 0)
    assert badge["message"] == f"conforms, {len(checks())} checks"


@pytest.mark.parametrize("host", HOSTS)
def test_a_wrong_program_fails_and_its_reports_are_there(host, workspace):
    wrong = sum(check.quantity == "vlb" and check.error is None for check in checks())
    code, badge, failures = execute(workspace, WRONG, HOSTS[host]())
    assert code == 1
    assert badge["color"] == "red"
    assert 0 < failures <= wrong
    if host == "github":
        summary = (workspace / "summary").read_text()
        assert summary.startswith("### ")
        assert "does not conform" in summary.lower()
        assert "-VLB" in summary.replace("\\", "")


def test_known_failures_let_it_pass_until_they_pass_themselves(workspace):
    known = workspace / "checkout" / "known.txt"
    known.write_text("*/vlb\n")
    code, _, _ = execute(workspace, RIGHT, HOSTS["gitlab"]())
    assert code == 1


def test_the_steps_are_those_of_the_page():
    assert [commands.splitlines()[0] for _, commands in github_steps()] == [
        "chmod +x yours", "pip install refvlm", "mkdir -p conformance",
        'cat conformance/summary.md >> "$GITHUB_STEP_SUMMARY"',
    ]  # fmt: skip
    assert gitlab_commands()[-1].endswith("--badge conformance/badge.json -- ./yours")
