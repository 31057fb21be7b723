"""Writes a report as text for a terminal, JSON, JUnit XML, and one HTML page that needs nothing else."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from ..version import __version__
from .diagnosis import Imprecision
from .examination import FAILED, PASSED, SKIPPED, Outcome, Report
from .fingerprints import Suspect
from .mistakes import name_of
from .quantities import QUANTITIES
from .vectors import version

_MOST_SHOWN = 4
_SENTENCES = {
    "conforms": "conforms",
    "differs": "DOES NOT CONFORM",
    "inconclusive": "INCONCLUSIVE: nothing was checked",
    "broken": "BROKEN",
}


def headline(report: Report) -> str:
    """The verdict on one line, with how much it rests on."""
    said = f"{who(report)}: {_SENTENCES[report.verdict]}"
    if report.broken is not None:
        said += f": {report.broken}"
    return f"{said} ({report.checked} checked, {report.count(FAILED)} failed, {report.count(SKIPPED)} skipped)"


def in_numbers(report: Report) -> str:
    """Numbers and refusals apart, and where it ended: 'Numbers: 147 of 147 right. Refusals: 7 of 9 right.'"""
    (numbers, asked), (refusals, negative) = report.right(False), report.right(True)
    said = f"Numbers: {numbers} of {asked} right. Refusals: {refusals} of {negative} right."
    if report.ended:
        said += f" It ended on {', '.join(check.id for check in report.ended)}, and was started again."
    return said


def judged_by() -> str:
    """Which cases decided: 'Judged by vectors 1.0.0, refvlm 0.1.0.'"""
    return f"Judged by vectors {version()}, refvlm {__version__}."


def as_text(report: Report) -> str:
    """A table by quantity, what explains the failures, and those that others follow from."""
    lines = ["quantity            checked   passed   failed  skipped"]
    for name, passed, failed, skipped in by_quantity(report):
        lines.append(f"{name:18} {passed + failed:8} {passed:8} {failed:8} {skipped:8}")
    if report.verdict in ("differs", "broken"):
        lines += ["", in_numbers(report)]
    for text in likely(report):
        lines += ["", text]
    roots = _roots(report)
    if roots:
        lines += ["", f"First to go wrong: {_first(roots)}."]
    for outcome in roots[:_MOST_SHOWN]:
        lines += ["", f"FAILED  {outcome.check.id}: {outcome.message}"]
        lines += [f"        {text}" for text in _remarks(outcome)]
    rest, follow = report.count(FAILED) - min(len(roots), _MOST_SHOWN), report.count(FAILED) - len(roots)
    if rest:
        lines += [
            "",
            f"and {rest} more, {follow} of which follow from a failure before them; --json and --html show all",
        ]
    return "\n".join([*lines, "", judged_by(), headline(report)])


def as_json(report: Report) -> dict[str, Any]:
    """One object: the verdict, the counts, the explanations, every check."""
    return {
        "refvlm": __version__,
        "vectors": version(),
        "implementation": report.implementation._asdict(),
        "verdict": report.verdict,
        "broken": None if report.broken is None else {"kind": report.broken.kind, "message": str(report.broken)},
        "checked": report.checked,
        "passed": report.count(PASSED),
        "failed": report.count(FAILED),
        "skipped": report.count(SKIPPED),
        "numbers": dict(zip(("right", "checked"), report.right(False), strict=True)),
        "refusals": dict(zip(("right", "checked"), report.right(True), strict=True)),
        "ended": [check.id for check in report.ended],
        "seconds": round(report.seconds, 3),
        "explanations": [
            {
                "mistake": e.name,
                "title": e.mistake.title,
                "remedy": e.mistake.remedy,
                "explained": e.explained,
                "quantities": list(e.quantities),
                "alone": e.alone,
                "also": [other.title for other in e.also],
            }
            for e in report.explanations
        ],
        "imprecise": None
        if report.imprecision is None
        else {
            "checks": [check.id for check in report.imprecision.checks],
            "digits": round(report.imprecision.digits, 1),
            "likely": None if report.imprecision.likely is None else report.imprecision.likely.title,
        },
        "checks": [_outcome_as_json(outcome) for outcome in report.outcomes],
    }


def _outcome_as_json(outcome: Outcome) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "case": outcome.check.case.id,
        "quantity": outcome.check.quantity,
        "status": outcome.status,
        "message": outcome.message,
        "follows_from": outcome.root,
        "mistakes": [name_of(suspect.mistake) for suspect in outcome.suspects],
    }
    if outcome.mismatch is not None and outcome.mismatch.index is not None:
        m = outcome.mismatch
        entry["worst"] = {
            "part": m.part,
            "index": list(m.index or ()),
            "expected": _finite(m.expected),
            "got": _finite(m.got),
            "allowed": m.allowed,
            "ulps": _finite(m.ulps),
        }
    return entry


def as_junit(report: Report) -> bytes:
    """For continuous integration: one test case for each check, one suite for each case."""
    suites = ElementTree.Element("testsuites", {"name": who(report), **_counts(report.outcomes)})
    for case in dict.fromkeys(outcome.check.case.id for outcome in report.outcomes):
        outcomes = [o for o in report.outcomes if o.check.case.id == case]
        suite = _suite(suites, case, _counts(outcomes))
        for outcome in outcomes:
            test = ElementTree.SubElement(suite, "testcase", classname=case, name=outcome.check.quantity)
            if outcome.status == SKIPPED:
                ElementTree.SubElement(test, "skipped", message=_xml(outcome.message))
            elif outcome.status == FAILED:
                failure = ElementTree.SubElement(test, "failure", message=_xml(outcome.message))
                failure.text = _xml("\n".join(_remarks(outcome)))
    if report.verdict in ("broken", "inconclusive"):
        suite = _suite(suites, "conversation", {"tests": "1", "errors": "1"})
        test = ElementTree.SubElement(suite, "testcase", classname="conversation", name=report.verdict)
        ElementTree.SubElement(test, "error", message=_xml(headline(report)))
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True))


def _suite(suites: ElementTree.Element, name: str, counts: dict[str, str]) -> ElementTree.Element:
    """A suite, which says by which vectors it was judged."""
    suite = ElementTree.SubElement(suites, "testsuite", {"name": name, **counts})
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="vectors", value=version())
    return suite


def _counts(outcomes: list[Outcome]) -> dict[str, str]:
    statuses = [outcome.status for outcome in outcomes]
    return {
        "tests": str(len(statuses)),
        "failures": str(statuses.count(FAILED)),
        "skipped": str(statuses.count(SKIPPED)),
    }


def as_html(report: Report) -> str:
    """A page that stands alone: no script, no address."""
    table = "".join(
        f"<tr><th>{_e(name)}</th><td>{passed + failed}</td><td>{passed}</td>"
        f"<td{' class=bad' if failed else ''}>{failed}</td><td>{skipped}</td></tr>"
        for name, passed, failed, skipped in by_quantity(report)
    )
    explained = "".join(f"<p class=likely>{_e(text)}</p>" for text in likely(report))
    explained += "".join(f"<p>First to go wrong: {_e(_first(roots))}.</p>" for roots in [_roots(report)] if roots)
    grid = _grid(report)
    failures = "".join(
        f"<details{' open' if outcome.root is None else ''}><summary><code>{_e(outcome.check.id)}</code> "
        f"{_e(outcome.message)}</summary><ul>{_items(outcome)}</ul></details>"
        for outcome in report.outcomes
        if outcome.status == FAILED
    )
    return _PAGE.format(
        title=_e(f"{who(report)}: {report.verdict}"),
        verdict=report.verdict,
        headline=_e(headline(report)),
        likely=explained,
        table=table,
        grid=grid,
        failures=f"<h2>Failures</h2>{failures}" if failures else "",
        judged=_e(judged_by()),
        seconds=f"{report.seconds:.1f}",
    )


def _items(outcome: Outcome) -> str:
    return "".join(f"<li>{_e(text)}</li>" for text in _remarks(outcome))


def _grid(report: Report) -> str:
    """Cases down, quantities across."""
    status = {outcome.check.id: outcome for outcome in report.outcomes}
    rows = []
    for case in dict.fromkeys(outcome.check.case.id for outcome in report.outcomes):
        cells = []
        for quantity in QUANTITIES:
            outcome = status.get(f"{case}/{quantity}")
            kind = "none" if outcome is None else outcome.status
            mark = {PASSED: "✓", FAILED: "✗", SKIPPED: "–", "none": ""}[kind]
            hint = "" if outcome is None else f' title="{_e(outcome.check.id)}: {_e(outcome.message or kind)}"'
            cells.append(f"<td class={kind}{hint}>{mark}</td>")
        rows.append(f"<tr><th>{_e(case)}</th>{''.join(cells)}</tr>")
    head = "".join(f"<th class=up><span>{_e(name)}</span></th>" for name in QUANTITIES)
    return f"<table class=grid><tr><td></td>{head}</tr>{''.join(rows)}</table>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222 }}
h1 {{ font-size: 1.25rem; padding: .7rem 1rem; border-left: .5rem solid #888; background: #f4f4f4 }}
h1.conforms {{ border-color: #2a7f3f }} h1.differs, h1.broken {{ border-color: #b3261e }}
h2 {{ font-size: 1.1rem; margin-top: 2rem }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
th {{ text-align: left; font-weight: normal; padding-right: 1rem; white-space: nowrap }}
td {{ text-align: right; padding: .1rem .6rem }} thead th {{ color: #666 }}
.grid td {{ text-align: center; width: 1.7rem; padding: .1rem; border: 1px solid #ddd }}
.grid tr:first-child td {{ border: none }} .grid .up {{ height: 9.5rem; vertical-align: bottom; padding: 0 }}
.grid .up span {{ writing-mode: vertical-rl; transform: rotate(180deg); padding: .3rem 0 }}
.passed {{ background: #e3f3e6; color: #2a7f3f }} .failed, .bad {{ background: #fbe4e2; color: #b3261e }}
.skipped {{ color: #999 }} .none {{ background: #fafafa }}
.likely {{ background: #fff6dd; padding: .6rem 1rem; border-left: .5rem solid #d9a400 }}
details {{ margin: .3rem 0 }} summary {{ cursor: pointer }} footer {{ color: #777; margin-top: 3rem }}
</style></head><body>
<h1 class="{verdict}">{headline}</h1>
{likely}
<h2>By quantity</h2>
<table><thead><tr><th></th><th>checked</th><th>passed</th><th>failed</th><th>skipped</th></tr></thead>{table}</table>
<h2>By case</h2>
{grid}
{failures}
<footer>{judged} {seconds} s</footer>
</body></html>
"""


