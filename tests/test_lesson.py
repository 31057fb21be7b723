"""The lesson: one page without outside requests, whose numbers and sources are refvlm's own."""

import inspect
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from problems import binary, deep, shallow
from scipy.special import expit

import refvlm
from refvlm.cli import main
from refvlm.lesson import code, formulas, numbers, page

ROOT = Path(refvlm.__file__).parents[1]


@pytest.fixture(scope="module")
def shown():
    """Bars of 4 x 4 pixels: a small model with 3 latents and a drawing one with 5."""
    x = refvlm.bars().images
    return numbers.prepare(x, (4, 4), shallow(5, (6,), 16, np.random.default_rng(0)), 1)


@pytest.fixture(scope="module")
def text(shown):
    return page.page(shown, "bars & <stripes>", np.random.default_rng(1))


@pytest.fixture(scope="module")
def data(text):
    return json.loads(re.search(r'<script type="application/json" id="numbers">(.*?)</script>', text, re.S)[1])


VOID = {"meta", "input", "br", "link", "circle", "path", "line", "rect"}


class Tags(HTMLParser):
    """Tags that are open, ids, and what is referred to."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.references, self.labels, self.outside = [], [], [], [], []

    def handle_starttag(self, tag, attributes):
        named = dict(attributes)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [named["id"]] if "id" in named else []
        self.references += [named[each] for each in ("for", "aria-labelledby") if each in named]
        self.outside += [named[each] for each in ("src", "href", "srcset", "action") if each in named]

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_the_page_is_one_well_formed_file_that_asks_for_nothing(text):
    tags = Tags()
    tags.feed(text)
    assert tags.open == []
    assert len(set(tags.ids)) == len(tags.ids)
    assert set(tags.references) <= set(tags.ids)
    assert all(each.startswith("#") and each[1:] in tags.ids for each in tags.outside)
    assert len(text.encode()) < 3_000_000
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket", text)
    links = set(re.findall(r"https?://[^\s\"'<)]+", text.split("<main", 1)[0] + text.split("</main>", 1)[1]))
    assert links <= {"http://www.w3.org/2000/svg"}  # a name, not an address


def test_words_from_outside_are_escaped(text):
    assert "bars &amp; &lt;stripes&gt;" in text
    assert "<stripes>" not in text


def test_each_equation_stands_beside_the_sources_as_installed(text):
    listings = [unescape(each) for each in re.findall(r"<pre[^>]*><code>(.*?)</code></pre>", text, re.S)]
    for number, beside in code.beside().items():
        assert f'id="eq-{number}"' in text
        for each in (*beside.functions, *beside.twins):
            assert each.source in listings
    assert inspect.getsource(refvlm.kl).rstrip() in listings
    assert inspect.getsource(refvlm.log_marginal).rstrip() in listings
    assert set(code.beside()) == set(formulas.EQUATIONS) == set(range(1, 11))


def test_every_function_of_the_readmes_questions_is_reachable(text):
    """A link leads from the page's questions to the source of each name that can be imported, and to its methods."""
    table = (ROOT / "README.md").read_text().split("| question | answer |")[1].split("\n\n")[0]
    named = {name for span in re.findall(r"`([^`]+)`", table) for name in re.findall(r"[A-Za-z_]+", span)}
    public = {name for name in named if name in refvlm.__all__ and not inspect.ismodule(getattr(refvlm, name))}
    assert {"log_marginal", "kl_bracket", "from_flax", "LayerwisePosterior", "fit", "ProgressBar", "load"} <= public
    linked = set(re.findall(r'<a href="#source-([^"]+)">', text.split('id="functions"')[1]))
    assert public <= linked
    assert {"testing", "plot"} <= {name.split(".")[0] for name in linked}
    assert "History.columns" in linked
    for name in linked:
        assert text.count(f'id="source-{name}"') == 1


def test_every_section_asks_two_or_three_questions(text):
    """All but the notation's list of functions and of papers; the browser's tests answer them."""
    sections = set(re.findall(r'<section id="([a-z-]+)">', text)) - {"functions", "references"}
    script = page._static("questions.js")
    asked = dict(re.findall(r'^  "?([a-z-]+)"?: \[\n(.*?)^  \],', script, re.S | re.M))
    assert set(asked) == sections
    for questions in asked.values():
        assert 2 <= len(re.findall(r"^    \[", questions, re.M)) <= 3


