// The sum, Bayes' rule, the identity, the bound over the data: all that follows from the model, q and x that are moved.
"use strict";

// Each example keeps its own model and q, as they were moved. low, high: the ends of the picture's scale.
const state = { example: "data", row: 0, at: {}, sliders: null, floor: 0 };
let shown = null;

const fresh = (example) => {
  const model = copy(example === "data" ? given.small : given.away.model);
  return { model, q: [...model.logits], x: example === "data" ? given.rows[state.row] : [1], low: 0, high: -Infinity };
};
const current = () => state.at[state.example];
const firstSums = () => enumerate(given.small, given.rows[state.row]);

// What the picture chosen is under the model as it was fitted; no slider reaches here.
function showSum() {
  const { table, logPx } = firstSums();
  at("terms-table").tBodies[0].replaceChildren(...table.map((row) => element("tr", {},
    element("th", { scope: "row" }, codeName(row.z)),
    ...[row.logPrior, row.logLikelihood, row.logJoint].map((value) => element("td", {}, short(value))),
    element("td", {}, percent(row.posterior)))));
  at("sum-log-px").textContent = nats(logPx);
  const [width, height, base] = [room(at("terms-picture")), 175, 150];
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
  const shares = table.map((row) => `${codeName(row.z)} ${percent(row.posterior)}`).join(", ");
  chart(at("terms-picture"), width, height, `Shares of the codes in p(x): ${shares}`, [...bars, ...stack,
    drawn("line", { x1: 0, x2: width, y1: base, y2: base, class: "axis" }),
    drawn("text", { x: width - column / 2, y: base + 18, "text-anchor": "middle" }, "p(x)")]);
  columns(at("posterior-picture"), table.map((row) => codeName(row.z)), [{ class: "kl", values: table.map((row) => row.posterior) }],
    `Posterior: ${shares}`);
  showBayes();
}

function showBayes() {
  const { table, logPx } = firstSums();
  const row = table[Number(at("bayes-code").value)];
  at("bayes-said").textContent = `log p(x|z) + log p(z) − log p(z|x) = ${nats(row.logLikelihood)} + (${nats(row.logPrior)}) − (${nats(row.logJoint - logPx)}) = ${nats(row.logLikelihood + row.logPrior - (row.logJoint - logPx))} nats`;
}

// After a move: q, or the model with it.
function recompute(model = false) {
  const now = current();
  const sums = enumerate(now.model, now.x);
  shown = { sums, ...decompose(sums, now.q) };
  now.low = Math.min(now.low, ...sums.table.map((row) => row.logJoint)); // no VLB is below
  now.high = Math.max(now.high, Math.min(0, sums.logPx + 0.25 * (sums.logPx - now.low)));
  showIdentity();
  showSlip();
  at("identity-said").textContent = "";
  if (state.example === "data" && (model || at("data-q").value === "one")) soon();
}

// All pictures at once are too much for every position of a slider that is being dragged.
let waiting = 0;
function soon() {
  clearTimeout(waiting);
  waiting = setTimeout(showData, 100);
}

