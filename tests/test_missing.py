"""Missing bits summed out: against sums over every completion of a row in plain NumPy, and finite differences."""

import itertools

import numpy as np
import pytest
from problems import deep, network, shallow

import refvlm
from refvlm.inference.missing import split

NAN = np.nan


def rows(observed, rng):
    """Binary rows (6, L): all there; one missing; several; nothing observed; two rows of one pattern."""
    x = rng.integers(0, 2, (6, observed)).astype(float)
    x[1, 0] = x[2, [0, observed // 2]] = x[4, [0, observed // 2]] = NAN
    x[3] = NAN
    x[5, -2:] = NAN
    return x


def completions(row):
    """Every binary row that agrees with it where it is observed."""
    places = np.flatnonzero(np.isnan(row))
    for bits in itertools.product((0, 1), repeat=len(places)):
        whole = row.copy()
        whole[places] = bits
        yield whole.astype(np.uint8)


def log_joint(model, x):
    """log p(x_observed, z) of every code, by products over the observed bits, NaN for the others: (N, 2^K)."""
    z = refvlm.bits.table(model.latents)
    logits = model.decoder.forward(z.astype(float))[0]
    terms = np.where(x[:, None, :] == 1, -np.logaddexp(0, -logits), -np.logaddexp(0, logits))
    above = refvlm.log_prior(model, z)
    return np.where(np.isnan(x)[:, None, :], 0.0, terms).sum(axis=2) + above


class Wrapped:
    """A network that is no MLP."""

    def __init__(self, network):
        self.network, self.fan_in, self.fan_out = network, network.fan_in, network.fan_out

    def forward(self, inputs):
        return self.network.forward(inputs)

    def parameters(self):
        return self.network.parameters()


MODELS = {
    "linear": lambda rng: shallow(3, (), 7, rng),
    "hidden": lambda rng: shallow(4, (5,), 7, rng),
    "deep": lambda rng: deep(2, 3, 7, rng),
    "any decoder": lambda rng: refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -1.0]), Wrapped(network([2, 4, 7], rng))),
    "one pixel": lambda rng: shallow(2, (3,), 1, rng),
}  # fmt: skip


def posteriors(model, rng, count):
    """Amortised by an MLP and by another object, one phi for each row, and for two layers a chain."""
    encoder = network([model.observed, 4, model.latents], rng)
    found = [refvlm.AmortisedPosterior(encoder), refvlm.AmortisedPosterior(Wrapped(encoder))]
    found += [refvlm.PerDatumPosterior(rng.normal(size=(count, model.latents)))]
    if len(model.layers) == 2:
        stages = [network([model.observed, 3, model.latents], rng), network([model.latents, model.prior.latents], rng)]
        found.append(refvlm.ChainPosterior([refvlm.AmortisedPosterior(stage) for stage in stages]))
    return found


@pytest.mark.parametrize("name", MODELS)
def test_log_p_is_that_of_the_sum_over_completions(name):
    rng = np.random.default_rng(0)
    model = MODELS[name](rng)
    x = rows(model.observed, rng)
    value, error = refvlm.log_marginal(model, x, missing="marginalise", with_error=True)
    for n, row in enumerate(x):
        whole = refvlm.log_marginal(model, np.array(list(completions(row))))
        assert abs(value[n] - np.logaddexp.reduce(whole)) <= 1e-12 * (1.0 + abs(value[n]))
    assert value[3] == pytest.approx(0.0, abs=1e-13)
    assert (np.abs(value - np.logaddexp.reduce(log_joint(model, x), axis=1)) <= error + 1e-13).all()


@pytest.mark.parametrize("name", MODELS)
def test_posteriors_are_those_given_the_observed_bits(name):
    rng = np.random.default_rng(1)
    model = MODELS[name](rng)
    x = rows(model.observed, rng)
    joint = log_joint(model, x)
    wanted = np.exp(joint - np.logaddexp.reduce(joint, axis=1, keepdims=True))
    np.testing.assert_allclose(refvlm.posterior(model, x, missing="marginalise"), wanted, atol=1e-13)
    mean = wanted @ refvlm.bits.table(model.latents)
    np.testing.assert_allclose(refvlm.posterior_mean(model, x, missing="marginalise"), mean, atol=1e-13)
    drawn = refvlm.sample_posterior(model, x, 4000, rng, missing="marginalise")
    assert np.abs(drawn.mean(axis=1) - mean).max() < 5.0 / np.sqrt(4 * 4000)  # Hoeffding: 24 means, 1e-4 in all


