"""Certified bounds of decoders with hidden layers against the exact log p(x): how often they are broken, how close.

    python validation/one_sided.py    less than a minute

Models: K = 12, L = 30, hidden widths (20,) and (24, 16), weights scale N(0, 1) / sqrt(fan_in), biases N(0, 1) / 2,
prior logits N(0, 1), rows that the model drew; log p(x) is `log_marginal` with its bound. q: "posterior", the exact
posterior means of each row; "off", their logits with N(0, 1) added; "flat", all probabilities 1/2. Expected:

- `log_marginal_lower` is broken in some row of a call no more often than 1 - confidence, at confidence 0.5 and 0.9, and
  `mean_log_marginal_upper` likewise. "No more often": up to the number that a binomial law exceeds once in a million.
  At 1 - 1e-9: never.
- Planted faults, weights 1.1 times and 1 / 1.1 times what they should be, and z of other rows, break them more often.

The table: log p(x) - lower, mean and median over rows, and beside them the median of sqrt(2 log(N / (1 - confidence))
V / n), with the exact V of each row, which no draws show where q is far off; upper - log p(x) of the mean, of which
log(1 / (1 - confidence)) / N is the price of certainty.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from common import AGREES, DISAGREES, random_arrays
from scipy.special import expit
from scipy.stats import binom

import refvlm
from refvlm import bits
from refvlm.inference import one_sided

Array = Any
LATENTS, OBSERVED, SURE = 12, 30, 1.0 - 1e-9
MODELS = (((20,), "tanh", 0.5), ((20,), "relu", 2.0), ((24, 16), "tanh", 2.0), ((24, 16), "silu", 4.0))
POSTERIORS = ("posterior", "off", "flat")
ROWS, CALLS, SAMPLES = 5, 25, 500
"""Of each call; calls for each model, posterior and confidence; draws for each row."""
MANY, DRAWS = 100, 4000
"""Rows and draws of the table."""
FAULTY = 40
RARELY = 1e-6


def model_of(number: int) -> refvlm.BernoulliLVM:
    hidden, activation, scale = MODELS[number]
    rng = np.random.default_rng([0, number])
    weights, biases = random_arrays([LATENTS, *hidden, OBSERVED], rng)
    decoder = refvlm.MLP([w * scale for w in weights], biases, activation)
    return refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=LATENTS)), decoder)


def posterior_of(kind: str, model: refvlm.BernoulliLVM, x: Array, rng: np.random.Generator) -> refvlm.PerDatumPosterior:
    if kind == "flat":
        return refvlm.PerDatumPosterior(np.zeros((len(x), LATENTS)))
    mean = np.clip(refvlm.posterior_mean(model, x), 0.01, 0.99)
    logits = np.log(mean) - np.log1p(-mean)
    return refvlm.PerDatumPosterior(logits + (rng.normal(size=logits.shape) if kind == "off" else 0.0))


def relative_variances(model: refvlm.BernoulliLVM, q: refvlm.PerDatumPosterior, x: Array) -> Array:
    """Of each row's weights, exactly: sum over z of p(z | x)**2 / q(z), less 1."""
    z, p = bits.table(LATENTS), expit(q.logits)
    log_q = np.log(p) @ z.T.astype(float) + np.log1p(-p) @ (1.0 - z.T)
    share = refvlm.posterior(model, x)
    return (share**2 * np.exp(-log_q)).sum(axis=1) - 1.0


def show(what: str, expected: str, got: str, good: bool) -> bool:
    """A line of the table."""
    print(f"{what:<62}{expected:>16}{got:>18}  {'agrees' if good else 'DISAGREES'}", flush=True)
    return good


@contextmanager
def multiplied(factor: float) -> Iterator[None]:
    """All weights are so many times what they should be: a planted fault."""
    right = one_sided._log_weights

    def wrong(*given: Any) -> Any:
        value, magnitudes = right(*given)
        return value + math.log(factor), magnitudes

    one_sided._log_weights = wrong
    try:
        yield
    finally:
        one_sided._log_weights = right


