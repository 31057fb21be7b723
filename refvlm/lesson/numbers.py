"""What the page shows, computed by refvlm when it is made: two models that were fitted to the data, and their numbers.

The small one, with K = 3 and a linear decoder, is the one that the reader moves; the larger one draws pictures.
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np

from ..bits import table
from ..enumeration.engine import Progress
from ..inference.bounds import decompose
from ..inference.exact import log_marginal, posterior
from ..inference.joint import log_likelihood, log_prior
from ..learning.fit import fit
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior, ChainPosterior, PerDatumPosterior
from ..types import Bits

SMALL = 3
"""Latents of the model that is moved: 8 terms in the sum."""
LARGE, HIDDEN = 8, 32
"""Latents and hidden units of the model that draws."""
MOST_LATENTS, MOST_OBSERVED = 10, 400
"""Of a model that can be shown."""
RUN_LATENTS, PASSES = 6, 12
"""Of the net that is learnt in four ways, and the passes over the data."""
LAYERS = (10, 4)
"""Latents of the Helmholtz machine, from x upwards."""
ROWS = 12
"""Rows of data on the page."""
_CERTAIN = 1e4
"""A logit whose probability is 0 or 1 in float64, for an infinite one, which JSON does not have."""
_TIMED, _TIMES = 20, 5
"""Latents of the sum that is timed, and how often: long enough that calling it does not count."""

_ALL_ROWS: dict[str, Any] = {"validation": False, "schedule": "constant", "beta2": 0.999, "seed": 0}
"""What the page shows is of all rows, each of which is learnt from."""


class Shown(NamedTuple):
    """The data and the models of a page. shape: rows and columns of pixels. machine: of two layers, with its q."""

    x: Bits
    shape: tuple[int, int]
    small: BernoulliLVM
    large: BernoulliLVM
    machine: tuple[BernoulliLVM, ChainPosterior]


def prepare(
    x: Bits,
    shape: tuple[int, int],
    model: BernoulliLVM | None,
    workers: int | None,
    progress: Progress | None = None,
) -> Shown:
    """The small model fitted to x by exact maximum likelihood, the large one, unless it is given, and the machine."""
    if model is not None:
        if model.latents > MOST_LATENTS or model.observed > MOST_OBSERVED:
            raise ValueError(
                f"model: got {model.latents} latent and {model.observed} observed bits, wanted at most {MOST_LATENTS} "
                f"and {MOST_OBSERVED} to show"
            )
        if model.observed != x.shape[1]:
            raise ValueError(f"model: got one of {model.observed} observed bits, wanted the data's {x.shape[1]}")
    common = _ALL_ROWS | {"batch_size": min(100, len(x)), "workers": workers, "progress": progress}
    options = {"method": "maximum-likelihood", "posterior": "none"} | common
    small = fit(x, latents=SMALL, hidden=(), epochs=60, evaluate_every=60, learning_rate=0.02, **options).model
    large = (
        model
        or fit(x, latents=LARGE, hidden=(HIDDEN,), epochs=30, evaluate_every=30, learning_rate=0.01, **options).model
    )
    deep = fit(
        x, latents=LAYERS, hidden=(), method="wake-sleep", epochs=60, evaluate_every=60, learning_rate=0.02,
        **common | {"batch_size": min(20, len(x))},
    )  # fmt: skip
    assert isinstance(deep.posterior, ChainPosterior)
    return Shown(x, shape, small, large, (deep.model, deep.posterior))


def numbers(shown: Shown, rng: np.random.Generator, progress: Progress | None = None) -> dict[str, Any]:
    """What the page's script reads, as JSON has it."""
    rows = shown.x[np.sort(rng.choice(len(shown.x), min(ROWS, len(shown.x)), replace=False))]
    drawn = shown.large.sample(ROWS, rng)[0]
    return {
        "shape": list(shown.shape),
        "rows": rows.tolist(),
        "small": _plain(shown.small),
        "large": _plain(shown.large) if isinstance(shown.large.decoder, MLP) else None,
        "drawn": drawn.tolist(),
        "exact": _exact(shown.small, rows),
        "away": _explaining_away(),
        "deep": _machine(*shown.machine),
        "runs": _runs(shown.x, progress),
        "cost": _cost(shown.small),
    }


