// Where a number lies on an axis, and which numbers to write beside it.

/** Linear, or logarithmic: then only what is above zero has a place. */
export class Scale {
  constructor([low, high], [start, end], logarithmic = false) {
    this.logarithmic = logarithmic;
    this.forward = logarithmic ? Math.log10 : (value) => value;
    this.backward = logarithmic ? (value) => 10 ** value : (value) => value;
    this.low = this.forward(low);
    this.span = this.forward(high) - this.low || 1;
    this.start = start;
    this.length = end - start;
  }

  at(value) {
    return this.start + ((this.forward(value) - this.low) / this.span) * this.length;
  }

  value(place) {
    return this.backward(this.low + ((place - this.start) / this.length) * this.span);
  }

  /** Round numbers, about so many. */
  ticks(about) {
    const [low, high] = [this.backward(this.low), this.backward(this.low + this.span)];
    if (!this.logarithmic || high / low < 5) return roundNumbers(low, high, about);
    const ticks = [];
    const digits = this.span > about ? [1] : this.span > about / 3 ? [1, 3] : [1, 2, 5];
    for (let power = Math.floor(this.low); power <= Math.ceil(this.low + this.span); power += 1) {
      const candidates = digits.map((digit) => digit * 10 ** power);
      ticks.push(...candidates.filter((value) => value >= low && value <= high));
    }
    return ticks;
  }
}

function roundNumbers(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const distance = [1, 2, 5, 10].map((digit) => digit * power).find((candidate) => candidate >= rough);
  const ticks = [];
  for (let tick = Math.ceil(low / distance) * distance; tick <= high + distance / 1e6; tick += distance) {
    ticks.push(Number(tick.toPrecision(12)));
  }
  return ticks;
}

/** The next larger of 1, 1.5, 2, 3, 4, 5, 6, 8, 10 times a power of ten: an axis that grows in a few jumps. */
export function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((digit) => digit * power).find((candidate) => candidate >= value * 0.999999);
}

/** The index of the number nearest to a value, in a sorted list; -1 in an empty one. */
export function nearest(numbers, value) {
  let [low, high] = [0, numbers.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (numbers[middle] < value) low = middle + 1;
    else high = middle;
  }
  if (low > 0 && value - numbers[low - 1] < numbers[low] - value) low -= 1;
  return numbers.length === 0 ? -1 : low;
}
