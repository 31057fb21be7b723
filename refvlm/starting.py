"""What the command `refvlm` does before anything large is loaded, which takes a moment. A library does none of it."""

from __future__ import annotations

import os
import sys

from . import interrupts

NO_MEMORY = 71
"""The exit code where the system allows too little memory."""

_LEAST, _LEAST_OF_A_CORE = 600, 100  # MB of addresses, measured: the compiler; a thread of OpenBLAS and one of ours


def start() -> None:
    """Answer for signals and standard streams, and refuse too little memory: libraries would abort, or hang."""
    interrupts.while_loading()
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:  # closed: no file of ours may take its number
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    problem = _memory_problem()
    if problem is not None:
        if sys.stderr is not None:
            print(f"refvlm: error: {problem}", file=sys.stderr)
        sys.exit(NO_MEMORY)


def _memory_problem() -> str | None:
    """Why the addresses that a limit allows are too few, or None."""
    from .machine import available_cores  # not before signals are answered for

    try:
        import resource
    except ImportError:  # Windows
        return None
    allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "")
    cores = min(available_cores(), int(threads) if threads.isdecimal() and int(threads) > 0 else sys.maxsize)
    wanted = _LEAST + _LEAST_OF_A_CORE * cores
    if allowed == resource.RLIM_INFINITY or allowed >= wanted * 10**6:
        return None
    fewer = ", or set OPENBLAS_NUM_THREADS=1" if cores > 1 else ""
    return (
        f"memory: a limit (ulimit -v) allows {allowed // 10**6} MB of addresses, wanted at least {wanted} MB for "
        f"{cores} core{'' if cores == 1 else 's'}; raise it{fewer}"
    )


def _is_command() -> bool:
    """Whether this process is the command `refvlm`, or `python -m refvlm`: no other program, nor a child of one."""
    words, script = sys.orig_argv, sys.argv[0] if sys.argv else ""
    if script == "-m":  # the package that `python -m` is about to run
        return words[words.index("-m") + 1 :][:1] == ["refvlm"] if "-m" in words else "-mrefvlm" in words
    return script in words and os.path.basename(script) in ("refvlm", "refvlm.exe")


if _is_command():
    start()
