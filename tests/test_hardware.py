"""What kernels take from the processor: how many lanes they keep in registers, and nothing that changes a bit."""

import json
import os
import platform
import subprocess
import sys

import llvmlite.binding as llvm
import pytest

from refvlm.enumeration.kernels.hardware import HARDWARE, describe, host

on_x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names of x86 processors")


@pytest.mark.parametrize(
    ("cpu", "instructions", "width", "registers", "fused", "tile", "strand"),
    [
        ("x86-64", "SSE2", 2, 16, False, 8, 4),
        ("sandybridge", "AVX", 4, 16, False, 8, 4),
        ("haswell", "AVX2", 4, 16, True, 8, 4),
        ("znver3", "AVX2", 4, 16, True, 8, 4),
        ("skylake-avx512", "AVX-512", 8, 32, True, 32, 8),
        ("znver4", "AVX-512", 8, 32, True, 32, 8),
    ],
)
@on_x86
def test_processors_are_what_their_makers_say(cpu, instructions, width, registers, fused, tile, strand):
    found = describe("x86_64-unknown-linux-gnu", cpu)
    assert found == (cpu, instructions, width, registers, fused)
    assert (found.tile, found.strand) == (tile, strand)
    assert 4 * tile // width + tile // width < registers or not fused  # four sums and what is added to them


@on_x86
def test_features_count_beside_the_name():
    assert describe("x86_64-unknown-linux-gnu", "znver4", "-avx512f").instructions == "AVX2"
    assert not describe("x86_64-unknown-linux-gnu", "haswell", "-fma").fused


@pytest.mark.parametrize("cpu", ["generic", "neoverse-n1", "apple-m1"])
def test_arm_has_narrow_vectors_and_many_of_them(cpu):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        found = describe("aarch64-unknown-linux-gnu", cpu)
    except RuntimeError:
        pytest.skip("LLVM was built without this target")
    assert found == (cpu, "NEON", 2, 32, True)
    assert (found.tile, found.strand) == (8, 4)


@on_x86
def test_what_kernels_are_compiled_for_follows_from_the_environment():
    program = (
        "import json; from refvlm.enumeration.kernels.hardware import HARDWARE; "
        "from refvlm.enumeration.kernels import lanes; print(json.dumps([*HARDWARE, lanes.TILE, lanes.STRAND]))"
    )
    environment = os.environ | {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["haswell", "AVX2", 4, 16, True, 8, 4]


def test_without_an_environment_it_is_this_machine():
    if not {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"} & set(os.environ):
        assert host() == HARDWARE
