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

from concurrent.futures import Executor
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_binary
from ..enumeration import sums
from ..enumeration.engine import Engine, Progress
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..types import Bits, Floats
from . import arrays
from .bounds import needs_sum, vlb
from .certificate import SLACK, U
from .cost import multiplications
from .exact import log_marginal
from .mean_field import ascend_together

SHORT_SUM = 1 << 36
"""Multiplications of a sum over codes that is short enough to be preferred to bounds: seconds."""

SWEEPS = 30
"""Steps of the ascent to the q of the lower bound."""

NEWTON_STEPS, TOLERANCE = 40, 1e-9
"""Of the descent to the upper bound: the most steps, and nats beyond which another one is worth while."""


class Bracket(NamedTuple):
    """lower <= log p(x_n) <= upper, (N,) nats each.

    kind: "exact", the sum with its rounding bound, or "deterministic", proven bounds of any width; either holds with
    certainty, so confidence is 1, and samples, (N,), are 0. boxes: (N,), the parts of {0,1}^K with a majorant each, 0
    for a sum. mean_lower, mean_upper: bounds on the mean over the rows, None without rows.
    """

    lower: Floats
    upper: Floats
    kind: Literal["exact", "deterministic"]
    confidence: float
    samples: NDArray[np.int64]
    boxes: NDArray[np.int64]
    mean_lower: float | None
    mean_upper: float | None


def bracket(
    model: BernoulliLVM,
    x: ArrayLike,
    *,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> Bracket:
    """Bounds on log p(x_n), eq. (3), that are proven in floating point too, at any K: see `Bracket`.

    x: (N, L) zeros and ones. Where the sum over all codes takes seconds, or is the only way, because the decoder has
    hidden layers or the prior is a model, the bounds are log p(x) and its rounding error; else a tangent above and the
    VLB of the best factorised q below, apart by 1 to 25 nats, the more so the larger the weights. Other arguments as in
    `log_marginal`. Raises ValueError where there is neither: more than 62 latents below a hidden layer.
    """
    arrays.check_model(model)
    rows = as_binary("x", x, model.observed)
    engine = Engine(workers, executor, progress)
    if needs_sum(model) or multiplications(model, len(rows)) <= SHORT_SUM:
        value, error = log_marginal(model, rows, with_error=True, workers=workers, executor=executor, progress=progress)
        return _bracket("exact", value - error, value + error, 0)
    above, tilted = _tangents(model, rows, engine)
    q = ascend_together(model, rows, tilted, SWEEPS, 1e-3, workers=workers, executor=executor, progress=progress)
    value, error = vlb(model, q, rows, with_error=True, workers=workers, executor=executor)
    return _bracket("deterministic", value - error, above, 1)


def _tangents(model: BernoulliLVM, x: Bits, engine: Engine) -> tuple[Floats, Floats]:
    """Upper bounds on log p(x), (N,), and the logits of the tilted distributions, (N, K)."""
    decoder, prior = model.decoder, model.prior
    assert isinstance(decoder, MLP)
    assert isinstance(prior, Bernoulli)
    value, size, tilted = sums.tangents(
        arrays.flat_network(decoder), arrays.log_probabilities(prior), x, NEWTON_STEPS, TOLERANCE, engine
    )
    above: Floats = value + SLACK * (2 * model.observed + model.latents + 12) * U * size
    return above, np.where(np.isinf(prior.logits), prior.logits, tilted)


def _bracket(kind: Literal["exact", "deterministic"], lower: Floats, upper: Floats, boxes: int) -> Bracket:
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
