"""`refvlm conform`: every question of the conformance cases to another implementation."""

from __future__ import annotations

import argparse

from ..conformance.conversation import BrokenError
from ..conformance.examination import converse
from ..progress import ProgressBar
from .examined import EXIT_CODES, add_command, add_reports, check_reports, chosen, finish, time_limit
from .failure import BROKEN, DIFFERS, USAGE, Failure

_DESCRIPTION = """\
Start COMMAND, ask it questions on its standard input, and judge its answers. The protocol, one JSON object a line, is
in protocol.md, which `refvlm vectors DIR` writes.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "conform",
        help="ask another implementation every question of the conformance cases",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_command(parser)
    add_reports(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Asks every question."""
    check_reports(arguments)
    with ProgressBar("asking") as bar:
        try:
            report = converse(arguments.command, time_limit(arguments), chosen(arguments), bar)
        except BrokenError as error:  # before it had introduced itself: there is no report to write
            if error.kind == "missing":
                raise Failure(str(error), USAGE) from None
            said = f"{arguments.command[0]}: {error}; `refvlm smoke -- COMMAND...` explains the conversation"
            raise Failure(said, DIFFERS if error.kind == "garbage" else BROKEN) from None
    return finish(arguments, report)
