"""Recognition: the approximate posterior q(z; phi(x)) of eq. (4), amortised or per data point; for deep models too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import show
from ..checks import as_logits, describe
from ..types import Bits, Floats
from .latent_variable import is_network
from .mlp import Network, Pullback, named
from .parameters import Parameters, prefixed, under


@dataclass(frozen=True, eq=False, repr=False)
class AmortisedPosterior:
    """q(z; phi(x)) with phi = sigmoid(encoder(x)): one network for all x.

    encoder: `MLP`, or any object with fan_in, fan_out, forward(x) -> (logits, pullback) and parameters().
    """

    encoder: Network

    def __post_init__(self) -> None:
        if not is_network(self.encoder):
            raise TypeError(
                f"encoder: got {describe(self.encoder)}, wanted an MLP or an object with fan_in, fan_out, forward(x) "
                "and parameters()"
            )

    def __repr__(self) -> str:
        return f"AmortisedPosterior(K={self.latents}, encoder={named(self.encoder)})"

    def _repr_html_(self) -> str:
        return show.notebook(show.parameters(self))

    @property
    def latents(self) -> int:
        """K."""
        return self.encoder.fan_out

    @property
    def stages(self) -> tuple[AmortisedPosterior]:
        """This one alone: the posterior of the layer next to x."""
        return (self,)

    def parameters(self) -> Parameters:
        """{"encoder.weights.0": ..., ...}."""
        return prefixed("encoder.", self.encoder.parameters())

    def with_parameters(self, parameters: Parameters) -> AmortisedPosterior:
        """The same architecture with other parameters; the encoder must have `with_parameters`, as an MLP does."""
        rebuild = getattr(self.encoder, "with_parameters", None)
        if rebuild is None:
            raise TypeError(f"encoder: got {describe(self.encoder)}, wanted one with the method with_parameters")
        return AmortisedPosterior(rebuild(under("encoder.", parameters)))

    def forward(self, x: Bits) -> tuple[Floats, Pullback]:
        """Logits of phi(x), (N, K), and the pullback from d/d logits to d/d parameters."""
        logits, pullback = self.encoder.forward(x.astype(np.float64))
        return logits, lambda slopes: prefixed("encoder.", pullback(slopes))


@dataclass(frozen=True, eq=False, repr=False)
class PerDatumPosterior:
    """One phi per data point, an approximate posterior of its own for each: N * K numbers to store.

    logits: (N, K); row i belongs to x[i]. -inf and +inf are legal: q puts all its mass on one value of the bit.
    """

    logits: Floats

    def __init__(self, logits: ArrayLike) -> None:
        checked = as_logits("logits", logits, 2)
        if checked.shape[1] == 0:
            raise ValueError(f"logits: got shape {checked.shape}, wanted at least one latent bit")
        object.__setattr__(self, "logits", checked)

    def __repr__(self) -> str:
        return f"PerDatumPosterior(N={len(self.logits)}, K={self.latents})"

    def _repr_html_(self) -> str:
        return show.notebook(show.parameters(self))

    @property
    def latents(self) -> int:
        """K."""
        return int(self.logits.shape[1])

    @property
    def stages(self) -> tuple[PerDatumPosterior]:
        """This one alone: the posterior of the layer next to x."""
        return (self,)

    def take(self, rows: slice | NDArray[np.integer]) -> PerDatumPosterior:
        """The posterior of x[rows]."""
        return PerDatumPosterior(self.logits[rows])

    def parameters(self) -> Parameters:
        """{"logits": (N, K)}."""
        return {"logits": self.logits}

    def with_parameters(self, parameters: Parameters) -> PerDatumPosterior:
        """The same with other logits."""
        return PerDatumPosterior(parameters["logits"])

    def forward(self, x: Bits) -> tuple[Floats, Pullback]:
        """The logits, if x has as many rows; the pullback is the identity under the name of the logits."""
        if len(x) != len(self.logits):
            raise ValueError(
                f"posterior: got logits for {len(self.logits)} rows and x with {len(x)}, wanted one row of logits for "
                "each row of x; for a part of the rows use posterior.take(rows)"
            )
        return self.logits, lambda slopes: {"logits": slopes}


@dataclass(frozen=True, eq=False, repr=False)
class ChainPosterior:
    """For a deep model: q(z1 | x) q(z2 | z1) ..., from x upwards; layers above the last stage are summed exactly.

    stages: two or more of `AmortisedPosterior`; the first may be a `PerDatumPosterior`.
    """

    stages: tuple[FactorisedPosterior, ...]

    def __init__(self, stages: Sequence[FactorisedPosterior]) -> None:
        if not isinstance(stages, (list, tuple)) or len(stages) < 2:
            raise TypeError(f"stages: got {describe(stages)}, wanted a list of at least two posteriors, from x upwards")
        for depth, stage in enumerate(stages):
            kinds = (AmortisedPosterior, PerDatumPosterior) if depth == 0 else (AmortisedPosterior,)
            if not isinstance(stage, kinds):
                wanted = " or ".join(kind.__name__ for kind in kinds)
                raise TypeError(f"stages[{depth}]: got {describe(stage)}, wanted {wanted}")
            if (
                depth > 0
                and isinstance(stage, AmortisedPosterior)
                and stage.encoder.fan_in != stages[depth - 1].latents
            ):
                raise ValueError(
                    f"stages[{depth}]: got an encoder with fan_in {stage.encoder.fan_in}, wanted "
                    f"{stages[depth - 1].latents}, the latent bits of the stage below"
                )
        object.__setattr__(self, "stages", tuple(stages))

    def __repr__(self) -> str:
        return f"ChainPosterior({list(self.stages)})"

    def _repr_html_(self) -> str:
        return show.notebook(show.parameters(self))

    @property
    def latents(self) -> int:
        """K of the layer next to x."""
        return self.stages[0].latents

    @property
    def above(self) -> FactorisedPosterior | ChainPosterior:
        """The posterior of the layers above the first."""
        return self.stages[1] if len(self.stages) == 2 else ChainPosterior(self.stages[1:])

    def parameters(self) -> Parameters:
        """The stages' parameters under 0., 1., ..."""
        return _parameters_of(self.stages)

    def with_parameters(self, parameters: Parameters) -> ChainPosterior:
        """The same architecture with other parameters."""
        return ChainPosterior(_with_parameters(self.stages, parameters))


