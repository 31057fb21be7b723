"""The numbers by which learning is watched: exact log p(x), VLB and KL; estimates or brackets where K is too large."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex, overload

import numpy as np
from numpy.typing import NDArray

from .. import show
from ..enumeration.engine import Workers, on
from ..inference.bounds import needs_sum
from ..inference.brackets import bracket
from ..inference.missing import join
from ..inference.partition import ground_of, has_boxes
from ..inference.sampled import log_marginal_estimate
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import LayerwisePosterior, PerDatumPosterior, Posterior
from ..types import Floats
from .batches import Data
from .masked import kl, log_marginal, vlb

ENUMERABLE = 28
"""A layer with more latent bits is not enumerated while a model learns."""

ESTIMATE_SAMPLES = 200
"""Draws of z for a row where log p(x) is estimated."""

BRACKET_SAMPLES, BRACKET_BOXES = 8192, 65
"""Of a row, where the last record's log p(x) is bracketed."""

CONFIDENCE = 1.0 - 1e-9
"""Of that bracket."""

AFFORDABLE = 2e7
"""Draws, and what boxes cost in draws, up to which it is: some seconds."""


class Record(NamedTuple):
    """The numbers at the end of an epoch: means over the rows in nats, None where a number was not computed.

    log_px, vlb, kl are exact, of the rows that are learnt from; validation_* of the held-out ones; no kl of a layerwise
    q, which would take a pass for each row. Of rows that miss bits they are those of the others, and kl is the
    difference of the two. *_estimate: by importance sampling with the posterior, with its standard error. objective:
    the mean over the epoch's steps of the objective, or of its estimate, at the parameters before each step.
    gradient_variance: that of the score function, with its baseline and without. *_lower, *_upper: of the last record,
    where log p(x) can be bracketed but not summed, and no bit is missing: between these the mean lies with confidence 1
    - 1e-9.
    """

    epoch: int
    step: int
    learning_rate: float
    log_px: float | None = None
    vlb: float | None = None
    kl: float | None = None
    validation_log_px: float | None = None
    validation_vlb: float | None = None
    validation_kl: float | None = None
    log_px_estimate: float | None = None
    log_px_standard_error: float | None = None
    validation_log_px_estimate: float | None = None
    validation_log_px_standard_error: float | None = None
    objective: float | None = None
    gradient_variance: float | None = None
    gradient_variance_without_baseline: float | None = None
    log_px_lower: float | None = None
    log_px_upper: float | None = None
    validation_log_px_lower: float | None = None
    validation_log_px_upper: float | None = None

    @property
    def score(self) -> float | None:
        """Held-out log p(x), exact or else estimated, by which early stopping chooses; None without held-out rows."""
        return self.validation_log_px if self.validation_log_px is not None else self.validation_log_px_estimate

    def __repr__(self) -> str:
        return f"Record({', '.join(f'{name}={value!r}' for name, value in self._numbers().items())})"

    def _repr_html_(self) -> str:
        rows = [(name, _kind(name), show.number(value)) for name, value in self._numbers().items()]
        return show.notebook(show.Table("Record, means in nats", ("number", "kind", "value"), rows))

    def _numbers(self) -> dict[str, float]:
        """Those that there are."""
        there = {name: value for name, value in self._asdict().items() if value is not None}
        return {name: value if name in COUNTS else float(value) for name, value in there.items()}


COUNTS = ("epoch", "step")
"""What are no means, but integers."""


def _kind(name: str) -> str:
    """What kind of number a field of a record has."""
    if name in COUNTS:
        return show.COUNT
    kinds = {
        "learning_rate": "setting", "objective": "mean over steps", "_estimate": show.ESTIMATE,
        "_standard_error": show.STANDARD_ERROR, "_lower": show.certified(CONFIDENCE),
        "_upper": show.certified(CONFIDENCE), "variance": show.ESTIMATE, "_without_baseline": show.ESTIMATE,
    }  # fmt: skip
    return next((kind for ending, kind in kinds.items() if name.endswith(ending)), show.EXACT)


