"""Compiled kernels are kept for the next process, and a damaged or missing cache is no error."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from refvlm.enumeration import kernels
value = kernels.get("finish")(np.array([3.0]), np.array([1.5]))
stats = kernels.get("finish").compiled.stats
print(float(value[0]).hex(), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), kernels.cache_problem())
"""


def run(folder):
    environment = dict(os.environ, REFVLM_CACHE_DIR=str(folder))
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    value, hits, misses, problem = done.stdout.strip().split(" ", 3)
    return value, int(hits), int(misses), problem


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    return folder, run(folder)


def test_a_second_process_compiles_nothing(filled):
    folder, (value, hits, misses, problem) = filled
    assert (hits, misses, problem) == (0, 1, "None")
    assert run(folder) == (value, 1, 0, "None")


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
@pytest.mark.parametrize("keep", [0, 100])
def test_truncated_cache_files_mean_compiling_again(filled, suffix, keep):
    folder, (value, *_) = filled
    files = list(folder.rglob(f"*finish*{suffix}"))
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:keep])
    assert run(folder) == (value, 0, 1, "None")
    assert run(folder) == (value, 1, 0, "None")


def test_where_nothing_can_be_kept_kernels_still_run_and_the_reason_is_told(tmp_path, filled):
    (tmp_path / "file").write_text("")
    value, hits, _, problem = run(tmp_path / "file" / "cache")
    assert (value, hits) == (filled[1][0], 0)
    assert "cannot be kept" in problem
    assert "REFVLM_CACHE_DIR" in problem
