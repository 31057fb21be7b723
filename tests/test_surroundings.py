"""Where refvlm is run from: a zip file on the path, and with Numba's compiler switched off."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import refvlm

SCRIPT = """\
import numpy as np, refvlm
model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.5, -0.5]), refvlm.MLP([np.ones((2, 3))], [np.zeros(3)]))
print(refvlm.__file__, refvlm.digits().shape, float(refvlm.log_marginal(model, [[1, 0, 1]])[0]))
"""


def run(folder, *arguments, **environment):
    """A fresh interpreter's exit code, output and errors, in a folder."""
    command = [sys.executable, *arguments]
    environment = dict(os.environ, **environment)
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)
    return ended.returncode, ended.stdout, ended.stderr


def test_it_runs_from_a_zip_file(tmp_path):
    """Model, data and kernels, of K = 2, L = 3."""
    folder = Path(refvlm.__file__).parent
    with zipfile.ZipFile(tmp_path / "refvlm.zip", "w") as archive:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path, Path("refvlm", path.relative_to(folder)))
    kept = str(tmp_path / "kept")
    code, out, err = run(tmp_path, "-c", SCRIPT, PYTHONPATH=str(tmp_path / "refvlm.zip"), REFVLM_CACHE_DIR=kept)
    assert (code, err) == (0, "")
    where, *shape, value = out.split()
    assert where.startswith(str(tmp_path / "refvlm.zip"))
    assert shape == ["(1797,", "64)"]
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.5, -0.5]), refvlm.MLP([[[1.0] * 3] * 2], [[0.0] * 3]))
    assert float(value) == refvlm.log_marginal(model, [[1, 0, 1]])[0]


@pytest.mark.parametrize("arguments", [["-c", SCRIPT], ["-m", "refvlm", "demo"]])
def test_without_the_compiler_one_line_says_why_not(arguments, tmp_path):
    path = os.pathsep.join([str(Path(refvlm.__file__).parents[1]), os.getenv("PYTHONPATH", "")])
    code, out, err = run(tmp_path, *arguments, PYTHONPATH=path, NUMBA_DISABLE_JIT="1")
    assert code != 0
    assert out == ""
    assert "NUMBA_DISABLE_JIT: got 1, wanted it unset" in err.splitlines()[-1]
    assert arguments[0] == "-c" or "Traceback" not in err
