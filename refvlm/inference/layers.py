"""A model, data and q prepared for a sum: one `Layer` for each layer of latents, from x upwards.

A pass takes the layers, never the model: what is above a layer is the rest of the list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .. import bits
from ..checks import check_fits
from ..enumeration import kernels
from ..enumeration.problem import Recognition
from ..enumeration.sums import Source
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import FactorisedPosterior, LayerwisePosterior, Posterior
from ..types import Bits, Floats
from . import arrays
from .departures import mode_of


class Layer(NamedTuple):
    """One layer of latents and the rows that it explains.

    model: the layer's decoder, with what is above as its prior. x: (N, L), the data or, above the lowest layer, all
    codes of the layer below; of a q over all layers that needs no codes, its likeliest z of the layer below. stage:
    q's part for this layer, None where the layer is summed exactly. logits: those of q, (N, K), and q: its
    probabilities bit by bit; both are empty without a stage.
    """

    model: BernoulliLVM
    x: Bits
    source: Source
    stage: FactorisedPosterior | None
    logits: Floats
    q: Recognition


def prepare(model: BernoulliLVM, x: Bits, q: Posterior | None = None) -> Sequence[Layer]:
    """The layers from x upwards; refused where there are too many codes to sum, or a table of them will not fit.

    Of a layerwise q only the lowest layer has its stage: above, it says nothing about codes, but about rows of x.
    """
    for part in model.layers:
        bits.check_codes(part.latents)
    stages = () if q is None else q.stages[:1] if isinstance(q, LayerwisePosterior) else q.stages
    layers = []
    for depth, part in enumerate(model.layers):
        stage = stages[depth] if depth < len(stages) else None
        logits, probabilities = np.zeros((0, 0)), Recognition(np.zeros((0, 2, 0)), np.zeros((0, 2, 0)))
        if stage is not None:
            logits = arrays.recognition_logits(stage, x)
            probabilities = Recognition(*kernels.bernoulli.bernoulli(logits))
        layers.append(Layer(part, x, arrays.source(part.decoder), stage, logits, probabilities))
        if depth < len(model.layers) - 1:
            x = _all_codes(part.latents)
    return layers


def prepare_layerwise(model: BernoulliLVM, x: Bits, q: Posterior) -> Sequence[Layer]:
    """The layers from x upwards for a q whose stages, one for each layer, all take x: no sum over codes is to come."""
    layers, rows = [], x
    for part, stage in zip(model.layers, q.stages, strict=True):
        logits = arrays.recognition_logits(stage, x)
        probabilities = Recognition(*kernels.bernoulli.bernoulli(logits))
        layers.append(Layer(part, rows, arrays.source(part.decoder), stage, logits, probabilities))
        rows = mode_of(probabilities)
    return layers


def _all_codes(latents: int) -> Bits:
    """{0,1}^K as rows of data for a prior that is a model."""
    check_fits(
        f"the table of log p(z) that a prior with a model of its own needs for 2**{latents} codes",
        (9 * latents + 24) << latents,
        "give the layer next to x fewer latent bits",
    )
    return bits.table(latents)
