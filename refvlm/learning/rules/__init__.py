"""The learning rules, one file each. A rule is known by its import here, and nowhere else."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from ...checks import check_choice, describe
from .expectation_maximisation import ExpectationMaximisation as ExpectationMaximisation
from .maximum_likelihood import MaximumLikelihood as MaximumLikelihood
from .reweighted_wake_sleep import ReweightedWakeSleep as ReweightedWakeSleep
from .rule import Rule as Rule
from .variational import Variational as Variational
from .vimco import Vimco as Vimco
from .wake_sleep import WakeSleep as WakeSleep

RULES: dict[str, type[Rule]] = {
    rule.name: rule
    for rule in list(globals().values())
    if isinstance(rule, type) and issubclass(rule, Rule) and rule is not Rule
}
"""The rules imported here, by the name that `fit(method=...)` takes."""


class Hyperparameter(NamedTuple):
    """A hyperparameter and the names of the rules that have it; choices is empty for a number."""

    default: Any
    help: str
    choices: tuple[str, ...]
    methods: tuple[str, ...]


def hyperparameters() -> dict[str, Hyperparameter]:
    """All hyperparameters by name. One name means the same in every rule that has it."""
    known: dict[str, Hyperparameter] = {}
    for rule in RULES.values():
        for field in dataclasses.fields(rule):
            others = known[field.name].methods if field.name in known else ()
            known[field.name] = Hyperparameter(field.default, **field.metadata, methods=(*others, rule.name))
    return known


def hyperparameters_of(method: str | Rule) -> tuple[str, ...]:
    """The names of what may be passed beside `method`: nothing beside an object, which holds its own.

    Raises ValueError for a method that there is not.
    """
    if isinstance(method, Rule):
        return ()
    return tuple(field.name for field in dataclasses.fields(RULES[check_choice("method", method, tuple(RULES))]))


def rule_of(method: str | Rule, values: Mapping[str, Any]) -> Rule:
    """The rule of this name with these hyperparameters, or the rule itself.

    Raises ValueError for a hyperparameter that the rule does not have or cannot take, and TypeError for a word that is
    no hyperparameter of any rule.
    """
    own, known = hyperparameters_of(method), hyperparameters()
    for name, value in values.items():
        if name not in known:
            raise TypeError(f"fit: got an unexpected argument {name!r}; wanted one that help(refvlm.fit) names")
        if isinstance(method, Rule):
            raise ValueError(f"{name}: got {describe(value)} beside a rule; wanted it in the rule, as in {method!r}")
        if name not in own:
            raise ValueError(
                f"{name}: got {describe(value)}, which method {method!r} does not take; wanted "
                f"{', '.join(own) or 'no hyperparameter'}; {name} goes with {', '.join(known[name].methods)}"
            )
    return method if isinstance(method, Rule) else RULES[method](**values)


def methods(enumerates: bool) -> str:
    """The methods that enumerate, or those that do not, as a message lists them."""
    listed = []
    for name, rule in RULES.items():
        words = [field for field in dataclasses.fields(rule) if field.metadata["choices"]]
        for values in itertools.product(*(field.metadata["choices"] for field in words)):
            options = {field.name: value for field, value in zip(words, values, strict=True)}
            if rule(**options).enumerates == enumerates:
                changed = [f"{f.name}={v!r}" for f, v in zip(words, values, strict=True) if v != f.default]
                listed.append(" with ".join([repr(name), *changed]))
    return ", ".join(listed)
