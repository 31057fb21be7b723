"""Brackets of log p(x) for deep models of linear decoders, by majorants from layer to layer: never broken, how narrow.

    python validation/layered_brackets.py             five thousand problems, faults, the table: 20 minutes
    python validation/layered_brackets.py --quick     three hundred problems and the faults: less than a minute
    python validation/layered_brackets.py --table     the table alone
    python validation/layered_brackets.py --problems  all but the table

Problems: random and adversarial models of two and three layers of latents, up to 11 bits together, whose exact log p(x)
is `log_marginal` with its bound. Small models are summed, or have a box for each state of the upper layers: here
neither, so that every bracket goes from layer to layer. Expected:

- Deterministic brackets, of one box and of 2 to 64, and their means over rows, are never broken.
- Every z of all layers lies in one box. Drawn with random numbers a billionth within its limits, it has the ratio
  p(x, z) / (pi_j q_j(z) U), which is at most 1, and the sum of probability times ratio is p(x) / U. Here p and q come
  from the weights and the boxes' tilts by NumPy alone.
- Sampled brackets of 500 draws and 1 to 64 boxes are broken on each side no more often than (1 - confidence) / 2, at
  confidence 0.5, 0.9 and 0.99. The rows of a call, and its mean, are broken no more often than 1 - confidence. "No more
  often": up to the number that a binomial law exceeds once in a million. At confidence 1 - 1e-9: never.
- The capital of bets against the true mean of 4096 draws is at most 1 on average: the bettor of `brackets.py`.
- 1000 draws from the posterior, for one problem in four, against the exact one: chi-square beyond that of each of 99
  multinomial samples, in no more than 1 of 100 problems (once in a million, as above). Codes that are expected fewer
  than 5 times count as one; as the rank among samples is exact, that is a matter of power alone. And no count of a code
  has a binomial tail below 1e-9, shared among tails and codes. Not for the largest weights, where the majorants are so
  far above that nothing would be accepted.
- Planted faults are caught by these same checks, which pass without them.

The table. Trained: digits, 1500 rows, 64 epochs of wake-sleep or reweighted wake-sleep; ten other rows alone, 4 seconds
each at confidence 1 - 1e-9. Random: weights scale N(0, 1) / sqrt(fan_in), biases N(0, 1) / 2, prior logits N(0, 1),
L = 100, a row that the model drew, seeds 0 to 4. Median and worst width; the width of the deterministic bracket of one
box; log U of that box above the middle of the sampled bracket; boxes and draws. Beside them importance sampling from
the trained chain, 100,000 draws: the median standard error, and how many of them the estimate lies outside of the
bracket at worst, where at most 6 are expected. An estimate is no certificate: where few weights dominate it is too low,
and so is its standard error. Last, the mean over 200 rows in a minute.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import brackets
import numpy as np
from brackets import (
    CONFIDENCES,
    RARELY,
    SURE,
    Counts,
    Found,
    Problem,
    add,
    bettor,
    broken,
    guarded,
    left_out,
    lowered,
    mean_broken,
    never,
    put,
    show,
    show_sides,
    verdict,
    wealth,
)
from common import AGREES, DISAGREES, binary, random_arrays
from scipy.special import expit
from scipy.stats import binom

import refvlm
from refvlm.enumeration import draws, sums
from refvlm.enumeration.engine import Engine
from refvlm.inference import bounds, mixture, partition, rejection, sampled_bracket
from refvlm.inference.capital import Capital
from refvlm.inference.layered_ground import layered_ground

Array = Any
FAMILIES = (
    "ordinary", "weak", "strong", "hostile", "saturated", "wide intervals", "cancelling", "mixed scales", "certain",
    "many certain", "large prior", "improbable", "unexplained", "one bit", "one output", "no weights", "equal rows",
)  # fmt: skip
STEEP = ("hostile", "saturated", "cancelling", "mixed scales")
"""Where a draw from the posterior may take too many tries."""
MOST_BITS = 11
POSTERIOR_DRAWS, SIMULATED = 1000, 99
"""Of one problem; multinomial samples beside them."""
IMPOSSIBLE = 1e-9
"""The error rate of the exact test of posterior draws, of one problem."""
SECONDS, SAMPLES, MEAN_SECONDS, MEAN_SAMPLES = 4.0, 100_000, 60.0, 10_000
METHODS = ("wake-sleep", "reweighted-wake-sleep")
TRAINED = ((50, 20), (100, 50), (100, 50, 20))
RANDOM = ((50, 20), (100, 50))
WITHIN = 6.0
"""Standard errors."""


def sizes_of(family: str, rng: np.random.Generator, rows_least: int) -> tuple[int, list[int]]:
    """N, and from x upwards L and the sizes of two or three layers: all different, but where each layer is one bit."""
    while True:
        layers = rng.integers(1, 10, int(rng.integers(2, 4))).tolist()
        rows, observed = int(rng.integers(rows_least, rows_least + 3)), int(rng.integers(1, 24))
        if family == "one output":
            observed = 1
        if family == "one bit":
            layers[int(rng.integers(len(layers)))] = 1
        different = len({rows, observed, *layers}) == 2 + len(layers)
        if family == "one bit" and rng.random() < 0.2:
            return rows, [observed, *[1 for _ in layers]]
        if different and sum(layers) <= MOST_BITS and (family != "unexplained" or observed > 5):
            return rows, [observed, *layers]


def network(family: str, lowest: bool, above: int, below: int, rng: np.random.Generator) -> refvlm.MLP:
    """The decoder of a layer."""
    scale = {"weak": 0.1, "strong": 6.0, "hostile": 300.0, "saturated": 1e4, "no weights": 0.0}.get(family, 1.5)
    if family == "mixed scales":
        scale = float(rng.choice([0.0, 1e-300, 1e-3, 1.0, 100.0, 1e4]))
    if family == "wide intervals" and not lowest:
        scale = 30.0
    weights, biases = rng.normal(size=(above, below)) * scale / math.sqrt(above), rng.normal(size=below)
    if family == "saturated" and rng.random() < 0.5:
        weights = scale * rng.choice([-1.0, 1.0], size=weights.shape)
    if family == "saturated" and rng.random() < 0.5:  # the largest for which there is a VLB
        weights *= (bounds.LARGEST_LOGIT - 100.0) / np.abs(weights).sum(axis=0).max()
    if family == "equal rows":
        weights = np.tile(weights[:1], (above, 1))
    if family == "cancelling":
        size = 10.0 ** rng.integers(1, 5)
        weights, biases = weights + size, biases - size * float(rng.integers(above + 1))
    if lowest and family in ("improbable", "unexplained"):  # p(x | z) < 1e-308 for every z
        biases = np.full(below, -60.0 if family == "improbable" else -200.0)
    return refvlm.MLP([weights], [biases])


def problem(family: str, index: int, rows_least: int = 1) -> Problem:
    """Number `index` of a family."""
    rng = np.random.default_rng([FAMILIES.index(family), index])
    rows, sizes = sizes_of(family, rng, rows_least)
    top = rng.normal(size=sizes[-1])
    if family == "large prior":
        top += rng.choice([-900.0, 900.0], size=sizes[-1])
    if family == "certain":
        top[0] = rng.choice([-np.inf, np.inf])
    if family == "many certain":
        sure = rng.random(sizes[-1]) < rng.choice([0.3, 0.7, 1.0])
        top[sure] = rng.choice([-np.inf, np.inf], size=int(sure.sum()))
    model: refvlm.BernoulliLVM | refvlm.Bernoulli = refvlm.Bernoulli(top)
    for d in range(len(sizes) - 1, 0, -1):
        model = refvlm.BernoulliLVM(model, network(family, d == 1, sizes[d], sizes[d - 1], rng))
    assert isinstance(model, refvlm.BernoulliLVM)
    x = model.sample(rows, rng)[0] if rng.random() < 0.5 else binary(rows, sizes[0], rng)
    if family == "unexplained":
        x = np.ones((rows, sizes[0]), np.uint8)
    value, error = refvlm.log_marginal(model, x, with_error=True, workers=1)
    return Problem(model, x, value, error, rng)


def bracket(model: refvlm.BernoulliLVM, x: Array, **options: Any) -> refvlm.Bracket:
    """`refvlm.bracket` from layer to layer, at any size."""
    with put((partition, "STATES", -1)):
        return brackets.bracket(model, x, **options)


# What runs one level below the public call: boxes, a sampler, the ratio of any z.


def sampled(model: refvlm.BernoulliLVM, x: Array, boxes: int) -> tuple[mixture.Sampler, sums.Boxes]:
    """The sampler of the first row, from so many boxes, and these."""
    ground, engine, x = layered_ground(model), Engine(1), x[:1]
    parts = partition.refined(ground, x, ground.whole(x, engine), np.array([boxes]), engine)
    return mixture.sampler(ground, x[0], parts), parts


def log_of(bits: Array, logits: Array) -> Array:
    """log of the probability of bits under logits."""
    return -np.logaddexp(0.0, np.where(bits == 1, -logits, logits)).sum(axis=-1)


def every_draw(given: Problem, boxes: int) -> bool:
    """E[r] U = p(x) by the sum over every box and z of all layers; each z in one box; no ratio above 1."""
    drawn, parts = sampled(given.model, given.x, boxes)
    layers, x = given.model.layers, given.x[0].astype(np.float64)
    starts = np.cumsum([0, *(layer.latents for layer in layers)])
    every = refvlm.bits.table(int(starts[-1]))
    total, codes, fine = -np.inf, 0, True
    for j, share in enumerate(np.diff(drawn.mixture.upto, prepend=0.0)):
        fixed, tilts = parts.fixed[j], parts.logits[j]
        z = every[((fixed < 0) | (every == fixed)).all(axis=1)].astype(np.float64)
        log_q, log_p, unit = np.full(len(z), np.log(share)), np.zeros(len(z)), 0
        uniforms, below = np.zeros((len(z), drawn.mixture.randoms)), np.tile(x, (len(z), 1))
        for d, layer in enumerate(layers):
            own, bits = slice(starts[d], starts[d + 1]), z[:, starts[d] : starts[d + 1]]
            log_p += log_of(below, bits @ layer.decoder.weights[0] + layer.decoder.biases[0])
            logits = np.tile(given.model.top.logits, (len(z), 1))
            if d + 1 < len(layers):
                decoder = layers[d + 1].decoder
                logits = z[:, starts[d + 1] : starts[d + 2]] @ decoder.weights[0] + decoder.biases[0]
            else:
                log_p += log_of(bits, logits)
            free = fixed[own] < 0
            tilted = np.where(free, logits, 0.0) + np.where(free, tilts[own], 0.0)
            rare = np.maximum(np.rint(np.minimum(expit(tilted), expit(-tilted)) * 2.0**53 + 0.5), 1.0) / 2.0**53
            likely = (bits == 1) == (tilted > 0.0)
            log_q += np.where(free, np.where(likely, np.log1p(-rare), np.log(rare)), 0.0).sum(axis=1)
            on = np.where(tilted > 0.0, 1.0 - rare, rare)
            limits = np.where(bits == 1, on * (1.0 - 1e-9), on + (1.0 - on) * 1e-9)  # a bit is on below p~
            limits = np.where(on < 2.0**-40, np.where(bits == 1, 0.0, 2e-9), limits)
            limits = np.where(free, np.floor(limits * 2.0**53) / 2.0**53, np.where(bits == 1, 1.0 - 2.0**-53, 0.0))
            uniforms[:, unit : unit + layer.latents] = np.minimum(limits, 1.0 - 2.0**-53)
            unit += -(-layer.latents // 8) * 8
            below = bits
        log_r, which = draws.log_ratios(drawn.mixture, np.full(len(z), j), uniforms), np.full(len(z), j)
        exact = log_p - log_q - drawn.log_u
        slack = 2.0 * drawn.rounding + 1e-12 * (1.0 + np.abs(log_p))
        fine &= bool((exact <= slack).all() and (np.abs(log_r - np.minimum(exact, 0.0)) <= slack).all())
        fine &= bool((draws.bits_of(drawn.mixture, which, uniforms) == z[:, : starts[1]]).all())
        total, codes = np.logaddexp(total, np.logaddexp.reduce(log_q + log_r)), codes + len(z)
    allowed = given.error[0] + 2.0 * drawn.rounding + 1e-12 * (1.0 + abs(given.value[0]))
    possible = 1 << int(starts[-1] - np.isinf(given.model.top.logits).sum())
    return fine and codes == possible and bool(abs(total + drawn.log_u - given.value[0]) <= allowed)


def capitals(given: Problem, boxes: int) -> Array:
    """log capital against the true mean after a piece of draws, (2,): below, above.

    The truth is moved against the bettor by all that rounding may have moved it.
    """
    drawn, _ = sampled(given.model, given.x, boxes)
    capital = Capital(draws.draw(drawn.mixture, 0, draws.PIECE, int(given.rng.integers(1 << 62)), (0,)))
    value, slack = given.value[0], given.error[0] + drawn.rounding
    high, low = (min(math.exp(value + sign * slack - drawn.log_u), 1.0) for sign in (1, -1))
    above = capital.against(high, above=True) if high > 0.0 else 0.0
    return np.array([above, capital.against(low, above=False) if low < 1.0 else 0.0])


def posterior_refuted(given: Problem) -> tuple[bool, bool]:
    """Whether draws by rejection have a chi-square beyond all samples of the exact posterior; an impossible count."""
    model, x, rng = given.model, given.x[:1], given.rng
    exact = refvlm.posterior(model, x, workers=1)[0]
    exact /= exact.sum()
    with put((partition, "STATES", -1), (partition, "SHORT_SUM", -1)):
        z = refvlm.sample_posterior(model, x, POSTERIOR_DRAWS, rng, workers=1)[0]
    counts = np.bincount(z @ (1 << np.arange(model.latents)), minlength=len(exact))
    tails = np.minimum(binom.cdf(counts, POSTERIOR_DRAWS, exact), binom.sf(counts - 1, POSTERIOR_DRAWS, exact))
    expected, samples = POSTERIOR_DRAWS * exact, rng.multinomial(POSTERIOR_DRAWS, exact, SIMULATED)
    often = expected >= 5.0

    def pooled(values: Array) -> Array:
        return np.concatenate([values[..., often], values[..., ~often].sum(axis=-1, keepdims=True)], axis=-1)

    wanted = np.maximum(pooled(expected), 1e-300)
    chi, *others = ((pooled(np.vstack([counts, samples])) - wanted) ** 2 / wanted).sum(axis=1)
    return bool(chi > max(others)), bool(tails.min() < IMPOSSIBLE / (2 * len(exact)))


# What is counted: problem by problem in several processes.


def check_problem(family: str, index: int, found: Found) -> None:
    """All that is asked of a problem."""
    given, counts = problem(family, index), found.counts
    model, x, value, error, rng = given
    boxes = int(rng.integers(2, 65))
    for name, number, widths in (("one", 1, found.one), ("several", boxes, found.several)):
        result = bracket(model, x, boxes=number)
        add(counts, name, broken(result, value, error) + mean_broken(result, value, error))
        widths += (result.upper - result.lower).tolist()
    wrong = [number for number in (1, boxes) if not every_draw(given, number)]
    add(counts, "every draw", [1, bool(wrong)])
    if wrong:
        found.complaints.insert(0, f"sum over every draw {family}:{index}: with boxes {wrong}")
    for n, confidence in enumerate(CONFIDENCES):
        options = {"samples": 500, "confidence": confidence, "boxes": int(rng.integers(1, 65)), "rng": rng}
        result = bracket(model, x[:1], **options)
        add(counts, f"sampled {n}", [1, *broken(result, value[:1], error[:1])])
    result = bracket(model, x, samples=500, confidence=SURE, boxes=boxes, rng=rng)
    never(found, "sure", family, index, broken(result, value, error) + mean_broken(result, value, error))
    won = capitals(given, int(rng.integers(1, 65)))
    for n, confidence in enumerate(CONFIDENCES):
        add(counts, f"refuted {n}", [1, *(won >= math.log(2.0 / (1.0 - confidence)))])
    add(counts, "bettor", bettor(won))
    if index % 4 == 0 and family not in STEEP:
        beyond, impossible = posterior_refuted(given)
        add(counts, "posterior", [1, beyond, impossible])
        if impossible:
            found.complaints.insert(0, f"posterior draws {family}:{index}: an impossible count")


def check_rows(family: str, index: int, found: Found) -> None:
    """Several rows and their mean, each with its own numbers of draws and boxes."""
    counts, n = found.counts, index % 3
    model, x, value, error, rng = problem(family, index + (1 << 20), 2)
    boxes, samples = rng.integers(1, 33, len(x)), rng.choice([300, 4096, 8192, 12288], len(x))
    result = bracket(model, x, samples=samples, boxes=boxes, confidence=CONFIDENCES[n], rng=rng)
    sides, rows = mean_broken(result, value, error), broken(result, value, error)
    add(counts, f"means {n}", [1, *sides, sides.any()])
    add(counts, f"rows {n}", [1, *(rows > 0), rows.any()])
    result = bracket(model, x, samples=8192, boxes=boxes, confidence=SURE, rng=rng)
    never(found, "sure rows", family, index, broken(result, value, error))
    never(found, "sure means", family, index, mean_broken(result, value, error))


def check(count: int, workers: int) -> bool:
    """All problems, in as many processes."""
    each = math.ceil(count / len(FAMILIES))
    step = max(min(40, each // workers), 1)
    tasks: list[tuple[Callable[..., None], str, int, int]] = []
    for family in FAMILIES:
        tasks += [(check_problem, family, n, min(n + step, each)) for n in range(0, each, step)]
        few = max(math.ceil(each / 5), 9)
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
    for name, what in (
        ("complaints", "an exception or a floating-point warning"),
        ("every draw", "ratio of every z, at most 1; their sum is p(x) / U"),
        ("sure", "500 draws: broken, confidence 1 - 1e-9"),
        ("sure rows", "8192 draws a row: broken, confidence 1 - 1e-9"),
        ("sure means", "mean, 8192 draws a row: broken, confidence 1 - 1e-9"),
    ):
        number, wrong = all_counts[name].tolist()
        fine &= show(what, "0", f"{wrong} of {number}", wrong == 0)
    fine &= show_sides("500 draws: broken", all_counts, "sampled")
    fine &= show_sides("bets against the truth won", all_counts, "refuted")
    fine &= show_sides("any row of several broken", all_counts, "rows")
    fine &= show_sides("mean over rows broken", all_counts, "means")
    rich = wealth(all_counts["bettor"])
    fine &= show("mean capital is at most 1: wealth of the bettor", "below 1e6", f"{rich:.3g}", rich < 1.0 / RARELY)
    number, beyond, impossible = all_counts["posterior"].tolist()
    most = int(binom.isf(RARELY, number, 1.0 / (1 + SIMULATED)))
    fine &= show("posterior draws: chi-square beyond 99", f"at most {most}", f"{beyond} of {number}", beyond <= most)
    fine &= show("posterior draws: an impossible count", "0", f"{impossible} of {number}", impossible == 0)
    for own in families.values():
        for complaint in sorted(own.complaints, key=lambda words: not words.startswith(("sure", "sum")))[:3]:
            print(f"    {complaint}")
    return fine


# Faults, each planted in the library and looked for by the checks above.

Fault = tuple[tuple[Any, str, Any], ...]


def low_envelopes() -> Fault:
    """Every majorant of a free bit between layers is too low by a thousandth."""
    right = sums.majorants

    def wrong(work: Any, subject: Any, *given: Any) -> Any:
        boxes = right(work, subject, *given)
        between = boxes.fixed[:, : int(subject.sizes[1:-1].sum())] < 0
        return boxes._replace(log_u=boxes.log_u - 1e-3 * between.sum(axis=1))

    return ((sums, "majorants", wrong),)


def moved_tilts() -> Fault:
    """Draws and ratios have tilts in common, but not those that U belongs to."""
    right = mixture.sampler

    def wrong(*given: Any) -> Any:
        drawn = right(*given)
        tilts = drawn.mixture.tilts + drawn.mixture.free
        return drawn._replace(mixture=drawn.mixture._replace(tilts=tilts))

    return tuple((owner, "sampler", wrong) for owner in (mixture, sampled_bracket, rejection))


def biased_draws() -> Fault:
    """Bits are on more often than the ratio takes into account."""
    ratios, bits = draws.log_ratios, draws.bits_of
    return (
        (draws, "log_ratios", lambda drawn, boxes, uniforms: ratios(drawn, boxes, uniforms**1.2)),
        (draws, "bits_of", lambda drawn, boxes, uniforms: bits(drawn, boxes, uniforms**1.2)),
    )


def all_accepted() -> Fault:
    """Draws are accepted whatever their ratios are."""
    right = draws.accepted

    def wrong(*given: Any) -> Any:
        ratios = draws.log_ratios
        with put((draws, "log_ratios", lambda *each: 0.0 * ratios(*each))):
            return right(*given)

    return ((draws, "accepted", wrong),)


def deterministic_found(family: str, count: int) -> bool:
    """Whether a deterministic bracket is broken."""
    found = False
    for index in range(count):
        given = problem(family, index)
        result = bracket(given.model, given.x, boxes=16)
        found |= bool(broken(result, given.value, given.error).any())
    return found


def sum_found(family: str, count: int) -> bool:
    """Whether a ratio, or the sum over every draw, is not what it should be."""
    return any(not every_draw(problem(family, index), 16) for index in range(count))


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
    total = sum(bettor(capitals(problem(family, index), 16)) for index in range(count))
    return wealth(np.asarray(total)) > 1.0 / RARELY


def posterior_found(family: str, count: int) -> bool:
    """Whether draws from the posterior are refuted."""
    beyond, impossible = np.sum([posterior_refuted(problem(family, index)) for index in range(count)], axis=0)
    return bool(impossible or beyond > binom.isf(RARELY, count, 1.0 / (1 + SIMULATED)))


def faults() -> bool:
    """Each is to be caught by the check beside it, which finds nothing without it."""
    planted = (
        ("log U too low by 1e-3", lowered, deterministic_found, "no weights", 20, "an upper bound below log p(x)"),
        ("log U too low by 1e-3", lowered, sum_found, "strong", 20, "the sum over every draw"),
        ("every envelope too low by 1e-3", low_envelopes, deterministic_found, "no weights", 20,
         "an upper bound below log p(x)"),
        ("every envelope too low by 1e-3", low_envelopes, sum_found, "ordinary", 20, "the sum over every draw"),
        ("a box left out of the mixture", left_out, sum_found, "ordinary", 20, "the sum over every draw"),
        ("a box left out of the mixture", left_out, call_found, "ordinary", 100, "upper bounds broken too often"),
        ("tilts that U does not belong to", moved_tilts, sum_found, "ordinary", 20, "the sum over every draw"),
        ("tilts that U does not belong to", moved_tilts, call_found, "ordinary", 100, "upper bounds broken too often"),
        ("bits on too often", biased_draws, sum_found, "ordinary", 20, "the sum over every draw"),
        ("bits on too often", biased_draws, capital_found, "ordinary", 60, "the bettor on the mean capital"),
        ("bits on too often", biased_draws, posterior_found, "ordinary", 20, "the exact posterior"),
        ("draws accepted whatever their ratio", all_accepted, posterior_found, "strong", 20, "the exact posterior"),
    )  # fmt: skip
    fine = True
    print(f"\n{'planted fault':<38}{'looked for by':<33}{'problems':<18}{'without it':<13}{'with it':<9}")
    for what, fault, found, family, count, how in planted:
        before = found(family, count)
        with put(*fault()):
            after = found(family, count)
        good = after and not before
        fine &= good
        words = "found" if before else "nothing", "caught" if after else "MISSED"
        print(f"{what:<38}{how:<33}{f'{count} {family}':<18}{words[0]:<13}{words[1]:<9}{verdict(good)}", flush=True)
    return fine


# Where the sum is out of reach.


def processor() -> str:
    """Which CPU this is, as far as the system says."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown CPU"
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wide = "with" if "avx512f" in known.get("flags", "").split() else "without"
    return f"{known.get('model name', 'unknown CPU')}, {os.cpu_count()} cores, {wide} avx512f"


