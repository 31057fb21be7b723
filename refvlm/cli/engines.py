"""Where a command's sums are computed, and the file that keeps them: --workers, --executor, --checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import NamedTuple

from ..checks import one_line
from ..enumeration import executors
from ..enumeration.remote import ExecutorError, width
from .arguments import add_workers
from .failure import UNAVAILABLE, USAGE, Failure


class Where(NamedTuple):
    """Threads, or an executor: two arguments of every function that enumerates."""

    workers: int | None = None
    executor: Executor | None = None


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
def engine(arguments: argparse.Namespace) -> Iterator[Where]:
    """What --workers and --executor name, for as long as the block."""
    wanted: executors.Wanted | None = arguments.executor
    if wanted is None:
        yield Where(arguments.workers)
        return
    if arguments.workers is not None:
        raise Failure("--workers and --executor: got both, wanted at most one", USAGE)
    try:
        with executors.opened(wanted) as executor:
            yield Where(wanted.workers if executor is None else None, executor)
    except (ConnectionError, ExecutorError) as error:
        raise Failure(one_line(error), UNAVAILABLE) from None


def sharing(where: Where) -> tuple[int | None, int]:
    """(threads here, how many times as fast that is): what a prediction measures, and what it is divided by."""
    return (where.workers, 1) if where.executor is None else (1, width(where.executor))
