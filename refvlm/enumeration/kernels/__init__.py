"""The compiled loops; the only folder that imports numba, and only once a kernel is asked for.

A kernel's address says where it lives: `kernels.marginal.finish(...)` is the function `finish` in `marginal.py`, which
is imported when it is first named. Pickle sends kernels to other processes by that address, and the other process loads
its own compiled copy from the cache.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from . import constants

if TYPE_CHECKING:
    from . import (
        bernoulli,
        bound,
        characteristic,
        compiling,
        encoder,
        envelope,
        gradient,
        groups,
        hardware,
        joint,
        layered,
        layered_ratios,
        linear,
        marginal,
        moments,
        precise,
        ratios,
        responses,
        roofline,
        spinning,
        tables,
        tangent,
        weights,
    )
else:

    def __getattr__(name):
        if not name.startswith("_"):
            try:
                return import_module(f"{__name__}.{name}")
            except ModuleNotFoundError as error:
                if error.name != f"{__name__}.{name}":
                    raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "bernoulli", "bound", "characteristic", "compiling", "constants", "encoder", "envelope", "gradient", "groups",
    "hardware", "joint", "layered", "layered_ratios", "linear", "marginal", "moments", "precise", "ratios", "responses",
    "roofline", "spinning", "tables", "tangent", "weights",
]  # fmt: skip
