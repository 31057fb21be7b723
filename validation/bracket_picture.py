"""A bracket closing: one run, looked at again and again, while it is drawn.

    python validation/bracket_picture.py [FILE]     writes the picture (default: validation/bracket.svg), half a minute

Left, K = 22: log p(x) is known by the sum over all codes and drawn as a line. Right, K = 100: nothing else says where
it is. Shades are confidences; grey is what is certain without a draw. Expected at the two higher confidences: every
look at the left one holds the exact value, and looks never contradict one another.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from common import AGREES, DISAGREES

import refvlm

LOOKS = [4096 * 2**k for k in range(10)]
CONFIDENCES = {"1 - 1e-9": (1 - 1e-9, "#9ecae1"), "0.999": (0.999, "#6baed6"), "0.5": (0.5, "#2171b5")}


def problem(latents: int, observed: int) -> tuple[refvlm.BernoulliLVM, Any]:
    """A model with weights twice ordinary ones, and a row that it drew."""
    rng = np.random.default_rng(latents)
    weights = rng.normal(size=(latents, observed)) * 2.0 / np.sqrt(latents)
    decoder = refvlm.MLP([weights], [rng.normal(size=observed) / 2])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), decoder)
    return model, model.sample(1, rng)[0]


def looks(model: refvlm.BernoulliLVM, x: Any, confidence: float) -> Any:
    """(lower, upper) at each look at the same run: the same draws, more of them each time."""
    seen = [
        refvlm.bracket(model, x, samples=count, boxes=1, confidence=confidence, rng=np.random.default_rng(1))
        for count in LOOKS
    ]
    return np.array([[each.lower[0], each.upper[0]] for each in seen])


def main() -> int:
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams |= {"svg.hashsalt": "refvlm", "svg.fonttype": "none", "font.family": "sans-serif"}
    from matplotlib import pyplot

    from refvlm.inference import partition

    target = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("bracket.svg")
    figure, panels = pyplot.subplots(1, 2, figsize=(9.0, 3.4), layout="constrained")
    fine = True
    for panel, (latents, observed) in zip(panels, ((22, 40), (100, 80)), strict=True):
        model, x = problem(latents, observed)
        exact = refvlm.log_marginal(model, x)[0] if latents < 30 else None
        partition.SHORT_SUM = -1  # by draws, whether or not the sum is short
        certain = refvlm.bracket(model, x)
        panel.axhspan(certain.lower[0], certain.upper[0], color="0.93", label="certain")
        for name, (confidence, shade) in CONFIDENCES.items():
            both = looks(model, x, confidence)
            panel.fill_between(LOOKS, both[:, 0], both[:, 1], color=shade, label=f"confidence {name}", linewidth=0.0)
            if shade == "#9ecae1":
                middle, reach = both[-1].mean(), np.abs(both[0] - both[-1].mean()).max()
            good = both[:, 0].max() <= both[:, 1].min() or confidence < 0.9
            good &= exact is None or confidence < 0.9 or bool(((both[:, 0] <= exact) & (exact <= both[:, 1])).all())
            fine &= good
            width, verdict = both[-1, 1] - both[-1, 0], "agrees" if good else "DISAGREES"
            print(f"K = {latents}, confidence {name}: {LOOKS[-1]} draws, {width:.4f} nats: {verdict}")
        partition.SHORT_SUM = 1 << 36
        if exact is not None:
            panel.axhline(exact, color="black", linewidth=1.0, label="log p(x)")
        panel.set(xscale="log", xlabel="draws", title=f"K = {latents}, L = {observed}", xlim=(LOOKS[0], LOOKS[-1]))
        panel.set_ylim(middle - 1.15 * reach, middle + 1.15 * reach)
        panel.ticklabel_format(axis="y", useOffset=False)
    panels[0].set_ylabel("log p(x) / nats")
    panels[0].legend(loc="lower right", fontsize=8)
    figure.savefig(target, metadata={"Date": None})
    print(f"written: {target.name}")
    return AGREES if fine else DISAGREES


if __name__ == "__main__":
    sys.exit(main())
