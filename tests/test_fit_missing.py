"""refvlm.fit on rows that miss bits: every rule against plain Python, and what comes of it."""

import dataclasses
import itertools
import math

import numpy as np
import oracle
import pytest
from enumerated import deep_machine, expected, logits_of, scripts, shallow_machine, slope, up_probability
from problems import deep, network, shallow

import refvlm
from refvlm.learning.ascent import climb_posterior
from refvlm.learning.batches import Batch, Data
from refvlm.learning.fit import POSTERIOR_STEPS
from refvlm.learning.inclusive import cover
from refvlm.learning.machine import Machine
from refvlm.learning.rules import (
    RULES,
    MaximumLikelihood,
    ReweightedWakeSleep,
    Variational,
    Vimco,
    WakeSleep,
    hyperparameters_of,
)
from refvlm.learning.rules.maximum_likelihood import drawn_gradient
from refvlm.learning.setup import Shape, random_model

NAN = np.nan
KEEP = {"missing": "marginalise"}
QUICK = {name: {"samples": 3} if "samples" in hyperparameters_of(name) else {} for name in RULES} | {
    "vlb by the score function": {"gradient": "score-function", "samples": 3}
}


@pytest.fixture(scope="module")
def complete():
    return refvlm.digits()[:90, 10:31].astype(float)


@pytest.fixture(scope="module")
def x(complete):
    """A fifth of the bits missing; row 3 entirely, and column 5."""
    holes = np.random.default_rng(0).random(complete.shape) < 0.2
    holes[3], holes[:, 5] = True, True
    return np.where(holes, NAN, complete)


def learn(x, name, **options):
    method = name.split(" by ")[0]
    chosen = {"latents": 4, "hidden": (6,), "epochs": 3} | QUICK[name] | KEEP | options
    return refvlm.fit(x, method=method, **chosen)


def bits_of(fitted):
    arrays = [*fitted.model.parameters().values()]
    arrays += [] if fitted.posterior is None else [*fitted.posterior.parameters().values()]
    return b"".join(value.tobytes() for value in arrays)


# Every rule against the definition -------------------------------------------------------------------------------


def seen_log_joint(model, row, layers):
    """log p(observed bits of x, z1, z2, ...) of an `oracle.Model`: bits of the row that are None count for nothing."""
    above, _ = oracle.log_generative(model, [0] * len(row), layers)
    logits = oracle.forward(model.decoder, layers[0])
    return above + math.fsum(oracle.log_bernoulli(b, a) for b, a in zip(row, logits, strict=True) if b is not None)


def first_logits(posterior, n, zeros):
    """Of q's lowest stage for row n, an encoder's seeing 0 where a bit is missing."""
    stage = posterior.stages[0]
    return stage.logits[n].tolist() if isinstance(stage, refvlm.PerDatumPosterior) else logits_of(stage.encoder, zeros)


def log_q(posterior, n, zeros, layers):
    """log q(z1, z2, ...) for row n."""
    if isinstance(posterior, refvlm.LayerwisePosterior):
        upwards = [logits_of(stage.encoder, zeros) for stage in posterior.stages]
        return math.fsum(oracle.log_bernoullis(z, a) for z, a in zip(layers, upwards, strict=True))
    above = [oracle.as_network(stage.encoder) for stage in posterior.stages[1:]]
    return oracle.log_recognition(first_logits(posterior, n, zeros), above, layers)


def value_of(machine, rows, weights, bound):
    """The weighted sum of log p(x), or of the VLB over all layers, of what is observed: rows of 0, 1 and None."""
    model, q, total = oracle.as_model(machine.model), machine.posterior, 0.0
    for n, (row, weight) in enumerate(zip(rows, weights, strict=True)):
        every, zeros = oracle.all_bits(model), [b or 0 for b in row]
        joint = [seen_log_joint(model, row, layers) for layers in every]
        if not bound:
            total += weight * oracle.log_sum_exp(joint)
            continue
        chances = [log_q(q, n, zeros, layers) for layers in every]
        total += weight * oracle.expectation(chances, [p - q for p, q in zip(joint, chances, strict=True)])
    return total


