// The learned weights of the layers in a memory, softmax(w): bars, the embedding's first, and how they came about.

import { Chart } from "./chart.js";
import { element, setText } from "./dom.js";
import { count, percent } from "./format.js";
import { View } from "./view.js";

export function weights() {
  const bars = element("ol", { class: "bars" });
  const note = element("p", { class: "quiet", text: " " });
  const view = new View();
  const chart = new Chart("Over training", view, { format: percent });
  const node = element("div", { class: "panel-body weights" }, note, bars, chart.node);
  let rows = [];

  function show(validations, run) {
    const latest = validations.findLast(({ layerWeights }) => layerWeights);
    const { memory, layers } = run.configuration;
    const mixes = memory === "feedback";
    chart.node.hidden = !mixes;
    // The bars have their places before they have their lengths.
    const values = latest?.layerWeights ?? Array(mixes ? Number(layers) + 1 : 0).fill(null);
    if (rows.length !== values.length) {
      rows = values.map((_, layer) => bar(named(layer), layer % 8));
      bars.replaceChildren(...rows.map((row) => row.node));
    }
    values.forEach((value, layer) => rows[layer].show(value, Math.max(...values)));
    if (!latest) {
      chart.show([]);
      setText(note, mixes ? "They come with the first validation." : `A model with ${memory} memory mixes no layers.`);
      return;
    }
    setText(note, `softmax(w) at step ${count(latest.step)}: how much of each layer's output goes into the memory `
      + "that every layer of the later steps reads.");
    const known = validations.filter(({ layerWeights }) => layerWeights?.length === values.length);
    const x = known.map(({ step }) => step);
    view.extent = [0, x.at(-1)];
    chart.node.hidden = false;
    chart.show(values.map((_, layer) => ({
      name: named(layer), color: layer % 8, dots: true, x, y: known.map(({ layerWeights }) => layerWeights[layer]),
    })));
  }
  return { node, show };
}

const named = (layer) => (layer === 0 ? "Embedding" : `Layer ${layer}`);

function bar(name, color) {
  const value = element("span", { class: "number" });
  const fill = element("span", { class: "fill", style: { "--color": `var(--line-${color})` } });
  const node = element("li", {}, element("span", { class: "name", text: name }),
    element("span", { class: "track", "aria-hidden": "true" }, fill), value);
  return {
    node,
    show(weight, largest) {
      setText(value, percent(weight));
      fill.style.setProperty("width", weight === null ? "0" : `${(100 * weight) / largest}%`);
    },
  };
}
