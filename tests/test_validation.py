"""The validation scripts run, and say so when something is wrong."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "validation" / "against_mpmath.py"


def test_the_quick_comparison_with_fifty_digits_agrees():
    done = subprocess.run([sys.executable, str(SCRIPT), "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert ", 0 disagree" in done.stdout


def test_a_wrong_digit_makes_the_comparison_fail():
    program = (
        "import runpy, sys, refvlm; exact = refvlm.log_marginal\n"
        "def wrong(*a, **k):\n"
        "    found = exact(*a, **k)\n"
        "    return (found[0] + 1e-9, found[1]) if isinstance(found, tuple) else found + 1e-9\n"
        f"refvlm.log_marginal = wrong; sys.argv = [{str(SCRIPT)!r}, '--quick']; "
        f"sys.path.insert(0, {str(SCRIPT.parent)!r}); runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "DISAGREES" in done.stdout.upper()
