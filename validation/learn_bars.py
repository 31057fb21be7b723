"""The bars of Hinton, Dayan, Frey & Neal (1995, Science 268) on their net of 1-8-16 units.

Four ways to learn the same Helmholtz machine from the same world, twenty seeds each. What is reported is exact: the
generative misfit KL(world || model), the recognition gap E[KL(q || p(z | x))] over the world, in bits, and their sum,
which is how far the bound is from the world's entropy. The infimum of the misfit is 0 bits.

All start with generative biases of the hidden units at -3 and everything else within 0.01 of 0; generative weights to
the inputs are never negative; rates are 0.2 for whatever touches the inputs and 0.001 for the rest. That finds the bars
in two runs out of three. Left at that it ends at 0.27 bits, because the upper weights have not come far; with their
rate at 0.03 from three tenths of the examples on they do. Exact gradients have no noise, so these rules go with
momentum, and exact maximum likelihood ends with L-BFGS, without the constraint. The exact gradient of the VLB switches
the hidden units off before it has found a use for them, since q is punished for every unit it is unsure of: from this
start it never leaves the optimum where all pixels are independent. So it is also let loose where wake-sleep is after
three tenths of its examples.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import chain
from typing import NamedTuple

import common
import numpy as np
from numpy.typing import NDArray

import refvlm
from refvlm.learning.ascent import climb, climb_posterior
from refvlm.learning.batches import Batch
from refvlm.learning.machine import Machine
from refvlm.learning.optimisers import sgd
from refvlm.learning.rules import maximum_likelihood, variational
from refvlm.learning.rules.reweighted_wake_sleep import reweighted_wake
from refvlm.learning.rules.wake_sleep import sleep, wake

Floats = NDArray[np.float64]

WORLD = refvlm.bars()
EVERYTHING = Batch(WORLD.images, WORLD.probabilities)
EVERYWHERE = slice(None)
BATCH, SAMPLES = 10, 5
WAKE_SLEEP_EXAMPLES, REWEIGHTED_EXAMPLES, EXACT_STEPS = 2_000_000, 500_000, 3000
NEAR_INPUTS = ("model.decoder.", "posterior.0.")
POINTS = 40


class Outcome(NamedTuple):
    """In bits. course: the misfit along the way."""

    method: str
    seed: int
    misfit: float
    gap: float
    seconds: float
    course: list[float]
    weights: Floats


def machine_of(seed: int) -> Machine:
    """The net before it has seen anything."""
    rng = np.random.default_rng(seed)

    def layer(fan_in: int, fan_out: int, bias: float = 0.0, positive: bool = False) -> refvlm.MLP:
        weights = rng.uniform(-0.01, 0.01, (fan_in, fan_out))
        biases = rng.uniform(-0.01, 0.01, fan_out) + bias
        return refvlm.MLP([np.abs(weights) if positive else weights], [biases])

    top = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.uniform(-0.01, 0.01, 1)), layer(1, 8, bias=-3.0))
    model = refvlm.BernoulliLVM(top, layer(8, 16, positive=True))
    stages = [refvlm.AmortisedPosterior(layer(16, 8)), refvlm.AmortisedPosterior(layer(8, 1))]
    return Machine(model, refvlm.ChainPosterior(stages))


def rates(machine: Machine, inputs: float, rest: float) -> Floats:
    """A learning rate for every parameter."""
    return np.concatenate(
        [np.full(v.size, inputs if name.startswith(NEAR_INPUTS) else rest) for name, v in machine.parameters.items()]
    )


def misfit_bits(model: refvlm.BernoulliLVM) -> float:
    """KL(world || model)."""
    log_px = refvlm.log_marginal(model, WORLD.images, workers=1)
    return float(WORLD.probabilities @ (np.log(WORLD.probabilities) - log_px)) / math.log(2)


def gap_bits(machine: Machine) -> float:
    """E over the world of KL(q || p(z1, z2 | x))."""
    assert machine.posterior is not None
    return float(WORLD.probabilities @ refvlm.kl(machine.model, machine.posterior, WORLD.images, workers=1)) / math.log(
        2
    )


def examples(rng: np.random.Generator, steps: int) -> Iterator[Floats]:
    """Minibatches drawn from the world."""
    for first in range(0, steps, 1000):
        drawn = WORLD.sample(min(1000, steps - first) * BATCH, rng).astype(np.float64)
        yield from drawn.reshape(-1, BATCH, drawn.shape[1])


def sampled(machine: Machine, seed: int, reweighted: bool, share: float) -> Iterator[float]:
    """Wake-sleep, or its reweighted kind with equal parts of wake phi and sleep phi; yields the share that is done."""
    rng = np.random.default_rng([seed, 1])
    steps = int((REWEIGHTED_EXAMPLES if reweighted else WAKE_SLEEP_EXAMPLES) * share) // BATCH
    theta, phi, positive = machine.generative, machine.recognition, machine.parameters["model.decoder.weights.0"]
    early, late = rates(machine, 0.2, 0.001), rates(machine, 0.2, 0.03)
    for step, x in enumerate(examples(rng, steps)):
        rate = early if step < 0.3 * steps else late
        if reweighted:
            generative, recognition = reweighted_wake(machine, x, rng, SAMPLES)
        else:
            generative = wake(machine, x, rng)
        machine.vector[theta] += rate[theta] * generative
        np.maximum(positive, 0.0, out=positive)
        asleep = sleep(machine, BATCH, rng)
        machine.vector[phi] += rate[phi] * (0.5 * (recognition + asleep) if reweighted else asleep)
        yield (step + 1) / steps


def exact(machine: Machine, direction: Callable[[], Floats], part: slice, share: float) -> Iterator[float]:
    """Steps with momentum along an exact gradient; yields the share that is done."""
    optimiser, positive = sgd(0.9), machine.parameters["model.decoder.weights.0"]
    rate, steps = rates(machine, 0.5, 0.05)[part], int(EXACT_STEPS * share)
    state = optimiser.init(len(rate))
    for step in range(steps):
        machine.vector[part] += rate * optimiser.update(state, direction(), 1.0)
        np.maximum(positive, 0.0, out=positive)
        yield (step + 1) / steps


def route(machine: Machine, method: str, seed: int, share: float) -> Iterator[float]:
    """The steps of a method; yields the share that is done."""
    if method == "exact ML":
        return exact(machine, lambda: maximum_likelihood.gradient(machine, EVERYTHING, 1)[0], machine.generative, share)
    if method == "exact VLB":
        return exact(machine, lambda: variational.gradient(machine, EVERYTHING, 1), EVERYWHERE, share)
    if method == "exact VLB after wake-sleep":
        first = (done / 2 for done in sampled(machine, seed, False, 0.3 * share))
        then = exact(machine, lambda: variational.gradient(machine, EVERYTHING, 1), EVERYWHERE, share)
        return chain(first, (0.5 + done / 2 for done in then))
    return sampled(machine, seed, method == "reweighted wake-sleep", share)


def learn(method: str, seed: int, share: float) -> Outcome:
    """One run."""
    machine, begun, course = machine_of(seed), time.perf_counter(), []
    for done in route(machine, method, seed, share):
        if done * POINTS >= len(course) + 1:
            course.append(misfit_bits(machine.model))
    if method == "exact ML":
        model, q = machine.snapshot()
        assert q is not None
        q = climb_posterior(model, q, WORLD.images, 300, WORLD.probabilities, workers=1)
        model = climb(model, WORLD.images, 1500, WORLD.probabilities, workers=1)
        q = climb_posterior(model, q, WORLD.images, 300, WORLD.probabilities, workers=1)
        machine = Machine(model, q)
        course.append(misfit_bits(model))
    weights = machine.parameters["model.decoder.weights.0"].copy()
    return Outcome(
        method, seed, misfit_bits(machine.model), gap_bits(machine), time.perf_counter() - begun, course, weights
    )


def check_split(report: common.Report) -> None:
    """Misfit and gap add up to the distance from the bound to the world's entropy, by separate routes."""
    machine = machine_of(0)
    for _ in sampled(machine, 0, False, 0.001):
        pass
    assert machine.posterior is not None
    bound = refvlm.vlb(machine.model, machine.posterior, WORLD.images)
    distance = float(WORLD.probabilities @ (np.log(WORLD.probabilities) - bound)) / math.log(2)
    report.check("misfit + gap", distance, misfit_bits(machine.model) + gap_bits(machine), 1e-11)


