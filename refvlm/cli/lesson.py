"""`refvlm lesson`: the page on which the bound can be moved by hand."""

from __future__ import annotations

import argparse
import webbrowser
from pathlib import Path

import numpy as np

from ..checks import FileFormatError
from ..model.bernoulli import Bernoulli
from ..model.mlp import MLP
from ..progress import ProgressBar
from ..storage import atomic_write, check_writable
from .failure import OK, writing
from .inputs import DATA_HELP, open_model, read_data
from .messages import say, say_cache_problem, say_if_cold

_DESCRIPTION = """\
Write a lesson on latent variable models as one page for a browser: no network, no server, nothing to install. Models
are fitted to DATA when it is made, in some twenty seconds; all numbers on it are theirs.
"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "lesson",
        help="a page to learn from, with everything on it to be moved",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-o", "--output", default="lesson.html", metavar="FILE", help="default: %(default)s")
    parser.add_argument("--data", default="digits", metavar="DATA", help=f"{DATA_HELP} (default: %(default)s)")
    parser.add_argument("--model", metavar="MODEL", help="a model file, to draw with instead of one that is fitted")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fit, put together, write."""
    from ..lesson.numbers import MOST_OBSERVED, prepare  # with SciPy and every kernel: not for --help
    from ..lesson.page import page, shape_of

    with writing(arguments.output):
        check_writable(arguments.output)
    x, _ = read_data(arguments.data)
    if len(x) == 0 or not 1 <= x.shape[1] <= MOST_OBSERVED:
        raise FileFormatError(
            f"{arguments.data}: has {len(x)} rows of {x.shape[1]} columns, wanted some rows of 1 to {MOST_OBSERVED}"
        )
    model = None
    if arguments.model is not None:
        model, _ = open_model(arguments.model)
        if not isinstance(model.decoder, MLP) or not isinstance(model.prior, Bernoulli):
            raise ValueError(f"{arguments.model}: has a prior that is a model, wanted one layer of latents to show")
    names = {"digits": "handwritten digits", "bars": "images of bars", "shifter": "shifted patterns"}
    say_if_cold()
    with ProgressBar("fitting what the page shows") as bar:
        shown = prepare(x, shape_of(x), model, None, bar)
        text = page(shown, names.get(arguments.data, arguments.data), np.random.default_rng(0), bar)
    with writing(arguments.output), atomic_write(arguments.output) as file:
        file.write(text.encode("utf-8"))
    say(f"wrote {arguments.output}, {len(text) / 1e3:.0f} kB")
    say_cache_problem()
    if arguments.open:
        webbrowser.open(Path(arguments.output).resolve().as_uri())
    return OK
