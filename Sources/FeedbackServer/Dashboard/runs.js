// All runs, newest first, each with a small picture of its loss.

import { drawing, element, runLink, setAttribute, setText, stateBadge } from "./dom.js";
import { count, date, decimal } from "./format.js";
import { watch } from "./watch.js";

const most = 8;

export function runsView(main) {
  const rows = new Map();
  const chosen = new Set();
  const compare = element("a", { class: "button", role: "link", "aria-disabled": "true" });
  const head = element("div", { class: "run-row run-head", role: "row" },
    element("span", { role: "columnheader" }, element("span", { class: "unseen", text: "Compare" })),
    ...["Run", "State", "Loss", "Step", "Training", "Validation", "Tokens/s", "Began"].map((text) => {
      return element("span", { role: "columnheader", text });
    }));
  const list = element("div", { class: "runs", role: "table", "aria-label": "Runs", "aria-busy": "true" }, head,
    ...[1, 2, 3].map(() => element("div", { class: "run-row skeleton", role: "row" })));
  const page = element("div", {}, element("div", { class: "title" }, element("h1", { text: "Runs" }), compare), list);
  main.append(page);

  function showChoice() {
    const ready = chosen.size >= 2;
    setText(compare, ready ? `Compare ${chosen.size} runs` : "Choose runs to compare");
    if (ready) compare.href = `#/compare/${[...chosen].sort((a, b) => a - b).join(",")}`;
    else compare.removeAttribute("href");
    setAttribute(compare, "aria-disabled", String(!ready));
    for (const [id, row] of rows) row.box.disabled = chosen.size >= most && !chosen.has(id);
  }

  function choose(id, isChosen) {
    if (isChosen) chosen.add(id);
    else chosen.delete(id);
    showChoice();
  }

  function show(runs) {
    if (list.ariaBusy === "true") list.replaceChildren(head);
    list.ariaBusy = "false";
    const present = new Set(runs.map((run) => run.id));
    for (const [id, row] of rows) {
      if (present.has(id)) continue;
      row.node.remove();
      rows.delete(id);
      chosen.delete(id);
    }
    let before = head;
    for (const run of runs) {
      let row = rows.get(run.id);
      if (!row) {
        row = runRow(run, (isChosen) => choose(run.id, isChosen));
        rows.set(run.id, row);
      }
      row.show(run);
      if (before.nextSibling !== row.node) before.after(row.node);
      before = row.node;
    }
    list.hidden = runs.length === 0;
    compare.hidden = runs.length < 2;
    if (runs.length === 0) page.append(empty);
    else empty.remove();
    showChoice();
  }

  const empty = element("div", { class: "empty" }, element("h2", { text: "No runs yet" }),
    element("p", { text: "Start a training in a terminal. It appears here by itself." }),
    element("pre", {}, element("code", { text: "feedback train --preset demo" })));
  showChoice();
  compare.hidden = true;
  return watch([], { runs: show });
}

function runRow(run, choose) {
  const state = stateBadge();
  const picture = sparkline();
  const box = element("input", {
    type: "checkbox", "aria-label": `Compare ${run.name}`, onchange: () => choose(box.checked),
  });
  const cell = (name) => element("span", { class: "number", role: "cell", "data-name": name });
  const cells = { step: cell("Step"), loss: cell("Training"), validation: cell("Validation"), speed: cell("Tokens/s") };
  const began = new Date(1000 * run.created).toISOString();
  state.badge.setAttribute("role", "cell");
  const node = element("div", { class: "run-row", role: "row" },
    element("span", { class: "choice", role: "cell" }, element("label", {}, box)),
    element("span", { class: "name", role: "cell" }, runLink(run)), state.badge,
    element("span", { class: "sparkline", role: "cell" }, picture.node), ...Object.values(cells),
    element("time", { role: "cell", text: date(run.created), datetime: began }));
  return {
    node,
    box,
    show(run) {
      state.show(run.state);
      picture.show(run.sparkline ?? []);
      setText(cells.step, `${count(run.step)} / ${count(run.totalSteps)}`);
      setText(cells.loss, decimal(run.loss));
      setText(cells.validation, decimal(run.validation));
      setText(cells.speed, count(run.tokensPerSecond));
    },
  };
}

/** A line in a box of fixed size. */
function sparkline() {
  const [width, height] = [120, 28];
  const line = drawing("polyline", {
    fill: "none", "stroke-width": 1.5, "stroke-linejoin": "round", "vector-effect": "non-scaling-stroke",
  });
  const node = drawing("svg", {
    viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true",
  }, line);
  function show(values) {
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const points = values.map((value, index) => {
      const x = values.length > 1 ? (index / (values.length - 1)) * (width - 4) : 0;
      const y = high > low ? (high - value) / (high - low) : 0.5;
      return `${(2 + x).toFixed(1)},${(3 + y * (height - 6)).toFixed(1)}`;
    });
    setAttribute(line, "points", points.join(" "));
  }
  return { node, show };
}
