"""What `fit` does where nothing is said: the rows that it holds out, its settings, the number of latents, its hint."""

import json
import math
import re

import numpy as np
import pytest

import refvlm
from refvlm.cli import main
from refvlm.learning import defaults
from refvlm.learning.advice import advice
from refvlm.learning.batches import Data
from refvlm.learning.history import Record
from refvlm.learning.optimisers import rate_at
from refvlm.learning.rules import ExpectationMaximisation, MaximumLikelihood, Variational, WakeSleep
from refvlm.learning.sizes import choose

QUICK = {"latents": 2, "hidden": (), "epochs": 1, "posterior": "none"}


@pytest.fixture(scope="module")
def distinct():
    """(300, 13), no two rows equal."""
    codes = np.random.default_rng(1).choice(1 << 13, 300, replace=False)
    return ((codes[:, None] >> np.arange(13)) & 1).astype(np.uint8)


@pytest.fixture(scope="module")
def repeated():
    """(4000, 13), of which most rows equal another, as survey data have it; more than 200 kinds."""
    rng = np.random.default_rng(2)
    decoder = refvlm.MLP([6 * rng.normal(size=(3, 13))], [rng.normal(size=13)])
    return refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), decoder).sample(4000, rng)[0]


def split(x, seed=0):
    held_out = np.zeros(len(x), bool)
    held_out[refvlm.fit(x, seed=seed, **QUICK).held_out] = True
    return x[~held_out], x[held_out], held_out


def test_a_tenth_is_held_out_and_nothing_is_learnt_from_it(distinct):
    learnt, others, held_out = split(distinct)
    assert len(others) == 30
    fitted = refvlm.fit(distinct, **QUICK)
    last = fitted.history[-1]
    assert last.log_px == pytest.approx(refvlm.log_marginal(fitted.model, learnt).mean(), rel=1e-13)
    assert last.validation_log_px == pytest.approx(refvlm.log_marginal(fitted.model, others).mean(), rel=1e-13)
    changed = distinct.copy()
    changed[held_out] = 1 - changed[held_out]
    other = refvlm.fit(changed, **QUICK)
    assert (other.held_out == fitted.held_out).all()
    assert all((a == b).all() for a, b in zip(*(f.model.parameters().values() for f in (fitted, other)), strict=True))


