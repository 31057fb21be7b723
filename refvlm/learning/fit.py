"""One call from data to a fitted model: `refvlm.fit`. Its arguments:

x: (N, L) zeros and ones; equal rows are merged where a rule is exact. weights: (N,), how often each row counts.
missing: with "marginalise" bits of x and validation may be NaN, NA or masked, and are summed out: a row counts with
log p of the bits that it has, and q sees 0 in place of the others. With "refuse" all bits must be there.
latents: K, or (K1, K2, ...) from x upwards for a deep model, or "auto": 2, 4, 6, ... up to 16 are tried, each from the
start, as long as the last has raised the mean exact log p(x) of the held-out rows by more than a standard error;
`Fit.tried` has the numbers. hidden: widths of the hidden layers of every decoder,
z first; () for none. encoder_hidden: of every encoder, x first; by default those of `hidden` reversed. activation: a
name in `refvlm.activations.ACTIVATIONS`, for all networks.
method: the name of a rule in `refvlm.learning.rules.RULES`, whose hyperparameters are then arguments too: the fields
of the rule, such as `samples` of `refvlm.learning.rules.Vimco`; or the rule itself.
posterior: "amortised" (an encoder, in deep models from each layer to the next); "layerwise" (an encoder from x to each
layer of a deep model), with method "vlb", whose gradient is then exact at any K where decoders are linear; "per-datum"
(one phi for each row), where the rule fits q after the model, or takes all rows at once and is exact; or "none", where
the rule needs no q.
start: (model, posterior or None) to go on from, instead of random parameters; latents, hidden and activation are
then theirs.
validation: (M, L) held-out rows; the model that is best on them is kept. By default a tenth of x, which `Fit.held_out`
names and nothing is learnt from; but none of rows with weights, with one phi for each row, with method "em", or of
fewer than 200 distinct rows. False: none at all.
epochs: by default as many as make 2500 steps and 225000 rows seen in all, between 20 and 150, or 60 without held-out
rows; 500 where a step takes all rows, 100 with method "em". batch_size: rows in a minibatch, N for all; by default a
64th of the rows, between 50 and 512, but all where the rule needs them, with one phi for each row, and where a rule is
exact and the rows come with weights.
optimiser: "adam" (learning_rate 0.04 where the rule is exact, 0.01 where it draws z; twice as much with sigmoid units)
or "sgd" (0.1; 0.2), with momentum (Adam's is beta1, 0.9 unless stated); beta2: Adam's, 0.99 unless stated. schedule:
"warmup-cosine" by default, which rises over the first 8 % of the steps; "constant", "linear", "cosine" or
"exponential" (to a thousandth). Steps are uphill on means over rows.
weight_decay: every step shrinks weights, not biases, by learning rate times this; by default 100 / N with held-out
rows, at most 0.1.
patience: evaluations without a better one on the held-out rows that end the run, by default a tenth of all, and at
least fifteen. evaluate_every: epochs between evaluations; by default 1, more where that would cost too much.
workers: threads, by default all available cores; or executor: any concurrent.futures.Executor, for what is enumerated.
progress: called as progress(steps done, steps); watch: with every Record.
checkpoint: a file that keeps the state of the run, the fit of a posterior after the model's included, written whole
every `checkpoint_every` seconds and where an exception ends the run; resume=True goes on from it, to the same bits as
without the interruption.
seed: the same seed gives the same bits on one machine and library set, for any number of workers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..checks import check_count
from ..enumeration.engine import Engine, Progress, Workers
from ..inference.arrays import check_posterior
from ..inference.cost import multiplications
from ..inference.missing import Missing
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import PerDatumPosterior, Posterior
from . import defaults
from .ascent import climb_posterior
from .batches import Data
from .checkpoints import Keeper
from .defaults import learnt_and_held_out
from .fitted import Fit
from .history import History, Record, enumerable
from .inclusive import cover
from .machine import Machine
from .per_datum import mean_field
from .replay import Replay
from .rules import Rule, rule_of
from .setup import (
    batch_rows,
    beta2_of,
    check_enumerable,
    check_missing,
    check_posterior_kind,
    check_start_kind,
    encoders,
    learning_rate_of,
    random_model,
    shape_of,
    start_of,
    start_posterior,
    widths,
)
from .sizes import check_auto, choose
from .training import Settings, Training

POSTERIOR_STEPS = 100
"""L-BFGS steps of a posterior that is fitted after the model: as many to cover, then on the VLB."""

AFFORDABLE = 2_000_000_000
"""Multiplications of an evaluation beyond which, by default, there is one every few epochs only."""


def fit(
    x: ArrayLike, latents: int | Sequence[int] | Literal["auto"] = 8, hidden: Sequence[int] = (64,),
    method: str | Rule = "maximum-likelihood", *,
    validation: ArrayLike | bool | None = None, weights: ArrayLike | None = None, missing: Missing = "refuse",
    posterior: str = "amortised", encoder_hidden: Sequence[int] | None = None, activation: str = "tanh",
    start: tuple[BernoulliLVM, Posterior | None] | None = None,
    epochs: int | None = None, batch_size: int | None = None, optimiser: str = "adam",
    learning_rate: float | None = None, momentum: float = 0.0, beta2: float | None = None,
    schedule: str = defaults.SCHEDULE, weight_decay: float | None = None, patience: int | None = None,
    evaluate_every: int | None = None, seed: int = 0, workers: int | None = None,
    executor: Executor | None = None, progress: Progress | None = None, watch: Callable[[Record], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: float = 60.0, resume: bool = False,
    **hyperparameters: Any,
) -> Fit:  # fmt: skip
    """Learn a model of the rows x, (N, L) zeros and ones, and its posterior.

    method: the name of a rule, whose hyperparameters are then arguments too, or a rule of `refvlm.learning.rules`
    itself. `help(refvlm.learning.fit)` explains all arguments. Raises ValueError or TypeError for arguments that do
    not go together, and ValueError where learning diverges, with the step.

    >>> import refvlm
    >>> x = refvlm.bars().sample(200, np.random.default_rng(0))
    >>> fitted = refvlm.fit(x, latents=3, hidden=(), epochs=5)
    >>> len(fitted.history), fitted.history[-1].log_px > fitted.history[0].log_px
    (6, True)
    """
    where: Workers = Engine(workers, executor).executor or workers
    rule = rule_of(method, hyperparameters)
    model, q = (None, None) if start is None else start_of(start)
    data = Data("x", x, weights, None if model is None else model.observed, missing)
    check_missing(rule, data)
    check_posterior_kind(posterior, rule)
    data, held_out, others = learnt_and_held_out(
        data, validation, missing, posterior, rule, check_count("seed", seed, 0)
    )
    if patience is not None and held_out is None:
        raise ValueError(f"patience: got {patience} without validation rows, which it goes by; wanted both")
    check_start_kind(q, posterior)
    shape = shape_of(hidden, encoder_hidden, activation)

    def learn(latents: int | Sequence[int]) -> tuple[BernoulliLVM, tuple[Training, Keeper, np.random.Generator]]:
        rng = np.random.default_rng([seed, 1 << 33])
        begun = model or random_model(data, widths("latents", latents, 1), shape, rng)
        learnt = start_posterior(q, posterior, data, begun, shape, rng) if rule.learns_posterior else None
        check_enumerable(rule, begun, learnt)
        size = batch_rows(batch_size, rule, posterior, data)
        every = _evaluate_every(evaluate_every, begun, data, held_out)
        passes = check_count(
            "epochs", defaults.epochs(rule, len(data), size, held_out) if epochs is None else epochs, 0
        )
        decay = defaults.weight_decay(rule, len(data), held_out) if weight_decay is None else weight_decay
        settings = Settings(
            rule, passes, size, optimiser, learning_rate_of(learning_rate, optimiser, begun, weight_decay, rule),
            momentum, beta2_of(beta2, optimiser), schedule, decay,
            defaults.patience(passes // every, held_out) if patience is None else patience, every, int(seed),
        )  # fmt: skip
        training = Training(Machine(begun, learnt), data, held_out, settings, where)
        keeper = Keeper(training, checkpoint, checkpoint_every, resume)
        with keeper.saving():
            _learn(training, keeper, progress, watch)
        return training.machine.snapshot(training.best)[0], (training, keeper, rng)

    if isinstance(latents, str) and latents == "auto":
        check_auto(model, held_out, checkpoint)
        assert held_out is not None
        (training, keeper, rng), tried = choose(learn, held_out, where)
    else:
        (training, keeper, rng), tried = learn(latents)[1], ()
    model, learnt = training.machine.snapshot(training.best)
    if rule.learns_posterior or posterior == "none":
        return Fit(model, _for_rows(learnt, data), History(training.history), others, tried)
    if posterior == "per-datum":
        q = None
    else:
        usable = q is not None and not isinstance(q, PerDatumPosterior)
        q = check_posterior(model, q) if usable else encoders(data.x.shape[1], model, shape, rng)
    with keeper.saving():
        if keeper.replay is not None:
            keeper.replay.begin(posterior, model, q)
        if q is None:
            rows = data.merged()
            q = mean_field(
                model, rows.x, observed=rows.observed, workers=where, progress=progress, replay=keeper.replay
            )
        else:
            q = _improved(q, model, data, held_out, where, progress, keeper.replay)
        last = training.judged(model, q, last=True)
        if watch is not None:
            watch(last)
    return Fit(model, _for_rows(q, data), History([*training.history, last]), others, tried)


def _learn(
    training: Training, keeper: Keeper, progress: Progress | None, watch: Callable[[Record], None] | None
) -> None:
    """Take all steps, tell the caller's functions about them, and keep the state."""
    for record in training.run():
        if record is not None and watch is not None:
            watch(record)
        if progress is not None:
            progress(training.steps, training.total_steps)
        keeper.save_if_due()


