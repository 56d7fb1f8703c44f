// How does a file get into an input? It is uploaded as soon as it is chosen, dropped or pasted; its address is what is sent.

import { make } from "./element.js";
import { Field } from "./field.js";

const ACCEPTED = { image: "image/*", images: "image/*", video: "video/*", audio: "audio/*", file: "image/*,video/*,audio/*" };

export class FileField extends Field {
  /** What was chosen: `{name, url, shown}`, where `url` may be a promise. */
  #chosen = [];

  constructor(input, client) {
    super(input);
    this.client = client;
    this.element.addEventListener("dragover", (event) => event.preventDefault());
    this.element.addEventListener("drop", (event) => {
      event.preventDefault();
      this.#take(event.dataTransfer.files);
    });
    this.element.addEventListener("paste", (event) => this.#take(event.clipboardData.files));
  }

  get many() {
    return this.input.kind === "images";
  }

  get explanation() {
    return [this.input.description, this.many ? "Several may be chosen" : ""].filter(Boolean).join(" · ");
  }

  makeControl() {
    const control = make("input", { type: "file", accept: ACCEPTED[this.input.kind], multiple: this.many });
    control.addEventListener("change", () => {
      this.#take(control.files);
      control.value = "";
    });
    return control;
  }

  parts() {
    this.list = make("ul", { className: "files" });
    return [this.control, this.list];
  }

  async value() {
    const urls = await Promise.all(this.#chosen.map((file) => file.url));
    if (this.many) return urls.length ? urls : undefined;
    return urls[0];
  }

  set(value) {
    const urls = [value ?? []].flat().filter(Boolean);
    this.#chosen = urls.map((url) => ({ name: nameIn(url), url, shown: this.input.kind.startsWith("image") ? url : null }));
    this.#show();
  }

  #take(files) {
    const taken = [...files].slice(0, this.many ? undefined : 1);
    if (!taken.length) return;
    this.refuse("");
    if (!this.many) this.#chosen = [];
    for (const file of taken) {
      const one = { name: file.name, shown: file.type.startsWith("image/") ? URL.createObjectURL(file) : null, busy: true };
      one.url = this.#upload(file, one);
      // Whoever sends waits for it; until then nobody does.
      one.url.catch(() => {});
      this.#chosen.push(one);
    }
    this.#show();
  }

  async #upload(file, one) {
    const body = new FormData();
    body.append("file", file, file.name);
    try {
      return (await this.client.ask("POST", "v1/files", { body })).url;
    } catch (error) {
      this.#chosen = this.#chosen.filter((other) => other !== one);
      this.refuse(error.fields?.[0]?.reason ?? error.message);
      throw error;
    } finally {
      one.busy = false;
      this.#show();
    }
  }

  #show() {
    this.list.replaceChildren(...this.#chosen.map((one) => this.#row(one)));
    this.list.hidden = !this.#chosen.length;
  }

  #row(one) {
    const remove = make("button", { type: "button", className: "quiet", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove ${one.name}`);
    remove.addEventListener("click", () => {
      this.#chosen = this.#chosen.filter((other) => other !== one);
      this.#show();
      this.focus();
    });
    const picture = one.shown ? make("img", { src: one.shown, alt: "" }) : null;
    return make("li", {}, picture, make("span", { textContent: one.busy ? `${one.name} · uploading…` : one.name }), remove);
  }
}

function nameIn(url) {
  return decodeURIComponent(url.split(/[?#]/)[0].split("/").pop()) || "file";
}
