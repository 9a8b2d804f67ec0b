// What several charts have in common: the part of the axis that is shown, the cursor, how curves are drawn.

import { nearest } from "./scale.js";

export class View extends EventTarget {
  /** All there is to see across, first to last. */
  extent = [0, 1];
  /** What is shown of it; null for all, also what is yet to come. */
  range = null;
  cursor = null;
  logarithmic = false;
  smoothing = 0.6;
  /** Across: steps, or minutes of training. */
  axis = "steps";

  change(properties) {
    Object.assign(this, properties);
    this.dispatchEvent(new Event("change"));
  }

  get shown() {
    return this.range ?? this.extent;
  }

  /** Shows a range, within what there is. */
  show(low, high) {
    const [first, last] = this.extent;
    const span = Math.max(Math.abs(high - low), (last - first) / 2000);
    if (span >= last - first) return this.change({ range: null });
    const start = Math.min(Math.max(Math.min(low, high), first), last - span);
    this.change({ range: [start, start + span] });
  }

  /** Shows `factor` times as much, so that a place stays where it is. */
  zoom(factor, place) {
    const [low, high] = this.shown;
    const about = Math.min(Math.max(place ?? this.cursor ?? (low + high) / 2, low), high);
    this.show(about - (about - low) * factor, about + (high - about) * factor);
  }

  /** Moves what is shown by a part of it. */
  pan(part) {
    const [low, high] = this.shown;
    const by = part * (high - low);
    if (this.range) this.show(low + by, high + by);
  }

  reset() {
    this.change({ range: null });
  }

  /** Moves the cursor by so many points of a line, within what is shown. */
  step(points, by) {
    const [low, high] = this.shown;
    const [first, last] = [points.findIndex((point) => point >= low), points.findLastIndex((point) => point <= high)];
    if (first < 0 || last < first) return;
    const from = this.cursor === null ? (by > 0 ? first - 1 : last + 1) : nearest(points, this.cursor);
    this.change({ cursor: points[Math.min(Math.max(from + by, first), last)] });
  }
}
