"""The bracket of log p(x) from draws: log U + log E[r], with a confidence sequence for E[r].

`kernels/tangent.py` gives U and a factorised distribution close to the posterior; r = p(x, z) / (q~(z) U~) of its draws
lies in [0, 1] and has the mean p(x) / U~. q~ is what the sampler really draws from: bits are u < p~ with u and p~ on a
grid of 2**-53, p~ rounded so that the rarer value of a bit becomes no less likely, and U~ is U with as much added as
makes r <= 1 for every z: (3 L + 11 K + 30) u times the magnitudes in log U. Rounding moves log r by at most
(3 L + 2 K + 40) u times the magnitudes of what is added up, and the bracket is wider by that on either side.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ..enumeration import draws, kernels
from ..enumeration.engine import Engine, Piece, task
from ..enumeration.problem import Decoder
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..types import Bits, Floats
from . import arrays
from .capital import Capital, draws_needed
from .certificate import SLACK, U

_GRID = 2.0**53
_PILOT = 2 * draws.PIECE
_ROUND = 1 << 22
"""Draws in a round, of all rows together: they are held until it ends."""
_LOOK = 64 * draws.PIECE
"""Draws between two looks at the clock."""
_TOO_MANY = 1e12
"""Draws for one row that nobody waits for."""


class Stop(NamedTuple):
    """When draws end: where a bracket is `width` wide, `seconds` after `since`, after `samples` of a row."""

    width: float | None
    seconds: float | None
    samples: int | None
    since: float

    @property
    def left(self) -> float:
        """Seconds."""
        return math.inf if self.seconds is None else self.since + self.seconds - time.monotonic()


class Tilt(NamedTuple):
    """A row's sampler: see `kernels/ratios.py`; log U~, and the bound on the rounding of log r."""

    probabilities: Floats
    departures: Floats
    at_mode: float
    log_u: float
    rounding: float


def tilt_of(prior: Bernoulli, decoder: MLP, log_u: float, size: float, logits: Floats) -> Tilt:
    """The sampler, from log U with its magnitudes and the tilted logits, (K,), as `kernels/tangent.py` returns them."""
    latents, observed = decoder.fan_in, decoder.fan_out
    off, on = kernels.bernoulli.bernoulli(logits[None])[0][0]
    possible = np.isfinite(prior.logits)
    rare = np.clip(np.ceil(np.minimum(on, off) * _GRID) / _GRID, 1.0 / _GRID, 0.5)
    rare = np.where(possible, rare, 0.0)
    likelier = (on >= off) | (rare == 0.5)  # 1 where both values are, as in the kernel
    log_p = arrays.log_probabilities(prior).bits
    log_u = log_u + SLACK * U * (3 * observed + 11 * latents + 30) * size
    with np.errstate(divide="ignore", invalid="ignore"):
        common = np.log1p(-rare) - np.where(likelier, log_p[1], log_p[0])
        departures = np.where(possible, np.log(rare) - np.where(likelier, log_p[0], log_p[1]) - common, 0.0)
    magnitudes = np.abs(decoder.biases[0]).sum() + np.abs(decoder.weights[0]).sum() + abs(log_u) + size
    magnitudes += np.abs(common).sum() + np.abs(departures).sum()
    rounding = SLACK * U * (3 * observed + 2 * latents + 40) * float(magnitudes)
    at_mode = log_u + float(common.sum())
    return Tilt(np.where(likelier, 1.0 - rare, rare), departures, at_mode, log_u, rounding)


