"""Facts about the machine and the programs on it."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from .. import __version__
from ..enumeration.engine import available_cores

__all__ = ["facts", "load", "peak_memory", "version"]


def facts() -> dict[str, str | int | float | None]:
    """CPU, cores, load, system and versions; None for what is not installed or not known."""
    return {
        "cpu": _cpu(),
        "cores": available_cores(),
        "load": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "refvlm": __version__,
        "numpy": version("numpy"),
        "numba": version("numba"),
        "torch": version("torch"),
        "jax": version("jax"),
    }


def version(package: str) -> str | None:
    """The version of an installed package, without importing it; None if it is not installed."""
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None


def load() -> float | None:
    """Processes that ran or wanted to run, averaged over the last minute; None where the system does not say."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def peak_memory() -> int | None:
    """The most memory that this process has had resident so far, in bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _cpu() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
