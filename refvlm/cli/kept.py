"""`refvlm evaluate --checkpoint`: sums that go on, and what they have proved so far."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .. import interrupts
from ..enumeration.journal import Journal
from ..inference.kept import journal_of
from ..inference.so_far import SumSoFar, log_marginal_so_far
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Bits
from .arguments import Rows
from .failure import OK, USAGE, Failure, keeping, reading
from .inputs import open_data, selected
from .report import print_json

_SUMMING_UP = 3.0
"""Seconds in which to say what has been proved, when a signal has come."""


def check(arguments: argparse.Namespace, bracketed: bool) -> None:
    """Refuse what has no sum to keep."""
    if arguments.so_far and arguments.checkpoint is None:
        raise Failure("--so-far: got no --checkpoint, wanted the FILE that a sum is kept in", USAGE)
    if arguments.checkpoint is not None and bracketed:
        raise Failure("--checkpoint: got it for brackets, which are drawn; wanted it where log p(x) is summed", USAGE)


@contextmanager
def journal(path: str | None, model: BernoulliLVM, posterior: Posterior | None) -> Iterator[Journal | None]:
    """The open file of --checkpoint, if there is one."""
    if path is None:
        yield None
        return
    with keeping(path):
        opened = journal_of(path, model, posterior)
    with opened:
        yield opened


@contextmanager
def told(
    journal: Journal | None, model: BernoulliLVM, posterior: Posterior | None, x: Bits, first: int
) -> Iterator[None]:
    """Have an interrupt say what has been proved of these rows, from row `first` on, and how to go on."""
    if journal is None:
        yield
        return
    try:
        with keeping(journal.path):
            yield
    except KeyboardInterrupt:
        with interrupts.finishing(_SUMMING_UP):
            found = log_marginal_so_far(model, x, journal.path, posterior=posterior)
            how = f"{_part(found)} of the sum is in {journal.path}; the same command goes on from there"
            if np.isfinite(found.lower[0]):
                how += f"; proved so far: log p(x) >= {found.lower[0]:.6f} for row {first} (others by --so-far)"
            raise KeyboardInterrupt(how) from None


def show(arguments: argparse.Namespace, model: BernoulliLVM, posterior: Posterior | None, shown: Rows) -> int:
    """The lower bounds that the file proves, of the rows that are shown and have begun."""
    printed = 0
    if not arguments.json:
        print(f"{arguments.checkpoint}: what is kept of the sums for log p(x) proves, in nats\n")
        print(f"{'row':>8} {'log p(x) >=':>15} {'summed':>8}")
    with open_data(arguments.data, model.observed, arguments.chunk) as reader:
        for number, x in selected(reader, None):
            with reading(arguments.checkpoint):
                found = _found(arguments.checkpoint, model, posterior, x, first=number == 0)
            if found is None:
                break
            for row, lower in enumerate(found.lower.tolist(), start=number):
                if shown is None or row in shown:
                    printed += 1
                    _show(row, lower, found, arguments.json)
    if not printed and not arguments.json:
        print("no rows")
    return OK


def _found(path: str, model: BernoulliLVM, posterior: Posterior | None, x: Bits, first: bool) -> SumSoFar | None:
    """None for rows, beyond the first ones, that have not begun."""
    try:
        return log_marginal_so_far(model, x, path, posterior=posterior)
    except ValueError:
        if first:
            raise
        return None


def _show(row: int, lower: float, found: SumSoFar, as_json: bool) -> None:
    if as_json:
        print_json({"row": row, "log_px_lower": lower, "done": found.done})
    else:
        print(f"{row:>8} {lower:>15.6f} {_part(found):>8}")


def _part(found: SumSoFar) -> str:
    return f"{100 * found.done:.1f} %"
