// A chart of lines on a canvas. Above it stands what the lines are, with their values at the cursor or at the end.

import { element, setAttribute, setText } from "./dom.js";
import { count, short, tick } from "./format.js";
import { pointing } from "./pointing.js";
import { nearest, Scale } from "./scale.js";

const margin = { left: 52, right: 20, top: 10, bottom: 26 };

/**
 * A line: `{ name, color, x, y, faint, dots }`. `color` numbers the palette's; `faint` are the values before they were
 * smoothed; `dots` marks each point.
 */
export class Chart {
  lines = [];
  #rows = [];
  #pending = false;

  constructor(title, view, { format = short } = {}) {
    this.title = title;
    this.view = view;
    this.format = format;
    this.place = element("span", { class: "place" });
    this.legend = element("div", { class: "legend" }, this.place);
    this.canvas = element("canvas", { tabindex: 0, role: "application", "aria-roledescription": "chart" });
    this.node = element("figure", { class: "chart" },
      element("figcaption", {}, element("h3", { text: title }), this.legend), this.canvas);
    pointing(this);
    view.addEventListener("change", () => this.draw());
    new ResizeObserver(() => this.draw()).observe(this.canvas);
  }

  show(lines) {
    const changed = lines.length !== this.lines.length || lines.some((line, index) => {
      return line.name !== this.lines[index].name || line.color !== this.lines[index].color;
    });
    this.lines = lines;
    if (changed) this.#writeLegend();
    this.draw();
  }

