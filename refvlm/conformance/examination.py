"""Examines an implementation, in a conversation or by its file: judges every answer, explains the wrong ones."""

from __future__ import annotations

import fnmatch
import itertools
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .comparison import Mismatch, compare
from .conversation import BrokenError, Conversation
from .diagnosis import Explanation, Imprecision, diagnose
from .fingerprints import Parts, Suspect, as_parts, distance, suspects
from .messages import (
    LONGEST_LINE,
    PROTOCOL,
    Answer,
    Implementation,
    OutOfStepError,
    Refused,
    Skipped,
    parse,
    read_answer,
    read_header,
    read_introduction,
    read_outcome,
)
from .quantities import parts_first
from .tensors import MalformedError, encode, json_kind
from .vectors import Check, Network, cases, checks

Progress = Callable[[int, int], None]

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class Outcome(NamedTuple):
    """The result of one check. root: the check of the same case that went wrong first, if that is another one.

    got: numbers that are wrong. suspects: mistakes that lead to the same numbers; of a report, those that it names.
    """

    check: Check
    status: str
    message: str = ""
    mismatch: Mismatch | None = None
    suspects: Sequence[Suspect] = ()
    root: str | None = None
    got: Parts | None = None


@dataclass
class Report:
    """The results of all checks. broken: why the conversation broke off, if it did. ended: checks on which the
    program ended or hung, and was started again."""

    implementation: Implementation
    outcomes: list[Outcome] = field(default_factory=list)
    broken: BrokenError | None = None
    ended: list[Check] = field(default_factory=list)
    explanations: list[Explanation] = field(default_factory=list)
    imprecision: Imprecision | None = None
    seconds: float = 0.0

    def count(self, status: str) -> int:
        """Returns how many checks have this status."""
        return sum(outcome.status == status for outcome in self.outcomes)

    def right(self, refusals: bool) -> tuple[int, int]:
        """Returns how many numbers, or refusals, are right, and how many were checked."""
        statuses = [o.status for o in self.outcomes if (o.check.expected is None) == refusals]
        return statuses.count(PASSED), statuses.count(PASSED) + statuses.count(FAILED)

    @property
    def checked(self) -> int:
        """The number of checks that were answered: passed or failed."""
        return self.count(PASSED) + self.count(FAILED)

    @property
    def verdict(self) -> str:
        """ "conforms", "differs", "inconclusive" (nothing was checked), "broken" (it crashed or hung)."""
        if self.broken is not None:
            return "differs" if self.broken.kind == "garbage" else "broken"
        if self.count(FAILED):
            return "differs"
        return "conforms" if self.checked else "inconclusive"


def request(check: Check, seq: int) -> dict[str, Any]:
    """Returns the message that asks for a check."""
    message: dict[str, Any] = {
        "seq": seq,
        "op": "evaluate",
        "case": check.case.id,
        "quantity": check.quantity,
        "model": _network(check.model),
        "inputs": {name: encode(value) for name, value in check.inputs.items()},
    }
    if check.posterior is not None:
        message["posterior"] = _network(check.posterior)
    return message


def _network(network: Network) -> dict[str, Any]:
    parameters = {name: encode(value) for name, value in network.parameters.items()}
    return {"activation": network.activation, "parameters": parameters}


class Chosen(NamedTuple):
    """What is asked. only: patterns of CASE/QUANTITY, such as "linear/*". known: patterns of those that are known to
    fail, strictly: one that passes fails. most_failures: after so many it is over."""

    only: Sequence[str] = ("*",)
    known: Sequence[str] = ()
    most_failures: int | None = None


EVERYTHING = Chosen()


def converse(
    command: Sequence[str], limit: float, chosen: Chosen = EVERYTHING, progress: Progress | None = None
) -> Report:
    """Starts a program, asks it everything it offers, and judges it. BrokenError only if it does not introduce itself.

    A program that ends on a question, or hangs, has failed that one, and is started again for the rest, a few times.
    """
    with ExitStack() as held:
        talk, (implementation, offered) = _begun(held, command, limit)
        numbers = itertools.count(2)

        def ask(check: Check) -> Answer:
            seq = next(numbers)
            return read_answer(talk.ask(request(check, seq)), seq)

        def again() -> None:
            nonlocal talk, numbers
            talk.kill()
            talk, introduction = _begun(held, command, limit)
            if introduction != (implementation, offered):
                raise BrokenError("garbage", "introduced itself differently when it was started again")
            numbers = itertools.count(2)

        report = examine(implementation, offered, ask, chosen, progress, again)
        if report.broken is None:
            try:
                talk.stop()
            except BrokenError as error:
                report.broken = error
    return report


