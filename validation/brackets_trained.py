"""Certified log p(x) of trained models whose latents are too many for a sum: K = 48, 100 and 200.

    python validation/brackets_trained.py --quick                     digits, wake-sleep, K = 48 alone
    python validation/brackets_trained.py --data FOLDER               digits and four sets of the DEBD collection
    python validation/brackets_trained.py --data FOLDER digits dna    these sets
    python validation/brackets_trained.py --data FOLDER --plants      the mean over 1000 test rows of plants

--data FOLDER holds NAME/NAME.train.data and NAME/NAME.test.data, comma-separated zeros and ones, as that collection of
benchmarks of density estimation has them; without it, only digits. Models: linear decoders by wake-sleep and reweighted
wake-sleep from up to 4000 rows (of digits the first 1500), 96000 row updates. Printed: bounds on the mean log p(x) over
up to 200 test rows in --seconds a model, confidence 1 - 1e-9, their distance, and the median and worst width of a row's
bracket; beside it exact maximum likelihood with K = 14, whose mean log p(x) is a sum. Expected: the median width of 20
test rows, alone for 4 seconds each, is at most 0.008 nats for digits by wake-sleep and 0.15 for dna by reweighted
wake-sleep, both K = 48; with --plants the bounds on the mean are at most 0.01 apart after two minutes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import AGREES, DISAGREES

import refvlm

Array = Any
SETS = ("digits", "nltcs", "plants", "dna", "mushrooms")
METHODS = ("wake-sleep", "reweighted-wake-sleep")
SIZES = (48, 100, 200)
SUMMED = 14
"""Latents of the model by exact maximum likelihood."""
MUSTS = {("digits", "wake-sleep", 48): 0.008, ("dna", "reweighted-wake-sleep", 48): 0.15}
"""The median width of a row's bracket that is wanted after 4 seconds."""
ALONE, ONE = 20, 4.0
"""Rows that are bracketed alone, and the seconds of each."""
PLANTS, PLANTS_SECONDS, PLANTS_WIDTH = 1000, 120.0, 0.01


def rows(folder: Path | None, name: str) -> tuple[Array, Array] | None:
    """Rows to learn from and others to test; None, and a word, where they are not."""
    if name == "digits":
        x = refvlm.digits()
        return x[:1500], x[1500:]
    if folder is None:
        print(f"{name}: skipped, --data says where it is", flush=True)
        return None
    paths = [folder / name / f"{name}.{part}.data" for part in ("train", "test")]
    if not all(path.is_file() for path in paths):
        print(f"{name}: skipped, there is no {paths[0]}", flush=True)
        return None
    train, test = (np.loadtxt(path, delimiter=",", dtype=np.uint8) for path in paths)
    return train[:4000], test


def trained(train: Array, method: str, latents: int) -> refvlm.BernoulliLVM:
    epochs = max(10, 96000 // len(train))
    more = {"samples": 5} if method == "reweighted-wake-sleep" else {}
    return refvlm.fit(
        train, latents=latents, hidden=(), method=method, epochs=epochs, seed=0, workers=1, evaluate_every=epochs,
        learning_rate=0.01, batch_size=100, schedule="constant", beta2=0.999, validation=False, **more,
    ).model  # fmt: skip


def summed(train: Array, test: Array) -> float:
    """Mean log p(x) of the test rows under a linear model by exact maximum likelihood."""
    model = refvlm.fit(
        train, latents=SUMMED, hidden=(), method="maximum-likelihood", epochs=20, batch_size=100, learning_rate=0.02,
        evaluate_every=20, schedule="constant", beta2=0.999, validation=False, seed=0, posterior="none",
    ).model  # fmt: skip
    return float(refvlm.log_marginal(model, test).mean())


def warm_up() -> None:
    """Compile and load what a bracket needs, so that it is not counted."""
    rng = np.random.default_rng(0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(64)), refvlm.MLP([rng.normal(size=(64, 50))], [np.zeros(50)]))
    refvlm.bracket(model, np.zeros((2, 50)), samples=9000, boxes=2, rng=rng)


