"""What each way of learning optimises, on 1797 handwritten digits: `python validation/learn_digits.py`.

The same architecture, the same number of passes over the same rows, five methods. Every number is exact, so that one
sees on held-out rows what wake-sleep raises and what it does not: log p(x) = VLB + KL(q || p(z | x)), nats per row.
The learning rate of each method is the one of a small grid with the best log p(x) on rows set apart from those that are
learnt from; the held-out rows of the table have no part in it.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any, NamedTuple

import common
import numpy as np
from numpy.typing import NDArray

import refvlm
from refvlm.learning.per_datum import mean_field

LATENTS, HIDDEN = 8, (32,)
METHODS: dict[str, dict[str, Any]] = {
    "exact ML": {"method": "maximum-likelihood"},
    "exact VLB": {"method": "vlb"},
    "score-function VLB": {"method": "vlb", "gradient": "score-function", "samples": 10},
    "wake-sleep": {"method": "wake-sleep"},
    "reweighted wake-sleep": {"method": "reweighted-wake-sleep", "samples": 10},
}
RATES = (0.003, 0.01, 0.03, 0.1)
LEARN, CHOOSE = 1200, 200
"""Rows to learn from, then rows to choose the learning rate by; the 397 others are held out."""


class Outcome(NamedTuple):
    """found: of refvlm.fit. held_out: log p(x), VLB and KL of every held-out row."""

    rate: float
    found: refvlm.Fit
    held_out: refvlm.Decomposition
    seconds: float


def split(x: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The three parts, in a fixed random order."""
    order = np.random.default_rng(0).permutation(len(x))
    return np.split(x[order], [LEARN, LEARN + CHOOSE])


def learn(name: str, parts: list[NDArray[np.uint8]], epochs: int, seed: int, rates: tuple[float, ...]) -> Outcome:
    """The method at the best of the rates; seconds are those of one fit."""
    best: Outcome | None = None
    best_score = -np.inf
    for rate in rates:
        begun = time.perf_counter()
        found = refvlm.fit(
            parts[0], LATENTS, HIDDEN, epochs=epochs, learning_rate=rate, schedule="cosine", beta2=0.999,
            batch_size=100, validation=False, seed=seed, **METHODS[name],
        )  # fmt: skip
        seconds = time.perf_counter() - begun
        score = refvlm.log_marginal(found.model, parts[1]).mean()
        if score > best_score:
            assert found.posterior is not None
            best, best_score = (
                Outcome(rate, found, refvlm.decompose(found.model, found.posterior, parts[2]), seconds), score
            )  # fmt: skip
    assert best is not None
    return best


def table(outcomes: dict[str, list[Outcome]], baseline: float) -> None:
    """Means over rows and seeds, and the spread over seeds."""
    heads = f"{'log p(x)':>10}{'+-':>7}{'VLB':>10}{'+-':>7}{'KL':>9}{'+-':>7}"
    print(f"{'':24}{'learnt from':>12}   held-out rows")
    print(f"{'nats per row':24}{'log p(x)':>12}{heads}{'rate':>8}{'seconds':>9}")
    for name, runs in outcomes.items():
        columns = [[getattr(run.held_out, part).mean() for run in runs] for part in ("log_px", "vlb", "kl")]
        numbers = "".join(
            f"{np.mean(c):{w}.3f}{np.std(c, ddof=min(1, len(c) - 1)):7.3f}"
            for c, w in zip(columns, (10, 10, 9), strict=True)
        )
        seconds = np.mean([run.seconds for run in runs])
        own = np.mean([run.found.history[-1].log_px for run in runs])
        print(f"{name:24}{own:12.3f}{numbers}{np.median([run.rate for run in runs]):8g}{seconds:9.1f}")
    print(f"{'independent pixels':24}{'':12}{baseline:10.3f}")


def mean(outcomes: dict[str, list[Outcome]], name: str, part: str) -> float:
    """Over rows and seeds."""
    return float(np.mean([getattr(run.held_out, part).mean() for run in outcomes[name]]))


def statements(outcomes: dict[str, list[Outcome]]) -> None:
    """What the numbers show, in words."""

    def of(name: str, part: str) -> float:
        return mean(outcomes, name, part)

    best = max(METHODS, key=lambda name: of(name, "log_px"))
    tightest = min(METHODS, key=lambda name: of(name, "kl"))
    bound = max(METHODS, key=lambda name: of(name, "vlb"))
    print(f"\nhighest log p(x): {best}; highest VLB: {bound}; smallest gap KL: {tightest}")
    ml, vlb, ws, rws = ("exact ML", "exact VLB", "wake-sleep", "reweighted wake-sleep")
    own = {name: np.mean([run.found.history[-1].log_px for run in outcomes[name]]) for name in (ml, vlb)}
    print(
        f"{ml} looks at log p(x) alone: {own[ml] - own[vlb]:+.3f} nats from the {vlb}'s model on the rows learnt from,"
    )
    print(
        f"  {of(ml, 'log_px') - of(vlb, 'log_px'):+.3f} on held-out ones. An encoder fitted to it later leaves a gap of"
    )
    print(
        f"  {of(ml, 'kl'):.3f} nats there, against {of(vlb, 'kl'):.3f}: nothing asked for a posterior that factorises"
    )
    print(f"{ws} fits q to dreams, KL(p(z|x) || q): on data KL(q || p(z|x)) is {of(ws, 'kl'):.3f} nats, and the model,")
    print(
        f"  which follows the bound with that q, is {of(ws, 'log_px') - of(vlb, 'log_px'):+.3f} nats from the {vlb}'s"
    )
    print(
        f"{rws}: {of(rws, 'log_px') - of(ws, 'log_px'):+.3f} nats from there by weighting draws with p/q; its q covers"
    )
    print(f"  the posterior instead of a part of it, so KL(q || p(z|x)) is {of(rws, 'kl'):.3f}")
    last = outcomes["score-function VLB"][0].found.history[-1]
    assert last.gradient_variance is not None
    assert last.gradient_variance_without_baseline is not None
    print(f"the score function's variance at the end: {last.gradient_variance:.3g} with its baseline,"
          f" {last.gradient_variance_without_baseline:.3g} without")  # fmt: skip


