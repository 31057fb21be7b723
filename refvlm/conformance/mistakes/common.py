"""The base class of the mistakes, and what several of them do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

from ...types import Array
from ..equations import Named
from ..plain import Plain
from ..quantities import QUANTITIES

P = ParamSpec("P")
R = TypeVar("R")


def remembered(function: Callable[P, R]) -> Callable[P, R]:
    """functools.cache, with the function's own types: a class is hashable, though type checkers deny it."""
    return cast("Callable[P, R]", functools.cache(function))


class Mistake(Plain):
    """One wrong step. title: what is wrong, in a few words. remedy: what to do about it."""

    title = ""
    remedy = ""

    @classmethod
    def advice(cls) -> str:
        """Returns what is wrong and what to do about it, for a message."""
        return f"{cls.title}: {cls.remedy}"

    def vlb_draws(self) -> Array:
        """Returns the draw of the VLB that each path gives: (N, P)."""
        return self.log_weights(self.log_q())

    @property
    def kind(self) -> str:
        """The kind of the quantity asked for: "nats", "probabilities", "gradient", "draws" or "step"."""
        return QUANTITIES[self.problem.quantity].kind


class Family(Mistake):
    """A mistake with a number in it, which `at` sets. pattern: the title with {} for it. lowest, highest: its range."""

    pattern: ClassVar[str] = ""
    lowest: ClassVar[float] = 1e-17
    highest: ClassVar[float] = 1e-2
    parameter: ClassVar[float] = 1e-7

    @classmethod
    @remembered
    def at(cls, value: float) -> type[Family]:
        """Returns the member of the family with this number, by the family's name."""
        return type(cls.__name__, (cls,), {"parameter": value, "title": cls.pattern.replace("{}", f"{value:.3g}")})


def name_of(mistake: type[Mistake]) -> str:
    """Returns 'missing-prior' for MissingPrior: the name in reports and in the cases' `catches`."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in mistake.__name__)[1:]


def times(gradient: Named, factor: int) -> Named:
    """Returns every array multiplied by a factor."""
    return {name: factor * value for name, value in gradient.items()}


def each(answer: Array | Named, change: Any) -> Array | Named:
    """Returns the array, or every array, changed."""
    if isinstance(answer, dict):
        return {name: change(value) for name, value in answer.items()}
    return change(answer)
