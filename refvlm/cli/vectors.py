"""`refvlm vectors`: the conformance cases, for readers in any language."""

from __future__ import annotations

import argparse

from ..conformance.vectors import archive, cases, version, write_vectors
from ..storage import atomic_write
from .failure import OK, Failure, writing
from .messages import say

_DESCRIPTION = """\
Write the conformance cases: models, inputs, every intermediate and the expected values, computed in sixty digits, with
a tolerance for each. As JSON (cases/ID.json) and as plain text for readers without a JSON parser (text/ID.txt), with
the schemas and protocol.md, which explains it all.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "vectors", help="write the conformance cases, for an implementation in any language", description=_DESCRIPTION
    )
    parser.add_argument("folder", metavar="DIR", nargs="?", help="a folder, made if it is not there")
    parser.add_argument("--archive", metavar="FILE", help="write them as one zip file as well, or instead")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Writes the cases."""
    if arguments.folder is None and arguments.archive is None:
        raise Failure("vectors: wanted DIR, --archive FILE, or both; see refvlm vectors --help", 2)
    if arguments.folder is not None:
        with writing(arguments.folder):
            written = write_vectors(arguments.folder)
        total = sum(len(case.checks) for case in cases().values())
        found = f"vectors {version()}: {len(cases())} cases, {total} checks, {len(written)} files"
        say(f"{found} in {arguments.folder}; begin with protocol.md")
    if arguments.archive is not None:
        with writing(arguments.archive), atomic_write(arguments.archive) as file:
            file.write(archive())
        say(f"wrote {arguments.archive}, vectors {version()}")
    return OK
