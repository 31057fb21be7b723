"""Brackets of log p(x): never broken where the sum is known, and how narrow they are where it is not.

    python validation/brackets.py             four thousand problems with K up to 12, then the table: seven minutes
    python validation/brackets.py --quick     four hundred problems
    python validation/brackets.py --table     the table alone: 4 seconds for each of ten problems a line

Problems: random and adversarial linear decoders, K up to 12, whose exact log p(x) is `log_marginal` with its bound.
Expected: a deterministic bracket is never broken; of the sampled ones at confidence 0.5, 0.9 and 0.99, 500 draws, each
side is broken no more often than a binomial bound at 1e-6 allows for (1 - confidence) / 2. The table: weights
scale N(0, 1) / sqrt(K), biases N(0, 1) / 2, prior logits N(0, 1), x drawn from the model, seeds 0 to 9; median and
worst width after 4 seconds at confidence 1 - 1e-9, beside the width that is wanted.
"""

from __future__ import annotations

import argparse
import math
import sys
from typing import Any

import numpy as np
from common import AGREES, DISAGREES, binary
from scipy.stats import binom

import refvlm
from refvlm.inference import bounds, brackets

Array = Any
FAMILIES = ("ordinary", "weak", "strong", "hostile", "improbable", "certain", "one bit", "one output")
TABLE = (
    (50, 100, 1.0, 0.003), (50, 100, 3.0, 0.04), (50, 200, 3.0, 0.15), (100, 100, 1.0, 0.003), (200, 200, 1.0, 0.01),
)  # fmt: skip
"""K, L, scale, and the median width that is wanted."""


def problem(family: str, rng: np.random.Generator) -> tuple[refvlm.BernoulliLVM, Array]:
    """A model and rows of x; K, L and N are never equal."""
    while True:
        latents, observed, rows = int(rng.integers(1, 13)), int(rng.integers(1, 24)), int(rng.integers(1, 4))
        latents = 1 if family == "one bit" else latents
        observed = 1 if family == "one output" else observed
        if len({latents, observed, rows}) == 3:
            break
    scale = {"weak": 0.1, "strong": 6.0, "hostile": 300.0}.get(family, 1.5)
    weights, biases = rng.normal(size=(latents, observed)) * scale / math.sqrt(latents), rng.normal(size=observed)
    prior = rng.normal(size=latents)
    if family == "certain":
        prior[0] = rng.choice([-np.inf, np.inf])
    if family == "improbable":
        biases = np.full(observed, -60.0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), refvlm.MLP([weights], [biases]))
    drawn = rng.random() < 0.5
    return model, model.sample(rows, rng)[0] if drawn else binary(rows, observed, rng)


def check(count: int) -> bool:
    confidences = (0.5, 0.9, 0.99)
    broken = {confidence: np.zeros(2, int) for confidence in confidences}
    fine = True
    print(f"{'family':<12}{'problems':>9}{'deterministic: broken':>23}{'median width':>14}")
    for number, family in enumerate(FAMILIES):
        wrong, widths, problems = 0, [], 0
        for index in range(number, count, len(FAMILIES)):
            rng = np.random.default_rng([number, index])
            model, x = problem(family, rng)
            bounds.SUMMED_LATENTS, brackets.SHORT_SUM = 20, 1 << 36
            value, error = refvlm.log_marginal(model, x, with_error=True)
            bounds.SUMMED_LATENTS, brackets.SHORT_SUM = 0, -1
            result = refvlm.bracket(model, x, workers=1)
            wrong += int(((result.lower > value + error) | (result.upper < value - error)).any())
            widths += (result.upper - result.lower).tolist()
            problems += 1
            for confidence in confidences:
                row = refvlm.bracket(model, x[:1], samples=500, confidence=confidence, rng=rng, workers=1)
                broken[confidence] += [row.lower[0] > value[0] + error[0], row.upper[0] < value[0] - error[0]]
        fine &= wrong == 0
        verdict = "agrees" if wrong == 0 else "DISAGREES"
        print(f"{family:<12}{problems:>9}{wrong:>23}{np.median(widths):>14.3g}  {verdict}", flush=True)
    for confidence, sides in broken.items():
        allowed = int(binom.isf(1e-6, count, (1 - confidence) / 2))
        good = bool((sides <= allowed).all())
        fine &= good
        verdict = "agrees" if good else "DISAGREES"
        got = f"broken {sides[0]} below, {sides[1]} above, of {count}"
        print(f"sampled, confidence {confidence}: {got}; at most {allowed} a side expected: {verdict}")
    bounds.SUMMED_LATENTS, brackets.SHORT_SUM = 20, 1 << 36
    return fine


def table() -> bool:
    fine = True
    print(f"{'K':>4}{'L':>5}{'scale':>7}{'median width':>14}{'worst':>10}{'wanted':>9}{'draws':>10}")
    for latents, observed, scale, wanted in TABLE:
        widths, draws = [], []
        for seed in range(10):
            rng = np.random.default_rng(seed)
            weights = rng.normal(size=(latents, observed)) * scale / math.sqrt(latents)
            decoder = refvlm.MLP([weights], [rng.normal(size=observed) / 2])
            model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), decoder)
            x = model.sample(1, rng)[0]
            if not widths:
                refvlm.bracket(model, x, samples=1, rng=rng)  # so that compiling is not counted
            result = refvlm.bracket(model, x, seconds=4.0, rng=rng)
            widths.append(float(result.upper[0] - result.lower[0]))
            draws.append(int(result.samples[0]))
        median = float(np.median(widths))
        fine &= median <= wanted
        verdict = "agrees" if median <= wanted else "DISAGREES"
        numbers = f"{latents:>4}{observed:>5}{scale:>7g}{median:>14.4f}{max(widths):>10.4f}{wanted:>9g}"
        print(f"{numbers}{np.median(draws):>10.1e}  {verdict}", flush=True)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    fine = True
    if not arguments.table:
        fine &= check(400 if arguments.quick else 4000)
    if not arguments.quick:
        fine &= table()
    return AGREES if fine else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
