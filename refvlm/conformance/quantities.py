"""The quantities that the protocol knows and their inputs, as `quantities.json` lists them.

That file is the one list: the protocol's table, the schemas and validation/vectors.py follow it, and tests hold them to
it. It is in the order in which the published cases ask, to which new quantities are added at the end.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import resources
from typing import Any, NamedTuple


class Input(NamedTuple):
    """What a question brings along.

    shape: N rows of data, S draws, M draws for a row, K latent and L observed bits. values: "bits", "uniforms" in
    [0, 1), "number" or "count", a whole number of at least 1.
    layers: of a name that ends with a star, which stands for z, z2, ...: those of the "model", or of the "posterior".
    """

    shape: tuple[str, ...]
    values: str
    layers: str


class Quantity(NamedTuple):
    """What can be asked for.

    kind: "nats" (one number per row), "probabilities", "gradient" (of a sum over rows, by parameter), "draws", "step"
    (parameters after it) or "estimates" (one draw of a gradient, row by row). inputs: names in INPUTS. posterior:
    whether q is needed. result: what comes back, as `protocol.md` states it. made_of: the quantities that go wrong
    before this one does. edition: that of the published cases which first asks for it.
    """

    kind: str
    inputs: tuple[str, ...]
    posterior: bool
    result: str
    made_of: tuple[str, ...]
    edition: int


def _record(kind: Any, fields: dict[str, Any]) -> Any:
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})


_TEXT = json.loads(resources.files(__package__).joinpath("quantities.json").read_text(encoding="utf-8"))
_LISTED = {name: _record(Quantity, fields) for name, fields in _TEXT["quantities"].items()}

INPUTS: dict[str, Input] = {name: _record(Input, fields) for name, fields in _TEXT["inputs"].items()}


def parts_first(names: Iterable[str]) -> list[str]:
    """Returns these quantities and all that they are made of, each after its parts."""
    ordered: dict[str, None] = {}
    for name in names:
        ordered |= dict.fromkeys([*parts_first(_LISTED[name].made_of), name])
    return list(ordered)


QUANTITIES: dict[str, Quantity] = {name: _LISTED[name] for name in parts_first(_LISTED)}
"""By name, in an order in which an implementation is well built: parts before what is made of them."""


def latent_name(depth: int) -> str:
    """Returns the name of a latent layer: z, z2, z3, ... from x upwards."""
    return "z" if depth == 0 else f"z{depth + 1}"


def expanded(pattern: str, layers: int) -> list[str]:
    """Returns the inputs that a name in INPUTS stands for, where a star stands for that many latent layers."""
    return [pattern[:-1] + latent_name(depth) for depth in range(layers)] if pattern.endswith("*") else [pattern]
