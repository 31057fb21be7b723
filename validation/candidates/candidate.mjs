// A candidate in JavaScript for Node.js, without packages: plain loops over all codes, gradients by hand.
//
//     refvlm conform -- node validation/candidates/candidate.mjs [--wrong]
//
// Shallow models; deep ones are answered with "unsupported". --wrong sums in single precision.

import { createInterface } from 'node:readline';

const WRONG = process.argv[2] === '--wrong';
if (process.argv.length > (WRONG ? 3 : 2)) {
  console.error('usage: candidate.mjs [--wrong]');
  process.exit(2);
}

// Tensors: {shape, data} ------------------------------------------------------------------------------------------

const view = new DataView(new ArrayBuffer(8));

function decode(tensor) {
  const data = tensor.f64.map((digits) => {
    view.setBigUint64(0, BigInt('0x' + digits));
    return view.getFloat64(0);
  });
  return { shape: tensor.shape, data };
}

function encode(shape, data) {
  const f64 = Array.from(data, (value) => {
    view.setFloat64(0, value);
    return view.getBigUint64(0).toString(16).padStart(16, '0').toUpperCase();
  });
  return { shape, f64 };
}

const row = (tensor, n) => tensor.data.slice(n * tensor.shape[1], (n + 1) * tensor.shape[1]);

class Refusal extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

const want = (sound, message, code = 'shape') => {
  if (!sound) throw new Refusal(code, message);
};

// Bernoulli units and networks ------------------------------------------------------------------------------------

const sigmoid = (a) => {
  const small = Math.exp(-Math.abs(a));
  return (a >= 0 ? 1 : small) / (1 + small);
};
const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));
const add = WRONG ? (a, b) => Math.fround(a + b) : (a, b) => a + b;
const sum = (values) => values.reduce(add, 0);

const logBernoulli = (bits, logits) => sum(bits.map((bit, i) => -softplus(bit === 1 ? -logits[i] : logits[i])));

const ACTIVATIONS = {
  tanh: [Math.tanh, (h) => 1 - h * h],
  relu: [(a) => (a > 0 ? a : 0), (h) => (h > 0 ? 1 : 0)],
  sigmoid: [sigmoid, (h) => h * (1 - h)],
};

class Network {
  constructor({ activation, parameters }, prefix) {
    [this.activate, this.slope] = ACTIVATIONS[activation];
    this.prefix = prefix;
    this.layers = [];
    for (let d = 0; `${prefix}weights.${d}` in parameters; d++) {
      const weights = decode(parameters[`${prefix}weights.${d}`]);
      const biases = decode(parameters[`${prefix}biases.${d}`]);
      const [fanIn, fanOut] = weights.shape;
      const follows = d === 0 || this.layers[d - 1].fanOut === fanIn;
      want(weights.shape.length === 2 && follows && biases.shape.length === 1 && biases.shape[0] === fanOut,
        `${prefix}weights.${d} does not follow on`);
      this.layers.push({ fanIn, fanOut, weights: weights.data, biases: biases.data });
    }
    this.fanIn = this.layers[0].fanIn;
    this.fanOut = this.layers.at(-1).fanOut;
  }

  finite() {
    return this.layers.every((layer) => [...layer.weights, ...layer.biases].every(Number.isFinite));
  }

  // What enters each layer, and last the logits.
  forward(input) {
    const hidden = [input];
    this.layers.forEach(({ fanIn, fanOut, weights, biases }, d) => {
      const h = hidden[d];
      const a = Array.from({ length: fanOut }, (_, j) => {
        let total = biases[j];
        for (let i = 0; i < fanIn; i++) total = add(total, h[i] * weights[i * fanOut + j]);
        return total;
      });
      hidden.push(d < this.layers.length - 1 ? a.map(this.activate) : a);
    });
    return hidden;
  }

  logits(input) {
    return this.forward(input).at(-1);
  }

  zeros() {
    return this.layers.map(({ fanIn, fanOut }) => ({
      weights: new Array(fanIn * fanOut).fill(0),
      biases: new Array(fanOut).fill(0),
    }));
  }

  // Add d/d parameters for d/d logits.
  backward(gradient, input, slopes) {
    const hidden = this.forward(input);
    for (let d = this.layers.length - 1; d >= 0; d--) {
      const { fanIn, fanOut, weights } = this.layers[d];
      const below = new Array(fanIn).fill(0);
      for (let i = 0; i < fanIn; i++) {
        for (let j = 0; j < fanOut; j++) {
          gradient[d].weights[i * fanOut + j] = add(gradient[d].weights[i * fanOut + j], hidden[d][i] * slopes[j]);
          below[i] = add(below[i], weights[i * fanOut + j] * slopes[j]);
        }
        if (d > 0) below[i] *= this.slope(hidden[d][i]);
      }
      slopes.forEach((slope, j) => { gradient[d].biases[j] = add(gradient[d].biases[j], slope); });
      slopes = below;
    }
  }

