"""The kernels as Numba compiles them for ARM, on whatever machine this is: read, not run.

Shown: in the code for aarch64 each fused multiply-add that a kernel asks for is one instruction, nothing else is fused,
and no mathematical library is called; the rest are operations of IEEE 754, which LLVM may not reorder, since nothing
allows it to. Not shown: that a processor computes them so, and what Python and NumPy do around the kernels; for that
`validation/aarch64.py` compares results, on such a processor or under an emulator.
"""

from __future__ import annotations

import functools
import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import aarch64_child as child
import numpy as np
import pytest

import refvlm
from refvlm.enumeration import kernels
from refvlm.enumeration.kernels.constants import BLOCK, OCTET

EXP, LOG = 13, 14
"""Fused multiply-adds of `elementary.exp` and `elementary.log`."""

KERNELS = {
    "marginal.marginal": EXP * BLOCK,
    "marginal.finish": LOG,
    "linear.linear_marginal": EXP * BLOCK,
    "tables.tabled_marginal": EXP * BLOCK,
    "gradient.gradient": EXP * BLOCK,
    "bound.divergence": EXP * BLOCK,
    "characteristic.reconstruction": EXP * OCTET,
    "ratios.log_ratios": EXP * OCTET,
}
"""The kernels, and the fewest fused multiply-adds each must have, lane by lane: those of one exp or log."""

FUNCTIONS = {
    "exp": EXP,
    "exp_of_sum": EXP,
    "exp_unbounded": EXP + 2,
    "exp_scaled": EXP + 2,
    "log1p": LOG - 2,
    "log": LOG,
    "sigmoid": EXP,
    "log_sigmoids": EXP + LOG - 2,
    "tanh": EXP,
}
"""Fused multiply-adds of each function, counted in `elementary.py` by hand."""

RUNTIME = re.compile("NRT_(incref|decref|MemInfo_alloc_aligned)|numba_attempt_nocopy_reshape|memset|memcpy|memmove")
"""What a kernel may call: for memory, Numba and the C library; and Numba on whether an array is reshaped in place."""

ARITHMETIC = r"f(?:n?m(?:add|sub)|ml[as]|add|sub|mul|div|sqrt|rint\w)"
"""Instructions for floats that round."""


def signatures() -> dict[str, Any]:
    """Those that the kernels are called with, by problems that reach each of them."""
    rng = np.random.default_rng(0)

    def model(*sizes: int) -> refvlm.BernoulliLVM:
        return refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(sizes[0])), refvlm.MLP.random(list(sizes), rng))

    def bits(rows: int, observed: int) -> np.ndarray:
        return rng.integers(0, 2, size=(rows, observed)).astype(np.uint8)

    def q(observed: int, latents: int) -> refvlm.AmortisedPosterior:
        return refvlm.AmortisedPosterior(refvlm.MLP.random([observed, latents], rng))

    deep = model(6, 5, 4)
    for rows in (3, 33):
        refvlm.log_marginal(deep, bits(rows, 4), workers=1)
    refvlm.log_marginal(model(11, 4), bits(2, 4), workers=1)
    refvlm.grad_log_marginal(deep, bits(3, 4), workers=1)
    refvlm.kl(deep, q(4, 6), bits(3, 4), workers=1)
    refvlm.vlb(model(22, 4), q(4, 22), bits(3, 4), workers=1)
    refvlm.bracket(model(40, 3), bits(1, 3), rng=rng, samples=4096, workers=1)
    found = {}
    for name in KERNELS:
        module, function = name.split(".")
        found[name] = getattr(getattr(kernels, module), function).compiled.signatures[0]
    return found