def by_draws(
    model: BernoulliLVM, x: Bits, tilts: list[Tilt], stop: Stop, confidence: float, seed: int, engine: Engine
) -> tuple[Floats, Floats, list[int]]:
    """Lower and upper bounds on log p(x_n), (N,) each, right together with this confidence, and the draws of each row.

    An interrupt ends it as the clock does. A row that had no draws until then has the bounds -inf and log U.
    """
    assert isinstance(model.decoder, MLP)
    decoder = arrays.flat_network(model.decoder)
    delta = (1.0 - confidence) / max(len(x), 1)
    capitals = [Capital() for _ in tilts]
    lower, upper = np.full(len(x), -np.inf), np.array([tilt.log_u for tilt in tilts])
    waiting, wanted, cost = list(range(len(x))), [_PILOT] * len(x), math.inf
    while waiting:
        start = time.monotonic()
        planned = _plan(waiting, capitals, wanted, stop, cost)
        drawn = 0
        try:
            for part in _parts(planned):
                _draw(decoder, x, tilts, part, capitals, seed, engine)
                drawn += sum(count for _, count in part.values())
                for n in part:
                    low, high = capitals[n].bounds(delta)
                    lower[n] = tilts[n].log_u + math.log(low) - tilts[n].rounding if low > 0.0 else -math.inf
                    upper[n] = tilts[n].log_u + math.log(high) + tilts[n].rounding
                if stop.left <= 0.0:
                    break
        except KeyboardInterrupt:
            break
        cost = (time.monotonic() - start) / drawn
        if stop.left <= 0.0:
            break
        waiting = [n for n in waiting if _goes_on(n, capitals[n], upper[n] - lower[n], stop, delta, wanted)]
    return lower, upper, [capital.draws for capital in capitals]


def _goes_on(n: int, capital: Capital, width: float, stop: Stop, delta: float, wanted: list[int]) -> bool:
    """Whether the row needs more draws; how many in all then goes into `wanted`. Refused where nobody sees the end."""
    if stop.width is not None and width <= stop.width:
        return False
    if stop.samples is not None and capital.draws >= stop.samples:
        return False
    wanted[n] = 2 * capital.draws
    if stop.width is not None:
        gap = -math.log(max(capital.mean, 1e-300))
        needed = draws_needed(stop.width, gap, min(capital.relative_variance, 1e30), delta)
        unlimited = stop.seconds is None and stop.samples is None
        if unlimited and needed > _TOO_MANY and capital.draws >= 16 * _PILOT:
            raise ValueError(
                f"width: got {stop.width:g}, which takes about {needed:.0e} draws for row {n} (reached {width:.3g} "
                f"with {capital.draws}); wanted a larger width, or seconds or samples to stop at"
            )
        wanted[n] = int(min(max(needed, 1.1 * capital.draws), 4.0 * capital.draws))
    return True


def _plan(
    waiting: list[int], capitals: list[Capital], wanted: list[int], stop: Stop, cost: float
) -> dict[int, tuple[int, int]]:
    """(first draw, number of draws) for each row of the next round, in whole pieces, and as long as time allows."""
    allowed = float(max(_ROUND // len(waiting), draws.PIECE))
    if math.isfinite(cost) and math.isfinite(stop.left):
        allowed = min(allowed, max(0.5 * stop.left / cost / len(waiting), draws.PIECE))
    planned = {}
    for n in waiting:
        done = capitals[n].draws
        count = math.ceil(min(wanted[n] - done, allowed) / draws.PIECE) * draws.PIECE
        planned[n] = done, count if stop.samples is None else min(count, stop.samples - done)
    return planned


def _parts(planned: dict[int, tuple[int, int]]) -> Iterator[dict[int, tuple[int, int]]]:
    """The rows of a round, so many together that a look at the clock between costs nothing."""
    part: dict[int, tuple[int, int]] = {}
    for n, (first, count) in planned.items():
        part[n] = first, count
        if sum(size for _, size in part.values()) >= _LOOK:
            yield part
            part = {}
    if part:
        yield part


def _draw(
    decoder: Decoder, x: Bits, tilts: list[Tilt], planned: dict[int, tuple[int, int]], capitals: list[Capital],
    seed: int, engine: Engine,
) -> None:  # fmt: skip
    """Draw what is planned and add it, row by row in the order of the draws."""
    pieces: list[Piece[Floats]] = []
    owners = []
    for n, (first, count) in planned.items():
        work = task(draws.log_ratios, n, x[n], tilts[n][:3], seed)
        for start in range(first, first + count, draws.PIECE):
            pieces.append((work, decoder, start, min(draws.PIECE, first + count - start)))
            owners.append(n)
    results = dict(engine.run(iter(pieces), len(pieces)))
    for index, n in enumerate(owners):
        capitals[n].add(results[index])
