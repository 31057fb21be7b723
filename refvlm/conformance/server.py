"""refvlm at the other end of the conversation: answers questions, for trying a harness, and for programs that ask.

answer_lines(sys.stdin.buffer, write)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..checks import one_line
from . import ourselves
from .messages import LONGEST_REQUEST, check_request, parse
from .problems import RefusedError, read_problem
from .quantities import QUANTITIES
from .tensors import MalformedError, decode, encode
from .vectors import Network


def answer_lines(lines: Iterable[bytes], write: Callable[[dict[str, Any]], None]) -> None:
    """Answers requests until stop, or the end of the lines.

    Raises MalformedError for a line that is no request.
    """
    for line in lines:
        if len(line) > LONGEST_REQUEST:
            raise MalformedError(f"got a line of more than {LONGEST_REQUEST} bytes, wanted a shorter request")
        message = parse(line)
        check_request(message)
        if message["op"] == "stop":
            return
        if message["op"] == "start":
            who = ourselves.INTRODUCTION._asdict()
            write({"seq": message["seq"], "implementation": who, "quantities": list(QUANTITIES)})
        else:
            write({"seq": message["seq"], **_outcome(message)})


def _outcome(message: dict[str, Any]) -> dict[str, Any]:
    """Returns the result or the error."""
    posterior = _network(message["posterior"]) if "posterior" in message else None
    inputs = {name: decode(name, value) for name, value in message["inputs"].items()}
    try:
        problem = read_problem(message["quantity"], _network(message["model"]), posterior, inputs)
        answer = ourselves.answer(problem)
    except RefusedError as error:
        return {"error": {"code": error.code, "message": one_line(error)}}
    except ValueError as error:  # what refvlm itself does not take: too large, or VLB = -inf under a gradient
        return {"error": {"code": "unsupported", "message": one_line(error)}}
    if isinstance(answer, dict):
        return {"result": {name: encode(value) for name, value in answer.items()}}
    return {"result": encode(answer)}


def _network(value: dict[str, Any]) -> Network:
    parameters = {name: decode(name, part) for name, part in value["parameters"].items()}
    return Network(value["activation"], parameters)
