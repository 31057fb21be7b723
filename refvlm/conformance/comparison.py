"""Compares an answer with what was expected, entry by entry, in units of what each entry's condition allows.

    |got - expected| <= scale u + 1024 tiny,    u the unit roundoff, tiny the smallest normal number

of the precision that the implementation claims. scale comes with the case: four times the running error of a program
that rounds every operation once (validation/running_error.py). Infinities must be met exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..checks import quoted, shortened
from ..types import Floats
from .vectors import Expected


class Precision(NamedTuple):
    """unit: half the distance from 1 to the next number. tiny: the smallest normal number. bits: of the mantissa."""

    unit: float
    tiny: float
    bits: int


PRECISIONS = {"float64": Precision(2.0**-53, 2.0**-1022, 53), "float32": Precision(2.0**-24, 2.0**-126, 24)}


@dataclass(frozen=True)
class Mismatch:
    """The entry of an answer that is furthest off, relative to what is allowed there.

    part: the name of the array, "" where there is one. index: None where the shapes differ, which `what` then says.
    ulps: the difference in units in the last place of the expected value, at the precision claimed.
    """

    part: str
    what: str
    index: tuple[int, ...] | None = None
    expected: float = 0.0
    got: float = 0.0
    allowed: float = 0.0
    ulps: float = 0.0
    wrong: int = 0
    count: int = 0

    @property
    def difference(self) -> float:
        """|got - expected|."""
        return abs(self.got - self.expected)


def allowed(scale: Floats, precision: str) -> Floats:
    """Returns how far off each entry may be."""
    claimed = PRECISIONS[precision]
    bound: Floats = scale * claimed.unit + 1024 * claimed.tiny
    return bound


def compare(expected: dict[str, Expected], got: Floats | dict[str, Floats], precision: str) -> Mismatch | None:
    """Returns the worst entry of an answer, or None if every entry is within what is allowed."""
    parts = got if isinstance(got, dict) else {"": got}
    if parts.keys() != expected.keys():
        return Mismatch("", _names_differ(set(expected), set(parts)))
    worst: tuple[float, Mismatch] | None = None
    for name, (value, scale) in expected.items():
        answer = parts[name]
        if answer.shape != value.shape and not (answer.size == value.size == 0):
            return Mismatch(name, f"got shape {answer.shape}, wanted {value.shape}")
        bound = allowed(scale, precision)
        ratios = _ratios(value, answer.reshape(value.shape), bound)
        wrong = int((~(ratios <= 1)).sum())
        if wrong:
            index = tuple(int(i) for i in np.unravel_index(int(np.argmax(ratios)), ratios.shape))
            if worst is None or ratios[index] > worst[0]:
                here, there = float(value[index]), float(answer[index])
                mismatch = Mismatch(
                    name,
                    "",
                    index,
                    here,
                    there,
                    float(bound[index]),
                    ulps_between(here, there, precision),
                    wrong,
                    value.size,
                )
                worst = (float(ratios[index]), mismatch)
    return None if worst is None else worst[1]


def _ratios(expected: Floats, got: Floats, bound: Floats) -> Floats:
    """Returns |got - expected| / allowed: 0 for equal infinities, inf for NaN."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        ratios = np.abs(got - expected) / bound
    ratios[got == expected] = 0.0
    ratios[np.isnan(ratios)] = np.inf
    return ratios


def ulps_between(expected: float, got: float, precision: str) -> float:
    """Returns |got - expected| in units in the last place of the expected value; inf where one is not finite."""
    if not (np.isfinite(expected) and np.isfinite(got)):
        return 0.0 if expected == got else np.inf
    claimed = PRECISIONS[precision]
    magnitude = max(abs(expected), claimed.tiny)
    ulp = 2.0 ** (int(np.frexp(magnitude)[1]) - claimed.bits)
    return abs(got - expected) / ulp


def _names_differ(wanted: set[str], got: set[str]) -> str:
    if wanted == {""}:
        return f"got arrays by name ({shortened(', '.join(sorted(got)))}), wanted one array"
    if got == {""}:
        return f"got one array, wanted arrays by name: {', '.join(sorted(wanted))}"
    missing, unknown = sorted(wanted - got), sorted(got - wanted)
    return f"got no array {missing[0]!r}" if missing else f"got the unknown name {quoted(unknown[0])}"
