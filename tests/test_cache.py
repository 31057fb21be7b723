"""Compiled kernels are kept for the next process, and a damaged or missing cache is no error."""

import ast
import os
import shutil
import stat
import subprocess
import sys

import pytest

PROGRAM = """
import numpy as np
from refvlm.enumeration import kernels
value = kernels.marginal.finish(np.array([3.0]), np.array([1.5]))
stats = kernels.marginal.finish.compiled.stats
problem = kernels.compiling.cache_problem()
print(float(value[0]).hex(), sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), problem)
"""


UNWRITABLE = """
import refvlm.storage
def refuse(path, mode):
    raise PermissionError("no permission to write")
refvlm.storage.atomic_write = refuse
"""


def run(folder, before=""):
    environment = dict(os.environ, REFVLM_CACHE_DIR=str(folder))
    command = [sys.executable, "-c", before + PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
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


def test_a_folder_that_can_only_be_read_is_loaded_from(tmp_path, filled):
    """And where what it holds is of no use, the reason is told."""
    folder = shutil.copytree(filled[0], tmp_path / "cache")
    value = filled[1][0]
    assert run(folder, UNWRITABLE) == (value, 1, 0, "None")
    for damage in (b"", None):
        for path in list(folder.rglob("*.nbi")):
            path.unlink() if damage is None else path.write_bytes(damage)
        *found, problem = run(folder, UNWRITABLE)
        assert found == [value, 0, 1]
        assert "cannot be kept: no permission to write; set REFVLM_CACHE_DIR" in problem


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_what_is_kept_nobody_else_can_write_to_whatever_the_umask(tmp_path):
    value = run(tmp_path / "cache", "import os; os.umask(0)\n")[0]
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".nbi", ".nbc"}
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o644}
    assert run(tmp_path / "cache") == (value, 1, 0, "None")


def test_no_kernel_is_compiled_for_more_than_one_type_of_arguments():
    """Other sizes, numbers of rows and kinds of arrays, read-only ones too, compile nothing.

    But for tables of 32, of 16 and of 8 states: these are types of their own, and here there are two of them.
    """
    program = """
import numpy as np, refvlm
from refvlm.enumeration import kernels
rng = np.random.default_rng(0)
def go(model, q, x):
    refvlm.log_marginal(model, x)
    refvlm.posterior_mean(model, x)
    refvlm.grad_log_marginal(model, x, np.ones(len(x)))
    refvlm.decompose(model, q, x)
    refvlm.grad_vlb(model, q, x)
    refvlm.log_weight_moments(model, q, x)
    if model.decoder is not large:  # whose weights spread too far
        refvlm.iwae(model, q, x, 3)
        if len(q.stages) == 1:
            refvlm.grad_iwae(model, q, x, 3)
            refvlm.grad_rws(model, q, x, 3)
    refvlm.posterior(model, x)
    z = refvlm.sample_posterior(model, x, 1, rng)[:, 0]
    refvlm.log_joint(model, x, z)
    refvlm.log_q(q, x, z)
for sizes in ([11, 7], [13, 3, 5]):
    latents, observed = sizes[0], sizes[-1]
    network = refvlm.MLP.random(sizes, rng)
    large = refvlm.MLP([1e6 * w for w in network.weights], network.biases)
    for rows in (3, 40):
        x = (rng.random((rows, observed)) < 0.5).astype(np.uint8)
        fixed = x.copy()
        fixed.setflags(write=False)
        encoder = refvlm.AmortisedPosterior(refvlm.MLP.random([observed, 4, latents], rng))
        free = refvlm.PerDatumPosterior(rng.normal(size=(rows, latents)))
        for data, q in ((x, encoder), (fixed, free), (x[::-1].astype(float), encoder), (fixed.astype(bool), free)):
            go(refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(latents)), network), q, data)
        go(refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(latents)), large), free, fixed)
upper = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(2)), refvlm.MLP.random([2, 4], rng))
deep = refvlm.BernoulliLVM(upper, refvlm.MLP.random([4, 5], rng))
stages = [refvlm.AmortisedPosterior(refvlm.MLP.random(s, rng)) for s in ([5, 4], [4, 3, 2])]
go(deep, refvlm.ChainPosterior(stages), (rng.random((6, 5)) < 0.5))
layerwise = refvlm.LayerwisePosterior([stages[0], refvlm.PerDatumPosterior(rng.normal(size=(6, 2)))])
go(deep, layerwise, (rng.random((6, 5)) < 0.5))
for latents, observed in ((70, 9), (65, 11)):
    many = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(latents)), refvlm.MLP.random([latents, observed], rng))
    x = (rng.random((3, observed)) < 0.5).astype(np.uint8)
    fixed = x.copy()
    fixed.setflags(write=False)
    encoder = refvlm.AmortisedPosterior(refvlm.MLP.random([observed, latents], rng))
    free = refvlm.PerDatumPosterior(rng.normal(size=(3, latents)))
    for data, q in ((x, encoder), (fixed, free), (x[::-1].astype(float), encoder)):
        refvlm.grad_vlb(many, q, data)
        refvlm.decompose_bracket(many, q, data, samples=10, rng=rng)
        refvlm.decompose_bracket(many, q, data)
for sizes in ((13, 30, 9), (14, 15, 31, 11)):
    deep = refvlm.Bernoulli(rng.normal(size=sizes[0]))
    for above, below in zip(sizes[:-1], sizes[1:]):
        deep = refvlm.BernoulliLVM(deep, refvlm.MLP.random([above, below], rng))
    for data in ((rng.random((3, sizes[-1])) < 0.5), deep.sample(2, rng)[0]):
        refvlm.bracket(deep, data, samples=10, boxes=2, rng=rng)
        refvlm.sample_posterior(deep, data, 1, rng)
homes = [getattr(kernels, name) for name in kernels.__all__ if name != "roofline"]
own = [part for home in homes for part in vars(home).values() if getattr(part, "__module__", None) == home.__name__]
compiled = [part for part in own if hasattr(part, "compiled")]
print({part.__module__ + "." + part.__name__: len(part.compiled.signatures) for part in compiled})
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    compiled = ast.literal_eval(done.stdout)
    assert len(compiled) > 15
    gradient = "refvlm.enumeration.kernels.gradient.gradient"
    assert compiled == {name: 2 if name == gradient else 1 for name in compiled}, done.stdout
