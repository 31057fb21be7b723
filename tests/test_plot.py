"""Pictures: their artists have the numbers of the library, their labels say what kind of number it is."""

import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from problems import binary, deep, network, shallow

import refvlm
from refvlm import plot
from refvlm.cli import main
from refvlm.learning.history import Record
from refvlm.plot import canvas

matplotlib = pytest.importorskip("matplotlib")
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.colors import to_hex  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402

K, H, L, N = 3, 5, 12, 7


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.fixture
def problem(rng):
    """A model with hidden units, an encoder, and rows."""
    return shallow(K, [H], L, rng), refvlm.AmortisedPosterior(network([L, K], rng)), binary(N, L, rng)


@pytest.fixture
def linear(rng):
    """A model too large to sum, which can be bracketed, its encoder, and rows."""
    model = shallow(70, [], L, rng)
    return model, refvlm.AmortisedPosterior(network([L, 70], rng)), binary(N, L, rng)


@pytest.fixture(autouse=True)
def _pyplot_sees_nothing():
    """No picture is one of pyplot's, which would keep it; nor are anyone's settings changed."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    if "matplotlib.pyplot" in sys.modules:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []


def drawn(ax):
    """The labels of the legend and the title, once everything is drawn as it would be in a file."""
    assert isinstance(ax, Axes)
    ax.figure.savefig(io.BytesIO(), format="png")
    legend = ax.get_legend()
    return [text.get_text() for text in legend.get_texts()] if legend else [], ax.get_title(loc="left")


def bars(ax, n):
    """(left edge's middle, bottom, height) of the bars drawn n-th."""
    return np.array([(b.get_x() + b.get_width() / 2, b.get_y(), b.get_height()) for b in ax.containers[n]])


def line(ax, label):
    """The data of the line with this label, (points, 2)."""
    (found,) = (each for each in ax.get_lines() if each.get_label() == label)
    return np.column_stack(found.get_data())


def band(ax, label):
    """The vertices of the band with this label."""
    (found,) = (each for each in ax.collections if each.get_label() == label)
    return found.get_paths()[0].vertices


# learning curves


def records(**columns):
    return [
        Record(n + 1, n, 0.1, **dict(zip(columns, row, strict=True)))
        for n, row in enumerate(zip(*columns.values(), strict=True))
    ]


def test_learning_curve_is_the_history_and_the_band_is_kl():
    world = refvlm.bars()
    x, held_out = (world.sample(n, np.random.default_rng(n)) for n in (60, 31))
    history = refvlm.fit(x, latents=3, hidden=(), method="vlb", epochs=4, validation=held_out).history
    ax = plot.learning_curve(history)
    labels, title = drawn(ax)
    assert labels == [
        "log p(x), exact", "KL(q || p(z | x)), exact", "VLB, exact", "held-out log p(x), exact", "held-out VLB, exact",
        labels[-1],
    ]  # fmt: skip
    best = max(history, key=lambda record: record.validation_log_px)
    assert labels[-1] == f"kept: epoch {best.epoch}"
    assert "nats" in ax.get_ylabel()
    assert title == "log p(x) = VLB + KL while learning"
    epochs = [record.epoch for record in history]
    for name, label in (
        ("log_px", "log p(x), exact"), ("vlb", "VLB, exact"), ("validation_log_px", "held-out log p(x), exact"),
        ("validation_vlb", "held-out VLB, exact"),
    ):  # fmt: skip
        np.testing.assert_array_equal(line(ax, label), np.column_stack([epochs, [getattr(r, name) for r in history]]))
    corners = {tuple(corner) for corner in band(ax, "KL(q || p(z | x)), exact")}
    for record in history:
        assert {(record.epoch, record.vlb), (record.epoch, record.log_px)} <= corners
        assert abs(record.log_px - record.vlb - record.kl) < 1e-12


def test_learning_curve_never_calls_an_estimate_or_a_bracket_exact():
    history = records(
        log_px_estimate=[-9.0, -8.0, -7.5], log_px_standard_error=[0.25, 0.125, 0.0625], vlb=[-10.0, -9.5, -9]
    )
    history[-1] = history[-1]._replace(log_px_lower=-7.75, log_px_upper=-7.25)
    ax = plot.learning_curve(history)
    labels, _ = drawn(ax)
    estimate = "log p(x), estimate ± 2 standard errors"
    assert labels == [estimate, "log p(x), certified at 1 - 1e-9", "KL(q || p(z | x)), estimate", "VLB, exact"]
    np.testing.assert_array_equal(line(ax, estimate)[:, 1], [-9.0, -8.0, -7.5])
    edges = {tuple(corner) for each in ax.collections for path in each.get_paths() for corner in path.vertices}
    assert {(1, -9.5), (1, -8.5), (2, -8.25), (2, -7.75), (3, -7.625), (3, -7.375)} <= edges  # two standard errors
    (gap,) = (each for each in ax.collections if each.get_label().startswith("KL"))
    assert gap.get_hatch()
    assert gap.get_facecolor().size == 0 or gap.get_facecolor()[0, 3] == 0  # nothing but the hatching
    (interval,) = ax.containers
    np.testing.assert_array_equal(interval.lines[2][0].get_segments()[0], [(3, -7.75), (3, -7.25)])


def test_learning_curve_shows_what_is_there_once_as_a_point_and_refuses_nothing_at_all():
    history = records(log_px=[-9.0, -8.0])
    ax = plot.learning_curve([*history, history[-1]._replace(vlb=-8.5, kl=0.5)])
    drawn(ax)
    assert [each.get_marker() for each in ax.get_lines() if each.get_label() == "VLB, exact"] == ["o"]
    (gap,) = (each for each in ax.collections if each.get_label().startswith("KL"))
    np.testing.assert_array_equal(gap.get_segments()[0], [(2, -8.5), (2, -8.0)])
    with pytest.raises(ValueError, match="history: got no records"):
        plot.learning_curve([])


# the posterior beside q


@pytest.mark.parametrize("kind", ["amortised", "per-datum", "none"])
def test_bars_over_the_codes_are_posterior_and_q_and_add_up_to_one(problem, rng, kind):
    model, q, x = problem
    q = {"amortised": q, "per-datum": refvlm.PerDatumPosterior(rng.normal(size=(1, K))), "none": None}[kind]
    ax = plot.posterior(model, q, x[4:5])
    labels, title = drawn(ax)
    np.testing.assert_array_equal(bars(ax, 0)[:, 2], refvlm.posterior(model, x[4:5])[0])
    assert [tick.get_text() for tick in ax.get_xticklabels()][:4] == ["000", "100", "010", "110"]
    if q is None:
        assert labels == ["p(z | x), exact"]
        return
    assert labels == ["p(z | x), exact", "q(z | x)"]
    one = refvlm.PerDatumPosterior(np.repeat(q.forward(x[4:5])[0], 2**K, axis=0))
    table = refvlm.bits.table(K)
    np.testing.assert_allclose(
        bars(ax, 1)[:, 2], np.exp(refvlm.log_q(one, np.repeat(x[4:5], 2**K, 0), table)), rtol=1e-13
    )
    assert abs(bars(ax, 1)[:, 2].sum() - 1) < 1e-12
    assert f"{refvlm.kl(model, q, x[4:5])[0]:.4g} nats, exact" in title


def test_of_many_codes_the_heaviest_have_bars_and_the_last_bar_is_the_others(rng):
    model = shallow(7, [], L, rng)
    q = refvlm.AmortisedPosterior(network([L, 7], rng))
    x = binary(1, L, rng)
    ax = plot.posterior(model, q, x)
    drawn(ax)
    p = refvlm.posterior(model, x)[0]
    names = [tick.get_text() for tick in ax.get_xticklabels()]
    assert len(names) == 32
    assert names[-1] == f"{128 - 31} others"
    codes = [int(name[::-1], 2) for name in names[:-1]]
    assert codes == sorted(codes)
    np.testing.assert_array_equal(bars(ax, 0)[:-1, 2], p[codes])
    for n in (0, 1):
        assert abs(bars(ax, n)[:, 2].sum() - 1) < 1e-12


def test_too_many_codes_are_refused_with_the_number_of_bits(rng):
    model = shallow(9, [], L, rng)
    with pytest.raises(ValueError, match=r"got 9 latent bits, 2\*\*9 codes; wanted at most 8 bits"):
        plot.posterior(model, None, binary(1, L, rng))


def test_of_a_deep_model_the_layer_next_to_x_is_shown(rng):
    model = deep(2, K, L, rng)
    first = refvlm.AmortisedPosterior(network([L, K], rng))
    q = refvlm.ChainPosterior([first, refvlm.AmortisedPosterior(network([K, 2], rng))])
    x = binary(1, L, rng)
    ax = plot.posterior(model, q, x)
    _, title = drawn(ax)
    np.testing.assert_array_equal(bars(ax, 0)[:, 2], refvlm.posterior(model, x)[0])
    assert f"{refvlm.kl(model, first, x)[0]:.4g} nats" in title


def test_bitwise_means_are_posterior_mean_and_phi(rng):
    model = shallow(10, [H], L, rng)
    q = refvlm.AmortisedPosterior(network([L, 10], rng))
    x = binary(1, L, rng)
    ax = plot.posterior_mean(model, q, x)
    labels, _ = drawn(ax)
    assert labels == ["E[z_k | x], exact", "phi_k of q"]
    np.testing.assert_array_equal(bars(ax, 0)[:, 2], refvlm.posterior_mean(model, x)[0])
    np.testing.assert_allclose(bars(ax, 1)[:, 2], 1 / (1 + np.exp(-q.forward(x)[0][0])), rtol=1e-13)


def test_bitwise_means_between_bounds_are_intervals_with_their_confidence(linear, rng):
    model, q, x = linear
    between = refvlm.posterior_mean_bracket(model, x[:1], rng, samples=300, confidence=0.99)
    ax = plot.posterior_mean(model, q, x[:1], between=between)
    labels, _ = drawn(ax)
    assert labels == ["E[z_k | x], certified at 0.99", "phi_k of q"]
    segments = np.array(ax.containers[1].lines[2][0].get_segments())
    np.testing.assert_allclose(segments[:, 0, 1], between.lower[0], atol=1e-15)
    np.testing.assert_allclose(segments[:, 1, 1], between.upper[0], atol=1e-15)
    with pytest.raises(ValueError, match=r"between: got bounds of shape \(2, 70\)"):
        plot.posterior_mean(model, q, x[:1], between=refvlm.posterior_mean_bracket(model, x[:2], rng, samples=9))


@pytest.mark.parametrize("draw", [plot.posterior, plot.posterior_mean])
def test_a_picture_of_one_row_refuses_several(problem, draw):
    model, q, x = problem
    with pytest.raises(ValueError, match=r"x: got 7 rows, wanted one, such as x\[:1\]"):
        draw(model, q, x)


# images


def test_receptive_fields_of_a_linear_decoder_are_the_rows_of_its_weights(rng):
    model = shallow(K, [], L, rng)
    ax = plot.receptive_fields(model, shape=(3, 4))
    drawn(ax)
    weights = model.decoder.weights[0]
    assert len(ax.images) == K
    largest = np.abs(weights).max()
    for k, image in enumerate(ax.images):
        np.testing.assert_array_equal(image.get_array(), weights[k].reshape(3, 4))
        assert image.get_clim() == (-largest, largest)
    assert [text.get_text() for text in ax.texts] == [f"z_{k}" for k in range(K)]
    assert ax.figure.axes[1].get_ylabel() == "change of log-odds / nats"


@pytest.mark.parametrize("kind", ["shallow", "deep"])
def test_receptive_fields_with_hidden_units_are_changes_of_the_mean_image(rng, kind):
    model = shallow(K, [H], L, rng) if kind == "shallow" else deep(2, K, L, rng)

    def sigmoid(a):
        return 1 / (1 + np.exp(-a))

    beta = sigmoid(model.top.logits)
    if kind == "deep":
        beta = sigmoid(model.prior.decoder.forward(beta[None])[0][0])
    ax = plot.receptive_fields(model, shape=(2, 6))
    drawn(ax)
    for k, image in enumerate(ax.images):
        off, on = beta.copy(), beta.copy()
        off[k], on[k] = 0, 1
        expected = sigmoid(model.decoder.forward(on[None])[0]) - sigmoid(model.decoder.forward(off[None])[0])
        np.testing.assert_allclose(image.get_array().ravel(), expected[0], atol=1e-14)
    assert ax.figure.axes[1].get_ylabel() == "change of P(x_i = 1)"


def test_images_that_are_not_square_ask_for_their_shape(problem, rng):
    model, _, x = problem
    with pytest.raises(ValueError, match=r"L = 12 is no square.*such as shape=\(3, 4\)"):
        plot.receptive_fields(model)
    with pytest.raises(ValueError, match=r"shape: got \(5, 2\), 10 pixels, wanted 12"):
        plot.fantasies(model, x, rng, shape=(5, 2))
    with pytest.raises(TypeError, match=r"shape: got int 12, wanted \(height, width\)"):
        plot.receptive_fields(model, shape=12)
    plot.receptive_fields(shallow(K, [], 9, rng))


@pytest.mark.parametrize("mean", [False, True])
def test_fantasies_are_the_rows_beside_the_draws_of_the_rng(problem, mean):
    model, _, x = problem
    ax = plot.fantasies(model, x, np.random.default_rng(5), shape=(4, 3), mean=mean)
    drawn(ax)
    fantasy, z = model.sample(N, np.random.default_rng(5))
    if mean:
        fantasy = 1 / (1 + np.exp(-model.decoder.forward(z)[0]))
    shown = np.array([image.get_array().ravel() for image in ax.images])
    np.testing.assert_array_equal(shown[:N], x)
    np.testing.assert_allclose(shown[N:], fantasy, atol=1e-14)
    extents = np.array([image.get_extent() for image in ax.images])
    assert extents[:N, 1].max() < extents[N:, 0].min()
    assert {tuple(each.get_array().shape) for each in ax.images} == {(4, 3)}
    assert [text.get_text() for text in ax.texts] == [
        "data",
        "means of x given z, z drawn" if mean else "drawn from the model",
    ]


def test_too_many_images_and_none_are_refused(problem, rng):
    model, _, x = problem
    with pytest.raises(ValueError, match="x: got 401 rows, wanted at most 400"):
        plot.fantasies(model, np.resize(x, (401, L)), rng, shape=(3, 4))
    with pytest.raises(ValueError, match="rows of x: got 0, wanted at least 1"):
        plot.fantasies(model, x[:0], rng, shape=(3, 4))
    with pytest.raises(TypeError, match=r"rng: .*wanted a numpy\.random\.Generator"):
        plot.fantasies(model, x, 3, shape=(3, 4))


# the bound


@pytest.mark.parametrize("rows", [1, N])
def test_terms_lead_to_the_vlb_and_kl_closes_it_up_to_log_p(problem, rows):
    model, q, x = problem
    terms, whole = refvlm.vlb_terms(model, q, x[:rows]), refvlm.decompose(model, q, x[:rows])
    ax = plot.vlb_terms(terms, whole)
    _, title = drawn(ax)
    assert title.endswith("one row" if rows == 1 else "means over 7 rows")
    at, start, size = np.concatenate([bars(ax, n) for n in range(6)]).T
    np.testing.assert_allclose(at, range(6))
    np.testing.assert_allclose(size[:3], [term.mean() for term in terms], rtol=1e-14)
    np.testing.assert_allclose(start[:3], [0, size[0], size[0] + size[1]], rtol=1e-14)
    np.testing.assert_allclose(size[:3].sum(), whole.vlb.mean(), rtol=1e-13)
    np.testing.assert_allclose(size[3], whole.vlb.mean(), rtol=1e-13)
    np.testing.assert_allclose(size[4], whole.kl.mean(), rtol=1e-9)
    np.testing.assert_allclose(start[4] + size[4], size[5], rtol=1e-13)
    np.testing.assert_allclose(size[5], whole.log_px.mean(), rtol=1e-13)
    names = [tick.get_text() for tick in ax.get_xticklabels()]
    assert names[3:] == ["VLB\nexact", "KL\nexact", "log p(x)\nexact"]
    assert [text.get_text() for text in ax.texts] == [f"{value:.3f}" for value in size]
    assert ax.get_ylabel() == "nats"


def test_terms_alone_have_no_kl_and_rows_that_do_not_belong_together_are_refused(problem):
    model, q, x = problem
    terms = refvlm.vlb_terms(model, q, x)
    assert len(plot.vlb_terms(terms).containers) == 4
    with pytest.raises(ValueError, match="whole: got the VLB of other rows"):
        plot.vlb_terms(terms, refvlm.decompose(model, q, x[::-1]))
    with pytest.raises(ValueError, match="terms: got no rows"):
        plot.vlb_terms(refvlm.vlb_terms(model, q, x[:0]))
    impossible = refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf] * K), model.decoder)
    with pytest.raises(ValueError, match="terms: got a VLB of -inf for row 0"):
        plot.vlb_terms(refvlm.vlb_terms(impossible, q, x))


