"""`refvlm fit`: learn a model of a data file, and watch log p(x), VLB and KL as they move."""

from __future__ import annotations

import argparse
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from ..activations import ACTIVATIONS
from ..learning.optimisers import LEARNING_RATES, OPTIMISERS, SCHEDULES
from ..learning.rules import RULES, hyperparameters
from ..learning.setup import POSTERIORS
from ..model.files import save
from ..model.recognition import PerDatumPosterior
from ..plot import learning_curve
from ..plot import save as save_picture
from ..progress import PATIENCE, ProgressBar, duration
from ..storage import check_writable
from .arguments import add_json, add_workers, count, number, positive, widths
from .failure import BAD_INPUT, NO_INPUT, OK, Failure, listening, writing
from .inputs import DATA_HELP, read_data
from .messages import say, say_cache_problem, say_if_cold
from .pictures import add_plot, check_plot, drawing
from .report import print_json

if TYPE_CHECKING:
    from ..learning.fit import Fit
    from ..learning.history import Record

_DESCRIPTION = """\
Learn a Bernoulli latent variable model of the rows of DATA, shallow (--latents 8) or deep (--latents 8,1, from x
upwards), by exact maximum likelihood, by the variational lower bound, or by wake-sleep, with the exact log p(x), VLB
and gap KL(q || p(z|x)) at hand wherever 2^K allows. With --validation the model that is best on held-out rows is kept.
"""

_EPILOG = """\
Means over the rows, in nats. While it runs the state is kept in a checkpoint, written whole once a minute and when
interrupted; --resume goes on from it, with the same options, to the same bits as an uninterrupted run. It is removed
when MODEL is written.

with --json, one object a line: for every evaluated epoch
  {"epoch": 1, "step": ..., "learning_rate": ..., "log_px": ..., "vlb": ..., "kl": ..., "validation_log_px": ...,
   "validation_vlb": ..., "validation_kl": ..., "log_px_estimate": ..., "log_px_standard_error": ..., ...}
  null where a number is not there; *_estimate are by importance sampling, where K is too large for the sum; in the
  last one then log_px_lower, log_px_upper, between which the mean lies with confidence 1 - 1e-9
  {"summary": {"model": FILE, "method": ..., "rows": ..., "seconds": ...,
               "posterior_numbers": ..., "log_px": ..., ...}}   the last record's numbers again

Exit codes as in `refvlm --help`; 65 also where learning diverges.
"""


