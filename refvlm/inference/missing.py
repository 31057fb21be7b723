"""Rows with missing bits: a bit that is not observed is summed out, and that is a factor of 1 in p(x|z), eq. (2).

So log p of the bits that are there is log p under the decoder without the other outputs, exactly; rows with the same
pattern go together. The encoder sees 0 where a bit is missing: any q keeps the bound valid. As a 0 adds nothing to the
first layer, that is the encoder without these inputs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..checks import as_array, as_binary, as_weights, check_choice, is_frame
from ..model.latent_variable import BernoulliLVM
from ..model.mlp import MLP, Network, Pullback
from ..model.parameters import Parameters, prefixed
from ..model.recognition import (
    AmortisedPosterior,
    ChainPosterior,
    FactorisedPosterior,
    LayerwisePosterior,
    PerDatumPosterior,
    Posterior,
)
from ..types import Bits, Floats
from .arrays import check_model

Missing = Literal["refuse", "marginalise"]
Columns = NDArray[np.int64]
Mask = NDArray[np.bool_]
"""Which bits are observed, (N, L)."""
F = TypeVar("F", bound=Callable[..., Any])

CERTAIN = -1e3
"""The logit of a bit that is 0 with a probability whose logarithm is 0: such a 0 stands for nothing observed at all."""


def split(x: ArrayLike, columns: int | None, name: str = "x") -> tuple[Bits, Mask]:
    """The bits, 0 where one is missing, and which are observed, (N, L) each: missing are NaN, NA and masked ones.

    Raises ValueError or TypeError for what else is not binary; messages name `name`.
    """
    if is_frame(x):
        x = cast("Any", x).to_numpy(dtype=np.float64, na_value=np.nan)
    masked = np.ma.getmaskarray(x) if isinstance(x, np.ma.MaskedArray) else None
    array = as_array(name, np.ma.getdata(x) if isinstance(x, np.ma.MaskedArray) else x)
    absent = np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, np.bool_)
    if masked is not None:
        absent = absent | masked
    return as_binary(name, np.where(absent, 0, array), columns), ~absent


def join(x: Bits, observed: Mask | None) -> Bits | Floats:
    """The rows that `split` took apart: NaN where a bit is not observed, x itself where all are, observed None."""
    return x if observed is None else np.where(observed, x.astype(np.float64), np.nan)


class Part(NamedTuple):
    """Rows with the same bits observed, and the model and q of these bits alone."""

    rows: NDArray[np.int64]
    columns: Columns
    x: Bits
    model: BernoulliLVM
    q: Posterior | None


def parts(model: BernoulliLVM, q: Posterior | None, x: ArrayLike) -> Iterator[Part]:
    """The patterns of missing bits one after the other; one without rows, where x has none."""
    bits, observed = split(x, model.observed)
    if len(bits) == 0:
        yield Part(np.zeros(0, np.int64), np.arange(model.observed), bits, model, q)
        return
    patterns, number = np.unique(observed, axis=0, return_inverse=True)
    for n, pattern in enumerate(patterns):
        rows, columns = np.flatnonzero(number.ravel() == n), np.flatnonzero(pattern)
        taken = q if q is None else _of_rows(q, rows)
        if pattern.all():
            yield Part(rows, columns, bits[rows], model, taken)
            continue
        seen = np.ascontiguousarray(bits[np.ix_(rows, columns)]) if len(columns) else np.zeros((len(rows), 1), np.uint8)
        decoder = _decoder_of(model.decoder, columns)
        restricted = BernoulliLVM(prior=model.prior, decoder=decoder)
        yield Part(rows, columns, seen, restricted, taken if taken is None else _seeing(taken, columns))


def _of_rows(q: Posterior, rows: NDArray[np.int64]) -> Posterior:
    if isinstance(q, (PerDatumPosterior, LayerwisePosterior)):
        return q.take(rows)
    if isinstance(q, ChainPosterior) and isinstance(q.stages[0], PerDatumPosterior):
        return ChainPosterior([q.stages[0].take(rows), *q.stages[1:]])
    return q


def _decoder_of(decoder: Network, columns: Columns) -> Network:
    """The decoder with these outputs alone."""
    if not isinstance(decoder, MLP):
        return _Outputs(decoder, columns)
    weights, biases = decoder.weights[-1][:, columns], decoder.biases[-1][columns]
    if len(columns) == 0:
        weights, biases = np.zeros((len(decoder.weights[-1]), 1)), np.array([CERTAIN])
    return MLP([*decoder.weights[:-1], weights], [*decoder.biases[:-1], biases], decoder.activation)


def _seeing(q: Posterior, columns: Columns) -> Posterior:
    """q whose encoders that read x take these inputs alone."""
    if isinstance(q, ChainPosterior):
        return ChainPosterior([_stage_seeing(q.stages[0], columns), *q.stages[1:]])
    if isinstance(q, LayerwisePosterior):
        return LayerwisePosterior([_stage_seeing(stage, columns) for stage in q.stages])
    return _stage_seeing(q, columns)


def _stage_seeing(stage: FactorisedPosterior, columns: Columns) -> FactorisedPosterior:
    if isinstance(stage, PerDatumPosterior):
        return stage
    encoder = stage.encoder
    if not isinstance(encoder, MLP):
        return AmortisedPosterior(_Inputs(encoder, columns))
    first = encoder.weights[0][columns] if len(columns) else np.zeros((1, encoder.weights[0].shape[1]))
    return AmortisedPosterior(MLP([first, *encoder.weights[1:]], encoder.biases, encoder.activation))


class _Outputs:
    """Some outputs of a network that is no MLP; its parameters are all of that network's."""

    def __init__(self, network: Network, columns: Columns) -> None:
        self.network, self.columns = network, columns
        self.fan_in, self.fan_out = network.fan_in, max(len(columns), 1)

    def forward(self, inputs: Floats) -> tuple[Floats, Pullback]:
        """Logits of these outputs; the others have no slope."""
        logits, pullback = self.network.forward(inputs)
        chosen = logits[:, self.columns] if len(self.columns) else np.full((len(logits), 1), CERTAIN)

        def back(slopes: Floats) -> Parameters:
            whole = np.zeros_like(logits)
            if len(self.columns):
                whole[:, self.columns] = slopes
            return pullback(whole)

        return chosen, back

    def parameters(self) -> Parameters:
        """The network's."""
        return self.network.parameters()


