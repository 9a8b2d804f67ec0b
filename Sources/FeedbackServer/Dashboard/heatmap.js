// One head's attention as a picture: a row for each step, a column for each memory. The colour is as strong as the
// square root of the weight, so that what gets little is still seen.

import { element, setAttribute } from "./dom.js";

/** Paints rows of weights, each of which may be shorter than the picture is wide. */
export function paint(canvas, rows) {
  const size = Math.max(1, rows.length);
  [canvas.width, canvas.height] = [size, size];
  const context = canvas.getContext("2d");
  const [red, green, blue] = getComputedStyle(canvas).color.match(/[0-9.]+/g).map(Number);
  const image = context.createImageData(size, size);
  rows.forEach((row, step) => row.forEach((weight, memory) => {
    image.data.set([red, green, blue, 255 * Math.sqrt(weight)], 4 * (step * size + memory));
  }));
  context.putImageData(image, 0, 0);
}

/**
 * The large picture, in which one step is marked. With the pointer or with the arrow keys another is chosen.
 *
 * @param choose is told of the step, and of the memory where one is pointed at
 */
export function heatmap(choose) {
  const canvas = element("canvas", {
    class: "map", tabindex: 0, role: "application", "aria-roledescription": "heat map",
    "aria-label": "Attention of each step over the memories; arrow keys choose",
  });
  const row = element("div", { class: "map-row" });
  const column = element("div", { class: "map-column" });
  const node = element("div", { class: "map-frame" }, canvas, row, column);
  let [size, step, memory] = [1, 0, null];

  function mark(newStep, newMemory) {
    [step, memory] = [newStep, newMemory];
    const place = (index) => `${(100 * index) / size}%`;
    row.style.setProperty("top", place(step));
    row.style.setProperty("height", place(1));
    column.hidden = memory === null;
    column.style.setProperty("left", place(memory ?? 0));
    column.style.setProperty("width", place(1));
    setAttribute(canvas, "data-step", String(step));
  }

  function point(event) {
    const box = canvas.getBoundingClientRect();
    const index = (offset, length) => Math.min(size - 1, Math.max(0, Math.floor((offset / length) * size)));
    const pointed = index(event.clientY - box.top, box.height);
    const over = index(event.clientX - box.left, box.width);
    choose(pointed, over < pointed ? over : null);
  }

  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", point);
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    const next = Math.min(size - 1, Math.max(0, step + move[0]));
    const from = memory ?? (move[1] < 0 ? next : -1);
    const over = move[1] === 0 && memory === null ? null : Math.max(0, Math.min(next - 1, from + move[1]));
    choose(next, next === 0 ? null : over);
  });

  return {
    node,
    mark,
    show(rows) {
      size = Math.max(1, rows.length);
      paint(canvas, rows);
    },
  };
}
