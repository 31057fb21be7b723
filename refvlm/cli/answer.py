"""`refvlm answer`: refvlm at the other end of the conversation."""

from __future__ import annotations

import argparse
import json
from functools import partial
from typing import Any

from ..conformance.messages import LONGEST_REQUEST
from ..conformance.tensors import MalformedError
from .failure import OK, USAGE, Failure, standard_input

_DESCRIPTION = """\
Answer requests of the conformance protocol, read from standard input, on standard output: a reference to compare a
conversation with, and an oracle for any model that another program cares to ask about.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "answer", help="be the other program: read such questions, write refvlm's answers", description=_DESCRIPTION
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Answers the requests on standard input."""
    from ..conformance.server import answer_lines  # SciPy comes with it, which --help can do without

    def write(message: dict[str, Any]) -> None:
        print(json.dumps(message, separators=(",", ":"), allow_nan=False), flush=True)

    try:
        answer_lines(iter(partial(standard_input().readline, LONGEST_REQUEST + 1), b""), write)
    except MalformedError as error:
        raise Failure(f"standard input: {error}", USAGE) from None
    return OK