class _Inputs:
    """A network that is no MLP and sees 0 where no bit is observed."""

    def __init__(self, network: Network, columns: Columns) -> None:
        self.network, self.columns = network, columns
        self.fan_in, self.fan_out = max(len(columns), 1), network.fan_out

    def forward(self, inputs: Floats) -> tuple[Floats, Pullback]:
        """Its logits."""
        whole = np.zeros((len(inputs), self.network.fan_in))
        if len(self.columns):
            whole[:, self.columns] = inputs
        return self.network.forward(whole)

    def parameters(self) -> Parameters:
        """The network's."""
        return self.network.parameters()


def sums_out_missing(function: F) -> F:
    """Gives a function of (model, x), or of (model, q, x), what its argument `missing` asks for.

    Arrays are put together row by row; gradients, which are dictionaries, are added up.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def answer(*positional: Any, **named: Any) -> Any:
        if named.get("missing", "refuse") == "refuse":
            return function(*positional, **named)
        check_choice("missing", named.pop("missing"), ("marginalise", "refuse"))
        given = dict(signature.bind(*positional, **named).arguments)
        model, x, q = given.pop("model"), given.pop("x"), given.pop("q", None)
        check_model(model)
        weights = given.pop("weights", None)

        def of(part: Part) -> Any:
            own = {} if weights is None else {"weights": np.asarray(weights)[part.rows]}
            known = {} if q is None else {"q": part.q}
            return function(model=part.model, x=part.x, **known, **own, **given)

        if weights is not None:
            weights = as_weights(weights, len(split(x, model.observed)[0]))
        names = dict(model.parameters()) | prefixed("model.", model.parameters())
        if q is not None:
            names |= prefixed("posterior.", q.parameters())
        found = [(part, of(part)) for part in parts(model, q, x)]
        return _together([part for part, _ in found], [each for _, each in found], names)

    return cast("F", answer)


def _together(pieces: list[Part], answers: list[Any], parameters: Parameters) -> Any:
    first = answers[0]
    if isinstance(first, dict):
        total = {name: np.zeros_like(parameters[name]) for name in first}
        for part, gradient in zip(pieces, answers, strict=True):
            for name, value in gradient.items():
                _add(total[name], name, value, part)
        return total
    if isinstance(first, tuple):
        columns = [_together(pieces, list(each), parameters) for each in zip(*answers, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    whole = np.empty((sum(len(part.rows) for part in pieces), *first.shape[1:]), first.dtype)
    for part, value in zip(pieces, answers, strict=True):
        whole[part.rows] = value
    return whole


def _add(total: Floats, name: str, value: Floats, part: Part) -> None:
    """Adds a part's gradient where it belongs: to outputs and inputs that were seen, and to its own rows of phi."""
    last = name.rpartition(".")[2]
    if last == "logits" and "posterior." in name:
        total[part.rows] += value
    elif value.shape == total.shape:
        total += value
    elif len(part.columns) and name.startswith("posterior."):
        total[part.columns] += value
    elif len(part.columns):
        total[..., part.columns] += value
