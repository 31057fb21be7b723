"""Values show themselves: in a few lines of text, and as tables that escape what they quote."""

import copy
import functools
import json
import math
import pickle

import numpy as np
import pytest
from pages import Page, number

import refvlm
from refvlm import show
from refvlm.learning.history import History, Record

K, H, L, N = 3, 4, 6, 11


def rng():
    return np.random.default_rng(7)


class Doubler:
    """A network of somebody else."""

    fan_in, fan_out = K, L

    def forward(self, z):
        return np.repeat(z, 2, axis=1), lambda slopes: {}

    def parameters(self):
        return {"<scale>": np.float64(2.0)}


MODEL = refvlm.BernoulliLVM(refvlm.Bernoulli([1.0, -2.0, -np.inf]), refvlm.MLP.random([K, H, L], rng()))
DEEP = refvlm.BernoulliLVM(
    refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(2)), refvlm.MLP.random([2, K], rng())), MODEL.decoder
)
FOREIGN = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(K)), Doubler())
Q = refvlm.AmortisedPosterior(refvlm.MLP.random([L, 5, K], rng(), activation="relu"))
PER_DATUM = refvlm.PerDatumPosterior(rng().normal(size=(N, K)))
ABOVE = refvlm.AmortisedPosterior(refvlm.MLP.random([K, 2], rng()))
BESIDE = refvlm.AmortisedPosterior(refvlm.MLP.random([L, 2], rng()))
X = rng().integers(0, 2, size=(N, L))
SHORT = {
    MODEL: "BernoulliLVM(K=3, L=6, prior=Bernoulli(3), decoder=MLP(3-4-6, tanh))",
    DEEP: "BernoulliLVM(K=3, L=6, prior=BernoulliLVM(K=2, L=3, prior=Bernoulli(2), decoder=MLP(2-3)), "
    "decoder=MLP(3-4-6, tanh))",
    FOREIGN: "BernoulliLVM(K=3, L=6, prior=Bernoulli(3), decoder=Doubler(3-6))",
    MODEL.prior: "Bernoulli(3)",
    MODEL.decoder: "MLP(3-4-6, tanh)",
    Q: "AmortisedPosterior(K=3, encoder=MLP(6-5-3, relu))",
    PER_DATUM: "PerDatumPosterior(N=11, K=3)",
    refvlm.ChainPosterior([PER_DATUM, ABOVE]): "ChainPosterior([PerDatumPosterior(N=11, K=3), "
    "AmortisedPosterior(K=2, encoder=MLP(3-2))])",
    refvlm.LayerwisePosterior([Q, BESIDE]): "LayerwisePosterior([AmortisedPosterior(K=3, encoder=MLP(6-5-3, relu)), "
    "AmortisedPosterior(K=2, encoder=MLP(6-2))])",
}


@pytest.mark.parametrize(("value", "text"), SHORT.items(), ids=[type(value).__name__ for value in SHORT])
def test_models_and_posteriors_are_sizes_on_a_line_and_a_table_of_parameters(value, text):
    assert repr(value) == text
    (table,) = Page(value._repr_html_()).tables
    assert table.caption == text
    parameters = value.parameters()
    assert [row[0] for row in table.rows] == list(parameters)
    for (_, shape, mean, least, most, count), array in zip(
        table.rows, map(np.asarray, parameters.values()), strict=True
    ):
        if array.ndim:
            assert shape == " × ".join(map(str, array.shape))
            assert [number(least), number(most)] == pytest.approx([array.min(), array.max()], rel=0.05, abs=5e-7)
            assert number(mean) == pytest.approx(array.mean(), rel=0.05, abs=5e-7)
            assert count == str(array.size)
    assert table.foot[0][-1] == str(sum(np.size(array) for array in parameters.values()))


@functools.cache
def results():
    """By name every kind of result, with its fields and what kind of number each is."""
    exact, rounding = "exact", "bound on the rounding"
    d, terms, between = refvlm.decompose(FINITE, Q, X), refvlm.vlb_terms(FINITE, Q, X), refvlm.bracket(FINITE, X)
    estimate = refvlm.vlb_estimate(FINITE, Q, X, rng(), samples=4)
    sides = dict.fromkeys(("lower", "upper", "mean_lower", "mean_upper"), "bound, proved")
    certified, counts = dict.fromkeys(sides, "certified at 1 - 1e-09"), {"samples": "count", "boxes": "count"}
    mean = refvlm.posterior_mean_bracket(FINITE, X, rng())
    return {
        "decomposition": (d, dict(zip(d._fields, [exact] * 3 + ["log_px - (vlb + kl)"] + [rounding] * 3, strict=True))),
        "terms": (terms, dict.fromkeys(terms._fields, exact)),
        "estimate": (estimate, {"value": "estimate", "standard_error": "standard error"}),
        "exact bracket": (between, sides | counts),
        "sampled bracket": (between._replace(kind="sampled", confidence=1 - 1e-9), certified | counts),
        "mean bracket": (mean, {"lower": "bound, proved", "upper": "bound, proved"}),
    }


