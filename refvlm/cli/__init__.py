"""The command line: one module per command; each parses, calls the library, prints and exits."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from ..checks import one_line
from ..version import __version__
from . import answer, bench, check, conform, demo, evaluate, fit, lesson, moments, sample, smoke, vectors
from .failure import BAD_INPUT, INTERRUPTED, NO_OUTPUT, OK, Failure, silence_stdout
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
  73   the output cannot be written
  130  interrupted

Results go to standard output, messages and progress to standard error.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: sys.argv) and return the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    arguments, unknown = _parser().parse_known_args(words)
    if unknown:
        unmarked = "command" in arguments and "--" not in words
        hint = "; put -- before COMMAND, so that its options are its own" if unmarked else ""
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
    try:
        if sys.stdout is None:
            raise Failure("standard output is closed", NO_OUTPUT)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        silence_stdout()
        return OK
    except Failure as error:
        return _fail(error, error.code)
    except OSError as error:  # whatever concerns a file has become a Failure by now
        silence_stdout()
        return _fail(OSError(f"standard output cannot be written: {error.strerror or error}"), NO_OUTPUT)
    except (ValueError, TypeError, MemoryError) as error:
        return _fail(error, BAD_INPUT)


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