def test_bounds_on_log_p_are_hatched_and_carry_their_confidence(linear, rng):
    model, q, x = linear
    whole = refvlm.decompose_bracket(model, q, x, samples=500, confidence=1 - 1e-6, rng=rng)
    ax = plot.vlb_terms(refvlm.vlb_terms(model, q, x), whole)
    drawn(ax)
    names = [tick.get_text() for tick in ax.get_xticklabels()]
    assert names[3:] == ["VLB\nexact", "KL\ncertified\nat 1 - 1e-6", "log p(x)\ncertified\nat 1 - 1e-6"]
    solid, hatched = bars(ax, 6)[0], bars(ax, 7)[0]
    assert ax.containers[7][0].get_hatch()
    np.testing.assert_allclose(solid[2], whole.log_px.mean_lower, rtol=1e-13)
    np.testing.assert_allclose(hatched[1] + hatched[2], whole.log_px.mean_upper, rtol=1e-13)
    proved = refvlm.decompose_bracket(model, q, x[:2])
    labels, _ = drawn(plot.decomposition(proved))
    assert labels == ["log p(x), between proved bounds", "KL(q || p(z | x)), at least", "VLB, exact"]


def test_every_row_has_its_vlb_its_log_p_and_kl_between(problem):
    model, q, x = problem
    whole = refvlm.decompose(model, q, x)
    ax = plot.decomposition(whole, first=20)
    labels, title = drawn(ax)
    assert labels == ["log p(x), exact", "KL(q || p(z | x)), exact", "VLB, exact"]
    assert title == "log p(x) = VLB + KL of 7 rows"
    np.testing.assert_array_equal(line(ax, "log p(x), exact"), np.column_stack([range(20, 27), whole.log_px]))
    np.testing.assert_array_equal(line(ax, "VLB, exact")[:, 1], whole.vlb)
    np.testing.assert_allclose(bars(ax, 0)[:, 2], whole.kl, atol=1e-12)
    np.testing.assert_array_equal(bars(ax, 0)[:, 1], whole.vlb)


