"""Where a model becomes the arrays that the enumeration takes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import bits
from ..activations import ACTIVATIONS
from ..checks import check_fits, describe
from ..enumeration import kernels
from ..enumeration.problem import Decoder, Precise, Prior, Recognition
from ..enumeration.sums import Source
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM, prefixed
from ..model.mlp import LARGEST_LOGITS, MLP, Network, Parameters
from ..model.recognition import AmortisedPosterior, ChainPosterior, FactorisedPosterior, PerDatumPosterior, Posterior
from .certificate import needs_precision

__all__ = [
    "NO_RECOGNITION",
    "all_codes",
    "check_model",
    "check_posterior",
    "flat_network",
    "named",
    "prior_bits",
    "recognition",
    "recognition_gradient",
    "recognition_logits",
    "source",
]

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]

_NOTHING = np.zeros((0, 0))


def flat_network(network: MLP) -> Decoder:
    """An MLP as a kernel takes it."""
    layers = zip(network.weights, network.biases, strict=True)
    flat = np.concatenate([part.ravel() for layer in layers for part in layer])
    sizes = np.array(network.sizes, dtype=np.int64)
    return Decoder(sizes, ACTIVATIONS[network.activation].code, flat, _NOTHING, 0)


class _MLPSource:
    """An MLP decoder: the same arrays for every piece."""

    foreign = False

    def __init__(self, network: MLP) -> None:
        self.latents, self.observed = network.fan_in, network.fan_out
        self._decoder = flat_network(network)
        self.network: Decoder | None = self._decoder
        self._sizes = network.sizes

    def piece(self, first: int, count: int) -> Decoder | Precise:
        return self._decoder

    def pull(self, first: int, flat: Floats, logit_slopes: Floats) -> Floats:
        return flat

    def unflatten(self, flat: Floats) -> Parameters:
        weights, biases, start = {}, {}, 0
        for d, (fan_in, fan_out) in enumerate(zip(self._sizes, self._sizes[1:], strict=False)):
            middle, stop = start + fan_in * fan_out, start + (fan_in + 1) * fan_out
            weights[f"weights.{d}"] = flat[start:middle].reshape(fan_in, fan_out)
            biases[f"biases.{d}"] = flat[middle:stop].copy()
            start = stop
        return weights | biases


class _GeneralSource:
    """Any other decoder: its logits for the codes of a piece, computed in the caller's thread."""

    foreign = True

    def __init__(self, network: Network) -> None:
        self.latents, self.observed = network.fan_in, network.fan_out
        self.network: Decoder | None = None
        self._network = network
        self._shapes = {name: np.shape(value) for name, value in network.parameters().items()}
        self._sizes = np.array([self.latents, self.observed], dtype=np.int64)

    def _forward(self, first: int, count: int) -> Any:
        codes = np.arange(first, first + count, dtype=np.int64)
        return self._network.forward(bits.rows_of(codes, self.latents).astype(np.float64))

    def piece(self, first: int, count: int) -> Decoder:
        logits = np.array(self._forward(first, count)[0], dtype=np.float64)
        if logits.shape != (count, self.observed):
            raise ValueError(
                f"decoder: forward returned logits of shape {logits.shape}, wanted {(count, self.observed)}"
            )
        if not np.abs(logits).sum(axis=1).max() <= LARGEST_LOGITS:
            raise ValueError(
                "decoder: forward returned logits that are not finite, or that add up to more than "
                f"{LARGEST_LOGITS:g} for one z; wanted smaller ones"
            )
        return Decoder(self._sizes, 0, np.zeros(0), logits, first)

    def pull(self, first: int, flat: Floats, logit_slopes: Floats) -> Floats:
        gradient = self._forward(first, len(logit_slopes))[1](logit_slopes)
        parts = []
        for name, shape in self._shapes.items():
            if name not in gradient or np.shape(gradient[name]) != shape:
                raise ValueError(
                    f"decoder: the pullback did not return {name!r} of shape {shape}; wanted every parameter"
                )
            parts.append(np.ravel(np.asarray(gradient[name], dtype=np.float64)))
        return np.concatenate(parts) if parts else np.zeros(0)

    def unflatten(self, flat: Floats) -> Parameters:
        named, start = {}, 0
        for name, shape in self._shapes.items():
            stop = start + int(np.prod(shape, dtype=np.int64))
            named[name] = flat[start:stop].reshape(shape)
            start = stop
        return named


