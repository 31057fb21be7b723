"""Estimators side by side, row by row: bias, variance, signal to noise, and what a draw costs. All of it exact."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ... import show
from ...checks import check_choice, describe
from ...enumeration.engine import Engine, Progress
from ...model.latent_variable import BernoulliLVM
from ...model.recognition import AmortisedPosterior, PerDatumPosterior, Posterior
from ...types import Floats
from .estimator import Cost, Estimator, gradient_of_vlb
from .landscape import Codes, landscape, tables
from .parameters import products_of

Parameters = Literal["logits", "posterior"]


class Moments(NamedTuple):
    """Of one estimator, (N,) each: the norms of bias and mean, and variance, the trace of the covariance of a draw.

    bias: against the gradient of the estimator's objective; exactly 0 where the estimator has none.
    """

    estimator: Estimator
    cost: Cost
    bias: Floats
    size: Floats
    variance: Floats

    @property
    def signal_to_noise(self) -> Floats:
        """The norm of the mean over the root of the variance, (N,); infinite without variance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.size > 0, self.size / np.sqrt(self.variance), 0.0)

    @property
    def variance_times_cost(self) -> Floats:
        """What the variance would be with as many draws as one evaluation pays for, (N,)."""
        return self.variance * self.cost.evaluations

    def overall(self) -> Moments:
        """One row for all, (1,): root mean squares of the norms, and the mean of the variances."""
        bias, size = (np.sqrt(np.mean(norms**2, keepdims=True)) for norms in (self.bias, self.size))
        return self._replace(bias=bias, size=size, variance=np.mean(self.variance, keepdims=True))


class Comparison(tuple[Moments, ...]):
    """What `compare` gives: `Moments` for each estimator."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self.table())

    def _repr_html_(self) -> str:
        return show.notebook(self.table())

    def table(self) -> show.Table:
        """Over all rows: see `Moments.overall`."""
        rows = []
        for each in self:
            whole = each.overall()
            numbers = (whole.bias, whole.variance, whole.signal_to_noise, whole.variance_times_cost)
            bias, *others = (f"{float(number[0]):.4g}" for number in numbers)
            cells = (bias if each.bias.any() else "0", *others[:2], str(each.cost.evaluations), others[2])
            rows.append((each.estimator.name, each.estimator.objective, str(each.estimator.samples), *cells))
        heads = (
            "estimator", "gradient of", "samples", "bias", "variance", "signal/noise", "evaluations",
            "variance × evaluations",
        )  # fmt: skip
        count = len(self[0].bias) if self else 0
        return show.Table(f"exact moments of a draw, {count} rows", heads, rows)


def compare(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    estimators: Iterable[Estimator],
    *,
    parameters: Parameters = "logits",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Exact bias and variance of every estimator at the rows of x, (N, L).

    parameters: "logits" of q, or "posterior" for the parameters of q, such as an encoder's. progress counts rows.
    Raises ValueError or TypeError where the model lacks what an estimator needs, and where its moments would take too
    long.
    """
    if isinstance(estimators, Estimator):
        raise TypeError(f"estimators: got {describe(estimators)}, wanted a list of them")
    estimators = list(estimators)
    for n, estimator in enumerate(estimators):
        if not isinstance(estimator, Estimator):
            raise TypeError(f"estimators[{n}]: got {describe(estimator)}, wanted one of refvlm.gradient_estimators")
    check_choice("parameters", parameters, ("logits", "posterior"))
    at, engine = landscape(model, q, x), Engine(workers, executor, progress)
    assert isinstance(q, (AmortisedPosterior, PerDatumPosterior))
    for estimator in estimators:
        estimator.check(model.latents, len(at.x))
    found = np.zeros((len(estimators), 3, len(at.x)))
    for codes in tables(at, engine):
        n = codes.number
        metric = np.eye(model.latents) if parameters == "logits" else products_of(q, codes.at.x, n)
        for e, estimator in enumerate(estimators):
            mean, covariance = estimator.moments(codes)
            bias = np.zeros_like(mean) if estimator.unbiased else mean - objective_gradient(estimator, codes)
            squares = np.array([bias @ metric @ bias, mean @ metric @ mean])
            found[e, :2, n] = np.sqrt(np.maximum(squares, 0.0))
            found[e, 2, n] = max(float((metric * covariance).sum()), 0.0)
    return Comparison(
        Moments(estimator, estimator.cost(model.latents), *numbers)
        for estimator, numbers in zip(estimators, found, strict=True)
    )


def objective_gradient(estimator: Estimator, codes: Codes) -> Floats:
    """What a biased estimator is held against, for one row, (K,)."""
    if estimator.objective == "vlb":
        return gradient_of_vlb(codes)
    assert estimator.objective == "inclusive"
    log_joint = codes.log_w + codes.log_q
    weights = np.exp(log_joint - log_joint.max())
    gradient: Floats = (weights / weights.sum()) @ codes.score
    return gradient
