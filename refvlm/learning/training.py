"""The loop: minibatches, optimiser, schedule, early stopping, and everything a checkpoint has to hold."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..checks import check_choice, check_count, describe
from ..enumeration.engine import Workers
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Floats
from .batches import Batch, Data
from .history import Record, judge
from .machine import Machine
from .optimisers import OPTIMISERS, SCHEDULES, check_rate, rate_at
from .rules.rule import Rule

LARGEST_STEP = 1e6
"""Learning has diverged where a step of all parameters together is longer."""

HOPELESS = 20.0
"""Learning has diverged where a row costs more than so many times the nats of independent coin tosses."""


class DivergedError(ValueError):
    """Learning has diverged, and would again."""


@dataclass(frozen=True)
class Settings:
    """How to learn, as `fit` explains it. batch_size: None for all rows at once.

    Raises ValueError or TypeError for values that are out of range.
    """

    rule: Rule
    epochs: int
    batch_size: int | None
    optimiser: str
    learning_rate: float
    momentum: float
    beta2: float
    schedule: str
    weight_decay: float
    patience: int | None
    evaluate_every: int
    seed: int

    def __post_init__(self) -> None:
        checked = {
            "epochs": check_count("epochs", self.epochs, 0),
            "optimiser": check_choice("optimiser", self.optimiser, tuple(OPTIMISERS)),
            "learning_rate": check_rate("learning_rate", self.learning_rate, above=True),
            "momentum": check_rate("momentum", self.momentum, most=1.0),
            "beta2": check_rate("beta2", self.beta2, most=1.0),
            "schedule": check_choice("schedule", self.schedule, tuple(SCHEDULES)),
            "weight_decay": check_rate("weight_decay", self.weight_decay),
            "patience": None if self.patience is None else check_count("patience", self.patience, 1),
            "evaluate_every": check_count("evaluate_every", self.evaluate_every, 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)


class Training:
    """A run of learning: `step` until `finished`. `counters`, `arrays` and `history` are its whole state.

    machine, data, validation: what learns, from what, and the held-out rows or None. start: a digest of the vector
    before the first step. steps: how many are done. history: a Record for every evaluation.
    """

    def __init__(
        self, machine: Machine, data: Data, validation: Data | None, settings: Settings, workers: Workers = None
    ) -> None:
        self.machine, self.data, self.validation, self.settings = machine, data, validation, settings
        self._workers = workers
        self._parts = settings.rule.parts(machine)
        optimiser = OPTIMISERS[settings.optimiser](settings.momentum, settings.beta2)
        self._update = optimiser.update
        self._states = [optimiser.init(part.stop - part.start) for part in self._parts]
        self._decay = np.concatenate(
            [
                np.full(value.size, settings.weight_decay * (".weights." in f".{name}"))
                for name, value in machine.parameters.items()
            ]
        )
        self._rng = np.random.default_rng([settings.seed, 1 << 32])
        size = settings.batch_size
        self._steps_per_epoch = 1 if size is None else -(-len(data) // size)
        self._whole = data.merged() if size is None else None
        self._order: list[NDArray[np.int64]] = []
        self.steps = 0
        self._sums = dict.fromkeys(settings.rule.records, 0.0)
        self.history: list[Record] = []
        self.start = hashlib.sha256(machine.vector.tobytes()).hexdigest()
        self._best = machine.vector.copy()
        self._best_score = -math.inf
        self._since_best = 0

    @property
    def total_steps(self) -> int:
        """The number of steps of all epochs."""
        return self.settings.epochs * self._steps_per_epoch

    @property
    def epoch(self) -> int:
        """The number of complete epochs."""
        return self.steps // self._steps_per_epoch

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or held-out log p(x) has not risen for `patience` evaluations."""
        patience = self.settings.patience
        return self.steps >= self.total_steps or (patience is not None and self._since_best >= patience)

    @property
    def best(self) -> Floats:
        """The vector to keep: the one with the best held-out log p(x), or the present one without held-out rows."""
        return self._best if self.validation is not None and self.history else self.machine.vector

    def run(self) -> Iterator[Record | None]:
        """Take all steps that are left; after each comes the Record if there was an evaluation, else None."""
        while not self.finished:
            self.step()
            evaluated = self.history and self.history[-1].step == self.steps
            yield self.history[-1] if evaluated else None

    def step(self) -> None:
        """One minibatch through all phases; at the end of an epoch that is due, an evaluation.

        What raises in it, an interrupt for instance, leaves the state as it was before. Raises DivergedError, which
        names the step and the learning rate, where learning diverges.
        """
        counters, history = self.counters(), list(self.history)
        arrays = {name: array.copy() for name, array in self.arrays().items()}
        try:
            self._step()
        except BaseException:
            self.restore(counters, arrays, history)
            raise

    def _step(self) -> None:
        settings, vector = self.settings, self.machine.vector
        rate = rate_at(settings.schedule, settings.learning_rate, self.steps, self.total_steps)
        with np.errstate(all="ignore"):
            phases = settings.rule.directions(self.machine, self._batch(), self._rng, self._workers)
            for part, state, (direction, numbers) in zip(self._parts, self._states, phases, strict=True):
                step = direction if settings.rule.own_steps else self._update(state, direction, rate)
                if settings.weight_decay > 0.0:
                    step = step - rate * self._decay[part] * vector[part]
                length = math.sqrt(step @ step)
                if not length < LARGEST_STEP:
                    raise self._diverged(f"the step has the length {length:.3g}", rate)
                vector[part] += step
                for name, value in numbers.items():
                    self._sums[name] += value / self._steps_per_epoch
        self.steps += 1
        if self.steps % self._steps_per_epoch == 0:
            if self.epoch % settings.evaluate_every == 0 or self.steps == self.total_steps:
                self._evaluate()
            self._sums = dict.fromkeys(self._sums, 0.0)

    def counters(self) -> dict[str, Any]:
        """The part of the state that is not arrays; JSON keeps it without loss."""
        return {
            "steps": self.steps,
            "since_best": self._since_best,
            "best_score": self._best_score.hex(),
            "generator": self._rng.bit_generator.state,
            "sums": {name: value.hex() for name, value in self._sums.items()},
        }

    def arrays(self) -> dict[str, Floats]:
        """The part of the state that is arrays, by name."""
        states = {f"states.{i}.{j}": array for i, state in enumerate(self._states) for j, array in enumerate(state)}
        return {"vector": self.machine.vector, "best": self._best} | states

    def restore(self, counters: dict[str, Any], arrays: dict[str, Floats], history: list[Record]) -> None:
        """Set the state. For one that is not of this run raise ValueError and change nothing.

        arrays: of the names and shapes that `arrays` gives.
        """
        mine = self.arrays()
        if any(np.isnan(array).any() for array in arrays.values()):
            raise ValueError("its arrays are not all numbers")
        steps, since_best = (_natural(name, counters[name]) for name in ("steps", "since_best"))
        if steps > self.total_steps:
            raise ValueError(f"it is at step {steps} of {self.total_steps}")
        best_score, sums = _number("best_score", counters["best_score"]), counters["sums"]
        if not isinstance(sums, dict) or sums.keys() != self._sums.keys():
            raise ValueError(f"sums: got {describe(sums)}, wanted an object with {', '.join(self._sums) or 'nothing'}")
        sums = {name: _number(f"sums.{name}", sums[name]) for name in self._sums}
        rng = _generator(counters["generator"])
        for name, array in mine.items():
            array[...] = arrays[name]
        self.steps, self._since_best, self._best_score, self._sums = steps, since_best, best_score, sums
        self._rng, self.history, self._order = rng, history, []

    def _batch(self) -> Batch:
        if self._whole is not None:
            return self._whole
        assert self.settings.batch_size is not None
        position = self.steps % self._steps_per_epoch
        if position == 0 or not self._order:
            self._order = list(self.data.epoch(self.settings.seed, self.epoch, self.settings.batch_size))
        return self.data.batch(self._order[position], self.settings.rule.enumerates)

    def judged(self, model: BernoulliLVM, posterior: Posterior | None, *, last: bool) -> Record:
        """A Record of any model and posterior, at the present step."""
        rate = rate_at(self.settings.schedule, self.settings.learning_rate, self.steps, self.total_steps)
        means = judge(model, posterior, self.data, "", self.settings.seed, self._workers, last)
        if self.validation is not None:
            means |= judge(model, posterior, self.validation, "validation_", self.settings.seed, self._workers, last)
        return Record(self.epoch, self.steps, rate, **means)

    def _evaluate(self) -> None:
        last = self.steps == self.total_steps
        record = Record(**self.judged(self.machine.model, self.machine.posterior, last=last)._asdict() | self._sums)
        self.history.append(record)
        value = record.log_px if record.log_px is not None else record.log_px_estimate
        tosses = -self.data.x.shape[1] * math.log(2.0)
        if value is not None and not value > HOPELESS * tosses:
            what = f"the mean log p(x) is {value:.6g} nats a row, and coin tosses have {tosses:.6g}"
            raise self._diverged(what, record.learning_rate)
        score = record.score
        if score is not None:
            self._since_best += 1
            if score > self._best_score:
                self._best_score, self._since_best = score, 0
                self._best[:] = self.machine.vector

    def _diverged(self, what: str, rate: float) -> DivergedError:
        return DivergedError(
            f"learning_rate: got {self.settings.learning_rate:g}, and learning diverged at step {self.steps + 1} of "
            f"{self.total_steps} (epoch {self.epoch + 1}) at the learning rate {rate:.3g}: {what}; wanted a smaller one"
        )


def _natural(name: str, value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"{name}: got {describe(value)}, wanted an integer of at least 0")
    return value


def _number(name: str, value: object) -> float:
    """A number as float.hex writes it."""
    number = math.nan
    if isinstance(value, str):
        with suppress(ValueError, OverflowError):
            number = float.fromhex(value)
    if math.isnan(number):
        raise ValueError(f"{name}: got {describe(value)}, wanted a number in hexadecimal, such as '0x1.8p+1'")
    return number


def _generator(state: Any) -> np.random.Generator:
    """A generator in this state; what NumPy takes without setting it is refused as well."""
    rng = np.random.default_rng()
    with suppress(ValueError, TypeError, KeyError, OverflowError, AttributeError):
        rng.bit_generator.state = state
    if rng.bit_generator.state != state:
        raise ValueError(f"generator: got {describe(state)}, wanted the state of a {type(rng.bit_generator).__name__}")
    return rng
