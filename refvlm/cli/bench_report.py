"""How measurements look: tables for people, or JSON lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..bench.limits import Rates
from ..bench.results import TOLERANCE, PeerResult, Result
from ..checks import human_size
from .report import print_json

Facts = Mapping[str, str | int | float | None]

_OPERATIONS = {
    "fma": "fused multiply-adds",
    "exp": "exp",
    "load_multiply": "loads with a multiplication",
    "division": "divisions",
}


class JSONLines:
    """One object a line. Keys are stable."""

    def __init__(self) -> None:
        self._agree: bool | None = None

    def machine(self, machine: Facts) -> None:
        """The machine and the versions."""
        print_json({"machine": dict(machine)})

    def roofline(self, limits: Sequence[Rates]) -> None:
        """A line for one worker and a line for all."""
        for rates in limits:
            print_json({"roofline": rates._asdict()})

    def result(self, result: Result) -> None:
        """One work."""
        self._agree = _all_agree(self._agree, result)
        work = result.work
        print_json(
            {
                "work": work.name,
                "K": work.latents,
                "H": work.hidden,
                "L": work.observed,
                "N": work.rows,
                "gradient": work.gradient,
                "seconds": result.seconds,
                "ns_per_state": result.ns_per_state,
                "limit_ns": result.limit_ns,
                "percent_of_limit": result.percent_of_limit,
                "peak_bytes": result.peak_bytes,
                "times_faster": result.times_faster,
                "peers": {name: _peer(peer, result) for name, peer in result.peers.items()},
            }
        )

    def end(self, seconds: float) -> bool | None:
        """The summary; whether all peers agreed, None if there were none."""
        print_json({"summary": {"seconds": seconds, "peers_agree": self._agree}})
        return self._agree


def _peer(peer: PeerResult, result: Result) -> dict[str, Any]:
    return {
        "K": peer.latents,
        "ns_per_state": peer.ns_per_state,
        "times_faster": peer.ns_per_state / result.ns_per_state,
        "program": peer.program,
        "largest_difference": peer.difference,
        "agrees": peer.agrees,
    }


def _all_agree(so_far: bool | None, result: Result) -> bool | None:
    """Whether all peers agreed so far, and now."""
    if not result.peers:
        return so_far
    return so_far is not False and all(peer.agrees for peer in result.peers.values())


class Human:
    """Columns for people, numbers rounded. peers: the names that were asked for."""

    def __init__(self, peers: Sequence[str]) -> None:
        self._wanted, self._peers = peers, list[str]()
        self._agree: bool | None = None
        self._notes: list[str] = []
        self._workers = 1

    def machine(self, machine: Facts) -> None:
        """The machine and the versions; a line for every peer that is not there."""
        versions = [f"{name} {machine[name]}" for name in ("python", "refvlm", "numpy", "numba")]
        self._peers = [name for name in self._wanted if machine[name] is not None]
        versions += [f"{name} {machine[name]}" for name in self._peers]
        print(f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}")
        bits = f"{machine['instructions']}, vectors of {machine['vector_bits']} bits"
        print(f"kernels compiled for {machine['compiled_for']}: {bits}")
        print(", ".join(versions))
        for name in self._wanted:
            if machine[name] is None:
                print(f"{name}: not installed")

    def roofline(self, limits: Sequence[Rates]) -> None:
        """What the machine can do, and the heads of the columns."""
        self._workers = limits[-1].workers
        heads = [f"{rates.workers} worker{'s' if rates.workers > 1 else ''}" for rates in limits]
        print(f"\n{'billions per second':<28}", *(f"{head:>12}" for head in heads))
        for key, name in _OPERATIONS.items():
            print(f"{name:<28}", *(f"{getattr(rates, key):12.2f}" for rates in limits))
        peers = [f"{name + ' ns':>10}" for name in self._peers]
        at = [f"{'x faster':>9} {'at K':>5}"] if peers else []
        print(f"\n{'work':<12}{'K':>3}{'H':>4}{'L':>4}{'N':>6}{'ns/state':>10}{'limit':>9}{'%':>5}", *peers, *at)

    def result(self, result: Result) -> None:
        """One line of the table."""
        self._agree = _all_agree(self._agree, result)
        work, peers = result.work, result.peers
        line = f"{work.name:<12}{work.latents:>3}{work.hidden:>4}{work.observed:>4}{work.rows:>6}"
        line += f"{_digits(result.ns_per_state):>10}{_digits(result.limit_ns):>9}{result.percent_of_limit:>5.0f}"
        for name in self._peers:
            peer = peers.get(name)
            line += f" {'' if peer is None else _digits(peer.ns_per_state):>10}"
        line += "" if result.times_faster is None else f" {_digits(result.times_faster):>9}"
        latents = {peer.latents for peer in peers.values()}
        print((line + "".join(f" {k:>5}" for k in latents)).rstrip())
        if result.peak_bytes is not None:
            size = human_size(result.peak_bytes)
            self._notes.append(f"{work.name}: {result.seconds:.2f} s in all, peak memory of the process {size}")
            estimates = [f"{name} {peer.ns_per_state * 2**work.latents * 1e-9:.0f} s" for name, peer in peers.items()]
            self._notes += [f"  extrapolated from K = {k}: {', '.join(estimates)}" for k in latents]
        for name, peer in peers.items():
            if not peer.agrees:
                self._notes.append(f"{name} DISAGREES on {work.name}: relative difference {peer.difference:.1e}")

    def end(self, seconds: float) -> bool | None:
        """What the columns are, and the verdict; whether all peers agreed, None if there were none."""
        workers = f"{self._workers} worker{'s' if self._workers > 1 else ''}"
        print(f"\nns/state: nanoseconds per latent state, all N rows, by {workers}; limit: what its arithmetic takes")
        if self._peers:
            print(f"{', '.join(self._peers)}: the same in float64 on the CPU, timed at the K of the last column")
            print("x faster: ours than the fastest of these")
        for note in self._notes:
            print(note)
        if self._agree:
            print(f"all answers agree within a relative {TOLERANCE:g}")
        print(f"{seconds:.0f} s")
        return self._agree


def _digits(value: float) -> str:
    """At least three digits."""
    return f"{value:.3f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"
