"""Mistakes about nats, rows and signs."""

from __future__ import annotations

import math

import numpy as np

from ...types import Array
from ..equations import Named
from .common import Mistake, each


class Bits(Mistake):
    title = "logarithms to base 2"
    remedy = "nats: natural logarithms"

    def answer(self) -> Array | Named:
        answer = super().answer()
        if self.kind in ("nats", "gradient"):
            return each(answer, lambda value: value / self.dtype(math.log(2)))
        return answer

    def vlb_draws(self) -> Array:
        return super().vlb_draws() / self.dtype(math.log(2))


class SummedOverRows(Mistake):
    title = "summed over the batch, then broadcast to its rows"
    remedy = "one number per row; no sum over rows before the end"

    def answer(self) -> Array | Named:
        answer = super().answer()
        if self.kind == "nats":
            return each(answer, lambda value: np.full_like(value, value.sum()))
        return answer


class MeanOverRows(Mistake):
    title = "the gradient of the mean over rows instead of the sum"
    remedy = "gradients are of the sum over the rows of x"

    def answer(self) -> Array | Named:
        answer = super().answer()
        if self.kind == "gradient":
            return each(answer, lambda value: value / max(len(self.x), 1))
        return answer


class NegatedGradient(Mistake):
    title = "the gradient with the opposite sign, that of the loss"
    remedy = "gradients are uphill, of log p(x) and of the VLB"

    def answer(self) -> Array | Named:
        answer = super().answer()
        return each(answer, np.negative) if self.kind == "gradient" else answer
