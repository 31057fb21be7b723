"""The VLB of linear decoders without a sum over codes, against the sum in extended precision.

    python validation/linear_bound.py             ten thousand problems with K up to 16, five hundred of two layers with
                                                  K1, K2 up to 6, then a thousand rows at K = 200
    python validation/linear_bound.py --quick     three hundred problems with K up to 8, and forty of two layers

Expected: E_q[log p(x | z)] + E_q[log p(z)] + H(q), eq. (10), over all codes in NumPy's long double (64 bits of mantissa
or more, else the script says so), nothing of refvlm in it. Got: `vlb(..., with_error=True)`, which is made to take the
way by characteristic functions at every K. Of two layers z2 -> z1 -> x: the same with a `LayerwisePosterior`, over all
pairs of codes. For each family: problems, bounds broken, the largest error in units of its
bound, and, where no logit can exceed 50, the largest bound in units of 1e-12 (1 + |VLB|). Gradients are compared with
those of the sum.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from common import AGREES, DISAGREES, NO_FRAMEWORK, binary

import refvlm
from refvlm.inference import bounds

Array = Any
Long = np.longdouble


def problem(family: str, rng: np.random.Generator, most: int) -> tuple[Any, Any, Array]:
    """A model, q and rows of x; K, L and N are never equal."""
    while True:
        latents, observed, rows = (int(rng.integers(1, top)) for top in (most + 1, 24, 6))
        if family == "one bit":
            latents = 1
        if family == "one output":
            observed = 1
        if len({latents, observed, rows}) == 3:
            break
    scale = {"weak": 0.1, "strong": 6.0, "hostile": 400.0}.get(family, 1.5)
    weights = rng.normal(size=(latents, observed)) * scale / np.sqrt(latents)
    biases = rng.normal(size=observed) * min(scale, 5.0)
    logits = rng.normal(size=(rows, latents)) * 2.0
    prior = rng.normal(size=latents)
    if family == "cancelling":
        weights = np.concatenate([weights, -weights * (1 + 2.0**-30)])[:latents] * 10.0
        biases = -weights.sum(axis=0) / 2
    if family == "certain":
        logits *= 30.0
        logits[:, 0] = rng.choice([-np.inf, np.inf])
    if family == "even":
        logits *= 0.0
    if family == "degenerate prior":
        prior[0] = rng.choice([-np.inf, np.inf])
        logits[:, 0] = prior[0]
    if family == "saturated":
        weights, biases = weights * 0.3, np.where(rng.random(observed) < 0.5, -25.0, 25.0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), refvlm.MLP([weights], [biases]))
    x = model.sample(rows, rng)[0] if rng.random() < 0.5 or family == "saturated" else binary(rows, observed, rng)
    return model, refvlm.PerDatumPosterior(logits), x


FAMILIES = (
    "ordinary", "weak", "strong", "hostile", "cancelling", "certain", "even", "degenerate prior", "saturated",
    "one bit", "one output",
)  # fmt: skip


LAYERED = ("layers", "weak layers", "strong layers", "certain layers", "degenerate layers", "hostile layers")


def layered_problem(family: str, rng: np.random.Generator) -> tuple[Any, Any, Array]:
    """The same of two layers of latents; L, K1, K2 and N are never equal."""
    while True:
        observed, lower, upper, rows = (int(rng.integers(1, top)) for top in (14, 7, 7, 6))
        if len({observed, lower, upper, rows}) == 4:
            break
    scale = {"weak": 0.1, "strong": 6.0, "hostile": 300.0}.get(family.split()[0], 1.5)
    logits = [rng.normal(size=(rows, k)) * 2.0 for k in (lower, upper)]
    prior = rng.normal(size=upper)
    if family == "certain layers":
        for each in logits:
            each *= 30.0
            each[:, 0] = rng.choice([-np.inf, np.inf])
    if family == "degenerate layers":
        prior[0] = rng.choice([-np.inf, np.inf])
        logits[1][:, 0] = prior[0]
    model: Any = refvlm.Bernoulli(prior)
    for below, above in ((lower, upper), (observed, lower)):
        weights, biases = rng.normal(size=(above, below)) * scale / np.sqrt(above), rng.normal(size=below)
        model = refvlm.BernoulliLVM(model, refvlm.MLP([weights], [biases]))
    x = model.sample(rows, rng)[0] if rng.random() < 0.5 else binary(rows, observed, rng)
    return model, refvlm.LayerwisePosterior([refvlm.PerDatumPosterior(each) for each in logits]), x


def log_sigmoid(a: Array) -> Array:
    return np.minimum(a, Long(0)) - np.log1p(np.exp(-np.abs(a)))


def codes(latents: int) -> Array:
    return (np.arange(1 << latents)[:, None] >> np.arange(latents)) & 1


def log_bits(logits: Array, z: Array) -> Array:
    """log Bernoulli(z; sigmoid(logits)), added up over the last axis."""
    return np.where(z == 1, log_sigmoid(logits), log_sigmoid(-logits)).sum(axis=-1)


def expected(model: Any, q: Any, x: Array) -> Array:
    """Eq. (10) over all codes."""
    z = codes(model.latents)
    a = z.astype(Long) @ model.decoder.weights[0].astype(Long) + model.decoder.biases[0].astype(Long)
    on, off = log_sigmoid(a), log_sigmoid(-a)
    prior, logits = model.prior.logits.astype(Long), q.logits.astype(Long)
    log_prior = log_bits(prior, z)
    value = np.empty(len(x), dtype=Long)
    for n, row in enumerate(x):
        log_q = log_bits(logits[n], z)
        mass = np.exp(log_q)
        with np.errstate(invalid="ignore"):
            inside = np.where(row == 1, on, off).sum(axis=1) + log_prior - log_q
        value[n] = (mass * np.where(mass > 0, inside, 0)).sum()
    return value


def expected_of_layers(model: Any, q: Any, x: Array) -> Array:
    """Eq. (10) over all pairs of codes (z1, z2), with q(z1 | x) q(z2 | x)."""
    lower, upper = codes(model.latents), codes(model.prior.latents)
    likelihood, between = (
        each.decoder.biases[0].astype(Long) + z.astype(Long) @ each.decoder.weights[0].astype(Long)
        for each, z in ((model, lower), (model.prior, upper))
    )
    joint = log_bits(between[None], lower[:, None]) + log_bits(model.top.logits.astype(Long), upper)
    value = np.empty(len(x), dtype=Long)
    for n, row in enumerate(x):
        log_q1, log_q2 = (
            log_bits(stage.logits[n].astype(Long), z) for stage, z in zip(q.stages, (lower, upper), strict=True)
        )
        log_q = log_q1[:, None] + log_q2
        mass = np.exp(log_q)
        with np.errstate(invalid="ignore"):
            inside = log_bits(likelihood, row)[:, None] + joint - log_q
        value[n] = (mass * np.where(mass > 0, inside, 0)).sum()
    return value


def problems_of(families: tuple[str, ...], count: int, most: int) -> Iterator[tuple[str, Iterator[Any]]]:
    """Each family with its problems and what is expected."""

    def of(family: str, number: int) -> Iterator[Any]:
        for index in range(number, count, len(families)):
            if families is LAYERED:
                given = layered_problem(family, np.random.default_rng([50 + number, index]))
                yield *given, expected_of_layers(*given)
            else:
                size = most if index % 25 == 0 else min(most, 11)
                given = problem(family, np.random.default_rng([number, index]), size)
                yield *given, expected(*given)

    for number, family in enumerate(families):
        yield family, of(family, number)


def check_bounds(quick: bool) -> bool:
    print(f"{'family':<18}{'problems':>9}{'broken':>8}{'error / bound':>15}{'bound / 1e-12 (1 + |VLB|)':>28}")
    fine = True
    of_one, of_two = (300, 40) if quick else (10_000, 500)
    for families, count in ((FAMILIES, of_one), (LAYERED, of_two)):
        for family, given in problems_of(families, count, 8 if quick else 16):
            problems = broken = 0
            worst = largest = 0.0
            for model, q, x, exact in given:
                value, bound = refvlm.vlb(model, q, x, with_error=True)
                error = np.abs(value.astype(Long) - exact).astype(np.float64)
                problems, broken = problems + 1, broken + int((error > bound).any())
                worst = max(worst, float((error / bound).max()))
                decoders = [layer.decoder for layer in model.layers]
                logits = [(np.abs(d.biases[0]) + np.abs(d.weights[0]).sum(axis=0)).max() for d in decoders]
                if max(logits) < 50.0:
                    largest = max(largest, float((bound / (1e-12 * (1 + np.abs(value)))).max()))
            good = broken == 0 and largest < 1.0
            fine &= good
            verdict = "agrees" if good else "DISAGREES"
            print(f"{family:<18}{problems:>9}{broken:>8}{worst:>15.3f}{largest:>28.3f}  {verdict}", flush=True)
    return fine


def check_gradients() -> bool:
    """Against the gradient of the sum, 200 problems."""
    worst = 0.0
    for index in range(200):
        model, q, x = problem(FAMILIES[index % len(FAMILIES)], np.random.default_rng([99, index]), 9)
        got = refvlm.grad_vlb(model, q, x)
        bounds.SUMMED_LATENTS = 20
        wanted = refvlm.grad_vlb(model, q, x)
        bounds.SUMMED_LATENTS = 0
        scale = 1 + np.abs(model.decoder.weights[0]).sum()
        worst = max(worst, *(float(np.abs(got[name] - wanted[name]).max() / scale) for name in got))
    good = worst < 1e-12
    print(
        f"gradients: largest difference {worst:.1e} (1 + sum |W|), allowed 1e-12: {'agrees' if good else 'DISAGREES'}"
    )
    return good


def measure() -> bool:
    rng, latents, observed, rows = np.random.default_rng(0), 200, 199, 1000
    weights = rng.normal(size=(latents, observed)) / np.sqrt(latents)
    model = refvlm.BernoulliLVM(
        refvlm.Bernoulli(rng.normal(size=latents)), refvlm.MLP([weights], [rng.normal(size=observed) / 2])
    )
    q, x = refvlm.PerDatumPosterior(rng.normal(size=(rows, latents))), model.sample(rows, rng)[0]
    fine = True
    for name, call, allowed in (("vlb", refvlm.vlb, 2.0), ("grad_vlb", refvlm.grad_vlb, 5.0)):
        call(model, q.take(slice(0, 2)), x[:2])
        start = time.perf_counter()
        call(model, q, x)
        seconds = time.perf_counter() - start
        fine &= seconds < allowed
        verdict = "agrees" if seconds < allowed else "DISAGREES"
        print(f"{name} of {rows} rows, K = {latents}, L = {observed}: {seconds:.2f} s, allowed {allowed:g}: {verdict}")
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    if np.finfo(Long).nmant < 63:
        print("long double has no more digits than float64 here: nothing to compare with")
        return NO_FRAMEWORK
    bounds.SUMMED_LATENTS = 0
    fine = check_bounds(quick) & check_gradients()
    if not quick:
        fine &= measure()
    return AGREES if fine else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