def _plain(model: BernoulliLVM) -> dict[str, Any]:
    """A model as the page's script takes it."""
    decoder, prior = model.decoder, model.prior
    assert isinstance(decoder, MLP)
    above = (
        {"prior": _plain(prior)}
        if isinstance(prior, BernoulliLVM)
        else {"logits": np.clip(prior.logits, -_CERTAIN, _CERTAIN).tolist()}
    )
    return above | {"layers": _layers(decoder), "activation": decoder.activation}


def _layers(network: MLP) -> list[dict[str, Any]]:
    return [
        {"weights": weights.tolist(), "biases": biases.tolist()}
        for weights, biases in zip(network.weights, network.biases, strict=True)
    ]


def _machine(model: BernoulliLVM, q: ChainPosterior) -> dict[str, Any]:
    """Of two layers; its encoders, from x upwards, have one layer of weights each."""
    encoders = []
    for each in q.stages:
        assert isinstance(each, AmortisedPosterior)
        assert isinstance(each.encoder, MLP)
        encoders += _layers(each.encoder)
    return {"model": _plain(model), "encoders": encoders}


def _exact(model: BernoulliLVM, x: Bits) -> list[dict[str, Any]]:
    """For each row, what the page shows before anything is moved: q is the prior."""
    prior = model.prior
    assert isinstance(prior, Bernoulli)
    q = PerDatumPosterior(np.tile(prior.logits, (len(x), 1)))
    parts, mass, z = decompose(model, q, x), posterior(model, x), table(model.latents)
    codes = len(z)
    return [
        {
            "logPx": float(parts.log_px[n]),
            "vlb": float(parts.vlb[n]),
            "kl": float(parts.kl[n]),
            "posterior": mass[n].tolist(),
            "logPrior": log_prior(model, z).tolist(),
            "logLikelihood": log_likelihood(model, np.tile(x[n], (codes, 1)), z).tolist(),
        }
        for n in range(len(x))
    ]


def _explaining_away() -> dict[str, Any]:
    """K = 2 causes of one bit, either of which suffices: given x = 1 they are dependent."""
    rare = float(np.log(0.05 / 0.95))
    model = BernoulliLVM(Bernoulli([rare, rare]), MLP([np.array([[12.0], [12.0]])], [np.array([-6.0])]))
    x = np.ones((1, 1), np.uint8)
    return {
        "model": _plain(model),
        "logPx": float(log_marginal(model, x)[0]),
        "posterior": posterior(model, x)[0].tolist(),
    }


def _runs(x: Bits, progress: Progress | None) -> list[dict[str, Any]]:
    """The same net learnt in four ways: exact means of log p(x) and VLB, None where q is learnt at the end.

    After each pass.
    """
    options = _ALL_ROWS | {"batch_size": min(100, len(x))}
    start = fit(x, latents=RUN_LATENTS, hidden=(), method="wake-sleep", epochs=1, learning_rate=1e-12, **options)
    runs = []
    for method in ("maximum-likelihood", "vlb", "wake-sleep", "reweighted-wake-sleep"):
        history = fit(
            x, method=method, epochs=PASSES, evaluate_every=1, learning_rate=0.02,
            start=(start.model, start.posterior), progress=progress, **options,
        ).history  # fmt: skip
        last = {record.epoch: record for record in history}.values()  # a q that is learnt at the end has a record more
        curves = {"logPx": [record.log_px for record in last], "vlb": [record.vlb for record in last]}
        runs.append({"name": method, "rows": len(x)} | curves)
    return runs


def _cost(model: BernoulliLVM) -> dict[str, Any]:
    """Seconds for a term of the sum of eq. (3) on this machine, one core: the best of some sums with the small L."""
    rng = np.random.default_rng(0)
    decoder = MLP([rng.normal(size=(_TIMED, model.observed)) / math.sqrt(_TIMED)], [np.zeros(model.observed)])
    longer = BernoulliLVM(Bernoulli(np.zeros(_TIMED)), decoder)
    x, took = model.sample(1, rng)[0], list[float]()
    for _ in range(_TIMES):
        begun = time.perf_counter()
        log_marginal(longer, x, workers=1)
        took.append(time.perf_counter() - begun)
    return {"seconds": min(took) / 2**_TIMED, "latents": _TIMED}