  named(prefix, gradient) {
    const named = {};
    this.layers.forEach(({ fanIn, fanOut }, d) => {
      named[`${prefix}weights.${d}`] = encode([fanIn, fanOut], gradient[d].weights);
      named[`${prefix}biases.${d}`] = encode([fanOut], gradient[d].biases);
    });
    return named;
  }

  // The parameters after a step uphill, in the place of the gradient.
  step(gradient, rate) {
    this.layers.forEach((layer, d) => {
      for (const part of ['weights', 'biases']) {
        gradient[d][part] = layer[part].map((value, i) => value + rate * gradient[d][part][i]);
      }
    });
    return gradient;
  }
}

// The question ----------------------------------------------------------------------------------------------------

const times = (weight, value) => (weight > 0 ? weight * value : 0);

function logSumExp(values) {
  const most = Math.max(...values);
  return most + Math.log(sum(values.map((value) => Math.exp(value - most))));
}

class Question {
  constructor({ model, posterior, inputs }) {
    if (!('prior.logits' in model.parameters)) throw new Refusal('unsupported', 'deep models');
    this.decoder = new Network(model, 'decoder.');
    this.K = this.decoder.fanIn;
    this.L = this.decoder.fanOut;
    const prior = decode(model.parameters['prior.logits']);
    want(prior.shape.length === 1 && prior.shape[0] === this.K, 'prior.logits do not fit the decoder');
    this.beta = prior.data;
    if (posterior) {
      this.encoder = new Network(posterior, 'encoder.');
      want(this.encoder.fanIn === this.L && this.encoder.fanOut === this.K, 'the encoder does not fit the decoder');
    }
    this.inputs = Object.fromEntries(Object.entries(inputs).map(([name, value]) => [name, decode(value)]));
    this.check();
    this.codes = Array.from({ length: 1 << this.K }, (_, c) => Array.from({ length: this.K }, (_, k) => (c >> k) & 1));
    this.logPriors = this.codes.map((z) => logBernoulli(z, this.beta));
    this.tables = this.codes.map((z) => this.decoder.logits(z));
  }

  check() {
    const rows = {};
    for (const [name, { shape }] of Object.entries(this.inputs)) {
      if (name === 'learning_rate') continue;
      const columns = name.endsWith('x') ? this.L : this.K;
      want(shape.length === 2 && shape[1] === columns, `${name} wants ${columns} columns`);
      const kind = name.startsWith('uniforms') ? 'dreams' : 'rows';
      rows[kind] ??= shape[0];
      want(rows[kind] === shape[0], `${name} has another number of rows`);
    }
    want(this.decoder.finite() && (!this.encoder || this.encoder.finite()), 'a parameter is not finite', 'domain');
    want(!this.beta.some(Number.isNaN), 'a prior logit is NaN', 'domain');
    for (const [name, { data }] of Object.entries(this.inputs)) {
      if (name === 'x' || name === 'z') want(data.every((b) => b === 0 || b === 1), `${name} is not 0 or 1`, 'domain');
      if (name.includes('uniforms')) want(data.every((u) => u >= 0 && u < 1), `${name} is outside [0, 1)`, 'domain');
    }
  }

  rows(name) {
    const tensor = this.inputs[name];
    return Array.from({ length: tensor.shape[0] }, (_, n) => row(tensor, n));
  }

  joints(x) {
    return this.codes.map((_, c) => add(logBernoulli(x, this.tables[c]), this.logPriors[c]));
  }

  // For each row: log p(x, z) and log q(z) of every code.
  recognised() {
    return this.rows('x').map((x) => {
      const phi = this.encoder.logits(x);
      return { x, phi, joints: this.joints(x), logQ: this.codes.map((z) => logBernoulli(z, phi)) };
    });
  }

  vector(values) {
    return encode([values.length], values);
  }

  log_prior() { return this.vector(this.rows('z').map((z) => logBernoulli(z, this.beta))); }

  likelihoods() {
    const z = this.rows('z');
    return this.rows('x').map((x, n) => logBernoulli(x, this.decoder.logits(z[n])));
  }

  log_likelihood() { return this.vector(this.likelihoods()); }

  log_joint() {
    const z = this.rows('z');
    return this.vector(this.likelihoods().map((value, n) => add(value, logBernoulli(z[n], this.beta))));
  }

  log_marginal() { return this.vector(this.rows('x').map((x) => logSumExp(this.joints(x)))); }

  posteriorOf(x) {
    const joints = this.joints(x);
    const logPx = logSumExp(joints);
    return joints.map((joint) => Math.exp(joint - logPx));
  }

  posterior() {
    const table = this.rows('x').flatMap((x) => this.posteriorOf(x));
    return encode([this.inputs.x.shape[0], this.codes.length], table);
  }

  posterior_mean() {
    const means = this.rows('x').flatMap((x) => {
      const p = this.posteriorOf(x);
      return this.beta.map((_, k) => sum(p.map((weight, c) => weight * this.codes[c][k])));
    });
    return encode([this.inputs.x.shape[0], this.K], means);
  }

