"""The logistic function of the learning floor: SciPy's, which is loaded on first use because it takes a moment."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ..types import Floats


def sigmoid(a: Floats) -> Floats:
    """1 / (1 + exp(-a)) for every entry."""
    return _expit()(a)


@cache
def _expit() -> Callable[[Floats], Floats]:
    from scipy.special import expit

    function: Callable[[Floats], Floats] = expit
    return function
