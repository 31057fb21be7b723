"""How kernels are compiled and where the compiled code is kept.

One policy for all of them: no fastmath (the bits must not depend on how a loop was vectorised), division as IEEE
says, the interpreter lock released. Compiled code is cached in a folder named by a digest of every source that goes
into a kernel, because Numba's own check sees an edit in the kernel's file but not in the files it calls.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import threading
from collections.abc import Callable
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core import config
from numba.core.caching import FunctionCache
from numba.extending import intrinsic

from .linking import PartCompiler

F = TypeVar("F", bound=Callable[..., Any])

_lock = threading.Lock()
_problem: str | None = None


if config.DISABLE_JIT:
    raise ValueError(
        "NUMBA_DISABLE_JIT: got 1, wanted it unset, for the kernels are written for the compiler alone; the sums in "
        "plain NumPy are in refvlm.inference.definition"
    )


def _sources() -> list[Traversable]:
    """All that is compiled into kernels: their folder, and what they import from outside of it; in a zip file, too."""
    floor = resources.files(__package__.rpartition(".")[0])
    outside = [floor / "problem.py", resources.files(__package__.split(".")[0]) / "activations.py"]
    return [each for each in (floor / "kernels").iterdir() if each.name.endswith(".py")] + outside


def _digest() -> str:
    digest = hashlib.sha256()
    for source in sorted(_sources(), key=lambda each: each.name):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


DIGEST = _digest()
"""Of all that is compiled: who has the same gives the same bits."""


def _cache_folder() -> Path:
    """The folder for compiled kernels; $REFVLM_CACHE_DIR or $NUMBA_CACHE_DIR move it."""
    base = os.environ.get("REFVLM_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        system = os.environ.get("LOCALAPPDATA") if sys.platform == "win32" else os.environ.get("XDG_CACHE_HOME")
        base = os.path.join(system or os.path.join(os.path.expanduser("~"), ".cache"), "refvlm")
    return Path(base) / f"kernels-{DIGEST}"


def _usable(folder: Path) -> str | None:
    """None if compiled code can be kept in `folder`, else why not."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        return (
            f"compiled kernels cannot be kept in {folder} ({error.strerror}); set REFVLM_CACHE_DIR to a writable folder"
        )
    return None


_FOLDER = _cache_folder()
_problem = _usable(_FOLDER)


def cache_problem() -> str | None:
    """Why compiled kernels are not kept for the next process, or None when they are."""
    return _problem


class _ForgivingCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache, except that a damaged or unwritable entry means compiling again, not an error."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated file surfaces as whatever the unpickler met first
            self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        global _problem
        try:
            super().save_overload(sig, data)
        except OSError as error:
            _problem = f"compiled kernels cannot be kept in {_FOLDER} ({error.strerror})"


def kernel(function: F) -> F:
    """Compile `function` on its first call, or load it from the cache. Called from Python, without the lock."""
    global _problem
    compiled = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    if _problem is None:
        with _lock:  # the folder is read once, while the cache is made; other people's kernels keep theirs
            before, config.CACHE_DIR = config.CACHE_DIR, str(_FOLDER)
            try:
                compiled._cache = _ForgivingCache(function)
            except (OSError, RuntimeError) as error:  # a function that is in no file
                _problem = f"compiled kernels cannot be kept ({error}); install refvlm into a folder"
            finally:
                config.CACHE_DIR = before

    @functools.wraps(function)
    def run(*arguments: Any) -> Any:
        try:
            return compiled(*arguments)
        except SystemError as error:  # what an interrupt becomes, once or twice over, while compiled code runs
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, KeyboardInterrupt):
                cause = cause.__cause__
            if cause is None:
                raise
            raise KeyboardInterrupt from None

    run.compiled = compiled  # type: ignore[attr-defined]  # for whoever asks what was loaded from the cache
    return cast(F, run)


def cold() -> bool:
    """Whether no kernel has been kept yet, so that the next call will take its time."""
    return not any(_FOLDER.rglob("*.nbi"))


def inline(function: F) -> F:
    """A part of kernels that is compiled into each of its callers, so that loops around it become vector code.

    Like every `part` it borrows the arrays of its caller: it neither makes nor returns any, so nothing has to count
    references to them. Numba's counters are atomic; where its optimiser fails to pair them, sixteen of them for each
    block of codes cost a twentieth of the time.
    """
    return _inner(function, forceinline=True, _nrt=False)


def allocating(function: F) -> F:
    """An inline part that returns arrays, which somebody has to count and to free."""
    return _inner(function, forceinline=True)


def part(function: F) -> F:
    """A part of kernels that loops over vectors itself: compiled once for each kernel, however often it is called.

    It says that it is not to be inlined, because Numba else takes that from whichever part it is called by.
    """
    return _inner(function, forceinline=False, _nrt=False)


@intrinsic
def stay_apart(typing_context: Any) -> Any:
    """Said first in a `part`: the compiler is not to put it into its callers.

    For a loop over rows by a few vectors at a time: among all that a kernel keeps at hand, its addresses would lie in
    memory, and be loaded anew for every row.
    """

    def generate(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), generate


def _inner(function: F, **options: bool) -> F:
    result: Any = numba.njit(
        nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=PartCompiler,
        **options,
    )(function)  # fmt: skip
    typed = result.get_call_template

    def without_literals(arguments: Any, keywords: Any) -> Any:
        """Numba would compile a part anew for every constant that it is called with."""
        plain = {name: types.unliteral(kind) for name, kind in keywords.items()}
        return typed(tuple(types.unliteral(kind) for kind in arguments), plain)

    result.get_call_template = without_literals
    return cast(F, result)
