"""Which mistakes explain the wrong answers of an implementation, one after the other.

Catalogue first, with the numbers in families found; then results times a constant and terms of the bound with other
weights; then two mistakes at once; then single precision. A mistake is named only where it spoils no right answer: in
all quantities, or in some alone. What is left may be imprecise rather than wrong.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from .comparison import compare
from .fingerprints import Parts, distance, is_near, is_nearer, is_wrong
from .found import found
from .mistakes import CATALOGUE, FAMILIES, IMPRECISE, Mistake, SinglePrecision, name_of, remembered
from .vectors import Check

Answers = dict[Check, Parts]

_MOST_NAMED = 4
"""Mistakes in one report: with more of them, each explains little."""
_PROBED = 2
"""Of the smallest wrong answers, on which pairs of mistakes are tried before all others."""
_SPARED = 3
_IMPRECISE = 1000.0
"""In units of what is allowed: further off is wrong."""
_HALF, _QUARTER = 0.5, 0.25
"""Of the answers of a quantity that are not explained yet, and of all wrong ones: less is a coincidence."""


class Explanation(NamedTuple):
    """A mistake, and the quantities in which it explains wrong answers and spoils no right one.

    explained: so many wrong answers. alone: it would have spoiled right answers of other quantities. also: mistakes
    that explain the same.
    """

    mistake: type[Mistake]
    explained: int
    quantities: tuple[str, ...]
    alone: bool
    also: tuple[type[Mistake], ...] = ()

    @property
    def name(self) -> str:
        """The mistake's name, as in the cases' `catches`."""
        return name_of(self.mistake)


class Imprecision(NamedTuple):
    """Answers within a thousand times what is allowed that no mistake explains.

    digits: that are right, at least. likely: a formula that loses digits in the same cases, if one does.
    """

    checks: tuple[Check, ...]
    digits: float
    likely: type[Mistake] | None


class Diagnosis(NamedTuple):
    """Explanations, the most convincing first; by check that which explains it; and what is merely imprecise."""

    explanations: list[Explanation]
    by_check: dict[Check, Explanation]
    imprecision: Imprecision | None


class _Evidence:
    """Wrong and right answers of one implementation, and which mistakes fit them."""

    def __init__(self, wrong: Mapping[Check, Parts], right: Iterable[Check], precision: str) -> None:
        self.wrong = dict(wrong)
        self.precision = precision
        self.numbers = Counter(check.quantity for check in self.wrong)
        self.right: dict[str, list[Check]] = {}
        for check in right:
            self.right.setdefault(check.quantity, []).append(check)
        self.fits = remembered(self._fits)
        self.spoils = remembered(self._spoils)

    def _fits(self, mistake: type[Mistake], check: Check) -> bool:
        return distance(mistake, check, self.wrong[check], self.precision) is not None

    def fitting(self, mistake: type[Mistake], checks: list[Check], enough: float) -> list[Check]:
        """Those of these answers that a mistake fits, or none of them if they are not enough."""
        fitting: list[Check] = []
        for number, check in enumerate(checks):
            if len(fitting) + len(checks) - number < enough:
                return []
            if self.fits(mistake, check):
                fitting.append(check)
        return fitting if len(fitting) >= enough else []

    def _spoils(self, mistake: type[Mistake], quantity: str) -> bool:
        return any(is_wrong(mistake, check, self.precision) for check in self.right.get(quantity, ()))


def diagnose(wrong: Mapping[Check, Parts], right: Iterable[Check], precision: str) -> Diagnosis:
    """Explains the wrong numbers of an implementation. wrong: with what was answered. right: checks that passed."""
    evidence = _Evidence(wrong, right, precision)
    left: Answers = dict(wrong)
    named: list[Explanation] = []
    by_check: dict[Check, Explanation] = {}
    while left and len(named) < _MOST_NAMED:
        best = _by_itself(evidence, left)
        if best is None or len(best[1]) < _HALF * len(left):  # two at once may explain more
            pair = _in_pairs(evidence, left, named)
            best = pair if best is None or (pair is not None and len(pair[1]) > len(best[1])) else best
        best = best or _in_single_precision(evidence, left, named)
        if best is None:
            break
        explanation, explained = best
        named.append(explanation)
        by_check |= dict.fromkeys(explained, explanation)
        left = {check: parts for check, parts in left.items() if check not in explained}
    return Diagnosis(named, by_check, _imprecision(evidence, left))


_Found = tuple[Explanation, list[Check]]


def _best(evidence: _Evidence, left: Answers, mistakes: Iterable[type[Mistake]], least: float = _HALF) -> _Found | None:
    """The mistake that explains most of what is left, if it is at least this share in each of its quantities."""
    by_quantity: dict[str, list[Check]] = {}
    for check in sorted(left, key=_size):  # what does not fit shows early, where it is cheap
        by_quantity.setdefault(check.quantity, []).append(check)
    fitted: list[tuple[type[Mistake], list[Check], tuple[str, ...], bool]] = []
    most = 0
    for mistake in mistakes:
        explained: list[Check] = []
        quantities: list[str] = []
        possible = len(left)
        for quantity, checks in by_quantity.items():
            enough = max(least * len(checks), _QUARTER * evidence.numbers[quantity])
            fitting = evidence.fitting(mistake, checks, enough)
            if fitting and not evidence.spoils(mistake, quantity):
                explained += fitting
                quantities.append(quantity)
            possible -= len(checks) - (len(fitting) if quantity in quantities else 0)
            if possible < most:  # another explains more already
                break
        if explained and possible >= most:
            most = len(explained)
            alone = any(evidence.spoils(mistake, quantity) for quantity in evidence.right if quantity not in quantities)
            fitted.append((mistake, explained, tuple(quantities), alone))
    if not fitted:
        return None
    fitted.sort(key=lambda each: (-len(each[1]), each[3]))
    mistake, explained, scope, alone = fitted[0]
    also = tuple(other for other, same, _, too in fitted[1:] if set(same) == set(explained) and too == alone)
    return Explanation(mistake, len(explained), scope, alone, also), explained


def _by_itself(evidence: _Evidence, left: Answers) -> _Found | None:
    """One mistake of the catalogue, or with numbers that the answers tell."""
    fixed = [mistake for mistake in CATALOGUE if mistake is not SinglePrecision and mistake not in FAMILIES]
    return _best(evidence, left, [*fixed, *found(left, evidence.precision)])


def _in_pairs(evidence: _Evidence, left: Answers, named: list[Explanation]) -> _Found | None:
    """Two mistakes in the same answers: one that was named and another, or any two that fit the smallest of them."""
    fixed = [mistake for mistake in CATALOGUE if mistake is not SinglePrecision]
    single = [e.mistake for e in named if e.mistake in CATALOGUE or e.mistake.__base__ in FAMILIES]
    if named:
        both = [_both(one, other) for one in single for other in fixed if other is not one]
    else:
        both = list(itertools.starmap(_both, itertools.combinations(fixed, 2)))
    probes = sorted(left, key=_size)[:_PROBED]
    likely = [pair for pair in both if any(evidence.fits(pair, probe) for probe in probes)]
    return _best(evidence, left, likely, least=0.9)


@remembered
def _both(one: type[Mistake], other: type[Mistake]) -> type[Mistake]:
    """A program with two mistakes."""
    name, title, remedy = one.__name__ + "And" + other.__name__, one.title, one.remedy
    titles = {"title": f"{title}, and besides {other.title}", "remedy": f"{remedy}; and {other.remedy}"}
    return type(name, (one, other), titles)


def _size(check: Check) -> int:
    return sum(value.size for value in check.model.parameters.values()) + sum(v.size for v in check.inputs.values())


def _in_single_precision(evidence: _Evidence, left: Answers, named: list[Explanation]) -> _Found | None:
    """Rounding to float32 somewhere: alone, if the answers go astray to both sides, or beside another mistake."""
    if evidence.precision != "float64" or any(each.mistake is SinglePrecision for each in named):
        return None
    within = [check for check, parts in left.items() if _allowed_in_float32(check, parts)]
    if within and len(within) >= 0.9 * len(left) and _looks_like_rounding(evidence, left, within):
        quantities = tuple(dict.fromkeys(check.quantity for check in within))
        return Explanation(SinglePrecision, len(within), quantities, False), within
    return _beside_single_precision(evidence, left)


def _beside_single_precision(evidence: _Evidence, left: Answers) -> _Found | None:
    """A mistake whose answers all that is left are, up to the rounding of float32, and some far from the right ones."""
    astray = [check for check, parts in left.items() if not _allowed_in_float32(check, parts)]
    if not astray:
        return None
    for mistake in CATALOGUE:
        if mistake is SinglePrecision or mistake in FAMILIES:
            continue
        fitting = [
            check
            for check in astray
            if is_near(mistake, check, left[check], "float32") and is_nearer(mistake, check, left[check])
        ]
        if len(fitting) < 0.9 * len(astray):
            continue
        near = [check for check, parts in left.items() if is_near(mistake, check, parts, "float32")]
        quantities = tuple(dict.fromkeys(check.quantity for check in near))
        spared = any(evidence.spoils(mistake, quantity) for quantity in evidence.right)
        enough = _QUARTER * sum(evidence.numbers[quantity] for quantity in quantities)
        if len(near) >= max(0.9 * len(left), enough) and not spared and _mostly(evidence, near):
            return Explanation(_both(mistake, SinglePrecision), len(near), quantities, False), near
    return None


def _allowed_in_float32(check: Check, got: Parts) -> bool:
    assert check.expected is not None
    return compare(check.expected, got, "float32") is None


def _looks_like_rounding(evidence: _Evidence, left: Answers, checks: list[Check]) -> bool:
    """Numbers that float32 holds; or as many too high as too low, by some of the precision of float32."""
    got = np.concatenate([np.ravel(part) for check in checks for part in left[check].values()] or [np.zeros(0)])
    uneven = got[np.isfinite(got) & (got != np.round(got))]
    if uneven.size and (uneven == uneven.astype(np.float32)).mean() > 0.99:
        return True
    signs, sizes = [], []
    for check in checks:
        assert check.expected is not None
        for name, (value, scale) in check.expected.items():
            with np.errstate(invalid="ignore"):
                off = np.ravel(left[check][name] - value)
            moved = np.isfinite(off) & (np.abs(off) > np.ravel(scale) * 2.0**-50)
            signs.append(np.sign(off[moved]))
            sizes.append(np.abs(off[moved]) / np.maximum(np.ravel(scale)[moved], 1e-300))
    sign, size = np.concatenate(signs or [np.zeros(0)]), np.concatenate(sizes or [np.zeros(0)])
    if sign.size < 20:
        return False
    return (
        0.2 < float((sign > 0).mean()) < 0.8 and 2.0**-40 < float(np.quantile(size, 0.9)) and _mostly(evidence, checks)
    )


def _mostly(evidence: _Evidence, checks: list[Check]) -> bool:
    """Single precision spares few numbers, those that it holds: right answers of these quantities are not many more."""
    quantities = {check.quantity for check in checks}
    right = sum(len(evidence.right.get(quantity, ())) for quantity in quantities)
    return right <= _SPARED * len(checks)


def _imprecision(evidence: _Evidence, left: Answers) -> Imprecision | None:
    """What is left, where it is near: the digits, and the formula that loses them in the same cases."""
    near: dict[Check, float] = {}
    for check, got in left.items():
        assert check.expected is not None
        mismatch = compare(check.expected, got, evidence.precision)
        if mismatch is not None and mismatch.index is not None and mismatch.difference <= _IMPRECISE * mismatch.allowed:
            near[check] = mismatch.difference / max(abs(mismatch.expected), 1e-300)
    if not near or len(near) < len(left):
        return None
    digits = -math.log10(max(max(near.values()), 1e-17))
    return Imprecision(tuple(near), digits, _likely(evidence, near))


def _likely(evidence: _Evidence, near: Mapping[Check, float]) -> type[Mistake] | None:
    best: tuple[float, type[Mistake]] | None = None
    asked = [check for checks in evidence.right.values() for check in checks] + list(near)
    for formula in IMPRECISE:
        loses = {check for check in asked if is_wrong(formula, check, evidence.precision)}
        union = loses | near.keys()
        shared = len(loses & near.keys()) / max(len(union), 1)
        if shared >= _HALF and (best is None or shared > best[0]):
            best = (shared, formula)
    return None if best is None else best[1]
