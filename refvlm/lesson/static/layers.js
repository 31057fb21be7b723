// Two layers of latents, z2 above z1 above x, by enumeration: the prior of z1 is itself a model, as in model.js, and q
// is a chain of two encoders. { prior, layers, activation } and [{ weights, biases }, { weights, biases }].
"use strict";

// For every z1: eq. (8) one floor up, where z1 is what is observed. Its logPx is log p(z1).
const upstairs = (prior, encoder) =>
  codes(prior.layers[0].biases.length).map((z1) => decompose(enumerate(prior, z1), encode(encoder, z1)));

// Eq. (8) over both layers, encoder that of x: the VLB by its terms; the KL of each layer, q1's from p(z1|x), and the mean of q2's from
// p(z2|z1).
function decomposeLayers(model, upper, encoder, x) {
  const sums = enumerate(model, x, upper.map((each) => each.logPx));
  const q = encode(encoder, x);
  let [vlb, above] = [0, 0];
  sums.table.forEach((row, c) => {
    const logQ = logBernoulli(row.z, q);
    const weight = Math.exp(logQ);
    vlb += weight * (row.logLikelihood - logQ + upper[c].vlb);
    above += weight * upper[c].kl;
  });
  const below = decompose(sums, q).kl;
  return { logPx: sums.logPx, vlb, below, above, kl: below + above, q, means: posteriorMeans(sums) };
}

// E[x | z2] for every z2: over z1 from p(z1|z2), exactly.
function picturesFromAbove(model) {
  const means = codes(model.prior.layers[0].biases.length).map((z1) => ({ z1, mean: decode(model, z1).map(sigmoid) }));
  return codes(model.prior.logits.length).map((z2) => {
    const logits = decode(model.prior, z2);
    const shares = means.map(({ z1 }) => Math.exp(logBernoulli(z1, logits)));
    return means[0].mean.map((_, i) => means.reduce((total, { mean }, c) => total + shares[c] * mean[i], 0));
  });
}

// What bit k of the top adds to the picture on the average over the other bits of the top, drawn from the prior.
function topField(model, pictures, k) {
  const others = model.prior.logits.filter((_, j) => j !== k);
  const field = pictures[0].map(() => 0);
  codes(model.prior.logits.length).forEach((z2, c) => {
    const share = Math.exp(logBernoulli(z2.filter((_, j) => j !== k), others));
    pictures[c].forEach((mean, i) => { field[i] += (z2[k] ? share : -share) * mean; });
  });
  return field;
}
