"""Where a command's sums are computed, and the file that keeps them: --workers, --executor, --checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager

from ..checks import one_line
from ..enumeration import executors
from ..enumeration.engine import Workers
from ..enumeration.remote import ExecutorError, width
from .arguments import add_workers
from .failure import UNAVAILABLE, USAGE, Failure


def add_engine(parser: argparse.ArgumentParser) -> None:
    """--workers and --executor."""
    add_workers(parser)
    parser.add_argument(
        "--executor",
        type=_executor,
        metavar="WHERE",
        help=f"{executors.FORMS}: where the sums are computed, instead of --workers; the results have the same bits "
        "anywhere (refvlm/enumeration/README.md)",
    )


def _executor(text: str) -> executors.Wanted:
    try:
        return executors.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error).removeprefix("executor: ")) from None


@contextmanager
def engine(arguments: argparse.Namespace) -> Iterator[Workers]:
    """What --workers and --executor name, for as long as the block."""
    wanted: executors.Wanted | None = arguments.executor
    if wanted is None:
        yield arguments.workers
        return
    if arguments.workers is not None:
        raise Failure("--workers and --executor: got both, wanted at most one", USAGE)
    with ExitStack() as stack:
        try:
            executor = stack.enter_context(executors.opened(wanted))
        except (ConnectionError, ExecutorError) as error:
            raise Failure(one_line(error), UNAVAILABLE) from None
        try:
            yield wanted.workers if executor is None else executor
        except ExecutorError as error:
            raise Failure(one_line(error), UNAVAILABLE) from None


def sharing(where: Workers) -> tuple[int | None, int]:
    """(threads here, how many times as fast that is): what a prediction measures, and what it is divided by."""
    return (1, width(where)) if isinstance(where, Executor) else (where, 1)