ROWS = [[1, None, 0, 1, None], [None, 0, 1, 1, 0], [0, 1, 1, 0, 0], [None] * 5]
WEIGHTS = np.array([0.4, 0.3, 0.2, 0.1])


def batch_of(rows, weights):
    observed = np.array([[b is not None for b in row] for row in rows])
    return Batch(np.array([[b or 0 for b in row] for row in rows], np.uint8), np.array(weights), observed)


def machines():
    """(machine, whether its gradient is the bound's), K, L, H, N distinct."""
    rng = np.random.default_rng(1)
    encoder = refvlm.AmortisedPosterior(network([5, 6, 2], rng))
    tall = refvlm.BernoulliLVM(shallow(1, (), 2, rng), network([2, 5], rng))
    above = refvlm.AmortisedPosterior(network([2, 3, 1], rng))
    yield "log p, hidden units", Machine(shallow(2, (3,), 5, rng)), False
    yield "log p, deep", Machine(deep(2, 3, 5, rng, hidden=())), False
    yield "amortised", Machine(shallow(2, (3,), 5, rng), encoder), True
    yield "per datum", Machine(shallow(3, (), 5, rng), refvlm.PerDatumPosterior(rng.normal(size=(4, 3)))), True
    yield "chain", Machine(tall, refvlm.ChainPosterior([encoder, above])), True
    layerwise = [encoder, refvlm.AmortisedPosterior(network([5, 1], rng))]
    yield "layerwise", Machine(tall, refvlm.LayerwisePosterior(layerwise)), True


@pytest.mark.parametrize(("machine", "bound"), [each[1:] for each in machines()], ids=[each[0] for each in machines()])
def test_the_direction_of_an_exact_rule_is_the_slope_of_what_is_observed(machine, bound):
    rule = Variational() if bound else MaximumLikelihood()
    ((direction, numbers),) = rule.directions(machine, batch_of(ROWS, WEIGHTS), None, 1)
    wanted = slope(machine, slice(0, len(machine.vector)), lambda: value_of(machine, ROWS, WEIGHTS, bound))
    np.testing.assert_allclose(direction, wanted, rtol=1e-7, atol=1e-9)
    if not bound:
        assert numbers["objective"] == pytest.approx(value_of(machine, ROWS, WEIGHTS, False), rel=1e-12)


DRAWS = {"shallow": (lambda: shallow_machine(2), [2]), "deep": (lambda: deep_machine(3), [2, 1])}
"""How many bits of each layer are drawn; x has three."""


