"""`refvlm moments`: exact bias and variance of gradient estimators, and the bounds of M draws."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import numpy as np

from .. import plot
from ..checks import one_line
from ..enumeration.engine import Workers, on
from ..inference import gradient_estimators as estimators
from ..inference.exact import log_marginal
from ..inference.gradient_estimators import Comparison, Estimator, Moments
from ..inference.many_samples import iwae
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from ..progress import PATIENCE, ProgressBar, duration
from ..show import Table
from ..types import Bits, Floats
from .arguments import add_json, positive, row_range
from .engines import add_engine, engine
from .failure import BAD_INPUT, OK, USAGE, Failure
from .inputs import DATA_HELP, check_rows, open_data, open_model, rows_of_posterior, selected
from .messages import say, say_cache_problem, say_if_cold
from .pictures import add_plot, check_plot, drawing
from .report import print_json

_DESCRIPTION = """\
Exact moments of gradient estimators under MODEL and its posterior q(z|x), for rows of DATA: of one draw of each its
bias, its variance (the trace of its covariance) and its signal-to-noise ratio, and what it costs in evaluations of
log p(x, z). Nothing is sampled. Also the bounds that M draws give, IWAE-M, beside log p(x), which they approach.
"""

_EPILOG = f"""\
estimators: {", ".join(estimators.ESTIMATORS)};
each is a class of refvlm.gradient_estimators with its paper. Over rows, bias and signal are root mean squares of the
norms, variances means. bias: against the gradient of the VLB, of IWAE-M or, "inclusive", minus that of KL(p(z|x) || q).
evaluations: of log p(x, z) for a draw; its slopes in z count as two. variance x evaluations: the variance that one
evaluation buys.

with --json, one object a line:
  {{"row": 0, "estimator": "disarm", "samples": 1, "gradient_of": "vlb", "bias": ..., "size": norm of the mean,
   "variance": ..., "signal_to_noise": ..., "evaluations": ..., "variance_times_evaluations": ...}}   row by row
  {{"rows": ..., "estimator": ...}}   the same keys, over all rows
  {{"rows": ..., "samples": M, "iwae": mean of IWAE-M over the rows}}   for each M
  {{"rows": ..., "log_px": mean of log p(x)}}
"""

_SAMPLES = (1, 2, 5, 10, 50, 100, 500, 1000, 5000)
"""Of IWAE, where none are asked for."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "moments",
        help="exact bias, variance and cost of gradient estimators, and IWAE-M, for rows of a data file",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", metavar="MODEL", help="a model file with a posterior")
    parser.add_argument("data", metavar="DATA", help=DATA_HELP)
    parser.add_argument(
        "--estimators",
        type=_names,
        metavar="NAME,...",
        help="which of those below (default: all that the model has what they need for)",
    )
    parser.add_argument(
        "--samples",
        type=_counts,
        metavar="M,...",
        help="draws, or pairs of draws, of every estimator, and of IWAE (default: for each as few as it is used with)",
    )
    parser.add_argument(
        "--parameters",
        choices=("logits", "posterior"),
        default="logits",
        metavar="WHICH",
        help="gradients in the logits of q (default), or in the parameters of the posterior, an encoder's weights",
    )
    parser.add_argument(
        "--rows",
        type=row_range,
        default=range(10),
        metavar="WHICH",
        help="rows to take: all, the first N, or A:B for A to B - 1 (default: the first 10)",
    )
    add_json(parser)
    add_plot(parser, "variances at equal cost and biases, and IWAE-M against M")
    add_engine(parser)
    parser.set_defaults(run=run)


def _names(text: str) -> tuple[str, ...]:
    """Names of estimators, for argparse."""
    names = tuple(text.split(","))
    for name in names:
        if name not in estimators.ESTIMATORS:
            raise argparse.ArgumentTypeError(f"got {name!r}, wanted some of {', '.join(estimators.ESTIMATORS)}")
    return names


def _counts(text: str) -> tuple[int, ...]:
    """'1,2,5', for argparse."""
    return tuple(positive(part) for part in text.split(","))


def run(arguments: argparse.Namespace) -> int:
    """Compare the estimators."""
    check_plot(arguments.plot)
    model, posterior = open_model(arguments.model)
    if posterior is None:
        raise Failure(f"{arguments.model}: has no posterior to draw z from; wanted a model file with one", BAD_INPUT)
    say_if_cold()
    first, q, x = _rows(arguments, model, posterior)
    if len(x) == 0:
        raise Failure("--rows: got a choice without a row, wanted at least one", BAD_INPUT)
    compared = _chosen(arguments, model, q, x)
    counts = arguments.samples or _SAMPLES
    with engine(arguments) as where:
        _say_prediction(arguments, model, q, x, compared, where)
        with ProgressBar("moments of estimators") as bar:
            found = estimators.compare(
                model, q, x, compared, parameters=arguments.parameters, **on(where), progress=bar
            )
        bounds = []
        for count in counts:
            with ProgressBar(f"IWAE-{count}") as bar:
                bounds.append(iwae(model, q, x, count, **on(where), progress=bar))
        log_px = log_marginal(model, x, **on(where))
    if arguments.json:
        _write_json(first, found, counts, np.stack(bounds), log_px)
    else:
        _write(found, counts, np.stack(bounds), log_px)
    if arguments.plot is not None:
        from ..plot import canvas

        with drawing(arguments.plot):
            figure, axes = canvas.panels(8.6, 1.8 + 0.3 * len(found) + 3.6, 2)
            plot.estimators(found, ax=axes[0])
            plot.many_samples(counts, np.stack(bounds), log_px, ax=axes[1])
            canvas.save(figure, arguments.plot)
    say_cache_problem()
    return OK


