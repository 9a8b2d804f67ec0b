// Elements are built here, and text goes in as text alone: names and samples may hold anything.

/**
 * An element. `on…` properties are listeners, `text` is its text, `style` an object of CSS properties; others are
 * attributes, which null and false leave out.
 */
export function element(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** The same for a picture's elements. */
export function drawing(name, properties = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), properties, children);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name === "style") for (const [key, text] of Object.entries(value)) node.style.setProperty(key, text);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Changes a node's text only where it differs, so that nothing is drawn or read out again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/** Says something to a screen reader. */
export function announce(text) {
  setText(document.getElementById("announcement"), text);
}

/** A titled part of a page. */
export function section(title, ...content) {
  const heading = element("h2", { text: title });
  return element("section", { class: "panel", "aria-label": title }, heading, ...content);
}

const marks = { running: "●", finished: "✓", interrupted: "■", failed: "✕", crashed: "!" };

/** What a run is doing, in a word with a mark; `show` changes it. */
export function stateBadge() {
  const mark = element("span", { class: "mark", "aria-hidden": "true" });
  const word = element("span", { class: "word" });
  const badge = element("span", { class: "state" }, mark, word);
  return {
    badge,
    show(state) {
      setAttribute(badge, "data-state", state);
      setText(mark, marks[state] ?? "");
      setText(word, state);
    },
  };
}

/** A link to a run, by name. */
export function runLink(run) {
  return element("a", { href: `#/runs/${run.id}`, text: run.name });
}