@pytest.mark.parametrize("row", [[1, None, 0], [None, None, 1], [None, None, None]])
@pytest.mark.parametrize("kind", DRAWS)
@pytest.mark.parametrize(
    "rule", [WakeSleep(), Variational("score-function", 2), ReweightedWakeSleep(2, 1.0), Vimco(2)], ids=repr
)
def test_the_expectation_of_a_sampled_rule_is_the_slope_of_what_is_observed(rule, kind, row):
    """All draws, with their probabilities. Of reweighted wake phi: sum over draws of u_s times the slope of log q."""
    machine, sizes = DRAWS[kind]
    machine, samples, zeros = machine(), getattr(rule, "samples", 1), [b or 0 for b in row]
    every = list(itertools.product(*(list(scripts(size)) for size in sizes)))

    def of_samples(parts):
        """The draws of each sample, from the bits drawn layer by layer."""
        return [[parts[d][s * k : s * k + k] for d, k in enumerate(sizes)] for s in range(samples)]

    def weigh(parts):
        return math.prod(up_probability(machine, zeros, layers) for layers in of_samples(parts))

    def update(rng):
        return next(rule.directions(machine, batch_of([row], [1.0]), rng, 1))[0]

    found = expected(update, machine, zeros, [k * samples for k in sizes], weigh)

    def log_ratios():
        model = oracle.as_model(machine.model)
        return {
            layers: seen_log_joint(model, row, layers) - math.log(up_probability(machine, zeros, layers))
            for layers in every
        }

    def chance():
        return {layers: up_probability(machine, zeros, layers) for layers in every}

    held_f, held_q = log_ratios(), chance()

    def bound():
        """E of log (1/S) sum of p/q over all S draws, the VLB for rules that follow it."""
        f, q = log_ratios(), chance()
        if not isinstance(rule, (Vimco, ReweightedWakeSleep)):
            return sum(q[layers] * f[layers] for layers in every)
        return sum(
            math.prod(q[z] for z in drawn) * math.log(sum(math.exp(f[z]) for z in drawn) / samples)
            for drawn in itertools.product(every, repeat=samples)
        )

    def weighted_log_q():
        total = 0.0
        for drawn in itertools.product(every, repeat=samples):
            whole = sum(math.exp(held_f[z]) for z in drawn)
            inside = sum(math.exp(held_f[z]) / whole * math.log(up_probability(machine, zeros, z)) for z in drawn)
            total += math.prod(held_q[z] for z in drawn) * inside
        return total

    close = {"rtol": 1e-6, "atol": 1e-9}
    theta = machine.generative
    np.testing.assert_allclose(found[theta], slope(machine, theta, bound), **close)
    if isinstance(rule, ReweightedWakeSleep):
        np.testing.assert_allclose(found[theta.stop :], slope(machine, machine.recognition, weighted_log_q), **close)
    elif not isinstance(rule, WakeSleep):
        np.testing.assert_allclose(found[theta.stop :], slope(machine, machine.recognition, bound), **close)


def test_a_gradient_from_exact_draws_has_the_exact_one_as_its_mean():
    """Each number comes from n independent draws in an interval of length 1 at most. Hoeffding, 1e-9 in all."""
    rng = np.random.default_rng(4)
    model = shallow(3, (), 5, rng, scale=2.0)
    repeats = 2000
    batch = batch_of(ROWS * repeats, np.tile(WEIGHTS, repeats) / repeats)
    found, _ = drawn_gradient(Machine(model), batch, rng, 1)
    wanted = refvlm.grad_log_marginal(model, batch.floats(), batch.weights, **KEEP)
    wanted = np.concatenate([value.ravel() for value in wanted.values()])
    spread = (WEIGHTS**2).sum() / (5 * repeats)  # the sum of the squared lengths of all draws, weighted
    assert np.abs(found - wanted).max() < math.sqrt(spread * math.log(2 * len(found) / 1e-9) / 2)


def test_rows_with_patterns_of_their_own_have_draws_of_their_own():
    """Without weights z is the prior's, so the slope in it is a mean over all draws. Hoeffding, 1e-9 in all."""
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(4)), refvlm.MLP([np.zeros((4, 9))], [np.zeros(9)]))
    observed = refvlm.bits.table(9)[100:400].astype(bool)
    batch = Batch(np.zeros((300, 9), np.uint8), np.full(300, 1 / 300), observed)
    slopes = drawn_gradient(Machine(model), batch, np.random.default_rng(5), 1)[0][:4]
    assert np.abs(slopes).max() < math.sqrt(math.log(2 * 4 / 1e-9) / (2 * 300 * 5))


# What comes of it ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [4, (4, 2)])
@pytest.mark.parametrize("name", QUICK)
def test_every_method_learns_and_records_exact_numbers(x, name, latents):
    fitted = learn(x, name, latents=latents, epochs=8, validation=x[:11])
    first, last = fitted.history[0], fitted.history[-1]
    assert last.log_px > first.log_px
    scores = [record.validation_log_px for record in fitted.history]
    d = refvlm.decompose(fitted.model, fitted.posterior, x[:11], **KEEP)
    assert max(scores) == pytest.approx(d.log_px.mean(), rel=1e-12)
    fitted = learn(x, name, latents=latents)
    last, d = fitted.history[-1], refvlm.decompose(fitted.model, fitted.posterior, x, **KEEP)
    assert last.log_px == pytest.approx(d.log_px.mean(), rel=1e-12)
    assert last.vlb == pytest.approx(d.vlb.mean(), rel=1e-12)
    assert last.kl == pytest.approx(d.kl.mean(), rel=1e-10)