def _rows(arguments: argparse.Namespace, model: BernoulliLVM, posterior: Posterior) -> tuple[int, Posterior, Bits]:
    """The chosen rows: the first one's number, q for them, and x."""
    parts: list[Bits] = []
    first = 0
    with open_data(arguments.data, model.observed, 4096) as reader:
        check_rows(posterior, reader.rows, part=True)
        for number, x in selected(reader, arguments.rows):
            check_rows(posterior, None, part=True, at_least=number + len(x))
            first = first if parts else number
            parts.append(x)
    x = np.concatenate(parts) if parts else np.zeros((0, model.observed), np.uint8)
    return first, rows_of_posterior(posterior, first, len(x)), x


def _chosen(arguments: argparse.Namespace, model: BernoulliLVM, q: Posterior, x: Bits) -> list[Estimator]:
    """The estimators that are asked for; if none is, those that the model has what they need for."""
    one = rows_of_posterior(q, 0, 1)
    estimators.compare(model, one, x[:1], [])  # what no estimator can do with is refused, not left out
    found: list[Estimator] = []
    for name in arguments.estimators or tuple(estimators.ESTIMATORS):
        kind = estimators.ESTIMATORS[name]
        counts = [count for count in arguments.samples or () if count >= kind.fewest]
        if arguments.samples and not counts and arguments.estimators:
            raise Failure(f"--samples: got {arguments.samples}, wanted {kind.fewest} or more for {name}", USAGE)
        if arguments.samples and not counts:
            say(f"note: without {name}: it needs {kind.fewest} samples")
        made = [kind(samples=count) for count in counts] if arguments.samples else [kind()]
        try:
            for estimator in made:
                estimator.sample(model, one, x[:1], np.random.default_rng(0))
                estimator.check(model.latents, 1)
        except (TypeError, ValueError) as error:
            if arguments.estimators:
                raise
            say(f"note: without {name}: {one_line(error)}")
            continue
        found.extend(made)
    return found


def _say_prediction(
    arguments: argparse.Namespace,
    model: BernoulliLVM,
    q: Posterior,
    x: Bits,
    compared: Sequence[Estimator],
    where: Workers,
) -> None:
    """Say how long it will take, if long, from one row."""
    one, seconds = rows_of_posterior(q, 0, 1), 0.0
    for _ in range(2):  # the first time compiles
        start = time.perf_counter()
        estimators.compare(model, one, x[:1], compared, parameters=arguments.parameters, **on(where))
        seconds = time.perf_counter() - start
        if seconds * len(x) < PATIENCE:
            return
    say(f"about {duration(seconds * len(x))} for {len(x)} rows of 2**{model.latents} latents each")


def _write_json(first: int, found: Comparison, counts: Sequence[int], bounds: Floats, log_px: Floats) -> None:
    rows = len(log_px)
    for n in range(rows):
        for each in found:
            print_json({"row": first + n} | _keys(each, n))
    for each in found:
        print_json({"rows": rows} | _keys(each.overall(), 0))
    for count, values in zip(counts, bounds, strict=True):
        print_json({"rows": rows, "samples": count, "iwae": float(values.mean())})
    print_json({"rows": rows, "log_px": float(log_px.mean())})


def _keys(each: Moments, n: int) -> dict[str, object]:
    return {
        "estimator": each.estimator.name,
        "samples": each.estimator.samples,
        "gradient_of": each.estimator.objective,
        "bias": float(each.bias[n]),
        "size": float(each.size[n]),
        "variance": float(each.variance[n]),
        "signal_to_noise": float(each.signal_to_noise[n]),
        "evaluations": each.cost.evaluations,
        "variance_times_evaluations": float(each.variance_times_cost[n]),
    }


def _write(found: Comparison, counts: Sequence[int], bounds: Floats, log_px: Floats) -> None:
    print(found)
    lines = [(f"IWAE-{count}", f"{values.mean():.6f}") for count, values in zip(counts, bounds, strict=True)]
    print()
    print(
        Table(
            "exact bounds, nats, means over the rows",
            ("bound", "mean"),
            [*lines, ("log p(x)", f"{log_px.mean():.6f}")],
            words=1,
        )
    )
