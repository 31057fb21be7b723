"""Mistakes in draws of the VLB and in losses that no published case catches."""

from __future__ import annotations

import numpy as np

from ...types import Array
from ..equations import Named
from .common import Mistake, each


class MissingLikelihood(Mistake):
    title = "log p(x|z) left out"
    remedy = "log p(x, z) = log p(x|z) + log p(z)"

    def joint(self, likelihood: Array, prior: Array) -> Array:
        return prior + 0 * likelihood

    def vlb_terms(self) -> Named:
        terms = super().vlb_terms()
        return terms | {"reconstruction": 0 * terms["reconstruction"]}


class Loss(Mistake):
    title = "the opposite sign, that of the loss"
    remedy = "log p(x) and the VLB are what is climbed: negate the loss"

    def answer(self) -> Array | Named:
        answer = super().answer()
        return each(answer, np.negative) if self.kind == "nats" else answer

    def vlb_draws(self) -> Array:
        return -super().vlb_draws()
