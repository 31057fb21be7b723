// The Helmholtz machine with two layers of latents: fantasies from the top, receptive fields, recognition.
"use strict";

const machine = {
  model: given.deep.model,
  encoder: given.deep.encoders,
  upper: upstairs(given.deep.model.prior, given.deep.encoders[1]),
  z2: [], z1: [], x: [],
};
const layerName = (layer, k) => [element("i", {}, "z"), element("sup", {}, `(${layer})`), element("sub", {}, `${k + 1}`)];

// Columns of probabilities of the units, with a filled dot in the name of those that were drawn.
const unitNames = (bits) => bits.map((bit, k) => `${k + 1} ${bit ? "●" : "○"}`);

// Fantasies: from the top down, each floor moved by hand or drawn.
function fantasies() {
  const { model } = machine;
  const [K1, K2] = [model.prior.layers[0].biases.length, model.prior.logits.length];
  const bitBoxes = (place, layer, count, moved) => many(count, (k) => {
    const box = element("input", { type: "checkbox", id: `layer-${layer}-${k}` });
    box.addEventListener("change", () => moved(k, box.checked ? 1 : 0));
    at(place).append(element("label", { for: box.id }, box, ...layerName(layer, k)));
    return box;
  });
  const show = () => {
    boxes2.forEach((box, k) => (box.checked = machine.z2[k] === 1));
    boxes1.forEach((box, k) => (box.checked = machine.z1[k] === 1));
    const units = decode(model.prior, machine.z2).map(sigmoid);
    columns(at("fantasy-units"), unitNames(machine.z1), [{ class: "vlb", values: units }], `p of z(1) given z(2), unit by unit: ${units.map(percent).join(", ")}; drawn: ${codeName(machine.z1)}`);
    const means = decode(model, machine.z1).map(sigmoid);
    pixels(at("fantasy-mean"), means, `probabilities of the pixels, from ${percent(Math.min(...means))} to ${percent(Math.max(...means))}`);
    pixels(at("fantasy-x"), machine.x, `the fantasy, row by row: ${wordsOf(machine.x, given.shape[1])}`);
    const top = Math.exp(logBernoulli(machine.z2, model.prior.logits));
    const below = Math.exp(logBernoulli(machine.z1, decode(model.prior, machine.z2)));
    at("fantasy-said").textContent = `The prior draws this top, ${codeName(machine.z2)}, with probability ${percent(top)}; from it ${codeName(machine.z1)} is drawn with ${percent(below)}.`;
    if (at("recognise-row").value === "fantasy") recognise();
  };
  const drawX = () => { machine.x = draw(decode(model, machine.z1)); show(); };
  const drawZ1 = () => { machine.z1 = draw(decode(model.prior, machine.z2)); drawX(); };
  const drawZ2 = () => { machine.z2 = draw(model.prior.logits); drawZ1(); };
  const boxes2 = bitBoxes("fantasy-top", 2, K2, (k, bit) => { machine.z2[k] = bit; drawZ1(); });
  const boxes1 = bitBoxes("fantasy-middle", 1, K1, (k, bit) => { machine.z1[k] = bit; drawX(); });
  at("fantasy-z2").addEventListener("click", drawZ2);
  at("fantasy-z1").addEventListener("click", drawZ1);
  at("fantasy-again").addEventListener("click", drawX);
  at("fantasy-many").addEventListener("click", () => {
    const dreams = many(12, () => draw(decode(model, draw(decode(model.prior, draw(model.prior.logits))))));
    for (const [place, pictures, word] of [["fantasy-gallery", dreams, "fantasy"], ["fantasy-data", given.rows, "picture"]]) {
      figures(at(place), pictures.map((x, n) => [x, `${word} ${n + 1}`]));
    }
  });
  at("fantasy-recognise").addEventListener("click", () => {
    at("recognise-row").value = "fantasy";
    recognise();
    at("recognise-row").focus();
  });
  drawZ2();
  window.addEventListener("resize", show);
}

// What each unit paints: its weights to the pixels; for the top, the change of the expected picture.
function fields() {
  const { model } = machine;
  const strongest = (field) => field.reduce((most, value, i) => (Math.abs(value) > Math.abs(field[most]) ? i : most), 0);
  const show = (place, layer, all) => at(place).append(...all.map((field, k) => {
    const picture = element("div", { class: "grid" });
    const i = strongest(field);
    signed(picture, field, `unit ${k + 1} of layer ${layer}; strongest at pixel ${i + 1}: ${field[i].toFixed(2)}`);
    return element("figure", {}, picture, element("figcaption", {}, ...layerName(layer, k)));
  }));
  show("fields-1", 1, model.layers[0].weights);
  const pictures = picturesFromAbove(model);
  show("fields-2", 2, model.prior.logits.map((_, k) => topField(model, pictures, k)));
}

// Recognition: from x upwards, beside the exact posterior; where x was dreamt, beside the z that it was dreamt from.
function recognise() {
  const chosen = at("recognise-row").value;
  const dreamt = chosen === "fantasy";
  const x = dreamt ? machine.x : given.rows[Number(chosen)];
  const { model, upper, encoder } = machine;
  const parts = decomposeLayers(model, upper, encoder[0], x);
  const z1 = draw(parts.q);
  const z2 = draw(encode(encoder[1], z1));
  const remade = decode(model, z1).map(sigmoid);
  figures(at("recognise-pictures"), [[x, dreamt ? "x, a fantasy" : "x, from the data"], [remade, "p(x | z) of the z that q drew"]]);
  const truth = dreamt ? ` It was dreamt from ${codeName(machine.z1)} and ${codeName(machine.z2)}.` : "";
  at("recognise-said").textContent = `q drew ${codeName(z1)} for the layer next to x, and from that ${codeName(z2)} for the top.${truth}`;
  machine.shown = { ...parts, z1, residual: parts.logPx - (parts.vlb + parts.kl) };
  showUnits();
  for (const name of ["logPx", "vlb", "below", "above"]) at(`machine-${name}`).textContent = nats(parts[name]);
  at("machine-residual").textContent = machine.shown.residual.toExponential(1).replace("-", "−");
}

function showUnits() {
  const { q, means, z1 } = machine.shown;
  const phi = q.map(sigmoid);
  columns(at("recognise-units"), unitNames(z1), [{ class: "vlb", values: phi }, { class: "kl", values: means }],
    `z(1), unit by unit: q ${phi.map(percent).join(", ")}; posterior ${means.map(percent).join(", ")}; drawn by q: ${codeName(z1)}`);
}

function helmholtz() {
  at("recognise-row").replaceChildren(
    ...given.rows.map((_, n) => element("option", { value: n }, `picture ${n + 1}`)),
    element("option", { value: "fantasy" }, "the fantasy above"));
  fantasies();
  fields();
  at("recognise-row").addEventListener("change", recognise);
  at("recognise-again").addEventListener("click", recognise);
  window.addEventListener("resize", showUnits);
  recognise();
}
