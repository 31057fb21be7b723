"""The conversation, for a candidate in Python: standard input to standard output, NumPy and nothing of refvlm.

    serve({"name": ..., "version": ..., "language": ..., "precision": "float64"}, {"log_marginal": function, ...})

Each function is called with (model, posterior, inputs): model and posterior are (activation, {name: array}), posterior
None where none is needed, inputs {name: array}. It gives an array, or arrays by name.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
from collections.abc import Callable
from typing import Any

import numpy as np


class Refusal(Exception):
    """A question that is wrong: code "shape" or "domain", or one that we have no answer to: "unsupported"."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def options() -> tuple[str, bool]:
    """The precision that the command line asks for, and whether the answers are to be wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("precision", nargs="?", default="float64", choices=("float64", "float32"))
    parser.add_argument("--wrong", action="store_true", help="make one mistake")
    arguments = parser.parse_args()
    return arguments.precision, arguments.wrong


def serve(who: dict[str, str], functions: dict[str, Callable[..., Any]]) -> None:
    """Answer until stop."""
    for line in sys.stdin:
        message = json.loads(line)
        if message["op"] == "stop":
            return
        if message["op"] == "start":
            answer: dict[str, Any] = {"implementation": who, "quantities": list(functions)}
        else:
            answer = outcome(message, functions)
        print(json.dumps({"seq": message["seq"], **answer}), flush=True)


def outcome(message: dict[str, Any], functions: dict[str, Callable[..., Any]]) -> dict[str, Any]:
    model = network(message["model"])
    posterior = network(message["posterior"]) if "posterior" in message else None
    inputs = {name: decode(value) for name, value in message["inputs"].items()}
    try:
        check(model, posterior, inputs)
        result = functions[message["quantity"]](model, posterior, inputs)
    except Refusal as error:
        return {"error": {"code": error.code, "message": str(error)}}
    if isinstance(result, dict):
        return {"result": {name: encode(value) for name, value in result.items()}}
    return {"result": encode(result)}


def network(value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return value["activation"], {name: decode(part) for name, part in value["parameters"].items()}


def decode(tensor: dict[str, Any]) -> Any:
    """Sixteen hexadecimal digits are the bits of a double, most significant first."""
    numbers = [struct.unpack(">d", bytes.fromhex(digits))[0] for digits in tensor["f64"]]
    return np.array(numbers, dtype=np.float64).reshape(tensor["shape"])


def encode(array: Any) -> dict[str, Any]:
    numbers = np.asarray(array, dtype=np.float64)
    return {"shape": list(numbers.shape), "f64": [struct.pack(">d", number).hex() for number in numbers.ravel()]}


def check(model: Any, posterior: Any, inputs: dict[str, Any]) -> None:
    """Shapes first, then what the numbers may be: frameworks would broadcast, or compute with NaN."""
    widths = [observed(model[1])]
    prefix = ""
    while f"{prefix}decoder.weights.0" in model[1]:
        fan_in, fan_out = fans(model[1], f"{prefix}decoder.")
        want(fan_out == widths[-1], f"{prefix}decoder gives {fan_out} logits, wanted {widths[-1]}")
        widths.append(fan_in)
        prefix += "prior."
    top = model[1][f"{prefix}logits"]
    want(top.shape == (widths[-1],), f"{prefix}logits have shape {top.shape}, wanted ({widths[-1]},)")
    for depth in range(len(widths) - 1):
        name = f"{depth}.encoder." if posterior and "0.encoder.weights.0" in posterior[1] else "encoder."
        if posterior and f"{name}weights.0" in posterior[1] and (depth == 0 or name != "encoder."):
            got = fans(posterior[1], name)
            want(got == tuple(widths[depth : depth + 2]), f"{name}: {got}, wanted {widths[depth : depth + 2]}")
    rows: dict[bool, int] = {}
    for name, value in inputs.items():
        if name == "learning_rate":
            continue
        layer = name.rpartition("_")[2]
        width = widths[0] if layer == "x" else widths[int(layer[1:] or 1)]
        want(value.ndim == 2 and value.shape[1] == width, f"{name} has shape {value.shape}, wanted (rows, {width})")
        dreamt = name.startswith("uniforms")
        want(len(value) == rows.setdefault(dreamt, len(value)), f"{name} has {len(value)} rows, wanted {rows[dreamt]}")
    finite = [v for part in (model, posterior) if part for k, v in part[1].items() if not k.endswith("prior.logits")]
    want(all(np.isfinite(v).all() for v in finite), "a parameter is not finite", "domain")
    want(not np.isnan(top).any(), "a prior logit is NaN", "domain")
    for name, value in inputs.items():
        if name in ("x", "z"):
            want(bool(np.isin(value, (0.0, 1.0)).all()), f"{name} is not 0 or 1", "domain")
        elif "uniforms" in name:
            want(bool(((value >= 0) & (value < 1)).all()), f"{name} is outside [0, 1)", "domain")


def observed(parameters: dict[str, Any]) -> int:
    """L, by the last bias."""
    depth = sum(name.startswith("decoder.biases.") for name in parameters)
    return len(parameters[f"decoder.biases.{depth - 1}"])


def fans(parameters: dict[str, Any], prefix: str) -> tuple[int, int]:
    """(fan_in, fan_out) of layers that follow on from each other."""
    width = start = len(parameters[f"{prefix}weights.0"])
    depth = sum(name.startswith(f"{prefix}weights.") for name in parameters)
    for d in range(depth):
        weights, biases = parameters[f"{prefix}weights.{d}"], parameters[f"{prefix}biases.{d}"]
        follows = weights.ndim == 2 and len(weights) == width and biases.shape == weights.shape[1:]
        want(follows, f"{prefix}weights.{d} {weights.shape} and biases {biases.shape} do not follow on from {width}")
        width = weights.shape[1]
    return start, width


def want(sound: bool, message: str, code: str = "shape") -> None:
    if not sound:
        raise Refusal(code, message)
