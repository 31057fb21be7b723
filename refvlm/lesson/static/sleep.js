// Wake and sleep: in slow motion, as they were run, and what each makes small.
"use strict";

// Wake-sleep in slow motion.
const sleeper = { model: null, encoder: null, steps: 0, at: [], logPx: [], vlb: [] };
const RATE = 0.1;

function startSleeper() {
  const K = 3;
  const small = () => 0.4 * (Math.random() - 0.5);
  const pixelsOf = given.rows[0];
  sleeper.model = { logits: Array.from({ length: K }, () => 0), layers: [{ weights: Array.from({ length: K }, () => pixelsOf.map(small)), biases: pixelsOf.map(() => 0) }] };
  sleeper.encoder = { weights: pixelsOf.map(() => Array.from({ length: K }, small)), biases: Array.from({ length: K }, () => 0) };
  Object.assign(sleeper, { steps: 0, at: [], logPx: [], vlb: [] });
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
  sleeper.at.push(sleeper.steps);
  sleeper.logPx.push(sum(parts.map((part) => part.logPx)) / parts.length);
  sleeper.vlb.push(sum(parts.map((part) => part.vlb)) / parts.length);
  showSleeper();
}

function showSleeper() {
    const lines = [{ class: "first", values: sleeper.logPx }, { class: "second", values: sleeper.vlb }];
  const said = `mean log p(x) ${short(lastOf(sleeper.logPx))}, mean VLB ${short(lastOf(sleeper.vlb))}, between them KL ${short(lastOf(sleeper.logPx) - lastOf(sleeper.vlb))}`;
  curves(at("wake-sleep-picture"), lines, `Wake-sleep: ${said}`, `steps, 0 to ${sleeper.steps}`, { steps: sleeper.at });
  at("wake-sleep-now").textContent = `After ${sleeper.steps} steps, exactly: ${said} (log p(x) solid, VLB dashed).`;
}

function oneStep(step, words) {
  const { x, z, expected } = step();
  sleeper.steps += 1;
  words(x, z, expected);
  judgeSleeper();
}

function wakeSleep() {
  at("wake").addEventListener("click", () => oneStep(wake, (x, z, expected) => {
    at("wake-sleep-said").textContent = `Wake: from this picture q drew z = ${z.join("")}; the decoder expected the pixels that are shown, and moves by the differences.`;
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
  window.addEventListener("resize", showSleeper);
  startSleeper();
}

// The runs that were made with the page, all on one scale.
function showRun() {
  const chosen = given.runs[Number(at("run").value) || 0];
  const last = chosen.logPx.length;
  const said = `${chosen.name}: after ${last} passes log p(x) ${short(lastOf(chosen.logPx))}, VLB ${short(lastOf(chosen.vlb))}, KL ${short(lastOf(chosen.logPx) - lastOf(chosen.vlb))}`;
  const others = given.runs.filter((run) => run !== chosen).map((run) => ({ class: "other", values: run.logPx }));
  const scale = given.runs.flatMap((run) => run.vlb);
  curves(at("run-picture"), [...others, { class: "first", values: chosen.logPx }, { class: "second", values: chosen.vlb }], said, `passes, 1 to ${last}`, { scale });
  at("run-said").textContent = `${said} nats, means over ${chosen.rows} pictures.`;
}

function runs() {
  at("run").replaceChildren(...given.runs.map((run, n) => element("option", { value: n }, run.name)));
  at("run").addEventListener("change", showRun);
  window.addEventListener("resize", showRun);
  at("run-table").replaceChildren(...given.runs.map(({ name, logPx, vlb }) => element("tr", {}, element("th", { scope: "row" }, name),
    ...[lastOf(logPx), lastOf(vlb), lastOf(logPx) - lastOf(vlb)].map((value) => element("td", {}, nats(value))))));
  showRun();
}

// The example of explaining away over all x that it can dream, 0 and 1: each divergence, and the q that is best for it.
const dreamer = { model: copy(given.away.model), q: null, met: null, dreams: 0 };

// For each x: p(x), and the two best q.
function bothBest(model) {
  return [0, 1].map((bit) => {
    const sums = enumerate(model, [bit]);
    return { sums, share: Math.exp(sums.logPx), bound: bestFactorised(sums, 2), sleep: posteriorMeans(sums).map(logitOf) };
  });
}
const logitOf = (mean) => logit(Math.min(Math.max(mean, 1e-15), 1 - 1e-15));
const overDreams = (cases, divergence) => sum(cases.map((each, bit) => each.share * divergence(each, bit)));

const fine = (value) => nats(value, 4);

function showDivergences() {
  const cases = bothBest(dreamer.model);
  const row = (name, q) => element("tr", {}, element("th", { scope: "row" }, name),
    ...[0, 1].map((bit) => element("td", {}, q(cases[bit], bit).map((a) => sigmoid(a).toFixed(3)).join(", "))),
    element("td", {}, fine(overDreams(cases, (each, bit) => decompose(each.sums, q(each, bit)).kl))),
    element("td", {}, fine(overDreams(cases, (each, bit) => inclusive(each.sums, q(each, bit))))));
  at("divergence-table").replaceChildren(
    row("best for the bound", (each) => each.bound), row("best for sleep", (each) => each.sleep),
    row("learnt by dreams", (_, bit) => dreamer.q[bit]));
  at("dream-said").textContent = dreamer.dreams === 0
    ? `Nothing dreamt yet. p(x = 1) = ${cases[1].share.toFixed(4)}.`
    : `${dreamer.dreams} dreams, ${dreamer.met[1]} of them with x = 1; p(x = 1) = ${cases[1].share.toFixed(4)}.`;
}

// The sleep phase for a q that is a table: z and x from the model; the phi of this x moves towards this z, by the delta
// rule with the rate 1 / (dreams with this x), which makes it their mean.
function dream(times) {
  for (let n = 0; n < times; n++) {
    const z = draw(dreamer.model.logits);
    const [bit] = draw(decode(dreamer.model, z));
    dreamer.met[bit] += 1;
    dreamer.q[bit] = dreamer.q[bit].map((a, k) => logitOf(sigmoid(a) + (z[k] - sigmoid(a)) / (dreamer.met[bit] + 1)));
  }
  dreamer.dreams += times;
  showDivergences();
}

function forget() {
  Object.assign(dreamer, { q: [[0, 0], [0, 0]], met: [0, 0], dreams: 0 });
  showDivergences();
}

function divergences() {
  slider(at("divergence-sliders"), "cause", ["weight"], [0, 16, 0.1], dreamer.model.layers[0].weights[0][0], (w) => {
    dreamer.model.layers[0].weights = [[w], [w]];
    forget();
  });
  slider(at("divergence-sliders"), "rarity", ["β"], [0.01, 0.99, 0.01], sigmoid(dreamer.model.logits[0]), (p) => {
    dreamer.model.logits = [logit(p), logit(p)];
    forget();
  });
  at("dream").addEventListener("click", () => dream(1000));
  forget();
}
