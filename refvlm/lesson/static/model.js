// A Bernoulli latent variable model with K latent bits, by enumeration, as the equations are written.
//
// A model is { logits: K numbers, layers: [{ weights: fan_in rows of fan_out numbers, biases }], activation }, all of it
// plain arrays; q is K logits. The page computes with this; a test holds it against refvlm.
"use strict";

const sigmoid = (a) => (a >= 0 ? 1 / (1 + Math.exp(-a)) : Math.exp(a) / (1 + Math.exp(a)));
const logSigmoid = (a) => Math.min(a, 0) - Math.log1p(Math.exp(-Math.abs(a)));
const sum = (values) => values.reduce((total, value) => total + value, 0);

// Row c of the table over {0,1}^K holds z_k = (c >> k) & 1.
const code = (c, K) => Array.from({ length: K }, (_, k) => (c >> k) & 1);
const codes = (K) => Array.from({ length: 1 << K }, (_, c) => code(c, K));

// log of a product of Bernoullis with these logits at these bits: eqs. (1), (2) and (4).
const logBernoulli = (bits, logits) => sum(bits.map((bit, k) => logSigmoid(bit ? logits[k] : -logits[k])));

const activations = {
  tanh: Math.tanh, sigmoid, relu: (a) => Math.max(a, 0), leaky_relu: (a) => (a > 0 ? a : 0.01 * a),
  elu: (a) => (a > 0 ? a : Math.expm1(a)), softplus: (a) => -logSigmoid(-a), silu: (a) => a * sigmoid(a),
};

// The decoder: logits of x given z.
function decode(model, z) {
  let units = z;
  model.layers.forEach(({ weights, biases }, depth) => {
    units = biases.map((bias, j) => units.reduce((a, unit, i) => a + unit * weights[i][j], bias));
    if (depth < model.layers.length - 1) units = units.map(activations[model.activation]);
  });
  return units;
}

const logSumExp = (values) => {
  const most = Math.max(...values);
  return most + Math.log(sum(values.map((value) => Math.exp(value - most))));
};

// For every code z: log p(z), eq. (1), unless it is given; log p(x|z), eq. (2); log p(x, z). And log p(x), eq. (3);
// p(z|x), eq. (6).
function enumerate(model, x, logPriors = codes(model.logits.length).map((z) => logBernoulli(z, model.logits))) {
  const K = Math.log2(logPriors.length);
  const table = logPriors.map((logPrior, c) => {
    const z = code(c, K);
    const logLikelihood = logBernoulli(x, decode(model, z));
    return { z, logPrior, logLikelihood, logJoint: logPrior + logLikelihood };
  });
  const logPx = logSumExp(table.map((row) => row.logJoint));
  table.forEach((row) => (row.posterior = Math.exp(row.logJoint - logPx)));
  return { table, logPx };
}

// The terms of eq. (10), the VLB, KL of eq. (7) by a sum over the posterior, and what is left of eq. (8).
function decompose({ table, logPx }, q) {
  let [prior, reconstruction, entropy, kl] = [0, 0, 0, 0];
  for (const row of table) {
    const logQ = logBernoulli(row.z, q);
    const weight = Math.exp(logQ);
    prior += weight * row.logPrior;
    reconstruction += weight * row.logLikelihood;
    entropy -= weight * logQ;
    kl += weight * (logQ - (row.logJoint - logPx));
  }
  const vlb = prior + reconstruction + entropy;
  return { prior, reconstruction, entropy, vlb, kl, logPx, residual: logPx - (vlb + kl) };
}

// Mean field: each logit of q in turn where the VLB is best, the others fixed: E[log p(x, z_k = 1) - log p(x, z_k = 0)].
function ascend({ table }, start, sweeps = 500) {
  const q = [...start];
  for (let sweep = 0; sweep < sweeps; sweep++) {
    let moved = 0;
    q.forEach((before, k) => {
      const on = q.map(sigmoid);
      let logit = 0;
      table.forEach((row, c) => {
        if (row.z[k] === 0) {
          const others = on.reduce((share, p, j) => (j === k ? share : share * (row.z[j] ? p : 1 - p)), 1);
          logit += others * (table[c | (1 << k)].logJoint - row.logJoint);
        }
      });
      q[k] = Math.max(-40, Math.min(40, logit));
      moved = Math.max(moved, Math.abs(sigmoid(q[k]) - sigmoid(before)));
    });
    if (moved < 1e-10) break;
  }
  return q;
}

// The best factorised q: the best of ascents from a grid of starts.
function bestFactorised(sums, K) {
  let best = null;
  for (const corner of codes(K)) {
    const q = ascend(sums, corner.map((bit) => (bit ? 2 : -2)));
    const { vlb } = decompose(sums, q);
    if (best === null || vlb > best.vlb) best = { q, vlb };
  }
  return best.q;
}

