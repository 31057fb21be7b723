"""Exact maximum likelihood on binary density estimation data: `python validation/learn_density.py FOLDER`.

FOLDER holds NAME/NAME.train.data, NAME/NAME.valid.data and NAME/NAME.test.data, comma-separated zeros and ones, as in
the DEBD collection (Lowd & Davis 2010; Van Haaren & Davis 2012; Larochelle & Murray 2011). Numbers of latents, widths,
activation, rates and regularisation were chosen on the validation rows alone, and so is the epoch at which a model is
taken. Printed is the mean exact log p(x) over the rows, nats. NAMEs after FOLDER run only those recipes.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
from numpy.typing import NDArray

import refvlm


class Recipe(NamedTuple):
    """options: of refvlm.fit. least: what the test rows' mean log p(x) is to reach for `enough` of `seeds` seeds.

    limit: seconds that a fit may take, None for any.
    """

    data: str
    least: float
    enough: int
    seeds: int
    limit: float | None
    options: dict[str, Any]


SIGMOID = {"activation": "sigmoid", "learning_rate": 0.02}
RECIPES = {
    "nltcs": Recipe(
        "nltcs", -6.00, 4, 5, 60.0,
        {"latents": 8, "hidden": (64,), "batch_size": 200, "epochs": 100, "learning_rate": 0.005},
    ),
    "nltcs, best": Recipe(
        "nltcs", -5.99, 1, 1, None, SIGMOID | {"latents": 12, "hidden": (64,), "batch_size": 200, "epochs": 60}
    ),
    "plants": Recipe("plants", -12.5, 1, 1, None, {"latents": 14, "hidden": (128,), "batch_size": 500, "epochs": 60}),
    "dna": Recipe(
        "dna", -96.0, 1, 1, None,
        SIGMOID | {"latents": 12, "hidden": (128,), "batch_size": 50, "epochs": 100, "weight_decay": 0.1},
    ),
    "mushrooms": Recipe(
        "mushrooms", -12.0, 1, 1, None,
        SIGMOID | {"latents": 12, "hidden": (128,), "batch_size": 50, "epochs": 200, "learning_rate": 0.05,
                   "weight_decay": 0.03},
    ),
}  # fmt: skip


def rows(folder: Path, name: str, part: str) -> NDArray[np.uint8]:
    """One of the three files of a data set."""
    return np.loadtxt(folder / name / f"{name}.{part}.data", delimiter=",", dtype=np.uint8)


def warm_up() -> None:
    """Load and compile what a fit needs, so that it is not counted."""
    refvlm.fit(np.eye(40, 5, dtype=np.uint8), 2, (3,), epochs=1, batch_size=40, posterior="none")


def main() -> int:
    """The table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("recipes", nargs="*", metavar="NAME", help=f"of {', '.join(RECIPES)} (default: all)")
    arguments = parser.parse_args()
    chosen = arguments.recipes or list(RECIPES)
    if unknown := set(chosen) - set(RECIPES):
        parser.error(f"no recipe {', '.join(sorted(unknown))}; there are {', '.join(RECIPES)}")
    warm_up()
    report = common.Report()
    print(f"{'recipe':14}{'seed':>5}{'epoch':>7}{'train':>11}{'valid':>11}{'test':>11}{'seconds':>9}")
    for name in chosen:
        recipe = RECIPES[name]
        train, valid, test = (rows(arguments.folder, recipe.data, part) for part in ("train", "valid", "test"))
        found, slowest = [], 0.0
        for seed in range(recipe.seeds):
            begun = time.perf_counter()
            fitted = refvlm.fit(
                train, validation=valid, posterior="none", schedule="cosine", seed=seed, **recipe.options
            )
            seconds = time.perf_counter() - begun
            best = max(fitted.history, key=lambda record: record.validation_log_px)
            found.append(float(refvlm.log_marginal(fitted.model, test).mean()))
            slowest = max(slowest, seconds)
            print(f"{name:14}{seed:5}{best.epoch:7}{best.log_px:11.4f}{best.validation_log_px:11.4f}{found[-1]:11.4f}"
                  f"{seconds:9.1f}", flush=True)  # fmt: skip
        weakest = sorted(found, reverse=True)[recipe.enough - 1]
        short = max(0.0, recipe.least - weakest)
        what = f"{name}: {recipe.enough} of {recipe.seeds} seeds at least {recipe.least:g}"
        report.check(f"{what}, short of it by", 0.0, short, 0.0)
        if recipe.limit is not None:
            report.check(f"{name}: seconds of the slowest fit", 0.0, slowest, recipe.limit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
