"""Nothing that others could have planted is run: every way of validation/planted.py, as whole processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "validation"
sys.path.insert(0, str(FOLDER))
try:
    import planted
finally:
    sys.path.remove(str(FOLDER))

pytestmark = pytest.mark.skipif(os.name != "posix", reason="owners and modes are POSIX")


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return planted.kept_once(tmp_path_factory.mktemp("honest"))


def leave_out(way):
    if planted.needs_root(way) and os.geteuid() != 0:
        pytest.skip("only root can give files to another user")


@pytest.mark.parametrize("way", planted.WAYS, ids=planted.named)
def test_what_is_planted_never_runs_and_the_reason_is_told(way, honest, tmp_path):
    leave_out(way)
    assert planted.outcome(way, tmp_path, honest) == "kept out"


@pytest.mark.parametrize("way", planted.OWN, ids=planted.named)
def test_a_folder_of_the_users_own_is_loaded_from(way, honest, tmp_path):
    leave_out(way)
    assert planted.outcome(way, tmp_path, honest) == "loaded"


@pytest.mark.parametrize("way", [planted.a_hard_link, planted.a_relative_folder], ids=planted.named)
def test_without_the_check_it_would_run(way, honest, tmp_path):
    assert planted.outcome(way, tmp_path, honest, checked=False) == "runs"


def test_the_script_disagrees_where_the_check_is_missing():
    program = (
        f"import sys; sys.path.insert(0, {str(FOLDER)!r}); import planted\n"
        "planted.PROGRAM = planted.UNJUDGED.replace('{', '{{').replace('}', '}}') + planted.PROGRAM\n"
        "sys.argv = ['planted.py', '--only', 'hard link']; sys.exit(planted.main())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "2 processes, 1 disagree" in done.stdout
