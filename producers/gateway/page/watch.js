// What if events are late, or do not come at all? Then the jobs themselves are asked, one at a time, a few seconds apart.
//
// Beside a live stream only waiting jobs are asked, since a place in line moves without events, and every open job now and
// then, since a stream may have lost its end.

import { Problem, Unreachable } from "./client.js";
import { GONE } from "./conversation.js";
import { sleep } from "./waiting.js";

const TURN_MS = 2_000;
/** With a live stream: how often a waiting job, and any other, is asked about. */
const PLACE_MS = 5_000;
const ANY_MS = 45_000;

export class Watch {
  #client;
  #conversation;
  #isLive;
  #readAt = new WeakMap();

  /** `isLive()` says whether events come. */
  constructor(client, conversation, isLive) {
    this.#client = client;
    this.#conversation = conversation;
    this.#isLive = isLive;
  }

  /** Ask for ever. */
  async run() {
    for (;;) {
      const entry = this.#next(performance.now());
      if (entry) await this.read(entry.jobId, entry);
      await sleep(TURN_MS * (0.75 + Math.random() / 2));
    }
  }

  /** Ask about one job, which may be one that was heard of and is not known yet. What goes wrong is tried again later. */
  async read(jobId, entry = null) {
    if (entry) this.#readAt.set(entry, performance.now());
    try {
      this.#conversation.see(await this.#client.ask("GET", `v1/jobs/${jobId}`));
    } catch (error) {
      if (error instanceof Problem && error.status === 404 && entry) {
        entry.state = GONE;
        this.#conversation.changed(entry);
      } else if (!(error instanceof Problem || error instanceof Unreachable)) {
        reportError(error);
      }
    }
  }

  #next(now) {
    if (document.visibilityState === "hidden" && this.#isLive()) return null;
    const due = this.#conversation.open.filter((entry) => now - this.#at(entry) >= this.#pause(entry));
    return due.reduce((first, one) => (first && this.#at(first) <= this.#at(one) ? first : one), null);
  }

  #at(entry) {
    return this.#readAt.get(entry) ?? -Infinity;
  }

  #pause(entry) {
    if (!this.#isLive()) return TURN_MS;
    return entry.state === "queued" ? PLACE_MS : ANY_MS;
  }
}
