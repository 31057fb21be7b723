"""The argument `checkpoint`: a file that keeps the finished parts of sums, from which an interrupted call goes on."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar, cast

from ..checks import as_binary, describe
from ..digests import digest_of
from ..enumeration.journal import Journal
from ..model.latent_variable import BernoulliLVM
from ..model.recognition import Posterior
from .arrays import check_model
from .missing import split

F = TypeVar("F", bound=Callable[..., Any])

Checkpoint = str | os.PathLike[str] | Journal | None
"""The name of the file, or the file that several calls share."""


def journal_of(
    path: str | os.PathLike[str], model: BernoulliLVM, q: Posterior | None = None, *, read_only: bool = False
) -> Journal:
    """The file for sums of this model, and of q if they are about it.

    Raises ValueError for a file of another model or other kernels, FileFormatError, a ValueError, for one that is
    damaged or no journal, OSError where it cannot be opened, and BlockingIOError where another process writes it.
    """
    return Journal(path, {"model or posterior": digest_of(*_described(model, q))}, read_only=read_only)


def _described(model: BernoulliLVM, q: Posterior | None) -> list[Any]:
    networks: list[Any] = [layer.decoder for layer in model.layers]
    if q is not None:
        networks += [getattr(stage, "encoder", None) for stage in q.stages]
    kinds = [(type(network).__name__, getattr(network, "activation", None)) for network in networks]
    return [kinds, model.parameters(), None if q is None else q.parameters()]


def opened(checkpoint: Checkpoint) -> Journal | None:
    """The open journal that a function under `keeps_sums` is given."""
    assert checkpoint is None or isinstance(checkpoint, Journal)
    return checkpoint


def digest_of_rows(x: Any, missing: str) -> str:
    """Of what counts as the same data."""
    return digest_of(*split(x, None)) if missing == "marginalise" else digest_of(as_binary("x", x, None))


def keeps_sums(function: F) -> F:
    """Gives a function of (model, x), or of (model, q, x), an open journal where its argument `checkpoint` is a path.

    Stands above `sums_out_missing`, so that one file serves all patterns of missing bits.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def answer(*positional: Any, **named: Any) -> Any:
        checkpoint = named.pop("checkpoint", None)
        if checkpoint is None:
            return function(*positional, **named)
        given = signature.bind(*positional, **named).arguments
        digest = digest_of_rows(given["x"], given.get("missing", "refuse"))
        if isinstance(checkpoint, Journal):
            checkpoint.begin_rows(digest)
            return function(*positional, **named, checkpoint=checkpoint)
        if not isinstance(checkpoint, (str, os.PathLike)):
            raise TypeError(f"checkpoint: got {describe(checkpoint)}, wanted the name of a file")
        with journal_of(checkpoint, check_model(given["model"]), given.get("q")) as journal:
            journal.begin_rows(digest)
            return function(*positional, **named, checkpoint=journal)

    return cast("F", answer)
