"""Run as a program by `test_aarch64.py`: what Numba compiles for aarch64, on whatever machine this is, as JSON.

On stdin, pickled: signatures of kernels by name. Numba is told another triple before it makes its compiler and does all
else itself, so passes and code generator are those that it has on ARM. Nothing that is compiled for ARM is run.
"""

from __future__ import annotations

import json
import math
import pickle
import sys
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite.binding import targets
from numba.core.caching import NullCache
from numba.core.codegen import CPUCodeLibrary

ARM = "aarch64-unknown-linux-gnu"
OTHERS = ("cortex-a72", "neoverse-n1", "neoverse-v1", "apple-m1")
"""Processors besides the generic one: NEON alone, ARMv8.2, SVE, and Apple's."""
X86 = "x86_64-unknown-linux-gnu"


def compile_for_arm() -> None:
    """From now on Numba compiles for aarch64; a RuntimeError where LLVM was built without it."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.Target.from_triple(ARM)
    for module in (llvm, targets):
        module.get_process_triple = module.get_default_triple = lambda: ARM


class Kept:
    """The LLVM code of every library, after all optimisation and before the code generator, which changes it."""

    def __init__(self) -> None:
        self.optimised: dict[str, str] = {}
        optimise = CPUCodeLibrary._optimize_final_module

        def keep(library: Any) -> None:
            optimise(library)
            self.optimised[library.name] = str(library._final_module)

        CPUCodeLibrary._optimize_final_module = keep

    def code(self, dispatcher: Any, signature: Any) -> dict[str, str]:
        """Compile; LLVM's code and the processor's."""
        dispatcher._cache = NullCache()  # that of this machine is no business of ours
        dispatcher.compile(signature)
        library = dispatcher.overloads[tuple(signature)].library
        return {"llvm": self.optimised[library.name], "assembly": library.get_asm_str()}


def emitted(code: str, triple: str, cpu: str) -> str:
    """The code for another processor."""
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3, codemodel="small")
    module = llvm.parse_assembly(code)
    module.triple, module.data_layout = triple, str(machine.target_data)
    return machine.emit_assembly(module)


def elementary() -> dict[str, Any]:
    """Functions of a block: those of `elementary.py`, and three with a fault, which the test has to see."""
    from refvlm.enumeration.kernels import elementary as e
    from refvlm.enumeration.kernels.compiling import inline
    from refvlm.enumeration.kernels.constants import BLOCK
    from refvlm.enumeration.kernels.lanes import load_block, store

    options = {"nogil": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

    def over_blocks(function: Any) -> Any:
        part = inline(function)

        @numba.njit(_nrt=False, **options)
        def run(values):
            for i in range(0, len(values), BLOCK):
                store(values, i, part(load_block(values, i)))

        return run

    def over_floats(function: Any, **more: Any) -> Any:
        part = numba.njit(**more)(function)

        @numba.njit(_nrt=False, **options, **more)
        def run(values):
            for i in range(len(values)):
                values[i] = part(values[i])

        return run

    return {
        "exp": over_blocks(lambda v: e.exp(v)),
        "exp_of_sum": over_blocks(lambda v: e.exp_of_sum(v, v)),
        "exp_unbounded": over_blocks(lambda v: e.exp_unbounded(v)[0]),
        "exp_scaled": over_blocks(lambda v: e.exp_scaled(v, v)),
        "log1p": over_blocks(lambda v: e.log1p(v)),
        "log": over_blocks(lambda v: e.log(v, v)),
        "sigmoid": over_blocks(lambda v: e.sigmoid(v)),
        "log_sigmoids": over_blocks(lambda v: e.log_sigmoids(v)[0]),
        "tanh": over_blocks(lambda v: e.tanh(v)),
        "two roundings": over_blocks(lambda v: v * v + v),
        "one rounding that nobody wrote": over_floats(lambda v: v * v + v, fastmath={"contract"}),
        "a library's exp": over_floats(lambda v: math.exp(v)),
    }


def main() -> None:
    try:
        compile_for_arm()
    except RuntimeError as error:
        json.dump({"lacking": str(error)}, sys.stdout)
        return
    from refvlm.enumeration import kernels

    kept, found = Kept(), {}
    for name, signature in pickle.load(sys.stdin.buffer).items():
        module, function = name.split(".")
        found[name] = kept.code(getattr(getattr(kernels, module), function).compiled, signature)
    flat = numba.float64[::1]
    functions = {name: kept.code(dispatcher, (flat,)) for name, dispatcher in elementary().items()}
    kernel, function = found["ratios.log_ratios"]["llvm"], functions["exp"]["llvm"]
    result = {
        "kernels": found,
        "functions": functions,
        "others": {cpu: emitted(kernel, ARM, cpu) for cpu in OTHERS},
        "x86-64": emitted(function, X86, "x86-64"),
        "haswell": emitted(function, X86, "haswell"),
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
