"""Brackets of log p(x) from draws: log U + log E[r], with a confidence sequence for E[r].

Boxes with a tangent each (`partition.py`) give U and distributions close to the posterior (`mixture.py`);
r = p(x, z) / (pi_j q_j(z) U) of their draws lies in [0, 1] and has the mean p(x) / U. More boxes make U smaller, and
fewer draws do; they cost time of their own. So a few draws that count for nothing forecast how wide the bracket will
be, or how many draws it takes, and the boxes are doubled as long as that is worth while. The draws that count begin
when the boxes are settled, with a capital of 1: draws from different boxes have different means, and are never pooled.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..enumeration import draws
from ..enumeration.draws import Histogram
from ..enumeration.engine import Engine, Progress
from ..enumeration.tasks import Piece, task
from ..model.latent_variable import BernoulliLVM
from ..progress import ProgressBar
from ..types import Bits
from .capital import Capital, draws_needed, forecast
from .ground import Ground, upper_bounds
from .mixture import Sampler, sampler
from .partition import MOST_NUMBERS, doubled, ground_of, numbers_in_a_box, refined, rows_together

_GROUP = 16
"""Rows whose boxes are held at a time."""
_PILOT = 2 * draws.PIECE
_ROUND = 1 << 22
"""Draws in a round, of all rows together."""
_LOOK = 64 * draws.PIECE
"""Draws between two looks at the clock."""
_TOO_MANY = 1e12
"""Draws for one row that nobody waits for."""
_PATIENT = 2e7
"""Draws for one row, for which boxes are made where nothing else limits them."""
BOUNDING = 5e-3
"""Seconds for a row's bounds at the end, and for its part in those of the mean."""
_FEWEST = 16
"""Boxes that are tried first, beyond one."""
_SEEN = 9.0
"""The distance of U from p(x) in nats beyond which a pilot may have missed what its variance consists of."""


class Stop(NamedTuple):
    """When draws end: where a bracket is `width` wide, at `deadline`, after `samples` of a row, (N,).

    boxes: (N,) too, where their number is settled.
    """

    width: float | None
    deadline: float
    samples: NDArray[np.int64] | None
    boxes: NDArray[np.int64] | None

    @property
    def left(self) -> float:
        """Seconds."""
        return self.deadline - time.monotonic()

    def of(self, rows: slice, count: int) -> Stop:
        """For some rows, which may take their share of the time that is left for `count` rows."""
        part = rows.stop - rows.start
        deadline = time.monotonic() + self.left * part / count if math.isfinite(self.deadline) else math.inf
        samples = None if self.samples is None else self.samples[rows]
        return Stop(self.width, deadline, samples, None if self.boxes is None else self.boxes[rows])


@dataclass
class Evidence:
    """What a row's draws say: p(x) = U E[r], where log r is known up to `rounding`.

    certain: bounds on log p(x) without draws. first: the first piece of the draws; rest: the others.
    """

    log_u: float
    rounding: float
    boxes: int
    certain: tuple[float, float]
    first: Histogram
    rest: Histogram

    @property
    def draws(self) -> int:
        """How many."""
        return self.first.draws + self.rest.draws

    def bounds(self, delta: float) -> tuple[float, float]:
        """Of log p(x), each ever wrong with probability delta / 2 at most; -inf below as long as nothing is known."""
        return _bounds(self.log_u, self.rounding, Capital(self.first.plus(self.rest)), delta)


