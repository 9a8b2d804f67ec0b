// Several runs, one over the other, and the settings in which they differ.

import { curves } from "./curves.js";
import { element, runLink, section, setText, stateBadge } from "./dom.js";
import { count, decimal } from "./format.js";
import { differences } from "./settings.js";
import { watch } from "./watch.js";

const columns = ["Run", "State", "Step", "Training", "Validation", "Best", "Tokens/s"];

export function compareView(main, asked) {
  const ids = [...new Set(asked)].slice(0, 8);
  const loaded = new Map();
  const rows = new Map();
  const lines = curves({ single: false });
  const body = element("tbody", {}, ...ids.map(() => element("tr", { class: "skeleton" },
    ...columns.map(() => element("td", { text: " " })))));
  const table = element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "How the runs went" },
    element("table", {}, element("thead", {}, element("tr", {},
      ...columns.map((text) => element("th", { scope: "col", text })))), body));
  const differing = element("div", { class: "panel-body" });
  const notes = element("div", {});
  main.append(element("article", { class: "compare" },
    element("div", { class: "title" }, element("h1", { text: `${ids.length} runs compared` })),
    notes, table, lines.node, section("Settings that differ", differing)));
  document.title = "Runs compared";

  function show() {
    const runs = ids.map((id) => loaded.get(id)).filter((entry) => entry !== undefined);
    if (runs.length === 0) return;
    lines.show(runs.map(({ run, series }) => ({ name: run.name, series, running: run.state === "running" })));
    body.replaceChildren(...runs.map(({ run }, index) => {
      const row = rows.get(run.id) ?? compareRow(run);
      rows.set(run.id, row);
      row.show(run, index);
      return row.node;
    }));
  }

  const close = watch(ids, {
    loaded(id, run, series) {
      loaded.set(id, { run, series });
      differing.replaceChildren(differences(ids.flatMap((id) => loaded.get(id)?.run ?? [])));
      show();
    },
    news: show,
    runs(runs) {
      for (const summary of runs) {
        const entry = loaded.get(String(summary.id));
        if (entry) entry.run = { ...entry.run, ...summary };
      }
      show();
    },
    refused: (refusal) => notes.append(element("p", { class: "notice", role: "alert", text: refusal.message })),
  });
  return () => {
    close();
    lines.close();
  };
}

function compareRow(run) {
  const state = stateBadge();
  const swatch = element("i", { class: "swatch" });
  const cells = columns.slice(2).map(() => element("td", { class: "number" }));
  const node = element("tr", {}, element("th", { scope: "row" }, swatch, runLink(run)),
    element("td", {}, state.badge), ...cells);
  return {
    node,
    show(run, index) {
      swatch.style.setProperty("--color", `var(--line-${index % 8})`);
      state.show(run.state);
      const texts = [`${count(run.step)} / ${count(run.totalSteps)}`, decimal(run.loss), decimal(run.validation),
        decimal(run.bestValidation), count(run.tokensPerSecond)];
      texts.forEach((text, column) => setText(cells[column], text));
    },
  };
}
