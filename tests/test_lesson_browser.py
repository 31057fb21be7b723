"""The lesson in a real browser: what is moved by mouse and keyboard, and what the page then says.

Runs where Debian's chromium and chromium-driver are found, with REFVLM_AXE=axe.min.js an accessibility checker, too.
REFVLM_REQUIRE_BROWSER=1 makes the absence of either a failure.
"""

import json
import os
import shutil
import statistics
from pathlib import Path

import numpy as np
import pytest
from problems import shallow
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

import refvlm
from refvlm.lesson import numbers, page

CHROMIUM, DRIVER, AXE = shutil.which("chromium"), shutil.which("chromedriver"), os.environ.get("REFVLM_AXE")
REQUIRED = bool(os.environ.get("REFVLM_REQUIRE_BROWSER"))
if not (CHROMIUM and DRIVER) and not REQUIRED:
    pytest.skip("no chromium with its driver: the lesson is not tried in a browser", allow_module_level=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The page of bars, and its small model."""
    shown = numbers.prepare(refvlm.bars().images, (4, 4), shallow(5, (6,), 16, np.random.default_rng(0)), 1)
    path = tmp_path_factory.mktemp("lesson") / "lesson.html"
    path.write_text(page.page(shown, "bars", np.random.default_rng(1)), encoding="utf-8")
    return path, shown


@pytest.fixture(scope="module")
def browser(made):
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def lesson(browser, made):
    browser.get(made[0].as_uri())
    return browser


def number(lesson, name):
    """A number of the page, as it is written there."""
    return float(lesson.find_element(By.ID, name).text.replace("−", "-"))


def exactly(lesson):
    """What the page holds of the identity, in full precision."""
    return lesson.execute_script("return shown")


def assert_filled(values):
    allowed = 1e-12 * (1.0 + abs(values["logPx"]) + abs(values["vlb"]))
    assert abs(values["logPx"] - (values["vlb"] + values["kl"])) <= allowed
    assert values["kl"] >= -allowed


def test_it_asks_for_nothing_and_reports_no_errors(lesson):
    events = [json.loads(entry["message"])["message"] for entry in lesson.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert asked
    assert all(url.startswith(("file:", "data:")) for url in asked)
    assert [entry for entry in lesson.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_the_script_agrees_with_refvlm(lesson, made):
    """300 settings of phi, beta and a weight on K = 3, L = 16: all that the page shows, to 1e-12."""
    rng, small = np.random.default_rng(2), made[1].small
    x = np.array(lesson.execute_script("return given.rows"), np.uint8)
    for n in range(300):
        logits, q = rng.normal(size=3) * 3.0, rng.normal(size=3) * 3.0
        weights = small.decoder.weights[0].copy()
        weights[0, n % 16] = rng.uniform(-10, 10)
        model = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), refvlm.MLP([weights], small.decoder.biases))
        row = x[n % len(x)]
        got = lesson.execute_script(
            """const [logits, weights, q, x] = arguments;
            const model = { logits, layers: [{ weights, biases: given.small.layers[0].biases }], activation: "tanh" };
            const sums = enumerate(model, x);
            return { ...decompose(sums, q), posterior: sums.table.map((row) => row.posterior) };""",
            logits.tolist(), weights.tolist(), q.tolist(), row.tolist(),
        )  # fmt: skip
        posterior = refvlm.PerDatumPosterior(q[None])
        parts, terms = refvlm.decompose(model, posterior, row[None]), refvlm.vlb_terms(model, posterior, row[None])
        allowed = 1e-12 * (1.0 + abs(parts.log_px[0]) + abs(parts.vlb[0]))
        for name, value in (("logPx", parts.log_px), ("vlb", parts.vlb), ("kl", parts.kl), *zip(
            ("prior", "reconstruction", "entropy"), terms, strict=True
        )):  # fmt: skip
            assert abs(got[name] - value[0]) <= allowed, name
        assert_filled(got)
        np.testing.assert_allclose(got["posterior"], refvlm.posterior(model, row[None])[0], atol=1e-12)


def test_hidden_units_are_decoded_as_refvlm_does(lesson, made):
    """K = 5, H = 6, L = 16: logits of all codes, to 1e-12."""
    large = made[1].large
    got = lesson.execute_script("return codes(5).map((z) => decode(given.large, z))")
    np.testing.assert_allclose(got, large.decoder.forward(refvlm.bits.table(5).astype(float))[0], atol=1e-12)


def sliders(lesson):
    return lesson.find_elements(By.CSS_SELECTOR, "#identity-widget input[type=range]")


def test_every_slider_keeps_the_identity_at_every_position(lesson):
    """By script through all positions, by keyboard to both ends and a step back, by mouse somewhere."""
    assert len(sliders(lesson)) == 7
    for slider in sliders(lesson):
        values = lesson.execute_script(
            """const slider = arguments[0], seen = [];
            for (let v = Number(slider.min); v <= Number(slider.max) + 1e-9; v += Number(slider.step)) {
              slider.value = v;
              slider.dispatchEvent(new Event("input"));
              seen.push({ logPx: shown.logPx, vlb: shown.vlb, kl: shown.kl });
            }
            return seen;""",
            slider,
        )
        assert len(values) > 90
        for each in values:
            assert_filled(each)
        before = exactly(lesson)["vlb"]
        slider.send_keys(Keys.HOME)
        low = exactly(lesson)
        slider.send_keys(Keys.END)
        high = exactly(lesson)
        slider.send_keys(Keys.ARROW_LEFT)
        assert len({before, low["vlb"], high["vlb"], exactly(lesson)["vlb"]}) >= 3
        webdriver.ActionChains(lesson).move_to_element_with_offset(slider, 10, 0).click().perform()
        clicked = exactly(lesson)
        for each in (low, high, clicked):
            assert_filled(each)
        assert abs(number(lesson, "n-vlb") - clicked["vlb"]) <= 5.1e-7
        assert abs(number(lesson, "n-logPx") - clicked["logPx"]) <= 5.1e-7
        assert abs(number(lesson, "n-vlb") + number(lesson, "n-kl") - number(lesson, "n-logPx")) <= 1.6e-6


def test_the_best_factorised_q_is_the_best(lesson, made):
    """Against coordinate ascent and a grid of q, K = 3; and in the example of explaining away, K = 2, a gap stays."""
    lesson.find_element(By.ID, "best").click()
    best, small = exactly(lesson), made[1].small
    x = np.array(lesson.execute_script("return given.rows[0]"), np.uint8)
    grid = np.stack(np.meshgrid(*[np.linspace(-8, 8, 33)] * 3), axis=-1).reshape(-1, 3)
    bounds = refvlm.vlb(small, refvlm.PerDatumPosterior(grid), np.tile(x, (len(grid), 1)))
    assert best["vlb"] >= bounds.max() - 1e-9
    assert_filled(best)
    choice = lesson.find_element(By.ID, "example")
    choice.send_keys("explaining")
    lesson.find_element(By.ID, "best").click()
    away = exactly(lesson)
    assert away["kl"] > 0.1
    assert abs(away["logPx"] - lesson.execute_script("return given.away.logPx")) < 1e-12


def test_the_gradient_of_maximum_likelihood_is_that_of_refvlm(lesson, made):
    """K = 3, L = 16, 12 rows, away from the optimum: every parameter, to 1e-12."""
    rng, small = np.random.default_rng(3), made[1].small
    rows = np.array(lesson.execute_script("return given.rows"), np.uint8)
    weights, biases, logits = rng.normal(size=(3, 16)), rng.normal(size=16), rng.normal(size=3)
    model = refvlm.BernoulliLVM(refvlm.Bernoulli(logits), refvlm.MLP([weights], [biases]))
    assert small.latents == 3
    got = lesson.execute_script(
        """const [logits, weights, biases] = arguments;
        const model = { logits, layers: [{ weights, biases }] };
        const slopes = gradient(model, given.rows, posteriors(model, given.rows));
        return { ...slopes, mean: meanLogPx(model, given.rows) };""",
        logits.tolist(), weights.tolist(), biases.tolist(),
    )  # fmt: skip
    value, wanted = refvlm.log_marginal_and_grad(model, rows, np.full(12, 1 / 12))
    assert abs(got["mean"] - value.mean()) <= 1e-12 * (1.0 + abs(value.mean()))
    for name, key in (("logits", "prior.logits"), ("weights", "decoder.weights.0"), ("biases", "decoder.biases.0")):
        np.testing.assert_allclose(got[name], wanted[key], rtol=0, atol=1e-12)


def test_learning_climbs_and_em_never_falls(lesson):
    """K = 2 on 12 pictures, five random starts of 101 steps: EM monotone, both above where they began."""
    for _ in range(5):
        lesson.find_element(By.ID, "learn-again").click()
        lesson.find_element(By.ID, "learn-one").click()
        lesson.find_element(By.ID, "learn-many").click()
        lesson.find_element(By.ID, "learn-many").click()
        curves = lesson.execute_script("return learner.curves")
        assert len(curves["em"]) == len(curves["ascent"]) == 102
        assert (np.diff(curves["em"]) >= -1e-12).all()
        assert curves["ascent"][-1] > curves["ascent"][0] + 0.1
    assert "After 101 steps" in lesson.find_element(By.ID, "learn-said").text


def test_the_mean_bound_never_exceeds_the_mean(lesson, made):
    """Four choices of q: the numbers of refvlm for the prior; equal for the posterior; the best loses least."""
    lost, small = {}, made[1].small
    x = np.array(lesson.execute_script("return given.rows"), np.uint8)
    for kind in ("best", "posterior", "one", "prior"):
        lesson.execute_script(
            """const chosen = document.getElementById("data-q");
            chosen.value = arguments[0];
            chosen.dispatchEvent(new Event("change"));""",
            kind,
        )
        words = lesson.find_element(By.ID, "data-said").text.replace("−", "-").split()
        bound, value = float(words[2]), float(words[7].rstrip(":"))
        lost[kind] = value - bound
        assert abs(value - refvlm.log_marginal(small, x).mean()) <= 5.1e-7
        if kind == "prior":
            q = refvlm.PerDatumPosterior(np.tile(small.prior.logits, (len(x), 1)))
            assert abs(bound - refvlm.vlb(small, q, x).mean()) <= 5.1e-7
    assert abs(lost["posterior"]) <= 1e-6
    assert 0.0 <= lost["best"] <= min(lost["one"], lost["prior"])


def test_a_wake_step_and_a_sleep_step_follow_the_delta_rule(lesson):
    """The slopes of log p(x, z) and of log q(z; phi(x)), K = 3, L = 16, against central differences."""
    worst = lesson.execute_script(
        """const model = sleeper.model, encoder = sleeper.encoder, x = given.rows[1], z = [1, 0, 1], h = 1e-5;
        const joint = (m) => logBernoulli(z, m.logits) + logBernoulli(x, decode(m, z));
        const recognised = (e) => logBernoulli(z, encode(e, x));
        const wakes = wakeSlopes(model, x, z), sleeps = sleepSlopes(encoder, x, z);
        const difference = (f, read, write) => {
          const there = read();
          write(there + h); const high = f();
          write(there - h); const low = f();
          write(there);
          return (high - low) / (2 * h);
        };
        const m = copy(model), e = copy(encoder);
        let worst = 0;
        const hold = (f, slopes, own) => own.forEach((value, i) => {
          const got = difference(f, () => own[i], (v) => { own[i] = v; });
          worst = Math.max(worst, Math.abs(got - slopes[i]));
        });
        hold(() => joint(m), wakes.logits, m.logits);
        hold(() => joint(m), wakes.biases, m.layers[0].biases);
        m.layers[0].weights.forEach((row, k) => hold(() => joint(m), wakes.weights[k], row));
        hold(() => recognised(e), sleeps.biases, e.biases);
        e.weights.forEach((row, i) => hold(() => recognised(e), sleeps.weights[i], row));
        return worst;"""
    )
    assert worst < 1e-8


def test_wake_sleep_learns_and_says_what_it_did(lesson):
    for name, word in (("wake", "Wake:"), ("sleep", "Sleep:"), ("wake-sleep-many", "A thousand")):
        lesson.find_element(By.ID, name).click()
        assert lesson.find_element(By.ID, "wake-sleep-said").text.startswith(word)
    for _ in range(4):
        lesson.find_element(By.ID, "wake-sleep-many").click()
    learnt = lesson.execute_script("return { logPx: sleeper.logPx, vlb: sleeper.vlb, steps: sleeper.steps }")
    assert learnt["steps"] == 10002
    assert learnt["logPx"][-1] > learnt["logPx"][0] + 1.0
    assert (np.array(learnt["vlb"]) <= np.array(learnt["logPx"]) + 1e-9).all()


def test_runs_are_those_that_were_made(lesson):
    """Four methods, each with its curve; the bound below log p(x)."""
    runs = lesson.execute_script("return given.runs")
    assert [run["name"] for run in runs] == ["maximum-likelihood", "vlb", "wake-sleep", "reweighted-wake-sleep"]
    for n, run in enumerate(runs):
        assert len(run["logPx"]) == numbers.PASSES
        assert all(bound is None or bound <= value for value, bound in zip(run["logPx"], run["vlb"], strict=True))
        lesson.execute_script(
            """const chosen = document.getElementById("run");
            chosen.value = arguments[0];
            chosen.dispatchEvent(new Event("change"));""",
            n,
        )
        assert lesson.find_element(By.ID, "run-said").text.startswith(run["name"])


def test_each_divergence_has_its_own_best_q(lesson):
    """Explaining away: the bound's q is worse for sleep, sleep's for the bound; no gap where a cause does nothing."""

    def table():
        rows = lesson.find_elements(By.CSS_SELECTOR, "#divergence-table tr")
        return [
            [float(cell.text.replace("−", "-")) for cell in row.find_elements(By.TAG_NAME, "td")[1:]] for row in rows
        ]

    (bound_kl, bound_inclusive), (sleep_kl, sleep_inclusive) = table()
    assert bound_kl < sleep_kl - 0.1
    assert sleep_inclusive < bound_inclusive - 0.1
    lesson.find_element(By.ID, "cause").send_keys(Keys.HOME)
    assert np.abs(table()).max() < 1e-6


def test_the_sum_as_printed_is_not_the_marginal(lesson, made):
    """Against refvlm: log of the mean of p(x|z) under q, once a phi has been moved."""
    lesson.find_element(By.ID, "phi-0").send_keys(Keys.END)
    q = np.array(lesson.execute_script("return state.q"))
    x, small, z = np.array(lesson.execute_script("return state.x")), made[1].small, refvlm.bits.table(3)
    log_q = refvlm.log_q(refvlm.PerDatumPosterior(np.tile(q, (8, 1))), np.tile(x, (8, 1)), z)
    printed = np.logaddexp.reduce(refvlm.log_likelihood(small, np.tile(x, (8, 1)), z) + log_q)
    assert abs(number(lesson, "slip-printed") - printed) <= 5.1e-7
    assert abs(number(lesson, "slip-px") - refvlm.log_marginal(small, x[None])[0]) <= 5.1e-7


def test_bayes_rule_gives_the_same_from_every_code(lesson):
    said = set()
    for c in range(8):
        lesson.execute_script(
            """const chosen = document.getElementById("bayes-code");
            chosen.value = arguments[0];
            chosen.dispatchEvent(new Event("change"));""",
            c,
        )
        said.add(lesson.find_element(By.ID, "bayes-said").text.rsplit("=", 1)[1])
    assert len(said) == 1


def test_drawing_follows_the_boxes(lesson):
    """Each z_k can be switched by keyboard, and pictures and words follow."""
    mean = lesson.find_element(By.ID, "generator-mean")
    for k in range(5):
        before = mean.get_attribute("innerHTML")
        lesson.find_element(By.ID, f"generator-{k}").send_keys(Keys.SPACE)
        assert mean.get_attribute("innerHTML") != before
    lesson.find_element(By.ID, "generator-many").click()
    assert len(lesson.find_elements(By.CSS_SELECTOR, "#generator-gallery figure")) == 12
    lesson.find_element(By.ID, "generator-z").click()
    lesson.find_element(By.ID, "generator-draw").click()
    assert "prior probability" in lesson.find_element(By.ID, "generator-said").text


def test_questions_know_right_from_wrong(lesson):
    asked = lesson.find_elements(By.CSS_SELECTOR, ".question")
    right = lesson.execute_script(
        """const away = enumerate(given.away.model, [1]);
        const run = given.runs.find((each) => each.name === "wake-sleep");
        return [1024, 1, enumerate(given.small, given.rows[0]).logPx.toFixed(2), 0, -0.3, 0,
          decompose(away, bestFactorised(away, 2)).kl.toFixed(2), 0.02,
          (run.logPx[run.logPx.length - 1] - run.vlb[run.vlb.length - 1]).toFixed(1),
          posteriorMeans(away)[0].toFixed(2)];"""
    )
    assert len(asked) == len(right)
    for question, answer in zip(asked, right, strict=True):
        box, said = question.find_element(By.TAG_NAME, "input"), question.find_element(By.TAG_NAME, "p")
        for value, word in (("77", "Not yet."), ("", "Not yet."), (str(answer), "Yes.")):
            box.clear()
            box.send_keys(value)
            question.find_element(By.TAG_NAME, "button").click()
            assert said.text.startswith(word), (question.text, value)


def test_a_move_is_answered_within_a_frame(lesson):
    """1000 moves of a slider: script, layout and paint request; median and worst are in the output."""
    took = lesson.execute_script(
        """const slider = document.getElementById("phi-0"), took = [];
        for (let n = 0; n < 1000; n++) {
          slider.value = 0.01 + 0.98 * ((n * 37) % 100) / 99;
          const begun = performance.now();
          slider.dispatchEvent(new Event("input"));
          document.body.offsetHeight;
          took.push(performance.now() - begun);
        }
        return took;"""
    )
    print(f"a move: median {statistics.median(took):.2f} ms, worst {max(took):.2f} ms")
    assert statistics.median(took) < 16.0


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_it_fits_the_screen(lesson, width, mode, tmp_path):
    lesson.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    )
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    lesson.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    lesson.refresh()
    assert lesson.execute_script("return document.documentElement.scrollWidth") <= width
    assert lesson.save_screenshot(str(tmp_path / "page.png"))
    lesson.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.skipif(not AXE and not REQUIRED, reason="REFVLM_AXE names no axe.min.js")
@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_an_accessibility_checker_finds_nothing(lesson, width, mode):
    lesson.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": mode}]}
    )
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    lesson.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    lesson.refresh()
    lesson.execute_script("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    lesson.execute_script(Path(AXE).read_text(encoding="utf-8"))
    found = lesson.execute_async_script(
        """const done = arguments[0];
        axe.run().then(({ violations, passes }) => done({
          rules: passes.length,
          wrong: violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html).join(" ")}`),
        }));"""
    )
    assert found["rules"] > 20
    assert found["wrong"] == []
    lesson.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
