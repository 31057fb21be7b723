"""In which order layers are applied, from their names and widths, where a framework's source does not say it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from ...checks import quoted
from .layers import IN_ORDER, Layer, list_of

_STEPS = 10_000
_MOST = 64


def ordered(argument: str, layers: Sequence[Layer], *, given: bool) -> list[Layer]:
    """The layers in the order of application.

    given: whether they come in it, as far as the source knows; numbers in names that go down belie that. Otherwise
    names that differ only in numbers follow their numbers (fc2 before fc10), and widths must leave a single order.
    Raises ValueError, saying to pass layers=, where they leave none or several.
    """
    check_one_network(argument, layers)
    families: dict[str, list[Layer]] = defaultdict(list)
    for layer in layers:
        families[re.sub(r"\d+", "#", layer.name)].append(layer)
    by_number = [sorted(family, key=lambda layer: _numbers(layer.name)) for family in families.values()]
    ascending = [[layer.name for layer in family] for family in by_number] == [
        [layer.name for layer in family] for family in families.values()
    ]
    if given and ascending:
        return list(layers)
    if len(families) == 1:
        return by_number[0]
    found = _orders(by_number) if len(layers) <= _MOST else None
    if found is None or len(found) > 1:
        raise ValueError(
            f"{argument}: got the layers {list_of(layers)}, which fit together in several orders, and nothing "
            f"says in which; {IN_ORDER}"
        )
    if not found:
        raise ValueError(
            f"{argument}: got the layers {list_of(layers)}, and in no order does each take what the one before it "
            f"gives; pass prefix= for a part of them, or {IN_ORDER}"
        )
    return found[0]


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d{1,18}", name)))


def check_one_network(argument: str, layers: Sequence[Layer]) -> None:
    """Refuse an encoder and a decoder side by side: as one network they may well fit together."""
    parts: dict[str, list[str]] = defaultdict(list)
    for layer in layers:
        top = re.match(r"[^./]*[./]?", layer.name)
        if top:
            parts[re.sub(r"\d+", "#", top[0])].append(top[0])
    several = [names[0] for part, names in parts.items() if len(names) > 1 and part[-1] in "./"]
    encoders, decoders = ([names[0] for part, names in parts.items() if part.startswith(s)] for s in ("enc", "dec"))
    if encoders and decoders:
        several = [encoders[0], decoders[0]]
    if len(several) > 1:
        raise ValueError(
            f"{argument}: got several networks, {', '.join(map(quoted, several[:6]))}, wanted one; pass "
            f"prefix={quoted(several[-1])}, or layers=[...] with the names of all layers in their order"
        )


def _orders(families: list[list[Layer]]) -> list[list[Layer]] | None:
    """Up to two orders in which widths fit and each family keeps its own, or None where looking takes too long."""
    found: list[list[Layer]] = []
    steps = 0

    def extend(order: list[Layer], taken: list[int]) -> None:
        nonlocal steps
        steps += 1
        if len(found) > 1 or steps > _STEPS:
            return
        if len(order) == sum(map(len, families)):
            found.append(list(order))
            return
        for number, family in enumerate(families):
            if taken[number] < len(family):
                layer = family[taken[number]]
                if not order or order[-1].fan_out == layer.fan_in:
                    taken[number] += 1
                    extend([*order, layer], taken)
                    taken[number] -= 1

    extend([], [0] * len(families))
    return None if steps > _STEPS else found
