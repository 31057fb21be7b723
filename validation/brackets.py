"""Brackets of log p(x): never broken where the sum is known, and how narrow they are where it is not.

    python validation/brackets.py             twenty thousand problems, faults, the table: 13 minutes
    python validation/brackets.py --quick     three hundred problems and the faults: less than a minute
    python validation/brackets.py --table     the table alone: 4 seconds for each of ten problems a line
    python validation/brackets.py --problems  all but the table

Problems: random and adversarial linear decoders, K up to 16, whose exact log p(x) is `log_marginal` with its
bound. Of those with weights of 1e4 and more, which `bracket` leaves to the sum, all but the VLB below. Expected:

- Deterministic brackets, of one box and of 2 to 64, and their means over rows, are never broken.
- The sum over every z that can be drawn of its probability times its ratio is p(x) / U, and no ratio exceeds 1 (K up
  to 10).
- Sampled brackets of 500 draws and 1 to 64 boxes are broken on each side no more often than (1 - confidence) / 2, at
  confidence 0.5, 0.9 and 0.99; nor are runs with eight looks from 16 to 2048 draws, of which any may be broken, nor do
  bets against the truth win 2 / (1 - confidence) at any look. The same holds for three looks of the public call, 4096
  draws apart. The rows of a call, and its mean, are broken no more often than 1 - confidence. "No more often": up to
  the number that a binomial law exceeds once in a million. At confidence 1 - 1e-9: never.
- The capital of bets against the true mean is at most 1 on average. Test: somebody bets on that, run by run, who wins
  1 + b (min(capital, 100) - 1), b = 1/2, 1/4, ..., 1/256, from 1 each, evenly; min(capital, 100) is at most 1 on
  average, too, so by Markov's inequality the bettor's wealth exceeds a million once in a million.
- Planted faults are caught by these same checks, which pass without them.

The table: weights scale N(0, 1) / sqrt(K), biases N(0, 1) / 2, prior logits N(0, 1), x drawn from the model, seeds 0 to
9; median and worst width after 4 seconds at confidence 1 - 1e-9, beside the width that is wanted. Where PyTorch is
installed: importance sampling in float64 with the best factorised q for as long, first three seeds; an estimate with a
standard error, and 6.1 of these, the half-width that one would have to believe in at that confidence.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from common import AGREES, DISAGREES, binary
from scipy.stats import binom, norm

import refvlm
from refvlm.enumeration import draws, kernels, sums
from refvlm.enumeration.engine import Engine
from refvlm.inference import bounds, mixture, partition, sampled_bracket
from refvlm.inference.capital import Capital
from refvlm.inference.sampled_bracket import Evidence

Array = Any
FAMILIES = (
    "ordinary", "weak", "strong", "hostile", "improbable", "certain", "one bit", "one output",
    "saturated", "beyond 1e4", "many certain", "unexplained", "equal rows", "no weights",
)  # fmt: skip
CONFIDENCES = (0.5, 0.9, 0.99)
SURE = 1.0 - 1e-9
"""A confidence at which nothing is broken in all these problems."""
LOOKS = tuple(1 << n for n in range(4, 12))
"""Numbers of draws at which a run is looked at."""
PARTS, MOST = 0.5 ** np.arange(1.0, 9.0), 100.0
"""Of the bettor on the mean of capitals, and where a capital is cut off."""
RARELY = 1e-6
SUMMED = 10
"""K up to which all draws are summed up."""
TABLE = (
    (50, 100, 1.0, 0.003), (50, 100, 3.0, 0.04), (50, 200, 3.0, 0.15), (100, 100, 1.0, 0.003), (200, 200, 1.0, 0.01),
    (100, 200, 3.0, None),
)  # fmt: skip
"""K, L, scale, and the median width that is wanted; None: no verdict."""
SECONDS = 4.0


class Problem(NamedTuple):
    """A model and rows of x, K, L and N never equal, with exact log p(x) and its bound; rng: to go on with."""

    model: refvlm.BernoulliLVM
    x: Array
    value: Array
    error: Array
    rng: np.random.Generator


def problem(family: str, index: int, latents_most: int = 16, rows_least: int = 1) -> Problem:
    """Number `index` of a family."""
    rng = np.random.default_rng([FAMILIES.index(family), index])
    while True:
        latents, observed = int(rng.integers(1, latents_most + 1)), int(rng.integers(1, 24))
        rows = int(rng.integers(rows_least, rows_least + 3))
        latents = 1 if family == "one bit" else latents
        observed = 1 if family == "one output" else observed
        if len({latents, observed, rows}) == 3 and (family != "unexplained" or observed > 5):
            break
    scale = {"weak": 0.1, "strong": 6.0, "hostile": 300.0, "saturated": 1e4, "beyond 1e4": 1e4, "no weights": 0.0}.get(
        family, 1.5
    )
    weights, biases = rng.normal(size=(latents, observed)) * scale / math.sqrt(latents), rng.normal(size=observed)
    prior = rng.normal(size=latents)
    if family in ("saturated", "beyond 1e4") and rng.random() < 0.5:
        weights = scale * rng.choice([-1.0, 1.0], size=weights.shape)
    if family == "saturated":
        weights *= (bounds.LARGEST_LOGIT - 100.0) / np.abs(weights).sum(axis=0).max()
    if family == "equal rows":
        weights = np.tile(weights[:1], (latents, 1))
    if family == "certain":
        prior[0] = rng.choice([-np.inf, np.inf])
    if family == "many certain":
        sure = rng.random(latents) < rng.choice([0.3, 0.7, 1.0])
        prior[sure] = rng.choice([-np.inf, np.inf], size=int(sure.sum()))
    if family == "improbable":
        biases = np.full(observed, -60.0)
    if family == "unexplained":  # p(x | z) < 1e-308 for every z
        biases = np.full(observed, -200.0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), refvlm.MLP([weights], [biases]))
    x = model.sample(rows, rng)[0] if rng.random() < 0.5 else binary(rows, observed, rng)
    if family == "unexplained":
        x = np.ones((rows, observed), np.uint8)
    value, error = refvlm.log_marginal(model, x, with_error=True, workers=1)
    return Problem(model, x, value, error, rng)


@contextmanager
def put(*replaced: tuple[Any, str, Any]) -> Iterator[None]:
    """Attributes that are something else for a while."""
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    try:
        for owner, name, value in replaced:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def bracket(model: refvlm.BernoulliLVM, x: Array, **options: Any) -> refvlm.Bracket:
    """`refvlm.bracket` without the sum over codes, which is short here."""
    with put((bounds, "SUMMED_LATENTS", 0), (partition, "SHORT_SUM", -1)):
        result = refvlm.bracket(model, x, workers=1, **options)
    assert result.kind != "exact"
    return result


def broken(result: refvlm.Bracket, value: Array, error: Array) -> Array:
    """How many rows are, below and above; a NaN is broken. (2,)"""
    good = np.array([result.lower <= value + error, result.upper >= value - error])
    return (~good).sum(axis=1)


def mean_broken(result: refvlm.Bracket, value: Array, error: Array) -> Array:
    """Whether the bounds of the mean are, below and above. (2,)"""
    middle, allowed = math.fsum(value) / len(value), float(error.mean()) + 1e-15 * float(np.abs(value).max())
    return np.array([not result.mean_lower <= middle + allowed, not result.mean_upper >= middle - allowed], int)


# What runs one level below the public call: a sampler, draws in an order that may be looked at, evidence.


def samplers(model: refvlm.BernoulliLVM, x: Array, boxes: int) -> tuple[mixture.Sampler, int]:
    """Of the first row, from so many boxes; and how many there are."""
    engine, x = Engine(1), x[:1]
    ground = partition.ground_of(model)
    parts = partition.refined(ground, x, ground.whole(x, engine), np.array([boxes]), engine)
    return mixture.sampler(ground, x[0], parts), len(parts.rows)


def every_draw(given: Problem, boxes: int) -> bool:
    """E[r] U = p(x) by the sum over every box and z that can be drawn; each z in one box; no ratio above 1."""
    model, row = given.model, given.x[:1]
    drawn, _ = samplers(model, given.x, boxes)
    z, shares = refvlm.bits.table(model.latents), np.diff(drawn.mixture.upto, prepend=0.0)
    total, codes, most = -np.inf, 0, -np.inf
    for j, share in enumerate(shares):
        p = drawn.mixture.probabilities[j]
        chance = np.where(z == 1, p, 1.0 - p)
        possible = (chance > 0.0).all(axis=1)
        uniforms = np.where(z[possible] == 1, 0.0, 1.0 - 2.0**-53)
        log_r = kernels.ratios.log_ratios(drawn.mixture, np.full(len(uniforms), j), uniforms)
        log_q = np.log(share) + np.log(chance[possible]).sum(axis=1)
        joint = refvlm.log_joint(model, np.repeat(row, len(uniforms), axis=0), z[possible])
        total = np.logaddexp(total, np.logaddexp.reduce(log_q + log_r))
        codes, most = codes + len(uniforms), max(most, float((joint - log_q - drawn.log_u).max()))
    allowed = given.error[0] + drawn.rounding + 1e-12 * (1.0 + abs(given.value[0]))
    added_up = abs(total + drawn.log_u - given.value[0]) <= allowed
    return bool(added_up and codes == 1 << int(np.isfinite(model.top.logits).sum()) and most <= 2.0 * drawn.rounding)


def run(given: Problem, boxes: int, confidence: float) -> tuple[Array, Array]:
    """Whether any look is broken, (2,), and log capital against the true mean at each, (looks, 2): below, above.

    The truth is moved against the bettor by all that rounding may have moved it.
    """
    drawn, count = samplers(given.model, given.x, boxes)
    where = np.searchsorted(drawn.mixture.upto, given.rng.random(LOOKS[-1]), side="right")
    log_r = kernels.ratios.log_ratios(drawn.mixture, where, given.rng.random((LOOKS[-1], given.model.latents)))
    value, slack = given.value[0], given.error[0] + drawn.rounding
    high, low = (min(math.exp(value + sign * slack - drawn.log_u), 1.0) for sign in (1, -1))
    seen, start, any_broken, capitals = draws.nothing(), 0, np.zeros(2, int), []
    for look in LOOKS:
        seen, start = seen.plus(draws.histogram(log_r[start:look])), look
        lower, upper = Evidence(drawn.log_u, drawn.rounding, count, (-math.inf, 0.0), draws.nothing(), seen).bounds(
            1.0 - confidence
        )
        any_broken |= [not lower <= value + given.error[0], not upper >= value - given.error[0]]
        capital = Capital(seen)
        against = [capital.against(high, above=True) if high > 0.0 else 0.0]
        capitals.append([*against, capital.against(low, above=False) if low < 1.0 else 0.0])
    return any_broken, np.array(capitals)


def bettor(capitals: Array) -> Array:
    """log of what is won on the mean of capitals, given as logarithms, by each part: (..., parts)."""
    capped = np.exp(np.minimum(capitals, math.log(MOST)))
    return np.log1p(PARTS * (capped[..., None] - 1.0))


def wealth(logarithms: Array) -> float:
    """The largest of both sides', over parts evenly: logarithms (..., parts)."""
    most = logarithms.max()
    return float(np.exp(min(most, 600.0)) * np.exp(logarithms - most).mean(axis=-1).max())


