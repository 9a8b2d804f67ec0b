// The curves of one run or of several, one over the other, and how to look at them.

import { Chart } from "./chart.js";
import { element } from "./dom.js";
import { count, decimal } from "./format.js";
import { roundUp } from "./scale.js";
import { smooth } from "./series.js";
import { View } from "./view.js";

/**
 * @param single whether it is one run's: its lines are then named by what they are, otherwise by the run
 * @returns its `node`, and `show` for runs as `{ name, series, running }`
 */
export function curves({ single }) {
  const view = new View();
  const charts = {
    loss: new Chart("Loss", view, { format: decimal }),
    validation: new Chart("Validation loss", view, { format: decimal }),
    learningRate: new Chart("Learning rate", view),
    gradientNorm: new Chart("Gradient norm", view),
    tokensPerSecond: new Chart("Tokens per second", view, { format: count }),
  };
  charts.loss.node.classList.add("wide");
  let runs = [];
  let looks = "";

  function show(newRuns = runs) {
    runs = newRuns;
    const across = runs.map(({ series }) => places(series, view.axis));
    const ends = across.flatMap(({ steps, validations }) => [steps.at(-1) ?? 0, validations.at(-1) ?? 0]);
    const last = Math.max(0, ...ends);
    view.extent = [0, runs.some((run) => run.running) ? roundUp(last) : last || 1];

    const lines = (column, isSmooth) => runs.map(({ name, series }, index) => {
      const raw = series.steps[column];
      const faint = isSmooth && view.smoothing > 0 ? raw : null;
      return {
        name: single ? "training" : name, color: index % 8, x: across[index].steps,
        y: faint ? smooth(raw, view.smoothing) : raw, faint,
      };
    });
    const validations = runs.map(({ name, series }, index) => ({
      name: single ? "validation" : name, color: single ? 1 : index % 8, dots: true,
      x: across[index].validations, y: series.validations.map(({ loss }) => loss),
    }));
    charts.loss.show([...lines("loss", true), ...(single ? validations : [])]);
    charts.validation.show(validations);
    charts.learningRate.show(lines("learningRate", false));
    charts.gradientNorm.show(lines("gradientNorm", true));
    charts.tokensPerSecond.show(lines("tokensPerSecond", true));
  }

  // Another smoothing or axis changes the lines; all else the charts hear of by themselves.
  view.addEventListener("change", () => {
    const now = `${view.smoothing} ${view.axis}`;
    if (now !== looks) show();
    looks = now;
  });

  const grid = element("div", { class: single ? "charts" : "charts several" },
    ...Object.values(charts).map((chart) => chart.node));
  const node = element("section", { class: "curves", "aria-label": "Curves" }, toolbar(view), grid);
  // What changes between dark and light is drawn again.
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const redraw = () => Object.values(charts).forEach((chart) => chart.draw());
  dark.addEventListener("change", redraw);
  return { node, show, close: () => dark.removeEventListener("change", redraw) };
}

/** Where a run's points lie across. */
function places({ steps, validations }, axis) {
  if (axis === "steps") return { steps: steps.step, validations: validations.map(({ step }) => step) };
  const minutes = ({ time }) => (time - steps.time[0]) / 60;
  return { steps: steps.time.map((time) => minutes({ time })), validations: validations.map(minutes) };
}

function toolbar(view) {
  const logarithmic = element("input", {
    type: "checkbox", onchange: () => view.change({ logarithmic: logarithmic.checked }),
  });
  const smoothing = element("input", {
    type: "range", min: 0, max: 99, value: 100 * view.smoothing, "aria-label": "Smoothing",
    oninput: () => view.change({ smoothing: smoothing.value / 100 }),
  });
  const axis = element("select", {
    "aria-label": "Across", onchange: () => view.change({ axis: axis.value, range: null, cursor: null }),
  }, element("option", { value: "steps", text: "steps" }), element("option", { value: "minutes", text: "minutes" }));
  const all = element("button", { type: "button", text: "Show all", disabled: true, onclick: () => view.reset() });
  view.addEventListener("change", () => (all.disabled = view.range === null));
  const help = element("details", { class: "keys" }, element("summary", { text: "Keys" }), element("p", {
    text: "Drag to zoom in, double-click to see all. Shift and drag moves. The wheel zooms in a chart that has "
      + "been clicked. Keys: ← → move the cursor, + − zoom, Shift ← → move, Home End go to the ends, Escape "
      + "shows all.",
  }));
  return element("div", { class: "toolbar", role: "group", "aria-label": "Curves are shown" },
    element("label", {}, logarithmic, "Log scale"), element("label", {}, "Smoothing", smoothing),
    element("label", {}, "Across", axis), all, help);
}
