// Drawing from the model: z, p(x|z), x.
"use strict";

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