function showIdentity() {
  for (const name of ["prior", "reconstruction", "entropy", "vlb", "kl", "logPx"]) at(`n-${name}`).textContent = nats(shown[name]);
  at("n-residual").textContent = shown.residual.toExponential(1).replace("-", "−");
  const { low, high, q } = current();
  const width = room(at("identity-picture"));
  const x = (value) => 12 + ((width - 24) * (value - low)) / (high - low);
  const [left, vlb, px] = [x(low), x(shown.vlb), x(shown.logPx)];
  const words = `VLB ${nats(shown.vlb)}, then KL ${nats(shown.kl)} up to log p(x) ${nats(shown.logPx)}, on a scale from ${short(low)} to ${short(high)} nats`;
  const inside = (name, from, to, word) => (to - from > 44 ? [drawn("text", { x: (from + to) / 2, y: 50, "text-anchor": "middle", class: `on-${name}` }, word)] : []);
  chart(at("identity-picture"), width, 104, words, [
    drawn("rect", { class: "vlb", x: left, width: Math.max(vlb - left, 0), y: 30, height: 30 }),
    drawn("rect", { class: "kl", x: vlb, width: Math.max(px - vlb, 0), y: 30, height: 30 }),
    ...inside("vlb", left, vlb, "VLB"), ...inside("kl", vlb, px, "KL"),
    drawn("line", { x1: px, x2: px, y1: 22, y2: 68, class: "axis" }),
    drawn("text", { x: Math.min(Math.max(px, 32), width - 32), y: 16, "text-anchor": "middle" }, "log p(x)"),
    drawn("line", { x1: left, x2: x(high), y1: 68, y2: 68, class: "axis" }),
    ...ticks(low, high, width / 90).flatMap((value) => [
      drawn("line", { x1: x(value), x2: x(value), y1: 68, y2: 74, class: "axis" }),
      drawn("text", { x: x(value), y: 90, "text-anchor": value > high - 1e-9 ? "end" : "middle", class: "small" }, tickWords(value)),
    ]),
  ]);
  const table = shown.sums.table;
  const shares = table.map((row) => Math.exp(logBernoulli(row.z, q)));
  columns(at("codes-picture"), table.map((row) => codeName(row.z)),
    [{ class: "vlb", values: shares }, { class: "kl", values: table.map((row) => row.posterior) }],
    table.map((row, c) => `${codeName(row.z)}: q ${percent(shares[c])}, posterior ${percent(row.posterior)}`).join("; "));
}

function showSlip() {
  at("slip-printed").textContent = nats(asPrinted(shown.sums, current().q));
  at("slip-px").textContent = nats(shown.logPx);
}

// The bound over all pictures, under the small model as it stands.
function showData() {
  const { model, q: moved } = state.at.data;
  const kinds = {
    best: (sums) => bestFactorised(sums, model.logits.length), one: () => moved, prior: () => model.logits, posterior: null };
  const all = given.rows.map((x) => enumerate(model, x));
  const kind = kinds[at("data-q").value];
  const parts = all.map((sums) => ({ logPx: sums.logPx, vlb: kind ? decompose(sums, kind(sums)).vlb : sums.logPx }));
  // The scale stays while q is chosen: the prior as q has room, and whatever was worse.
  state.floor = Math.min(state.floor, ...parts.map((part) => part.vlb), ...all.map((sums) => decompose(sums, model.logits).vlb));
  const [width, base] = [room(at("data-picture")), 190];
  const step = (width - 56) / parts.length;
  const y = (value) => 10 + ((base - 10) * value) / (1.05 * state.floor);
  const bars = parts.flatMap((part, n) => [
    drawn("rect", { class: "vlb", x: 50 + n * step + step / 8, width: (3 * step) / 4, y: y(part.vlb), height: base - y(part.vlb) }),
    drawn("rect", { class: "kl", x: 50 + n * step + step / 8, width: (3 * step) / 4, y: y(part.logPx), height: Math.max(y(part.vlb) - y(part.logPx), 0) }),
    drawn("text", { x: 50 + (n + 0.5) * step, y: base + 18, "text-anchor": "middle", class: "small" }, `${n + 1}`),
  ]);
  const mean = (name) => sum(parts.map((part) => part[name])) / parts.length;
  const [bound, px] = [mean("vlb"), mean("logPx")];
  const words = `For each of ${parts.length} pictures the VLB, and up to log p(x) what q loses; means ${nats(bound)} and ${nats(px)}, lost ${nats(px - bound)}`;
  chart(at("data-picture"), width, base + 26, words, [
    ...ticks(1.05 * state.floor, 0, 4).flatMap((value) => [
      drawn("line", { x1: 46, x2: width, y1: y(value), y2: y(value), class: "faint" }),
      drawn("text", { x: 42, y: y(value) + 4, "text-anchor": "end", class: "small" }, tickWords(value)),
    ]),
    ...bars, drawn("line", { x1: 46, x2: width, y1: base, y2: base, class: "axis" })]);
  at("data-said").textContent = `Mean VLB ${nats(bound)} ≤ mean log p(x) ${nats(px)}: lost on average ${nats(px - bound)} nats.`;
}

