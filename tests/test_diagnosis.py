"""What the oracle names, and what it must not: over 200 random programs with known mistakes; imprecision; pairs."""

import multiprocessing
import runpy
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from refvlm.conformance.examination import Chosen, examine
from refvlm.conformance.fingerprints import as_parts, mistaken
from refvlm.conformance.messages import Implementation, Refused, Result
from refvlm.conformance.mistakes import (
    FAMILIES,
    FURTHER,
    Multiplied,
    Share,
    SinglePrecision,
    WeightedTerms,
    name_of,
)
from refvlm.conformance.mistakes.likelihood import MissingSoftplus
from refvlm.conformance.mistakes.losses import ExchangedArguments, ExchangedLogits
from refvlm.conformance.plain import Plain
from refvlm.conformance.problems import problem_of
from refvlm.conformance.quantities import QUANTITIES
from refvlm.conformance.reports import as_json, as_text
from refvlm.conformance.vectors import checks
from refvlm.machine import available_cores

SCRIPT = Path(__file__).resolve().parents[1] / "validation" / "diagnoses.py"
CASES = ("linear", "tanh-two", "relu-one", "helmholtz", "softplus-tails", "extreme-logits", "one-row", "odd-widths")
ONLY = [f"{case}/*" for case in CASES]


def program(answer, precision="float64"):
    """The report on a program: answer(check) gives arrays by name; what must be refused is refused."""

    def ask(check):
        if check.error is not None:
            return Refused(check.error, "")
        parts = as_parts(answer(check))
        return Result(parts[""] if parts.keys() == {""} else parts)

    return examine(Implementation("program", "0", "Python", precision), tuple(QUANTITIES), ask)


def right(check):
    return Plain(problem_of(check)).answer()


@pytest.mark.parametrize("mistake", FURTHER, ids=name_of)
def test_mistakes_that_no_case_claims_are_named_too(mistake):
    report = program(lambda check: mistaken(mistake, check))
    assert [each.name for each in report.explanations] == [name_of(mistake)]
    assert report.explanations[0].also == ()


@pytest.mark.parametrize("family", FAMILIES, ids=name_of)
def test_the_number_in_a_mistake_is_found(family):
    """Neither the catalogue's nor a usual one: 3.7 times its own."""
    value = 3.7 * family.parameter
    report = program(lambda check: mistaken(family.at(value), check))
    (explanation,) = report.explanations
    assert explanation.name == name_of(family)
    assert abs(explanation.mistake.parameter / value - 1.0) < 1e-3
    assert f"{value:.3g}" in as_text(report)


@pytest.mark.parametrize("mistake", [ExchangedArguments, ExchangedLogits, MissingSoftplus], ids=name_of)
def test_slopes_of_wrong_likelihoods_are_those_of_their_values(mistake):
    """By central differences: a program that differentiates its wrong value has no other gradient."""
    check = next(c for c in checks() if c.quantity == "grad_log_marginal" and c.error is None)
    wrong, rng = mistake(problem_of(check)), np.random.default_rng(0)
    x, logits, step = (rng.random((4, 3)) < 0.5).astype(float), rng.normal(size=(4, 3)), 1e-6
    for i in range(3):
        ahead, behind = (wrong.log_x_bits(x, logits + sign * step * np.eye(3)[i]) for sign in (1, -1))
        found = wrong.x_delta(x, logits)[:, i]
        np.testing.assert_allclose(found, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-7)


class _TextbookSigmoid(Plain):
    """log(1 - p), and a sum of zeros that is 0, as a framework has them."""

    def log_bernoulli_terms(self, bits, logits):
        p = np.where(-logits > np.log(np.finfo(self.dtype).max), 0, 1 / (1 + np.exp(-logits)))
        return np.log(np.where(bits == 1, p, 1 - p))

    def log_sum_exp(self, table):
        largest = np.nan_to_num(table.max(axis=1), neginf=0) if len(table) else np.zeros(0)
        return largest + np.log(np.exp(table - largest[:, None]).sum(axis=1))


def test_where_all_that_comes_is_infinite_no_other_mistake_is_named():
    report = program(lambda check: _TextbookSigmoid(problem_of(check)).answer())
    assert [each.name for each in report.explanations] == ["rounded-probability"]
    assert set(report.explanations[0].quantities) >= {"log_marginal", "vlb_terms", "posterior", "log_prior"}


class _AutodiffOfAnUnshiftedSum(Plain):
    """In float32, by autodiff: the posterior enters the gradient as e^t / sum of e^t, and is right otherwise."""

    dtype = np.float32

    def log_marginal(self):
        return np.log(np.exp(self.joint_table(0, self.x)).sum(axis=1))

    def grad_log_marginal(self):
        terms = np.exp(self.joint_table(0, self.x))
        return self.joint_gradient(0, self.x, terms / terms.sum(axis=1, keepdims=True))


def test_the_gradient_of_a_sum_that_underflowed_is_named_with_it():
    report = program(lambda check: _AutodiffOfAnUnshiftedSum(problem_of(check)).answer(), "float32")
    assert {each.name for each in report.explanations} == {"unshifted-sum"}
    assert "grad_log_marginal" in {name for each in report.explanations for name in each.quantities}


