"""Exact moments of gradient estimators, by size and state of training: `python validation/estimators.py [FOLDER]`.

Models with K latent bits are taken untrained, after two epochs and after thirty, all on one course of ascent on the
exact VLB. At rows that nothing was learnt from, every estimator of the gradient in q's logits has its bias, variance
and signal/noise by `refvlm.gradient_estimators.compare`, which samples nothing. digits come with refvlm; FOLDER holds
NAME/NAME.train.data and NAME/NAME.test.data, comma-separated zeros and ones, as in the DEBD collection.

Checked, for K up to 4: mean and covariance of every estimator against sums over all codes, all pairs of a code and its
antithetic twin, or all tuples of codes, written here with NumPy alone; and for every model, the inequalities between
variances that are theorems.

`--write` puts the tables into estimators.md and keeps the reading there, each of whose numbers must stand in the
tables; `--reading` only looks whether it does.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import common
import numpy as np
from numpy.typing import NDArray
from scipy.integrate import quad

import refvlm
from refvlm import gradient_estimators as ge

Floats = NDArray[np.float64]
Bits = NDArray[np.uint8]

PAGE = Path(__file__).resolve().with_suffix(".md")
READING, END = "<!-- reading, by hand; kept by --write -->", "<!-- end of the reading -->"

LEARN, HELD_OUT = 1200, 20
"""Rows to learn from, and rows at which moments are computed, in a fixed random order."""

ROWS = {12: 10, 14: 5, 16: 3}
"""Of these the first so many, where K is large."""

STATES = {"untrained": 0, "early": 2, "trained": 30}
"""Epochs."""

COURSE: dict[str, Any] = {
    "hidden": (32,), "method": "vlb", "batch_size": 100, "learning_rate": 0.02, "schedule": "constant",
    "weight_decay": 0.0, "validation": False, "evaluate_every": STATES["early"], "seed": 0,
}  # fmt: skip

SIZES, QUICK_SIZES = (3, 4, 6, 8, 10, 12, 14, 16), (3, 4)
CHECKED = 4
"""The largest K whose moments are summed again here."""

TUPLES = 1 << 16
"""The most tuples of codes that are summed over here."""

SUMMED_ROWS = 5
"""Rows at which moments are summed again."""

MOST_SETS = 10**6
"""Of VIMCO's multisets; more would take more than seconds a row."""

RELATIVE = 1e-11
"""Allowed, of the size of what is added up; sums in float64 and integrals are good to 1e-12 of it."""

CONSTANT = "reinforce, mean VLB as baseline"


def estimators(latents: int, baseline: float) -> dict[str, ge.Estimator]:
    """All by label; VIMCO only where the sum over sets of codes takes seconds."""
    codes = 1 << latents
    found: dict[str, ge.Estimator] = {
        "reinforce": ge.Reinforce(),
        CONSTANT: ge.Reinforce(baseline=baseline),
        "nvil": ge.Nvil(),
        "leave-one-out 2": ge.LeaveOneOut(2),
        "leave-one-out 4": ge.LeaveOneOut(4),
        "muprop": ge.MuProp(),
        "local-expectation": ge.LocalExpectation(),
        "arm": ge.Arm(),
        "disarm": ge.DisArm(),
        "vimco 2": ge.Vimco(2),
        "vimco 5": ge.Vimco(5),
        "straight-through": ge.StraightThrough(),
        "gumbel, temperature 1": ge.StraightThroughGumbel(temperature=1.0),
        "gumbel, temperature 0.5": ge.StraightThroughGumbel(temperature=0.5),
        "reweighted-wake 2": ge.ReweightedWake(2),
        "reweighted-wake 5": ge.ReweightedWake(5),
        "reweighted-wake 50": ge.ReweightedWake(50),
    }
    sets = {"vimco 2": codes**2 / 2, "vimco 5": codes**5 / 120}
    return {label: each for label, each in found.items() if sets.get(label, 0) <= MOST_SETS}


# The same moments again, from the arrays of the networks, with NumPy alone. A row has x (L,) and q's logits (K,).


