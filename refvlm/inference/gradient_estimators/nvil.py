"""NVIL (Mnih, Gregor, "Neural variational inference and learning in belief networks", 2014): a baseline from x.

    (1/S) sum_s ((f_s - C(x)) / v) d log q(z_s) / d logits

C is a regression of f on x, whose optimum is E_q f, the VLB of the row; v is the larger of 1 and a running standard
deviation of f - C. Here C is that optimum unless given, and v is 1 unless given: any other shrinks the mean by 1 / v.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ...checks import check_number
from ...model.recognition import PerDatumPosterior
from ...types import Floats
from ..bounds import vlb
from .estimator import OfOneCode, drawn, gradient_of_vlb, weighted
from .landscape import Codes, Landscape
from .reinforce import check_per_row, of_row, per_row


@dataclass(frozen=True, eq=False)
class Nvil(OfOneCode):
    """baseline: C, a number, or one for each row, (N,); None for the VLB, exactly. scale: v."""

    baseline: ArrayLike | None = None
    scale: float = 1.0

    name = "nvil"

    @property
    def unbiased(self) -> bool:
        """Unless scaled."""
        return self.scale == 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.baseline is not None:
            check_per_row("baseline", self.baseline)
        check_number("scale", self.scale, 1.0, np.finfo(np.float64).max)

    def check(self, latents: int, rows: int) -> None:
        """Refuse baselines of other rows."""
        if self.baseline is not None:
            per_row("baseline", self.baseline, rows)

    def _value(self, at: Landscape, u: Floats) -> Floats:
        z = drawn(at, u)
        log_w = at.log_weights(z)
        if self.baseline is None:
            expected = vlb(at.model, PerDatumPosterior(at.logits), at.x)
        else:
            expected = per_row("baseline", self.baseline, len(log_w))
        signal = (log_w - expected[:, None]) / (self.scale * self.samples)
        return weighted(signal, at.score(z))

    def _mean(self, codes: Codes) -> Floats:
        return gradient_of_vlb(codes) / self.scale

    def _of_every_code(self, codes: Codes) -> Floats:
        """(f - C) / v times the score, (2**K, K)."""
        left = 0.0 if self.baseline is None else codes.vlb - of_row("baseline", self.baseline, codes.number)
        return ((codes.log_w + left) / self.scale)[:, None] * codes.score