# What is counted: problem by problem in several processes.

Counts = dict[str, Array]


class Found(NamedTuple):
    """Counts by name, widths of deterministic brackets of one box and of several, and words on what went wrong."""

    counts: Counts
    one: list[float]
    several: list[float]
    complaints: list[str]


def add(counts: Counts, name: str, more: Any) -> None:
    """Counts are added up by name."""
    counts[name] = counts[name] + np.asarray(more) if name in counts else np.asarray(more)


def guarded(one: Callable[..., None], family: str, first: int, last: int) -> Found:
    """`one` problem after the other; what raises, or warns, is counted, and said for the first two of a task."""
    found = Found({}, [], [], [])
    for index in range(first, last):
        complaint = None
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                one(family, index, found)
            except Exception as error:
                complaint = repr(error)
        if warned and complaint is None:
            complaint = f"warning: {warned[0].message}"
        add(found.counts, "complaints", [1, complaint is not None])
        if complaint is not None:
            found.complaints.append(f"{one.__name__} {family}:{index}: {complaint}")
    return found


def never(found: Found, name: str, family: str, index: int, sides: Array) -> None:
    """What is not broken at confidence 1 - 1e-9."""
    add(found.counts, name, [1, bool(sides.any())])
    if sides.any():
        found.complaints.insert(0, f"{name} {family}:{index}: broken {'below' if sides[0] else 'above'}")