def test_the_seed_chooses_the_rows(distinct):
    first, again, other = (split(distinct, seed)[2] for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("seed", range(20))
def test_every_row_is_as_likely_held_out(distinct, seed):
    """A row's number of times among 400 seeds is binomial(400, 1/10): 6 standard deviations, 2e-9 for each of 300."""
    if seed:
        x = distinct[np.random.default_rng(seed).permutation(len(distinct))[:240]]
        assert defaults.hold_out(Data("x", x), seed).sum() == 24
        return
    counts = sum(defaults.hold_out(Data("x", distinct), s).astype(int) for s in range(400))
    assert np.abs(counts - 40).max() <= 6 * math.sqrt(400 * 0.1 * 0.9)


def test_copies_stay_on_one_side(distinct):
    x = np.concatenate([distinct, distinct[:15], distinct[:5]])
    for seed in range(30):
        learnt, others, _ = split(x, seed)
        assert 0 < len(others) <= 32
        assert not {bytes(row) for row in learnt} & {bytes(row) for row in others}


def test_where_rows_repeat_by_nature_they_are_drawn_one_by_one(repeated):
    """What is held out is then like what will come: with kinds of rows held out whole, none of it were ever learnt."""
    learnt, others, _ = split(repeated)
    assert len(others) == 400
    seen = {bytes(row) for row in learnt}
    assert np.mean([bytes(row) in seen for row in others]) > 0.5


@pytest.mark.parametrize(
    "options",
    [
        {"validation": False},
        {"weights": np.arange(1.0, 301.0)},
        {"method": "em"},
        {"posterior": "per-datum"},
        {"posterior": "per-datum", "method": "vlb"},
    ],
)
def test_nothing_is_held_out_where_all_is_needed(distinct, options):
    fitted = refvlm.fit(distinct, **QUICK | options)
    assert len(fitted.held_out) == 0
    assert fitted.history[-1].validation_log_px is None


def test_nothing_is_held_out_of_few_kinds_of_rows(distinct, repeated):
    assert len(refvlm.fit(distinct[:199], **QUICK).held_out) == 0
    assert len(refvlm.fit(distinct[:200], **QUICK).held_out) == 20
    assert len(refvlm.fit(np.repeat(distinct[:199], 3, axis=0), **QUICK).held_out) == 0


def test_rows_given_to_hold_out_are_all_that_is_held_out(distinct):
    fitted = refvlm.fit(distinct[:250], validation=distinct[250:], **QUICK)
    assert len(fitted.held_out) == 0
    expected = refvlm.log_marginal(fitted.model, distinct[250:]).mean()
    assert fitted.history[-1].validation_log_px == pytest.approx(expected, rel=1e-13)
    with pytest.raises(TypeError, match="validation: got bool True, wanted held-out rows, None for a tenth, or False"):
        refvlm.fit(distinct, validation=True, **QUICK)


def test_rows_that_miss_bits_are_held_out_with_them(distinct):
    x = distinct.astype(float)
    x[np.random.default_rng(5).random(x.shape) < 0.1] = np.nan
    fitted = refvlm.fit(x, missing="marginalise", **QUICK)
    assert len(fitted.held_out) == 30
    found = refvlm.log_marginal(fitted.model, x[fitted.held_out], missing="marginalise").mean()
    assert fitted.history[-1].validation_log_px == pytest.approx(found, rel=1e-12)
    tried = refvlm.fit(x, missing="marginalise", **QUICK | {"latents": "auto"})
    assert tried.tried[0].held_out_log_px == pytest.approx(found, rel=1e-12)


@pytest.mark.parametrize(("rows", "size"), [(7, 7), (50, 50), (300, 50), (3200, 50), (17412, 272), (10**6, 512)])
def test_rows_in_a_minibatch(rows, size):
    assert defaults.batch_size(rows) == size


@pytest.mark.parametrize(
    ("rows", "size", "passes"),
    [(200, 50, 225), (1800, 50, 200), (5000, 78, 72), (17412, 272, 39), (10**6, 512, 20), (1000, 1000, 225)],
)
def test_epochs_make_2500_steps_and_see_360000_rows_within_limits(rows, size, passes):
    held_out = Data("validation", np.eye(3))
    assert defaults.epochs(MaximumLikelihood(), rows, size, held_out) == passes
    assert defaults.epochs(MaximumLikelihood(), rows, size, None) == min(60, passes)
    for others in (None, held_out):
        assert defaults.epochs(MaximumLikelihood(), rows, None, others) == 500
        assert defaults.epochs(ExpectationMaximisation(), rows, None, others) == 100


@pytest.mark.parametrize(
    ("rule", "optimiser", "activation", "rate"),
    [
        (MaximumLikelihood(), "adam", "tanh", 0.04),
        (MaximumLikelihood(), "adam", "sigmoid", 0.08),
        (MaximumLikelihood(), "sgd", "relu", 0.1),
        (Variational(), "adam", "tanh", 0.04),
        (Variational(gradient="score-function"), "adam", "tanh", 0.01),
        (WakeSleep(), "adam", "sigmoid", 0.02),
        (WakeSleep(), "sgd", "sigmoid", 0.2),
    ],
)
def test_rates_by_default_are_bolder_without_the_noise_of_draws(rule, optimiser, activation, rate):
    decoder = refvlm.MLP.random([3, 4, 13], np.random.default_rng(0), activation=activation)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), decoder)
    assert defaults.learning_rate(rule, optimiser, model) == pytest.approx(rate, rel=1e-15)