def trained(latents: tuple[int, ...], method: str) -> refvlm.Fit:
    more = {"samples": 5} if method == "reweighted-wake-sleep" else {}
    return refvlm.fit(
        refvlm.digits()[:1500], latents=latents, hidden=(), method=method, epochs=64, seed=0, workers=1,
        evaluate_every=64, learning_rate=0.01, batch_size=100, schedule="constant", beta2=0.999,
        validation=False, **more,
    )  # fmt: skip


def random_model(latents: tuple[int, ...], scale: float, seed: int) -> tuple[refvlm.BernoulliLVM, Array]:
    """A model of 100 outputs, and a row that it drew."""
    rng = np.random.default_rng(seed)
    model: Any = refvlm.Bernoulli(rng.normal(size=latents[-1]))
    for below, above in zip([100, *latents[:-1]][::-1], latents[::-1], strict=True):
        weights, biases = random_arrays([above, below], rng)
        model = refvlm.BernoulliLVM(model, refvlm.MLP([weights[0] * scale], biases))
    return model, model.sample(1, rng)[0]


def line(what: str, cases: list[tuple[refvlm.BernoulliLVM, Array, Any]]) -> bool:
    """One row after the other, each with its model, and its q where there is one: a line of the table."""
    rng, numbers, off, errors = np.random.default_rng(0), [], [], []
    for model, x, q in cases:
        certain = refvlm.bracket(model, x, boxes=1)
        between = refvlm.bracket(model, x, seconds=SECONDS, rng=rng)
        lower, upper = float(between.lower[0]), float(between.upper[0])
        gap = float(certain.upper[0]) - 0.5 * (lower + upper)
        width = float(certain.upper[0] - certain.lower[0])
        numbers.append([upper - lower, width, gap, between.boxes[0], between.samples[0]])
        if q is not None:
            estimate = refvlm.log_marginal_estimate(model, q, x, rng, samples=SAMPLES)
            errors.append(float(estimate.standard_error[0]))
            off.append(max(lower - float(estimate.value[0]), float(estimate.value[0]) - upper, 0.0) / errors[-1])
    widths, certain_widths, gaps, boxes, samples = np.array(numbers, float).T
    print(f"{what:<42}{len(cases):>5}{np.median(widths):>9.4f}{widths.max():>9.4f}", end="")
    print(f"{np.median(certain_widths):>16.2f}{np.median(gaps):>8.2f}{gaps.max():>8.2f}", end="")
    print(f"{np.median(boxes):>8g}{np.median(samples):>10.1e}", end="")
    good = not off or max(off) <= WITHIN
    beside = f"{np.median(errors):>11.4f}{max(off):>9.2f}  {verdict(good)}" if off else f"{'-':>11}{'-':>9}  -"
    print(beside, flush=True)
    return good