_NOT_OF_FIT = {"data", "output", "validation", "checkpoint", "plot", "json", "run", "parser"}
"""Arguments that the command reads; all others go to `refvlm.fit` under their names."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "fit",
        help="learn a model of a data file",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("data", metavar="DATA", help=f"{DATA_HELP}; here bars and shifter come with their probabilities")
    add("-o", "--output", required=True, metavar="MODEL", help="the model file to write")
    add("--validation", metavar="DATA", help="held-out rows")
    add("--latents", type=widths, default=(8,), metavar="K[,K2...]", help="latent bits, from x upwards (default: 8)")
    add("--hidden", type=widths, default=(64,), metavar="H[,H2...]|none", help="of every decoder (default: 64)")
    add("--encoder-hidden", type=widths, metavar="H[,...]|none", help="of every encoder (default: --hidden reversed)")
    add("--activation", choices=tuple(ACTIVATIONS), default="tanh", help="(default: %(default)s)")
    add("--method", choices=tuple(RULES), default="maximum-likelihood", help="(default: %(default)s)")
    for name, option in hyperparameters().items():
        kind = {"type": positive if isinstance(option.default, int) else number, "metavar": name[0].upper()}
        add(
            f"--{name.replace('_', '-')}",
            default=argparse.SUPPRESS,
            help=f"{option.help} (with {', '.join(option.methods)}; default: {option.default})",
            **({"choices": option.choices} if option.choices else kind),
        )
    add("--posterior", choices=POSTERIORS, default="amortised", help="kind of q(z|x) (default: %(default)s)")
    add("--epochs", type=count, default=100, metavar="N", help="passes over the rows (default: %(default)s)")
    add(
        "--batch-size",
        type=positive,
        metavar="N",
        help="rows a step (default: 100; all where the method needs them, or enumerates, on bars and shifter)",
    )
    add("--optimiser", choices=tuple(OPTIMISERS), default="adam", help="(default: %(default)s)")
    rates = ", ".join(f"{rate} for {name}" for name, rate in LEARNING_RATES.items())
    add("--learning-rate", type=number, metavar="R", help=f"(default: {rates})")
    add(
        "--momentum", type=number, default=0.0, metavar="M", help="of sgd; of adam beta1 (default: 0, and 0.9 for adam)"
    )
    add("--schedule", choices=tuple(SCHEDULES), default="constant", help="of the rate (default: %(default)s)")
    add("--weight-decay", type=number, default=0.0, metavar="D", help="(default: %(default)s)")
    add("--patience", type=positive, metavar="N", help="end after N evaluations without a better held-out log p(x)")
    add("--evaluate-every", type=positive, metavar="N", help="epochs between evaluations (default: 1, more if costly)")
    add("--seed", type=count, default=0, metavar="S", help="(default: %(default)s)")
    add("--checkpoint", metavar="FILE", help="(default: MODEL.checkpoint)")
    add("--checkpoint-every", type=number, default=60.0, metavar="SECONDS", help="(default: %(default)s)")
    add("--resume", action="store_true", help="go on from the checkpoint of a run that did not end")
    add_plot(parser, "log p(x) = VLB + KL over the epochs")
    add_workers(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, learn, write."""
    from ..learning.fit import fit  # it loads SciPy

    output, checkpoint = arguments.output, arguments.checkpoint or f"{arguments.output}.checkpoint"
    for path in (output, checkpoint):
        with writing(path):
            check_writable(path)
    check_plot(arguments.plot)
    if arguments.resume and not os.path.exists(checkpoint):
        raise Failure(f"--resume: there is no checkpoint {checkpoint}; leave --resume out to begin", NO_INPUT)
    if not arguments.resume and os.path.exists(checkpoint):
        raise Failure(
            f"{checkpoint}: is there already, of a run that did not end; go on from it with --resume, remove it, or "
            "name another with --checkpoint",
            BAD_INPUT,
        )
    x, weights = read_data(arguments.data)
    validation = None if arguments.validation is None else read_data(arguments.validation, x.shape[1])[0]
    say_if_cold()
    begun = time.monotonic()
    watcher = _Watcher(arguments.json, arguments.epochs, validation is not None)
    with watcher, _interrupts(watcher), writing(checkpoint):
        try:
            options = {name: value for name, value in vars(arguments).items() if name not in _NOT_OF_FIT}
            fitted = fit(
                x, **options, validation=validation, weights=weights, progress=watcher.progress, watch=watcher.watch,
                checkpoint=checkpoint,
            )  # fmt: skip
        except KeyboardInterrupt:
            watcher.wipe()
            if os.path.exists(checkpoint):
                say(f"the state is in {checkpoint}; the same command with --resume goes on from it")
            raise
    with writing(output):
        save(output, fitted.model, fitted.posterior)
    with suppress(OSError):
        os.unlink(checkpoint)
    say_cache_problem()
    with listening():
        if fitted.history:
            watcher.end(fitted.history[-1])
        _summarise(arguments, fitted, len(x), time.monotonic() - begun)
    if arguments.plot is not None and fitted.history:
        with drawing(arguments.plot):
            save_picture(learning_curve(fitted.history), arguments.plot)
    return OK


