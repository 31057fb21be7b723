"""More latents than a code has bits: what does not enumerate takes any K, what does says so."""

import contextlib
import json
import signal

import numpy as np
import pytest
from problems import binary, network, shallow

import refvlm
from refvlm.bits import CODE_BITS, check_codes
from refvlm.cli import between, main, messages
from refvlm.learning.rules import methods

SHAPES = [(64, 70), (65, 40), (200, 50), (2000, 30)]
"""K and L; N is 7."""
N = 7
SAMPLED = ["wake-sleep", "reweighted-wake-sleep", "vimco", "vlb"]


def encoder(model, rng):
    return refvlm.AmortisedPosterior(network([model.observed, model.latents], rng))


def bernoulli_log(logits, bits):
    """log of independent bits, as one would write it down."""
    return -np.logaddexp(0.0, np.where(bits == 1, -logits, logits)).sum(axis=1)


@pytest.mark.parametrize(("latents", "observed"), SHAPES)
def test_the_log_joint_is_that_of_the_definition(latents, observed):
    model = shallow(latents, (), observed, np.random.default_rng(0))
    x, z = model.sample(N, np.random.default_rng(1))
    assert x.shape == (N, observed)
    assert z.shape == (N, latents)
    logits = z @ model.decoder.weights[0] + model.decoder.biases[0]
    wanted = bernoulli_log(logits, x) + bernoulli_log(np.tile(model.prior.logits, (N, 1)), z)
    np.testing.assert_allclose(refvlm.log_joint(model, x, z), wanted, rtol=1e-13)


@pytest.mark.parametrize(("latents", "observed"), SHAPES)
def test_files_keep_every_bit(tmp_path, latents, observed):
    rng = np.random.default_rng(2)
    model = shallow(latents, (5,), observed, rng)
    q = encoder(model, rng)
    refvlm.save(tmp_path / "model.npz", model, q)
    loaded, posterior = refvlm.load(tmp_path / "model.npz")
    for before, after in ((model, loaded), (q, posterior)):
        for name, value in before.parameters().items():
            assert value.tobytes() == after.parameters()[name].tobytes(), name


@pytest.mark.parametrize(("latents", "observed"), SHAPES)
def test_estimates_meet_the_exact_values_of_the_five_bits_that_are_not_certain(latents, observed):
    """All other bits have infinite logits, so that a model of five bits has the same p(x), VLB and KL."""
    rng, free = np.random.default_rng(3), 5
    model = shallow(latents, (), observed, rng, scale=3.0)
    certain = rng.integers(0, 2, latents)
    chosen = rng.choice(latents, free, replace=False)
    logits = np.where(certain == 1, np.inf, -np.inf)
    logits[chosen] = rng.normal(size=free)
    q_logits = np.tile(logits, (N, 1))
    q_logits[:, chosen] = rng.normal(size=(N, free))
    weights, biases = model.decoder.weights[0], model.decoder.biases[0]
    fixed = certain.copy()
    fixed[chosen] = 0
    small = refvlm.BernoulliLVM(
        refvlm.Bernoulli(logits[chosen]), refvlm.MLP([weights[chosen]], [biases + fixed @ weights])
    )
    large = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), model.decoder)
    q, q_small = refvlm.PerDatumPosterior(q_logits), refvlm.PerDatumPosterior(q_logits[:, chosen])
    x, z = large.sample(N, rng)
    others = np.delete(np.arange(latents), chosen)
    np.testing.assert_array_equal(z[:, others], np.tile(certain[others], (N, 1)))
    exact = refvlm.decompose(small, q_small, x)
    for estimate, wanted in (
        (refvlm.log_marginal_estimate(large, q, x, rng, samples=1000), exact.log_px),
        (refvlm.vlb_estimate(large, q, x, rng, samples=1000), exact.vlb),
    ):
        assert (np.abs(estimate.value - wanted) < 6.0 * estimate.standard_error + 1e-12).all()
        assert (estimate.standard_error < 0.5).all()


@pytest.mark.parametrize("method", SAMPLED)
@pytest.mark.parametrize("latents", [(64,), (65,), (200,), (2000,), (200, 50)], ids=str)
def test_rules_that_draw_z_learn_any_number_of_latents(method, latents):
    rng = np.random.default_rng(4)
    x = shallow(3, (), 11, rng, scale=4.0).sample(40, rng)[0]
    options = {"gradient": "score-function", "samples": 4} if method == "vlb" else {}
    fitted = refvlm.fit(
        x, latents=latents, hidden=(), method=method, epochs=12, batch_size=20, evaluate_every=4, **options
    )
    first, last = fitted.history[0], fitted.history[-1]
    assert [layer.latents for layer in fitted.model.layers] == list(latents)
    assert last.log_px is None
    assert last.log_px_estimate > first.log_px_estimate


