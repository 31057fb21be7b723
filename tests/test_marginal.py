"""log p(x), eq. (3), and the posterior, eq. (6)."""

import numpy as np
import pytest
from hypothesis import given
from problems import binary, deep, network, problems, shallow

import refvlm
from refvlm import bits
from refvlm.enumeration import kernels, tasks
from refvlm.enumeration.blocks import Route, code_pieces
from refvlm.inference import arrays, definition
from refvlm.inference.exact import _invert


def test_probabilities_of_all_x_sum_to_one_at_many_shapes():
    rng = np.random.default_rng(2)
    for latents, hidden, observed, activation in [
        (1, (), 3, "tanh"),
        (4, (3,), 1, "relu"),
        (3, (5, 2), 8, "sigmoid"),
        (7, (4,), 10, "tanh"),
    ]:
        model = shallow(latents, hidden, observed, rng, activation, scale=2.0)
        total = np.exp(refvlm.log_marginal(model, bits.table(observed))).sum()
        assert abs(total - 1) <= 1e-13
    total = np.exp(refvlm.log_marginal(deep(3, 4, 7, rng), bits.table(7))).sum()
    assert abs(total - 1) <= 1e-13


@given(problems(most_observed=8, infinite=True))
def test_probabilities_of_all_x_sum_to_one(p):
    total = np.exp(refvlm.log_marginal(p.model, bits.table(p.model.observed))).sum()
    assert abs(total - 1) <= 1e-11  # 2**8 terms, each with a relative error of at most |log p| * 2**-52


@given(problems(infinite=True))
def test_kernels_equal_the_definition(p):
    scale = 1 + np.abs(definition.log_marginal(p.model, p.x))
    assert (np.abs(refvlm.log_marginal(p.model, p.x) - definition.log_marginal(p.model, p.x)) <= 1e-11 * scale).all()


