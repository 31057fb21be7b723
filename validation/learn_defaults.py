"""What `fit` does by itself, beside settings found by hand: `python validation/learn_defaults.py FOLDER`.

Data and nets are those of learn_density.py. Everything but K, H and activation is left to `fit`. With the validation
rows given, as the recipe has them, the mean log p(x) of the *validation* rows over the seeds is held against that of
the recipe in README.md, and the seconds against one fit by the recipe, in turn. Without them `fit` holds out a tenth of
the training rows by itself, and learns from fewer rows than the recipe: what this costs is printed. Nothing looks at
the test rows. NAMEs after FOLDER run only those.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
from learn_density import RECIPES, TO_THE_END, rows, warm_up
from numpy.typing import NDArray

import refvlm

SEEDS = 8
NET = ("latents", "hidden", "activation")
EXPECTED = {
    "nltcs": (-5.931, 0.01),
    "nltcs, best": (-5.926, 0.01),
    "plants": (-12.4450, 0.01),
    "dna": (-96.2289, 0.005 * 96.2289),
    "mushrooms": (-10.8764, 0.005 * 10.8764),
}
"""The recipe's mean log p(x) of the validation rows, and by how much less is allowed, nats."""


def learn(name: str, held_out: str, seed: int, parts: list[NDArray[np.uint8]], **options: Any) -> tuple[float, float]:
    """One line of the table: the mean log p(x) of the validation rows, and seconds."""
    train, valid = parts
    begun = time.perf_counter()
    fitted = refvlm.fit(train, posterior="none", seed=seed, **options)
    seconds = time.perf_counter() - begun
    best = max(fitted.history, key=lambda record: record.validation_log_px)
    score = float(refvlm.log_marginal(fitted.model, valid).mean())
    print(f"{name:14}{held_out:>12}{seed:6}{best.epoch:7}{best.log_px:11.4f}{score:11.4f}{seconds:9.1f}", flush=True)
    return score, seconds


def learn_all(
    name: str, held_out: str, seeds: int, parts: list[NDArray[np.uint8]], options: dict[str, Any]
) -> tuple[float, float]:
    """The lines of all seeds, and a line of their means: log p(x) of the validation rows, and seconds."""
    outcomes = np.array([learn(name, held_out, seed, parts, **options) for seed in range(seeds)])
    (score, seconds), low, high = outcomes.mean(axis=0), *np.sort(outcomes[:, 0])[[0, -1]]
    print(f"{name:14}{held_out:>12}  mean{score:29.4f}{seconds:9.1f}   ({low:.4f} to {high:.4f})", flush=True)
    return float(score), float(seconds)


def main() -> int:
    """The table and the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("recipes", nargs="*", metavar="NAME", help=f"of {', '.join(EXPECTED)} (default: all)")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="(default: %(default)s)")
    arguments = parser.parse_args()
    chosen = arguments.recipes or list(EXPECTED)
    if unknown := set(chosen) - set(EXPECTED):
        parser.error(f"no recipe {', '.join(sorted(unknown))}; there are {', '.join(EXPECTED)}")
    warm_up()
    report = common.Report()
    print(f"{'recipe':14}{'held out':>12}{'seed':>6}{'epoch':>7}{'train':>11}{'valid':>11}{'seconds':>9}")
    for name in chosen:
        recipe, (expected, allowed) = RECIPES[name], EXPECTED[name]
        parts = [rows(arguments.folder, recipe.data, part) for part in ("train", "valid")]
        net = {option: value for option, value in recipe.options.items() if option in NET}
        found, theirs = learn(name, "by hand", 0, parts, validation=parts[1], **TO_THE_END | recipe.options)
        report.check(f"{name}: by hand below {expected:g} by", 0.0, max(0.0, expected - found), allowed)
        given = {"validation": parts[1]}
        mean, seconds = learn_all(name, "valid", arguments.seeds, parts, net | given)
        what = f"{name}: mean of {arguments.seeds}"
        report.check(f"{what} below {expected:g} by", 0.0, max(0.0, expected - mean), allowed)
        report.check(f"{what}: seconds above {theirs:.1f} by", 0.0, max(0.0, seconds - theirs), 0.0)
        learn_all(name, "a tenth", arguments.seeds, parts, net)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
