// The server: questions, and the stream of what happens.

/** What the server refused, in its own words. `status` is HTTP's. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Tells whether the server is there: its `state` is connecting, live or away. */
export const connection = Object.assign(new EventTarget(), { state: "connecting" });

function say(state) {
  if (connection.state === state) return;
  connection.state = state;
  connection.dispatchEvent(new Event("change"));
}

export const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** The answer's object. Throws a Refusal, or a TypeError where the server is away. */
export async function ask(path, body) {
  const options = body && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    say("away");
    throw error;
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer) return answer;
  throw new Refusal(response.status, answer?.error?.message ?? `the server answered ${response.status}`);
}

/**
 * Follows the server's events, and goes on by itself when the server was away. A hidden page lets go of its connection:
 * a browser has few for each server, and other pages need them.
 *
 * @param address gives the address at each new connection, so that it can name what is already known
 * @param listeners a function of the data for each kind of event
 * @returns a function that ends it
 */
export function follow(address, listeners) {
  let source = null;
  let timer = null;
  let delay = 500;

  function open() {
    timer = null;
    source = new EventSource(address());
    source.addEventListener("open", () => {
      delay = 500;
      say("live");
    });
    for (const [kind, listener] of Object.entries(listeners)) {
      source.addEventListener(kind, (event) => listener(JSON.parse(event.data)));
    }
    // The browser would try again by itself, but with the old address.
    source.addEventListener("error", () => {
      close();
      say("away");
      timer = setTimeout(open, delay);
      delay = Math.min(2 * delay, 4000);
    });
  }

  function close() {
    clearTimeout(timer);
    timer = null;
    source?.close();
    source = null;
  }

  function visibilityChanged() {
    if (document.hidden) close();
    else if (source === null && timer === null) open();
  }

  document.addEventListener("visibilitychange", visibilityChanged);
  if (!document.hidden) open();
  return () => {
    document.removeEventListener("visibilitychange", visibilityChanged);
    close();
  };
}
