"""The terms of the VLB, eq. (10), as the passes over the layers leave them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .. import show
from ..types import Floats


class VLBTerms(NamedTuple):
    """The terms of eq. (10), (N,) each, nats: VLB = prior + reconstruction + entropy.

    prior: E_q[log p(z)], of all layers together under a chain or a layerwise q. reconstruction: E_q[log p(x | z)].
    entropy: E_q[-log q(z)], of all layers of q.
    """

    prior: Floats
    reconstruction: Floats
    entropy: Floats

    def __repr__(self) -> str:
        return str(self._table())

    def _repr_html_(self) -> str:
        return show.notebook(self._table())

    def _table(self) -> show.Table:
        kinds = {name: (show.EXACT, value) for name, value in self._asdict().items()}
        return show.statistics("VLBTerms, in nats", kinds)


class Bound(NamedTuple):
    """What the pass for the VLB leaves for a layer: the terms, and a bound on the rounding error of their sum."""

    terms: VLBTerms
    error: Floats

    @property
    def value(self) -> Floats:
        """The VLB, (N,)."""
        return self.terms.prior + self.terms.reconstruction + self.terms.entropy


def of_no_rows() -> Bound:
    """The bound of an empty batch."""
    return Bound(VLBTerms(np.zeros(0), np.zeros(0), np.zeros(0)), np.zeros(0))


def check_finite(prior: Floats) -> None:
    """Refuse a gradient where E_q[log p(z)], (N,), or what contains it, is -inf."""
    infinite = np.isneginf(prior)
    if infinite.any():
        raise ValueError(
            f"posterior: puts mass on a z of zero prior probability for row {int(np.argmax(infinite))} of x, where the "
            "VLB is -inf; wanted a q that vanishes wherever the prior does"
        )
