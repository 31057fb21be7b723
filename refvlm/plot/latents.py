"""The posterior beside q for one row of x: over all codes, and bit by bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import bits, show
from ..activations import sigmoid
from ..checks import as_binary
from ..inference import exact
from ..inference.bounds import kl
from ..inference.joint import log_q
from ..inference.rejection import MeanBracket
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import FactorisedPosterior, Posterior
from ..types import Bits, Floats
from .canvas import BLACK, SKY, axes_or_new, tidy, whole_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_LATENTS = 8
"""A posterior over more codes is no picture."""

MOST_CODES = 32
"""Pairs of bars that can be told apart, each with its name below."""

_POSTERIOR, _Q = "#404040", SKY


def posterior(
    model: BernoulliLVM, q: Posterior | None, x: ArrayLike, *, ax: Axes | None = None, workers: int | None = None
) -> Axes:
    """p(z | x), eq. (6), and q(z | x), eq. (4), of one row as bars over the 2**K codes, in their order; both exact.

    x: (1, L); a per-datum q must be that of this row; q None: the posterior alone. The title has KL(q || p(z | x)) in
    nats, eq. (7). Of more than 32 codes the 31 with most of p + q have bars of their own, and the last pair is what all
    others have together. In a deep model z is the layer next to x and q its first stage. Raises ValueError for more
    than one row, and for more than 8 latent bits: there `posterior_mean` shows the bits.
    """
    row, stage = _row(model, x), _stage(q)
    if model.latents > MOST_LATENTS:
        raise ValueError(
            f"model: got {model.latents} latent bits, 2**{model.latents} codes; wanted at most {MOST_LATENTS} bits for "
            "bars over the codes; posterior_mean shows any number of them bit by bit"
        )
    ax = axes_or_new(ax, 8.2, 3.6)
    table = bits.table(model.latents)
    p, mass, gap = exact.posterior(model, row, workers=workers)[0], None, None
    if stage is not None:
        mass = np.exp(log_q(_repeated(stage, len(table)), np.repeat(row, len(table), axis=0), table))
        gap = float(kl(model, stage, row, workers=workers)[0])
    names = ["".join(map(str, z)) for z in table]
    if len(table) > MOST_CODES:
        weight = p if mass is None else p + mass
        own = np.sort(np.argsort(-weight, kind="stable")[: MOST_CODES - 1])
        names = [names[code] for code in own] + [f"{len(table) - len(own)} others"]
        p, mass = _gathered(p, own), None if mass is None else _gathered(mass, own)
    at = np.arange(len(p))
    _bars(ax, at, p, mass, ("p(z | x), exact", "q(z | x)"))
    ax.set_xticks(at, names, rotation=90 if model.latents > 3 else 0, fontsize="small")
    ax.set(xlabel="z, z_0 first", ylabel="probability")
    tidy(ax, "posterior of one row" if gap is None else f"one row: KL(q || p(z | x)) = {gap:.4g} nats, exact")
    return ax


def posterior_mean(
    model: BernoulliLVM,
    q: Posterior | None,
    x: ArrayLike,
    *,
    between: MeanBracket | None = None,
    ax: Axes | None = None,
    workers: int | None = None,
) -> Axes:
    """E[z_k | x] under p(z | x), eq. (6), beside phi_k of q, eq. (4), for every bit of one row.

    x: (1, L), and q, as in `posterior`; any K for which `refvlm.posterior_mean` is within reach. between: what
    `refvlm.posterior_mean_bracket` returned for the row, where it is not: then intervals take the place of the exact
    bars, and the legend has their confidence. Raises ValueError for more than one row.
    """
    row, stage = _row(model, x), _stage(q)
    if between is not None and np.shape(between.lower) != (1, model.latents):
        raise ValueError(f"between: got bounds of shape {np.shape(between.lower)}, wanted (1, {model.latents})")
    phi = None if stage is None else sigmoid(np.asarray(stage.forward(row)[0]))[0]
    if between is None:
        middle, reach, how = exact.posterior_mean(model, row, workers=workers)[0], None, "exact"
    else:
        middle, reach = (between.lower[0] + between.upper[0]) / 2, (between.upper[0] - between.lower[0]) / 2
        how = how_known(between.kind, between.confidence)
    ax = axes_or_new(ax, 8.2, 3.6)
    latents = np.arange(model.latents)
    _bars(ax, latents, middle, phi, (f"E[z_k | x], {how}", "phi_k of q"), reach)
    whole_numbers(ax)
    ax.set(xlabel="latent bit k", ylabel="probability of z_k = 1", ylim=(0, 1.05))
    tidy(ax, "one row: posterior means of the bits")
    return ax


def how_known(kind: Literal["exact", "deterministic", "sampled"], confidence: float) -> str:
    """What a bracket's kind means, in a word for a label."""
    names = {"exact": show.EXACT, "deterministic": "between proved bounds"}
    return names.get(kind) or show.certified(confidence).replace("e-0", "e-")


def _row(model: BernoulliLVM, x: ArrayLike) -> Bits:
    """The one row of x."""
    rows = as_binary("x", x, model.observed)
    if len(rows) != 1:
        raise ValueError(f"x: got {len(rows)} rows, wanted one, such as x[:1]")
    return rows


def _stage(q: Posterior | None) -> FactorisedPosterior | None:
    """What q says of the layer next to x."""
    return None if q is None else q.stages[0]


def _repeated(stage: FactorisedPosterior, times: int) -> FactorisedPosterior:
    """q for a row that is repeated."""
    take = getattr(stage, "take", None)
    return stage if take is None else take(np.zeros(times, np.int64))


def _gathered(mass: Floats, own: NDArray[np.int64]) -> Floats:
    """The mass of some codes, and that of all others together."""
    return np.append(mass[own], np.delete(mass, own).sum())


def _bars(
    ax: Axes, at: NDArray[np.int64], p: Floats, q: Floats | None, names: tuple[str, str], reach: Floats | None = None
) -> None:
    """Bars of p, filled, and of q: beside them, or where there are many as outlines over them."""
    width, shift = (0.4, 0.2) if q is not None and len(at) <= MOST_CODES else (0.9, 0.0)
    ax.bar(at - shift, p, width, color=_POSTERIOR if reach is None else "#B0B0B0", label=names[0])
    if reach is not None:
        ax.errorbar(at - shift, p, reach, fmt="none", ecolor=BLACK, elinewidth=1.2, capsize=2)
    if q is not None and shift:
        ax.bar(at + shift, q, width, color=_Q, label=names[1])
    elif q is not None:
        ax.stairs(q, np.append(at, len(at)) - 0.5, color=_Q, linewidth=1.2, label=names[1])
    ax.set_ylim(bottom=0)
    ax.margins(x=0.02)
