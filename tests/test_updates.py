"""Every sampled update, in exact expectation, follows what it claims to follow: all samples are enumerated."""

import math

import numpy as np
import pytest
from enumerated import (
    Scripted,
    cut,
    deep_machine,
    down_probability,
    expected,
    logits_of,
    scripts,
    shallow_machine,
    sigmoid,
    slope,
    up_probability,
)
from problems import binary, network

import refvlm
from refvlm.learning.ascent import climb_posterior
from refvlm.learning.batches import Batch
from refvlm.learning.machine import Machine
from refvlm.learning.passes import dream, recognise
from refvlm.learning.rules import ReweightedWakeSleep
from refvlm.learning.rules.reweighted_wake_sleep import reweighted_wake
from refvlm.learning.rules.variational import score_function
from refvlm.learning.rules.wake_sleep import sleep, wake

MACHINES = {
    "one sigmoid layer": lambda: (shallow_machine(0, ()), [2]),
    "a hidden layer": lambda: (shallow_machine(1), [2]),
    "deep": lambda: (deep_machine(2), [2, 1]),
}


@pytest.fixture(params=MACHINES)
def case(request):
    return MACHINES[request.param]()


def test_wake_follows_the_gradient_of_the_vlb_in_theta_and_beta(case):
    machine, sizes = case
    x = np.array([1, 0, 1])
    average = expected(
        lambda rng: wake(machine, x[None].astype(float), rng), machine, x, sizes,
        lambda layers: up_probability(machine, x, layers),
    )  # fmt: skip
    exact = refvlm.grad_vlb(machine.model, machine.posterior, x[None])
    assert np.allclose(average, flat(exact, "model."), rtol=1e-12, atol=1e-13)


def test_sleep_follows_minus_the_gradient_of_the_inclusive_divergence_over_the_models_own_data(case):
    machine, sizes = case
    order = [*sizes[::-1], 3]  # the draws come from the top downwards

    def divergence():
        """E over p(x) of KL(p(z | x) || q), by enumeration."""
        total = 0.0
        for x in scripts(3):
            joint = {z: down_probability(machine, [x, *cut(z, sizes)]) for z in scripts(sum(sizes))}
            p_x = math.fsum(joint.values())
            for z, p in joint.items():
                total += p * math.log(p / p_x / up_probability(machine, x, cut(z, sizes)))
        return total

    average = expected(
        lambda rng: sleep(machine, 1, rng), machine, None, order,
        lambda layers: down_probability(machine, layers[::-1]),
    )  # fmt: skip
    assert np.allclose(average, -slope(machine, machine.recognition, divergence), rtol=1e-7, atol=1e-9)


def test_sleeps_target_is_not_the_vlbs():
    """At the optimum of the VLB in phi for the data, sleep still moves phi: the bias of wake-sleep."""
    rng = np.random.default_rng(5)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([0.3, -0.5]), network([2, 4, 3], rng, scale=3.0))
    x = np.array([[1, 0, 1], [0, 1, 1]])
    q = refvlm.AmortisedPosterior(network([3, 5, 2], rng))
    best = climb_posterior(model, q, x, 500)
    machine = Machine(model, best)
    at_rest = np.concatenate(
        [g.ravel() for name, g in refvlm.grad_vlb(model, best, x).items() if name.startswith("posterior.")]
    )
    direction = expected(
        lambda rng: sleep(machine, 1, rng), machine, None, [2, 3],
        lambda layers: down_probability(machine, layers[::-1]),
    )  # fmt: skip
    assert np.abs(at_rest).max() < 1e-4
    assert np.abs(direction).max() > 1e-2


@pytest.mark.parametrize("samples", [2, 3])
def test_the_score_function_has_no_bias(samples):
    machine, x = shallow_machine(3), np.array([0, 1, 1])
    sizes = [2] * samples

    def update(rng):
        direction, numbers = score_function(machine, x[None].astype(float), rng, samples)
        return [*direction, numbers["objective"]]

    average = expected(
        update, machine, x, sizes,
        lambda draws: math.prod(up_probability(machine, x, [z]) for z in draws),
    )  # fmt: skip
    exact = refvlm.grad_vlb(machine.model, machine.posterior, x[None])
    bound = refvlm.vlb(machine.model, machine.posterior, x[None])
    assert np.allclose(average, [*flat(exact, ""), *bound], rtol=1e-11, atol=1e-12)


