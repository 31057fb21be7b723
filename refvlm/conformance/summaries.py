"""A report for a pipeline: a summary in Markdown, and the JSON from which shields.io draws a badge."""

from __future__ import annotations

import json

from .examination import FAILED, Report
from .reports import by_quantity, headline, in_numbers, judged_by, likely

_MOST_SHOWN = 10
_COLOURS = {"conforms": "brightgreen", "differs": "red", "broken": "red", "inconclusive": "lightgrey"}


def as_markdown(report: Report) -> str:
    """The verdict, what explains the failures, a table by quantity, the first failures."""
    lines = [f"### {_escaped(headline(report))}", "", _escaped(f"{in_numbers(report)} {judged_by()}"), ""]
    lines += [f"> {_escaped(text)}\n" for text in likely(report)]
    lines += ["| quantity | passed | failed | skipped |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| `{name}` | {passed} | {failed} | {skipped} |" for name, passed, failed, skipped in by_quantity(report)
    ]
    failed_checks = [outcome for outcome in report.outcomes if outcome.status == FAILED]
    if failed_checks:
        lines += ["", "| failed | how |", "| --- | --- |"]
        lines += [f"| `{each.check.id}` | {_escaped(each.message)} |" for each in failed_checks[:_MOST_SHOWN]]
    if len(failed_checks) > _MOST_SHOWN:
        lines += ["", f"and {len(failed_checks) - _MOST_SHOWN} more"]
    return "\n".join(lines) + "\n"


def as_badge(report: Report) -> str:
    """The answer of an endpoint of shields.io: label, message, colour."""
    message = {
        "conforms": f"conforms, {report.checked} checks",
        "differs": f"{report.count(FAILED)} of {report.checked} checks fail",
        "broken": "broken",
        "inconclusive": "nothing checked",
    }[report.verdict]
    shown = {"schemaVersion": 1, "label": "refvlm", "message": message, "color": _COLOURS[report.verdict]}
    return json.dumps(shown) + "\n"


def _escaped(text: str) -> str:
    """What a program said cannot be markup, or end a cell of a table."""
    for sign in "\\`*_{}[]<>#|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
