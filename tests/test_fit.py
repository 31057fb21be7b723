"""refvlm.fit: what it learns, what it returns, what it refuses."""

import numpy as np
import pytest
from problems import binary, deep, network, shallow

import refvlm
from refvlm.learning.batches import Data
from refvlm.learning.history import ENUMERABLE, Record, enumerable
from refvlm.learning.rules import RULES, hyperparameters_of
from refvlm.learning.setup import Shape, random_model

QUICK = {name: {"samples": 3} if "samples" in hyperparameters_of(name) else {} for name in RULES} | {
    "vlb by the score function": {"gradient": "score-function", "samples": 3}
}


@pytest.fixture(scope="module")
def x():
    return refvlm.digits()[:150, 10:31]


def learn(x, name, **options):
    method = name.split(" by ")[0]
    return refvlm.fit(x, method=method, **({"latents": 4, "hidden": (6,), "epochs": 3} | QUICK[name] | options))


def bits_of(fitted):
    arrays = [*fitted.model.parameters().values()]
    arrays += [] if fitted.posterior is None else [*fitted.posterior.parameters().values()]
    return b"".join(value.tobytes() for value in arrays)


@pytest.mark.parametrize("latents", [4, (4, 2)])
@pytest.mark.parametrize("name", QUICK)
def test_every_method_learns_shallow_and_deep(x, name, latents):
    fitted = learn(x, name, latents=latents, epochs=8)
    assert isinstance(fitted.model, refvlm.BernoulliLVM)
    kind = refvlm.ChainPosterior if isinstance(latents, tuple) else refvlm.AmortisedPosterior
    assert isinstance(fitted.posterior, kind)
    first, last = fitted.history[0], fitted.history[-1]
    assert last.log_px > first.log_px
    d = refvlm.decompose(fitted.model, fitted.posterior, x)
    assert last.log_px == pytest.approx(d.log_px.mean(), rel=1e-12)
    assert last.vlb == pytest.approx(d.vlb.mean(), rel=1e-12)
    assert last.kl == pytest.approx(d.kl.mean(), rel=1e-9)
    assert last.log_px == pytest.approx(last.vlb + last.kl, rel=1e-12)


@pytest.mark.parametrize("name", QUICK)
def test_the_same_seed_gives_the_same_bits(x, name):
    first, again, other = (learn(x, name, seed=seed, workers=w) for seed, w in ((5, 1), (5, 2), (6, 1)))
    assert bits_of(first) == bits_of(again)
    assert first.history == again.history
    assert bits_of(first) != bits_of(other)


def test_exact_maximum_likelihood_recovers_a_planted_models_likelihood():
    """On all x weighted with a planted model's p(x) the optimum is the planted entropy, and it is reached."""
    planted = shallow(2, (), 5, np.random.default_rng(5), scale=4.0)
    x = refvlm.bits.table(5)
    p = np.exp(refvlm.log_marginal(planted, x))
    fitted = refvlm.fit(
        x, 2, (), weights=p, epochs=3000, learning_rate=0.05, schedule="cosine", evaluate_every=3000, posterior="none"
    )
    entropy = p @ np.log(p)
    assert fitted.history[-1].log_px <= entropy + 1e-12
    assert fitted.history[-1].log_px == pytest.approx(entropy, abs=1e-4)


@pytest.mark.parametrize("method", ["maximum-likelihood", "em", "vlb"])
def test_merging_equal_rows_changes_nothing(method):
    """Rows repeated, rows weighted: the same mean over the data, so the same steps."""
    rng = np.random.default_rng(4)
    kinds, counts = binary(9, 6, rng), rng.integers(1, 5, 9)
    repeated = np.repeat(kinds, counts, axis=0)
    options = {"latents": 3, "hidden": (5,), "method": method, "epochs": 4, "posterior": "amortised"}
    once = refvlm.fit(kinds, weights=counts, **options)
    many = refvlm.fit(repeated, batch_size=None if method == "em" else len(repeated), **options)
    for name, value in once.model.parameters().items():
        # the random start knows the number of rows through the smoothed output biases alone
        assert np.allclose(value, many.model.parameters()[name], atol=0.2), name
    assert many.history[-1].log_px == pytest.approx(
        counts @ refvlm.log_marginal(many.model, kinds) / counts.sum(), rel=1e-12
    )