def test_the_score_function_has_no_bias_in_a_deep_machine():
    machine, x = deep_machine(7), np.array([1, 1, 0])

    average = expected(
        lambda rng: score_function(machine, x[None].astype(float), rng, 2)[0], machine, x,
        [4, 2],  # z1 of both draws, then z2 of both
        lambda drawn: math.prod(
            up_probability(machine, x, [drawn[0][2 * s : 2 * s + 2], drawn[1][s : s + 1]]) for s in range(2)
        ),
    )  # fmt: skip
    exact = refvlm.grad_vlb(machine.model, machine.posterior, x[None])
    assert np.allclose(average, flat(exact, ""), rtol=1e-11, atol=1e-12)


def test_the_reported_variance_is_that_of_the_gradient_in_the_logits_on_average():
    """Its expectation over all pairs of draws is the exact variance of the mean of two slopes with their baseline."""
    machine, x = shallow_machine(4), np.array([1, 1, 0])

    def weigh(draws):
        return math.prod(up_probability(machine, x, [z]) for z in draws)

    def plain(rng):
        return score_function(machine, x[None].astype(float), rng, 2)[1]["gradient_variance_without_baseline"]

    average = expected(plain, machine, x, [2, 2], weigh)
    phi = np.array([sigmoid(a) for a in logits_of(machine.encoders[0], x)])
    q = {z: up_probability(machine, x, [z]) for z in scripts(2)}
    slopes = {
        z: (np.array(z) - phi) * (math.log(down_probability(machine, [x, z])) - math.log(q[z])) for z in scripts(2)
    }
    mean = sum(q[z] * slopes[z] for z in q)
    variance = sum(q[z] * ((slopes[z] - mean) ** 2).sum() for z in q)
    assert average == pytest.approx(variance / 2, rel=1e-12)


def test_the_baseline_lowers_the_variance_where_the_bound_is_far_from_zero():
    machine, rng = shallow_machine(6), np.random.default_rng(0)
    machine.parameters["model.decoder.biases.1"][:] = 8.0  # so that f(z) is large and nearly the same for every z
    x = np.zeros((50, 3))
    _, numbers = score_function(machine, x, rng, 5)
    assert numbers["gradient_variance"] < 0.1 * numbers["gradient_variance_without_baseline"]


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_reweighted_wake_follows_the_gradient_of_its_own_bound_in_theta(samples):
    """E of log (1/S) sum of p(x, z_s) / q(z_s), differentiated in theta and beta with q held."""
    machine, x = shallow_machine(8), np.array([0, 0, 1])
    sizes = [2] * samples

    def weigh(draws):
        return math.prod(up_probability(machine, x, [z]) for z in draws)

    average = expected(
        lambda rng: reweighted_wake(machine, x[None].astype(float), rng, samples)[0], machine, x, sizes, weigh
    )
    chances = {bits: weigh(cut(bits, sizes)) for bits in scripts(2 * samples)}
    q = {z: up_probability(machine, x, [z]) for z in scripts(2)}

    def bound():
        p = {z: down_probability(machine, [x, z]) for z in scripts(2)}
        return sum(
            chance * math.log(sum(p[tuple(z)] / q[tuple(z)] for z in cut(bits, sizes)) / samples)
            for bits, chance in chances.items()
        )

    assert np.allclose(average, slope(machine, machine.generative, bound), rtol=1e-7, atol=1e-9)


def test_reweighted_wake_phi_is_nought_with_one_draw_and_tends_to_the_inclusive_divergence_with_many():
    """-d/d phi KL(p(z | x) || q) = E over p(z | x) of d log q / d phi; the bias falls with S."""
    machine, x = shallow_machine(9, ()), np.array([1, 0, 0])

    def phi_after(samples):
        return expected(
            lambda rng: reweighted_wake(machine, x[None].astype(float), rng, samples)[1], machine, x, [2] * samples,
            lambda draws: math.prod(up_probability(machine, x, [z]) for z in draws),
        )  # fmt: skip

    posterior = refvlm.posterior_mean(machine.model, x[None])[0]
    phi = np.array([sigmoid(a) for a in logits_of(machine.encoders[0], x)])
    limit = np.concatenate([np.outer(x, posterior - phi).ravel(), posterior - phi])
    errors = [np.abs(phi_after(samples) - limit).max() for samples in (1, 2, 4, 6)]
    assert np.abs(phi_after(1)).max() < 1e-14
    assert errors[3] < errors[2] < errors[1] < errors[0]
    assert errors[3] < 0.5 * errors[0]


