"""`refvlm smoke`: three questions, and what is wrong with the conversation itself."""

from __future__ import annotations

import argparse

from ..conformance.smoke import smoke
from .examined import EXIT_CODES, add_command, time_limit
from .failure import BROKEN, DIFFERS, OK, USAGE

_DESCRIPTION = """\
Start COMMAND, ask it three questions, show every line that is said, and explain what is wrong with the conversation, if
anything is. Whether the numbers are right is another question, for `refvlm conform`.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "smoke",
        help="three questions, and what is wrong with the conversation itself",
        description=_DESCRIPTION,
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_command(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Asks three questions and prints the conversation."""
    said = smoke(arguments.command, time_limit(arguments))
    for line in said.lines:
        print(line)
    return {None: OK, "missing": USAGE, "hang": BROKEN, "crash": BROKEN}.get(said.wrong, DIFFERS)
