"""The compiled loops; the only folder that imports numba, and only once a kernel is asked for.

A kernel is reached by its name, `kernels.get("marginal")`: a name can be sent to another process, which then
loads its own compiled copy from the cache, while a compiled function would be sent as source.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["cache_problem", "cold", "get"]

_HOMES = {
    "bernoulli": "bernoulli",
    "divergence": "bound",
    "division_chains": "roofline",
    "encode": "encoder",
    "encoder_gradient": "encoder",
    "expectation": "bound",
    "exponentials": "roofline",
    "finish": "marginal",
    "fma_chains": "roofline",
    "gradient": "gradient",
    "joint_table": "joint",
    "linear_marginal": "linear",
    "linear_split": "linear",
    "load_multiplies": "roofline",
    "log_of_bits": "bernoulli",
    "marginal": "marginal",
    "merge": "marginal",
    "moments": "moments",
    "normalise": "joint",
    "pack": "groups",
    "precise_logits": "precise",
    "prior_and_entropy": "bernoulli",
    "reconstruction": "bound",
    "tabled_marginal": "tables",
}


def get(name: str) -> Callable[..., Any]:
    """The kernel of that name, compiled or loaded on its first call."""
    found: Callable[..., Any] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def cold() -> bool:
    """Whether no compiled kernel has been kept yet, so that the first call of each will take seconds."""
    empty: bool = import_module(f"{__name__}.compiling").cold()
    return empty


def cache_problem() -> str | None:
    """Why compiled kernels cannot be kept for the next process, or None when they are."""
    problem: str | None = import_module(f"{__name__}.compiling").cache_problem()
    return problem
