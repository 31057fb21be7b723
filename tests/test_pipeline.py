"""The pipelines on the page of the conformance folder run as they stand: every command, in order, in bash."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import pytest

from refvlm.conformance.vectors import checks

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "refvlm" / "conformance" / "README.md").read_text()
GITHUB, GITLAB = ["-e"], ["-eo", "pipefail"]
"""How each starts bash."""

RIGHT = f"#!/bin/sh\nexec {sys.executable} -m refvlm answer\n"
WRONG = f"""#!{sys.executable}
import sys
from refvlm.cli import main
from refvlm.conformance import ourselves
from refvlm.conformance.mistakes.joint import MissingPrior
ourselves.answer = lambda problem: MissingPrior(problem).answer()
sys.exit(main(["answer"]))
"""
MUTE = "#!/bin/sh\nexit 5\n"

pytestmark = pytest.mark.skipif(
    any(shutil.which(name) is None for name in ("bash", "git")) or os.name == "nt", reason="bash and git"
)


def block(mark):
    """The fenced block right after an HTML comment."""
    return re.search(rf"<!-- {mark} -->\n```\w*\n(.*?)```", PAGE, re.DOTALL)[1]


# The part of YAML that the page uses


def read_yaml(text):
    """Mappings, lists, literal blocks, quoted and plain scalars that may go on, lists in brackets; nothing else."""
    lines = [line for line in text.splitlines() if line.strip()]
    value, rest = node(lines, indent(lines[0]))
    assert not rest, rest
    return value


def indent(line):
    return len(line) - len(line.lstrip())


def node(lines, depth):
    """(what begins on the first line, the lines after it)."""
    if lines[0].lstrip().startswith("- "):
        items = []
        while lines and indent(lines[0]) == depth and lines[0].lstrip().startswith("- "):
            inner = " " * (depth + 2) + lines[0].lstrip()[2:]
            if re.match(r"[\w-]+:( |$)", inner.strip()):
                item, lines = node([inner, *lines[1:]], depth + 2)
            else:
                item, lines = scalar(inner.strip(), lines[1:], depth)
            items.append(item)
        return items, lines
    pairs = {}
    while lines and indent(lines[0]) == depth:
        key, text = re.fullmatch(r" *([\w-]+):(.*)", lines[0]).groups()
        assert key not in pairs, key
        if text.strip() in ("", "|"):
            inside, lines = deeper(lines[1:], depth)
            if text.strip():
                margin = indent(inside[0])
                pairs[key] = "".join(f"{line[margin:]}\n" for line in inside)
            else:
                pairs[key], rest = node(inside, indent(inside[0]))
                assert not rest, rest
        else:
            pairs[key], lines = scalar(text.strip(), lines[1:], depth)
    return pairs, lines


def deeper(lines, depth):
    """(lines that lie deeper, those after them)."""
    count = next((n for n, line in enumerate(lines) if indent(line) <= depth), len(lines))
    return lines[:count], lines[count:]


def scalar(text, lines, depth):
    """A value on one line, or a plain one that goes on in deeper lines."""
    more, lines = deeper(lines, depth)
    text = " ".join([re.sub(r"\s+#.*", "", text), *(line.strip() for line in more)])
    if text.startswith("["):
        return [part.strip() for part in text.strip("[]").split(",")], lines
    assert ": " not in text
    assert text[0] not in "!&*{>|%@`'"
    return text.strip('"'), lines


def test_the_reader_of_yaml_reads_as_another_does():
    yaml = pytest.importorskip("yaml")
    for mark in ("github", "gitlab"):
        text = block(mark)
        assert read_yaml(text) == yaml.load(text, Loader=yaml.BaseLoader)


# A folder with their repository in it


@pytest.fixture
def theirs(tmp_path):
    """Builds the repository of an implementer, and returns a function that runs commands in it.

    On the path are refvlm, as it is in this tree; `pip`, which only notes what it was asked for, because the tree under
    test is installed already and another must not take its place; and `make`, which copies the program into place.
    """
    bin_folder, work, remote = (tmp_path / name for name in ("bin", "work", "remote.git"))
    bin_folder.mkdir()
    for name, text in {
        "refvlm": f'exec {sys.executable} -m refvlm "$@"',
        "pip": f'echo "$@" >> {tmp_path}/pip.log',
        "make": f"cp {tmp_path}/program yours && chmod +x yours",
    }.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (bin_folder / name).chmod(0o755)
    for command in (["--bare", str(remote)], [str(work)]):
        subprocess.run(["git", "init", "-q", *command], check=True)
    subprocess.run(["git", "remote", "add", "origin", str(remote)], cwd=work, check=True)
    summary = tmp_path / "step_summary"
    summary.write_text("")
    (work / "known-failures.txt").write_text("")
    places = [str(bin_folder), os.environ["PATH"]]
    environment = {**os.environ, "PATH": os.pathsep.join(places), "GITHUB_STEP_SUMMARY": str(summary)}
    environment["PYTHONPATH"] = str(ROOT)

    def bash(options, script):
        file = tmp_path / "script"
        file.write_text(script)
        return subprocess.run(["bash", *options, file], cwd=work, env=environment, timeout=300, check=False).returncode

    bash.work, bash.summary, bash.remote, bash.folder = work, summary, remote, tmp_path
    return bash


def run_github(bash, program):
    """Runs the steps as GitHub does: after a failure only those that are always run. Returns the exit codes."""
    (bash.folder / "program").write_text(program)
    (job,) = read_yaml(block("github"))["jobs"].values()
    codes = []
    for step in job["steps"]:
        if not any(codes) or step.get("if", "").startswith("always()"):
            codes.append(bash(GITHUB, step["run"]) if "run" in step else 0)
    return codes


def run_gitlab(bash, program):
    """Runs the script as GitLab does: one shell, until a line fails. Returns its exit code."""
    (bash.folder / "program").write_text(program)
    (job,) = read_yaml(block("gitlab")).values()
    return bash(GITLAB, "\n".join(job["script"]))


def reports(bash, summary):
    """(failures by JUnit, the badge, the summary): what the reports say."""
    suites = ElementTree.parse(bash.work / "reports" / "junit.xml").getroot()
    assert suites.attrib["tests"] == str(len(checks()))
    assert "<h1" in (bash.work / "reports" / "report.html").read_text()
    badge = json.loads((bash.work / "reports" / "badge.json").read_text())
    return len(suites.findall(".//failure")), badge, summary.read_text()


def published_badge(bash):
    """The one file on the branch of the badge."""
    git = ["git", "--git-dir", str(bash.remote)]
    names = subprocess.run([*git, "ls-tree", "--name-only", "badges"], capture_output=True, text=True, check=True)
    assert names.stdout == "badge.json\n"
    shown = subprocess.run([*git, "show", "badges:badge.json"], capture_output=True, text=True, check=True)
    return json.loads(shown.stdout)


CONFORMS = {
    "schemaVersion": 1,
    "label": "refvlm",
    "message": f"conforms, {len(checks())} checks",
    "color": "brightgreen",
}


def test_on_github_a_right_program_passes_and_a_wrong_one_after_it_fails_with_all_reports(theirs):
    assert run_github(theirs, RIGHT) == [0] * 7
    assert (theirs.folder / "pip.log").read_text() == "install refvlm\n"
    failures, badge, summary = reports(theirs, theirs.summary)
    assert (failures, badge) == (0, CONFORMS)
    assert summary.startswith("### refvlm")
    assert f"conforms ({len(checks())} checked" in summary.replace("\\", "")
    assert published_badge(theirs) == CONFORMS

    assert run_github(theirs, WRONG) == [0, 0, 0, 0, 1, 0, 0]
    failures, badge, summary = reports(theirs, theirs.summary)
    assert failures > 100
    assert badge["color"] == "red"
    assert badge["message"] == f"{failures} of {len(checks())} checks fail"
    assert "DOES NOT CONFORM" in summary
    assert "Most likely: log p(z) left out" in summary
    assert published_badge(theirs) == badge


def test_on_gitlab_a_right_program_passes_and_a_wrong_one_after_it_fails_with_all_reports(theirs):
    summary = theirs.work / "reports" / "summary.md"
    assert run_gitlab(theirs, RIGHT) == 0
    assert (theirs.folder / "pip.log").read_text() == "install refvlm\n"
    failures, badge, text = reports(theirs, summary)
    assert (failures, badge) == (0, CONFORMS)
    assert "conforms" in text
    assert run_gitlab(theirs, WRONG) == 1
    failures, badge, text = reports(theirs, summary)
    assert failures > 100
    assert badge["message"] == f"{failures} of {len(checks())} checks fail"
    assert "Most likely: log p(z) left out" in text


def test_a_program_that_does_not_introduce_itself_fails_without_reports(theirs):
    assert run_gitlab(theirs, MUTE) == 4
    assert list((theirs.work / "reports").iterdir()) == []


def test_known_failures_have_to_be_there_and_are_taken_off_when_they_pass(theirs):
    known = theirs.work / "known-failures.txt"
    known.write_text("linear/sample  # u and p exchanged\n*/kl\n")
    assert "`linear/sample`" in PAGE
    assert "`*/kl`" in PAGE
    assert run_gitlab(theirs, RIGHT) == 1
    failures, _, text = reports(theirs, theirs.work / "reports" / "summary.md")
    listed = [check for check in checks() if check.quantity == "kl" or check.id == "linear/sample"]
    assert failures == len(listed)
    assert "listed as known to fail" in text
    known.unlink()
    assert run_gitlab(theirs, RIGHT) == 66


# What is not executed here


def test_the_reports_that_are_kept_are_those_that_are_written():
    (github,), (gitlab,) = read_yaml(block("github"))["jobs"].values(), read_yaml(block("gitlab")).values()
    (upload,) = [step for step in github["steps"] if step.get("uses", "").startswith("actions/upload-artifact")]
    assert (upload["if"], upload["with"]["path"]) == ("always()", "reports")
    assert gitlab["artifacts"]["when"] == "always"
    assert gitlab["artifacts"]["paths"] == ["reports"]
    assert f"--junit {gitlab['artifacts']['reports']['junit']} " in gitlab["script"][-1]


def test_the_addresses_of_the_badges_are_those_of_the_files():
    pushed = read_yaml(block("github"))["jobs"]["conformance"]["steps"][-1]["run"]
    assert "refs/heads/badges" in pushed
    assert badge_address("badge") == "https://raw.githubusercontent.com/OWNER/REPOSITORY/badges/badge.json"
    (job,) = read_yaml(block("gitlab"))
    kept = "https://gitlab.com/OWNER/REPOSITORY/-/jobs/artifacts/main/raw/reports/badge.json"
    assert badge_address("badge on GitLab") == f"{kept}?job={job}"


def badge_address(mark):
    """Where the endpoint of shields.io will look."""
    address = urlsplit(re.fullmatch(r"!\[refvlm\]\((.*)\)\n", block(mark))[1])
    assert (address.netloc, address.path) == ("img.shields.io", "/endpoint")
    return parse_qs(address.query, strict_parsing=True)["url"][0]
