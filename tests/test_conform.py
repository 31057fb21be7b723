"""The conversation with another program, that may be wrong, silent, talkative, dead or immortal; files of answers."""

import importlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from refvlm.cli import main
from refvlm.conformance import ourselves
from refvlm.conformance.examination import judge, request
from refvlm.conformance.messages import (
    check_request,
    parse,
    read_answer,
    read_header,
    read_introduction,
    read_outcome,
)
from refvlm.conformance.plain import Plain
from refvlm.conformance.quantities import INPUTS, QUANTITIES
from refvlm.conformance.server import answer_lines
from refvlm.conformance.tensors import MalformedError, encode
from refvlm.conformance.vectors import cases, checks, version
from refvlm.model.mlp import ACTIVATIONS

PROGRAM = """
import json, os, struct, sys, time
CASES = json.load(open(sys.argv[1]))
behave = sys.argv[2] if len(sys.argv) > 2 else ""
count = 0
def say(text):
    sys.stdout.write(text + "\\n"); sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    if message["op"] == "stop":
        break
    seq = message["seq"]
    if message["op"] == "start":
        who = {"name": "tape", "version": "1", "language": "Python", "precision": "float64"}
        offered = ["log_prior", "log_marginal", "vlb_terms"]
        answer = {"seq": seq, "implementation": who, "quantities": offered}
        exec(sys.argv[3] if behave == "start" else "")
        say(json.dumps(answer))
        continue
    count += 1
    answer = {"seq": seq, **CASES[message["case"] + "/" + message["quantity"]]}
    if behave == "code" and "error" in answer:
        exec(sys.argv[3])
    if (behave == "second" and count == 2) or (behave == "third" and count == 3):
        exec(sys.argv[3])
    if answer is not None:
        say(json.dumps(answer))
exec(sys.argv[3] if behave == "end" else "")
"""


@pytest.fixture(scope="module")
def tape(tmp_path_factory):
    """A program that plays back right answers, with a twist at the start, at its third answer, or at the end."""
    folder = tmp_path_factory.mktemp("tape")
    answers = {}
    for check in checks(("log_prior", "log_marginal", "vlb_terms")):
        if check.error is not None:
            answers[check.id] = {"error": {"code": check.error, "message": "wrong on purpose"}}
            continue
        parts = {}
        for name, expected in check.expected.items():
            bits = expected.value.astype(">f8").tobytes().hex().upper()
            parts[name] = {
                "shape": list(expected.value.shape),
                "f64": [bits[i : i + 16] for i in range(0, len(bits), 16)],
            }
        answers[check.id] = {"result": parts[""] if parts.keys() == {""} else parts}
    (folder / "answers.json").write_text(json.dumps(answers))
    (folder / "tape.py").write_text(PROGRAM)
    return [sys.executable, str(folder / "tape.py"), str(folder / "answers.json")]


def conform(command, *options, capsys=None, limit="60"):
    code = main(["conform", "--time-limit", limit, *options, "--", *command])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_program_that_answers_right_conforms(tape, capsys):
    code, out, err = conform(tape, capsys=capsys)
    assert (code, err) == (0, "")
    asked = len(checks(("log_prior", "log_marginal", "vlb_terms")))
    last = out.strip().splitlines()[-1]
    assert last == f"tape 1 (Python, float64): conforms ({asked} checked, 0 failed, {len(checks()) - asked} skipped)"