def check_problem(family: str, index: int, found: Found) -> None:
    """All that is asked of a problem."""
    given, counts = problem(family, index), found.counts
    model, x, value, error, rng = given
    boxes = int(rng.integers(2, 65))
    for name, number, widths in (("one", 1, found.one), ("several", boxes, found.several)):
        result = bracket(model, x, boxes=number)
        add(counts, name, broken(result, value, error) + mean_broken(result, value, error))
        widths += (result.upper - result.lower).tolist()
    if model.latents <= SUMMED and index % 3 == 0:
        add(counts, "every draw", [1, not every_draw(given, boxes)])
    for n, confidence in enumerate(CONFIDENCES):
        options = {"samples": 500, "confidence": confidence, "boxes": int(rng.integers(1, 65)), "rng": rng}
        result = bracket(model, x[:1], **options)
        add(counts, f"sampled {n}", [1, *broken(result, value[:1], error[:1])])
    result = bracket(model, x, samples=500, confidence=SURE, boxes=boxes, rng=rng)
    never(found, "sure", family, index, broken(result, value, error) + mean_broken(result, value, error))
    looked, capitals = run(given, int(rng.integers(1, 65)), CONFIDENCES[index % 3])
    add(counts, f"looks {index % 3}", [1, *looked])
    for n, confidence in enumerate(CONFIDENCES):
        ruined = (capitals >= math.log(2.0 / (1.0 - confidence))).any(axis=0)
        add(counts, f"refuted {n}", [1, *ruined])
    add(counts, "bettor", bettor(capitals[-1]))