@pytest.mark.parametrize("latents", [CODE_BITS + 1, 200, 2000])
def test_what_enumerates_refuses_and_names_what_does_not(latents):
    rng = np.random.default_rng(5)
    model = shallow(latents, (), 6, rng)
    q, x = encoder(model, rng), binary(N, 6, rng)
    calls = [
        lambda: refvlm.log_marginal(model, x),
        lambda: refvlm.log_marginal(model, x[:0]),
        lambda: refvlm.posterior(model, x),
        lambda: refvlm.posterior_mean(model, x),
        lambda: refvlm.grad_log_marginal(model, x),
        lambda: refvlm.kl(model, q, x),
        lambda: refvlm.decompose(model, q, x),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=rf"^latents: got {latents}, wanted at most 62 .*log_marginal_estimate"):
            call()
    for method, hidden in (("maximum-likelihood", (3,)), ("em", ())):
        with pytest.raises(ValueError, match=r"wanted at most 28 bits .*'wake-sleep'"):
            refvlm.fit(x, latents=latents, hidden=hidden, method=method)
    assert "'wake-sleep'" in methods(False)
    check_codes(CODE_BITS)


def test_a_layer_of_too_many_latents_is_refused_wherever_it_is():
    rng = np.random.default_rng(6)
    low = refvlm.BernoulliLVM(shallow(63, (), 4, rng), network([4, 9], rng))
    with pytest.raises(ValueError, match=r"^latents: got 63"):
        refvlm.log_marginal(low, binary(N, 9, rng))
    high = refvlm.BernoulliLVM(shallow(5, (), 64, rng), network([64, 9], rng))
    with pytest.raises(ValueError, match=r"^latents: got 64"):
        refvlm.vlb(high, encoder(high, rng), binary(N, 9, rng))


def test_the_estimator_learns_many_latents_and_says_what_it_cannot():
    rng = np.random.default_rng(7)
    x = shallow(3, (), 11, rng, scale=4.0).sample(40, rng)[0]
    estimator = refvlm.BernoulliLVMEstimator(latents=65, hidden=(), method="wake-sleep", epochs=2).fit(x)
    assert estimator.sample(3).shape == (3, 11)
    with pytest.raises(ValueError, match=r"^score_samples: .*refvlm.log_marginal_estimate"):
        estimator.score(x)


