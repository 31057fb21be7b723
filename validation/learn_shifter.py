"""The shifter of Dayan, Hinton, Neal & Zemel (1995): `python validation/learn_shifter.py`.

A row of pixels above its copy, shifted left or right. To know the direction is to know a bit that no pixel shows alone.
Nine latent bits can hold all there is to know, eight pixels and the direction, so the infimum of the misfit is 0. Four
ways to learn the same net from the world's own distribution; what is reported is exact and in bits: the generative
misfit KL(world || model), and the recognition gap E[KL(q || p(z | x))] over the world. With the world's entropy they
add up to the mean of -VLB.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any, NamedTuple

import common
import numpy as np
from numpy.typing import NDArray

import refvlm

WORLD = refvlm.shifter()
LATENTS, HIDDEN = 9, (64,)
METHODS: dict[str, dict[str, Any]] = {
    "wake-sleep": {"method": "wake-sleep", "batch_size": 50, "learning_rate": 0.003, "epochs": 4000},
    "reweighted wake-sleep": {
        "method": "reweighted-wake-sleep", "batch_size": 50, "learning_rate": 0.003, "epochs": 2000, "samples": 5,
    },
    "exact VLB": {"method": "vlb", "batch_size": 50, "learning_rate": 0.003, "epochs": 1000},
    "exact ML": {"method": "maximum-likelihood", "batch_size": 50, "learning_rate": 0.003, "epochs": 1000},
}  # fmt: skip


class Outcome(NamedTuple):
    """misfit, gap and the mean of -VLB less the entropy, bits; samples: drawn from the model."""

    method: str
    misfit: float
    gap: float
    distance: float
    seconds: float
    samples: NDArray[np.uint8]


def learn(method: str, seed: int, share: float) -> Outcome:
    """One run; share: of the epochs."""
    options = METHODS[method] | {"epochs": math.ceil(METHODS[method]["epochs"] * share)}
    begun = time.perf_counter()
    model, q, _ = refvlm.fit(
        WORLD.images, LATENTS, HIDDEN, weights=WORLD.probabilities, schedule="cosine", beta2=0.999, seed=seed,
        workers=1, evaluate_every=options["epochs"], **options,
    )  # fmt: skip
    seconds = time.perf_counter() - begun
    assert q is not None
    d = refvlm.decompose(model, q, WORLD.images, workers=1)
    p, entropy = WORLD.probabilities / math.log(2), WORLD.entropy_bits
    samples = model.sample(8, np.random.default_rng(0))[0]
    return Outcome(method, -p @ d.log_px - entropy, p @ d.kl, -p @ d.vlb - entropy, seconds, samples)


def independent_pixels() -> float:
    """The misfit of the best model without latents, bits."""
    ones = WORLD.probabilities @ WORLD.images
    return float(-(ones * np.log2(ones) + (1 - ones) * np.log2(1 - ones)).sum() - WORLD.entropy_bits)


def main() -> int:
    """The table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one seed, a fiftieth of the epochs")
    parser.add_argument("--picture", metavar="FILE", help="draw samples of every model (needs matplotlib)")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default: %(default)s)")
    arguments = parser.parse_args()
    seeds, share = (1, 0.02) if arguments.quick else (arguments.seeds, 1.0)
    jobs = [(method, seed, share) for method in METHODS for seed in range(seeds)]
    with ProcessPoolExecutor(arguments.workers) as pool:
        outcomes = list(pool.map(learn, *zip(*jobs, strict=True)))
    baseline, report = independent_pixels(), common.Report()
    print(f"entropy of the world: {WORLD.entropy_bits:.6f} bits; {seeds} seeds")
    rest = f"{'median':>9}{'worst':>9}"
    print(f"{'bits':24}{'misfit: best':>13}{rest}{'gap: best':>12}{rest}{'seconds':>9}")
    for method in METHODS:
        runs = [run for run in outcomes if run.method == method]
        misfits, gaps = np.array([run.misfit for run in runs]), np.array([run.gap for run in runs])
        numbers = "".join(f"{f(misfits):{w}.4f}" for f, w in ((np.min, 13), (np.median, 9), (np.max, 9)))
        numbers += "".join(f"{f(gaps):{w}.4f}" for f, w in ((np.min, 12), (np.median, 9), (np.max, 9)))
        print(f"{method:24}{numbers}{np.mean([run.seconds for run in runs]):9.1f}")
        for run in runs:
            report.check(f"{method}: misfit + gap", run.distance, run.misfit + run.gap, 1e-10)
            report.check(f"{method}: misfit below 0 by", 0.0, max(0.0, -run.misfit), 1e-12)
            report.check(f"{method}: misfit, below independent pixels'", 0.0, run.misfit, baseline)
        if method == "wake-sleep" and not arguments.quick:
            report.check("wake-sleep, best misfit at most 0.05 bits", 0.0, misfits.min(), 0.05)
    print(f"{'independent pixels':24}{baseline:13.4f}")
    if arguments.picture:
        draw(outcomes, arguments.picture)
    return report.finish()


def draw(outcomes: list[Outcome], path: str) -> None:
    """Eight images drawn from the best model of each method."""
    if (pyplot := common.pyplot()) is None:
        return
    figure, rows = pyplot.subplots(len(METHODS), 8, figsize=(12, 5), layout="constrained")
    figure.get_layout_engine().set(hspace=0.3)
    for panels, method in zip(rows, METHODS, strict=True):
        best = min((run for run in outcomes if run.method == method), key=lambda run: run.misfit)
        for panel, image in zip(panels, best.samples, strict=True):
            panel.imshow(image.reshape(WORLD.shape), cmap="gray_r", vmin=0, vmax=1)
            panel.set(xticks=[], yticks=[])
        panels[0].set_title(f"{method}: misfit {best.misfit:.3f} bits", loc="left").set_in_layout(False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
