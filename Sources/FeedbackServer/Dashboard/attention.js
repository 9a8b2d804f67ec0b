// What the model looks at: for a text that the viewer types, each step's attention over the memories, by layer and
// head.

import { announce, element, setAttribute, setText } from "./dom.js";
import { percent, visible } from "./format.js";
import { heatmap, paint } from "./heatmap.js";
import { ask } from "./server.js";

export function attention(id) {
  const text = element("textarea", { rows: 2, maxlength: 1000, spellcheck: "false", "aria-label": "Text to look at" });
  const button = element("button", { type: "submit", class: "button", text: "Look" });
  const message = element("p", { class: "message", role: "status", text: " " });
  const heads = element("div", { class: "heads", role: "group", "aria-label": "Layers and heads" });
  const tokens = element("div", { class: "tokens", role: "group", "aria-label": "Steps; arrow keys choose one" });
  const reading = element("p", { class: "reading", text: " " });
  const map = heatmap(choose);
  const result = element("div", { class: "attention-result", hidden: true },
    element("div", { class: "attention-text" }, element("h3", { text: "Text" }), tokens, reading,
      element("h3", { text: "Layers and heads" }), heads),
    element("div", {}, element("h3", { class: "map-title" }), map.node,
      element("p", {
        class: "quiet",
        text: "Down: steps. Across: the memories of the steps before. The stronger the colour, the more attention.",
      })));
  const mapTitle = result.querySelector(".map-title");
  const form = element("form", { onsubmit: look }, text, button);
  const node = element("div", { class: "panel-body attention" }, form, message, result);
  let [answer, chosen, typed] = [null, { layer: 0, head: 0, step: 0, memory: null }, false];

  text.addEventListener("input", () => (typed = true));
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  const hint = "Up to 256 tokens. Ctrl and Enter looks, too.";
  setText(message, hint);

  async function look(event) {
    event.preventDefault();
    if (text.value === "" || button.disabled) return;
    button.disabled = true;
    message.classList.remove("wrong");
    setText(message, "Looking …");
    try {
      answer = await ask(`/api/runs/${encodeURIComponent(id)}/attention`, { text: text.value });
      const { tokens, layers, heads } = answer;
      const [layer, head] = [Math.min(chosen.layer, layers - 1), Math.min(chosen.head, heads - 1)];
      chosen = { layer, head, step: tokens.length - 1, memory: null };
      write();
      setText(message, `${tokens.length} tokens, ${layers} layers of ${heads} heads.`);
    } catch (error) {
      message.classList.add("wrong");
      setText(message, error.message);
    }
    button.disabled = false;
  }

  /** Puts a new answer on the page. */
  function write() {
    result.hidden = false;
    tokens.replaceChildren(...answer.tokens.map((token, step) => element("button", {
      type: "button", tabindex: -1, "data-step": step, text: visible(token),
      "aria-label": `step ${step}, ${visible(token)}`,
    })));
    heads.style.setProperty("--heads", answer.heads);
    heads.replaceChildren(...answer.weights.flatMap((layer, layerIndex) => layer.map((rows, head) => {
      const canvas = element("canvas", { "aria-hidden": "true" });
      return element("button", {
        type: "button", "data-layer": layerIndex, "data-head": head,
        "aria-label": `Layer ${layerIndex + 1}, head ${head + 1}`,
        onclick: () => show({ layer: layerIndex, head }),
      }, canvas, element("span", { "aria-hidden": "true", text: `${layerIndex + 1}.${head + 1}` }));
    })));
    paintAll();
    show({});
  }

  function paintAll() {
    for (const { dataset, firstElementChild } of heads.children) {
      paint(firstElementChild, answer.weights[dataset.layer][dataset.head]);
    }
    map.show(answer.weights[chosen.layer][chosen.head]);
  }

  function show(choice) {
    chosen = { ...chosen, ...choice };
    const { layer, head, step, memory } = chosen;
    const rows = answer.weights[layer][head];
    const row = rows[step];
    if (choice.layer !== undefined) map.show(rows);
    map.mark(step, memory);
    for (const button of heads.children) {
      setAttribute(button, "aria-pressed", String(button.dataset.layer == layer && button.dataset.head == head));
    }
    [...tokens.children].forEach((button, index) => {
      button.tabIndex = index === step ? 0 : -1;
      setAttribute(button, "aria-pressed", String(index === step));
      button.style.setProperty("--weight", `${Math.round(100 * Math.sqrt(row[index] ?? 0))}%`);
      button.classList.toggle("pointed", index === memory);
    });
    setText(mapTitle, `Layer ${layer + 1}, head ${head + 1}`);
    setText(reading, inWords(step, memory, row));
  }

  function inWords(step, memory, row) {
    const name = (index) => `“${visible(answer.tokens[index])}”`;
    if (step === 0) return `${name(0)} comes first: it has no memory to look at.`;
    const here = `${name(step)} at step ${step} looks at`;
    if (memory !== null) {
      return `${here} the memory of ${name(memory)} at step ${memory} with ${percent(row[memory])}.`;
    }
    const most = row.map((weight, index) => [weight, index]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    return `${here} ${most.map(([weight, index]) => `${name(index)} at ${index} (${percent(weight)})`).join(", ")}.`;
  }

  function choose(step, memory) {
    if (!answer || (step === chosen.step && memory === chosen.memory)) return;
    show({ step, memory });
    if (document.activeElement?.closest(".attention")) announce(reading.textContent);
  }

  const stepOf = (event) => event.target.closest("[data-step]")?.dataset.step;
  tokens.addEventListener("pointerover", (event) => stepOf(event) && choose(Number(stepOf(event)), null));
  tokens.addEventListener("click", (event) => stepOf(event) && choose(Number(stepOf(event)), null));
  tokens.addEventListener("keydown", (event) => {
    const last = answer.tokens.length - 1;
    const step = { ArrowLeft: chosen.step - 1, ArrowRight: chosen.step + 1, Home: 0, End: last }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    choose(Math.min(last, Math.max(0, step)), null);
    tokens.children[chosen.step].focus();
  });
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const repaint = () => answer && paintAll();
  dark.addEventListener("change", repaint);

  return {
    node,
    /** The field begins with what the run has written, whose characters the model knows. */
    show({ samples }) {
      if (typed || text.value !== "" || samples.length === 0) return;
      text.value = [...samples.at(-1).text].slice(0, 64).join("");
    },
    close: () => dark.removeEventListener("change", repaint),
  };
}