def _improved(
    q: Posterior, model: BernoulliLVM, data: Data, held_out: Data | None, workers: Workers,
    progress: Progress | None, replay: Replay | None,
) -> Posterior:  # fmt: skip
    """q fitted to a model that stays as it is: first to cover the exact posterior, then by the VLB.

    Both go by the held-out rows, if there are any: an encoder learns rows by heart, too.
    """
    rows, fractions, observed = data.merged()
    others = None if held_out is None else held_out.merged()
    for improve in (cover, climb_posterior):
        q = improve(
            model, q, rows, POSTERIOR_STEPS, fractions, observed=observed, held_out=others, workers=workers,
            progress=progress, replay=replay,
        )  # fmt: skip
    return q


def _for_rows(q: Posterior | None, data: Data) -> Posterior | None:
    """q with one phi for every row, where it was learnt once for rows that are equal."""
    return PerDatumPosterior(q.logits[data.inverse]) if isinstance(q, PerDatumPosterior) else q


def _evaluate_every(epochs: int | None, model: BernoulliLVM, data: Data, held_out: Data | None) -> int:
    """Epochs between evaluations, by default so many that evaluations do not cost more than the learning."""
    if epochs is not None:
        return check_count("evaluate_every", epochs, 1)
    rows = len(data.distinct) + (0 if held_out is None else len(held_out.distinct))
    return max(1, multiplications(model, rows) // AFFORDABLE) if enumerable(model) else 1