def test_data_merges_rows_in_order_of_appearance():
    data = Data("x", [[1, 0, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1], [0, 0, 1]])
    assert data.distinct.tolist() == [[1, 0, 1], [0, 0, 1], [1, 1, 1]]
    assert data.inverse.tolist() == [0, 1, 0, 2, 1]
    assert np.allclose(data.merged().weights, [0.4, 0.4, 0.2], rtol=1e-15)
    batch = data.batch(np.array([0, 2, 4]), merge=True)
    assert batch.x.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert np.allclose(batch.weights, [2 / 3, 1 / 3], rtol=1e-15)
    assert data.batch(np.array([0, 2, 4]), merge=False).x.tolist() == [[1, 0, 1], [1, 0, 1], [0, 0, 1]]


def test_an_epoch_shows_every_row_once():
    data = Data("x", binary(23, 3, np.random.default_rng(0)))
    parts = list(data.epoch(7, 2, 5))
    assert [len(part) for part in parts] == [5, 5, 5, 5, 3]
    assert sorted(np.concatenate(parts)) == list(range(23))
    assert np.concatenate(parts).tolist() != np.concatenate(list(data.epoch(7, 3, 5))).tolist()


def test_weighted_rows_are_drawn_with_their_probabilities():
    """Counts of 40000 draws within 5 standard deviations of binomials; a row of weight 0 never comes."""
    weights = np.array([0.0, 1.0, 3.0, 0.0, 4.0] * 8000)
    drawn = np.concatenate(list(Data("x", binary(40000, 3, np.random.default_rng(0)), weights).epoch(0, 0, 999)))
    counts = np.bincount(drawn % 5, minlength=5)
    p = np.array([0, 1, 3, 0, 4]) / 8
    assert (np.abs(counts - 40000 * p) <= 5 * np.sqrt(40000 * p * (1 - p))).all()


def test_early_stopping_keeps_the_best_held_out_model():
    """A rate at which the last epochs are worse than some before: the best is what is returned."""
    rng = np.random.default_rng(1)
    x, held_out = binary(40, 7, rng), binary(30, 7, rng)  # nothing to learn: what is learnt is noise
    fitted = refvlm.fit(
        x, 5, (16,), validation=held_out, epochs=60, patience=4, learning_rate=0.05, posterior="none", batch_size=40
    )
    scores = [record.validation_log_px for record in fitted.history]
    best = int(np.argmax(scores))
    assert len(scores) == best + 1 + 4 < 60
    assert refvlm.log_marginal(fitted.model, held_out).mean() == pytest.approx(scores[best], rel=1e-13)
    assert scores[-1] < scores[best]


def test_weight_decay_shrinks_weights_and_leaves_biases():
    rng = np.random.default_rng(2)
    model = shallow(3, (4,), 6, rng)
    uniform = refvlm.bits.table(6)
    options = {"start": (model, None), "epochs": 1, "posterior": "none", "optimiser": "sgd", "learning_rate": 1e-9,
               "schedule": "constant"}  # fmt: skip
    plain = refvlm.fit(uniform, batch_size=64, **options).model.parameters()
    decayed = refvlm.fit(uniform, batch_size=64, weight_decay=1e8, **options).model.parameters()
    for name, value in plain.items():
        factor = 0.9 if ".weights." in name else 1.0
        assert np.allclose(decayed[name], factor * value, rtol=1e-7, atol=1e-12), name


def test_history_tells_the_variance_of_the_score_function(x):
    last = learn(x, "vlb by the score function").history[-1]
    assert 0 < last.gradient_variance < last.gradient_variance_without_baseline
    assert last.objective is not None


def test_one_phi_per_datum_belongs_to_the_rows_as_given():
    rng = np.random.default_rng(3)
    x = binary(6, 4, rng)[[0, 1, 0, 2, 3, 1, 4, 5, 5]]
    for method in ("maximum-likelihood", "em", "vlb"):
        fitted = refvlm.fit(x, 3, (), method=method, posterior="per-datum", epochs=5)
        assert fitted.posterior.logits.shape == (9, 3)
        assert (fitted.posterior.logits[0] == fitted.posterior.logits[2]).all()
        assert fitted.history[-1].kl == pytest.approx(refvlm.kl(fitted.model, fitted.posterior, x).mean(), rel=1e-9)


def test_going_on_from_a_model_improves_it(x):
    begun = learn(x, "vlb", epochs=5)
    further = refvlm.fit(x, method="vlb", start=(begun.model, begun.posterior), epochs=5)
    assert further.history[0].vlb > begun.history[-1].vlb - 0.05
    assert further.history[-1].vlb > begun.history[-1].vlb
    assert further.model.latents == 4


def test_no_epochs_give_the_start_back(x):
    rng = np.random.default_rng(4)
    model = shallow(3, (5,), 21, rng)
    fitted = refvlm.fit(x, start=(model, None), epochs=0, posterior="none")
    assert fitted.history == ()
    assert all((value == model.parameters()[name]).all() for name, value in fitted.model.parameters().items())


