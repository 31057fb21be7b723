"""Which code computes an equation: the source of refvlm's functions as they are installed, so that none can drift."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..inference import bounds as bound
from ..inference import definition, exact, joint
from ..learning import fit as learning_fit
from ..model import bernoulli, latent_variable, recognition


class Code(NamedTuple):
    """A function: its name as people call it, the place of its source in the repository, and that source."""

    name: str
    place: str
    source: str


class Beside(NamedTuple):
    """Beside an equation: functions that compute it, and their twins in plain NumPy, as the equation is written."""

    functions: tuple[Code, ...]
    twins: tuple[Code, ...]


def _code(name: str, function: Callable[..., Any]) -> Code:
    place = Path(inspect.getsourcefile(function) or "").relative_to(Path(__file__).parents[2]).as_posix()
    return Code(name, f"{place}, line {inspect.getsourcelines(function)[1]}", inspect.getsource(function).rstrip())


def beside() -> dict[int, Beside]:
    """By the number of the equation."""
    prior = _code("definition.log_prior", definition.log_prior)
    likelihood = _code("definition.log_likelihood", definition.log_likelihood)
    tables: dict[int, tuple[list[tuple[str, Any]], list[Code]]] = {
        1: ([("Bernoulli", bernoulli.Bernoulli), ("log_prior", joint.log_prior)], [prior]),
        2: (
            [("BernoulliLVM.sample", latent_variable.BernoulliLVM.sample), ("log_likelihood", joint.log_likelihood)],
            [likelihood],
        ),
        3: ([("log_marginal", exact.log_marginal)], [_code("definition.log_marginal", definition.log_marginal)]),
        4: (
            [("AmortisedPosterior", recognition.AmortisedPosterior), ("log_q", joint.log_q)],
            [_code("definition.q_table", definition.q_table)],
        ),
        5: (
            [("grad_log_marginal", exact.grad_log_marginal), ("fit", learning_fit.fit)],
            [_code("definition.grad_log_marginal", definition.grad_log_marginal)],
        ),
        6: ([("posterior", exact.posterior)], [_code("definition.posterior", definition.posterior)]),
        7: ([("kl", bound.kl)], [_code("definition.kl", definition.kl)]),
        8: ([("decompose", bound.decompose)], [_code("definition.vlb", definition.vlb)]),
        9: ([("grad_vlb", bound.grad_vlb)], [_code("definition.vlb", definition.vlb)]),
        10: ([("vlb_terms", bound.vlb_terms), ("vlb", bound.vlb)], [_code("definition.vlb", definition.vlb)]),
    }
    return {
        number: Beside(tuple(_code(name, function) for name, function in functions), tuple(twins))
        for number, (functions, twins) in tables.items()
    }
