// How a chart is moved in: mouse, touch, wheel and keyboard.
//
// Drag: zoom into a part. Shift and drag: move. Double click: all again. Wheel: zoom, in a chart that has been clicked or
// with Ctrl, since it scrolls the page otherwise. Two fingers: zoom and move.

import { announce } from "./dom.js";

export function pointing(chart) {
  const { canvas, view } = chart;
  const fingers = new Map();
  let drag = null;
  let last = "";
  const place = (event) => chart.x.value(event.clientX - canvas.getBoundingClientRect().left);

  canvas.addEventListener("pointerdown", (event) => {
    if (!chart.x || event.button !== 0) return;
    canvas.focus({ preventScroll: true, focusVisible: false });
    if (event.pointerType === "touch") {
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      return view.change({ cursor: place(event) });
    }
    canvas.setPointerCapture(event.pointerId);
    drag = { from: place(event), x: event.clientX, scale: chart.x, shown: view.shown, moves: event.shiftKey };
  });

  canvas.addEventListener("pointermove", (event) => {
    // Browsers tell of moves also where only the page has changed: the cursor may have been moved by key since.
    const now = `${event.clientX} ${event.clientY}`;
    if (!chart.x || now === last) return;
    last = now;
    if (fingers.has(event.pointerId)) {
      if (fingers.size === 2) return pinch(event);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
    }
    if (drag?.moves && view.range) {
      const by = drag.from - drag.scale.value(event.clientX - canvas.getBoundingClientRect().left);
      return view.show(drag.shown[0] + by, drag.shown[1] + by);
    }
    view.change({ cursor: place(event) });
    if (drag && !drag.moves) mark(event);
  });

  /** Shows the part that is being chosen. */
  function mark(event) {
    const left = canvas.getBoundingClientRect().left;
    const [from, to] = [drag.x - left, event.clientX - left].sort((a, b) => a - b);
    canvas.style.setProperty("--from", `${from}px`);
    canvas.style.setProperty("--to", `${to}px`);
    canvas.classList.toggle("choosing", to - from > 4);
  }

  canvas.addEventListener("pointerup", (event) => {
    fingers.delete(event.pointerId);
    canvas.classList.remove("choosing");
    if (drag && !drag.moves && Math.abs(event.clientX - drag.x) > 4) view.show(drag.from, place(event));
    drag = null;
  });
  canvas.addEventListener("pointercancel", (event) => {
    fingers.delete(event.pointerId);
    canvas.classList.remove("choosing");
    drag = null;
  });
  canvas.addEventListener("pointerleave", () => {
    last = "";
    view.change({ cursor: null });
  });
  canvas.addEventListener("dblclick", () => view.reset());

  function pinch(event) {
    const left = canvas.getBoundingClientRect().left;
    const spread = () => {
      const [first, second] = [...fingers.values()];
      const width = Math.hypot(first[0] - second[0], first[1] - second[1]);
      return { width: Math.max(width, 10), middle: (first[0] + second[0]) / 2 - left };
    };
    const before = spread();
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = spread();
    const moved = chart.x.value(before.middle) - chart.x.value(after.middle);
    const [low, high] = view.shown;
    if (view.range) view.show(low + moved, high + moved);
    view.zoom(before.width / after.width, chart.x.value(after.middle));
  }

  canvas.addEventListener("wheel", (event) => {
    const wanted = document.activeElement === canvas || event.ctrlKey || event.metaKey;
    if (!wanted || !chart.x) return;
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) view.pan(event.deltaX / 1000);
    else view.zoom(Math.exp(Math.max(-200, Math.min(200, event.deltaY)) * 0.002), place(event));
  }, { passive: false });

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const action = keys(event);
    if (!action) return;
    event.preventDefault();
    action();
    // The values stand there once the chart has been drawn.
    requestAnimationFrame(() => requestAnimationFrame(() => announce(chart.spoken)));
  });

  function keys({ key, shiftKey }) {
    const points = chart.lines[0]?.x ?? [];
    const far = Math.max(1, Math.round(points.length / 20));
    return {
      ArrowLeft: () => (shiftKey ? view.pan(-0.2) : view.step(points, -1)),
      ArrowRight: () => (shiftKey ? view.pan(0.2) : view.step(points, 1)),
      PageUp: () => view.step(points, -far),
      PageDown: () => view.step(points, far),
      Home: () => view.step(points, -points.length),
      End: () => view.step(points, points.length),
      "+": () => view.zoom(0.7),
      "=": () => view.zoom(0.7),
      "-": () => view.zoom(1 / 0.7),
      Escape: () => view.change({ range: null, cursor: null }),
    }[key];
  }

  canvas.addEventListener("blur", () => view.change({ cursor: null }));
}
