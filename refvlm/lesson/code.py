"""Which code computes what: the source of refvlm's functions as they are installed, so that none can drift.

Names are those by which people import them from refvlm.
"""

from __future__ import annotations

import inspect
import pkgutil
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).parents[2]
_PACKAGE = Path(__file__).parent.parent.name


class Code(NamedTuple):
    """A function or class: its name as people call it, the place of its source in the repository, and that source."""

    name: str
    place: str
    source: str


class Beside(NamedTuple):
    """Beside an equation: functions that compute it, and their twins in plain NumPy, as the equation is written."""

    functions: tuple[Code, ...]
    twins: tuple[Code, ...]


_BESIDE: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = {
    1: (("Bernoulli", "log_prior"), ("bits.table", "definition.log_prior")),
    2: (("BernoulliLVM.sample", "log_likelihood"), ("definition.log_likelihood",)),
    3: (("log_marginal",), ("definition.log_joint", "definition.log_marginal")),
    4: (("AmortisedPosterior", "PerDatumPosterior", "log_q"), ("definition.q_table",)),
    5: (("grad_log_marginal", "fit"), ("definition.grad_log_marginal",)),
    6: (("posterior",), ("definition.posterior",)),
    7: (("kl",), ("definition.kl",)),
    8: (("decompose",), ("definition.vlb", "definition.kl", "definition.log_marginal")),
    9: (("vlb", "log_marginal", "grad_vlb"), ("definition.vlb", "definition.log_marginal")),
    10: (("vlb_terms", "vlb"), ("definition.vlb",)),
}
"""By the number of the equation: functions, and their twins."""

_ANSWERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Is my log p(x) right?", ("log_marginal",)),
    ("Is my bound right, and which term is off?", ("vlb", "vlb_terms")),
    ("Are my gradients right?", ("grad_log_marginal", "log_marginal_and_grad", "grad_vlb", "grad_iwae", "grad_rws")),
    ("Is my estimator unbiased?", ("testing.assert_unbiased", "testing.assert_unbiased_exact", "vlb_estimate")),
    ("How far is my encoder from the posterior?", ("kl", "kl_bracket", "decompose")),
    ("What is the posterior?", ("posterior", "posterior_mean", "posterior_mean_bracket", "sample_posterior")),
    (
        "How noisy is my estimator?",
        ("gradient_estimators.compare", "gradient_estimators.DisArm", "gradient_estimators.Vimco"),
    ),
    (
        "And other bounds?",
        ("iwae", "eubo", "cubo", "renyi", "tvo", "log_weight_moments"),
    ),
    (
        "I have weights from PyTorch, Flax or Keras",
        ("from_torch", "from_flax", "from_keras", "from_safetensors", "MLP"),
    ),
    ("My prior is itself a model", ("BernoulliLVM", "ChainPosterior", "LayerwisePosterior")),
    ("Some bits are missing", ("predict_missing", "sample_missing")),
    ("I want one φ per data point", ("PerDatumPosterior",)),
    ("K is too large for the sum", ("bracket", "log_marginal_lower", "log_marginal_estimate")),
    ("I want a model of my data", ("fit",)),
    ("I want to see it", ("plot.learning_curve", "plot.posterior", "plot.receptive_fields", "plot.fantasies")),
    ("I work in a notebook", ("ProgressBar", "History.columns")),
    ("I want to keep it", ("save", "load")),
)
"""Questions that people come with, and the functions that answer them."""


_ROOMS = {"definition": "inference.definition", "History": "learning.history.History"}
"""Where those are that do not come with `import refvlm`."""


def _code(name: str) -> Code:
    first, _, rest = name.partition(".")
    found = inspect.unwrap(pkgutil.resolve_name(".".join(filter(None, (_PACKAGE, _ROOMS.get(first, first), rest)))))
    place = Path(inspect.getsourcefile(found) or "").relative_to(_ROOT).as_posix()
    return Code(name, f"{place}, line {inspect.getsourcelines(found)[1]}", inspect.getsource(found).rstrip())


def beside() -> dict[int, Beside]:
    """By the number of the equation."""
    return {
        number: Beside(tuple(map(_code, functions)), tuple(map(_code, twins)))
        for number, (functions, twins) in _BESIDE.items()
    }


def answers() -> list[tuple[str, tuple[Code, ...]]]:
    """Questions, each with the functions that answer it."""
    return [(question, tuple(map(_code, names))) for question, names in _ANSWERS]
