"""Finds the mistake that explains a wrong answer: its own answer to the same question is the same number.

For a single answer several may fit (without a hidden layer some are the same); over all answers of an implementation
the one is named that explains most of the wrong ones without spoiling the right ones.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from ..types import Floats
from .comparison import allowed, compare
from .mistakes import MISTAKES, Mistake, SinglePrecision, name_of
from .problems import problem_of
from .vectors import Check, cases

Parts = dict[str, Floats]


class Suspect(NamedTuple):
    """A mistake whose answer equals the one that came, and how closely: the largest relative difference."""

    mistake: type[Mistake]
    within: float


class Explanation(NamedTuple):
    """A mistake, how many of the wrong answers it explains, and how many right ones it would have got wrong."""

    mistake: type[Mistake]
    explained: int
    spoiled: int

    @property
    def name(self) -> str:
        """The mistake's name, as in the cases' `catches`."""
        return name_of(self.mistake)


def as_parts(value: object) -> Parts:
    """Returns an answer as arrays by name; a single array has the name ""."""
    parts = value if isinstance(value, Mapping) else {"": value}
    return {str(name): np.asarray(part, dtype=np.float64) for name, part in parts.items()}


def mistaken(mistake: type[Mistake], check: Check) -> Parts:
    """Returns what a program with this mistake answers."""
    return _mistaken(name_of(mistake), check.id)


@functools.cache
def _mistaken(name: str, check_id: str) -> Parts:
    case, quantity = check_id.split("/")
    return as_parts(_BY_NAME[name](problem_of(cases()[case].checks[quantity])).answer())


_CLOSE = {"float64": 2.0**-38, "float32": 2.0**-14}
"""Relative to the largest entry: a wrong answer has a condition of its own, which nobody has worked out."""

_BY_NAME = {name_of(mistake): mistake for mistake in MISTAKES}


def suspects(check: Check, got: Parts, precision: str) -> list[Suspect]:
    """Returns all mistakes that fit one wrong answer; single precision, which fits loosely, last."""
    fitting = []
    for mistake in MISTAKES:
        within = _distance(mistake, check, got, precision)
        if within is not None:
            fitting.append(Suspect(mistake, within))
    return sorted(fitting, key=lambda suspect: suspect.mistake is SinglePrecision)


def explain(wrong: Mapping[str, list[Suspect]], right: list[Check], precision: str) -> list[Explanation]:
    """Returns the mistakes that fit any answer, most convincing first. wrong: by check id. right: passed checks."""
    counts: dict[type[Mistake], int] = {}
    for fitting in wrong.values():
        for suspect in fitting:
            counts[suspect.mistake] = counts.get(suspect.mistake, 0) + 1
    explanations = [
        Explanation(mistake, count, sum(_would_fail(mistake, check, precision) for check in right))
        for mistake, count in counts.items()
    ]
    return sorted(explanations, key=lambda e: (e.spoiled - e.explained, e.mistake is SinglePrecision))


def _would_fail(mistake: type[Mistake], check: Check, precision: str) -> bool:
    assert check.expected is not None
    return compare(check.expected, mistaken(mistake, check), precision) is not None


def _distance(mistake: type[Mistake], check: Check, got: Parts, precision: str) -> float | None:
    """Returns the largest relative difference to the mistake's own answer, or None if it does not fit."""
    assert check.expected is not None
    if mistake is SinglePrecision:
        # every program rounds in its own order: what fits is an answer that float32 would allow
        fits = precision == "float64" and compare(check.expected, got, "float32") is None
        return 2.0**-24 if fits else None
    predicted = mistaken(mistake, check)
    if predicted.keys() != got.keys():
        return None
    worst = 0.0
    for name, there in predicted.items():
        here = got[name]
        if here.shape != there.shape:
            return None
        scale = check.expected[name].scale if name in check.expected else np.zeros(())
        bound = allowed(scale, precision) + _CLOSE[precision] * float(
            np.abs(there[np.isfinite(there)]).max(initial=0.0)
        )
        with np.errstate(invalid="ignore"):
            same = (here == there) | (np.isnan(here) & np.isnan(there)) | (np.abs(here - there) <= bound)
            if not same.all():
                return None
            relative = np.abs(here - there) / np.maximum(np.abs(there), 1e-300)
        worst = max(worst, float(np.nanmax(np.where(here == there, 0.0, relative), initial=0.0)))
    return worst