class Table(NamedTuple):
    """Of one row: codes z (2**K, K), log w = log p(x, z) - log q(z) in nats (2**K,), q (2**K,), scores (2**K, K).

    slopes: d log w / d z of the extension in which log p(z) and log q(z) are linear, (2**K, K). at_mean: log w and its
    slopes at z = phi. logits: of q, (K,).
    """

    logits: Floats
    z: Floats
    f: Floats
    q: Floats
    score: Floats
    slopes: Floats
    at_mean: tuple[float, Floats]


def log_sigmoid(a: Floats) -> Floats:
    """log 1 / (1 + e^-a)."""
    value: Floats = -np.logaddexp(0.0, -a)
    return value


def sigmoid(a: Floats) -> Floats:
    """1 / (1 + e^-a), to relative rounding on both sides."""
    value: Floats = np.exp(log_sigmoid(a))
    return value


def forward(network: object, h: Floats) -> tuple[Floats, Floats]:
    """Logits and hidden units of an MLP with one hidden layer of tanh."""
    assert isinstance(network, refvlm.MLP)
    (first, second), (shift, bias) = network.weights, network.biases
    hidden = np.tanh(h @ first + shift)
    return hidden @ second + bias, hidden


def summed(model: refvlm.BernoulliLVM, logits: Floats, x: Bits) -> Table:
    """The table of a row."""
    latents = len(logits)
    z = ((np.arange(1 << latents)[:, None] >> np.arange(latents)) & 1).astype(np.float64)
    assert isinstance(model.prior, refvlm.Bernoulli)
    assert isinstance(model.decoder, refvlm.MLP)
    prior, decoder = model.prior.logits, model.decoder

    def extension(z: Floats) -> tuple[Floats, Floats]:
        a, hidden = forward(decoder, z)
        of_q = (z * logits - np.logaddexp(0.0, logits)).sum(axis=1)
        log_p = (x * a - np.logaddexp(0.0, a)).sum(axis=1) + (z * prior - np.logaddexp(0.0, prior)).sum(axis=1)
        pull = ((x - sigmoid(a)) @ decoder.weights[1].T * (1.0 - hidden**2)) @ decoder.weights[0].T
        return log_p - of_q, pull + prior - logits

    f, slopes = extension(z)
    phi = sigmoid(logits)
    value, slope = extension(phi[None])
    q = np.where(z == 1, phi, sigmoid(-logits)).prod(axis=1)
    score = np.where(z == 1, sigmoid(-logits), -phi)
    return Table(logits, z, f, q, score, slopes, (float(value[0]), slope[0]))


Sums = tuple[Floats, Floats]
"""Mean (K,) and covariance (K, K)."""


def moments(weights: Floats, values: Floats) -> Sums:
    """Of a vector that has these values, (C, K), with these probabilities, (C,)."""
    mean = weights @ values
    centred = values - mean
    return mean, (centred.T * weights) @ centred


def of_codes(t: Table, signal: Floats) -> Sums:
    """Signal (2**K,) times score."""
    return moments(t.q, signal[:, None] * t.score)


def of_tuples(t: Table, draws: int, signal: Callable[[Floats], Floats]) -> Sums:
    """Over all tuples of codes: the sum over draws of signal, (C, draws) from f of that shape, times score."""
    tuples = np.indices((len(t.q),) * draws).reshape(draws, -1).T
    values = np.einsum("cs,csk->ck", signal(t.f[tuples]), t.score[tuples])
    return moments(t.q[tuples].prod(axis=1), values)


def leave_one_out(f: Floats) -> Floats:
    """(f_s - mean of the others) / S."""
    count = f.shape[1]
    others = np.stack([np.delete(f, s, axis=1).mean(axis=1) for s in range(count)], axis=1)
    value: Floats = (f - others) / count
    return value


def vimco(f: Floats) -> Floats:
    """L - L_-s - u_s, f_s being replaced by the mean of the others."""
    count = f.shape[1]
    whole = np.logaddexp.reduce(f, axis=1)
    signal = np.empty_like(f)
    for s in range(count):
        rest = np.delete(f, s, axis=1)
        without = np.logaddexp(np.logaddexp.reduce(rest, axis=1), rest.mean(axis=1))
        signal[:, s] = whole - without - np.exp(f[:, s] - whole)
    return signal


def reweighted(f: Floats) -> Floats:
    """Normalised importance weights."""
    value: Floats = np.exp(f - np.logaddexp.reduce(f, axis=1)[:, None])
    return value