def _begun(
    held: ExitStack, command: Sequence[str], limit: float
) -> tuple[Conversation, tuple[Implementation, tuple[str, ...]]]:
    talk = held.enter_context(Conversation(command, limit))
    return talk, introduce(talk)


def introduce(talk: Conversation) -> tuple[Implementation, tuple[str, ...]]:
    """Sends start, and returns who answers and which quantities are offered."""
    message = talk.ask({"seq": 1, "op": "start", "protocol": PROTOCOL})
    try:
        return read_introduction(message, 1)
    except MalformedError as error:
        raise BrokenError("garbage", f"the answer to start: {error}") from None


def answers_in(lines: Iterable[bytes]) -> tuple[Implementation, tuple[str, ...], Mapping[str, Answer]]:
    """Reads a file of answers: returns who answers, what is offered, and the answers by check id.

    Raises MalformedError, naming the line.
    """
    answers: dict[str, Answer] = {}
    header: tuple[Implementation, tuple[str, ...]] | None = None
    for number, line in enumerate(lines, start=1):
        try:
            if len(line) > LONGEST_LINE:
                raise MalformedError("longer than any answer")
            message = parse(line)
            if header is None:
                header = read_header(message)
                continue
            read = _read_line(message, header[1])
        except MalformedError as error:
            raise MalformedError(f"line {number}: {error}") from None
        if read is None:
            continue
        identity, answer = read
        if identity in answers:
            raise MalformedError(f"line {number}: {identity} was answered before; one line for each check")
        answers[identity] = answer
    if header is None:
        raise MalformedError('no lines; the first is {"implementation":{...},"quantities":[...]}')
    return *header, answers


def _read_line(message: dict[str, Any], offered: tuple[str, ...]) -> tuple[str, Answer] | None:
    """Returns the check and its answer; None for a quantity that is not offered, which later vectors may ask for."""
    case, quantity = message.pop("case", None), message.pop("quantity", None)
    if not isinstance(case, str) or case not in cases():
        raise MalformedError(f"case: got {json_kind(case)}, wanted the id of a case, such as 'linear'")
    if not isinstance(quantity, str) or quantity not in cases()[case].checks:
        raise MalformedError(f"quantity: case {case} does not ask for {json_kind(quantity)}")
    if quantity not in offered:
        return None
    return f"{case}/{quantity}", read_outcome(message)


def examine(
    implementation: Implementation,
    offered: tuple[str, ...],
    ask: Callable[[Check], Answer],
    chosen: Chosen = EVERYTHING,
    progress: Progress | None = None,
    again: Callable[[], None] | None = None,
) -> Report:
    """Asks for every check that is offered and chosen; the others count as skipped.

    ask may raise MalformedError (the check has failed) and BrokenError or OutOfStepError (it is over, unless `again`
    starts it once more).
    """
    start = time.perf_counter()
    report = Report(implementation)
    asked = [check for check in checks(offered) if _matches(check, chosen.only)]
    for done, check in enumerate(asked):
        outcome, broken = _asked(check, ask, implementation.precision)
        report.outcomes.append(_strictly(outcome, chosen.known))
        if broken is not None and not _started_again(report, check, broken, again):
            report.broken = broken
        reason = "it was over" if report.broken is not None else _enough(report, chosen)
        if reason:
            report.outcomes += [Outcome(later, SKIPPED, f"not asked: {reason}") for later in asked[done + 1 :]]
            break
        if progress is not None:
            progress(done + 1, len(asked))
    answered = {outcome.check.id for outcome in report.outcomes}
    report.outcomes += [
        Outcome(check, SKIPPED, "not chosen" if check.quantity in offered else "not offered")
        for check in checks()
        if check.id not in answered
    ]
    _explain(report)
    report.seconds = time.perf_counter() - start
    return report


_MOST_CRASHES, _MOST_HANGS = 8, 2
"""Times that a program is started again: hanging takes the time limit each time."""


def _asked(check: Check, ask: Callable[[Check], Answer], precision: str) -> tuple[Outcome, BrokenError | None]:
    """The outcome of a question, and why the conversation cannot go on."""
    try:
        return judge(check, ask(check), precision), None
    except OutOfStepError as error:
        return Outcome(check, FAILED, str(error)), BrokenError("garbage", f"{check.id}: {error}")
    except MalformedError as error:
        return Outcome(check, FAILED, f"not an answer: {error}"), None
    except BrokenError as error:
        return Outcome(check, FAILED, str(error)), BrokenError(error.kind, f"{check.id}: {error}")