def mean_line(what: str, fitted: refvlm.Fit, test: Array) -> bool:
    """The mean over rows, and of their estimates."""
    rng, begun = np.random.default_rng(0), time.perf_counter()
    result = refvlm.bracket(fitted.model, test, seconds=MEAN_SECONDS, rng=rng)
    took = time.perf_counter() - begun
    estimate = refvlm.log_marginal_estimate(fitted.model, fitted.posterior, test, rng, samples=MEAN_SAMPLES)
    value = float(estimate.value.mean())
    error = math.sqrt(float((estimate.standard_error**2).sum())) / len(test)
    off = max(result.mean_lower - value, value - result.mean_upper, 0.0) / error
    widths, good = result.upper - result.lower, off <= WITHIN
    numbers = f"{result.mean_lower:>11.4f}{result.mean_upper:>11.4f}{result.mean_upper - result.mean_lower:>9.4f}"
    rows = f"{np.median(widths):>10.4f}{widths.max():>9.3f}"
    print(f"{what:<42}{len(test):>5}{numbers}{rows}{took:>6.0f} s", end="")
    print(f"{value:>12.4f}{error:>9.4f}{off:>9.2f}  {verdict(good)}", flush=True)
    return good


def table() -> bool:
    """The widths, and what stands beside them."""
    fine, test = True, refvlm.digits()[1500:]
    model, x = random_model((12, 9), 1.0, 0)
    bracket(model, x, samples=9000, boxes=2, rng=np.random.default_rng(0))  # so that compiling is not counted
    bracket(model, x, boxes=1)
    print(f"\n{processor()}")
    print(f"{'':<47}{'4 seconds: width':>18}{'one box: width':>16}{'log U - log p':>16}{'':>18}{'estimate':>20}")
    print(f"{'model':<42}{'rows':>5}{'median':>9}{'worst':>9}{'median':>16}{'median':>8}{'worst':>8}", end="")
    print(f"{'boxes':>8}{'draws':>10}{'std. error':>11}{'outside':>9}  at most {WITHIN:g}")
    kept = {}
    for latents in TRAINED:
        for method in METHODS:
            begun = time.perf_counter()
            fitted = kept[latents, method] = trained(latents, method)
            what = f"{latents} {method}, {time.perf_counter() - begun:.0f} s"
            fine &= line(what, [(fitted.model, test[n : n + 1], fitted.posterior) for n in range(10)])
    for latents in RANDOM:
        for scale in (1.0, 3.0):
            cases = [(*random_model(latents, scale, seed), None) for seed in range(5)]
            fine &= line(f"{latents} random, scale {scale:g}", cases)
    print(f"\n{'':<47}{'mean log p(x) between':>22}{'':>9}{'row: width':>19}{'':>8}{'estimate of the mean':>28}")
    print(f"{'model':<42}{'rows':>5}{'':>22}{'width':>9}{'median':>10}{'worst':>9}{'':>8}", end="")
    print(f"{'':>12}{'error':>9}{'outside':>9}  at most {WITHIN:g}")
    for latents in TRAINED[:2]:
        fine &= mean_line(f"{latents} {METHODS[0]}", kept[latents, METHODS[0]], test[:200])
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
        fine &= check(300 if arguments.quick else 5000, arguments.workers)
        fine &= faults()
    if not (arguments.quick or arguments.problems):
        fine &= table()
    return AGREES if fine else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
