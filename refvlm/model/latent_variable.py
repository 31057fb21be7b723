"""The Bernoulli latent variable model: eqs. (1) and (2), and the generation procedure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import show
from ..checks import check_count, check_generator, describe
from ..types import Bits
from .bernoulli import Bernoulli, draw
from .mlp import Network, named
from .parameters import Parameters, prefixed, under


def is_network(value: object) -> bool:
    """Whether `value` can be a decoder or an encoder."""
    return all(hasattr(value, name) for name in ("fan_in", "fan_out", "forward", "parameters"))


@dataclass(frozen=True, eq=False, repr=False)
class BernoulliLVM:
    """p(x) = sum over z of p(x | z) p(z): z from the prior, x_i ~ Bernoulli(sigmoid(decoder(z)_i)), eqs. (1) to (3).

    prior: `Bernoulli`, or another `BernoulliLVM` over the same bits: depth is nesting.
    decoder: `MLP`, or any object with fan_in, fan_out, forward(z) -> (logits, pullback) and parameters(); one
    that is no MLP must be a function of z alone, row by row.
    """

    prior: Bernoulli | BernoulliLVM
    decoder: Network

    def __post_init__(self) -> None:
        if not isinstance(self.prior, (Bernoulli, BernoulliLVM)):
            raise TypeError(f"prior: got {describe(self.prior)}, wanted a Bernoulli or a BernoulliLVM")
        if not is_network(self.decoder):
            raise TypeError(
                f"decoder: got {describe(self.decoder)}, wanted an MLP or an object with fan_in, fan_out, forward(z) "
                "and parameters()"
            )
        bits = self.prior.latents if isinstance(self.prior, Bernoulli) else self.prior.observed
        if self.decoder.fan_in != bits:
            raise ValueError(f"decoder: got fan_in {self.decoder.fan_in}, wanted {bits}, the bits of the prior")

    def __repr__(self) -> str:
        sizes = f"K={self.latents}, L={self.observed}"
        return f"BernoulliLVM({sizes}, prior={self.prior!r}, decoder={named(self.decoder)})"

    def _repr_html_(self) -> str:
        return show.notebook(show.parameters(self))

    @property
    def latents(self) -> int:
        """K, the number of latent bits next to x."""
        return self.decoder.fan_in

    @property
    def observed(self) -> int:
        """L, the number of observed bits."""
        return self.decoder.fan_out

    @property
    def layers(self) -> tuple[BernoulliLVM, ...]:
        """This model and those that are its prior, from x upwards: one for each layer of latents."""
        return (self, *(self.prior.layers if isinstance(self.prior, BernoulliLVM) else ()))

    @property
    def top(self) -> Bernoulli:
        """The prior of the highest layer."""
        return self.prior if isinstance(self.prior, Bernoulli) else self.prior.top

    def parameters(self) -> Parameters:
        """Prior and decoder by name: prior.logits, decoder.weights.0, ...; deep: prior.decoder.weights.0, ..."""
        return prefixed("prior.", self.prior.parameters()) | prefixed("decoder.", self.decoder.parameters())

    def with_parameters(self, parameters: Parameters) -> BernoulliLVM:
        """The same architecture with other parameters; the decoder must have `with_parameters`, as an MLP does."""
        rebuild = getattr(self.decoder, "with_parameters", None)
        if rebuild is None:
            raise TypeError(f"decoder: got {describe(self.decoder)}, wanted one with the method with_parameters")
        return BernoulliLVM(
            self.prior.with_parameters(under("prior.", parameters)), rebuild(under("decoder.", parameters))
        )

    def sample(self, n: int, rng: np.random.Generator) -> tuple[Bits, Bits]:
        """The generation procedure: n draws of z from the prior, of x from p(x | z). Returns x (n, L), z (n, K)."""
        check_count("n", n, 0)
        check_generator("rng", rng)
        z = self.prior.sample(n, rng) if isinstance(self.prior, Bernoulli) else self.prior.sample(n, rng)[0]
        return draw(self.decoder.forward(z.astype(np.float64))[0], rng), z