def storage(outcome: Outcome, parts: list[NDArray[np.uint8]], report: common.Report) -> None:
    """One phi for each row against an encoder: numbers stored, and the gap that sharing one network costs."""
    q, model = outcome.found.posterior, outcome.found.model
    assert isinstance(q, refvlm.AmortisedPosterior)
    encoder = sum(value.size for value in q.parameters().values())
    print(f"\n{'rows':>10}{'numbers, one phi each':>24}{'numbers, encoder':>18}")
    for rows in (len(parts[0]), 10**5, 10**7):
        print(f"{rows:10d}{rows * LATENTS:24d}{encoder:18d}")
    own = mean_field(model, parts[2])
    gap, least = refvlm.kl(model, q, parts[2]), refvlm.kl(model, own, parts[2])
    parts_of_gap = f"{least.mean():.4f} (mean field, row by row) + {(gap - least).mean():.4f} (one encoder for all)"
    print(f"the exact VLB's model, held-out rows: KL(q || p(z|x)) = {gap.mean():.4f} =\n  {parts_of_gap}")
    report.check("one phi per row leaves less KL than the encoder, mean", 0.0, max(0.0, (least - gap).mean()), 0.0)


def main() -> int:
    """Tables, statements, verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one seed, one rate, few epochs")
    parser.add_argument("--picture", metavar="FILE", help="draw the courses and samples (needs matplotlib)")
    arguments = parser.parse_args()
    epochs, seeds, rates = (10, 1, (0.01,)) if arguments.quick else (100, 3, RATES)
    parts = split(refvlm.digits())
    outcomes = {name: [learn(name, parts, epochs, seed, rates) for seed in range(seeds)] for name in METHODS}
    share = (parts[0].sum(axis=0) + 0.5) / (len(parts[0]) + 1)
    baseline = float((parts[2] @ np.log(share) + (1 - parts[2]) @ np.log1p(-share)).mean())
    print(f"{LATENTS} latents, {HIDDEN[0]} hidden units each way, {epochs} passes over {LEARN} rows, {seeds} seeds")
    table(outcomes, baseline)
    statements(outcomes)
    report = common.Report()
    storage(outcomes["exact VLB"][0], parts, report)
    for name, runs in outcomes.items():
        for run in runs:
            d = run.held_out
            report.check(f"{name}: log p(x) = VLB + KL", d.log_px, d.vlb + d.kl, 1e-10)
            report.check(f"{name}: VLB above log p(x) by", 0.0, np.maximum(d.vlb - d.log_px, 0.0).max(), 1e-12)
            report.check(f"{name}: short of independent pixels by", 0.0, max(0.0, baseline - d.log_px.mean()), 0.0)
    if not arguments.quick:
        own = {name: np.mean([run.found.history[-1].log_px for run in runs]) for name, runs in outcomes.items()}
        report.check(
            "exact ML has the highest log p(x) of the rows learnt from", max(own.values()), own["exact ML"], 0.0
        )
        others = max(mean(outcomes, name, "vlb") for name in ("wake-sleep", "reweighted wake-sleep"))
        short = max(0.0, others - mean(outcomes, "exact VLB", "vlb"))
        report.check("exact VLB: short of wake-sleep's VLB by", 0.0, short, 0.0)
    if arguments.picture:
        draw({name: runs[0] for name, runs in outcomes.items()}, arguments.picture)
    return report.finish()


def draw(outcomes: dict[str, Outcome], path: str) -> None:
    """log p(x), VLB and KL of the rows learnt from, epoch by epoch, above digits drawn from each model."""
    if (pyplot := common.pyplot()) is None:
        return
    figure = pyplot.figure(figsize=(13, 6), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[3, 2])
    panels = upper.subplots(1, len(outcomes), sharey=True)
    for panel, (name, outcome), below in zip(panels, outcomes.items(), lower.subfigures(1, len(outcomes)), strict=True):
        history = outcome.found.history
        panel.plot([r.epoch for r in history], [r.log_px for r in history], color="C0", label="log p(x)")
        bounded = [r for r in history if r.vlb is not None]
        style = {"marker": "o"} if len(bounded) == 1 else {}
        panel.plot([r.epoch for r in bounded], [r.vlb for r in bounded], color="C1", label="VLB", **style)
        if len(bounded) > 1:
            panel.fill_between(
                [r.epoch for r in bounded], [r.vlb for r in bounded], [r.log_px for r in bounded],
                color="C1", alpha=0.2, label="KL",
            )  # fmt: skip
        panel.set(title=name, xlabel="epoch", ylim=(-26, -15))
        drawn = outcome.found.model.sample(12, np.random.default_rng(0))[0]
        for image, pixels in zip(below.subplots(3, 4).ravel(), drawn, strict=True):
            image.imshow(pixels.reshape(8, 8), cmap="gray_r")
            image.set(xticks=[], yticks=[])
    panels[0].set_ylabel("nats per row")
    panels[0].legend(loc="lower right")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