// The pixel whose weight from z1 moves the picture most: a strong weight on a pixel that is neither always on nor off.
function busiestPixel(model) {
  const means = codes(model.logits.length).map((z) => decode(model, z).map(sigmoid));
  const spread = (i) => sum(means.map((mean) => mean[i] * (1 - mean[i]))) * Math.abs(model.layers[0].weights[0][i]);
  return means[0].reduce((most, _, i) => (spread(i) > spread(most) ? i : most), 0);
}

function buildSliders() {
  for (const id of ["phi-sliders", "beta-sliders", "weight-slider"]) at(id).replaceChildren();
  const { model, q, x } = current();
  const range = [0.001, 0.999, 0.001];
  const phi = q.map((a, k) => slider(at("phi-sliders"), `phi-${k}`, indexed("φ", k), range, sigmoid(a), (p) => {
    q[k] = logit(p);
    recompute();
  }));
  model.logits.forEach((a, k) => slider(at("beta-sliders"), `beta-${k}`, indexed("β", k), range, sigmoid(a), (p) => {
    model.logits[k] = logit(p);
    recompute(true);
  }));
  const weights = model.layers[0].weights[0];
  const pixel = busiestPixel(state.example === "data" ? given.small : given.away.model);
  const words = [`weight from z`, element("sub", {}, "1"), ` to the framed pixel`];
  slider(at("weight-slider"), "weight", words, [-16, 16, 0.1], weights[pixel], (w) => {
    weights[pixel] = w;
    recompute(true);
  });
  state.sliders = phi;
  const shape = state.example === "data" ? given.shape : [1, 1];
  pixels(at("identity-x"), x, `x, row by row: ${wordsOf(x, shape[1])}; framed: pixel ${pixel + 1}`, { shape, framed: pixel });
}

function setBest() {
  const { q } = current();
  bestFactorised(shown.sums, q.length).forEach((a, k) => {
    q[k] = a;
    state.sliders[k].set(sigmoid(a));
  });
  recompute();
  at("identity-said").textContent = `Best factorised q: φ = (${q.map((a) => sigmoid(a).toFixed(4)).join(", ")}); it leaves KL = ${nats(shown.kl)} nats.`;
}

function showExample() {
  buildSliders();
  recompute(true);
}

// As it was fitted, q the prior.
function reset() {
  state.at[state.example] = fresh(state.example);
  state.floor = 0;
  showExample();
  at("identity-said").textContent = "q is the prior. Move it.";
}

// The picture whose posterior is spread most: there is most to see.
function leastCertain() {
  const largest = given.rows.map((x) => Math.max(...enumerate(given.small, x).table.map((row) => row.posterior)));
  return largest.indexOf(Math.min(...largest));
}

function choosePicture(row) {
  state.row = row;
  pixels(at("row-picture"), given.rows[row], `picture ${row + 1}, row by row: ${wordsOf(given.rows[row], given.shape[1])}`);
  showSum();
  at("example").value = state.example = "data";
  reset();
}

function bound() {
  at("row").replaceChildren(...given.rows.map((_, n) => element("option", { value: n }, `picture ${n + 1}`)));
  at("row").addEventListener("change", () => choosePicture(Number(at("row").value)));
  at("bayes-code").replaceChildren(...codes(given.small.logits.length).map((z, c) => element("option", { value: c }, codeName(z))));
  at("bayes-code").addEventListener("change", showBayes);
  at("example").addEventListener("change", () => { state.example = at("example").value; showExample(); });
  at("best").addEventListener("click", setBest);
  at("reset").addEventListener("click", reset);
  at("data-q").addEventListener("change", showData);
  window.addEventListener("resize", () => { showSum(); showIdentity(); showData(); });
  state.at.away = fresh("away");
  at("row").value = leastCertain();
  choosePicture(leastCertain());
  showData();
}
