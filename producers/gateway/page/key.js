// Which API key is used? None, until the gateway asks for one; then the one typed here, kept for this tab only.

import { tab } from "./memory.js";

export class Key {
  current = tab.get("key") ?? "";
  #asking = null;
  #answer = null;

  constructor(dialog, opener) {
    this.dialog = dialog;
    this.opener = opener;
    this.field = dialog.querySelector("#key");
    this.reason = dialog.querySelector("#key-reason");
    dialog.querySelector("#key-later").addEventListener("click", () => dialog.close());
    dialog.querySelector("form").addEventListener("submit", () => this.#take());
    opener.addEventListener("click", () => dialog.showModal());
  }

  /** Ask for another key, and wait for it: closing the dialog only puts it off. */
  ask(why) {
    this.#asking ??= new Promise((resolve) => {
      this.#answer = resolve;
    });
    this.reason.textContent = why;
    this.reason.hidden = !why;
    this.opener.hidden = false;
    if (!this.dialog.open) this.dialog.showModal();
    return this.#asking;
  }

  #take() {
    this.current = this.field.value.trim();
    tab.set("key", this.current);
    this.field.value = "";
    this.opener.hidden = true;
    this.#asking = null;
    this.#answer?.();
  }
}
