"""The processor that kernels are compiled for: the one place that knows its registers.

The compiler is asked, not a list of names: a fused multiply-add of eight floats is compiled for the processor that
Numba compiles for, which NUMBA_CPU_NAME and NUMBA_CPU_FEATURES may set, and what it becomes is looked at. What follows
from the answer, how many lanes a kernel keeps in registers at a time, changes no bit of any result: the lanes, and the
order in which they are added, are the same for all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import llvmlite.binding as llvm
from numba.core.registry import cpu_target

from .constants import BLOCK, OCTET

_OCTET = f"<{OCTET} x double>"
_FUSED = re.compile("madd|fmla")
_PROBE = f"""
target triple = "{{}}"
declare {_OCTET} @llvm.fma.v{OCTET}f64({_OCTET}, {_OCTET}, {_OCTET})
define {_OCTET} @probe({_OCTET} %x) {{{{
  %y = call {_OCTET} @llvm.fma.v{OCTET}f64({_OCTET} %x, {_OCTET} %x, {_OCTET} %x)
  ret {_OCTET} %y
}}}}
"""
_FEW, _MANY = 16, 32


class Hardware(NamedTuple):
    """cpu: its name to the compiler. instructions: of its vectors. width: floats in a vector register, of which there
    are `registers`. fused: whether there is a fused multiply-add."""

    cpu: str
    instructions: str
    width: int
    registers: int
    fused: bool

    @property
    def tile(self) -> int:
        """Lanes of a tile: four vectors of so many, kept as sums, fill half of the registers, at most."""
        return max(OCTET, min(BLOCK, self.width * self.registers // 8))

    @property
    def strand(self) -> int:
        """Lanes of a part of an octet: eight vectors of so many, kept as sums, fill half of the registers, at most."""
        return max(OCTET // 2, min(OCTET, self.width * self.registers // 16))


def describe(triple: str, cpu: str, features: str = "") -> Hardware:
    """The processor of this name, with these features switched on and off, as LLVM sees it."""
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2)
    code = machine.emit_assembly(llvm.parse_assembly(_PROBE.format(triple)))
    fused = len(_FUSED.findall(code))
    if triple.startswith(("x86", "i686", "amd64")):
        width = 8 if "zmm" in code else 4 if "ymm" in code else 2
        registers = _MANY if width == 8 else _FEW
        name = {8: "AVX-512", 4: "AVX2" if fused else "AVX", 2: "SSE2"}[width]
    else:
        width, registers = OCTET // fused if fused else 1, _MANY
        name = "NEON" if triple.startswith(("aarch64", "arm64")) else triple.partition("-")[0]
    return Hardware(cpu, name, width, registers, fused > 0)


def host() -> Hardware:
    """The processor that this process runs on, whatever kernels are compiled for."""
    features = llvm.get_host_cpu_features().flatten()
    return describe(llvm.get_process_triple(), llvm.get_host_cpu_name(), features)


def _compiled_for() -> Hardware:
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    return describe(triple, cpu, features)


HARDWARE = _compiled_for()
"""What kernels are compiled for in this process."""