def antithetic(t: Table, spread: bool) -> Sums:
    """DisARM over all 4**K pairs of a code and its twin, and ARM (spread), whose u is uniform on what a pair leaves.

    Bit by bit, with n the smaller of phi and 1 - phi: (1, 0) for u < n, (0, 1) for u > 1 - n, equal bits between.
    """
    n, larger = sigmoid(-np.abs(t.logits)), sigmoid(np.abs(t.logits))
    first, second = (index.ravel() for index in np.indices((len(t.q), len(t.q))))
    z, twin = t.z[first], t.z[second]
    usual = (t.logits > 0).astype(np.float64)
    of_bits = np.where(z != twin, n, np.where(z == usual, 1.0 - 2.0 * n, 0.0))
    weights, difference = of_bits.prod(axis=1), t.f[first] - t.f[second]
    middle = (z - twin) * larger / 2.0  # of 1/2 - u, given the pair
    mean, covariance = moments(weights, difference[:, None] * middle)
    if spread:
        width = np.where(z != twin, n, 1.0 - 2.0 * n)
        covariance[np.diag_indices(len(n))] += (weights * difference**2) @ (width**2 / 12.0)
    return mean, covariance


def turned(t: Table) -> Sums:
    """Local expectation: f with bit k on less f with it off, times phi (1 - phi)."""
    code = np.arange(len(t.q))
    values = np.empty_like(t.score)
    for k in range(len(t.logits)):
        values[:, k] = t.f[code | (1 << k)] - t.f[code & ~(1 << k)]
    return moments(t.q, values * sigmoid(t.logits) * sigmoid(-t.logits))


def muprop(t: Table) -> Sums:
    """f less its tangent at phi, times score, and the tangent's exact gradient."""
    value, slope = t.at_mean
    phi = sigmoid(t.logits)
    line = value + (t.z - phi) @ slope
    return moments(t.q, (t.f - line)[:, None] * t.score + slope * phi * sigmoid(-t.logits))


def straight_through(t: Table) -> Sums:
    """Slopes at the draw times phi (1 - phi)."""
    return moments(t.q, t.slopes * sigmoid(t.logits) * sigmoid(-t.logits))


def gumbel(t: Table, temperature: float) -> Sums:
    """Slopes at the draw times y (1 - y) / t, whose moments given the bit are integrals over r = |logit(u) - logit|."""

    def moment(logit: float, power: int) -> float:
        def integrand(r: float) -> float:
            log_y = -np.logaddexp(0.0, -r / temperature) - np.logaddexp(0.0, r / temperature) - np.log(temperature)
            density = -np.logaddexp(0.0, r - logit) - np.logaddexp(0.0, logit - r) + np.logaddexp(0.0, -logit)
            return float(np.exp(power * log_y + density))

        ends = [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0]
        return sum(float(quad(integrand, a, b, epsabs=0.0, epsrel=1e-13)[0]) for a, b in itertools.pairwise(ends))

    table = np.array([[[moment(sign * a, power) for a in t.logits] for sign in (-1.0, 1.0)] for power in (1, 2)])
    of_first, of_second = (np.where(t.z == 1, on, off) for off, on in table)
    mean, covariance = moments(t.q, t.slopes * of_first)
    covariance[np.diag_indices(len(mean))] += t.q @ (t.slopes**2 * (of_second - of_first**2))
    return mean, covariance


def again(label: str, estimator: ge.Estimator, t: Table) -> Sums | None:
    """The moments of this estimator by the sums above; None where there are too many tuples."""
    match estimator:
        case ge.Reinforce():
            return of_codes(t, t.f - float(np.asarray(estimator.baseline)))
        case ge.Nvil():
            return of_codes(t, t.f - t.q @ t.f)
        case ge.Arm() | ge.DisArm():
            return antithetic(t, spread=isinstance(estimator, ge.Arm))
        case ge.LocalExpectation():
            return turned(t)
        case ge.MuProp():
            return muprop(t)
        case ge.StraightThrough():
            return straight_through(t)
        case ge.StraightThroughGumbel():
            return gumbel(t, estimator.temperature)
    signal = {"leave-one-out": leave_one_out, "vimco": vimco, "reweighted-wake": reweighted}[label.split()[0]]
    draws = estimator.samples
    return of_tuples(t, draws, signal) if len(t.q) ** draws <= TUPLES else None


# One model at one state, and what is asked of it.