def test_constant_columns_and_rows_of_zeros_are_learnt():
    x = np.zeros((30, 5), int)
    x[:, 2] = 1
    x[:9, 4] = 1
    for name in QUICK:
        fitted = learn(x, name, epochs=20, latents=2)
        assert np.isfinite(fitted.history[-1].log_px)
    model = random_model(Data("x", x), (2,), Shape((), (), "tanh"), np.random.default_rng(0))
    assert np.isfinite(model.decoder.biases[0]).all()
    assert model.decoder.biases[0][2] > 3 > -3 > model.decoder.biases[0][0]


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_estimates_stand_in_where_the_sum_is_too_long(hidden):
    """The VLB of a linear decoder is exact at any K, so it stays."""
    rng = np.random.default_rng(5)
    x, held_out = binary(40, 6, rng), binary(11, 6, rng)
    fitted = refvlm.fit(
        x, 40, hidden, method="reweighted-wake-sleep", epochs=2, samples=2, validation=held_out, patience=2,
        batch_size=40,
    )  # fmt: skip
    last = fitted.history[-1]
    assert last.log_px is None
    assert last.kl is None
    assert (last.vlb is None) == (last.validation_vlb is None) == (hidden != ())
    assert last.log_px_standard_error > 0
    assert -8 < last.validation_log_px_estimate < 0
    assert last.score == last.validation_log_px_estimate


def test_enumerability_follows_from_the_shapes_alone():
    rng = np.random.default_rng(6)
    wide = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(ENUMERABLE)), network([ENUMERABLE, 2], rng))
    assert enumerable(wide)
    assert not enumerable(refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(ENUMERABLE + 1)), network([29, 2], rng)))
    for latents in (ENUMERABLE - 8, ENUMERABLE - 7):  # below another layer
        upper = shallow(3, (), latents, rng)
        assert enumerable(refvlm.BernoulliLVM(upper, network([latents, 5], rng))) == (latents == ENUMERABLE - 8)


REFUSED = [
    (
        {"latents": 29, "hidden": (2,)},
        ValueError,
        r"latents: got \(29,\), and method 'maximum-likelihood' enumerates .*'wake-sleep'",
    ),
    ({"latents": 29, "method": "vlb", "hidden": (5,)}, ValueError, "score-function"),
    ({"latents": (21, 2), "method": "em"}, ValueError, "20 below another layer"),
    ({"latents": ()}, ValueError, "latents: got .*, wanted at least 1"),
    ({"latents": 0}, ValueError, r"latents\[0\]: got 0, wanted at least 1"),
    ({"latents": 2.5}, TypeError, "latents: got float 2.5"),
    ({"hidden": (0,)}, ValueError, r"hidden\[0\]: got 0"),
    ({"hidden": 4}, TypeError, "hidden: got int 4, wanted a tuple of integers, .. for none"),
    ({"method": "vae"}, ValueError, "method: got str 'vae', wanted one of 'em', 'maximum-likelihood'"),
    ({"method": "vlb", "gradient": "pathwise"}, ValueError, "gradient: got str 'pathwise', wanted one of 'exact'"),
    ({"method": "vlb", "gradient": "score-function", "samples": 1}, ValueError, "samples: got 1, wanted at least 2"),
    ({"method": "reweighted-wake-sleep", "wake_phi": 1.5}, ValueError, "wake_phi: got 1.5, wanted a weight from 0 to"),
    ({"batch_size": 13}, ValueError, "batch_size: got 13, wanted at most the 12 rows that are learnt from"),
    ({"batch_size": 5, "method": "em"}, ValueError, "batch_size: got 5 with method 'em'"),
    ({"patience": 3}, ValueError, "patience: got 3 without validation"),
    ({"posterior": "none", "method": "vlb"}, ValueError, "posterior: got 'none', and method 'vlb' learns one"),
    (
        {"posterior": "per-datum", "method": "wake-sleep"},
        ValueError,
        "wake-sleep', which draws z; .*'em', 'maximum-likelihood', 'vlb'$",
    ),
    ({"optimiser": "lbfgs"}, ValueError, "optimiser: got"),
    ({"schedule": "warm"}, ValueError, "schedule: got"),
    ({"activation": "gelu"}, ValueError, "activation: got"),
    ({"learning_rate": 0}, ValueError, "learning_rate: got 0, wanted a finite number above 0"),
    ({"momentum": 1.0}, ValueError, "momentum: got 1.0"),
    ({"beta2": 1.0}, ValueError, "beta2: got 1.0, wanted a finite number at least 0 and below 1"),
    ({"beta2": 0.9, "optimiser": "sgd"}, ValueError, "beta2: got 0.9 with optimiser 'sgd', which has none"),
    ({"weight_decay": -1}, ValueError, "weight_decay: got -1"),
    ({"weight_decay": 0.1, "method": "em"}, ValueError, "weight_decay: got 0.1 with method 'em'"),
    ({"learning_rate": 0.1, "method": "em"}, ValueError, "learning_rate: got 0.1 with method 'em'"),
    ({"epochs": -1}, ValueError, "epochs: got -1"),
    ({"seed": -1}, ValueError, "seed: got -1"),
    ({"weights": np.zeros(12)}, ValueError, "weights: got"),
    ({"weights": -np.ones(12)}, ValueError, "weights: got"),
    ({"validation": np.zeros((2, 6))}, ValueError, "validation: got shape .2, 6., wanted 5 columns"),
    ({"validation": np.zeros((0, 5))}, ValueError, "validation: got shape .0, 5., wanted at least one row"),
    ({"start": "model.npz"}, TypeError, "start: got str"),
    ({"resume": True}, ValueError, "resume: got True without a checkpoint"),
]


