"""Where a model's networks become the arrays that the enumeration takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import bits
from ..activations import ACTIVATIONS
from ..checks import describe
from ..enumeration import kernels
from ..enumeration.problem import Decoder, Precise, Prior
from ..enumeration.sums import Source
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import LARGEST_LOGITS, MLP, Network
from ..model.parameters import Parameters, flatten, prefixed, unflatten
from ..model.recognition import (
    AmortisedPosterior,
    ChainPosterior,
    FactorisedPosterior,
    LayerwisePosterior,
    PerDatumPosterior,
    Posterior,
)
from ..types import Bits, Floats
from .certificate import needs_precision


def flat_network(network: MLP) -> Decoder:
    """An MLP as a kernel takes it."""
    sizes = np.array(network.sizes, dtype=np.int64)
    flat = flatten(_in_kernel_order(network))
    return Decoder(sizes, ACTIVATIONS[network.activation].code, flat, np.zeros((0, 0)), 0)


def _in_kernel_order(network: MLP) -> Parameters:
    """The parameters layer by layer, weights before biases."""
    parameters = network.parameters()
    layers = range(len(network.weights))
    return {f"{kind}.{d}": parameters[f"{kind}.{d}"] for d in layers for kind in ("weights", "biases")}


def _by_name(network: MLP, flat: Floats) -> Parameters:
    """A kernel's flat gradient by the names of the parameters, in their order."""
    parts = unflatten(flat, {name: value.shape for name, value in _in_kernel_order(network).items()})
    return {name: parts[name] for name in network.parameters()}


class _MLPSource:
    """An MLP decoder: the same arrays for every piece."""

    foreign = False

    def __init__(self, network: MLP) -> None:
        self.latents, self.observed = network.fan_in, network.fan_out
        self._network, self._decoder = network, flat_network(network)
        self.network: Decoder | None = self._decoder

    def piece(self, code: int, count: int, *, with_units: bool = False) -> Decoder | Precise:
        return self._decoder

    def pullback(self, code: int, flat: Floats, logit_slopes: Floats) -> Floats:
        return flat

    def named(self, flat: Floats) -> Parameters:
        return _by_name(self._network, flat)


class _PreciseSource(_MLPSource):
    """An MLP whose weights are too large for float64: workers compute its logits in double-double."""

    def __init__(self, network: MLP) -> None:
        super().__init__(network)
        self.network = None

    def piece(self, code: int, count: int, *, with_units: bool = False) -> Precise:
        return Precise(self._decoder, with_units)


class _GeneralSource:
    """Any other decoder: its logits for the codes of a piece, computed in the caller's thread."""

    foreign = True

    def __init__(self, network: Network) -> None:
        self.latents, self.observed = network.fan_in, network.fan_out
        self.network: Decoder | None = None
        self._network = network
        self._shapes = {name: np.shape(value) for name, value in network.parameters().items()}
        self._sizes = np.array([self.latents, self.observed], dtype=np.int64)

    def _forward(self, code: int, count: int) -> Any:
        codes = np.arange(code, code + count, dtype=np.int64)
        return self._network.forward(bits.rows_of(codes, self.latents).astype(np.float64))

    def piece(self, code: int, count: int, *, with_units: bool = False) -> Decoder:
        logits = np.array(self._forward(code, count)[0], dtype=np.float64)
        if logits.shape != (count, self.observed):
            raise ValueError(
                f"decoder: forward returned logits of shape {logits.shape}, wanted {(count, self.observed)}"
            )
        if not np.abs(logits).sum(axis=1).max() <= LARGEST_LOGITS:
            raise ValueError(
                "decoder: forward returned logits that are not finite, or that add up to more than "
                f"{LARGEST_LOGITS:g} for one z; wanted smaller ones"
            )
        return Decoder(self._sizes, 0, np.zeros(0), logits, code)

    def pullback(self, code: int, flat: Floats, logit_slopes: Floats) -> Floats:
        gradient = self._forward(code, len(logit_slopes))[1](logit_slopes)
        for name, shape in self._shapes.items():
            if name not in gradient or np.shape(gradient[name]) != shape:
                raise ValueError(
                    f"decoder: the pullback did not return {name!r} of shape {shape}; wanted every parameter"
                )
        return flatten({name: np.asarray(gradient[name], dtype=np.float64) for name in self._shapes})

    def named(self, flat: Floats) -> Parameters:
        return unflatten(flat, self._shapes)