def alone(model: refvlm.BernoulliLVM, test: Array, wanted: float, what: str) -> bool:
    """One row in 4 seconds: the median width and its verdict."""
    rng, widths = np.random.default_rng(0), []
    for n in range(min(ALONE, len(test))):
        result = refvlm.bracket(model, test[n : n + 1], seconds=ONE, rng=rng)
        widths.append(float(result.upper[0] - result.lower[0]))
    median = float(np.median(widths))
    good = median <= wanted
    verdict = "agrees" if good else "DISAGREES"
    what = f"    {what}: one row in {ONE:g} s, median width of {len(widths)}"
    print(f"{what}: expected at most {wanted:g}, got {median:.4f} (worst {max(widths):.4f})  {verdict}", flush=True)
    return good


def plants(folder: Path | None) -> bool:
    """The mean over a thousand rows."""
    data = rows(folder, "plants")
    if data is None:
        return True
    model, test = trained(data[0], "wake-sleep", 48), data[1][:PLANTS]
    begun = time.perf_counter()
    result = refvlm.bracket(model, test, seconds=PLANTS_SECONDS, rng=np.random.default_rng(0))
    took, width = time.perf_counter() - begun, result.mean_upper - result.mean_lower
    good = width <= PLANTS_WIDTH
    between = f"{result.mean_lower:.5f} to {result.mean_upper:.5f}"
    verdict = "agrees" if good else "DISAGREES"
    print(f"plants, wake-sleep, K = 48: mean log p(x) of {len(test)} test rows {between}, {took:.0f} s")
    print(f"width of the mean: expected at most {PLANTS_WIDTH:g}, got {width:.5f}  {verdict}", flush=True)
    return good


def table(
    folder: Path | None, names: list[str], methods: tuple[str, ...], sizes: tuple[int, ...], seconds: float
) -> bool:
    """A line for each model, and the verdicts of those for which there are any."""
    fine = True
    head = f"{'data':<11}{'method':<23}{'K':>4}{'rows':>6}{'mean_lower':>12}{'mean_upper':>12}{'width':>9}"
    print(f"{head}{'row: median':>13}{'worst':>9}{'trained in':>12}")
    for name in names:
        data = rows(folder, name)
        if data is None:
            continue
        train, test = data[0], data[1][:200]
        for method in methods:
            for latents in sizes:
                begun = time.perf_counter()
                model = trained(train, method, latents)
                took = time.perf_counter() - begun
                result = refvlm.bracket(model, test, seconds=seconds, rng=np.random.default_rng(0))
                widths = result.upper - result.lower
                numbers = f"{latents:>4}{len(test):>6}{result.mean_lower:>12.4f}{result.mean_upper:>12.4f}"
                numbers += (
                    f"{result.mean_upper - result.mean_lower:>9.4f}{np.median(widths):>13.4f}{widths.max():>9.3f}"
                )
                print(f"{name:<11}{method:<23}{numbers}{took:>10.0f} s", flush=True)
                wanted = MUSTS.get((name, method, latents))
                if wanted is not None:
                    fine &= alone(model, test, wanted, f"{name}, {method}, K = {latents}")
        if sizes == SIZES:
            begun = time.perf_counter()
            value = summed(train, test)
            exact = f"{SUMMED:>4}{len(test):>6}{value:>12.4f}{'(exact)':>12}{'':>31}"
            print(f"{name:<11}{'maximum-likelihood':<23}{exact}{time.perf_counter() - begun:>10.0f} s", flush=True)
    return fine


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", metavar="NAME", help=f"of {', '.join(SETS)} (default: all)")
    parser.add_argument("--data", type=Path, default=None, metavar="FOLDER")
    parser.add_argument("--seconds", type=float, default=20.0, help="for the test rows of a model (default: 20)")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--plants", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.sets) - set(SETS):
        parser.error(f"no data {', '.join(sorted(unknown))}; there are {', '.join(SETS)}")
    warm_up()
    if arguments.plants:
        fine = plants(arguments.data)
    elif arguments.quick:
        fine = table(arguments.data, ["digits"], METHODS[:1], SIZES[:1], min(arguments.seconds, 5.0))
    else:
        fine = table(arguments.data, arguments.sets or list(SETS), METHODS, SIZES, arguments.seconds)
    return AGREES if fine else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
