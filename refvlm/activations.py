"""The activations that a network may have between its layers, and all that is known of each: one table.

Models, kernels, error bounds, tests of other programs and the command line read `ACTIVATIONS`; nothing else lists them.
The compiled values and derivatives are in `enumeration/kernels/activations.py`, under the record's `code`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from .types import Array

F = TypeVar("F", bound=np.floating[Any])

LEAK = 0.01
"""The slope of leaky_relu below 0, PyTorch's and JAX's default: the float64 number nearest to a hundredth."""


@dataclass(frozen=True)
class Activation:
    """f, applied to every unit of a layer, and the constants that error bounds rest on.

    code: the number by which kernels know f. range: the smallest and the largest value, or their limits.
    growth: c in |f(a)| <= |a| + c. lipschitz: max |f'(a)|. steepness: max |a f'(a)|; it bounds what a relative error
    in a can do. rounding: (s, t), the kernels' f(a) is off by at most (s + t |a|) 2**-53; precise_rounding: (s, t), in
    double-double by s + t |a|. value: f(a). slope: f'(a) from a and f(a). Both take float arrays of any precision;
    where f has a kink at 0, the slope there is the one from the left, as in PyTorch.
    """

    name: str
    code: int
    range: tuple[float, float]
    growth: float
    lipschitz: float
    steepness: float
    rounding: tuple[float, float]
    precise_rounding: tuple[float, float]
    value: Callable[[Array], Array]
    slope: Callable[[Array, Array], Array]

    @property
    def bound(self) -> float:
        """max |f(a)|, infinite where there is none."""
        return max(map(abs, self.range))

    def magnitude(self, a: Array) -> Array:
        """A bound on |f| where the bound on |a| is `a`, elementwise."""
        return np.full_like(a, self.bound) if self.bound < math.inf else a + self.growth


def sigmoid(a: NDArray[F]) -> NDArray[F]:
    """1 / (1 + exp(-a)) elementwise, without overflow."""
    y = np.exp(-np.abs(a))
    value: NDArray[F] = np.where(a >= 0, 1.0, y) / (1.0 + y)
    return value


def log_sigmoid(a: NDArray[F]) -> NDArray[F]:
    """log sigmoid(a) elementwise."""
    value: NDArray[F] = -np.logaddexp(0.0, -a)
    return value


def _silu_slope(a: Array, h: Array) -> Array:
    s = sigmoid(a)
    return s * (1.0 + a * (1.0 - s))


_INF = math.inf
_LOG_2 = 0.6931471805599454  # rounded up

ACTIVATIONS = {
    record.name: record
    for record in (
        Activation(
            "tanh", 0, range=(-1.0, 1.0), growth=0.0, lipschitz=1.0, steepness=0.448,
            rounding=(6.0, 0.0), precise_rounding=(2.0**-90, 0.0),
            value=np.tanh, slope=lambda a, h: (1.0 - h) * (1.0 + h),
        ),
        Activation(
            "relu", 1, range=(0.0, _INF), growth=0.0, lipschitz=1.0, steepness=_INF,
            rounding=(0.0, 0.0), precise_rounding=(0.0, 0.0),
            value=lambda a: np.maximum(a, 0.0), slope=lambda a, h: (a > 0).astype(a.dtype),
        ),
        Activation(
            "sigmoid", 2, range=(0.0, 1.0), growth=0.5, lipschitz=0.25, steepness=0.224,
            rounding=(5.0, 0.0), precise_rounding=(2.0**-90, 0.0),
            value=sigmoid, slope=lambda a, h: h * (1.0 - h),
        ),
        Activation(
            "leaky_relu", 3, range=(-_INF, _INF), growth=0.0, lipschitz=1.0, steepness=_INF,
            rounding=(0.0, LEAK), precise_rounding=(0.0, 2.0**-102),
            value=lambda a: np.where(a > 0, a, LEAK * a), slope=lambda a, h: np.where(a > 0, 1.0, LEAK).astype(a.dtype),
        ),
        Activation(
            "elu", 4, range=(-1.0, _INF), growth=0.0, lipschitz=1.0, steepness=_INF,
            rounding=(3.0, 0.0), precise_rounding=(2.0**-89, 0.0),
            value=lambda a: np.where(a > 0, a, np.expm1(np.minimum(a, 0.0))),
            slope=lambda a, h: np.exp(np.minimum(a, 0.0)),
        ),
        Activation(
            "softplus", 5, range=(0.0, _INF), growth=_LOG_2, lipschitz=1.0, steepness=_INF,
            rounding=(5.0, 1.0), precise_rounding=(2.0**-88, 2.0**-102),
            value=lambda a: np.logaddexp(0.0, a), slope=lambda a, h: sigmoid(a),
        ),
        Activation(
            "silu", 6, range=(-0.27847, _INF), growth=0.0, lipschitz=1.09984, steepness=_INF,
            rounding=(0.0, 6.0), precise_rounding=(0.0, 2.0**-88),
            value=lambda a: a * sigmoid(a), slope=_silu_slope,
        ),
    )
}  # fmt: skip
"""By name, in the order in which they are listed for people."""
