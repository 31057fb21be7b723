"""The command line: one module per command; each parses, calls the library, prints and exits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..checks import one_line
from ..interrupts import Caught
from ..version import __version__
from . import answer, bench, check, conform, demo, evaluate, fit, lesson, moments, sample, smoke, vectors
from .failure import BAD_INPUT, NO_OUTPUT, OK, Failure, silence_stdout
from .messages import say

__all__ = ["main"]

_EPILOG = """\
exit codes:
  0    done (also where the reader of standard output stopped early)
  1    done, and log p(x) = VLB + KL did not hold, or another framework (bench) or program (conform, check) disagreed
  2    the command line is wrong; in check, the file of answers is
  3    in conform and check: nothing was checked
  4    in conform and smoke: the other program crashed or hung
  65   the contents of MODEL or DATA are wrong, do not fit together, or are too large to compute
  66   MODEL or DATA cannot be found or read
  69   the workers of --executor cannot be reached, are gone, or would give other bits
  71   the system allows too little memory (ulimit -v)
  73   the output cannot be written
  129  ended by SIGHUP
  130  interrupted
  143  ended by SIGTERM

Results go to standard output, messages and progress to standard error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: sys.argv) and return the exit code."""
    caught = Caught()
    try:
        with caught:
            return _run(list(sys.argv[1:] if argv is None else argv))
    except BaseException as error:
        if caught.number or isinstance(error, KeyboardInterrupt):  # whatever the interrupt has become on its way
            return _interrupted(caught, error)
        return _failed(error)


def _run(words: list[str]) -> int:
    arguments, unknown = _parser().parse_known_args(words)
    if unknown:
        unmarked = "command" in arguments and "--" not in words
        hint = "; put -- before COMMAND, so that its options are its own" if unmarked else ""
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    if sys.stdout is None:
        raise Failure("standard output is closed", NO_OUTPUT)
    code: int = arguments.run(arguments)
    sys.stdout.flush()
    return code


def _interrupted(caught: Caught, error: BaseException) -> int:
    """Say so, with what a command has to add: where the state is, or why it is nowhere."""
    _, words = caught.ending
    more = f"; {one_line(error)}" if isinstance(error, (Failure, KeyboardInterrupt)) and error.args else ""
    caught.say(lambda: say(words + more))
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        silence_stdout()
    return caught.leave()


def _failed(error: BaseException) -> int:
    """The exit code of an error, which is said; what is nobody's fault but ours is raised."""
    if isinstance(error, BrokenPipeError):
        silence_stdout()
        return OK
    if isinstance(error, Failure):
        return _fail(error, error.code)
    if isinstance(error, OSError):  # whatever concerns a file has become a Failure by now
        silence_stdout()
        return _fail(OSError(f"standard output cannot be written: {error.strerror or error}"), NO_OUTPUT)
    if isinstance(error, (ValueError, TypeError, MemoryError)):
        return _fail(error, BAD_INPUT)
    raise error


class _Parser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"refvlm: error: {message}; see {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="refvlm",
        description="The exact Bernoulli latent variable model, to check other implementations against.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"refvlm {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (demo, fit, evaluate, moments, sample, lesson, bench, vectors, conform, check, smoke, answer):
        command.add_parser(commands)
    for own in commands.choices.values():
        own.set_defaults(parser=own)
    return parser


def _fail(error: Exception, code: int) -> int:
    say(f"error: {one_line(error)}")
    return code
