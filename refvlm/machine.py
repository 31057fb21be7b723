"""What this machine offers a process: cores, memory, the processor's name, how busy it is.

Limits come from the process's affinity and from its control groups, versions 1 and 2, which are walked in one way for
cores and for memory.
"""

from __future__ import annotations

import functools
import os
import platform
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def available_cores(root: str = "/") -> int:
    """Cores that this process may use. root: where /proc and /sys are."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cores_of_groups(root)))


@functools.cache
def _cores_of_groups(root: str) -> int:
    """Cores that the control groups allow. Read once: a dozen small files take as long as a small sum."""
    quotas = (quota for group in _groups(root, "cpu") for quota in _quota(group))
    return min((round(quota) for quota in quotas), default=sys.maxsize)


def available_memory(root: str = "/") -> int:
    """Bytes of memory that this process can still have; a guess of 8 GiB where the system does not say."""
    limits = [free for group in _groups(root, "memory") for free in _free(group)]
    with suppress(OSError, ValueError), open(Path(root, "proc/meminfo")) as file:
        limits.extend(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    if not limits and hasattr(os, "sysconf"):
        with suppress(OSError, ValueError):
            limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=8 << 30)


def _groups(root: str, controller: str) -> Iterator[Path]:
    """The folder of each control group of this process that can have this controller, and of each group around it."""
    try:
        lines = Path(root, "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no control groups here
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        base = Path(root, "sys/fs/cgroup", controller if controllers else "")
        folder = base / path.lstrip("/")
        for place in (folder, *folder.parents):
            yield place
            if place == base:
                break


def _quota(group: Path) -> Iterator[float]:
    """Cores that a group allows, if it limits them."""
    with suppress(OSError, ValueError):  # not a group of this kind, or no limit ("max")
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()
        else:
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:
            yield int(quota) / int(period)


def _free(group: Path) -> Iterator[int]:
    """Bytes that a group still allows, if it limits them."""
    for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
        with suppress(OSError, ValueError):
            yield max(0, int((group / limit).read_text()) - int((group / usage).read_text()))


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


def processor() -> str:
    """The processor's name."""
    with suppress(OSError), open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