def source(network: Network) -> Source:
    """The decoder for the enumeration."""
    if not isinstance(network, MLP):
        return _GeneralSource(network)
    return _PreciseSource(network) if needs_precision(network) else _MLPSource(network)


def log_probabilities(prior: Bernoulli) -> Prior:
    """A factorised prior, bit by bit."""
    log_probability = kernels.bernoulli.bernoulli(np.array(prior.logits[None]))[1]
    return Prior(log_probability[0], np.zeros(0))


def recognition_logits(q: FactorisedPosterior, x: Bits) -> Floats:
    """q's logits (N, K) for the rows of x."""
    if isinstance(q, AmortisedPosterior) and isinstance(q.encoder, MLP):
        return kernels.encoder.encode(flat_network(q.encoder), x)
    logits = np.require(q.forward(x)[0], np.float64, ["C", "W"])
    if logits.shape != (len(x), q.latents) or np.isnan(logits).any():
        raise ValueError(
            f"posterior: forward returned logits of shape {logits.shape}, wanted {(len(x), q.latents)}, no NaN"
        )
    return logits


def recognition_gradient(q: FactorisedPosterior, x: Bits, slopes: Floats) -> Parameters:
    """The gradient of the sum of slopes * logits, slopes (N, K), by the names of q's parameters."""
    if isinstance(q, AmortisedPosterior) and isinstance(q.encoder, MLP):
        flat = kernels.encoder.encoder_gradient(flat_network(q.encoder), x, slopes)
        return prefixed("encoder.", _by_name(q.encoder, flat))
    gradient: Parameters = q.forward(x)[1](slopes)
    return gradient


def stages_of_x(q: Posterior) -> tuple[FactorisedPosterior, ...]:
    """The stages that take x, from x upwards: all of a layerwise q, of any other the first."""
    return q.stages if isinstance(q, LayerwisePosterior) else q.stages[:1]


def check_model(value: object) -> BernoulliLVM:
    """`value` if it is a model."""
    if not isinstance(value, BernoulliLVM):
        raise TypeError(f"model: got {describe(value)}, wanted a BernoulliLVM")
    return value


def check_posterior(model: BernoulliLVM, value: object) -> Posterior:
    """`value` if it is a recognition distribution that fits the model."""
    if not isinstance(value, (AmortisedPosterior, PerDatumPosterior, ChainPosterior, LayerwisePosterior)):
        raise TypeError(
            f"posterior: got {describe(value)}, wanted an AmortisedPosterior, a PerDatumPosterior, a ChainPosterior or "
            "a LayerwisePosterior"
        )
    if value.latents != model.latents:
        raise ValueError(
            f"posterior: got one over {value.latents} bits, wanted the model's {model.latents} latent bits"
        )
    for stage in stages_of_x(value):
        if isinstance(stage, AmortisedPosterior) and stage.encoder.fan_in != model.observed:
            raise ValueError(
                f"posterior: got an encoder with fan_in {stage.encoder.fan_in}, wanted {model.observed}, the model's "
                "observed bits"
            )
    if isinstance(value, LayerwisePosterior):
        got, wanted = ([part.latents for part in parts] for parts in (value.stages, model.layers))
        if got != wanted:
            raise ValueError(
                f"posterior: got layerwise stages over {got} bits, wanted {wanted}, one stage for each layer of latents"
            )
    if isinstance(value, ChainPosterior):
        if not isinstance(model.prior, BernoulliLVM):
            raise ValueError(
                f"posterior: got a chain of {len(value.stages)} stages, wanted one for each layer of latents"
            )
        check_posterior(model.prior, value.above)
    return value
