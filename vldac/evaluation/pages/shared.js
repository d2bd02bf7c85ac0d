"use strict";
const at = id => document.getElementById(id);

function make(tag, parent, text, kind) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  if (parent) parent.append(node);
  return node;
}
const number = value => value === null ? "none" : (Math.round(value * 1000) / 1000).toString();

/* An answer as far as it is shown, each token the more colored the less likely it was. */
function write(said, tokens) {
  said.replaceChildren();
  for (const [text, probability] of tokens) {
    const token = make("span", said, text);
    token.style.setProperty("--doubt", Math.round(100 * (1 - probability)) + "%");
    token.title = "probability " + probability;
  }
}

/* Pairs of name and value, and a class for the value where it has one. */
function list(numbers, cells) {
  numbers.replaceChildren();
  for (const [name, value, kind] of cells) {
    const cell = make("div", numbers);
    make("dt", cell, name);
    make("dd", cell, value || "\u00a0", kind);
  }
}

/* The probability of each legal action; `taken` is the one that was. */
function weigh(bars, actions, taken) {
  bars.replaceChildren();
  for (const [name, probability] of actions) {
    const bar = make("div", bars, undefined, name === taken ? "bar taken" : "bar");
    make("span", bar, name).title = name;
    make("i", make("div", bar)).style.width = 100 * probability + "%";
    make("b", bar, probability.toFixed(2));
  }
}

/* Lines over `steps` steps, each a color and its values so far, on one scale that holds `all` values. */
function chart(svg, steps, lines, all) {
  const low = Math.min(...all), high = Math.max(...all);
  const x = i => 4 + 292 * i / steps, y = v => 58 - 52 * (v - low) / (high - low || 1);
  svg.setAttribute("viewBox", "0 0 300 64");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", "Return and value by step");
  svg.replaceChildren();
  for (const [color, values] of lines) {
    const line = document.createElementNS(svg.namespaceURI, "polyline");
    line.setAttribute("points", values.map((v, i) => x(i) + "," + y(v)).join(" "));
    for (const [key, value] of [["fill", "none"], ["stroke", color], ["stroke-width", 2],
      ["vector-effect", "non-scaling-stroke"]]) line.setAttribute(key, value);
    svg.append(line);
  }
}