@pytest.mark.parametrize(
    ("options", "error", "message"), REFUSED, ids=[str(sorted(r[0])) + str(i) for i, r in enumerate(REFUSED)]
)
def test_what_does_not_go_together_is_refused(options, error, message):
    x = binary(12, 5, np.random.default_rng(7))
    with pytest.raises(error, match=message):
        refvlm.fit(x, **({"latents": 3, "hidden": (), "epochs": 1} | options))


@pytest.mark.parametrize("x", [np.zeros((0, 3)), np.zeros((3, 0))])
def test_no_data_is_refused(x):
    with pytest.raises(ValueError, match="wanted at least one row and one column"):
        refvlm.fit(x)


@pytest.mark.parametrize(("rate", "what"), [(1e200, "1 of 30 .epoch 1."), (60.0, "coin tosses")])
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_divergence_names_the_step_and_the_rate(x, rate, what, optimiser):
    if optimiser == "sgd" and rate < 100:
        rate *= 1e3
    with pytest.raises(ValueError, match=f"learning_rate: got .*, and learning diverged at step .*{what}") as error:
        refvlm.fit(x, 4, (6,), learning_rate=rate, optimiser=optimiser, epochs=3, batch_size=len(x) // 10)
    assert "wanted a smaller one" in str(error.value)


def test_a_start_that_does_not_fit_is_refused(x):
    rng = np.random.default_rng(8)
    model = shallow(3, (), 21, rng)
    chain = refvlm.ChainPosterior([refvlm.AmortisedPosterior(network(s, rng)) for s in ([21, 3], [3, 2])])
    with pytest.raises(ValueError, match="x: got shape"):
        refvlm.fit(x[:, :20], start=(model, None))
    with pytest.raises(ValueError, match="posterior: got a chain"):
        refvlm.fit(x, start=(model, chain), method="vlb")
    with pytest.raises(ValueError, match="start: got one phi for each of 7 rows"):
        refvlm.fit(x, start=(model, refvlm.PerDatumPosterior(np.zeros((7, 3)))), method="vlb", posterior="per-datum")
    with pytest.raises(ValueError, match="start: got a single encoder for a deep model"):
        refvlm.fit(
            x, start=(deep(2, 3, 21, rng), refvlm.AmortisedPosterior(network([21, 3], rng))), method="wake-sleep"
        )


def test_watch_sees_every_record_and_progress_every_step(x):
    records, steps = [], []
    fitted = learn(
        x, "maximum-likelihood", watch=records.append, progress=lambda *done: steps.append(done), batch_size=50
    )
    assert tuple(records) == fitted.history
    assert steps[:9] == [(i, 9) for i in range(1, 10)]
    assert all(isinstance(record, Record) for record in records)


def test_a_decoder_that_is_no_mlp_is_refused(x):
    class Anonymous:
        def __init__(self, mlp):
            self.fan_in, self.fan_out = mlp.fan_in, mlp.fan_out
            self.forward, self.parameters = mlp.forward, mlp.parameters

    known = shallow(3, (), 21, np.random.default_rng(9))
    foreign = refvlm.BernoulliLVM(known.prior, Anonymous(known.decoder))
    with pytest.raises(TypeError, match="wanted an MLP; only those learn here"):
        refvlm.fit(x, start=(foreign, None))
