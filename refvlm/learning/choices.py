"""The words that `fit` takes, apart from what they stand for: the command line lists them without loading SciPy."""

from __future__ import annotations

__all__ = ["GRADIENTS", "METHODS", "POSTERIORS"]

METHODS = ("maximum-likelihood", "em", "vlb", "wake-sleep", "reweighted-wake-sleep")

GRADIENTS = ("exact", "score-function")
"""Of the VLB."""

POSTERIORS = ("amortised", "per-datum", "none")
