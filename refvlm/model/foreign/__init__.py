"""Weights of other frameworks as an MLP; none of the frameworks is imported."""

from .flax import from_flax
from .keras import from_keras
from .stored import from_safetensors
from .torch import from_torch

__all__ = ["from_flax", "from_keras", "from_safetensors", "from_torch"]
