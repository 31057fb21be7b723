"""`--plot FILE`: what it takes, what it refuses before any long work, and the picture of an evaluation."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .. import plot
from ..checks import one_line
from ..enumeration.engine import Progress, Workers, on
from ..inference.bounds import Decomposition, vlb_terms
from ..inference.brackets import DecompositionBracket
from ..inference.terms import VLBTerms
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..plot import canvas, latents
from ..storage import check_writable
from ..types import Bits
from .arguments import Rows
from .failure import BAD_INPUT, NO_OUTPUT, Failure, writing
from .inputs import rows_of_posterior
from .messages import say


def add_plot(parser: argparse.ArgumentParser, what: str) -> None:
    """--plot."""
    parser.add_argument(
        "--plot",
        type=_picture,
        metavar="FILE",
        help=f"draw {what}: FILE.png, .svg or .pdf (needs matplotlib: pip install 'refvlm[plot]')",
    )


def _picture(text: str) -> str:
    """The name of a picture, for argparse."""
    try:
        canvas.format_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(one_line(error)) from None
    return text


def check_plot(path: str | None) -> None:
    """Refuse now what could not be drawn or written later."""
    if path is None:
        return
    try:
        canvas.require()
    except ImportError as error:
        raise Failure(f"--plot: {one_line(error)}", NO_OUTPUT) from None
    with writing(path):
        check_writable(path)


@contextmanager
def drawing(path: str) -> Iterator[None]:
    """Draw and write `path` in the block, as everywhere, whatever the user's own settings of matplotlib are."""
    matplotlib = canvas.require()
    with matplotlib.rc_context(), writing(path):
        matplotlib.rcdefaults()
        yield


class Gallery:
    """Gathers, while rows are evaluated, what a picture shows: the terms of the VLB, KL, and of one row the posterior.

    shown: the rows that the table has, too. Of one such row everything is its own; of several the terms are means over
    all rows.
    """

    def __init__(self, path: str, model: BernoulliLVM, q: Posterior | None, shown: Rows, where: Workers) -> None:
        if q is None:
            raise Failure(
                "--plot: got a model file without a posterior, so without VLB and KL to draw; wanted one with q",
                BAD_INPUT,
            )
        self._path, self._model, self._shown, self._where = path, model, shown, where
        self._terms: list[VLBTerms] = []
        self._whole: list[Decomposition | DecompositionBracket] = []
        self._first: int | None = None
        self._row: tuple[Bits, Posterior] | None = None

    def add(
        self, number: int, x: Bits, q: Posterior, whole: Decomposition | DecompositionBracket, progress: Progress
    ) -> None:
        """Rows x from row `number` on, their q, and what is known of them."""
        if self._first is None:
            self._first = number
        self._terms.append(vlb_terms(self._model, q, x, **on(self._where), progress=progress))
        self._whole.append(whole)
        here = [n for n in range(len(x)) if self._shown is None or number + n in self._shown]
        if here and self._row is None:
            self._row = x[here[0] : here[0] + 1], rows_of_posterior(q, here[0], 1)

    def write(self) -> None:
        """Draw and write the picture."""
        if self._first is None:
            say(f"note: {self._path} is not written: no rows")
            return
        terms = VLBTerms(*map(np.concatenate, zip(*self._terms, strict=True)))
        whole = self._whole[0]
        if isinstance(whole, Decomposition):
            whole = Decomposition(*map(np.concatenate, zip(*self._whole, strict=True)))
        count = len(terms.prior)
        rows = range(count)
        if self._shown is not None:
            start, stop = (min(max(end - self._first, 0), count) for end in (self._shown.start, self._shown.stop))
            rows = range(start, stop)
        if len(rows) == 1:
            terms, whole = VLBTerms(*(term[rows.start : rows.stop] for term in terms)), _part(whole, rows)
        finite, below = bool(np.isfinite(whole.vlb).all()), len(rows) > 0
        if not finite and not below:
            say(f"note: {self._path} is not written: the mean VLB is -inf, and no row is shown")
            return
        with drawing(self._path):
            figure, axes = canvas.panels(8.6, 4.0 * (finite + below), finite + below)
            if finite:
                plot.vlb_terms(terms, whole, ax=axes[0])
            if len(rows) == 1 and self._row is not None and isinstance(whole, Decomposition):
                x, q = self._row
                draw = plot.posterior if self._model.latents <= latents.MOST_LATENTS else plot.posterior_mean
                draw(self._model, q, x, ax=axes[-1], workers=on(self._where)["workers"])
            elif below:
                part = whole if len(rows) == 1 else _part(whole, rows)
                plot.decomposition(part, first=self._first + rows.start, ax=axes[-1])
            plot.save(figure, self._path)


def _part(whole: Decomposition | DecompositionBracket, rows: range) -> Decomposition | DecompositionBracket:
    """Some rows of it."""
    part = slice(rows.start, rows.stop)
    if isinstance(whole, Decomposition):
        return Decomposition(*(column[part] for column in whole))
    between = whole.log_px
    lower, upper = between.lower[part], between.upper[part]
    mean = (float(lower.mean()), float(upper.mean())) if len(lower) else (None, None)
    bounds = between._replace(
        lower=lower, upper=upper, samples=between.samples[part], boxes=between.boxes[part], mean_lower=mean[0],
        mean_upper=mean[1],
    )  # fmt: skip
    return DecompositionBracket(bounds, *(column[part] for column in whole[1:]))
