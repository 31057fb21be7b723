"""Ascent on exact objectives."""

import numpy as np
import pytest
from problems import binary, deep, network, shallow

import refvlm
from refvlm.inference import definition
from refvlm.learning.ascent import ascend, climb, climb_posterior
from refvlm.learning.batches import Batch
from refvlm.learning.inclusive import cover


def test_maximum_likelihood_raises_log_p_and_reaches_a_stationary_point():
    """On all x weighted by a planted model's probabilities, no model does better than the planted one."""
    rng = np.random.default_rng(0)
    planted = shallow(2, (), 5, rng, scale=3.0)
    x = planted.sample(400, rng)[0]
    start = shallow(2, (), 5, np.random.default_rng(1))
    fitted = climb(start, x, 200)
    before, after = (refvlm.log_marginal(model, x).mean() for model in (start, fitted))
    assert after > before
    assert after > refvlm.log_marginal(planted, x).mean()  # the sample's own optimum beats the truth on the sample
    gradient = refvlm.grad_log_marginal(fitted, x)
    assert all(np.abs(value).max() / len(x) < 1e-3 for value in gradient.values())


def test_ascent_on_the_bound_raises_it_and_closes_the_gap():
    rng = np.random.default_rng(2)
    model, q, x = shallow(3, (4,), 6, rng), refvlm.AmortisedPosterior(network([6, 3], rng)), binary(20, 6, rng)
    better = climb_posterior(model, q, x, 50)
    assert refvlm.vlb(model, better, x).mean() > refvlm.vlb(model, q, x).mean()
    assert refvlm.kl(model, better, x).mean() < refvlm.kl(model, q, x).mean()
    per_datum = climb_posterior(model, refvlm.PerDatumPosterior(np.zeros((20, 3))), x, 200)
    assert (refvlm.vlb(model, per_datum, x) >= refvlm.vlb(model, better, x) - 1e-3).all()


def test_infinite_logits_stay_where_they_are():
    rng = np.random.default_rng(3)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.1, -np.inf]), network([3, 5], rng))
    fitted = climb(model, binary(30, 5, rng), 5)
    assert fitted.prior.logits[0] == np.inf
    assert fitted.prior.logits[2] == -np.inf
    assert fitted.prior.logits[1] != 0.1


def test_steps_are_counted_and_validated():
    seen = []
    start = {"a": np.array([3.0]), "b": np.array([[1.0, -2.0]])}

    def bowl(parameters):
        value = -sum(float((v**2).sum()) for v in parameters.values())
        return value, {name: -2 * v for name, v in parameters.items()}

    reached = ascend(start, bowl, 50, lambda done, total: seen.append((done, total)))
    assert all(np.abs(value).max() < 1e-6 for value in reached.values())
    assert seen[-1] == (50, 50)
    assert ascend(start, bowl, 0) is start
    with pytest.raises(ValueError, match="steps: got -1"):
        ascend(start, bowl, -1)


def valley(parameters):
    """Rosenbrock's, upside down: L-BFGS takes some forty steps along it, from (-1.2, 1) to (1, 1)."""
    a, b = parameters["a"]
    slope = np.array([2 * (1 - a) + 400 * a * (b - a * a), -200 * (b - a * a)])
    return -((1 - a) ** 2 + 100 * (b - a * a) ** 2), {"a": slope}


def test_a_judge_keeps_the_best_on_the_way_and_ends_what_gets_no_better():
    start, judged, counted = {"a": np.array([-1.2, 1.0])}, [], []

    def judge(parameters):
        """Best half-way."""
        judged.append((-float(((parameters["a"] - [0.2, 0.04]) ** 2).sum()), parameters["a"].copy()))
        return judged[-1][0]

    reached = ascend(start, valley, 60, lambda done, total: counted.append(done), judge)
    best, where = max(judged, key=lambda pair: pair[0])
    assert (reached["a"] == where).all()
    assert best > judged[-1][0] + 0.05
    assert best > judged[0][0]
    assert counted[-1] == 60
    assert np.allclose(ascend(start, valley, 60)["a"], 1.0, atol=1e-3)
    judged.clear()
    assert (ascend(start, valley, 60, judge=lambda p: judged.append(p) or -p["a"][0])["a"] == start["a"]).all()
    assert len(judged) == 1 + 4, "what gets no better for twenty steps has ended"


