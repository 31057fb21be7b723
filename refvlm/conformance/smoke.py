"""Asks a program three questions, shows every line, and explains what is wrong with the conversation itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .conversation import BrokenError, Conversation
from .examination import introduce, judge, request
from .messages import read_answer
from .tensors import MalformedError
from .vectors import Check, checks

_LONGEST_SHOWN = 200


@dataclass
class Smoke:
    """lines: what was said, and what is to be said about it.

    wrong: None where the conversation is sound, else "answer" (not one of the protocol's), or a kind of BrokenError.
    """

    lines: list[str] = field(default_factory=list)
    wrong: str | None = None


def smoke(command: Sequence[str], limit: float) -> Smoke:
    """Sends start, three questions about what is offered, and stop."""
    said = Smoke()

    def log(direction: str, line: str) -> None:
        shown = line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}... ({len(line)} characters)"
        said.lines.append(f"{direction} {shown}")

    def remark(text: str, wrong: str | None = None) -> None:
        said.lines.append(f"   {'WRONG: ' if wrong else ''}{text}")
        said.wrong = wrong or said.wrong

    try:
        with Conversation(command, limit, log) as talk:
            implementation, offered = introduce(talk)
            many = "quantity" if len(offered) == 1 else "quantities"
            remark(f"introduced itself; offers {len(offered)} {many}, in {implementation.precision}")
            chosen = _three(offered)
            if not chosen:
                remark("offers nothing that could be asked for; put names into quantities", "answer")
            for seq, check in enumerate(chosen, start=2):
                _ask(talk, check, seq, implementation.precision, remark)
            talk.stop()
            remark("ended by itself after stop")
    except BrokenError as error:
        remark(f"{error.kind}: {error}", error.kind)
        remark(_ADVICE[error.kind])
    said.lines.append("something is wrong" if said.wrong else "the conversation is sound")
    return said


_ADVICE = {
    "hang": "does it read line by line, and flush its output after every line? does it end at stop?",
    "crash": "what it wrote to standard error stands above; `refvlm answer` shows how an answer looks",
    "garbage": "print nothing but answers; messages belong on standard error; see protocol.md of `refvlm vectors DIR`",
    "missing": "the program is what stands first after --",
}


def _three(offered: tuple[str, ...]) -> list[Check]:
    """Returns two sound questions from different cases, and one that must be refused."""
    sound = [check for check in checks(offered) if check.error is None]
    other = [check for check in sound if check.case.id == "tanh-one"]
    refused = [check for check in checks(offered) if check.error is not None]
    return [*sound[:1], *other[-1:], *refused[:1]]


def _ask(talk: Conversation, check: Check, seq: int, precision: str, remark: Callable[..., None]) -> None:
    message = talk.ask(request(check, seq))
    try:
        outcome = judge(check, read_answer(message, seq), precision)
    except MalformedError as error:
        remark(f"{check.id}: not an answer: {error}", "answer")
        return
    if outcome.status == "failed" and check.error is not None:
        remark(f"{check.id}: {outcome.message}; the question is wrong on purpose: {check.case.why}", "answer")
    elif outcome.status == "failed":
        remark(f"{check.id}: an answer, though not the right one: {outcome.message}")
    else:
        remark(f"{check.id}: {outcome.status}" + (f" ({outcome.message})" if outcome.message else ""))