def test_many_rows_are_sorted_by_log_p(problem, rng):
    model, q, _ = problem
    whole = refvlm.decompose(model, q, binary(80, L, rng))
    ax = plot.decomposition(whole)
    drawn(ax)
    order = np.argsort(whole.log_px, kind="stable")
    np.testing.assert_array_equal(line(ax, "log p(x), exact")[:, 1], whole.log_px[order])
    np.testing.assert_array_equal(line(ax, "VLB, exact")[:, 1], whole.vlb[order])
    assert ax.get_xlabel() == "rows, sorted by log p(x)"


def test_an_infinite_kl_is_said_and_not_drawn(problem):
    model, q, x = problem
    impossible = refvlm.BernoulliLVM(refvlm.Bernoulli([-np.inf] * K), model.decoder)
    ax = plot.decomposition(refvlm.decompose(impossible, q, x))
    _, title = drawn(ax)
    assert title.endswith("7 with VLB = -inf")
    assert len(line(ax, "VLB, exact")) == 0
    with pytest.raises(ValueError, match="whole: got no rows"):
        plot.decomposition(refvlm.decompose(model, q, x[:0]))


# cost


def test_cost_doubles_with_every_bit_and_marks_two_to_the_32(monkeypatch):
    monkeypatch.setattr("refvlm.plot.scaling.predict_seconds", lambda model, *_, **__: 2.0 ** (model.latents - 30))
    ax = plot.cost(observed=L, latents=range(4, 37), seconds=0.0)
    plot.cost((H,), L, latents=range(5, 34), seconds=0.0, ax=ax)
    labels, title = drawn(ax)
    assert "L = 12, on this machine" in title
    assert labels == [
        f"{how}, {what}" for what in ("no hidden layer", "5 hidden units") for how in ("predicted", "measured")
    ]
    np.testing.assert_allclose(line(ax, "predicted, no hidden layer"), [(k, 2.0 ** (k - 30)) for k in range(4, 37)])
    ((count, seconds),) = line(ax, "measured, no hidden layer")
    assert count == 4
    assert 0 < seconds < 60
    assert ax.get_yscale() == "log"
    assert "4,294,967,296 terms" in "".join(text.get_text() for text in ax.texts)
    assert {"1 ms", "1 s"} <= {tick.get_text() for tick in ax.get_yticklabels()}
    assert len({each.get_color() for each in ax.get_lines() if str(each.get_label()).startswith("predicted")}) == 2
    with pytest.raises(ValueError, match="latents: got 63, wanted at most 62"):
        plot.cost(latents=[63])


