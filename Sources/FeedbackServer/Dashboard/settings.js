// The settings of a run, or those in which several runs differ.

import { element } from "./dom.js";

/** All settings of a run, and where it was trained. What is long gets a line of its own. */
export function settings(run) {
  const all = Object.entries(run.configuration);
  const origin = ["folder", "revision", "machine", "host"].map((name) => [name, run[name]]);
  const isShort = ([, value]) => value.length < 18;
  return element("div", {}, facts(all.filter(isShort), "settings"),
    facts([...all.filter((entry) => !isShort(entry)), ...origin], "settings long"));
}

function facts(entries, name) {
  const known = entries.filter(([, value]) => value !== null && value !== undefined);
  return element("dl", { class: name }, ...known.map(([name, value]) => {
    return element("div", {}, element("dt", { text: name }), element("dd", { text: value }));
  }));
}

/** A table of what is not the same in all runs. */
export function differences(runs) {
  const rows = runs.map((run) => ({
    ...run.configuration, revision: run.revision, machine: run.machine, host: run.host,
  }));
  const names = [...new Set(rows.flatMap(Object.keys))];
  const differing = names.filter((name) => new Set(rows.map((row) => row[name] ?? null)).size > 1);
  if (differing.length === 0) return element("p", { class: "quiet", text: "None: the runs have the same settings." });
  const head = element("tr", {}, element("th", { scope: "col", text: "Setting" }),
    ...runs.map((run) => element("th", { scope: "col", text: run.name })));
  return element("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Settings that differ" },
    element("table", {}, element("thead", {}, head), element("tbody", {}, ...differing.map((name) => {
      return element("tr", {}, element("th", { scope: "row", text: name }),
        ...rows.map((row) => element("td", { text: row[name] ?? "–" })));
    }))));
}
