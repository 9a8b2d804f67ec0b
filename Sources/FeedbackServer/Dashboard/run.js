// One run: how it goes, its curves, what it writes, what it has learned to look at, its settings.

import { attention } from "./attention.js";
import { curves } from "./curves.js";
import { element, section, setText, stateBadge } from "./dom.js";
import { count, date, decimal, duration } from "./format.js";
import { samples } from "./samples.js";
import { settings } from "./settings.js";
import { watch } from "./watch.js";
import { weights } from "./weights.js";

export function runView(main, id) {
  const head = runHead();
  const parts = { curves: curves({ single: true }), samples: samples(), weights: weights(), attention: attention(id) };
  const facts = element("div", { class: "panel-body" });
  main.append(element("article", { class: "run" }, head.node, parts.curves.node,
    element("div", { class: "columns" }, section("What it writes", parts.samples.node),
      section("What a memory is made of", parts.weights.node)),
    section("What it looks at", parts.attention.node), section("Settings", facts)));
  let run = null;
  let series = null;

  function show() {
    head.show(run, series);
    parts.curves.show([{ name: run.name, series, running: run.state === "running" }]);
    parts.samples.show(series.samples, run.state);
    parts.weights.show(series.validations, run);
    parts.attention.show(series);
    document.title = `${run.name}, ${run.state}`;
  }

  const close = watch([id], {
    loaded(_, loaded, own) {
      [run, series] = [loaded, own];
      facts.replaceChildren(settings(run));
      show();
    },
    news: show,
    runs(runs) {
      const summary = runs.find((other) => String(other.id) === id);
      if (!summary) return head.refuse("This run is no longer in the history.");
      if (run === null) return;
      run = { ...run, ...summary };
      show();
    },
    refused(refusal) {
      main.replaceChildren(element("p", { class: "notice", role: "alert" }, `${refusal.message} `,
        element("a", { href: "#/", text: "All runs" })));
    },
  });
  return () => {
    close();
    parts.curves.close();
    parts.attention.close();
  };
}

/** The name, the state, and the numbers that count. */
function runHead() {
  const title = element("h1", { text: " " });
  const state = stateBadge();
  const bar = element("progress", { max: 1, value: 0, "aria-label": "Steps taken" });
  const note = element("p", { class: "failure", hidden: true, role: "alert" });
  const names = ["Step", "Training loss", "Validation", "Best", "Tokens/s", "Time", "Left"];
  const values = Object.fromEntries(names.map((name) => [name, element("dd", { text: "–" })]));
  const numbers = element("dl", { class: "numbers" },
    ...names.map((name) => element("div", {}, element("dt", { text: name }), values[name])));
  const began = element("p", { class: "quiet", text: " " });
  const node = element("header", { class: "run-header" },
    element("div", { class: "title" }, title, state.badge), began, note, bar, numbers);

  /** Says what is wrong; nothing where nothing is. */
  function refuse(text) {
    note.hidden = !text;
    setText(note, text ?? "");
  }

  function show(run, series) {
    setText(title, run.name);
    state.show(run.state);
    const time = run.ended ? `${date(run.created)} to ${date(run.ended)}` : `since ${date(run.created)}`;
    setText(began, `${time} · ${run.folder}`);
    refuse(run.failure);
    [bar.max, bar.value] = [Math.max(1, run.totalSteps), run.step];
    const left = run.state === "running" ? (run.totalSteps - run.step) * series.secondsPerStep : null;
    const text = {
      Step: `${count(run.step)} / ${count(run.totalSteps)}`,
      "Training loss": decimal(run.loss),
      Validation: decimal(run.validation),
      Best: decimal(run.bestValidation),
      "Tokens/s": count(run.tokensPerSecond),
      Time: duration((run.ended ?? run.updated) - run.created),
      Left: left === null ? "–" : duration(left),
    };
    for (const name of names) setText(values[name], text[name]);
  }
  return { node, show, refuse };
}
