"""Waiting for another thread without sleeping, and without the interpreter lock.

Who sleeps is woken some 15 to 50 microseconds late, often on another core, whose caches know nothing of his work: as
long as a sum over a few hundred codes takes. So a thread that will not have to wait for longer looks again and again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from .compiling import kernel
from .hardware import HARDWARE

_WORD = ir.IntType(32)
_X86 = HARDWARE.instructions.startswith(("AVX", "SSE"))


@intrinsic
def _load_now(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index], from memory each time."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, values[0]).data
        return builder.load_atomic(builder.gep(data, [values[1]]), "acquire", 8)

    return types.int64(array, types.intp), generate


@intrinsic
def _store_now(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index] = value, for other threads to see after all that was written before."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, values[0]).data
        builder.store_atomic(values[2], builder.gep(data, [values[1]]), "release", 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.int64), generate


@intrinsic
def _pause(typing_context: Any) -> Any:
    """A moment, during which another thread of the core goes first."""

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        name, arguments = ("llvm.x86.sse2.pause", []) if _X86 else ("llvm.aarch64.hint", [1])
        if _X86 or HARDWARE.instructions == "NEON":
            kind = ir.FunctionType(ir.VoidType(), [_WORD] * len(arguments))
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, [_WORD(value) for value in arguments])
        return context.get_dummy_value()

    return types.void(), generate


@kernel
def wait_while(signals: NDArray[np.int64], which: int, value: int, tells: int, pauses: int, grace: int) -> bool:
    """Whether signals[which] has become another than `value` within so many pauses; signals[tells] = value at first.

    grace: pauses after that. Who has given the signal is about to let go of the interpreter lock, and a thread that
    wants it before would fall asleep.
    """
    _store_now(signals, tells, value)
    for _ in range(pauses):
        if _load_now(signals, which) != value:
            for _ in range(grace):
                _pause()
            return True
        _pause()
    return False
