"""What the history of a run says about the next one: where log p(x) of training and held-out rows part."""

from __future__ import annotations

from collections.abc import Sequence

from .history import Record

TELLING = 0.01
"""The part of the held-out log p(x) from which on a difference is worth a word."""


def advice(history: Sequence[Record]) -> str | None:
    """A sentence or two with a hint; None without held-out rows, or where there are fewer than three evaluations.

    Differences of means per row, nats, of two sets of rows; no test of significance.
    """
    runs = [r for n, r in enumerate(history) if n == 0 or r.step > history[n - 1].step]  # not that of a q fitted later
    curve = [(r.epoch, _own(r), r.score) for r in runs]
    seen = [(epoch, own, score) for epoch, own, score in curve if own is not None and score is not None]
    if len(seen) < 3:
        return None
    epoch, own, score = max(seen, key=lambda point: point[2])
    last, last_own, last_score = seen[-1]
    enough = TELLING * abs(score)
    if last > epoch and score - last_score > enough / 10 and last_own > own:
        return (
            f"from epoch {epoch} to {last} training log p(x) rose by {last_own - own:.3f} and held-out fell by "
            f"{score - last_score:.3f}: overfitting; fewer latents or hidden units, more weight decay or more rows "
            "would help"
        )
    if own - score > enough:
        return (
            f"training log p(x) is {own - score:.3f} above held-out at epoch {epoch}, which was best: the model knows "
            "its own rows better than others; more rows or more weight decay may help, more latents may not"
        )
    earlier = [value for when, _, value in seen if when <= 0.8 * last]
    if epoch == last and score - max(earlier) > enough / 10:
        return "held-out log p(x) was still rising at the end: more epochs, or a larger learning rate, would help"
    return "training and held-out log p(x) do not part: more latents or hidden units may help"


def _own(record: Record) -> float | None:
    return record.log_px if record.log_px is not None else record.log_px_estimate