class _Watcher:
    """Shows the bar on stderr, with log p(x), VLB and KL beside it, and prints the records on stdout as they come."""

    def __init__(self, as_json: bool, epochs: int, validated: bool) -> None:
        self._json, self._epochs, self._validated = as_json, epochs, validated
        self._bar = ProgressBar("learning")
        self._began: tuple[float, int] | None = None  # when, and the steps done by then
        self._shown: Record | None = None
        self._predicted = self._headed = False
        self.stop = False

    def __enter__(self) -> None:
        self._bar.__enter__()

    def __exit__(self, *error: object) -> None:
        self.wipe()

    def wipe(self) -> None:
        """Clear the bar."""
        self._bar.wipe()

    def progress(self, done: int, total: int) -> None:
        """Show how many steps are done; after Ctrl-C stop here, between two steps."""
        self._bar(done, total)
        self._predict(done, total)
        if self.stop:
            raise KeyboardInterrupt

    def watch(self, record: Record) -> None:
        """Print an evaluation: as JSON every one, as text those of epochs 1, 2, 5, 10, 20, 50, ... and the last."""
        shown = [f"log p {_say(record.log_px, record.log_px_estimate, 3)}"]
        shown += [f"VLB {record.vlb:.3f}"] if record.vlb is not None else []
        shown += [f"KL {record.kl:.3f}"] if record.kl is not None else []
        held_out = _say(record.validation_log_px, record.validation_log_px_estimate, 3)
        shown += [f"held-out {held_out}"] if held_out else []
        self._bar.label = " ".join(shown)
        if self._json:
            with listening():
                print_json(record._asdict())
        elif str(record.epoch).rstrip("0") in ("1", "2", "5") or record.epoch == self._epochs:
            self.wipe()
            with listening():
                self._line(record)

    def end(self, record: Record) -> None:
        """Print the last record, if it has not been printed."""
        if not self._json and record != self._shown:
            self._line(record)

    def _line(self, record: Record) -> None:
        if not self._headed:
            bound = f"{'VLB':>12} {'KL':>10}"
            held_out = f"   {'held-out log p(x)':>17} {bound}" if self._validated else ""
            print(f"{'epoch':>7} {'log p(x)':>14} {bound}{held_out}")
            self._headed = True
        self._shown = record
        own = _columns(_say(record.log_px, record.log_px_estimate), record.vlb, record.kl, 14)
        held_out = _say(record.validation_log_px, record.validation_log_px_estimate)
        others = _columns(held_out, record.validation_vlb, record.validation_kl, 17)
        print(f"{record.epoch:7d} {own}   {others}".rstrip(), flush=True)

    def _predict(self, done: int, total: int) -> None:
        """Say once how long the rest is going to take, if that is long; known from the second step on."""
        now = time.monotonic()
        if self._began is None or done <= self._began[1]:  # the fit of the posterior counts anew
            self._began = now, done
        elif not self._predicted and now - self._began[0] >= 0.5:
            self._predicted = True
            seconds = (now - self._began[0]) / (done - self._began[1]) * (total - done)
            if seconds >= 5 * PATIENCE:
                self.wipe()
                say(f"about {duration(seconds)} for the {total - done} steps that are left, if all epochs are needed")


@contextmanager
def _interrupts(watcher: _Watcher) -> Iterator[None]:
    """Let Ctrl-C end learning after the step under way, so that nothing is lost, and a second Ctrl-C at once."""

    def stop(number: int, frame: FrameType | None) -> None:
        if watcher.stop:
            raise KeyboardInterrupt
        watcher.stop = True

    try:
        before = signal.signal(signal.SIGINT, stop)
    except ValueError:  # not the main thread, which alone may set signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _say(exact: float | None, estimate: float | None, places: int = 4) -> str:
    """An exact number, or an estimate marked as one, or nothing."""
    return f"{exact:.{places}f}" if exact is not None else f"~{estimate:.{places}f}" if estimate is not None else ""


def _columns(log_px: str, vlb: float | None, kl: float | None, width: int) -> str:
    bound = "" if vlb is None else f"{vlb:.4f}"
    return f"{log_px:>{width}} {bound:>12} {'' if kl is None else f'{kl:.4f}':>10}"


def _summarise(arguments: argparse.Namespace, fitted: Fit, rows: int, seconds: float) -> None:
    """Print what was learnt."""
    last = fitted.history[-1] if fitted.history else None
    stored = 0 if fitted.posterior is None else sum(value.size for value in fitted.posterior.parameters().values())
    if arguments.json:
        summary = {} if last is None else last._asdict()
        facts = {"model": arguments.output, "method": arguments.method, "rows": rows, "seconds": seconds}
        print_json({"summary": facts | {"posterior_numbers": stored} | summary})
        return
    print(f"\n{arguments.output}: {fitted.model.latents} latent bits, {fitted.model.observed} observed, by "
          f"{arguments.method} from {rows} rows in {duration(seconds)}")  # fmt: skip
    kept = max((r for r in fitted.history if r.score is not None), key=lambda r: r.score or 0.0, default=None)
    if kept is not None:
        print(f"kept: the model of epoch {kept.epoch}, the best on the held-out rows")
    if isinstance(fitted.posterior, PerDatumPosterior):
        print(f"posterior: one phi per row, {stored} numbers for {rows} rows; it grows with the data")
    elif fitted.posterior is not None:
        print(f"posterior: an encoder, {stored} numbers, however many rows there are")
    if last is not None and last.log_px is None and last.log_px_estimate is not None:
        print("log p(x) marked ~ is an estimate by importance sampling, not the sum over z")
    if last is not None and last.log_px_lower is not None:
        print(f"mean log p(x) lies from {last.log_px_lower:.4f} to {last.log_px_upper:.4f}, certified at 1 - 1e-9")
    if last is not None and last.validation_log_px_lower is not None:
        between = f"{last.validation_log_px_lower:.4f} to {last.validation_log_px_upper:.4f}"
        print(f"that of the held-out rows lies from {between}, likewise")