def test_sources_have_a_place_in_the_repository():
    listed = [each for beside in code.beside().values() for each in (*beside.functions, *beside.twins)]
    listed += [each for _, functions in code.answers() for each in functions]
    for each in listed:
        path, line = each.place.split(", line ")
        lines = ROOT.joinpath(path).read_text().splitlines()
        first = each.source.splitlines()[0]
        assert lines[int(line) - 1].strip() == first.strip()


def test_the_numbers_are_those_of_refvlm(shown, data):
    """Of 12 rows under K = 3: log p(x), VLB, KL, the posterior."""
    x = np.array(data["rows"], np.uint8)
    assert x.shape == (12, 16)
    q = refvlm.PerDatumPosterior(np.tile(shown.small.prior.logits, (12, 1)))
    parts = refvlm.decompose(shown.small, q, x)
    for n, row in enumerate(data["exact"]):
        assert (row["logPx"], row["vlb"], row["kl"]) == (parts.log_px[n], parts.vlb[n], parts.kl[n])
        assert row["posterior"] == refvlm.posterior(shown.small, x)[n].tolist()
    assert data["small"]["logits"] == shown.small.prior.logits.tolist()
    assert np.array(data["large"]["layers"][1]["weights"]).shape == (6, 16)
    assert data["cost"]["seconds"] > 0.0
    deep, q = shown.machine
    machine = data["deep"]
    assert machine["model"]["prior"]["logits"] == deep.prior.prior.logits.tolist()
    assert machine["model"]["prior"]["layers"][0]["weights"] == deep.prior.decoder.weights[0].tolist()
    assert machine["model"]["layers"][0]["weights"] == deep.decoder.weights[0].tolist()
    assert [each["weights"] for each in machine["encoders"]] == [q.encoder.weights[0].tolist() for q in q.stages]


def test_no_factorised_q_explains_away(data):
    """K = 2: the posterior of the example is no product, so KL of the best q stays above a tenth of a nat."""
    mass = np.array(data["away"]["posterior"]).reshape(2, 2)
    assert abs(mass.sum() - 1.0) < 1e-12
    product = np.outer(mass.sum(axis=1), mass.sum(axis=0))
    assert np.abs(mass - product).max() > 0.1


def test_few_rows_and_certain_bits_are_shown():
    """One row of 5 pixels, and a model with prior logits of +-inf."""
    x = np.ones((1, 5), np.uint8)
    certain = refvlm.BernoulliLVM(
        refvlm.Bernoulli([np.inf, 0.5, -np.inf]), shallow(3, (), 5, np.random.default_rng(4)).decoder
    )
    text = page.page(numbers.prepare(x, (1, 5), certain, 1), "one row", np.random.default_rng(5))
    shown = json.loads(re.search(r'id="numbers">(.*?)</script>', text, re.S)[1])["large"]["logits"]
    assert expit(shown).tolist() == expit(certain.prior.logits).tolist()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (shallow(11, (), 16, np.random.default_rng(2)), r"^model: got 11 latent and 16 observed bits, wanted at most"),
        (shallow(4, (), 9, np.random.default_rng(2)), r"^model: got one of 9 observed bits, wanted the data's 16"),
    ],
)
def test_models_that_cannot_be_shown_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        numbers.prepare(refvlm.bars().images, (4, 4), model, 1)


def test_the_command_writes_the_page_or_says_why_not(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    refvlm.save("model.npz", shallow(4, (), 16, rng))
    refvlm.save("deep.npz", deep(2, 3, 16, rng))
    assert main(["lesson", "--data", "bars", "--model", "model.npz", "-o", "page.html"]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    assert main(["lesson", "--data", "bars", "-o", "no/page.html"]) == 73
    assert main(["lesson", "--data", "bars", "--model", "deep.npz"]) == 65
    np.save("wide.npy", binary(3, 500, rng))
    assert main(["lesson", "--data", "wide.npy"]) == 65
    said = capsys.readouterr().err.splitlines()
    assert [line.split(":")[1].strip() for line in said] == [
        "wrote page.html, " + said[0].split(", ")[1],
        *["error"] * 3,
    ]
    assert not (tmp_path / "lesson.html").exists()
