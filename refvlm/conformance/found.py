"""Finds the numbers in mistakes from the answers themselves: an epsilon, a factor, the weights of the terms."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from ..types import Floats
from .comparison import compare
from .fingerprints import Parts, as_parts, distance, in_single
from .mistakes import FAMILIES, Family, Mistake, Multiplied, Share, WeightedTerms, size
from .plain import Plain
from .problems import problem_of
from .quantities import QUANTITIES
from .vectors import Check

Answers = Mapping[Check, Parts]

_TRIED = 2
"""Wrong answers from which a number is read: of so many quantities, and so many of all."""
_PER_DECADE = 2
_AGREED = 0.9
"""Share of answers that have the same ratio to the right ones."""
_USUAL = sorted(
    [m * 10.0**e for e in range(-40, 5) for m in (1, 2, 5)]
    + [float(np.finfo(kind).eps) for kind in (np.float32, np.float64)]
)
"""Numbers that people write, and the spacing of floats at 1."""
_DIVISORS = ("", "N", "K", "L", "NK", "NL")


_EXACT = {"float64": 1e-9, "float32": 2.0**-16}
"""Relative: to which answers tell a factor."""


def found(left: Answers, precision: str) -> list[type[Mistake]]:
    """Returns mistakes whose numbers follow from some of these answers; whether they fit the others is not said."""
    return [*found_parameters(left, precision), *found_weights(left, precision), *found_multiples(left, precision)]


def found_parameters(left: Answers, precision: str) -> list[type[Mistake]]:
    """Returns the members of the families that fit one of the wrong answers that say most about them."""
    telling = _furthest(left, precision)
    members: dict[type[Mistake], None] = {}
    for family in FAMILIES:
        for check, place in telling:
            programs = [family] if precision == "float64" else [family, in_single(family)]
            for value in (root for program in programs for root in _roots(program, check, left[check], place)):
                member = next(
                    (
                        m
                        for m in map(family.at, _snapped(value))
                        if distance(m, check, left[check], precision) is not None
                    ),
                    None,
                )
                if member is not None:
                    members[member] = None
    return list(members)


Place = tuple[str, tuple[int, ...]]


def _furthest(left: Answers, precision: str) -> list[tuple[Check, Place]]:
    """Where wrong answers are furthest off, in units of what is allowed: in the first quantities, and of all."""
    ranked = []
    for check, got in left.items():
        assert check.expected is not None
        mismatch = compare(check.expected, got, precision)
        if mismatch is None or mismatch.index is None or not np.isfinite(mismatch.got):
            continue
        if QUANTITIES[check.quantity].kind in ("nats", "probabilities"):
            ranked.append((mismatch.difference / mismatch.allowed, check, (mismatch.part, mismatch.index)))
    ranked.sort(key=lambda each: -each[0])
    furthest: dict[str, tuple[Check, Place]] = {}
    for _, check, place in ranked:
        furthest.setdefault(check.quantity, (check, place))
    first = [furthest[name] for name in QUANTITIES if name in furthest][:_TRIED]
    return list(dict.fromkeys([*first, *((check, place) for _, check, place in ranked[:_TRIED])]))


def _roots(family: type[Family], check: Check, got: Parts, place: Place) -> list[float]:
    """The numbers for which the family's answer at this place is the one that came."""
    from scipy.optimize import brentq  # not for --help

    part, index = place

    def off(power: float) -> float:
        with np.errstate(all="ignore"):
            answer = _answer(family, 10.0**power, check)
        value = answer.get(part)
        if value is None or value.shape != got[part].shape:
            return float("nan")
        return float(value[index] - got[part][index])

    low, high = np.log10(family.lowest), np.log10(family.highest)
    powers = np.linspace(low, high, int(_PER_DECADE * (high - low)) + 1)
    values = [off(power) for power in powers]
    return [
        10.0 ** brentq(off, a, b, xtol=1e-12, rtol=1e-14)
        for (a, at_a), (b, at_b) in itertools.pairwise(zip(powers, values, strict=True))
        if np.isfinite(at_a) and np.isfinite(at_b) and (at_a < 0) != (at_b < 0)
    ]


def _answer(family: type[Family], value: float, check: Check) -> Parts:
    """Of a member of a family, not remembered."""
    member: type[Family] = type(family.__name__, (family,), {"parameter": value})
    return as_parts(member(problem_of(check)).answer())


def _snapped(value: float) -> list[float]:
    """The number that people write nearest to it, and the number itself."""
    nearest = min(_USUAL, key=lambda usual: abs(np.log(usual / value)))
    return [nearest, value] if abs(np.log(nearest / value)) < 0.05 else [value]


