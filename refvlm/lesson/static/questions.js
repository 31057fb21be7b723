// The questions after each section; what is right is computed.
"use strict";

const awaySums = () => enumerate(given.away.model, [1]);
const runOf = (name) => given.runs.find((each) => each.name === name);
const meanLost = (q) => sum(given.rows.map((x, n) => { const sums = enumerate(given.small, x); return decompose(sums, q(sums, n)).kl; })) / given.rows.length;
const exact = (right, because) => () => ({ right, digits: 6, because });

// By section: words, a hint, and what is right, within what, and why.
const QUESTIONS = {
  notation: [
    ["A logit is 2. Which probability is that, to two digits after the point?", "Put a = 2 into the logistic function.", () => ({ right: sigmoid(2), digits: 2, because: "1 / (1 + e⁻²)." })],
    ["What is the logarithm of the probability 0.5, in nats, to two digits after the point?", "It is the natural logarithm, and it is negative.", () => ({ right: Math.log(0.5), digits: 2, because: "log(1/2) = −log 2." })],
    ["How many codes are there for K = 5?", "Two values for each bit.", exact(2 ** 5, "2 · 2 · 2 · 2 · 2.")],
  ],
  latent: [
    ["Without any assumption, p(x) for L = 10 bits is a table. How many numbers of it can be chosen freely?", "One for each x, but they add up to 1.", exact(2 ** 10 - 1, "2 to the power of 10 values, and the last is what is missing to 1.")],
    ["And for L = 3 bits, of which two are always equal: how many of the eight values of x can occur?", "Two free bits.", exact(2 ** 2, "The third follows from the others.")],
  ],
  generate: [
    ["A pixel's logit is 0 for the z that was chosen. In how many of 100 pictures drawn from this z is it 1, on the average?", "Which probability has the logit 0?", exact(100 * sigmoid(0), "σ(0) = 1/2.")],
    ["Switch off all bits of z. With which probability does the prior draw this z, in percent, to one digit after the point?", "It is said below the pictures.", () => ({ right: 100 * Math.exp(logBernoulli(given.large.logits.map(() => 0), given.large.logits)), digits: 1, because: "The product of all 1 − β." })],
  ],
  sum: [
    [`This small model has K = ${given.small.logits.length}, L = ${given.small.layers[0].biases.length}, and a decoder without hidden units. How many parameters are that, with the prior's?`, "One for each bit of the prior, K times L weights, L biases.", () => {
      const [K, L] = [given.small.logits.length, given.small.layers[0].biases.length];
      return { right: K + K * L + L, digits: 0, because: "K + K L + L." };
    }],
    ["For the picture chosen: what is log p(x), to two digits after the point?", "It stands under the table.", () => ({ right: firstSums().logPx, digits: 2, because: "The logarithm of the sum of all eight terms." })],
    ["From which K on does the sum take more than a year on the machine that made this page?", "Move K, and read the time.", () => ({ right: Math.ceil(Math.log2(31557600 / given.cost.seconds)), digits: 0, because: "And one bit more takes two." })],
  ],
  learning: [
    ["In how many of 100 steps does generalised EM lower the mean of log p(x)?", "Try a hundred.", exact(0, "With the shares fixed, log p(x) rises by at least as much as what is maximised.")],
    ["One code has all the posterior of a picture. For a pixel that is 1 in the picture the decoder says 0.3 under this code. What is the slope of log p(x) in this pixel's bias?", "What is, less what was expected.", exact(1 - 0.3, "x minus its expectation, weighted with the share 1.")],
  ],
  posterior: [
    ["For some code log p(x|z) = −10 and log p(z) = −2, and log p(x) = −11.5. What is p(z|x), to two digits after the point?", "log p(z|x) = log p(x|z) + log p(z) − log p(x).", () => ({ right: Math.exp(-10 - 2 + 11.5), digits: 2, because: "e to the power of −0.5." })],
    ["Two codes explain x equally well, but the prior of the first is three times that of the second. How many times more likely is the first, given x?", "p(x|z) is the same for both.", exact(3, "In p(z|x) only the prior differs.")],
  ],
  identity: [
    ["You move a φ, and the VLB rises by 0.3 nats. By how much does KL change?", "Their sum, log p(x), does not depend on q.", exact(-0.3, "log p(x) stays, so KL falls by as much.")],
    ["The VLB is −23.5, its prior term −2, the entropy of q 1 nat. What is the reconstruction?", "The three terms add up to the VLB.", exact(-23.5 + 2 - 1, "−23.5 = −2 + (−22.5) + 1.")],
    ["In the example of explaining away: how many nats does the best factorised q leave, to two digits after the point?", "Choose the example, and press the button.", () => ({ right: decompose(awaySums(), bestFactorised(awaySums(), 2)).kl, digits: 2, because: "No q of independent bits does better." })],
  ],
  data: [
    ["The model as it was fitted, and q the prior: how many nats does the bound lose on the average, to one digit after the point?", "Press “start again” above, and choose the prior in the list.", () => ({ right: meanLost(() => given.small.logits), digits: 1, because: "That is the mean of KL(p(z) ‖ p(z|x))." })],
    ["And with the posterior of each picture as q?", "When is KL zero?", exact(0, "No q loses less than the posterior.")],
  ],
  "wake-sleep": [
    ["In a wake step a pixel is 1 and the decoder expected 0.8; z₁ is 1. By what is the weight from z₁ to that pixel moved, at a rate of 0.1?", "Rate times z times the difference.", exact(0.1 * (1 - 0.8), "0.1 · 1 · (1 − 0.8).")],
    ["In a sleep step the dream has this pixel at 1, and it came from z₁ = 0; the encoder said φ₁ = 0.3. By what is the weight from the pixel to φ₁ moved, at a rate of 0.1?", "What was dreamt, less what was expected.", exact(0.1 * (0 - 0.3), "0.1 · 1 · (0 − 0.3).")],
    ["How many nats is the VLB of wake-sleep below log p(x) at the end of its run above, to one digit after the point?", "It is the KL in the table.", () => ({ right: lastOf(runOf("wake-sleep").logPx) - lastOf(runOf("wake-sleep").vlb), digits: 1, because: "That is what its encoder misses." })],
  ],
  divergences: [
    ["Which φ₁ is best for sleep at x = 1 in the example as it is set at first, to two digits after the point?", "It is the posterior's mean of z₁.", () => ({ right: posteriorMeans(awaySums())[0], digits: 2, because: "The inclusive divergence is least at the posterior's means." })],
    ["A q gives no probability to a code that the posterior can have. How many of the two divergences are infinite?", "Under which of them is such a code ever looked at?", exact(1, "KL(p(z|x) ‖ q) is infinite, KL(q ‖ p(z|x)) never meets the code.")],
  ],
  helmholtz: [
    ["How many pairs of a z of the first layer and a z of the second does the exact log p(x) of this machine sum over?", "2 to the power of all its latent bits.", () => ({ right: 2 ** (given.deep.model.prior.logits.length + given.deep.model.layers[0].weights.length), digits: 0, because: "Every z of one layer with every z of the other." })],
    ["Recognition of a picture loses 0.4 nats in the layer next to x and 0.1 in the top. How far is the VLB below log p(x)?", "KL of both layers is what the VLB lacks.", exact(0.4 + 0.1, "KL of a chain is the sum, the upper one on the average over the lower.")],
  ],
  slips: [
    ["While q is the prior, how far is the sum of (5) as printed from log p(x)?", "Press “start again” above and compare.", exact(0, "Then it is eq. (3).")],
    ["For the picture chosen, under the model as it was fitted: by how many nats can the sum as printed exceed log p(x) at most, to one digit after the point?", "The largest log p(x|z) is in the table of the eight codes.", () => ({ right: Math.max(...firstSums().table.map((row) => row.logLikelihood)) - firstSums().logPx, digits: 1, because: "A q with all its mass on that code reaches it." })],
  ],
};

function questions() {
  for (const [section, asked] of Object.entries(QUESTIONS)) {
    const place = element("div", { class: "questions", id: `questions-${section}` }, element("h3", {}, "Questions"));
    ask(place, asked.map(([words, hint, answer]) => ({ words, hint, answer })));
    at(section).append(place);
  }
}