def test_the_end_is_judged_too_where_an_ascent_ends_by_itself():
    """A round bowl takes L-BFGS fewer steps than there are between two judgements."""
    counted = []

    def bowl(parameters):
        return -float((parameters["a"] ** 2).sum()), {"a": -2 * parameters["a"]}

    start = {"a": np.array([3.0, -2.0])}
    reached = ascend(start, bowl, 60, lambda done, total: counted.append(done), lambda p: bowl(p)[0])
    assert max(counted[:-1]) < 5
    assert np.abs(reached["a"]).max() < 1e-6


def test_held_out_rows_choose_the_encoder_on_the_way():
    """Which learns 30 rows by heart if it may: KL falls on them, and rises on others. Held-out rows have weights."""
    rng = np.random.default_rng(11)
    model = shallow(4, (8,), 21, rng, scale=8.0)
    x, others = model.sample(30, rng)[0], model.sample(200, rng)[0]
    q = refvlm.AmortisedPosterior(network([21, 40, 4], rng))
    weights = rng.random(200) ** 8
    held_out = Batch(others, weights / weights.sum())

    def divergence(encoder, kind, rows, weights):
        """Either of the two between q and p(z | x), by hand."""
        log_p = definition.log_joint(model, rows)
        log_p -= np.logaddexp.reduce(log_p, axis=1, keepdims=True)
        logits = encoder.forward(rows)[0][:, None]
        log_q = (refvlm.bits.table(4) * logits - np.logaddexp(0, logits)).sum(axis=-1)
        gaps = np.exp(log_p) * (log_p - log_q) if kind is cover else np.exp(log_q) * (log_q - log_p)
        return float(np.average(gaps.sum(axis=1), weights=weights))

    for improve in (cover, climb_posterior):
        free, chosen = improve(model, q, x, 100), improve(model, q, x, 100, held_out=held_out)
        at_home = [divergence(each, improve, x, None) for each in (q, free, chosen)]
        abroad = [divergence(each, improve, others, weights) for each in (q, free, chosen)]
        assert at_home[1] < at_home[2] < at_home[0]
        assert abroad[2] < min(abroad[:2]) - 0.02
        single = [improve(model, q, x, 100, held_out=Batch(others[:20], row)) for row in np.eye(20)]
        assert len({refvlm.vlb(model, each, x).tobytes() for each in single}) > 1, "the weights count"
    per_row = refvlm.fit(x, validation=others, start=(model, None), epochs=0, encoder_hidden=(40,), seed=3)
    alone = refvlm.fit(x, validation=False, start=(model, None), epochs=0, encoder_hidden=(40,), seed=3)
    gaps = [refvlm.kl(model, fitted.posterior, others).mean() for fitted in (per_row, alone)]
    assert gaps[0] < gaps[1] - 0.02
    assert per_row.history[-1].validation_kl == pytest.approx(gaps[0], rel=1e-12)


def test_covering_the_posterior_ends_where_the_inclusive_divergence_is_stationary():
    """For an encoder without hidden layer: sum of x_i (mean_k - phi_k) = 0, the likelihood equations."""
    rng = np.random.default_rng(4)
    model, x, weights = shallow(3, (5,), 7, rng, scale=2.0), binary(40, 7, rng), rng.random(40)
    q = cover(model, refvlm.AmortisedPosterior(network([7, 3], rng)), x, 500, weights)
    logits = q.forward(x)[0]
    residual = (refvlm.posterior_mean(model, x) - 1 / (1 + np.exp(-logits))) * weights[:, None]
    assert np.abs(x.T @ residual).max() < 1e-3 * weights.sum()
    assert np.abs(residual.sum(axis=0)).max() < 1e-3 * weights.sum()


def test_covering_fits_a_chain_stage_by_stage():
    """With one code of z1 for each x the chain rule is exact: what is left is the factorisation's own gap."""
    rng = np.random.default_rng(5)
    model, x = deep(2, 3, 6, rng, scale=2.0), binary(30, 6, rng)
    stages = [refvlm.AmortisedPosterior(network(sizes, rng)) for sizes in ([6, 9, 3], [3, 7, 2])]
    start = refvlm.ChainPosterior(stages)
    reached = cover(model, start, x, 300)
    assert refvlm.kl(model, reached, x).mean() < refvlm.kl(model, start, x).mean()
    upper = cover(model.prior, stages[1], refvlm.bits.table(3), 300, refvlm.posterior(model, x).sum(axis=0))
    for name, value in upper.parameters().items():
        np.testing.assert_allclose(reached.stages[1].parameters()[name], value, rtol=1e-3, atol=1e-3)
