// A run's numbers as they are known here.

const names = ["step", "time", "loss", "learningRate", "gradientNorm", "tokensPerSecond", "accuracy"];
const most = 8000;

export class Series {
  constructor() {
    this.steps = Object.fromEntries(names.map((name) => [name, []]));
    this.validations = [];
    this.samples = [];
    this.checkpoints = [];
  }

  /** Adds what is new; what is known already may come again. */
  append(news) {
    const { steps } = this;
    const last = steps.step.at(-1) ?? -1;
    const columns = news.steps?.step ?? [];
    for (let row = 0; row < columns.length; row += 1) {
      if (columns[row] > last) for (const name of names) steps[name].push(news.steps[name]?.[row] ?? null);
    }
    for (const kind of ["validations", "samples", "checkpoints"]) {
      const newest = this[kind].at(-1)?.step ?? -1;
      this[kind].push(...(news[kind] ?? []).filter((entry) => entry.step > newest));
    }
    if (steps.step.length > most) this.thin();
  }

  /** Of a long run the older part keeps every second step. */
  thin() {
    const recent = this.steps.step.length - most / 4;
    for (const name of names) {
      this.steps[name] = this.steps[name].filter((_, row) => row % 2 === 0 || row >= recent);
    }
  }

  /** From where news are wanted. A validation comes after its step, so the last step may have more to tell. */
  get after() {
    return (this.steps.step.at(-1) ?? 0) - 1;
  }

  /** Seconds that a step has taken lately. */
  get secondsPerStep() {
    const { step, time } = this.steps;
    const [first, last] = [Math.max(0, step.length - 100), step.length - 1];
    return last > first ? (time[last] - time[first]) / (step[last] - step[first]) : null;
  }
}

/** The running mean that forgets: each value weighs `1 - weight`, what came before `weight`. The start is unbiased. */
export function smooth(values, weight) {
  if (weight === 0) return values;
  let [mean, total] = [0, 0];
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
}
