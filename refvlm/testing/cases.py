"""The published cases one by one, for a test of any kind: pytest's fixture is made of these."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..checks import check_choice, describe
from ..conformance.comparison import PRECISIONS
from ..conformance.examination import judge, suspected
from ..conformance.fingerprints import as_parts
from ..conformance.messages import Result
from ..conformance.quantities import QUANTITIES
from ..conformance.vectors import Check, Network, checks
from ..conformance.vectors import cases as every_case
from ..types import Floats

Answerer = Callable[[str, Network, Network | None, dict[str, Floats]], Any]


@dataclass(frozen=True, eq=False)
class PublishedCase(Check):
    """One question about a case: .quantity, .model, .posterior or None, .inputs, and .error where one must come.

    model and posterior have an .activation, and .parameters by name. precision: what the answer is held to.
    """

    precision: str

    def assert_answer(self, actual: Any) -> None:
        """AssertionError unless `actual`, an array or arrays by name, is right; the message names a known mistake."""
        if self.error is not None:
            raise AssertionError(f"{self.id}: got {describe(actual)} where an error ({self.error}) must come")
        parts = as_parts(actual)
        outcome = judge(self, Result(parts[""] if parts.keys() == {""} else parts), self.precision)
        if outcome.status == "failed":
            said = [f"{self.id}: {outcome.message}"]
            said += [f"  it equals that with {s.mistake.advice()}" for s in suspected(outcome, self.precision)[:2]]
            raise AssertionError("\n".join([*said, f"  the case: {self.case.why}"]))

    def run(self, answer: Answerer, refused: type[Exception] | tuple[type[Exception], ...] = ValueError) -> None:
        """Asserts that answer(quantity, model, posterior, inputs) is right, or raises `refused` if it must."""
        try:
            actual = answer(self.quantity, self.model, self.posterior, self.inputs)
        except refused:
            if self.error is None:
                raise
            return
        self.assert_answer(actual)


def published_cases(
    quantities: Sequence[str] | None = None,
    cases: Sequence[str] | None = None,
    errors: bool = False,
    precision: str = "float64",
) -> list[PublishedCase]:
    """Returns the checks of these quantities and cases, by default all; with `errors` also what must be refused."""
    check_choice("precision", precision, tuple(PRECISIONS))
    for name in quantities or ():
        check_choice("quantities", name, tuple(QUANTITIES))
    for name in cases or ():
        check_choice("cases", name, tuple(every_case()))
    return [
        PublishedCase(**vars(check), precision=precision)
        for check in checks(tuple(quantities or QUANTITIES))
        if (cases is None or check.case.id in cases) and (errors or check.error is None)
    ]
