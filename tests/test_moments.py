"""`refvlm moments` and its pictures: the numbers of the library, and what it says where there are none."""

import json

import numpy as np
import pytest
from problems import binary, deep, network, shallow

import refvlm
from refvlm import gradient_estimators as ge
from refvlm.cli import main

K, H, L, N = 3, 4, 6, 5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Data, and models of several kinds."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.save("x.npy", binary(N, L, rng))
    encoder = refvlm.AmortisedPosterior(network([L, 5, K], rng))
    above = refvlm.AmortisedPosterior(network([K, 2], rng))
    model, two = shallow(K, (H,), L, rng), deep(2, K, L, rng)
    kinds = {
        "amortised": (model, encoder), "none": (model, None), "single": (two, encoder),
        "per-datum": (model, refvlm.PerDatumPosterior(rng.normal(size=(N, K)))),
        "chain": (two, refvlm.ChainPosterior([encoder, above])),
    }  # fmt: skip
    for name, pair in kinds.items():
        refvlm.save(f"{name}.npz", *pair)
    return tmp_path


@pytest.fixture
def run(capsys, folder):
    """Run `refvlm moments` in this process: exit code, stdout, stderr."""

    def command(*arguments):
        try:
            code = main(["moments", *map(str, arguments)])
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        return code, out, err

    return command


def load(name):
    return (*refvlm.load(f"{name}.npz"), np.load("x.npy"))


@pytest.mark.parametrize("name", ["amortised", "per-datum"])
@pytest.mark.parametrize("parameters", ["logits", "posterior"])
def test_json_holds_what_the_library_returns(run, name, parameters):
    """Rows 1 and 2 of 5, three estimators, M = 2 and 3: row by row, over the rows, and the bounds."""
    options = ("--estimators", "disarm,vimco,reweighted-wake", "--samples", "2,3", "--parameters", parameters)
    code, out, err = run(f"{name}.npz", "x.npy", "--rows", "1:3", *options, "--json")
    assert (code, err) == (0, "")
    lines = [json.loads(line) for line in out.splitlines()]
    model, q, x = load(name)
    q = q.take(slice(1, 3)) if name == "per-datum" else q
    kinds = [kind(samples) for kind in (ge.DisArm, ge.Vimco, ge.ReweightedWake) for samples in (2, 3)]
    found = ge.compare(model, q, x[1:3], kinds, parameters=parameters)
    keys = ["estimator", "samples", "gradient_of", "bias", "size", "variance", "signal_to_noise", "evaluations"]
    by_row = [(line.pop("row"), line) for line in lines[:12]]
    assert [row for row, _ in by_row] == [1] * 6 + [2] * 6
    over_rows = [(line.pop("rows"), line) for line in lines[12:18]]
    assert [rows for rows, _ in over_rows] == [2] * 6
    for (_, line), each in zip(over_rows + by_row, [e.overall() for e in found] + list(found) * 2, strict=True):
        assert list(line) == [*keys, "variance_times_evaluations"]
        assert (line["estimator"], line["samples"]) == (each.estimator.name, each.estimator.samples)
        assert line["gradient_of"] == each.estimator.objective
    for (row, line), each in zip(by_row, list(found) * 2, strict=True):
        assert (line["bias"], line["variance"]) == (each.bias[row - 1], each.variance[row - 1])
        assert line["variance_times_evaluations"] == each.variance[row - 1] * line["evaluations"]
        assert line["signal_to_noise"] == each.signal_to_noise[row - 1]
    assert lines[18:] == [
        {"rows": 2, "samples": 2, "iwae": refvlm.iwae(model, q, x[1:3], 2).mean()},
        {"rows": 2, "samples": 3, "iwae": refvlm.iwae(model, q, x[1:3], 3).mean()},
        {"rows": 2, "log_px": refvlm.log_marginal(model, x[1:3]).mean()},
    ]


def test_people_see_every_estimator_and_the_bounds(run):
    code, out, err = run("amortised.npz", "x.npy")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "exact moments of a draw, 5 rows"
    assert [line.split()[0] for line in lines[2:13]] == list(ge.ESTIMATORS)
    model, _, x = load("amortised")
    assert lines[-1].split()[-1] == f"{refvlm.log_marginal(model, x).mean():.6f}"
    assert run("amortised.npz", "x.npy", "--workers", 2) == (code, out, err)


