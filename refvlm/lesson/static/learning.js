// Maximum likelihood, step by step.
"use strict";

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
  const words = `Mean log p(x) after ${ascent.length - 1} steps: gradient ascent ${short(lastOf(ascent))}, generalised EM ${short(lastOf(em))}`;
  curves(at("learn-picture"), [{ class: "first", values: ascent }, { class: "second", values: em }], words, `steps, 0 to ${ascent.length - 1}`);
  at("learn-said").textContent = `After ${ascent.length - 1} steps the mean of log p(x) is ${short(lastOf(ascent))} by gradient ascent (solid) and ${short(lastOf(em))} by generalised EM (dashed).`;
  figures(at("learn-codes"), codes(2).map((z) => [decode(learner.ascent, z).map(sigmoid), `z = ${z.join("")}`]));
}

function learning() {
  at("learn-one").addEventListener("click", () => learn(1));
  at("learn-many").addEventListener("click", () => learn(50));
  at("learn-again").addEventListener("click", startLearning);
  const showRate = () => (at("learn-rate-said").textContent = at("learn-rate").value);
  at("learn-rate").addEventListener("input", showRate);
  window.addEventListener("resize", showLearning);
  showRate();
  startLearning();
}
