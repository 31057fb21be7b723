"""`refvlm demo`: a model of handwritten digits, and the identity on every one of them."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import shutil
import sys

import numpy as np

from ..data import digits
from ..learning.ascent import climb, climb_posterior
from ..model.bernoulli import Bernoulli
from ..model.files import save
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, Posterior
from ..progress import ProgressBar
from ..storage import check_writable
from .arguments import add_json, add_workers, count
from .evaluate import evaluate
from .failure import IDENTITY_BROKEN, OK, writing
from .inputs import open_data
from .messages import say, say_cache_problem, say_if_cold
from .report import Human, JSONLines

LATENTS, HIDDEN, SEED = 8, 32, 0

_DESCRIPTION = """\
Fit a small model to 1797 handwritten digits by exact maximum likelihood, then an encoder q(z|x) by ascent on the
exact bound, and show that log p(x) = VLB + KL on every digit. Leaves a model file to go on with.
"""

_WHAT = """
What this is. A model of 8 x 8 black-and-white handwritten digits, an image in each row: {latents} latent bits z with a
prior p(z), and a network (the decoder) with {hidden} hidden units, which turns z into the probabilities p(x|z) of the
{observed} pixels. Both made {steps} steps towards the maximum of the exact likelihood. Then another network (the
encoder), which turns x into q(z|x), a guess at z, made {steps} steps towards the maximum of the VLB.
The numbers are of the same {rows} images that all were fitted to: none is held out.

What the columns are. log p(x), VLB and KL are each computed by a route of its own:
  log p(x)     log of the sum of p(z) p(x|z) over all {codes} codes z; more is better; coin tosses have {tosses:.1f};
  error bound  rounding can have moved log p(x) by so much at most: proven, and nothing about the quality of the fit;
  VLB          the variational lower bound (ELBO), E_q[log p(x,z) - log q(z|x)], for where that sum is too long;
  KL           the divergence from q(z|x) to the exact posterior p(z|x): never negative, 0 where they are equal;
  residual     log p(x) - (VLB + KL), by theory 0: rounding, no more.
KL is the gap: what the bound loses on an image because q(z|x) is not the exact posterior.
Steps on another machine may end at networks that differ in their last digits, and so do their numbers.

The model is in {path}. Next, any of:
  {program} evaluate {quoted} digits --rows all     every image; digits come with refvlm
  {program} evaluate {quoted} digits --table        image 0: all {codes} codes of the sum
  {program} sample {quoted} -n 5                    new images, each a line of {observed} zeros and ones
  {program} fit TABLE.csv -o MODEL.npz --latents 3     a model of your own: a row of zeros and ones for each case"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "demo",
        help="fit a small model to handwritten digits and show the identity on it",
        description=_DESCRIPTION,
        epilog="With --json the lines of `refvlm evaluate --json`, for every digit.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o",
        "--output",
        default="refvlm-demo.npz",
        metavar="MODEL.npz",
        help="where to leave the model (default: %(default)s)",
    )
    parser.add_argument(
        "--steps", type=count, default=40, metavar="N", help="of L-BFGS, at most, twice (default: %(default)s)"
    )
    add_workers(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fit, save, show."""
    path = arguments.output
    with writing(path):
        check_writable(path)
    model, posterior = _fit(arguments.steps, arguments.workers)
    with writing(path):
        save(path, model, posterior)
    with open_data("digits", model.observed, 4096) as reader:
        summary = evaluate(
            path,
            model,
            posterior,
            reader,
            JSONLines() if arguments.json else Human(),
            shown=None if arguments.json else range(5),
            where=arguments.workers,
        )
    say_cache_problem()
    if not arguments.json:
        print(
            _WHAT.format(
                latents=LATENTS,
                hidden=HIDDEN,
                observed=model.observed,
                rows=summary.rows,
                codes=2**LATENTS,
                tosses=-model.observed * math.log(2.0),
                steps=arguments.steps,
                path=path,
                quoted=shlex.quote(path),
                program=_program(),
            )
        )
    return IDENTITY_BROKEN if summary.broken else OK


def _program() -> str:
    """What to type for this program where it was started: not every environment is on the PATH."""
    if shutil.which("refvlm") is not None:
        return "refvlm"
    name = os.path.basename(sys.argv[0])
    return shlex.quote(sys.argv[0]) if name.startswith("refvlm") else "python -m refvlm"


def _fit(steps: int, workers: int | None) -> tuple[BernoulliLVM, Posterior]:
    """The model by exact maximum likelihood, then the encoder by the bound."""
    x, rng = digits(), np.random.default_rng(SEED)
    start = BernoulliLVM(Bernoulli(np.zeros(LATENTS)), MLP.random([LATENTS, HIDDEN, x.shape[1]], rng))
    guess = AmortisedPosterior(MLP.random([x.shape[1], LATENTS], rng))
    say("fitting a model to 1797 handwritten digits")
    say_if_cold()
    with ProgressBar("fitting p(x)") as bar:
        model = climb(start, x, steps, workers=workers, progress=bar)
    with ProgressBar("fitting q(z|x)") as bar:
        return model, climb_posterior(model, guess, x, steps, workers=workers, progress=bar)
