"""The sleep phase of wake-sleep (Dayan, Hinton, Neal, Zemel 1995): the score of q at pairs that the model dreams.

    d log q(z | x) / d phi,    z from the prior, x from p(x | z)

An unbiased estimate of minus the gradient of E over the model's x of KL(p(z | x) || q). Its moments are sums over all
2^L x and, of each, all 2^K z.
"""

from __future__ import annotations

from concurrent.futures import Executor
from typing import NamedTuple

import numpy as np

from ... import bits
from ...activations import sigmoid
from ...checks import check_generator, describe
from ...enumeration.engine import Progress
from ...model.latent_variable import BernoulliLVM
from ...model.parameters import Parameters
from ...model.recognition import AmortisedPosterior, Posterior
from .. import arrays
from ..exact import log_marginal, posterior
from .landscape import landscape
from .parameters import products_of

MOST_BITS = 22
"""K + L of the sums."""
_ROWS = 256


class SleepMoments(NamedTuple):
    """mean: of one dream's estimate, by q's names. trace: of its covariance."""

    mean: Parameters
    trace: float


class Sleep:
    """In the encoder's parameters; rows of data play no part."""

    name = "sleep"

    def sample(self, model: BernoulliLVM, q: Posterior, rng: np.random.Generator) -> Parameters:
        """The estimate of one dream, by q's names."""
        x, z = model.sample(1, check_generator("rng", rng))
        at = landscape(model, self._check(q), x)
        return arrays.recognition_gradient(self._check(q), x, at.score(z[:, None])[:, 0])

    def moments(
        self, model: BernoulliLVM, q: Posterior, *, workers: int | None = None, executor: Executor | None = None,
        progress: Progress | None = None,
    ) -> SleepMoments:  # fmt: skip
        """Exact; a ValueError where K + L is above 22. progress counts values of x."""
        single = self._check(q)
        size = model.latents + model.observed
        if size > MOST_BITS:
            raise ValueError(
                f"model: got {model.latents} latent and {model.observed} observed bits, 2**{size} pairs of z and x, "
                f"wanted at most {MOST_BITS} bits together; the wake updates remain at any number of observed bits"
            )
        mean: Parameters = {}
        second, z = 0.0, bits.table(model.latents)
        for start in range(0, 1 << model.observed, _ROWS):
            codes = np.arange(start, min(start + _ROWS, 1 << model.observed), dtype=np.int64)
            x = bits.rows_of(codes, model.observed)
            at = landscape(model, single, x)
            mass = np.exp(log_marginal(model, x, workers=workers, executor=executor))
            p = posterior(model, x, workers=workers, executor=executor)
            free = np.isfinite(at.logits)
            slopes = np.where(free, p @ z - sigmoid(at.logits), 0.0) * mass[:, None]
            part = arrays.recognition_gradient(single, x, slopes)
            mean = {name: mean.get(name, 0.0) + value for name, value in part.items()}
            for n in range(len(x)):
                score = at.of_row(n).score(z[None])[0]
                products = products_of(single, x[n : n + 1], n)
                second += float(mass[n] * (p[n] @ ((score @ products) * score).sum(axis=1)))
            if progress is not None:
                progress(int(codes[-1]) + 1, 1 << model.observed)
        return SleepMoments(mean, max(second - sum(float((value**2).sum()) for value in mean.values()), 0.0))

    @staticmethod
    def _check(q: Posterior) -> AmortisedPosterior:
        if not isinstance(q, AmortisedPosterior):
            raise TypeError(f"posterior: got {describe(q)}, wanted an AmortisedPosterior: dreams have no row of data")
        return q
