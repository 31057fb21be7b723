"""Bounds on log p(x) that follow from the weights of single draws, exactly: below the TVO, above EUBO and CUBO.

All are values or slopes of kappa(s) = log E_q w^s, w = p(x, z) / q(z | x): see `weights.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike

from .. import show
from ..checks import as_array, as_binary, check_number, describe
from ..enumeration import kernels
from ..enumeration.engine import Engine, Progress
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Floats
from . import arrays
from .certificate import U
from .missing import Missing, sums_out_missing
from .weight_certificate import tilt_errors
from .weights import Tilt, tilt_pass, weighed_layers

LARGEST_ORDER = 1e3
"""Up to which orders n and |alpha| are taken."""


class LogWeightMoments(NamedTuple):
    """Of log w = log p(x, z) - log q(z | x), nats, (N,) each.

    mean, variance: under q; the mean is the VLB. posterior_mean, posterior_variance: under p(z | x); the mean is the
    EUBO. effective_share: 1 / E_q[(w / p(x))^2], the share of many draws that counts in importance sampling with q.
    """

    mean: Floats
    variance: Floats
    posterior_mean: Floats
    posterior_variance: Floats
    effective_share: Floats

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        kinds = {name: (show.EXACT, value) for name, value in self._asdict().items()}
        return show.statistics("LogWeightMoments, of log w in nats", kinds)


def _tilted(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, exponents: Sequence[float], engine: Engine
) -> tuple[Tilt, Floats, Floats]:
    """kappa and its derivatives of the rows of x, and bounds on the errors of kappa and kappa', (N, T) each."""
    arrays.check_posterior(arrays.check_model(model), q)
    rows, orders = as_binary("x", x, model.observed), np.array(exponents, dtype=np.float64)
    if len(rows) == 0:
        nothing, none, no = np.zeros((0, len(orders))), np.zeros(0), np.zeros(0, np.bool_)
        return Tilt(nothing, nothing, nothing, none, none, none, no, no, none), nothing, nothing
    found, errors = [], []
    for layers in weighed_layers(model, q, rows):
        tilt = tilt_pass(layers, orders, engine)
        found.append(tilt)
        errors.append(tilt_errors(layers, tilt, orders))
    of_value, of_slope = (np.concatenate(each) for each in zip(*errors, strict=True))
    return Tilt.of_all(found), of_value, of_slope