@pytest.mark.parametrize("name", QUICK)
def test_the_same_seed_gives_the_same_bits(x, name):
    first, again = (learn(x, name, seed=5, workers=w, epochs=2) for w in (1, 2))
    assert bits_of(first) == bits_of(again)
    assert first.history == again.history


@pytest.mark.parametrize("name", QUICK)
def test_where_nothing_is_missing_nothing_changes(complete, name):
    options = {"epochs": 2, "validation": complete[:7]}
    first, again = (learn(complete, name, missing=missing, **options) for missing in ("marginalise", "refuse"))
    assert bits_of(first) == bits_of(again)
    assert first.history == again.history


@pytest.mark.parametrize("method", ["maximum-likelihood", "em", "vlb"])
def test_one_phi_per_datum_belongs_to_the_rows_as_given(method):
    """Rows 0, 2, 3 have equal bits; 0 and 3 miss the same."""
    rng = np.random.default_rng(6)
    x = np.where(rng.random((9, 6)) < 0.2, NAN, rng.integers(0, 2, (9, 6)))
    x[2] = x[0] = [1, 0, NAN, 1, 0, 1]
    x[2, 2] = 0
    x[3] = x[0]
    fitted = refvlm.fit(x, 3, (), method=method, posterior="per-datum", epochs=5, **KEEP)
    assert fitted.posterior.logits.shape == (9, 3)
    assert (fitted.posterior.logits[0] == fitted.posterior.logits[3]).all()
    assert (fitted.posterior.logits[0] != fitted.posterior.logits[2]).all()
    gap = refvlm.kl(fitted.model, fitted.posterior, x, **KEEP).mean()
    assert fitted.history[-1].kl == pytest.approx(gap, rel=1e-9)


def test_q_that_comes_after_the_model_is_fitted_to_what_is_observed(x):
    rng = np.random.default_rng(8)
    model, q = shallow(3, (), 21, rng), refvlm.AmortisedPosterior(network([21, 3], rng))
    fitted = refvlm.fit(x, start=(model, q), epochs=0, **KEEP)
    rows, weights, observed = Data("x", x, **KEEP).merged()
    for improve in (cover, climb_posterior):
        q = improve(model, q, rows, POSTERIOR_STEPS, weights, observed=observed)
    assert bits_of(fitted) == bits_of(refvlm.Fit(model, q, ()))


def test_a_layerwise_posterior_learns(x):
    fitted = refvlm.fit(x, (4, 2), (), method="vlb", posterior="layerwise", epochs=6, **KEEP)
    assert fitted.history[-1].vlb > fitted.history[0].vlb
    assert fitted.history[-1].vlb == pytest.approx(refvlm.vlb(fitted.model, fitted.posterior, x, **KEEP).mean())


@pytest.mark.parametrize(
    ("method", "hidden", "posterior"),
    [
        ("wake-sleep", (5,), "amortised"),
        ("vlb", (), "amortised"),
        ("maximum-likelihood", (), "amortised"),
        ("maximum-likelihood", (), "per-datum"),
    ],
)
def test_more_latents_than_can_be_summed(x, method, hidden, posterior):
    some = x[:12, :7]
    fitted = refvlm.fit(some, 30, hidden, method=method, posterior=posterior, epochs=2, **KEEP)
    last = fitted.history[-1]
    assert last.log_px is last.kl is last.log_px_lower is None
    if posterior == "amortised":
        wanted = refvlm.log_marginal_estimate(
            fitted.model, fitted.posterior, some, np.random.default_rng(1), samples=5000, **KEEP
        )
        spread = math.hypot(last.log_px_standard_error, *(wanted.standard_error / len(some)))
        assert abs(last.log_px_estimate - wanted.value.mean()) < 6 * spread
    if not hidden:
        assert last.vlb == pytest.approx(refvlm.vlb(fitted.model, fitted.posterior, some, **KEEP).mean(), rel=1e-9)


