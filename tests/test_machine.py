"""What a process may use, as its affinity and its control groups of either version say."""

import os

import pytest

from refvlm import machine
from refvlm.machine import available_cores, available_memory


def write_groups(root, cgroup, files):
    contents = {"proc/self/cgroup": cgroup} | {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "cpu.max": "100000 100000"}, 1),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "50000 100000"}, 1),
        ("0::/\n", {"cpu.max": "max 100000"}, None),
        ("3:cpu,cpuacct:/x\n0::/x\n", {"cpu/x/cpu.cfs_quota_us": "90000", "cpu/x/cpu.cfs_period_us": "100000"}, 1),
        ("3:cpuset:/x\n2:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, None),
        ("0::/gone\n", {}, None),
    ],
)
def test_control_groups_limit_the_cores(tmp_path, monkeypatch, cgroup, files, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    write_groups(tmp_path, cgroup, files)
    assert available_cores(str(tmp_path)) == (expected or 5)
    assert available_cores(str(tmp_path / "nothing")) == 5


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "max", "a/memory.max": "5000", "a/memory.current": "1000"}, 4000),
        ("0::/\n", {"memory.max": "5000", "memory.current": "7000"}, 0),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "900", "memory/x/memory.usage_in_bytes": "100"}, 800),
        ("0::/a\n", {"a/memory.max": "max", "a/memory.current": "1"}, 5120),
        ("4:cpu:/x\n", {"memory/x/memory.limit_in_bytes": "900", "memory/x/memory.usage_in_bytes": "100"}, 5120),
        ("0::/gone\n", {}, 5120),
    ],
)
def test_control_groups_limit_the_memory(tmp_path, cgroup, files, expected):
    write_groups(tmp_path, cgroup, files)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 5 kB\n")
    assert available_memory(str(tmp_path)) == expected


def test_where_the_system_says_nothing_something_is_assumed(tmp_path, monkeypatch):
    assert available_memory(str(tmp_path)) == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.delattr(os, "sysconf")
    assert available_memory(str(tmp_path)) == 8 << 30
    monkeypatch.delattr(os, "getloadavg")
    assert machine.load() is None


def test_this_machine_has_a_name_cores_and_memory():
    assert machine.processor()
    assert available_cores() >= 1
    assert 0 < available_memory() < 1 << 50
    assert machine.peak_memory() > 1 << 20
