// What a run writes while it learns, newest first, in a place of fixed height.

import { element, setText } from "./dom.js";
import { count } from "./format.js";

const most = 200;

export function samples() {
  const none = element("p", { class: "quiet", text: " " });
  const node = element("div", {
    class: "samples panel-body", tabindex: 0, role: "log", "aria-label": "Samples, newest first",
  }, none);
  let shown = [];

  function show(all, state) {
    // A run that went back has other samples.
    if (shown.length > all.length || shown.some((sample, index) => sample !== all[index])) {
      node.replaceChildren(none);
      shown = [];
    }
    for (const sample of all.slice(shown.length)) {
      node.prepend(element("figure", { class: "sample" },
        element("figcaption", { text: `Step ${count(sample.step)}` }), element("pre", { text: sample.text })));
    }
    while (node.children.length > most) none.previousElementSibling.remove();
    shown = [...all];
    none.hidden = all.length > 0;
    setText(none, state === "running" ? "The first sample is yet to come." : "This run has left no samples.");
  }
  return { node, show };
}
