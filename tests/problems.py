"""Random problems for the tests: a model, a recognition distribution, data. No two of K, L, H, N are ever equal."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

import refvlm
from refvlm.activations import ACTIVATIONS as RECORDS

ACTIVATIONS = tuple(RECORDS)


class Problem(NamedTuple):
    model: refvlm.BernoulliLVM
    q: refvlm.AmortisedPosterior | refvlm.PerDatumPosterior | refvlm.ChainPosterior
    x: np.ndarray
    weights: np.ndarray


def network(sizes, rng, activation="tanh", scale=1.0, shift=0.5):
    """An MLP with random biases too, so that a forgotten bias shows."""
    weights = [rng.normal(size=pair) * scale / np.sqrt(pair[0]) for pair in pairwise(sizes)]
    return refvlm.MLP(weights, [rng.normal(size=n) * shift * min(scale, 10.0) for n in sizes[1:]], activation)


def shallow(latents, hidden, observed, rng, activation="tanh", scale=1.0):
    """A model with a factorised prior."""
    decoder = network([latents, *hidden, observed], rng, activation, scale)
    return refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=latents)), decoder)


def deep(top, middle, observed, rng, hidden=(4,), scale=1.0):
    """Two layers of latents: `middle` next to x, `top` above; the same hidden widths in both decoders."""
    return refvlm.BernoulliLVM(
        shallow(top, hidden, middle, rng, "sigmoid", scale), network([middle, *hidden, observed], rng, "tanh", scale)
    )


def binary(rows, columns, rng):
    return (rng.random((rows, columns)) < 0.5).astype(np.uint8)


@st.composite
def problems(draw, most_latents=7, most_observed=9, infinite=False, saturated=True, most_rows=6):
    """A shallow problem of distinct sizes; scales up to logits of about 1e4 where `saturated`."""
    sizes = st.lists(st.integers(1, max(most_latents, most_observed)), min_size=5, max_size=5, unique=True)
    latents, observed, first, second, rows = draw(
        sizes.filter(lambda s: s[0] <= most_latents and s[1] <= most_observed and s[4] <= most_rows)
    )
    hidden = [(), (first,), (first, second)][draw(st.integers(0, 2))]
    scale = draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 100.0, 1e4] if saturated else [0.1, 1.0, 2.0]))
    activation = draw(st.sampled_from(ACTIVATIONS))
    if np.isinf(RECORDS[activation].bound) and hidden:
        scale = min(scale, 30.0)  # it passes magnitudes on: 30 ** 3 is already past 1e4
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    prior = rng.normal(size=latents) * draw(st.sampled_from([0.0, 1.0, 30.0]))
    if infinite:
        kinds = draw(st.lists(st.sampled_from([0.0, np.inf, -np.inf]), min_size=latents, max_size=latents))
        prior = np.where(np.isinf(kinds), kinds, prior)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(prior), network([latents, *hidden, observed], rng, activation, scale))
    x = model.sample(rows, rng)[0] if draw(st.booleans()) else binary(rows, observed, rng)
    if draw(st.booleans()):
        spread = draw(st.sampled_from([0.3, 1.0, 5.0] if not saturated else [0.3, 1.0, 5.0, 1e3]))
        q = refvlm.AmortisedPosterior(network([observed, first + 1, latents], rng, activation, spread))
    else:
        logits = rng.normal(size=(rows, latents)) * draw(st.sampled_from([0.5, 3.0, 50.0] if saturated else [0.5, 2.0]))
        q = refvlm.PerDatumPosterior(logits)
    return Problem(model, q, x, rng.normal(size=rows))
