"""The posterior of the parameters, averaged over: `python validation/learn_average.py FOLDER`.

FOLDER as for learn_density.py; the data are nltcs. What maximum likelihood loses on new rows is mostly the error of its
estimate. A Bayesian keeps all parameters theta that the data leave possible, and predicts p(x) by the mean of
p(x; theta) over p(theta | data). With the exact gradient of log p(x), eq. (5), that can be sampled: underdamped
Langevin dynamics, at unit mass and temperature, on

    U(theta) = -sum_n log p(x_n; theta) + sum_g lambda_g |theta_g|^2 / 2,

where g runs over the weights into each hidden unit, the weights out of each, and the other arrays, and each precision
lambda_g, a priori Gamma(1, 1), is drawn anew from its conditional Gamma(1 + size / 2, rate 1 + |theta_g|^2 / 2) (Neal
1996, Bayesian Learning for Neural Networks), which lets the data say how many units they need. Half of the chains are
shallow models, half have two layers of latents. With 16 observed bits the average is a table over all 2^16 x, so it is
seen to be a distribution.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
import scipy.linalg
from learn_density import rows
from numpy.typing import NDArray

import refvlm
from refvlm.progress import ProgressBar

Floats = NDArray[np.float64]

NETS: tuple[dict[str, Any], ...] = ({"latents": 10, "hidden": (64,)}, {"latents": (10, 6), "hidden": (32,)})
"""Chains take them in turn."""
START: dict[str, Any] = {
    "activation": "sigmoid",
    "learning_rate": 0.02,
    "batch_size": 200,
    "epochs": 30,
    "schedule": "cosine",
    "beta2": 0.999,
    "weight_decay": 0.0,
    "patience": 30,
}
STEP, FRICTION = 0.004, 1.0
BETWEEN = 50
"""Steps between two draws of the precisions, and between two models that are averaged."""
CHAINS, SAMPLES, SKIPPED = 6, 1200, 800
"""How many chains, how many models each gives to the average, and how many it leaves out first: it starts from a fit
of maximum likelihood, and forgets that slowly."""
LEAST, LEAST_TRAIN = -5.98, -5.983


class State(NamedTuple):
    """Parameters as one vector, their momenta, and the force on them: minus the gradient of U."""

    place: Floats
    momentum: Floats
    force: Floats


def step(state: State, force: Callable[[Floats], Floats], length: float, rng: np.random.Generator | Noise) -> State:
    """One step of BAOAB (Leimkuhler & Matthews 2013): kick, drift, friction and noise, drift, kick.

    On a quadratic potential its places have the exact variance at any stable length (`check_step`).
    """
    place, momentum, push = state
    kept = math.exp(-FRICTION * length)
    momentum = momentum + length / 2 * push
    place = place + length / 2 * momentum
    momentum = kept * momentum + math.sqrt(1 - kept**2) * rng.normal(size=momentum.shape)
    place = place + length / 2 * momentum
    push = force(place)
    return State(place, momentum + length / 2 * push, push)


class Arrays:
    """A model's parameters as one vector, and back."""

    def __init__(self, model: refvlm.BernoulliLVM) -> None:
        self.model = model
        self.shapes = {name: value.shape for name, value in model.parameters().items()}
        ends = np.cumsum([math.prod(shape) for shape in self.shapes.values()])
        self.slices = [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]

    def vector(self, parameters: dict[str, Any]) -> NDArray[Any]:
        """All of them in a row, in the model's order."""
        return np.concatenate([parameters[name].ravel() for name in self.shapes])

    def at(self, vector: Floats) -> refvlm.BernoulliLVM:
        """The model with these parameters."""
        parts = zip(self.shapes.items(), self.slices, strict=True)
        return self.model.with_parameters({name: vector[part].reshape(shape) for (name, shape), part in parts})


def pull(arrays: Arrays, x: NDArray[np.uint8], weights: Floats, strength: Floats, vector: Floats) -> Floats:
    """Minus the gradient of U at given precisions, rows x counted by weights."""
    _, gradient = refvlm.log_marginal_and_grad(arrays.at(vector), x, weights=weights)
    return arrays.vector(gradient) - strength * vector


def groups(arrays: Arrays) -> NDArray[np.int64]:
    """The number g of the precision of each parameter: one for each hidden unit's column of the weights before it, one
    for its row of the weights after it, and one for each other array."""
    numbers, used = {}, 0
    for name, shape in arrays.shapes.items():
        if name.endswith("weights.0"):
            own = np.broadcast_to(np.arange(shape[1]), shape)
        elif name.endswith("weights.1"):
            own = np.broadcast_to(np.arange(shape[0])[:, None], shape)
        else:
            own = np.zeros(shape, dtype=np.int64)
        numbers[name] = used + own
        used += int(own.max()) + 1
    return arrays.vector(numbers)


def precisions(vector: Floats, group: NDArray[np.int64], rng: np.random.Generator) -> Floats:
    """A draw of lambda given theta, one for each group, repeated over its entries."""
    sizes, squares = np.bincount(group), np.bincount(group, vector**2)
    drawn: Floats = (rng.gamma(1 + sizes / 2) / (1 + squares / 2))[group]
    return drawn