@pytest.mark.parametrize("name", MODELS)
def test_bound_and_gap_add_up_and_are_those_of_plain_numpy(name):
    """q looks at 0 where a bit is missing."""
    rng = np.random.default_rng(2)
    model = MODELS[name](rng)
    x = rows(model.observed, rng)
    z = refvlm.bits.table(model.latents)
    for q in posteriors(model, rng, len(x)):
        parts = refvlm.decompose(model, q, x, missing="marginalise")
        assert (np.abs(parts.residual) <= 1e-12 * (1.0 + np.abs(parts.log_px) + np.abs(parts.vlb))).all()
        np.testing.assert_array_equal(refvlm.vlb(model, q, x, missing="marginalise"), parts.vlb)
        np.testing.assert_array_equal(refvlm.kl(model, q, x, missing="marginalise"), parts.kl)
        terms = refvlm.vlb_terms(model, q, x, missing="marginalise")
        np.testing.assert_allclose(sum(terms), parts.vlb, rtol=1e-13)
        if not isinstance(q, refvlm.ChainPosterior):
            phi = q.forward(np.nan_to_num(x).astype(np.uint8))[0]
            log_q = np.where(z == 1, -np.logaddexp(0, -phi[:, None]), -np.logaddexp(0, phi[:, None])).sum(axis=2)
            wanted = (np.exp(log_q) * (log_joint(model, x) - log_q)).sum(axis=1)
            np.testing.assert_allclose(parts.vlb, wanted, rtol=1e-12)


@pytest.mark.parametrize("name", ["linear", "hidden", "deep", "one pixel"])
def test_gradients_are_the_slopes(name):
    """Central differences in a direction through all parameters, with weights; log p, and the VLB of three q."""
    rng = np.random.default_rng(3)
    model = MODELS[name](rng)
    x, weights, h = rows(model.observed, rng), rng.uniform(0.5, 2.0, 6), 1e-6

    def moved(owner, direction, step):
        return owner.with_parameters({k: v + step * direction[k] for k, v in owner.parameters().items()})

    d = {k: rng.normal(size=v.shape) for k, v in model.parameters().items()}
    gradient = refvlm.grad_log_marginal(model, x, weights, missing="marginalise")
    assert {k: v.shape for k, v in gradient.items()} == {k: v.shape for k, v in model.parameters().items()}
    high, low = (refvlm.log_marginal(moved(model, d, s * h), x, missing="marginalise") @ weights for s in (1, -1))
    slope = sum((gradient[k] * d[k]).sum() for k in d)
    assert abs((high - low) / (2 * h) - slope) < 1e-6 * (1.0 + abs(slope))
    for q in posteriors(model, rng, len(x)):
        if isinstance(q, refvlm.AmortisedPosterior) and not isinstance(q.encoder, refvlm.MLP):
            continue
        e = {k: rng.normal(size=v.shape) for k, v in q.parameters().items()}
        gradient = refvlm.grad_vlb(model, q, x, weights, missing="marginalise")
        slope = sum((gradient[f"model.{k}"] * d[k]).sum() for k in d)
        slope += sum((gradient[f"posterior.{k}"] * e[k]).sum() for k in e)
        high, low = (
            refvlm.vlb(moved(model, d, s * h), moved(q, e, s * h), x, missing="marginalise") @ weights for s in (1, -1)
        )
        assert abs((high - low) / (2 * h) - slope) < 1e-6 * (1.0 + abs(slope))


def test_masked_arrays_say_the_same_as_nan():
    rng = np.random.default_rng(4)
    model = shallow(3, (4,), 7, rng)
    x = rows(7, rng)
    masked = np.ma.masked_array(np.where(np.isnan(x), 1, x).astype(int), np.isnan(x))
    nan, mask = (refvlm.log_marginal(model, each, missing="marginalise") for each in (x, masked))
    np.testing.assert_array_equal(nan, mask)
    bits, observed = split(masked, 7)
    assert bits.dtype == np.uint8
    assert (observed == ~np.isnan(x)).all()
    assert (bits[~observed] == 0).all()


