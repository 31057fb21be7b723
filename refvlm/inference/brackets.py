"""log p(x) between proven bounds where the sum over all codes is too long.

For decoders without hidden layers, at any K, of one layer of latents or several:

- above, the sum U of the best affine majorant of log p(x | z) (`kernels/tangent.py`, `kernels/layered.py`):
  log p(x) <= log U for any slopes, in exact arithmetic, and log U is a sum of closed forms. With u = 2**-53 its
  rounding error is at most (2 L + K + 12) u times the sum of their magnitudes, which the kernel returns: each g_k, of L
  products, moves its term by no more than its own error; logarithms and entropies are good to 8 u (1 + their size);
  L + K terms are added. `layered_ground.py` has that of several layers.
- below, the VLB of eq. (10) at a factorised q, exact at any K, less its own error bound. The q is where coordinate-wise
  ascent leads from the distribution that U sums, the tilted one; of several layers, that one.

{0,1}^K in boxes (`partition.py`) has a bound of either kind in each: their sums are closer to p(x).
"""

from __future__ import annotations

import time
from concurrent.futures import Executor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import show
from ..checks import as_binary, as_counts, check_generator, describe
from ..enumeration.engine import Engine, Progress
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..types import Bits, Floats
from . import arrays
from .bounds import needs_sum, vlb
from .certificate import U
from .exact import log_marginal
from .ground import upper_bounds
from .mean_bracket import sum_bounds
from .mean_field import ascend_together
from .partition import MOST_NUMBERS, doubled, ground_of, is_summed, numbers_in_a_box, refined
from .sampled_bracket import BOUNDING, Stop, by_draws

SWEEPS = 30
"""Steps of the ascent to the q of the lower bound."""

Counts = int | ArrayLike | None
"""One number for all rows, or (N,)."""


class Bracket(NamedTuple):
    """lower <= log p(x_n) <= upper, (N,) nats each.

    kind: "exact", the sum with its rounding bound, or "deterministic", proven bounds of any width; both hold with
    certainty, and confidence is 1. Or "sampled": all rows' bounds hold together with this confidence, however long it
    was drawn and whenever it ended. samples: (N,), the draws of each row. boxes: (N,), the parts of {0,1}^K with a
    majorant each, 0 for a sum. mean_lower, mean_upper: bounds on the mean over the rows; None without rows. Where
    they are sampled they hold with the same confidence, by themselves, and are narrower than the mean of the rows'
    bounds: errors of rows average out.
    """

    lower: Floats
    upper: Floats
    kind: Literal["exact", "deterministic", "sampled"]
    confidence: float
    samples: NDArray[np.int64]
    boxes: NDArray[np.int64]
    mean_lower: float | None
    mean_upper: float | None

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        return show.statistics(f"Bracket, {self.kind}, in nats", self._statistics())

    def _statistics(self) -> dict[str, tuple[str, object]]:
        """Everything but `kind` and `confidence` with what it is, for tables."""
        kind = show.certified(self.confidence) if self.kind == "sampled" else show.PROVED
        counts = {name: (show.COUNT, value) for name, value in (("samples", self.samples), ("boxes", self.boxes))}
        sides = ("lower", "upper", "mean_lower", "mean_upper")
        return {name: (kind, getattr(self, name)) for name in sides} | counts