def chain(model: refvlm.BernoulliLVM, x: NDArray[np.uint8], seed: int) -> Iterator[tuple[refvlm.BernoulliLVM, float]]:
    """Models from p(theta | x), one in BETWEEN steps, each with the mean square of the momenta since the last."""
    rng = np.random.default_rng(seed)
    arrays = Arrays(model)
    group = groups(arrays)
    unique, counts = np.unique(x, axis=0, return_counts=True)
    weights = counts.astype(np.float64)
    place = arrays.vector(model.parameters())
    momentum = rng.normal(size=place.size)
    while True:
        force = functools.partial(pull, arrays, unique, weights, precisions(place, group, rng))
        state, heat = State(place, momentum, force(place)), 0.0
        for _ in range(BETWEEN):
            state = step(state, force, STEP, rng)
            heat += float(state.momentum @ state.momentum) / place.size / BETWEEN
        place, momentum = state.place, state.momentum
        yield arrays.at(place), heat


class Noise:
    """Stands in for the generator: `normal` gives what it was told."""

    def __init__(self, told: Floats) -> None:
        self.told = told

    def normal(self, size: tuple[int, ...]) -> Floats:
        """Of this size already."""
        return self.told.reshape(size)


def check_step(report: common.Report) -> None:
    """The stationary variance of a place in a quadratic well: 1 / its stiffness, exactly.

    There a step is linear in place, momentum and noise, so three steps show its matrices A and B, and the covariance
    solves S = A S A' + B B'.
    """
    for stiffness in (0.5, 30.0, 1e3, 1e5):

        def force(place: Floats, stiffness: float = stiffness) -> Floats:
            return -stiffness * place

        columns = []
        for place, momentum, noise in np.eye(3)[:, :, None]:
            after = step(State(place, momentum, force(place)), force, STEP, Noise(noise))
            columns.append(np.concatenate([after.place, after.momentum]))
        moved, shaken = np.array(columns[:2]).T, np.array(columns[2:]).T
        covariance = scipy.linalg.solve_discrete_lyapunov(moved, shaken @ shaken.T)
        report.check(
            "variance of a place in a quadratic well, times stiffness", 1.0, covariance[0, 0] * stiffness, 1e-9
        )


def table(model: refvlm.BernoulliLVM) -> Floats:
    """p(x) for every x, x_0 varying fastest."""
    return np.exp(refvlm.log_marginal(model, refvlm.bits.table(model.observed).astype(np.uint8)))


def mean_log(p: Floats, x: NDArray[np.uint8]) -> float:
    """The mean of log p(x_n) by the table."""
    return float(np.log(p[x @ (1 << np.arange(x.shape[1]))]).mean())


def main() -> int:
    """The table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--train-only", action="store_true", help="leave the validation rows out of the data")
    parser.add_argument("--quick", action="store_true", help="two short chains, and no figure to reach")
    arguments = parser.parse_args()
    chains, samples, skipped = (2, 5, 20) if arguments.quick else (CHAINS, SAMPLES, SKIPPED)
    train, valid, test = (rows(arguments.folder, "nltcs", part) for part in ("train", "valid", "test"))
    data = train if arguments.train_only else np.concatenate([train, valid])
    report = common.Report()
    check_step(report)
    average = np.zeros(1 << train.shape[1])
    print(f"{'chain':>5} {'latents':<9}{'heat':>8}{'one: valid':>12}{'test':>10}{'chain: valid':>14}{'test':>10}"
          f"{'all: valid':>12}{'test':>10}{'seconds':>9}")  # fmt: skip
    for seed in range(chains):
        begun = time.perf_counter()
        net = NETS[seed % len(NETS)]
        start = refvlm.fit(train, **net, validation=valid, posterior="none", seed=seed, **START).model
        tables, heats, singles = np.zeros(len(average)), 0.0, np.zeros(2)
        with ProgressBar(f"chain {seed}") as bar:
            for done, (model, heat) in enumerate(itertools.islice(chain(start, data, seed), skipped + samples)):
                bar(done, skipped + samples)
                if done < skipped:
                    continue
                p = table(model)
                tables += p / samples
                heats += heat / samples
                singles += np.array([mean_log(p, valid), mean_log(p, test)]) / samples
        average += tables / chains
        so_far = average * (chains / (seed + 1))
        print(f"{seed:5} {net['latents']!s:<9}{heats:8.4f}{singles[0]:12.4f}{singles[1]:10.4f}"
              f"{mean_log(tables, valid):14.4f}{mean_log(tables, test):10.4f}{mean_log(so_far, valid):12.4f}"
              f"{mean_log(so_far, test):10.4f}{time.perf_counter() - begun:9.0f}", flush=True)  # fmt: skip
        report.check("mean square of a momentum", 1.0, heats, 0.1 if arguments.quick else 0.02)
    report.check("the average, summed over all x", 1.0, average.sum(), 1e-12)
    if not arguments.quick:
        least = LEAST_TRAIN if arguments.train_only else LEAST
        short = max(0.0, least - mean_log(average, test))
        report.check(f"nltcs: at least {least:g}, short of it by", 0.0, short, 0.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
