"""`refvlm evaluate`: log p(x) = VLB + KL, row by row."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from ..enumeration.engine import Workers, on
from ..enumeration.journal import Journal
from ..inference.bounds import Decomposition, decompose
from ..inference.exact import log_marginal
from ..inference.worked import MOST_LATENTS, work_out
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..progress import ProgressBar
from ..rows import RowReader
from ..types import Floats
from . import between, kept
from .arguments import Rows, add_json, positive, row_range
from .engines import add_engine, engine
from .failure import BAD_INPUT, IDENTITY_BROKEN, OK, USAGE, Failure
from .handout import LaTeX, Page
from .inputs import DATA_HELP, check_rows, open_data, open_model, rows_of_posterior, selected
from .messages import say, say_cache_problem, say_if_cold, say_prediction
from .pictures import Gallery, add_plot, check_plot
from .report import Human, JSONLines, Reporter, Summary, rows_of

_DESCRIPTION = """\
Exact log p(x) of every row of DATA under MODEL, with a bound on its rounding error; and, when the file has a
posterior q(z|x), the variational lower bound VLB, the gap KL(q, p(z|x)) and the residual log p(x) - (VLB + KL),
three numbers by three routes. Numbers are in nats and do not depend on --workers or --chunk, not by a bit.
"""

_EPILOG = f"""\
with --json, one object a line, keys as here:
  {{"row": 0, "log_px": ..., "log_px_error": ..., "vlb": ..., "kl": ..., "residual": ...,
   "vlb_error": ..., "kl_error": ...}}   for every row, from 0; errors are bounds on the rounding
  {{"summary": {{"rows": ..., "mean_log_px": ..., "mean_vlb": ..., "mean_kl": ...,
               "largest_log_px_error": ..., "largest_residual": ..., "identity_holds": true or false}}}}
  Without a posterior vlb, kl, residual, vlb_error, kl_error, mean_vlb, mean_kl, largest_residual and identity_holds
  are null; means of no rows are null. With --table, before each row:
  {{"row": 0, "code": 0, "z": [0, 0, ...], "log_prior": ..., "log_likelihood": ..., "log_joint": ...,
   "posterior": ..., "q": ... or null}}   for every code; bit k of the code is z_k, and z_0 comes first
  {{"row": 0, "sums": {{"prior": 1.0, "log_joint": log p(x), "posterior": 1.0, "q": 1.0 or null,
                       "vlb": ... or null, "kl": ... or null}}}}   vlb and kl as the columns give them

With --so-far instead, for every row that is shown and has begun:
  {{"row": 0, "log_px_lower": a proved lower bound, "done": the part of the sum that it is from}}

