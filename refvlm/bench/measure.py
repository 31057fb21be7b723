"""Timing: ours and the peers' in turn, in the same seconds, the best of each."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ..inference.cost import predict_seconds
from ..machine import peak_memory
from .limits import Rates, limit
from .peers import CHUNKS, MAKERS, Peer, Program, chunk_sizes, predict_peer
from .results import PeerResult, Result
from .roofline import Roofline
from .works import Answer, Work, model_of, ours, problem

FINALISTS = 2
"""So many of a peer's programs, the fastest in one run each, are timed in every round."""

_ROOFLINE_REPEATS, _ROOFLINE_SECONDS = 3, 0.4  # before every work
_LONG = 1.0  # seconds of ours; beyond it two rounds must do
_SHORT = 0.05  # seconds below which one run says little
_PAUSE = 0.02  # seconds in which the threads of what ran before stop waiting for more
_LEAST_LATENTS, _FEWER_LATENTS = 10, 4  # of peers with `quick`


class _Chosen(NamedTuple):
    """A peer's fastest programs for a problem, and the largest difference of any of its programs from ours."""

    programs: list[Program]
    difference: float


class Bench:
    """The measurement of some works, ours by `workers` threads, best of `repeats` rounds, after a warm-up.

    peers: names out of peers.MAKERS; one that cannot be imported is left out, and missing(name, error) called. quick:
    smaller K and one chunk size for the peers. progress: called with the milliseconds done and in all, as predicted.
    """

    def __init__(
        self, works: list[Work], workers: int, repeats: int, peers: list[str], quick: bool,
        missing: Callable[[str, Exception], object], progress: Callable[[int, int], object],
    ) -> None:  # fmt: skip
        self._works = [_smaller(work) for work in works] if quick else works
        self._workers, self._repeats, self._names = workers, repeats, peers
        self._chunks = CHUNKS[1:2] if quick else CHUNKS
        self._missing, self._progress, self._done = missing, progress, 0.0
        self._peers: dict[str, Peer] | None = None
        self._predictions: dict[Work, tuple[float, float]] = {}
        self._chosen: dict[tuple[str, Work], _Chosen] = {}

    def predicted(self) -> float:
        """Seconds for all works. The first call compiles our kernels, whose compilation it does not count."""
        return sum(_ROOFLINE_SECONDS + sum(self._predicted(work)) for work in self._works)

    def run(self) -> tuple[list[Rates], list[Result]]:
        """What the machine can do, on one worker and on all; and the works, with their limits at the latter's rates.

        The rates are measured before every work: their best is that of the whole run.
        """
        roofline, results = Roofline(self._workers), []
        for work in self._works:
            roofline.measure(_ROOFLINE_REPEATS)
            self._step(_ROOFLINE_SECONDS)
            results.append(self._measure(work))
        rates = roofline.rates
        return rates, [result._replace(limit_ns=limit(result.work, rates[-1])) for result in results]

    def _measure(self, work: Work) -> Result:
        run = ours(problem(work), work.gradient, self._workers)
        _timed(run)
        best = math.inf
        peak = peak_memory() if work.memory else None
        chosen = {} if work.peer_latents is None else {n: self._choose(n, p, work) for n, p in self._found().items()}
        own, others = self._predicted(work)
        self._step(0.5 * others)
        bests = dict.fromkeys(chosen, (math.inf, ""))
        for r in range(self._repeats):
            if r < 2 or best < _LONG:
                best = min(best, _timed(run)[0])
            for name, (programs, _) in chosen.items():
                bests[name] = min(bests[name], *((_timed(program)[0], what) for what, program in programs))
            self._step((own + 0.5 * others) / self._repeats)
        by_peer = {}
        for name, (seconds, program) in bests.items():
            latents = work.peer_latents or work.latents
            by_peer[name] = PeerResult(latents, seconds * 1e9 / 2**latents, program, chosen[name].difference)
        return Result(work, best, best * 1e9 / 2**work.latents, peak, by_peer)

    def _choose(self, name: str, peer: Peer, work: Work) -> _Chosen:
        """Check all programs of a peer, and time each once."""
        key = name, work._replace(name="", latents=0, quick_latents=None, memory=False)  # all that a peer sees
        if key not in self._chosen:
            inputs = problem(work, work.peer_latents)
            expected, differences, tried = ours(inputs, work.gradient, self._workers)(), [], []
            for what, program in peer.programs(inputs, work.gradient, self._chunks):
                differences.append(program().difference(expected))
                tried.append((_timed(program)[0], (what, program)))
            fastest = sorted(tried, key=lambda pair: pair[0])[:FINALISTS]
            self._chosen[key] = _Chosen([program for _, program in fastest], float(np.max(differences)))
        return self._chosen[key]

    def _found(self) -> dict[str, Peer]:
        """The peers that can be imported; imported when the first is wanted."""
        if self._peers is None:
            self._peers = {}
            for name in self._names:
                try:
                    self._peers[name] = MAKERS[name](self._workers)
                except (ImportError, OSError) as error:
                    self._missing(name, error)
        return self._peers

    def _predicted(self, work: Work) -> tuple[float, float]:
        """Seconds of ours and of the peers."""
        if work not in self._predictions:
            inputs = problem(work)
            one = predict_seconds(
                model_of(inputs), None, inputs.x, work.rows, gradient=work.gradient, workers=self._workers
            )
            programs = runs = 0
            if work.peer_latents is not None:
                programs = 2 * len(chunk_sizes(self._chunks, work.peer_latents))
                runs = 2 * programs + FINALISTS * self._repeats
            self._predictions[work] = (self._repeats + 1) * one, len(self._names) * predict_peer(work, programs, runs)
        return self._predictions[work]

    def _step(self, seconds: float) -> None:
        self._done += 1000.0 * seconds
        self._progress(round(self._done), round(1000.0 * self.predicted()))


def _smaller(work: Work) -> Work:
    """The work as `quick` does it."""
    peers = work.peer_latents and max(_LEAST_LATENTS, work.peer_latents - _FEWER_LATENTS)
    return work._replace(latents=work.quick_latents or work.latents, peer_latents=peers)


def _timed(program: Callable[[], Answer]) -> tuple[float, Answer]:
    """Seconds of the best run, after a pause, and the answer; what is short runs again, to wake the cores up."""
    time.sleep(_PAUSE)
    best, begin = math.inf, time.perf_counter()
    while True:
        start = time.perf_counter()
        answer = program()
        end = time.perf_counter()
        best = min(best, end - start)
        if end - begin >= _SHORT:
            return best, answer