FINITE = refvlm.BernoulliLVM(refvlm.Bernoulli([1.0, -2.0, 0.5]), MODEL.decoder)


@pytest.mark.parametrize(
    "name", ["decomposition", "terms", "estimate", "exact bracket", "sampled bracket", "mean bracket"]
)
def test_results_are_their_means_and_extremes_beside_what_kind_they_are(name):
    value, kinds = results()[name]
    (table,) = Page(value._repr_html_()).tables
    shown = {row[0]: row[1:] for row in table.rows}
    assert {name: cells[0] for name, cells in shown.items()} == kinds
    for name, (_, mean, least, most, count) in shown.items():
        array = np.asarray(getattr(value, name))
        wanted = [array.mean(), array.min(), array.max()] if array.ndim else [array.item()]
        cells = [mean, least, most] if array.ndim else [mean]
        assert [number(cell) for cell in cells] == pytest.approx(wanted, rel=0.06, abs=5e-7)
        assert count == (str(array.size) if array.ndim else "")
    text = repr(value).splitlines()
    assert text[0] == table.caption
    assert text[0].startswith(type(value).__name__)
    assert text[1].split() == table.heads
    assert len(text) == 2 + len(table.rows)
    for line, row in zip(text[2:], table.rows, strict=True):
        assert line.split() == " ".join(row).replace("−", "-").split()
    assert len({len(line) for line in text[2:]}) <= 2  # right-aligned, but for lines without a count


def test_a_decomposition_bracket_has_the_bracket_inside():
    big = refvlm.BernoulliLVM(refvlm.Bernoulli(np.zeros(40)), refvlm.MLP.random([40, L], rng()))
    q = refvlm.AmortisedPosterior(refvlm.MLP.random([L, 40], rng()))
    value = refvlm.decompose_bracket(big, q, X, samples=100, rng=rng())
    (table,) = Page(value._repr_html_()).tables
    kinds = dict(zip(table.columns["quantity"], table.columns["kind"], strict=True))
    assert table.caption == "DecompositionBracket, sampled, in nats"
    assert kinds["log_px.lower"] == kinds["kl_upper"] == kinds["log_px.mean_upper"] == "certified at 1 - 1e-09"
    assert kinds["vlb"] == "exact"
    assert number(table.columns["max"][table.columns["quantity"].index("kl_upper")]) == pytest.approx(
        value.kl_upper.max(), abs=5e-7
    )
    proved = refvlm.decompose_bracket(big, q, X)
    assert "certified" not in repr(proved)
    assert "bound, proved" in repr(proved)


def test_infinities_and_no_rows_are_shown_too():
    impossible = refvlm.decompose(MODEL, Q, X)
    assert impossible.vlb[0] == -math.inf
    (table,) = Page(impossible._repr_html_()).tables
    assert [row[2] for row in table.rows[1:3]] == ["−∞", "∞"]
    assert "-inf" in repr(impossible)
    empty = refvlm.decompose(FINITE, Q, X[:0])
    assert {row[-1] for row in Page(empty._repr_html_()).tables[0].rows} == {"0"}
    assert "nan" not in repr(empty)
    both = refvlm.VLBTerms(np.array([-np.inf, np.inf]), np.zeros(2), np.zeros(2))
    assert "nan" in repr(both)


def test_what_is_no_array_of_numbers_is_named_by_its_kind():
    assert "str" in repr(refvlm.Estimate("words", [1.0, 2.0]))


def test_long_arrays_stay_short():
    terms = refvlm.VLBTerms(*np.random.default_rng(3).normal(size=(3, 100_000)))
    assert len(repr(terms)) < 400
    assert len(terms._repr_html_()) < 2000


def test_whatever_is_quoted_is_escaped():
    table = show.Table("<a & b>", ("<h>", "i"), [("<script>", "&lt;")], words=2)
    (read,) = Page(table.html()).tables
    assert (read.caption, read.heads, read.rows) == ("<a & b>", ["<h>", "i"], [["<script>", "&lt;"]])
    page = Page(FOREIGN._repr_html_())
    assert page.tables[0].rows[-1][0] == "decoder.<scale>"
    assert page.asks == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12, "12"), (0.0, "0.000000"), (-18.25, "-18.250000"), (1.5e-12, "1.5e-12"), (3e12, "3.0e+12"),
     (-math.inf, "-inf"), (math.nan, "nan")],
)  # fmt: skip
def test_numbers_keep_digits_that_count(value, text):
    assert show.number(value) == text


