"""`refvlm fit`: learn a model of a data file, and watch log p(x), VLB and KL as they move."""

from __future__ import annotations

import argparse
import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..activations import ACTIVATIONS
from ..enumeration.engine import on
from ..learning import defaults
from ..learning.optimisers import OPTIMISERS, SCHEDULES
from ..learning.rules import RULES, hyperparameters
from ..learning.setup import POSTERIORS
from ..learning.sizes import SIZES
from ..model.files import save
from ..plot import learning_curve
from ..plot import save as save_picture
from ..storage import check_writable
from .arguments import add_json, count, latents, number, positive, widths
from .engines import add_engine, engine
from .failure import BAD_INPUT, NO_INPUT, OK, Failure, writing
from .fit_output import Watcher, summarise
from .inputs import DATA_HELP, read_data
from .messages import say_cache_problem, say_if_cold
from .pictures import add_plot, check_plot, drawing

if TYPE_CHECKING:
    from ..types import Bits

_DESCRIPTION = """\
Learn a Bernoulli latent variable model of the rows of DATA, shallow (--latents 8) or deep (--latents 8,1, from x
upwards), by exact maximum likelihood, by the variational lower bound, or by wake-sleep, with the exact log p(x), VLB
and gap KL(q || p(z|x)) at hand wherever 2^K allows. The model that is best on held-out rows is kept: those of
--validation, or else a tenth of DATA, which nothing is learnt from.
"""

_EPILOG = """\
Means over the rows, in nats: log p(x), VLB and KL of the rows that are learnt from, and of the held-out ones beside
them. While it runs the state is kept in a checkpoint, written whole once a minute and when something ends the run
(Ctrl-C, SIGTERM, SIGHUP, a full disk); --resume goes on from it, with the same options, to the same bits as an
uninterrupted run. It is removed when MODEL is written.

with --json, one object a line: for every evaluated epoch
  {"epoch": 1, "step": ..., "learning_rate": ..., "log_px": ..., "vlb": ..., "kl": ..., "validation_log_px": ...,
   "validation_vlb": ..., "validation_kl": ..., "log_px_estimate": ..., "log_px_standard_error": ..., ...}
  null where a number is not there; *_estimate are by importance sampling, where K is too large for the sum; in the
  last one then log_px_lower, log_px_upper, between which the mean lies with confidence 1 - 1e-9
  {"summary": {"model": FILE, "method": ..., "latents": [...], "rows": ..., "held_out_rows": ..., "seconds": ...,
               "posterior_numbers": ..., "hint": ..., "tried": [{"latents": ..., "held_out_log_px": ..., "gain": ...,
               "standard_error": ...}, ...], "log_px": ..., ...}}
  rows are those learnt from; tried is empty without --latents auto; then the last record's numbers again

Exit codes as in `refvlm --help`; 65 also where learning diverges.
"""


