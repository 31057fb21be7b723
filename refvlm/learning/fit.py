"""One call from data to a fitted model: `refvlm.fit`."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..activations import ACTIVATIONS
from ..checks import check_choice, check_count
from ..enumeration.engine import Progress
from ..inference.arrays import check_posterior
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import PerDatumPosterior, Posterior
from ..storage import check_writable
from .batches import Data
from .checkpoints import load_checkpoint, save_checkpoint
from .history import Record, enumerable, work
from .inclusive import cover
from .machine import Machine
from .methods import Method
from .optimisers import OPTIMISERS, SCHEDULES, check_rate
from .per_datum import mean_field
from .setup import (
    Shape,
    batch_rows,
    check_enumerable,
    check_posterior_kind,
    encoders,
    random_model,
    start_of,
    start_posterior,
    widths,
)
from .training import Settings, Training
from .variational import climb_posterior

__all__ = ["Fit", "fit"]

LEARNING_RATES = {"adam": 0.01, "sgd": 0.1}

POSTERIOR_STEPS = 100
"""L-BFGS steps of the posterior at the end, where it does not learn with the model: to cover, then on the VLB."""

AFFORDABLE = 2_000_000_000
"""Multiplications of an evaluation beyond which, by default, there is one every few epochs only."""


class Fit(NamedTuple):
    """model; posterior, None if none was asked for; history, a Record for every evaluated epoch, means in nats.

    With held-out rows the model is the one of the evaluation with their best log p(x). Where the posterior is fitted
    after the model, the last record is of the two together.
    """

    model: BernoulliLVM
    posterior: Posterior | None
    history: tuple[Record, ...]


def fit(
    x: ArrayLike,
    latents: int | Sequence[int] = 8,
    hidden: Sequence[int] = (64,),
    method: str = "maximum-likelihood",
    *,
    validation: ArrayLike | None = None,
    weights: ArrayLike | None = None,
    posterior: str = "amortised",
    encoder_hidden: Sequence[int] | None = None,
    activation: str = "tanh",
    start: tuple[BernoulliLVM, Posterior | None] | None = None,
    epochs: int = 100,
    batch_size: int | None = None,
    optimiser: str = "adam",
    learning_rate: float | None = None,
    momentum: float = 0.0,
    schedule: str = "constant",
    weight_decay: float = 0.0,
    patience: int | None = None,
    evaluate_every: int | None = None,
    gradient: str = "exact",
    samples: int = 10,
    wake_phi: float = 0.5,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
    watch: Callable[[Record], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: float = 60.0,
    resume: bool = False,
) -> Fit:
    """Learn a model of the rows x, and its posterior.

    x: (N, L) zeros and ones; equal rows are merged where a method is exact. weights: (N,), how often each counts.
    latents: K, or (K1, K2, ...) from x upwards for a deep model. hidden: widths of the hidden layers of every decoder,
    z first; () for none. encoder_hidden: of every encoder, x first; by default those of `hidden` reversed.
    method:
        "maximum-likelihood"     exact gradient of log p(x), eq. (5); the posterior is fitted afterwards by the bound
        "em"                     the same objective by generalised EM, the prior in closed form; all rows at once
        "vlb"                    gradient of the VLB, eq. (9); gradient="exact", or "score-function" from `samples`
                                 draws with a leave-one-out baseline
        "wake-sleep"             Hinton, Dayan, Frey & Neal 1995
        "reweighted-wake-sleep"  Bornschein & Bengio 2015, `samples` draws; phi follows `wake_phi` parts of wake phi
                                 and 1 - wake_phi of sleep phi
    posterior: "amortised" (an encoder), "per-datum" (one phi for each row; with "maximum-likelihood" and "em", and with
    "vlb" all rows at once), or "none" (with "maximum-likelihood" and "em").
    start: (model, posterior or None) to go on from, instead of random parameters; latents, hidden and activation are
    then theirs.
    epochs; batch_size: rows in a minibatch, N for all; by default 100, but all with "em", with one phi for each row of
    "vlb", and where a method is exact and the rows come with weights.
    optimiser: "adam" (learning_rate 0.01) or "sgd" (0.1), with momentum (Adam's is beta1, 0.9 unless given); schedule:
    "constant", "linear", "cosine" or "exponential" (to a thousandth). Steps are uphill on means over rows.
    weight_decay: every step shrinks weights, not biases, by learning rate times this.
    validation: (M, L) held-out rows; the model that is best on them is kept, and `patience` evaluations without a
    better one end it. evaluate_every: epochs between evaluations; by default 1, more where that would cost too much.
    progress: called as progress(steps done, steps); watch: with every Record.
    checkpoint: a file that keeps the state of the run, written whole every `checkpoint_every` seconds and at the end of
    the epochs; resume=True goes on from it, to the same bits as without the interruption.

    The same seed gives the same bits on one machine and library set, for any number of workers. Raises ValueError or
    TypeError for arguments that do not go together, and ValueError where learning diverges, with the step.

    >>> import refvlm
    >>> x = refvlm.bars().sample(200, np.random.default_rng(0))
    >>> found = refvlm.fit(x, latents=3, hidden=(), epochs=5)
    >>> len(found.history), found.history[-1].log_px > found.history[0].log_px
    (6, True)
    """
    learner = Method(method, gradient, samples, wake_phi)
    origin = None if start is None else start_of(start)
    data = Data("x", x, weights, None if origin is None else origin[0].observed)
    held_out = None if validation is None else Data("validation", validation, None, data.x.shape[1])
    if patience is not None and held_out is None:
        raise ValueError(f"patience: got {patience} without validation rows, which it goes by; wanted both")
    if learner.name == "em":
        for name, value, wanted in (("weight_decay", weight_decay, 0.0), ("learning_rate", learning_rate, None)):
            if value != wanted:
                raise ValueError(f"{name}: got {value} with method 'em', whose steps follow no rate; wanted {wanted}")
    check_posterior_kind(posterior, learner)
    rows = batch_rows(batch_size, learner, posterior, data)
    shape = Shape(
        widths("hidden", hidden, 0),
        widths("encoder_hidden", tuple(hidden)[::-1] if encoder_hidden is None else encoder_hidden, 0),
        check_choice("activation", activation, tuple(ACTIVATIONS)),
    )
    rng = np.random.default_rng([check_count("seed", seed, 0), 1 << 33])
    model = random_model(data, widths("latents", latents, 1), shape, rng) if origin is None else origin[0]
    check_enumerable(learner, model)
    machine = Machine(
        model, start_posterior(origin, posterior, data, model, shape, rng) if learner.recognises else None
    )
    check_choice("optimiser", optimiser, tuple(OPTIMISERS))
    rate = LEARNING_RATES[optimiser] if learning_rate is None else learning_rate
    settings = Settings(
        method=learner,
        epochs=check_count("epochs", epochs, 0),
        batch_size=rows,
        optimiser=optimiser,
        learning_rate=check_rate("learning_rate", rate, above=True),
        momentum=check_rate("momentum", momentum, most=1.0),
        schedule=check_choice("schedule", schedule, tuple(SCHEDULES)),
        weight_decay=check_rate("weight_decay", weight_decay),
        patience=None if patience is None else check_count("patience", patience, 1),
        evaluate_every=_every(evaluate_every, model, data, held_out),
        seed=seed,
    )
    training = Training(machine, data, held_out, settings, workers)
    if resume:
        if checkpoint is None:
            raise ValueError("resume: got True without a checkpoint to resume from; wanted checkpoint=path")
        load_checkpoint(checkpoint, training)
    elif checkpoint is not None:
        check_writable(checkpoint)
    saved = time.monotonic()

    def between(training: Training) -> None:
        nonlocal saved
        try:
            if watch is not None and training.history and training.history[-1].step == training.steps:
                watch(training.history[-1])
            if progress is not None:
                progress(training.steps, training.total_steps)
        except KeyboardInterrupt:
            if checkpoint is not None:
                save_checkpoint(checkpoint, training)
            raise
        if checkpoint is not None and time.monotonic() - saved >= checkpoint_every:
            save_checkpoint(checkpoint, training)
            saved = time.monotonic()

    training.run(between)
    if checkpoint is not None:
        save_checkpoint(checkpoint, training)
    model, q = machine.snapshot(training.best)
    if learner.recognises:
        return Fit(model, _for_rows(q, data), tuple(training.history))
    if posterior == "none" or not enumerable(model):
        return Fit(model, None, tuple(training.history))
    if posterior == "per-datum":
        q = mean_field(model, data.distinct, workers=workers, progress=progress)
    else:
        merged = data.merged()
        given = None if origin is None else origin[1]
        usable = given is not None and not isinstance(given, PerDatumPosterior)
        q = check_posterior(model, given) if usable else encoders(data.x.shape[1], model, shape, rng)
        for improve in (cover, climb_posterior):
            q = improve(model, q, merged.x, POSTERIOR_STEPS, merged.weights, workers=workers, progress=progress)
    last = training.judged(model, q)
    if watch is not None:
        watch(last)
    return Fit(model, _for_rows(q, data), (*training.history, last))


def _for_rows(q: Posterior | None, data: Data) -> Posterior | None:
    """One phi per datum is learnt once for rows that are equal."""
    return PerDatumPosterior(q.logits[data.inverse]) if isinstance(q, PerDatumPosterior) else q


def _every(given: int | None, model: BernoulliLVM, data: Data, held_out: Data | None) -> int:
    """Epochs between evaluations: as given, or so many that they do not outweigh the learning."""
    if given is not None:
        return check_count("evaluate_every", given, 1)
    rows = len(data.distinct) + (0 if held_out is None else len(held_out.distinct))
    return max(1, work(model, rows) // AFFORDABLE) if enumerable(model) else 1
