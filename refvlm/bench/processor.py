"""Measuring as if on another processor: kernels compiled for it, and the frameworks held to its instructions."""

from __future__ import annotations

import os
import sys
import tempfile
from typing import TYPE_CHECKING

from ..enumeration import kernels

if TYPE_CHECKING:
    from ..enumeration.kernels.hardware import Hardware

_FRAMEWORKS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
    "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
}
"""What holds PyTorch, its libraries and JAX to AVX2, if it is in the environment when they are imported."""


def compile_for(cpu: str) -> None:
    """Have this process's kernels compiled for the processor of this name, as LLVM knows it; frameworks follow.

    ValueError where LLVM knows none of this name, where it does what this machine cannot, and where kernels have been
    compiled already.
    """
    if "numba" in sys.modules:
        raise ValueError("got it where kernels are compiled already, wanted a process of its own")
    os.environ["NUMBA_CPU_NAME"], os.environ["NUMBA_CPU_FEATURES"] = cpu, ""
    complaints, wanted, own = _compare()
    if "not a recognized processor" in complaints:
        raise ValueError(f"got {cpu!r}, wanted a name that LLVM knows, such as haswell, znver3 or skylake-avx512")
    if wanted.width > own.width or (wanted.fused and not own.fused):
        raise ValueError(f"got {cpu!r}, which has {wanted.instructions}, wanted what this one runs: {own.instructions}")
    if wanted.width < own.width and wanted.instructions == "AVX2":
        os.environ.update(_FRAMEWORKS)


def _compare() -> tuple[str, Hardware, Hardware]:
    """What LLVM says of the name in the environment, on standard error; what that processor is; what this one is."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as file:
        kept = os.dup(2)
        try:
            os.dup2(file.fileno(), 2)
            wanted, own = kernels.hardware.HARDWARE, kernels.hardware.host()
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        file.seek(0)
        return file.read().decode(errors="replace"), wanted, own