  terms() {
    return this.recognised().map(({ x, logQ }) => {
      const q = logQ.map(Math.exp);
      return [
        sum(q.map((weight, c) => times(weight, this.logPriors[c]))),
        sum(q.map((weight, c) => times(weight, logBernoulli(x, this.tables[c])))),
        -sum(q.map((weight, c) => times(weight, logQ[c]))),
      ];
    });
  }

  vlb_terms() {
    const terms = this.terms();
    const [prior, reconstruction, entropy] = [0, 1, 2].map((i) => this.vector(terms.map((row) => row[i])));
    return { prior, reconstruction, entropy };
  }

  vlb() { return this.vector(this.terms().map((terms) => sum(terms))); }

  kl() {
    return this.vector(this.recognised().map(({ joints, logQ }) => {
      const logPx = logSumExp(joints);
      return sum(logQ.map((l, c) => times(Math.exp(l), l - joints[c] + logPx)));
    }));
  }

  // Add weight * d log p(x, z).
  addJoint(gradient, x, z, weight) {
    const a = this.decoder.logits(z);
    this.decoder.backward(gradient.decoder, z, x.map((bit, i) => weight * (bit - sigmoid(a[i]))));
    this.beta.forEach((b, k) => {
      if (Number.isFinite(b)) gradient.prior[k] = add(gradient.prior[k], weight * (z[k] - sigmoid(b)));
    });
  }

  zeros() { return { prior: new Array(this.K).fill(0), decoder: this.decoder.zeros() }; }

  namedModel(prefix, gradient) {
    const above = { [`${prefix}prior.logits`]: encode([this.K], gradient.prior) };
    return { ...above, ...this.decoder.named(`${prefix}decoder.`, gradient.decoder) };
  }

  grad_log_marginal() {
    const gradient = this.zeros();
    for (const x of this.rows('x')) this.posteriorOf(x).forEach((p, c) => this.addJoint(gradient, x, this.codes[c], p));
    return this.namedModel('', gradient);
  }

  grad_vlb() {
    const [gradient, recognition] = [this.zeros(), this.encoder.zeros()];
    for (const { x, phi, joints, logQ } of this.recognised()) {
      const slopes = new Array(this.K).fill(0);
      logQ.forEach((l, c) => {
        const q = Math.exp(l);
        this.addJoint(gradient, x, this.codes[c], q);
        this.codes[c].forEach((bit, k) => {
          slopes[k] = add(slopes[k], times(q, joints[c] - l) * (bit - sigmoid(phi[k])));
        });
      });
      this.encoder.backward(recognition, x, slopes);
    }
    return { ...this.namedModel('model.', gradient), ...this.encoder.named('posterior.encoder.', recognition) };
  }

  fire(uniforms, logits) { return uniforms.map((u, i) => (u < sigmoid(logits[i]) ? 1 : 0)); }

  dreams() {
    const x = this.rows('uniforms_x');
    return this.rows('uniforms_z').map((u, s) => {
      const z = this.fire(u, this.beta);
      return { z, x: this.fire(x[s], this.decoder.logits(z)) };
    });
  }

  sample() {
    const dreams = this.dreams();
    return {
      x: encode([dreams.length, this.L], dreams.flatMap((dream) => dream.x)),
      z: encode([dreams.length, this.K], dreams.flatMap((dream) => dream.z)),
    };
  }

  wake_step() {
    const [gradient, xs, us] = [this.zeros(), this.rows('x'), this.rows('wake_uniforms_z')];
    xs.forEach((x, n) => this.addJoint(gradient, x, this.fire(us[n], this.encoder.logits(x)), 1));
    const rate = this.inputs.learning_rate.data[0] / xs.length;
    this.decoder.step(gradient.decoder, rate);
    gradient.prior = this.beta.map((b, k) => b + rate * gradient.prior[k]);
    return this.namedModel('', gradient);
  }

  sleep_step() {
    const [gradient, dreams] = [this.encoder.zeros(), this.dreams()];
    for (const { x, z } of dreams) {
      const phi = this.encoder.logits(x);
      this.encoder.backward(gradient, x, z.map((bit, k) => bit - sigmoid(phi[k])));
    }
    return this.encoder.named('encoder.', this.encoder.step(gradient, this.inputs.learning_rate.data[0] / dreams.length));
  }
}

// The conversation ------------------------------------------------------------------------------------------------

const quantities = ['log_prior', 'log_likelihood', 'log_joint', 'log_marginal', 'posterior', 'posterior_mean',
  'vlb_terms', 'vlb', 'kl', 'grad_log_marginal', 'grad_vlb', 'sample', 'wake_step', 'sleep_step'];
const implementation = { name: 'node candidate', version: process.version, language: 'JavaScript', precision: 'float64' };

function outcome(message) {
  try {
    return { result: new Question(message)[message.quantity]() };
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { error: { code: error.code, message: error.message } };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const message = JSON.parse(line);
  if (message.op === 'stop') break;
  const answer = message.op === 'start' ? { implementation, quantities } : outcome(message);
  process.stdout.write(JSON.stringify({ seq: message.seq, ...answer }) + '\n');
}