def check_rows(family: str, index: int, found: Found) -> None:
    """Several rows and their mean, each with its own number of draws; and three looks at the same public call."""
    counts, n = found.counts, index % 3
    model, x, value, error, rng = problem(family, index + (1 << 20), 10, 2)
    boxes, samples = rng.integers(1, 33, len(x)), rng.choice([300, 4096, 8192, 12288, 20000], len(x))
    result = bracket(model, x, samples=samples, boxes=boxes, confidence=CONFIDENCES[n], rng=rng)
    sides = mean_broken(result, value, error)
    add(counts, f"means {n}", [1, *sides, sides.any()])
    rows = broken(result, value, error)
    add(counts, f"rows {n}", [1, *(rows > 0), rows.any()])
    result = bracket(model, x, samples=8192, boxes=boxes, confidence=SURE, rng=rng)
    never(found, "sure rows", family, index, broken(result, value, error))
    never(found, "sure means", family, index, mean_broken(result, value, error))
    if index % 4 == 0:
        seed, sides = int(rng.integers(1 << 32)), np.zeros(2, bool)
        for look in (4096, 8192, 12288):
            options = {"samples": look, "boxes": boxes[:1], "confidence": CONFIDENCES[n]}
            result = bracket(model, x[:1], rng=np.random.default_rng(seed), **options)
            sides |= broken(result, value[:1], error[:1]) > 0
        add(counts, f"public looks {n}", [1, *sides])


def verdict(good: bool) -> str:
    return "agrees" if good else "DISAGREES"


def show(what: str, expected: str, got: str, good: bool) -> bool:
    """A line of the table."""
    print(f"{what:<58}{expected:>22}{got:>26}  {verdict(good)}", flush=True)
    return good


def show_sides(what: str, counts: Counts, name: str) -> bool:
    """Lines of what is broken on either side, for each confidence."""
    fine = True
    for n, confidence in enumerate(CONFIDENCES):
        number, below, above, *either = counts.get(f"{name} {n}", np.zeros(3, int)).tolist()
        rate = 1.0 - confidence
        allowed = int(binom.isf(RARELY, number, rate / 2.0))
        good, expected, got = max(below, above) <= allowed, f"at most {allowed} a side", f"{below}, {above} of {number}"
        if either:  # all rows together: sides may share 1 - confidence unevenly
            allowed = int(binom.isf(RARELY, number, rate))
            good, expected = either[0] <= allowed, f"at most {allowed} in all"
        fine &= show(f"{what}, confidence {confidence}", expected, got, good)
    return fine


