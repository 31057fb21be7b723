// The page: what is moved, and what is shown of it. Numbers come from model.js.
"use strict";

const given = JSON.parse(document.getElementById("numbers").textContent);
const at = (id) => document.getElementById(id);
const nats = (value) => (Number.isFinite(value) ? value.toFixed(6).replace(/^-0\.0*$/, "0.000000").replace("-", "−") : value > 0 ? "∞" : "−∞");
const percent = (value) => `${(100 * value).toFixed(1)} %`;
const copy = (value) => JSON.parse(JSON.stringify(value));
const logit = (p) => Math.log(p / (1 - p));

function element(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
function drawn(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

// A chart as wide as its place allows: parts in a viewBox, and what it shows in words.
const room = (place) => Math.max(place.clientWidth, 240);
function chart(place, width, height, words, parts) {
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  picture.append(...parts);
  place.replaceChildren(picture);
}

// A picture of pixels between 0 and 1, with a text alternative.
function pixels(place, values, words, shape = given.shape) {
  const [rows, columns] = shape;
  const cells = values.map((value, i) =>
    drawn("rect", { x: i % columns, y: Math.floor(i / columns), width: 1.02, height: 1.02, "fill-opacity": value }));
  const frame = drawn("rect", { x: 0, y: 0, width: columns, height: rows, class: "paper" });
  chart(place, columns, rows, words, [frame, ...cells]);
}

const wordsOf = (x, columns) => {
  const lines = [];
  for (let i = 0; i < x.length; i += columns) lines.push(x.slice(i, i + columns).map((bit) => (bit ? "1" : "0")).join(""));
  return lines.join(" ");
};

// A slider with its value beside it; `tell` is called with every new value.
function slider(place, id, words, range, value, tell) {
  const input = element("input", { type: "range", id, min: range[0], max: range[1], step: range[2] });
  const output = element("output", { for: id });
  input.value = value;
  const show = () => (output.textContent = Number(input.value).toFixed(2).replace("-", "−"));
  input.addEventListener("input", () => { show(); tell(Number(input.value)); });
  show();
  const label = element("label", { for: id });
  label.append(...words);
  place.append(element("div", { class: "slider" }, label, input, output));
  return { set: (to) => { input.value = to; show(); } };
}

const indexed = (letter, k) => [letter, element("sub", {}, `${k + 1}`)];

// Questions with numbers that the page computes: each a function to {words, answer}.
function ask(place, questions) {
  questions.forEach((question, n) => {
    const id = `${place.id}-${n}`;
    const answer = element("input", { id, type: "text", inputmode: "decimal", autocomplete: "off" });
    const said = element("p", { "aria-live": "polite" });
    const check = element("button", { type: "button" }, "check");
    check.addEventListener("click", () => {
      const { right, because, near } = question.answer();
      const got = Number(answer.value.trim().replace("−", "-").replace(",", "."));
      const good = answer.value.trim() !== "" && Number.isFinite(got) && Math.abs(got - right) <= near;
      said.textContent = (good ? "Yes. " : "Not yet. ") + (good ? because : question.hint);
      said.className = good ? "good" : "bad";
    });
    place.append(element("div", { class: "question" }, element("label", { for: id }, question.words), answer, check, said));
  });
}

// Drawing: z, p(x|z), x.
function generator() {
  const model = given.large;
  const columns = given.shape[1];
  const z = draw(model.logits);
  let x = [];
  const boxes = z.map((bit, k) => {
    const box = element("input", { type: "checkbox", id: `generator-${k}` });
    box.checked = bit === 1;
    box.addEventListener("change", () => { z[k] = box.checked ? 1 : 0; show(); });
    at("generator-bits").append(element("label", { for: `generator-${k}` }, box, ...indexed("z", k)));
    return box;
  });
  const toss = () => {
    x = draw(decode(model, z));
    pixels(at("generator-x"), x, `drawn picture, row by row: ${wordsOf(x, columns)}`);
  };
  const show = () => {
    const means = decode(model, z).map(sigmoid);
    pixels(at("generator-mean"), means, `probabilities of the pixels, from ${percent(Math.min(...means))} to ${percent(Math.max(...means))}`);
    toss();
    at("generator-said").textContent = `z = ${z.join("")} has the prior probability ${percent(Math.exp(logBernoulli(z, model.logits)))}.`;
  };
  at("generator-z").addEventListener("click", () => {
    draw(model.logits).forEach((bit, k) => { z[k] = bit; boxes[k].checked = bit === 1; });
    show();
  });
  at("generator-draw").addEventListener("click", toss);
  at("generator-many").addEventListener("click", () => {
    at("generator-gallery").replaceChildren(...Array.from({ length: 12 }, () => {
      const code = draw(model.logits);
      const picture = element("div", { class: "grid" });
      const bits = draw(decode(model, code));
      pixels(picture, bits, `z = ${code.join("")}, picture row by row: ${wordsOf(bits, columns)}`);
      return element("figure", {}, picture, element("figcaption", {}, code.join("")));
    }));
  });
  show();
}

// What can be moved, and everything that follows from it.
const state = { example: "data", row: 0, model: copy(given.small), q: [...given.small.logits], x: given.rows[0], sliders: null, changed: true };
let shown = null;

function recompute() {
  const sums = enumerate(state.model, state.x);
  shown = { sums, ...decompose(sums, state.q) };
  showSum();
  showIdentity();
  showSlip();
  if (at("data-q").value === "one" || state.changed) showData();
}

function showSlip() {
  at("slip-printed").textContent = nats(asPrinted(shown.sums, state.q));
  at("slip-px").textContent = nats(shown.logPx);
}

// The bound over all pictures, under the model as it stands; the example of explaining away has but one.
function showData() {
  state.changed = false;
  const kind = at("data-q").value;
  const model = state.example === "data" ? state.model : given.small;
  const parts = given.rows.map((x) => {
    const sums = enumerate(model, x);
    if (kind === "posterior") return { logPx: sums.logPx, vlb: sums.logPx };
    const q = kind === "best" ? bestFactorised(sums, model.logits.length) : kind === "one" && state.example === "data" ? state.q : model.logits;
    return decompose(sums, q);
  });
  const width = room(at("data-picture"));
  const least = Math.min(...parts.map((part) => part.vlb)) * 1.02;
  const [step, height] = [(width - 10) / parts.length, 180];
  const y = (value) => 12 + (height * value) / least;
  const bars = parts.flatMap((part, n) => [
    drawn("rect", { class: "px", x: 5 + n * step + step / 8, width: (3 * step) / 4, y: 12, height: y(part.logPx) - 12 }),
    drawn("rect", { class: "kl", x: 5 + n * step + step / 8, width: (3 * step) / 4, y: y(part.logPx), height: Math.max(y(part.vlb) - y(part.logPx), 0) }),
    drawn("text", { x: 5 + (n + 0.5) * step, y: height + 32, "text-anchor": "middle", class: "small" }, `${n + 1}`),
  ]);
  const mean = (name) => sum(parts.map((part) => part[name])) / parts.length;
  const [bound, px] = [mean("vlb"), mean("logPx")];
  const words = `For each of ${parts.length} pictures log p(x) downwards from 0, and below it what q loses; means ${nats(px)} and ${nats(px - bound)}`;
  chart(at("data-picture"), width, height + 40, words, [drawn("line", { x1: 0, x2: width, y1: 12, y2: 12, class: "axis" }), ...bars]);
  at("data-said").textContent = `Mean VLB ${nats(bound)} ≤ mean log p(x) ${nats(px)}: lost on average ${nats(px - bound)} nats.`;
}

const codeName = (z) => z.join("");

function showSum() {
  const { table, logPx } = shown.sums;
  const body = at("terms-table").tBodies[0];
  body.replaceChildren(...table.map((row) => element("tr", {},
    element("th", { scope: "row" }, codeName(row.z)),
    ...[row.logPrior, row.logLikelihood, row.logJoint].map((value) => element("td", {}, nats(value))),
    element("td", {}, percent(row.posterior)),
    element("td", {}, percent(Math.exp(logBernoulli(row.z, state.q)))))));
  at("sum-log-px").textContent = nats(logPx);
  const [width, height, base] = [room(at("terms-picture")), 190, 150];
  const [gap, column] = [width / 100, width / 10];
  const step = (width - column - 4 * gap) / table.length;
  const bars = table.flatMap((row, c) => [
    drawn("rect", { class: `term-${c % 8}`, x: c * step + gap, width: step - 2 * gap, y: base - 130 * row.posterior, height: 130 * row.posterior }),
    drawn("text", { x: (c + 0.5) * step, y: base + 18, "text-anchor": "middle" }, codeName(row.z)),
  ]);
  let from = base;
  const stack = table.map((row, c) => {
    const size = 130 * row.posterior;
    from -= size;
    return drawn("rect", { class: `term-${c % 8}`, x: width - column, width: column, y: from, height: size });
  });
  const words = `Shares of the codes in p(x): ${table.map((row) => `${codeName(row.z)} ${percent(row.posterior)}`).join(", ")}`;
  chart(at("terms-picture"), width, height, words, [...bars, ...stack,
    drawn("line", { x1: 0, x2: width, y1: base, y2: base, class: "axis" }),
    drawn("text", { x: width - column / 2, y: base + 18, "text-anchor": "middle" }, "p(x)"),
    drawn("text", { x: (width - column) / 2, y: base + 36, "text-anchor": "middle" }, "codes z, each as high as p(x|z) p(z)")]);
  showBayes();
}

function showBayes() {
  const chosen = at("bayes-code");
  const { table, logPx } = shown.sums;
  if (chosen.options.length !== table.length) {
    chosen.replaceChildren(...table.map((row, c) => element("option", { value: c }, codeName(row.z))));
  }
  const row = table[Number(chosen.value) || 0];
  at("bayes-said").textContent = `log p(x|z) + log p(z) − log p(z|x) = ${nats(row.logLikelihood)} + (${nats(row.logPrior)}) − (${nats(row.logJoint - logPx)}) = ${nats(row.logLikelihood + row.logPrior - (row.logJoint - logPx))} nats`;
}

function showIdentity() {
  for (const name of ["prior", "reconstruction", "entropy", "vlb", "kl", "logPx"]) at(`n-${name}`).textContent = nats(shown[name]);
  at("n-residual").textContent = shown.residual.toExponential(1).replace("-", "−");
  // log p(x) from the left edge to 0 at the right; the VLB starts further left, and the KL is what is between.
  const width = room(at("identity-picture"));
  const least = Math.min(shown.vlb, shown.logPx) * 1.05;
  const place = (value) => 8 + (width - 16) * (1 - value / least);
  const vlb = place(shown.vlb), px = place(shown.logPx), zero = place(0);
  const words = `VLB ${nats(shown.vlb)}, then KL ${nats(shown.kl)} up to log p(x) ${nats(shown.logPx)}, on a scale that ends at 0 nats`;
  chart(at("identity-picture"), width, 110, words, [
    drawn("rect", { class: "kl", x: vlb, width: Math.max(px - vlb, 0), y: 18, height: 30 }),
    drawn("rect", { class: "px", x: px, width: Math.max(zero - px, 0), y: 18, height: 30 }),
    drawn("line", { x1: vlb, x2: vlb, y1: 10, y2: 62, class: "axis" }),
    drawn("line", { x1: px, x2: px, y1: 10, y2: 86, class: "axis" }),
    drawn("line", { x1: zero, x2: zero, y1: 10, y2: 62, class: "axis" }),
    drawn("text", { x: vlb, y: 76, "text-anchor": vlb < 60 ? "start" : "middle" }, "VLB"),
    drawn("text", { x: px, y: 100, "text-anchor": px > width - 60 ? "end" : "middle" }, "log p(x)"),
    drawn("text", { x: zero, y: 76, "text-anchor": "end" }, "0"),
    drawn("text", { x: Math.max((vlb + px) / 2, 24), y: 38, "text-anchor": "middle", class: "on" }, px - vlb > 40 ? "KL" : ""),
  ]);
}

function buildSliders() {
  for (const id of ["phi-sliders", "beta-sliders", "weight-slider"]) at(id).replaceChildren();
  const K = state.q.length;
  const bound = (p) => Math.min(0.99, Math.max(0.01, p));
  const range = [0.01, 0.99, 0.01];
  const phi = Array.from({ length: K }, (_, k) => slider(at("phi-sliders"), `phi-${k}`, indexed("φ", k), range, bound(sigmoid(state.q[k])), (p) => {
    state.q[k] = logit(p);
    recompute();
  }));
  const beta = Array.from({ length: K }, (_, k) => slider(at("beta-sliders"), `beta-${k}`, indexed("β", k), range, bound(sigmoid(state.model.logits[k])), (p) => {
    state.model.logits[k] = logit(p);
    state.changed = true;
    recompute();
  }));
  const weights = state.model.layers[0].weights;
  const i = weights[0].reduce((most, w, j) => (Math.abs(w) > Math.abs(weights[0][most]) ? j : most), 0);
  const words = [`weight from z`, element("sub", {}, "1"), ` to pixel ${i + 1}`];
  slider(at("weight-slider"), "weight", words, [-16, 16, 0.1], weights[0][i], (w) => {
    state.model.layers[0].weights[0][i] = w;
    state.changed = true;
    recompute();
  });
  state.sliders = { phi, beta };
}

function choose(example, row) {
  state.example = example;
  state.row = row;
  const away = example === "away";
  state.model = copy(away ? given.away.model : given.small);
  state.x = away ? [1] : given.rows[row];
  state.q = [...state.model.logits];
  state.changed = true;
  pixels(at("row-picture"), given.rows[row], `picture ${row + 1}, row by row: ${wordsOf(given.rows[row], given.shape[1])}`);
  buildSliders();
  recompute();
  at("identity-said").textContent = "q is the prior. Move it.";
}

function setBest() {
  state.q = bestFactorised(shown.sums, state.q.length);
  state.q.forEach((a, k) => state.sliders.phi[k].set(sigmoid(a)));
  recompute();
  at("identity-said").textContent = `Best factorised q: φ = (${state.q.map((a) => sigmoid(a).toFixed(4)).join(", ")}); it leaves KL = ${nats(shown.kl)} nats.`;
}

function costs() {
  const { seconds, latents } = given.cost;
  const spoken = (t) => {
    const units = [[31557600, "years"], [86400, "days"], [3600, "hours"], [60, "minutes"], [1, "seconds"], [1e-3, "ms"], [1e-6, "µs"]];
    const [size, unit] = units.find(([each]) => t >= each) || [1e-9, "ns"];
    return `${(t / size).toPrecision(2)} ${unit}`;
  };
  const time = (K) => seconds * 2 ** K;
  const height = 240;
  const width = () => room(at("cost-picture"));
  const [low, high] = [Math.floor(Math.log10(time(1))), Math.ceil(Math.log10(time(64)))];
  const x = (K) => 60 + ((width() - 80) * (K - 1)) / 63;
  const y = (t) => 200 - (180 * (Math.log10(t) - low)) / (high - low);
  const names = [[1e-6, "1 µs"], [1e-3, "1 ms"], [1, "1 s"], [3600, "1 hour"], [31557600, "1 year"], [3155760000, "100 y"]];
  const small = (where, text) => drawn("text", { class: "small", ...where }, text);
  const show = () => {
    const K = Number(at("cost-k").value);
    at("cost-said").textContent = `K = ${K}: ${(2n ** BigInt(K)).toLocaleString("en")} terms, ${spoken(time(K))}`;
    const words = `Time of the sum against K on a logarithmic scale: ${spoken(time(8))} at K = 8, ${spoken(time(32))} at K = 32, ${spoken(time(64))} at K = 64`;
    const every = width() > 500 ? 8 : 16;
    chart(at("cost-picture"), width(), height, words, [
      ...names.flatMap(([t, name]) => [
        drawn("line", { x1: 60, x2: width() - 20, y1: y(t), y2: y(t), class: "faint" }),
        small({ x: 54, y: y(t) + 4, "text-anchor": "end" }, name),
      ]),
      drawn("line", { x1: x(1), y1: y(time(1)), x2: x(64), y2: y(time(64)), class: "curve" }),
      drawn("line", { x1: x(32), x2: x(32), y1: 10, y2: 200, class: "mark" }),
      small({ x: x(32) - 5, y: 22, "text-anchor": "end" }, "4,294,967,296 terms"),
      drawn("circle", { cx: x(latents), cy: y(time(latents)), r: 5, class: "measured" }),
      small({ x: x(latents) + 8, y: y(time(latents)) + 15 }, "measured"),
      drawn("circle", { cx: x(K), cy: y(time(K)), r: 7, class: "here" }),
      ...[1, 8, 16, 24, 32, 40, 48, 56, 64].filter((k) => k === 1 || k % every === 0).map((k) => small({ x: x(k), y: 218, "text-anchor": "middle" }, `${k}`)),
      small({ x: width() / 2, y: 236, "text-anchor": "middle" }, "K, latent bits"),
    ]);
  };
  at("cost-k").addEventListener("input", show);
  window.addEventListener("resize", show);
  show();
}

// Two learners from the same random parameters: gradient ascent and generalised EM.
const learner = { ascent: null, em: null, curves: null };

function startLearning() {
  const random = () => 0.6 * (Math.random() + Math.random() + Math.random() - 1.5);
  const K = 2;
  const frequency = given.rows[0].map((_, i) => (sum(given.rows.map((x) => x[i])) + 0.5) / (given.rows.length + 1));
  const model = {
    logits: Array.from({ length: K }, () => 0),
    layers: [{ weights: Array.from({ length: K }, () => frequency.map(random)), biases: frequency.map(logit) }],
  };
  learner.ascent = copy(model);
  learner.em = copy(model);
  const start = meanLogPx(model, given.rows);
  learner.curves = { ascent: [start], em: [start] };
  showLearning();
}

function learn(steps) {
  const size = Number(at("learn-rate").value);
  for (let n = 0; n < steps; n++) {
    learner.ascent = ascentStep(learner.ascent, given.rows, size);
    learner.em = emStep(learner.em, given.rows, size);
    learner.curves.ascent.push(meanLogPx(learner.ascent, given.rows));
    learner.curves.em.push(meanLogPx(learner.em, given.rows));
  }
  showLearning();
}

function showLearning() {
  const { ascent, em } = learner.curves;
  const last = (curve) => curve[curve.length - 1];
  const words = `Mean log p(x) after ${ascent.length - 1} steps: gradient ascent ${nats(last(ascent))}, generalised EM ${nats(last(em))}`;
  curves(at("learn-picture"), [{ class: "curve", values: ascent }, { class: "curve second", values: em }], words, `steps, 0 to ${ascent.length - 1}`);
  at("learn-said").textContent = `After ${ascent.length - 1} steps the mean of log p(x) is ${nats(last(ascent))} by gradient ascent (solid) and ${nats(last(em))} by generalised EM (dashed).`;
  figures(at("learn-codes"), codes(2).map((z) => [decode(learner.ascent, z).map(sigmoid), `z = ${z.join("")}`]));
}

// Lines over steps, on a common scale: { name, class, values } each, and what they show in words.
function curves(place, lines, words, axis) {
  const [width, height] = [room(place), 220];
  const all = lines.flatMap((line) => line.values).filter((value) => value !== null);
  const [least, most] = [Math.min(...all), Math.max(...all, Math.min(...all) + 0.5)];
  const steps = Math.max(lines[0].values.length - 1, 1);
  const x = (n) => 60 + ((width - 80) * n) / steps;
  const y = (value) => 180 - (160 * (value - least)) / (most - least);
  chart(place, width, height, words, [
    drawn("line", { x1: 60, x2: width - 20, y1: 180, y2: 180, class: "axis" }),
    ...lines.flatMap((line) => {
      const known = line.values.map((value, n) => [value, n]).filter(([value]) => value !== null);
      const points = known.map(([value, n]) => `${x(n)},${y(value)}`).join(" ");
      if (known.length > 1) return [drawn("polyline", { class: line.class, points })];
      return known.map(([value, n]) => drawn("circle", { class: `dot ${line.class}`, cx: x(n), cy: y(value), r: 5 }));
    }),
    drawn("text", { x: 54, y: 24, "text-anchor": "end", class: "small" }, most.toFixed(1).replace("-", "−")),
    drawn("text", { x: 54, y: 184, "text-anchor": "end", class: "small" }, least.toFixed(1).replace("-", "−")),
    drawn("text", { x: width / 2, y: 204, "text-anchor": "middle", class: "small" }, axis),
  ]);
}

// Wake-sleep in slow motion.
const sleeper = { model: null, encoder: null, steps: 0, logPx: [], vlb: [] };
const RATE = 0.1;

function startSleeper() {
  const K = 3;
  const small = () => 0.4 * (Math.random() - 0.5);
  const pixelsOf = given.rows[0];
  sleeper.model = { logits: Array.from({ length: K }, () => 0), layers: [{ weights: Array.from({ length: K }, () => pixelsOf.map(small)), biases: pixelsOf.map(() => 0) }] };
  sleeper.encoder = { weights: pixelsOf.map(() => Array.from({ length: K }, small)), biases: Array.from({ length: K }, () => 0) };
  Object.assign(sleeper, { steps: 0, logPx: [], vlb: [] });
  at("wake-sleep-said").textContent = "Nothing learnt yet.";
  at("wake-sleep-pictures").replaceChildren();
  judgeSleeper();
}

function wake() {
  const x = given.rows[Math.floor(Math.random() * given.rows.length)];
  const z = draw(encode(sleeper.encoder, x));
  const expected = decode(sleeper.model, z).map(sigmoid);
  sleeper.model = moved(sleeper.model, wakeSlopes(sleeper.model, x, z), RATE);
  return { x, z, expected };
}

function sleep() {
  const z = draw(sleeper.model.logits);
  const x = draw(decode(sleeper.model, z));
  const expected = encode(sleeper.encoder, x).map(sigmoid);
  sleeper.encoder = movedEncoder(sleeper.encoder, sleepSlopes(sleeper.encoder, x, z), RATE);
  return { x, z, expected };
}

function judgeSleeper() {
  const parts = given.rows.map((x) => decompose(enumerate(sleeper.model, x), encode(sleeper.encoder, x)));
  sleeper.logPx.push(sum(parts.map((part) => part.logPx)) / parts.length);
  sleeper.vlb.push(sum(parts.map((part) => part.vlb)) / parts.length);
  showSleeper();
}

function showSleeper() {
  const last = (values) => values[values.length - 1];
  const lines = [{ class: "curve", values: sleeper.logPx }, { class: "curve second", values: sleeper.vlb }];
  const said = `mean log p(x) ${nats(last(sleeper.logPx))}, mean VLB ${nats(last(sleeper.vlb))}, between them KL ${nats(last(sleeper.logPx) - last(sleeper.vlb))}`;
  curves(at("wake-sleep-picture"), lines, `Wake-sleep: ${said}`, `looks at it, 0 to ${sleeper.vlb.length - 1}`);
  at("wake-sleep-now").textContent = `After ${sleeper.steps} steps, exactly: ${said} (log p(x) solid, VLB dashed).`;
}

function figures(place, pictures) {
  place.replaceChildren(...pictures.map(([values, words]) => {
    const picture = element("div", { class: "grid" });
    pixels(picture, values, words);
    return element("figure", {}, picture, element("figcaption", {}, words));
  }));
}

function oneStep(step, words) {
  const { x, z, expected } = step();
  sleeper.steps += 1;
  words(x, z, expected);
  judgeSleeper();
}

function wakeSleep() {
  at("wake").addEventListener("click", () => oneStep(wake, (x, z, expected) => {
    at("wake-sleep-said").textContent = `Wake: from this picture q drew z = ${z.join("")}; the decoder expected each pixel with the probabilities in the middle, and moves by the differences.`;
    figures(at("wake-sleep-pictures"), [[x, "x, from the data"], [expected, "what the decoder expected"], [x.map((bit, i) => Math.abs(bit - expected[i])), "how far off it was"]]);
  }));
  at("sleep").addEventListener("click", () => oneStep(sleep, (x, z, expected) => {
    at("wake-sleep-said").textContent = `Sleep: the model dreamt this picture from z = ${z.join("")}; the encoder expected φ = (${expected.map((p) => p.toFixed(2)).join(", ")}), and moves by the differences.`;
    figures(at("wake-sleep-pictures"), [[x, "x, a dream"]]);
  }));
  at("wake-sleep-many").addEventListener("click", () => {
    for (let n = 0; n < 1000; n++) {
      wake();
      sleep();
      if (n % 100 === 99) { sleeper.steps += 200; judgeSleeper(); }
    }
    at("wake-sleep-said").textContent = "A thousand wake steps and a thousand sleep steps, in turn.";
    figures(at("wake-sleep-pictures"), codes(3).map((z) => [decode(sleeper.model, z).map(sigmoid), `z = ${z.join("")}`]));
  });
  at("wake-sleep-again").addEventListener("click", startSleeper);
  startSleeper();
}

// The runs that were made with the page.
function showRun() {
  const run = given.runs[Number(at("run").value) || 0];
  const last = run.logPx.length - 1;
  const said = `${run.name}: after ${last + 1} passes log p(x) ${nats(run.logPx[last])}, VLB ${nats(run.vlb[last])}, KL ${nats(run.logPx[last] - run.vlb[last])}`;
  curves(at("run-picture"), [{ class: "curve", values: run.logPx }, { class: "curve second", values: run.vlb }], said, `passes, 1 to ${run.vlb.length}`);
  const late = run.vlb[0] === null ? " Its q was learnt at the end." : "";
  at("run-said").textContent = `${said} nats, means over ${run.rows} pictures (log p(x) solid, VLB dashed).${late}`;
}

// The example of explaining away, its cause as strong as the reader likes: each divergence and its best q.
function divergences() {
  const model = copy(given.away.model);
  const show = () => {
    const sums = enumerate(model, [1]);
    const exclusive = bestFactorised(sums, 2);
    const means = posteriorMeans(sums).map((mean) => logit(Math.min(Math.max(mean, 1e-15), 1 - 1e-15)));
    const row = (name, q) => element("tr", {}, element("th", { scope: "row" }, name),
      element("td", {}, q.map((a) => sigmoid(a).toFixed(3)).join(", ")),
      element("td", {}, nats(decompose(sums, q).kl)), element("td", {}, nats(inclusive(sums, q))));
    at("divergence-table").replaceChildren(row("best for the bound", exclusive), row("best for sleep", means));
  };
  slider(at("divergence-sliders"), "cause", ["weight"], [0, 16, 0.1], model.layers[0].weights[0][0], (w) => {
    model.layers[0].weights = [[w], [w]];
    show();
  });
  slider(at("divergence-sliders"), "rarity", ["β"], [0.01, 0.99, 0.01], sigmoid(model.logits[0]), (p) => {
    model.logits = [logit(p), logit(p)];
    show();
  });
  show();
}

function questions() {
  ask(at("questions-learning"), [
    { words: "For which share of its steps does generalised EM lower the mean of log p(x), in percent?", hint: "It never goes down.", answer: () => ({ right: 0, near: 0, because: "With the shares fixed, log p(x) rises by at least as much as what is maximised." }) },
  ]);
  ask(at("questions-wake-sleep"), [
    { words: "In a wake step a pixel is 1 and the decoder expected 0.8; z₁ is 1. By what is the weight from z₁ to that pixel moved, at a rate of 0.1?", hint: "Rate times z times the difference.", answer: () => ({ right: 0.02, near: 1e-9, because: "0.1 times 1 times (1 − 0.8)." }) },
    { words: "How many nats does the VLB of wake-sleep stay below log p(x) at the end of its run above, to one digit after the point?", hint: "Choose it in the list: it is the KL.", answer: () => { const run = given.runs.find((each) => each.name === "wake-sleep"); return { right: run.logPx[run.logPx.length - 1] - run.vlb[run.vlb.length - 1], near: 0.051, because: "That is what its encoder misses." }; } },
  ]);
  ask(at("questions-divergences"), [
    { words: "Which φ₁ is best for KL(p(z|x) ‖ q) in the example as it is set at first, to two digits after the point?", hint: "It is the posterior's mean of z₁.", answer: () => ({ right: posteriorMeans(enumerate(given.away.model, [1]))[0], near: 0.0051, because: "The inclusive divergence is least at the posterior's means." }) },
  ]);
  ask(at("questions-sum"), [
    { words: "How many terms has the sum for K = 10?", hint: "Each bit doubles it.", answer: () => ({ right: 1024, near: 0, because: "2 to the power of 10." }) },
    { words: "What is the sum of the column p(z|x), as a number?", hint: "They are shares.", answer: () => ({ right: 1, near: 1e-9, because: "Shares of p(x) add up to 1." }) },
    { words: "For the picture chosen: what is log p(x), to two digits after the point?", hint: "It stands under the table.", answer: () => ({ right: enumerate(given.small, given.rows[state.row]).logPx, near: 0.0051, because: "The logarithm of the sum of all eight terms." }) },
  ]);
  ask(at("questions-identity"), [
    { words: "You move a φ, and the VLB rises by 0.3 nats. By how much does KL change?", hint: "log p(x) does not depend on q.", answer: () => ({ right: -0.3, near: 1e-9, because: "log p(x) stays, so KL falls by as much." }) },
    { words: "What would KL be if q were the posterior itself?", hint: "How far is a distribution from itself?", answer: () => ({ right: 0, near: 1e-9, because: "Then the VLB is log p(x)." }) },
    { words: "In the example of explaining away: how many nats does the best factorised q leave, to two digits after the point?", hint: "Choose the example, and press the button.", answer: () => { const sums = enumerate(given.away.model, [1]); return { right: decompose(sums, bestFactorised(sums, 2)).kl, near: 0.0051, because: "No q of independent bits does better." }; } },
  ]);
}

at("row").replaceChildren(...given.rows.map((_, n) => element("option", { value: n }, `picture ${n + 1}`)));
at("row").addEventListener("change", () => { at("example").value = "data"; choose("data", Number(at("row").value)); });
at("example").addEventListener("change", () => choose(at("example").value, state.row));
at("bayes-code").addEventListener("change", showBayes);
window.addEventListener("resize", () => { showSum(); showIdentity(); showData(); showLearning(); showSleeper(); showRun(); });
at("best").addEventListener("click", setBest);
at("reset").addEventListener("click", () => choose(state.example, state.row));
at("data-q").addEventListener("change", showData);
at("learn-one").addEventListener("click", () => learn(1));
at("learn-many").addEventListener("click", () => learn(50));
at("learn-again").addEventListener("click", startLearning);
const showRate = () => (at("learn-rate-said").textContent = at("learn-rate").value);
at("learn-rate").addEventListener("input", showRate);
showRate();
generator();
choose("data", 0);
startLearning();
wakeSleep();
at("run").replaceChildren(...given.runs.map((run, n) => element("option", { value: n }, run.name)));
at("run").addEventListener("change", showRun);
showRun();
divergences();
costs();
questions();