def test_cost_predicts_what_it_measures_to_an_order_of_magnitude():
    ax = plot.cost(observed=L, latents=range(14, 19), seconds=10.0)
    predicted, measured = (line(ax, f"{how}, no hidden layer") for how in ("predicted", "measured"))
    assert len(measured) == 5
    assert 1 / 30 < predicted[-1, 1] / measured[-1, 1] < 30  # on a machine that is busy with other things


# all of them


def pictures():
    rng = np.random.default_rng(1)
    model, q, x = shallow(K, [], 9, rng), refvlm.PerDatumPosterior(rng.normal(size=(1, K))), binary(1, 9, rng)
    terms, whole = refvlm.vlb_terms(model, q, x), refvlm.decompose(model, q, x)
    compared = refvlm.gradient_estimators.compare(model, q, x, [refvlm.gradient_estimators.ReweightedWake()])
    return {
        "learning_curve": lambda ax: plot.learning_curve(records(log_px=[-3.0, -2.0]), ax=ax),
        "posterior": lambda ax: plot.posterior(model, q, x, ax=ax),
        "posterior_mean": lambda ax: plot.posterior_mean(model, q, x, ax=ax),
        "receptive_fields": lambda ax: plot.receptive_fields(model, ax=ax),
        "fantasies": lambda ax: plot.fantasies(model, x, np.random.default_rng(2), ax=ax),
        "vlb_terms": lambda ax: plot.vlb_terms(terms, whole, ax=ax),
        "decomposition": lambda ax: plot.decomposition(whole, ax=ax),
        "estimators": lambda ax: plot.estimators(compared, ax=ax),
        "many_samples": lambda ax: plot.many_samples([1, 5], [[-3.0, -4.0], [-2.5, -3.5]], [-2.0, -3.0], ax=ax),
        "cost": lambda ax: plot.cost(observed=L, latents=[2, 3], ax=ax),
    }


