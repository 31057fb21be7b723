"""The factorised Bernoulli distribution of eq. (1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .. import show
from ..activations import sigmoid
from ..checks import as_logits, as_parameters, check_count, check_generator
from ..types import Bits, Floats


@dataclass(frozen=True, eq=False, repr=False)
class Bernoulli:
    """p(z) = prod_k beta_k**z_k (1 - beta_k)**(1 - z_k), eq. (1), with beta_k = sigmoid(logits_k).

    logits: (K,), K >= 1; -inf and +inf are legal and make a bit that is always 0 or always 1.
    Raises ValueError or TypeError for anything else.
    """

    logits: Floats

    def __init__(self, logits: ArrayLike) -> None:
        checked = as_logits("logits", logits, 1)
        if len(checked) == 0:
            raise ValueError("logits: got none, wanted at least one")
        object.__setattr__(self, "logits", checked)

    @classmethod
    def from_probabilities(cls, beta: ArrayLike) -> Bernoulli:
        """The distribution with P(z_k = 1) = beta_k, (K,), each in [0, 1]."""
        probabilities = as_parameters("beta", beta, 1)
        if ((probabilities < 0) | (probabilities > 1)).any():
            k = int(np.argmax((probabilities < 0) | (probabilities > 1)))
            raise ValueError(f"beta: got {probabilities[k]} at index {k}, wanted probabilities in [0, 1]")
        with np.errstate(divide="ignore"):
            return cls(np.log(probabilities) - np.log1p(-probabilities))

    def __repr__(self) -> str:
        return f"Bernoulli({self.latents})"

    def _repr_html_(self) -> str:
        return show.notebook(show.parameters(self))

    @property
    def latents(self) -> int:
        """Number of bits K."""
        return len(self.logits)

    def parameters(self) -> dict[str, Floats]:
        """{"logits": (K,)}."""
        return {"logits": self.logits}

    def with_parameters(self, parameters: dict[str, Floats]) -> Bernoulli:
        """The same kind of distribution with other parameters."""
        return Bernoulli(parameters["logits"])

    def sample(self, n: int, rng: np.random.Generator) -> Bits:
        """n independent draws, (n, K)."""
        check_count("n", n, 0)
        return draw(np.broadcast_to(self.logits, (n, self.latents)), check_generator("rng", rng))


def draw(logits: Floats, rng: np.random.Generator) -> Bits:
    """Bits with P(1) = sigmoid(logits): u < p, so that p = 0 never fires and p = 1 always does."""
    return (rng.random(logits.shape) < sigmoid(logits)).astype(np.uint8)
