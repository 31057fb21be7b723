"""Reads and checks what is said, one JSON object a line, in both directions.

`protocol.md` describes the conversation, `message.schema.json` the same for machines. Everything here raises
`MalformedError` with a message that says what came, what was wanted, and where.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

from ..activations import ACTIVATIONS
from ..types import Floats
from .comparison import PRECISIONS
from .quantities import QUANTITIES
from .tensors import MalformedError, decode

PROTOCOL = 1
CODES = ("shape", "domain", "unsupported")
LONGEST_LINE = 1 << 24
"""Bytes; the longest answer to any case takes less than a hundredth of it."""

_LONGEST_TEXT = 10_000


class OutOfStepError(MalformedError):
    """An answer without the number of its question: from here on answers cannot be assigned."""


class Implementation(NamedTuple):
    """The program that answers."""

    name: str
    version: str
    language: str
    precision: str


class Result(NamedTuple):
    """The numbers of an answer: one array, or arrays by name."""

    value: Floats | dict[str, Floats]


class Refused(NamedTuple):
    """An answer that refuses the question. code: one of CODES."""

    code: str
    message: str


class Skipped(NamedTuple):
    """An answer that leaves the question out."""

    reason: str


Answer = Result | Refused | Skipped


def parse(line: str | bytes) -> dict[str, Any]:
    """Returns the object of a line; NaN, infinity and repeated names are refused."""
    try:
        text = line.decode("utf-8") if isinstance(line, bytes) else line
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise MalformedError(f"got bytes that are not UTF-8 ({error.reason})") from None
    except json.JSONDecodeError as error:
        raise MalformedError(
            f"got {_beginning(line)}, which is not JSON ({error.msg} at column {error.colno})"
        ) from None
    except RecursionError:
        raise MalformedError(f"got {_beginning(line)}, JSON nested too deeply") from None
    except MalformedError:
        raise
    except ValueError as error:  # an integer of more digits than Python converts
        raise MalformedError(f"got {_beginning(line)}, which cannot be read ({error})") from None
    if not isinstance(value, dict):
        raise MalformedError(f"got {_beginning(line)}, wanted a JSON object")
    return value


def read_introduction(message: dict[str, Any], seq: int) -> tuple[Implementation, tuple[str, ...]]:
    """Reads the answer to start: returns who answers and which quantities are offered."""
    _check_seq(message, seq)
    return read_header({name: value for name, value in message.items() if name != "seq"})


def read_header(message: dict[str, Any]) -> tuple[Implementation, tuple[str, ...]]:
    """Reads an introduction without its number, with which a file of answers begins."""
    _fields("the answer to start", message, {"implementation", "quantities"})
    who = message["implementation"]
    if not isinstance(who, dict):
        raise MalformedError("implementation: wanted an object of name, version, language and precision")
    _fields("implementation", who, set(Implementation._fields))
    implementation = Implementation(*(_text(f"implementation.{name}", who[name]) for name in Implementation._fields))
    if who["precision"] not in PRECISIONS:
        raise MalformedError(f"implementation.precision: got {who['precision']!r}, wanted 'float64' or 'float32'")
    offered = message["quantities"]
    if not isinstance(offered, list) or not all(isinstance(name, str) for name in offered):
        raise MalformedError("quantities: wanted a list of names such as ['log_marginal', 'vlb']")
    for name in offered:
        if name not in QUANTITIES:
            raise MalformedError(f"quantities: got {name!r}, wanted some of {', '.join(QUANTITIES)}")
    if len(set(offered)) < len(offered):
        raise MalformedError("quantities: got a name twice")
    return implementation, tuple(offered)


def read_answer(message: dict[str, Any], seq: int) -> Answer:
    """Reads the answer to evaluate."""
    _check_seq(message, seq)
    return read_outcome({name: value for name, value in message.items() if name != "seq"})


def read_outcome(message: Mapping[str, Any]) -> Answer:
    """Reads exactly one of result, error and skipped."""
    if len(message) != 1 or not message.keys() <= {"result", "error", "skipped"}:
        unknown = sorted(message.keys() - {"result", "error", "skipped"})
        got = f"the unknown field {unknown[0]!r}" if unknown else f"{' and '.join(sorted(message)) or 'none of them'}"
        raise MalformedError(f"got {got}, wanted exactly one of result, error, skipped")
    ((kind, value),) = message.items()
    if kind == "result":
        if isinstance(value, dict) and not {"shape", "f64"} & value.keys():
            if not value:
                raise MalformedError("result: got an empty object, wanted a tensor or tensors by name")
            return Result({name: decode(f"result.{name}", part) for name, part in value.items()})
        return Result(decode("result", value))
    if not isinstance(value, dict):
        raise MalformedError(f"{kind}: wanted an object")
    if kind == "error":
        _fields("error", value, {"code", "message"})
        if value["code"] not in CODES:
            raise MalformedError(f"error.code: got {str(value['code'])[:40]!r}, wanted one of {', '.join(CODES)}")
        return Refused(value["code"], _text("error.message", value["message"]))
    _fields("skipped", value, {"reason"})
    return Skipped(_text("skipped.reason", value["reason"]))


def check_request(message: Mapping[str, Any]) -> None:
    """Checks a request, as strictly as answers are checked."""
    op = message.get("op")
    if op == "stop":
        _fields("stop", message, {"op"})
        return
    if type(message.get("seq")) is not int:
        raise MalformedError("seq: wanted an integer")
    if op == "start":
        _fields("start", message, {"seq", "op", "protocol"})
        if message["protocol"] != PROTOCOL:
            raise MalformedError(f"protocol: got {message['protocol']!r}, wanted {PROTOCOL}")
        return
    if op != "evaluate":
        raise MalformedError(f"op: got {op!r}, wanted start, evaluate or stop")
    wanted = {"seq", "op", "case", "quantity", "model", "inputs"}
    _fields("evaluate", message, wanted | ({"posterior"} & message.keys()))
    _text("case", message["case"])
    if message["quantity"] not in QUANTITIES:
        raise MalformedError(f"quantity: got {message['quantity']!r}, wanted one of {', '.join(QUANTITIES)}")
    for part in ("model", "posterior"):
        if part in message:
            _fields(part, message[part], {"activation", "parameters"})
            name = message[part]["activation"]
            if not isinstance(name, str):
                known = ", ".join(map(repr, ACTIVATIONS))
                raise MalformedError(f"{part}.activation: got {name!r}, wanted a name such as {known}")
            _tensors(f"{part}.parameters", message[part]["parameters"])
    _tensors("inputs", message["inputs"])


def _tensors(what: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise MalformedError(f"{what}: wanted tensors by name")
    for name, part in value.items():
        if not isinstance(part, dict):
            raise MalformedError(f"{what}.{name}: wanted the tensor object")
        decode(f"{what}.{name}", part)


def _check_seq(message: dict[str, Any], seq: int) -> None:
    got = message.get("seq")
    if "seq" not in message:
        raise OutOfStepError(f"got an answer without seq, wanted seq {seq}, that of the question")
    if type(got) is not int or got != seq:
        known = type(got) is int and 0 < got < seq
        raise OutOfStepError(
            f"seq: got {str(got)[:40]}, {'which was answered before, ' if known else ''}wanted {seq}, the question's"
        )


def _fields(what: str, value: Mapping[str, Any], wanted: set[str]) -> None:
    """Refuses all but exactly these fields."""
    unknown, missing = sorted(value.keys() - wanted), sorted(wanted - value.keys())
    if unknown:
        raise MalformedError(f"{what}: got the unknown field {unknown[0]!r}, wanted {', '.join(sorted(wanted))}")
    if missing:
        raise MalformedError(f"{what}: the field {missing[0]!r} is missing")


def _text(what: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise MalformedError(f"{what}: wanted a string of at most {_LONGEST_TEXT} characters")
    return printable(value)


def printable(text: str) -> str:
    """Returns the text without the characters that a terminal obeys instead of showing."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        raise MalformedError(f"got the field {next(n for n in names if names.count(n) > 1)!r} twice in one object")
    return fields


def _no_constant(name: str) -> NoReturn:
    raise MalformedError(f"got {name}, which JSON does not have; send such numbers as a tensor object with f64")


def _beginning(line: str | bytes) -> str:
    text = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else text[:57] + "...")
