"""The bound by M weighted samples, exactly: IWAE-M = E log (w_1 + ... + w_M) / M, w = p(x, z) / q(z | x), z from q.

Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders" (2016). IWAE-1 is the VLB; more samples bring
it closer to log p(x). The expectation over all M-tuples of codes is one over codes, and an integral: by
log y = int (e^-t - e^(-t y)) dt / t, with phi(s) = E_q exp(-s w) and w scaled to a mean of 1,

    log p(x) - IWAE-M = int over u of phi(t / M)^M - e^-t,  t = e^u.

The trapezoidal rule in u converges as fast as a rule can; its nodes s = t / M serve every M. phi is a sum over z at
every node, of 1 - exp(-s w), because phi^M must be taken from what 1 - phi is, not from phi. Proof of the error bound:
`weight_certificate.py`. Twin: `definition.iwae`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Literal, NamedTuple, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, check_count
from ..enumeration import kernels
from ..enumeration.engine import Engine, Progress
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Floats
from . import arrays
from .bounds import vlb
from .certificate import SLACK, U
from .layers import Layer
from .missing import Missing, sums_out_missing
from .weight_certificate import STEP, absence_errors, strip_error, weighing_error
from .weights import Tilt, absence_pass, of_rows, tilt_pass, weighed_layers

LEFT_OUT = 1e-17
"""What nodes that are left out may amount to at either end, nats."""
LOG_LEFT_OUT = -39.15
FEWEST = 32
"""Nodes that are added at a time, or half of those that are there."""
WIDEST = 1e4
"""Nats over which weights may spread, at four nodes for each."""
ROWS = 64
"""Rows in hand at a time: whole pieces of rows, and little memory even for many nodes."""


@overload
def iwae(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, samples: int, *, with_error: Literal[False] = False,
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats: ...  # fmt: skip
@overload
def iwae(
    model: BernoulliLVM, q: Posterior, x: ArrayLike, samples: int, *, with_error: Literal[True],
    missing: Missing = "refuse", workers: int | None = None, executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Floats]: ...  # fmt: skip
@sums_out_missing
def iwae(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    samples: int,
    *,
    with_error: bool = False,
    missing: Missing = "refuse",
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Floats | tuple[Floats, Floats]:
    """The exact importance-weighted bound with `samples` draws of z from q(z | x): (N,) nats.

    E log (w_1 + ... + w_M) / M, no draw taken: between the VLB, which it is for one sample, and log p(x), which it
    approaches. -inf where q puts mass on a z of zero prior probability. Of a chain or a layerwise q the weights are
    those of all layers; of a single q on a deep model p(x, z) sums the layers above. with_error=True: also (N,) bounds
    on the error, of quadrature and rounding both (proof in `refvlm.inference.weight_certificate`). Other arguments as
    in `log_marginal`; progress is called anew for every pass over the latents.

    >>> import numpy as np, refvlm
    >>> model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.0]), refvlm.MLP([[[2.0, -1.0]]], [[0.5, 0.0]]))
    >>> q, x = refvlm.PerDatumPosterior([[0.0]]), [[1, 0]]
    >>> [float(refvlm.iwae(model, q, x, samples=m)[0].round(4)) for m in (1, 2, 10)]
    [-0.7797, -0.743, -0.7134]
    """
    count = check_count("samples", samples, 1)
    arrays.check_posterior(arrays.check_model(model), q)
    rows, engine = as_binary("x", x, model.observed), Engine(workers, executor, progress)
    if count == 1 or len(rows) == 0:
        value, error = vlb(model, q, rows, with_error=True, workers=workers, executor=executor, progress=progress)
    else:
        parts = [
            iwae_pass(of_rows(layers, np.arange(start, min(start + ROWS, len(layers[0].x)))), [count], engine)
            for layers in weighed_layers(model, q, rows)
            for start in range(0, len(layers[0].x), ROWS)
        ]
        value, error = (np.concatenate([part[n][0] for part in parts]) for n in (0, 1))
    return (value, error) if with_error else value


class Gap(NamedTuple):
    """log E w - IWAE-M, bounds on the nodes left out above and on rounding, and A of the certificate, (N,) each."""

    value: Floats
    rest: Floats
    rounding: Floats
    growth: Floats


def iwae_pass(layers: Sequence[Layer], counts: Sequence[int], engine: Engine) -> tuple[Floats, Floats]:
    """IWAE-M of the rows of the lowest layer for each of some M >= 2, (counts, N), and bounds on the errors."""
    tilt = tilt_pass(layers, np.array([0.0, 1.0, 2.0]), engine)
    bound, log_mean = tilt.slope[:, 0], tilt.value[:, 1]
    values = np.full((len(counts), len(log_mean)), -np.inf)
    errors = np.zeros_like(values)
    finite = np.flatnonzero(~tilt.impossible & np.isfinite(log_mean))
    if len(finite) == 0:
        return values, errors
    layers, tilt, bound, log_mean = of_rows(layers, finite), tilt.take(finite), bound[finite], log_mean[finite]
    for n, gap in enumerate(_gaps(layers, tilt, counts, engine)):
        error = gap.rounding + strip_error(gap.value) + gap.rest + LEFT_OUT + U * np.abs(log_mean)
        errors[n, finite] = SLACK * (error + weighing_error(layers, tilt, bound, gap.growth))
        values[n, finite] = log_mean - gap.value
    return values, errors


def _gaps(layers: Sequence[Layer], tilt: Tilt, counts: Sequence[int], engine: Engine) -> list[Gap]:
    """The gap under each M. The nodes are multiples of the step, as many as any row and M need; each uses its own."""
    log_mean, lowest = tilt.value[:, 1], check_spread(tilt)
    starts = np.stack([first_node(_log_start(tilt, count), count) for count in counts])
    begin, gaps = int(starts.min()), list[Gap]()

    def done(log_s: Floats, absent: Floats) -> NDArray[np.bool_]:
        relative = absence_errors(layers, tilt, log_mean, log_s)
        gaps[:] = [
            Gap(*kernels.weights.gap(absent, log_s, relative, start - begin, lowest, float(count), STEP, LEFT_OUT))
            for start, count in zip(starts, counts, strict=True)
        ]
        finished: NDArray[np.bool_] = np.all([gap.rest <= LEFT_OUT for gap in gaps], axis=0)
        return finished

    nodes_until(done, layers, tilt, begin, engine)
    return gaps


def check_spread(tilt: Tilt) -> Floats:
    """How far the smallest log weight lies below that of the mean, (N,), negative; refused where that is too far."""
    lowest = tilt.least_log_weight - tilt.value[:, 1]
    check_widest(float(-lowest.min()))
    return lowest


def check_widest(spread: float) -> None:
    """Refuse weights that spread over so many nats that the nodes would be too many."""
    if spread > WIDEST:
        raise ValueError(
            f"model: got log weights down to {spread:.3g} nats below that of their mean, wanted at most {WIDEST:g} for "
            "the exact bound by many samples; vlb takes any"
        )


def nodes_until(
    done: Callable[[Floats, Floats], NDArray[np.bool_]], layers: Sequence[Layer], tilt: Tilt, begin: int, engine: Engine
) -> tuple[Floats, Floats]:
    """Nodes log_s, (T,), and 1 - phi there, (N, T), of weights over their mean, until all rows have enough.

    Nodes are multiples of the step, from `begin` times it; a row that has enough gets a phi of 0 at further ones. done:
    from both to whether each row has enough.
    """
    log_mean = tilt.value[:, 1]
    absent, unfinished, more = np.zeros((len(log_mean), 0)), np.arange(len(log_mean)), max(FEWEST, -begin)
    while True:
        old = absent.shape[1]
        log_s: Floats = STEP * np.arange(begin, begin + old + more, dtype=np.float64)
        absent = np.concatenate([absent, np.ones((len(log_mean), more))], axis=1)
        log_t = log_s[old:] - log_mean[unfinished, None]
        absent[unfinished, old:] = absence_pass(of_rows(layers, unfinished), log_t, engine)
        unfinished = np.flatnonzero(~done(log_s, absent))
        if len(unfinished) == 0:
            return log_s, absent
        more = max(FEWEST, len(log_s) // 2)


def first_node(log_t: Floats, count: int) -> NDArray[np.int64]:
    """The last node s at which M s is at most t, as a multiple of the step."""
    node: NDArray[np.int64] = np.floor((log_t - _log(count)) / STEP).astype(np.int64)
    return node


def _log(count: int) -> float:
    """With the same bits everywhere."""
    return float(kernels.marginal.finish(np.zeros(1), np.array([float(count)]))[0])


def _log_start(tilt: Tilt, count: int) -> Floats:
    """log t below which phi^M - e^-t adds up to LEFT_OUT at most, (N,)."""
    square = np.where(np.isfinite(tilt.value[:, 2]), tilt.value[:, 2] - 2.0 * tilt.value[:, 1], np.inf)
    start: Floats = np.maximum(LOG_LEFT_OUT, np.minimum(-1.0, 0.5 * (_log(count) + 1.38 + LOG_LEFT_OUT - square)))
    return start