class Line(NamedTuple):
    """Of one estimator over the rows, as `Moments.overall`: root mean squares of norms, the mean of variances.

    gradient: of its objective. cosine: between mean and gradient, all rows' vectors put end to end.
    """

    unbiased: bool
    evaluations: int
    bias: float
    size: float
    variance: float
    signal: float
    gradient: float
    cosine: float

    @property
    def paid(self) -> float:
        """Variance times evaluations."""
        return self.variance * self.evaluations


class Cell(NamedTuple):
    """One model: rows, means over them of VLB and log p(x) in nats, and a line for each estimator by label."""

    rows: int
    vlb: float
    log_px: float
    lines: dict[str, Line]


class Check(NamedTuple):
    """The arguments of `common.Report.check`."""

    family: str
    expected: Any
    got: Any
    allowed: Any
    where: str


class Job(NamedTuple):
    """A data set, K and the rows: one course with its states."""

    data: str
    latents: int
    learn: Bits
    held_out: Bits


def rows(folder: Path | None, name: str) -> tuple[Bits, Bits]:
    """Rows to learn from, and others."""
    rng = np.random.default_rng(0)
    if name == "digits":
        mixed = rng.permutation(refvlm.digits())
        return mixed[:LEARN], mixed[LEARN : LEARN + HELD_OUT]
    assert folder is not None
    parts = (
        np.loadtxt(folder / name / f"{name}.{part}.data", delimiter=",", dtype=np.uint8) for part in ("train", "test")
    )
    learn, test = (rng.permutation(part) for part in parts)
    return learn[:LEARN], test[:HELD_OUT]


def course(job: Job, checks: list[Check]) -> dict[str, refvlm.Fit]:
    """The model at every state; the fits of more epochs pass through those of fewer."""
    fits = {state: refvlm.fit(job.learn, job.latents, epochs=epochs, workers=1, **COURSE)
            for state, epochs in STATES.items()}  # fmt: skip
    early, later = fits["early"].history[-1], fits["trained"].history[0]
    assert early.epoch == later.epoch == STATES["early"]
    checks.append(
        Check("the states lie on one course: VLB after two epochs", later.vlb, early.vlb, 0.0,
              f"{job.data}, K = {job.latents}")
    )  # fmt: skip
    return fits


