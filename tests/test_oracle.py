"""The tester tested: the oracle against sums on paper and in exact fractions, and wrong formulas, which must show."""

from __future__ import annotations

import itertools
import math
import random
from fractions import Fraction

import oracle
import pytest
from oracle import INF, Model, Network


def close(got, expected, tolerance=1e-14):
    """Equal up to rounding: a few dozen operations on numbers of about 1."""
    return math.isclose(got, expected, rel_tol=tolerance, abs_tol=tolerance)


def log(*ratio):
    return math.log(Fraction(*ratio))


# One latent bit, one observed bit: beta = 1/2, p(x = 1 | z) = 1/2 or 3/4, q(z = 1) = 1/4 -------------------------

ONE = Model([0.0], Network([([[math.log(3.0)]], [0.0])]))


def check_one_bit_on_paper():
    x, q = [[1], [0]], [[-math.log(3.0)]] * 2
    assert close(oracle.log_marginal(ONE, x)[0], log(5, 8))
    assert close(oracle.log_marginal(ONE, x)[1], log(3, 8))
    assert close(oracle.log_joint(ONE, [[1]], [[1]])[0], log(3, 8))
    assert close(oracle.log_likelihood(ONE, [[0]], [[1]])[0], log(1, 4))
    (first, second) = oracle.posterior(ONE, x)
    assert all(map(close, first, (2 / 5, 3 / 5)))
    assert all(map(close, second, (2 / 3, 1 / 3)))
    assert close(oracle.posterior_mean(ONE, x)[0][0], 3 / 5)
    terms = oracle.vlb_terms(ONE, q, x)
    assert close(terms.prior[0], log(1, 2))
    assert close(terms.reconstruction[0], 0.75 * log(1, 2) + 0.25 * log(3, 4))
    assert close(terms.entropy[0], -0.75 * log(3, 4) - 0.25 * log(1, 4))
    assert close(oracle.vlb(ONE, q, x)[0], 0.75 * log(1, 3) + 0.25 * log(3, 2))
    assert close(oracle.kl(ONE, q, x)[0], 0.75 * log(15, 8) + 0.25 * log(5, 12))


# Each activation by hand: one hidden unit whose value is a fraction, and an output weight that makes it log 3 -------

HIDDEN = {
    "tanh": (math.log(2.0), Fraction(3, 5)),
    "sigmoid": (math.log(3.0), Fraction(3, 4)),
    "relu": (2.5, Fraction(5, 2)),
    "leaky_relu": (2.5, Fraction(5, 2)),
    "elu": (-math.log(2.0), Fraction(-1, 2)),
    "softplus": (math.log(math.e - 1.0), Fraction(1)),
    "silu": (math.log(3.0), 0.75 * math.log(3.0)),
}


def check_activations_on_paper():
    for activation, (a, h) in HIDDEN.items():
        layers = [([[a], [-a]], [0.0]), ([[math.log(3.0) / float(h)]], [0.0])]
        assert close(oracle.forward(Network(layers, activation), [1, 0])[0], math.log(3.0))
        mirrored = {
            "tanh": -math.log(3.0), "sigmoid": math.log(3.0) / 3, "relu": 0.0, "leaky_relu": -0.01 * math.log(3.0),
            "elu": -2 * math.log(2.0) * math.log(3.0), "softplus": math.log(3.0) * (1 - math.log(math.e - 1.0)),
            "silu": -math.log(3.0) / 3,
        }  # fmt: skip
        assert close(oracle.forward(Network(layers, activation), [0, 1])[0], mirrored[activation])
        twice = Network([([[a]], [0.0]), ([[0.0]], [a]), ([[2.0]], [0.25])], activation)
        assert close(oracle.forward(twice, [1])[0], 2 * float(h) + 0.25)


# Two latent layers in exact fractions. A linear decoder whose odds are rational multiplies odds, so that every
# probability is a fraction; 1 bit on top, 2 next to x, 3 observed, 4 rows --------------------------------------------

ODDS = {
    "top": [Fraction(2, 3)],
    "middle": ([[Fraction(5), Fraction(1, 2)]], [Fraction(1, 4), Fraction(3)]),
    "bottom": ([[Fraction(2), Fraction(7), Fraction(1, 3)], [Fraction(1, 5), Fraction(3), Fraction(9, 2)]],
               [Fraction(1, 2), Fraction(1, 6), Fraction(4)]),
    "q1": [[Fraction(3, 2), Fraction(1, 7)], [Fraction(1, 9), Fraction(5)], [Fraction(2), Fraction(6)],
           [Fraction(1, 4), Fraction(1)]],
    "q2": ([[Fraction(4)], [Fraction(1, 3)]], [Fraction(2, 5)]),
}  # fmt: skip
ROWS = [[1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1]]


