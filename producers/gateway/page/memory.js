// What does the page remember? Little, by name. A browser may forbid it (private windows): then it lasts as long as the page.

const PREFIX = "conveyor.";

class Memory {
  #storage;
  #spare = new Map();

  constructor(name) {
    try {
      this.#storage = window[name];
      this.#storage.setItem(`${PREFIX}probe`, "");
      this.#storage.removeItem(`${PREFIX}probe`);
    } catch {
      this.#storage = null;
    }
  }

  get(name) {
    return this.#storage ? this.#storage.getItem(PREFIX + name) : (this.#spare.get(name) ?? null);
  }

  set(name, text) {
    try {
      if (this.#storage) this.#storage.setItem(PREFIX + name, text);
      else this.#spare.set(name, text);
    } catch {
      // Full. What matters is on the server.
    }
  }

  forget(name) {
    this.#storage?.removeItem(PREFIX + name);
    this.#spare.delete(name);
  }

  /** The names that begin with `start`. */
  names(start) {
    const all = this.#storage ? Object.keys(this.#storage) : [...this.#spare.keys()].map((name) => PREFIX + name);
    return all.filter((name) => name.startsWith(PREFIX + start)).map((name) => name.slice(PREFIX.length));
  }
}

/** For this browser: who the user is, what he chose, what is not sent yet. */
export const browser = new Memory("localStorage");
/** For this tab: the API key. */
export const tab = new Memory("sessionStorage");

/** A name nobody else has. Not `crypto.randomUUID`, which plain http lacks off this machine. */
export function newName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Who this browser is for the API, made up at the first visit. */
export function user() {
  let name = browser.get("user");
  if (!name) {
    name = `page-${newName().slice(0, 16)}`;
    browser.set("user", name);
  }
  return name;
}
