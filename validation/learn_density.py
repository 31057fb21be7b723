"""Exact maximum likelihood on binary density estimation data: `python validation/learn_density.py FOLDER`.

FOLDER holds NAME/NAME.train.data, NAME/NAME.valid.data and NAME/NAME.test.data, comma-separated zeros and ones, as in
the DEBD collection (Lowd & Davis 2010; Van Haaren & Davis 2012; Larochelle & Murray 2011). Numbers of latents, widths,
activation, rates and regularisation were chosen on the validation rows alone, and so is the epoch at which a model is
taken. Printed is the mean exact log p(x) over the rows, nats. NAMEs after FOLDER run only those recipes.

The best on nltcs is a mixture of the fits of several seeds. A mixture of models is a model: a deep one, whose top bits
choose among the parts; so its log p(x) is as exact as theirs.
"""

from __future__ import annotations

import argparse
import math
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

    limit: seconds that a fit may take, None for any. mixed: all seeds are one model, their mixture.
    """

    data: str
    least: float
    enough: int
    seeds: int
    limit: float | None
    options: dict[str, Any]
    mixed: bool = False


TO_THE_END = {"learning_rate": 0.01, "schedule": "cosine", "beta2": 0.999, "weight_decay": 0.0, "patience": 1000}
SIGMOID = {"activation": "sigmoid", "learning_rate": 0.02}
CERTAIN = 100.0
"""A logit that is as good as infinite."""

RECIPES = {
    "nltcs": Recipe(
        "nltcs", -6.00, 4, 5, 60.0,
        {"latents": 8, "hidden": (64,), "batch_size": 200, "epochs": 100, "learning_rate": 0.005},
    ),
    "nltcs, best": Recipe(
        "nltcs", -5.985, 1, 8, None, SIGMOID | {"latents": 12, "hidden": (64,), "batch_size": 200, "epochs": 60},
        mixed=True,
    ),
    "plants": Recipe("plants", -12.5, 1, 1, None, {"latents": 14, "hidden": (128,), "batch_size": 500, "epochs": 60}),
    "dna": Recipe(
        "dna", -96.0, 1, 1, None,
        SIGMOID | {"latents": 12, "hidden": (128,), "batch_size": 50, "epochs": 100, "weight_decay": 0.1},
    ),
    "mushrooms": Recipe(
        "mushrooms", -11.0, 1, 1, None,
        SIGMOID | {"latents": 14, "hidden": (128,), "batch_size": 50, "epochs": 200, "learning_rate": 0.1,
                   "weight_decay": 0.03},
    ),
}  # fmt: skip


def rows(folder: Path, name: str, part: str) -> NDArray[np.uint8]:
    """One of the three files of a data set."""
    return np.loadtxt(folder / name / f"{name}.{part}.data", delimiter=",", dtype=np.uint8)


def mixture(models: list[refvlm.BernoulliLVM]) -> refvlm.BernoulliLVM:
    """(1/R) sum of p_r(x) over R = 2**B models of one shape with a sigmoid hidden layer, as one deep model.

    B even top bits t choose the part r. The layer below holds that part's z and a copy of t; in either network hidden
    units of the other parts get -2 * CERTAIN for each bit of t that is not theirs, which switches them off to within
    e**-100, and one unit for each part says whether it is chosen, to carry what is a constant within the part.
    """
    places = len(models).bit_length() - 1
    chosen = refvlm.bits.table(places) * 2.0 - 1.0  # (R, B): -1 or 1
    weights, biases = 2 * CERTAIN * chosen.T, -CERTAIN * (chosen.sum(axis=1) + places - 1)  # CERTAIN where t is r
    above = np.hstack([np.stack([part.prior.logits for part in models]), CERTAIN * chosen])
    top = refvlm.MLP([weights, above], [biases, np.zeros(above.shape[1])], "sigmoid")
    inner = [part.decoder for part in models]
    width, latents = inner[0].sizes[1], models[0].latents
    first = np.hstack([*(net.weights[0] for net in inner), np.zeros((latents, len(models)))])
    first = np.vstack([first, np.hstack([np.repeat(weights, width, axis=1), weights])])
    shift = np.concatenate(
        [net.biases[0] - CERTAIN * (row.sum() + places) for net, row in zip(inner, chosen, strict=True)] + [biases]
    )
    second = np.vstack([*(net.weights[1] for net in inner), np.stack([net.biases[1] for net in inner])])
    lower = refvlm.MLP([first, second], [shift, np.zeros(second.shape[1])], "sigmoid")
    return refvlm.BernoulliLVM(refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(places)), top), lower)


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
        found, slowest, models = [], 0.0, []
        for seed in range(recipe.seeds):
            begun = time.perf_counter()
            fitted = refvlm.fit(train, validation=valid, posterior="none", seed=seed, **TO_THE_END | recipe.options)
            seconds = time.perf_counter() - begun
            best = max(fitted.history, key=lambda record: record.validation_log_px)
            models.append(fitted.model)
            found.append(float(refvlm.log_marginal(fitted.model, test).mean()))
            slowest = max(slowest, seconds)
            print(f"{name:14}{seed:5}{best.epoch:7}{best.log_px:11.4f}{best.validation_log_px:11.4f}{found[-1]:11.4f}"
                  f"{seconds:9.1f}", flush=True)  # fmt: skip
        if recipe.mixed:
            model = mixture(models)
            parts = np.logaddexp.reduce([refvlm.log_marginal(part, test) for part in models]) - math.log(len(models))
            mixed = refvlm.log_marginal(model, test)
            report.check(f"{name}: log p(x) of the mixture", parts, mixed, 1e-11)
            scores = [refvlm.log_marginal(model, x).mean() for x in (train, valid)]
            print(f"{name:14}{'mixed':>5}{'':7}{scores[0]:11.4f}{scores[1]:11.4f}{mixed.mean():11.4f}", flush=True)
            found = [float(mixed.mean())]
        weakest = sorted(found, reverse=True)[recipe.enough - 1]
        short = max(0.0, recipe.least - weakest)
        what = f"{name}: {recipe.enough} of {len(found)} at least {recipe.least:g}"
        report.check(f"{what}, short of it by", 0.0, short, 0.0)
        if recipe.limit is not None:
            report.check(f"{name}: seconds of the slowest fit", 0.0, slowest, recipe.limit)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