def test_help_documents_every_json_key(run):
    out = run("amortised.npz", "x.npy", "--json")[1]
    keys = {key for line in out.splitlines() for key in json.loads(line)}
    text = run("--help")[1]
    assert all(f'"{key}"' in text for key in keys)
    assert all(name in text for name in ge.ESTIMATORS)


def test_a_model_without_slopes_in_z_is_measured_with_the_other_estimators(run):
    code, out, err = run("single.npz", "x.npy", "--rows", 2)
    assert code == 0
    without = ("muprop", "straight-through", "straight-through-gumbel")
    assert [line.split(":")[1:3] for line in err.splitlines()] == [[" note", f" without {name}"] for name in without]
    assert [line.split()[0] for line in out.splitlines()[2:10]] == [e for e in ge.ESTIMATORS if e not in without]


def test_estimators_that_need_more_draws_are_left_out_of_all_but_not_of_some(run):
    code, out, _ = run("amortised.npz", "x.npy", "--samples", 1)
    assert code == 0
    assert "vimco" not in out
    assert "disarm" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("none.npz", "x.npy"), 65, "has no posterior"),
        (("chain.npz", "x.npy"), 65, "wanted a single q"),
        (("single.npz", "x.npy", "--estimators", "muprop"), 65, "prior is a model"),
        (("amortised.npz", "x.npy", "--rows", "7:9"), 65, "--rows: got a choice without a row"),
        (("amortised.npz", "none.npy"), 66, "none.npy"),
        (("amortised.npz", "x.npy", "--estimators", "vimco", "--samples", "1"), 2, "wanted 2 or more for vimco"),
        (("amortised.npz", "x.npy", "--estimators", "relax"), 2, "got 'relax', wanted some of reinforce, "),
        (("amortised.npz", "x.npy", "--samples", "0"), 2, "got 0, wanted at least 1"),
        (("amortised.npz", "x.npy", "--plot", "x.txt"), 2, "wanted .png"),
        (("amortised.npz", "x.npy", "--estimators", "vimco", "--samples", "60"), 65, "sets of draws"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_ends_in_one_line(run, arguments, code, message):
    got, out, err = run(*arguments)
    assert (got, out) == (code, "")
    assert err.splitlines()[-1].startswith("refvlm: error: ")
    assert len(err.splitlines()) == 1
    assert message in err


def test_a_long_comparison_is_predicted(run, monkeypatch):
    monkeypatch.setattr("refvlm.cli.moments.PATIENCE", 0.0)
    _, _, err = run("amortised.npz", "x.npy", "--estimators", "arm")
    assert err.startswith("refvlm: about ")
    assert err.endswith(" for 5 rows of 2**3 latents each\n")


def test_pictures_have_the_numbers_of_the_library(run):
    """Dots at variance times evaluations, diamonds at squared biases, lines over the rows; IWAE-M and log p(x)."""
    pytest.importorskip("matplotlib")
    model, q, x = load("amortised")
    found = ge.compare(model, q, x, [kind() for kind in ge.ESTIMATORS.values()])
    ax = refvlm.plot.estimators(found)
    drawn = {(line.get_marker(), float(line.get_ydata()[0])): line.get_xdata() for line in ax.get_lines()}
    for n, each in enumerate(found):
        np.testing.assert_array_equal(drawn["o", n], each.overall().variance_times_cost)
        costs = each.variance_times_cost
        np.testing.assert_array_equal(drawn["None", n], [costs[costs > 0].min(), costs.max()])
        assert (("D", n) in drawn) == (not each.estimator.unbiased)
        if not each.estimator.unbiased:
            np.testing.assert_array_equal(drawn["D", n], each.overall().bias ** 2)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == [f"{each.estimator.name}, {each.estimator.samples}" for each in found]
    bounds = np.stack([refvlm.iwae(model, q, x, count) for count in (1, 5, 50)])
    ax = refvlm.plot.many_samples((1, 5, 50), bounds, refvlm.log_marginal(model, x))
    line, curve = ax.get_lines()
    np.testing.assert_array_equal(curve.get_ydata(), bounds.mean(axis=1))
    assert set(line.get_ydata()) == {refvlm.log_marginal(model, x).mean()}
    for bad in (lambda: refvlm.plot.many_samples((1, 5), bounds, bounds[0]), lambda: refvlm.plot.estimators(found[:0])):
        with pytest.raises((ValueError, TypeError), match="wanted"):
            bad()
    assert run("amortised.npz", "x.npy", "--plot", "a.svg")[0] == 0
    with open("a.svg") as file:
        assert "reweighted-wake" in file.read()
