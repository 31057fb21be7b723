"""Draws from somebody's estimator, so many at a time, until tests have decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..progress import ProgressBar
from ..types import Floats
from .betting import InconclusiveError, Verdict
from .gradients import FreeVectors, Whitened

Drawer = Callable[[int], Any]

FIRST_BATCH = 1000


def conclusive(tests: Whitened | FreeVectors, most: int, label: str, batch: Callable[[int, int], Floats]) -> Verdict:
    """Draws until the tests have decided, and raises unless they pass; batch(done, count): so many more draws."""
    check_most(tests.plan_draws, most, tests.remark)
    with ProgressBar(f"draws of {label}") as bar:
        for done, count in batches(tests.plan_draws):
            verdict = tests.update(batch(done, count))
            bar(done + count, tests.plan_draws)
            if verdict is not None:
                break
        else:
            verdict = tests.conclude()
    if verdict.outcome == "PASS":
        return verdict
    if verdict.outcome == "INCONCLUSIVE":
        raise InconclusiveError(f"{label}: neither PASS nor FAIL after {verdict.draws} draws: {verdict.reason}")
    raise AssertionError(f"{label}: FAIL after {verdict.draws} draws: {verdict.reason}")


def batches(total: int) -> Any:
    """Yields (draws so far, size): a first batch, then each time as many as there have been."""
    done = 0
    while done < total:
        count = min(max(done, FIRST_BATCH), total - done, 1 << 20)
        if total < FIRST_BATCH:
            count = total
        yield done, count
        done += count


def check_most(draws: int, most: int, remark: str) -> None:
    if draws > most:
        raise ValueError(
            f"most: got {most}, and {draws} draws are planned{'; ' + remark if remark else ''}; ask for a larger "
            "delta, allow more, or use assert_unbiased_exact, which needs no draws but those of z"
        )
