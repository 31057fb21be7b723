"""The validation scripts run, and say so when something is wrong."""

import importlib
import math
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import refvlm

FOLDER = Path(__file__).parents[1] / "validation"
SCRIPT = FOLDER / "against_mpmath.py"


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


def test_a_sum_and_a_fit_that_are_killed_go_on_to_the_same_bits():
    script = FOLDER / "soak.py"
    command = [sys.executable, str(script), "--kills", "1", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "'sum SIGKILL': 1" in done.stdout
    assert "'fit SIGKILL': 1" in done.stdout


def test_quick_error_bounds_hold_against_ball_arithmetic():
    pytest.importorskip("flint")
    script = FOLDER / "precision.py"
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert " 0 bounds broken" in done.stdout


@pytest.mark.parametrize("name", ["log_marginal", "posterior_mean", "vlb", "kl"])
def test_a_bound_a_thousand_times_too_small_is_found_broken(name):
    pytest.importorskip("flint")
    program = (
        f"import runpy, sys, refvlm; exact = refvlm.{name}\n"
        "def wrong(*a, **k):\n"
        "    found = exact(*a, **k)\n"
        "    return (found[0], found[1] / 1000) if isinstance(found, tuple) else found\n"
        f"refvlm.{name} = wrong; sys.argv = ['precision.py', '--quick', '--problems', '100']; "
        f"sys.path.insert(0, {str(FOLDER)!r}); "
        f"runpy.run_path({str(FOLDER / 'precision.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "BROKEN" in done.stdout


VECTORS = ["vectors.py", "--case", "linear", "--case", "one-latent", "--case", "ties", "--case", "half-x"]


def test_the_published_vectors_come_out_of_sixty_digits_again():
    command = [sys.executable, str(FOLDER / VECTORS[0]), *VECTORS[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "4 cases, 38 checks: agrees" in done.stdout


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("e.softplus = lambda a, f=e.softplus: f(a) * (1 + e.mpf(10) ** -15)", "linear.json in vectors.zip is not"),
        ("x.Network.backward = lambda self, *a, f=x.Network.backward: {k: v[::-1] for k, v in f(self, *a).items()}",
         "allowed 1e-40: DISAGREES"),
    ],
)  # fmt: skip
def test_vectors_that_are_not_the_published_ones_are_named(spoil, said):
    program = (
        f"import runpy, sys; sys.path.insert(0, {str(FOLDER)!r}); import running_error as e, exact_quantities as x\n"
        f"{spoil}\nsys.argv = {VECTORS!r}\nrunpy.run_path({str(FOLDER / 'vectors.py')!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert said in done.stdout


@pytest.mark.parametrize("name", ["learn_bars", "learn_digits", "learn_shifter"])
def test_quick_learning_agrees(name):
    script = FOLDER / f"{name}.py"
    done = subprocess.run([sys.executable, str(script), "--quick"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert ", 0 disagree" in done.stdout


def coin_tosses(folder, data, columns):
    rng = np.random.default_rng(0)
    (folder / data).mkdir()
    for part, rows in (("train", 240), ("valid", 20), ("test", 30)):
        x = (rng.random((rows, columns)) < 0.5).astype(int)
        np.savetxt(folder / data / f"{data}.{part}.data", x, fmt="%d", delimiter=",")


def test_density_estimation_reads_its_folder_and_judges(tmp_path):
    """Data of five columns: far above what dna has to reach, and nltcs' own mark is out of reach for coin tosses."""
    for data, columns, code in (("dna", 5, 0), ("nltcs, best", 16, 1)):
        coin_tosses(tmp_path, data.split(",")[0], columns)
        call = [sys.executable, str(FOLDER / "learn_density.py"), str(tmp_path), data]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        assert ("DISAGREES" in done.stdout) == code


def test_a_quick_average_over_parameters_agrees(tmp_path):
    coin_tosses(tmp_path, "nltcs", 5)
    call = [sys.executable, str(FOLDER / "learn_average.py"), str(tmp_path), "--quick"]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "7 comparisons, 0 disagree" in done.stdout


@pytest.fixture
def average(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("learn_average")


def test_noise_a_little_too_strong_shows_in_the_variance_of_a_place(average, monkeypatch, capsys):
    root = math.sqrt
    monkeypatch.setattr(average, "math", SimpleNamespace(exp=math.exp, sqrt=lambda value: 1.00001 * root(value)))
    average.check_step(report := average.common.Report())
    assert report.finish() == 1
    assert "DISAGREES (4)" in capsys.readouterr().out


def test_the_force_is_minus_the_gradient_of_the_potential(average):
    rng = np.random.default_rng(1)
    decoder = refvlm.MLP.random([3, 4, 5], rng, activation="sigmoid")
    arrays = average.Arrays(refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=3)), decoder))
    x, weights = np.array([[0, 1, 1, 0, 1], [1, 0, 0, 0, 1]], dtype=np.uint8), np.array([2.0, 3.0])
    place = arrays.vector(arrays.model.parameters())
    strength = rng.gamma(2.0, size=place.size)

    def potential(vector):
        return -weights @ refvlm.log_marginal(arrays.at(vector), x) + strength @ vector**2 / 2

    push = average.pull(arrays, x, weights, strength, place)
    slopes = [(potential(place + h) - potential(place - h)) / 2e-5 for h in 1e-5 * np.eye(place.size)]
    np.testing.assert_allclose(push, -np.array(slopes), rtol=1e-7, atol=1e-7)


def test_precisions_have_the_mean_of_their_conditional(average):
    """Gamma(1 + n/2, rate r = 1 + |theta|^2 / 2): mean a/r, variance a/r^2; both groups, false alarm 1e-8."""
    rng = np.random.default_rng(2)
    theta, group, count = np.array([0.5, -1.5, 2.0, 3.0, 0.1]), np.array([0, 1, 0, 1, 0]), 4000
    drawn = np.array([average.precisions(theta, group, rng) for _ in range(count)])
    assert (np.ptp(drawn[:, group == 0], axis=1) == 0).all()
    for number, size in enumerate((3, 2)):
        shape, rate = 1 + size / 2, 1 + (theta[group == number] ** 2).sum() / 2
        error = drawn[:, number].mean() - shape / rate
        assert abs(error) < 5.8 * math.sqrt(shape / count) / rate


def test_a_hidden_unit_has_one_precision_for_what_enters_and_one_for_what_leaves(average):
    x = np.eye(5, dtype=np.uint8)
    arrays = average.Arrays(refvlm.fit(x, (3, 2), (4,), epochs=1, posterior="none", seed=0).model)
    expected = {
        "prior.prior.logits": np.full(2, 0),
        "prior.decoder.weights.0": np.tile([1, 2, 3, 4], (2, 1)),
        "prior.decoder.weights.1": np.repeat([5, 6, 7, 8], 3).reshape(4, 3),
        "prior.decoder.biases.0": np.full(4, 9),
        "prior.decoder.biases.1": np.full(3, 10),
        "decoder.weights.0": np.tile([11, 12, 13, 14], (3, 1)),
        "decoder.weights.1": np.repeat([15, 16, 17, 18], 5).reshape(4, 5),
        "decoder.biases.0": np.full(4, 19),
        "decoder.biases.1": np.full(5, 20),
    }
    assert list(arrays.shapes) == list(expected)
    np.testing.assert_array_equal(average.groups(arrays), np.concatenate([g.ravel() for g in expected.values()]))


def test_a_wrong_bound_makes_the_bars_disagree():
    program = (
        "import runpy, sys, refvlm; exact = refvlm.vlb\n"
        "refvlm.vlb = lambda *a, **k: exact(*a, **k) + 1e-9\n"
        f"sys.argv = ['learn_bars.py', '--quick', '--workers', '1']; sys.path.insert(0, {str(FOLDER)!r})\n"
        f"runpy.run_path({str(FOLDER / 'learn_bars.py')!r}, run_name='bars')['check_split'](report := "
        "__import__('common').Report()); sys.exit(report.finish())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "DISAGREES" in done.stdout