def test_losses_of_libraries_are_named():
    """-VLB; reconstruction plus KL; beta = 4; KL averaged over the latents; reconstruction over the pixels."""
    for shares, title in (
        ((-1.0, "", -1.0, "", -1.0, ""), "the loss, -VLB"),
        ((-1.0, "", 1.0, "", -1.0, ""), "the reconstruction plus KL(q || p(z)) instead of minus"),
        ((4.0, "", 1.0, "", 4.0, ""), "in the VLB the prior term times 4, the entropy times 4"),
        ((1.0, "K", 1.0, "", 1.0, "K"), "in the VLB the prior term times 1 / latents, the entropy times 1 / latents"),
        ((1.0, "", 1.0, "N", 1.0, ""), "in the VLB the reconstruction times 1 / rows"),
    ):
        a, by_a, b, by_b, c, by_c = shares
        mistake = WeightedTerms.of((Share(a, by_a), Share(b, by_b), Share(c, by_c)))
        report = program(lambda check, mistake=mistake: mistaken(mistake, check))
        assert [each.mistake.title for each in report.explanations] == [title]
        assert set(report.explanations[0].quantities) <= {"vlb", "grad_vlb", "iwae", "grad_iwae", "rws_update"}


def test_a_factor_in_one_quantity_is_said_with_the_quantity():
    """log p(x) in bits would be the catalogue's; 0.25 is nobody's."""
    quarter = Multiplied.of(Share(0.25))
    report = program(lambda check: mistaken(quarter, check) if check.quantity == "log_marginal" else right(check))
    (explanation,) = report.explanations
    assert explanation.quantities == ("log_marginal",)
    assert explanation.alone
    assert "the right result times 0.25 in log_marginal, and there alone" in as_text(report)


def test_lost_digits_are_no_mistake():
    """Every number right to 13 digits, as after a cancellation: within a thousand tolerances, and so it is said."""
    rng = np.random.default_rng(0)

    def answer(check):
        values = as_parts(right(check))
        if QUANTITIES[check.quantity].kind == "draws":
            return values
        return {name: value * (1.0 + 2e-14 * rng.uniform(-1, 1, value.shape)) for name, value in values.items()}

    report = program(answer)
    assert report.verdict == "differs"
    assert report.explanations == []
    assert 13.0 < report.imprecision.digits < 15.0
    assert "Imprecise rather than wrong" in as_text(report)
    assert as_json(report)["imprecise"]["digits"] == round(report.imprecision.digits, 1)


def test_a_right_answer_that_lost_digits_at_large_logits_accuses_no_mistake_of_other_layers():
    """One VLB of a shallow model, off by a hundred tolerances: nothing about layers above z."""

    def answer(check):
        values = as_parts(right(check))
        if check.id == "extreme-logits/vlb":
            finite = np.isfinite(values[""])
            off = 100.0 * 2.0**-53 * check.expected[""].scale
            return {"": np.where(finite, values[""] + off, values[""])}
        return values

    report = program(answer)
    assert [outcome.check.id for outcome in report.outcomes if outcome.status == "failed"] == ["extreme-logits/vlb"]
    assert report.explanations == []
    assert report.imprecision is not None


def test_an_epsilon_is_not_single_precision_and_single_precision_is():
    epsilon = next(family for family in FAMILIES if name_of(family) == "epsilon-in-logarithm").at(1e-10)
    assert [e.name for e in program(lambda check: mistaken(epsilon, check)).explanations] == ["epsilon-in-logarithm"]
    single = program(lambda check: mistaken(SinglePrecision, check))
    assert [e.mistake for e in single.explanations] == [SinglePrecision]


def every_other_program(first, step):
    """(verdict, kind, what was done, number) of the random programs first, first + step, ..."""
    script = runpy.run_path(str(SCRIPT))
    verdicts = []
    for n, variant in enumerate(script["variants"](np.random.default_rng(7), 216)):
        if n % step == first:
            who = Implementation("variant", str(n), "Python", variant.precision)
            report = examine(who, tuple(QUANTITIES), script["asked"](variant, np.random.default_rng(n)), Chosen(ONLY))
            verdicts.append((script["judged"](variant, report), variant.kind, [m.title for m in variant.truth], n))
    return verdicts


def test_random_programs_are_never_named_wrongly(capsys):
    """216 of them, on eight cases: epsilons, weights, factors, pairs, single precision, noise. On all cores."""
    cores = available_cores()
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        shares = pool.map(every_other_program, range(cores), [cores] * cores)
        verdicts = [verdict for share in shares for verdict in share]
    assert sorted(n for *_, n in verdicts) == list(range(216))
    with capsys.disabled():
        named = sum(verdict == "named" for verdict, *_ in verdicts)
        print(f"\n{named} of {len(verdicts)} random programs named, {sum(v == 'passes' for v, *_ in verdicts)} pass")
    assert [each for each in verdicts if each[0] == "wrong"] == []
    unnamed = [each for each in verdicts if each[0] == "not named" and each[1] != "unknown"]
    assert len(unnamed) <= 4, unnamed