class _Group:
    """Rows that are drawn for together: numbers from 0, and the first one's number among all rows."""

    def __init__(
        self, base: Ground, x: Bits, first: int, stop: Stop, delta: float, seed: int, engine: Engine
    ) -> None:  # fmt: skip
        self.base, self.x, self.first, self.stop = base, x, first, stop
        self.delta, self.seed, self.engine = delta, seed, engine
        self.boxes = base.whole(x, engine)
        below = base.lower_bounds(self.boxes, x, engine)
        self.certain = np.stack([below, upper_bounds(base, self.boxes, len(x))], axis=1)
        self.cost = math.inf  # seconds for a draw
        self.samplers: dict[int, Sampler] = {}
        self.seen = [(draws.nothing(), draws.nothing()) for _ in x]

    @property
    def counts(self) -> NDArray[np.int64]:
        return np.bincount(self.boxes.rows, minlength=len(self.x))

    def evidence(self) -> list[Evidence]:
        """As it stands."""
        rows = range(len(self.x))
        for n in rows:
            if n not in self.samplers:
                self._settle(n)
        counts = self.counts.tolist()
        known = [(float(low), float(high)) for low, high in self.certain]
        made = self.samplers
        return [Evidence(made[n].log_u, made[n].rounding, counts[n], known[n], *self.seen[n]) for n in rows]

    def _capital(self, n: int) -> Capital:
        return Capital(self.seen[n][0].plus(self.seen[n][1]))

    def _settle(self, n: int) -> None:
        """Make the row's sampler from its boxes."""
        own = slice(*np.searchsorted(self.boxes.rows, [n, n + 1]))
        self.samplers[n] = sampler(self.base, self.x[n], self.boxes.take(own))

    def choose_boxes(self) -> None:
        """Double them as long as that shortens what is to come."""
        if self.stop.boxes is not None:
            self._refine(self.stop.boxes)
            return
        most = max(MOST_NUMBERS // (len(self.x) * numbers_in_a_box(self.base)), 1)
        before = [(math.inf, False)] * len(self.x)
        failures, wanted, samples = [0] * len(self.x), self.counts, self.stop.samples
        active = [n for n in range(len(self.x)) if samples is None or samples[n] > _PILOT]
        price = self.base.price
        while active:
            pilots = self._pilots(active)
            for n in list(active):
                count = int(self.counts[n])
                more = doubled(count, _FEWEST)
                value, reachable, worth = self._outlook(n, pilots[n], count * price)
                good = value < (1.0 if reachable else 0.98) * before[n][0] or reachable > before[n][1]
                failures[n] = 0 if good or _gap(pilots[n]) > _SEEN else failures[n] + 1
                before[n] = value, reachable
                pays = failures[n] < 2 and (more - count) * price < 0.4 * worth and more <= most
                if pays and count >= wanted[n]:
                    wanted[n] = more
                else:
                    active.remove(n)
            self._refine(wanted)

    def _refine(self, wanted: NDArray[np.int64]) -> None:
        before = self.counts
        self.boxes = refined(self.base, self.x, self.boxes, wanted, self.engine)
        for n in np.flatnonzero(self.counts != before).tolist():
            self.samplers.pop(n, None)

    def _pilots(self, rows: list[int]) -> dict[int, Capital]:
        """Draws that count for nothing, from a stream of their own."""
        start = time.monotonic()
        for n in rows:
            if n not in self.samplers:
                self._settle(n)
        seen, counts = dict[int, Histogram](), self.counts.tolist()
        for n, _, more in self._draw(dict.fromkeys(rows, (0, _PILOT)), counts):
            seen[n] = seen[n].plus(more) if n in seen else more
        self.cost = (time.monotonic() - start) / (len(rows) * _PILOT)
        return {n: Capital(seen[n]) for n in rows}

    def _outlook(self, n: int, pilot: Capital, spent: float) -> tuple[float, bool, float]:
        """(what is to become small, whether the width is reachable, the draws that there are left to spend)."""
        budget = math.inf if self.stop.samples is None else float(self.stop.samples[n])
        if math.isfinite(self.stop.left):
            budget = min(budget, max(self.stop.left, 0.0) / self.cost / len(self.x))
        gap, variance = _gap(pilot), min(pilot.relative_variance, 1e30)
        if self.stop.width is not None:
            needed = draws_needed(self.stop.width, gap, variance, self.delta)
            if needed <= min(budget, _TOO_MANY):
                return needed + spent, True, needed
        budget = min(budget, _PATIENT)  # nothing limits it, and the width is out of reach as things stand
        return forecast(max(budget, 1.0), gap, variance, self.delta), False, budget

    def draw(self, progress: Progress | None, first: int, count: int) -> None:
        """The draws that count. progress, first, count: to be told of `first` rows of `count` done before."""
        waiting, wanted = list(range(len(self.x))), [_PILOT] * len(self.x)
        while waiting:
            begin = time.monotonic()
            planned = self._plan(waiting, wanted)
            drawn = 0
            for part in _parts(planned):
                for n, at, more in self._draw(part):
                    opening, rest = self.seen[n]
                    self.seen[n] = (more, rest) if at == 0 else (opening, rest.plus(more))
                drawn += sum(size for _, size in part.values())
                if self.stop.left <= 0.0:
                    return
            self.cost = (time.monotonic() - begin) / max(drawn, 1)
            waiting = [n for n in waiting if self._goes_on(n, wanted)]
            if progress is not None:
                self._tell(progress, first + len(self.x) - len(waiting), count, waiting)

    def _tell(self, progress: Progress, done: int, count: int, waiting: list[int]) -> None:
        """Show how wide the first bracket is that waits."""
        if waiting and isinstance(progress, ProgressBar):
            n = waiting[0]
            capital = self._capital(n)
            variance = min(capital.relative_variance, 1e30)
            width = forecast(capital.seen.draws, _gap(capital), variance, self.delta)
            progress.label = f"row {self.first + n}: about {width:.2g} nats wide;"
        progress(done, count)

    def _goes_on(self, n: int, wanted: list[int]) -> bool:
        """Whether the row needs more draws; how many in all then goes into `wanted`. Refused where there is no end."""
        stop, capital = self.stop, self._capital(n)
        drawn = capital.seen.draws
        if stop.samples is not None and drawn >= stop.samples[n]:
            return False
        wanted[n] = 2 * drawn
        if stop.width is not None:
            own = self.samplers[n]
            lower, upper = _bounds(own.log_u, own.rounding, capital, self.delta)
            if upper - lower <= stop.width:
                return False
            needed = draws_needed(stop.width, _gap(capital), min(capital.relative_variance, 1e30), self.delta)
            unlimited = math.isinf(stop.deadline) and stop.samples is None
            if unlimited and needed > _TOO_MANY and drawn >= 16 * _PILOT:
                raise ValueError(
                    f"width: got {stop.width:g}, which takes about {needed:.0e} draws for row {self.first + n} "
                    f"(reached {upper - lower:.3g} with {drawn}); wanted a larger width, or seconds or samples to "
                    "stop at"
                )
            wanted[n] = int(min(max(needed, 1.1 * drawn), 4.0 * drawn))
        return True

    def _plan(self, waiting: list[int], wanted: list[int]) -> dict[int, tuple[int, int]]:
        """(first draw, number of draws) for each row of the next round, in whole pieces, and as long as time allows."""
        allowed = float(max(_ROUND // len(waiting), draws.PIECE))
        if math.isfinite(self.cost) and math.isfinite(self.stop.left):
            allowed = min(allowed, max(self.stop.left / self.cost / len(waiting), draws.PIECE))
        planned = {}
        for n in waiting:
            done = self.seen[n][0].draws + self.seen[n][1].draws
            count = math.ceil(min(wanted[n] - done, allowed) / draws.PIECE) * draws.PIECE
            planned[n] = done, count if self.stop.samples is None else min(count, int(self.stop.samples[n]) - done)
        return planned

    def _draw(
        self, planned: dict[int, tuple[int, int]], pilots: list[int] | None = None
    ) -> Iterator[tuple[int, int, Histogram]]:
        """(row, first draw, what came of it) for all pieces that are planned, row by row in the order of the draws.

        pilots: numbers of boxes, which name the streams of draws that count for nothing.
        """
        pieces: list[Piece[Histogram]] = []
        owners = []
        for n, (first, count) in planned.items():
            if n not in self.samplers:
                self._settle(n)
            work = task(draws.draw, self.seed, (self.first + n, 0 if pilots is None else pilots[n]))
            for start in range(first, first + count, draws.PIECE):
                pieces.append((work, self.samplers[n].mixture, start, min(draws.PIECE, first + count - start)))
                owners.append((n, start))
        results = dict(self.engine.run(iter(pieces), len(pieces)))
        for index, (n, start) in enumerate(owners):
            yield n, start, results[index]


def by_draws(model: BernoulliLVM, x: Bits, stop: Stop, delta: float, seed: int, engine: Engine) -> list[Evidence]:
    """What the draws say about each row. An interrupt ends it as the clock does.

    delta: the error rate of a row, for forecasts, and for whether its bracket is as narrow as it has to be.
    """
    quiet, result = replace(engine, progress=None), list[Evidence]()
    base, interrupted = ground_of(model), False
    size = rows_together(base, _GROUP)
    for start in range(0, len(x), size):
        rows = slice(start, min(start + size, len(x)))
        own, group = stop.of(rows, len(x) - start), None
        try:
            group = _Group(base, x[rows], start, own, delta, seed, quiet)
            if not interrupted and stop.left > 0.0:
                group.choose_boxes()
                group.draw(engine.progress, start, len(x))
        except KeyboardInterrupt:
            interrupted = True
        group = group or _Group(base, x[rows], start, own, delta, seed, quiet)  # its tangents were interrupted
        result += group.evidence()
    return result


def _bounds(log_u: float, rounding: float, capital: Capital, delta: float) -> tuple[float, float]:
    """Of log U + log E[r]."""
    low, high = capital.bounds(delta)
    lower = log_u + math.log(low) - rounding if low > 0.0 else -math.inf
    return lower, log_u + math.log(high) + rounding


def _gap(capital: Capital) -> float:
    """log U - log p(x), as the draws have it."""
    return -math.log(max(capital.mean, 1e-300))


def _parts(planned: dict[int, tuple[int, int]]) -> Iterator[dict[int, tuple[int, int]]]:
    """The rows of a round, so many together that a look at the clock between costs nothing."""
    part: dict[int, tuple[int, int]] = {}
    size = 0
    for n, (first, count) in planned.items():
        for start in range(first, first + count, _LOOK):
            more = min(_LOOK, first + count - start)
            if size + more > _LOOK and part:
                yield part
                part, size = {}, 0
            part[n] = (part[n][0], part[n][1] + more) if n in part else (start, more)
            size += more
    if part:
        yield part