@dataclass(frozen=True, eq=False, repr=False)
class LayerwisePosterior:
    """For a deep model: q(z1, z2, ... | x) = q1(z1 | x) q2(z2 | x) ..., from x upwards, one stage for each layer.

    Given x the layers are independent, so where decoders are linear the VLB needs no sum over codes.
    stages: two or more; each an `AmortisedPosterior` whose encoder reads x, or a `PerDatumPosterior` with a row for
    each row of x.
    """

    stages: tuple[FactorisedPosterior, ...]

    def __init__(self, stages: Sequence[FactorisedPosterior]) -> None:
        if not isinstance(stages, (list, tuple)) or len(stages) < 2:
            raise TypeError(f"stages: got {describe(stages)}, wanted a list of at least two posteriors, from x upwards")
        for depth, stage in enumerate(stages):
            if not isinstance(stage, (AmortisedPosterior, PerDatumPosterior)):
                raise TypeError(
                    f"stages[{depth}]: got {describe(stage)}, wanted AmortisedPosterior or PerDatumPosterior"
                )
        widths = {stage.encoder.fan_in for stage in stages if isinstance(stage, AmortisedPosterior)}
        rows = {len(stage.logits) for stage in stages if isinstance(stage, PerDatumPosterior)}
        for what, sizes in (("encoders with fan_in", widths), ("logits with rows", rows)):
            if len(sizes) > 1:
                raise ValueError(
                    f"stages: got {what} {' and '.join(map(str, sorted(sizes)))}, wanted one number: all stages take x"
                )
        object.__setattr__(self, "stages", tuple(stages))

    def __repr__(self) -> str:
        return f"LayerwisePosterior({list(self.stages)})"

    def _repr_html_(self) -> str:
        return show.notebook(show.parameters(self))

    @property
    def latents(self) -> int:
        """K of the layer next to x."""
        return self.stages[0].latents

    def take(self, rows: slice | NDArray[np.integer]) -> LayerwisePosterior:
        """The posterior of x[rows]; amortised stages stay what they are."""
        return LayerwisePosterior(
            [stage.take(rows) if isinstance(stage, PerDatumPosterior) else stage for stage in self.stages]
        )

    def parameters(self) -> Parameters:
        """The stages' parameters under 0., 1., ..."""
        return _parameters_of(self.stages)

    def with_parameters(self, parameters: Parameters) -> LayerwisePosterior:
        """The same architecture with other parameters."""
        return LayerwisePosterior(_with_parameters(self.stages, parameters))


def _parameters_of(stages: Sequence[FactorisedPosterior]) -> Parameters:
    """Those of each stage under its number."""
    return {
        name: value
        for depth, stage in enumerate(stages)
        for name, value in prefixed(f"{depth}.", stage.parameters()).items()
    }


def _with_parameters(stages: Sequence[FactorisedPosterior], parameters: Parameters) -> list[FactorisedPosterior]:
    """The stages with other parameters."""
    return [stage.with_parameters(under(f"{depth}.", parameters)) for depth, stage in enumerate(stages)]


FactorisedPosterior = AmortisedPosterior | PerDatumPosterior
StagedPosterior = ChainPosterior | LayerwisePosterior
Posterior = AmortisedPosterior | PerDatumPosterior | ChainPosterior | LayerwisePosterior