def bracket(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    width: float | None = None,
    seconds: float | None = None,
    samples: Counts = None,
    boxes: Counts = None,
    confidence: float = 1.0 - 1e-9,
    rng: np.random.Generator | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Bracket:
    """Bounds on log p(x_n), eq. (3), at any K, that hold in floating point too: see `Bracket`.

    x: (N, L) zeros and ones. Where the sum over all codes takes seconds, or is the only way, because a decoder has
    hidden layers, the bounds are log p(x) and its rounding error. Else, without rng, an affine majorant above and the
    VLB of a good factorised q below, 1 to 25 nats apart; or such a pair for each of `boxes` parts of {0,1}^K, of a deep
    model of all layers' bits, which are doubled until `width` or `seconds` is reached where their number is not given.
    With rng, draws bring the sides together until all brackets are `width` nats wide, until `seconds` of the whole call
    have passed, or for `samples` draws of each row: at least one of the three. Ctrl-C ends them too, with what was
    reached.

    The same rng, samples and boxes give the same bits for any workers: a call that the clock ended is repeated by the
    samples and boxes that it reports, (N,) each. Other arguments as in `log_marginal`. Raises ValueError for more than
    62 latents where there is nothing but the sum; where a width without other limits would take 1e12 draws; for samples
    without rng.
    """
    since = time.monotonic()
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    engine = Engine(workers, executor, progress)
    stop = _stop(len(rows), width, seconds, samples, boxes, confidence, rng, since)
    if is_summed(model, len(rows)):
        value, error = log_marginal(model, rows, with_error=True, workers=workers, executor=executor, progress=progress)
        return _certain("exact", value - error, value + error, np.zeros(len(rows), np.int64))
    if rng is None:
        return _by_boxes(model, rows, stop, engine)
    delta = (1.0 - confidence) / max(len(rows), 1)
    seen = by_draws(model, rows, stop, delta, int(rng.integers(1 << 63)), engine)
    bounds = np.array([each.bounds(delta) for each in seen]).reshape(-1, 2)
    known = np.array([each.certain for each in seen]).reshape(-1, 2)
    certain = _certain("deterministic", known[:, 0], known[:, 1], np.array([each.boxes for each in seen], np.int64))
    lower = np.maximum(np.nextafter(bounds[:, 0], -np.inf), certain.lower)
    upper = np.minimum(np.nextafter(bounds[:, 1], np.inf), certain.upper)
    count = len(rows)
    mean_lower, mean_upper = (lower[0].item(), upper[0].item()) if count == 1 else (None, None)
    if count > 1:
        offsets = np.array([each.log_u for each in seen])
        rough = np.array([each.bounds(0.5 * delta) for each in seen]) - offsets[:, None]
        low, high = np.maximum(rough[:, 0], certain.lower - offsets), np.minimum(rough[:, 1], 0.0)
        total = sum_bounds([e.first for e in seen], [e.rest for e in seen], low, high, 1.0 - confidence)
        slack = sum(each.rounding for each in seen) + 4 * count * U * np.abs(offsets).sum()
        mean_lower = float((offsets.sum() + total[0] - slack) / count)
        mean_upper = min(float((offsets.sum() + total[1] + slack) / count), 0.0)
    samples_drawn = np.array([each.draws for each in seen], np.int64)
    return Bracket(lower, upper, "sampled", confidence, samples_drawn, certain.boxes, mean_lower, mean_upper)


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

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        between = {f"log_px.{name}": pair for name, pair in self.log_px._statistics().items()}
        kind = between["log_px.lower"][0]
        value = {"vlb": (show.EXACT, self.vlb), "vlb_error": (show.ROUNDING, self.vlb_error)}
        gap = {"kl_lower": (kind, self.kl_lower), "kl_upper": (kind, self.kl_upper)}
        return show.statistics(f"DecompositionBracket, {self.log_px.kind}, in nats", between | value | gap)


def decompose_bracket(
    model: BernoulliLVM,
    q: Posterior,
    x: ArrayLike,
    *,
    width: float | None = None,
    seconds: float | None = None,
    samples: Counts = None,
    boxes: Counts = None,
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
        model, x, width=width, seconds=seconds, samples=samples, boxes=boxes, confidence=confidence, rng=rng,
        workers=workers, executor=executor, progress=progress,
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
    samples: Counts = None,
    boxes: Counts = None,
    confidence: float = 1.0 - 1e-9,
    rng: np.random.Generator | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> tuple[Floats, Floats]:
    """Lower and upper bounds on KL(q || p(z | x)), eq. (7), (N,) nats each, at any K: see `decompose_bracket`."""
    result = decompose_bracket(
        model, q, x, width=width, seconds=seconds, samples=samples, boxes=boxes, confidence=confidence, rng=rng,
        workers=workers, executor=executor, progress=progress,
    )  # fmt: skip
    return result.kl_lower, result.kl_upper


def _stop(
    count: int,
    width: float | None,
    seconds: float | None,
    samples: Counts,
    boxes: Counts,
    confidence: float,
    rng: np.random.Generator | None,
    since: float,
) -> Stop:
    """When draws end, once the arguments are what they should be."""
    for name, value in (("width", width), ("seconds", seconds)):
        if value is not None and not 0.0 < value < np.inf:
            raise ValueError(f"{name}: got {describe(value)}, wanted a positive number")
    wanted_samples = None if samples is None else as_counts("samples", samples, count)
    wanted_boxes = None if boxes is None else as_counts("boxes", boxes, count)
    if samples is not None and rng is None:
        raise ValueError(f"samples: got {samples} without rng, from which they are drawn; wanted both, or neither")
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence: got {describe(confidence)}, wanted a number above 0 and below 1")
    if rng is not None:
        check_generator("rng", rng)
        if width is None and seconds is None and samples is None:
            raise ValueError("rng: got one without width, seconds or samples, wanted at least one of them to stop at")
    deadline = np.inf if seconds is None else since + max(seconds - BOUNDING * count, 0.8 * seconds)
    return Stop(width, deadline, wanted_samples, wanted_boxes)


def _by_boxes(model: BernoulliLVM, x: Bits, stop: Stop, engine: Engine) -> Bracket:
    """A proven bound in each box, above and below; the boxes doubled until something ends it."""
    base = ground_of(model)
    boxes, most = base.whole(x, engine), MOST_NUMBERS // numbers_in_a_box(base)
    lower, upper = base.lower_bounds(boxes, x, engine), upper_bounds(base, boxes, len(x))
    if isinstance(model.prior, Bernoulli) and not needs_sum(model):
        q = ascend_together(
            model, x, boxes.logits, SWEEPS, 1e-3, workers=engine.workers, executor=engine.executor,
            progress=engine.progress,
        )  # fmt: skip
        lower = np.maximum(lower, base.lower_bounds(boxes._replace(logits=q.logits), x, engine))
    wanted = np.bincount(boxes.rows, minlength=len(x)).astype(np.int64) if stop.boxes is None else stop.boxes
    try:
        while True:
            start = time.monotonic()
            if (wanted > np.bincount(boxes.rows, minlength=len(x))).any():
                finer = refined(base, x, boxes, wanted, engine)
                new = base.lower_bounds(finer, x, engine)
                lower, upper = np.maximum(lower, new), np.minimum(upper, upper_bounds(base, finer, len(x)))
                grew = len(finer.rows) > len(boxes.rows)
                boxes = finer
                if not grew:
                    break
            if stop.boxes is not None or (stop.width is None and not np.isfinite(stop.deadline)):
                break
            open_rows = np.ones(len(x), bool) if stop.width is None else upper - lower > stop.width
            if not open_rows.any() or stop.left < 3.0 * (time.monotonic() - start) or 2 * len(boxes.rows) > most:
                break
            wanted = np.where(open_rows, [doubled(int(n)) for n in wanted], wanted)
    except KeyboardInterrupt:
        pass
    return _certain("deterministic", lower, upper, np.bincount(boxes.rows, minlength=len(x)).astype(np.int64))


def _certain(
    kind: Literal["exact", "deterministic"], lower: Floats, upper: Floats, boxes: NDArray[np.int64]
) -> Bracket:
    """Rounded outwards, and no log p(x) is above 0."""
    lower, upper = np.nextafter(lower, -np.inf), np.minimum(np.nextafter(upper, np.inf), 0.0)
    count = len(lower)
    mean_lower = mean_upper = None
    if count:
        slack = 2 * count * U
        mean_lower = float(lower.mean() - slack * np.abs(lower).mean())
        mean_upper = min(float(upper.mean() + slack * np.abs(upper).mean()), 0.0)
    return Bracket(lower, upper, kind, 1.0, np.zeros(count, np.int64), boxes, mean_lower, mean_upper)
