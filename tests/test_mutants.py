"""Every known mistake, as a program that makes it: the published cases must catch each and name it."""

import numpy as np
import pytest

from refvlm.conformance.comparison import compare
from refvlm.conformance.examination import Chosen, examine
from refvlm.conformance.fingerprints import as_parts, mistaken
from refvlm.conformance.messages import Implementation, Refused, Result
from refvlm.conformance.mistakes import CATALOGUE, MISTAKES, OF_DRAWS, Mistake, name_of
from refvlm.conformance.quantities import QUANTITIES
from refvlm.conformance.reports import as_text
from refvlm.conformance.vectors import cases

BY_NAME = {name_of(mistake): mistake for mistake in MISTAKES}
WHO = Implementation("mutant", "0", "Python", "float64")


def answers_with(mistake):
    """A program that refuses what must be refused, and otherwise makes the mistake."""

    def ask(check):
        if check.error is not None:
            return Refused(check.error, "")
        parts = mistaken(mistake, check)
        return Result(parts[""] if parts.keys() == {""} else parts)

    return ask


def test_there_are_at_least_thirty_and_each_says_what_to_do():
    assert len(MISTAKES) >= 30
    assert len(BY_NAME) == len(MISTAKES)
    for mistake in MISTAKES:
        assert issubclass(mistake, Mistake)
        assert mistake.title
        assert mistake.remedy
        assert mistake.__doc__ is None or mistake.__doc__ != Mistake.__doc__


def test_mutation_score_is_all_of_them(capsys):
    caught, named = [], []
    for name, mistake in BY_NAME.items():
        report = examine(WHO, tuple(QUANTITIES), answers_with(mistake))
        if report.verdict == "differs":
            caught.append(name)
        if [each.name for each in report.explanations] == [name] and not report.explanations[0].also:
            named.append(name)
    with capsys.disabled():
        print(f"\nmutation score: {len(caught)} of {len(BY_NAME)} caught, {len(named)} named")
    assert set(caught) == set(BY_NAME), sorted(set(BY_NAME) - set(caught))
    assert set(named) == set(BY_NAME), sorted(set(BY_NAME) - set(named))


@pytest.mark.parametrize("case", list(cases().values()), ids=lambda case: case.id)
def test_a_case_catches_what_it_says_it_catches(case):
    for name in case.catches:
        wrong = [
            check.id
            for check in case.checks.values()
            if compare(check.expected, mistaken(BY_NAME[name], check), "float64") is not None
        ]
        assert wrong, f"{case.id} does not catch {name}"


def test_every_mistake_is_claimed_by_a_case():
    claimed = {name for case in cases().values() for name in case.catches}
    assert claimed == set(BY_NAME), sorted(set(BY_NAME) - claimed)


def test_failures_follow_from_the_first_quantity_that_went_wrong():
    report = examine(WHO, tuple(QUANTITIES), answers_with(BY_NAME["uniform-prior"]), Chosen(["linear/*"]))
    roots = {o.check.quantity: o.root for o in report.outcomes if o.status == "failed"}
    assert roots["log_prior"] is None
    for quantity in ("log_joint", "log_marginal", "posterior", "vlb_terms", "vlb", "kl", "grad_vlb", "wake_step"):
        assert roots[quantity] == "linear/log_prior"
    assert "log_likelihood" not in roots
    assert "First to go wrong: log_prior in 1 case." in as_text(report)


def test_the_catalogue_has_those_that_no_case_catches_too_each_by_a_name_of_its_own():
    assert set(MISTAKES) < set(CATALOGUE)
    assert set(OF_DRAWS) < set(CATALOGUE)
    assert len({name_of(mistake) for mistake in CATALOGUE}) == len(CATALOGUE)
    assert len({mistake.title for mistake in CATALOGUE}) == len(CATALOGUE)


def test_an_unknown_mistake_is_caught_without_a_name():
    def ask(check):
        if check.error is not None:
            return Refused(check.error, "")
        return Result(_shifted({name: e.value for name, e in check.expected.items()}))

    report = examine(WHO, ("vlb",), ask)
    assert report.verdict == "differs"
    assert all(2 * e.explained < report.count("failed") for e in report.explanations)
    assert "Most likely" not in as_text(report)


def _shifted(parts):
    found = {name: value + 0.03125 for name, value in as_parts(parts).items()}
    return found[""] if found.keys() == {""} else found


def test_a_mistake_in_one_quantity_alone_does_not_accuse_the_others():
    def ask(check):
        if check.error is not None:
            return Refused(check.error, "")
        values = {name: np.array(e.value) for name, e in check.expected.items()}
        if check.quantity == "kl":
            return Result(mistaken(BY_NAME["reversed-kl"], check)[""])
        return Result(values[""] if values.keys() == {""} else values)

    report = examine(WHO, tuple(QUANTITIES), ask)
    assert {o.check.quantity for o in report.outcomes if o.status == "failed"} == {"kl"}
    assert report.explanations[0].name == "reversed-kl"