{between.EPILOG}
--table and --table-format want a model of at most {MOST_LATENTS} latent bits. Of a deep one z is the layer next to x.
Exit codes as in `refvlm --help`: 1 if the identity does not hold for some row.
"""


_TABLES: dict[str, Callable[[], Reporter]] = {"text": Human, "html": Page, "latex": LaTeX}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "evaluate",
        help="log p(x), VLB, KL and residual of every row of a data file",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a model file, as refvlm.save and `refvlm demo` write it")
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    add_json(parser)
    parser.add_argument(
        "--table",
        action="store_true",
        help="for each shown row the whole table over z; only the shown rows are evaluated (default: the first row)",
    )
    parser.add_argument(
        "--table-format",
        choices=tuple(_TABLES),
        metavar="FORMAT",
        help="--table as text (default), as a whole page of html, or as latex for the body of a document",
    )
    parser.add_argument(
        "--rows",
        type=row_range,
        default=argparse.SUPPRESS,
        metavar="WHICH",
        help="rows to show: all, the first N, or A:B for A to B - 1 (default: 10; with --json all; with --table 1); "
        "the summary is of all rows, with --table of the shown ones",
    )
    add_plot(parser, "the terms of the VLB, KL and log p(x); where one row is shown its posterior beside q, too")
    add_engine(parser)
    parser.add_argument(
        "--checkpoint",
        metavar="FILE",
        help="keep what has been summed in FILE, every two seconds; the same command goes on from there, with any "
        "--workers or --executor, to the same bits",
    )
    parser.add_argument(
        "--so-far",
        action="store_true",
        help="sum nothing: show which lower bounds on log p(x) FILE of --checkpoint proves, also while it grows",
    )
    parser.add_argument(
        "--chunk", type=positive, default=4096, metavar="ROWS", help="rows in memory at a time (default: %(default)s)"
    )
    between.add_arguments(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate DATA under MODEL."""
    arguments.table = arguments.table or arguments.table_format is not None
    form = arguments.table_format or "text"
    if arguments.json and form != "text":
        raise Failure(f"--table-format: got {form} together with --json, wanted one of them", USAGE)
    check_plot(arguments.plot)
    model, posterior = open_model(arguments.model)
    if form != "text" and between.wanted(arguments, model):
        raise Failure(
            f"--table-format: got {form} for brackets, which --table does not show; wanted none of them", USAGE
        )
    if arguments.table and model.latents > MOST_LATENTS:
        raise Failure(
            f"--table: {arguments.model} has {model.latents} latent bits, 2**{model.latents} lines; wanted at most "
            f"{MOST_LATENTS} bits; without --table there is no such limit",
            BAD_INPUT,
        )
    if arguments.table and "rows" not in arguments:
        say("note: the table of the first row alone; --rows chooses others")
    shown = _shown(arguments)
    kept.check(arguments, between.wanted(arguments, model))
    if arguments.so_far:
        return kept.show(arguments, model, posterior, shown)
    say_if_cold()
    with (
        engine(arguments) as where,
        kept.journal(arguments.checkpoint, model, posterior) as journal,
        open_data(arguments.data, model.observed, arguments.chunk) as reader,
    ):
        gallery = None if arguments.plot is None else Gallery(arguments.plot, model, posterior, shown, where)
        if between.wanted(arguments, model):
            check_rows(posterior, reader.rows, False)
            between.evaluate(arguments, model, posterior, reader, shown, where, gallery)
            return OK
        summary = evaluate(
            arguments.model,
            model,
            posterior,
            reader,
            JSONLines() if arguments.json else _TABLES[form](),
            shown=shown,
            tables=arguments.table,
            where=where,
            journal=journal,
            gallery=gallery,
        )
    if gallery is not None:
        gallery.write()
    say_cache_problem()
    return IDENTITY_BROKEN if summary.broken else OK


def _shown(arguments: argparse.Namespace) -> Rows:
    """The rows to show, by default as few as the form is long."""
    if "rows" in arguments:
        rows: Rows = arguments.rows
        return rows
    if arguments.table:
        return range(1)
    return None if arguments.json else range(10)


def evaluate(
    name: str,
    model: BernoulliLVM,
    posterior: Posterior | None,
    reader: RowReader,
    reporter: Reporter,
    *,
    shown: Rows,
    tables: bool = False,
    where: Workers,
    journal: Journal | None = None,
    gallery: Gallery | None = None,
) -> Summary:
    """Report every row that is to be shown and the summary of all; with `tables`, of the shown ones alone."""
    check_rows(posterior, reader.rows, tables)
    reporter.begin(name, model, posterior is not None)
    summary, printed = Summary(), 0
    with ProgressBar() as bar:
        for number, x in selected(reader, shown if tables else None):
            check_rows(posterior, None, tables, at_least=number + len(x))
            if not summary.rows:
                say_prediction(model, posterior, x, len(x) if tables else reader.rows, where)
            bar.label = f"row {number}" if len(x) == 1 else f"rows {number} to {number + len(x) - 1}"
            q = None if posterior is None else rows_of_posterior(posterior, number, len(x))
            with kept.told(journal, model, posterior, x, number):
                whole: Decomposition | tuple[Floats, Floats] = (
                    log_marginal(model, x, with_error=True, **on(where), progress=bar, checkpoint=journal)
                    if q is None
                    else decompose(model, q, x, **on(where), progress=bar, checkpoint=journal)
                )
            if gallery is not None and q is not None and isinstance(whole, Decomposition):
                gallery.add(number, x, q, whole, bar)
            for row in rows_of(number, whole):
                summary.add(row)
                if shown is None or row.row in shown:
                    bar.wipe()
                    if tables:
                        n = row.row - number
                        part = None if q is None else rows_of_posterior(q, n, 1)
                        reporter.worked(row.row, work_out(model, part, x[n : n + 1], on(where)["workers"]))
                    reporter.row(row)
                    printed += 1
    check_rows(posterior, summary.rows, tables)
    reporter.end(summary, printed)
    return summary