@pytest.mark.parametrize("method", ["maximum-likelihood", "em"])
def test_a_fifth_missing_at_random_costs_little_and_zeros_in_their_place_much(method):
    """Mean log p of 2000 complete rows, nats: the planted model -3.934; learnt from complete rows -3.964 (EM -3.956),
    with a fifth missing -3.969 (-3.973), with zeros there -4.194 (-4.198)."""
    rng = np.random.default_rng(7)
    planted = shallow(3, (), 11, rng, scale=4.0)
    x, held_out = planted.sample(1500, rng)[0].astype(float), planted.sample(2000, rng)[0]
    holed = np.where(rng.random(x.shape) < 0.2, NAN, x)
    options = {"method": method, "posterior": "none", "epochs": 200, "batch_size": None if method == "em" else 500}
    options["evaluate_every"] = 200
    reached = {}
    for name, rows in {"complete": x, "holed": holed, "zeros": np.nan_to_num(holed)}.items():
        fitted = refvlm.fit(rows, 3, (), **options, **KEEP)
        reached[name] = refvlm.log_marginal(fitted.model, held_out).mean()
    assert reached["holed"] > reached["complete"] - 0.03
    assert reached["zeros"] < reached["complete"] - 0.2


# Data, checkpoints, refusals -------------------------------------------------------------------------------------


def test_rows_are_equal_if_they_miss_the_same_bits_too():
    data = Data("x", [[1, 0, NAN, 1], [1, 0, 0, 1], [1, 0, NAN, 1], [NAN, 0, 0, 1]], **KEEP)
    assert data.inverse.tolist() == [0, 1, 0, 2]
    batch = data.merged()
    assert batch.x.tolist() == [[1, 0, 0, 1], [1, 0, 0, 1], [0, 0, 0, 1]]
    assert batch.observed.tolist() == [[True, True, False, True], [True] * 4, [False, True, True, True]]
    np.testing.assert_allclose(batch.weights, [0.5, 0.25, 0.25])
    np.testing.assert_array_equal(batch.floats(), [[1, 0, NAN, 1], [1, 0, 0, 1], [NAN, 0, 0, 1]])
    some = np.array([3, 0, 2])
    assert data.batch(some, merge=True).observed.tolist() == [[True, True, False, True], [False, True, True, True]]
    assert data.batch(some, merge=False).observed[:, 0].tolist() == [False, True, True]
    assert Data("x", [[1.0, 0.0]], **KEEP).merged().observed is None


def test_a_digest_knows_what_is_missing():
    known, missing, elsewhere = ([[1, 0, 0], [0, 1, 1]], [[1, NAN, 0], [0, 1, 1]], [[1, 0, NAN], [0, 1, 1]])
    assert Data("x", known, **KEEP).digest() == Data("x", known).digest()
    assert len({Data("x", rows, **KEEP).digest() for rows in (known, missing, elsewhere)}) == 3


def test_output_biases_start_at_the_frequencies_of_what_is_observed():
    x = np.array([[1, NAN, 0, NAN, 1], [1, NAN, 0, 1, NAN], [1, NAN, 1, 1, NAN]])
    data = Data("x", x, [1, 1, 2], **KEEP)
    biases = random_model(data, (2,), Shape((), (), "tanh"), np.random.default_rng(0)).decoder.biases[0]
    ones, seen = np.array([3, 0, 1.5, 2.25, 0.75]), np.array([3, 0, 3, 2.25, 0.75])  # of the weights, which sum to 3
    np.testing.assert_allclose(1 / (1 + np.exp(-biases)), (ones + 0.5) / (seen + 1), rtol=1e-12)


