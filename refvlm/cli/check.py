"""`refvlm check`: a file of another implementation's answers."""

from __future__ import annotations

import argparse
from functools import partial
from typing import IO

from ..conformance.examination import answers_in, examine
from ..conformance.messages import LONGEST_LINE, Answer
from ..conformance.tensors import MalformedError
from ..conformance.vectors import Check
from .examined import EXIT_CODES, add_reports, check_reports, chosen, finish
from .failure import USAGE, Failure, standard_input

_DESCRIPTION = """\
Judge ANSWERS, JSON lines as protocol.md describes them; `refvlm vectors DIR` writes it, with the cases.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "check",
        help="judge a file of answers to the conformance cases",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("answers", metavar="ANSWERS", help="a file of JSON lines, or - for standard input")
    add_reports(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judges the file."""
    check_reports(arguments)
    try:
        if arguments.answers == "-":
            return _judge(arguments, standard_input())
        with open(arguments.answers, "rb") as file:
            return _judge(arguments, file)
    except MalformedError as error:
        raise Failure(f"{arguments.answers}: {error}", USAGE) from None
    except OSError as error:
        if error.filename != arguments.answers:
            raise
        raise Failure(f"{arguments.answers}: cannot be read: {error.strerror}", USAGE) from None


def _judge(arguments: argparse.Namespace, file: IO[bytes]) -> int:
    implementation, offered, answers = answers_in(iter(partial(file.readline, LONGEST_LINE + 1), b""))

    def look_up(check: Check) -> Answer:
        if check.id not in answers:
            raise MalformedError(f"there is none; {check.quantity} is offered, so every case that asks needs a line")
        return answers[check.id]

    return finish(arguments, examine(implementation, offered, look_up, chosen(arguments)))
