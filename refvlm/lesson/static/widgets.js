// What every section is built of: elements, pictures, curves, sliders, questions.
"use strict";

const given = JSON.parse(document.getElementById("numbers").textContent);
const at = (id) => document.getElementById(id);
function nats(value, digits = 6) {
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const text = value.toFixed(digits);
  return (Number(text) === 0 ? text.replace("-", "") : text).replace("-", "−");
}
const short = (value) => nats(value, 3);
const percent = (value) => (value > 0 && value < 0.0005 ? "< 0.1\u00a0%" : `${(100 * value).toFixed(1)}\u00a0%`);
const copy = (value) => JSON.parse(JSON.stringify(value));
const logit = (p) => Math.log(p / (1 - p));
const lastOf = (values) => values[values.length - 1];

function element(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside);
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
function drawn(tag, attributes, text = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = text;
  return made;
}

// A chart as wide as its place allows: parts in a viewBox, and what it shows in words.
const room = (place) => Math.max(place.clientWidth, 240);
function chart(place, width, height, words, parts) {
  const picture = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words });
  picture.append(...parts);
  place.replaceChildren(picture);
}

// A picture of cells of one colour each, with a text alternative; framed: the number of one that is marked.
function mosaic(place, colours, words, [rows, columns], framed) {
  const cells = colours.map((fill, i) => drawn("rect", { x: i % columns, y: Math.floor(i / columns), width: 1.02, height: 1.02, fill }));
  const frame = framed === undefined ? [] : [
    drawn("rect", { x: framed % columns, y: Math.floor(framed / columns), width: 1, height: 1, class: "framed" })];
  chart(place, columns, rows, words, [...cells, ...frame]);
}

// From white to a colour; pixels between 0 and 1 are grey; numbers of both signs are blue and orange, as strong as the
// strongest of them.
const shade = (much, colour) => `rgb(${colour.map((end) => Math.round(255 + much * (end - 255))).join(" ")})`;
const [BLACK, BLUE, ORANGE] = [[17, 17, 17], [0, 114, 178], [213, 94, 0]];
const pixels = (place, values, words, { shape = given.shape, framed } = {}) =>
  mosaic(place, values.map((value) => shade(value, BLACK)), words, shape, framed);
function signed(place, values, words) {
  const most = Math.max(...values.map(Math.abs), 1e-300);
  mosaic(place, values.map((value) => shade(Math.abs(value) / most, value > 0 ? BLUE : ORANGE)), words, given.shape);
}

const wordsOf = (x, columns) => {
  const lines = [];
  for (let i = 0; i < x.length; i += columns) lines.push(x.slice(i, i + columns).map((bit) => (bit ? "1" : "0")).join(""));
  return lines.join(" ");
};

// A slider with its value beside it; `tell` is called with every new value.
function slider(place, id, words, range, value, tell) {
  const input = element("input", { type: "range", id, min: range[0], max: range[1], step: range[2] });
  const output = element("output", { for: id });
  const digits = range[2] < 0.01 ? 3 : 2;
  const set = (to) => {
    input.value = to;
    output.textContent = to.toFixed(digits).replace("-", "−");
  };
  input.addEventListener("input", () => { set(Number(input.value)); tell(Number(input.value)); });
  set(value);
  const label = element("label", { for: id });
  label.append(...words);
  place.append(element("div", { class: "slider" }, label, input, output));
  return { set };
}

const many = (count, make) => Array.from({ length: count }, (_, n) => make(n));
const codeName = (z) => z.join("");
const indexed = (letter, k) => [letter, element("sub", {}, `${k + 1}`)];

// Round numbers between low and high, about so many: 1, 2 or 5 times a power of ten apart.
function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((each) => each * power >= rough * (1 - 1e-9));
  const first = Math.ceil(low / step - 1e-9);
  return many(Math.floor(high / step + 1e-9) - first + 1, (n) => (first + n) * step);
}
const tickWords = (value) => String(Number(value.toPrecision(6))).replace("-", "−");