@functools.cache
def finished() -> subprocess.CompletedProcess[bytes]:
    """The child, once it has ended."""
    paths = [str(Path(refvlm.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
    }
    command = [sys.executable, "-W", "error", child.__file__]
    return subprocess.run(command, input=pickle.dumps(signatures()), env=environment, capture_output=True, check=False)


@functools.cache
def compiled() -> dict[str, Any]:
    """What the child printed."""
    done = finished()
    assert (done.returncode, done.stderr) == (0, b""), done.stderr.decode()
    found: dict[str, Any] = json.loads(done.stdout)
    if "lacking" in found:
        pytest.skip(f"this LLVM cannot compile for aarch64: {found['lacking']}")
    return found


def code(name: str) -> dict[str, str]:
    """Of a kernel, or of a function."""
    found = compiled()
    return found["kernels" if name in KERNELS else "functions"][name]


def lanes(instruction: str, assembly: str) -> int:
    """How many float64s the instruction, a regular expression, is applied to: two for each .2d, one for each d."""
    assert not re.search(rf"^\s+{ARITHMETIC}\s+z\d+\.", assembly, re.M), "vectors of a length that nobody knows"
    pairs = re.findall(rf"^\s+(?:{instruction})\s+v\d+\.2d,", assembly, re.M)
    return 2 * len(pairs) + len(re.findall(rf"^\s+(?:{instruction})\s+d\d+,", assembly, re.M))


def fused(assembly: str) -> int:
    """Multiplications that are rounded together with an addition."""
    return lanes("fml[as]|fn?madd|fn?msub", assembly)


def asked_for(intrinsic: str, llvm: str) -> int:
    """Lanes of an intrinsic in LLVM's code."""
    widths = re.findall(rf"\bcall\b[^@\n]*?(?:<(\d+) x double>|\bdouble) @llvm\.{intrinsic}\.", llvm)
    return sum(int(width or 1) for width in widths)


def liberties(llvm: str) -> set[str]:
    """What in LLVM's code allows it to fuse or to reorder."""
    flags = "fast|reassoc|contract|arcp|afn"
    found = re.findall(rf"\b(?:fadd|fsub|fmul|fdiv|fneg|fcmp|call)(?: [a-z]+)*? ({flags})\b", llvm)
    return {*found, *re.findall(r"llvm\.fmuladd", llvm)}


def parts(assembly: str) -> tuple[str, str]:
    """The kernel, and what Numba puts around it: what unpacks Python's arguments, and the counting of references."""
    pieces = re.split(r"^(?=[\w$])", assembly, flags=re.M)  # a line that begins with a name, not with a dot or a blank
    found = {False: "", True: ""}
    for piece in pieces:
        found[piece.startswith(("_ZN7cpython", "NRT_"))] += piece
    return found[False], found[True]


def calls(assembly: str) -> set[str]:
    """Names of what a kernel calls outside of this code, "?" for an address that only the running program knows."""
    kernel, _ = parts(assembly)
    own = set(re.findall(r"^([A-Za-z_]\w+):", kernel, re.M))
    found = set(re.findall(r"^\s+(?:bl|b|callq?|jmpq?)\s+([A-Za-z_]\w+)(?:@PLT)?$", kernel, re.M))
    computed = re.search(r"^\s+(?:blr|callq?\s+\*)", kernel, re.M) is not None
    jumps = len(re.findall(r"^\s+(?:br|jmpq?\s+\*)", kernel, re.M))
    tables = len(re.findall(r"^\.LJTI\w+:", assembly, re.M))  # of places to jump to within the kernel, one jump each
    return (found - own) | ({"?"} if computed or jumps > tables else set())


def foreign(assembly: str) -> set[str]:
    """Calls of anything but the runtime."""
    return {name for name in calls(assembly) if not RUNTIME.fullmatch(name)}


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_fuses_its_multiply_adds_on_aarch64(name: str) -> None:
    found = code(name)
    assert fused(found["assembly"]) == asked_for("fma", found["llvm"]) >= KERNELS[name]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_elementary_function_fuses_as_many_as_are_written(name: str) -> None:
    found = code(name)
    assert fused(found["assembly"]) == asked_for("fma", found["llvm"]) == FUNCTIONS[name] * BLOCK


@pytest.mark.parametrize("name", [*KERNELS, *FUNCTIONS])
def test_nothing_may_be_reordered_or_fused_by_llvm(name: str) -> None:
    assert liberties(code(name)["llvm"]) == set()


@pytest.mark.parametrize("name", [name for name in KERNELS if name != "marginal.finish"])
def test_every_kernel_is_vector_code_on_aarch64(name: str) -> None:
    assembly = code(name)["assembly"]
    for instruction in ("fmla", "fmul", "fadd"):
        assert re.search(rf"^\s+{instruction}\s+v\d+\.2d,", assembly, re.M)


@pytest.mark.parametrize("name", [*KERNELS, *FUNCTIONS])
def test_no_kernel_calls_a_library_on_aarch64(name: str) -> None:
    assembly = code(name)["assembly"]
    assert foreign(assembly) == set()
    assert not re.search(rf"^\s+{ARITHMETIC}\s", parts(assembly)[1], re.M), "arithmetic outside of the kernel"


@pytest.mark.parametrize("name", ["marginal.marginal", "characteristic.reconstruction", "exp_unbounded"])
def test_the_nearest_integer_is_one_instruction_on_aarch64(name: str) -> None:
    """frintx rounds as the processor is set, to nearest and ties to even unless somebody sets it otherwise."""
    found = code(name)
    assert lanes("frint[xn]", found["assembly"]) == asked_for("rint", found["llvm"]) > 0


@pytest.mark.parametrize("cpu", child.OTHERS)
def test_other_processors_fuse_the_same(cpu: str) -> None:
    assembly, generic = compiled()["others"][cpu], code("ratios.log_ratios")["assembly"]
    assert fused(assembly) == fused(generic)
    assert foreign(assembly) == set()


# what the tests above would see, if it were there


def test_without_a_fused_multiply_add_the_library_would_be_called() -> None:
    """An x86-64 of which nothing is known has none: the same code of `exp` for it, and for one that has it."""
    assert foreign(compiled()["x86-64"]) == {"fma"}
    assert foreign(compiled()["haswell"]) == set()


def test_two_roundings_are_not_taken_for_one() -> None:
    found = code("two roundings")
    assert fused(found["assembly"]) == asked_for("fma", found["llvm"]) == 0
    assert lanes("fmul", found["assembly"]) == lanes("fadd", found["assembly"]) == BLOCK


def test_a_rounding_left_out_is_seen() -> None:
    found = code("one rounding that nobody wrote")
    assert fused(found["assembly"]) > asked_for("fma", found["llvm"]) == 0
    assert liberties(found["llvm"]) == {"contract"}


def test_a_function_of_a_library_is_seen() -> None:
    assert foreign(code("a library's exp")["assembly"]) == {"exp"}