def check(count: int, workers: int) -> bool:
    """All problems, in as many processes."""
    each = math.ceil(count / len(FAMILIES))
    step = max(min(40, each // workers), 1)
    tasks: list[tuple[Callable[..., None], str, int, int]] = []
    for family in FAMILIES:
        tasks += [(check_problem, family, n, min(n + step, each)) for n in range(0, each, step)]
        few = max(math.ceil(each / 10), 24)
        tasks += [(check_rows, family, n, min(n + step, few)) for n in range(0, few, step)]
    all_counts: Counts = {}
    families = {name: Found({}, [], [], []) for name in FAMILIES}
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for (_, family, *_), future in [(task, pool.submit(guarded, *task)) for task in tasks]:
            got, own = future.result(), families[family]
            for mine, more in zip(own[1:], got[1:], strict=True):
                mine.extend(more)
            for name, more in got.counts.items():
                add(own.counts, name, more)
                add(all_counts, name, more)
    fine = True
    print(f"{'deterministic, by family':<26}{'problems':>9}{'one box: broken':>17}{'median width':>14}", end="")
    print(f"{'several: broken':>17}{'median width':>14}{'wealth of the bettor':>22}")
    for family, (counts, one, several, _) in families.items():
        wrong = [int(counts[name].sum()) for name in ("one", "several")]
        rich = wealth(counts["bettor"])
        good = not any(wrong) and rich < 1.0 / RARELY
        fine &= good
        numbers = f"{wrong[0]:>17}{np.median(one):>14.3g}{wrong[1]:>17}{np.median(several):>14.3g}{rich:>22.3g}"
        print(f"{family:<26}{each:>9}{numbers}  {verdict(good)}")
    print(f"\n{'what':<58}{'expected':>22}{'got':>26}  verdict")
    number, wrong = all_counts["complaints"].tolist()
    fine &= show("an exception or a floating-point warning", "0", f"{wrong} of {number}", wrong == 0)
    number, wrong = all_counts["every draw"].tolist()
    fine &= show("sum over every draw is p(x) / U", "0", f"{wrong} of {number}", wrong == 0)
    for name, what in (
        ("sure", "500 draws"),
        ("sure rows", "8192 draws a row"),
        ("sure means", "mean, 8192 draws a row"),
    ):
        number, wrong = all_counts[name].tolist()
        fine &= show(f"{what}: broken, confidence 1 - 1e-9", "0", f"{wrong} of {number}", wrong == 0)
    fine &= show_sides("500 draws: broken", all_counts, "sampled")
    fine &= show_sides("any of eight looks broken", all_counts, "looks")
    fine &= show_sides("bets against the truth won, at any look", all_counts, "refuted")
    fine &= show_sides("any of three looks of the public call", all_counts, "public looks")
    fine &= show_sides("any row of several broken", all_counts, "rows")
    fine &= show_sides("mean over rows broken", all_counts, "means")
    rich = wealth(all_counts["bettor"])
    fine &= show("mean capital is at most 1: wealth of the bettor", "below 1e6", f"{rich:.3g}", rich < 1.0 / RARELY)
    for own in families.values():
        for complaint in sorted(own.complaints, key=lambda words: not words.startswith("sure"))[:3]:
            print(f"    {complaint}")
    return fine


# Faults, each planted in the library and looked for by the checks above.


def lowered() -> tuple[tuple[Any, str, Any], ...]:
    """Every log U is too low by a thousandth."""
    right = sums.majorants

    def wrong(*given: Any) -> Any:
        boxes = right(*given)
        return boxes._replace(log_u=boxes.log_u - 1e-3)

    return ((sums, "majorants", wrong),)


def left_out() -> tuple[tuple[Any, str, Any], ...]:
    """The last box is missing from every mixture of several."""
    right = mixture.sampler

    def wrong(ground: Any, x: Any, boxes: Any) -> Any:
        return right(ground, x, boxes.take(slice(0, max(len(boxes.rows) - 1, 1))))

    return (mixture, "sampler", wrong), (sampled_bracket, "sampler", wrong)


def rounded_up() -> tuple[tuple[Any, str, Any], ...]:
    """The histogram has all mass of a draw at the edge above it."""
    right = draws.histogram

    def wrong(logarithms: Any) -> Any:
        x = np.exp(logarithms)
        cell = np.minimum(np.searchsorted(draws.EDGES, x, side="left"), len(draws.EDGES) - 1)
        mass = np.bincount(cell, minlength=len(draws.EDGES)).astype(np.float64)
        return right(logarithms)._replace(mass=mass)

    return ((draws, "histogram", wrong),)


def mixed() -> tuple[tuple[Any, str, Any], ...]:
    """A piece that was drawn from one box counts with those from several."""
    right = sampled_bracket._Group.choose_boxes

    def wrong(group: Any) -> None:
        for n, _, more in group._draw(dict.fromkeys(range(len(group.x)), (0, draws.PIECE)), [0] * len(group.x)):
            group.seen[n] = (group.seen[n][0], group.seen[n][1].plus(more))
        right(group)

    return ((sampled_bracket._Group, "choose_boxes", wrong),)


def deterministic_found(family: str, count: int) -> bool:
    """Whether a deterministic bracket is broken."""
    found = False
    for index in range(count):
        given = problem(family, index)
        result = bracket(given.model, given.x, boxes=16)
        found |= bool(broken(result, given.value, given.error).any())
    return found


def sum_found(family: str, count: int) -> bool:
    """Whether a sum over every draw is not p(x) / U."""
    return any(not every_draw(problem(family, index, 6), 16) for index in range(count))


def call_found(family: str, count: int) -> bool:
    """Whether the public call's brackets at confidence 0.99 are broken too often on a side."""
    sides = np.zeros(2, int)
    for index in range(count):
        model, x, value, error, rng = problem(family, index)
        result = bracket(model, x[:1], samples=2 * draws.PIECE, boxes=16, confidence=0.99, rng=rng)
        sides += broken(result, value[:1], error[:1])
    return bool(sides.max() > binom.isf(RARELY, count, 0.005))


def capital_found(family: str, count: int) -> bool:
    """Whether the bettor on the mean of capitals has won a million."""
    total = sum(bettor(run(problem(family, index), 16, 0.99)[1][-1]) for index in range(count))
    return wealth(np.asarray(total)) > 1.0 / RARELY


def faults() -> bool:
    """Each is to be caught by the check beside it, which finds nothing without it."""
    planted = (
        ("log U too low by 1e-3", lowered, deterministic_found, "no weights", 20, "an upper bound below log p(x)"),
        ("log U too low by 1e-3", lowered, sum_found, "no weights", 20, "the sum over every draw"),
        ("log U too low by 1e-3", lowered, sum_found, "strong", 40, "the sum over every draw"),
        ("a box left out of the mixture", left_out, sum_found, "ordinary", 20, "the sum over every draw"),
        ("a box left out of the mixture", left_out, call_found, "ordinary", 100, "upper bounds broken too often"),
        ("histogram rounds draws up", rounded_up, capital_found, "ordinary", 60, "the bettor on the mean capital"),
        ("histogram rounds draws up", rounded_up, call_found, "ordinary", 60, "lower bounds broken too often"),
        ("draws of two sets of boxes pooled", mixed, call_found, "strong", 100, "upper bounds broken too often"),
    )  # fmt: skip
    fine = True
    print(f"\n{'planted fault':<43}{'looked for by':<33}{'problems':<18}{'without it':<13}{'with it':<9}")
    for what, fault, found, family, count, how in planted:
        before = found(family, count)
        with put(*fault()):
            after = found(family, count)
        good = after and not before
        fine &= good
        words = "found" if before else "nothing", "caught" if after else "MISSED"
        print(f"{what:<43}{how:<33}{f'{count} {family}':<18}{words[0]:<13}{words[1]:<9}{verdict(good)}", flush=True)
    return fine


# Where the sum is out of reach.


def importance(model: refvlm.BernoulliLVM, x: Array, seconds: float) -> tuple[float, float] | None:
    """An estimate of log p(x) by importance sampling from the tilted distribution, and its standard error."""
    try:
        import torch
        from torch.nn.functional import logsigmoid, softplus
    except ImportError:
        return None
    logits = torch.from_numpy(partition.ground_of(model).whole(x, Engine()).logits[0])
    weights, biases = (torch.tensor(np.array(v[0])) for v in (model.decoder.weights, model.decoder.biases))
    prior, signs = torch.tensor(np.array(model.prior.logits)), torch.from_numpy(2.0 * x[0] - 1.0)
    generator, p = torch.Generator().manual_seed(0), torch.sigmoid(logits)
    constant = (softplus(logits) - softplus(prior)).sum()
    weights, biases, difference = weights * signs, biases * signs, prior - logits
    top, total, squares, count, end = -math.inf, 0.0, 0.0, 0, time.monotonic() + seconds
    with torch.no_grad():
        while time.monotonic() < end:
            z = (torch.rand((4096, len(p)), dtype=torch.float64, generator=generator) < p).double()
            log_w = logsigmoid(torch.addmm(biases, z, weights)).sum(1) + z @ difference + constant
            new = max(top, float(log_w.max()))
            scale, w = math.exp(top - new), torch.exp(log_w - new)
            total, squares = total * scale + float(w.sum()), squares * scale**2 + float((w * w).sum())
            top, count = new, count + len(z)
    return top + math.log(total / count), math.sqrt(max(squares / total**2 - 1.0 / count, 0.0))


def table() -> bool:
    """The widths, and what stands beside them."""
    fine, quantile = True, float(norm.isf(0.5e-9))
    print(f"\n{'':>78}estimate (no certificate), three seeds")
    print(
        f"{'K':>4}{'L':>5}{'scale':>7}{'median width':>14}{'worst':>10}{'wanted':>9}{'boxes':>8}{'draws':>10}", end=""
    )
    print(f"{'':>11}{'- midpoint, worst':>19}{'standard error':>16}{'half-width':>12}")
    for latents, observed, scale, wanted in TABLE:
        widths, samples, boxes, off, errors = [], [], [], [], []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            weights = rng.normal(size=(latents, observed)) * scale / math.sqrt(latents)
            decoder = refvlm.MLP([weights], [rng.normal(size=observed) / 2])
            model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), decoder)
            x = model.sample(1, rng)[0]
            if not widths:
                refvlm.bracket(model, x, samples=1, rng=rng)  # so that compiling is not counted
                importance(model, x, 0.1)
            result = refvlm.bracket(model, x, seconds=SECONDS, rng=rng)
            widths.append(float(result.upper[0] - result.lower[0]))
            samples.append(int(result.samples[0]))
            boxes.append(int(result.boxes[0]))
            estimate = importance(model, x, SECONDS) if seed < 3 else None
            if estimate is not None:
                off.append(estimate[0] - 0.5 * float(result.upper[0] + result.lower[0]))
                errors.append(estimate[1])
        median = float(np.median(widths))
        good = wanted is None or median <= wanted
        fine &= good
        aim = "-" if wanted is None else f"{wanted:g}"
        numbers = f"{latents:>4}{observed:>5}{scale:>7g}{median:>14.4f}{max(widths):>10.4f}{aim:>9}"
        print(f"{numbers}{np.median(boxes):>8g}{np.median(samples):>10.1e}", end="")
        print(f"  {'-' if wanted is None else verdict(good):<9}", end="")
        beside = [max(off, key=abs), np.median(errors), quantile * np.median(errors)] if off else None
        print(
            f"{beside[0]:>19.4f}{beside[1]:>16.4f}{beside[2]:>12.4f}" if beside else f"{'-':>19}{'-':>16}{'-':>12}",
            flush=True,
        )
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--quick", action="store_true")
    which.add_argument("--table", action="store_true")
    which.add_argument("--problems", action="store_true")
    which.add_argument("--only", metavar="FAMILY:INDEX", help="one problem, with the traceback of what it raises")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes for the problems")
    arguments = parser.parse_args()
    if arguments.only:
        family, index = arguments.only.split(":")
        for check_one in (check_problem, check_rows):
            found = Found({}, [], [], [])
            check_one(family, int(index), found)
            print(f"{check_one.__name__}:", {name: counts.tolist() for name, counts in found.counts.items()})
        return AGREES
    fine = True
    if not arguments.table:
        check_problem("ordinary", 0, Found({}, [], [], []))  # what has to be compiled is compiled once
        fine &= check(300 if arguments.quick else 20000, arguments.workers)
        fine &= faults()
    if not (arguments.quick or arguments.problems):
        fine &= table()
    return AGREES if fine else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
