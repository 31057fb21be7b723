"""The same bits on ARM: all that is promised to have them, computed here and by another Python, compared bit by bit.

    python validation/aarch64.py COMMAND...            every quantity of tests/determinism_child.py
    python validation/aarch64.py --quick COMMAND...    log p(x) and its gradient by each route, and a VLB

COMMAND starts a Python that runs on aarch64, sees these files and has numpy, numba and scipy. An emulator will do:

    python validation/aarch64.py env PYTHONHOME=ROOT/usr PYTHONPATH=SITE qemu-aarch64 -L ROOT ROOT/usr/bin/python3.11

where ROOT holds what is in Debian's arm64 packages of python3.11, libstdc++6 and all that they need, and SITE what is
in the wheels for aarch64; neither has to be installed. qemu computes IEEE 754's operations, the fused one among
them, exactly. What takes long is to compile under it, and that is kept for the next time. Differences are counted in
ulps, of which none is allowed; -0.0 is one below 0.0.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import AGREES, DISAGREES, Report

TREE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TREE / "tests"))

import determinism_child as child  # noqa: E402

import refvlm  # noqa: E402

ARM = ("aarch64", "arm64")
Values = dict[str, dict[str, dict[str, Any]]]


def bound_of_many_latents() -> Any:
    """The VLB at K = 24, which is not summed over z: the characteristic functions of `kernels/characteristic.py`."""
    rng = np.random.default_rng(0)
    model, q = child.shallow([24, 7], rng)
    return refvlm.vlb(model, q, rng.integers(0, 2, size=(5, 7)).astype(np.uint8), workers=1)


def some() -> dict[str, dict[str, Any]]:
    """Of the linear decoder and of one with a hidden layer: log p(x) by each route, and the gradient."""
    found: dict[str, dict[str, Any]] = {"many latents": {"vlb": bound_of_many_latents()}}
    for name in ("linear", "tanh"):
        p = child.problem(name)
        found[name] = {}
        for label, rows in (("", child.FEW), (".many", child.MANY)):
            model, _, x, _, weights = child.part(p, slice(rows))
            gradient = refvlm.grad_log_marginal(model, x, weights, workers=1)
            found[name] |= {f"log_marginal{label}": refvlm.log_marginal(model, x, workers=1)}
            found[name] |= {f"grad_log_marginal{label}.{part}": value for part, value in gradient.items()}
    return found


def all_of_it() -> dict[str, dict[str, Any]]:
    """Every quantity of every problem of `determinism_child.py`, and of `some`."""
    return some() | {name: child.everything(name, workers=1) for name in child.NAMES}


def print_values(quick: bool) -> None:
    """As JSON: where this runs, digits of libraries, and the values as hexadecimal floats."""
    values = {
        name: {
            quantity: {"shape": np.shape(value), "hex": [float(v).hex() for v in np.ravel(value).tolist()]}
            for quantity, value in quantities.items()
        }
        for name, quantities in (some() if quick else all_of_it()).items()
    }
    json.dump({"machine": platform.machine(), **child.circumstances(), "values": values}, sys.stdout)


def values_under(command: list[str], quick: bool) -> dict[str, Any]:
    """What this script prints under that Python."""
    start = time.perf_counter()
    options = ["--values", *(["--quick"] if quick else [])]
    done = subprocess.run([*command, __file__, *options], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    print(f"{found['machine']}, code for {found['cpu']}: {time.perf_counter() - start:.0f} s", flush=True)
    return found


def numbers(value: dict[str, Any]) -> Any:
    return np.array([float.fromhex(v) for v in value["hex"]]).reshape(value["shape"])


def ordinals(values: Any) -> list[int]:
    """Integers in the order of the floats, neighbours one apart; -0.0 is below 0.0."""
    return [word if word >= 0 else -(word & (2**63 - 1)) - 1 for word in np.ravel(values).view(np.int64).tolist()]


def compare(expected: Values, got: Values) -> int:
    """Print the table of ulps by function; the exit code."""
    report = Report()
    for name, quantities in expected.items():
        if quantities.keys() != got[name].keys():
            raise AssertionError(f"{name}: other quantities: {sorted(quantities.keys() ^ got[name].keys())}")
        for quantity, value in quantities.items():
            a, b = numbers(value), numbers(got[name][quantity])
            ulps = [float(j - i) for i, j in zip(ordinals(a), ordinals(b), strict=True)]
            report.check(quantity.split(".")[0], np.ravel(a), np.ravel(b), 0.0, minus=ulps, where=f"{name} {quantity}")
    return report.finish()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="log p(x), a gradient and the VLB")
    parser.add_argument("--values", action="store_true", help="print what this machine computes, as JSON, and end")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what starts the other Python")
    options = parser.parse_args()
    if options.values:
        print_values(options.quick)
        return AGREES
    if not options.command:
        parser.error("COMMAND: got nothing, wanted what starts a Python on aarch64")
    here = values_under([sys.executable], options.quick)
    there = values_under(options.command, options.quick)
    for library, digits in here["witness"].items():
        pairs = list(zip(digits, there["witness"][library], strict=True))
        print(f"{library}: other bits in {sum(a != b for a, b in pairs)} of {len(pairs)}")
    code = compare(here["values"], there["values"])
    if there["machine"] not in ARM:
        print(f"{' '.join(options.command)}: ran on {there['machine']}, wanted {' or '.join(ARM)}")
        return DISAGREES
    return code


if __name__ == "__main__":
    raise SystemExit(main())
