// Loads runs and follows them.

import { ask, follow, Refusal, wait } from "./server.js";
import { Series } from "./series.js";

/**
 * Loads each run, then follows all of them. A run that has gone back, since it was resumed from an earlier step, is
 * loaded again.
 *
 * @param ids which runs, none to follow the list alone
 * @param to `runs` is told of all summaries; `loaded` of a run and its series, `news` of what has been added to it;
 *   `refused` of what the server does not have
 * @returns a function that ends it
 */
export function watch(ids, to) {
  const series = new Map();
  const steps = new Map();
  let ended = false;
  let unfollow = null;

  async function load(id) {
    while (!ended) {
      try {
        const answer = await ask(`/api/runs/${encodeURIComponent(id)}`);
        if (ended) return;
        const own = new Series();
        own.append(answer);
        series.set(id, own);
        steps.set(id, answer.run.step);
        to.loaded(id, answer.run, own);
        return;
      } catch (error) {
        if (error instanceof Refusal) {
          if (!ended) to.refused?.(error);
          return;
        }
        await wait(1000);
      }
    }
  }

  function address() {
    const known = [...series.keys()];
    if (known.length === 0) return "/api/events";
    return `/api/events?runs=${known.join(",")}&after=${known.map((id) => series.get(id).after).join(",")}`;
  }

  function summaries({ runs }) {
    for (const run of runs) {
      const id = String(run.id);
      if (steps.has(id) && run.step < steps.get(id)) return restart();
      if (steps.has(id)) steps.set(id, run.step);
    }
    to.runs?.(runs);
  }

  function news(added) {
    const own = series.get(String(added.id));
    if (!own) return;
    own.append(added);
    to.news?.(String(added.id), own);
  }

  async function restart() {
    unfollow?.();
    await Promise.all(ids.map(load));
    if (!ended) unfollow = follow(address, { runs: summaries, news });
  }

  restart();
  return () => {
    ended = true;
    unfollow?.();
  };
}
