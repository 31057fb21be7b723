"""Facts that a measurement is reported with: the machine, and the versions of the programs on it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from ..enumeration import kernels
from ..machine import available_cores, load, processor
from ..version import __version__


def facts() -> dict[str, str | int | float | None]:
    """CPU, instructions, cores, load, system and versions; None for what is not installed or not known."""
    hardware = kernels.hardware.HARDWARE
    return {
        "cpu": processor(),
        "compiled_for": hardware.cpu,
        "instructions": hardware.instructions,
        "vector_bits": 64 * hardware.width,
        "cores": available_cores(),
        "load": load(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "refvlm": __version__,
        **{package: _version(package) for package in ("numpy", "numba", "torch", "jax")},
    }


def _version(package: str) -> str | None:
    """The version of an installed package, without importing it; None if it is not installed."""
    try:
        return version_of(package)
    except PackageNotFoundError:
        return None
