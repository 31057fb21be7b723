"""Models and data for hypothesis, never square: no two of K, L, N and the hidden widths are equal.

    from hypothesis import given
    from refvlm.testing.strategies import problems

    @given(problems())
    def test_my_bound(problem):
        assert_vlb_close(mine(problem), problem.model, problem.q, problem.x)

Needs hypothesis.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from ..activations import ACTIVATIONS
from ..model.bernoulli import Bernoulli
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP
from ..model.recognition import AmortisedPosterior
from ..types import Bits


class Problem(NamedTuple):
    """A model, a posterior for it, rows of data."""

    model: BernoulliLVM
    q: AmortisedPosterior
    x: Bits


@st.composite
def models(
    draw: st.DrawFn, *, most_latents: int = 6, most_observed: int = 9, deep: bool = False, infinite: bool = False
) -> BernoulliLVM:
    """A BernoulliLVM with 0 to 2 hidden layers of any activation, weights from tiny to saturating.

    most_latents, most_observed: the largest K and L. deep: its prior is such a model itself. infinite: prior logits may
    be -inf and +inf.
    """
    return draw(problems(most_latents=most_latents, most_observed=most_observed, deep=deep, infinite=infinite)).model


@st.composite
def problems(
    draw: st.DrawFn,
    *,
    most_latents: int = 6,
    most_observed: int = 9,
    most_rows: int = 5,
    deep: bool = False,
    infinite: bool = False,
) -> Problem:
    """A model as in `models`, an amortised posterior of the same depth of network, and rows of x."""
    widths = draw(
        st.lists(
            st.integers(1, max(most_latents, most_observed, most_rows) + 3), min_size=6, max_size=6, unique=True
        ).filter(lambda w: w[0] <= most_latents and w[1] <= most_observed and w[2] <= most_rows)
    )
    latents, observed, rows, *hidden = widths
    depth = draw(st.integers(0, 2))
    decoder, encoder = hidden[:depth], hidden[1 : 1 + depth]
    scale = draw(st.sampled_from([0.1, 1.0, 3.0, 30.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    activation = draw(st.sampled_from(tuple(ACTIVATIONS)))
    prior: Bernoulli | BernoulliLVM = Bernoulli(rng.normal(size=latents) * draw(st.sampled_from([0.0, 1.0, 10.0])))
    if deep:
        upper = draw(st.integers(1, 3).filter(lambda k: k != latents))
        prior = BernoulliLVM(Bernoulli(rng.normal(size=upper)), _network([upper, latents], rng, activation, 1.0))
    elif infinite:
        logits = np.array(prior.parameters()["logits"])
        logits[rng.random(latents) < 0.4] = draw(st.sampled_from([-np.inf, np.inf]))
        prior = Bernoulli(logits)
    model = BernoulliLVM(prior, _network([latents, *decoder, observed], rng, activation, scale))
    q = AmortisedPosterior(
        _network([observed, *encoder, latents], rng, draw(st.sampled_from(tuple(ACTIVATIONS))), min(scale, 3.0))
    )
    return Problem(model, q, (rng.random((rows, observed)) < 0.5).astype(np.uint8))


def _network(sizes: list[int], rng: np.random.Generator, activation: str, scale: float) -> MLP:
    """With random biases, so that a forgotten one shows."""
    weights = [rng.normal(size=pair) * scale / np.sqrt(pair[0]) for pair in pairwise(sizes)]
    return MLP(weights, [rng.normal(size=width) * min(scale, 1.0) for width in sizes[1:]], activation)