@pytest.mark.parametrize("latents", [1, 2, 5, 6, 7, 12, 13])
@pytest.mark.parametrize("hidden", [(), (9,), (17, 3), (35,)])
def test_kernels_equal_the_definition_around_the_block_and_piece_sizes(latents, hidden):
    rng = np.random.default_rng(latents)
    model = shallow(latents, hidden, 11, rng, scale=2.0)
    q, x = refvlm.AmortisedPosterior(network([11, 4, latents], rng)), binary(3, 11, rng)
    np.testing.assert_allclose(refvlm.log_marginal(model, x), definition.log_marginal(model, x), rtol=1e-13)
    np.testing.assert_allclose(refvlm.posterior(model, x), definition.posterior(model, x), rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(refvlm.vlb(model, q, x), definition.vlb(model, q, x), rtol=1e-12)
    np.testing.assert_allclose(refvlm.kl(model, q, x), definition.kl(model, q, x), rtol=1e-10, atol=1e-12)
    mean = definition.posterior(model, x) @ bits.table(latents)
    np.testing.assert_allclose(refvlm.posterior_mean(model, x), mean, rtol=1e-11)


@given(problems(infinite=True))
def test_posteriors_sum_to_one(p):
    table = refvlm.posterior(p.model, p.x)
    np.testing.assert_allclose(table.sum(axis=1), 1.0, rtol=1e-14)
    assert (table >= 0).all()
    mean = refvlm.posterior_mean(p.model, p.x)
    np.testing.assert_allclose(mean, table @ bits.table(p.model.latents), rtol=1e-13, atol=1e-300)
    assert ((mean >= 0) & (mean <= 1)).all()


@given(problems(saturated=False))
def test_posterior_is_joint_over_marginal_for_every_z(p):
    """Eq. (6) by a route that shares no code with the table."""
    z = bits.table(p.model.latents)
    table = refvlm.posterior(p.model, p.x)
    for n, row in enumerate(p.x):
        joint = refvlm.log_joint(p.model, np.repeat(row[None], len(z), axis=0), z)
        np.testing.assert_allclose(
            np.log(table[n]), joint - refvlm.log_marginal(p.model, row[None]), rtol=1e-11, atol=1e-11
        )


def relabelled(model, order):
    """The same model with its latent bits in another order."""
    decoder, prior = model.decoder, model.prior
    weights = [decoder.weights[0][order], *decoder.weights[1:]]
    return refvlm.BernoulliLVM(
        refvlm.Bernoulli(prior.logits[order]), refvlm.MLP(weights, decoder.biases, decoder.activation)
    )


def flipped(model, mask):
    """The same model with the meaning of 0 and 1 exchanged for the latents in `mask`."""
    first = model.decoder.weights[0]
    weights = [np.where(mask[:, None], -first, first), *model.decoder.weights[1:]]
    biases = [model.decoder.biases[0] + first[mask].sum(axis=0), *model.decoder.biases[1:]]
    logits = np.where(mask, -model.prior.logits, model.prior.logits)
    return refvlm.BernoulliLVM(refvlm.Bernoulli(logits), refvlm.MLP(weights, biases, model.decoder.activation))


@given(problems(saturated=False))
def test_relabelling_and_flipping_latents_change_nothing(p):
    rng = np.random.default_rng(p.model.latents)
    order = rng.permutation(p.model.latents)
    mask = rng.random(p.model.latents) < 0.5
    expected = refvlm.log_marginal(p.model, p.x)
    np.testing.assert_allclose(refvlm.log_marginal(relabelled(p.model, order), p.x), expected, rtol=1e-12)
    np.testing.assert_allclose(refvlm.log_marginal(flipped(p.model, mask), p.x), expected, rtol=1e-12)
    mean = refvlm.posterior_mean(p.model, p.x)
    np.testing.assert_allclose(refvlm.posterior_mean(relabelled(p.model, order), p.x), mean[:, order], rtol=1e-10)
    turned = refvlm.posterior_mean(flipped(p.model, mask), p.x)
    np.testing.assert_allclose(turned, np.where(mask, 1 - mean, mean), rtol=1e-10, atol=1e-12)


def test_degenerate_prior_bits_remove_latents():
    """beta = 1 or 0 for two bits of five: the same as the smaller model with those bits folded into the biases."""
    rng = np.random.default_rng(4)
    full = network([5, 6, 8], rng)
    logits = np.array([0.3, np.inf, -0.8, -np.inf, 1.1])
    free = [0, 2, 4]
    small = refvlm.MLP([full.weights[0][free], full.weights[1]], [full.biases[0] + full.weights[0][1], full.biases[1]])
    x = binary(7, 8, rng)
    got = refvlm.log_marginal(refvlm.BernoulliLVM(refvlm.Bernoulli(logits), full), x)
    expected = refvlm.log_marginal(refvlm.BernoulliLVM(refvlm.Bernoulli(logits[free]), small), x)
    np.testing.assert_allclose(got, expected, rtol=1e-14)
    mean = refvlm.posterior_mean(refvlm.BernoulliLVM(refvlm.Bernoulli(logits), full), x)
    np.testing.assert_allclose(mean[:, 1], 1.0, rtol=1e-15)
    assert (mean[:, 3] == 0).all()


def test_from_probabilities_takes_zero_and_one():
    prior = refvlm.Bernoulli.from_probabilities([0.0, 0.25, 1.0])
    np.testing.assert_array_equal(prior.logits[[0, 2]], [-np.inf, np.inf])
    np.testing.assert_allclose(prior.logits[1], -np.log(3.0), rtol=1e-15)
    z = prior.sample(50, np.random.default_rng(0))
    assert (z[:, 0] == 0).all()
    assert (z[:, 2] == 1).all()


def test_saturated_logits_stay_finite_and_exact():
    """|a| = 1e4: the likelihood is one configuration's, with log p = -(sum of the logits that disagree) + log prior."""
    decoder = refvlm.MLP([np.full((3, 5), 2e4)], [np.full(5, -1e4)])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(3)), decoder)
    x = np.array([[0, 0, 0, 0, 0], [1, 1, 1, 1, 1], [1, 0, 0, 0, 0]], dtype=np.uint8)
    # z = 0 gives logits -1e4; one latent on gives +1e4; two 3e4; three 5e4.
    expected = [np.log(1 / 8), np.log(7 / 8), -1e4 - 3 * np.log(2)]
    # each term is the exp of a rounded log-joint near -2: an absolute error of 2 * 2**-53 * 2, whatever the sum
    np.testing.assert_allclose(refvlm.log_marginal(model, x), expected, rtol=1e-15, atol=5e-16)