def _remarks(outcome: Outcome) -> Iterator[str]:
    """What is known about a failure, a line each."""
    if outcome.root is not None:
        yield f"follows from {outcome.root}, which went wrong first"
    if outcome.suspects:
        yield _equals(outcome.suspects[0]) + "".join(
            f"; or with {suspect.mistake.title}" for suspect in outcome.suspects[1:3]
        )
    yield f"the case: {outcome.check.case.why}"


def _equals(suspect: Suspect) -> str:
    if suspect.within >= 2.0**-24:
        return f"your value is within what {suspect.mistake.title} allows"
    how = "exactly" if suspect.within == 0 else f"to {10.0 ** math.ceil(math.log10(suspect.within)):.0e}"
    return f"your value equals that with {suspect.mistake.title}, {how}"


def likely(report: Report) -> Iterator[str]:
    """The mistakes that explain the wrong numbers, and what is only imprecise."""
    numbers = sum(outcome.mismatch is not None for outcome in report.outcomes)
    for n, e in enumerate(report.explanations):
        where = f" in {', '.join(e.quantities)}, and there alone" if e.alone else ""
        others = "".join(f", or {other.title}" for other in e.also[:2])
        yield (
            f"{'Besides' if n else 'Most likely'}: {e.mistake.title}{others}{where}. It explains {e.explained} of "
            f"{numbers} wrong answers and spoils no right one. What to do: {e.mistake.remedy}."
        )
    if report.imprecision is not None:
        yield _imprecise(report.imprecision)


