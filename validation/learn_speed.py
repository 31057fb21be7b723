"""The cost of one step of learning: `python validation/learn_speed.py`.

Exact maximum likelihood with Adam, all rows at once, against PyTorch's autograd with its own Adam on the same rows and
model, in turn, so that both meet the same machine. Wake-sleep on the net of 1-8-16 units against the 203
microseconds per example that a public NumPy reproduction of Hinton et al. (1995) takes one example at a time on a
two-core AMD EPYC. Times say little where anything else runs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import common
import learn_bars
import numpy as np

import refvlm
from refvlm.learning.batches import Data
from refvlm.learning.machine import Machine
from refvlm.learning.rules import MaximumLikelihood
from refvlm.learning.rules.wake_sleep import sleep, wake
from refvlm.learning.training import Settings, Training

ROWS, LATENTS, HIDDEN, OBSERVED = 2671, 10, 32, 16
RATE = 1e-3
REPRODUCTION = 203.0


def ours(model: refvlm.BernoulliLVM, x: np.ndarray[Any, Any]) -> Training:
    """A training of which a step is one full-batch step."""
    settings = Settings(
        rule=MaximumLikelihood(), epochs=10**6, batch_size=None, optimiser="adam", learning_rate=RATE,
        momentum=0.0, beta2=0.999, schedule="constant", weight_decay=0.0, patience=None, evaluate_every=10**6, seed=0,
    )  # fmt: skip
    return Training(Machine(model), Data("x", x), None, settings)


def theirs(torch: Any, model: refvlm.BernoulliLVM, x: np.ndarray[Any, Any], leaves: list[Any]) -> Callable[[], None]:
    """The same step in PyTorch: the sum over all codes at once, autograd, Adam."""
    softplus = torch.nn.functional.softplus
    z = torch.tensor(refvlm.bits.table(model.latents), dtype=torch.float64)
    rows = torch.tensor(x, dtype=torch.float64)
    adam = torch.optim.Adam(leaves, lr=RATE)

    def step() -> None:
        logits, w1, b1, w2, b2 = leaves
        a = torch.addmm(b2, torch.tanh(torch.addmm(b1, z, w1)), w2)
        joint = z @ logits - softplus(logits).sum() - softplus(a).sum(1)
        loss = -torch.logsumexp(joint[:, None] + a @ rows.T, 0).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()

    return step


def microseconds(batch: int, steps: int) -> float:
    """Per example of one wake and one sleep step; the best of several turns."""
    machine, rng = learn_bars.machine_of(0), np.random.default_rng(0)
    x = learn_bars.WORLD.sample(batch, rng).astype(np.float64)
    turns = []
    for _ in range(7):
        begun = time.perf_counter()
        for _ in range(steps):
            machine.vector[machine.generative] += 0.01 * wake(machine, x, rng)
            machine.vector[machine.recognition] += 0.01 * sleep(machine, batch, rng)
        turns.append((time.perf_counter() - begun) / (steps * batch) * 1e6)
    return min(turns)


def main() -> int:
    """Ratios and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=30)
    arguments = parser.parse_args()
    report = common.Report()
    one, hundred = microseconds(1, 3000), microseconds(100, 500)
    print(f"wake-sleep, microseconds per example: {one:.1f} one at a time, {hundred:.2f} in batches of 100")
    report.check("wake-sleep, batch 1: at most a third of 203 microseconds", 0.0, one, REPRODUCTION / 3)
    report.check("wake-sleep, batch 100: at most a fiftieth of it", 0.0, hundred, REPRODUCTION / 50)
    try:
        import torch
    except ImportError:
        print("PyTorch is not installed: no step to compare with")
        return report.finish() or common.NO_FRAMEWORK
    rng = np.random.default_rng(1)
    model = refvlm.BernoulliLVM(
        refvlm.Bernoulli(rng.normal(size=LATENTS)), refvlm.MLP(*common.random_arrays([LATENTS, HIDDEN, OBSERVED], rng))
    )
    x = np.unique(common.binary(4 * ROWS, OBSERVED, rng), axis=0)
    x = x[rng.permutation(len(x))[:ROWS]]
    training = ours(model, x)
    leaves = [torch.tensor(model.prior.logits, requires_grad=True)]
    for weights, biases in zip(model.decoder.weights, model.decoder.biases, strict=True):
        leaves += [torch.tensor(weights, requires_grad=True), torch.tensor(biases, requires_grad=True)]
    step = theirs(torch, model, x, leaves)
    for _ in range(3):
        training.step()
        step()
    moved = np.concatenate([leaf.detach().numpy().ravel() for leaf in leaves])
    mine = training.machine.parameters
    order = ["prior.logits", "decoder.weights.0", "decoder.biases.0", "decoder.weights.1", "decoder.biases.1"]
    report.check(
        "parameters after three steps", moved, np.concatenate([mine[f"model.{k}"].ravel() for k in order]), 1e-9
    )
    times: dict[str, list[float]] = {"ours": [], "1": [], "2": []}
    for _ in range(arguments.turns):
        begun = time.perf_counter()
        for _ in range(5):
            training.step()
        times["ours"].append((time.perf_counter() - begun) / 5)
        for threads in ("1", "2"):
            torch.set_num_threads(int(threads))
            begun = time.perf_counter()
            step()
            times[threads].append(time.perf_counter() - begun)
    middle = {name: statistics.median(found) * 1e3 for name, found in times.items()}
    ratio = min(middle["1"], middle["2"]) / middle["ours"]
    print(
        f"exact ML with Adam, N={ROWS}, K={LATENTS}, H={HIDDEN}, L={OBSERVED}: {middle['ours']:.2f} ms a step; PyTorch:"
    )
    print(f"  {middle['1']:.1f} ms on one thread, {middle['2']:.1f} on two, at best {ratio:.1f} times as long")
    report.check("exact ML step: eighths of PyTorch's time", 0.0, 8.0 / ratio, 1.0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