def test_the_example_of_the_page_runs_and_its_table_has_every_function(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (Path(plot.__file__).parent / "README.md").read_text()
    names = {}
    exec(re.search(r"<!-- plot example -->\n```python\n(.*?)```", page, re.DOTALL)[1], names)
    for path in ("curve.svg", "posterior.png", "fields.png"):
        assert_picture(tmp_path / path)
    assert {*re.findall(r"^\| `(\w+)\(", page, re.MULTILINE), "save"} == set(plot.__all__)


def test_every_function_is_among_the_pictures():
    assert set(pictures()) | {"save"} == set(plot.__all__)
    assert all(getattr(plot, name).__doc__ for name in plot.__all__)


@pytest.mark.parametrize("name", pictures())
def test_every_picture_goes_on_given_axes_and_refuses_other_things(name):
    figure = Figure()
    ax = figure.add_subplot()
    assert pictures()[name](ax) is ax
    drawn(ax)
    with pytest.raises(TypeError, match=r"ax: got Figure.*, wanted matplotlib Axes"):
        pictures()[name](figure)


@pytest.mark.parametrize("name", pictures())
def test_without_matplotlib_one_line_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"^refvlm\.plot: pictures need matplotlib \(.*\); pip install 'refvlm\[plot\]'$"
    ):
        pictures()[name](None)