METHODS = ("wake-sleep", "reweighted wake-sleep", "exact VLB", "exact VLB after wake-sleep", "exact ML")


def main() -> int:
    """The tables and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument(
        "--quick", action="store_true", help="three seeds, a twentieth of the examples, no verdict on them"
    )
    parser.add_argument("--picture", metavar="FILE", help="draw courses and weights (needs matplotlib)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: %(default)s)")
    arguments = parser.parse_args()
    seeds, share = (3, 0.05) if arguments.quick else (arguments.seeds, 1.0)
    report = common.Report()
    check_split(report)
    jobs = [(method, seed, share) for method in METHODS for seed in range(seeds)]
    with ProcessPoolExecutor(arguments.workers) as pool:
        outcomes = list(pool.map(learn, *zip(*jobs, strict=True)))
    print(f"\nbits over {seeds} seeds           misfit KL(world || model)     gap E[KL(q || p(z|x))]      seconds")
    print(f"{'':27}{'best':>8}{'median':>9}{'worst':>8}{'best seed':>14}{'median':>9}{'a run':>12}")
    found = {}
    for method in METHODS:
        runs = sorted((run for run in outcomes if run.method == method), key=lambda run: run.misfit)
        misfits, gaps = np.array([run.misfit for run in runs]), np.array([run.gap for run in runs])
        found[method] = misfits
        print(f"{method:27}{misfits[0]:8.4f}{np.median(misfits):9.4f}{misfits[-1]:8.3f}{gaps[0]:14.4f}"
              f"{np.median(gaps):9.4f}{np.mean([run.seconds for run in runs]):12.1f}")  # fmt: skip
    for method in METHODS:
        print(f"  {method}: " + " ".join(f"{value:.3f}" for value in found[method]))
    if not arguments.quick:
        zero = 0.0
        report.check("wake-sleep, best misfit at most 0.10 bits", zero, found["wake-sleep"][0], 0.10)
        report.check("reweighted, median at most 0.15 bits", zero, np.median(found["reweighted wake-sleep"]), 0.15)
        report.check("exact ML, median at most 0.05 bits", zero, np.median(found["exact ML"]), 0.05)
        report.check("exact ML, best at most 0.01 bits", zero, found["exact ML"][0], 0.01)
    if arguments.picture:
        draw(outcomes, arguments.picture)
    return report.finish()


def draw(outcomes: list[Outcome], path: str) -> None:
    """Courses of the misfit, one panel for each method, above the best run's weights from each hidden unit."""
    if (pyplot := common.pyplot()) is None:
        return
    figure = pyplot.figure(figsize=(13, 6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[2, 1])
    panels = upper.subplots(1, len(METHODS), sharey=True)
    for panel, method, below in zip(panels, METHODS, lower.subfigures(1, len(METHODS)), strict=True):
        runs = sorted((run for run in outcomes if run.method == method), key=lambda run: run.misfit)
        for run in runs:
            panel.plot(np.arange(1, len(run.course) + 1) / len(run.course), run.course, color="0.6", linewidth=0.8)
        panel.plot(np.arange(1, len(runs[0].course) + 1) / len(runs[0].course), runs[0].course, color="C3")
        panel.set(title=method, yscale="log", xlabel="share of the run")
        panel.axhline(0.10, color="0.3", linestyle=":", linewidth=0.8)
        for image, weights in zip(below.subplots(2, 4).ravel(), runs[0].weights, strict=True):
            image.imshow(weights.reshape(4, 4), cmap="gray_r", vmin=0.0)
            image.set(xticks=[], yticks=[])
    panels[0].set_ylabel("KL(world || model), bits")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
