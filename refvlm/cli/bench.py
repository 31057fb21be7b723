"""`refvlm bench`: how fast the enumeration is on this machine."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any

from ..bench.facts import facts
from ..bench.measure import Bench
from ..bench.peers import MAKERS
from ..bench.processor import compile_for
from ..bench.results import TOLERANCE
from ..bench.works import WORKS, Work, named
from ..checks import one_line
from ..machine import available_cores
from ..progress import ProgressBar, duration
from .arguments import add_json, positive
from .bench_report import Human, JSONLines
from .failure import OK, PEER_DISAGREES, USAGE, Failure
from .messages import say, say_cache_problem, say_if_cold

REPEATS, QUICK_REPEATS = 5, 2
BUSY = 0.5
"""A load from which on something else is running."""

_DESCRIPTION = f"""\
What this machine's arithmetic can do at most; then log p(x) of some works, in nanoseconds per latent state: by all
workers together, the best of some rounds after a warm-up, beside the least time that the arithmetic takes (how it is
counted: refvlm/bench/limits.py). Where PyTorch or JAX is installed, the same work there in the same seconds, in turn
with ours: float64, CPU, as many threads (PyTorch on one as well), the best of several chunk sizes and forms; where K
is large, at a smaller K, because their cost per state does not depend on it. Answers must agree to {TOLERANCE:g}.

works, log p(x) of N rows under a model of K latent bits, H hidden tanh units and L observed bits:
"""

_EPILOG = f"""\
with --json, one object a line, keys as here:
  {{"machine": {{"cpu": ..., "compiled_for": a processor's name, "instructions": of its vectors, "vector_bits": ...,
               "cores": ..., "load": of the last minute, "system": ..., "python": ..., "refvlm": ..., "numpy": ...,
               "numba": ..., "torch": ... or null, "jax": ... or null}}}}
      versions; null: not installed
  {{"roofline": {{"workers": ..., "fma": ..., "exp": ..., "load_multiply": ..., "division": ...}}}}
      billions of float64 operations per second, by so many workers together: one, then all; highest of the run
  {{"work": ..., "K": ..., "H": ..., "L": ..., "N": ..., "gradient": true or false, "seconds": ..., "ns_per_state": ...,
   "limit_ns": ..., "percent_of_limit": ..., "peak_bytes": of the process, or null,
   "times_faster": than the fastest peer, or null,
   "peers": {{"torch": {{"K": where it was timed, "ns_per_state": ..., "times_faster": ours, "program": ...,
                       "largest_difference": relative, "agrees": true or false}}, "jax": ...}}}}
  {{"summary": {{"seconds": of everything, "peers_agree": true, false, or null without peers}}}}

Exit codes as in `refvlm --help`: 1 if a peer's answer differs by more than {TOLERANCE:g}.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "bench",
        help="how fast this machine is, beside its own limits and other frameworks",
        description=_DESCRIPTION + _works(),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = list(dict.fromkeys(work.name for work in WORKS))
    parser.add_argument("--only", nargs="+", choices=names, metavar="WORK", help="these works (default: all)")
    parser.add_argument(
        "--peers",
        nargs="+",
        action=_Peers,
        choices=[*MAKERS, "none"],
        default=list(MAKERS),
        metavar="PEER",
        help=f"{', '.join(MAKERS)}, or none (default: all that are installed)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="in seconds: smaller K where it is large, one chunk size for the peers"
    )
    parser.add_argument(
        "--repeats",
        type=positive,
        metavar="R",
        help=f"rounds, of which the best counts (default: {REPEATS}, with --quick {QUICK_REPEATS}); "
        "ours at most 2 where one takes over a second",
    )
    parser.add_argument(
        "--workers", type=positive, metavar="W", help="threads, the peers' too (default: all available cores)"
    )
    parser.add_argument(
        "--cpu",
        metavar="NAME",
        help="as if on this processor, by LLVM's name for it (what NUMBA_CPU_NAME sets): haswell has AVX2, no AVX-512; "
        "the frameworks, too, are asked to keep to its instructions",
    )
    add_json(parser)
    parser.set_defaults(run=run)


class _Peers(argparse.Action):
    """Peers, or none alone."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        chosen = list(dict.fromkeys(values or ()))
        if "none" in chosen and len(chosen) > 1:
            raise argparse.ArgumentError(self, "got none with others, wanted it alone")
        setattr(namespace, self.dest, [name for name in chosen if name != "none"])


def run(arguments: argparse.Namespace) -> int:
    """Measure and report."""
    start = time.perf_counter()
    if arguments.cpu is not None:
        try:
            compile_for(arguments.cpu)
        except ValueError as error:
            raise Failure(f"--cpu: {error}", USAGE) from None
    machine, workers = facts(), arguments.workers or available_cores()
    peers = [name for name in arguments.peers if machine[name] is not None]
    repeats = arguments.repeats or (QUICK_REPEATS if arguments.quick else REPEATS)
    reporter = JSONLines() if arguments.json else Human(arguments.peers)
    say_if_cold()
    load = machine["load"]
    if isinstance(load, float) and load > BUSY:
        say(f"note: something else is running here (load {load:g}), so these times will not be the best possible")
    with ProgressBar("measuring") as bar:

        def missing(name: str, error: Exception) -> None:
            bar.wipe()
            say(f"note: {name} cannot be imported: {one_line(error)}")

        bench = Bench(named(arguments.only), workers, repeats, peers, arguments.quick, missing, bar)
        say(f"this takes about {duration(max(1.0, bench.predicted()))}")
        rates, results = bench.run()
    say_cache_problem()
    reporter.machine(machine)
    reporter.roofline(rates)
    for result in results:
        reporter.result(result)
    agree = reporter.end(time.perf_counter() - start)
    return PEER_DISAGREES if agree is False else OK


def _works() -> str:
    """A line for every name, its sizes joined."""
    shapes: dict[str, list[Work]] = {}
    for work in WORKS:
        shapes.setdefault(work.name, []).append(work)
    lines = []
    for name, works in shapes.items():
        latents, one = ", ".join(str(work.latents) for work in works), works[0]
        what = "; with its gradient" if one.gradient else ""
        lines.append(f"  {name:<12} K = {latents}, H = {one.hidden}, L = {one.observed}, N = {one.rows}{what}")
    return "\n".join(lines)
