"""log p(x) between proven bounds where the sum over all codes is too long.

For a decoder without hidden layers and a Bernoulli prior, at any K:

- above, the sum U of the best affine majorant of log p(x | z) (`kernels/tangent.py`): log p(x) <= log U for any
  lambda, in exact arithmetic, and log U is a sum of closed forms. With u = 2**-53 its rounding error is at most
  (2 L + K + 12) u times the sum of their magnitudes, which the kernel returns: each g_k, of L products, moves its
  term by no more than its own error; logarithms and entropies are good to 8 u (1 + their size); L + K terms are added.
- below, the VLB of eq. (10) at a factorised q, exact at any K, less its own error bound. The q is where coordinate-wise
  ascent leads from the distribution that U sums, the tilted one.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary, check_count, check_generator, describe
from ..enumeration import sums
from ..enumeration.engine import Engine, Progress
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import PerDatumPosterior, Posterior
from ..types import Bits, Floats
from . import arrays
from .bounds import needs_sum, vlb
from .certificate import SLACK, U
from .exact import log_marginal
from .mean_field import ascend_together
from .sampled_bracket import Stop, by_draws, tilt_of

SHORT_SUM = 1 << 36
"""Multiplications, N L 2**K for a linear decoder, of a sum that is short enough to be preferred to bounds: seconds."""

SWEEPS = 30
"""Steps of the ascent to the q of the lower bound."""

NEWTON_STEPS, TOLERANCE = 40, 1e-9
"""Of the descent to the upper bound: the most steps, and nats beyond which another one is worth while."""


class Bracket(NamedTuple):
    """lower <= log p(x_n) <= upper, (N,) nats each.

    kind: "exact", the sum with its rounding bound, or "deterministic", proven bounds of any width; both hold with
    certainty, and confidence is 1. Or "sampled": all rows' bounds hold together with this confidence, however long it
    was drawn and whenever it ended. samples: (N,), the draws of each row. boxes: (N,), the parts of {0,1}^K with a
    majorant each, 0 for a sum. mean_lower, mean_upper: bounds on the mean over the rows, which hold where the rows' do;
    None without rows.
    """

    lower: Floats
    upper: Floats
    kind: Literal["exact", "deterministic", "sampled"]
    confidence: float
    samples: NDArray[np.int64]
    boxes: NDArray[np.int64]
    mean_lower: float | None
    mean_upper: float | None


def bracket(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    width: float | None = None,
    seconds: float | None = None,
    samples: int | None = None,
    confidence: float = 1.0 - 1e-9,
    rng: np.random.Generator | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Bracket:
    """Bounds on log p(x_n), eq. (3), at any K, that hold in floating point too: see `Bracket`.

    x: (N, L) zeros and ones. Where the sum over all codes takes seconds, or is the only way, because the decoder has
    hidden layers or the prior is a model, the bounds are log p(x) and its rounding error. Else, without rng, a tangent
    above and the VLB of the best factorised q below, 1 to 25 nats apart. With rng, draws bring the sides together until
    all brackets are `width` nats wide, until `seconds` of the whole call have passed, or for `samples` draws of each
    row: at least one of the three. Ctrl-C ends them too, with what was reached. The same rng and draws give the same
    bits for any workers, and `samples` at the number that a call for one row reports repeats it. Other arguments as in
    `log_marginal`. Raises ValueError where there is no bracket, with more than 62 latents below a hidden layer; where a
    width without other limits would take 1e12 draws; for samples without rng.
    """
    since = time.monotonic()
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    engine = Engine(workers, executor, progress)
    stop = _stop(width, seconds, samples, confidence, rng, since)
    if needs_sum(model) or max(len(rows), 1) * model.observed << model.latents <= SHORT_SUM:
        value, error = log_marginal(model, rows, with_error=True, workers=workers, executor=executor, progress=progress)
        return _bracket("exact", value - error, value + error, 0)
    above, sizes, tilted = _tangents(model, rows, engine)
    if rng is None:
        q = ascend_together(model, rows, tilted, SWEEPS, 1e-3, workers=workers, executor=executor, progress=progress)
    else:
        q = PerDatumPosterior(tilted)
    value, error = vlb(model, q, rows, with_error=True, workers=workers, executor=executor)
    if rng is None:
        return _bracket("deterministic", value - error, above, 1)
    assert isinstance(model.decoder, MLP)
    seed, numbers = int(rng.integers(1 << 63)), zip(above.tolist(), sizes.tolist(), tilted, strict=True)
    tilts = [tilt_of(model.top, model.decoder, *row) for row in numbers]
    lower, upper, drawn = by_draws(model, rows, tilts, stop, confidence, seed, engine)
    result = _bracket("sampled", np.maximum(lower, value - error), np.minimum(upper, above), 1)
    return result._replace(confidence=confidence, samples=np.array(drawn, np.int64))


class DecompositionBracket(NamedTuple):
    """Eq. (8) where log p(x) is known between bounds, (N,) nats each.

    log_px: a `Bracket`. vlb: exact, with vlb_error, a bound on its rounding error. kl_lower, kl_upper: bounds on
    KL(q || p(z | x)) = log p(x) - VLB, which hold where those of log p(x) do; +inf both where the VLB is -inf.
    """

    log_px: Bracket
    vlb: Floats
    vlb_error: Floats
    kl_lower: Floats
    kl_upper: Floats


def decompose_bracket(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    width: float | None = None,
    seconds: float | None = None,
    samples: int | None = None,
    confidence: float = 1.0 - 1e-9,
    rng: np.random.Generator | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> DecompositionBracket:
    """log p(x) = VLB + KL, eq. (8), at any K: log p(x) and KL between bounds, the VLB exact. See `bracket` and `vlb`.

    Where the sum over all codes is short, `decompose` gives all three exactly.
    """
    value, error = vlb(model, q, x, with_error=True, workers=workers, executor=executor)
    between = bracket(
        model, x, width=width, seconds=seconds, samples=samples, confidence=confidence, rng=rng, workers=workers,
        executor=executor, progress=progress,
    )  # fmt: skip
    lower = np.maximum(np.nextafter(between.lower - value - error, -np.inf), 0.0)
    lower = np.where(np.isneginf(value), np.inf, lower)
    upper = np.maximum(np.nextafter(between.upper - value + error, np.inf), 0.0)
    return DecompositionBracket(between, value, error, lower, upper)


def kl_bracket(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    width: float | None = None,
    seconds: float | None = None,
    samples: int | None = None,
    confidence: float = 1.0 - 1e-9,
    rng: np.random.Generator | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Floats]:
    """Lower and upper bounds on KL(q || p(z | x)), eq. (7), (N,) nats each, at any K: see `decompose_bracket`."""
    result = decompose_bracket(
        model, q, x, width=width, seconds=seconds, samples=samples, confidence=confidence, rng=rng, workers=workers,
        executor=executor, progress=progress,
    )  # fmt: skip
    return result.kl_lower, result.kl_upper


def _stop(
    width: float | None,
    seconds: float | None,
    samples: int | None,
    confidence: float,
    rng: np.random.Generator | None,
    since: float,
) -> Stop:
    """When draws end, once the arguments are what they should be."""
    for name, value in (("width", width), ("seconds", seconds)):
        if value is not None and not 0.0 < value < np.inf:
            raise ValueError(f"{name}: got {describe(value)}, wanted a positive number")
    if samples is not None:
        check_count("samples", samples, 1)
        if rng is None:
            raise ValueError(f"samples: got {samples} without rng, from which they are drawn; wanted both, or neither")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: got {describe(confidence)}, wanted a number above 0 and below 1")
    if rng is not None:
        check_generator("rng", rng)
        if width is None and seconds is None and samples is None:
            raise ValueError("rng: got one without width, seconds or samples, wanted at least one of them to stop at")
    return Stop(width, seconds, samples, since)


def _tangents(model: BernoulliLVM, x: Bits, engine: Engine) -> tuple[Floats, Floats, Floats]:
    """Upper bounds on log p(x), the magnitudes in them, (N,) each, and the tilted logits, (N, K)."""
    decoder, prior = model.decoder, model.prior
    assert isinstance(decoder, MLP)
    assert isinstance(prior, Bernoulli)
    value, size, tilted = sums.tangents(
        arrays.flat_network(decoder), arrays.log_probabilities(prior), x, NEWTON_STEPS, TOLERANCE, engine
    )
    above: Floats = value + SLACK * (2 * model.observed + model.latents + 12) * U * size
    return above, size, np.where(np.isinf(prior.logits), prior.logits, tilted)


def _bracket(kind: Literal["exact", "deterministic", "sampled"], lower: Floats, upper: Floats, boxes: int) -> Bracket:
    """Rounded outwards, and no log p(x) is above 0."""
    lower, upper = np.nextafter(lower, -np.inf), np.minimum(np.nextafter(upper, np.inf), 0.0)
    count = len(lower)
    mean_lower = mean_upper = None
    if count:
        slack = 2 * count * U
        mean_lower = float(lower.mean() - slack * np.abs(lower).mean())
        mean_upper = min(float(upper.mean() + slack * np.abs(upper).mean()), 0.0)
    return Bracket(
        lower, upper, kind, 1.0, np.zeros(count, np.int64), np.full(count, boxes), mean_lower, mean_upper
    )  # fmt: skip
