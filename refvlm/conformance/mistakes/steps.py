"""Mistakes in draws from the question's uniforms, and in steps of wake and sleep."""

from __future__ import annotations

import numpy as np

from ...types import Array
from ..equations import Named
from .common import Mistake, times


class InclusiveComparison(Mistake):
    title = "a bit drawn by u <= p"
    remedy = "u < p with u in [0, 1): p = 0 never fires"

    def fire(self, logits: Array, uniforms: Array) -> Array:
        return (uniforms <= self.sigmoid(logits)).astype(self.dtype)


class MirroredUniforms(Mistake):
    title = "a bit drawn by u >= 1 - p"
    remedy = "u < p"

    def fire(self, logits: Array, uniforms: Array) -> Array:
        return (uniforms >= self.sigmoid(-logits)).astype(self.dtype)


class RoundedBits(Mistake):
    title = "a bit taken as p >= 1/2, the uniforms unused"
    remedy = "u < p"

    def fire(self, logits: Array, uniforms: Array) -> Array:
        return np.broadcast_to(logits >= 0, uniforms.shape).astype(self.dtype)


class MeansForDraws(Mistake):
    title = "probabilities instead of drawn bits in the wake phase"
    remedy = "z is drawn: z_k = 1 where u < phi_k"

    def recognise(self) -> list[Array]:
        layers = [self.x]
        for encoder in self.encoders:
            layers.append(self.sigmoid(self.encode(encoder, layers[-1])))
        return layers


class DownhillStep(Mistake):
    title = "a step downhill"
    remedy = "parameters + rate times the gradient: both phases climb"

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        return super().step(parameters, {name: -value for name, value in gradient.items()}, rows)


class SummedStep(Mistake):
    title = "the sum over rows instead of the mean in a step"
    remedy = "divide by the number of rows, or of dreams"

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        return super().step(parameters, gradient, 1)


class DividedTwice(Mistake):
    title = "divided by the number of rows twice in a step"
    remedy = "a mean of means: divide once"

    def step(self, parameters: Named, gradient: Named, rows: int) -> Named:
        return super().step(parameters, gradient, rows * rows)


class PriorHeldFixed(Mistake):
    title = "the prior left as it was in the wake phase"
    remedy = "wake moves beta and theta"

    def prior_gradient(self, z: Array, weights: Array) -> Named:
        gradient = super().prior_gradient(z, weights)
        return times(gradient, 0 if self.kind == "step" else 1)