def _imprecise(found: Imprecision) -> str:
    """How many digits are left, where, and what may lose them."""
    names = list(dict.fromkeys(check.case.id for check in found.checks))
    where = ", ".join(names[:_MOST_SHOWN]) + (
        f" and {len(names) - _MOST_SHOWN} more" if len(names) > _MOST_SHOWN else ""
    )
    likely = (
        f"Likely: {found.likely.title}; {found.likely.remedy}"
        if found.likely is not None
        else "Look for a difference of large numbers: softplus as log(1 + e^a), z a - log(1 + e^a) at large a, 1 - p"
    )
    return (
        f"Imprecise rather than wrong: {len(found.checks)} answers keep at least {max(found.digits, 0.0):.0f} digits, "
        f"and no mistake explains them (in {where}). {likely}."
    )


def _roots(report: Report) -> list[Outcome]:
    """The failures that follow from no other."""
    return [outcome for outcome in report.outcomes if outcome.status == FAILED and outcome.root is None]


def _first(roots: list[Outcome]) -> str:
    """'vlb_terms in 31 cases, sample in 2 cases'."""
    counts: dict[str, int] = {}
    for outcome in roots:
        counts[outcome.check.quantity] = counts.get(outcome.check.quantity, 0) + 1
    most = sorted(counts, key=lambda name: -counts[name])
    return ", ".join(f"{name} in {counts[name]} case{'s' * (counts[name] > 1)}" for name in most)


def by_quantity(report: Report) -> Iterator[tuple[str, int, int, int]]:
    """Of each quantity how many passed, failed, were skipped."""
    for name in QUANTITIES:
        statuses = [outcome.status for outcome in report.outcomes if outcome.check.quantity == name]
        yield name, statuses.count(PASSED), statuses.count(FAILED), statuses.count(SKIPPED)


def who(report: Report) -> str:
    """Name, version, language and precision."""
    who = report.implementation
    return " ".join(f"{who.name} {who.version} ({who.language}, {who.precision})".split())


def _finite(value: float) -> float | str:
    """JSON has no infinities."""
    return value if math.isfinite(value) else {"inf": "Infinity", "-inf": "-Infinity"}.get(repr(value), "NaN")


def _e(text: str) -> str:
    return html.escape(text, quote=True)


def _xml(text: str) -> str:
    """Without the control characters that XML cannot say."""
    return "".join(c if c >= " " or c in "\n\t" else "?" for c in text)