// Lines over steps: { class, values } each, and what they show in words. scale: other values that must have room, too;
// steps: where the values are, unless one after the other.
function curves(place, lines, words, axis, { scale = [], steps = lines[0].values.map((_, n) => n) } = {}) {
  const [width, height] = [room(place), 220];
  const all = [...lines.flatMap((line) => line.values), ...scale].filter((value) => value !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const pad = Math.max((high - low) * 0.05, 0.25);
  const x = (n) => 64 + ((width - 84) * (steps[n] - steps[0])) / Math.max(lastOf(steps) - steps[0], 1);
  const y = (value) => 180 - (160 * (value - low + pad)) / (high - low + 2 * pad);
  chart(place, width, height, words, [
    ...ticks(low - pad, high + pad, 4).flatMap((value) => [
      drawn("line", { x1: 56, x2: width - 20, y1: y(value), y2: y(value), class: "faint" }),
      drawn("text", { x: 52, y: y(value) + 4, "text-anchor": "end", class: "small" }, tickWords(value)),
    ]),
    drawn("line", { x1: 56, x2: width - 20, y1: 180, y2: 180, class: "axis" }),
    ...lines.flatMap((line) => {
      const known = line.values.map((value, n) => [value, n]).filter(([value]) => value !== null);
      const points = known.map(([value, n]) => `${x(n)},${y(value)}`).join(" ");
      if (known.length > 1) return [drawn("polyline", { class: `curve ${line.class}`, points })];
      return known.map(([value, n]) => drawn("circle", { class: `dot ${line.class}`, cx: x(n), cy: y(value), r: 5 }));
    }),
    drawn("text", { x: width / 2, y: 204, "text-anchor": "middle", class: "small" }, axis),
  ]);
}

// Columns, side by side in groups with a name below each: { class, values } each, values between 0 and 1.
function columns(place, groups, series, words) {
  const [width, height, base] = [room(place), 156, 118];
  const step = (width - 40) / groups.length;
  const each = (step * 0.8) / series.length;
  chart(place, width, height, words, [
    ...[0, 0.5, 1].flatMap((p) => [
      drawn("line", { x1: 36, x2: width - 4, y1: base - 108 * p, y2: base - 108 * p, class: p ? "faint" : "axis" }),
      drawn("text", { x: 30, y: base - 108 * p + 4, "text-anchor": "end", class: "small" }, `${p}`),
    ]),
    ...series.flatMap((one, s) => one.values.map((p, k) => drawn("rect", {
      class: one.class, x: 36 + k * step + step * 0.1 + s * each, width: Math.max(each - 1, 1), y: base - 108 * p, height: 108 * p }))),
    ...groups.flatMap((name, k) => name.split(" ").map((line, n) =>
      drawn("text", { x: 36 + (k + 0.5) * step, y: base + 16 + 15 * n, "text-anchor": "middle", class: "small" }, line))),
  ]);
}

function figures(place, pictures) {
  place.replaceChildren(...pictures.map(([values, words]) => {
    const picture = element("div", { class: "grid" });
    pixels(picture, values, words);
    return element("figure", {}, picture, element("figcaption", {}, words));
  }));
}

// What people may mean by a number that they wrote, and to how many digits after the point: 0.5, 0,5, −.5, 5e-1, 1/2,
// 2^10-1, 1,024; 50 % is 50, or a half to two digits more.
function written(text) {
  const plain = text.replace(/\s/g, "").replace(/[−–]/g, "-").replace(/[·×]/g, "*");
  const readings = [plain.replace(",", "."), /^-?\d{1,3}(,\d{3})+%?$/.test(plain) ? plain.replace(/,/g, "") : ""];
  return readings.flatMap((reading) => {
    const percents = reading.endsWith("%");
    const value = worked(percents ? reading.slice(0, -1) : reading);
    const digits = (reading.match(/^-?\d*\.(\d+)%?$/) || ["", ""])[1].length;
    return percents ? [{ value, digits }, { value: value / 100, digits: digits + 2 }] : [{ value, digits }];
  }).filter(({ value }) => Number.isFinite(value));
}

// A sum of products of powers of numbers, e^ and exp( ) and log( ) included; NaN for anything else.
function worked(text) {
  let rest = text.toLowerCase();
  const take = (pattern) => {
    const found = rest.match(pattern);
    if (found) rest = rest.slice(found[0].length);
    return found && found[0];
  };
  const sumOf = () => {
    let value = productOf();
    for (let sign; (sign = take(/^[+-]/)); ) value += sign === "+" ? productOf() : -productOf();
    return value;
  };
  const productOf = () => {
    let value = powerOf();
    for (let sign; (sign = take(/^[*/]/)); ) value = sign === "*" ? value * powerOf() : value / powerOf();
    return value;
  };
  const powerOf = () => {
    if (take(/^-/)) return -powerOf();
    const base = atom();
    return take(/^\^/) ? base ** powerOf() : base;
  };
  const atom = () => {
    const name = take(/^(exp|log|ln)?\(/);
    if (name) {
      const inside = sumOf();
      return take(/^\)/) ? (name === "(" ? inside : name === "exp(" ? Math.exp(inside) : Math.log(inside)) : NaN;
    }
    if (take(/^e(?=\^)/)) return Math.E;
    const digits = take(/^(\d+\.?\d*|\.\d+)(e[+-]?\d+)?/);
    return digits ? Number(digits) : NaN;
  };
  const value = sumOf();
  return rest === "" ? value : NaN;
}

// Questions with numbers that the page computes: { words, hint, answer }, where answer() is { right, digits, because }.
function ask(place, questions) {
  questions.forEach((question, n) => {
    const id = `${place.id}-${n}`;
    const answer = element("input", { id, type: "text", autocomplete: "off" });
    const said = element("p", { "aria-live": "polite" });
    const check = element("button", { type: "submit" }, "check");
    const form = element("form", { class: "question" }, element("label", { for: id }, question.words), answer, check, said);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const { right, because, digits } = question.answer();
      const got = written(answer.value);
      const near = (given) => 0.5 * 10 ** -Math.max(digits, given) + 1e-9;
      const good = got.some((one) => Math.abs(one.value - right) <= near(one.digits));
      const turned = got.some((one) => one.value !== 0 && Math.abs(one.value + right) <= near(one.digits));
      const help = got.length === 0 ? "Please write a number, such as 0.25 or 1/4." : turned ? "Not yet. Mind the sign." : `Not yet. ${question.hint}`;
      said.textContent = good ? `Yes. ${because}` : help;
      said.className = good ? "good" : "bad";
    });
    place.append(form);
  });
}