class History(tuple[Record, ...]):
    """The records of a run, one after the other: a tuple, which shows itself, and gives columns."""

    __slots__ = ()

    @overload
    def __getitem__(self, key: SupportsIndex) -> Record: ...
    @overload
    def __getitem__(self, key: slice) -> History: ...
    def __getitem__(self, key: SupportsIndex | slice) -> Record | History:
        """A record, or the history of a part of the run."""
        return History(super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)

    def columns(self) -> dict[str, NDArray[np.int64] | Floats]:
        """The numbers by name, an array of (records,) each, as `pandas.DataFrame` takes them.

        epoch and step are integers, the others floats, NaN where a record has no such number. Numbers that no record
        has are left out.

        >>> History([Record(0, 0, 0.1, log_px=-2.5), Record(1, 7, 0.1, log_px=-2.25, vlb=-2.5)]).columns()["vlb"]
        array([ nan, -2.5])
        """
        named = dict(zip(Record._fields, zip(*self, strict=True) if self else [()] * len(Record._fields), strict=True))
        columns: dict[str, NDArray[np.int64] | Floats] = {}
        for name, values in named.items():
            if name in COUNTS:
                columns[name] = np.array(values, np.int64)
            elif any(value is not None for value in values):
                columns[name] = np.array([np.nan if value is None else value for value in values], np.float64)
        return columns

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        """Of every number that there is the first, the last and the extremes."""
        rows = []
        for name, column in self.columns().items():
            values = column[~np.isnan(column)]
            if len(values):
                shown = map(show.number, (values[0], values[-1], values.min(), values.max()))
                rows.append((name, _kind(name), *shown, str(len(values))))
        caption = f"History, {len(self)} record{'' if len(self) == 1 else 's'}, means in nats"
        return show.Table(caption, ("number", "kind", "first", "last", "min", "max", "count"), rows)


def enumerable(model: BernoulliLVM) -> bool:
    """Whether every layer has few enough bits; a deep model's lower layers are tables."""
    *lower, top = model.layers
    return top.latents <= ENUMERABLE and all(layer.latents <= ENUMERABLE - 8 for layer in lower)


def judge(
    model: BernoulliLVM, posterior: Posterior | None, data: Data, name: str, seed: int, workers: Workers, last: bool
) -> dict[str, float | None]:
    """Mean log p(x), VLB and KL of the data, under `name` + "log_px", ...; estimates where they cannot be exact.

    last: of the last record, which has a bracket, too.
    """
    x, weights, observed = data.merged()
    means: dict[str, float | None] = {}
    fits = posterior is not None and not (isinstance(posterior, PerDatumPosterior) and len(posterior.logits) != len(x))
    if enumerable(model):
        means[f"{name}log_px"] = float(weights @ log_marginal(model, x, observed, workers))
    elif posterior is not None and not isinstance(posterior, PerDatumPosterior):
        rng = np.random.default_rng(seed)
        rows = join(data.x, data.observed)
        estimate = log_marginal_estimate(model, posterior, rows, rng, samples=ESTIMATE_SAMPLES, missing="marginalise")
        error = np.sqrt(np.sum((data.weights * estimate.standard_error) ** 2))
        means[f"{name}log_px_estimate"] = float(data.weights @ estimate.value)
        means[f"{name}log_px_standard_error"] = float(error)
    if last and not data.weighted and data.observed is None and _bracketable(model, len(data)):
        rng = np.random.default_rng(seed)
        between = bracket(model, data.x, samples=BRACKET_SAMPLES, boxes=BRACKET_BOXES, rng=rng, **on(workers))
        means[f"{name}log_px_lower"], means[f"{name}log_px_upper"] = between.mean_lower, between.mean_upper
    if posterior is not None and fits and (enumerable(model) or not needs_sum(model, posterior)):
        means[f"{name}vlb"] = float(weights @ vlb(model, posterior, x, observed, workers))
    if posterior is not None and fits and enumerable(model) and not isinstance(posterior, LayerwisePosterior):
        means[f"{name}kl"] = float(weights @ kl(model, posterior, x, observed, workers))
    return means


def _bracketable(model: BernoulliLVM, rows: int) -> bool:
    """Whether log p(x) of so many rows can be bracketed but not summed, and in a few seconds."""
    if enumerable(model) or not has_boxes(model):
        return False
    ground = ground_of(model)
    return rows * (BRACKET_SAMPLES + max(BRACKET_BOXES, ground.states) * ground.price) <= AFFORDABLE