@overload
def eubo(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[False] = False,
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def eubo(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, *, with_error: Literal[True],
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@sums_out_missing
def eubo(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """The evidence upper bound, E log w under p(z | x), exactly: (N,) nats, never below log p(x).

    log p(x) + KL(p(z | x) || q): what reweighted wake-sleep brings down in q. +inf where q excludes a z that p(z | x)
    needs. with_error=True: also (N,) bounds on the rounding error (proof in
    `refvlm.inference.weight_certificate`). Of a chain or a layerwise q all layers' weights; other arguments as in
    `log_marginal`.
    """
    tilt, _, error = _tilted(model, q, x, [1.0], Engine(workers, executor, progress))
    return (tilt.slope[:, 0], error[:, 0]) if with_error else tilt.slope[:, 0]


@overload
def cubo(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, n: float = 2.0, *, with_error: Literal[False] = False,
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def cubo(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, n: float = 2.0, *, with_error: Literal[True],
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@sums_out_missing
def cubo(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    n: float = 2.0,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """The chi upper bound of order n >= 1, log E_q[w^n] / n, exactly: (N,) nats, never below log p(x).

    Dieng, Tran, Ranganath, Paisley, Blei, "Variational inference via chi upper bound minimization" (2017). It
    rises with n; at n = 1 it is log p(x), if q allows all that p(z | x) needs. +inf above 1 where q does not. Other
    arguments as in `eubo`.
    """
    order = check_number("n", n, 1.0, LARGEST_ORDER)
    tilt, error, _ = _tilted(model, q, x, [order], Engine(workers, executor, progress))
    value = tilt.value[:, 0] / order
    return (value, error[:, 0] / order + U * _size(value)) if with_error else value


@overload
def renyi(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, alpha: float, *, with_error: Literal[False] = False,
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def renyi(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, alpha: float, *, with_error: Literal[True],
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@sums_out_missing
def renyi(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    alpha: float,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """The Renyi bound of order alpha, log E_q[w^(1 - alpha)] / (1 - alpha), exactly: (N,) nats.

    Li, Turner, "Renyi divergence variational inference" (2016). It falls as alpha rises: log p(x) at 0, more below,
    the VLB at 1, less beyond. -inf above 1, and at 1, where q puts mass on a z of zero prior probability.
    Close to 1 digits are lost, as the error says. Other arguments as in `eubo`.
    """
    s = 1.0 - check_number("alpha", alpha, -LARGEST_ORDER, LARGEST_ORDER)
    tilt, of_value, of_slope = _tilted(model, q, x, [s], Engine(workers, executor, progress))
    if s == 0.0:
        value, error = tilt.slope[:, 0], of_slope[:, 0]
    else:
        value, error = tilt.value[:, 0] / s, of_value[:, 0] / abs(s)
    return (value, error + U * _size(value)) if with_error else value


@overload
def tvo(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, betas: ArrayLike, *, with_error: Literal[False] = False,
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def tvo(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, betas: ArrayLike, *, with_error: Literal[True],
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@sums_out_missing
def tvo(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    betas: ArrayLike,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """The thermodynamic variational objective, exactly: (N,) nats, between the VLB and log p(x).

    Masrani, Le, Wood, "The thermodynamic variational objective" (2019): the left sum over b of the integral of
    kappa'(b), the mean of log w under q^(1 - b) p(x, z)^b, normalised. betas: increasing from 0 to 1, both included;
    [0, 1] gives the VLB. Other arguments as in `eubo`.
    """
    nodes = as_array("betas", betas)
    ordered = nodes.ndim == 1 and nodes.dtype.kind in "iuf" and len(nodes) > 1 and bool((np.diff(nodes) > 0).all())
    if not ordered or nodes[0] != 0 or nodes[-1] != 1:
        raise ValueError(f"betas: got {describe(betas)}, wanted numbers that increase from 0 to 1, both included")
    tilt, _, error = _tilted(model, q, x, nodes[:-1].tolist(), Engine(workers, executor, progress))
    value, off = np.zeros(len(tilt.slope)), np.zeros(len(tilt.slope))
    for t, step in enumerate(np.diff(nodes.astype(np.float64))):
        value = value + step * tilt.slope[:, t]
        off = off + step * error[:, t] + (len(nodes) + 1) * U * step * _size(tilt.slope[:, t])
    value = np.where(np.isneginf(tilt.slope[:, 0]), -np.inf, value)  # whatever the others are where no z is left
    return (value, off) if with_error else value


def _size(values: Floats) -> Floats:
    """Magnitudes, 0 where infinite."""
    return np.where(np.isfinite(values), np.abs(values), 0.0)


@sums_out_missing
def log_weight_moments(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> LogWeightMoments:
    """Exact mean and variance of log w under q and under p(z | x), and the effective share: see `LogWeightMoments`.

    Where q puts mass on a z of zero prior probability the mean is -inf and the variance +inf; where q excludes a z that
    p(z | x) needs, posterior_mean and posterior_variance are +inf and the share is 0. Other arguments as in `eubo`.
    """
    tilt, _, _ = _tilted(model, q, x, [0.0, 1.0, 2.0], Engine(workers, executor, progress))
    share = kernels.weights.effective_share(tilt.value[:, 1].copy(), tilt.value[:, 2].copy())
    (mean, posterior_mean, _), (variance, posterior_variance, _) = tilt.slope.T, tilt.bend.T
    return LogWeightMoments(mean, variance, posterior_mean, posterior_variance, share)