def found_multiples(left: Answers, precision: str) -> list[type[Mistake]]:
    """Returns constants, divided by a size or not, that take the right answers of a quantity to those that came."""
    found: dict[type[Mistake], None] = {}
    by_quantity: dict[str, list[Check]] = {}
    for check in left:
        by_quantity.setdefault(check.quantity, []).append(check)
    for quantity, checks in by_quantity.items():
        if QUANTITIES[quantity].kind not in ("nats", "probabilities", "gradient", "estimates"):
            continue
        agreed = []
        for by in _DIVISORS:
            ratios = np.array([ratio for check in checks if (ratio := _ratio(check, left[check], by)) is not None])
            factor = _nice(float(np.median(ratios)), _EXACT[precision]) if len(ratios) > 1 else 0.0
            if factor != 0.0 and np.isfinite(factor) and (factor != 1.0 or by):
                agreed.append(
                    (float(np.mean(np.abs(ratios / factor - 1.0) < 1e3 * _EXACT[precision])), -len(by), factor, by)
                )
        if agreed and max(agreed)[0] > _AGREED:
            _, _, factor, by = max(agreed)
            found[Multiplied.of(Share(factor, by))] = None
    return list(found)


def _ratio(check: Check, got: Parts, by: str) -> float | None:
    """Of the largest right entry: what came over what is right, times a size."""
    assert check.expected is not None
    best: tuple[float, float] | None = None
    for name, (value, _) in check.expected.items():
        if name not in got or got[name].shape != value.shape or value.size == 0:
            continue
        finite = np.where(np.isfinite(value), np.abs(value), -1.0)
        index = np.unravel_index(int(finite.argmax()), value.shape)
        if finite[index] > 0 and (best is None or finite[index] > best[0]) and np.isfinite(got[name][index]):
            best = (float(finite[index]), float(got[name][index] / value[index]))
    return None if best is None else best[1] * size(problem_of(check), by)


def _nice(value: float, exact: float) -> float:
    """A number of few digits, where it is one up to rounding."""
    for digits in (1, 2, 3, 4):
        rounded = float(f"{value:.{digits}g}")
        if abs(rounded - value) <= exact * abs(value):
            return rounded
    return value


def _weight(value: float, exact: float) -> float:
    """The same of a weight among others that are about 1: 0 where it is nothing else up to rounding."""
    return 0.0 if abs(value) <= exact else _nice(value, exact)


def found_weights(left: Answers, precision: str) -> list[type[Mistake]]:
    """Returns the weights of prior, reconstruction and entropy that make the VLBs that came."""
    rows = [row for check, got in left.items() if check.quantity == "vlb" for row in _terms(check, got)]
    if len(rows) < 6:
        return []
    terms = np.array([row[0] for row in rows])
    came = np.array([row[1] for row in rows])
    by = {name: np.array([row[2][name] for row in rows]) for name in _DIVISORS}
    for divisors in sorted(itertools.product(_DIVISORS, repeat=3), key=lambda each: sum(map(len, each))):
        table = terms / np.stack([by[name] for name in divisors], axis=1)
        solution, _, rank, _ = np.linalg.lstsq(table, came, rcond=None)
        close = _EXACT[precision] * np.abs(table).max(axis=1).clip(1e-9) if rank == 3 else np.zeros(len(rows))
        if rank == 3 and np.mean(np.abs(table @ solution - came) <= close) > 0.9:
            shares = tuple(
                Share(_weight(float(value), 10 * _EXACT[precision]), name)
                for value, name in zip(solution, divisors, strict=True)
            )
            if any(share != Share(1.0) for share in shares):
                return [WeightedTerms.of((shares[0], shares[1], shares[2]))]
    return []


def _terms(check: Check, got: Parts) -> list[tuple[Floats, float, dict[str, float]]]:
    """Of each row with finite numbers: its three terms, what came, the sizes."""
    problem = problem_of(check)
    if got.keys() != {""} or got[""].ndim != 1:
        return []
    terms = Plain(problem._replace(quantity="vlb_terms")).answer()
    assert isinstance(terms, dict)
    table = np.stack([terms["prior"], terms["reconstruction"], terms["entropy"]], axis=1)
    sizes = {name: size(problem, name) for name in _DIVISORS}
    if len(table) != len(got[""]):
        return []
    finite = np.isfinite(table).all(axis=1) & np.isfinite(got[""])
    return [(row, float(value), sizes) for row, value, good in zip(table, got[""], finite, strict=True) if good]