def test_empty_batches_give_empty_answers():
    rng = np.random.default_rng(0)
    model, x = shallow(4, (3,), 5, rng), np.zeros((0, 5))
    q = refvlm.AmortisedPosterior(network([5, 4], rng))
    value, error = refvlm.log_marginal(model, x, with_error=True)
    assert value.shape == error.shape == (0,)
    assert refvlm.posterior(model, x).shape == (0, 16)
    assert refvlm.posterior_mean(model, x).shape == (0, 4)
    assert refvlm.sample_posterior(model, x, 3, rng).shape == (0, 3, 4)
    assert all(part.shape == (0,) for part in refvlm.decompose(model, q, x))
    assert all(part.shape == (0,) for part in refvlm.vlb_terms(model, q, x))
    assert all(part.shape == (0,) for part in refvlm.vlb_estimate(model, q, x, rng, samples=2))
    gradient = refvlm.grad_vlb(model, q, x)
    assert all((value == 0).all() for value in gradient.values())
    assert {k: v.shape for k, v in refvlm.grad_log_marginal(model, x).items()} == {
        k: v.shape for k, v in model.parameters().items()
    }


@pytest.mark.parametrize(
    ("rows", "parts"), [(700, [slice(0, 32), slice(510, 560), slice(3, 700)]), (31, [slice(0, 1), slice(3, 15)])]
)
def test_a_rows_bits_do_not_depend_on_its_batch(rows, parts):
    """Among at least 32 rows, and among fewer."""
    rng = np.random.default_rng(6)
    model, x = shallow(13, (10,), 7, rng), binary(rows, 7, rng)
    q = refvlm.AmortisedPosterior(network([7, 5, 13], rng))
    whole, mean = refvlm.decompose(model, q, x), refvlm.posterior_mean(model, x)
    for chosen in parts:
        part = refvlm.decompose(model, q, x[chosen])
        for got, expected in zip(part, whole, strict=True):
            assert got.tobytes() == expected[chosen].tobytes()
        assert refvlm.posterior_mean(model, x[chosen]).tobytes() == mean[chosen].tobytes()


@given(problems(infinite=True))
def test_many_rows_equal_the_definition(p):
    """The route by tables, for every kind of model."""
    x = np.resize(p.x, (35, p.model.observed))
    exact = definition.log_marginal(p.model, x)
    assert (np.abs(refvlm.log_marginal(p.model, x) - exact) <= 1e-11 * (1 + np.abs(exact))).all()
    mean = definition.posterior(p.model, x) @ bits.table(p.model.latents)
    np.testing.assert_allclose(refvlm.posterior_mean(p.model, x), mean, rtol=1e-9, atol=1e-300)


@pytest.mark.parametrize("latents", [1, 4, 5, 6, 11, 13])
@pytest.mark.parametrize(("hidden", "observed"), [((), 1), ((9,), 5), ((17, 3), 16), ((35,), 70), ((4,), 90)])
def test_many_rows_equal_few_rows(latents, hidden, observed):
    """Groups of 1 to 6 bits, several groups, rows that do not fill a tile."""
    rng = np.random.default_rng(latents)
    model, x = shallow(latents, hidden, observed, rng, scale=2.0), binary(37, observed, rng)
    few = [slice(0, 30), slice(30, 37)]
    one_by_one = np.concatenate([refvlm.log_marginal(model, x[part]) for part in few])
    np.testing.assert_allclose(refvlm.log_marginal(model, x), one_by_one, rtol=1e-13)
    means = np.concatenate([refvlm.posterior_mean(model, x[part]) for part in few])
    np.testing.assert_allclose(refvlm.posterior_mean(model, x), means, rtol=1e-12)