def test_without_missing_bits_nothing_changes():
    """The same bits, with the argument and without; also for no rows at all."""
    rng = np.random.default_rng(5)
    model = shallow(5, (4,), 7, rng)
    x = rng.integers(0, 2, (9, 7))
    np.testing.assert_array_equal(refvlm.log_marginal(model, x, missing="marginalise"), refvlm.log_marginal(model, x))
    assert refvlm.log_marginal(model, np.zeros((0, 7)), missing="marginalise").shape == (0,)
    assert refvlm.posterior(model, np.zeros((0, 7)), missing="marginalise").shape == (0, 32)


def test_what_is_missing_is_predicted_exactly():
    """p(x_i = 1 | observed) over all completions; draws have these means, and keep what is observed."""
    rng = np.random.default_rng(6)
    model = shallow(3, (4,), 7, rng)
    x = rows(7, rng)
    predicted = refvlm.predict_missing(model, x)
    for n, row in enumerate(x):
        whole = np.array(list(completions(row)))
        p = np.exp(refvlm.log_marginal(model, whole))
        np.testing.assert_allclose(predicted[n], (p / p.sum()) @ whole, atol=1e-12)
    drawn = refvlm.sample_missing(model, x, 4000, rng)
    assert drawn.shape == (6, 4000, 7)
    seen = ~np.isnan(x)
    assert (drawn.transpose(0, 2, 1)[seen] == x[seen][:, None]).all()
    assert np.abs(drawn.mean(axis=1) - predicted).max() < 5.5 / np.sqrt(4 * 4000)  # Hoeffding: 42 means, 1e-4 in all


def test_a_linear_bound_of_many_latents_takes_missing_bits_too():
    """K = 40: no sum over codes; nothing observed is a bound of minus KL(q || p(z))."""
    rng = np.random.default_rng(7)
    model = shallow(40, (), 7, rng)
    q = refvlm.PerDatumPosterior(rng.normal(size=(2, 40)))
    x = np.array([[NAN] * 7, [1.0, NAN, 0.0, NAN, 1.0, 0.0, NAN]])
    value = refvlm.vlb(model, q, x, missing="marginalise")
    terms = refvlm.vlb_terms(model, q, x, missing="marginalise")
    assert value[0] == pytest.approx(terms.prior[0] + terms.entropy[0], rel=1e-13)
    assert terms.reconstruction[1] < 0.0


def test_estimates_are_of_what_is_observed():
    """Within six standard errors of the exact values."""
    rng = np.random.default_rng(9)
    model = deep(2, 3, 7, rng)
    x = rows(7, rng)
    for q in (each for each in posteriors(model, rng, 6) if not isinstance(each, refvlm.PerDatumPosterior)):
        pairs = [(refvlm.log_marginal_estimate, refvlm.log_marginal(model, x, missing="marginalise"))]
        pairs.append((refvlm.vlb_estimate, refvlm.vlb(model, q, x, missing="marginalise")))
        for function, exact in pairs:
            value, error = function(model, q, x, rng, samples=4000, missing="marginalise")
            assert (np.abs(value - exact) <= 6 * error + 1e-12).all()
            with pytest.raises(ValueError, match="missing value at row 1, column 0"):
                function(model, q, x, rng, samples=4000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": "drop"}, r"^missing: got str 'drop', wanted one of 'marginalise', 'refuse'$"),
        ({}, r"nan|NaN|missing"),
        ({"missing": "marginalise", "x": [[0.5, 1.0, NAN, 0.0]]}, r"^x: got 0\.5 at row 0, column 0"),
        ({"missing": "marginalise", "x": [[1.0, NAN]]}, r"wanted 4 columns"),
    ],
)
def test_what_cannot_be_summed_out_is_refused(options, message):
    x = options.pop("x", [[1.0, NAN, 0.0, 0.0]])
    with pytest.raises(ValueError, match=message):
        refvlm.log_marginal(shallow(3, (), 4, np.random.default_rng(8)), x, **options)