def test_importing_refvlm_loads_no_matplotlib_and_a_picture_no_pyplot():
    code = (
        "import sys, refvlm; print('matplotlib' in sys.modules); "
        "ax = refvlm.plot.learning_curve([refvlm.learning.history.Record(1, 1, 0.1, log_px=-1.0)]); "
        "ax.figure.savefig(sys.argv[1]); print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    command = [sys.executable, "-c", code, os.devnull + ".png" if os.name == "nt" else "/dev/null"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True", "False"]


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_files_are_what_their_suffix_says_and_the_same_each_time(tmp_path, suffix):
    contents = []
    for n in range(2):
        path = tmp_path / f"{n}.{suffix}"
        plot.save(plot.learning_curve(records(log_px=[-3.0, -2.0])), path)
        contents.append(path.read_bytes())
        assert_picture(path)
    assert contents[0] == contents[1]


def assert_picture(path):
    data = path.read_bytes()
    kind = path.suffix.lower()
    if kind == ".png":
        from matplotlib.image import imread

        assert data.startswith(b"\x89PNG")
        assert imread(io.BytesIO(data)).std() > 0
    elif kind == ".pdf":
        assert data.startswith(b"%PDF")
        assert b"%%EOF" in data[-16:]
    else:
        assert xml.etree.ElementTree.fromstring(data).tag.endswith("svg")