@pytest.mark.parametrize(("observed", "lanes"), [(1, 32), (16, 32), (20, 32), (33, 16), (64, 16), (90, 8)])
def test_many_rows_equal_the_definition_with_tables_of_any_width(observed, lanes):
    rng = np.random.default_rng(observed)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=9)), refvlm.MLP.random([9, 7, observed], rng))
    x = (rng.random((43, observed)) < 0.5).astype(np.uint8)
    assert 8 * len(kernels.groups.pack(x, len(x)).octets) == lanes
    posterior = definition.posterior(model, x)
    assert np.allclose(refvlm.log_marginal(model, x), definition.log_marginal(model, x), rtol=1e-13, atol=0)
    assert np.allclose(refvlm.posterior_mean(model, x), posterior @ bits.table(9), rtol=0, atol=1e-13)
    expected = definition.grad_log_marginal(model, x, np.ones(43))
    for name, value in refvlm.grad_log_marginal(model, x).items():
        assert np.allclose(value, expected[name], rtol=0, atol=1e-11 * np.abs(expected[name]).max())


@pytest.mark.parametrize(("latents", "observed"), [(10, 3), (11, 16), (12, 17), (13, 70), (17, 5)])
@pytest.mark.parametrize("scale", [0.1, 1.0, 8.0, 40.0])
def test_the_linear_kernel_equals_the_definition(latents, observed, scale):
    """Every number of low bits and of rows to a division, and weights for which it steps aside."""
    rng = np.random.default_rng(latents + int(scale))
    logits = rng.normal(size=latents)
    decoder = network([latents, observed], rng, scale=scale * np.sqrt(latents))
    logits[[0, 1, -1]] = np.inf, -np.inf, 30.0
    logits[5:-1:2] = rng.choice([0.5, np.inf, -np.inf, -40.0], size=len(logits[5:-1:2]))
    model, x = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), decoder), binary(2, observed, rng)
    found, error = refvlm.log_marginal(model, x, with_error=True)
    exact = definition.log_marginal(model, x)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert (np.abs(found - exact) <= error + 1e-13 * np.abs(exact)).all()  # the definition rounds too
    mean = definition.posterior(model, x) @ bits.table(latents)
    np.testing.assert_allclose(refvlm.posterior_mean(model, x), mean, rtol=1e-9, atol=1e-300)


def test_the_linear_kernel_keeps_its_range_over_thousands_of_factors():
    """16 factors make 2**11.98 here: mantissas just below 2, which must not pile up over 563 scalings."""
    rng = np.random.default_rng(0)
    bias = -np.log(2 ** (11.98 / 16) - 1)
    decoder = refvlm.MLP([1e-6 * rng.normal(size=(13, 9000))], [np.full(9000, bias)])
    model, x = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(13)), decoder), np.zeros((1, 9000), dtype=np.uint8)
    np.testing.assert_allclose(refvlm.log_marginal(model, x), definition.log_marginal(model, x), rtol=1e-12)


def test_the_linear_kernel_takes_every_form_and_steps_aside():
    """Of the weights above: what `linear_split` decides."""
    forms = set()
    for latents, observed in [(10, 3), (11, 16), (12, 17), (13, 70), (17, 5)]:
        for scale in [0.1, 1.0, 8.0, 40.0]:
            rng = np.random.default_rng(latents + int(scale))
            rng.normal(size=latents)
            decoder = network([latents, observed], rng, scale=scale * np.sqrt(latents))
            piece = arrays.source(decoder).piece(0, 0)
            forms.add(kernels.linear.linear_split(piece, code_pieces(latents, Route.LINEAR).step.bit_length() - 1)[1])
    assert forms == {0, 1, 2, 4}