TWISTS = {
    "hang": ("third", "time.sleep(60)", 4, "took more than 2 s"),
    "hang with its input closed": ("end", "time.sleep(60)", 4, "to end after stop"),
    "exit": ("third", "sys.exit(3)", 4, "exit code 3"),
    "killed": ("third", "os.kill(os.getpid(), 9)", 4, "signal SIGKILL"),
    "exception": ("third", "raise RuntimeError('ouch')", 4, "exit code 1"),
    "failure after stop": ("end", "sys.exit(7)", 4, "exit code 7 after stop"),
    "garbage": ("third", "say('log p = -3.5')", 1, "is not JSON"),
    "not UTF-8": ("third", "sys.stdout.buffer.write(b'\\xff\\xfe\\n'); sys.stdout.flush()", 1, "not UTF-8"),
    "no object": ("third", "answer = [1, 2]", 1, "wanted a JSON object"),
    "half a line": ("third", "sys.stdout.write('{\"seq\"'); sys.stdout.flush(); sys.exit(0)", 1, "half a line"),
    "NaN": ("third", "say('{\"seq\":%d,\"result\":[NaN]}' % seq); answer = None", 1, "has NaN, which JSON"),
    "twice the same field": ("third", "say('{\"seq\":%d,\"seq\":%d}' % (seq, seq)); answer = None", 1, "twice"),
    "nested deeply": ("third", "say('[' * 100000); answer = None", 1, "nested too deeply"),
    "no id": ("third", "del answer['seq']", 1, "without seq"),
    "repeated id": ("third", "answer['seq'] -= 1", 1, "was answered before"),
    "id of the future": ("third", "answer['seq'] += 5", 1, "the question's"),
    "id as text": ("third", "answer['seq'] = str(seq)", 1, "the question's"),
    "two answers": ("third", "say(json.dumps(answer))", 1, "was answered before"),
    "one answer too many": ("end", "say('{}')", 1, "after its last answer"),
    "unknown field": ("third", "answer['note'] = 'fine'", 1, "unknown field 'note'"),
    "result and error": ("third", "answer['error'] = {}", 1, "error and result"),
    "nothing": ("third", "answer = {'seq': seq}", 1, "none of them"),
    "a number": ("third", "answer = {'seq': seq, 'result': -3.5}", 1, "one number alone"),
    "unknown code": ("third", "answer = {'seq': seq, 'error': {'code': 'oops', 'message': ''}}", 1, "error.code"),
    "another error than must come": (
        "code", "c = answer['error']; c['code'] = 'domain' if c['code'] == 'shape' else 'shape'", 1, "wanted 'shape'"
    ),
    "refusal of a sound question": (
        "third", "answer = {'seq': seq, 'error': {'code': 'domain', 'message': 'no'}}", 1, "refused a sound question"
    ),
    "unknown quantity": ("start", "answer['quantities'].append('elbo')", 1, "got 'elbo'"),
    "a quantity twice": ("start", "answer['quantities'].append('log_prior')", 1, "got a name twice"),
    "unknown precision": ("start", "answer['implementation']['precision'] = 'half'", 1, "'half'"),
    "no version": ("start", "del answer['implementation']['version']", 1, "'version' is missing"),
    "dead at the start": ("start", "sys.exit(1)", 4, "exit code 1"),
    "mute at the start": ("start", "time.sleep(60)", 4, "took more than 2 s"),
}  # fmt: skip


def limit_of(twist):
    """Seconds: short where it will run out, long where a busy machine must not make it run out."""
    return "2" if "sleep" in twist else "60"


@pytest.mark.parametrize("name", list(TWISTS))
def test_every_way_to_go_wrong_is_a_failure_of_its_own_and_never_a_pass(name, tape, capsys):
    where, twist, expected, said = TWISTS[name]
    start = time.monotonic()
    code, out, err = conform([*tape, where, twist], capsys=capsys, limit=limit_of(twist))
    assert code == expected, out + err
    assert said in out + err
    assert time.monotonic() - start < 50
    assert err.count("\n") <= 1 or "Traceback" in err


def test_a_program_that_keeps_ending_is_started_again_eight_times_and_then_it_is_over(tape, capsys):
    """It dies on every third answer: nine times two passed, nine failed, the rest skipped."""
    code, out, _ = conform([*tape, "third", "sys.exit(3)"], "--json", capsys=capsys)
    report = json.loads(out)
    assert code == 4
    assert report["broken"]["kind"] == "crash"
    assert (report["passed"], report["failed"], report["checked"]) == (18, 9, 27)
    assert report["skipped"] == len(checks()) - 27
    assert len(report["ended"]) == 8
    assert report["verdict"] == "broken"


CRASH = "answer = (os._exit(9) if message['case'] == 'wrong-layers' else answer)"


def test_a_crash_is_one_failure_and_not_the_end(tape, capsys):
    """It dies on the questions of one case, wrongly asked on purpose; every other is judged."""
    offered = ("log_prior", "log_marginal", "vlb_terms")
    on_it = [check.id for check in checks(offered) if check.case.id == "wrong-layers"]
    assert 1 <= len(on_it) <= 3
    code, out, _ = conform([*tape, "code", CRASH], "--json", capsys=capsys)
    report = json.loads(out)
    assert (code, report["verdict"], report["broken"]) == (1, "differs", None)
    assert report["ended"] == on_it
    assert report["failed"] == len(on_it)
    asked = list(checks(offered))
    numbers = sum(check.expected is not None for check in asked)
    assert report["numbers"] == {"right": numbers, "checked": numbers}
    refusals = len(asked) - numbers
    assert report["refusals"] == {"right": refusals - len(on_it), "checked": refusals}
    said = conform([*tape, "code", CRASH], capsys=capsys)[1]
    assert f"Numbers: {numbers} of {numbers} right. Refusals: {refusals - len(on_it)} of {refusals} right." in said
    assert f"It ended on {', '.join(on_it)}, and was started again." in said


