"""The published cases as a pytest fixture, registered by the entry point `pytest11`.

    def test_conforms(refvlm_case):
        refvlm_case.run(my_answers)       # my_answers(quantity, model, posterior, inputs)

runs once for each check, with ids such as `linear-vlb`. Which, says a mark; what fails and is known to, the ini option
`refvlm_known_failures`, a line each, `CASE/QUANTITY` or `*/QUANTITY`: those tests are expected to fail, strictly, so
that one which passes again is noticed.

    @pytest.mark.refvlm(quantities=["log_marginal", "vlb"], errors=True, precision="float32")
    def test_conforms(refvlm_case): ...

Loading this costs nothing beyond NumPy: cases are read when a test asks for them.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .testing.cases import PublishedCase

_FIXTURE = "refvlm_case"
_INI = "refvlm_known_failures"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares the list of known failures."""
    parser.addini(_INI, "refvlm's checks that are known to fail, CASE/QUANTITY, one a line", type="linelist")


def pytest_configure(config: pytest.Config) -> None:
    """Declares the mark."""
    config.addinivalue_line(
        "markers",
        "refvlm(quantities=None, cases=None, errors=False, precision='float64'): which published cases refvlm_case "
        "runs through; errors: also those that must be refused",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Makes one test for each check."""
    if _FIXTURE not in metafunc.fixturenames:
        return
    from .testing.cases import published_cases

    mark = metafunc.definition.get_closest_marker("refvlm")
    if mark is not None and mark.args:
        raise pytest.UsageError("@pytest.mark.refvlm takes keywords only: quantities, cases, errors, precision")
    try:
        cases = published_cases(**({} if mark is None else mark.kwargs))
    except (TypeError, ValueError) as error:
        raise pytest.UsageError(f"@pytest.mark.refvlm: {error}") from None
    known = metafunc.config.getini(_INI)
    _check_known(known)
    metafunc.parametrize(_FIXTURE, [_parameter(case, known) for case in cases])


def _parameter(case: PublishedCase, known: list[str]) -> Any:
    matched = [pattern for pattern in known if fnmatch.fnmatchcase(case.id, pattern)]
    marks = [pytest.mark.xfail(reason=f"known failure {matched[0]}", strict=True)] if matched else []
    return pytest.param(case, id=case.id.replace("/", "-"), marks=marks)


def _check_known(known: list[str]) -> None:
    """Refuses a known failure that names no check."""
    if not known:
        return
    from .conformance.vectors import checks

    every = [check.id for check in checks()]
    for pattern in known:
        if not fnmatch.filter(every, pattern):
            raise pytest.UsageError(f"{_INI}: {pattern!r} is no check; wanted CASE/QUANTITY, such as 'linear/vlb'")
