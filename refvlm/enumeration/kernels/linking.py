"""Parts of kernels as code to be linked, and nothing else.

Numba makes every compiled function ready to run: optimised with all that it calls, and translated to machine code. A
part is never run by itself. Its code is optimised where it is linked into a kernel, so that what is called ten levels
deep is optimised once and not ten times, and translated once; compiling takes half the time.
"""

from __future__ import annotations

from typing import Any

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering


class _Linkable(JITCodeLibrary):  # type: ignore[misc]  # numba has no types
    """The code of a part and of what it calls."""

    def _optimize_final_module(self) -> None:
        """Not here: in the kernel."""

    def _finalize_final_module(self) -> None:
        """No machine code."""
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):  # type: ignore[misc]  # numba has no types
    """From Numba's code to LLVM's, and no further."""

    _name = "refvlm_lowering_of_a_part"

    def run_pass(self, state: Any) -> bool:
        state.library = _Linkable(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered, name = state["cr"], state.func_id.func_name
        entry = _dynfunc.make_function(lowered.fndesc.lookup_module(), name, "", 0, lowered.env, (state.library,))
        state.targetctx.insert_user_function(entry, lowered.fndesc, [state.library])
        state["cr"] = lowered._replace(cfunc=entry)
        return True


class PartCompiler(CompilerBase):  # type: ignore[misc]  # numba has no types
    """Numba's usual passes, ending with that lowering."""

    def define_pipelines(self) -> list[Any]:
        usual = DefaultPassBuilder.define_nopython_pipeline(self.state)
        own = PassManager("part of a kernel")
        for step, what in usual.passes:
            own.add_pass(_Lowering if step is NativeLowering else step, what)
        own.finalize()
        return [own]