def test_rows_too_improbable_for_the_tables_are_summed_in_the_log_domain():
    """log p(x) below -900 log 2 = -624 beside ordinary rows."""
    rng = np.random.default_rng(3)
    decoder = refvlm.MLP([rng.normal(size=(6, 9)), rng.normal(size=(9, 70))], [rng.normal(size=9), np.full(70, 15.0)])
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=6)), decoder)
    x = np.ones((40, 70), dtype=np.uint8)
    for n in range(40):
        x[n, : 2 * n] = 0
    x = x[np.random.default_rng(4).permutation(40)]  # rows of either kind among the others
    found = refvlm.log_marginal(model, x)
    exact = definition.log_marginal(model, x)
    assert (exact < -900 * np.log(2)).sum() >= 5
    assert (exact > -900 * np.log(2)).sum() >= 5
    np.testing.assert_allclose(found, exact, rtol=1e-13, atol=1e-14)
    mean = definition.posterior(model, x) @ bits.table(6)
    np.testing.assert_allclose(refvlm.posterior_mean(model, x), mean, rtol=1e-10)
    weights = rng.normal(size=40)
    together = refvlm.grad_log_marginal(model, x, weights)
    apart = [refvlm.grad_log_marginal(model, x[n : n + 1], weights[n : n + 1]) for n in range(40)]
    for name, value in together.items():
        np.testing.assert_allclose(value, sum(part[name] for part in apart), rtol=1e-11, atol=1e-11)


def test_posterior_samples_follow_the_posterior():
    """Each cell's count is binomial; with 2 * 8 * 2 cells at 1e-9 each, a false alarm comes once in 3e7 runs."""
    from scipy.stats import binom

    rng = np.random.default_rng(11)
    model, x, n = shallow(3, (4,), 5, rng, scale=2.0), binary(2, 5, rng), 20000
    draws = refvlm.sample_posterior(model, x, n, rng)
    assert draws.shape == (2, n, 3)
    table = refvlm.posterior(model, x)
    for row in range(2):
        counts = np.bincount(bits.codes_of(draws[row]), minlength=8)
        assert (binom.cdf(counts, n, table[row]) > 1e-9).all()
        assert (binom.sf(counts - 1, n, table[row]) > 1e-9).all()


def test_posterior_samples_across_pieces_follow_the_posterior():
    from scipy.stats import binom

    rng = np.random.default_rng(12)
    model, x, n = shallow(14, (3,), 5, rng, scale=3.0), binary(2, 5, rng), 4000
    codes = np.stack([bits.codes_of(row) for row in refvlm.sample_posterior(model, x, n, rng)])
    table = refvlm.posterior(model, x)
    for row in range(2):
        for fold in (lambda c: c >> 10, lambda c: c & 15):
            cells = fold(np.arange(1 << 14))
            expected = np.bincount(cells, weights=table[row])
            counts = np.bincount(fold(codes[row]), minlength=16)
            assert (binom.cdf(counts, n, expected) > 1e-9).all()
            assert (binom.sf(counts - 1, n, expected) > 1e-9).all()


def test_inverting_a_distribution_never_lands_on_weight_zero():
    """Ties are the only inputs that tell u < F from u <= F."""
    weights = np.array([[0.0, 1.0, 1.0, 0.0, 2.0, 0.0]])
    uniforms = np.array([[0.0, 0.25, np.nextafter(0.25, 0), 0.5, np.nextafter(1.0, 0)]])
    assert _invert(weights, uniforms).tolist() == [[1, 2, 1, 4, 4]]


