// How does one message look? What was asked on the right, what became of it on the left; the parts stay, their words change.

import { REFUSED, SENDING } from "./conversation.js";
import { make } from "./element.js";
import { outputsOf } from "./outputs.js";
import { isAddress, promptOf, remaining, standing, step, title } from "./words.js";

export class MessageView {
  #drawn = null;

  /** `acts` has `cancel`, `again`, `edit` (each given the entry), `view` for a picture and `chosen` for what was asked. */
  constructor(entry, acts) {
    this.entry = entry;
    this.acts = acts;
    this.state = make("p", { className: "state" });
    this.left = make("span", { className: "left" });
    this.bar = make("progress", { max: 1, hidden: true });
    this.step = make("p", { className: "step", hidden: true });
    this.results = make("div", { className: "results" });
    this.cancel = this.#button("Cancel", acts.cancel);
    this.again = this.#button("Run again", acts.again);
    this.edit = this.#button("Edit", acts.edit);
    this.asked = make("div", { className: "asked" });
    this.told = make(
      "div",
      { className: "told", tabIndex: -1 },
      make("div", { className: "line" }, this.state, this.left),
      this.bar,
      this.step,
      this.results,
      make("p", { className: "actions" }, this.cancel, this.again, this.edit),
    );
    this.element = make("li", { className: "message" }, this.asked, this.told);
    this.update();
  }

  #button(text, act) {
    const button = make("button", { type: "button", className: "quiet", textContent: text });
    button.addEventListener("click", () => act(this.entry));
    return button;
  }

  /** Show what the entry says now. */
  update() {
    const { entry } = this;
    this.#drawAsked();
    this.element.dataset.state = entry.state;
    this.element.dataset.job = entry.jobId ?? "";
    this.state.textContent = standing(entry);
    this.state.title = entry.jobId ? `Job ${entry.jobId}` : "";
    this.tick();
    this.#drawProgress();
    if (entry.result && !this.results.hasChildNodes()) {
      this.results.append(outputsOf(entry.result, title(entry), this.acts.view));
    }
    this.#offer();
  }

  /** What changes with time alone. */
  tick() {
    this.left.textContent = remaining(this.entry);
  }

  #drawAsked() {
    const chosen = this.acts.chosen(this.entry.asked);
    const text = JSON.stringify([this.entry.asked, chosen]);
    if (text === this.#drawn) return;
    this.#drawn = text;
    const { inputs = {}, workflow, deployment_id: id } = this.entry.asked;
    const prompt = promptOf(inputs);
    const rest = chosen.filter(([, value]) => value !== prompt && !hasAddress(value) && value !== "");
    const pictures = Object.values(inputs).flat().filter(isAddress);
    const time = make("time", { dateTime: this.entry.createdAt.toISOString(), textContent: clock(this.entry.createdAt) });
    this.asked.replaceChildren(
      make("p", { className: "from" }, make("span", { textContent: workflow ?? id ?? "" }), " · ", time),
      ...(prompt ? [make("p", { className: "prompt", textContent: prompt })] : []),
      ...pictures.map((url) => given(url)),
      ...(rest.length ? [make("p", { className: "with", textContent: rest.map(([name, value]) => said(name, value)).join(" · ") })] : []),
    );
  }

  #drawProgress() {
    const { entry } = this;
    const fraction = entry.state === "running" ? (entry.progress?.fraction ?? null) : null;
    this.bar.hidden = !entry.open && entry.state !== SENDING;
    this.bar.setAttribute("aria-label", `Progress of ${title(entry)}`);
    if (fraction === null) this.bar.removeAttribute("value");
    else this.bar.value = fraction;
    const words = entry.state === "running" ? step(entry.progress?.text) : "";
    this.step.hidden = fraction === null && !words;
    this.step.textContent = [fraction === null ? "" : `${Math.round(fraction * 100)} %`, words].filter(Boolean).join(" · ");
  }

  #offer() {
    const { entry } = this;
    const had = [this.cancel, this.again, this.edit].find((button) => button === document.activeElement);
    this.cancel.hidden = entry.final || entry.cancelling;
    this.again.hidden = this.edit.hidden = !entry.final;
    this.again.textContent = entry.state === "succeeded" || entry.state === "cancelled" ? "Run again" : "Try again";
    if (entry.state === REFUSED) this.again.hidden = !entry.unwanted;
    // The keyboard must not fall to the top of the page because a button went away.
    if (had?.hidden) {
      const next = [this.again, this.edit].find((button) => !button.hidden);
      if (next) next.focus();
      else this.told.focus({ preventScroll: true });
    } else if (document.activeElement === this.told && !this.again.hidden) {
      this.again.focus({ preventScroll: true });
    }
  }
}

function said(name, value) {
  if (typeof value === "boolean") return value ? name : `no ${name}`;
  return `${name} ${value}`;
}

function hasAddress(value) {
  return [value].flat().some(isAddress);
}

function given(url) {
  const image = make("img", { className: "given", src: url, alt: "Given picture", loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(make("p", { className: "with", textContent: "a file" })));
  return image;
}

function clock(date) {
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString([], today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" });
}
