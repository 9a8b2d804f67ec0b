// The page begins here: which view an address means, and whether the server is there.

import { compareView } from "./compare.js";
import { element, setAttribute, setText } from "./dom.js";
import { runsView } from "./runs.js";
import { runView } from "./run.js";
import { connection } from "./server.js";

// A view makes its page at once and returns what ends it.
const views = [
  [/^#?\/?$/, runsView],
  [/^#\/runs\/([0-9]+)$/, runView],
  [/^#\/compare\/([0-9]+(?:,[0-9]+)*)$/, (main, ids) => compareView(main, ids.split(","))],
];

const main = document.getElementById("main");
let close = () => {};

function open() {
  close();
  document.title = "Feedback";
  main.replaceChildren();
  for (const [pattern, view] of views) {
    const match = location.hash.match(pattern);
    if (match) {
      close = view(main, ...match.slice(1));
      return;
    }
  }
  close = () => {};
  main.append(element("p", { class: "notice" }, "There is nothing at this address. ",
    element("a", { href: "#/", text: "All runs" })));
}

addEventListener("hashchange", () => {
  open();
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});

// The skip link would change the address, which is the view's.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

const words = {
  connecting: "Connecting",
  live: "Live",
  away: "Server away, trying again",
};

connection.addEventListener("change", () => {
  const node = document.getElementById("connection");
  setAttribute(node, "data-state", connection.state);
  setText(node.firstElementChild, words[connection.state]);
});

open();