def test_a_degenerate_bit_is_never_sampled_wrongly():
    rng = np.random.default_rng(0)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli([np.inf, 0.0, -np.inf]), network([3, 4], rng))
    draws = refvlm.sample_posterior(model, binary(5, 4, rng), 200, rng)
    assert (draws[..., 0] == 1).all()
    assert (draws[..., 2] == 0).all()
    x, z = model.sample(50, rng)
    assert x.shape == (50, 4)
    assert (z[:, 0] == 1).all()
    assert (z[:, 2] == 0).all()


def test_a_table_that_will_not_fit_is_refused_before_any_work():
    model = shallow(40, (), 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"16\.0 TiB.*posterior_mean"):
        refvlm.posterior(model, [[0, 1, 0], [1, 1, 1]])
    with pytest.raises(ValueError, match="PiB"):
        refvlm.bits.table(44)
    rng = np.random.default_rng(0)
    towering = refvlm.BernoulliLVM(shallow(3, (), 44, rng), network([44, 5], rng))
    with pytest.raises(ValueError, match="prior with a model of its own"):
        refvlm.log_marginal(towering, [[0, 1, 0, 1, 1]])


@pytest.mark.parametrize("observed", [1, 6, 16, 22, 27, 33, 64, 90])
@pytest.mark.parametrize("rows", [1, 8, 37])
def test_rows_are_packed_in_the_order_of_their_first_group(observed, rows):
    """Against Python's integers: every entry of every row, and the order, stable, within both parts of the rows."""
    rng = np.random.default_rng(observed)
    x, leading = binary(rows, observed, rng), rows // 3
    groups = kernels.groups.pack(x, leading)
    count = len(groups.bit) - 1
    assert count == -(-3 * observed // 16)

    def entries(n):
        parts = zip(groups.bit, groups.bit[1:], groups.entry, strict=False)
        return [int(base) + int("".join(map(str, x[n, i:j][::-1])), 2) for i, j, base in parts]

    assert groups.order.tolist() == sorted(range(rows), key=lambda n: (n >= leading, entries(n)[0]))
    words = groups.entries.reshape(8 * groups.tiles, -1)
    found = [[int(word) >> shift & 0x1FFFFF for word in row for shift in (0, 21, 42)][:count] for row in words]
    assert found[:rows] == [entries(n) for n in groups.order]
    assert found[rows:] == [groups.entry[:-1].tolist()] * (8 * groups.tiles - rows)


def test_the_number_of_an_entry_fits_into_a_third_of_a_word():
    most = 1 << 18
    groups = kernels.groups.pack(np.ones((1, most), np.uint8), 1)
    assert groups.entry[-1] == 1 << 21
    assert groups.entries[: most * 3 // 16 // 3].max() >> 42 == (1 << 21) - 1
    with pytest.raises(ValueError, match=f"got {most + 1} observed bits, wanted at most {most}"):
        kernels.groups.pack(np.ones((1, most + 1), np.uint8), 1)


@pytest.mark.parametrize("observed", [4, 16, 22, 64])
@pytest.mark.parametrize("moments", [False, True])
def test_pieces_that_a_kernel_merges_have_the_bits_of_those_merged_one_by_one(observed, moments):
    rng = np.random.default_rng(observed)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(rng.normal(size=12)), refvlm.MLP.random([12, 7, observed], rng))
    x, source = binary(37, observed, rng), arrays.source(model.decoder)
    prior, groups = arrays.log_probabilities(model.prior), kernels.groups.pack(x, 37)
    work = tasks.Work(
        tasks.task_of_several(kernels.tables.tabled_marginal, prior, groups, moments), source.piece(0, 0), tasks.add
    )
    together = work.run(1024, 4, 256)
    assert work.task.several
    alone = tasks.Work(work.task, work.subject)
    a, b, c, d = (alone.run(first, 1, 256)[0] for first in (1024, 1280, 1536, 1792))
    expected = tasks.add(tasks.add(a, b), tasks.add(c, d))
    assert [column.tobytes() for column in together] == [column.tobytes() for column in expected]