// KL(p(z|x) || q), the inclusive one; its best factorised q has the posterior's means.
const inclusive = ({ table, logPx }, q) =>
  sum(table.map((row) => (row.posterior > 0 ? row.posterior * (row.logJoint - logPx - logBernoulli(row.z, q)) : 0)));
const posteriorMeans = ({ table }) => table[0].z.map((_, k) => sum(table.map((row) => row.posterior * row.z[k])));

// What eq. (5) computes where it is printed with q in place of the prior: the log of the mean of p(x|z) under q.
const asPrinted = ({ table }, q) => logSumExp(table.map((row) => row.logLikelihood + logBernoulli(row.z, q)));

// For a decoder without hidden units: the gradient of the mean over rows of sum_z share(z, x) log p(x, z). With the
// posterior as shares that is the gradient of the mean of log p(x), eq. (5).
function gradient(model, rows, shares) {
  const K = model.logits.length;
  const [{ weights, biases }] = model.layers;
  const slopes = { logits: model.logits.map(() => 0), weights: weights.map((row) => row.map(() => 0)), biases: biases.map(() => 0) };
  codes(K).forEach((z, c) => {
    const means = decode(model, z).map(sigmoid);
    rows.forEach((x, n) => {
      const share = shares[n][c] / rows.length;
      z.forEach((bit, k) => { slopes.logits[k] += share * (bit - sigmoid(model.logits[k])); });
      means.forEach((mean, i) => {
        const excess = share * (x[i] - mean);
        slopes.biases[i] += excess;
        z.forEach((bit, k) => { slopes.weights[k][i] += bit * excess; });
      });
    });
  });
  return slopes;
}

const posteriors = (model, rows) => rows.map((x) => enumerate(model, x).table.map((row) => row.posterior));
const meanLogPx = (model, rows) => sum(rows.map((x) => enumerate(model, x).logPx)) / rows.length;

// The model after a step of this size along a gradient.
const moved = (model, slopes, size) => ({
  ...model,
  logits: model.logits.map((a, k) => a + size * slopes.logits[k]),
  layers: [{
    weights: model.layers[0].weights.map((row, k) => row.map((w, i) => w + size * slopes.weights[k][i])),
    biases: model.layers[0].biases.map((b, i) => b + size * slopes.biases[i]),
  }],
});

// A step of gradient ascent on the mean of log p(x).
const ascentStep = (model, rows, size) => moved(model, gradient(model, rows, posteriors(model, rows)), size);

// A step of generalised EM: shares once; then the prior that fits them exactly, and steps of the decoder, each halved
// until the mean of log p(x, z) under the shares does not fall.
function emStep(model, rows, size, steps = 5) {
  const shares = posteriors(model, rows);
  const all = codes(model.logits.length);
  const expected = (each) => sum(rows.map((x, n) => sum(all.map((z, c) => shares[n][c] * (logBernoulli(z, each.logits) + logBernoulli(x, decode(each, z))))))) / rows.length;
  const means = model.logits.map((_, k) => sum(rows.map((_, n) => sum(all.map((z, c) => shares[n][c] * z[k])))) / rows.length);
  let now = { ...model, logits: means.map((mean) => Math.max(-30, Math.min(30, Math.log(mean / (1 - mean))))) };
  for (let step = 0; step < steps; step++) {
    const slopes = { ...gradient(now, rows, shares), logits: now.logits.map(() => 0) };
    for (let length = size; length > 1e-6; length /= 2) {
      const next = moved(now, slopes, length);
      if (expected(next) >= expected(now)) { now = next; break; }
    }
  }
  return now;
}

// Wake-sleep for a decoder and an encoder without hidden units; the encoder is { weights: L rows of K, biases }.
const encode = (encoder, x) => decode({ layers: [encoder] }, x);

// Wake: the slopes of log p(x, z) for this pair, each input times the difference between what is and what was expected.
function wakeSlopes(model, x, z) {
  const excess = decode(model, z).map((a, i) => x[i] - sigmoid(a));
  return {
    logits: z.map((bit, k) => bit - sigmoid(model.logits[k])),
    weights: z.map((bit) => excess.map((each) => bit * each)),
    biases: excess,
  };
}

// Sleep: the slopes of log q(z; phi(x)) for a dream.
function sleepSlopes(encoder, x, z) {
  const excess = encode(encoder, x).map((a, k) => z[k] - sigmoid(a));
  return { weights: x.map((bit) => excess.map((each) => bit * each)), biases: excess };
}

const movedEncoder = (encoder, slopes, size) => ({
  weights: encoder.weights.map((row, i) => row.map((w, k) => w + size * slopes.weights[i][k])),
  biases: encoder.biases.map((b, k) => b + size * slopes.biases[k]),
});

const draw = (logits) => logits.map((a) => (Math.random() < sigmoid(a) ? 1 : 0));