def test_settings_by_default(distinct):
    fitted = refvlm.fit(distinct, latents=2, hidden=(), posterior="none", patience=1000)
    history = fitted.history
    assert history[-1].epoch == defaults.MOST_EPOCHS
    assert history[-1].step == defaults.MOST_EPOCHS * math.ceil(270 / 50)
    rates = [rate_at("warmup-cosine", 0.04, record.step, history[-1].step) for record in history]
    assert history.columns()["learning_rate"].tolist() == rates
    options = {"latents": 2, "hidden": (), "posterior": "none", "patience": 1000}
    for beta2, same in ((0.99, True), (0.999, False)):
        stated = refvlm.fit(distinct, beta2=beta2, weight_decay=0.1, batch_size=50, **options)
        both = zip(stated.model.parameters().values(), fitted.model.parameters().values(), strict=True)
        assert all((a == b).all() for a, b in both) == same
    assert refvlm.fit(distinct, weights=np.ones(300), latents=2, hidden=()).history[-1].step == 500
    assert refvlm.fit(distinct, latents=2, hidden=(), method="em", posterior="none").history[-1].step == 100


def test_weight_decay_by_default_counts_less_the_more_rows_there_are(distinct):
    held_out = Data("validation", distinct)
    assert [defaults.weight_decay(MaximumLikelihood(), n, held_out) for n in (50, 2000, 20000)] == [0.1, 0.05, 0.005]
    assert defaults.weight_decay(MaximumLikelihood(), 2000, None) == 0.0
    assert defaults.weight_decay(ExpectationMaximisation(), 2000, held_out) == 0.0


def test_noise_ends_early(distinct):
    """Bits of coins have nothing to learn, so that the held-out rows end the run."""
    history = refvlm.fit(distinct, latents=4, hidden=(32,), posterior="none", learning_rate=0.05).history
    scores = history.columns()["validation_log_px"]
    assert history[-1].epoch < defaults.MOST_EPOCHS
    assert len(history) - 1 - scores.argmax() == defaults.MOST_EPOCHS // 10 == 22
    assert defaults.patience(500, Data("validation", distinct)) == 50


def test_fit_shows_what_it_held_out(distinct):
    shown = repr(refvlm.fit(distinct, **QUICK))
    assert "30 rows of x, which `held_out` names" in shown
    assert "held out" not in repr(refvlm.fit(distinct, validation=False, **QUICK))
    model, posterior, history = refvlm.fit(distinct, **QUICK)
    assert (model.latents, posterior, len(history)) == (2, None, 1)


# The number of latents


