"""What `refvlm fit` shows: the bar, an evaluation a line, and what was learnt in the end."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import interrupts
from ..learning.advice import advice
from ..model.recognition import PerDatumPosterior
from ..progress import PATIENCE, ProgressBar, duration
from .failure import Failure, listening
from .messages import say
from .report import print_json

if TYPE_CHECKING:
    from ..learning.fitted import Fit
    from ..learning.history import Record


class Watcher:
    """Shows the bar on stderr, with log p(x), VLB and KL beside it, and prints the records on stdout as they come."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._bar = ProgressBar("learning")
        self._began: tuple[float, int] | None = None  # when, and the steps done by then
        self._shown: Record | None = None
        self._predicted = self._headed = False
        self.unprintable: Failure | None = None

    def __enter__(self) -> None:
        self._bar.__enter__()

    def __exit__(self, *error: object) -> None:
        self.wipe()

    def wipe(self) -> None:
        """Clear the bar."""
        self._bar.wipe()

    def progress(self, done: int, total: int) -> None:
        """Show how many steps are done; end here after a signal whose exception has been lost on the way."""
        self._bar(done, total)
        self._predict(done, total)
        if interrupts.came():
            raise KeyboardInterrupt

    @contextmanager
    def printing(self) -> Iterator[None]:
        """Print in the block. What cannot be printed is kept in `unprintable`: the model has to be written first."""
        try:
            with listening():
                yield
        except Failure as error:
            self.unprintable = error

    def watch(self, record: Record) -> None:
        """Print an evaluation: as JSON every one, as text those of epochs 1, 2, 5, 10, 20, 50, ... and the last."""
        shown = [f"log p {_say(record.log_px, record.log_px_estimate, 3)}"]
        shown += [f"VLB {record.vlb:.3f}"] if record.vlb is not None else []
        shown += [f"KL {record.kl:.3f}"] if record.kl is not None else []
        held_out = _say(record.validation_log_px, record.validation_log_px_estimate, 3)
        shown += [f"held-out {held_out}"] if held_out else []
        self._bar.label = " ".join(shown)
        if self._json:
            with self.printing():
                print_json(record._asdict())
        elif str(record.epoch).rstrip("0") in ("1", "2", "5"):
            self.wipe()
            with self.printing():
                self._line(record)

    def end(self, record: Record) -> None:
        """Print the last record, if it has not been printed."""
        if not self._json and record != self._shown:
            self._line(record)

    def _line(self, record: Record) -> None:
        if not self._headed:
            bound = f"{'VLB':>12} {'KL':>10}"
            held_out = f"   {'held-out log p(x)':>17} {bound}" if record.score is not None else ""
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


def _say(exact: float | None, estimate: float | None, places: int = 4) -> str:
    """An exact number, or an estimate marked as one, or nothing."""
    return f"{exact:.{places}f}" if exact is not None else f"~{estimate:.{places}f}" if estimate is not None else ""


def _columns(log_px: str, vlb: float | None, kl: float | None, width: int) -> str:
    bound = "" if vlb is None else f"{vlb:.4f}"
    return f"{log_px:>{width}} {bound:>12} {'' if kl is None else f'{kl:.4f}':>10}"


def summarise(arguments: argparse.Namespace, fitted: Fit, rows: int, seconds: float) -> None:
    """Print what was learnt."""
    last = fitted.history[-1] if fitted.history else None
    stored = 0 if fitted.posterior is None else sum(value.size for value in fitted.posterior.parameters().values())
    if arguments.json:
        summary = {} if last is None else last._asdict()
        facts = {
            "model": arguments.output, "method": arguments.method,
            "latents": [layer.latents for layer in fitted.model.layers], "rows": rows,
            "held_out_rows": len(fitted.held_out), "seconds": seconds, "posterior_numbers": stored,
            "hint": advice(fitted.history), "tried": [each._asdict() for each in fitted.tried],
        }  # fmt: skip
        print_json({"summary": facts | summary})
        return
    if fitted.tried:
        _print_tried(fitted)
    print(f"\n{arguments.output}: {fitted.model.latents} latent bits, {fitted.model.observed} observed, by "
          f"{arguments.method} from {rows} rows in {duration(seconds)}")  # fmt: skip
    kept = max((r for r in fitted.history if r.score is not None), key=lambda r: r.score or 0.0, default=None)
    if len(fitted.held_out):
        print(f"held out: {len(fitted.held_out)} other rows of {arguments.data}, chosen by --seed {arguments.seed}; "
              "--validation none learns from all")  # fmt: skip
    if kept is not None:
        print(f"kept: the model of epoch {kept.epoch}, the best on the held-out rows")
    if (hint := advice(fitted.history)) is not None:
        print(f"hint: {hint}")
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


def _print_tried(fitted: Fit) -> None:
    """Print by which numbers the number of latents was chosen."""
    print(f"\n{'latents':>7} {'held-out log p(x)':>18} {'better by':>10} {'standard error':>15}")
    for each in fitted.tried:
        better = "" if each.gain is None else f"{each.gain:10.4f} {each.standard_error:15.4f}"
        print(f"{each.latents:7d} {each.held_out_log_px:18.4f} {better}".rstrip())
    print(f"chosen: {fitted.model.latents}; better than fewer on the same held-out rows by more than a standard error")
