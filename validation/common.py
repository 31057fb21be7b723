"""What the scripts share: random problems, and the table of what was expected and what came.

Importing this module puts the tree it lies in first on the path, so that the refvlm beside it is the one checked.
"""

from __future__ import annotations

import itertools
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

AGREES, DISAGREES, NO_FRAMEWORK = 0, 1, 77
"""Exit codes; 77 is the customary one for a check that was skipped."""

ACTIVATIONS = ("tanh", "relu", "sigmoid")
MORE_ACTIVATIONS = ("leaky_relu", "elu", "softplus", "silu")
"""Apart from the others, so that the problems of these stay what they were."""


def distinct_sizes(rng: np.random.Generator, latents: int, count: int, least: int, most: int) -> list[int]:
    """`count` widths from least to most, small ones as likely as large ones (log-uniform), all different, none K."""
    while True:
        sizes = [round(s) for s in np.exp(rng.uniform(math.log(least), math.log(most), count))]
        if len({latents, *sizes}) == count + 1:
            return sizes


def random_arrays(
    sizes: list[int] | tuple[int, ...], rng: np.random.Generator
) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
    """Weights N(0, 1) / sqrt(fan_in) and biases N(0, 1) / 2 of an MLP of these widths, inputs first."""
    weights = [rng.normal(size=pair) / math.sqrt(pair[0]) for pair in itertools.pairwise(sizes)]
    return weights, [rng.normal(size=width) / 2 for width in sizes[1:]]


def binary(rows: int, columns: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uniform bits."""
    return (rng.random((rows, columns)) < 0.5).astype(np.uint8)


def pyplot() -> Any:
    """matplotlib.pyplot; None, and a word on stderr, where it is not installed."""
    try:
        from matplotlib import pyplot
    except ImportError:
        print("no picture: matplotlib is not installed", file=sys.stderr)
        return None
    return pyplot


class Row:
    """One line of the table: a family of comparisons, of which the worst is kept."""

    def __init__(self) -> None:
        self.count = self.failures = 0
        self.ratio = -1.0
        self.worst: tuple[float, float, float, float] = (math.nan,) * 4

    def add(self, expected: float, got: float, difference: float, allowed: float) -> bool:
        """Take one comparison in; whether it agrees. A NaN anywhere does not."""
        agrees = difference <= allowed
        ratio = difference / allowed if allowed > 0 else difference
        ratio = math.inf if math.isnan(ratio) and not agrees else ratio
        if ratio > self.ratio:
            self.ratio, self.worst = ratio, (expected, got, difference, allowed)
        self.count += 1
        self.failures += not agrees
        return agrees


class Report:
    """Collects comparisons by family, prints one line for each with its worst case, and says how it ended."""

    most_shown = 3

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}

    def check(self, family: str, expected: Any, got: Any, allowed: Any, *, where: str = "", minus: Any = None) -> None:
        """Elementwise |got - expected| <= allowed; equal infinities agree.

        minus: the exact got - expected, where float64 subtraction would itself be the largest error.
        """
        if np.ndim(expected) > 0 and np.shape(expected) != np.shape(got):
            raise AssertionError(f"{family}: {where}: expected shape {np.shape(expected)}, got {np.shape(got)}")
        row = self.rows.setdefault(family, Row())
        expected, got, allowed = np.broadcast_arrays(
            np.asarray(expected, dtype=np.float64), np.asarray(got, dtype=np.float64), np.asarray(allowed, np.float64)
        )
        with np.errstate(invalid="ignore"):
            exact = got - expected if minus is None else np.asarray(minus, dtype=np.float64)
            difference = np.where(got == expected, np.where(np.isinf(got), 0.0, np.abs(exact)), np.abs(exact))
        for values in zip(expected.ravel(), got.ravel(), difference.ravel(), allowed.ravel(), strict=True):
            if not row.add(*map(float, values)) and row.failures <= self.most_shown:
                print(f"DISAGREES  {family}{': ' if where else ''}{where}: expected %.17g, got %.17g, difference %.3g, "
                      "allowed %.3g" % tuple(values), flush=True)  # fmt: skip

    def finish(self) -> int:
        """Print the table; the exit code."""
        width = max(map(len, self.rows))
        print(f"{'what (worst case of each)':{width}}  {'count':>7}  {'expected':>23}  {'got':>23}  {'difference':>10}"
              f"  {'allowed':>9}  verdict")  # fmt: skip
        for family, row in self.rows.items():
            expected, got, difference, allowed = row.worst
            verdict = "agrees" if row.failures == 0 else f"DISAGREES ({row.failures})"
            print(f"{family:{width}}  {row.count:>7}  {expected:>23.16g}  {got:>23.16g}  {difference:>10.2e}"
                  f"  {allowed:>9.2e}  {verdict}")  # fmt: skip
        failures = sum(row.failures for row in self.rows.values())
        total = sum(row.count for row in self.rows.values())
        print(f"{total} comparisons, {failures} disagree")
        return AGREES if failures == 0 else DISAGREES