  #writeLegend() {
    this.#rows = this.lines.map(() => element("output"));
    const keys = this.lines.map((line, index) => element("span", { class: "key" },
      element("i", { class: line.dots ? "swatch dots" : "swatch", style: { "--color": `var(--line-${line.color})` } }),
      element("span", { class: "name", text: line.name }), this.#rows[index]));
    this.legend.replaceChildren(this.place, ...keys);
  }

  /** Draws with the next picture of the screen, however often it is asked. */
  draw() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      if (this.canvas.clientWidth > 0) this.#draw();
    });
  }

  #draw() {
    const { canvas, view } = this;
    const [width, height, ratio] = [canvas.clientWidth, canvas.clientHeight, devicePixelRatio];
    // A new size empties the canvas; the same size would too, but lays the page out again.
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== size[0]) canvas.width = size[0];
    if (canvas.height !== size[1]) canvas.height = size[1];
    const style = getComputedStyle(canvas);
    const color = (name) => style.getPropertyValue(`--${name}`);
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    context.font = `12px ${style.fontFamily}`;
    this.x = new Scale(view.shown, [margin.left, width - margin.right]);
    this.y = new Scale(this.#values(), [height - margin.bottom, margin.top], view.logarithmic);
    this.#drawAxes(context, width, height, color);
    context.save();
    context.beginPath();
    context.rect(margin.left - 4, 0, width - margin.left - margin.right + 8, height - margin.bottom + 1);
    context.clip();
    for (const line of this.lines) if (line.faint) this.#stroke(context, line, line.faint, color, 0.22, 1);
    for (const line of this.lines) this.#stroke(context, line, line.y, color, 1, 1.75);
    this.#drawCursor(context, height, color);
    context.restore();
    this.#read();
  }

  /** The lowest and the highest value in what is shown, with some room. */
  #values() {
    let [low, high] = [Infinity, -Infinity];
    const [first, last] = this.view.shown;
    for (const { x, y, faint } of this.lines) {
      for (const values of faint ? [y, faint] : [y]) {
        for (let index = 0; index < x.length; index += 1) {
          const value = values[index];
          if (x[index] < first || x[index] > last || value === null) continue;
          if (this.view.logarithmic && value <= 0) continue;
          low = Math.min(low, value);
          high = Math.max(high, value);
        }
      }
    }
    if (low > high) return this.view.logarithmic ? [0.1, 1] : [0, 1];
    if (this.view.logarithmic) return low === high ? [low / 2, high * 2] : [low / 1.03, high * 1.03];
    const room = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
    return [low >= 0 ? Math.max(0, low - room) : low - room, high + room];
  }

  #drawAxes(context, width, height, color) {
    context.lineWidth = 1;
    context.textBaseline = "middle";
    for (const value of this.y.ticks(Math.max(2, Math.round(height / 44)))) {
      const place = Math.round(this.y.at(value)) + 0.5;
      context.strokeStyle = color("grid");
      stroke(context, [[margin.left, place], [width - margin.right, place]]);
      context.fillStyle = color("quiet");
      context.textAlign = "right";
      context.fillText(tick(value), margin.left - 8, place);
    }
    context.textBaseline = "alphabetic";
    context.textAlign = "center";
    for (const value of this.x.ticks(Math.max(2, Math.round(width / 100)))) {
      context.fillText(tick(value), this.x.at(value), height - 8);
    }
    context.strokeStyle = color("line");
    const floor = height - margin.bottom + 0.5;
    stroke(context, [[margin.left, floor], [width - margin.right, floor]]);
  }

  #stroke(context, line, values, color, opacity, thickness) {
    const points = [];
    line.x.forEach((x, index) => {
      const value = values[index];
      if (value === null || (this.view.logarithmic && value <= 0)) return;
      points.push([this.x.at(x), this.y.at(value)]);
    });
    context.globalAlpha = opacity;
    context.strokeStyle = context.fillStyle = color(`line-${line.color}`);
    context.lineWidth = thickness;
    context.lineJoin = "round";
    stroke(context, points);
    const crowded = points.length > 60;
    if ((line.dots && !crowded) || points.length === 1) for (const point of points) dot(context, point, 2.75);
    context.globalAlpha = 1;
  }

  #drawCursor(context, height, color) {
    const { cursor } = this.view;
    if (cursor === null) return;
    context.strokeStyle = color("quiet");
    context.lineWidth = 1;
    const place = Math.round(this.x.at(cursor)) + 0.5;
    stroke(context, [[place, margin.top], [place, height - margin.bottom]]);
    for (const line of this.lines) {
      const index = nearest(line.x, cursor);
      const value = measured(line)[index];
      if (index < 0 || value === null) continue;
      context.fillStyle = color(`line-${line.color}`);
      dot(context, [this.x.at(line.x[index]), this.y.at(value)], 3.5);
    }
  }

  /** Writes the values at the cursor, or else the last ones that are shown. */
  #read() {
    const { cursor, shown, axis } = this.view;
    const at = cursor ?? shown[1];
    const places = this.lines.map((line) => nearest(line.x, at));
    this.lines.forEach((line, index) => {
      const place = places[index];
      setText(this.#rows[index], place < 0 ? "–" : this.format(measured(line)[place]));
    });
    const first = this.lines.findIndex((_, index) => places[index] >= 0);
    const x = first < 0 ? null : this.lines[first].x[places[first]];
    this.reading = x === null ? "" : axis === "steps" ? `step ${count(x)}` : `${x.toFixed(2)} min`;
    setText(this.place, this.reading || " ");
    setAttribute(this.canvas, "aria-label", this.#summary());
  }

  /** What the chart shows, in words. */
  #summary() {
    const lines = this.lines.map((line) => {
      const { name, x } = line;
      const values = measured(line);
      if (x.length === 0) return `${name}, nothing yet`;
      return `${name}, ${x.length} points, from ${this.format(values[0])} to ${this.format(values.at(-1))}`;
    });
    return `${this.title}: ${lines.join("; ")}`;
  }

  /** The values at the cursor, in words. */
  get spoken() {
    const values = this.lines.map((line, index) => `${line.name} ${this.#rows[index].textContent}`);
    return `${this.reading}: ${values.join(", ")}`;
  }
}

/** What is read out is what was measured, also where a smoothed line is drawn. */
const measured = (line) => line.faint ?? line.y;

function stroke(context, points) {
  context.beginPath();
  points.forEach(([x, y], index) => (index === 0 ? context.moveTo(x, y) : context.lineTo(x, y)));
  context.stroke();
}

function dot(context, [x, y], radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}
