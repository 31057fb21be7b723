"""`refvlm sample`: data from a model, by the generation procedure."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

import numpy as np

from ..checks import check_fits
from ..storage import atomic_write, check_writable
from ..types import Bits
from .arguments import count
from .failure import OK, writing
from .inputs import open_model

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

_DESCRIPTION = """\
Draw N rows x from MODEL: z from the prior, x from p(x|z). The same as
model.sample(N, numpy.random.default_rng(SEED)) in Python, bit by bit.
"""

_PIECE = 4096


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "sample",
        help="draw rows of data from a model",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a model file")
    parser.add_argument("-n", type=count, required=True, metavar="N", help="how many rows")
    parser.add_argument("--seed", type=count, default=0, metavar="S", help="of the generator (default: %(default)s)")
    parser.add_argument(
        "-o",
        "--output",
        type=_output,
        default="-",
        metavar="FILE",
        help="a .npy or .csv file to write (default: -, comma-separated to standard output)",
    )
    parser.add_argument(
        "--latents",
        action="store_true",
        help="add the latents behind the data: columns x_0, ..., x_{L-1}, z_0, ..., z_{K-1}",
    )
    parser.set_defaults(run=run)


def _output(text: str) -> str:
    if text != "-" and not text.endswith((".npy", ".csv")):
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted a name that ends in .npy or .csv, or - for stdout")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Draw, then write."""
    model, _ = open_model(arguments.model)
    if arguments.output != "-":
        with writing(arguments.output):
            check_writable(arguments.output)
    # Per cell the logit, two numbers on the way to its sigmoid, the uniform number, and bits.
    check_fits(f"-n {arguments.n}: sampling", 48 * arguments.n * (model.latents + model.observed), "draw fewer rows")
    x, z = model.sample(arguments.n, np.random.default_rng(arguments.seed))
    rows = np.hstack([x, z]) if arguments.latents else x
    if arguments.output == "-":
        _write_csv(sys.stdout, rows)
        return OK
    with writing(arguments.output), atomic_write(arguments.output) as file:
        if arguments.output.endswith(".npy"):
            np.save(file, rows, allow_pickle=False)
        else:
            _write_csv(_Encoded(file), rows)
    return OK


class _Encoded:
    """Text written to a binary file."""

    def __init__(self, file: SupportsWrite[bytes]) -> None:
        self._file = file

    def write(self, text: str) -> object:
        return self._file.write(text.encode("ascii"))


def _write_csv(file: SupportsWrite[str], rows: Bits) -> None:
    """One row a line, a piece at a time."""
    for start in range(0, len(rows), _PIECE):
        piece = rows[start : start + _PIECE]
        text = np.full((len(piece), 2 * piece.shape[1]), ord(","), dtype=np.uint8)
        text[:, ::2] = piece + ord("0")
        text[:, -1] = ord("\n")
        file.write(text.tobytes().decode("ascii"))