def check_frequencies() -> bool:
    """Both bounds of the same calls, over all models and posteriors."""
    fine, models = True, [model_of(number) for number in range(len(MODELS))]
    for confidence in (0.5, 0.9, SURE):
        for kind in POSTERIORS:
            lower_broken = upper_broken = calls = 0
            for number, model in enumerate(models):
                for call in range(CALLS):
                    rng = np.random.default_rng([1, number, call, POSTERIORS.index(kind), round(confidence * 10)])
                    x, z = model.sample(ROWS, rng)
                    value, error = refvlm.log_marginal(model, x, with_error=True)
                    q, options = posterior_of(kind, model, x, rng), {"samples": SAMPLES, "confidence": confidence}
                    lower = refvlm.log_marginal_lower(model, q, x, rng, **options)
                    upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=20, confidence=confidence)
                    lower_broken += not (lower <= value + error).all()
                    upper_broken += not upper >= value.mean() - error.mean()
                    calls += 1
            allowed = 0 if confidence == SURE else int(binom.isf(RARELY, calls, 1.0 - confidence))
            name = "1 - 1e-9" if confidence == SURE else str(confidence)
            for side, broken in (("lower", lower_broken), ("upper", upper_broken)):
                what = f"{side}, q {kind}, confidence {name}: calls broken"
                fine &= show(what, f"at most {allowed}", f"{broken} of {calls}", broken <= allowed)
    return fine


def check_faults() -> bool:
    """Seen by the same counts, at confidence 0.5."""
    model, broken = model_of(0), np.zeros(3, int)
    least = int(binom.isf(RARELY, FAULTY, 0.5)) + 1
    for call in range(FAULTY):
        rng = np.random.default_rng([2, call])
        x, z = model.sample(MANY, rng)
        q, value = posterior_of("posterior", model, x, rng), refvlm.log_marginal(model, x)
        flat, options = posterior_of("flat", model, x, rng), {"samples": 200, "confidence": 0.5}
        with multiplied(1.1):
            lower = refvlm.log_marginal_lower(model, q.take(slice(0, 3)), x[:3], rng, samples=20000, confidence=0.5)
        with multiplied(1.0 / 1.1):
            upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, **options)
        other = model_of(3)
        x, z = other.sample(MANY, rng)
        shifted = refvlm.mean_log_marginal_upper(other, flat, x, np.roll(z, 1, axis=0), rng, samples=1, confidence=0.5)
        truth = refvlm.log_marginal(other, x).mean()
        broken += [(lower > value[:3]).any(), upper < value.mean(), shifted < truth]
    faults = "lower, weights 1.1 times too large", "upper, weights 1.1 times too small", "upper, z of other rows"
    fine = True
    for fault, count in zip(faults, broken.tolist(), strict=True):
        fine &= show(f"fault: {fault}", f"at least {least}", f"{count} of {FAULTY}", count >= least)
    return fine


def table() -> bool:
    """How close both are at confidence 1 - 1e-9."""
    price, fine = -math.log1p(-SURE) / MANY, True
    print(f"\n{MANY} rows, {DRAWS} draws each, confidence 1 - 1e-9; log(1 / delta) / N = {price:.3f}")
    print(f"{'decoder':<22}{'q':<11}{'mean log p(x)':>14}", end="")
    print(f"{'- lower':>10}{'median':>10}{'forecast':>10}{'upper -':>10}  verdict")
    for number, (hidden, activation, scale) in enumerate(MODELS):
        model, rng = model_of(number), np.random.default_rng([3, number])
        x, z = model.sample(MANY, rng)
        value = refvlm.log_marginal(model, x)
        for kind in POSTERIORS:
            q = posterior_of(kind, model, x, rng)
            lower = refvlm.log_marginal_lower(model, q, x, rng, samples=DRAWS)
            upper = refvlm.mean_log_marginal_upper(model, q, x, z, rng, samples=DRAWS)
            variance = relative_variances(model, q, x)
            forecast = np.sqrt(2.0 * math.log(MANY / (1.0 - SURE)) * variance / DRAWS)
            below, above = value - lower, upper - value.mean()
            good = bool((lower <= value).all() and above >= 0.0)
            fine &= good
            name = f"{'-'.join(map(str, hidden))} {activation} x {scale:g}"
            numbers = below.mean(), np.median(below), np.median(forecast), above
            print(f"{name:<22}{kind:<11}{value.mean():>14.4f}", *(f"{number:>9.4f}" for number in numbers), end="")
            print(f"  {'agrees' if good else 'DISAGREES'}", flush=True)
    return fine


def main() -> int:
    print(f"{'what':<62}{'expected':>16}{'got':>18}  verdict")
    fine = all([check_frequencies(), check_faults(), table()])
    return AGREES if fine else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