def test_masked_arrays_and_integers_say_the_same(x):
    masked = np.ma.masked_array(np.nan_to_num(x, nan=1).astype(int), np.isnan(x))
    assert bits_of(learn(masked, "em")) == bits_of(learn(x, "em"))


class Stop(KeyboardInterrupt):
    """Ctrl-C between two steps."""


@pytest.mark.parametrize("name", ["maximum-likelihood", "em", "vimco"])
def test_resuming_gives_the_bits_of_an_uninterrupted_run(x, name, tmp_path):
    options = {"validation": x[5:20], "batch_size": None if name == "em" else 40, "epochs": 4}
    whole = learn(x, name, **options)

    def stop(done, total):
        if done == 2:
            raise Stop

    with pytest.raises(Stop):
        learn(x, name, checkpoint=tmp_path / "c", progress=stop, **options)
    for other in ({"x": np.nan_to_num(x)}, {"validation": np.nan_to_num(x[5:20])}):
        with pytest.raises(ValueError, match=f"another run: its {'data' if 'x' in other else 'validation'} is"):
            learn(**({"x": x, "name": name, "checkpoint": tmp_path / "c", "resume": True} | options | other))
    again = learn(x, name, checkpoint=tmp_path / "c", resume=True, **options)
    assert bits_of(again) == bits_of(whole)
    assert again.history == whole.history


@dataclasses.dataclass(frozen=True)
class Own(WakeSleep):
    """A rule of somebody else's, who has not said a word about missing bits."""

    name = "own"

    def directions(self, machine, batch, rng, workers):
        yield from super().directions(machine, batch, rng, workers)


@dataclasses.dataclass(frozen=True)
class Thoughtful(Own):
    """Of one who has."""

    name = "thoughtful"
    takes_missing = True


@dataclasses.dataclass(frozen=True)
class Steeper(WakeSleep):
    """Of one who leaves the directions as they are."""

    name = "steeper"
    samples: int = 3


def test_a_rule_that_does_not_say_that_it_takes_missing_bits_is_refused_them(x, complete):
    options = {"latents": 2, "hidden": (), "epochs": 1} | KEEP
    message = r"^missing: got 'marginalise', bits missing in x, and method 'own', .* says takes_missing = True$"
    with pytest.raises(ValueError, match=message):
        refvlm.fit(x, method=Own(), **options)
    assert refvlm.fit(complete, method=Own(), validation=x, **options).history[-1].validation_log_px < 0
    wanted = bits_of(refvlm.fit(x, method=WakeSleep(), **options))
    assert all(bits_of(refvlm.fit(x, method=rule, **options)) == wanted for rule in (Thoughtful(), Steeper()))
    assert all(rule.takes_missing for rule in RULES.values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"^x: got a missing value at row 0, column 1 \(1 in all\), .* with missing='marginalise'"),
        ({"missing": "refuse"}, "^x: got a missing value at row 0, column 1"),
        ({"missing": "drop"}, r"^missing: got str 'drop', wanted one of 'marginalise', 'refuse'$"),
        (
            {"x": [[1, 0], [0, 1]], "validation": [[1, NAN]]},
            "^validation: got a missing value .* missing='marginalise'",
        ),
        ({"x": [[0.5, NAN], [0, 1]]} | KEEP, r"^x: got 0\.5 at row 0, column 0, wanted exactly 0 or 1"),
        ({"validation": [[NAN, 2.0]]} | KEEP, r"^validation: got 2\.0 at row 0, column 1"),
        ({"validation": [[NAN, 1.0, 0.0]]} | KEEP, r"^validation: got shape \(1, 3\), wanted 2 columns"),
        ({"x": np.zeros((0, 2))} | KEEP, r"^x: got shape \(0, 2\), wanted at least one row"),
    ],
)
def test_what_cannot_be_summed_out_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        refvlm.fit(**({"x": [[1, NAN], [0, 1]], "latents": 3, "hidden": (), "epochs": 1} | options))
