"""Measuring as if on another processor: kernels compiled for it, frameworks asked to keep to its instructions."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from ..enumeration import kernels

_FRAMEWORKS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
"""What asks PyTorch, its libraries and JAX for AVX2, if it is in the environment when they are imported."""

_PROGRAM = """
import json
from refvlm.enumeration.kernels.hardware import HARDWARE
print(json.dumps([HARDWARE.instructions, HARDWARE.width, HARDWARE.fused]))
"""


def compile_for(cpu: str) -> None:
    """Have this process's kernels compiled for the processor of this name, as LLVM knows it; frameworks follow.

    ValueError where LLVM knows none of this name, where it does what this machine cannot, and where kernels have been
    compiled already.
    """
    if "numba" in sys.modules:
        raise ValueError("got it where kernels are compiled already, wanted a process of its own")
    environment = {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": ""}
    program = f"import sys; sys.path[:] = {sys.path!r}\n{_PROGRAM}"
    done = subprocess.run(  # -P: it imports what we import, and not what lies in the current directory
        [sys.executable, "-P", "-c", program], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if not cpu or done.returncode != 0 or "not a recognized processor" in done.stderr:  # it may be fatal to LLVM
        raise ValueError(f"got {cpu!r}, wanted a name that LLVM knows, such as haswell, znver3 or skylake-avx512")
    os.environ.update(environment)
    _check(cpu, *json.loads(done.stdout))


def _check(cpu: str, instructions: str, width: int, fused: bool) -> None:
    """Refuse what this processor cannot run; hold the frameworks to AVX2 where that is what is wanted of more."""
    own = kernels.hardware.host()
    if width > own.width or (fused and not own.fused):
        raise ValueError(f"got {cpu!r}, which has {instructions}, wanted what this one runs: {own.instructions}")
    if width < own.width and instructions == "AVX2":
        flags = f"{os.environ.get('XLA_FLAGS', '')} {_FRAMEWORKS['XLA_FLAGS']}".strip()  # after the user's own
        os.environ.update(_FRAMEWORKS | {"XLA_FLAGS": flags})
