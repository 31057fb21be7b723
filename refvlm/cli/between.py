"""`refvlm evaluate` where the sum over all z is too long: log p(x) and KL between bounds, and the mean."""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np

from .. import interrupts, show
from ..bits import CODE_BITS
from ..enumeration.engine import Workers, on
from ..inference.brackets import Bracket, bracket, decompose_bracket
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..progress import PATIENCE, ProgressBar, duration
from ..rows import RowReader
from ..types import Bits
from .arguments import Rows, count, number
from .inputs import chunks_of, rows_of_posterior
from .messages import say
from .pictures import Gallery
from .report import print_json

EPILOG = f"""\
Where there are more than {CODE_BITS} latent bits, or with --width or --seconds, log p(x) is bracketed, not summed: for
a decoder without hidden layers, certified at --confidence for all rows together. With --json then:
  {{"row": 0, "lower": ..., "upper": ..., "kind": "sampled", "samples": ..., "boxes": ..., "vlb": ...,
   "vlb_error": ..., "kl_lower": ..., "kl_upper": ...}}   for every row; kind: exact, deterministic or sampled
  {{"summary": {{"rows": ..., "confidence": ..., "mean_lower": ..., "mean_upper": ..., "mean_vlb": ...,
               "mean_kl_lower": ..., "mean_kl_upper": ..., "widest": ...}}}}   of all rows; vlb and kl null without q;
  the mean between bounds that hold at --confidence by themselves: errors of rows average out
"""
_SUMMING_UP = 3.0
"""Seconds after an interrupt in which what was reached by then may be said."""