def run(job: Job) -> tuple[dict[str, Cell], list[Check]]:
    """The cells of a job by state, and what was checked."""
    checks: list[Check] = []
    begun = time.perf_counter()
    fits, cells = course(job, checks), {}
    print(f"{job.data}, K = {job.latents}: learnt, {time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)
    for state, fitted in fits.items():
        begun, where = time.perf_counter(), f"{job.data}, K = {job.latents}, {state}"
        cells[state] = cell(job, fitted, where, checks)
        print(f"{where}: VLB {cells[state].vlb:.3f}, {len(cells[state].lines)} estimators at {cells[state].rows} rows, "
              f"{time.perf_counter() - begun:.1f} s", file=sys.stderr, flush=True)  # fmt: skip
    return cells, checks


def cell(job: Job, fitted: refvlm.Fit, where: str, checks: list[Check]) -> Cell:
    """One model at its rows."""
    model, q = fitted.model, fitted.posterior
    assert isinstance(q, refvlm.AmortisedPosterior)
    x = job.held_out[: ROWS.get(job.latents, HELD_OUT)]
    chosen = estimators(job.latents, float(refvlm.vlb(model, q, job.learn, workers=1).mean()))
    found = dict(zip(chosen, ge.compare(model, q, x, list(chosen.values()), workers=1), strict=True))
    logits = forward(q.encoder, x.astype(np.float64))[0]
    own = refvlm.PerDatumPosterior(logits)
    gradients = {
        "vlb": refvlm.grad_vlb(model, own, x, workers=1)["posterior.logits"],
        "inclusive": refvlm.posterior_mean(model, x, workers=1) - sigmoid(logits),
    }
    theorems(found, where, checks)
    scale = np.linalg.norm(gradients["vlb"], axis=1) + np.sqrt(found["nvil"].variance)  # the terms of the gradient
    for label, estimator in chosen.items():
        if estimator.unbiased and estimator.objective == "vlb":
            mean = estimator.mean(model, q, x, workers=1)
            checks.append(Check("mean of unbiased estimators is grad_vlb", gradients["vlb"], mean,
                                RELATIVE * scale[:, None], f"{where}, {label}"))  # fmt: skip
    if job.latents <= CHECKED:
        hold(model, q, x[:SUMMED_ROWS], logits[:SUMMED_ROWS], chosen, where, checks)
    whole = refvlm.decompose(model, q, x, workers=1)
    lines = {label: line(each, gradients.get(each.estimator.objective)) for label, each in found.items()}
    return Cell(len(x), float(whole.vlb.mean()), float(whole.log_px.mean()), lines)


def theorems(found: dict[str, ge.Moments], where: str, checks: list[Check]) -> None:
    """Inequalities between the variances at every row."""
    order = [
        ("local expectation: variance above REINFORCE's by", "local-expectation", "reinforce"),
        ("local expectation: variance above REINFORCE's by", "local-expectation", CONSTANT),
        ("local expectation: variance above NVIL's by", "local-expectation", "nvil"),
        ("DisARM: variance above ARM's by", "disarm", "arm"),
        ("leave-one-out, 4 draws: variance above that of 2 by", "leave-one-out 4", "leave-one-out 2"),
    ]
    for family, least, most in order:
        excess = np.maximum(found[least].variance - found[most].variance, 0.0)
        checks.append(Check(family, 0.0, excess, RELATIVE * found[most].variance, where))
    for each in found.values():
        if each.estimator.unbiased:
            checks.append(Check("bias of unbiased estimators", 0.0, each.bias, 0.0, where))


def hold(
    model: refvlm.BernoulliLVM, q: refvlm.AmortisedPosterior, x: Bits, logits: Floats,
    chosen: dict[str, ge.Estimator], where: str, checks: list[Check],
) -> None:  # fmt: skip
    """Every estimator's mean and covariance, and the trace that `compare` gives, against the sums of this file."""
    tables = [summed(model, own, row) for own, row in zip(logits, x, strict=True)]
    for label, estimator in chosen.items():
        sums = [again(label, estimator, t) for t in tables]
        if any(pair is None for pair in sums):
            continue
        mean, covariance = (np.array(part) for part in zip(*(pair for pair in sums if pair is not None), strict=True))
        variance = np.trace(covariance, axis1=1, axis2=2)
        size = np.linalg.norm(mean, axis=1) + np.sqrt(variance)
        got = estimator.mean(model, q, x, workers=1), estimator.covariance(model, q, x, workers=1)
        traced = ge.compare(model, q, x, [estimator], workers=1)[0].variance
        kind = "gumbel" if label.startswith("gumbel") else label
        checks += [
            Check(f"{kind}: mean", mean, got[0], RELATIVE * size[:, None], where),
            Check(f"{kind}: covariance", covariance, got[1], RELATIVE * variance[:, None, None], where),
            Check(f"{kind}: variance", variance, traced, RELATIVE * variance, where),
        ]


def line(each: ge.Moments, gradient: Floats | None) -> Line:
    """Over all rows; gradient: of the objective (N, K), None where its norm is that of the mean."""
    whole = each.overall()
    bias, size, variance, signal = (
        float(part[0]) for part in (whole.bias, whole.size, whole.variance, whole.signal_to_noise)
    )
    norm = size if gradient is None else float(np.sqrt((gradient**2).sum(axis=1).mean()))
    cosine = (size**2 + norm**2 - bias**2) / (2.0 * size * norm)  # the mean is the gradient and the bias
    return Line(each.estimator.unbiased, each.cost.evaluations, bias, size, variance, signal, norm, cosine)


# The page.

Column = dict[int, Cell]
"""By K, for one data set and state."""

RATIOS = [
    ("reinforce", CONSTANT),
    (CONSTANT, "nvil"),
    ("nvil", "muprop"),
    ("nvil", "leave-one-out 2"),
    ("leave-one-out 2", "leave-one-out 4"),
    ("arm", "disarm"),
    ("leave-one-out 2", "disarm"),
    ("nvil", "disarm"),
    ("local-expectation", "disarm"),
]


def number(value: float) -> str:
    """Four significant digits; all those before the point."""
    return f"{value:.0f}" if 1e4 <= value < 1e7 else f"{value:#.4g}".rstrip(".")


def markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table, numbers to the right."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] + ["--:"] * (len(heads) - 1), *body])


def by_size(column: Column, title: str, of: Callable[[Line], float], keep: Callable[[Line], bool]) -> str:
    """A line for each estimator that is kept, a column for each K."""
    labels = estimators(min(column), 0.0)
    body = []
    for label in labels:
        lines = {k: each.lines.get(label) for k, each in column.items()}
        if any(found is not None and keep(found) for found in lines.values()):
            body.append([label, *("-" if found is None else number(of(found)) for found in lines.values())])
    return markdown([title, *(f"K = {k}" for k in column)], body)


def every(_: Line) -> bool:
    """All of them."""
    return True


def biased(each: Line) -> bool:
    """Those with a bias."""
    return not each.unbiased


def best(found: Cell) -> list[str]:
    """The unbiased estimators of the VLB's gradient by variance times evaluations."""
    labels = [label for label, each in found.lines.items() if each.unbiased and not label.startswith("vimco")]
    return sorted(labels, key=lambda label: found.lines[label].paid)


def section(data: str, state: str, column: Column) -> str:
    """The tables of one data set and state."""
    heads = [f"K = {k}" for k in column]
    about = [
        ["rows", *(str(each.rows) for each in column.values())],
        ["VLB", *(number(each.vlb) for each in column.values())],
        ["log p(x)", *(number(each.log_px) for each in column.values())],
        ["gradient of the VLB", *(number(each.lines["nvil"].gradient) for each in column.values())],
        ["gradient of -KL(p(z \\| x) \\|\\| q)",
         *(number(each.lines["reweighted-wake 5"].gradient) for each in column.values())],
    ]  # fmt: skip
    ratio = [
        [f"{first} / {second}",
         *(number(each.lines[first].paid / each.lines[second].paid) for each in column.values())]
        for first, second in RATIOS
    ]  # fmt: skip
    ranks = [[place, *(best(each)[n] for each in column.values())] for n, place in enumerate(("least", "second"))]
    parts = [
        f"### {data}, {state}",
        markdown(["mean over rows, nats; norms", *heads], about),
        by_size(column, "variance", lambda each: each.variance, every),
        by_size(column, "variance × evaluations", lambda each: each.paid, every),
        by_size(column, "signal/noise", lambda each: each.signal, every),
        by_size(column, "bias", lambda each: each.bias, biased),
        by_size(column, "bias / gradient", lambda each: each.bias / each.gradient, biased),
        by_size(column, "bias / standard deviation", lambda each: each.bias / each.variance**0.5, biased),
        by_size(column, "cosine of mean and gradient", lambda each: each.cosine, biased),
        markdown(["ratio of variance × evaluations", *heads], ratio),
        markdown(["unbiased, for the VLB, by variance × evaluations", *heads], ranks),
    ]
    return "\n\n".join(parts)


HEAD = """\
# Estimators of gradients, by size and state of training

`{command}`, {day}.
{machine}. {seconds:.0f} seconds in {workers} processes, beside other work.

Bias and variance of estimators of the gradient in q's logits, at rows that nothing was learnt from. All numbers are
exact for these rows and models, up to rounding: sums over all codes, pairs, sets or integrals
([gradient estimators](../refvlm/inference/gradient_estimators/README.md)); nothing is sampled. The models are those of
one seed: K bits, {hidden} hidden tanh units each way, ascent on the exact VLB with Adam at the constant rate {rate},
minibatches of {batch} of {learn} rows; *untrained*, *early* and *trained* are the same net after {epochs} epochs.

Variance is the trace of the covariance of one draw, its mean over the rows; norms are root mean squares over the rows;
signal/noise is the norm of the mean over the root of the variance. Evaluations are of log p(x, z), slopes counting as
two, so that variance × evaluations compares at equal cost, and a ratio above 1 says that the second of the two is the
better. An estimator is followed by its draws; one without a number takes one draw, or one pair. The constant baseline
of REINFORCE is the mean VLB of the rows learnt from; that of NVIL is the VLB of the row itself, exact and free of
charge, which no regression reaches. Unbiased estimators have bias 0 exactly, and no line in the tables of bias. The
objective is the VLB, but IWAE-M for `vimco M`, and -KL(p(z | x) || q) for `reweighted-wake M`, whose bias is against
that. `-`: VIMCO's covariance is a sum over all multisets of M codes, and left out beyond a million. Where K is large
there are fewer rows, the first of the same twenty. Fits repeat to the last bit on one machine and library set only, so
that another one may end in other digits after training.
"""


def page(tables: str, reading: str, seconds: float, command: str, workers: int) -> str:
    """All of estimators.md."""
    head = HEAD.format(
        command=command, day=date.today(), machine=machine(), seconds=seconds, workers=workers,
        hidden=COURSE["hidden"][0], rate=COURSE["learning_rate"], batch=COURSE["batch_size"], learn=LEARN,
        epochs=", ".join(map(str, STATES.values())).replace(", 30", " and 30"),
    )  # fmt: skip
    return "\n".join([head, tables, "", "## What the tables say", "", READING + reading + END, ""])


def machine() -> str:
    """The processor, its cores and the versions."""
    name = platform.processor() or platform.machine()
    listed = Path("/proc/cpuinfo")
    if listed.exists() and (found := re.search(r"model name\s*:\s*(.+)", listed.read_text())):
        name = found[1].strip()
    return (f"{name}, {os.cpu_count()} cores, Python {platform.python_version()}, NumPy {np.__version__}, "
            f"refvlm {refvlm.__version__}")  # fmt: skip


def split_page(text: str) -> tuple[str, str]:
    """What is outside the reading, and the reading."""
    if READING not in text:
        return text, "\n"
    before, rest = text.split(READING)
    reading, after = rest.split(END)
    return before + after, reading


def unknown_numbers(text: str) -> list[str]:
    """Numbers with a decimal point in the reading that are no cell of the tables."""
    tables, reading = split_page(text)
    known = {entry.strip() for row in tables.splitlines() if row.startswith("|") for entry in row.split("|")}
    found = re.findall(r"\d+\.\d+(?:e[-+]\d+)?", reading)
    known |= {entry.lstrip("-") for entry in known} | {"0.5"}  # 0.5: a temperature
    return [each for each in found if each not in known]


def check_reading(report: common.Report, text: str) -> None:
    """No number of the reading that is not in the tables."""
    unknown = unknown_numbers(text)
    report.check("numbers of the reading that the tables lack", 0, len(unknown), 0, where=", ".join(unknown))


def main() -> int:
    """Tables and verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="of data sets; without it digits alone")
    parser.add_argument("data", nargs="*", metavar="NAME", help="data sets in FOLDER (default: nltcs)")
    parser.add_argument("--quick", action="store_true", help="K = 3 and 4 on digits, half a minute")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="K", help=f"default: {' '.join(map(str, SIZES))}")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1), help="processes (default: two)")
    parser.add_argument("--write", action="store_true", help="write estimators.md, the reading kept")
    parser.add_argument("--reading", action="store_true", help="hold the reading in estimators.md against its tables")
    arguments = parser.parse_args()
    report = common.Report()
    if arguments.reading:
        check_reading(report, PAGE.read_text())
        return report.finish()
    names = ["digits", *((arguments.data or ["nltcs"]) if arguments.folder and not arguments.quick else [])]
    sizes = sorted(arguments.sizes or (QUICK_SIZES if arguments.quick else SIZES))
    begun = time.perf_counter()
    jobs = [
        Job(name, k, *rows(arguments.folder, name)) for k in reversed(sizes) for name in names
    ]  # the long ones first
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of each process: threads of small products only wait
    with ProcessPoolExecutor(arguments.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(run, jobs))
    cells: dict[str, dict[str, Column]] = {name: {state: {} for state in STATES} for name in names}
    for job, (by_state, checks) in reversed(list(zip(jobs, results, strict=True))):
        for state, found in by_state.items():
            cells[job.data][state][job.latents] = found
        for family, expected, got, allowed, where in checks:
            report.check(family, expected, got, allowed, where=where)
    tables = "\n\n".join(
        section(data, state, column) for data, states in cells.items() for state, column in states.items()
    )
    if arguments.write:
        reading = split_page(PAGE.read_text())[1] if PAGE.exists() else "\n"
        command = f"python validation/estimators.py{' FOLDER' if arguments.folder else ''} --write"
        text = page(tables, reading, time.perf_counter() - begun, command, arguments.workers)
        PAGE.write_text(text)
        check_reading(report, text)
    else:
        print(tables, end="\n\n")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
