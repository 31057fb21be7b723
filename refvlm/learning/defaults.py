"""What `fit` does where nothing is said: which rows it holds out, and the settings of learning.

For people who have data and no wish to tune. The numbers were chosen on the validation rows of four data sets, where
they come as close to settings found by hand as validation/README.md says.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import check_choice, describe
from ..inference.missing import Missing
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from .batches import Data
from .rules.rule import Rule

FEWEST = 200
"""Distinct rows from which on some are held out: a tenth of fewer would tell little, and learning would miss them."""

REPEATED = 0.1
"""Where a smaller part of the rows repeats others, these are taken for copies, which must not be on both sides."""

STEPS, SEEN, FEWEST_EPOCHS, MOST_EPOCHS = 2500, 360_000, 20, 225
"""Of minibatches: as many epochs as make so many steps, and steps that see so many rows in all, within limits. Steps on
few rows are noisy, and it takes more of them; a step on many costs little more where the codes are what takes time."""

MOST_EPOCHS_UNSEEN = 60
"""The upper limit where no held-out rows show when to stop: few rows are learnt by heart after more."""

EPOCHS_OF_ONE_STEP, EPOCHS_OF_OWN_STEPS = 500, 100
"""Where a step takes all rows, and where each step is an optimisation of its own."""

BATCHES, SMALLEST, LARGEST = 64, 50, 512
"""Minibatches in an epoch, as long as each has from 50 to 512 rows."""

LEARNING_RATES = {"adam": 0.01, "sgd": 0.1}

BOLDER = {"adam": 4.0}
"""Factors on these rates where a rule enumerates the codes: its gradients are free of the noise of draws."""

STRETCH = {"sigmoid": 2.0}
"""Another, by the activation: sigmoid(2a) = (1 + tanh(a)) / 2, so that sigmoid's weights go twice as far."""

SCHEDULE = "warmup-cosine"

BETA2 = 0.99
"""Adam's. The first gradients are much larger than those that follow, and with the 0.999 of its paper they hold the
steps back for a thousand more."""

DECAY, STRONGEST = 100.0, 0.1
"""Weight decay times rows, where held-out rows show whether it helps, and the most of it: that of a prior on the
weights, which counts less the more rows there are."""


def learnt_and_held_out(
    data: Data, validation: ArrayLike | bool | None, missing: Missing, kind: str, rule: Rule, seed: int
) -> tuple[Data, Data | None, NDArray[np.int64]]:
    """The rows to learn from, the held-out ones or None, and which of the rows of `data` these are, (M,).

    validation: the caller's held-out rows, in which bits may be missing as in `data`; False for none; None for a tenth
    of `data`, unless all of it is needed: rows with weights, one phi for each row, a rule that takes all rows at once,
    or fewer than 200 distinct rows.
    """
    none = np.zeros(0, np.int64)
    if isinstance(validation, (bool, np.bool_)):
        if validation:
            raise TypeError(f"validation: got {describe(validation)}, wanted held-out rows, None for a tenth, or False")
        return data, None, none
    if validation is not None:
        return data, Data("validation", validation, None, data.x.shape[1], missing), none
    if data.weighted or kind == "per-datum" or rule.whole_data or len(data.distinct) < FEWEST:
        return data, None, none
    held_out = np.flatnonzero(hold_out(data, seed))
    return data.part(np.setdiff1d(np.arange(len(data)), held_out)), data.part(held_out), held_out


def hold_out(data: Data, seed: int) -> NDArray[np.bool_]:
    """Which rows are held out, (N,): a tenth, at random.

    Where few rows equal another, they are copies, and stay on one side with it. Where many do, repeats are what such
    data are like, and new rows will be repeats, too: rows are then drawn one by one.
    """
    copies = len(data.distinct) >= (1.0 - REPEATED) * len(data)
    kinds = data.inverse if copies else np.arange(len(data))
    order = np.random.default_rng([seed, 1 << 34]).permutation(len(data.distinct) if copies else len(data))
    taken = np.cumsum(np.bincount(kinds)[order]) <= len(data) // 10
    return np.isin(kinds, order[taken])


def batch_size(rows: int) -> int:
    """Rows in a minibatch."""
    return min(rows, max(SMALLEST, min(LARGEST, rows // BATCHES)))


def epochs(rule: Rule, rows: int, size: int | None, held_out: Data | None) -> int:
    """Passes over the rows; size: of a minibatch, None for all rows."""
    if rule.own_steps:
        return EPOCHS_OF_OWN_STEPS
    if size is None:
        return EPOCHS_OF_ONE_STEP
    most = MOST_EPOCHS_UNSEEN if held_out is None else MOST_EPOCHS
    wanted = max(-(-STEPS // -(-rows // size)), -(-SEEN // rows))
    return max(FEWEST_EPOCHS, min(most, wanted))


def learning_rate(rule: Rule, optimiser: str, model: BernoulliLVM) -> float:
    """The highest rate of the schedule."""
    bolder = BOLDER.get(optimiser, 1.0) if rule.enumerates else 1.0
    stretch = STRETCH.get(model.decoder.activation, 1.0) if isinstance(model.decoder, MLP) else 1.0
    return LEARNING_RATES[check_choice("optimiser", optimiser, tuple(LEARNING_RATES))] * bolder * stretch


def weight_decay(rule: Rule, rows: int, held_out: Data | None) -> float:
    """By how much weights shrink, per unit of learning rate."""
    return 0.0 if rule.own_steps or held_out is None else min(STRONGEST, DECAY / rows)


def patience(evaluations: int, held_out: Data | None) -> int | None:
    """Evaluations without a better one that end a run: a tenth of all, and at least fifteen."""
    return None if held_out is None else max(15, evaluations // 10)
