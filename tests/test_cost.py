"""Predictions of how long an evaluation takes, and what the command line says of them."""

import numpy as np
import pytest
from problems import binary, deep, network, shallow

import refvlm
from refvlm.inference import cost as module
from refvlm.inference.cost import multiplications, predict_seconds


class Recorder:
    """In place of a timed evaluation: every call takes a second, and its shapes are kept."""

    def __init__(self):
        self.calls = []

    def __call__(self, model, q, x, gradient, workers):
        self.calls.append((model.latents, model.observed, None if q is None else q.latents, len(x), gradient))
        return 1.0


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(module, "_seconds", recorder)
    return recorder


@pytest.mark.parametrize(
    ("latents", "rows", "in_all", "fewer", "expected"),
    [(7, 3, 3, 7, 1.0), (32, 3, 3, 18, 2.0**14), (20, 50, 500, 12, 2560.0), (40, 1, 10, 18, 10 * 2.0**22)],
)
def test_time_grows_with_states_and_rows(recorder, latents, rows, in_all, fewer, expected):
    rng = np.random.default_rng(0)
    model, x = shallow(latents, (3,), 5, rng), binary(rows, 5, rng)
    q = refvlm.AmortisedPosterior(network([5, 4, latents], rng))
    assert predict_seconds(model, None, x, in_all) == pytest.approx(expected)
    assert predict_seconds(model, q, x, in_all) == pytest.approx(expected)
    assert predict_seconds(model, None, x, in_all, gradient=True) == pytest.approx(expected)
    assert set(recorder.calls) == {
        (fewer, 5, None, rows, False), (fewer, 5, fewer, rows, False), (fewer, 5, None, rows, True)
    }  # fmt: skip


def test_multiplications_follow_from_the_shapes_of_all_layers():
    rng = np.random.default_rng(0)
    assert multiplications(shallow(4, (), 9, rng), 100) == (4 * 9 + 9 + 100 * 3) << 4
    model = refvlm.BernoulliLVM(shallow(2, (), 3, rng), network([3, 9], rng))
    assert multiplications(model, 5) == ((3 * 9 + 9 + 5 * 3) << 3) + ((2 * 3 + 3 + 8 * 1) << 2)


def test_a_linear_decoder_is_timed_on_more_bits(recorder):
    rng = np.random.default_rng(0)
    assert predict_seconds(shallow(32, (), 5, rng), None, binary(1, 5, rng), 1) == pytest.approx(2.0**10)
    assert set(recorder.calls) == {(22, 5, None, 1, False)}


def test_a_deep_model_counts_its_prior_and_an_unknown_decoder_is_timed_whole(recorder):
    rng = np.random.default_rng(0)
    seconds = predict_seconds(deep(3, 13, 5, rng), None, binary(2, 5, rng), 2)
    assert seconds == pytest.approx(2.0 + 1.0)  # 2**13 / 4096 rows

    class Sign:
        fan_in, fan_out = 6, 5

        def forward(self, z):
            return np.zeros((len(z), 5)), lambda slopes: {}

        def parameters(self):
            return {}

    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(6)), Sign())
    assert predict_seconds(model, None, binary(9, 5, rng), 18) == pytest.approx(18.0)
    assert predict_seconds(model, None, binary(0, 5, rng), 0) == 0.0


def test_a_prediction_is_near_the_truth():
    """A factor of ten, as machines are noisy: this finds a wrong exponent, not a slow minute."""
    rng = np.random.default_rng(1)
    for model, rows in [(shallow(21, (9,), 11, rng), 2), (shallow(14, (9,), 11, rng), 300)]:
        x = binary(rows, 11, rng)
        predicted = predict_seconds(model, None, x, rows)
        actual = min(module._seconds(model, None, x, False, None) for _ in range(2))
        assert actual / 10 < predicted < actual * 10


def test_evaluate_says_the_prediction_before_it_starts(tmp_path, capsys, monkeypatch):
    from refvlm.cli import main

    rng = np.random.default_rng(2)
    refvlm.save(tmp_path / "m.npz", shallow(23, (), 5, rng))
    np.save(tmp_path / "x.npy", binary(2, 5, rng))
    monkeypatch.setattr("refvlm.cli.messages.predict_seconds", lambda *a, **k: 190.0)
    assert main(["evaluate", str(tmp_path / "m.npz"), str(tmp_path / "x.npy"), "--json"]) == 0
    said = capsys.readouterr().err.splitlines()
    assert "refvlm: about 3:10 min for 2 rows of 2**23 latents each" in said
    monkeypatch.setattr("refvlm.cli.messages.predict_seconds", lambda *a, **k: 1.9)
    assert main(["evaluate", str(tmp_path / "m.npz"), str(tmp_path / "x.npy"), "--json"]) == 0
    assert capsys.readouterr().err == ""
    seen = []  # too small to be worth a calibration
    monkeypatch.setattr("refvlm.cli.messages.predict_seconds", lambda *a, **k: seen.append(a))
    refvlm.save(tmp_path / "small.npz", shallow(6, (), 5, rng))
    assert main(["evaluate", str(tmp_path / "small.npz"), str(tmp_path / "x.npy"), "--json"]) == 0
    assert not seen