def test_known_failures_are_skipped_and_those_that_pass_fail(tape, tmp_path, capsys):
    listed = tmp_path / "known.txt"
    listed.write_text("# the parser of layers\nwrong-layers/*\n")
    code, out, _ = conform([*tape, "code", CRASH], "--known", str(listed), capsys=capsys)
    assert code == 0
    assert "conforms" in out.splitlines()[-1]
    listed.write_text("wrong-layers/*  # ends\nlinear/log_prior\n")
    code, out, _ = conform([*tape, "code", CRASH], "--known", str(listed), capsys=capsys)
    assert code == 1
    assert "passes, though it is listed as known to fail; take it off the list" in out
    listed.write_text("linear/elbo\n")
    code, _, err = conform(tape, "--known", str(listed), capsys=capsys)
    assert code == 2
    assert "known.txt, line 1: 'linear/elbo' matches no check" in err


def test_enough_failures_end_it(tape, capsys):
    wrong = "answer = {'seq': seq, 'error': {'code': 'unsupported' if False else 'domain', 'message': 'no'}}"
    code, out, _ = conform([*tape, "code", wrong], "--max-failures", "2", "--json", capsys=capsys)
    report = json.loads(out)
    assert code == 1
    assert report["failed"] == 2
    assert any(check["message"] == "not asked: 2 failures were enough" for check in report["checks"])


def test_a_summary_in_markdown_and_a_badge(tape, tmp_path, capsys):
    markdown, badge = tmp_path / "summary.md", tmp_path / "badge.json"
    asked = len(checks(("log_prior", "log_marginal", "vlb_terms")))
    conform(tape, "--markdown", str(markdown), "--badge", str(badge), capsys=capsys)
    shown = {"schemaVersion": 1, "label": "refvlm", "message": f"conforms, {asked} checks", "color": "brightgreen"}
    assert json.loads(badge.read_text()) == shown
    assert markdown.read_text().startswith("### tape 1 (Python, float64): conforms")
    assert "| `log_marginal` |" in markdown.read_text()
    named = "answer['implementation']['name'] = '|<img>`x`'"
    conform([*tape, "start", named], "--markdown", str(markdown), capsys=capsys)
    assert "<img>" not in markdown.read_text().replace("\\<img\\>", "")
    conform([*tape, "code", CRASH], "--markdown", str(markdown), "--badge", str(badge), capsys=capsys)
    assert json.loads(badge.read_text())["color"] == "red"
    assert "| `wrong-layers/log" in markdown.read_text()


def test_every_report_says_by_which_vectors_it_was_judged(tape, tmp_path, capsys):
    files = {name: tmp_path / name for name in ("junit", "html", "markdown")}
    options = [word for name, path in files.items() for word in (f"--{name}", str(path))]
    out = conform(tape, *options, capsys=capsys)[1]
    assert f"vectors {version()}, refvlm " in out.splitlines()[-2]
    for name in ("html", "markdown"):
        assert f"Judged by vectors {version()}, refvlm" in files[name].read_text()
    suites = ElementTree.parse(files["junit"]).getroot().findall("testsuite")
    assert [suite[0].find("property").attrib for suite in suites] == [{"name": "vectors", "value": version()}] * len(
        cases()
    )
    assert json.loads(conform(tape, "--json", capsys=capsys)[1])["vectors"] == version()


def test_a_program_that_is_not_there_is_a_mistake_on_the_command_line(capsys):
    code, _, err = conform(["./no-such-program"], capsys=capsys)
    assert code == 2
    assert err == "refvlm: error: ./no-such-program: cannot be started: No such file or directory\n"