def _started_again(report: Report, check: Check, broken: BrokenError, again: Callable[[], None] | None) -> bool:
    most = _MOST_HANGS if broken.kind == "hang" else _MOST_CRASHES
    if again is None or len(report.ended) >= most:
        return False
    report.ended.append(check)
    try:
        again()
    except BrokenError:
        return False
    return True


def _strictly(outcome: Outcome, known: Sequence[str]) -> Outcome:
    """A known failure counts as skipped, and as failed where it passes."""
    if not _matches(outcome.check, known) or outcome.status == SKIPPED:
        return outcome
    if outcome.status == PASSED:
        return Outcome(outcome.check, FAILED, "passes, though it is listed as known to fail; take it off the list")
    return Outcome(outcome.check, SKIPPED, f"known to fail: {outcome.message}")


def _enough(report: Report, chosen: Chosen) -> str:
    if chosen.most_failures is not None and report.count(FAILED) >= chosen.most_failures:
        return f"{chosen.most_failures} failures were enough"
    return ""


def _matches(check: Check, only: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(check.id, pattern) for pattern in only)


def judge(check: Check, answer: Answer, precision: str) -> Outcome:
    """Judges one answer: passed, failed or skipped."""
    if isinstance(answer, Skipped):
        return Outcome(check, SKIPPED, answer.reason)
    if check.expected is None:
        if not isinstance(answer, Refused):
            return Outcome(check, FAILED, f"gave a result where the error {check.error!r} must come")
        if answer.code != check.error:
            return Outcome(check, FAILED, f"gave the error {answer.code!r} ({answer.message}), wanted {check.error!r}")
        return Outcome(check, PASSED)
    if isinstance(answer, Refused):
        if answer.code == "unsupported":
            return Outcome(check, SKIPPED, f"unsupported: {answer.message}")
        return Outcome(check, FAILED, f"refused a sound question: {answer.code}: {answer.message}")
    mismatch = compare(check.expected, answer.value, precision)
    if mismatch is None:
        return Outcome(check, PASSED)
    return Outcome(check, FAILED, in_words(mismatch), mismatch, got=as_parts(answer.value))


def suspected(outcome: Outcome, precision: str) -> list[Suspect]:
    """Returns the mistakes that fit one wrong answer by itself."""
    return [] if outcome.got is None else suspects(outcome.check, outcome.got, precision)


def in_words(mismatch: Mismatch) -> str:
    """Describes the worst entry on one line."""
    part = f"{mismatch.part}: " if mismatch.part else ""
    if mismatch.index is None:
        return part + mismatch.what
    where = ", ".join(map(str, mismatch.index))
    ulps = f"{mismatch.ulps:.2g} ulps, " if mismatch.ulps < 1e300 else ""
    return (
        f"{part}entry [{where}]: got {mismatch.got:.17g}, wanted {mismatch.expected:.17g}; off by "
        f"{mismatch.difference:.2g} ({ulps}allowed {mismatch.allowed:.2g}); {mismatch.wrong} of {mismatch.count} wrong"
    )


def _explain(report: Report) -> None:
    """Adds to a report where each case went wrong first, and which mistakes explain the failures."""
    failed = {outcome.check.id for outcome in report.outcomes if outcome.status == FAILED}
    report.outcomes = [
        outcome._replace(root=_root(outcome.check, failed)) if outcome.status == FAILED else outcome
        for outcome in report.outcomes
    ]
    precision = report.implementation.precision
    wrong = {o.check: o.got for o in report.outcomes if o.got is not None}
    right = [o.check for o in report.outcomes if o.status == PASSED and o.check.expected is not None]
    diagnosis = diagnose(wrong, right, precision)
    report.explanations, report.imprecision = diagnosis.explanations, diagnosis.imprecision
    report.outcomes = [
        outcome._replace(suspects=_named(outcome, diagnosis.by_check, precision)) for outcome in report.outcomes
    ]


def _named(outcome: Outcome, by_check: Mapping[Check, Explanation], precision: str) -> list[Suspect]:
    """Of what the report names, that which explains this answer."""
    explanation = by_check.get(outcome.check)
    if explanation is None or outcome.got is None:
        return []
    within = [(m, distance(m, outcome.check, outcome.got, precision)) for m in (explanation.mistake, *explanation.also)]
    return [Suspect(mistake, 2.0**-24 if close is None else close) for mistake, close in within]


def _root(check: Check, failed: set[str]) -> str | None:
    """Returns the id of the first failed check among those of the quantities that this one is made of."""
    parts = (f"{check.case.id}/{quantity}" for quantity in parts_first([check.quantity]))
    return next((part for part in parts if part in failed and part != check.id), None)
