// Numbers and times as people read them. What is not known is a dash.

const unknown = "–";
const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

const known = (value) => value !== null && value !== undefined && Number.isFinite(value);

export const count = (value) => (known(value) ? whole.format(value) : unknown);

/** A loss or another number near one. */
export const decimal = (value) => (known(value) ? value.toFixed(4) : unknown);

export const percent = (value) => (known(value) ? `${(100 * value).toFixed(1)} %` : unknown);

/** Any number in three digits: 0.0004, 12.3, 1.25e-5. */
export function short(value) {
  if (!known(value)) return unknown;
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1000) return whole.format(value);
  if (size < 0.0001) return value.toExponential(2).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(3)));
}

/** Beside an axis, where there is little room: 150k. */
export function tick(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(3))}M`;
  return size >= 1e4 ? `${Number((value / 1e3).toPrecision(3))}k` : short(value);
}

export const date = (seconds) => (known(seconds) ? day.format(new Date(1000 * seconds)) : unknown);

export function duration(seconds) {
  if (!known(seconds)) return unknown;
  const total = Math.max(0, Math.round(seconds));
  const [hours, minutes] = [Math.floor(total / 3600), Math.floor(total / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (hours > 0) return `${hours} h ${two(minutes)} min`;
  return minutes > 0 ? `${minutes} min ${two(total % 60)} s` : `${total} s`;
}

/** A token where spaces and line ends would be unseen. */
export const visible = (token) => token.replaceAll(" ", "␣").replaceAll("\n", "↵").replaceAll("\t", "⇥");
