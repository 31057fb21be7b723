// What the sum costs.
"use strict";

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
    const rows = given.runs[0].rows;
    at("cost-said").textContent = `K = ${K}: ${(2n ** BigInt(K)).toLocaleString("en")} terms, ${spoken(time(K))} for one picture; 100 passes of learning over ${rows} pictures: ${spoken(100 * rows * time(K))}`;
    const words = `Time of the sum against K on a logarithmic scale: ${spoken(time(8))} at K = 8, ${spoken(time(32))} at K = 32, ${spoken(time(64))} at K = 64`;
    const every = width() > 500 ? 8 : 16;
    chart(at("cost-picture"), width(), height, words, [
      ...names.flatMap(([t, name]) => [
        drawn("line", { x1: 60, x2: width() - 20, y1: y(t), y2: y(t), class: "faint" }),
        small({ x: 54, y: y(t) + 4, "text-anchor": "end" }, name),
      ]),
      drawn("line", { x1: x(1), y1: y(time(1)), x2: x(64), y2: y(time(64)), class: "curve first" }),
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