def test_an_unknown_suffix_is_refused_and_an_interrupted_picture_leaves_nothing(tmp_path, monkeypatch):
    ax = plot.learning_curve(records(log_px=[-3.0, -2.0]))
    with pytest.raises(ValueError, match=r"x\.gif: got the suffix '\.gif', wanted \.png, \.svg, \.pdf"):
        plot.save(ax, tmp_path / "x.gif")
    (tmp_path / "x.png").write_text("before")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        plot.save(ax, tmp_path / "x.png")
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    assert (tmp_path / "x.png").read_text() == "before"


def test_the_colours_differ_for_everybody():
    """In lightness, too, where they stand for quantities that meet in one picture: log p(x), VLB, KL."""
    palette = ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
    used = {canvas.LOG_PX, canvas.VLB, canvas.KL, canvas.HELD_OUT, canvas.SKY, canvas.GREEN, canvas.PURPLE}
    assert used <= set(palette)
    assert len(used) == 7
    grey = [np.dot([int(to_hex(c)[i : i + 2], 16) for i in (1, 3, 5)], [0.299, 0.587, 0.114]) for c in
            (canvas.LOG_PX, canvas.VLB, canvas.KL)]  # fmt: skip
    assert np.diff(grey).min() > 60


# the command line


@pytest.fixture
def run(capsys):
    def command(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as error:
            code = error.code
        out, err = capsys.readouterr()
        return code, out, err

    return command


@pytest.fixture
def folder(tmp_path, monkeypatch, problem, linear):
    monkeypatch.chdir(tmp_path)
    model, q, x = problem
    np.save("x.npy", x)
    refvlm.save("model.npz", model, q)
    refvlm.save("bare.npz", model)
    refvlm.save("linear.npz", *linear[:2])
    return tmp_path


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved = []
    true = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), true(self, *a, **k))[1])
    return saved


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_fit_draws_its_learning_curve(folder, run, figures, suffix):
    command = (
        "fit",
        "x.npy",
        "-o",
        "new.npz",
        "--latents",
        2,
        "--hidden",
        "none",
        "--method",
        "vlb",
        "--epochs",
        3,
        "--json",
    )
    plain = run(*command)
    code, out, err = run(*command, "--plot", f"curve.{suffix}")
    assert (code, err) == (0, "")
    seconds = re.compile(r'"seconds": [^,]*')
    assert seconds.sub("", out) == seconds.sub("", plain[1])
    assert_picture(folder / f"curve.{suffix}")
    (ax,) = figures[0].axes
    assert len(line(ax, "log p(x), exact")) == 3


def test_evaluate_draws_means_over_all_rows_and_the_rows_that_it_shows(folder, run, figures, problem):
    assert run("evaluate", "model.npz", "x.npy", "--rows", "2:6", "--plot", "x.svg")[0] == 0
    assert_picture(folder / "x.svg")
    model, q, x = problem
    whole = refvlm.decompose(model, q, x)
    terms, rows = figures[0].axes
    np.testing.assert_allclose(bars(terms, 5)[0, 2], whole.log_px.mean(), rtol=1e-13)
    np.testing.assert_array_equal(line(rows, "VLB, exact"), np.column_stack([range(2, 6), whole.vlb[2:6]]))