# history


def records():
    return [
        Record(0, 0, 0.1, log_px=-4.5),
        Record(2, 14, 0.05, log_px=-4.25, vlb=-math.inf, kl=math.inf),
        Record(4, 28, 0.025, log_px=-4.0, vlb=-4.5, log_px_lower=-4.1),
    ]


def test_a_record_shows_the_numbers_that_are_there():
    last = records()[-1]
    assert repr(last) == "Record(epoch=4, step=28, learning_rate=0.025, log_px=-4.0, vlb=-4.5, log_px_lower=-4.1)"
    assert eval(repr(last)) == last
    assert repr(last._replace(kl=np.float64(0.25))).count("np.") == 0
    (table,) = Page(last._repr_html_()).tables
    assert [row[:2] for row in table.rows] == [
        ["epoch", "count"], ["step", "count"], ["learning_rate", "setting"], ["log_px", "exact"], ["vlb", "exact"],
        ["log_px_lower", "certified at 1 - 1e-09"],
    ]  # fmt: skip
    assert [number(row[2]) for row in table.rows] == [4, 28, 0.025, -4.0, -4.5, -4.1]


def test_every_number_of_a_record_has_a_kind():
    full = Record(*range(len(Record._fields)))
    kinds = {row[0]: row[1] for row in Page(full._repr_html_()).tables[0].rows}
    assert list(kinds) == list(Record._fields)
    for name, kind in kinds.items():
        assert (kind == "exact") == (name.removeprefix("validation_") in ("log_px", "vlb", "kl")), name
        assert kind.startswith("certified") == name.endswith(("_lower", "_upper")), name
        assert (kind == "estimate") == (name.endswith("_estimate") or "variance" in name), name


def test_a_history_is_still_a_tuple_of_records():
    history = History(records())
    assert history == tuple(records())
    assert hash(history) == hash(tuple(records()))
    assert history[1] == records()[1]
    assert isinstance(history[1:], History)
    assert history[1:] == tuple(records()[1:])
    assert len(history) == 3
    assert list(history) == records()
    assert json.dumps(history) == json.dumps(records())
    for same in (pickle.loads(pickle.dumps(history)), copy.deepcopy(history)):
        assert same == history
        assert isinstance(same, History)


def test_columns_are_the_records_with_nan_for_what_is_missing():
    columns = History(records()).columns()
    assert list(columns) == ["epoch", "step", "learning_rate", "log_px", "vlb", "kl", "log_px_lower"]
    assert {name: column.dtype for name, column in columns.items()} == dict.fromkeys(
        columns, np.float64
    ) | dict.fromkeys(("epoch", "step"), np.int64)
    np.testing.assert_array_equal(columns["step"], [0, 14, 28])
    np.testing.assert_array_equal(columns["vlb"], [np.nan, -np.inf, -4.5])
    np.testing.assert_array_equal(columns["log_px_lower"], [np.nan, np.nan, -4.1])
    assert {name: len(column) for name, column in History().columns().items()} == {"epoch": 0, "step": 0}


def test_a_history_shows_first_last_and_extremes():
    (table,) = Page(History(records())._repr_html_()).tables
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.caption == "History, 3 records, means in nats"
    assert table.heads == ["number", "kind", "first", "last", "min", "max", "count"]
    assert [number(cell) for cell in rows["log_px"][1:]] == [-4.5, -4.0, -4.5, -4.0, 3]
    assert [number(cell) for cell in rows["vlb"][1:]] == [-math.inf, -4.5, -math.inf, -4.5, 2]
    assert repr(History()).splitlines()[0] == "History, 0 records, means in nats"
    Page(History()._repr_html_())


def test_a_fit_is_its_parts_and_the_history():
    fitted = refvlm.fit(X, latents=2, hidden=(), epochs=5, posterior="none")
    lines = repr(fitted).splitlines()
    assert lines[2].split(maxsplit=1) == ["model", repr(fitted.model)]
    assert lines[3].split() == ["posterior", "None"]
    assert repr(fitted).endswith(repr(fitted.history))
    assert len(lines) < 15
    parts, history = Page(fitted._repr_html_()).tables
    assert parts.rows == [["model", repr(fitted.model)], ["posterior", "None"]]
    assert history.columns["count"][0] == str(len(fitted.history))
    estimator = refvlm.BernoulliLVMEstimator(latents=2, hidden=(), epochs=1).fit(X).partial_fit(X)
    assert estimator.history_.columns()["epoch"].tolist() == [1, 1]