class _PreciseSource(_MLPSource):
    """An MLP whose weights are too large for float64: workers give its logits in double-double."""

    def __init__(self, network: MLP) -> None:
        super().__init__(network)
        self.network = None

    def piece(self, first: int, count: int) -> Precise:
        return Precise(self._decoder, first, count)


def source(network: Network) -> Source:
    """The decoder for the enumeration."""
    if not isinstance(network, MLP):
        return _GeneralSource(network)
    return _PreciseSource(network) if needs_precision(network) else _MLPSource(network)


def named(origin: Source, flat: Floats) -> Parameters:
    """A decoder's flat gradient by the names of its parameters."""
    assert isinstance(origin, (_MLPSource, _GeneralSource))
    return origin.unflatten(flat)


def prior_bits(prior: Bernoulli) -> Prior:
    """A factorised prior's log-probabilities, bit by bit."""
    log_probability = kernels.get("bernoulli")(np.array(prior.logits[None]))[1]
    return Prior(log_probability[0], np.zeros(0))


def all_codes(latents: int) -> Bits:
    """{0,1}^K as rows of data for a prior that is a model; refused where its table will not fit."""
    check_fits(
        f"the table of log p(z) that a prior with a model of its own needs for 2**{latents} codes",
        (9 * latents + 24) << latents,
        "give the layer next to x fewer latent bits",
    )
    return bits.table(latents)


NO_RECOGNITION = Recognition(np.zeros((0, 2, 0)), np.zeros((0, 2, 0)))
"""In place of a q: the weights are the posterior's."""


def recognition_logits(q: FactorisedPosterior, x: Bits) -> Floats:
    """q's logits (N, K) for the rows of x."""
    if isinstance(q, AmortisedPosterior) and isinstance(q.encoder, MLP):
        own: Floats = kernels.get("encode")(flat_network(q.encoder), x)
        return own
    logits = np.require(q.forward(x)[0], np.float64, ["C", "W"])
    if logits.shape != (len(x), q.latents) or np.isnan(logits).any():
        raise ValueError(
            f"posterior: forward returned logits of shape {logits.shape}, wanted {(len(x), q.latents)}, no NaN"
        )
    return logits


def recognition_gradient(q: FactorisedPosterior, x: Bits, slopes: Floats) -> Parameters:
    """The gradient of the sum of slopes * logits, slopes (N, K), by the names of q's parameters."""
    if isinstance(q, AmortisedPosterior) and isinstance(q.encoder, MLP):
        flat = kernels.get("encoder_gradient")(flat_network(q.encoder), x, slopes)
        return prefixed("encoder.", _MLPSource(q.encoder).unflatten(flat))
    gradient: Parameters = q.forward(x)[1](slopes)
    return gradient


def recognition(q: FactorisedPosterior, x: Bits) -> tuple[Floats, Recognition]:
    """q's logits (N, K) for the rows of x, and its probabilities bit by bit."""
    logits = recognition_logits(q, x)
    return logits, Recognition(*kernels.get("bernoulli")(logits))


def check_model(value: object) -> BernoulliLVM:
    """`value` if it is a model."""
    if not isinstance(value, BernoulliLVM):
        raise TypeError(f"model: got {describe(value)}, wanted a BernoulliLVM")
    return value


def check_posterior(model: BernoulliLVM, value: object) -> Posterior:
    """`value` if it is a recognition distribution that fits the model."""
    if not isinstance(value, (AmortisedPosterior, PerDatumPosterior, ChainPosterior)):
        raise TypeError(
            f"posterior: got {describe(value)}, wanted an AmortisedPosterior, a PerDatumPosterior or a ChainPosterior"
        )
    if value.latents != model.latents:
        raise ValueError(
            f"posterior: got one over {value.latents} bits, wanted the model's {model.latents} latent bits"
        )
    first = value.stages[0] if isinstance(value, ChainPosterior) else value
    if isinstance(first, AmortisedPosterior) and first.encoder.fan_in != model.observed:
        raise ValueError(
            f"posterior: got an encoder with fan_in {first.encoder.fan_in}, wanted {model.observed}, the model's "
            "observed bits"
        )
    if isinstance(value, ChainPosterior):
        if not isinstance(model.prior, BernoulliLVM):
            raise ValueError(
                f"posterior: got a chain of {len(value.stages)} stages, wanted one for each layer of latents"
            )
        check_posterior(model.prior, value.above)
    return value
