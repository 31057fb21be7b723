"""Reads and checks what is said, one JSON object a line, in both directions.

`protocol.md` describes the conversation, `message.schema.json` the same for machines. Everything here raises
`MalformedError` with a message that says what came, what was wanted, and where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..activations import ACTIVATIONS
from ..checks import quoted, shortened
from ..strict_json import parse as parse_json
from ..types import Floats
from .comparison import PRECISIONS
from .quantities import QUANTITIES
from .tensors import MalformedError, decode, json_kind

PROTOCOL = 1
CODES = ("shape", "domain", "unsupported")
LONGEST_LINE = 1 << 19
"""Bytes of an answer; the longest to any case takes 20 000."""
LONGEST_REQUEST = 1 << 23

_LONGEST_TEXT = 10_000
_LONGEST_NAME, _LONGEST_REMARK = 60, 400
"""Characters of a text that are kept."""
_MOST_NUMBERS, _MOST_ARRAYS = 1 << 14, 1 << 10
"""Of an answer; no case wants more than 633 numbers."""


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
    raw = line if isinstance(line, bytes) else line.encode(errors="surrogatepass")
    try:
        value = parse_json(raw, "; send such numbers as a tensor object with f64")
    except ValueError as error:
        raise MalformedError(f"got {_beginning(raw)}, which {error}") from None
    if not isinstance(value, dict):
        raise MalformedError(f"got {_beginning(raw)}, wanted a JSON object")
    return value


def read_introduction(message: dict[str, Any], seq: int) -> tuple[Implementation, tuple[str, ...]]:
    """Reads the answer to start: returns who answers and which quantities are offered."""
    _check_seq(message, seq)
    return read_header({name: value for name, value in message.items() if name != "seq"})


def read_header(message: dict[str, Any]) -> tuple[Implementation, tuple[str, ...]]:
    """Reads an introduction without its number, with which a file of answers begins."""
    _fields("the answer to start", message, {"implementation", "quantities"})
    who = message["implementation"]
    _fields("implementation", who, set(Implementation._fields))
    implementation = Implementation(
        *(_text(f"implementation.{name}", who[name], _LONGEST_NAME) for name in Implementation._fields)
    )
    if implementation.precision not in PRECISIONS:
        got = quoted(implementation.precision)
        raise MalformedError(f"implementation.precision: got {got}, wanted 'float64' or 'float32'")
    offered = message["quantities"]
    if not isinstance(offered, list) or not all(isinstance(name, str) for name in offered):
        raise MalformedError("quantities: wanted a list of names such as ['log_marginal', 'vlb']")
    for name in offered:
        if name not in QUANTITIES:
            raise MalformedError(f"quantities: got {quoted(name)}, wanted some of {', '.join(QUANTITIES)}")
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
        got = (
            f"the unknown field {quoted(unknown[0])}"
            if unknown
            else f"{' and '.join(sorted(message)) or 'none of them'}"
        )
        raise MalformedError(f"got {got}, wanted exactly one of result, error, skipped")
    ((kind, value),) = message.items()
    if kind == "result":
        if isinstance(value, dict) and not {"shape", "f64"} & value.keys():
            if not value:
                raise MalformedError("result: got an empty object, wanted a tensor or tensors by name")
            if len(value) > _MOST_ARRAYS:
                raise MalformedError(f"result: got {len(value)} tensors by name, wanted at most {_MOST_ARRAYS}")
            return Result(
                {name: decode(f"result.{shortened(name)}", part, _MOST_NUMBERS) for name, part in value.items()}
            )
        return Result(decode("result", value, _MOST_NUMBERS))
    if kind == "error":
        _fields("error", value, {"code", "message"})
        if value["code"] not in CODES:
            raise MalformedError(f"error.code: got {json_kind(value['code'])}, wanted one of {', '.join(CODES)}")
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
            raise MalformedError(f"protocol: got {json_kind(message['protocol'])}, wanted {PROTOCOL}")
        return
    if op != "evaluate":
        raise MalformedError(f"op: got {json_kind(op)}, wanted start, evaluate or stop")
    wanted = {"seq", "op", "case", "quantity", "model", "inputs"}
    _fields("evaluate", message, wanted | ({"posterior"} & message.keys()))
    _text("case", message["case"])
    if not isinstance(message["quantity"], str) or message["quantity"] not in QUANTITIES:
        raise MalformedError(f"quantity: got {json_kind(message['quantity'])}, wanted one of {', '.join(QUANTITIES)}")
    for part in ("model", "posterior"):
        if part in message:
            _fields(part, message[part], {"activation", "parameters"})
            name = message[part]["activation"]
            if not isinstance(name, str):
                known = ", ".join(map(repr, ACTIVATIONS))
                raise MalformedError(f"{part}.activation: got {json_kind(name)}, wanted a name such as {known}")
            _tensors(f"{part}.parameters", message[part]["parameters"])
    _tensors("inputs", message["inputs"])


def _tensors(what: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise MalformedError(f"{what}: wanted tensors by name")
    for name, part in value.items():
        if not isinstance(part, dict):
            raise MalformedError(f"{what}.{shortened(name)}: wanted the tensor object")
        decode(f"{what}.{shortened(name)}", part)


def _check_seq(message: dict[str, Any], seq: int) -> None:
    got = message.get("seq")
    if "seq" not in message:
        raise OutOfStepError(f"got an answer without seq, wanted seq {seq}, that of the question")
    if type(got) is not int or got != seq:
        known = type(got) is int and 0 < got < seq
        raise OutOfStepError(
            f"seq: got {json_kind(got)}, {'which was answered before, ' if known else ''}wanted {seq}, the question's"
        )


def _fields(what: str, value: Any, wanted: set[str]) -> None:
    """Refuses all but exactly these fields."""
    if not isinstance(value, Mapping):
        raise MalformedError(f"{what}: got {json_kind(value)}, wanted an object of {', '.join(sorted(wanted))}")
    unknown, missing = sorted(value.keys() - wanted), sorted(wanted - value.keys())
    if unknown:
        raise MalformedError(f"{what}: got the unknown field {quoted(unknown[0])}, wanted {', '.join(sorted(wanted))}")
    if missing:
        raise MalformedError(f"{what}: the field {missing[0]!r} is missing")


def _text(what: str, value: object, most: int = _LONGEST_REMARK) -> str:
    """The text, of which so many characters are kept: what a program says ends up in messages."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise MalformedError(f"{what}: wanted a string of at most {_LONGEST_TEXT} characters")
    return shortened(value, most)


def _beginning(raw: bytes) -> str:
    return quoted(shortened(raw[:300].decode("utf-8", "replace")))
