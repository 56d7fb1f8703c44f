// How is a job sent once, and never twice? Its idempotency key is made and kept before the first try. A repeated click, a lost
// answer, a reload: all of them ask with the same key, and the gateway answers with the same job.

import { Problem, Unreachable } from "./client.js";
import { REFUSED } from "./conversation.js";
import { browser, newName, user } from "./memory.js";
import { backoff, pause, sleep } from "./waiting.js";

const PREFIX = "outbox.";
/** The same words again within this time are the same click. */
const SAME_CLICK_MS = 1000;
/** Keys are remembered for a day; what is older than this is not tried again after a reload. */
const OLDEST_MS = 20 * 3600 * 1000;

export class Outbox {
  #client;
  #conversation;
  #last = { text: "", at: -Infinity };

  constructor(client, conversation) {
    this.#client = client;
    this.#conversation = conversation;
  }

  /**
   * Send what is asked: `{workflow, environment, deployment_id, inputs}`.
   *
   * `button` tells clicks on different buttons apart. Answers `{entry, problem}`, the problem only when the first try was
   * refused: later the person is elsewhere, and the message says it. Null for a repeated click, which does nothing.
   */
  async send(asked, button) {
    const text = JSON.stringify([button, asked]);
    const now = performance.now();
    const repeated = text === this.#last.text && now - this.#last.at < SAME_CLICK_MS;
    this.#last = { text, at: now };
    if (repeated) return null;
    const key = newName();
    browser.set(PREFIX + key, JSON.stringify({ asked, at: Date.now() }));
    const entry = this.#conversation.sending(key, asked);
    return { entry, problem: await this.#deliver(entry) };
  }

  /** Go on with what was not answered before the page was left. */
  resume() {
    for (const name of browser.names(PREFIX)) {
      const { asked, at } = JSON.parse(browser.get(name));
      if (Date.now() - at > OLDEST_MS) browser.forget(name);
      else this.#deliver(this.#conversation.sending(name.slice(PREFIX.length), asked, at));
    }
  }

  /** Stop trying. If it has arrived nonetheless its events will tell, and the page cancels it then. */
  giveUp(entry) {
    entry.unwanted = true;
    browser.forget(PREFIX + entry.key);
    this.#refuse(entry, "Not sent.");
  }

  async #deliver(entry) {
    const request = {
      ...entry.asked,
      user: { id: user() },
      context: { page_key: entry.key },
      progress: true,
    };
    for (let tries = 0; entry.jobId === null && !entry.final; tries += 1) {
      try {
        const answer = await this.#client.ask("POST", "v1/jobs", {
          body: request,
          headers: { "Idempotency-Key": entry.key },
        });
        this.#conversation.taken(entry, answer.job_id);
      } catch (error) {
        if (!(error instanceof Problem || error instanceof Unreachable)) throw error;
        if (error instanceof Problem && !error.passing) {
          browser.forget(PREFIX + entry.key);
          this.#refuse(entry, error.message);
          return tries === 0 ? error : null;
        }
        if (entry.final) break;
        entry.trouble = error.message;
        this.#conversation.changed(entry);
        await (error.retryAfter ? sleep(error.retryAfter * 1000 * (1 + Math.random() / 4)) : pause(backoff(tries)));
      }
    }
    browser.forget(PREFIX + entry.key);
    return null;
  }

  #refuse(entry, why) {
    entry.state = REFUSED;
    entry.trouble = why;
    this.#conversation.changed(entry);
  }
}