def test_the_command_line_fits_samples_and_says_what_it_cannot_sum(tmp_path, capsys):
    path = str(tmp_path / "model.npz")
    arguments = ["fit", "bars", "-o", path, "--latents", "65,9", "--hidden", "none", "--method", "wake-sleep"]
    assert main([*arguments, "--epochs", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["summary"]["log_px_estimate"] < 0.0
    assert main(["sample", path, "-n", "3", "--latents"]) == 0
    assert len(capsys.readouterr().out.splitlines()[0].split(",")) == 16 + 65
    assert main(["evaluate", path, "bars"]) == 65
    message = capsys.readouterr().err
    assert "latents: got 65" in message
    assert "Traceback" not in message


def linear_file(tmp_path, posterior=True):
    rng = np.random.default_rng(8)
    model = shallow(66, (), 12, rng)
    q = encoder(model, rng) if posterior else None
    refvlm.save(tmp_path / "linear.npz", model, q)
    x = model.sample(19, rng)[0]
    np.save(tmp_path / "x.npy", x)
    np.savetxt(tmp_path / "x.csv", x, fmt="%d", delimiter=",")
    return model, q, x, str(tmp_path / "linear.npz")


def lines_of(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("data", ["x.npy", "x.csv"])
def test_evaluate_brackets_many_latents(tmp_path, capsys, data):
    model, q, x, path = linear_file(tmp_path)
    arguments = ["evaluate", path, str(tmp_path / data), "--json", "--width", "0.05", "--confidence", "0.999"]
    assert main(arguments) == 0
    *rows, last = lines_of(capsys)
    between = refvlm.bracket(model, x, width=0.05, rng=np.random.default_rng(1))
    vlb = refvlm.vlb(model, q, x)
    assert [row["row"] for row in rows] == list(range(19))
    for n, row in enumerate(rows):
        assert row["kind"] == "sampled"
        assert row["samples"] > 0
        assert row["lower"] <= between.upper[n]
        assert row["upper"] >= between.lower[n]
        assert row["upper"] - row["lower"] < 0.0501
        assert row["vlb"] == vlb[n]
        assert row["kl_lower"] == pytest.approx(row["lower"] - row["vlb"], abs=1e-9)
        assert row["kl_upper"] == pytest.approx(row["upper"] - row["vlb"], abs=1e-9)
    summary = last["summary"]
    assert summary["rows"] == 19
    assert summary["confidence"] == 0.999
    width = summary["mean_upper"] - summary["mean_lower"]
    assert 0.0 < width < 0.7 * np.mean([row["upper"] - row["lower"] for row in rows])
    assert summary["mean_lower"] <= between.mean_upper
    assert summary["mean_upper"] >= between.mean_lower
    assert summary["mean_kl_upper"] == pytest.approx(summary["mean_upper"] - vlb.mean(), abs=1e-9)
    assert summary["widest"] == max(row["upper"] - row["lower"] for row in rows)
    assert main([*arguments, "--rows", "2:4"]) == 0
    assert [row["row"] for row in lines_of(capsys)[:-1]] == [2, 3]


def test_people_see_the_bounds_what_they_mean_and_how_many_rows_are_left_out(tmp_path, capsys):
    _, _, _, path = linear_file(tmp_path, posterior=False)
    assert main(["evaluate", path, str(tmp_path / "x.npy"), "--width", "0.1", "--rows", "2"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert "with confidence 1 - 1e-09" in lines[1]
    assert "no posterior" in lines[2]
    assert lines[4].split() == ["row", "log", "p(x)", ">=", "<=", "width"]
    assert [len(line.split()) for line in lines[5:7]] == [4, 4]
    assert "17 more rows" in lines[7]
    assert lines[8].split()[0] == "mean"
    assert "the widest bracket" in lines[-1]
    assert "at most about" in err
    assert main(["evaluate", path, str(tmp_path / "x.npy"), "--width", "1e-7", "--seconds", "0.01"]) == 0
    assert "some are wider than 1e-07: --seconds gives each row more time" in capsys.readouterr().out.splitlines()[-1]


def test_an_interrupt_ends_evaluation_with_what_was_reached(tmp_path, capsys, monkeypatch):
    _, _, _, path = linear_file(tmp_path)
    real, calls = between.decompose_bracket, []

    def interrupted(*given, **options):
        result = real(*given, **options)
        calls.append(1)
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        return result

    monkeypatch.setattr(between, "decompose_bracket", interrupted)
    assert main(["evaluate", path, str(tmp_path / "x.npy"), "--json", "--width", "0.1"]) == 130
    assert len(calls) == 1
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["summary"]["rows"] == 19
    assert err.splitlines()[-1] == "refvlm: interrupted"


def test_what_has_no_bracket_is_one_line_before_anything_is_printed(tmp_path, capsys):
    path = str(tmp_path / "hidden.npz")
    refvlm.save(path, shallow(66, (5,), 16, np.random.default_rng(9)))
    assert main(["evaluate", path, "bars", "--width", "0.1"]) == 65
    out, err = capsys.readouterr()
    assert out == ""
    assert "latents: got 66" in err


@pytest.mark.parametrize(("seconds", "bits"), [(7200.0, 39), (3600.0 * 8, 37), (3000.0, None)])
def test_a_sum_of_hours_is_said_to_be_one_from_so_many_latents_on(seconds, bits, capsys, monkeypatch):
    """K = 40: twice the time for each bit, so an hour takes one bit less for each doubling."""
    monkeypatch.setattr(messages, "predict_seconds", lambda *given, **options: seconds)
    rng = np.random.default_rng(10)
    messages.say_prediction(shallow(40, (), 6, rng), None, binary(1, 6, rng), 1, None)
    message = capsys.readouterr().err
    assert "2**40" in message
    assert (f"hours from {bits} latent bits on" in message) == (bits is not None)


@pytest.mark.parametrize(("hidden", "way"), [((), "--seconds 1 brackets log p(x)"), ((5,), "log_marginal_estimate")])
def test_a_sum_of_more_than_a_year_is_refused_with_the_ways_out(hidden, way, tmp_path, capsys):
    refvlm.save(tmp_path / "m.npz", shallow(60, hidden, 16, np.random.default_rng(11)))
    assert main(["evaluate", str(tmp_path / "m.npz"), "bars", "--json"]) == 65
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "years for 30 rows of 2**60 latents each, wanted less than a year, as with" in err
    assert way in err
