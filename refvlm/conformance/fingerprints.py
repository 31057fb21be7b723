"""Whether a mistake explains a wrong answer: its own answer to the same question is the same number.

A mistake is offered for an answer only where its own answer is wrong, too, and what came is far nearer to it than to
the right one. For a single answer several may fit (without a hidden layer some are the same); over all answers
`diagnosis.py` decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np

from ..types import Floats
from .comparison import allowed, compare
from .mistakes import CATALOGUE, Mistake, SinglePrecision, remembered
from .problems import problem_of
from .vectors import Check

Parts = dict[str, Floats]

_CLOSE = {"float64": 2.0**-38, "float32": 2.0**-14}
"""Relative to the largest entry: a wrong answer has a condition of its own, which nobody has worked out."""
_NEARER = 16.0
"""How much nearer to the mistake's answer than to the right one."""


class Suspect(NamedTuple):
    """A mistake whose answer equals the one that came, and how closely: the largest relative difference."""

    mistake: type[Mistake]
    within: float


def as_parts(value: object) -> Parts:
    """Returns an answer as arrays by name; a single array has the name ""."""
    parts = value if isinstance(value, Mapping) else {"": value}
    return {str(name): np.asarray(part, dtype=np.float64) for name, part in parts.items()}


@remembered
def mistaken(mistake: type[Mistake], check: Check) -> Parts:
    """Returns what a program with this mistake answers."""
    return as_parts(mistake(problem_of(check)).answer())


def is_wrong(mistake: type[Mistake], check: Check, precision: str) -> bool:
    """Whether a program with this mistake fails this check."""
    assert check.expected is not None
    return compare(check.expected, mistaken(mistake, check), precision) is not None


def suspects(check: Check, got: Parts, precision: str, mistakes: Iterable[type[Mistake]] = CATALOGUE) -> list[Suspect]:
    """Returns the mistakes that fit one wrong answer; single precision is a matter of all answers, not of one."""
    fitting = []
    for mistake in mistakes:
        within = None if mistake is SinglePrecision else distance(mistake, check, got, precision)
        if within is not None:
            fitting.append(Suspect(mistake, within))
    return fitting


M = TypeVar("M", bound=Mistake)


@remembered
def in_single(mistake: type[M]) -> type[M]:
    """A program with this mistake that computes in single precision."""
    return type(mistake.__name__, (mistake,), {"dtype": np.float32})


def distance(mistake: type[Mistake], check: Check, got: Parts, precision: str) -> float | None:
    """Returns the largest relative difference to the mistake's own answer, or None if it does not fit.

    A program that claims single precision is also compared with the mistake made in it.
    """
    programs = [mistake] if precision == "float64" else [mistake, in_single(mistake)]
    found = [
        within
        for program in programs
        if (within := _distance(program, check, got, precision)) is not None and is_wrong(program, check, precision)
    ]
    return min(found, default=None)


def _distance(program: type[Mistake], check: Check, got: Parts, precision: str) -> float | None:
    if not is_near(program, check, got, precision) or not is_nearer(program, check, got):
        return None
    worst = 0.0
    for name, there in mistaken(program, check).items():
        relative = _difference(got[name], there) / np.maximum(np.abs(there), 1e-300)
        worst = max(worst, float(relative[np.isfinite(there)].max(initial=0.0)))
    return worst


def is_nearer(program: type[Mistake], check: Check, got: Parts) -> bool:
    """Whether an answer is far nearer to this program's, which has the same shape, than to the right one."""
    assert check.expected is not None
    off, right = 0.0, 0.0
    for name, there in mistaken(program, check).items():
        expected = check.expected.get(name)
        off = max(off, float(_difference(got[name], there).max(initial=0.0)))
        if expected is None or expected.value.shape != there.shape:
            return True
        right = max(right, float(_difference(got[name], expected.value).max(initial=0.0)))
    return right >= _NEARER * off


def is_near(program: type[Mistake], check: Check, got: Parts, precision: str) -> bool:
    """Whether an answer is what this program answers, up to rounding in this precision."""
    assert check.expected is not None
    predicted = mistaken(program, check)
    if predicted.keys() != got.keys():
        return False
    for name, there in predicted.items():
        here, expected = got[name], check.expected.get(name)
        if here.shape != there.shape:
            return False
        scale = expected.scale if expected is not None and expected.scale.shape == there.shape else np.zeros(())
        largest = float(np.abs(there[np.isfinite(there)]).max(initial=0.0))
        if not (_difference(here, there) <= allowed(scale, precision) + _CLOSE[precision] * largest).all():
            return False
    return True


def _difference(a: Floats, b: Floats) -> Floats:
    """|a - b|: 0 for equal infinities and for two NaN, inf for one NaN."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = np.abs(a - b)
    difference[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    difference[np.isnan(difference)] = np.inf
    return np.asarray(difference)