class Between(NamedTuple):
    """What is known about one row, in nats; vlb and what follows are None without a posterior."""

    row: int
    lower: float
    upper: float
    kind: str
    samples: int
    boxes: int
    vlb: float | None = None
    vlb_error: float | None = None
    kl_lower: float | None = None
    kl_upper: float | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of brackets."""
    add = parser.add_argument
    add("--width", type=number, metavar="NATS", help="bracket log p(x), and draw until it is so narrow (default: 0.01)")
    add(
        "--seconds",
        type=number,
        metavar="S",
        help="bracket log p(x), and draw so long for each row, on average, at most (default: 1)",
    )
    add(
        "--confidence", type=number, default=1 - 1e-9, metavar="C",
        help="of all brackets together (default: 1 - 1e-9)",
    )  # fmt: skip
    add("--seed", type=count, default=0, metavar="N", help="of the draws (default: %(default)s)")


def wanted(arguments: argparse.Namespace, model: BernoulliLVM) -> bool:
    """Whether to bracket instead of to sum."""
    asked = arguments.width is not None or arguments.seconds is not None
    return asked or any(layer.latents > CODE_BITS for layer in model.layers)


def evaluate(
    arguments: argparse.Namespace,
    model: BernoulliLVM,
    posterior: Posterior | None,
    reader: RowReader,
    shown: Rows,
    where: Workers,
    gallery: Gallery | None = None,
) -> None:
    """Report every row that is to be shown, and the summary; an interrupt ends the draws, and then the command."""
    bracket(model, np.zeros((0, model.observed)))  # refuses what has none, before anything is printed
    chunks = [x for _, x in chunks_of(reader)]  # all of them, because they share the error rate
    data = np.concatenate(chunks) if chunks else np.zeros((0, model.observed), np.uint8)
    if _seconds(arguments) * len(data) >= PATIENCE:
        most = duration(_seconds(arguments) * len(data))
        say(f"at most about {most} for {len(data)} rows; Ctrl-C ends it earlier")
    if not arguments.json:
        _print_heads(arguments, model, posterior is not None)
    with interrupts.finishing(_SUMMING_UP):
        with ProgressBar("rows") as bar:
            rows, whole = _bracket(arguments, model, posterior, data, where, bar, gallery)
        for row in rows:
            if shown is None or row.row in shown:
                print_json(row._asdict()) if arguments.json else print(_line(row))
        _summarise(arguments, rows, whole, len(rows) if shown is None else sum(row.row in shown for row in rows))
        if gallery is not None:
            gallery.write()
    if interrupts.came():
        raise KeyboardInterrupt


def _seconds(arguments: argparse.Namespace) -> float:
    """For a row, at most."""
    return 1.0 if arguments.seconds is None else float(arguments.seconds)


def _bracket(
    arguments: argparse.Namespace,
    model: BernoulliLVM,
    posterior: Posterior | None,
    x: Bits,
    where: Workers,
    bar: ProgressBar,
    gallery: Gallery | None,
) -> tuple[list[Between], Bracket]:
    """Every row, and what is known of all together."""
    width = arguments.width if arguments.width is not None else 0.01
    seconds, rng = max(_seconds(arguments) * len(x), 1e-3), np.random.default_rng(arguments.seed)
    if posterior is None:
        between = bracket(
            model, x, width=width, seconds=seconds, confidence=arguments.confidence, rng=rng,
            **on(where), progress=bar,
        )  # fmt: skip
        return [Between(*row) for row in zip(*_columns(between), strict=True)], between
    q = rows_of_posterior(posterior, 0, len(x))
    result = decompose_bracket(
        model, q, x, width=width, seconds=seconds, confidence=arguments.confidence, rng=rng, **on(where),
        progress=bar,
    )  # fmt: skip
    if gallery is not None and len(x):
        gallery.add(0, x, q, result, bar)
    columns = [*_columns(result.log_px), *(column.tolist() for column in result[1:])]
    return [Between(*row) for row in zip(*columns, strict=True)], result.log_px


def _columns(between: Bracket) -> list[list[object]]:
    size = len(between.lower)
    return [
        list(range(size)), between.lower.tolist(), between.upper.tolist(), [between.kind] * size,
        between.samples.tolist(), between.boxes.tolist(),
    ]  # fmt: skip


def _print_heads(arguments: argparse.Namespace, model: BernoulliLVM, bounded: bool) -> None:
    print(f"{arguments.model}: K = {model.latents} latent bits, L = {model.observed} observed bits; numbers in nats")
    print(f"log p(x) lies between its bounds, for all rows together, with confidence {_confidence(arguments)}")
    if not bounded:
        print("no posterior in this file, so no VLB and no KL")
    heads = ("row", "log p(x) >=", "<=", "width") + (("VLB", "KL >=", "<=") if bounded else ())
    print("\n" + f"{heads[0]:>8}" + "".join(f" {head:>15}" for head in heads[1:]))


def _confidence(arguments: argparse.Namespace) -> str:
    return show.confidence(arguments.confidence)


def _line(row: Between, label: str | None = None) -> str:
    values = [row.lower, row.upper, row.upper - row.lower]
    if row.vlb is not None and row.kl_lower is not None and row.kl_upper is not None:
        values += [row.vlb, row.kl_lower, row.kl_upper]
    return f"{label or row.row!s:>8}" + "".join(f" {value:>15.6f}" for value in values)


def _summarise(arguments: argparse.Namespace, rows: list[Between], between: Bracket, shown: int) -> None:
    """The bracket of the mean over the rows; means of the VLB, and of KL between bounds; the widest bracket."""
    widest = max((row.upper - row.lower for row in rows), default=None)
    mean_vlb = kl_lower = kl_upper = None
    lower, upper = between.mean_lower, between.mean_upper
    if rows and rows[0].vlb is not None:
        assert lower is not None
        assert upper is not None
        mean_vlb = math.fsum(row.vlb or 0.0 for row in rows) / len(rows)
        error = math.fsum(row.vlb_error or 0.0 for row in rows) / len(rows)
        kl_lower, kl_upper = max(lower - mean_vlb - error, 0.0), max(upper - mean_vlb + error, 0.0)
    if arguments.json:
        print_json(
            {
                "summary": {
                    "rows": len(rows), "confidence": arguments.confidence, "mean_lower": lower, "mean_upper": upper,
                    "mean_vlb": mean_vlb, "mean_kl_lower": kl_lower, "mean_kl_upper": kl_upper, "widest": widest,
                }
            }
        )  # fmt: skip
    elif not rows:
        print("no rows")
    else:
        assert lower is not None
        assert upper is not None
        if len(rows) > shown:
            print(f"     ...  {len(rows) - shown} more rows (--rows all shows them)")
        whole = Between(0, lower, upper, "", 0, 0, mean_vlb, 0.0, kl_lower, kl_upper)
        print(_line(whole, "mean"))
        print(f"\nmeans over {len(rows)} row{'' if len(rows) == 1 else 's'}; the widest bracket has {widest:.6f} nats")
        if between.kind == "sampled" and widest is not None and widest > (arguments.width or 0.01):
            print(f"some are wider than {arguments.width or 0.01:g}: --seconds gives each row more time")