def test_evaluate_draws_the_posterior_of_a_single_row(folder, run, figures, problem):
    for options in (["--rows", "4:5"], ["--rows", "4:5", "--table"]):
        figures.clear()
        assert run("evaluate", "model.npz", "x.npy", *options, "--plot", "x.png")[0] == 0
        assert_picture(folder / "x.png")
        model, q, x = problem
        terms, codes = figures[0].axes
        np.testing.assert_allclose(bars(terms, 3)[0, 2], refvlm.vlb(model, q, x[4:5])[0], rtol=1e-13)
        np.testing.assert_allclose(bars(codes, 0)[:, 2], refvlm.posterior(model, x[4:5])[0], rtol=1e-13)


def test_evaluate_draws_the_q_of_the_row_itself_where_every_row_has_its_own(folder, run, figures, problem, rng):
    model, _, _ = problem
    q = refvlm.PerDatumPosterior(rng.normal(size=(N, K)))
    refvlm.save("own.npz", model, q)
    assert run("evaluate", "own.npz", "x.npy", "--rows", "4:5", "--plot", "x.png")[0] == 0
    phi = 1 / (1 + np.exp(-q.logits[4]))
    z = refvlm.bits.table(K)
    np.testing.assert_allclose(
        bars(figures[0].axes[1], 1)[:, 2], np.prod(np.where(z, phi, 1 - phi), axis=1), rtol=1e-12
    )


def test_evaluate_draws_brackets_where_the_sum_is_too_long(folder, run, figures):
    code, out, _ = run("evaluate", "linear.npz", "x.npy", "--seconds", 0.05, "--rows", 3, "--plot", "x.pdf")
    assert code == 0
    assert_picture(folder / "x.pdf")
    terms, rows = figures[0].axes
    assert "certified" in terms.get_xticklabels()[5].get_text()
    assert next(text.get_text() for text in rows.get_legend().get_texts()) == "log p(x), certified at 1 - 1e-9"
    assert "mean" in out


def test_pictures_that_cannot_be_are_refused_before_any_work(folder, run, monkeypatch):
    monkeypatch.setattr("refvlm.cli.evaluate.decompose", lambda *_, **__: pytest.fail("worked"))
    monkeypatch.setattr("refvlm.learning.fit.fit", lambda *_, **__: pytest.fail("worked"))
    commands = (("evaluate", "model.npz", "x.npy"), ("fit", "x.npy", "-o", "new.npz"))
    for command in commands:
        for path, code, message in (
            ("x.gif", 2, "argument --plot: x.gif: got the suffix '.gif', wanted .png, .svg, .pdf"),
            ("nowhere/x.png", 73, "there is no directory"),
        ):
            result = run(*command, "--plot", path)
            assert result[0] == code
            assert result[1] == ""
            assert message in result[2]
            assert result[2].count("\n") == 1
    code, out, err = run("evaluate", "bare.npz", "x.npy", "--plot", "x.png")
    assert (code, out, err.count("\n")) == (65, "", 1)
    assert "without a posterior" in err
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for command in commands:
        code, out, err = run(*command, "--plot", "x.png")
        assert (code, out, err.count("\n")) == (73, "", 1)
        assert err.startswith("refvlm: error: --plot: refvlm.plot: pictures need matplotlib")
        assert "pip install 'refvlm[plot]'" in err
    assert not list(folder.glob("x.*g"))


def test_the_command_line_draws_whatever_the_settings_of_matplotlib_are(folder, run):
    contents = []
    for settings in ({}, {"figure.facecolor": "black", "text.color": "white", "font.size": 30}):
        with matplotlib.rc_context(settings):
            assert run("evaluate", "model.npz", "x.npy", "--plot", "x.svg")[0] == 0
        contents.append((folder / "x.svg").read_bytes())
    assert contents[0] == contents[1]


def test_no_rows_are_no_picture(folder, run):
    np.save("none.npy", np.zeros((0, L), np.uint8))
    code, _, err = run("evaluate", "model.npz", "none.npy", "--plot", "x.png")
    assert code == 0
    assert "x.png is not written: no rows" in err
    assert not (folder / "x.png").exists()
