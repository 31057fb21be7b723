"""Randomised wrong programs, and what the oracle says of each: `python validation/diagnoses.py [--variants N]`.

Each is `Plain` with one mistake or two, with numbers drawn at random, in float64 and in float32; or right but
imprecise; or wrong in a way that no catalogue has. A diagnosis is wrong if it names what was not done, or another
number. Counts by kind what passes (the mistake moves no answer), is named, said to be imprecise, not named, and named
wrongly. Exits with 1 if any is named wrongly.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from refvlm.conformance.comparison import compare
from refvlm.conformance.diagnosis import Explanation
from refvlm.conformance.examination import Report, examine
from refvlm.conformance.fingerprints import as_parts
from refvlm.conformance.messages import Answer, Implementation, Refused, Result
from refvlm.conformance.mistakes import (
    CATALOGUE,
    FAMILIES,
    IMPRECISE,
    Family,
    Mistake,
    Multiplied,
    Share,
    SinglePrecision,
    WeightedTerms,
    name_of,
)
from refvlm.conformance.plain import Plain
from refvlm.conformance.problems import problem_of
from refvlm.conformance.quantities import QUANTITIES
from refvlm.conformance.vectors import Check

NATS = [name for name, quantity in QUANTITIES.items() if quantity.kind == "nats"]
FIXED = [m for m in CATALOGUE if m not in FAMILIES and m is not SinglePrecision]
RANGES = {"ClampedLogarithm": (1.0, 2.5), "EpsilonInSum": (-12.0, -5.0)}


class Variant(NamedTuple):
    """A program, and the mistakes that it makes in these quantities alone."""

    kind: str
    truth: tuple[type[Mistake], ...]
    program: type[Plain]
    precision: str
    quantities: tuple[str, ...] = tuple(QUANTITIES)
    noise: float = 0.0


def variants(rng: np.random.Generator, count: int) -> Iterator[Variant]:
    """At random, the kinds in turn."""
    makers: tuple[Callable[[np.random.Generator, str], Variant], ...] = (
        _epsilon, _epsilon, _weights, _multiple, _alone, _pair, _single, _imprecise, _unknown,
    )  # fmt: skip
    for n in range(count):
        yield makers[n % len(makers)](rng, "float32" if (n // len(makers)) % 3 == 2 else "float64")


def _cast(program: type[Plain], precision: str) -> type[Plain]:
    return program if precision == "float64" else type(program.__name__, (program,), {"dtype": np.float32})


def _epsilon(rng: np.random.Generator, precision: str) -> Variant:
    family = FAMILIES[rng.integers(len(FAMILIES))]
    low, high = RANGES.get(family.__name__, (-12.0, -5.0))
    value = 10.0 ** rng.uniform(low, high)
    if rng.random() < 0.5:
        value = float(f"{value:.0e}")
    member = family.at(value)
    return Variant("an epsilon of any size", (member,), _cast(member, precision), precision)


def _weights(rng: np.random.Generator, precision: str) -> Variant:
    by = ("", "", "", "K", "L", "N")
    shares = [Share(1.0), Share(1.0), Share(1.0)]
    for term in rng.choice(3, rng.integers(1, 4), replace=False):
        factor = (-1.0, 2.0, 0.5, 1.0, 1.0, float(np.round(rng.uniform(0.1, 4.0), 2)))[rng.integers(6)]
        shares[term] = Share(factor, by[rng.integers(len(by))])
    if all(share == Share(1.0) for share in shares):
        shares[0] = Share(0.5)
    mistake = WeightedTerms.of((shares[0], shares[1], shares[2]))
    return Variant("terms of the bound", (mistake,), _cast(mistake, precision), precision)


def _multiple(rng: np.random.Generator, precision: str) -> Variant:
    by = ("", "N", "K", "L")[rng.integers(4)]
    mistake = Multiplied.of(Share((-1.0, 0.5, 2.0, float(np.round(rng.uniform(0.1, 4), 2)))[rng.integers(4)], by))
    quantity = rng.choice([*NATS, "posterior_mean", "grad_log_marginal"])
    return Variant("one result times a factor", (mistake,), _cast(mistake, precision), precision, (str(quantity),))


def _alone(rng: np.random.Generator, precision: str) -> Variant:
    mistake = FIXED[rng.integers(len(FIXED))]
    quantity = str(rng.choice(list(QUANTITIES)))
    return Variant("a mistake in one quantity alone", (mistake,), _cast(mistake, precision), precision, (quantity,))


def _pair(rng: np.random.Generator, precision: str) -> Variant:
    one, other = (FIXED[n] for n in rng.choice(len(FIXED), 2, replace=False))
    both = type("Both", (one, other), {})
    return Variant("two mistakes", (one, other), _cast(both, precision), precision)


def _single(rng: np.random.Generator, precision: str) -> Variant:
    """Logits through float32; or single precision beside a mistake."""
    if rng.random() < 0.5:
        return Variant("float32 inside", (SinglePrecision,), _LogitsInSingle, "float64")
    mistake = FIXED[rng.integers(len(FIXED))]
    mixed = type("Mixed", (mistake,), {"dtype": np.float32})
    return Variant("float32 and a mistake", (mistake, SinglePrecision), mixed, "float64")


class _LogitsInSingle(Plain):
    def forward(self, layers, inputs):  # type: ignore[no-untyped-def]
        logits, entering, before = super().forward(layers, inputs)
        return logits.astype(np.float32).astype(self.dtype), entering, before


def _imprecise(rng: np.random.Generator, precision: str) -> Variant:
    formula = IMPRECISE[rng.integers(len(IMPRECISE))]
    if rng.random() < 0.5:
        return Variant("digits lost", (), Plain, "float64", noise=10.0 ** rng.uniform(-15, -13.7))
    return Variant("a formula that loses digits", (formula,), formula, "float64")


def _unknown(rng: np.random.Generator, precision: str) -> Variant:
    return Variant("unknown", (), _cast(Plain, precision), precision, noise=10.0 ** rng.uniform(-6, -1))


def asked(variant: Variant, rng: np.random.Generator) -> Callable[[Check], Answer]:
    """The program as the oracle meets it: it refuses what must be refused."""

    def ask(check: Check) -> Answer:
        if check.error is not None:
            return Refused(check.error, "")
        program = variant.program if check.quantity in variant.quantities else _cast(Plain, variant.precision)
        parts = as_parts(program(problem_of(check)).answer())
        if check.expected is not None and compare(check.expected, as_parts(_right(check, variant)), variant.precision):
            parts = {name: value.value for name, value in check.expected.items()} if not variant.truth else parts
        if variant.noise and QUANTITIES[check.quantity].kind != "draws":
            parts = {
                name: value * (1.0 + variant.noise * rng.normal(size=value.shape)) for name, value in parts.items()
            }
        return Result(parts[""] if parts.keys() == {""} else parts)

    return ask


def _right(check: Check, variant: Variant) -> object:
    return _cast(Plain, variant.precision)(problem_of(check)).answer()


def names(mistakes: tuple[type[Mistake], ...]) -> set[str]:
    """Of mistakes, of pairs both; with the numbers that they have."""
    found = set()
    for mistake in mistakes:
        parents = [base for base in mistake.__bases__ if base.__name__ not in ("Mistake", "Family", mistake.__name__)]
        for each in parents if "And" in mistake.__name__ and len(parents) == 2 else [mistake]:
            found.add(_numbered(each))
    return found


def _numbered(mistake: type[Mistake]) -> str:
    name = name_of(mistake)
    if issubclass(mistake, Family):
        return f"{name} {mistake.parameter:.3g}"
    return f"{name} {mistake.title}" if name in ("multiplied", "weighted-terms") else name


def judged(variant: Variant, report: Report) -> str:
    """ "passes", "named", "not named" or "wrong"."""
    if report.verdict == "conforms":
        return "passes"
    truth = names(variant.truth)
    for explanation in report.explanations:
        offered = [names((m,)) for m in (explanation.mistake, *explanation.also)]
        if (
            not any(each <= truth for each in offered)
            and not _near(variant, explanation)
            and not _same(variant, explanation, report)
        ):
            return "wrong"
    if not report.explanations and report.imprecision is not None:
        return "imprecise" if not truth or truth & names(IMPRECISE) else "wrong"
    return "named" if report.explanations else "not named"


def _near(variant: Variant, explanation: Explanation) -> bool:
    """The right family, its number as near as the precision tells it: 1 - epsilon is rounded."""
    offered, truth = explanation.mistake, (*variant.truth, Mistake)[0]
    if not (issubclass(offered, Family) and issubclass(truth, Family) and name_of(offered) == name_of(truth)):
        return False
    return abs(np.log(offered.parameter / truth.parameter)) < {"float64": 0.01, "float32": 0.1}[variant.precision]


def _same(variant: Variant, explanation: Explanation, report: Report) -> bool:
    """Another name for the same numbers, everywhere in its quantities."""
    if not variant.truth or SinglePrecision in variant.truth:
        return False
    for outcome in report.outcomes:
        check = outcome.check
        if outcome.got is None or check.quantity not in explanation.quantities:
            continue
        theirs = as_parts(explanation.mistake(problem_of(check)).answer())
        rounding = {"float64": 1e-9, "float32": 1e-5}[variant.precision]
        for name, value in as_parts(variant.program(problem_of(check)).answer()).items():
            if not np.allclose(theirs.get(name, np.nan), value, rtol=rounding, equal_nan=True):
                return False
    return True


def main() -> int:
    """The table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", type=int, default=270)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    rng = np.random.default_rng(arguments.seed)
    counts: dict[str, Counter[str]] = {}
    for n, variant in enumerate(variants(rng, arguments.variants)):
        who = Implementation("variant", str(n), "Python", variant.precision)
        report = examine(who, tuple(QUANTITIES), asked(variant, np.random.default_rng(n)))
        verdict = judged(variant, report)
        counts.setdefault(variant.kind, Counter())[verdict] += 1
        if verdict == "wrong" or arguments.verbose:
            said = "; ".join(
                f"{e.mistake.title} ({e.explained} in {', '.join(e.quantities)})" for e in report.explanations
            )
            where = f" in {variant.quantities[0]}" if len(variant.quantities) == 1 else ""
            print(f"{n} {verdict}: {variant.kind}, {variant.precision}{where}, {sorted(names(variant.truth))}: {said}")
    columns = ("passes", "named", "imprecise", "not named", "wrong")
    print(f"{'kind':34}" + "".join(f"{column:>10}" for column in columns))
    for kind, count in counts.items():
        print(f"{kind:34}" + "".join(f"{count[column]:10}" for column in columns))
    wrong = sum(count["wrong"] for count in counts.values())
    print(f"expected 0 wrong names, got {wrong}: {'agrees' if wrong == 0 else 'DISAGREES'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