def test_what_a_program_says_cannot_command_the_terminal_or_the_page(tape, tmp_path, capsys):
    html = tmp_path / "r.html"
    twist = "answer['implementation']['name'] = '\\x1b[31m<script>&\\u202e'"
    code, out, _ = conform([*tape, "start", twist], "--html", str(html), capsys=capsys)
    assert code == 0
    assert "?[31m<script>&? 1 (Python, float64): conforms" in out
    assert "<script" not in html.read_text()
    code, out, err = conform([*tape, "third", "say('\\x1b[2J')"], capsys=capsys)
    assert code == 1
    assert "\x1b" not in out + err
    assert main(["smoke", "--", *tape, "second", "say('\\x1b[2J')"]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_nothing_offered_is_inconclusive_never_a_pass(tape, capsys):
    code, out, _ = conform([*tape, "start", "answer['quantities'] = []"], capsys=capsys)
    assert code == 3
    assert "INCONCLUSIVE: nothing was checked (0 checked" in out


def test_everything_skipped_is_inconclusive(tape, capsys):
    program = "import sys, json\nfor line in sys.stdin:\n m = json.loads(line)\n" \
        " if m['op'] == 'stop': break\n" \
        " who = {'name': 's', 'version': '', 'language': '', 'precision': 'float32'}\n" \
        " a = {'implementation': who, 'quantities': ['vlb']}\n" \
        " a = a if m['op'] == 'start' else {'skipped': {'reason': 'later'}}\n" \
        " print(json.dumps({'seq': m['seq'], **a}), flush=True)"  # fmt: skip
    code, out, _ = conform([sys.executable, "-c", program], capsys=capsys)
    assert code == 3
    assert "0 checked" in out


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups")
@pytest.mark.parametrize("ending", ["", "SIGTERM", "SIGINT", "SIGKILL"])
def test_no_child_or_grandchild_is_left_running(ending, tape, tmp_path):
    pids = tmp_path / "pids"
    twist = (
        "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "child = subprocess.Popen(['sleep', '600']); "
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}\\n'); time.sleep(600)"
    )
    limit = "1" if not ending else "100"
    refvlm = (
        "import signal, sys; from refvlm.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a background job starts with it ignored
        "sys.exit(main())"
    )
    command = [sys.executable, "-c", refvlm, "conform", "--time-limit", limit, "--", *tape, "third", twist]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not (pids.exists() and pids.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    if ending:
        process.send_signal(getattr(signal, ending))
    code = process.wait(30)
    assert code == {"": 4, "SIGTERM": 143, "SIGINT": 130, "SIGKILL": -9}[ending]
    child, grandchild = map(int, pids.read_text().split())
    # what nothing can be done about: a kill -9 of refvlm itself reaches the program, not what that has started
    for pid in (child,) if ending == "SIGKILL" else (child, grandchild):
        while alive(pid):
            assert time.monotonic() < deadline, f"{pid} is still running"
            time.sleep(0.02)
    if ending == "SIGKILL":
        os.kill(grandchild, signal.SIGKILL)


def alive(pid):
    """Whether it runs; a zombie that nobody waits for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


# Smoke


def test_smoke_shows_every_line_and_finds_nothing_wrong(tape, capsys):
    assert main(["smoke", "--", *tape]) == 0
    out = capsys.readouterr().out
    assert out.count("\n-> ") == 4
    assert out.startswith("-> ")
    assert "wrong-x-columns/log_marginal: passed" in out
    assert out.endswith("the conversation is sound\n")


@pytest.mark.parametrize("name", [name for name in TWISTS if name != "refusal of a sound question"])
def test_smoke_explains_what_is_wrong_with_the_conversation(name, tape, capsys):
    where, twist, expected, said = TWISTS[name]
    command = [*tape, where.replace("third", "second"), twist]
    assert main(["smoke", "--time-limit", limit_of(twist), "--", *command]) == expected
    out = capsys.readouterr().out
    assert said in out
    assert "WRONG: " in out


def test_smoke_says_that_wrong_numbers_are_another_matter(tape, capsys):
    assert main(["smoke", "--", *tape, "second", "answer = {'seq': seq, 'result': [0.0]}"]) == 0
    assert "vlb_terms: an answer, though not the right one: got one array, wanted arrays" in capsys.readouterr().out


def test_smoke_finds_a_number_where_an_error_must_come(tape, capsys):
    assert main(["smoke", "--", *tape, "third", "answer = {'seq': seq, 'result': [0.0]}"]) == 1
    assert (
        "gave a result where the error 'shape' must come; the question is wrong on purpose" in capsys.readouterr().out
    )


def test_options_of_the_program_belong_after_two_dashes(tape, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["conform", *tape, "--loud"])
    assert caught.value.code == 2
    assert "unrecognized arguments: --loud; put -- before COMMAND" in capsys.readouterr().err


def test_a_mistyped_option_before_the_two_dashes_is_blamed_alone(tape, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["conform", "--loud", "--", *tape])
    assert caught.value.code == 2
    assert capsys.readouterr().err == ("refvlm: error: unrecognized arguments: --loud; see refvlm conform --help\n")


def test_infinities_are_words_in_json(tmp_path, answers, capsys):
    answers["linear/log_marginal"] = {"result": {"shape": [4], "f64": ["FFF0000000000000"] * 4}}
    _, out, _ = check(tmp_path / "a", lines_of(answers), capsys, "--json")
    entry = next(c for c in json.loads(out)["checks"] if (c["case"], c["quantity"]) == ("linear", "log_marginal"))
    assert (entry["worst"]["got"], entry["worst"]["ulps"]) == ("-Infinity", "Infinity")


def test_a_time_limit_has_to_be_one(tape, capsys):
    assert main(["smoke", "--time-limit", "0", "--", *tape]) == 2
    assert "--time-limit: got 0" in capsys.readouterr().err


# refvlm as the other program


def test_refvlm_conforms_to_itself_in_conversation(tmp_path, capsys):
    html, junit = tmp_path / "r.html", tmp_path / "r.xml"
    command = ["conform", "--html", str(html), "--junit", str(junit), "--", sys.executable, "-m", "refvlm", "answer"]
    assert main(command) == 0
    assert f"conforms ({len(checks())} checked, 0 failed, 0 skipped)" in capsys.readouterr().out
    page = html.read_text()
    assert "conforms" in page
    for outside in ("http:", "https:", "<script", "src=", "url("):
        assert outside not in page
    suites = ElementTree.parse(junit).getroot()
    assert suites.attrib["tests"] == str(len(checks()))
    assert len(suites.findall(".//testcase")) == len(checks())
    assert suites.findall(".//failure") == []


def test_answer_refuses_what_is_no_request(capsys, monkeypatch):
    class Input:
        buffer = io.BytesIO(b'{"op":"evaluate","seq":1}\n')

    monkeypatch.setattr(sys, "stdin", Input)
    assert main(["answer"]) == 2
    assert "the field 'case' is missing" in capsys.readouterr().err


# Files of answers

HEADER = {
    "implementation": {"name": "file", "version": "2", "language": "C", "precision": "float64"},
    "quantities": ["log_marginal"],
}


def lines_of(answers, header=HEADER):
    found = [json.dumps(header)]
    for identity, answer in answers.items():
        case, quantity = identity.split("/")
        found.append(json.dumps({"case": case, "quantity": quantity, **answer}))
    return "\n".join(found) + "\n"


@pytest.fixture
def answers(tape):
    with open(tape[2]) as file:
        return {name: a for name, a in json.load(file).items() if name.endswith("/log_marginal")}


ONE_LINE = lines_of({"linear/log_marginal": {"result": [1]}}).split("\n", 1)[1]


def check(path, text, capsys, *options):
    path.write_text(text)
    code = main(["check", str(path), *options])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_a_file_of_right_answers_conforms(tmp_path, answers, capsys):
    code, out, _ = check(tmp_path / "a", lines_of(answers), capsys)
    assert code == 0
    assert f"file 2 (C, float64): conforms ({len(answers)} checked" in out


def test_a_missing_line_is_a_failure(tmp_path, answers, capsys):
    del answers["linear/log_marginal"]
    code, out, _ = check(tmp_path / "a", lines_of(answers), capsys)
    assert code == 1
    assert "FAILED  linear/log_marginal: not an answer: there is none" in out


def test_lines_about_what_is_not_offered_are_not_read(tmp_path, answers, capsys):
    """So a program that answers all that a case asks is not refused where later vectors ask for more."""
    extra = {"linear/vlb": {"result": [1]}, "weighted-linear/draw_arm": {"result": "what an older program makes of it"}}
    code, out, _ = check(tmp_path / "a", lines_of(answers | extra), capsys)
    assert code == 0
    assert f"conforms ({len(answers)} checked" in out
    code, _, err = check(tmp_path / "a", lines_of(answers | {"linear/elbo": {"result": [1]}}), capsys)
    assert code == 2
    assert "case linear does not ask for 'elbo'" in err


def test_a_skipped_line_is_not(tmp_path, answers, capsys):
    answers["linear/log_marginal"] = {"skipped": {"reason": "not yet"}}
    code, out, _ = check(tmp_path / "a", lines_of(answers), capsys, "--json")
    report = json.loads(out)
    assert (code, report["checked"]) == (0, len(answers) - 1)
    entry = next(c for c in report["checks"] if (c["case"], c["quantity"]) == ("linear", "log_marginal"))
    assert (entry["status"], entry["message"]) == ("skipped", "not yet")


def test_a_wrong_number_is_named_in_every_report(tmp_path, answers, capsys):
    for name, answer in answers.items():
        if "result" in answer:
            latents = cases()[name.split("/")[0]].inputs["z"].shape[1]
            expected = cases()[name.split("/")[0]].checks["log_marginal"].expected[""].value
            answers[name] = {"result": (expected - latents * 0.6931471805599453).tolist()}
    junit, html = tmp_path / "j.xml", tmp_path / "h.html"
    code, out, _ = check(tmp_path / "a", lines_of(answers), capsys, "--junit", str(junit), "--html", str(html))
    assert code == 1
    assert "Most likely: the mean over codes instead of the sum: K log 2 too low." in out
    failures = ElementTree.parse(junit).getroot().findall(".//failure")
    assert failures
    assert "off by" in failures[0].attrib["message"]
    assert "the mean over codes instead of the sum" in failures[0].text
    assert "the mean over codes instead of the sum" in html.read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no lines"),
        ("{}\n", "line 1: "),
        ("not json\n", "line 1: got 'not json', which is not JSON"),
        (json.dumps(HEADER) + "\n{}\n", "line 2: case: got null"),
        (lines_of({"nowhere/log_marginal": {"result": [1]}}), "line 2: case: got 'nowhere'"),
        (lines_of({"linear/elbo": {"result": [1]}}), "line 2: quantity: case linear does not ask for 'elbo'"),
        (lines_of({"ties/log_marginal": {"result": [1]}}), "line 2: quantity: case ties does not ask for 'log_"),
        (lines_of({"linear/log_marginal": {"result": [1], "extra": 1}}), "unknown field 'extra'"),
        (lines_of({"linear/log_marginal": {"result": [1]}}) * 2, "line 3: "),
        (lines_of({"linear/log_marginal": {"result": [1]}}) + ONE_LINE, "line 3: linear/log_marginal was answered bef"),
    ],
)  # fmt: skip
def test_a_malformed_file_is_named_by_its_line(text, said, tmp_path, capsys):
    code, out, err = check(tmp_path / "a", text, capsys)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there(capsys):
    assert main(["check", "no-such-file"]) == 2
    assert capsys.readouterr().err == "refvlm: error: no-such-file: cannot be read: No such file or directory\n"


def test_reports_that_cannot_be_written_are_refused_before_the_work(tape, capsys):
    assert main(["conform", "--html", "/no/such/place", "--", *tape, "third", "time.sleep(60)"]) == 73
    assert "/no/such/place" in capsys.readouterr().err


# Messages


def validator():
    jsonschema = pytest.importorskip("jsonschema")
    text = json.loads(resources.files("refvlm.conformance").joinpath("message.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


def test_what_we_send_is_valid_under_the_schema_and_our_own_check():
    schema = validator()
    for seq, question in enumerate(checks()[::5], start=2):
        message = request(question, seq)
        check_request(message)
        schema.validate(message)
    for message in ({"seq": 1, "op": "start", "protocol": 1}, {"op": "stop"}):
        check_request(message)
        schema.validate(message)


TENSOR = {"shape": [1], "f64": ["3FF0000000000000"]}
WHO = {"name": "n", "version": "v", "language": "l", "precision": "float64"}
ANSWERS = [
    {"seq": 2, "result": TENSOR},
    {"seq": 2, "result": [1.5]},
    {"seq": 2, "result": [[1.5, 2], [3, 4]]},
    {"seq": 2, "result": {"prior": TENSOR, "entropy": [1.0]}},
    {"seq": 2, "error": {"code": "shape", "message": "no"}},
    {"seq": 2, "skipped": {"reason": "later"}},
]
WRONG = [
    {"seq": 2},
    {"result": TENSOR},
    {"seq": 2, "result": {}},
    {"seq": 2, "result": 1.5},
    {"seq": 2, "result": "1.5"},
    {"seq": 2, "result": TENSOR, "skipped": {"reason": ""}},
    {"seq": 2, "result": {"shape": [1]}},
    {"seq": 2, "result": {**TENSOR, "f32": []}},
    {"seq": 2, "error": {"code": "odd", "message": "no"}},
    {"seq": 2, "error": {"code": "shape"}},
    {"seq": 2, "error": "shape"},
    {"seq": 2, "skipped": {"reason": 3}},
    {"seq": 2, "skipped": {}},
    {"seq": 2, "result": TENSOR, "more": 1},
]


@pytest.mark.parametrize("message", ANSWERS, ids=str)
def test_the_schema_and_our_reader_accept_the_same(message):
    validator().validate(message)
    read_answer(message, 2)


@pytest.mark.parametrize("message", WRONG, ids=str)
def test_the_schema_and_our_reader_refuse_the_same(message):
    assert not validator().is_valid(message)
    with pytest.raises(MalformedError):
        read_answer(message, 2)


def test_introductions_are_read_and_refused_as_the_schema_says():
    good = {"seq": 1, "implementation": WHO, "quantities": ["vlb"]}
    validator().validate(good)
    assert read_introduction(good, 1)[1] == ("vlb",)
    for spoil in (
        {"quantities": ["elbo"]}, {"quantities": "vlb"}, {"quantities": ["vlb", "vlb"]}, {"implementation": []},
        {"implementation": {**WHO, "precision": "float16"}}, {"implementation": {**WHO, "name": 3}},
        {"implementation": {**WHO, "mood": "fine"}}, {"more": 1},
    ):  # fmt: skip
        wrong = {**good, **spoil}
        assert not validator().is_valid(wrong)
        with pytest.raises(MalformedError):
            read_introduction(wrong, 1)
    with pytest.raises(MalformedError, match="'quantities' is missing"):
        read_header({"implementation": WHO})


@pytest.mark.parametrize(
    "message",
    [
        {"op": "stop", "seq": 3}, {"op": "begin", "seq": 1}, {"seq": 1, "op": "start"},
        {"seq": 1, "op": "start", "protocol": 2}, {"op": "start", "protocol": 1},
        {"seq": True, "op": "start", "protocol": 1},
    ],
    ids=str,
)  # fmt: skip
def test_requests_that_are_none_are_refused(message):
    assert not validator().is_valid(message)
    with pytest.raises(MalformedError):
        check_request(message)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.pop("inputs"),
        lambda m: m.update(quantity="elbo"),
        lambda m: m["model"].pop("activation"),
        lambda m: m["inputs"].update(x=[[1.0]]),
        lambda m: m["inputs"].update(x={"shape": [1], "f64": []}),
        lambda m: m["model"].update(parameters=[]),
        lambda m: m.update(mood="fine"),
        lambda m: m.update(case=5),
    ],
)
def test_questions_that_are_none_are_refused(spoil):
    message = json.loads(json.dumps(request(cases()["linear"].checks["vlb"], 2)))
    check_request(message)
    spoil(message)
    with pytest.raises(MalformedError):
        check_request(message)


def test_outcomes_of_lines_follow_the_same_rules():
    assert read_outcome({"skipped": {"reason": "r"}}).reason == "r"
    with pytest.raises(MalformedError, match="integer"):
        parse('{"seq": ' + "9" * 5000 + "}")


# The documents


@pytest.mark.parametrize("package", ["refvlm.conformance", "refvlm.testing"])
def test_the_page_of_a_folder_lists_its_files(package):
    folder = Path(importlib.import_module(package).__file__).parent
    page = (folder / "README.md").read_text()
    table = page[page.index("## Files") :].split("\n\n")[1]
    first_column = " ".join(line.split("|")[1] for line in table.splitlines())
    there = {path.name for path in folder.iterdir()} - {"README.md", "__init__.py", "__pycache__"}
    assert set(re.findall(r"`([\w.-]+)/?`", first_column)) == there


def test_the_protocols_document_lists_the_quantities_as_the_code_has_them():
    text = resources.files("refvlm.conformance").joinpath("protocol.md").read_text()
    table = text[text.index("| quantity | inputs") : text.index("- `sample`: z =")]
    lines = [line for line in table.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert [row[0].strip("`") for row in rows] == list(QUANTITIES)
    for row, (name, quantity) in zip(rows, QUANTITIES.items(), strict=True):
        assert row[2] == ("yes" if quantity.posterior else ""), name
        assert row[3] == quantity.result, name
        wanted = [f"`{item.replace('_*', '_z')}` ({', '.join(INPUTS[item].shape)})" for item in quantity.inputs]
        assert row[1] == ", ".join(wanted), name


@pytest.mark.parametrize("name", ["case", "message"])
def test_a_schema_names_the_quantities_once_and_as_the_list_has_them(name):
    folder = resources.files("refvlm.conformance")
    text = folder.joinpath(f"{name}.schema.json").read_text()
    listed = list(json.loads(folder.joinpath("quantities.json").read_text())["quantities"])
    assert json.loads(text)["$defs"]["quantity"]["enum"] == listed
    assert text.count('"log_likelihood"') == 1
    assert set(listed) == set(QUANTITIES)


def test_the_schema_of_the_cases_knows_the_activations_that_they_have():
    text = resources.files("refvlm.conformance").joinpath("case.schema.json").read_text()
    used = {network.activation for case in cases().values() for network in (case.model, case.posterior)}
    assert set(json.loads(text)["$defs"]["activation"]["enum"]) == used
    assert used <= set(ACTIVATIONS)


def test_a_quantity_comes_after_what_it_is_made_of_and_both_implementations_have_it():
    for place, (name, quantity) in enumerate(QUANTITIES.items()):
        assert set(quantity.made_of) <= set(list(QUANTITIES)[:place]), name
        assert set(quantity.inputs) <= set(INPUTS), name
        assert quantity.kind in ("nats", "probabilities", "gradient", "draws", "step", "estimates"), name
        assert callable(getattr(Plain, name)), name
        assert callable(ourselves._FUNCTIONS[name]), name
    assert set(ourselves._FUNCTIONS) == set(QUANTITIES)


def answer_of_refvlm(message):
    """What `refvlm answer` says to a request."""
    answers = []
    answer_lines([json.dumps(message).encode()], answers.append)
    return answers[0]


def test_an_activation_that_is_not_offered_is_skipped_and_never_failed():
    question = cases()["tanh-one"].checks["vlb"]
    for part in ("model", "posterior"):
        message = request(question, 2)
        message[part]["activation"] = "a_name_that_nobody_offers"
        check_request(message)
        validator().validate(message)
        answer = answer_of_refvlm(message)
        assert answer["error"]["code"] == "unsupported"
        assert judge(question, read_answer(answer, 2), "float64").status == "skipped"
        message[part]["activation"] = 7
        assert not validator().is_valid(message)
        with pytest.raises(MalformedError, match=f"{part}.activation: got 7, wanted a name such as 'tanh'"):
            check_request(message)


def test_inputs_that_no_model_takes_are_refused_and_those_another_quantity_takes_are_not():
    message = request(cases()["tanh-one"].checks["log_marginal"], 2)
    message["inputs"] |= request(cases()["tanh-one"].checks["sample"], 2)["inputs"]
    assert "result" in answer_of_refvlm(message)
    for name in ("uniforms_z2", "wake_uniforms_y", "phi"):
        answer = answer_of_refvlm(message | {"inputs": message["inputs"] | {name: message["inputs"]["x"]}})
        assert answer["error"] == {"code": "shape", "message": f"inputs: {name!r} belongs to nothing"}


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("learning_rate", [1], "learning_rate: got shape (1,), wanted ()"),
        ("uniforms_z", [3, 3], "uniforms_x: got shape (6, 5), wanted (3, 5)"),
        ("uniforms_x", [6, 4], "uniforms_x: got shape (6, 4), wanted (6, 5)"),
        ("uniforms_z", [], "uniforms_z: got shape (), wanted (rows, 3)"),
    ],
)
def test_inputs_of_the_wrong_shape_are_named(name, shape, said):
    message = request(cases()["tanh-one"].checks["sleep_step"], 2)
    message["inputs"][name] = encode(np.full(shape, 0.25))
    assert answer_of_refvlm(message)["error"] == {"code": "shape", "message": said}


def test_every_case_gives_each_quantity_the_inputs_it_wants():
    for question in checks():
        patterns = QUANTITIES[question.quantity].inputs
        for name in question.inputs:
            assert any(name == p or (p[-1] == "*" and name.startswith(p[:-1] + "z")) for p in patterns), question.id
        plain = {p for p in patterns if p[-1] != "*"}
        assert plain <= set(question.inputs), question.id
