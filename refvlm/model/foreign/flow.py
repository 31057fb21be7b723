"""A network as its modules one after the other, and what an MLP takes of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ...checks import quoted, shortened
from .layers import Layer, needed
from .order import check_one_network, ordered


class Step(NamedTuple):
    """A module: a layer, an activation, or what changes nothing.

    name: where it is; kind: its class; layer, activation: what it is, at most one of them not None. follows: whether
    the step before is certain to feed it, which a Sequential makes certain and a forward of one's own does not.
    """

    name: str
    kind: str
    layer: Layer | None
    activation: str | None
    follows: bool

    def __str__(self) -> str:
        return f"{self.kind} {quoted(self.name)}"


class Flow(NamedTuple):
    """Layers in the order of application, the activation between them, and the last sigmoid if there is one."""

    layers: list[Layer]
    activation: str
    link: Step | None


def read(argument: str, steps: Sequence[Step], said: str | None, unread: str) -> Flow:
    """What these steps do, as far as they are certain to follow each other, and what has been said about the rest.

    said: the activation that the caller gave, or None. unread: why an activation may not be readable, for a message.
    Raises ValueError for steps that no MLP of ours has, and where `said` is missing or contradicts what was read.
    """
    if not all(step.follows for step in steps[1:]):
        check_one_network(argument, [step.layer for step in steps if step.layer is not None])
    layers: list[Layer] = []
    between: list[Step] = []  # activations that certainly stand between two layers
    elsewhere: list[Step] = []  # others, of which only a forward knows where they stand
    pending: list[Step] = []
    certain = in_order = True
    for step in steps:
        certain = certain and step.follows
        if step.layer is not None:
            if not certain:
                elsewhere += pending
                in_order = in_order and not layers
            elif layers:
                between.append(_only(argument, layers[-1], step.layer, pending))
            elif pending:
                raise ValueError(f"{argument}: begins with {pending[0]}, wanted a linear layer first; take it out")
            layers.append(step.layer)
            pending, certain = [], True
        elif step.activation is not None:
            pending.append(step)
    if not layers:
        raise ValueError(f"{argument}: got no layers, wanted at least one")
    if certain and pending and [step.activation for step in pending] != ["sigmoid"]:
        raise ValueError(
            f"{argument}: got {' and '.join(map(str, pending))} after the last layer, wanted logits: nothing there, or "
            "a sigmoid, which is the Bernoulli link"
        )
    link = pending[-1] if certain and pending else None
    if not certain:
        elsewhere += pending
        link = next((step for step in reversed(elsewhere) if step.activation == "sigmoid" != said), None)
    activation = _agreed(between, elsewhere, said)
    if len(layers) == 1 and (others := [step for step in elsewhere if step.activation != "sigmoid"]):
        raise ValueError(f"{argument}: got {others[0]} beside the single layer {layers[0]}, wanted logits, so nothing")
    if not in_order:
        if said is None:
            seen = f"; of activations it holds {', '.join(map(str, elsewhere))}" if elsewhere else ""
            needed(layers, None, unread + seen)
        layers = ordered(argument, layers, given=True)
    return Flow(layers, activation or needed(layers, said, unread), link)


def _only(argument: str, before: Layer, after: Layer, pending: Sequence[Step]) -> Step:
    """The one activation between two layers."""
    if not pending:
        raise ValueError(
            f"{argument}: got the layers {before} and {after}, which follow each other without an activation, wanted "
            "one between them; multiply the two weights into one layer"
        )
    if len(pending) > 1:
        raise ValueError(
            f"{argument}: got {' and '.join(map(str, pending))} between the layers {before} and {after}, wanted one "
            "activation between them"
        )
    return pending[0]


def _agreed(between: Sequence[Step], elsewhere: Sequence[Step], said: str | None) -> str | None:
    """The one activation of all steps, None if there is none; a ValueError where two differ."""
    read = between[0] if between else None
    for step in between:
        if read is not None and step.activation != read.activation:
            raise ValueError(
                f"activation: got {read} and {step} in one network, wanted the same activation after all hidden layers"
            )
    # A sigmoid of which the place is unknown may be the link.
    for step in [*between, *(step for step in elsewhere if step.activation != "sigmoid")]:
        if said is not None and step.activation != said:
            raise ValueError(f"activation: got {said!r} for a network with {step}, wanted the same everywhere")
    return None if read is None else read.activation


def check_constant(step: str, name: str, got: object, wanted: float, *, least: bool = False) -> None:
    """Refuse an activation whose constant is not ours; `least`: whether greater ones do as well."""
    try:
        number = float(got)  # type: ignore[arg-type]  # of whatever type the framework keeps it
    except (TypeError, ValueError):
        number = math.nan
    if not (number == wanted or (least and number > wanted)):
        bound = f"at least {wanted:g}" if least else f"{wanted:g}, the only one here"
        raise ValueError(f"activation: got {step} with {name}={shortened(str(got))}, wanted {bound}")


def unknown(
    argument: str, kind: str, name: str, skipped: Sequence[str], activations: Iterable[str], remedy: str
) -> ValueError:
    """The error about a module that no MLP has; `remedy`: how to pass a part of the network."""
    return ValueError(
        f"{argument}: got {kind} {quoted(name)}, wanted linear layers with {', '.join(activations)} between them, "
        f"besides {', '.join(skipped)}, which do nothing here; {remedy}"
    )


def say_link(argument: str, step: Step | None) -> None:
    """Warn whoever called the public function that its network's last sigmoid is left out."""
    if step is not None:
        warnings.warn(
            f"{argument}: the last {step} is left out: it is the Bernoulli link, which the model applies itself to the "
            "logits that its MLP gives",
            stacklevel=3,
        )