def logs(odds):
    return [logs(part) for part in odds] if isinstance(odds, (list, tuple)) else math.log(odds)


def linear(name):
    weights, biases = ODDS[name]
    return Network([(logs(weights), logs(biases))])


SHALLOW = Model(logs(ODDS["middle"][1]), linear("bottom"))
DEEP = Model(Model(logs(ODDS["top"]), linear("middle")), linear("bottom"))


def probability(bits, odds):
    """prod p**bit (1 - p)**(1 - bit), p = odds / (1 + odds)."""
    return math.prod(o / (1 + o) if bit else 1 / (1 + o) for bit, o in zip(bits, odds, strict=True))


def outputs(name, inputs):
    weights, biases = ODDS[name]
    on = [row for bit, row in zip(inputs, weights, strict=True) if bit]
    return [math.prod(column, start=b) for b, *column in zip(biases, *on, strict=True)]


def fractions(x, q1):
    """For every (z1, z2): q, p(z1, z2), p(x | z1), each a fraction."""
    for z1 in itertools.product((0, 1), repeat=2):
        for z2 in itertools.product((0, 1), repeat=1):
            q = probability(z1, q1) * probability(z2, outputs("q2", z1))
            prior = probability(z2, ODDS["top"]) * probability(z1, outputs("middle", z2))
            yield z1, q, prior, probability(x, outputs("bottom", z1))


def check_deep_model_in_fractions():
    above, first = [linear("q2")], logs(ODDS["q1"])
    terms, divergences = oracle.chain_vlb_terms(DEEP, first, above, ROWS), oracle.chain_kl(DEEP, first, above, ROWS)
    collapsed = oracle.vlb(DEEP, first, ROWS), oracle.kl(DEEP, first, ROWS)
    for n, (x, q1) in enumerate(zip(ROWS, ODDS["q1"], strict=True)):
        cells = list(fractions(x, q1))
        evidence = sum(prior * likelihood for _, _, prior, likelihood in cells)
        assert close(oracle.log_marginal(DEEP, ROWS)[n], math.log(evidence))
        assert close(oracle.chain_log_marginal(DEEP, ROWS)[n], math.log(evidence))
        assert close(terms.prior[n], math.fsum(q * math.log(prior) for _, q, prior, _ in cells))
        assert close(terms.reconstruction[n], math.fsum(q * math.log(likelihood) for _, q, _, likelihood in cells))
        assert close(terms.entropy[n], math.fsum(-q * math.log(q) for _, q, _, _ in cells))
        gap = math.fsum(q * math.log(q * evidence / (prior * likelihood)) for _, q, prior, likelihood in cells)
        assert close(divergences[n], gap)
        assert close(oracle.chain_vlb(DEEP, first, above, ROWS)[n], math.log(evidence) - gap)
        mass, share = dict.fromkeys(itertools.product((0, 1), repeat=2), Fraction(0)), {}
        for z1, _, prior, likelihood in cells:
            mass[z1] += prior * likelihood
            share[z1] = probability(z1, q1)
        gap = math.fsum(share[z] * math.log(share[z] * evidence / mass[z]) for z in mass)
        assert close(collapsed[1][n], gap)
        assert close(collapsed[0][n], math.log(evidence) - gap)
        for c, p in enumerate(oracle.posterior(DEEP, ROWS)[n]):
            assert close(p, float(mass[(c & 1, c >> 1)] / evidence))


def check_shallow_model_in_fractions():
    prior = ODDS["middle"][1]
    for n, x in enumerate(ROWS):
        mass = [probability(z, prior) * probability(x, outputs("bottom", z)) for z in oracle.codes(2)]
        assert close(oracle.log_marginal(SHALLOW, ROWS)[n], math.log(sum(mass)))
        assert all(map(close, oracle.posterior(SHALLOW, ROWS)[n], [float(m / sum(mass)) for m in mass]))
        mean = [float((mass[1] + mass[3]) / sum(mass)), float((mass[2] + mass[3]) / sum(mass))]
        assert all(map(close, oracle.posterior_mean(SHALLOW, ROWS)[n], mean))


def check_saturation_on_paper():
    """Logits of -+1e4 and beyond: log p is minus the sum of the logits that disagree, plus the log of the prior."""
    model = Model([0.0, 0.0], Network([([[2e4] * 5, [2e4] * 5], [-1e4] * 5)]))
    rows = [[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]]
    expected = [log(1, 4), log(3, 4), -1e4 + log(1, 4)]
    assert all(map(close, oracle.log_marginal(model, rows), expected))


