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
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numba
from numba import types
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.extending import intrinsic

from ...checks import one_line
from ...ownership import private_folder
from ...storage import atomic_write
from .linking import PartCompiler

F = TypeVar("F", bound=Callable[..., Any])

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


def _cache_folder() -> str:
    """The folder for compiled kernels; $REFVLM_CACHE_DIR or $NUMBA_CACHE_DIR move it.

    Its name is a digest of the sources and of where they lie: another installation can have other libraries.
    """
    base = os.environ.get("REFVLM_CACHE_DIR") or os.environ.get("NUMBA_CACHE_DIR")
    if not base:
        system = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME", "")
        if not os.path.isabs(system):  # as the standard behind XDG_CACHE_HOME wants it
            system = os.path.join(os.path.expanduser("~"), ".cache")
        base = os.path.join(system, "refvlm")
    place = hashlib.sha256(os.path.dirname(__file__).encode(errors="surrogateescape") + b"\0" + DIGEST.encode())
    return os.path.join(base, f"kernels-{place.hexdigest()[:16]}")


def _cannot_be_kept(error: OSError) -> str:
    reason = one_line(error) if error.strerror is None else error.strerror
    return f"compiled kernels cannot be kept: {reason}; set REFVLM_CACHE_DIR to a folder that you alone can write to"


_FOLDER: str | None = None
"""Where compiled kernels are. What lies there is run, so without a private folder they live in this process alone."""
try:
    _FOLDER = private_folder(_cache_folder())
except OSError as error:
    _problem = _cannot_be_kept(error)


def cache_problem() -> str | None:
    """Why compiled kernels are not kept for the next process, or None when they are."""
    return _problem


class _Place:
    """Where a kernel is kept. The folder's name knows the sources, so nothing else has to."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._py_file, self._line = function.__code__.co_filename, function.__code__.co_firstlineno

    def get_cache_path(self) -> str | None:
        return _FOLDER

    def ensure_cache_path(self) -> None:
        """It has been made: whoever could make it later could make it another's."""

    def get_source_stamp(self) -> str:
        return ""

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Kept(CompileResultCacheImpl):  # type: ignore[misc]  # numba has no types
    """A kernel as it is kept, without Numba's own search for a folder.

    That search takes folders that nobody has judged, where the environment, or a .numba_config.yaml in the current
    directory, says so, and where the sources are in a zip file.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._lineno, self._locator = function.__code__.co_firstlineno, _Place(function)
        name = f"{function.__module__.rpartition('.')[2]}.{function.__qualname__}"
        self._filename_base = self.get_filename_base(name, getattr(sys, "abiflags", ""))


class _Files(IndexDataCacheFile):  # type: ignore[misc]  # numba has no types
    """Numba's files, which nobody else can write to, whatever the umask."""

    def _open_for_write(self, filepath: str) -> AbstractContextManager[BinaryIO]:
        return atomic_write(filepath, 0o644)


class _ForgivingCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Numba's cache, except that a damaged or unwritable entry means compiling again, not an error."""

    _impl_class = _Kept

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = _Files(_FOLDER, self._impl.filename_base, self._impl.locator.get_source_stamp())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated file surfaces as whatever the unpickler met first
            self._try(self.flush)
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        self._try(super().save_overload, sig, data)

    def _try(self, write: Callable[..., None], *arguments: Any) -> None:
        """Write, or do without files from then on: a damaged one would be in the way again."""
        global _problem
        try:
            write(*arguments)
        except OSError as error:
            self.disable()
            _problem = _cannot_be_kept(error)


def kernel(function: F) -> F:
    """Compile `function` on its first call, or load it from the cache. Called from Python, without the lock."""
    compiled = numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(function)
    if _FOLDER is not None:
        compiled._cache = _ForgivingCache(function)

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
    return _FOLDER is None or not any(Path(_FOLDER).glob("*.nbi"))


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