def test_latents_are_found_where_they_are_known():
    """Four independent causes of five bits each: fewer latents cannot say it, more cannot say more."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 2, (2500, 4))
    x = (rng.random((2500, 20)) < np.where(np.repeat(z, 5, axis=1) == 1, 0.9, 0.1)).astype(np.uint8)
    fitted = refvlm.fit(x, latents="auto", hidden=(), posterior="none", epochs=30)
    assert fitted.model.latents == 4
    assert [each.latents for each in fitted.tried] == [2, 4, 6]
    _, four, six = fitted.tried
    assert four.gain > 10 * four.standard_error
    assert six.gain <= six.standard_error
    others = x[fitted.held_out]
    assert four.held_out_log_px == pytest.approx(refvlm.log_marginal(fitted.model, others).mean(), rel=1e-14)
    direct = refvlm.fit(x, latents=4, hidden=(), posterior="none", epochs=30)
    assert direct.history == fitted.history
    fewer = refvlm.fit(x, latents=2, hidden=(), posterior="none", epochs=30)
    gains = refvlm.log_marginal(fitted.model, others) - refvlm.log_marginal(fewer.model, others)
    assert four.gain == pytest.approx(gains.mean(), rel=1e-12)
    assert four.standard_error == pytest.approx(gains.std(ddof=1) / math.sqrt(len(others)), rel=1e-12)
    assert "latents tried" in repr(fitted)


def test_the_largest_number_is_chosen_if_it_is_best():
    """Models that put ever more on the row of ones: each is better than the one before."""
    held_out = Data("validation", np.ones((5, 3)))

    def learn(latents):
        decoder = refvlm.MLP([np.zeros((latents, 3))], [np.array([0.1, 0.2, 0.3]) * latents])
        return refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(latents)), decoder), latents

    chosen, tried = choose(learn, held_out, 1)
    assert chosen == tried[-1].latents == 16
    assert len(tried) == 8


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"validation": False}, ValueError, "latents: got 'auto' without held-out rows, which it goes by"),
        ({"method": "em"}, ValueError, "latents: got 'auto' without held-out rows, which it goes by"),
        ({"checkpoint": "run.checkpoint"}, ValueError, "checkpoint: got .* with latents='auto', which is several runs"),
        ({"latents": "many"}, TypeError, "latents: got str 'many', wanted a tuple of integers"),
    ],
)
def test_what_does_not_go_with_auto_is_refused(distinct, options, error, message):
    with pytest.raises(error, match=message):
        refvlm.fit(distinct, **QUICK | {"latents": "auto"} | options)
    model = refvlm.fit(distinct, **QUICK).model
    with pytest.raises(ValueError, match="latents: got 'auto' with a start"):
        refvlm.fit(distinct, latents="auto", start=(model, None))


# The hint


def curve(own, held_out):
    return [
        Record(n, n, 0.1, log_px=a, validation_log_px=b) for n, (a, b) in enumerate(zip(own, held_out, strict=True))
    ]


@pytest.mark.parametrize(
    ("own", "held_out", "hint"),
    [
        ((-20, -15, -12, -10), (-20, -16, -15, -15.5), r"from epoch 2 to 3 training .* rose by 2.000 .* fell by 0.500"),
        ((-20, -15, -14, -13.99), (-20, -15.5, -14.5, -14.5), "training .* is 0.500 above held-out at epoch 2"),
        ((-20, -15, -14, -13), (-20, -15, -14, -13.05), "still rising at the end"),
        ((-20, -13.1, -13.001, -13), (-20, -13.1, -13.001, -13), "do not part"),
    ],
)
def test_the_hint_follows_from_where_the_curves_part(own, held_out, hint):
    records = curve(own, held_out)
    assert re.search(hint, advice(records))
    assert advice([*records, records[-1]._replace(log_px=-1.0, vlb=-2.0)]) == advice(records)


def test_there_is_no_hint_without_held_out_rows_or_a_curve():
    assert advice([Record(n, n, 0.1, log_px=-float(n)) for n in range(9)]) is None
    assert advice(curve((-3, -2), (-3, -2))) is None


# The command line


def run(capsys, *arguments):
    code = main(["fit", *map(str, arguments)])
    return code, *capsys.readouterr()


def test_the_command_says_what_it_held_out_and_hints(capsys, tmp_path, distinct):
    np.save(tmp_path / "x.npy", distinct)
    common = [tmp_path / "x.npy", "-o", tmp_path / "m.npz", "--latents", "3", "--hidden", "none", "--epochs", "9"]
    code, out, _ = run(capsys, *common)
    assert code == 0
    assert "held-out log p(x)" in out
    assert "from 270 rows" in out
    assert f"held out: 30 other rows of {tmp_path / 'x.npy'}, chosen by --seed 0; --validation none" in out
    assert out.count("hint: ") == 1
    code, out, _ = run(capsys, *common, "--validation", "none")
    assert code == 0
    assert "from 300 rows" in out
    assert "held" not in out
    code, out, _ = run(capsys, *common, "--json")
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert (summary["rows"], summary["held_out_rows"], summary["latents"], summary["tried"]) == (270, 30, [3], [])
    assert summary["hint"]


def test_the_command_chooses_the_latents_and_says_how(capsys, tmp_path, repeated):
    np.save(tmp_path / "x.npy", repeated)
    common = [tmp_path / "x.npy", "-o", tmp_path / "m.npz", "--latents", "auto", "--hidden", "none", "--epochs", "12"]
    code, out, _ = run(capsys, *common, "--json")
    assert code == 0
    *records, last = map(json.loads, out.splitlines())
    tried = last["summary"]["tried"]
    chosen = refvlm.load(tmp_path / "m.npz")[0].latents
    assert [chosen] == last["summary"]["latents"]
    assert tried[-2]["latents"] == chosen
    assert [record["epoch"] for record in records][:3] == [1, 2, 3]
    code, out, _ = run(capsys, *common)
    assert code == 0
    assert f"chosen: {chosen};" in out
    assert f"{tried[0]['held_out_log_px']:.4f}" in out
    assert not (tmp_path / "m.npz.checkpoint").exists()