def check_degenerate_bits_on_paper():
    """beta = 1 for the one bit: p(x = 1) = 3/4, and a q that allows z = 0 has VLB = -inf and KL = +inf."""
    model = Model([INF], ONE.decoder)
    assert close(oracle.log_marginal(model, [[1]])[0], log(3, 4))
    assert oracle.log_prior(model, [[0], [1]]) == [-INF, 0.0]
    for logit in (-3.0, 40.0, 1e4):  # however little mass: 1e4 leaves less than the smallest positive number
        assert oracle.vlb(model, [[logit]], [[1]]) == [-INF]
        assert oracle.vlb_terms(model, [[logit]], [[1]]).prior == [-INF]
        assert oracle.kl(model, [[logit]], [[1]]) == [INF]
    assert close(oracle.vlb(model, [[INF]], [[1]])[0], log(3, 4))
    assert oracle.vlb_terms(model, [[INF]], [[1]]).entropy == [0.0]
    assert close(oracle.kl(model, [[INF]], [[1]])[0], 0.0)
    assert oracle.posterior(model, [[1]]) == [[0.0, 1.0]]


CHECKS = [
    check_one_bit_on_paper,
    check_activations_on_paper,
    check_deep_model_in_fractions,
    check_shallow_model_in_fractions,
    check_saturation_on_paper,
    check_degenerate_bits_on_paper,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_oracle_agrees(check):
    check()


def unshifted_log_sum_exp(values):
    total = math.fsum(math.exp(value) for value in values)
    return math.log(total) if total > 0 else -INF


def biasless_forward(network, inputs):
    return right_forward(Network([(w, [0.0] * len(b)) for w, b in network.layers], network.activation), inputs)


def inclusive_divergence(log_weights, log_joints):
    evidence = right_log_sum_exp(log_joints)
    posterior = [value - evidence for value in log_joints]
    ratios = [p - q if p > -INF else 0.0 for p, q in zip(posterior, log_weights, strict=True)]
    return right_expectation(posterior, ratios)


right_forward, right_log_sum_exp, right_expectation = oracle.forward, oracle.log_sum_exp, oracle.expectation

WRONG = {
    "bit 0 as the slowest": ("codes", lambda latents: list(itertools.product((0, 1), repeat=latents))),
    "0 and 1 exchanged": ("log_bernoulli", lambda bit, a: oracle.log_sigmoid(a if bit == 0 else -a)),
    "a forgotten bias": ("forward", biasless_forward),
    "an activation after the last layer": (
        "forward",
        lambda network, z: [oracle.ACTIVATIONS[network.activation](a) for a in right_forward(network, z)],
    ),
    "a log-sum-exp that underflows": ("log_sum_exp", unshifted_log_sum_exp),
    "the largest term for the sum": ("log_sum_exp", max),
    "the prior left out": ("log_prior", lambda model, z: [0.0] * len(z)),
    "the likelihood left out": ("log_likelihood", lambda model, x, z: [0.0] * len(z)),
    "the inclusive divergence for the exclusive": ("divergence", inclusive_divergence),
    "mass that underflows forgotten": (
        "expectation",
        lambda log_q, f: math.fsum(math.exp(a) * b for a, b in zip(log_q, f, strict=True) if math.exp(a) > 0),
    ),
    "an average that is not weighted": ("expectation", lambda log_q, f: math.fsum(f) / len(f)),
    "the upper stage of a chain left out": (
        "log_recognition",
        lambda first, above, z: oracle.log_bernoullis(z[0], first),
    ),
    "the prior of the top layer only": (
        "log_generative",
        lambda model, x, z: (
            oracle.log_bernoullis(z[-1], model.prior.prior),
            oracle.log_bernoullis(x, oracle.forward(model.decoder, z[0])),
        ),
    ),
    "tanh for the rest": ("ACTIVATIONS", dict.fromkeys(oracle.ACTIVATIONS, math.tanh)),
    "a logistic of twice the slope": ("log_sigmoid", lambda a: -math.log1p(math.exp(-2 * a)) if a > -300 else 2 * a),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_formulas_are_noticed(mistake, monkeypatch):
    monkeypatch.setattr(oracle, *WRONG[mistake])
    noticed = 0
    for check in CHECKS:
        try:
            check()
        except (AssertionError, ValueError, OverflowError):
            noticed += 1
    assert noticed > 0


def random_like(shape, numbers):
    """Nested lists of the next few normal numbers."""
    if not shape:
        return numbers.gauss(0.0, 1.0)
    return [random_like(shape[1:], numbers) for _ in range(shape[0])]


def random_network(sizes, numbers, activation):
    pairs = itertools.pairwise(sizes)
    return Network([(random_like(pair, numbers), random_like(pair[1:], numbers)) for pair in pairs], activation)


@pytest.mark.parametrize("activation", oracle.ACTIVATIONS)
@pytest.mark.parametrize("hidden", [(), (4,), (4, 6)])
def test_total_probability_is_one(hidden, activation):
    numbers = random.Random(7)
    model = Model(random_like((3,), numbers), random_network([3, *hidden, 5], numbers, activation))
    every = oracle.codes(5)
    assert close(math.fsum(map(math.exp, oracle.log_marginal(model, every))), 1.0)
    assert all(close(math.fsum(row), 1.0) for row in oracle.posterior(model, every))
    deep = Model(Model(random_like((2,), numbers), random_network([2, *hidden, 3], numbers, activation)), model.decoder)
    assert close(math.fsum(map(math.exp, oracle.log_marginal(deep, every))), 1.0)
    assert close(math.fsum(map(math.exp, oracle.log_prior(deep, oracle.codes(3)))), 1.0)
    direct = oracle.chain_log_marginal(deep, every)
    assert all(map(close, direct, oracle.log_marginal(deep, every)))


def test_codes_hold_bit_k_in_place_k():
    for c, z in enumerate(oracle.codes(5)):
        assert z == tuple((c >> k) & 1 for k in range(5))


def test_slope_is_the_derivative_within_its_uncertainty():
    for f, exact in [
        (math.exp, 1.0),
        (lambda t: math.sin(3 * t + 1), 3 * math.cos(1)),
        (lambda t: 1e6 + 2 * t, 2.0),
        (lambda t: math.log(2 + t), 0.5),
        (lambda t: t**7 - t**3 + 5, 0.0),
    ]:
        got = oracle.slope(f)
        assert abs(got.value - exact) <= got.uncertainty
        assert got.uncertainty <= 1e-8 * max(1.0, abs(f(0.0)))  # so that it cannot hide a mistake


def test_slope_of_log_marginal_is_the_fisher_identity_on_paper():
    """d log p(x = 1) / d prior logit = E[z | x] - beta = 3/5 - 1/2; an infinite logit does not move."""
    direction = {"prior.logits": [1.0], "decoder.weights.0": [[0.0]], "decoder.biases.0": [0.0]}
    got = oracle.slope(lambda t: oracle.log_marginal(oracle.moved_model(ONE, direction, t), [[1]])[0])
    assert abs(got.value - 0.1) <= got.uncertainty <= 1e-9
    direction = {"prior.logits": [0.0], "decoder.weights.0": [[2.0]], "decoder.biases.0": [0.0]}
    got = oracle.slope(lambda t: oracle.log_marginal(oracle.moved_model(ONE, direction, t), [[1]])[0])
    assert abs(got.value - 2 * 3 / 5 * 1 / 4) <= got.uncertainty <= 1e-9
    assert oracle.moved_model(Model([INF], ONE.decoder), direction | {"prior.logits": [1.0]}, 0.5).prior == [INF]


def test_moving_a_deep_model_reaches_every_name():
    direction = {
        "prior.prior.logits": [1.0],
        "prior.decoder.weights.0": [[2.0, 3.0]],
        "prior.decoder.biases.0": [4.0, 5.0],
        "decoder.weights.0": [[6.0, 7.0, 8.0], [9.0, 10.0, 11.0]],
        "decoder.biases.0": [12.0, 13.0, 14.0],
    }
    zero = oracle.moved_model(DEEP, direction, 0.0)
    there = oracle.moved_model(DEEP, direction, 1.0)
    flat = [1.0, 2.0, 3.0, 4.0, 5.0, *(float(n) for n in range(6, 15))]

    def numbers(model):
        layer = model.prior.decoder.layers[0]
        bottom = model.decoder.layers[0]
        return [*model.prior.prior, *layer[0][0], *layer[1], *bottom[0][0], *bottom[0][1], *bottom[1]]

    differences = [b - a for a, b in zip(numbers(zero), numbers(there), strict=True)]
    assert all(map(close, differences, flat))
    assert close(oracle.inner(direction, direction), math.fsum(value * value for value in flat))


def test_objects_with_the_usual_attributes_become_plain_data():
    class Held:
        def __init__(self, **fields):
            self.__dict__.update(fields)

    decoder = Held(weights=[((1.0, 2.0),)], biases=[(0.5, 0.25)], activation="relu")
    top = Held(prior=Held(logits=[0.1]), decoder=decoder)
    bottom = Held(weights=[[[1.0] * 3] * 2], biases=[[0.0] * 3], activation="tanh")
    model = oracle.as_model(Held(prior=top, decoder=bottom))
    assert model.prior.prior == [0.1]
    assert model.prior.decoder.activation == "relu"
    assert oracle.latents_of(model) == 2
    assert len(oracle.layers_of(model)) == 2
    assert len(oracle.all_bits(model)) == 8
