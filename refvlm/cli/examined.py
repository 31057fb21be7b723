"""Arguments, reports and exit codes of the commands about other implementations."""

from __future__ import annotations

import argparse
import fnmatch
import json
from collections.abc import Callable

from ..checks import quoted
from ..conformance.examination import Chosen, Report
from ..conformance.reports import as_html, as_json, as_junit, as_text
from ..conformance.summaries import as_badge, as_markdown
from ..conformance.vectors import checks
from ..storage import atomic_write, check_writable, open_file
from .arguments import add_json, number, positive
from .failure import BROKEN, DIFFERS, INCONCLUSIVE, OK, USAGE, Failure, reading, writing

EXIT_CODES = """\
exit codes: 0 conforms; 1 does not; 2 the command line is wrong, or the answers cannot be read; 3 inconclusive: nothing
was checked; 4 the program crashed or hung.
"""
_EXIT = {"conforms": OK, "differs": DIFFERS, "inconclusive": INCONCLUSIVE, "broken": BROKEN}
_LONGEST_LIST, _MOST_PATTERNS, _LONGEST_PATTERN = 1 << 20, 1000, 200
"""Of the file of --known, in bytes and lines, and of one of them; there are some 600 checks."""


def add_command(parser: argparse.ArgumentParser) -> None:
    """Declares COMMAND and --time-limit."""
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the program and its arguments, after --")
    parser.add_argument(
        "--time-limit", type=number, default=30.0, metavar="S", help="seconds for each answer (default: %(default)g)"
    )


def time_limit(arguments: argparse.Namespace) -> float:
    """Returns --time-limit, checked."""
    limit = float(arguments.time_limit)
    if limit <= 0:
        raise Failure(f"--time-limit: got {limit:g}, wanted more than 0 seconds", USAGE)
    return limit


def add_reports(parser: argparse.ArgumentParser) -> None:
    """Declares --only, --json, --junit and --html."""
    parser.add_argument(
        "--only",
        action="append",
        metavar="PATTERN",
        help="check these alone, CASE/QUANTITY with * and ?, for instance 'linear/*' or '*/vlb'; may be repeated",
    )
    add_json(parser)
    parser.add_argument("--junit", metavar="FILE", help="write a JUnit XML report as well")
    parser.add_argument("--html", metavar="FILE", help="write a report as one HTML page as well")
    parser.add_argument("--markdown", metavar="FILE", help="write a summary in Markdown as well, for a pipeline's page")
    parser.add_argument("--badge", metavar="FILE", help="write the JSON of a badge of shields.io as well")
    parser.add_argument(
        "--known",
        metavar="FILE",
        help="checks that are known to fail, CASE/QUANTITY with * and ?, one a line, # begins a comment; one of them "
        "that passes fails",
    )
    parser.add_argument("--max-failures", type=positive, metavar="N", help="stop after N failures")


def chosen(arguments: argparse.Namespace) -> Chosen:
    """Returns what is asked: the patterns of --only and of the file of --known have to match something."""
    for pattern in arguments.only or ():
        if not _matches(pattern):
            raise Failure(
                f"--only: {quoted(pattern)} matches no check; wanted CASE/QUANTITY, for instance '*/vlb'", USAGE
            )
    known = [] if arguments.known is None else _known(arguments.known)
    return Chosen(arguments.only or ["*"], known, arguments.max_failures)


def _known(path: str) -> list[str]:
    """The patterns in a file, each of which has to match something."""
    with reading(path), open_file(path) as file:
        content = file.read(_LONGEST_LIST + 1)
    lines = [line.partition(b"#")[0].strip().decode("utf-8", "replace") for line in content.splitlines()]
    patterns = list(dict.fromkeys(filter(None, lines)))
    if len(content) > _LONGEST_LIST or len(patterns) > _MOST_PATTERNS:
        raise Failure(
            f"{path}: more than {_MOST_PATTERNS} different lines or {_LONGEST_LIST} bytes, wanted a list of "
            "checks that are known to fail",
            USAGE,
        )
    for pattern in patterns:
        if not _matches(pattern):
            raise Failure(
                f"{path}, line {lines.index(pattern) + 1}: {quoted(pattern)} matches no check; wanted CASE/QUANTITY, "
                "for instance '*/vlb'",
                USAGE,
            )
    return patterns


def _matches(pattern: str) -> bool:
    return len(pattern) <= _LONGEST_PATTERN and any(fnmatch.fnmatchcase(check.id, pattern) for check in checks())


def check_reports(arguments: argparse.Namespace) -> None:
    """Refuses now what could not be written later."""
    for path in (arguments.junit, arguments.html, arguments.markdown, arguments.badge):
        if path is not None:
            with writing(path):
                check_writable(path)


def finish(arguments: argparse.Namespace, report: Report) -> int:
    """Writes and prints the report, and returns the exit code."""
    written: tuple[tuple[str | None, Callable[[Report], str | bytes]], ...] = (
        (arguments.junit, as_junit),
        (arguments.html, as_html),
        (arguments.markdown, as_markdown),
        (arguments.badge, as_badge),
    )
    for path, text in written:
        if path is not None:
            made = text(report)
            with writing(path), atomic_write(path) as file:
                file.write(made if isinstance(made, bytes) else made.encode("utf-8"))
    print(json.dumps(as_json(report), allow_nan=False) if arguments.json else as_text(report))
    return _EXIT[report.verdict]