_NOT_OF_FIT = {
    "data", "output", "validation", "checkpoint", "plot", "json", "run", "parser", "workers", "executor",
}  # fmt: skip
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
    add(
        "--validation",
        metavar="DATA|none",
        help="held-out rows (default: a tenth of DATA; none of bars and shifter, with method em, with one phi per "
        f"datum, or of fewer than {defaults.FEWEST} distinct rows)",
    )
    add(
        "--latents",
        type=latents,
        default=(8,),
        metavar="K[,K2...]|auto",
        help=f"latent bits, from x upwards; auto tries {SIZES[0]}, {SIZES[1]}, ... {SIZES[-1]} while held-out log p(x) "
        "rises by more than a standard error (default: 8)",
    )
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
    add(
        "--epochs",
        type=count,
        metavar="N",
        help=f"passes over the rows (default: {defaults.STEPS} steps, from {defaults.FEWEST_EPOCHS} to "
        f"{defaults.MOST_EPOCHS} passes, or {defaults.MOST_EPOCHS_UNSEEN} without held-out rows; "
        f"{defaults.EPOCHS_OF_ONE_STEP} where a step takes all rows, "
        f"{defaults.EPOCHS_OF_OWN_STEPS} with em)",
    )
    add(
        "--batch-size",
        type=positive,
        metavar="N",
        help=f"rows a step (default: a {defaults.BATCHES}th, from {defaults.SMALLEST} to {defaults.LARGEST}; all where "
        "the method needs them, or enumerates, on bars and shifter)",
    )
    add("--optimiser", choices=tuple(OPTIMISERS), default="adam", help="(default: %(default)s)")
    rates = ", ".join(f"{rate} for {name}" for name, rate in defaults.LEARNING_RATES.items())
    add(
        "--learning-rate",
        type=number,
        metavar="R",
        help=f"(default: {rates}; for adam {defaults.BOLDER['adam']:g} times that where the method enumerates; twice "
        "that for sigmoid units)",
    )
    add(
        "--momentum", type=number, default=0.0, metavar="M", help="of sgd; of adam beta1 (default: 0, and 0.9 for adam)"
    )
    add("--beta2", type=number, metavar="B", help=f"of adam (default: {defaults.BETA2})")
    add("--schedule", choices=tuple(SCHEDULES), default=defaults.SCHEDULE, help="of the rate (default: %(default)s)")
    add(
        "--weight-decay",
        type=number,
        metavar="D",
        help=f"(default: {defaults.DECAY:g} divided by the number of rows, at most {defaults.STRONGEST}, with "
        "held-out rows; else 0)",
    )
    add(
        "--patience",
        type=positive,
        metavar="N",
        help="end after N evaluations without a better held-out log p(x) (default: a tenth of all, at least 15)",
    )
    add("--evaluate-every", type=positive, metavar="N", help="epochs between evaluations (default: 1, more if costly)")
    add("--seed", type=count, default=0, metavar="S", help="(default: %(default)s)")
    add("--checkpoint", metavar="FILE", help="(default: MODEL.checkpoint)")
    add("--checkpoint-every", type=number, default=60.0, metavar="SECONDS", help="(default: %(default)s)")
    add("--resume", action="store_true", help="go on from the checkpoint of a run that did not end")
    add_plot(parser, "log p(x) = VLB + KL over the epochs")
    add_engine(parser)
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
    validation = _held_out(arguments.validation, x.shape[1])
    automatic = arguments.latents == "auto"
    if automatic:
        checkpoint = None
    say_if_cold()
    begun = time.monotonic()
    watcher = Watcher(arguments.json)
    with engine(arguments) as where, watcher, writing(checkpoint):
        try:
            options = {name: value for name, value in vars(arguments).items() if name not in _NOT_OF_FIT}
            fitted = fit(
                x, **options, **on(where), validation=validation, weights=weights, progress=watcher.progress,
                watch=None if automatic else watcher.watch, checkpoint=checkpoint,
            )  # fmt: skip
        except KeyboardInterrupt:
            if checkpoint is None or not os.path.exists(checkpoint):
                raise
            watcher.wipe()
            how = f"the state is in {checkpoint}; the same command with --resume goes on from it"
            raise KeyboardInterrupt(how) from None
    with writing(output):
        save(output, fitted.model, fitted.posterior)
    if checkpoint is not None:
        with suppress(OSError):
            os.unlink(checkpoint)
    say_cache_problem()
    if automatic:
        for record in fitted.history:
            watcher.watch(record)
    with watcher.printing():
        if fitted.history:
            watcher.end(fitted.history[-1])
        summarise(arguments, fitted, len(x) - len(fitted.held_out), time.monotonic() - begun)
    if watcher.unprintable is not None:
        raise watcher.unprintable
    if arguments.plot is not None and fitted.history:
        with drawing(arguments.plot):
            save_picture(learning_curve(fitted.history), arguments.plot)
    return OK


def _held_out(source: str | None, columns: int) -> Bits | bool | None:
    """What `fit` takes as validation."""
    if source == "none" and not os.path.exists(source):
        return False
    return None if source is None else read_data(source, columns)[0]
