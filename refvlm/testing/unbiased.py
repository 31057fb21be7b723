"""Asserts that an estimator of another implementation has the exact mean; the strongest test comes first.

`assert_unbiased_exact` has the implementation evaluate its estimator at every z: no noise at all, and so no doubt.
`assert_unbiased` sees draws alone, a black box, and says FAIL or PASS with error rates that are proved (`betting`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..checks import as_array, check_choice, check_count
from ..conformance.mistakes import CATALOGUE, OF_DRAWS, SinglePrecision
from ..inference.bounds import grad_vlb, vlb
from ..inference.exact import log_marginal
from ..inference.gradient_estimators import Estimator
from ..model.latent_variable import BernoulliLVM
from ..progress import ProgressBar
from ..types import Floats
from .betting import InconclusiveError, Plan, SequentialTest, Verdict, plan_test
from .drawing import FIRST_BATCH, Drawer, batches, check_most, conclusive
from .estimators import FactorisedPosterior, OneRow, one_row, rounding_of
from .gradients import FreeVectors, Whitened, flatten
from .moments import of_estimator
from .rounding import model_sizes, q_sizes, unit
from .samples import assert_samples_match

QUANTITIES = ("vlb", "marginal", "grad_vlb")
_SMALLEST = -600.0


def plan_samples(
    model: BernoulliLVM,
    q: FactorisedPosterior,
    x: ArrayLike,
    *,
    quantity: str = "vlb",
    samples: int = 1,
    baseline: float = 0.0,
    precision: str = "float64",
    delta: float = 0.1,
    alpha: float = 1e-6,
) -> int:
    """Returns how many draws `assert_unbiased` with these arguments will take at most. x: one row, (1, L).

    About 80 / delta**2 for well-behaved estimators; more where the range over z is many standard deviations wide.
    """
    check_choice("quantity", quantity, QUANTITIES)
    row = one_row(model, q, x)
    if quantity == "grad_vlb":
        return Whitened(row.gradients(baseline), row.probabilities, samples, unit(precision), delta, alpha).plan_draws
    return _scalar_plan(row, quantity, samples, precision, delta, alpha).draws


def assert_unbiased(
    draw: Drawer,
    model: BernoulliLVM,
    q: FactorisedPosterior,
    x: ArrayLike,
    *,
    quantity: str = "vlb",
    samples: int = 1,
    estimator: str | Estimator = "score-function",
    baseline: float = 0.0,
    bounds: tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]] | None = None,
    precision: str = "float64",
    delta: float = 0.1,
    alpha: float = 1e-6,
    most: int = 10_000_000,
) -> Verdict:
    """Raises AssertionError if the draws do not have the right mean, InconclusiveError if that stays open.

    draw(n): n independent draws (your promise) of the estimator at the one row x (1, L), z from q(z | x):
        quantity "vlb"       (n,) estimates of the VLB, each the mean of `samples` of log p(x, z) - log q(z)
        quantity "marginal"  (n,) estimates of p(x), each the mean of `samples` of p(x, z) / q(z)
        quantity "grad_vlb"  a dict of (n, *shape), by the names of `refvlm.grad_vlb` or some of them; estimator
                             "score-function" with a constant `baseline`, or "other", for any that brings its own
                             baseline: then `bounds`, the smallest and the largest draw by name, must be given.
    estimator: one of refvlm.gradient_estimators, such as DisArm(samples=2), asks instead whether (n, K) draws of a
    gradient in the logits of q have the exact mean of that estimator. A thousand draws choose the bets first.
    delta: PASS asserts that the bias is at most delta standard deviations of a draw. alpha: the probability of a wrong
    FAIL, and of a wrong PASS, over the whole call; a gradient's is split over its directions. Draws stop as soon as it
    is decided, at the latest after `plan_samples(...)`; more than `most` are refused before the first.

    Returns the verdict: .outcome "PASS", .draws, .mean.
    """
    check_choice("quantity", quantity, QUANTITIES)
    check_count("samples", samples, 1)
    row = one_row(model, q, x)
    if isinstance(estimator, Estimator):
        if samples != 1 or baseline != 0.0 or bounds is not None or quantity not in ("vlb", "grad_vlb"):
            raise ValueError(
                "estimator: got one of refvlm.gradient_estimators together with samples, baseline, bounds or another "
                "quantity, wanted it alone: it has its own"
            )
        return of_estimator(draw, row, estimator, False, precision, delta, alpha, most)
    if quantity == "grad_vlb":
        check_choice("estimator", estimator, ("score-function", "other"))
        return _gradient(draw, row, samples, estimator, baseline, bounds, precision, delta, alpha, most)
    plan = _scalar_plan(row, quantity, samples, precision, delta, alpha)
    check_most(plan.draws, most, plan.remark)
    scale = 1.0 if quantity == "vlb" else float(np.exp(-log_marginal(row.model, row.x)[0]))
    test = SequentialTest(plan)
    verdict = None
    with ProgressBar(f"draws of {quantity}") as bar:
        for done, count in batches(plan.draws):
            verdict = test.update(_scalars(draw, count) * scale)
            bar(done + count, plan.draws)
            if verdict is not None:
                break
    verdict = verdict or test.conclude()
    if verdict.outcome == "PASS":
        return verdict
    raise _failure(quantity, verdict, plan, _hint(draw, row, plan) if quantity == "vlb" else "")


def assert_unbiased_exact(
    values: Any,
    model: BernoulliLVM,
    q: FactorisedPosterior,
    x: ArrayLike,
    *,
    draw_z: Drawer,
    quantity: str = "vlb",
    precision: str = "float64",
    delta: float = 0.1,
    alpha: float = 1e-6,
) -> Verdict:
    """Raises AssertionError unless an estimator's values at every z are right and its z are drawn from q.

    values: for the one row x (1, L), in the order of the codes (z_k = (c >> k) & 1),
        quantity "vlb", "marginal"  (2**K,): compared one by one
        quantity "grad_vlb"         a dict of (2**K, *shape), by the names of `refvlm.grad_vlb` or some of them: their
                                    mean under q(z | x) is compared, with a tolerance from the mean of their magnitudes,
                                    so any baseline will do.
    draw_z(n): (n, K) bits drawn as the estimator draws them, tested by `assert_samples_match` with delta and alpha,
    since values at every z say nothing about the draws.
    """
    check_choice("quantity", quantity, QUANTITIES)
    row = one_row(model, q, x)
    if quantity == "grad_vlb":
        _exact_gradient(values, row, precision)
    else:
        _exact_values(values, row, quantity, precision)
    return assert_samples_match(draw_z, row.probabilities, delta=delta, alpha=alpha)


# Scalars ---------------------------------------------------------------------------------------------------------


def _scalar_plan(row: OneRow, quantity: str, samples: int, precision: str, delta: float, alpha: float) -> Plan:
    tolerance = rounding_of(row, precision)
    if quantity == "vlb":
        values, mean = row.signal, float(vlb(row.model, row.q, row.x)[0])
    else:
        log_px = float(log_marginal(row.model, row.x)[0])
        if log_px < _SMALLEST:
            raise ValueError(f"x: got a row with log p(x) = {log_px:.6g}: p(x) itself underflows; test quantity='vlb'")
        values, mean = np.exp(row.signal - log_px), 1.0
        tolerance *= float(values[row.probabilities > 0].max())
    if not np.isfinite(mean):
        raise ValueError("q: puts mass on a z of zero prior probability, VLB = -inf: no estimator has a mean there")
    q = row.probabilities
    return plan_test(values, q, mean=mean, averaged=samples, tolerance=tolerance, delta=delta, alpha=alpha)


def _scalars(draw: Drawer, count: int) -> Floats:
    got = as_array("draw", draw(count)).astype(np.float64)
    if got.shape != (count,):
        raise ValueError(f"draw({count}): got shape {got.shape}, wanted ({count},)")
    return got


def _exact_values(values: Any, row: OneRow, quantity: str, precision: str) -> None:
    got = as_array("values", values).astype(np.float64)
    if got.shape != row.signal.shape:
        raise ValueError(f"values: got shape {got.shape}, wanted {row.signal.shape}: one for each code")
    desired, allowed = row.signal, rounding_of(row, precision)
    if quantity == "marginal":
        log_px = log_marginal(row.model, row.x)[0]
        desired, got = np.exp(desired - log_px), got * np.exp(-log_px)
        allowed *= float(desired.max())
    reached = row.probabilities > 0
    off = np.where(reached & (got != desired), np.abs(got - desired), 0.0)
    if (off <= allowed).all():
        return
    code = int(np.argmax(np.where(np.isnan(off), np.inf, off)))
    z = [int(code >> k) & 1 for k in range(row.model.latents)]
    said = (
        f"{quantity}: at z = {z} (code {code}): got {got[code]:.17g}, wanted {desired[code]:.17g}; "
        f"{int((~(off <= allowed)).sum())} of {len(got)} codes wrong, rounding explains {allowed:.2g}"
    )
    if quantity == "vlb":
        fitting = [
            mistake
            for mistake, wrong in row.mistaken(CATALOGUE)
            if mistake is not SinglePrecision and np.allclose(got[reached], wrong[reached], rtol=1e-9, atol=1e-12)
        ]
        said += "".join(f"\n  the values equal those with {mistake.advice()}" for mistake in fitting[:2])
    raise AssertionError(said)


def _hint(draw: Drawer, row: OneRow, plan: Plan) -> str:
    """Names the mistakes whose mean is near that of some more draws."""
    mean, error = float(_scalars(draw, FIRST_BATCH).mean()), 4 * plan.sigma / np.sqrt(FIRST_BATCH)
    reached = row.probabilities > 0
    means = [(mistake, float(row.probabilities[reached] @ wrong[reached])) for mistake, wrong in row.mistaken(OF_DRAWS)]
    return "".join(
        f"\n  the draws are about {mean:.6g}; their mean would be {value:.6g} with {mistake.advice()}"
        for mistake, value in means
        if abs(value - mean) <= error
    )


def _failure(quantity: str, verdict: Verdict, plan: Plan, hint: str) -> AssertionError:
    if verdict.outcome == "INCONCLUSIVE":
        remark = f"; {plan.remark}" if plan.remark else ""
        return InconclusiveError(
            f"{quantity}: neither PASS nor FAIL after {verdict.draws} draws, of mean {verdict.mean:.9g} where "
            f"{plan.mean:.9g} is wanted: the bias may lie between rounding and {plan.delta:g} standard deviations of "
            f"{plan.sigma:.3g}; ask for a larger delta, or use assert_unbiased_exact{remark}"
        )
    return AssertionError(
        f"{quantity}: FAIL after {verdict.draws} draws: {verdict.reason}; their mean is {verdict.mean:.9g}, wanted "
        f"{plan.mean:.9g} (wrong with probability at most {plan.alpha:.1g}){hint}"
    )


# Gradients -------------------------------------------------------------------------------------------------------


def _gradient(
    draw: Drawer,
    row: OneRow,
    samples: int,
    estimator: str,
    baseline: float,
    bounds: tuple[Mapping[str, ArrayLike], Mapping[str, ArrayLike]] | None,
    precision: str,
    delta: float,
    alpha: float,
    most: int,
) -> Verdict:
    drawn = draw(FIRST_BATCH)
    if not isinstance(drawn, Mapping):
        raise TypeError(f"draw: got {type(drawn).__name__}, wanted a dict of arrays (n, *shape) by parameter")
    exact = grad_vlb(row.model, row.q, row.x)
    unknown = sorted(drawn.keys() - exact.keys())
    if unknown or not drawn:
        raise ValueError(f"draw: got the name {unknown[0] if unknown else None!r}, wanted some of {', '.join(exact)}")
    names = [name for name in exact if name in drawn]
    tests: Whitened | FreeVectors
    if estimator == "other":
        if bounds is None:
            raise InconclusiveError(
                "grad_vlb: of an estimator with a baseline of its own nothing bounds the draws: give "
                "bounds=(low, high), dicts of the smallest and the largest draw by name, or use assert_unbiased_exact"
            )
        tests = FreeVectors(names, exact, bounds, drawn, unit(precision), delta, alpha)
        drawn = draw(FIRST_BATCH)  # those before have served for the bets
    else:
        table = row.gradients(baseline)
        chosen = {name: table[name] for name in names}
        tests = Whitened(chosen, row.probabilities, samples, unit(precision), delta, alpha)
    return conclusive(
        tests, most, "grad_vlb", lambda done, count: flatten(
            drawn if done == 0 and count == FIRST_BATCH else draw(count), names, exact, count
        )
    )  # fmt: skip


def _exact_gradient(values: Any, row: OneRow, precision: str) -> None:
    if not isinstance(values, Mapping):
        raise TypeError(f"values: got {type(values).__name__}, wanted a dict of arrays (2**K, *shape) by parameter")
    exact = grad_vlb(row.model, row.q, row.x)
    q = row.probabilities
    error = 2 * model_sizes(row.model).error + 2 * q_sizes(row.q, row.model.latents).error + len(q)
    table = row.gradients(0.0)
    for name, value in values.items():
        if name not in exact:
            raise ValueError(f"values: got the name {name!r}, wanted some of {', '.join(exact)}")
        got = as_array(name, value).astype(np.float64)
        if got.shape != (len(q), *exact[name].shape):
            raise ValueError(f"values: {name}: got shape {got.shape}, wanted {(len(q), *exact[name].shape)}")
        mean = np.tensordot(q, got, axes=1)
        sizes = np.tensordot(q, np.maximum(np.abs(got), np.abs(table[name])), axes=1)
        off = np.abs(mean - exact[name])
        allowed = sizes * error * unit(precision)
        if (off <= allowed).all():
            continue
        index = tuple(int(i) for i in np.unravel_index(int(np.argmax(off - allowed)), off.shape))
        ratio = mean[index] / exact[name][index] if exact[name][index] else np.inf
        raise AssertionError(
            f"grad_vlb by {name}: entry {list(index)}: the mean over z under q is {mean[index]:.17g}, wanted "
            f"{exact[name][index]:.17g} ({ratio:.6g} times); rounding explains {allowed[index]:.2g}"
        )