@pytest.mark.parametrize("wake_phi", [0.0, 0.25, 1.0])
def test_reweighted_phi_is_a_mixture_of_wake_and_sleep(wake_phi):
    machine, x = shallow_machine(14), binary(5, 3, np.random.default_rng(0))
    rule, batch = ReweightedWakeSleep(samples=4, wake_phi=wake_phi), Batch(x, np.full(5, 0.2))
    ((direction, _),) = rule.directions(machine, batch, np.random.default_rng(1), 1)
    rng = np.random.default_rng(1)
    theta, awake = reweighted_wake(machine, x.astype(float), rng, 4)
    asleep = sleep(machine, 5, rng) if wake_phi < 1 else np.zeros_like(awake)
    assert np.allclose(direction, [*theta, *(wake_phi * awake + (1 - wake_phi) * asleep)], rtol=1e-13)


def test_one_sigmoid_layer_learns_by_the_delta_rule():
    """Wake: z_k (x_i - sigmoid(a_i)); sleep: x_i (z_k - phi_k); written out by hand."""
    machine = shallow_machine(10, ())
    x, z = np.array([1, 0, 1]), (0, 1)
    direction = wake(machine, x[None].astype(float), Scripted(z))
    a = np.array([sigmoid(v) for v in logits_of(machine.decoders[0], z)])
    beta = np.array([sigmoid(v) for v in machine.top])
    assert np.allclose(direction, [*(z - beta), *np.outer(z, x - a).ravel(), *(x - a)], rtol=1e-13)
    dream = (1, 0, 0, 1, 1)  # z, then x
    phi = np.array([sigmoid(v) for v in logits_of(machine.encoders[0], dream[2:])])
    direction = sleep(machine, 1, Scripted(dream))
    delta = np.array(dream[:2]) - phi
    assert np.allclose(direction, [*np.outer(dream[2:], delta).ravel(), *delta], rtol=1e-13)


def test_directions_are_means_over_the_rows():
    machine = shallow_machine(11)
    x = np.array([[1, 0, 1], [0, 0, 1]])
    both = wake(machine, x.astype(float), Scripted((0, 1, 1, 1)))
    one, other = (
        wake(machine, row[None].astype(float), Scripted(z)) for row, z in zip(x, [(0, 1), (1, 1)], strict=True)
    )
    assert np.allclose(both, (one + other) / 2, rtol=1e-13)


def flat(gradient, prefix):
    return np.concatenate([value.ravel() for name, value in gradient.items() if name.startswith(prefix)])


@pytest.mark.parametrize("way", ["up", "down"])
def test_layers_are_drawn_with_the_probabilities_of_their_logits(way):
    """Counts of all codes in 60 000 draws: 64 binomials each within 5.5 standard deviations, a false alarm in 4e5."""
    machine, rng, draws = deep_machine(12), np.random.default_rng(0), 60_000
    x = np.array([1, 0, 1])
    if way == "up":
        layers, _ = recognise(machine, np.tile(x, (draws, 1)).astype(float), rng)
    else:
        layers = dream(machine, draws, rng)
    codes = refvlm.bits.codes_of(np.hstack(layers).astype(np.uint8))  # x, z1, z2: bits 0 to 5
    counts = np.bincount(codes, minlength=64)
    for code, bits in enumerate(refvlm.bits.table(6).tolist()):
        parts = [bits[:3], bits[3:5], bits[5:]]
        if way == "up":
            p = up_probability(machine, x, parts[1:]) if bits[:3] == x.tolist() else 0.0
        else:
            p = down_probability(machine, parts)
        assert abs(counts[code] - draws * p) <= 5.5 * math.sqrt(draws * p * (1 - p)), bits


def test_a_bit_of_probability_nought_never_fires_and_of_one_always():
    machine = shallow_machine(13, ())
    machine.top[:] = [-800.0, 800.0]
    for script in (0, 1):
        z = dream(machine, 1, Scripted([script] * 5))[1]
        assert z.tolist() == [[0.0, 1.0]]
