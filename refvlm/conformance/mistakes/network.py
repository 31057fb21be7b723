"""Mistakes in the networks, between their inputs and their logits."""

from __future__ import annotations

import numpy as np

from ...types import Array
from ..problems import Layers
from .common import Mistake


class ColumnMajorWeights(Mistake):
    title = "weights read in column-major order"
    remedy = "tensors are row-major: the last index varies fastest"

    def cast(self, layers: Layers) -> Layers:
        cast = super().cast(layers)
        return cast._replace(weights=[w.ravel().reshape(w.shape, order="F") for w in cast.weights])


class ReversedLatents(Mistake):
    title = "the latent bits in reverse order at the decoder"
    remedy = "z_0 goes with the first row of the first weight matrix"

    def forward(self, layers: Layers, inputs: Array) -> tuple[Array, list[Array], list[Array]]:
        return super().forward(layers, inputs[:, ::-1] if "decoder" in layers.prefix else inputs)


class MissingBiases(Mistake):
    title = "the biases left out"
    remedy = "a = h W + b"

    def affine(self, h: Array, weights: Array, biases: Array) -> Array:
        return h @ weights + 0 * biases


class BiasesTwice(Mistake):
    title = "the biases added twice"
    remedy = "a = h W + b"

    def affine(self, h: Array, weights: Array, biases: Array) -> Array:
        return h @ weights + 2 * biases


class ActivationOnOutput(Mistake):
    title = "the activation applied to the last layer too"
    remedy = "the last layer is linear: its outputs are logits"

    def output(self, logits: Array, activation: str) -> Array:
        return self.activate(logits, activation)

    def output_slope(self, a: Array, layers: Layers) -> Array:
        return self.activation_slope(self.activate(a, layers.activation), a, layers.activation)


class AlwaysTanh(Mistake):
    title = "tanh, whatever the activation"
    remedy = "the activation comes with the model and with the posterior, each its own"

    def activate(self, a: Array, activation: str) -> Array:
        return super().activate(a, "tanh")

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return super().activation_slope(h, a, "tanh")


class DecodersActivation(Mistake):
    title = "the decoder's activation in the encoder"
    remedy = "the posterior brings an activation of its own"

    def encode(self, layers: Layers, below: Array) -> Array:
        return super().encode(layers._replace(activation=self.decoders[0].activation), below)


class MissingSlope(Mistake):
    title = "the activation's derivative left out of the backward pass"
    remedy = "multiply by f'(a) on the way down"

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return np.ones_like(a)


class SlopeAtValue(Mistake):
    title = "the activation's derivative taken at f(a) instead of a"
    remedy = "tanh' = 1 - h^2 and sigmoid' = h (1 - h) where h is already the activation's value"

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return super().activation_slope(self.activate(h, activation), h, activation)


class SlopeAtZero(Mistake):
    title = "relu'(0) = 1"
    remedy = "by convention relu'(0) = 0, as in PyTorch and JAX"

    def activation_slope(self, h: Array, a: Array, activation: str) -> Array:
        return (a >= 0).astype(self.dtype) if activation == "relu" else super().activation_slope(h, a, activation)


class SinglePrecision(Mistake):
    title = "arithmetic in single precision"
    remedy = "somewhere a float32 array or literal enters; or claim float32"
    dtype = np.float32
