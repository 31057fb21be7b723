"""What `refvlm.fit` gives back."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from .. import show
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from .history import History
from .sizes import Tried


class _Parts(NamedTuple):
    model: BernoulliLVM
    posterior: Posterior | None
    history: History


class Fit(_Parts):
    """model; posterior, None if none was asked for; history, a Record for every evaluated epoch, means in nats.

    A tuple of these three. `history.columns()` has the numbers as arrays by name. With held-out rows the model is the
    one of the evaluation with their best log p(x). Where the posterior is fitted after the model, the last record is of
    the two together.
    held_out: (M,) which rows of x were held out by default; empty where the caller gave such rows, or there are none.
    tried: with latents="auto" how the numbers of latents did on the held-out rows; the last but one was chosen, unless
    the last was still better by more than a standard error.
    """

    held_out: NDArray[np.int64]
    tried: tuple[Tried, ...]

    def __new__(
        cls, model: BernoulliLVM, posterior: Posterior | None, history: History,
        held_out: NDArray[np.int64] | None = None, tried: tuple[Tried, ...] = (),
    ) -> Self:  # fmt: skip
        """The three, and how they came about."""
        fitted = super().__new__(cls, model, posterior, history)
        fitted.held_out = np.zeros(0, np.int64) if held_out is None else held_out
        fitted.tried = tried
        return fitted

    def __repr__(self) -> str:
        return f"{self._table()}\n{self.history!r}"

    def _repr_html_(self) -> str:
        return show.notebook(self._table()) + self.history._repr_html_()

    def _table(self) -> show.Table:
        rows = [("model", repr(self.model)), ("posterior", repr(self.posterior))]
        if len(self.held_out):
            rows.append(("held out", f"{len(self.held_out)} rows of x, which `held_out` names"))
        if self.tried:
            numbers = (f"{each.latents}: {show.number(each.held_out_log_px)}" for each in self.tried)
            rows.append(("latents tried", f"{', '.join(numbers)}, mean held-out log p(x)"))
        return show.Table("Fit", ("part", "what it is"), rows)
