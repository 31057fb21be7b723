"""JSON as it stands in files and comes from other programs: one meaning or none."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from .checks import quoted


class _RefusedError(ValueError):
    """What is wrong, in words of ours."""


def parse(text: bytes, remedy: str = "") -> Any:
    """The value of a JSON text in UTF-8.

    Raises ValueError, which goes on a sentence about the text, for all that is not JSON, for NaN and infinity (then
    followed by `remedy`), for a name that stands twice in an object, since programs differ in which one they take, and
    for what is nested too deeply or has integers of thousands of digits.
    """

    def refuse(constant: str) -> NoReturn:
        raise _RefusedError(f"has {constant}, which JSON does not have{remedy}")

    try:
        return json.loads(text.decode(), object_pairs_hook=_unique, parse_constant=refuse)
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 ({error.reason} at byte {error.start})"
    except json.JSONDecodeError as error:
        reason = f"is not JSON ({error.msg} at line {error.lineno}, column {error.colno})"
    except RecursionError:
        reason = "is JSON nested too deeply"
    except _RefusedError:
        raise
    except ValueError:
        reason = "has an integer of more digits than can be read"
    raise ValueError(reason)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _RefusedError(f"has the name {quoted(name)} twice in one object")
        found[name] = value
    return found
